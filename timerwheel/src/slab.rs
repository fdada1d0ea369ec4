//! Slots for timers: chunks of 64 that never move, given back when a storm is over.
//!
//! A chunk is one allocation. Its free slots are the bits of a word in `free`; which chunks have
//! free slots are the bits of `space`. New entries go to the lowest chunk with space, so the high
//! ones run dry after a storm.

use crate::bits::BitSet;

const CHUNK: usize = 64;
/// That many empty chunks are always kept.
const SPARE_CHUNKS_MIN: usize = 4;
/// Beyond that, empty chunks may be this part of all.
const SPARE_PART: usize = 4;

/// 64 slots. Aligned so that a 32-byte slot never straddles two cache lines.
#[repr(align(64))]
struct Chunk<E>([Option<E>; CHUNK]);

impl<E> Chunk<E> {
    fn new() -> Box<Self> {
        Box::new(Self([const { None }; CHUNK]))
    }
}

/// Entries at fixed `u32` indexes.
pub(crate) struct Slab<E> {
    chunks: Vec<Option<Box<Chunk<E>>>>,
    /// A bit for each free slot of each chunk; zero for a chunk that was given back.
    free: Vec<u64>,
    /// The chunks that are there and have a free slot.
    space: BitSet,
    /// The chunks that were given back.
    absent: Vec<u32>,
    /// Where the next entry goes if there is space.
    current: usize,
    present: usize,
    /// The chunks that are there and have no entry; `empty` counts them.
    empties: BitSet,
    empty: usize,
    keep: usize,
    len: usize,
}

impl<E> Slab<E> {
    pub(crate) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            space: BitSet::new(),
            absent: Vec::new(),
            current: 0,
            present: 0,
            empties: BitSet::new(),
            empty: 0,
            keep: 0,
            len: 0,
        }
    }

    /// Allocates space for `entries` in all, and keeps it.
    pub(crate) fn reserve(&mut self, entries: usize) {
        self.keep = self.keep.max(entries.div_ceil(CHUNK));
        while self.present < self.keep {
            self.add_chunk();
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn chunks(&self) -> usize {
        self.present
    }

    pub(crate) fn bytes(&self) -> usize {
        self.present * size_of::<Chunk<E>>()
            + self.chunks.capacity() * size_of::<Option<Box<Chunk<E>>>>()
            + self.free.capacity() * size_of::<u64>()
            + self.absent.capacity() * size_of::<u32>()
            + self.space.bytes()
            + self.empties.bytes()
    }

    #[inline]
    pub(crate) fn insert(&mut self, entry: E) -> u32 {
        if self.free.get(self.current).is_none_or(|&free| free == 0) {
            self.current = match self.space.lowest() {
                Some(chunk) => chunk,
                None => self.add_chunk(),
            };
        }
        let chunk = self.current;
        let free = self.free[chunk];
        let slot = free.trailing_zeros() as usize;
        if free == u64::MAX {
            self.empties.clear(chunk);
            self.empty -= 1;
        }
        self.free[chunk] = free & (free - 1);
        if self.free[chunk] == 0 {
            self.space.clear(chunk);
        }
        self.len += 1;
        let place = self.chunks[chunk]
            .as_deref_mut()
            .map(|chunk| &mut chunk.0[slot]);
        debug_assert!(
            matches!(place, Some(None)),
            "a free slot is there and vacant"
        );
        if let Some(place) = place {
            *place = Some(entry);
        }
        (chunk * CHUNK + slot) as u32
    }

    #[inline]
    pub(crate) fn get(&self, index: u32) -> Option<&E> {
        let index = index as usize;
        self.chunks.get(index / CHUNK)?.as_deref()?.0[index % CHUNK].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut E> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK)?.as_deref_mut()?.0[index % CHUNK].as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, index: u32) -> Option<E> {
        let (chunk, slot) = (index as usize / CHUNK, index as usize % CHUNK);
        let entry = self.chunks.get_mut(chunk)?.as_deref_mut()?.0[slot].take()?;
        self.len -= 1;
        let free = self.free[chunk] | 1 << slot;
        if self.free[chunk] == 0 {
            self.space.set(chunk);
        }
        self.free[chunk] = free;
        if free == u64::MAX {
            self.emptied(chunk);
        }
        Some(entry)
    }

    #[cold]
    fn add_chunk(&mut self) -> usize {
        let chunk = match self.absent.pop() {
            Some(chunk) => chunk as usize,
            None => {
                let chunk = self.chunks.len();
                assert!(
                    chunk < u32::MAX as usize / CHUNK,
                    "more than 2^32 - 128 timers"
                );
                self.chunks.push(None);
                self.free.push(0);
                // Giving a chunk back must not need memory.
                self.absent.reserve(self.chunks.len());
                chunk
            }
        };
        self.chunks[chunk] = Some(Chunk::new());
        self.free[chunk] = u64::MAX;
        self.space.set(chunk);
        self.present += 1;
        self.empties.set(chunk);
        self.empty += 1;
        chunk
    }

    /// Gives empty chunks back, the highest first, but for the spare ones that soften the next
    /// storm. That is one or two for each chunk that runs empty.
    #[cold]
    fn emptied(&mut self, chunk: usize) {
        self.empties.set(chunk);
        self.empty += 1;
        while self.empty > SPARE_CHUNKS_MIN.max(self.present / SPARE_PART)
            && self.present > self.keep
            && let Some(chunk) = self.empties.highest()
        {
            self.chunks[chunk] = None;
            self.free[chunk] = 0;
            self.space.clear(chunk);
            self.empties.clear(chunk);
            self.absent.push(chunk as u32);
            self.present -= 1;
            self.empty -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_stable_and_reused() {
        let mut slab = Slab::new();
        let indexes: Vec<u32> = (0..200_u64)
            .map(|value| slab.insert(Box::new(value)))
            .collect();
        assert_eq!(slab.len(), 200);
        assert_eq!(slab.chunks(), 4);
        assert_eq!(slab.remove(indexes[70]).as_deref(), Some(&70));
        assert_eq!(slab.remove(indexes[70]), None);
        assert_eq!(slab.get(indexes[70]), None);
        assert_eq!(slab.get(indexes[71]).map(|value| **value), Some(71));
        assert_eq!(slab.get_mut(u32::MAX), None);
        assert_eq!(slab.remove(u32::MAX), None);
        for value in 0..57 {
            slab.insert(Box::new(value));
        }
        assert_eq!(slab.len(), 256);
        assert_eq!(slab.chunks(), 4, "every slot of the four chunks is used");
    }

    #[test]
    fn chunks_go_back_after_a_storm_but_not_below_the_reserve() {
        let mut slab = Slab::new();
        let bytes = slab.bytes();
        let indexes: Vec<u32> = (0..100_000_u64).map(|value| slab.insert(value)).collect();
        assert_eq!(slab.chunks(), 100_000_usize.div_ceil(64));
        assert!(slab.bytes() > 100_000 * 16);
        for index in &indexes {
            assert!(slab.remove(*index).is_some());
        }
        assert_eq!(slab.len(), 0);
        assert!(
            slab.chunks() <= SPARE_CHUNKS_MIN,
            "{} chunks are left",
            slab.chunks()
        );
        assert!(
            slab.bytes() < bytes + 100_000,
            "{} bytes are left",
            slab.bytes()
        );
        slab.reserve(6400);
        assert_eq!(slab.chunks(), 100);
        let indexes: Vec<u32> = (0..10_000_u64).map(|value| slab.insert(value)).collect();
        for index in &indexes {
            assert!(slab.remove(*index).is_some());
        }
        assert_eq!(slab.chunks(), 100);
    }

    #[test]
    fn new_entries_fill_the_low_chunks() {
        let mut slab = Slab::new();
        let indexes: Vec<u32> = (0..64 * 100_u64).map(|value| slab.insert(value)).collect();
        for index in indexes.iter().filter(|index| **index % 64 != 5) {
            slab.remove(*index);
        }
        let fresh: Vec<u32> = (0..63 * 10).map(|value| slab.insert(value)).collect();
        assert!(fresh.iter().filter(|index| **index < 64 * 11).count() >= 63 * 9);
    }
}
