//! The handle of an item in a slab.
#![forbid(unsafe_code)]

use core::fmt;
use core::num::{NonZeroU32, NonZeroU64};

/// The handle of an item: a slot index and the generation of the slot.
///
/// A key is `generation << 32 | index` in a [`NonZeroU64`], so that it travels as an epoll token
/// or a timer payload and `Option<Key>` is 8 bytes. Generations that name an item are odd: a
/// slot's generation is raised by one when an item moves in and by one when it leaves, so a key of
/// a vacant slot cannot be written down, and comparing the generation is all that a look-up has to
/// do.
///
/// A key is meaningful only to the slab that made it. Another slab either refuses it or takes it
/// for the key of an item of its own; both are safe.
///
/// Keys order by generation first, which is of no use beyond sorted containers.
///
/// # Examples
/// ```
/// use slabmem::{Key, Slab};
///
/// let mut slab = Slab::new();
/// let key = slab.insert("item").unwrap();
/// let token: u64 = key.to_bits();
/// assert_eq!(Key::from_bits(token), Some(key));
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd)]
#[repr(transparent)]
pub struct Key(NonZeroU64);

impl Key {
    /// Makes a key of a slot and its generation, or nothing where the generation is of a vacant
    /// slot.
    pub(crate) const fn new(index: u32, generation: u32) -> Option<Self> {
        Self::from_bits((generation as u64) << 32 | index as u64)
    }

    /// Returns the key as an integer, which is never zero.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0.get()
    }

    /// Returns the key that [`to_bits`](Self::to_bits) made `bits` of.
    ///
    /// `None` where no slab could have made it: the upper half is zero or even. Any other integer
    /// gives a key that is safe to look up, and finds nothing unless such an item lives.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        if (bits >> 32) & 1 == 0 {
            return None;
        }
        match NonZeroU64::new(bits) {
            Some(bits) => Some(Self(bits)),
            None => None,
        }
    }

    /// Returns the slot index.
    ///
    /// Among the live items of a slab it is unique, and it is dense: small slabs have small
    /// indexes. That makes it a column number for side tables and bitmaps.
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0.get() & u32::MAX as u64) as u32
    }

    /// Returns the generation of the slot when the item moved in, which is odd.
    #[must_use]
    pub const fn generation(self) -> NonZeroU32 {
        match NonZeroU32::new(self.raw_generation()) {
            Some(generation) => generation,
            // The generation is odd.
            None => NonZeroU32::MIN,
        }
    }

    /// The key of the item that has moved into a slot, whose generation is odd then.
    #[inline]
    pub(crate) const fn of_item(index: u32, generation: u32) -> Self {
        debug_assert!(generation & 1 == 1);
        match NonZeroU64::new((generation as u64 | 1) << 32 | index as u64) {
            Some(bits) => Self(bits),
            // The generation is odd.
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The generation, which is odd: there is no other way to make a key than those above.
    #[inline]
    pub(crate) const fn raw_generation(self) -> u32 {
        (self.0.get() >> 32) as u32
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}v{})", self.index(), self.raw_generation())
    }
}

const _: () = assert!(size_of::<Option<Key>>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_no_item_make_no_key() {
        assert_eq!(Key::from_bits(0), None);
        assert_eq!(Key::from_bits(7), None);
        assert_eq!(Key::from_bits(2 << 32 | 7), None);
        let key = Key::from_bits(3 << 32 | 7).unwrap();
        assert_eq!((key.index(), key.generation().get()), (7, 3));
        assert_eq!(Key::from_bits(key.to_bits()), Some(key));
        assert_eq!(format!("{key:?}"), "Key(7v3)");
        let last = Key::new(u32::MAX, u32::MAX).unwrap();
        assert_eq!(last, Key::of_item(u32::MAX, u32::MAX));
    }
}
