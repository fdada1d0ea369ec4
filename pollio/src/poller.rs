//! epoll, with every mode, nanosecond timeouts and a waker.

#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{event::epoll, io::Errno, time::Timespec};

use crate::{
    event::{Events, Interest, Mode, Token},
    sync::{AtomicBool, Ordering},
    sys,
    waker::Waker,
};

/// An epoll instance and its waker.
///
/// Sources are registered by reference and stay the caller's. A source is removed by
/// [`delete`](Self::delete), or by closing its last descriptor. All methods take `&self`: several
/// threads may wait on one poller, with [`Mode::EdgeOneShot`] so that a source has one owner at a
/// time.
///
/// # Waking
///
/// [`wait`](Self::wait) parks the [`Waker`] before it blocks and unparks it when it returns, so
/// look at mailboxes after each wait and before the next. With several threads on one poller, a
/// wake reaches at least one thread that is on its way into or out of `wait`.
///
/// # Examples
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use pollio::{Events, Interest, Mode, Poller, Token};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// listener.set_nonblocking(true)?;
/// let poller = Poller::new()?;
/// poller.add(&listener, Token(7), Interest::READABLE, Mode::Edge)?;
///
/// let _client = TcpStream::connect(listener.local_addr()?)?;
/// let mut events = Events::with_capacity(16);
/// poller.wait(&mut events, None)?;
/// let (token, readiness) = events.iter().next().expect("one source is ready");
/// assert_eq!(token, Token(7));
/// assert!(readiness.is_readable());
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: Waker,
    /// Somebody has a handle of the waker, so that waits have to park it.
    has_wakers: AtomicBool,
    /// A wait without parking may be in progress, as far as the first handle can know.
    may_wait: AtomicBool,
    /// Set when the kernel, or a filter before it, has shown that it knows no `epoll_pwait2`.
    milliseconds_only: AtomicBool,
}

impl Poller {
    /// Opens an epoll instance and an eventfd for its waker: two descriptors.
    ///
    /// # Errors
    ///
    /// When the process or the system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = Waker::with_eventfd()?;
        if let Some(eventfd) = waker.eventfd() {
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            epoll::add(&epoll, eventfd, data(Token::RESERVED), flags)?;
        }
        Ok(Self {
            epoll,
            waker,
            has_wakers: AtomicBool::new(false),
            may_wait: AtomicBool::new(false),
            milliseconds_only: AtomicBool::new(false),
        })
    }

    /// Registers a source.
    ///
    /// If it is ready already, the next wait reports it, in edge-triggered modes too.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for [`Token::RESERVED`]; else those of `epoll_ctl(2)`, notably
    /// `AlreadyExists` and `EPERM` for a regular file.
    pub fn add(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        check(token)?;
        Ok(epoll::add(
            &self.epoll,
            source,
            data(token),
            flags(interest, mode),
        )?)
    }

    /// Changes token, interest and mode of a registered source, and arms it anew: if it is ready
    /// now, the next wait reports it.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for [`Token::RESERVED`] and where [`Mode::Exclusive`] is or was set;
    /// `NotFound` for a source that is not registered.
    pub fn modify(
        &self,
        source: impl AsFd,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        check(token)?;
        Ok(epoll::modify(
            &self.epoll,
            source,
            data(token),
            flags(interest, mode),
        )?)
    }

    /// Removes a source. Events of it that a wait has already put into a buffer are not withdrawn.
    ///
    /// # Errors
    ///
    /// `NotFound` for a source that is not registered.
    pub fn delete(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits until a source is ready, a [`Waker`] wakes, or `timeout_ns` have passed, and replaces
    /// the contents of `events`.
    ///
    /// `None` waits without limit and `Some(0)` does not wait. One system call: `epoll_wait(2)` for
    /// those two and for whole milliseconds, else `epoll_pwait2(2)` (Linux 5.11); where there is
    /// none, `epoll_wait(2)` with the time rounded up to milliseconds. A signal ends the wait
    /// early, without error and without events, and so may a wake: treat the return as a hint
    /// that something may have happened.
    ///
    /// # Errors
    ///
    /// None that a correct program can cause.
    pub fn wait(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<()> {
        if timeout_ns == Some(0) {
            let result = self.wait_raw(events, timeout_ns);
            self.waker.acknowledge();
            return result;
        }
        if !self.may_be_woken() {
            return self.wait_raw(events, timeout_ns);
        }
        if !self.waker.prepare_park() {
            return self.wait_raw(events, Some(0));
        }
        let result = self.wait_raw(events, timeout_ns);
        self.waker.unpark();
        result
    }

    /// As [`wait`](Self::wait) of 0, but for the wakes, which are left to be taken.
    pub(crate) fn look(&self, events: &mut Events) -> io::Result<()> {
        self.wait_raw(events, Some(0))
    }

    /// Whether there is anybody to park for: without, a wait saves two read-modify-writes.
    ///
    /// It says that there may be a wait in progress before it looks for handles, and
    /// [`waker`](Self::waker) says that there is a handle before it looks for waits: whichever
    /// swap comes second sees the other one's. So either this wait parks, or it is rung.
    fn may_be_woken(&self) -> bool {
        if !self.may_wait.load(Ordering::Relaxed) {
            self.may_wait.swap(true, Ordering::SeqCst);
        }
        self.has_wakers.load(Ordering::SeqCst)
    }

    fn wait_raw(&self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<()> {
        events.clear();
        // Without fractions of a millisecond the older call says the same, and costs less: the
        // newer one copies a time from here, whatever it is.
        if let Some(timeout_ms) = whole_ms(timeout_ns) {
            return self.wait_ms(events, timeout_ms);
        }
        if self.milliseconds_only.load(Ordering::Relaxed) {
            return self.wait_ms(events, rounded_up_ms(timeout_ns));
        }
        let timeout = timeout_ns.map(timespec);
        let room = rustix::buffer::spare_capacity(events.list_mut());
        match epoll::wait(&self.epoll, room, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            // A missing system call, or one that an old container filter refuses. The call itself
            // knows neither error.
            Err(Errno::NOSYS | Errno::PERM) => {
                self.milliseconds_only.store(true, Ordering::Relaxed);
                self.wait_ms(events, rounded_up_ms(timeout_ns))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn wait_ms(&self, events: &mut Events, timeout_ms: i32) -> io::Result<()> {
        match sys::epoll_wait_ms(self.epoll.as_fd(), events.list_mut(), timeout_ms) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    /// A handle that ends a wait from another thread.
    ///
    /// The first one, where it is asked for after the first wait, makes a wait in progress or the
    /// next one end early.
    #[must_use]
    pub fn waker(&self) -> Waker {
        let is_first = !self.has_wakers.load(Ordering::Relaxed)
            && !self.has_wakers.swap(true, Ordering::SeqCst);
        if is_first && self.may_wait.load(Ordering::SeqCst) {
            self.waker.ring();
        }
        self.waker.clone()
    }

    /// Loop side of the waker, for loops that do more between deciding to sleep and sleeping than
    /// [`wait`](Self::wait) does: see [`Waker::prepare_park`]. `wait` may follow it.
    #[must_use]
    pub fn prepare_park(&self) -> bool {
        self.waker.prepare_park()
    }

    /// See [`Waker::unpark`].
    pub fn unpark(&self) -> bool {
        self.waker.unpark()
    }
}

impl AsFd for Poller {
    /// The epoll descriptor, which is readable while a source is ready: pollers nest.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn check(token: Token) -> io::Result<()> {
    if token == Token::RESERVED {
        let text = "token u64::MAX belongs to the poller's waker";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn data(token: Token) -> epoll::EventData {
    epoll::EventData::new_u64(token.0)
}

fn flags(interest: Interest, mode: Mode) -> epoll::EventFlags {
    use epoll::EventFlags as Flags;
    let mut flags = Flags::empty();
    if interest.is_readable() {
        flags |= Flags::IN;
        // The kernel refuses EPOLLRDHUP beside EPOLLEXCLUSIVE.
        if mode != Mode::Exclusive {
            flags |= Flags::RDHUP;
        }
    }
    if interest.is_writable() {
        flags |= Flags::OUT;
    }
    flags
        | match mode {
            Mode::Level => Flags::empty(),
            Mode::Edge => Flags::ET,
            Mode::EdgeOneShot => Flags::ET | Flags::ONESHOT,
            Mode::Exclusive => Flags::ET | Flags::EXCLUSIVE,
        }
}

/// The timeout of `epoll_wait(2)`, where it can say exactly that; -1 has no limit.
fn whole_ms(timeout_ns: Option<u64>) -> Option<i32> {
    let Some(ns) = timeout_ns else {
        return Some(-1);
    };
    let ms = ns / 1_000_000;
    (ms * 1_000_000 == ns)
        .then(|| i32::try_from(ms).ok())
        .flatten()
}

/// The same, later where it cannot: a wait that ends before the deadline is a busy loop.
fn rounded_up_ms(timeout_ns: Option<u64>) -> i32 {
    timeout_ns.map_or(-1, |ns| {
        i32::try_from(ns.div_ceil(1_000_000)).unwrap_or(i32::MAX)
    })
}

fn timespec(ns: u64) -> Timespec {
    // Both fit: 2^64 ns are 18 billion seconds.
    Timespec {
        tv_sec: (ns / 1_000_000_000) as i64,
        tv_nsec: (ns % 1_000_000_000) as _,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;
    use crate::event::Readiness;

    fn source(initial: u32) -> OwnedFd {
        eventfd(initial, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
    }

    fn ready(poller: &Poller, events: &mut Events) -> Vec<(Token, Readiness)> {
        poller.wait(events, Some(0)).unwrap();
        events.iter().collect()
    }

    #[test]
    fn a_waker_that_is_asked_for_late_ends_the_next_wait() {
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        poller.wait(&mut events, Some(1)).unwrap();
        let waker = poller.waker();
        // Without limit: it would hang if nothing ended it.
        poller.wait(&mut events, None).unwrap();
        assert!(events.is_empty());
        // From now on waits park, and a wake without a ring forbids sleep.
        waker.wake();
        poller.wait(&mut events, None).unwrap();
        let other = std::thread::spawn(move || waker.wake());
        poller.wait(&mut events, None).unwrap();
        other.join().unwrap();
    }

    #[test]
    fn a_waker_that_is_asked_for_during_a_wait_ends_it() {
        let poller = std::sync::Arc::new(Poller::new().unwrap());
        let waiting = std::sync::Arc::clone(&poller);
        let thread = std::thread::spawn(move || {
            let mut events = Events::with_capacity(8);
            // Ended by the ring or by the wake, whichever it meets.
            waiting.wait(&mut events, None).unwrap();
        });
        poller.waker().wake();
        thread.join().unwrap();
    }

    #[test]
    fn each_mode_reports_as_often_as_it_says() {
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        let fd = source(1);
        let readable = vec![(Token(3), Readiness::READABLE)];

        poller
            .add(&fd, Token(3), Interest::READABLE, Mode::Level)
            .unwrap();
        assert_eq!(ready(&poller, &mut events), readable);
        assert_eq!(ready(&poller, &mut events), readable);

        poller
            .modify(&fd, Token(3), Interest::READABLE, Mode::Edge)
            .unwrap();
        assert_eq!(ready(&poller, &mut events), readable);
        assert_eq!(ready(&poller, &mut events), []);
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!(ready(&poller, &mut events), readable);

        poller
            .modify(&fd, Token(3), Interest::READABLE, Mode::EdgeOneShot)
            .unwrap();
        assert_eq!(ready(&poller, &mut events), readable);
        rustix::io::write(&fd, &1_u64.to_ne_bytes()).unwrap();
        assert_eq!(ready(&poller, &mut events), []);
        poller
            .modify(&fd, Token(3), Interest::READABLE, Mode::EdgeOneShot)
            .unwrap();
        assert_eq!(ready(&poller, &mut events), readable);

        poller.delete(&fd).unwrap();
        poller
            .add(&fd, Token(3), Interest::READABLE, Mode::Exclusive)
            .unwrap();
        assert_eq!(ready(&poller, &mut events), readable);
        assert_eq!(ready(&poller, &mut events), []);
        let error = poller
            .modify(&fd, Token(3), Interest::READABLE, Mode::Edge)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        poller.delete(&fd).unwrap();
        assert_eq!(
            poller.delete(&fd).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn the_reserved_token_is_refused() {
        let poller = Poller::new().unwrap();
        let fd = source(0);
        let add = poller.add(&fd, Token::RESERVED, Interest::BOTH, Mode::Edge);
        assert_eq!(add.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_wake_ends_the_wait_before_and_during_it() {
        let poller = Poller::new().unwrap();
        let waker = poller.waker();
        let mut events = Events::with_capacity(8);
        waker.wake();
        poller.wait(&mut events, None).unwrap();
        assert!(events.is_empty());
        std::thread::scope(|scope| {
            for _ in 0..100 {
                let woken = scope.spawn(|| waker.wake());
                poller.wait(&mut events, None).unwrap();
                woken.join().unwrap();
                // The wake may have come before the wait, or have ended it: either way it is
                // taken at most once more here.
                poller.wait(&mut events, Some(0)).unwrap();
            }
        });
    }

    #[test]
    fn milliseconds_serve_where_nanoseconds_are_missing() {
        let poller = Poller::new().unwrap();
        poller.milliseconds_only.store(true, Ordering::Relaxed);
        let mut events = Events::with_capacity(8);
        poller.wait(&mut events, Some(1)).unwrap();
        assert!(events.is_empty());
        let fd = source(1);
        poller
            .add(&fd, Token(u64::MAX - 1), Interest::BOTH, Mode::Level)
            .unwrap();
        poller.wait(&mut events, None).unwrap();
        let got: Vec<_> = events.iter().collect();
        assert_eq!(
            got,
            [(
                Token(u64::MAX - 1),
                Readiness::READABLE | Readiness::WRITABLE
            )]
        );
    }

    #[test]
    fn whole_milliseconds_are_told_from_fractions() {
        let ms = 1_000_000;
        for whole in [None, Some(0), Some(ms), Some(ms * i32::MAX as u64)] {
            assert!(whole_ms(whole).is_some(), "{whole:?}");
        }
        for other in [1, ms - 1, ms + 1, ms * (i32::MAX as u64 + 1), u64::MAX] {
            assert!(whole_ms(Some(other)).is_none(), "{other}");
        }
    }

    #[test]
    fn a_finite_timeout_passes() {
        let poller = Poller::new().unwrap();
        let mut events = Events::with_capacity(8);
        poller.wait(&mut events, Some(1_000)).unwrap();
        assert!(events.is_empty());
        poller.wait(&mut events, Some(1_000_000)).unwrap();
        assert!(events.is_empty());
    }
}
