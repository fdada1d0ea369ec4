//! The slab: which chunk has room, which may go, and who may look up what.
#![forbid(unsafe_code)]

use core::fmt;

use crate::raw::{Entry, SLOTS, Store, bits};
use crate::{Full, Iter, IterMut, Key, Stats};

/// The number of chunks that 32-bit indexes reach.
const CHUNKS_MAX: usize = 1 << 26;

/// What is known of 64 chunks.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Chunks with a free slot, mapped or not.
    room: u64,
    mapped: u64,
    /// Mapped chunks without an item.
    empty: u64,
}

/// A collection of items that stay where they are, found by keys that never resolve to a stranger.
///
/// Items live in chunks of 64 slots inside mapped segments. Nothing is ever moved or copied when
/// the slab grows, so the millionth insertion costs what the first did (but for the directory: 32
/// bytes for 64 items in a `Vec`). An insertion takes the slot that the last removal left in a
/// chunk that was full, whose memory is still in the cache, else the lowest chunk that has room,
/// so a slab that was large for a while draws back to its front; chunks that run empty are given
/// back to the operating system in batches, beyond a reserve of a sixteenth of the mapped chunks
/// and half a megabyte, so that a slab at the edge of a chunk does not flutter.
///
/// The first item maps a segment, of which only the pages that are touched take memory. A slab is
/// meant for the large tables of a server and less for many tiny collections.
///
/// An item and its generation, 4 bytes, lie side by side in a slot, which begins where the item's
/// alignment wants it: 60 bytes of an alignment of 4, or 56 of 8, make a slot of a cache line.
/// Another half a byte a slot is in the directory. Items may be aligned up to 4,096 bytes.
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
    /// The key of the next item, where its slot is reserved: in the masks it is neither free nor
    /// retired. A removal from a full chunk leaves its slot here, so that an insertion that follows
    /// has nothing to look for and no mask to change.
    hot: Option<Key>,
    /// The lowest chunk with room, or the number of chunks where none has.
    open: u32,
    /// How many more items there may be.
    room: u32,
    limit: u32,
    mapped: u32,
    empty: u32,
    retired: u64,
    groups: Vec<Group>,
    /// A bit a group: set where a chunk of the group has room.
    summary: Vec<u64>,
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
            hot: None,
            open: 0,
            room: max_items,
            limit: max_items,
            mapped: 0,
            empty: 0,
            retired: 0,
            groups: Vec::new(),
            summary: Vec::new(),
        }
    }

    /// Moves an item in and returns its key.
    ///
    /// # Errors
    /// [`Full`] gives the item back where the limit is reached or the system gives no memory.
    ///
    /// # Complexity
    /// O(1): a count of trailing zeros; when the chunk runs full, one or two more to find the
    /// next. Every 64 items of growth touch fresh pages, and a few thousand map a segment.
    // Where it is not inlined, the item goes through memory twice.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Result<Key, Full<T>> {
        if self.room == 0 {
            return Err(Full(value));
        }
        let Some(key) = self.hot.or_else(|| self.reserve()) else {
            return Err(Full(value));
        };
        self.fill(key, value);
        Ok(key)
    }

    /// Finds the place of the next item, so that the item can hold its own key.
    ///
    /// `None` where [`insert`](Self::insert) would fail. An entry that is dropped unused changes
    /// nothing.
    #[inline]
    pub fn vacant_entry(&mut self) -> Option<VacantEntry<'_, T>> {
        if self.room == 0 {
            return None;
        }
        let key = self.hot.or_else(|| self.reserve())?;
        self.hot = Some(key);
        Some(VacantEntry { slab: self, key })
    }

    /// Moves the item out. `None` for a stale key.
    ///
    /// # Complexity
    /// O(1). One removal in a few thousand gives chunks back to the system, at most 64 at a time.
    #[inline(always)]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (index, ..) = locate(key);
        let entry = self.store.entry_mut(index)?;
        let value = entry.take(key)?;
        self.room += 1;
        let next = key.successor();
        if entry.free() == 0 && self.hot.is_none() && next.is_some() {
            self.hot = next;
        } else {
            self.note_removal(key);
        }
        Some(value)
    }

    /// Returns the item. `None` for a stale key.
    #[inline]
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        let (chunk, slot, generation) = locate(key);
        self.store.entry(chunk)?.item(slot, generation)
    }

    /// Returns the item, to be changed. `None` for a stale key.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (chunk, slot, generation) = locate(key);
        self.store.entry_mut(chunk)?.item_mut(slot, generation)
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
        if a.index() == b.index() {
            return None;
        }
        self.store.pair_mut(locate(a), locate(b))
    }

    /// Returns the key of the item that lives at a slot index.
    #[inline]
    #[must_use]
    pub fn key_at(&self, index: u32) -> Option<Key> {
        let entry = self.store.entry(index as usize / SLOTS)?;
        Key::new(index, entry.generation(index as usize % SLOTS)?)
    }

    /// Returns the item that lives at a slot index, whatever its generation.
    #[inline]
    #[must_use]
    pub fn get_at(&self, index: u32) -> Option<&T> {
        let slot = index as usize % SLOTS;
        let entry = self.store.entry(index as usize / SLOTS)?;
        entry.item(slot, entry.generation(slot)?)
    }

    /// Returns the item that lives at a slot index, whatever its generation, to be changed.
    #[inline]
    pub fn get_at_mut(&mut self, index: u32) -> Option<&mut T> {
        let slot = index as usize % SLOTS;
        let entry = self.store.entry_mut(index as usize / SLOTS)?;
        let generation = entry.generation(slot)?;
        entry.item_mut(slot, generation)
    }

    /// Returns how many items there are.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        (self.limit - self.room) as usize
    }

    /// Returns whether there are no items.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.room == self.limit
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
            live: self.limit - self.room,
            limit: self.limit,
            chunks: self.store.entries().len() as u32,
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
        Iter::new(self.store.entries(), self.len())
    }

    /// Returns all items with their keys, to be changed.
    pub fn iter_mut(&mut self) -> IterMut<'_, T> {
        let left = self.len();
        IterMut::new(self.store.entries_mut(), left)
    }

    /// Removes the items for which `keep` returns false. Items are visited in the order of their
    /// indexes.
    pub fn retain(&mut self, mut keep: impl FnMut(Key, &mut T) -> bool) {
        for index in 0..self.store.entries().len() {
            let live = self.store.entry(index).map_or(0, Entry::live);
            for slot in bits(live) {
                let Some(entry) = self.store.entry_mut(index) else {
                    break;
                };
                let Some(generation) = entry.generation(slot) else {
                    continue;
                };
                let Some(key) = Key::new((index * SLOTS + slot) as u32, generation) else {
                    continue;
                };
                if entry
                    .item_mut(slot, generation)
                    .is_some_and(|item| !keep(key, item))
                {
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
        self.cool();
        while self.empty > 0 {
            self.sweep(u32::MAX);
        }
    }

    /// Maps the lowest chunk with room.
    #[cold]
    #[inline(never)]
    fn map_open(&mut self) -> Option<&mut Entry<T>> {
        let index = self.open as usize;
        if index == self.store.entries().len() {
            if index == CHUNKS_MAX {
                return None;
            }
            self.store.push();
            if index.is_multiple_of(SLOTS) {
                self.groups.push(Group::default());
            }
            if index.is_multiple_of(SLOTS * SLOTS) {
                self.summary.push(0);
            }
            self.set_room(index);
        }
        if !self.store.map(index) {
            return None;
        }
        let group = &mut self.groups[index / SLOTS];
        group.mapped |= 1 << (index % SLOTS);
        group.empty |= 1 << (index % SLOTS);
        self.mapped += 1;
        self.empty += 1;
        self.store.entry_mut(index)
    }

    #[inline]
    fn set_room(&mut self, chunk: usize) {
        let group = chunk / SLOTS;
        self.groups[group].room |= 1 << (chunk % SLOTS);
        self.summary[group / SLOTS] |= 1 << (group % SLOTS);
    }

    /// Notes that a chunk has no free slot any more, and finds the next that has.
    #[inline]
    fn clear_room(&mut self, chunk: usize) {
        let group = chunk / SLOTS;
        let room = &mut self.groups[group].room;
        *room &= !(1 << (chunk % SLOTS));
        if *room == 0 {
            self.summary[group / SLOTS] &= !(1 << (group % SLOTS));
        }
        if chunk == self.open as usize {
            self.open = if *room == 0 {
                self.lowest_room(group / SLOTS) as u32
            } else {
                (group * SLOTS) as u32 + room.trailing_zeros()
            };
        }
    }

    /// The lowest chunk with room, given that there is none below that word of the summary.
    #[inline(never)]
    fn lowest_room(&self, word: usize) -> usize {
        for (word, summary) in self.summary.iter().enumerate().skip(word) {
            if *summary != 0 {
                let group = word * SLOTS + summary.trailing_zeros() as usize;
                return group * SLOTS + self.groups[group].room.trailing_zeros() as usize;
            }
        }
        self.store.entries().len()
    }

    /// Reserves the first free slot of the lowest chunk with room, and returns the key of the item
    /// that moves in.
    #[inline(never)]
    fn reserve(&mut self) -> Option<Key> {
        let index = self.open as usize;
        let entry = match self.store.entry_mut(index) {
            Some(entry) if entry.is_mapped() => entry,
            _ => self.map_open()?,
        };
        let slot = entry.free().trailing_zeros() as usize;
        let key = Key::new((index * SLOTS + slot) as u32, entry.next_generation(slot)?)?;
        let was_empty = entry.live() == 0;
        entry.reserve(slot);
        let is_full = entry.free() == 0;
        if was_empty {
            self.groups[index / SLOTS].empty &= !(1 << (index % SLOTS));
            self.empty -= 1;
        }
        if is_full {
            self.clear_room(index);
        }
        Some(key)
    }

    /// Moves an item to where a slot is reserved for it.
    #[inline(always)]
    fn fill(&mut self, key: Key, value: T) -> &mut T {
        self.hot = None;
        self.room -= 1;
        let entry = self.store.entry_mut(locate(key).0);
        entry
            .expect("a reserved slot is in the directory")
            .fill(key, value)
    }

    /// Takes note of a removal that left no hot slot behind, or met one.
    #[inline(never)]
    fn note_removal(&mut self, key: Key) {
        self.cool();
        let (index, slot, _) = locate(key);
        let Some(entry) = self.store.entry_mut(index) else {
            return;
        };
        match key.successor() {
            None => {
                entry.retire(slot);
                self.retired += 1;
                if entry.live() == 0 {
                    self.note_empty(index);
                }
            }
            next if entry.free() == 0 => self.hot = next,
            Some(_) => self.release_slot(index, slot),
        }
    }

    /// Gives a reserved slot back to the masks.
    #[inline]
    fn release_slot(&mut self, index: usize, slot: usize) {
        let Some(entry) = self.store.entry_mut(index) else {
            return;
        };
        let was_full = entry.free() == 0;
        entry.unreserve(slot);
        let is_empty = entry.live() == 0;
        if was_full {
            self.set_room(index);
            self.open = self.open.min(index as u32);
        }
        if is_empty {
            self.note_empty(index);
        }
    }

    /// Gives the hot slot back to the masks.
    fn cool(&mut self) {
        if let Some(hot) = self.hot.take() {
            let (index, slot, _) = locate(hot);
            self.release_slot(index, slot);
        }
    }

    /// Takes note that no item is left in a mapped chunk.
    #[cold]
    fn note_empty(&mut self, chunk: usize) {
        self.groups[chunk / SLOTS].empty |= 1 << (chunk % SLOTS);
        self.empty += 1;
        if self.empty > Self::RESERVE + self.mapped / 16 {
            self.sweep(Self::RESERVE);
        }
    }

    /// Gives up to `count` empty chunks back, from the highest index down.
    #[cold]
    fn sweep(&mut self, mut count: u32) {
        for index in (0..self.groups.len()).rev() {
            let mut mask = self.groups[index].empty;
            while mask.count_ones() > count {
                mask &= mask - 1;
            }
            if mask == 0 {
                continue;
            }
            count -= mask.count_ones();
            self.release(index, mask);
            if count == 0 {
                return;
            }
        }
    }

    fn release(&mut self, index: usize, mask: u64) {
        let group = &mut self.groups[index];
        group.empty &= !mask;
        group.mapped &= !mask;
        let retired_before: u32 = bits(mask)
            .filter_map(|bit| self.store.entry(index * SLOTS + bit))
            .map(|entry| entry.retired().count_ones())
            .sum();
        self.mapped -= mask.count_ones();
        self.empty -= mask.count_ones();
        let exhausted = self.store.release(index, mask, group.mapped);
        self.retired += u64::from(exhausted.count_ones() * SLOTS as u32 - retired_before);
        for bit in bits(exhausted) {
            self.clear_room(index * SLOTS + bit);
        }
    }
}

/// The chunk, slot and generation that a key names.
#[inline]
fn locate(key: Key) -> (usize, usize, u32) {
    let index = key.index() as usize;
    (index / SLOTS, index % SLOTS, key.raw_generation())
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
        self.slab.fill(self.key, value)
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
