//! The life of a slot that several threads reach for, in one atomic word.
//!
//! ```text
//!          open            rest            begin, kick
//!   FREE ───────> SERVING ──────> IDLE ─────────────────> SERVING (or CLOSING)
//!    ^               │  ^
//!    │         begin │  │ rest: serve again
//!    │               v  │
//!    │             AGAIN                  any of the above, while owned:
//!    │                                    SERVING, AGAIN ── kick ──> CLOSING
//!    └──────────────────────── close ──── SERVING, AGAIN, CLOSING
//! ```
//!
//! Whoever makes the move into `SERVING`, or from `IDLE` into `CLOSING`, owns the slot, alone,
//! until it calls `rest` or `close`. Nobody waits for an owner: an event that comes meanwhile is
//! left with it (`AGAIN`), and so is the wish to close (`CLOSING`).
//!
//! The word also holds a generation that changes with each `close`, so that whatever was meant for
//! an earlier tenant of the slot is refused.
//!
//! # Ordering
//!
//! Moves that give the slot up are `Release`, moves that take it are `Acquire`, so that an owner
//! sees what all earlier ones wrote. `AcqRel` throughout, since most do one of the two
//! depending on where they start.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU64, Ordering};

const FREE: u8 = 0;
const IDLE: u8 = 1;
const SERVING: u8 = 2;
const AGAIN: u8 = 3;
const CLOSING: u8 = 4;

/// See the module. `Default` is free.
#[derive(Debug, Default)]
pub(crate) struct Life(AtomicU64);

/// What an event means to the thread that got it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Begin {
    /// The slot is the caller's.
    Mine,
    /// Somebody owns the slot and will serve this event as well.
    Left,
    /// It was meant for an earlier tenant, or for one that is being closed.
    Stale,
}

/// What the owner has to do after it was done.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Rest {
    /// Nothing; it is no longer the owner.
    Idle,
    /// Serve once more: an event has come meanwhile. It still is the owner.
    Again,
    /// Close: somebody wished so. It still is the owner.
    Close,
}

fn word(generation: u32, state: u8) -> u64 {
    u64::from(generation) << 8 | u64::from(state)
}

fn parts(word: u64) -> (u32, u8) {
    ((word >> 8) as u32, word as u8)
}

impl Life {
    /// Takes a free slot: answers the generation of the new tenant, and the caller is the owner.
    pub(crate) fn open(&self) -> Option<u32> {
        self.step(|_, state| (state == FREE).then_some(SERVING))
            .map(|(generation, _)| generation)
    }

    /// An event has come for a tenant.
    pub(crate) fn begin(&self, tenant: u32) -> Begin {
        let moved = self.step_of(tenant, |state| match state {
            IDLE => Some(SERVING),
            SERVING | AGAIN => Some(AGAIN),
            _ => None,
        });
        match moved {
            Some(IDLE) => Begin::Mine,
            Some(_) => Begin::Left,
            None => Begin::Stale,
        }
    }

    /// Owner: the tenant has been served, and armed for its next event.
    pub(crate) fn rest(&self, tenant: u32) -> Rest {
        let moved = self.step_of(tenant, |state| match state {
            SERVING => Some(IDLE),
            AGAIN => Some(SERVING),
            _ => None,
        });
        match moved {
            Some(SERVING) => Rest::Idle,
            Some(_) => Rest::Again,
            None => Rest::Close,
        }
    }

    /// Wishes for the end of a tenant. `true` if the caller is now the owner and has to close it;
    /// else its owner will, or it is gone.
    pub(crate) fn kick(&self, tenant: u32) -> bool {
        let moved = self.step_of(tenant, |state| match state {
            IDLE | SERVING | AGAIN => Some(CLOSING),
            _ => None,
        });
        moved == Some(IDLE)
    }

    /// Owner: the tenant is gone and the slot is free for the next.
    pub(crate) fn close(&self, tenant: u32) {
        // Nobody but the owner leaves these states, so this needs no comparison.
        self.0
            .swap(word(tenant.wrapping_add(1), FREE), Ordering::AcqRel);
    }

    /// Makes a move that is legal for `tenant`; answers the state that it was made from.
    fn step_of(&self, tenant: u32, step: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        self.step(|generation, state| (generation == tenant).then(|| step(state)).flatten())
            .map(|(_, state)| state)
    }

    fn step(&self, step: impl Fn(u32, u8) -> Option<u8>) -> Option<(u32, u8)> {
        let mut old = self.0.load(Ordering::Acquire);
        loop {
            let (generation, state) = parts(old);
            let new = word(generation, step(generation, state)?);
            match self
                .0
                .compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some((generation, state)),
                Err(now) => old = now,
            }
        }
    }
}
