//! The queue's own bytes: a chain of blocks, appended to at the end and freed piece by piece.

use std::collections::VecDeque;

/// The capacity of a first block.
const BLOCK_BYTES_MIN: usize = 512;
/// The capacity of a block at most. Offsets within a block take 16 bits.
pub(super) const BLOCK_BYTES_MAX: usize = 16 << 10;

/// A place in the chain: the number of the block, modulo 2¹⁶, and the offset in it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Place(u32);

impl Place {
    pub(super) const NOWHERE: Self = Self(0);

    fn new(block: u16, offset: usize) -> Self {
        debug_assert!(offset <= BLOCK_BYTES_MAX);
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
    /// Never grown past the capacity it was made with.
    bytes: Vec<u8>,
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
    /// The memory of a block that is gone, for the next.
    spare: Vec<u8>,
}

impl Blocks {
    /// Appends a copy in one piece, or nothing where it is longer than a block or there are too
    /// many blocks.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) -> Option<Place> {
        if self.last.bytes.capacity() - self.last.bytes.len() < bytes.len() {
            self.grow(bytes.len())?;
        }
        let place = Place::new(self.last_number(), self.last.bytes.len());
        self.last.bytes.extend_from_slice(bytes);
        self.last.live += bytes.len();
        Some(place)
    }

    /// Appends `len` zeros and has them overwritten. As [`copy`](Self::copy), but that `write`
    /// comes back where it fails.
    #[inline]
    pub(super) fn encode<W: FnOnce(&mut [u8])>(
        &mut self,
        len: usize,
        write: W,
    ) -> Result<Place, W> {
        if self.last.bytes.capacity() - self.last.bytes.len() < len && self.grow(len).is_none() {
            return Err(write);
        }
        let start = self.last.bytes.len();
        self.last.bytes.resize(start + len, 0);
        write(&mut self.last.bytes[start..]);
        // Not before: where `write` panics, the bytes are dead room in the block and nothing else.
        self.last.live += len;
        Ok(Place::new(self.last_number(), start))
    }

    /// The bytes at a place.
    #[inline]
    pub(super) fn bytes(&self, place: Place, len: usize) -> &[u8] {
        let index = usize::from(place.block().wrapping_sub(self.first));
        let block = self.older.get(index).unwrap_or(&self.last);
        &block.bytes[place.offset()..place.offset() + len]
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
        let older: usize = self.older.iter().map(|block| block.bytes.capacity()).sum();
        older + self.last.bytes.capacity() + self.spare.capacity()
    }

    /// Forgets all bytes and keeps the memory of one block.
    pub(super) fn reset(&mut self) {
        // Looked at before they are written: mostly there is nothing to forget.
        if self.older.capacity() > 0 {
            self.older = VecDeque::new();
        }
        if self.spare.capacity() > 0 {
            self.spare = Vec::new();
        }
        self.last.bytes.clear();
        self.last.live = 0;
    }

    fn last_number(&self) -> u16 {
        self.first.wrapping_add(self.older.len() as u16)
    }

    /// Empties the last block, or frees an older one, of which no byte is needed.
    #[inline(never)]
    fn vacate(&mut self, older: Option<usize>) {
        let Some(index) = older else {
            self.last.bytes.clear();
            return;
        };
        let mut bytes = core::mem::take(&mut self.older[index].bytes);
        if bytes.capacity() > self.spare.capacity() {
            bytes.clear();
            self.spare = bytes;
        }
        while self.older.front().is_some_and(|block| block.live == 0) {
            self.older.pop_front();
            self.first = self.first.wrapping_add(1);
        }
    }

    /// Makes the last block one with room for `len` more bytes.
    #[cold]
    #[inline(never)]
    fn grow(&mut self, len: usize) -> Option<()> {
        if len > BLOCK_BYTES_MAX || self.older.len() >= usize::from(u16::MAX) {
            return None;
        }
        // Four times the last one: a burst is in few blocks, each an entry of the vector that is
        // written, and a single frame in a small one.
        let wanted = (self.last.bytes.capacity() * 4).clamp(BLOCK_BYTES_MIN, BLOCK_BYTES_MAX);
        let wanted = wanted.max(len.next_power_of_two());
        let fresh = if self.spare.capacity() >= wanted {
            core::mem::take(&mut self.spare)
        } else {
            Vec::with_capacity(wanted)
        };
        let full = core::mem::replace(&mut self.last.bytes, fresh);
        if self.last.live > 0 {
            self.older.push_back(Block {
                bytes: full,
                live: self.last.live,
            });
            self.last.live = 0;
        }
        Some(())
    }
}
