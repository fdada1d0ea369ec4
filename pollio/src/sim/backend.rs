//! The system as one loop sees it.

#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
};

use rustix::io::Errno;

use super::{
    SimNet, World,
    conn::{Conn, Registration, SimStream},
    fault::Fault,
    listener::{Accepting, SimListener},
};
use crate::{
    addr::PeerAddr,
    backend::Backend,
    event::{Events, Interest, Mode, Readiness, Token},
    sync::plain::{Arc, Mutex, Ordering, lock},
    waker::Waker,
};

/// Something that a loop is to be told about.
#[derive(Debug)]
pub(super) enum Source {
    /// The ticket says whether the place is still the connection's own.
    Conn {
        conn: Arc<Conn>,
        token: Token,
        ticket: u64,
    },
    Listener(Arc<Accepting>),
}

/// The sources of one loop that have changed, each at most once.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<VecDeque<Source>>,
}

impl Inbox {
    pub(super) fn push(&self, source: Source) {
        lock(&self.queue).push_back(source);
    }

    fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    fn pop(&self, at: usize) -> Option<Source> {
        let mut queue = lock(&self.queue);
        if at > 0 {
            queue.swap(0, at);
        }
        queue.pop_front()
    }
}

/// A simulated [`Backend`]. See the [module](super).
#[derive(Debug)]
pub struct SimBackend {
    world: Arc<World>,
    inbox: Arc<Inbox>,
    waker: Waker,
}

impl SimBackend {
    pub(super) fn new(world: Arc<World>) -> Self {
        // A thread that wakes has nothing to ring: the state alone ends the next wait.
        Self {
            world,
            inbox: Arc::default(),
            waker: Waker::with_hook(|| {}),
        }
    }

    /// Whether a wait would return at once, for an event or a wake. May be wrong in saying yes.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.waker.is_notified() || self.inbox.len() > 0
    }

    fn collect(&self, events: &mut Events) {
        let mut left = self.inbox.len();
        let mut later = Vec::new();
        while left > 0 && !events.is_full() {
            let shuffled = left > 1 && self.world.chance.strikes(Fault::ShuffledEvents);
            let at = if shuffled {
                self.world.chance.below(left)
            } else {
                0
            };
            let Some(source) = self.inbox.pop(at) else {
                break;
            };
            left -= 1;
            if self.world.chance.strikes(Fault::DelayedEvent) {
                later.push(source);
                continue;
            }
            let event = match &source {
                Source::Conn {
                    conn,
                    token,
                    ticket,
                } => {
                    let (event, again) = self.report(conn, *token, *ticket);
                    if again {
                        later.push(source);
                    }
                    event
                }
                Source::Listener(listener) => self.report_listener(listener),
            };
            if let Some((token, readiness)) = event {
                events.push(token, readiness);
            }
        }
        for source in later {
            self.inbox.push(source);
        }
    }

    /// What to say about a connection, and whether it keeps its place for the next wait.
    fn report(&self, conn: &Conn, token: Token, ticket: u64) -> (Option<(Token, Readiness)>, bool) {
        let chance = &self.world.chance;
        let mut state = conn.lock();
        let readiness = state.readiness();
        if ticket != state.ticket {
            // Removed or closed since.
            return (
                chance
                    .strikes(Fault::StaleEvent)
                    .then_some((token, readiness)),
                false,
            );
        }
        state.queued = false;
        let spurious = std::mem::take(&mut state.spurious);
        let Some(registration) = &mut state.registration else {
            return (None, false);
        };
        let mut seen = masked(readiness, registration.interest);
        if spurious {
            let both = Readiness::READABLE | Readiness::WRITABLE;
            seen = seen.merge(masked(both, registration.interest));
        }
        if seen.is_empty() {
            return (None, false);
        }
        match registration.mode {
            Mode::EdgeOneShot => registration.armed = false,
            Mode::Level => state.queued = true,
            Mode::Edge | Mode::Exclusive => {
                state.spurious = chance.strikes(Fault::SpuriousEvent);
                state.queued = state.spurious;
            }
        }
        (Some((token, seen)), state.queued)
    }

    fn report_listener(&self, listener: &Arc<Accepting>) -> Option<(Token, Readiness)> {
        let (token, waiting) = listener.unqueue(&self.inbox)?;
        if self.world.chance.strikes(Fault::SpuriousEvent) {
            listener.requeue(&self.inbox);
            return Some((token, Readiness::READABLE));
        }
        waiting.then_some((token, Readiness::READABLE))
    }
}

fn masked(readiness: Readiness, interest: Interest) -> Readiness {
    let mut mask = Readiness::ERROR | Readiness::HUP;
    if interest.is_readable() {
        mask = mask | Readiness::READABLE | Readiness::READ_CLOSED;
    }
    if interest.is_writable() {
        mask = mask | Readiness::WRITABLE;
    }
    Readiness::from_bits(readiness.bits() & mask.bits())
}

impl Backend for SimBackend {
    type Stream = SimStream;
    type Listener = SimListener;

    fn now_ns(&mut self) -> u64 {
        self.world.now_ns.load(Ordering::Relaxed)
    }

    fn wait(&mut self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<()> {
        events.clear();
        if self.world.chance.strikes(Fault::WaitInterrupted) {
            return Ok(());
        }
        let had_work = self.has_work();
        self.waker.acknowledge();
        self.collect(events);
        if !events.is_empty() || had_work {
            return Ok(());
        }
        match timeout_ns {
            Some(ns) => self.world.advance(ns),
            None => {
                let text = "the loop sleeps for ever: no event, no wake and no deadline will come";
                return Err(io::Error::other(text));
            }
        }
        Ok(())
    }

    fn look(&mut self, events: &mut Events) -> io::Result<()> {
        events.clear();
        // Else a loop that spins would do so for ever.
        self.world.advance(SimNet::LOOK_NS);
        if !self.world.chance.strikes(Fault::WaitInterrupted) {
            self.collect(events);
        }
        Ok(())
    }

    fn add_stream(
        &mut self,
        stream: &SimStream,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        if token == Token::RESERVED {
            return Err(Errno::INVAL.into());
        }
        let conn = stream.conn();
        let mut state = conn.lock();
        if state.registration.is_some() {
            return Err(Errno::EXIST.into());
        }
        let inbox = Arc::clone(&self.inbox);
        state.registration = Some(Registration {
            inbox,
            token,
            interest,
            mode,
            armed: true,
        });
        if !masked(state.readiness(), interest).is_empty() {
            conn.raise(&mut state);
        }
        Ok(())
    }

    fn remove_stream(&mut self, stream: &SimStream) -> io::Result<()> {
        let conn = stream.conn();
        let mut state = conn.lock();
        let here = |of: &Registration| Arc::ptr_eq(&of.inbox, &self.inbox);
        if !state.registration.as_ref().is_some_and(here) {
            return Err(Errno::NOENT.into());
        }
        conn.unregister(&mut state, self.world.chance.strikes(Fault::StaleEvent));
        Ok(())
    }

    fn add_listener(&mut self, listener: &SimListener, token: Token) -> io::Result<()> {
        if token == Token::RESERVED {
            return Err(Errno::INVAL.into());
        }
        listener.accepting().register(&self.inbox, token)
    }

    fn remove_listener(&mut self, listener: &SimListener) -> io::Result<()> {
        listener.accepting().unregister(&self.inbox)
    }

    fn accept(&mut self, listener: &SimListener) -> io::Result<(SimStream, PeerAddr)> {
        let stream = listener.accepting().accept(&self.world)?;
        let addr = stream.peer_addr();
        Ok((stream, addr))
    }

    fn shed(&mut self, listener: &SimListener) -> io::Result<bool> {
        Ok(listener.accepting().shed(&self.world))
    }

    fn read(&mut self, stream: &SimStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }

    fn write_vectored(&mut self, stream: &SimStream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        stream.write_vectored(bufs)
    }

    fn shutdown_write(&mut self, stream: &SimStream) -> io::Result<()> {
        stream.shutdown_write()
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}
