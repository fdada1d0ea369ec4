//! What a wheel hands out and tells about itself.

use crate::key::TimerKey;

/// A timer that has expired, as [`TimerWheel::expire`](crate::TimerWheel::expire) hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired<T> {
    /// The key that named the timer. It is stale.
    pub key: TimerKey,
    /// The deadline that has come, after all that [`touch`](crate::TimerWheel::touch) did.
    pub deadline_tick: u64,
    /// The payload.
    pub value: T,
}

/// What a wheel holds and has done. Counters start at zero and wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Timers in the wheel.
    pub live: usize,
    /// Chunks of 64 timers that are allocated.
    pub chunks: usize,
    /// Heap bytes of the wheel, without what payloads own.
    pub bytes: usize,
    /// Timers inserted so far.
    pub inserted: u64,
    /// Timers cancelled so far.
    pub cancelled: u64,
    /// Timers expired so far.
    pub expired: u64,
    /// Timers that were looked at before their deadline so far, and put into another slot.
    pub moved: u64,
    /// By how many ticks the latest timer was late.
    pub late_ticks_max: u64,
}
