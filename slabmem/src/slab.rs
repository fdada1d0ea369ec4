//! The slab: which chunk has room, which may go, and who may look up what.
#![forbid(unsafe_code)]

use core::fmt;

use crate::raw::{Entry, SLOTS, Store, bits};
use crate::{Full, Iter, IterMut, Key, Stats};

/// Stands for no chunk.
const NONE: u32 = u32::MAX;

/// The number of chunks that 32-bit indexes reach.
const CHUNKS_MAX: usize = 1 << 26;

/// What is known of 64 chunks.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Chunks with a free slot, mapped or not, but for the one that is hot.
    room: u64,
    mapped: u64,
    /// Mapped chunks without an item.
    empty: u64,
}

/// A collection of items that stay where they are, found by keys that never resolve to a stranger.
///
/// Items live in chunks of 64 slots inside mapped segments. Nothing is ever moved or copied when
/// the slab grows, so the millionth insertion costs what the first did (but for the directory: 32
/// bytes for 64 items in a `Vec`). An insertion takes the slot that was freed last in a full chunk,
/// whose memory is still in the cache, else the lowest chunk that has room, so a slab
/// that was large for a while draws back to its front; chunks that run empty are given back to the
/// operating system in batches, beyond a reserve of a sixteenth of the mapped chunks and half a
/// megabyte, so that a slab at the edge of a chunk does not flutter.
///
/// The first item maps a segment, of which only the pages that are touched take memory. A slab is
/// meant for the large tables of a server and less for many tiny collections.
///
/// An item takes its own size plus 4½ bytes. Items may be aligned up to 4,096 bytes.
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
    /// Where the next item goes: to the hot chunk, else to the open one.
    next: u32,
    /// A chunk that was full until the last removal from a full chunk, or none. It has free slots,
    /// but `groups` do not know yet: where an insertion follows a removal, they need not.
    hot: u32,
    /// The lowest chunk with room in `groups`, or the number of chunks where none has.
    open: u32,
    len: u32,
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
            next: 0,
            hot: NONE,
            open: 0,
            len: 0,
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
        if self.len >= self.limit {
            return Err(Full(value));
        }
        let index = self.next as usize;
        let entry = match self.store.entry_mut(index) {
            Some(entry) if entry.free() != 0 => entry,
            _ => match self.map_open() {
                Some(entry) => entry,
                None => return Err(Full(value)),
            },
        };
        let slot = entry.free().trailing_zeros() as usize;
        let was_empty = entry.live() == 0;
        let (generation, _) = entry.fill(slot, value);
        let is_full = entry.free() == 0;
        self.note_insertion(index, was_empty, is_full);
        let key = Key::new((index * SLOTS + slot) as u32, generation);
        Ok(key.expect("generations of items are odd"))
    }

    /// Finds the place of the next item, so that the item can hold its own key.
    ///
    /// `None` where [`insert`](Self::insert) would fail. An entry that is dropped unused changes
    /// nothing.
    #[inline]
    pub fn vacant_entry(&mut self) -> Option<VacantEntry<'_, T>> {
        if self.len >= self.limit {
            return None;
        }
        let entry = match self.store.entry(self.next as usize) {
            Some(entry) if entry.free() != 0 => entry,
            _ => self.map_open()?,
        };
        let slot = entry.free().trailing_zeros();
        let generation = entry.next_generation(slot as usize)?;
        let key = Key::new(self.next * SLOTS as u32 + slot, generation)?;
        Some(VacantEntry { slab: self, key })
    }

    /// Moves the item out. `None` for a stale key.
    ///
    /// # Complexity
    /// O(1). One removal in a few thousand gives chunks back to the system, at most 64 at a time.
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let (index, slot, generation) = locate(key);
        let entry = self.store.entry_mut(index)?;
        let was_full = entry.free() == 0;
        let value = entry.take(slot, generation)?;
        let (has_room, is_empty) = (entry.free() != 0, entry.live() == 0);
        self.len -= 1;
        if was_full && has_room {
            self.heat(index);
        }
        if is_empty || generation == u32::MAX {
            self.note_rare_removal(index, is_empty, generation);
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
        self.len as usize
    }

    /// Returns whether there are no items.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
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
            live: self.len,
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
        while self.empty > 0 {
            self.sweep(u32::MAX);
        }
    }

    /// Maps the lowest chunk with room.
    #[cold]
    #[inline(never)]
    fn map_open(&mut self) -> Option<&mut Entry<T>> {
        debug_assert!(self.hot == NONE && self.next == self.open);
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

    /// Takes note that a chunk that was full has room again.
    #[inline]
    fn heat(&mut self, chunk: usize) {
        if self.hot != NONE {
            self.cool();
        }
        self.hot = chunk as u32;
        self.next = chunk as u32;
    }

    /// Has the groups know of the room in the hot chunk.
    #[inline(never)]
    fn cool(&mut self) {
        self.set_room(self.hot as usize);
        self.open = self.open.min(self.hot);
        self.hot = NONE;
        self.next = self.open;
    }

    /// Takes note of a removal that left a chunk empty or retired a slot.
    #[cold]
    fn note_rare_removal(&mut self, chunk: usize, is_empty: bool, generation: u32) {
        if generation == u32::MAX {
            self.retired += 1;
        }
        if is_empty {
            if self.hot as usize == chunk {
                self.cool();
            }
            self.groups[chunk / SLOTS].empty |= 1 << (chunk % SLOTS);
            self.empty += 1;
            if self.empty > Self::RESERVE + self.mapped / 16 {
                self.sweep(Self::RESERVE);
            }
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
        if self.hot == NONE {
            self.next = self.open;
        }
    }

    /// Takes note that an item moved into the next chunk.
    #[inline]
    fn note_insertion(&mut self, chunk: usize, was_empty: bool, is_full: bool) {
        self.len += 1;
        if is_full && self.hot as usize == chunk && !was_empty {
            self.hot = NONE;
            self.next = self.open;
        } else if is_full || was_empty {
            self.note_boundary(chunk, was_empty, is_full);
        }
    }

    /// Takes note that an item moved into an empty chunk, or filled one.
    #[inline(never)]
    fn note_boundary(&mut self, chunk: usize, was_empty: bool, is_full: bool) {
        if was_empty {
            self.groups[chunk / SLOTS].empty &= !(1 << (chunk % SLOTS));
            self.empty -= 1;
        }
        if is_full {
            if self.hot as usize == chunk {
                self.hot = NONE;
            } else {
                self.clear_room(chunk);
            }
            self.next = self.open;
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
        let (index, slot, _) = locate(self.key);
        let Slab { store, .. } = &mut *self.slab;
        let entry = store.entry_mut(index).expect("the entry is in the slab");
        let was_empty = entry.live() == 0;
        let is_full = entry.free().is_power_of_two();
        self.slab.note_insertion(index, was_empty, is_full);
        let entry = self.slab.store.entry_mut(index);
        let (generation, item) = entry.expect("the entry is in the slab").fill(slot, value);
        debug_assert_eq!(generation, self.key.raw_generation());
        item
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
