//! Waking a loop from another thread, at the price of a system call only when it sleeps.

#![forbid(unsafe_code)]

use std::{fmt, io, os::fd::OwnedFd};

use rustix::{
    event::{EventfdFlags, eventfd},
    io::Errno,
};

use crate::sync::{Arc, AtomicU8, Ordering};

/// The loop is at work and will look at its mailboxes before it sleeps.
const RUNNING: u8 = 0;
/// Somebody woke the loop since it last looked.
const NOTIFIED: u8 = 1;
/// The loop sleeps, or has decided to.
const PARKED: u8 = 2;

/// A handle that makes a loop come round and look at its mailboxes.
///
/// Clones are handles to the same loop. Many wakes before the loop has looked are one.
///
/// # Ordering
///
/// What a thread wrote before [`wake`](Self::wake) is visible to the loop after the wait that the
/// wake ends, or after the [`acknowledge`](Self::acknowledge) that takes it. No wake is lost: each
/// state change is one read-modify-write of the same atomic, so a wake either comes before the
/// loop's attempt to park, which then fails, or finds the loop parked and rings.
///
/// # Complexity
///
/// One atomic swap. While the loop is parked, the first wake also writes its eventfd (one system
/// call); the loop never reads it. No allocation.
#[derive(Clone)]
pub struct Waker {
    inner: Arc<Inner>,
}

struct Inner {
    state: AtomicU8,
    bell: Bell,
}

enum Bell {
    EventFd(OwnedFd),
    Hook(Box<dyn Fn() + Send + Sync>),
}

impl Waker {
    /// A waker that rings an eventfd of its own.
    ///
    /// # Errors
    ///
    /// When the process or the system has no descriptor left.
    pub(crate) fn with_eventfd() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::with_bell(Bell::EventFd(fd)))
    }

    /// A waker that calls `ring` when it is woken while parked.
    ///
    /// For loops that do not sleep in a [`Poller`](crate::Poller): other backends, condition
    /// variables, an `io_uring`. `ring` runs on the waking thread and must not block.
    #[must_use]
    pub fn with_hook(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self::with_bell(Bell::Hook(Box::new(ring)))
    }

    fn with_bell(bell: Bell) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: AtomicU8::new(RUNNING),
                bell,
            }),
        }
    }

    /// Makes the loop look at its mailboxes soon: at once if it sleeps, else before it next does.
    pub fn wake(&self) {
        // A swap even if the state is `NOTIFIED` already: a plain load could be stale and miss
        // that the loop has looked since, and then the loop would sleep on a full mailbox.
        if self.inner.state.swap(NOTIFIED, Ordering::AcqRel) == PARKED {
            self.ring();
        }
    }

    /// Rings the bell whatever the loop is doing.
    ///
    /// For several threads that wait on one poller: each call ends the wait of one of them.
    pub fn ring(&self) {
        match &self.inner.bell {
            Bell::EventFd(fd) => ring_eventfd(fd),
            Bell::Hook(ring) => ring(),
        }
    }

    /// Loop side: announces the intention to sleep. `false` means that somebody woke the loop
    /// since it last looked; it then looks at its mailboxes instead of sleeping.
    #[must_use]
    pub fn prepare_park(&self) -> bool {
        let state = &self.inner.state;
        match state.compare_exchange(RUNNING, PARKED, Ordering::AcqRel, Ordering::Acquire) {
            // Several threads may wait on one poller; the second finds it parked.
            Ok(_) | Err(PARKED) => true,
            Err(_) => {
                state.swap(RUNNING, Ordering::AcqRel);
                false
            }
        }
    }

    /// Loop side: announces that it is awake. Answers whether it was woken by a
    /// [`wake`](Self::wake).
    pub fn unpark(&self) -> bool {
        self.inner.state.swap(RUNNING, Ordering::AcqRel) == NOTIFIED
    }

    /// Loop side: takes the wakes that came while it was running, just before it looks at its
    /// mailboxes, so that they do not cost it another turn. Answers whether there were any.
    ///
    /// A plain load when there are none.
    pub fn acknowledge(&self) -> bool {
        // A stale load costs an early return from the next wait and nothing else.
        self.inner.state.load(Ordering::Relaxed) == NOTIFIED && self.unpark()
    }

    /// Whether there is a wake that the loop has not taken. A hint, as of a moment ago.
    #[must_use]
    pub fn is_notified(&self) -> bool {
        self.inner.state.load(Ordering::Relaxed) == NOTIFIED
    }

    pub(crate) fn eventfd(&self) -> Option<&OwnedFd> {
        match &self.inner.bell {
            Bell::EventFd(fd) => Some(fd),
            Bell::Hook(_) => None,
        }
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.inner.state.load(Ordering::Relaxed) {
            RUNNING => "running",
            NOTIFIED => "notified",
            _ => "parked",
        };
        f.debug_struct("Waker")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

/// Adds one to the counter. Every write makes an edge, so nobody needs to read it back.
fn ring_eventfd(fd: &OwnedFd) {
    loop {
        match rustix::io::write(fd, &1_u64.to_ne_bytes()) {
            Ok(_) => return,
            Err(Errno::INTR) => {}
            // The counter is full after 2^64 - 2 rings. Emptying it makes room for this one.
            Err(Errno::AGAIN) => {
                let mut count = [0; 8];
                let _ = rustix::io::read(fd, &mut count);
            }
            Err(error) => {
                debug_assert!(false, "writing an eventfd failed: {error}");
                return;
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    static_assertions::assert_impl_all!(Waker: Clone, Send, Sync);
    static_assertions::assert_eq_size!(Waker, usize);

    fn counted() -> (Waker, Arc<AtomicUsize>) {
        let rings = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&rings);
        let waker = Waker::with_hook(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        (waker, rings)
    }

    #[test]
    fn only_the_first_wake_of_a_parked_loop_rings() {
        let (waker, rings) = counted();
        waker.wake();
        waker.wake();
        assert_eq!(rings.load(Ordering::Relaxed), 0, "running: no ring");
        assert!(
            !waker.prepare_park(),
            "a wake since the last look forbids sleep"
        );
        assert!(waker.prepare_park());
        waker.wake();
        waker.wake();
        assert_eq!(rings.load(Ordering::Relaxed), 1);
        assert!(waker.unpark());
        assert!(!waker.acknowledge());
        waker.wake();
        assert!(waker.acknowledge());
        assert!(waker.prepare_park());
        assert!(!waker.unpark());
        assert_eq!(rings.load(Ordering::Relaxed), 1);
    }
}
