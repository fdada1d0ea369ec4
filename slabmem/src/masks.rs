//! What is known of the 64 slots of a chunk, apart from their items.
#![forbid(unsafe_code)]

/// The base of a chunk that may not be mapped again, since one of its slots has used up its
/// generations.
const EXHAUSTED: u32 = u32::MAX;

/// Which slots of a chunk are free. Look-ups do not ask it: the generation of a slot decides those.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masks {
    /// The slots that an item can move into: none while the chunk is not mapped.
    free: u64,
    /// The vacant slots that have used up their generations: all while the chunk is not mapped.
    retired: u64,
    /// What the generations start from when the chunk is mapped again: above all that were in use.
    base: u32,
    is_mapped: bool,
}

const _: () = assert!(size_of::<Masks>() == 24);

impl Masks {
    /// A chunk that was never mapped.
    pub(crate) const UNMAPPED: Self = Self {
        free: 0,
        retired: u64::MAX,
        base: 0,
        is_mapped: false,
    };

    /// Whether the chunk has memory.
    #[inline]
    pub(crate) const fn is_mapped(&self) -> bool {
        self.is_mapped
    }

    /// Whether the chunk may never be mapped again.
    pub(crate) const fn is_exhausted(&self) -> bool {
        self.base == EXHAUSTED
    }

    /// The slots that an item can move into: none while the chunk is not mapped.
    #[inline]
    pub(crate) const fn free(&self) -> u64 {
        self.free
    }

    /// The slots where an item lives, or that are reserved for one.
    #[inline]
    pub(crate) const fn live(&self) -> u64 {
        !(self.free | self.retired)
    }

    /// The slots of a mapped chunk that are out of use.
    pub(crate) const fn retired(&self) -> u64 {
        if self.is_mapped { self.retired } else { 0 }
    }

    /// Takes a free slot out of the mask, for an item that is to come.
    #[inline]
    pub(crate) fn reserve(&mut self, slot: usize) {
        debug_assert!(self.free >> slot & 1 == 1);
        self.free &= !(1 << slot);
    }

    /// Puts a slot into the mask in which no item lives.
    #[inline]
    pub(crate) fn unreserve(&mut self, slot: usize) {
        debug_assert!(self.is_mapped && self.live() >> slot & 1 == 1);
        self.free |= 1 << slot;
    }

    /// Takes a slot out of use in which no item lives.
    pub(crate) fn retire(&mut self, slot: usize) {
        debug_assert!(self.is_mapped && self.live() >> slot & 1 == 1);
        self.retired |= 1 << slot;
    }

    /// Notes that the chunk has memory. Returns the generation of its slots.
    pub(crate) fn map(&mut self) -> u32 {
        (self.free, self.retired, self.is_mapped) = (u64::MAX, 0, true);
        self.base
    }

    /// Notes that the chunk, in which no item lives, has no memory any more. False where it may not
    /// be mapped again.
    pub(crate) fn release(&mut self, highest_generation: u32) -> bool {
        assert!(self.live() == 0, "a chunk with items is not released");
        let is_exhausted = self.retired != 0;
        *self = Self {
            base: if is_exhausted {
                EXHAUSTED
            } else {
                highest_generation
            },
            ..Self::UNMAPPED
        };
        !is_exhausted
    }
}
