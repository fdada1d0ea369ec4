//! Workloads and contenders for the benches of `topicmap`.

#![forbid(unsafe_code)]

pub mod trie;
pub mod workload;

pub use trie::Trie;
pub use workload::{LIMITS, Random, Workload};

use topicmap::{Filter, Topic, TopicMap};

/// A map with a subscription for each filter, its number being both subscriber and value.
#[must_use]
pub fn map_of(filters: &[String]) -> TopicMap<u32> {
    let mut map = TopicMap::new(LIMITS.seed);
    for (text, n) in filters.iter().zip(0..) {
        map.insert(&filter(text), n, n);
    }
    map
}

/// The usual trie with the same subscriptions.
#[must_use]
pub fn trie_of(filters: &[String]) -> Trie {
    let mut trie = Trie::default();
    for (text, n) in filters.iter().zip(0..) {
        trie.insert(text, n);
    }
    trie
}

/// A sum over the subscribers of a topic: the answer that all contenders must agree on.
#[must_use]
#[inline]
pub fn sum_of_map(map: &TopicMap<u32>, topic: &Topic<'_>) -> u64 {
    let mut sum = 0;
    map.for_each_match(topic, |_, _, value| sum += u64::from(*value) + 1);
    sum
}

/// The same by the trie; the topic is split as the usual design does it.
#[must_use]
pub fn sum_of_trie(trie: &Trie, topic: &str) -> u64 {
    let levels: Vec<_> = topic.split('/').collect();
    let mut sum = 0;
    trie.for_each_match(&levels, true, &mut |value| sum += u64::from(value) + 1);
    sum
}

/// A filter of a workload.
///
/// # Panics
///
/// When the text is none.
#[must_use]
pub fn filter(text: &str) -> Filter<'_> {
    Filter::parse(text, &LIMITS).expect("workloads have legal filters")
}

/// A topic of a workload.
///
/// # Panics
///
/// When the text is none.
#[must_use]
pub fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text, &LIMITS).expect("workloads have legal topics")
}
