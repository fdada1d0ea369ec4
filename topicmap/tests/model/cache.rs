//! Cached answers: [`MatchCache`] with [`Stamps`] against what is true at the moment.

use std::collections::BTreeMap;

use topicmap::{Filter, MatchCache, Stamps, Topic, oracle};

use super::LIMITS;

/// An operation on a [`MatchCache`] and its [`Stamps`].
#[derive(Clone, Debug)]
pub(crate) enum CacheOp {
    /// Changes what is true for the topics that a filter matches.
    Change(String),
    /// Asks for a topic, and stores the truth if there is no answer.
    Ask(String),
    /// Forgets everything.
    Clear,
}

/// A cache whose answers are the numbers of changes that concern a topic.
pub(crate) struct CacheModel {
    stamps: Stamps,
    cache: MatchCache<usize>,
    changes: BTreeMap<String, usize>,
    /// Answers that came from the cache.
    pub(crate) hits: usize,
}

impl CacheModel {
    /// Wraps empty ones.
    pub(crate) fn new(stamps: Stamps, cache: MatchCache<usize>) -> Self {
        Self {
            stamps,
            cache,
            changes: BTreeMap::new(),
            hits: 0,
        }
    }

    /// Runs one operation and compares.
    pub(crate) fn apply(&mut self, op: &CacheOp) {
        match op {
            CacheOp::Change(text) => {
                let Ok(filter) = Filter::parse(text, &LIMITS) else {
                    return;
                };
                *self.changes.entry(text.clone()).or_insert(0) += 1;
                self.stamps.bump(&filter);
            }
            CacheOp::Ask(text) => self.ask(text),
            CacheOp::Clear => {
                self.cache.clear();
                assert!(self.cache.is_empty());
            }
        }
        assert!(self.cache.len() <= self.cache.capacity());
    }

    fn ask(&mut self, text: &str) {
        let Ok(topic) = Topic::parse(text, &LIMITS) else {
            return;
        };
        let matching = self
            .changes
            .iter()
            .filter(|(filter, _)| oracle::matches(filter, text));
        let truth = matching.map(|(_, count)| count).sum();
        let stamp = self.stamps.observe(&topic);
        if let Some(answer) = self.cache.get(&topic, stamp) {
            assert_eq!(*answer, truth, "a stale answer for {text:?}");
            self.hits += 1;
            return;
        }
        assert_eq!(self.cache.insert(&topic, stamp, truth), &truth);
        assert_eq!(
            self.cache.get(&topic, stamp),
            Some(&truth),
            "the newest answer is there"
        );
    }
}
