//! Hierarchical timer wheels with lazy reset, driven by ticks or by timerfd.
//!
//! [`TimerWheel`] is the wheel, [`Policy`] says how late its timers may be, [`TimerKey`] names one.
//! With the feature `timerfd`, `driver::TimerFd` wakes an event loop when the wheel wants it.
//! [`ShardedWheel`] is for servers where any thread may reset or cancel a timer of another's wheel.
//!
//! # How it works
//!
//! A wheel is a few levels of 64 slots. A slot of level 0 is one tick long, and slots get longer
//! from level to level. A timer waits in a slot that is ahead of the present by 64 or fewer, and is
//! looked at when the slot *comes up*, that is at its first tick. A word a level says which slots
//! are occupied, so the next one is found by a rotate and a count of trailing zeros:
//!
//! ```text
//!             present                            one word a level: slots that are occupied
//!                |
//! level 0   . . .v# . . # . . . . . . . . # .    slots of 1 tick
//! level 1   . .v. . # . . . . . # # . . . . .    slots of 64 ticks (coarse: 4)
//! level 2   .v. . . . . # . . . . . . . . . .    slots of 4096 ticks (coarse: 16)
//!     :                 |
//!                       |  head            next            next
//!                       +-------> timer 9 ------> timer 4 ------> timer 7
//!                                         <------         <------
//!                                          prev            prev
//! ```
//!
//! **Exact**: a timer waits on the level that its distance asks for, in the slot that its deadline
//! lies in. When the slot comes up early, because it is longer than a tick, the timer moves to a
//! lower level: it cascades.
//!
//! **Coarse**: the deadline is rounded up to the beginning of a slot that is no longer than the
//! slack which the delay allows, and the timer expires when that comes up. Nothing cascades, and
//! timers share few ticks. Where the limit on the slack is so small that its slots do not reach the
//! deadline, the timer first waits on a coarser level, rounded down.
//!
//! **Touch** stores the later deadline in the timer and leaves it where it is. When its slot comes
//! up, the deadline is not yet there, and the timer is placed anew. A connection that talks a
//! thousand times within its keep-alive costs a thousand stores and one move.
//!
//! A slot that has come up becomes the **pending** list as a whole, and
//! [`expire`](TimerWheel::expire) works that off within its budget. What is pending is still a
//! timer like any other: it can be cancelled, touched and reset.
//!
//! Timers are entries of 24 bytes and the payload in chunks of 64, linked by their indexes. An
//! index and a generation are the [`TimerKey`].
//!
//! # Driving it
//!
//! A wheel knows no clock. Choose what a tick is: it bounds how late an exact timer is, and with a
//! longer tick more timers share one. A turn of an event loop is then: wait until
//! [`next_deadline`](TimerWheel::next_deadline); read the clock; [`expire`](TimerWheel::expire), or
//! [`advance`](TimerWheel::advance) if nothing is due; work. Round the clock down to ticks and
//! deadlines up, and no timer is early by the clock either.
//!
//! # Contract
//!
//! ## Time
//!
//! No timer is handed out before its deadline, and none later than its [`Policy`] says, added to
//! the time between two calls of [`expire`](TimerWheel::expire). Time does not run backwards: an
//! earlier tick than the latest one told counts as that. Every tick up to `u64::MAX` may be a
//! deadline.
//!
//! ## Draining
//!
//! [`expire`](TimerWheel::expire) looks at no more timers than its budget, and says whether there
//! is more to do. What is due and was not handed out stays due,
//! [`next_deadline`](TimerWheel::next_deadline) is then a tick that has passed, and the next call
//! goes on, at that tick or a later one.
//!
//! ## Spurious deadlines
//!
//! [`next_deadline`](TimerWheel::next_deadline) may name a tick at which nothing expires, because a
//! timer has to be looked at or moved there. It never names one that is too late.
//!
//! ## Stale keys
//!
//! A [`TimerKey`] is good until its timer has been handed out or cancelled. After that every method
//! answers `None` or false, also if the place has been given to another timer: a generation tells
//! them apart. A key of another wheel may name some other timer there; no key panics.
//!
//! ## Ordering
//!
//! Timers that come due in one call are handed out in no particular order; those of different calls
//! in the order of the calls. Sort by [`Expired::deadline_tick`] if it matters.
//!
//! ## Drop
//!
//! A wheel that is dropped drops the payloads of its timers, unexpired. Dropping a key or a
//! [`RemoteTimer`] does not cancel. What is sent to a [`WheelOwner`] that is gone is dropped with
//! the last handle.
#![deny(missing_docs)]
#![deny(unsafe_code)]

mod bits;
#[cfg(feature = "timerfd")]
pub mod driver;
mod inbox;
mod key;
mod policy;
mod report;
mod sharded;
mod slab;
mod sync;
mod wheel;

pub use key::TimerKey;
pub use policy::Policy;
pub use report::{Expired, Stats};
pub use sharded::{Notify, RemoteExpired, RemoteTimer, ShardedWheel, WheelOwner};
pub use wheel::TimerWheel;

/// Runs the example of the README as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
