//! What can go wrong, how often, and how often it did.

#![forbid(unsafe_code)]

use crate::sync::plain::{Mutex, lock};

/// A thing that the simulated system does although the server would rather it did not. Each is
/// something that Linux may do.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// A read takes fewer bytes than are there, as if the others came just after: an event follows.
    ShortRead,
    /// A write takes fewer bytes than there is room for; an event follows.
    ShortWrite,
    /// A read, write or accept is interrupted by a signal.
    Interrupted,
    /// A read, write or accept has nothing to do although there was something; an event follows.
    WouldBlock,
    /// A source is reported again although nothing has changed, and as readable and writable
    /// although it need not be either.
    SpuriousEvent,
    /// A source is reported after it was removed or closed.
    StaleEvent,
    /// A source is left for a later wait.
    DelayedEvent,
    /// Events come in another order.
    ShuffledEvents,
    /// A wait ends without events, as by a signal.
    WaitInterrupted,
    /// A connection fails just before it is accepted (`ECONNABORTED`).
    AcceptAborted,
    /// There is no descriptor for a connection (`EMFILE`).
    NoDescriptor,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ShortRead,
        Self::ShortWrite,
        Self::Interrupted,
        Self::WouldBlock,
        Self::SpuriousEvent,
        Self::StaleEvent,
        Self::DelayedEvent,
        Self::ShuffledEvents,
        Self::WaitInterrupted,
        Self::AcceptAborted,
        Self::NoDescriptor,
    ];
}

const KINDS: usize = Fault::ALL.len();

/// How often each fault happens where it could: out of 1,024 times.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct Faults([u16; KINDS]);

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self([0; KINDS]);

    /// Everything goes wrong, each with this rate.
    ///
    /// # Panics
    ///
    /// Above 1,000 of 1,024: a system that never does what it is asked to is none.
    #[must_use]
    pub fn all(per_1024: u16) -> Self {
        Fault::ALL
            .into_iter()
            .fold(Self::NONE, |faults, fault| faults.with(fault, per_1024))
    }

    /// The same but for one rate.
    ///
    /// # Panics
    ///
    /// As [`all`](Self::all).
    #[must_use]
    pub fn with(mut self, fault: Fault, per_1024: u16) -> Self {
        assert!(
            per_1024 <= 1000,
            "a fault must leave some chance to make progress"
        );
        self.0[fault as usize] = per_1024;
        self
    }
}

/// Decides what goes wrong, from one seed.
#[derive(Debug)]
pub(super) struct Chance {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: u64,
    faults: Faults,
    counts: [u64; KINDS],
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        let inner = Inner {
            state: seed,
            faults: Faults::NONE,
            counts: [0; KINDS],
        };
        Self {
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn set(&self, faults: Faults) {
        lock(&self.inner).faults = faults;
    }

    pub(super) fn count(&self, fault: Fault) -> u64 {
        lock(&self.inner).counts[fault as usize]
    }

    /// Whether the fault happens now.
    pub(super) fn strikes(&self, fault: Fault) -> bool {
        let mut inner = lock(&self.inner);
        let rate = inner.faults.0[fault as usize];
        let strikes = rate > 0 && inner.next() % 1024 < u64::from(rate);
        inner.counts[fault as usize] += u64::from(strikes);
        strikes
    }

    /// A number from 0 to `bound - 1`.
    pub(super) fn below(&self, bound: usize) -> usize {
        assert!(bound > 0, "there is no number below 0");
        (lock(&self.inner).next() % bound as u64) as usize
    }
}

impl Inner {
    /// SplitMix64, by Steele, Lea and Flood (OOPSLA 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
