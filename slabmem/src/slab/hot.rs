//! The slots that were left last, for the items that come next.
#![forbid(unsafe_code)]

/// How many slots are kept at most: a power of two.
pub(super) const HOT_MAX: usize = 128;

/// A short stack of slot indexes. The slots are reserved: in the masks they are neither free nor
/// retired. An insertion takes the latest and looks for nothing.
#[derive(Debug)]
pub(super) struct Hot {
    len: usize,
    slots: [u32; HOT_MAX],
}

impl Hot {
    pub(super) const fn new() -> Self {
        Self {
            len: 0,
            slots: [0; HOT_MAX],
        }
    }

    #[inline]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Puts a slot on the stack, on which there must be room.
    #[inline]
    pub(super) fn push(&mut self, slot: u32) {
        debug_assert!(self.len < HOT_MAX);
        let len = self.len;
        self.slots[len % HOT_MAX] = slot;
        self.len = len + 1;
    }

    /// The latest.
    #[inline]
    pub(super) fn last(&self) -> Option<u32> {
        Some(self.slots[self.len.checked_sub(1)? % HOT_MAX])
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<u32> {
        let slot = self.last()?;
        self.len -= 1;
        Some(slot)
    }

    /// All, from the oldest.
    pub(super) fn slots(&self) -> &[u32] {
        &self.slots[..self.len]
    }

    /// Takes the oldest off.
    pub(super) fn forget_oldest(&mut self, count: usize) {
        self.slots.copy_within(count..self.len, 0);
        self.len -= count;
    }
}
