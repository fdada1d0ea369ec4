//! What a slab says of itself: that it is full, and how it stands.
#![forbid(unsafe_code)]

use core::fmt;

/// The error of [`Slab::insert`](crate::Slab::insert): the slab is at its limit, or there is no
/// memory. It holds the item.
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Full<T>(pub T);

impl<T> Full<T> {
    /// Returns the item that found no room.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("slab is full")
    }
}

impl<T> core::error::Error for Full<T> {}

/// The state of a slab's storage.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Stats {
    /// Items.
    pub live: u32,
    /// Items that there may be at a time.
    pub limit: u32,
    /// Chunks in the directory, mapped or given back: the high-water mark.
    pub chunks: u32,
    /// Chunks that have memory.
    pub mapped_chunks: u32,
    /// Of those, chunks without an item, which are kept for the next storm.
    pub empty_chunks: u32,
    /// The memory of the mapped chunks in bytes.
    pub mapped_bytes: usize,
    /// Slots out of use, since they or a slot of their chunk have used up the generations.
    pub retired: u64,
}
