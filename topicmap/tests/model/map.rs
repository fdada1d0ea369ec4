//! Subscriptions: [`TopicMap`] against a map of filter and subscriber.

use std::collections::BTreeMap;

use topicmap::{Filter, FilterId, Topic, TopicMap, oracle};

use super::LIMITS;

/// An operation on a [`TopicMap`].
#[derive(Clone, Debug)]
pub(crate) enum MapOp {
    /// Adds a subscription.
    Insert(String, u32, u16),
    /// Takes one out by its filter.
    Remove(String, u32),
    /// Takes one out by the filter's id; the index is into the filters that exist.
    RemoveById(usize, u32),
    /// Compares the matches of a topic.
    Match(String),
}

/// A [`TopicMap`] beside what it should hold.
pub(crate) struct MapModel {
    map: TopicMap<u16>,
    plain: BTreeMap<(String, u32), u16>,
    ids: BTreeMap<String, FilterId>,
}

impl MapModel {
    /// Wraps an empty map.
    pub(crate) fn new(map: TopicMap<u16>) -> Self {
        Self {
            map,
            plain: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    fn has_filter(&self, text: &str) -> bool {
        self.plain.keys().any(|(filter, _)| filter == text)
    }

    /// Runs one operation on both and compares.
    pub(crate) fn apply(&mut self, op: &MapOp) {
        match op {
            MapOp::Insert(text, subscriber, value) => self.insert(text, *subscriber, *value),
            MapOp::Remove(text, subscriber) => {
                let Ok(filter) = Filter::parse(text, &LIMITS) else {
                    assert!(!oracle::valid_filter(text));
                    return;
                };
                let removed = self.map.remove(&filter, *subscriber);
                self.check_removed(text, *subscriber, removed);
            }
            MapOp::RemoveById(nth, subscriber) => {
                let nth = nth % self.ids.len().max(1);
                let Some((text, id)) = self.ids.iter().nth(nth) else {
                    return;
                };
                let (text, id) = (text.clone(), *id);
                let removed = self.map.remove_by_id(id, *subscriber);
                self.check_removed(&text, *subscriber, removed);
            }
            MapOp::Match(text) => self.compare(text),
        }
        assert_eq!(self.map.subscription_count(), self.plain.len());
        assert_eq!(self.map.filter_count(), self.ids.len());
    }

    fn insert(&mut self, text: &str, subscriber: u32, value: u16) {
        let Ok(filter) = Filter::parse(text, &LIMITS) else {
            assert!(!oracle::valid_filter(text), "{text:?} is a filter");
            return;
        };
        assert!(oracle::valid_filter(text), "{text:?} is no filter");
        let first = !self.has_filter(text);
        let inserted = self.map.insert(&filter, subscriber, value);
        assert_eq!(inserted.first, first);
        assert_eq!(
            inserted.replaced,
            self.plain.insert((text.into(), subscriber), value)
        );
        if let Some(id) = self.ids.insert(text.into(), inserted.filter) {
            assert_eq!(id, inserted.filter, "the id of {text:?} moved");
        }
        assert_eq!(self.map.filter_text(inserted.filter), Some(text));
        assert_eq!(self.map.filter_id(&filter), Some(inserted.filter));
        assert_eq!(self.map.get(inserted.filter, subscriber), Some(&value));
    }

    fn check_removed(
        &mut self,
        text: &str,
        subscriber: u32,
        removed: Option<topicmap::Removed<u16>>,
    ) {
        let expected = self.plain.remove(&(text.into(), subscriber));
        assert_eq!(removed.as_ref().map(|removed| removed.value), expected);
        let Some(removed) = removed else { return };
        assert_eq!(removed.last, !self.has_filter(text));
        assert_eq!(self.ids.get(text), Some(&removed.filter));
        if removed.last {
            self.ids.remove(text);
            assert_eq!(self.map.filter_text(removed.filter), None);
        }
        assert_eq!(self.map.get(removed.filter, subscriber), None);
    }

    fn compare(&self, text: &str) {
        let Ok(topic) = Topic::parse(text, &LIMITS) else {
            assert!(!oracle::valid_topic(text), "{text:?} is a topic");
            return;
        };
        assert!(oracle::valid_topic(text), "{text:?} is no topic");
        let mut found = Vec::new();
        self.map.for_each_match(&topic, |id, subscriber, value| {
            found.push((id, subscriber, *value));
        });
        found.sort_unstable();
        let matching = self
            .plain
            .iter()
            .filter(|((filter, _), _)| oracle::matches(filter, text));
        let mut expected: Vec<_> = matching
            .map(|((filter, subscriber), value)| (self.ids[filter], *subscriber, *value))
            .collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "matches of {text:?}");
        for filter in self.ids.keys() {
            let parsed = Filter::parse(filter, &LIMITS).expect("it was inserted");
            assert_eq!(
                parsed.matches(&topic),
                oracle::matches(filter, text),
                "{filter} {text}"
            );
        }
    }

    /// Compares everything that can be looked at.
    pub(crate) fn check_all(&self) {
        let mut all: Vec<_> = self
            .map
            .iter()
            .map(|(_, text, subscriber, value)| ((text.to_owned(), subscriber), *value))
            .collect();
        all.sort_unstable();
        assert!(
            all.iter()
                .map(|(key, value)| (key, value))
                .eq(self.plain.iter())
        );
    }
}
