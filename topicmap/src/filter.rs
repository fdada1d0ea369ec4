//! Topic filters: validated, hashed, and classified by shape.

use core::fmt;

use crate::{FilterError, Limits, Topic, hash::level_hash, shape::ShapeKey};

/// A valid topic filter with its hash and shape; it borrows the text and allocates nothing.
///
/// ```
/// use topicmap::{Filter, Limits, Topic};
///
/// let limits = Limits::default();
/// let filter = Filter::parse("fleet/+/#", &limits)?;
/// assert!(!filter.is_exact());
/// assert!(filter.matches(&Topic::parse("fleet/truck-9", &limits).unwrap()));
/// assert!(!filter.matches(&Topic::parse("fleet", &limits).unwrap()));
/// # Ok::<(), topicmap::FilterError>(())
/// ```
#[derive(Clone, Copy)]
pub struct Filter<'a> {
    text: &'a str,
    seed: u64,
    hash: u64,
    /// A bit for each `+` among the first 64 levels.
    plus: u64,
    /// Levels, without a final `#`.
    fixed: u16,
    tail: bool,
    /// A `+` stands behind level 64.
    deep: bool,
}

impl<'a> Filter<'a> {
    /// Validates `text` as a topic filter (MQTT 4.7).
    ///
    /// A text that begins with `$share/` is taken as it stands; use
    /// [`parse_subscription`](crate::parse_subscription) to see it as a shared subscription. The
    /// text must be free of NUL, which is the codec's to check. Allocates nothing.
    ///
    /// # Errors
    ///
    /// When the text is empty [MQTT-4.7.3-1], a `#` is not alone in the last level [MQTT-4.7.1-1],
    /// a `+` is not alone in its level [MQTT-4.7.1-2], or a limit is exceeded.
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Err(FilterError::Empty);
        }
        if text.len() > usize::from(limits.bytes_max) {
            return Err(FilterError::TooLong {
                position: usize::from(limits.bytes_max),
            });
        }
        let mut filter = Self {
            text,
            seed: limits.seed,
            hash: 0,
            plus: 0,
            fixed: 0,
            tail: false,
            deep: false,
        };
        let mut start = 0;
        for (position, level) in text.as_bytes().split(|byte| *byte == b'/').enumerate() {
            if position == limits.levels() {
                return Err(FilterError::TooManyLevels { position: start });
            }
            let end = start + level.len();
            match level {
                b"+" if position < 64 => filter.plus |= 1 << position,
                b"+" => filter.deep = true,
                b"#" if end == text.len() => filter.tail = true,
                _ => literal(level, start)?,
            }
            filter.hash = filter
                .hash
                .wrapping_add(level_hash(limits.seed, position, level));
            filter.fixed = position as u16 + u16::from(!filter.tail);
            start = end + 1;
        }
        Ok(filter)
    }

    /// The filter as it was given.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// Whether the filter has no wildcard, so that it matches one topic only: its own text.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.plus == 0 && !self.tail && !self.deep
    }

    /// The hash of the text under the seed that it was parsed with.
    ///
    /// That of an exact filter is the hash of the topic that it matches.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of levels, a final `#` included.
    #[must_use]
    pub const fn level_count(&self) -> usize {
        self.fixed as usize + self.tail as usize
    }

    /// The levels in order; some may be empty.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &'a str> + Clone + use<'a> {
        self.text.split('/')
    }

    /// Whether the filter ends in `#`.
    #[must_use]
    pub const fn ends_in_hash(&self) -> bool {
        self.tail
    }

    /// The positions of `+` among the first 64 levels, as bits.
    #[must_use]
    pub const fn plus_mask(&self) -> u64 {
        self.plus
    }

    /// Whether the first level is `+` or `#`, so that topics in `$` don't match [MQTT-4.7.2-1].
    #[must_use]
    pub const fn is_first_wild(&self) -> bool {
        self.plus & 1 != 0 || (self.tail && self.fixed == 0)
    }

    /// Whether the filter matches `topic` (MQTT 4.7).
    ///
    /// # Complexity
    ///
    /// One pass over both texts.
    #[must_use]
    pub fn matches(&self, topic: &Topic<'_>) -> bool {
        text_matches(self.text.as_bytes(), topic.as_str().as_bytes())
    }

    /// The same filter hashed under `seed`.
    pub(crate) fn under(&self, seed: u64) -> Self {
        if seed == self.seed {
            *self
        } else {
            Self::trusted(self.text, seed)
        }
    }

    /// A filter from a text that was accepted before.
    pub(crate) fn trusted(text: &'a str, seed: u64) -> Self {
        match Self::parse(text, &Limits::widest(seed)) {
            Ok(filter) => filter,
            Err(error) => unreachable!("a filter was accepted before: {error}"),
        }
    }

    /// The seed that the hash was made with.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// The number of levels without a final `#`.
    pub(crate) const fn fixed(&self) -> usize {
        self.fixed as usize
    }

    /// The shape, or `None` when a `+` lies too deep for one.
    pub(crate) const fn shape(&self) -> Option<ShapeKey> {
        if self.deep {
            return None;
        }
        Some(ShapeKey {
            len: self.fixed,
            plus: self.plus,
            tail: self.tail,
        })
    }

    /// The hash of the first level.
    pub(crate) fn first_hash(&self) -> u64 {
        level_hash(
            self.seed,
            0,
            self.levels().next().unwrap_or_default().as_bytes(),
        )
    }
}

/// Refuses wildcard characters in a level that is not one.
fn literal(level: &[u8], start: usize) -> Result<(), FilterError> {
    match level.iter().position(|byte| matches!(byte, b'+' | b'#')) {
        None => Ok(()),
        Some(at) if level.get(at) == Some(&b'+') => Err(FilterError::Plus {
            position: start + at,
        }),
        Some(at) => Err(FilterError::Hash {
            position: start + at,
        }),
    }
}

/// Whether a valid filter matches a valid topic.
pub(crate) fn text_matches(filter: &[u8], topic: &[u8]) -> bool {
    if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
        return false;
    }
    let (mut f, mut t) = (0, 0);
    loop {
        match (filter.get(f), topic.get(t)) {
            (Some(b'#'), _) | (None, None) => return true,
            (Some(b'+'), _) => {
                let rest = topic.get(t..).unwrap_or_default();
                t += rest
                    .iter()
                    .position(|byte| *byte == b'/')
                    .unwrap_or(rest.len());
                f += 1;
            }
            (Some(a), Some(b)) if a == b => {
                f += 1;
                t += 1;
            }
            // `#` stands for its parent level as well (4.7.1.2).
            (Some(b'/'), None) => return filter.get(f + 1) == Some(&b'#'),
            _ => return false,
        }
    }
}

impl PartialEq for Filter<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Filter<'_> {}

impl fmt::Debug for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.text).finish()
    }
}

impl fmt::Display for Filter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
