//! The subscriptions of one thread: filter × subscriber → value, matched by topic.

use core::{fmt, ops::Range};

use crate::{
    Filter, Topic,
    index::Index,
    prefix::{Path, Prefixes},
    shape::{Place, Registry, ShapeKey, bits, verify},
    slab::Slab,
    subscribers::{Removal, Subscribers},
    text::Text,
    topic::View,
};

/// Names a filter of one [`TopicMap`] as long as the filter has a subscriber there.
///
/// When its last subscriber goes, the number may be given to another filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub u32);

/// What [`TopicMap::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inserted<V> {
    /// The filter's name in the map.
    pub filter: FilterId,
    /// The value that the subscriber had under this filter before.
    pub replaced: Option<V>,
    /// Whether the filter is new in the map.
    pub first: bool,
}

/// What [`TopicMap::remove`] took out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Removed<V> {
    /// The name that the filter has, or had if it is gone.
    pub filter: FilterId,
    /// The value of the subscription.
    pub value: V,
    /// Whether the filter is gone from the map.
    pub last: bool,
}

struct Entry<V> {
    text: Text,
    subscribers: Subscribers<V>,
}

const _: () = assert!(size_of::<Option<Entry<[u32; 2]>>>() == 48);

impl<V> Entry<V> {
    /// See [`verify`].
    #[inline(always)]
    fn is_of(
        &self,
        topic: &View<'_>,
        plus: impl Iterator<Item = usize>,
        len: usize,
        tail: bool,
    ) -> bool {
        verify(self.text.as_bytes(), topic, plus, len, tail)
    }
}

/// The subscriptions of one thread: each is a filter, a subscriber and a value.
///
/// A subscriber is a number of the caller's, small and dense if possible (an index of sessions).
/// Filters without wildcards are found by one probe of a hash table. Filters with wildcards are
/// found by one probe a *shape* (which levels are `+`, how many there are, whether `#` follows)
/// that fits the topic's number of levels; at most 64 shapes a length and 64 with `#` are probed.
/// Filters of further shapes live in a tree of prefixes that is walked along the topic, so that
/// nobody can make a match slow by inventing shapes.
///
/// # Complexity
///
/// A match: O(levels + live shapes + matches). Insert and remove: O(levels) for the filter, and
/// for the subscriber a binary search and the moving of at most 128 entries, also where a filter
/// has a million subscribers. Tables grow in segments: an insert moves at most 3,000 entries of 8
/// bytes, however many filters there are.
///
/// # Memory
///
/// With a value of at most 8 bytes, aligned to 4: 48 bytes a filter, which hold a text of up to 30
/// bytes too, 12 to 15 bytes of hash table, and a longer text once on the heap. The second
/// subscriber of a filter costs 48 bytes, further ones 12 to 24 each. A value aligned to 8 costs 8
/// bytes more. [`TopicMap::heap_bytes`] tells. Memory goes back as filters go.
///
/// # Examples
///
/// ```
/// use topicmap::{Filter, Limits, Topic, TopicMap};
///
/// let limits = Limits::default();
/// let mut map = TopicMap::new(limits.seed);
/// let filter = Filter::parse("home/+/light", &limits)?;
/// let inserted = map.insert(&filter, 3, 'x');
/// assert!(inserted.first);
/// assert_eq!(map.insert(&filter, 3, 'y').replaced, Some('x'));
/// assert_eq!(map.filter_text(inserted.filter), Some("home/+/light"));
/// assert!(map.remove(&filter, 3).unwrap().last);
/// # Ok::<(), topicmap::FilterError>(())
/// ```
pub struct TopicMap<V> {
    seed: u64,
    filters: Slab<Entry<V>>,
    /// Filters without wildcards and those of live shapes.
    index: Index,
    /// The others; their paths are in `prefixes`.
    overflow: Index,
    prefixes: Prefixes,
    shapes: Registry,
    /// Bound of the lists of live shapes.
    live_max: usize,
    subscriptions: usize,
}

impl<V> TopicMap<V> {
    /// An empty map; `seed` is the [`Limits::seed`](crate::Limits::seed) that topics and filters
    /// are parsed with. Allocates nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_shapes_max(seed, crate::shape::LIVE_MAX)
    }

    /// As [`TopicMap::new`], with another bound of how many shapes a match probes: at most
    /// `shapes_max` of each length, and as many that end in `#`. With 0 all filters with wildcards
    /// are found through the tree of prefixes.
    #[must_use]
    pub fn with_shapes_max(seed: u64, shapes_max: usize) -> Self {
        Self {
            seed,
            filters: Slab::new(),
            index: Index::new(),
            overflow: Index::new(),
            prefixes: Prefixes::default(),
            shapes: Registry::default(),
            live_max: shapes_max,
            subscriptions: 0,
        }
    }

    /// Adds a subscription, or replaces the value of the one that is there.
    ///
    /// # Panics
    ///
    /// At 2^32 − 512 filters.
    pub fn insert(&mut self, filter: &Filter<'_>, subscriber: u32, value: V) -> Inserted<V> {
        let filter = filter.under(self.seed);
        if let Some(id) = self.find(&filter) {
            let Some(entry) = self.filters.get_mut(id) else {
                unreachable!("the index names filters that are there");
            };
            let replaced = entry.subscribers.insert(subscriber, value);
            self.subscriptions += usize::from(replaced.is_none());
            return Inserted {
                filter: FilterId(id),
                replaced,
                first: false,
            };
        }
        let text = Text::new(filter.as_str());
        let subscribers = Subscribers::one(subscriber, value);
        let id = self.filters.insert(Entry { text, subscribers });
        if self.acquire(&filter) == Place::Live {
            self.index.insert(filter.hash(), id);
        } else {
            self.overflow.insert(filter.hash(), id);
            self.prefixes.insert(&filter);
        }
        self.subscriptions += 1;
        Inserted {
            filter: FilterId(id),
            replaced: None,
            first: true,
        }
    }

    /// Takes a subscription out; `None` when it isn't there.
    pub fn remove(&mut self, filter: &Filter<'_>, subscriber: u32) -> Option<Removed<V>> {
        let id = self.find(&filter.under(self.seed))?;
        self.remove_by_id(FilterId(id), subscriber)
    }

    /// Takes a subscription out; `None` when it isn't there.
    pub fn remove_by_id(&mut self, filter: FilterId, subscriber: u32) -> Option<Removed<V>> {
        let entry = self.filters.get_mut(filter.0)?;
        let value = match entry.subscribers.remove(subscriber) {
            Removal::Absent => return None,
            Removal::Taken(value) => {
                self.subscriptions -= 1;
                return Some(Removed {
                    filter,
                    value,
                    last: false,
                });
            }
            Removal::Last => {
                let entry = self.filters.remove(filter.0)?;
                self.forget(filter.0, entry.text.as_str());
                entry.subscribers.into_last()?
            }
        };
        self.subscriptions -= 1;
        Some(Removed {
            filter,
            value,
            last: true,
        })
    }

    /// The text of a filter.
    #[must_use]
    pub fn filter_text(&self, filter: FilterId) -> Option<&str> {
        self.filters.get(filter.0).map(|entry| entry.text.as_str())
    }

    /// The name of a filter that has subscribers.
    #[must_use]
    pub fn filter_id(&self, filter: &Filter<'_>) -> Option<FilterId> {
        self.find(&filter.under(self.seed)).map(FilterId)
    }

    /// The value of a subscription.
    #[must_use]
    pub fn get(&self, filter: FilterId, subscriber: u32) -> Option<&V> {
        self.filters.get(filter.0)?.subscribers.get(subscriber)
    }

    /// The value of a subscription, to change it.
    #[must_use]
    pub fn get_mut(&mut self, filter: FilterId, subscriber: u32) -> Option<&mut V> {
        self.filters
            .get_mut(filter.0)?
            .subscribers
            .get_mut(subscriber)
    }

    /// Calls `visit` once for each subscription whose filter matches `topic`.
    ///
    /// The subscribers of one filter come together and in rising order; the order of filters is
    /// not specified. A subscriber that several matching filters share is visited for each of
    /// them. Allocates nothing.
    #[inline]
    pub fn for_each_match(&self, topic: &Topic<'_>, mut visit: impl FnMut(FilterId, u32, &V)) {
        topic.with_view(self.seed, |view| {
            self.for_each_entry(&view, &mut |id, entry: &Entry<V>| {
                entry.subscribers.for_each(|subscriber, value| {
                    visit(FilterId(id), subscriber, value);
                });
            });
        });
    }

    /// The number of filters.
    #[must_use]
    pub const fn filter_count(&self) -> usize {
        self.filters.len()
    }

    /// The number of subscriptions.
    #[must_use]
    pub const fn subscription_count(&self) -> usize {
        self.subscriptions
    }

    /// The number of subscribers of a filter, 0 for one that is not there.
    #[must_use]
    pub fn subscriber_count(&self, filter: FilterId) -> usize {
        self.filters
            .get(filter.0)
            .map_or(0, |entry| entry.subscribers.len())
    }

    /// All subscriptions, filter by filter.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, V> {
        let all = self.filters.iter().flat_map(|(id, entry)| {
            let text = entry.text.as_str();
            entry
                .subscribers
                .iter()
                .map(move |(subscriber, value)| (FilterId(id), text, subscriber, value))
        });
        Iter(Box::new(all))
    }

    /// The heap that the map holds, in bytes, without the filters' texts, what the values own,
    /// and the allocator's own overhead.
    ///
    /// # Complexity
    ///
    /// O(filters): for inspection.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let mut bytes = self.table_bytes();
        for (_, entry) in self.filters.iter() {
            bytes += entry.subscribers.heap_bytes();
            bytes -= entry.text.bytes_in_place();
        }
        bytes
    }

    /// The heap of the map's tables, in bytes: [`heap_bytes`](Self::heap_bytes) without what each
    /// filter takes beside them, and with the texts in them.
    ///
    /// # Complexity
    ///
    /// O(filters / 512).
    #[must_use]
    pub fn table_bytes(&self) -> usize {
        self.filters.heap_bytes()
            + self.index.heap_bytes()
            + self.overflow.heap_bytes()
            + self.prefixes.heap_bytes()
    }

    /// What [`FilterId`]s are below, of the filters there are and those that were.
    #[must_use]
    pub fn ids_end(&self) -> u32 {
        self.filters.ids_end()
    }

    /// Calls `visit` with the size of each allocation that filters take beside the map's tables:
    /// long texts, and lists of several subscribers. For an account of memory in bounded steps;
    /// what values own is not in it.
    ///
    /// # Complexity
    ///
    /// O(ids), and one call for each 128 subscribers of a filter that has many.
    pub fn for_each_allocation(&self, ids: Range<u32>, mut visit: impl FnMut(usize)) {
        for entry in ids.filter_map(|id| self.filters.get(id)) {
            if entry.text.heap_bytes() > 0 {
                visit(entry.text.heap_bytes());
            }
            entry.subscribers.for_each_allocation(&mut visit);
        }
    }

    /// The filter with this text. It must be parsed under the map's seed.
    fn find(&self, filter: &Filter<'_>) -> Option<u32> {
        let live = filter.is_exact()
            || matches!(
                filter.shape().map(|key| self.shapes.place(key)),
                Some(Some(Place::Live))
            );
        let index = if live { &self.index } else { &self.overflow };
        index.find(filter.hash(), |id| {
            self.filters
                .get(id)
                .is_some_and(|entry| entry.text.as_bytes() == filter.as_str().as_bytes())
        })
    }

    /// Counts the filter's shape and says where the filter goes.
    fn acquire(&mut self, filter: &Filter<'_>) -> Place {
        if filter.is_exact() {
            return Place::Live;
        }
        match filter.shape() {
            Some(key) => self.shapes.acquire_up_to(key, self.seed, self.live_max).0,
            None => Place::Overflow,
        }
    }

    /// Takes a filter that is no longer in the slab out of the index.
    fn forget(&mut self, id: u32, text: &str) {
        let filter = Filter::trusted(text, self.seed);
        let key = if filter.is_exact() {
            None
        } else {
            filter.shape()
        };
        let place = match key {
            Some(key) => self.shapes.place(key).unwrap_or(Place::Overflow),
            None if filter.is_exact() => Place::Live,
            None => Place::Overflow,
        };
        let was_there = match place {
            Place::Live => self.index.remove(filter.hash(), id),
            Place::Overflow => {
                self.prefixes.remove(&filter);
                self.overflow.remove(filter.hash(), id)
            }
        };
        debug_assert!(was_there, "each filter is in its index");
        if let Some(key) = key {
            self.shapes.release(key, false);
        }
    }

    #[inline]
    fn for_each_entry<'m>(&'m self, topic: &View<'_>, visit: &mut impl FnMut(u32, &'m Entry<V>)) {
        // The topic itself is the filter without wildcards.
        let exact = ShapeKey {
            len: topic.level_count() as u16,
            plus: 0,
            tail: false,
        };
        let mut found = |key: &ShapeKey, hash: u64| {
            self.index.find(hash, |id| match self.filters.get(id) {
                Some(entry) if entry.is_of(topic, bits(key.plus), key.len.into(), key.tail) => {
                    visit(id, entry);
                    true
                }
                _ => false,
            });
        };
        let mut batch = Batch::new(&exact);
        batch.push(&self.index, &exact, topic.hash());
        self.shapes.live().for_each(topic, |key, hash| {
            if batch.push(&self.index, key, hash) {
                batch.flush(&mut found);
            }
        });
        batch.flush(&mut found);
        if self.prefixes.is_empty() {
            return;
        }
        let found = |hash: u64, path: &Path, len: usize, tail: bool| {
            self.overflow.find(hash, |id| match self.filters.get(id) {
                Some(entry) if entry.is_of(topic, path.positions(len), len, tail) => {
                    visit(id, entry);
                    true
                }
                _ => false,
            });
        };
        self.prefixes.walk(topic, self.seed, found);
    }
}

/// Shapes whose lines are loaded at a time.
const BATCH: usize = 8;

/// The probes of a match, a few at a time: all lines are asked for before the first answer decides
/// about a branch, so that their cache misses overlap.
struct Batch<'s> {
    probes: [(&'s ShapeKey, u64); BATCH],
    len: usize,
    /// A bit for each probe that the index may have something for.
    hits: u32,
}

impl<'s> Batch<'s> {
    /// An empty batch; `any` fills its places.
    #[inline(always)]
    const fn new(any: &'s ShapeKey) -> Self {
        Self {
            probes: [(any, 0); BATCH],
            len: 0,
            hits: 0,
        }
    }

    /// Adds a probe; `true` when the batch is full.
    #[inline(always)]
    fn push(&mut self, index: &Index, key: &'s ShapeKey, hash: u64) -> bool {
        self.probes[self.len % BATCH] = (key, hash);
        self.hits |= u32::from(index.may_hold(hash)) << self.len;
        self.len += 1;
        self.len == BATCH
    }

    /// Calls `found` for the probes that the index may hold, and empties the batch.
    #[inline(always)]
    fn flush(&mut self, found: &mut impl FnMut(&'s ShapeKey, u64)) {
        while self.hits != 0 {
            let (key, hash) = self.probes[self.hits.trailing_zeros() as usize % BATCH];
            found(key, hash);
            self.hits &= self.hits - 1;
        }
        self.len = 0;
    }
}

impl<V> fmt::Debug for TopicMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicMap")
            .field("filters", &self.filter_count())
            .field("subscriptions", &self.subscription_count())
            .finish_non_exhaustive()
    }
}

/// The iterator of [`TopicMap::iter`].
pub struct Iter<'m, V>(Box<dyn Iterator<Item = (FilterId, &'m str, u32, &'m V)> + 'm>);

impl<'m, V> Iterator for Iter<'m, V> {
    type Item = (FilterId, &'m str, u32, &'m V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}

impl<V> fmt::Debug for Iter<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}
