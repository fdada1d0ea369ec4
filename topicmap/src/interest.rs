//! Which shards have any subscription that matches: one table for all threads.
//!
//! # How readers and writers meet
//!
//! Writers take a mutex and change the table's atomics in place. A table that is full, or a list
//! of shapes that changes, is replaced as a whole: the new snapshot is stored under a second mutex
//! that is held for the copy of a pointer only, then `version` is raised (Release). A reader keeps
//! a snapshot of its own and loads `version` (Acquire) at the start of each match; only when it
//! moved does the reader take the second mutex and copy the pointer. So a match in steady state is
//! loads only: no lock, no fence, no store. The last reader that lets go of an old snapshot frees
//! it.
//!
//! *A change that happened before a match is seen by it*: what the writer did before `add`
//! returned, the raise of `version` and the bit alike, happens before the match's loads, and a
//! load never reads a value older than one that happens before it. The same holds when the order
//! is given by `SeqCst` fences on both sides.

use std::collections::BTreeMap;

use crossbeam_utils::CachePadded;

use crate::{
    Filter, Topic,
    hash::level_hash,
    shape::{Place, Registry, ShapeKey, Shapes},
    sync::{Arc, AtomicU64, Mutex, Ordering, StdArc, lock},
};

#[cfg(not(loom))]
const BUCKETS_MIN: usize = 64;
/// Models must reach growth in few steps.
#[cfg(loom)]
const BUCKETS_MIN: usize = 2;

/// The key of an empty bucket. A hash of 0 is taken for 1.
const VACANT: u64 = 0;
/// The key under which bits of the catch-all mask are counted.
const CATCH_ALL: u64 = 0;
const FIRST_LEVEL: ShapeKey = ShapeKey {
    len: 1,
    plus: 0,
    tail: true,
};

#[derive(Debug)]
struct Bucket<const WORDS: usize> {
    key: AtomicU64,
    mask: Mask<WORDS>,
}

/// A mask whose words change one by one: each bit is a fact of its own.
#[derive(Debug)]
struct Mask<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Mask<WORDS> {
    fn new() -> Self {
        Self(core::array::from_fn(|_| AtomicU64::new(0)))
    }

    #[inline]
    fn or_into(&self, mask: &mut [u64; WORDS]) {
        for (to, from) in mask.iter_mut().zip(&self.0) {
            *to |= from.load(Ordering::Acquire);
        }
    }

    /// Whether there is any bit. For the writer, who holds its mutex.
    fn is_empty(&self) -> bool {
        self.0.iter().all(|word| word.load(Ordering::Relaxed) == 0)
    }

    fn has(&self, shard: u8) -> bool {
        let (word, bit) = place(shard);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Sets a bit; `true` when it was set already.
    fn set(&self, shard: u8) -> bool {
        let (word, bit) = place(shard);
        self.0[word].fetch_or(bit, Ordering::Release) & bit != 0
    }

    fn unset(&self, shard: u8) {
        let (word, bit) = place(shard);
        self.0[word].fetch_and(!bit, Ordering::Release);
    }

    /// Copies a mask that nobody else looks at into one that nobody looks at yet.
    fn copy(&self, from: &Self) {
        for (to, from) in self.0.iter().zip(&from.0) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// The word and the bit of a shard.
const fn place(shard: u8) -> (usize, u64) {
    (shard as usize / 64, 1 << (shard % 64))
}

/// Open addressing with linear probing; keys come and never go.
#[derive(Debug)]
struct Table<const WORDS: usize> {
    buckets: Box<[Bucket<WORDS>]>,
}

impl<const WORDS: usize> Table<WORDS> {
    fn with_buckets(count: usize) -> Self {
        debug_assert!(count.is_power_of_two());
        let bucket = |_| Bucket {
            key: AtomicU64::new(VACANT),
            mask: Mask::new(),
        };
        Self {
            buckets: (0..count).map(bucket).collect(),
        }
    }

    /// The bucket with this key, or the vacant one where it would be. There is always one.
    #[inline]
    fn bucket(&self, key: u64) -> (&Bucket<WORDS>, bool) {
        let last = self.buckets.len() - 1;
        let mut at = (key >> 32) as usize & last;
        loop {
            let bucket = &self.buckets[at];
            let found = bucket.key.load(Ordering::Acquire);
            if found == key || found == VACANT {
                return (bucket, found == key);
            }
            at = (at + 1) & last;
        }
    }

    /// Adds the bits under this key to `mask`.
    #[inline]
    fn or_into(&self, key: u64, mask: &mut [u64; WORDS]) {
        let (bucket, found) = self.bucket(key);
        if found {
            bucket.mask.or_into(mask);
        }
    }
}

#[derive(Debug)]
struct Snapshot<const WORDS: usize> {
    table: Arc<Table<WORDS>>,
    shapes: Shapes,
}

#[derive(Debug)]
struct Writer<const WORDS: usize> {
    snapshot: Arc<Snapshot<WORDS>>,
    /// Buckets with a key.
    used: usize,
    /// Buckets with a bit in the mask.
    live: usize,
    /// How often a bit is wanted beyond once, by key and shard.
    more: BTreeMap<(u64, u8), u32>,
    shapes: Registry,
}

/// For all threads: filter → mask of the shards that have it.
///
/// A mask has `WORDS` words of 64 bits, 1 unless told otherwise and at most 4: 256 shards or nodes.
///
/// Filters without wildcards are keyed by their 64-bit hash alone, so two of them that share a
/// hash share a mask. Filters with wildcards are keyed the same way and looked for by shape (see
/// [`TopicMap`](crate::TopicMap)); beyond 64 shapes a length and 64 with `#`, a filter is taken
/// for `FIRST/#` if its first level is literal, and for one that matches everything if not. So
/// a mask may have bits too many, never too few, and the work of a match is bounded.
///
/// # Concurrency
///
/// [`add`](Self::add) and [`remove`](Self::remove) take a mutex. [`InterestReader::mask`] takes
/// none unless the table was replaced since the reader's last call (each time its size doubles or
/// halves, and when a new shape comes up); then it locks for the copy of one pointer. A change
/// that happened before a match (by a message, a lock, or a pair of `SeqCst` fences) is seen by it.
///
/// # Memory
///
/// 8 bytes and the mask (8 bytes a word) a bucket, at most 3/4 of them in use. A reader that makes
/// no match keeps the table of its last one; [`InterestReader::refresh`] lets go of it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use topicmap::{Filter, InterestMap, Limits, Topic};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits::default();
/// let map = Arc::new(InterestMap::new(limits.seed));
/// map.add(&Filter::parse("a/+", &limits)?, 5);
///
/// let mut reader = map.reader();
/// let mut mask = reader.mask(&Topic::parse("a/b", &limits)?);
/// assert_eq!(mask, 1 << 5);
/// while mask != 0 {
///     let shard = mask.trailing_zeros();
///     assert_eq!(shard, 5);
///     mask &= mask - 1;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct InterestMap<const WORDS: usize = 1> {
    seed: u64,
    shared: CachePadded<Shared<WORDS>>,
    /// The newest snapshot; held for the copy of the pointer only.
    current: Mutex<Arc<Snapshot<WORDS>>>,
    writer: Mutex<Writer<WORDS>>,
}

/// What every match reads.
#[derive(Debug)]
struct Shared<const WORDS: usize> {
    version: AtomicU64,
    catch_all: Mask<WORDS>,
}

impl InterestMap {
    /// An empty map with masks of 64 bits; `seed` is the [`Limits::seed`](crate::Limits::seed)
    /// that topics and filters are parsed with.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_words(seed)
    }
}

impl<const WORDS: usize> InterestMap<WORDS> {
    /// As [`InterestMap::new`], with masks of `WORDS` words. No words and more than 4 don't
    /// compile.
    ///
    /// ```
    /// use topicmap::{Filter, InterestMap, Limits, Topic};
    ///
    /// let limits = Limits::default();
    /// let map = std::sync::Arc::new(InterestMap::<2>::with_words(limits.seed));
    /// map.add(&Filter::parse("a/+", &limits).unwrap(), 70);
    /// let topic = Topic::parse("a/b", &limits).unwrap();
    /// assert_eq!(map.reader().mask_words(&topic), [0, 1 << 6]);
    /// ```
    #[must_use]
    pub fn with_words(seed: u64) -> Self {
        const { assert!(WORDS > 0 && WORDS <= 4, "a mask has 1 to 4 words") };
        let table = Arc::new(Table::with_buckets(BUCKETS_MIN));
        let snapshot = Arc::new(Snapshot {
            table,
            shapes: Shapes::default(),
        });
        let writer = Writer {
            snapshot: Arc::clone(&snapshot),
            used: 0,
            live: 0,
            more: BTreeMap::new(),
            shapes: Registry::default(),
        };
        let shared = Shared {
            version: AtomicU64::new(0),
            catch_all: Mask::new(),
        };
        Self {
            seed,
            shared: CachePadded::new(shared),
            current: Mutex::new(snapshot),
            writer: Mutex::new(writer),
        }
    }

    /// The heap that the map holds, in bytes, but for shapes: the table, and about what it takes to
    /// remember what was added more than once. A table that only a reader still holds is not in it.
    ///
    /// # Complexity
    ///
    /// O(1). Takes the mutex of [`add`](Self::add).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let writer = lock(&self.writer);
        // A B-tree's nodes are about two thirds full.
        size_of_val(&*writer.snapshot.table.buckets)
            + writer.more.len() * size_of::<((u64, u8), u32)>() * 3 / 2
    }

    /// Sets the bit of `shard` for the topics that `filter` matches.
    ///
    /// Bits are counted: what was added twice must be removed twice.
    ///
    /// # Panics
    ///
    /// When the mask has no bit for `shard`: with the default of one word, at 64 or more.
    pub fn add(&self, filter: &Filter<'_>, shard: u8) {
        assert!(usize::from(shard) < WORDS * 64, "the mask has no such bit");
        let filter = filter.under(self.seed);
        let mut writer = lock(&self.writer);
        let (key, changed) = writer.acquire(&filter);
        if changed {
            let table = Arc::clone(&writer.snapshot.table);
            self.publish(&mut writer, table);
        }
        if key == CATCH_ALL {
            let again = self.shared.catch_all.set(shard);
            writer.count(key, shard, again);
            return;
        }
        let table = Arc::clone(&writer.snapshot.table);
        let (bucket, found) = table.bucket(key);
        if found {
            writer.live += usize::from(bucket.mask.is_empty());
            let again = bucket.mask.set(shard);
            writer.count(key, shard, again);
            return;
        }
        self.make_room(&mut writer);
        let (bucket, _) = writer.snapshot.table.bucket(key);
        bucket.mask.set(shard);
        bucket.key.store(key, Ordering::Release);
        writer.used += 1;
        writer.live += 1;
    }

    /// Takes back one [`add`](Self::add) of the same filter and shard.
    ///
    /// There must have been one: filters that share a hash or a fall-back can't be told apart, so
    /// a surplus removal may take another filter's bit.
    ///
    /// # Panics
    ///
    /// When the mask has no bit for `shard`: with the default of one word, at 64 or more.
    pub fn remove(&self, filter: &Filter<'_>, shard: u8) {
        assert!(usize::from(shard) < WORDS * 64, "the mask has no such bit");
        let filter = filter.under(self.seed);
        let mut writer = lock(&self.writer);
        let Some(key) = writer.key(&filter) else {
            return;
        };
        let table = Arc::clone(&writer.snapshot.table);
        let mask = if key == CATCH_ALL {
            &self.shared.catch_all
        } else {
            let (bucket, found) = table.bucket(key);
            if !found {
                return;
            }
            &bucket.mask
        };
        if !mask.has(shard) {
            return;
        }
        if writer.is_last(key, shard) {
            mask.unset(shard);
            let gone = key != CATCH_ALL && mask.is_empty();
            writer.live -= usize::from(gone);
        }
        writer.release(&filter);
        let buckets = table.buckets.len();
        if buckets > BUCKETS_MIN && writer.live * 8 < buckets {
            self.rebuild(&mut writer);
        }
    }

    /// A reader for one thread.
    #[must_use]
    pub fn reader(self: &StdArc<Self>) -> InterestReader<WORDS> {
        let version = self.shared.version.load(Ordering::Acquire);
        let snapshot = Arc::clone(&lock(&self.current));
        InterestReader {
            map: StdArc::clone(self),
            snapshot,
            version,
        }
    }

    /// Rebuilds the table when one more key would overfill it.
    fn make_room(&self, writer: &mut Writer<WORDS>) {
        if (writer.used + 1) * 4 > writer.snapshot.table.buckets.len() * 3 {
            self.rebuild(writer);
        }
    }

    /// Replaces the table by one that fits the keys in use.
    fn rebuild(&self, writer: &mut Writer<WORDS>) {
        let count = ((writer.live + 1) * 2).next_power_of_two().max(BUCKETS_MIN);
        let table = Table::with_buckets(count);
        for old in &writer.snapshot.table.buckets {
            if !old.mask.is_empty() {
                let key = old.key.load(Ordering::Relaxed);
                let (bucket, _) = table.bucket(key);
                bucket.mask.copy(&old.mask);
                bucket.key.store(key, Ordering::Relaxed);
            }
        }
        writer.used = writer.live;
        writer.shapes.prune();
        self.publish(writer, Arc::new(table));
    }

    /// Makes a new snapshot the current one.
    fn publish(&self, writer: &mut Writer<WORDS>, table: Arc<Table<WORDS>>) {
        let shapes = writer.shapes.live().clone();
        writer.snapshot = Arc::new(Snapshot { table, shapes });
        *lock(&self.current) = Arc::clone(&writer.snapshot);
        self.shared.version.fetch_add(1, Ordering::Release);
    }
}

impl<const WORDS: usize> Writer<WORDS> {
    /// Where a filter's bits are, and whether the list of shapes changed.
    fn acquire(&mut self, filter: &Filter<'_>) -> (u64, bool) {
        if filter.is_exact() {
            return (filter.hash().max(1), false);
        }
        let (place, mut changed) = match filter.shape() {
            Some(key) => self.shapes.acquire(key, filter.seed()),
            None => (Place::Overflow, false),
        };
        if place == Place::Live {
            return (filter.hash().max(1), changed);
        }
        if filter.is_first_wild() {
            return (CATCH_ALL, changed);
        }
        changed |= self
            .shapes
            .acquire_up_to(FIRST_LEVEL, filter.seed(), usize::MAX)
            .1;
        (first_level_key(filter), changed)
    }

    /// Where a filter's bits are, if its shape is known.
    fn key(&self, filter: &Filter<'_>) -> Option<u64> {
        if filter.is_exact() {
            return Some(filter.hash().max(1));
        }
        let place = match filter.shape() {
            Some(key) => self.shapes.place(key)?,
            None => Place::Overflow,
        };
        match place {
            Place::Live => Some(filter.hash().max(1)),
            Place::Overflow if filter.is_first_wild() => Some(CATCH_ALL),
            Place::Overflow => Some(first_level_key(filter)),
        }
    }

    /// Takes back what `acquire` counted. Shapes stay listed until the next rebuild, so that one
    /// that comes and goes does not make every reader refresh.
    fn release(&mut self, filter: &Filter<'_>) {
        if filter.is_exact() {
            return;
        }
        let place = filter.shape().map_or(Place::Overflow, |key| {
            let place = self.shapes.place(key).unwrap_or(Place::Overflow);
            self.shapes.release(key, true);
            place
        });
        if place == Place::Overflow && !filter.is_first_wild() {
            self.shapes.release(FIRST_LEVEL, true);
        }
    }

    /// Counts a bit that was set already when it was set again.
    fn count(&mut self, key: u64, shard: u8, again: bool) {
        if again {
            *self.more.entry((key, shard)).or_insert(0) += 1;
        }
    }

    /// Counts a bit less; `true` when nobody wants it any more.
    fn is_last(&mut self, key: u64, shard: u8) -> bool {
        let Some(count) = self.more.get_mut(&(key, shard)) else {
            return true;
        };
        *count -= 1;
        if *count == 0 {
            self.more.remove(&(key, shard));
        }
        false
    }
}

/// The key of `FIRST/#` for a filter's first level.
fn first_level_key(filter: &Filter<'_>) -> u64 {
    filter
        .first_hash()
        .wrapping_add(level_hash(filter.seed(), 1, b"#"))
        .max(1)
}

/// A thread's view of an [`InterestMap`].
#[derive(Debug)]
pub struct InterestReader<const WORDS: usize = 1> {
    map: StdArc<InterestMap<WORDS>>,
    snapshot: Arc<Snapshot<WORDS>>,
    version: u64,
}

impl InterestReader {
    /// The shards that have a filter that matches `topic`, and perhaps some that have none.
    ///
    /// # Complexity
    ///
    /// One probe, and one a live shape that fits the topic: at most 129. Allocates nothing.
    #[inline]
    pub fn mask(&mut self, topic: &Topic<'_>) -> u64 {
        let [mask] = self.mask_words(topic);
        mask
    }
}

impl<const WORDS: usize> InterestReader<WORDS> {
    /// As [`InterestReader::mask`], for masks of any number of words: shard `n` is bit `n % 64` of
    /// word `n / 64`.
    #[inline]
    pub fn mask_words(&mut self, topic: &Topic<'_>) -> [u64; WORDS] {
        self.refresh();
        let Snapshot { table, shapes } = &*self.snapshot;
        let mut mask = [0; WORDS];
        self.map.shared.catch_all.or_into(&mut mask);
        topic.with_view(self.map.seed, |view| {
            table.or_into(view.hash().max(1), &mut mask);
            shapes.for_each(&view, |_, hash| table.or_into(hash.max(1), &mut mask));
        });
        mask
    }

    /// Takes up the newest table, and so lets go of an old one.
    #[inline]
    pub fn refresh(&mut self) {
        let version = self.map.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.replace(version);
        }
    }

    #[cold]
    fn replace(&mut self, version: u64) {
        self.snapshot = Arc::clone(&lock(&self.map.current));
        self.version = version;
    }
}

impl<const WORDS: usize> Clone for InterestReader<WORDS> {
    fn clone(&self) -> Self {
        self.map.reader()
    }
}
