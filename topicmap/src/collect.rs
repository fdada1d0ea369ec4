//! From the matches of a topic to what is delivered: each subscriber once, in the order of slots.
//!
//! Matches come filter by filter, each filter's subscribers in rising order. One filter alone
//! needs no work. Few matches, and those of few filters, are sorted by merging: a sort that finds
//! the runs costs little more than a comparison a match for each doubling of the filters. Many
//! matches of many filters are *counted* into place: the slots are bits of
//! chunks, the chunks are ORed together by the filters, and the rank of a bit (a population count
//! in its word, a running sum before it) is the place of its subscriber. So the cost is linear in
//! the matches and in the chunks touched, and nothing is compared.

use core::fmt;

use crate::{FilterId, Topic, TopicMap, shape::bits};

/// Matches up to which a sort is quicker than bitmaps.
const SORT_MAX: usize = 48;
/// Rising runs, which is about filters, up to which it is however many matches there are.
const RUNS_MAX: usize = 32;
/// Words of a chunk.
const WORDS: usize = 64;
/// Slots of a chunk.
const CHUNK: usize = WORDS * 64;

/// The slots of one chunk that have a match.
struct Chunk {
    /// A bit for each word that is not zero.
    summary: u64,
    words: [u64; WORDS],
    /// How many slots with a match come before each word.
    ranks: [u32; WORDS],
}

impl Chunk {
    const EMPTY: Self = Self {
        summary: 0,
        words: [0; WORDS],
        ranks: [0; WORDS],
    };
}

/// A set of slots that knows the rank of each.
#[derive(Default)]
struct SlotSet {
    /// Chunks that were ever touched keep their memory, for the next use.
    chunks: Vec<Option<Box<Chunk>>>,
    /// The numbers of the chunks that hold a bit.
    touched: Vec<u32>,
}

impl SlotSet {
    #[inline]
    fn insert(&mut self, slot: u32) {
        let at = slot as usize / CHUNK;
        if self.chunks.len() <= at {
            self.chunks.resize_with(at + 1, || None);
        }
        let chunk = self.chunks[at].get_or_insert_with(|| Box::new(Chunk::EMPTY));
        if chunk.summary == 0 {
            self.touched.push(at as u32);
        }
        let (word, bit) = (slot as usize / 64 % WORDS, slot % 64);
        chunk.words[word] |= 1 << bit;
        chunk.summary |= 1 << word;
    }

    /// Counts the slots before each word; gives the number of all.
    fn rank(&mut self) -> usize {
        self.touched.sort_unstable();
        let mut before = 0;
        for at in &self.touched {
            let Some(Some(chunk)) = self.chunks.get_mut(*at as usize) else {
                continue;
            };
            for word in bits(chunk.summary) {
                chunk.ranks[word] = before;
                before += chunk.words[word].count_ones();
            }
        }
        before as usize
    }

    /// How many slots of the set are before `slot`, which is in the set.
    #[inline]
    fn place(&self, slot: u32) -> usize {
        let Some(Some(chunk)) = self.chunks.get(slot as usize / CHUNK) else {
            return 0;
        };
        let (word, bit) = (slot as usize / 64 % WORDS, slot % 64);
        let below = chunk.words[word] & ((1 << bit) - 1);
        (chunk.ranks[word] + below.count_ones()) as usize
    }

    fn clear(&mut self) {
        for at in self.touched.drain(..) {
            if let Some(Some(chunk)) = self.chunks.get_mut(at as usize) {
                for word in bits(chunk.summary) {
                    chunk.words[word] = 0;
                }
                chunk.summary = 0;
            }
        }
    }

    fn heap_bytes(&self) -> usize {
        let chunks = self.chunks.iter().flatten().count();
        chunks * size_of::<Chunk>()
            + self.chunks.capacity() * size_of::<Option<Box<Chunk>>>()
            + self.touched.capacity() * size_of::<u32>()
    }
}

/// Gathers matches and gives them back subscriber by subscriber, in the order of slots.
///
/// What several matching filters say about one subscriber comes together, in the order in which it
/// was pushed. [`Deliveries`](crate::Deliveries) makes MQTT's answer of it.
///
/// # Complexity
///
/// O(n) for n matches, and 4,096 slots at a time for what they are spread over; nothing more than
/// the copy if the slots come in rising order, as those of a single filter do.
///
/// # Memory
///
/// Keeps its scratch space for the next use: the matches twice, and for matches of more than 32
/// filters about 780 bytes for each 4,096 slots that ever had one. So slots should be small
/// numbers: one match with slot `u32::MAX` costs a list of 8 MiB. [`Collector::shrink`] gives all
/// back.
///
/// # Examples
///
/// ```
/// use topicmap::{Collector, Filter, Limits, Topic, TopicMap};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits::default();
/// let mut map = TopicMap::new(limits.seed);
/// map.insert(&Filter::parse("a/+", &limits)?, 9, 'p');
/// map.insert(&Filter::parse("a/b", &limits)?, 9, 'x');
/// map.insert(&Filter::parse("a/b", &limits)?, 4, 'y');
///
/// let mut collector = Collector::new();
/// collector.collect(&map, &Topic::parse("a/b", &limits)?);
/// let slots: Vec<_> = collector.groups().map(|group| (group[0].0, group.len())).collect();
/// assert_eq!(slots, [(4, 1), (9, 2)]);
/// # Ok(())
/// # }
/// ```
pub struct Collector<V> {
    /// The matches as they came, or in order.
    matches: Vec<(u32, V)>,
    sorted: Vec<(u32, V)>,
    /// How often a match had a lower slot than the one before.
    descents: usize,
    slots: SlotSet,
    /// Where the matches of the slot of each rank begin.
    starts: Vec<u32>,
}

impl<V: Copy> Collector<V> {
    /// An empty one; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            matches: Vec::new(),
            sorted: Vec::new(),
            descents: 0,
            slots: SlotSet::default(),
            starts: Vec::new(),
        }
    }

    /// Forgets all matches, but keeps the memory.
    pub fn clear(&mut self) {
        self.matches.clear();
        self.descents = 0;
    }

    /// Gives the memory back, and forgets all matches.
    pub fn shrink(&mut self) {
        *self = Self::new();
    }

    /// Adds one match.
    #[inline]
    pub fn push(&mut self, slot: u32, value: V) {
        if let Some((last, _)) = self.matches.last() {
            self.descents += usize::from(*last > slot);
        }
        self.matches.push((slot, value));
    }

    /// Forgets what was gathered before and takes the matches of `topic`.
    ///
    /// # Panics
    ///
    /// At 2^32 matches.
    pub fn collect(&mut self, map: &TopicMap<V>, topic: &Topic<'_>) {
        self.collect_if(map, topic, |_, _, _| true);
    }

    /// As [`Collector::collect`], with the matches only that `keep` accepts.
    ///
    /// # Panics
    ///
    /// At 2^32 matches.
    pub fn collect_if(
        &mut self,
        map: &TopicMap<V>,
        topic: &Topic<'_>,
        mut keep: impl FnMut(FilterId, u32, &V) -> bool,
    ) {
        self.clear();
        map.for_each_match(topic, |filter, slot, value| {
            if keep(filter, slot, value) {
                self.push(slot, *value);
            }
        });
        self.order();
    }

    /// The number of matches, overlaps counted as often as they come.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.matches.len()
    }

    /// Whether there is no match.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.matches.is_empty()
    }

    /// The matches of one subscriber after the other, in rising order of slots; no group is empty.
    ///
    /// # Panics
    ///
    /// At 2^32 matches.
    pub fn groups(&mut self) -> impl Iterator<Item = &[(u32, V)]> {
        self.order();
        self.matches.chunk_by(|one, other| one.0 == other.0)
    }

    /// The heap that the collector keeps, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        (self.matches.capacity() + self.sorted.capacity()) * size_of::<(u32, V)>()
            + self.starts.capacity() * size_of::<u32>()
            + self.slots.heap_bytes()
    }

    /// Brings the matches into the order of slots; those of one slot keep theirs.
    fn order(&mut self) {
        if self.descents == 0 {
            return;
        }
        if self.matches.len() <= SORT_MAX || self.descents < RUNS_MAX {
            self.matches.sort_by_key(|(slot, _)| *slot);
        } else {
            self.count_into_place();
        }
        self.descents = 0;
    }

    fn count_into_place(&mut self) {
        assert!(
            u32::try_from(self.matches.len()).is_ok(),
            "too many matches"
        );
        for (slot, _) in &self.matches {
            self.slots.insert(*slot);
        }
        let unique = self.slots.rank();
        self.starts.clear();
        self.starts.resize(unique + 1, 0);
        for (slot, _) in &self.matches {
            self.starts[self.slots.place(*slot) + 1] += 1;
        }
        let mut before = 0;
        for start in &mut self.starts {
            before += *start;
            *start = before;
        }
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.matches);
        for entry in &self.matches {
            let start = &mut self.starts[self.slots.place(entry.0)];
            self.sorted[*start as usize] = *entry;
            *start += 1;
        }
        core::mem::swap(&mut self.matches, &mut self.sorted);
        self.slots.clear();
    }
}

impl<V: Copy> Default for Collector<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for Collector<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("len", &self.matches.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_matches_come_in_the_order_of_a_stable_sort() {
        let mut state = 0x1234_5678_9ABC_DEF1_u64;
        let mut next = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 20) % bound
        };
        let mut collector = Collector::new();
        for (range, count) in [
            (10, 30),
            (10, 500),
            (3000, 2000),
            (9_000_000, 3000),
            (64, 49),
        ] {
            collector.clear();
            let mut plain = Vec::new();
            for n in 0..count {
                let slot = next(range) as u32;
                collector.push(slot, n);
                plain.push((slot, n));
            }
            plain.sort_by_key(|(slot, _)| *slot);
            let found: Vec<_> = collector.groups().flatten().copied().collect();
            assert_eq!(found, plain);
            let mut last = None;
            for group in collector.groups() {
                assert!(group.iter().all(|(slot, _)| *slot == group[0].0));
                assert!(last < Some(group[0].0));
                last = Some(group[0].0);
            }
            assert_eq!(collector.len(), count);
        }
        assert!(collector.heap_bytes() < 3 << 20);
        collector.shrink();
        assert_eq!((collector.heap_bytes(), collector.is_empty()), (0, true));
    }
}
