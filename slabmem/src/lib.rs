//! Slab memory: generational slabs and size-classed block pools for network servers.
//!
//! [`Slab`] keeps items in chunks of 64 slots that never move. A free mask a chunk makes an
//! insertion a count of trailing zeros; a generation a slot makes a stale [`Key`] resolve to
//! nothing instead of to a stranger. Chunks that run empty are given back to the operating system,
//! and their generations survive that.
//!
//! [`Pool`] hands out blocks of bytes by size class: allocated by one owner without atomic
//! operations, freed by any thread with one.
//!
//! [`LogStore`] keeps small records of bytes packed behind each other, without an allocation or a
//! pointer for each.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod iter;
mod key;
mod log;
mod masks;
mod pool;
#[allow(
    unsafe_code,
    reason = "the storage of the slab; its ground rules open the file"
)]
mod raw;
mod report;
mod slab;
mod sync;
#[allow(
    unsafe_code,
    reason = "the memory mappings; the ground rules open the file"
)]
mod sys;

pub use iter::{Iter, IterMut};
pub use key::Key;
pub use log::{LogError, LogStats, LogStore, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES};
pub use pool::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, Block, Pool, PoolError, PoolStats};
pub use report::{Full, Stats};
pub use slab::{Slab, VacantEntry};

/// Gives memory of the heap that nobody uses back to the operating system; whether there was any.
///
/// What [`Slab`] and [`Pool`] map goes back by itself. The C library's allocator keeps what was
/// freed in the middle of its arenas, and a process stays as large as it ever was: for one that has
/// to become smaller. Does something with glibc's allocator only.
///
/// # Complexity
/// Linear in the free parts of the heap, with one system call for each that is a page or more;
/// other threads wait where they allocate from the arena at hand.
pub fn trim_heap() -> bool {
    sys::trim_heap()
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
