//! Answers of the service that are still good, found by what was asked.

use std::collections::{HashMap, VecDeque};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What was asked, as a hash under a key of this process: no password is kept.
pub(super) type Question = [u8; 32];

/// Hashes questions.
pub(super) struct Hasher([u8; 32]);

impl Hasher {
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self(key))
    }

    pub(super) fn hash(&self, parts: &[&[u8]]) -> Question {
        // HMAC takes keys of any length; were it not so, all questions would be one. Then nothing
        // must be found.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return Question::default();
        };
        for part in parts {
            // Lengths keep the parts apart.
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }
}

/// Values with an end each, at most so many: the oldest makes room.
#[derive(Debug)]
pub(super) struct Cache<V> {
    entries_max: usize,
    entries: HashMap<Question, (u64, V)>,
    /// In the order in which they came; some may be there no more.
    order: VecDeque<(Question, u64)>,
}

impl<V: Clone> Cache<V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self {
            entries_max,
            entries: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The value, if its time is not over.
    pub(super) fn find(&self, question: &Question, now_ms: u64) -> Option<V> {
        let (until_ms, value) = self.entries.get(question)?;
        (now_ms < *until_ms).then(|| value.clone())
    }

    pub(super) fn insert(&mut self, question: Question, until_ms: u64, value: V) {
        if self.entries_max == 0 {
            return;
        }
        self.entries.insert(question, (until_ms, value));
        self.order.push_back((question, until_ms));
        // One that was put in again has several places, of which the last counts.
        while self.entries.len() > self.entries_max || self.order.len() > 2 * self.entries_max {
            let Some((oldest, until_ms)) = self.order.pop_front() else {
                break;
            };
            let is_that = |(until, _): &(u64, V)| *until == until_ms;
            if self.entries.get(&oldest).is_some_and(is_that) {
                self.entries.remove(&oldest);
            }
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_found_until_its_end_and_while_there_is_room() {
        let hasher = Hasher::new().expect("random numbers");
        let question = |text: &str| hasher.hash(&[text.as_bytes()]);
        let mut cache = Cache::new(3);
        for (at, text) in ["a", "b", "c"].into_iter().enumerate() {
            cache.insert(question(text), 100 + at as u64, text);
        }
        assert_eq!(cache.find(&question("a"), 99), Some("a"));
        assert_eq!(cache.find(&question("a"), 100), None);
        assert_eq!(cache.find(&question("b"), 100), Some("b"));
        cache.insert(question("a"), 200, "again");
        cache.insert(question("d"), 200, "d");
        // `a` is younger than `b` now.
        assert_eq!(cache.find(&question("a"), 150), Some("again"));
        assert_eq!(cache.find(&question("b"), 0), None);
        for _ in 0..100 {
            cache.insert(question("a"), 300, "again");
        }
        assert!(cache.order.len() <= 6 && cache.len() <= 3);
        let mut none = Cache::new(0);
        none.insert(question("a"), 100, "a");
        assert_eq!(none.find(&question("a"), 0), None);
    }

    #[test]
    fn questions_are_told_apart_by_every_part() {
        let hasher = Hasher::new().expect("random numbers");
        let of = |parts: &[&str]| {
            let parts: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            hasher.hash(&parts)
        };
        assert_eq!(of(&["a", "b"]), of(&["a", "b"]));
        assert_ne!(of(&["a", "b"]), of(&["ab", ""]));
        assert_ne!(of(&["a", "b"]), of(&["a", "b", ""]));
        let other = Hasher::new().expect("random numbers");
        assert_ne!(of(&["a"]), other.hash(&[b"a"]));
    }
}
