//! Bans on their way to where they are kept over a restart.
//!
//! Fronts and shards ban, and neither may wait for a disk. So a change of a table is handed over as
//! it is made, under the table's lock: changes of one ban arrive in their order. How many may be
//! under way is bounded; what is beyond that holds in memory only, and is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::Banned;
use super::bans::{Ban, Cause, FOR_EVER};

/// Changes that are under way at a time.
const CHANGES_MAX: usize = 65_536;
/// A ban of a client with a longer id is not kept: an engine's keys have 65,535 bytes at most.
const CLIENT_ID_BYTES_MAX: usize = 60_000;

/// A ban as it is kept.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct KeptBan {
    /// By the broker's clock; `u64::MAX` is never.
    pub(crate) until_ms: u64,
    /// How often in a row.
    pub(crate) times: u8,
    pub(crate) cause: Cause,
}

impl KeptBan {
    fn of<K>(ban: &Ban<K>) -> Self {
        let until_ms = match ban.until_s {
            FOR_EVER => u64::MAX,
            until_s => u64::from(until_s) * 1_000,
        };
        Self {
            until_ms,
            times: ban.times,
            cause: ban.cause,
        }
    }

    /// The first second in which it does not hold any more: never early.
    pub(super) fn until_s(&self) -> u32 {
        match self.until_ms {
            u64::MAX => FOR_EVER,
            ms => u32::try_from(ms.div_ceil(1_000)).map_or(FOR_EVER - 1, |s| s.min(FOR_EVER - 1)),
        }
    }
}

/// What is under way, and what did not arrive.
#[derive(Debug, Default)]
pub(super) struct Counts {
    under_way: AtomicUsize,
    pub(super) lost: AtomicU64,
}

/// What became of a ban.
#[derive(Debug)]
pub(crate) struct BanChange {
    pub(crate) who: Banned,
    /// `None` where there is nothing to remember any more.
    pub(crate) ban: Option<KeptBan>,
    counts: Arc<Counts>,
}

impl BanChange {
    /// It will not be kept.
    pub(crate) fn lose(self) {
        self.counts.lost.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for BanChange {
    fn drop(&mut self) {
        self.counts.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where changes go.
pub(super) struct Keep {
    counts: Arc<Counts>,
    give: Box<dyn Fn(BanChange) + Send + Sync>,
}

impl fmt::Debug for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keep")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Keep {
    pub(super) fn new(counts: &Arc<Counts>, give: Box<dyn Fn(BanChange) + Send + Sync>) -> Self {
        let counts = Arc::clone(counts);
        Self { counts, give }
    }

    /// A ban is set, or another than it was.
    pub(super) fn put<K>(&self, who: Banned, ban: &Ban<K>) {
        self.give(who, Some(KeptBan::of(ban)), CHANGES_MAX);
    }

    /// A ban has been over for so long that nobody remembers it. Should that not arrive, the next
    /// start finds out by itself.
    pub(super) fn forget(&self, who: Banned) {
        self.give(who, None, CHANGES_MAX);
    }

    /// A ban is lifted. That always gets through, since it would be back after a restart;
    /// operators do it, one at a time.
    pub(super) fn lift(&self, who: Banned) {
        self.give(who, None, usize::MAX);
    }

    fn give(&self, who: Banned, ban: Option<KeptBan>, most: usize) {
        let counts = Arc::clone(&self.counts);
        // Several may see room for the last one: a limit on memory need not be exact.
        let is_full = counts.under_way.fetch_add(1, Ordering::Relaxed) >= most;
        let is_long =
            matches!(&who, Banned::Client(client) if client.id.len() > CLIENT_ID_BYTES_MAX);
        let change = BanChange { who, ban, counts };
        if is_full || is_long {
            change.lose();
        } else {
            (self.give)(change);
        }
    }
}
