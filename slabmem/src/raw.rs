//! The storage of a slab: slots in mapped segments, and the masks that say what is free in them.
//!
//! Ground rules. A [`Store`] owns its segments and every item in them. A slot lies in a live
//! segment at an address that does not change while the segment lives; a reference to a slot is
//! only made through [`Segment::slots`] and [`Segment::slots_mut`], from a reference to the
//! segment, so Rust's borrow rules hold for slots as if the segment held them by value. *The
//! generation of a slot is odd exactly while its item is initialised*: `fill` and `take` are the
//! only ones who change either, and each changes both. A segment reads as zero where it was never
//! written or was discarded, so every generation in it is initialised; pages are only discarded
//! where no item lives. No thread is special: there is no interior mutability here.

use core::mem::{ManuallyDrop, MaybeUninit};
use core::ptr::NonNull;
use core::{fmt, iter, slice};

use crate::Key;
use crate::masks::Masks;
use crate::sys::{Mapping, PAGE_ALIGN};

/// Slots a chunk, and chunks a group: the bits of a mask.
pub(crate) const SLOTS: usize = 64;

/// What a segment holds at most, unless a single chunk is larger.
const SEGMENT_BYTES_MAX: usize = 2 << 20;

/// An item beside its generation: who looks at one needs the other.
#[repr(C)]
pub(crate) struct Slot<T> {
    /// Odd where the item lives, even where the slot is vacant, zero where it is retired (or new).
    generation: u32,
    item: MaybeUninit<T>,
}

impl<T> Slot<T> {
    /// The item, where it is that of the key.
    #[inline]
    fn item(&self, key: Key) -> Option<&T> {
        if self.generation != key.raw_generation() {
            return None;
        }
        // SAFETY: The generation is that of a key, which is odd, so the item is initialised.
        Some(unsafe { self.item.assume_init_ref() })
    }

    /// As [`item`](Self::item), to be changed.
    #[inline]
    fn item_mut(&mut self, key: Key) -> Option<&mut T> {
        if self.generation != key.raw_generation() {
            return None;
        }
        // SAFETY: The generation is that of a key, which is odd, so the item is initialised.
        Some(unsafe { self.item.assume_init_mut() })
    }
}

/// The memory of some chunks that follow each other. It is as thin as a pointer, since the table of
/// segments is read at every look-up.
struct Segment<T>(NonNull<Slot<T>>);

const _: () = assert!(size_of::<Option<Segment<u8>>>() == size_of::<usize>());

impl<T> Segment<T> {
    /// The size of a chunk in bytes.
    const CHUNK_BYTES: usize = {
        assert!(
            align_of::<Slot<T>>() <= PAGE_ALIGN,
            "items are aligned to a page at most"
        );
        size_of::<Slot<T>>() * SLOTS
    };

    /// Chunks a segment: a power of two, and at most a group.
    const CHUNKS: usize = {
        let mut chunks = SLOTS;
        while chunks > 1 && chunks * Self::CHUNK_BYTES > SEGMENT_BYTES_MAX {
            chunks /= 2;
        }
        chunks
    };

    /// Slots a segment: a power of two.
    const SLOTS: usize = Self::CHUNKS * SLOTS;

    fn map() -> Option<Self> {
        let mapping = Mapping::map(Self::CHUNKS * Self::CHUNK_BYTES)?;
        Some(Self(mapping.into_start().cast()))
    }

    /// Lends the mapping that the segment stands for.
    fn mapping(&self) -> ManuallyDrop<Mapping> {
        let len = Self::CHUNKS * Self::CHUNK_BYTES;
        // SAFETY: `map` took these parts from a mapping, and the segment is its owner; nobody drops
        // what is returned but `drop`, once.
        ManuallyDrop::new(unsafe { Mapping::from_parts(self.0.cast(), len) })
    }

    #[inline]
    fn slots(&self) -> &[Slot<T>] {
        // SAFETY: The mapping is page-aligned and as long as that many slots, whose generations are
        // initialised; who changes one borrows the segment exclusively.
        unsafe { slice::from_raw_parts(self.0.as_ptr(), Self::SLOTS) }
    }

    #[inline]
    fn slots_mut(&mut self) -> &mut [Slot<T>] {
        // SAFETY: As above, and the segment is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.0.as_ptr(), Self::SLOTS) }
    }
}

impl<T> Drop for Segment<T> {
    fn drop(&mut self) {
        drop(ManuallyDrop::into_inner(self.mapping()));
    }
}

// SAFETY: The segment owns its slots as a `Vec` of them would.
unsafe impl<T: Send> Send for Segment<T> {}
// SAFETY: As above: a shared segment gives nothing but shared slots.
unsafe impl<T: Sync> Sync for Segment<T> {}

/// Slots by index.
pub(crate) struct Store<T> {
    /// The masks of the chunks. Indexes are 32 bits, so there are no more than 2²⁶.
    chunks: Vec<Masks>,
    segments: Vec<Option<Segment<T>>>,
}

impl<T> Store<T> {
    pub(crate) const CHUNK_BYTES: usize = Segment::<T>::CHUNK_BYTES;

    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            segments: Vec::new(),
        }
    }

    #[inline]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let index = index as usize;
        let segment = self.segments.get(index / Segment::<T>::SLOTS)?.as_ref()?;
        segment.slots().get(index % Segment::<T>::SLOTS)
    }

    #[inline]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        let segment = self.segments.get_mut(index / Segment::<T>::SLOTS)?;
        segment
            .as_mut()?
            .slots_mut()
            .get_mut(index % Segment::<T>::SLOTS)
    }

    /// The generation at a slot where an item lives there.
    #[inline]
    pub(crate) fn generation(&self, index: u32) -> Option<u32> {
        let generation = self.slot(index)?.generation;
        (generation & 1 == 1).then_some(generation)
    }

    /// The key of the next item at a slot where none lives.
    #[inline]
    pub(crate) fn next_key(&self, index: u32) -> Option<Key> {
        Key::new(index, self.slot(index)?.generation | 1)
    }

    /// The item of the key.
    #[inline]
    pub(crate) fn item(&self, key: Key) -> Option<&T> {
        self.slot(key.index())?.item(key)
    }

    /// The item of the key, to be changed.
    #[inline]
    pub(crate) fn item_mut(&mut self, key: Key) -> Option<&mut T> {
        self.slot_mut(key.index())?.item_mut(key)
    }

    /// Two items at once, to be changed. `None` for one slot.
    pub(crate) fn pair_mut(&mut self, a: Key, b: Key) -> Option<(&mut T, &mut T)> {
        let place = |key: Key| {
            let index = key.index() as usize;
            (index / Segment::<T>::SLOTS, index % Segment::<T>::SLOTS)
        };
        let ((first, i), (second, j)) = (place(a), place(b));
        if first == second {
            let segment = self.segments.get_mut(first)?.as_mut()?;
            let [x, y] = segment.slots_mut().get_disjoint_mut([i, j]).ok()?;
            return Some((x.item_mut(a)?, y.item_mut(b)?));
        }
        let [x, y] = self.segments.get_disjoint_mut([first, second]).ok()?;
        let x = x.as_mut()?.slots_mut().get_mut(i)?;
        let y = y.as_mut()?.slots_mut().get_mut(j)?;
        Some((x.item_mut(a)?, y.item_mut(b)?))
    }

    /// Moves an item into a vacant slot, and returns its key.
    ///
    /// # Panics
    /// Where the segment is not mapped.
    #[inline(always)]
    pub(crate) fn fill(&mut self, index: u32, value: T) -> (Key, &mut T) {
        let slot = self.slot_mut(index).expect("a reserved slot is mapped");
        debug_assert!(slot.generation & 1 == 0);
        let item = slot.item.write(value);
        slot.generation |= 1;
        (Key::of_item(index, slot.generation), item)
    }

    /// Moves the item of the key out. Also says whether the slot has used up its generations.
    #[inline(always)]
    pub(crate) fn take(&mut self, key: Key) -> Option<(T, bool)> {
        let slot = self.slot_mut(key.index())?;
        if slot.generation != key.raw_generation() {
            return None;
        }
        slot.generation = slot.generation.wrapping_add(1);
        // SAFETY: The generation was that of a key, which is odd, so the item was initialised; it
        // is even now, so nobody reads the item again.
        let item = unsafe { slot.item.assume_init_read() };
        Some((item, slot.generation == 0))
    }

    /// The masks of all chunks.
    #[inline]
    pub(crate) fn chunks(&self) -> &[Masks] {
        &self.chunks
    }

    #[inline]
    pub(crate) fn chunk(&self, chunk: usize) -> Option<&Masks> {
        self.chunks.get(chunk)
    }

    #[inline]
    pub(crate) fn chunk_mut(&mut self, chunk: usize) -> Option<&mut Masks> {
        self.chunks.get_mut(chunk)
    }

    /// Adds a chunk without memory at the end.
    pub(crate) fn push(&mut self) {
        self.chunks.push(Masks::UNMAPPED);
    }

    /// Maps a chunk that has no memory. False where the system gives none or the chunk is
    /// exhausted.
    pub(crate) fn map(&mut self, chunk: usize) -> bool {
        let masks = &mut self.chunks[chunk];
        if masks.is_exhausted() || masks.is_mapped() {
            return masks.is_mapped();
        }
        let number = chunk / Segment::<T>::CHUNKS;
        if number >= self.segments.len() {
            self.segments.resize_with(number + 1, || None);
        }
        let segment = &mut self.segments[number];
        if segment.is_none() {
            *segment = Segment::map();
        }
        let Some(segment) = segment else { return false };
        let generation = masks.map();
        // Of a chunk that was never mapped the generation is zero, which its memory reads as; it
        // stays untouched.
        if generation != 0 {
            let first = chunk % Segment::<T>::CHUNKS * SLOTS;
            for slot in &mut segment.slots_mut()[first..first + SLOTS] {
                debug_assert!(slot.generation & 1 == 0);
                slot.generation = generation;
            }
        }
        true
    }

    /// Gives the chunks `released` of a group back, which must be mapped and without items;
    /// `mapped` says which of the group stay. Returns those that may not be mapped again.
    pub(crate) fn release(&mut self, group: usize, released: u64, mapped: u64) -> u64 {
        debug_assert!(released & mapped == 0);
        let mut exhausted = 0;
        for bit in bits(released) {
            let chunk = group * SLOTS + bit;
            let highest = self.highest_generation(chunk);
            if !self.chunks[chunk].release(highest) {
                exhausted |= 1 << bit;
            }
        }
        for first in (0..SLOTS).step_by(Segment::<T>::CHUNKS) {
            self.discard_runs(group * SLOTS + first, released >> first, mapped >> first);
        }
        exhausted
    }

    /// The highest generation in a mapped chunk.
    fn highest_generation(&self, chunk: usize) -> u32 {
        let segment = self.segments[chunk / Segment::<T>::CHUNKS].as_ref();
        let first = chunk % Segment::<T>::CHUNKS * SLOTS;
        let slots = segment.map_or(&[][..], |segment| &segment.slots()[first..first + SLOTS]);
        slots.iter().map(|slot| slot.generation).max().unwrap_or(0)
    }

    /// Gives the pages of one segment back on which only chunks lie that are not `mapped`.
    fn discard_runs(&mut self, first: usize, released: u64, mapped: u64) {
        let range = u64::MAX >> (SLOTS - Segment::<T>::CHUNKS);
        if released & range == 0 {
            return;
        }
        let place = &mut self.segments[first / Segment::<T>::CHUNKS];
        if mapped & range == 0 {
            *place = None;
            return;
        }
        let Some(segment) = place else { return };
        let mut vacant = !mapped & range;
        while vacant != 0 {
            let start = vacant.trailing_zeros() as usize;
            let len = (vacant >> start).trailing_ones() as usize;
            let run = (u64::MAX >> (SLOTS - len)) << start;
            vacant &= !run;
            if released & run != 0 {
                let (from, to) = (start * Self::CHUNK_BYTES, (start + len) * Self::CHUNK_BYTES);
                // SAFETY: No item lives in a chunk of the run, and zero is the generation of a
                // vacant slot; `map` writes the generations anew before an item moves in.
                unsafe { segment.mapping().discard(from, to) };
            }
        }
    }

    /// The chunks in the order of their indexes, to change items in them.
    pub(crate) fn chunks_mut(&mut self) -> ChunksMut<'_, T> {
        ChunksMut {
            masks: self.chunks.iter(),
            segments: self.segments.iter_mut(),
            slots: None,
            in_segment: 0,
        }
    }

    /// Ages a vacant slot, for tests of what happens at the end of its life.
    #[cfg(test)]
    pub(crate) fn set_vacant_generation(&mut self, index: u32, generation: u32) {
        let slot = self.slot_mut(index).expect("slot is mapped");
        assert!(slot.generation & 1 == 0 && generation & 1 == 0);
        slot.generation = generation;
    }
}

impl<T> Drop for Store<T> {
    fn drop(&mut self) {
        if !core::mem::needs_drop::<T>() {
            return;
        }
        for chunk in 0..self.chunks.len() {
            for slot in bits(self.chunks[chunk].live()) {
                let index = (chunk * SLOTS + slot) as u32;
                let generation = self.generation(index);
                if let Some(key) = generation.and_then(|odd| Key::new(index, odd)) {
                    drop(self.take(key));
                }
            }
        }
    }
}

impl<T> fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("chunks", &self.chunks.len())
            .finish_non_exhaustive()
    }
}

/// The items of one chunk after the other, to be changed.
pub(crate) struct ChunksMut<'a, T> {
    masks: slice::Iter<'a, Masks>,
    segments: slice::IterMut<'a, Option<Segment<T>>>,
    slots: Option<slice::ChunksExactMut<'a, Slot<T>>>,
    /// How many chunks of the current segment have not been visited.
    in_segment: usize,
}

impl<'a, T> Iterator for ChunksMut<'a, T> {
    type Item = ItemsMut<'a, T>;

    fn next(&mut self) -> Option<Self::Item> {
        let live = self.masks.next()?.live();
        if self.in_segment == 0 {
            let segment = self.segments.next()?;
            self.slots = segment
                .as_mut()
                .map(|segment| segment.slots_mut().chunks_exact_mut(SLOTS));
            self.in_segment = Segment::<T>::CHUNKS;
        }
        self.in_segment -= 1;
        let slots = self.slots.as_mut().and_then(Iterator::next);
        Some(ItemsMut {
            live,
            passed: 0,
            slots: slots.unwrap_or_default().iter_mut(),
        })
    }
}

/// The items of a chunk with slot and generation, to be changed.
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
            let place = self.slots.nth(slot - self.passed)?;
            self.passed = slot + 1;
            let generation = place.generation;
            // A slot may be reserved for an item to come.
            if generation & 1 == 1 {
                // SAFETY: The generation is odd, so the item is initialised.
                return Some((slot, generation, unsafe { place.item.assume_init_mut() }));
            }
        }
        None
    }
}

/// The positions of the ones of a word, from the lowest.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}
