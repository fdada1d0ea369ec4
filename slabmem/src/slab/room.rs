//! Which chunks of a slab have room, and which may go.
#![forbid(unsafe_code)]

use super::Slab;
use crate::masks::Masks;
use crate::raw::{SLOTS, bits};

/// The number of chunks that 32-bit indexes reach.
const CHUNKS_MAX: usize = 1 << 26;

/// Slots that are looked for at once when the stack is empty.
const REFILL: usize = 16;

/// What is known of 64 chunks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    /// Chunks with a free slot, mapped or not.
    pub(super) room: u64,
    pub(super) mapped: u64,
    /// Mapped chunks without an item.
    pub(super) empty: u64,
}

impl<T> Slab<T> {
    /// Maps the lowest chunk with room.
    #[cold]
    #[inline(never)]
    fn map_open(&mut self) -> Option<()> {
        let index = self.open as usize;
        if index == self.store.chunks().len() {
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
        Some(())
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
        self.store.chunks().len()
    }

    /// Reserves free slots of the lowest chunk with room, and returns the first. The others go on
    /// the stack, which is empty. `None` where the slab is full.
    #[cold]
    #[inline(never)]
    pub(super) fn reserve(&mut self) -> Option<u32> {
        let room = self.limit - self.reserved;
        if room == 0 {
            return None;
        }
        let chunk = self.open as usize;
        if !self.store.chunk(chunk).is_some_and(Masks::is_mapped) {
            self.map_open()?;
        }
        let masks = self.store.chunk_mut(chunk)?;
        let was_empty = masks.live() == 0;
        let count = REFILL.min(Self::HOT).min(room as usize);
        let mut slots = [0; REFILL];
        let mut reserved = 0;
        for (place, slot) in slots.iter_mut().zip(bits(masks.free())).take(count) {
            masks.reserve(slot);
            *place = slot;
            reserved += 1;
        }
        let is_full = masks.free() == 0;
        self.reserved += reserved;
        if was_empty {
            self.groups[chunk / SLOTS].empty &= !(1 << (chunk % SLOTS));
            self.empty -= 1;
        }
        if is_full {
            self.clear_room(chunk);
        }
        for slot in slots[..reserved as usize].iter().rev() {
            self.hot.push((chunk * SLOTS + slot) as u32);
        }
        self.draw_front();
        self.hot.pop()
    }

    /// Moves the index from which on a slot that is left is not filled before lower ones: so the
    /// slab draws back when it has shrunk.
    fn draw_front(&mut self) {
        let len = self.len() as u32;
        self.front = len.saturating_add(len / 4 + Self::RESERVE * SLOTS as u32);
    }

    /// Takes note of a removal after which the slot cannot go on the stack as it is.
    #[cold]
    #[inline(never)]
    pub(super) fn note_removal(&mut self, slot: u32, is_retired: bool) {
        self.draw_front();
        if is_retired {
            self.retire(slot);
            return;
        }
        if slot < self.front {
            if self.hot.len() == Self::HOT {
                self.cool(Self::HOT / 2);
            }
            self.hot.push(slot);
            return;
        }
        // The stack follows when the front draws back.
        while let Some(last) = self.hot.last()
            && last >= self.front
        {
            self.hot.pop();
            self.release_slot(last);
        }
        self.release_slot(slot);
    }

    /// Gives the oldest slots of the stack back to the masks.
    pub(super) fn cool(&mut self, count: usize) {
        for at in 0..count {
            if let Some(slot) = self.hot.slots().get(at) {
                self.release_slot(*slot);
            }
        }
        self.hot.forget_oldest(count);
    }

    /// Takes a slot out of use for good.
    #[cold]
    fn retire(&mut self, index: u32) {
        let chunk = index as usize / SLOTS;
        let Some(masks) = self.store.chunk_mut(chunk) else {
            return;
        };
        masks.retire(index as usize % SLOTS);
        self.reserved -= 1;
        let is_empty = masks.live() == 0;
        self.retired += 1;
        if is_empty {
            self.note_empty(chunk);
        }
    }

    /// Gives a reserved slot back to the masks.
    #[inline]
    fn release_slot(&mut self, index: u32) {
        let chunk = index as usize / SLOTS;
        let Some(masks) = self.store.chunk_mut(chunk) else {
            return;
        };
        let was_full = masks.free() == 0;
        masks.unreserve(index as usize % SLOTS);
        self.reserved -= 1;
        let is_empty = masks.live() == 0;
        if was_full {
            self.set_room(chunk);
            self.open = self.open.min(chunk as u32);
        }
        if is_empty {
            self.note_empty(chunk);
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
    pub(super) fn sweep(&mut self, mut count: u32) {
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
            .filter_map(|bit| self.store.chunk(index * SLOTS + bit))
            .map(|masks| masks.retired().count_ones())
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
