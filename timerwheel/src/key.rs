//! The name of a timer.

use std::fmt;
use std::num::NonZeroU32;

/// Names one timer of one [`TimerWheel`](crate::TimerWheel).
///
/// A key is a slot number and a generation. It goes stale when its timer expires or is cancelled:
/// from then on every method that takes it says so (`None` or `false`) and never touches the timer
/// that has the slot now. Generations are counted over the whole wheel and wrap after 2^32 − 1
/// inserts; a stale key could only be mistaken for a live one if it is kept while exactly a
/// multiple of that many timers are inserted and the last of them lands in the same slot.
///
/// A key of another wheel is not recognised as foreign. Using one is harmless to memory, but it may
/// name some other timer.
///
/// Eight bytes, and so is `Option<TimerKey>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerKey {
    pub(crate) index: u32,
    pub(crate) generation: NonZeroU32,
}

impl TimerKey {
    /// The key as a number that is never zero, to be kept where only a number fits.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation.get() as u64) << 32 | self.index as u64
    }

    /// The key that [`to_bits`](Self::to_bits) made this number of.
    ///
    /// Any number may be given: one that was never a key is `None` or a stale key.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match NonZeroU32::new((bits >> 32) as u32) {
            Some(generation) => Some(Self {
                index: bits as u32,
                generation,
            }),
            None => None,
        }
    }
}

impl fmt::Debug for TimerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TimerKey({}v{})", self.index, self.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static_assertions::assert_eq_size!(TimerKey, u64);
    static_assertions::assert_eq_size!(Option<TimerKey>, u64);
    static_assertions::assert_impl_all!(TimerKey: Send, Sync, Copy);

    #[test]
    fn bits_round_trip_and_zero_is_no_key() {
        let key = TimerKey {
            index: 7,
            generation: NonZeroU32::new(9).unwrap(),
        };
        assert_eq!(TimerKey::from_bits(key.to_bits()), Some(key));
        assert_eq!(TimerKey::from_bits(0), None);
        assert_eq!(TimerKey::from_bits(u64::from(u32::MAX)), None);
        assert_eq!(format!("{key:?}"), "TimerKey(7v9)");
    }
}
