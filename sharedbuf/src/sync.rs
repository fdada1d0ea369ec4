//! Atomics and allocation: of the standard library, or of loom, which tracks both.
#![forbid(unsafe_code)]

#[cfg(not(loom))]
pub(crate) use core::sync::atomic::{AtomicUsize, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::alloc::{alloc, alloc_zeroed, dealloc};

#[cfg(loom)]
pub(crate) use loom::alloc::{alloc, alloc_zeroed, dealloc};
#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};
