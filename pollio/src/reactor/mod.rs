//! The loop: a server is a [`Server`] and nothing else.
//!
//! # A turn
//!
//! 1. Wait for events: not at all while tokens or background work are left over, else until the
//!    server's next deadline, else without limit. Read the clock; tell the server
//!    ([`Server::on_turn`]).
//! 2. [`Server::on_ready`] for each token, at most once: first those on the ready list, in their
//!    order, merged with what the wait says about them, then the others. [`Progress::More`] puts
//!    the token at the back of the list for the next turn.
//! 3. [`Server::on_messages`], every turn, so let it begin with a cheap look
//!    ([`Receiver::is_empty`](crate::Receiver::is_empty)).
//! 4. [`Server::on_timers`], if the deadline has come.
//! 5. [`Server::background`], with a budget of time.
//! 6. [`Server::flush`]: the end of the batch, where output leaves.
//!
//! So a busy turn is one system call beside the reads and writes themselves, and an idle loop makes
//! none.
//!
//! # Spinning
//!
//! With [`ReactorOptions::spin_ns_max`] a loop that has run out of work looks for more before it
//! sleeps: its turns are ordinary ones, but the wait is a [look](Backend::look). An event, a wake,
//! a timer that is due and background work that answers `More` are work; after the last of it the
//! loop looks for a time that adapts itself, between 0 and the limit, to whether looking would have
//! saved the last sleeps: `reactor/spin.rs`, or `docs/pollio.md`.
//!
//! No wake is lost: what a look takes is work of its own turn, whose [`Server::on_messages`] is
//! still to come, and a later wake is found by the next look, or keeps the next wait from blocking.
//!
//! # Fairness
//!
//! A token is served once a turn whatever is waiting on it, within the [`Budget`] that the server
//! keeps to. A loud source gets a budget each turn, and so does everybody else.
//!
//! # Stale tokens
//!
//! The reactor does not know when a source is closed. A token may be served after its source is
//! gone, from the same wait or from the ready list; the server recognises it, by a generation, and
//! answers [`Progress::Done`].

#![forbid(unsafe_code)]

mod io;
mod metrics;
mod spin;

use std::io::Result;

use self::spin::Spin;
pub use self::{io::Io, metrics::Metrics};
use crate::{
    backend::Backend,
    event::{Events, Readiness, Token},
    ready::ReadyList,
    waker::Waker,
};

/// Whether something is left to be done.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[must_use]
pub enum Progress {
    /// The budget ended the work. It goes on in the next turn, and the loop does not sleep.
    More,
    /// There is nothing left. The next event, message or deadline brings more.
    Done,
}

/// What one source may use up in one turn.
///
/// The reactor passes it on and the server keeps to it: only the server knows what a packet is.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub struct Budget {
    /// Bytes read. Default: 64 KiB.
    pub bytes: usize,
    /// Packets, requests, connections: whatever the server counts. Default: 64.
    pub packets: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: 64 * 1024,
            packets: 64,
        }
    }
}

/// The limits of a [`Reactor`].
#[derive(Clone, Debug)]
pub struct ReactorOptions {
    /// Events a wait. Default: 256.
    pub events_max: usize,
    /// [`Budget::bytes`]. Default: 64 KiB.
    pub read_bytes_max: usize,
    /// [`Budget::packets`]. Default: 64.
    pub read_packets_max: usize,
    /// Time for [`Server::background`] a turn, in nanoseconds. Default: 200,000.
    pub background_ns: u64,
    /// Read the clock also before a wait that may block, so that [`Metrics`] can tell busy time
    /// from idle time. Default: yes. It costs one more clock read a blocking turn.
    pub measure_busy: bool,
    /// How long the loop looks for more work before it sleeps, at most, in nanoseconds.
    /// Default: 0, which is off.
    ///
    /// It saves the way into sleep and out of it, at the price of a processor that does nothing
    /// else meanwhile: at most about this much a sleep, and nothing after a few sleeps that were
    /// longer. See [spinning](self#spinning). While it is on, a turn that may block reads the clock
    /// as with `measure_busy`.
    pub spin_ns_max: u64,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        let budget = Budget::default();
        Self {
            events_max: 256,
            read_bytes_max: budget.bytes,
            read_packets_max: budget.packets,
            background_ns: 200_000,
            measure_busy: true,
            spin_ns_max: 0,
        }
    }
}

/// What a [`Reactor`] calls. All on one thread, one at a time; none may block.
pub trait Server<B: Backend> {
    /// A turn begins. `now_ns` is its time, for as long as it lasts.
    fn on_turn(&mut self, now_ns: u64) {
        let _ = now_ns;
    }

    /// A source is ready, or has been and the last call answered `More`.
    ///
    /// `readiness` is everything reported since a call answered `Done`. Edge-triggered sources are
    /// read and written until `WouldBlock` before the answer is `Done`, or their readiness is kept
    /// by the server: nothing repeats it.
    fn on_ready(
        &mut self,
        io: &mut Io<'_, B>,
        token: Token,
        readiness: Readiness,
        budget: &Budget,
    ) -> Progress;

    /// Time to look at mailboxes. Called every turn.
    fn on_messages(&mut self, io: &mut Io<'_, B>) {
        let _ = io;
    }

    /// When [`on_timers`](Self::on_timers) is wanted, in nanoseconds of the backend's clock; `None`
    /// for never, and for servers whose timers are a descriptor. Called about twice a turn, so let
    /// it be cheap.
    fn next_deadline(&mut self) -> Option<u64> {
        None
    }

    /// The deadline has come. If it stays in the past, the loop does not sleep.
    fn on_timers(&mut self, io: &mut Io<'_, B>, now_ns: u64) {
        let _ = (io, now_ns);
    }

    /// Work that is never urgent, for about `budget_ns` of time. Called every turn. After `More`
    /// the loop does not sleep.
    fn background(&mut self, io: &mut Io<'_, B>, budget_ns: u64) -> Progress {
        let _ = (io, budget_ns);
        Progress::Done
    }

    /// The end of the turn: give away the output that has gathered.
    fn flush(&mut self, io: &mut Io<'_, B>) {
        let _ = io;
    }
}

/// What a turn did.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct Turn {
    /// The time of the turn, in nanoseconds of the backend's clock.
    pub now_ns: u64,
    /// Events that the wait reported.
    pub events: usize,
    /// Calls of [`Server::on_ready`].
    pub served: usize,
    /// Tokens that have work left.
    pub ready: usize,
    /// Whether [`Server::on_timers`] was called.
    pub timers: bool,
    /// What [`Server::background`] answered.
    pub background: Progress,
}

/// A loop over a [`Backend`]. Owns no thread: whoever calls [`run`](Self::run) or
/// [`turn`](Self::turn) lends it one. It can be built on one thread and moved to another.
#[derive(Debug)]
pub struct Reactor<B: Backend> {
    backend: B,
    waker: Waker,
    events: Events,
    ready: ReadyList,
    /// The tokens of this turn; kept for its buffer.
    batch: Vec<(Token, Readiness)>,
    budget: Budget,
    background_ns: u64,
    background: Progress,
    measure_busy: bool,
    spin: Spin,
    now_ns: u64,
    metrics: Metrics,
}

impl<B: Backend> Reactor<B> {
    /// A loop over `backend`. Allocates the event buffer.
    #[must_use]
    pub fn new(mut backend: B, options: ReactorOptions) -> Self {
        let now_ns = backend.now_ns();
        Self {
            waker: backend.waker(),
            backend,
            events: Events::with_capacity(options.events_max),
            ready: ReadyList::default(),
            batch: Vec::with_capacity(options.events_max),
            budget: Budget {
                bytes: options.read_bytes_max,
                packets: options.read_packets_max,
            },
            background_ns: options.background_ns,
            background: Progress::Done,
            measure_busy: options.measure_busy,
            spin: Spin::new(options.spin_ns_max),
            now_ns,
            metrics: Metrics::new(now_ns),
        }
    }

    /// The backend, between turns.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// The same access that callbacks get, between turns. Its time is that of the last turn.
    pub fn io(&mut self) -> Io<'_, B> {
        Io {
            backend: &mut self.backend,
            ready: &mut self.ready,
            now_ns: self.now_ns,
        }
    }

    /// Puts a token at the back of the ready list, as readable. See [`Io::make_ready`].
    pub fn make_ready(&mut self, token: Token) {
        self.ready.push(token, Readiness::READABLE);
    }

    /// A handle that makes the loop look at its messages, from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// What the loop has done so far.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Turns until `until` answers `true`, which is asked before each turn.
    ///
    /// To stop from another thread, set a flag that `until` reads, then wake the loop.
    ///
    /// # Errors
    ///
    /// Those of [`Backend::wait`].
    pub fn run<S: Server<B>>(
        &mut self,
        server: &mut S,
        mut until: impl FnMut(&mut S) -> bool,
    ) -> Result<()> {
        while !until(server) {
            self.turn(server)?;
        }
        Ok(())
    }

    /// One turn; see the [module](self).
    ///
    /// # Errors
    ///
    /// Those of [`Backend::wait`]. No callback was made then.
    pub fn turn<S: Server<B>>(&mut self, server: &mut S) -> Result<Turn> {
        self.turn_within(server, None)
    }

    /// One turn that waits at most `wait_ns_max`, so that it can be stepped from outside.
    ///
    /// With `Some(0)` it does not wait and does not spin.
    ///
    /// # Errors
    ///
    /// Those of [`Backend::wait`]. No callback was made then.
    pub fn turn_within<S: Server<B>>(
        &mut self,
        server: &mut S,
        wait_ns_max: Option<u64>,
    ) -> Result<Turn> {
        self.wait(server, wait_ns_max)?;
        let now_ns = self.now_ns;
        server.on_turn(now_ns);
        let events = self.ready.take_with(self.events.iter(), &mut self.batch);
        let mut io = Io {
            backend: &mut self.backend,
            ready: &mut self.ready,
            now_ns,
        };

        let mut more = 0;
        for &(token, readiness) in &self.batch {
            if server.on_ready(&mut io, token, readiness, &self.budget) == Progress::More {
                io.ready.push(token, readiness);
                more += 1;
            }
        }
        // What was pushed before these wakes is drained now; they need not cost another turn.
        self.waker.acknowledge();
        server.on_messages(&mut io);
        let timers = server
            .next_deadline()
            .is_some_and(|deadline| deadline <= now_ns);
        if timers {
            server.on_timers(&mut io, now_ns);
        }
        self.background = server.background(&mut io, self.background_ns);
        server.flush(&mut io);

        let served = self.batch.len();
        self.metrics.count_turn(events, served, more, timers);
        let (ready, background) = (self.ready.len(), self.background);
        Ok(Turn {
            now_ns,
            events,
            served,
            ready,
            timers,
            background,
        })
    }

    /// How long the next turn would wait if nothing happened, in nanoseconds: `Some(0)` while there
    /// is work left over, `None` without limit. For stepping several loops from outside.
    pub fn sleep_ns<S: Server<B>>(&mut self, server: &mut S) -> Option<u64> {
        if self.has_leftovers() {
            return Some(0);
        }
        let deadline = server.next_deadline()?;
        Some(deadline.saturating_sub(self.backend.now_ns()))
    }

    fn has_leftovers(&self) -> bool {
        !self.ready.is_empty() || self.background == Progress::More
    }

    fn wait<S: Server<B>>(&mut self, server: &mut S, wait_ns_max: Option<u64>) -> Result<()> {
        if wait_ns_max == Some(0) || self.has_leftovers() {
            self.spin.work();
            self.backend.wait(&mut self.events, Some(0))?;
            self.now_ns = self.backend.now_ns();
            self.metrics.measure_poll(self.now_ns);
            Ok(())
        } else if self.spin.is_on() {
            self.look_or_sleep(server, wait_ns_max)
        } else {
            self.sleep(server, wait_ns_max)
        }
    }

    /// A wait for a deadline that has come already. Apart from the others: inlined, it made each
    /// turn 18 instructions longer.
    #[cold]
    #[inline(never)]
    fn poll(&mut self) -> Result<()> {
        self.backend.wait(&mut self.events, Some(0))?;
        self.now_ns = self.backend.now_ns();
        self.metrics.measure_poll(self.now_ns);
        Ok(())
    }

    /// A wait that may block, and does not if the deadline has come.
    #[inline]
    fn sleep<S: Server<B>>(&mut self, server: &mut S, wait_ns_max: Option<u64>) -> Result<()> {
        let mut timeout_ns = wait_ns_max;
        let deadline = server.next_deadline();
        if deadline.is_some() || self.measure_busy {
            // The time of the turn is too old to sleep by.
            let now_ns = self.backend.now_ns();
            self.metrics.measure_rest(now_ns);
            if let Some(deadline) = deadline {
                if deadline <= now_ns {
                    return self.poll();
                }
                let left_ns = deadline - now_ns;
                timeout_ns = Some(timeout_ns.map_or(left_ns, |max| max.min(left_ns)));
            }
        }
        self.backend.wait(&mut self.events, timeout_ns)?;
        self.now_ns = self.backend.now_ns();
        self.metrics.measure_sleep(self.now_ns);
        Ok(())
    }

    /// The wait of a loop that spins. Apart from the others, so that they pay nothing for it.
    #[cold]
    fn look_or_sleep<S: Server<B>>(
        &mut self,
        server: &mut S,
        wait_ns_max: Option<u64>,
    ) -> Result<()> {
        let has_looked = self.spin.is_idle();
        if !has_looked {
            self.now_ns = self.backend.now_ns();
            self.metrics.measure_rest(self.now_ns);
            self.spin.rest(self.now_ns);
        }
        if !self.spin.looks_again(self.now_ns) {
            if has_looked {
                self.metrics.measure_look(self.backend.now_ns());
            }
            self.sleep(server, wait_ns_max)?;
            self.spin.wake(self.now_ns);
            return Ok(());
        }
        self.backend.look(&mut self.events)?;
        self.now_ns = self.backend.now_ns();
        self.metrics.measure_look(self.now_ns);
        // A message is pushed before its wake: what is behind the wakes that are taken here, this
        // turn handles. A later wake is seen by the next look, or keeps the loop from sleeping.
        let is_woken = self.waker.acknowledge();
        let is_due = |deadline| deadline <= self.now_ns;
        if is_woken || !self.events.is_empty() || server.next_deadline().is_some_and(is_due) {
            self.spin.work();
        } else {
            self.metrics.spins += 1;
        }
        Ok(())
    }
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Reactor<crate::Epoll>>();
};
