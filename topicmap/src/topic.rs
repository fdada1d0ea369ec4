//! Topic names: validated, split and hashed in one pass.

use core::fmt;

use crate::{
    Limits, TopicError,
    hash::{level_hash, load, separators, wildcards},
};

/// Levels whose hashes and offsets a [`Topic`] carries. Deeper ones are scanned again when needed.
pub(crate) const INLINE: usize = 16;

/// Levels up to which that needs little stack.
pub(crate) const DEEP: usize = 64;

const CEILING: usize = Limits::LEVELS_CEILING as usize;

/// A valid topic name with its levels and hashes; it borrows the text and allocates nothing.
///
/// ```
/// use topicmap::{Limits, Topic};
///
/// let topic = Topic::parse("/fleet//temperature", &Limits::default())?;
/// assert_eq!(topic.levels().collect::<Vec<_>>(), ["", "fleet", "", "temperature"]);
/// assert!(!topic.is_system());
/// # Ok::<(), topicmap::TopicError>(())
/// ```
#[derive(Clone)]
pub struct Topic<'a> {
    text: &'a str,
    seed: u64,
    hash: u64,
    count: u16,
    /// The offset behind the last byte of each of the first levels.
    ends: [u16; INLINE],
    /// The sum of the hashes of the first `i` levels.
    sums: [u64; INLINE + 1],
}

impl Topic<'static> {
    /// Stands for no topic: none is empty.
    pub(crate) const NONE: Self = Self {
        text: "",
        seed: 0,
        hash: 0,
        count: 0,
        ends: [0; INLINE],
        sums: [0; INLINE + 1],
    };
}

impl<'a> Topic<'a> {
    /// Validates `text` as a topic name (MQTT 4.7).
    ///
    /// The text must be free of NUL, which is the codec's to check, as is UTF-8, which `&str`
    /// says. No normalisation takes place [MQTT-4.7.3-4]. Allocates nothing.
    ///
    /// # Errors
    ///
    /// When the text is empty [MQTT-4.7.3-1], has a wildcard character [MQTT-4.7.0-1], is longer
    /// than `limits.bytes_max` [MQTT-4.7.3-3] or has more than `limits.levels_max` levels.
    ///
    /// # Complexity
    ///
    /// One pass over the text.
    #[inline]
    pub fn parse(text: &'a str, limits: &Limits) -> Result<Self, TopicError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(TopicError::Empty);
        }
        if bytes.len() > usize::from(limits.bytes_max) {
            return Err(TopicError::TooLong {
                position: usize::from(limits.bytes_max),
            });
        }
        let mut ends = [0; INLINE];
        let mut sums = [0; INLINE + 1];
        let (hash, count) = scan(bytes, limits.seed, limits.levels(), &mut ends, &mut sums)?;
        Ok(Self {
            text,
            seed: limits.seed,
            hash,
            count,
            ends,
            sums,
        })
    }

    /// The same topic with another text of the same bytes, or one that nobody reads.
    #[inline]
    pub(crate) fn named<'b>(self, text: &'b str) -> Topic<'b> {
        let Self {
            seed,
            hash,
            count,
            ends,
            sums,
            ..
        } = self;
        Topic {
            text,
            seed,
            hash,
            count,
            ends,
            sums,
        }
    }

    /// The name as it was given.
    #[must_use]
    #[inline]
    pub const fn as_str(&self) -> &'a str {
        self.text
    }

    /// The hash of the whole name under the seed that it was parsed with.
    #[must_use]
    #[inline]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of levels: one more than there are `/`.
    #[must_use]
    #[inline]
    pub const fn level_count(&self) -> usize {
        self.count as usize
    }

    /// The levels in order; some may be empty.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &'a str> + Clone + use<'a> {
        self.text.split('/')
    }

    /// Whether the name begins with `$`, so that no filter that begins with a wildcard matches it
    /// [MQTT-4.7.2-1].
    #[must_use]
    #[inline]
    pub const fn is_system(&self) -> bool {
        matches!(self.text.as_bytes().first(), Some(b'$'))
    }

    /// The hash of the whole name under `seed`.
    #[inline]
    pub(crate) fn hash_under(&self, seed: u64) -> u64 {
        if seed == self.seed {
            return self.hash;
        }
        hash_text(self.text, seed)
    }

    /// The hash of the first level under `seed`.
    #[inline]
    pub(crate) fn first_hash_under(&self, seed: u64) -> u64 {
        if seed == self.seed {
            return self.sums[1];
        }
        level_hash(seed, 0, self.levels().next().unwrap_or_default().as_bytes())
    }

    /// Calls `f` with the offsets and sums of all levels under `seed`.
    #[inline]
    pub(crate) fn with_view<R>(&self, seed: u64, f: impl FnOnce(View<'_>) -> R) -> R {
        let count = self.level_count();
        if seed == self.seed && count <= INLINE {
            let (ends, sums) = (&self.ends[..count], &self.sums[..=count]);
            return f(View {
                text: self.text,
                ends,
                sums,
            });
        }
        if count <= DEEP {
            return deep_view::<DEEP, { DEEP + 1 }, R>(self.text, seed, f);
        }
        deep_view::<CEILING, { CEILING + 1 }, R>(self.text, seed, f)
    }
}

#[cold]
fn hash_text(text: &str, seed: u64) -> u64 {
    let levels = text.as_bytes().split(|byte| *byte == b'/').enumerate();
    levels.fold(0, |sum, (at, level)| {
        sum.wrapping_add(level_hash(seed, at, level))
    })
}

#[cold]
#[inline(never)]
fn deep_view<const N: usize, const M: usize, R>(
    text: &str,
    seed: u64,
    f: impl FnOnce(View<'_>) -> R,
) -> R {
    let mut ends = [0; N];
    let mut sums = [0; M];
    match scan(text.as_bytes(), seed, N, &mut ends, &mut sums) {
        Ok((_, count)) => {
            let count = usize::from(count);
            f(View {
                text,
                ends: &ends[..count],
                sums: &sums[..=count],
            })
        }
        Err(error) => unreachable!("a topic was accepted before: {error}"),
    }
}

/// Finds wildcard characters and levels; fills in as many ends and sums as have room.
#[inline]
fn scan<const N: usize, const M: usize>(
    bytes: &[u8],
    seed: u64,
    levels_max: usize,
    ends: &mut [u16; N],
    sums: &mut [u64; M],
) -> Result<(u64, u16), TopicError> {
    let mut sum = 0_u64;
    let mut count = 0;
    let mut start = 0;
    let mut close = |start: usize, end: usize| {
        if count == levels_max {
            return Err(TopicError::TooManyLevels { position: start });
        }
        let level = bytes.get(start..end).unwrap_or_default();
        sum = sum.wrapping_add(level_hash(seed, count, level));
        if let Some(slot) = ends.get_mut(count) {
            *slot = end as u16;
        }
        count += 1;
        if let Some(slot) = sums.get_mut(count) {
            *slot = sum;
        }
        Ok(())
    };
    let mut at = 0;
    while at < bytes.len() {
        let word = load(bytes, at);
        let wild = wildcards(word);
        if wild != 0 {
            return Err(TopicError::Wildcard {
                position: at + wild.trailing_zeros() as usize / 8,
            });
        }
        let mut found = separators(word);
        while found != 0 {
            let end = at + found.trailing_zeros() as usize / 8;
            close(start, end)?;
            start = end + 1;
            found &= found - 1;
        }
        at += 8;
    }
    close(start, bytes.len())?;
    Ok((sum, count as u16))
}

/// A topic with the offsets and hash sums of all its levels.
#[derive(Clone, Copy)]
pub(crate) struct View<'v> {
    pub(crate) text: &'v str,
    /// The offset behind each level.
    pub(crate) ends: &'v [u16],
    /// The sum of the hashes of the first `i` levels; one longer than `ends`.
    pub(crate) sums: &'v [u64],
}

impl View<'_> {
    #[inline]
    pub(crate) const fn level_count(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub(crate) const fn is_system(&self) -> bool {
        matches!(self.text.as_bytes().first(), Some(b'$'))
    }

    /// The hash of the whole topic.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.sums.last().copied().unwrap_or_default()
    }

    /// The hash of the level at `position`, which must exist.
    #[inline]
    pub(crate) fn level(&self, position: usize) -> u64 {
        self.sums[position + 1].wrapping_sub(self.sums[position])
    }

    /// The offset behind the first `levels` levels, without the `/` that follows.
    #[inline]
    pub(crate) fn end(&self, levels: usize) -> usize {
        if levels == 0 {
            0
        } else {
            usize::from(self.ends[levels - 1])
        }
    }

    /// The offset of the first byte of the level at `position`.
    #[inline]
    pub(crate) fn start(&self, position: usize) -> usize {
        if position == 0 {
            0
        } else {
            usize::from(self.ends[position - 1]) + 1
        }
    }
}

impl PartialEq for Topic<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Topic<'_> {}

impl fmt::Debug for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.text).finish()
    }
}

impl fmt::Display for Topic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}
