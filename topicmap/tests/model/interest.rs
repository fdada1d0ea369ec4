//! Interest masks: [`InterestMap`] against counts by filter and shard.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use topicmap::{Filter, InterestMap, InterestReader, Topic, oracle};

use super::LIMITS;

/// Shapes up to which no fall-back may make a mask too wide.
const SHAPES_EXACT: usize = 64;

/// An operation on an [`InterestMap`].
#[derive(Clone, Debug)]
pub(crate) enum InterestOp {
    /// Adds a filter for a shard.
    Add(String, u8),
    /// Takes back the nth of what was added.
    Remove(usize),
    /// Compares the mask of a topic, as one of the readers sees it.
    Mask(String, usize),
}

/// An [`InterestMap`] beside what it should hold.
pub(crate) struct InterestModel {
    map: Arc<InterestMap>,
    readers: Vec<InterestReader>,
    counts: BTreeMap<(String, u8), u32>,
    /// Every shape that there ever was.
    shapes: BTreeSet<(usize, u64, bool)>,
    /// Whether there ever was a `+` behind level 64, which no shape can hold.
    deep: bool,
}

impl InterestModel {
    /// Wraps an empty map.
    pub(crate) fn new(map: InterestMap) -> Self {
        let map = Arc::new(map);
        let readers = (0..3).map(|_| map.reader()).collect();
        Self {
            map,
            readers,
            counts: BTreeMap::new(),
            shapes: BTreeSet::new(),
            deep: false,
        }
    }

    /// Runs one operation on both and compares.
    pub(crate) fn apply(&mut self, op: &InterestOp) {
        match op {
            InterestOp::Add(text, shard) => {
                let Ok(filter) = Filter::parse(text, &LIMITS) else {
                    return;
                };
                self.map.add(&filter, *shard);
                *self.counts.entry((text.clone(), *shard)).or_insert(0) += 1;
                let shape = (
                    filter.level_count(),
                    filter.plus_mask(),
                    filter.ends_in_hash(),
                );
                self.shapes.insert(shape);
                self.deep |= filter.levels().skip(64).any(|level| level == "+");
            }
            InterestOp::Remove(nth) => {
                let nth = nth % self.counts.len().max(1);
                let Some((key, count)) = self.counts.iter_mut().nth(nth) else {
                    return;
                };
                let filter = Filter::parse(&key.0, &LIMITS).expect("it was added");
                self.map.remove(&filter, key.1);
                *count -= 1;
                if *count == 0 {
                    let key = key.clone();
                    self.counts.remove(&key);
                }
            }
            InterestOp::Mask(text, reader) => self.compare(text, *reader),
        }
    }

    fn compare(&mut self, text: &str, reader: usize) {
        let Ok(topic) = Topic::parse(text, &LIMITS) else {
            return;
        };
        let matching = self
            .counts
            .keys()
            .filter(|(filter, _)| oracle::matches(filter, text));
        let expected = matching.fold(0, |mask, (_, shard)| mask | 1_u64 << shard);
        let reader = reader % self.readers.len();
        let mask = self.readers[reader].mask(&topic);
        assert_eq!(mask & expected, expected, "a shard is missed for {text:?}");
        if self.shapes.len() <= SHAPES_EXACT && !self.deep {
            assert_eq!(mask, expected, "the mask of {text:?} is too wide");
        }
    }

    /// Takes everything back and expects nothing to be left.
    pub(crate) fn finish(mut self, topics: &[String]) {
        for ((text, shard), count) in std::mem::take(&mut self.counts) {
            let filter = Filter::parse(&text, &LIMITS).expect("it was added");
            for _ in 0..count {
                self.map.remove(&filter, shard);
            }
        }
        for text in topics {
            let Ok(topic) = Topic::parse(text, &LIMITS) else {
                continue;
            };
            assert_eq!(self.readers[0].mask(&topic), 0, "a bit of {text:?} is left");
        }
    }
}
