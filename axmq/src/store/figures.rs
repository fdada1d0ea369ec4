//! The numbers of the store, for every thread to read.

use std::sync::atomic::{AtomicU64, Ordering};

use super::op::Health;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct StoreFigures {
    /// Group commits.
    syncs: AtomicU64,
    /// Atomic writes.
    writes: AtomicU64,
    /// Bytes on disk, about.
    bytes: AtomicU64,
    /// Bytes of memory that the engine says it has.
    memory_bytes: AtomicU64,
    /// Records in quarantine.
    quarantined: AtomicU64,
    health: AtomicU64,
}

impl StoreFigures {
    pub(super) fn synced(&self, writes: u64, bytes: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn set_memory_bytes(&self, bytes: u64) {
        self.memory_bytes.store(bytes, Ordering::Relaxed);
    }

    /// As of the last group commit.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_quarantined(&self, records: u64) {
        self.quarantined.store(records, Ordering::Relaxed);
    }

    /// So many more were met while the broker runs.
    pub(super) fn add_corrupt(&self, records: u64) {
        if records > 0 {
            self.quarantined.fetch_add(records, Ordering::Relaxed);
        }
    }

    pub(super) fn set_health(&self, health: Health) {
        let number = match health {
            Health::Well => 0,
            Health::Waits => 1,
            Health::Failed => 2,
        };
        self.health.store(number, Ordering::Relaxed);
    }

    pub(crate) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Well,
            1 => Health::Waits,
            _ => Health::Failed,
        }
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn quarantined(&self) -> u64 {
        self.quarantined.load(Ordering::Relaxed)
    }
}
