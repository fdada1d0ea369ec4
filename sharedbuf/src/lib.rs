//! Reference-counted buffers, slices and writev queues for network servers.
//!
//! [`SharedBuf`] is a thin pointer to a counted buffer, [`SharedSlice`] a 16-byte view of one, and
//! a fan-out to n receivers is one atomic addition ([`SharedBuf::retain_n`]). [`ReadBlock`] is the
//! block that a socket is read into while parts of it are already on their way out. [`WriteQueue`]
//! is what a connection still has to send; [`RunBuilder`] gathers what many connections are sent.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod block;
mod buf;
#[cfg(feature = "bytes")]
mod interop;
#[cfg(feature = "slabmem")]
mod pooled;
mod queue;
#[allow(
    unsafe_code,
    reason = "the counted buffer itself; its ground rules open the file"
)]
mod raw;
mod run;
mod slice;
mod sync;

pub use block::ReadBlock;
pub use buf::{Retained, SharedBuf};
#[cfg(feature = "slabmem")]
pub use pooled::POOL_OVERHEAD_BYTES;
pub use queue::{
    BlockCache, Class, Dropped, FRAME_BYTES_MAX, GATHER_BYTES_MIN, Recipe, WriteQueue,
};
pub use run::{Run, RunBuilder};
pub use slice::{RetainedSlices, SharedSlice};

/// What a buffer holds at most, in bytes.
pub const BUFFER_BYTES_MAX: usize = u32::MAX as usize;

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
