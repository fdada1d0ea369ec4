//! A timerfd that is armed only when it has to be.
//!
//! [`TimerFd`] turns "the wheel's next deadline" into readiness of a descriptor with as few system
//! calls as possible. It is meant to be registered edge-triggered in an epoll instance and **never
//! read**: each expiry of an armed timerfd is an edge of its own, whether or not the one before was
//! read, so reading it would be a system call for nothing.
//!
//! The contract in a turn of an event loop:
//!
//! 1. after waiting, read the monotonic clock and call [`fired`](TimerFd::fired);
//! 2. expire what is due;
//! 3. before waiting again, call [`arm`](TimerFd::arm) with the next deadline.
//!
//! A deadline that is later than the armed one costs nothing: the timerfd fires at the earlier
//! time, the loop finds nothing due and arms anew. With lazily reset timers that is once a delay,
//! not once a reset. There can be such a spurious wake-up after a cancel, too;
//! [`disarm`](TimerFd::disarm) saves it when the wheel has become empty.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const NS_PER_S: u64 = 1_000_000_000;
const ZERO: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// A non-blocking, close-on-exec timerfd on `CLOCK_MONOTONIC`.
///
/// # Examples
///
/// ```
/// use timerwheel::driver::TimerFd;
///
/// # fn main() -> std::io::Result<()> {
/// let mut timer = TimerFd::new()?;
/// timer.arm(5_000_000_000)?;
/// timer.arm(7_000_000_000)?; // later than what is armed: no system call
/// assert_eq!(timer.syscalls(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TimerFd {
    fd: OwnedFd,
    armed_ns: Option<u64>,
    syscalls: u64,
}

impl TimerFd {
    /// Creates a timerfd that is not armed.
    ///
    /// # Errors
    ///
    /// What `timerfd_create(2)` answers: out of descriptors or of memory.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self {
            fd,
            armed_ns: None,
            syscalls: 0,
        })
    }

    /// Sees to it that the descriptor becomes readable at `deadline_ns` of `CLOCK_MONOTONIC` or
    /// before.
    ///
    /// One system call if nothing is armed, if what was armed has [`fired`](Self::fired), or if the
    /// deadline is earlier than the armed one; else none. A deadline that has passed makes the
    /// descriptor ready at once.
    ///
    /// # Errors
    ///
    /// What `timerfd_settime(2)` answers; what was armed then stays armed.
    pub fn arm(&mut self, deadline_ns: u64) -> io::Result<()> {
        if self
            .armed_ns
            .is_some_and(|armed_ns| armed_ns <= deadline_ns)
        {
            return Ok(());
        }
        // Zero would disarm.
        self.set(deadline_ns.max(1))?;
        self.armed_ns = Some(deadline_ns);
        Ok(())
    }

    /// Takes back what is armed. No system call if nothing is.
    ///
    /// # Errors
    ///
    /// What `timerfd_settime(2)` answers; what was armed then stays armed.
    pub fn disarm(&mut self) -> io::Result<()> {
        if self.armed_ns.is_some() {
            self.set(0)?;
            self.armed_ns = None;
        }
        Ok(())
    }

    /// Tells the time, so that a deadline that has passed no longer counts as armed; says whether
    /// one had.
    ///
    /// No system call. `now_ns` is read from `CLOCK_MONOTONIC` after the wait that reported the
    /// descriptor. With an older reading the deadline would still count as armed, its edge would be
    /// spent, and the next [`arm`](Self::arm) with a later deadline would do nothing.
    pub fn fired(&mut self, now_ns: u64) -> bool {
        let fired = self.armed_ns.is_some_and(|armed_ns| armed_ns <= now_ns);
        if fired {
            self.armed_ns = None;
        }
        fired
    }

    /// The deadline that is armed.
    #[must_use]
    pub const fn armed(&self) -> Option<u64> {
        self.armed_ns
    }

    /// How many times `timerfd_settime(2)` was called.
    #[must_use]
    pub const fn syscalls(&self) -> u64 {
        self.syscalls
    }

    fn set(&mut self, deadline_ns: u64) -> io::Result<()> {
        self.syscalls += 1;
        // Both fit: u64::MAX nanoseconds are 1.8e10 seconds.
        let it_value = Timespec {
            tv_sec: (deadline_ns / NS_PER_S) as _,
            tv_nsec: (deadline_ns % NS_PER_S) as _,
        };
        let value = Itimerspec {
            it_interval: ZERO,
            it_value,
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &value)?;
        Ok(())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
