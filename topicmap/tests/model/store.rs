//! Stored topics: [`TopicStore`] against a map, with scans that go on while it changes.

use std::collections::{BTreeMap, BTreeSet};

use topicmap::{Cursor, Filter, Topic, TopicStore, oracle};

use super::LIMITS;

/// An operation on a [`TopicStore`].
#[derive(Clone, Debug)]
pub(crate) enum StoreOp {
    /// Stores a topic.
    Insert(String, u16),
    /// Takes one out.
    Remove(String),
    /// Takes out the nth of those stored.
    RemoveNth(usize),
    /// Scans at one go with calls of this budget.
    Scan(String, usize),
    /// Begins a scan that later operations go on with.
    Begin(String),
    /// Goes on with the nth scan.
    Continue(usize, usize),
}

struct Running {
    filter: String,
    from: Cursor,
    /// Topics that match and were there all the time.
    owed: BTreeSet<String>,
    /// Topics that were visited and were there all the time since.
    visited: BTreeSet<String>,
}

/// A [`TopicStore`] beside what it should hold.
pub(crate) struct StoreModel {
    store: TopicStore<u16>,
    plain: BTreeMap<String, u16>,
    scans: Vec<Running>,
}

impl StoreModel {
    /// Wraps an empty store.
    pub(crate) fn new(store: TopicStore<u16>) -> Self {
        Self {
            store,
            plain: BTreeMap::new(),
            scans: Vec::new(),
        }
    }

    /// Runs one operation on both and compares.
    pub(crate) fn apply(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Insert(text, value) => {
                let Ok(topic) = Topic::parse(text, &LIMITS) else {
                    return;
                };
                let replaced = self.store.insert(&topic, *value);
                assert_eq!(replaced, self.plain.insert(text.clone(), *value));
                assert_eq!(self.store.get(&topic), Some(value));
            }
            StoreOp::Remove(text) => self.remove(text),
            StoreOp::RemoveNth(nth) => {
                let nth = nth % self.plain.len().max(1);
                if let Some(text) = self.plain.keys().nth(nth).cloned() {
                    self.remove(&text);
                }
            }
            StoreOp::Scan(filter, budget) => {
                if let Some(mut scan) = self.begin(filter) {
                    while !self.step(&mut scan, *budget) {}
                }
            }
            StoreOp::Begin(filter) => self.scans.extend(self.begin(filter)),
            StoreOp::Continue(nth, budget) => {
                if !self.scans.is_empty() {
                    let nth = nth % self.scans.len();
                    let mut scan = self.scans.swap_remove(nth);
                    if !self.step(&mut scan, *budget) {
                        self.scans.push(scan);
                    }
                }
            }
        }
        assert_eq!(self.store.len(), self.plain.len());
        assert_eq!(self.store.is_empty(), self.plain.is_empty());
    }

    /// Ends all scans and compares everything that can be looked at.
    pub(crate) fn finish(mut self) {
        for mut scan in std::mem::take(&mut self.scans) {
            while !self.step(&mut scan, 3) {}
        }
        let all: BTreeMap<_, _> = self
            .store
            .iter()
            .map(|(text, value)| (text.to_owned(), *value))
            .collect();
        assert_eq!(all, self.plain);
        for text in self.plain.keys().cloned().collect::<Vec<_>>() {
            self.remove(&text);
        }
        assert!(self.store.is_empty());
        let mut visits = 0;
        let everything = Filter::parse("#", &LIMITS).expect("a filter");
        let left = self
            .store
            .scan(&everything, Cursor::start(), 1, |_, _| visits += 1);
        assert_eq!(
            (left, visits),
            (None, 0),
            "an empty store has no node left to look at"
        );
    }

    fn remove(&mut self, text: &str) {
        let Ok(topic) = Topic::parse(text, &LIMITS) else {
            return;
        };
        assert_eq!(self.store.remove(&topic), self.plain.remove(text));
        assert_eq!(self.store.get(&topic), None);
        for scan in &mut self.scans {
            scan.owed.remove(text);
            scan.visited.remove(text);
        }
    }

    fn begin(&self, filter: &str) -> Option<Running> {
        Filter::parse(filter, &LIMITS).ok()?;
        let owed = self
            .plain
            .keys()
            .filter(|text| oracle::matches(filter, text))
            .cloned();
        Some(Running {
            filter: filter.to_owned(),
            from: Cursor::start(),
            owed: owed.collect(),
            visited: BTreeSet::new(),
        })
    }

    /// Goes on with a scan; `true` when it is complete.
    fn step(&self, scan: &mut Running, budget: usize) -> bool {
        let filter = Filter::parse(&scan.filter, &LIMITS).expect("it was parsed before");
        let mut visits = 0;
        let from = std::mem::take(&mut scan.from);
        let next = self.store.scan(&filter, from, budget, |text, value| {
            visits += 1;
            assert_eq!(self.plain.get(text), Some(value), "{text:?} is not stored");
            assert!(
                oracle::matches(&scan.filter, text),
                "{} {text}",
                scan.filter
            );
            assert!(
                scan.visited.insert(text.to_owned()),
                "{text:?} was visited twice"
            );
            scan.owed.remove(text);
        });
        assert!(
            visits <= budget.max(1),
            "more topics visited than nodes looked at"
        );
        match next {
            Some(cursor) => scan.from = cursor,
            None => assert!(
                scan.owed.is_empty(),
                "{}: {:?} missed",
                scan.filter,
                scan.owed
            ),
        }
        scan.from == Cursor::start()
    }
}
