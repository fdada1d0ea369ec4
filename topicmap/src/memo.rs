//! The topic that came last.

use core::fmt;

use crate::{Limits, Topic, TopicError};

/// Parses topics, and the same one again for the price of a comparison.
///
/// A publisher names one topic in message after message. Where that is so, finding its levels and
/// hashes costs more than all the rest of a look-up in a [`MatchCache`](crate::MatchCache).
///
/// # Memory
///
/// The text of one topic, and 200 bytes.
///
/// # Examples
///
/// ```
/// use topicmap::{Limits, TopicMemo};
///
/// let limits = Limits::default();
/// let mut memo = TopicMemo::new();
/// for text in ["fleet/7/temperature", "fleet/7/temperature"] {
///     assert_eq!(memo.parse(text, &limits)?.level_count(), 3);
/// }
/// assert!(memo.parse("fleet/+", &limits).is_err());
/// # Ok::<(), topicmap::TopicError>(())
/// ```
#[derive(Clone)]
pub struct TopicMemo {
    /// Empty where there is none: no topic is.
    text: String,
    /// That topic but for its text.
    topic: Topic<'static>,
    limits: Limits,
}

impl TopicMemo {
    /// A memo of nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            topic: Topic::NONE,
            limits: Limits::widest(0),
        }
    }

    /// The same as [`Topic::parse`].
    ///
    /// Allocates where the text is longer than those before it.
    ///
    /// # Errors
    ///
    /// Those of [`Topic::parse`].
    ///
    /// # Complexity
    ///
    /// A comparison of the texts where it is the topic of the last call, under the same limits;
    /// else one pass over the text and a copy of it.
    #[inline]
    pub fn parse<'a>(&mut self, text: &'a str, limits: &Limits) -> Result<Topic<'a>, TopicError> {
        if self.text == text && !text.is_empty() && self.limits == *limits {
            return Ok(self.topic.clone().named(text));
        }
        let topic = Topic::parse(text, limits)?;
        self.text.clear();
        self.text.push_str(text);
        self.topic = topic.clone().named("");
        self.limits = *limits;
        Ok(topic)
    }
}

impl Default for TopicMemo {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for TopicMemo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TopicMemo").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_parsing_says() {
        let wide = Limits::default();
        let narrow = Limits {
            levels_max: 2,
            ..wide
        };
        let seeded = Limits { seed: 7, ..wide };
        let mut memo = TopicMemo::new();
        let texts = ["", "a", "a/b/c", "a/b/c", "a/+", "a/b/c", "$x//", ""];
        for text in texts.into_iter().chain(texts) {
            for limits in [wide, wide, narrow, seeded, narrow, seeded, wide] {
                let found = memo.parse(text, &limits);
                match (found, Topic::parse(text, &limits)) {
                    (Ok(found), Ok(expected)) => {
                        assert_eq!(found.as_str(), expected.as_str());
                        assert_eq!(found.hash(), expected.hash());
                        assert_eq!(found.level_count(), expected.level_count());
                        let sums = |topic: &Topic<'_>| {
                            topic.with_view(limits.seed, |view| view.sums.to_vec())
                        };
                        assert_eq!(sums(&found), sums(&expected));
                    }
                    (found, expected) => assert_eq!(found.err(), expected.err(), "{text}"),
                }
            }
        }
    }
}
