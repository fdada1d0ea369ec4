//! The answers for the topics that come up most.

use core::{fmt, ops::Range};

use crate::{Stamp, Topic};

const WAYS: usize = 4;

struct Entry<R> {
    text: Box<str>,
    stamp: Stamp,
    value: R,
}

/// The hashes of a set's entries, kept apart so that a look-up reads one cache line first.
#[derive(Clone, Copy, Default)]
struct Set {
    hashes: [u64; WAYS],
    /// A bit for each way that was hit since the hand passed it.
    used: u8,
    hand: u8,
}

/// A bounded cache of topic → answer, whose entries a [`Stamp`] voids.
///
/// Four-way set associative; within a set the one that was not hit for longest, roughly, makes
/// room. Topics are compared by their full text.
///
/// # Memory
///
/// 10 bytes and the entry for each place, taken at once; and each entry's topic text.
///
/// # Examples
///
/// ```
/// use topicmap::{Limits, MatchCache, Stamps, Topic};
///
/// let limits = Limits::default();
/// let stamps = Stamps::with_seed(limits.seed);
/// let mut cache = MatchCache::new(1024);
/// let topic = Topic::parse("a/b", &limits)?;
/// let stamp = stamps.observe(&topic);
/// assert_eq!(cache.get(&topic, stamp), None);
/// cache.insert(&topic, stamp, "route");
/// assert_eq!(cache.get(&topic, stamp), Some(&"route"));
/// # Ok::<(), topicmap::TopicError>(())
/// ```
pub struct MatchCache<R> {
    sets: Box<[Set]>,
    entries: Box<[Option<Entry<R>>]>,
    len: usize,
}

impl<R> MatchCache<R> {
    /// A cache of at least `entries` places: the next power of two, and no fewer than four.
    #[must_use]
    pub fn new(entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).next_power_of_two();
        Self {
            sets: vec![Set::default(); sets].into_boxed_slice(),
            entries: (0..sets * WAYS).map(|_| None).collect(),
            len: 0,
        }
    }

    #[inline]
    fn set_of(&self, topic: &Topic<'_>) -> usize {
        (topic.hash() >> 32) as usize & (self.sets.len() - 1)
    }

    /// The place that holds `topic`, current or not.
    #[inline]
    fn find(&self, set: usize, topic: &Topic<'_>) -> Option<usize> {
        let hashes = &self.sets[set].hashes;
        (0..WAYS).find(|way| {
            hashes[*way] == topic.hash()
                && matches!(&self.entries[set * WAYS + way],
                    Some(entry) if &*entry.text == topic.as_str())
        })
    }

    /// The answer for `topic`, if there is one that was computed under `stamp`.
    ///
    /// Allocates nothing.
    #[inline]
    pub fn get(&mut self, topic: &Topic<'_>, stamp: Stamp) -> Option<&R> {
        let set = self.set_of(topic);
        let way = self.find(set, topic)?;
        self.sets[set].used |= 1 << way;
        let entry = self.entries[set * WAYS + way].as_ref()?;
        (entry.stamp == stamp).then_some(&entry.value)
    }

    /// Stores an answer that was computed under `stamp`, which must have been observed before the
    /// computation began.
    ///
    /// Replaces the topic's former answer; else another topic's when the set is full. Allocates
    /// for the text of a topic that isn't there yet.
    pub fn insert(&mut self, topic: &Topic<'_>, stamp: Stamp, value: R) -> &R {
        let set = self.set_of(topic);
        let found = self.find(set, topic);
        let way = found.unwrap_or_else(|| self.victim(set));
        let place = &mut self.entries[set * WAYS + way];
        let text = match place.take() {
            Some(old) if found.is_some() => old.text,
            old => {
                self.len += usize::from(old.is_none());
                topic.as_str().into()
            }
        };
        self.sets[set].hashes[way] = topic.hash();
        &place.insert(Entry { text, stamp, value }).value
    }

    /// A free place, or else the first from the hand on that was not hit since the hand passed.
    fn victim(&mut self, set: usize) -> usize {
        let places = &self.entries[set * WAYS..][..WAYS];
        if let Some(free) = places.iter().position(Option::is_none) {
            return free;
        }
        let set = &mut self.sets[set];
        loop {
            let way = usize::from(set.hand);
            set.hand = (set.hand + 1) % WAYS as u8;
            if set.used & 1 << way == 0 {
                return way;
            }
            set.used &= !(1 << way);
        }
    }

    /// Forgets all answers.
    pub fn clear(&mut self) {
        self.sets.fill(Set::default());
        self.entries.fill_with(|| None);
        self.len = 0;
    }

    /// The heap of the cache's places in bytes, which it has from the beginning.
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        size_of_val(&*self.sets) + size_of_val(&*self.entries)
    }

    /// Calls `visit` with the text and the answer in each of these places, current or not; the last
    /// place is one below [`capacity`](Self::capacity). For an account of memory in bounded steps.
    ///
    /// # Complexity
    ///
    /// O(places).
    pub fn for_each_in(&self, places: Range<usize>, visit: impl FnMut(&str, &R)) {
        let places = places.start.min(self.entries.len())..places.end.min(self.entries.len());
        let mut visit = visit;
        for entry in self.entries[places].iter().flatten() {
            visit(&entry.text, &entry.value);
        }
    }

    /// The number of topics with an answer, current or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no answer.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The most topics that there can be answers for.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.entries.len()
    }
}

impl<R> fmt::Debug for MatchCache<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MatchCache")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
