//! What a name or filter may be at most, and the seed that it is hashed with.

/// Limits and hash seed for parsing topics and filters.
///
/// ```
/// use topicmap::{Limits, Topic};
///
/// let limits = Limits { levels_max: 3, ..Limits::default() };
/// assert!(Topic::parse("a/b/c", &limits).is_ok());
/// assert!(Topic::parse("a/b/c/d", &limits).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most levels that a topic or filter may have; a `#` counts as one. Values above
    /// [`Limits::LEVELS_CEILING`] act like the ceiling. The default is 128.
    pub levels_max: u16,
    /// Most bytes that a topic or filter may have. Values above 65,535, the most that MQTT can
    /// carry, act like 65,535, which is the default.
    pub bytes_max: u16,
    /// Seed of the hashes. The default is a constant, which is fine for tests and for names that
    /// nobody hostile chooses; a server draws it at random when it starts.
    pub seed: u64,
}

impl Limits {
    /// The most levels that any configuration allows: 1,024.
    pub const LEVELS_CEILING: u16 = 1024;

    /// The limits that a text which was accepted before cannot exceed.
    pub(crate) const fn widest(seed: u64) -> Self {
        Self {
            levels_max: Self::LEVELS_CEILING,
            bytes_max: u16::MAX,
            seed,
        }
    }

    pub(crate) const fn levels(&self) -> usize {
        if self.levels_max < Self::LEVELS_CEILING {
            self.levels_max as usize
        } else {
            Self::LEVELS_CEILING as usize
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            levels_max: 128,
            bytes_max: u16::MAX,
            seed: 0x9E37_79B9_7F4A_7C15,
        }
    }
}
