//! The queue's own bytes: a chain of blocks, appended to at the end and freed piece by piece.

use std::collections::VecDeque;

use crate::ReadBlock;
use crate::raw::BLOCK_OVERHEAD_BYTES;

/// The size of a first block, with its header.
const BLOCK_BYTES_MIN: usize = 512;
/// The size of a block at most. Offsets within a block take 16 bits.
const BLOCK_BYTES_MAX: usize = 16 << 10;
/// What the largest block holds.
pub(super) const CAPACITY_MAX: usize = BLOCK_BYTES_MAX - BLOCK_OVERHEAD_BYTES;

/// Memory of the heap or of a pool, or none.
#[derive(Debug, Default)]
struct Memory(Option<ReadBlock>);

impl Memory {
    fn with_capacity(capacity: usize) -> Self {
        Self(Some(ReadBlock::with_capacity(capacity)))
    }

    #[inline]
    fn capacity(&self) -> usize {
        self.0.as_ref().map_or(0, ReadBlock::capacity)
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, ReadBlock::len)
    }

    fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, ReadBlock::heap_share)
    }

    /// The next `len` bytes, where there is room.
    #[inline]
    fn place(&mut self, len: usize) -> Option<&mut [u8]> {
        self.0.as_mut()?.spare_mut().get_mut(..len)
    }

    #[inline]
    fn advance(&mut self, len: usize) {
        if let Some(block) = &mut self.0 {
            block.advance(len);
        }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], ReadBlock::filled)
    }

    #[inline]
    fn clear(&mut self) {
        if let Some(block) = &mut self.0 {
            let is_empty = block.reset();
            debug_assert!(is_empty, "a queue shares none of its own bytes");
        }
    }
}

/// A place in the chain: the number of the block, modulo 2¹⁶, and the offset in it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Place(u32);

impl Place {
    pub(super) const NOWHERE: Self = Self(0);

    fn new(block: u16, offset: usize) -> Self {
        debug_assert!(offset <= CAPACITY_MAX);
        Self(u32::from(block) << 16 | offset as u32)
    }

    fn block(self) -> u16 {
        (self.0 >> 16) as u16
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    /// The place that many bytes further in the same block.
    pub(super) fn after(self, len: usize) -> Self {
        Self::new(self.block(), self.offset() + len)
    }
}

#[derive(Debug, Default)]
struct Block {
    memory: Memory,
    /// How many of the bytes are still to be sent.
    live: usize,
}

/// The chain.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// Blocks before the last, from the oldest. One whose bytes are all gone has no memory.
    older: VecDeque<Block>,
    /// Where bytes are appended.
    last: Block,
    /// The number of the oldest block.
    first: u16,
    /// The memory of a block that is gone, or of a pool, for the next.
    spare: Memory,
}

impl Blocks {
    /// Appends a copy in one piece, or nothing where it is longer than a block or there are too
    /// many blocks.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Option<Place> {
        let place = match self.last.memory.place(bytes.len()) {
            Some(place) => place,
            None => self.grow(bytes.len())?,
        };
        place.copy_from_slice(bytes);
        Some(self.append(bytes.len()))
    }

    /// Appends `len` zeros and has them overwritten. As [`copy`](Self::copy), but that `write`
    /// comes back where it fails.
    #[inline]
    pub(super) fn encode<W: FnOnce(&mut [u8])>(
        &mut self,
        len: usize,
        write: W,
    ) -> Result<Place, W> {
        let place = match self.last.memory.place(len) {
            Some(place) => place,
            None => match self.grow(len) {
                Some(place) => place,
                None => return Err(write),
            },
        };
        place.fill(0);
        write(place);
        // Not before: where `write` panics, nothing was appended.
        Ok(self.append(len))
    }

    /// Takes note of bytes that were written behind the last.
    #[inline]
    fn append(&mut self, len: usize) -> Place {
        let place = Place::new(self.last_number(), self.last.memory.len());
        self.last.memory.advance(len);
        self.last.live += len;
        place
    }

    /// The bytes at a place.
    #[inline]
    pub(super) fn bytes(&self, place: Place, len: usize) -> &[u8] {
        let index = usize::from(place.block().wrapping_sub(self.first));
        let block = self.older.get(index).unwrap_or(&self.last);
        &block.memory.bytes()[place.offset()..place.offset() + len]
    }

    /// Takes note that bytes are not needed any more.
    #[inline]
    pub(super) fn release(&mut self, place: Place, len: usize) {
        let index = usize::from(place.block().wrapping_sub(self.first));
        let block = self.older.get_mut(index).unwrap_or(&mut self.last);
        block.live -= len;
        if block.live == 0 {
            let is_older = index < self.older.len();
            self.vacate(is_older.then_some(index));
        }
    }

    /// The memory of all blocks.
    pub(super) fn capacity(&self) -> usize {
        let older: usize = self.older.iter().map(|block| block.memory.capacity()).sum();
        older + self.last.memory.capacity() + self.spare.capacity()
    }

    /// The heap of the chain, without what is of a pool.
    pub(super) fn heap_bytes(&self) -> usize {
        let older = self.older.iter().map(|block| block.memory.heap_bytes());
        self.older.capacity() * size_of::<Block>()
            + older.sum::<usize>()
            + self.last.memory.heap_bytes()
            + self.spare.heap_bytes()
    }

    /// Forgets all bytes and keeps the memory of one block.
    pub(super) fn reset(&mut self) {
        // Looked at before they are written: mostly there is nothing to forget.
        if self.older.capacity() > 0 {
            self.older = VecDeque::new();
        }
        if self.spare.0.is_some() {
            self.spare = Memory::default();
        }
        self.last.memory.clear();
        self.last.live = 0;
    }

    fn last_number(&self) -> u16 {
        self.first.wrapping_add(self.older.len() as u16)
    }

    /// Empties the last block, or frees an older one, of which no byte is needed.
    #[inline(never)]
    fn vacate(&mut self, older: Option<usize>) {
        let Some(index) = older else {
            self.last.memory.clear();
            return;
        };
        let mut memory = core::mem::take(&mut self.older[index].memory);
        if memory.capacity() > self.spare.capacity() {
            memory.clear();
            self.spare = memory;
        }
        while self.older.front().is_some_and(|block| block.live == 0) {
            self.older.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// What the next block has at least, with its header: four times the last one. So a burst is in
    /// few blocks, each an entry of the vector that is written, and a single frame in a small one.
    fn next_block_bytes(&self) -> usize {
        let last = match self.last.memory.capacity() {
            0 => 0,
            capacity => capacity + BLOCK_OVERHEAD_BYTES,
        };
        (last * 4).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)
    }

    /// Takes a block of the pool for when the last is full, where that is near.
    #[cfg(feature = "slabmem")]
    #[inline]
    pub(super) fn stock_up(&mut self, pool: &mut slabmem::Pool) {
        let room = self.last.memory.capacity() - self.last.memory.len();
        if room < BLOCK_BYTES_MIN / 4 && self.spare.0.is_none() {
            self.take_spare(pool);
        }
    }

    #[cfg(feature = "slabmem")]
    #[cold]
    fn take_spare(&mut self, pool: &mut slabmem::Pool) {
        let wanted = self.next_block_bytes() - BLOCK_OVERHEAD_BYTES;
        // Without one the block comes from the heap.
        self.spare = Memory(ReadBlock::in_pool(pool, wanted).ok());
    }

    /// Makes the last block one with room for `len` more bytes, and returns their place.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, len: usize) -> Option<&mut [u8]> {
        if len > CAPACITY_MAX || self.older.len() >= usize::from(u16::MAX) {
            return None;
        }
        let least = (len + BLOCK_OVERHEAD_BYTES).next_power_of_two();
        let wanted = self.next_block_bytes().max(least) - BLOCK_OVERHEAD_BYTES;
        let fresh = if self.spare.capacity() >= wanted {
            core::mem::take(&mut self.spare)
        } else {
            Memory::with_capacity(wanted)
        };
        let memory = core::mem::replace(&mut self.last.memory, fresh);
        if self.last.live > 0 {
            let live = core::mem::take(&mut self.last.live);
            self.older.push_back(Block { memory, live });
        }
        self.last.memory.place(len)
    }
}
