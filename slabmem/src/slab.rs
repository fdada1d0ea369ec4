//! The slab: items by key.
#![forbid(unsafe_code)]

use core::fmt;

use crate::masks::Masks;
use crate::raw::{SLOTS, Store, bits};
use crate::{Full, Iter, IterMut, Key, Stats};

mod hot;
mod room;

use hot::{HOT_MAX, Hot};
use room::Group;

/// A collection of items that stay where they are, found by keys that never resolve to a stranger.
///
/// Items live in chunks of 64 slots inside mapped segments. Nothing is ever moved or copied when
/// the slab grows, so the millionth insertion costs what the first did (but for the masks: 24 bytes
/// for 64 items in a `Vec`). An insertion takes the slot that was left last, whose memory is still
/// in the cache, else the lowest chunk that has room. Of the slots that are left, the last 128 at
/// most are kept for that, and only those in the front of the slab: the first one and a quarter
/// times as many as there are items, and half a megabyte. So a slab that was large for a while
/// draws back to its front; chunks that run empty are given back to the operating system in
/// batches, beyond a reserve of a sixteenth of the mapped chunks and half a megabyte, so that a
/// slab at the edge of a chunk does not flutter.
///
/// The first item maps a segment, of which only the pages that are touched take memory. A slab is
/// meant for the large tables of a server and less for many tiny collections: it is itself a
/// kilobyte.
///
/// An item and its generation, 4 bytes, lie side by side in a slot, which begins where the item's
/// alignment wants it: 60 bytes of an alignment of 4, or 56 of 8, make a slot of a cache line.
/// Another 3 bits a slot are in the masks. Items may be aligned up to 4,096 bytes.
///
/// # Generations
/// A slot takes up to 2³¹ items one after the other; then it retires, so that no key is ever made
/// twice. When a chunk is given back, the highest generation in it is kept and becomes the base of
/// all its slots when it is mapped again; a chunk with a retired slot is not mapped again.
/// [`Stats::retired`] counts them.
///
/// # Examples
/// ```
/// use slabmem::Slab;
///
/// let mut slab = Slab::with_limit(1_000);
/// let key = slab.insert("alice").unwrap();
/// assert_eq!(slab.get(key), Some(&"alice"));
/// assert_eq!(slab.remove(key), Some("alice"));
///
/// let other = slab.insert("bob").unwrap();
/// assert_eq!(other.index(), key.index());
/// assert_eq!(slab.get(key), None);
/// ```
pub struct Slab<T> {
    store: Store<T>,
    /// Slots that are in no mask: an item lives there, or they are on the stack. Not above `limit`,
    /// so an insertion that finds a slot on the stack need not look whether it may.
    reserved: u32,
    limit: u32,
    /// The lowest chunk with room, or the number of chunks where none has.
    open: u32,
    mapped: u32,
    empty: u32,
    retired: u64,
    groups: Vec<Group>,
    /// A bit a group: set where a chunk of the group has room.
    summary: Vec<u64>,
    /// Slots from this index on do not go on the stack.
    front: u32,
    /// The slots of the next items: no more than there may be.
    hot: Hot,
}

impl<T> Slab<T> {
    /// Empty chunks kept, beyond a share of the mapped ones; also how many go at once.
    const RESERVE: u32 = {
        let chunks = (512 << 10) / Store::<T>::CHUNK_BYTES;
        if chunks == 0 {
            1
        } else if chunks > 64 {
            64
        } else {
            chunks as u32
        }
    };

    /// Slots kept for the next items: each may keep its chunk from being given back.
    const HOT: usize = {
        let chunks = (1 << 20) / Store::<T>::CHUNK_BYTES;
        if chunks < 2 {
            2
        } else if chunks > HOT_MAX {
            HOT_MAX
        } else {
            chunks
        }
    };

    /// Makes an empty slab whose only limits are 2³² − 1 items and the machine's memory. Allocates
    /// nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(u32::MAX)
    }

    /// Makes an empty slab for at most `max_items` items at a time. Allocates nothing.
    #[must_use]
    pub const fn with_limit(max_items: u32) -> Self {
        Self {
            store: Store::new(),
            reserved: 0,
            limit: max_items,
            open: 0,
            mapped: 0,
            empty: 0,
            retired: 0,
            groups: Vec::new(),
            summary: Vec::new(),
            front: 0,
            hot: Hot::new(),
        }
    }

    /// Allows more items than before; with fewer than now are allowed it changes nothing.
    pub const fn raise_limit(&mut self, max_items: u32) {
        if max_items > self.limit {
            self.limit = max_items;
        }
    }

    /// Moves an item in and returns its key.
    ///
    /// # Errors
    /// [`Full`] gives the item back where the limit is reached or the system gives no memory.
    ///
    /// # Complexity
    /// O(1): mostly a key from the stack of slots that were left last; else counts of trailing
    /// zeros that find the next. Every 64 items of growth touch fresh pages, and a few thousand map
    /// a segment.
    // Where it is not inlined, the item goes through memory twice.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<Key, Full<T>> {
        let slot = match self.hot.pop() {
            Some(slot) => slot,
            None => match self.reserve() {
                Some(slot) => slot,
                None => return Err(Full(value)),
            },
        };
        Ok(self.store.fill(slot, value).0)
    }

    /// Finds the place of the next item, so that the item can hold its own key.
    ///
    /// `None` where [`insert`](Self::insert) would fail. An entry that is dropped unused changes
    /// nothing.
    #[inline]
    pub fn vacant_entry(&mut self) -> Option<VacantEntry<'_, T>> {
        let slot = self.hot.pop().or_else(|| self.reserve())?;
        self.hot.push(slot);
        let key = self.store.next_key(slot)?;
        Some(VacantEntry { slab: self, key })
    }

    /// Moves the item out. `None` for a stale key.
    ///
    /// # Complexity
    /// O(1). One removal in 64 that are not followed by insertions enters 64 slots into the masks,
    /// and one in a few thousand gives chunks back to the system, at most 64 at a time.
    #[inline(always)]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (value, is_retired) = self.store.take(key)?;
        let slot = key.index();
        if slot < self.front && self.hot.len() < Self::HOT && !is_retired {
            self.hot.push(slot);
        } else {
            self.note_removal(slot, is_retired);
        }
        Some(value)
    }

    /// Returns the item. `None` for a stale key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.store.item(key)
    }

    /// Returns the item, to be changed. `None` for a stale key.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        self.store.item_mut(key)
    }

    /// Returns whether the key's item is still there.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// Returns two items at once, to be changed. `None` where the keys are equal or one is stale.
    #[inline]
    pub fn get2_mut(&mut self, a: Key, b: Key) -> Option<(&mut T, &mut T)> {
        self.store.pair_mut(a, b)
    }

    /// Returns the key of the item that lives at a slot index.
    #[inline]
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        Key::new(index, self.store.generation(index)?)
    }

    /// Returns the item that lives at a slot index, whatever its generation.
    #[inline]
    #[must_use]
    pub fn get_at(&self, index: u32) -> Option<&T> {
        self.store.item(self.key_at(index)?)
    }

    /// Returns the item that lives at a slot index, whatever its generation, to be changed.
    #[inline]
    pub fn get_at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.store.item_mut(self.key_at(index)?)
    }

    /// Returns how many items there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.reserved as usize - self.hot.len()
    }

    /// Returns whether there are no items.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many items there may be at a time.
    #[inline]
    #[must_use]
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// Returns the state of the storage. Costs nothing to keep.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            live: self.len() as u32,
            limit: self.limit,
            chunks: self.store.chunks().len() as u32,
            mapped_chunks: self.mapped,
            empty_chunks: self.empty,
            mapped_bytes: self.mapped as usize * Store::<T>::CHUNK_BYTES,
            retired: self.retired,
        }
    }

    /// Returns all items with their keys, in the order of their indexes.
    ///
    /// # Complexity
    /// Linear in items and chunks; vacant slots are skipped 64 at a time.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(&self.store, self.len())
    }

    /// Returns all items with their keys, to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        let left = self.len();
        IterMut::new(self.store.chunks_mut(), left)
    }

    /// Removes the items for which `keep` returns false. Items are visited in the order of their
    /// indexes.
    pub fn retain(&mut self, mut keep: impl FnMut(Key, &mut T) -> bool) {
        for chunk in 0..self.store.chunks().len() {
            let live = self.store.chunk(chunk).map_or(0, Masks::live);
            for slot in bits(live) {
                // A slot may be reserved for an item to come.
                let Some(key) = self.key_at((chunk * SLOTS + slot) as u32) else {
                    continue;
                };
                if self.get_mut(key).is_some_and(|item| !keep(key, item)) {
                    drop(self.remove(key));
                }
            }
        }
    }

    /// Removes all items and gives the memory back. Keys of the removed items stay stale for ever.
    pub fn clear(&mut self) {
        self.retain(|_, _| false);
        self.trim();
    }

    /// Gives all chunks without items back to the system, also the reserve.
    ///
    /// # Complexity
    /// Linear in the directory, and up to one system call an empty chunk.
    pub fn trim(&mut self) {
        self.cool(self.hot.len());
        while self.empty > 0 {
            self.sweep(u32::MAX);
        }
    }
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Slab<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slab")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl<'a, T> IntoIterator for &'a Slab<T> {
    type Item = (Key, &'a T);
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut Slab<T> {
    type Item = (Key, &'a mut T);
    type IntoIter = IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

/// A place in a slab whose key is known before the item.
#[must_use = "an entry that is dropped leaves the slab as it was"]
pub struct VacantEntry<'a, T> {
    slab: &'a mut Slab<T>,
    key: Key,
}

impl<'a, T> VacantEntry<'a, T> {
    /// Returns the key that the item will have. Where the entry is dropped unused, the next item
    /// gets it.
    #[must_use]
    pub fn key(&self) -> Key {
        self.key
    }

    /// Moves the item in.
    #[inline]
    pub fn insert(self, value: T) -> &'a mut T {
        self.slab.hot.pop();
        self.slab.store.fill(self.key.index(), value).1
    }
}

impl<T> fmt::Debug for VacantEntry<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VacantEntry")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
