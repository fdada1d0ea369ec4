//! The primitives of concurrent modules: those of std, or loom's under `cfg(loom)`.

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// The `Arc` in public signatures: that of std in models too, since methods can't take loom's as
/// `self`.
pub(crate) use std::sync::Arc as StdArc;

/// Locks `mutex`. A panic of a former holder left nothing half done that matters: every change
/// under our locks is complete or not begun at each point that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}
