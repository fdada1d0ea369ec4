//! What is held in memory, in bytes, by what it is for.

use std::ops::AddAssign;

/// What the allocator takes for an allocation of so many bytes: glibc has them in steps of 16 with
/// 8 of its own, at least 32 (`request2size` in malloc.c). No bytes are no allocation.
pub(crate) const fn allocated(bytes: usize) -> u64 {
    match bytes {
        0 => 0,
        1..=24 => 32,
        _ => (bytes + 8).next_multiple_of(16) as u64,
    }
}

/// What a shard holds, by kind.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct Held {
    pub(crate) connections: u64,
    pub(crate) sessions: u64,
    pub(crate) subscriptions: u64,
    /// Messages kept for sessions and groups, and what waits to be written, but for blocks of the
    /// pool.
    pub(crate) queues: u64,
    pub(crate) pool: u64,
    /// Of that, blocks that nobody has.
    pub(crate) pool_vacant: u64,
    pub(crate) timers: u64,
    pub(crate) disconnects: u64,
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.sessions += other.sessions;
        self.subscriptions += other.subscriptions;
        self.queues += other.queues;
        self.pool += other.pool;
        self.pool_vacant += other.pool_vacant;
        self.timers += other.timers;
        self.disconnects += other.disconnects;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_rounded_as_glibc_does() {
        let wanted = [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64)];
        for (bytes, taken) in wanted {
            assert_eq!(allocated(bytes), taken, "{bytes}");
        }
    }
}
