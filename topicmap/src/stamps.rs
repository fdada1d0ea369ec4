//! Generations by which a cached answer is known to be still right.

use crossbeam_utils::CachePadded;

use crate::{
    Filter, Limits, Topic,
    sync::{AtomicU64, Ordering},
};

#[cfg(not(loom))]
const EXACT: usize = 4096;
#[cfg(not(loom))]
const FIRST: usize = 512;
#[cfg(loom)]
const EXACT: usize = 2;
#[cfg(loom)]
const FIRST: usize = 2;

/// The generations that a topic's answer depends on, as they were at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    exact: u64,
    first: u64,
    root: u64,
}

/// Striped generations: a subscribe voids what it can touch and little more.
///
/// A filter without wildcards raises the generation of its hash's stripe (1 of 4,096); one with
/// wildcards that of its first level (1 of 512), or, if that is a wildcard, the one generation
/// that all topics share.
///
/// # Ordering
///
/// The writer changes the index first, then calls [`bump`](Self::bump) (Release), then lets the
/// world know (queues SUBACK). The reader calls [`observe`](Self::observe) (Acquire) *before* it
/// computes an answer and stores the answer under that stamp. Then an answer whose stamp equals
/// the one observed now holds every change whose bump happened before.
///
/// ```
/// use topicmap::{Filter, Limits, Stamps, Topic};
///
/// let limits = Limits::default();
/// let stamps = Stamps::with_seed(limits.seed);
/// let topic = Topic::parse("a/b", &limits).unwrap();
/// let before = stamps.observe(&topic);
/// stamps.bump(&Filter::parse("a/+", &limits).unwrap());
/// assert_ne!(stamps.observe(&topic), before);
/// ```
#[derive(Debug)]
pub struct Stamps {
    seed: u64,
    root: CachePadded<AtomicU64>,
    exact: Box<[AtomicU64]>,
    first: Box<[AtomicU64]>,
}

impl Stamps {
    /// As [`Stamps::with_seed`] with the default seed of [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_seed(Limits::default().seed)
    }

    /// All generations at zero: 36 KiB. Topics parsed under another seed than `seed` are hashed
    /// again at each call.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        let zeroes = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            seed,
            root: CachePadded::new(AtomicU64::new(0)),
            exact: zeroes(EXACT),
            first: zeroes(FIRST),
        }
    }

    /// Voids the answers for all topics that `filter` matches.
    pub fn bump(&self, filter: &Filter<'_>) {
        let filter = filter.under(self.seed);
        let generation = if filter.is_exact() {
            &self.exact[stripe(filter.hash(), EXACT)]
        } else if filter.is_first_wild() {
            &*self.root
        } else {
            &self.first[stripe(filter.first_hash(), FIRST)]
        };
        generation.fetch_add(1, Ordering::Release);
    }

    /// The generations for `topic` as they are now.
    #[must_use]
    #[inline]
    pub fn observe(&self, topic: &Topic<'_>) -> Stamp {
        let exact = &self.exact[stripe(topic.hash_under(self.seed), EXACT)];
        let first = &self.first[stripe(topic.first_hash_under(self.seed), FIRST)];
        Stamp {
            exact: exact.load(Ordering::Acquire),
            first: first.load(Ordering::Acquire),
            root: self.root.load(Ordering::Acquire),
        }
    }
}

#[inline]
const fn stripe(hash: u64, count: usize) -> usize {
    (hash >> 40) as usize & (count - 1)
}

impl Default for Stamps {
    fn default() -> Self {
        Self::new()
    }
}
