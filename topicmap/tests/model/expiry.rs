//! Expiry: [`TopicStore`] with deadlines against a map of topic → (value, deadline).

use std::collections::BTreeMap;

use topicmap::{Cursor, Filter, Topic, TopicStore, oracle};

use super::LIMITS;

/// An operation on a [`TopicStore`] with deadlines.
#[derive(Clone, Debug)]
pub(crate) enum ExpiryOp {
    /// Stores a topic, for so long from now; `None` is for ever.
    Insert(String, u16, Option<u8>),
    /// Takes one out.
    Remove(String),
    /// Lets time go on.
    Wait(u8),
    /// Takes out what has expired, so many at most.
    Sweep(usize),
    /// Scans all that matches, in calls of this budget.
    Scan(String, usize),
}

/// A [`TopicStore`] beside what it should hold, and the time.
pub(crate) struct ExpiryModel {
    store: TopicStore<u16>,
    plain: BTreeMap<String, (u16, u64)>,
    now: u64,
}

impl ExpiryModel {
    /// Wraps an empty store.
    pub(crate) fn new(store: TopicStore<u16>) -> Self {
        Self {
            store,
            plain: BTreeMap::new(),
            now: 0,
        }
    }

    /// Runs one operation on both and compares.
    pub(crate) fn apply(&mut self, op: &ExpiryOp) {
        match op {
            ExpiryOp::Insert(text, value, wait) => {
                let Ok(topic) = Topic::parse(text, &LIMITS) else {
                    return;
                };
                let deadline = wait.map_or(u64::MAX, |wait| self.now + u64::from(wait));
                let replaced = self.store.insert_until(&topic, *value, deadline);
                let before = self.plain.insert(text.clone(), (*value, deadline));
                assert_eq!(replaced, before.map(|(value, _)| value));
                let known = (deadline != u64::MAX).then_some(deadline);
                assert_eq!(self.store.deadline(&topic), known);
            }
            ExpiryOp::Remove(text) => {
                let Ok(topic) = Topic::parse(text, &LIMITS) else {
                    return;
                };
                let before = self.plain.remove(text).map(|(value, _)| value);
                assert_eq!(self.store.remove(&topic), before);
                assert_eq!(self.store.deadline(&topic), None);
            }
            ExpiryOp::Wait(ticks) => self.now += u64::from(*ticks),
            ExpiryOp::Sweep(budget) => self.sweep(*budget),
            ExpiryOp::Scan(filter, budget) => self.scan(filter, *budget),
        }
        assert_eq!(self.store.len(), self.plain.len());
        let deadlines = self.plain.values().map(|(_, deadline)| *deadline);
        let next = deadlines.filter(|deadline| *deadline != u64::MAX).min();
        assert_eq!(self.store.next_deadline(), next);
    }

    fn sweep(&mut self, budget: usize) {
        let due = |(_, deadline): &(u16, u64)| *deadline <= self.now;
        let all = self.plain.values().filter(|entry| due(entry)).count();
        let mut last = 0;
        let taken = self.store.sweep(self.now, budget, |topic, value| {
            let (known, deadline) = self.plain.remove(topic).expect("it was stored");
            assert_eq!(value, known);
            assert!(last <= deadline && deadline <= self.now, "soonest first");
            last = deadline;
        });
        assert_eq!(taken, all.min(budget));
    }

    fn scan(&self, filter: &str, budget: usize) {
        let Ok(parsed) = Filter::parse(filter, &LIMITS) else {
            return;
        };
        let (mut seen, mut expired, mut from) = (BTreeMap::new(), 0, Cursor::start());
        loop {
            let scanned = self
                .store
                .scan_at(&parsed, from, budget, self.now, |topic, value| {
                    assert!(seen.insert(topic.to_owned(), *value).is_none());
                });
            expired += scanned.expired;
            match scanned.next {
                Some(next) => from = next,
                None => break,
            }
        }
        let matching = self
            .plain
            .iter()
            .filter(|(topic, _)| oracle::matches(filter, topic));
        let (live, dead): (Vec<_>, Vec<_>) = matching.partition(|(_, entry)| entry.1 > self.now);
        let live: BTreeMap<_, _> = live
            .into_iter()
            .map(|(topic, (value, _))| (topic.clone(), *value))
            .collect();
        assert_eq!((seen, expired), (live, dead.len()));
    }
}
