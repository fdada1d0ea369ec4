//! The store: what the broker keeps on disk.
//!
//! A shard says what has happened to its kept sessions in *ops* (`op`). The store's thread
//! (`server`) takes them in batches, turns them into records (`keeper`, `record`), writes them
//! through an engine (`engine`, `disk`) and syncs once for all that came. At start, `recover` reads
//! everything back. `docs/storage.md` is the whole story.

use self::engine::Space;
pub use self::record::RecordError;
pub use self::tool::{ToolError, run_tool};

mod copy;
mod disk;
pub(crate) mod engine;
mod figures;
mod groups;
mod keeper;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod op;
pub(crate) mod record;
mod recover;
mod server;
#[cfg(test)]
mod tests;
mod time;
mod tool;
mod upgrade;

pub(crate) use self::copy::{CopyError, aside, backup, set_aside};
pub(crate) use self::disk::{DiskEngine, DiskPlace};
pub(crate) use self::figures::StoreFigures;
pub(crate) use self::groups::RestoredGroup;
pub(crate) use self::keeper::Keeper;
pub(crate) use self::recover::{Recovery, Restored, RestoredWill};
pub(crate) use self::server::{Disk, StoreParts, StoreServer};
pub(crate) use self::time::WallClock;
pub(crate) use self::upgrade::{FormatError, upgrade};

/// Whether `value` is a record of the space with this number, under `key`; the numbers are those of
/// `docs/storage.md`.
///
/// # Errors
///
/// See [`RecordError`]. A number that no space has is [`RecordError::Key`].
pub fn check_record(space: u8, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let space = Space::ALL.get(usize::from(space)).ok_or(RecordError::Key)?;
    record::check(*space, key, value)
}
