//! The storage of a slab: chunks of 64 slots in mapped segments, and the directory that finds them.
//!
//! Ground rules. A [`Store`] owns its segments and every item in them. The chunk that a directory
//! entry points to lies in a live segment, at an address that does not change until the entry is
//! emptied by `release`; a reference to a chunk is only made from a reference to its entry, so
//! Rust's borrow rules hold for chunks as if entries held them by value. Within a chunk, *the
//! generation of a slot is odd exactly while its item is initialised*: `fill` and `take` are the
//! only ones who change either, and each changes both. No thread is special: there is no interior
//! mutability here.

use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::{fmt, iter, slice};

use crate::Key;
use crate::sys::{Mapping, PAGE_ALIGN};

/// Slots a chunk, and chunks a group: the bits of a mask.
pub(crate) const SLOTS: usize = 64;

/// What a segment holds at most, unless a single chunk is larger.
const SEGMENT_BYTES_MAX: usize = 2 << 20;

/// The base of a chunk that may not be mapped again, since one of its slots has used up its
/// generations.
const EXHAUSTED: u32 = u32::MAX;

/// An item beside its generation: who looks at one needs the other.
#[repr(C)]
struct Slot<T> {
    /// Odd where the item lives, even where the slot is vacant, zero where it is retired (or new).
    generation: u32,
    item: MaybeUninit<T>,
}

/// The slots of a chunk, from a cache line on.
#[repr(C, align(64))]
struct Chunk<T>([Slot<T>; SLOTS]);

/// An entry of the directory: where a chunk is and what is known of its slots. Two entries share a
/// cache line, and with it all that an insertion or a removal has to look at but the slot itself.
pub(crate) struct Entry<T> {
    chunk: Option<NonNull<Chunk<T>>>,
    /// The slots that an item can move into: none while the chunk is not mapped.
    free: u64,
    /// The vacant slots that have used up their generations: all while the chunk is not mapped.
    retired: u64,
    /// What the generations start from when the chunk is mapped again: above all that were in use.
    base: u32,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Entry<u8>>() == 32);

impl<T> Entry<T> {
    const UNMAPPED: Self = Self {
        chunk: None,
        free: 0,
        retired: u64::MAX,
        base: 0,
    };

    #[inline]
    fn chunk(&self) -> Option<&Chunk<T>> {
        // SAFETY: The entry points into a live segment of its store and `map` initialised the
        // chunk; the borrow of the entry stands for one of the chunk.
        self.chunk.map(|chunk| unsafe { chunk.as_ref() })
    }

    #[inline]
    fn chunk_mut(&mut self) -> Option<&mut Chunk<T>> {
        // SAFETY: As above; the exclusive borrow of the entry stands for one of the chunk.
        self.chunk.map(|mut chunk| unsafe { chunk.as_mut() })
    }

    /// Whether the chunk has memory.
    #[inline]
    pub(crate) fn is_mapped(&self) -> bool {
        self.chunk.is_some()
    }

    /// The slots that an item can move into: none while the chunk is not mapped.
    #[inline]
    pub(crate) fn free(&self) -> u64 {
        self.free
    }

    /// The slots where an item lives, or that are reserved for one.
    #[inline]
    pub(crate) fn live(&self) -> u64 {
        !(self.free | self.retired)
    }

    /// The slots of a mapped chunk that are out of use.
    pub(crate) fn retired(&self) -> u64 {
        if self.is_mapped() { self.retired } else { 0 }
    }

    /// The generation that the next item at `slot` gets.
    #[inline]
    pub(crate) fn next_generation(&self, slot: usize) -> Option<u32> {
        Some(self.chunk()?.0[slot % SLOTS].generation | 1)
    }

    /// The generation at `slot` where an item lives there.
    #[inline]
    pub(crate) fn generation(&self, slot: usize) -> Option<u32> {
        let generation = self.chunk()?.0[slot % SLOTS].generation;
        (generation & 1 == 1).then_some(generation)
    }

    /// Takes a free slot out of the mask, for an item that is to come.
    #[inline]
    pub(crate) fn reserve(&mut self, slot: usize) {
        debug_assert!(self.free >> slot & 1 == 1);
        self.free &= !(1 << (slot % SLOTS));
    }

    /// Puts a slot into the mask in which no item lives.
    #[inline]
    pub(crate) fn unreserve(&mut self, slot: usize) {
        debug_assert!(self.is_mapped() && self.live() >> slot & 1 == 1);
        debug_assert!(self.generation(slot).is_none());
        self.free |= 1 << (slot % SLOTS);
    }

    /// Takes a slot out of use in which no item lives.
    pub(crate) fn retire(&mut self, slot: usize) {
        debug_assert!(self.generation(slot).is_none());
        self.retired |= 1 << (slot % SLOTS);
    }

    /// Moves an item into the reserved slot of the key.
    ///
    /// # Panics
    /// Where the chunk is not mapped, which has no such slot.
    #[inline(always)]
    pub(crate) fn fill(&mut self, key: Key, value: T) -> &mut T {
        let chunk = self.chunk_mut().expect("a reserved slot is mapped");
        let place = &mut chunk.0[key.index() as usize % SLOTS];
        debug_assert!(place.generation + 1 == key.raw_generation());
        let item = place.item.write(value);
        place.generation = key.raw_generation();
        item
    }

    /// Moves the item of the key out. Its slot is reserved afterwards.
    #[inline(always)]
    pub(crate) fn take(&mut self, key: Key) -> Option<T> {
        let place = &mut self.chunk_mut()?.0[key.index() as usize % SLOTS];
        if place.generation != key.raw_generation() {
            return None;
        }
        place.generation = key.raw_generation().wrapping_add(1);
        // SAFETY: The generation was that of a key, which is odd, so the item was initialised; it
        // is even now, so nobody reads the item again.
        Some(unsafe { place.item.assume_init_read() })
    }

    /// The item of that generation.
    #[inline]
    pub(crate) fn item(&self, slot: usize, generation: u32) -> Option<&T> {
        let slot = slot % SLOTS;
        let slot = &self.chunk()?.0[slot];
        if slot.generation != generation || generation & 1 == 0 {
            return None;
        }
        // SAFETY: The generation is odd, so the item is initialised.
        Some(unsafe { slot.item.assume_init_ref() })
    }

    /// The item of that generation, to be changed.
    #[inline]
    pub(crate) fn item_mut(&mut self, slot: usize, generation: u32) -> Option<&mut T> {
        let slot = slot % SLOTS;
        let slot = &mut self.chunk_mut()?.0[slot];
        if slot.generation != generation || generation & 1 == 0 {
            return None;
        }
        // SAFETY: The generation is odd, so the item is initialised.
        Some(unsafe { slot.item.assume_init_mut() })
    }

    /// Two different items of this chunk, to be changed.
    fn pair_mut(&mut self, a: (usize, u32), b: (usize, u32)) -> Option<(&mut T, &mut T)> {
        self.item(a.0, a.1)?;
        self.item(b.0, b.1)?;
        let [a, b] = self
            .chunk_mut()?
            .0
            .get_disjoint_mut([a.0 % SLOTS, b.0 % SLOTS])
            .ok()?;
        // SAFETY: `item` has just found it initialised.
        let a = unsafe { a.item.assume_init_mut() };
        // SAFETY: `item` has just found it initialised.
        let b = unsafe { b.item.assume_init_mut() };
        Some((a, b))
    }

    /// Ages a vacant slot, for tests of what happens at the end of its life.
    #[cfg(test)]
    pub(crate) fn set_vacant_generation(&mut self, slot: usize, generation: u32) {
        assert!(self.free >> slot & 1 == 1 && generation & 1 == 0);
        let chunk = self.chunk_mut().expect("chunk is mapped");
        chunk.0[slot].generation = generation;
    }

    /// All items with slot and generation, to be changed.
    pub(crate) fn items_mut(&mut self) -> Option<ItemsMut<'_, T>> {
        let live = self.live();
        let chunk = self.chunk_mut()?;
        Some(ItemsMut {
            live,
            passed: 0,
            slots: chunk.0.iter_mut(),
        })
    }
}

/// The live items of a chunk.
pub(crate) struct ItemsMut<'a, T> {
    live: u64,
    passed: usize,
    slots: slice::IterMut<'a, Slot<T>>,
}

impl<'a, T> Iterator for ItemsMut<'a, T> {
    type Item = (usize, u32, &'a mut T);

    fn next(&mut self) -> Option<Self::Item> {
        while self.live != 0 {
            let slot = self.live.trailing_zeros() as usize;
            self.live &= self.live - 1;
            let Slot { generation, item } = self.slots.nth(slot - self.passed)?;
            self.passed = slot + 1;
            if *generation & 1 == 1 {
                // SAFETY: The generation is odd, so the item is initialised.
                return Some((slot, *generation, unsafe { item.assume_init_mut() }));
            }
        }
        None
    }
}

/// Chunks by index.
pub(crate) struct Store<T> {
    entries: Vec<Entry<T>>,
    segments: Vec<Option<Mapping>>,
}

impl<T> Store<T> {
    /// The size of a chunk in bytes.
    pub(crate) const CHUNK_BYTES: usize = {
        assert!(
            align_of::<Chunk<T>>() <= PAGE_ALIGN,
            "items are aligned to a page at most"
        );
        size_of::<Chunk<T>>()
    };

    /// Chunks a segment: a power of two, and at most a group.
    const SEGMENT_CHUNKS: usize = {
        let mut chunks = SLOTS;
        while chunks > 1 && chunks * Self::CHUNK_BYTES > SEGMENT_BYTES_MAX {
            chunks /= 2;
        }
        chunks
    };

    pub(crate) const fn new() -> Self {
        Self {
            entries: Vec::new(),
            segments: Vec::new(),
        }
    }

    /// The directory.
    #[inline]
    pub(crate) fn entries(&self) -> &[Entry<T>] {
        &self.entries
    }

    /// The directory, to change chunks through it.
    #[inline]
    pub(crate) fn entries_mut(&mut self) -> &mut [Entry<T>] {
        &mut self.entries
    }

    #[inline]
    pub(crate) fn entry(&self, index: usize) -> Option<&Entry<T>> {
        self.entries.get(index)
    }

    #[inline]
    pub(crate) fn entry_mut(&mut self, index: usize) -> Option<&mut Entry<T>> {
        self.entries.get_mut(index)
    }

    /// Two items at different slots, each given as chunk, slot and generation.
    pub(crate) fn pair_mut(
        &mut self,
        a: (usize, usize, u32),
        b: (usize, usize, u32),
    ) -> Option<(&mut T, &mut T)> {
        if a.0 == b.0 {
            return self.entry_mut(a.0)?.pair_mut((a.1, a.2), (b.1, b.2));
        }
        let [first, second] = self.entries.get_disjoint_mut([a.0, b.0]).ok()?;
        Some((first.item_mut(a.1, a.2)?, second.item_mut(b.1, b.2)?))
    }

    /// Adds an entry without a chunk at the end of the directory.
    pub(crate) fn push(&mut self) {
        self.entries.push(Entry::UNMAPPED);
    }

    /// Maps the chunk of an entry that has none. False where the system gives no memory or the
    /// chunk is exhausted.
    pub(crate) fn map(&mut self, index: usize) -> bool {
        let entry = &mut self.entries[index];
        if entry.base == EXHAUSTED || entry.chunk.is_some() {
            return entry.chunk.is_some();
        }
        let segment = index / Self::SEGMENT_CHUNKS;
        if segment >= self.segments.len() {
            self.segments.resize_with(segment + 1, || None);
        }
        let mapping = match &mut self.segments[segment] {
            Some(mapping) => mapping,
            unmapped => match Mapping::map(Self::SEGMENT_CHUNKS * Self::CHUNK_BYTES) {
                Some(mapping) => unmapped.insert(mapping),
                None => return false,
            },
        };
        let chunk = mapping.start().cast::<Chunk<T>>();
        // SAFETY: The offset is below the number of chunks that the segment was mapped for.
        let chunk = unsafe { chunk.add(index % Self::SEGMENT_CHUNKS) };
        entry.chunk = Some(chunk);
        (entry.free, entry.retired) = (u64::MAX, 0);
        // A base of zero was never mapped, so its memory reads as zero and stays untouched.
        if entry.base != 0 {
            let base = entry.base;
            for slot in entry.chunk_mut().into_iter().flat_map(|chunk| &mut chunk.0) {
                slot.generation = base;
            }
        }
        true
    }

    /// Gives the chunks `mask` of a group back, which must be mapped and without items; `mapped`
    /// says which of the group stay. Returns those that may not be mapped again.
    pub(crate) fn release(&mut self, group: usize, mask: u64, mapped: u64) -> u64 {
        debug_assert!(mask & mapped == 0);
        let mut exhausted = 0;
        for bit in bits(mask) {
            let entry = &mut self.entries[group * SLOTS + bit];
            let Some(chunk) = entry.chunk() else { continue };
            assert!(entry.live() == 0, "a chunk with items is not released");
            let highest = chunk.0.iter().map(|slot| slot.generation).max();
            let mut base = highest.unwrap_or(EXHAUSTED);
            if entry.retired != 0 {
                base = EXHAUSTED;
                exhausted |= 1 << bit;
            }
            *entry = Entry {
                base,
                ..Entry::UNMAPPED
            };
        }
        for first in (0..SLOTS).step_by(Self::SEGMENT_CHUNKS) {
            self.discard_runs(group, first, mask, mapped);
        }
        exhausted
    }

    /// Gives the pages of one segment back on which only chunks lie that are not `mapped`.
    fn discard_runs(&mut self, group: usize, first: usize, released: u64, mapped: u64) {
        let range = (u64::MAX >> (SLOTS - Self::SEGMENT_CHUNKS)) << first;
        if released & range == 0 {
            return;
        }
        let slot = &mut self.segments[(group * SLOTS + first) / Self::SEGMENT_CHUNKS];
        if mapped & range == 0 {
            *slot = None;
            return;
        }
        let Some(mapping) = slot else { return };
        let mut vacant = !mapped & range;
        while vacant != 0 {
            let start = vacant.trailing_zeros() as usize;
            let len = (vacant >> start).trailing_ones() as usize;
            let run = (u64::MAX >> (SLOTS - len)) << start;
            vacant &= !run;
            if released & run != 0 {
                let from = (start - first) * Self::CHUNK_BYTES;
                // SAFETY: No chunk of the run is mapped, so no entry points there and nobody reads
                // what was written there; `map` writes the generations anew.
                unsafe { mapping.discard(from, from + len * Self::CHUNK_BYTES) };
            }
        }
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        if !core::mem::needs_drop::<T>() {
            return;
        }
        for entry in &mut self.entries {
            for slot in bits(entry.live()) {
                let generation = entry.generation(slot);
                if let Some(key) = generation.and_then(|odd| Key::new(slot as u32, odd)) {
                    drop(entry.take(key));
                }
            }
        }
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("chunks", &self.entries.len())
            .finish_non_exhaustive()
    }
}

// SAFETY: An entry is the only way to the items of its chunk, and it reaches them as a field
// would: the store is `Send` where items held by value would be.
unsafe impl<T: Send> Send for Entry<T> {}
// SAFETY: As above: a shared entry gives nothing but shared items.
unsafe impl<T: Sync> Sync for Entry<T> {}

/// The positions of the ones of a word, from the lowest.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
