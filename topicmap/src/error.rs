//! Why a text is no topic name or no topic filter.

use core::fmt;

/// Why a text is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicError {
    /// The name has no character.
    Empty,
    /// The name is longer than [`Limits::bytes_max`](crate::Limits::bytes_max).
    TooLong {
        /// The first byte beyond the limit.
        position: usize,
    },
    /// The name has a `+` or a `#`.
    Wildcard {
        /// The byte offset of the wildcard character.
        position: usize,
    },
    /// The name has more levels than [`Limits::levels_max`](crate::Limits::levels_max).
    TooManyLevels {
        /// The byte offset of the first level beyond the limit.
        position: usize,
    },
}

impl TopicError {
    /// The clause of MQTT 5.0 that the text breaks, or `""` where it breaks only a local limit.
    #[must_use]
    pub const fn clause(&self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::TooLong { .. } => "MQTT-4.7.3-3",
            Self::Wildcard { .. } => "MQTT-4.7.0-1",
            Self::TooManyLevels { .. } => "",
        }
    }

    /// The byte offset in the text at which it went wrong.
    #[must_use]
    pub const fn position(&self) -> usize {
        match *self {
            Self::Empty => 0,
            Self::TooLong { position }
            | Self::Wildcard { position }
            | Self::TooManyLevels { position } => position,
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("topic name is empty"),
            Self::TooLong { position } => {
                write!(f, "topic name is longer than the limit of {position} bytes")
            }
            Self::Wildcard { position } => {
                write!(f, "topic name has a wildcard character at byte {position}")
            }
            Self::TooManyLevels { position } => {
                write!(f, "topic name has too many levels from byte {position} on")
            }
        }
    }
}

impl std::error::Error for TopicError {}

/// Why a text is not a topic filter, or not a shared subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FilterError {
    /// The filter has no character.
    Empty,
    /// The filter is longer than [`Limits::bytes_max`](crate::Limits::bytes_max).
    TooLong {
        /// The first byte beyond the limit.
        position: usize,
    },
    /// A `#` is not alone in the last level.
    Hash {
        /// The byte offset of the `#`.
        position: usize,
    },
    /// A `+` is not alone in its level.
    Plus {
        /// The byte offset of the `+`.
        position: usize,
    },
    /// The filter has more levels than [`Limits::levels_max`](crate::Limits::levels_max).
    TooManyLevels {
        /// The byte offset of the first level beyond the limit.
        position: usize,
    },
    /// The share name of a `$share/` subscription is empty.
    ShareNameEmpty {
        /// The byte offset where the name was expected.
        position: usize,
    },
    /// The share name of a `$share/` subscription has a `+` or a `#`.
    ShareNameWildcard {
        /// The byte offset of the wildcard character.
        position: usize,
    },
    /// The share name of a `$share/` subscription is not followed by `/` and a filter.
    ShareWithoutFilter {
        /// The byte offset where the filter was expected.
        position: usize,
    },
}

impl FilterError {
    /// The clause of MQTT 5.0 that the text breaks, or `""` where it breaks only a local limit.
    #[must_use]
    pub const fn clause(&self) -> &'static str {
        match self {
            Self::Empty => "MQTT-4.7.3-1",
            Self::TooLong { .. } => "MQTT-4.7.3-3",
            Self::Hash { .. } => "MQTT-4.7.1-1",
            Self::Plus { .. } => "MQTT-4.7.1-2",
            Self::TooManyLevels { .. } => "",
            Self::ShareNameEmpty { .. } => "MQTT-4.8.2-1",
            Self::ShareNameWildcard { .. } | Self::ShareWithoutFilter { .. } => "MQTT-4.8.2-2",
        }
    }

    /// The byte offset in the text at which it went wrong.
    #[must_use]
    pub const fn position(&self) -> usize {
        match *self {
            Self::Empty => 0,
            Self::TooLong { position }
            | Self::Hash { position }
            | Self::Plus { position }
            | Self::TooManyLevels { position }
            | Self::ShareNameEmpty { position }
            | Self::ShareNameWildcard { position }
            | Self::ShareWithoutFilter { position } => position,
        }
    }

    /// The same error in a text that has `bytes` more in front.
    pub(crate) const fn shifted(self, bytes: usize) -> Self {
        match self {
            Self::Empty => Self::ShareWithoutFilter { position: bytes },
            Self::TooLong { position } => Self::TooLong {
                position: position + bytes,
            },
            Self::Hash { position } => Self::Hash {
                position: position + bytes,
            },
            Self::Plus { position } => Self::Plus {
                position: position + bytes,
            },
            Self::TooManyLevels { position } => Self::TooManyLevels {
                position: position + bytes,
            },
            other => other,
        }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("topic filter is empty"),
            Self::TooLong { position } => {
                write!(
                    f,
                    "topic filter is longer than its limit, from byte {position} on"
                )
            }
            Self::Hash { position } => {
                write!(f, "'#' at byte {position} is not alone in the last level")
            }
            Self::Plus { position } => {
                write!(f, "'+' at byte {position} is not alone in its level")
            }
            Self::TooManyLevels { position } => {
                write!(
                    f,
                    "topic filter has too many levels from byte {position} on"
                )
            }
            Self::ShareNameEmpty { position } => {
                write!(f, "share name at byte {position} is empty")
            }
            Self::ShareNameWildcard { position } => {
                write!(f, "share name has a wildcard character at byte {position}")
            }
            Self::ShareWithoutFilter { position } => {
                write!(
                    f,
                    "no topic filter follows the share name at byte {position}"
                )
            }
        }
    }
}

impl std::error::Error for FilterError {}
