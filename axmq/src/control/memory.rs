//! What the memory of the process is for.

use serde::{Deserialize, Serialize};

use super::{Control, ControlError};
use crate::memory::{self, Held};
use crate::message::{Answer, Query};

/// What the memory of the process is for, by kind; made by [`Control::memory`].
///
/// Kinds count what they have from the allocator and from the kernel, with the allocator's own
/// overhead. What holds memory and does not say so is left as unexplained: TLS's own state,
/// greetings that have not come to their end, messages on their way between threads, and what the
/// allocator keeps free.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryUse {
    /// Memory of the process that is in the machine.
    pub resident_bytes: u64,
    /// What each kind takes of it.
    pub kinds: Vec<MemoryKind>,
    /// Of the kind `pool`, what waits for its next user.
    pub pool_vacant_bytes: u64,
    /// What is left; negative where kinds count pages that are not in the machine, or not yet.
    pub unexplained_bytes: i64,
}

/// What one kind takes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MemoryKind {
    /// `program` (its own pages and those of libraries, and what threads and heap had before any
    /// client came), `connections`, `sessions`, `subscriptions`, `retained`, `queues` (kept
    /// messages and out-queues), `pool` (blocks that sockets are read into and out-queues are made
    /// of), `timers`, `disconnects` (records), `defence` or `store` (of its engine).
    pub kind: String,
    /// Bytes.
    pub bytes: u64,
}

impl MemoryUse {
    /// The bytes of one kind; 0 where there is no such kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        let found = self.kinds.iter().find(|other| other.kind == kind);
        found.map_or(0, |kind| kind.bytes)
    }
}

/// What the process had before anybody came, beyond files and what tables had by then.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Base(u64);

type Kinds = Vec<(&'static str, u64)>;

impl Control {
    /// What the memory of the process is for. Goes through all tables, a page of 2,048 entries at a
    /// time, so that no shard is held up.
    ///
    /// # Complexity
    ///
    /// Linear in all that there is.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub fn memory(&self) -> Result<MemoryUse, ControlError> {
        let (kinds, pool_vacant_bytes) = self.kinds()?;
        // Last: what has been looked at is in the machine by now.
        let resident = memory::resident();
        let base = self.0.base.get().copied().unwrap_or_default();
        let program = base.0 + resident.file_bytes;
        let kinds: Vec<_> = std::iter::once(("program", program))
            .chain(kinds)
            .map(|(kind, bytes)| MemoryKind {
                kind: kind.to_owned(),
                bytes,
            })
            .collect();
        let explained: u64 = kinds.iter().map(|kind| kind.bytes).sum();
        Ok(MemoryUse {
            resident_bytes: resident.bytes,
            unexplained_bytes: resident.bytes.cast_signed() - explained.cast_signed(),
            kinds,
            pool_vacant_bytes,
        })
    }

    /// To be asked before anybody can come, when what an earlier run has left is in place: that is
    /// not the program's, so it is added up as well.
    pub(super) fn look_at_base(&self) -> Base {
        // A shard that does not answer has little yet.
        let held = self.kinds().map(|(kinds, _)| kinds);
        let explained: u64 = held
            .unwrap_or_default()
            .iter()
            .map(|(_, bytes)| bytes)
            .sum();
        let resident = memory::resident();
        let anonymous = resident.bytes.saturating_sub(resident.file_bytes);
        Base(anonymous.saturating_sub(explained))
    }

    /// What is held by kind, and how much of the pools is vacant.
    fn kinds(&self) -> Result<(Kinds, u64), ControlError> {
        let mut held = Held::default();
        for shard in 0..self.0.shards.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let Answer::Memory(part, left) = self.ask(shard, Query::Memory { from })? else {
                    break;
                };
                held += part;
                next = left;
            }
        }
        let shared = self.shared();
        let kinds = vec![
            ("connections", held.connections),
            ("sessions", held.sessions),
            (
                "subscriptions",
                held.subscriptions + shared.interest.heap_bytes() as u64,
            ),
            ("retained", shared.retained.heap_bytes()),
            ("queues", held.queues),
            ("pool", held.pool),
            ("timers", held.timers),
            ("disconnects", held.disconnects),
            ("defence", shared.defence.heap_bytes()),
            ("store", shared.store.memory_bytes()),
        ];
        Ok((kinds, held.pool_vacant))
    }
}
