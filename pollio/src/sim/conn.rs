//! A connection: two queues of bytes and what each end has been told.

#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
};

use rustix::io::Errno;

use super::{
    World,
    backend::{Inbox, Source},
    fault::Fault,
};
use crate::{
    addr::PeerAddr,
    event::{Interest, Mode, Readiness, Token},
    sync::plain::{Arc, Mutex, MutexGuard, Ordering, lock},
};

/// What the next read or write of a stream shall do, whatever the faults: see
/// [`SimPeer::script_reads`](super::SimPeer::script_reads).
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// What it does by itself.
    Normal,
    /// At most so many bytes; an event follows if there were more.
    AtMost(usize),
    /// `EINTR`.
    Interrupted,
    /// `EAGAIN`; an event follows.
    WouldBlock,
    /// This error of the operating system, and no event.
    Error(i32),
}

#[derive(Debug)]
pub(super) struct Conn {
    pub(super) addr: PeerAddr,
    state: Mutex<State>,
}

/// With which loop, and how, a source is registered.
#[derive(Clone, Debug)]
pub(super) struct Registration {
    pub(super) inbox: Arc<Inbox>,
    pub(super) token: Token,
    pub(super) interest: Interest,
    pub(super) mode: Mode,
    /// False after the one report of a one-shot source.
    pub(super) armed: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) to_server: VecDeque<u8>,
    pub(super) to_peer: VecDeque<u8>,
    pub(super) buffer_bytes: usize,
    /// The peer sends no more.
    pub(super) peer_fin: bool,
    /// The peer reads no more either.
    pub(super) peer_gone: bool,
    /// The server sends no more.
    pub(super) server_fin: bool,
    /// The server's stream is dropped.
    pub(super) server_gone: bool,
    pub(super) reset: bool,
    /// The reset that the next read of the server returns.
    pub(super) error: bool,
    /// A write has found no room, so that new room is an event.
    pub(super) wants_room: bool,
    pub(super) registration: Option<Registration>,
    /// Whether the connection waits to be reported.
    pub(super) queued: bool,
    /// The number of its place in the queue. A place with another number is a leftover of a
    /// registration that has ended.
    pub(super) ticket: u64,
    /// The next report claims more than is true.
    pub(super) spurious: bool,
    pub(super) reads: VecDeque<Outcome>,
    pub(super) writes: VecDeque<Outcome>,
}

impl Conn {
    pub(super) fn new(addr: PeerAddr, buffer_bytes: usize) -> Self {
        let state = State {
            to_server: VecDeque::new(),
            to_peer: VecDeque::new(),
            buffer_bytes,
            peer_fin: false,
            peer_gone: false,
            server_fin: false,
            server_gone: false,
            reset: false,
            error: false,
            wants_room: false,
            registration: None,
            queued: false,
            ticket: 0,
            spurious: false,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
        };
        Self {
            addr,
            state: Mutex::new(state),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Something has changed that an edge-triggered poller reports.
    pub(super) fn raise(self: &Arc<Self>, state: &mut State) {
        let Some(registration) = state.registration.as_ref().filter(|is| is.armed) else {
            return;
        };
        if std::mem::replace(&mut state.queued, true) {
            return;
        }
        state.ticket += 1;
        let (token, ticket) = (registration.token, state.ticket);
        registration.inbox.push(Source::Conn {
            conn: Arc::clone(self),
            token,
            ticket,
        });
    }

    /// Ends the registration. `leftover` leaves something in the queue to be reported all the same.
    pub(super) fn unregister(self: &Arc<Self>, state: &mut State, leftover: bool) {
        if leftover {
            self.raise(state);
        }
        state.registration = None;
        state.queued = false;
        state.ticket += 1;
    }

    /// The connection breaks, at the wish of either end. What the peer has not received is lost;
    /// what the server has received, it can read.
    pub(super) fn break_off(self: &Arc<Self>, state: &mut State) {
        state.reset = true;
        state.error = true;
        state.to_peer.clear();
        self.raise(state);
    }
}

impl State {
    /// Everything that is true of the server's end.
    pub(super) fn readiness(&self) -> Readiness {
        let mut is = Readiness::EMPTY;
        let mut when = |condition, bit| {
            if condition {
                is = is | bit;
            }
        };
        let ended = self.peer_fin || self.reset;
        when(!self.to_server.is_empty() || ended, Readiness::READABLE);
        let room = self.to_peer.len() < self.buffer_bytes;
        when(room || self.reset || self.server_fin, Readiness::WRITABLE);
        when(ended, Readiness::READ_CLOSED);
        when(
            self.reset || (self.peer_fin && self.server_fin),
            Readiness::HUP,
        );
        when(self.error, Readiness::ERROR);
        is
    }
}

/// The server's end of a simulated connection, closed on drop.
pub struct SimStream {
    conn: Arc<Conn>,
    world: Arc<World>,
}

impl SimStream {
    pub(super) fn new(conn: Arc<Conn>, world: Arc<World>) -> Self {
        world.open.fetch_add(1, Ordering::Relaxed);
        Self { conn, world }
    }

    pub(super) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    pub(super) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let chance = &self.world.chance;
        let mut state = self.conn.lock();
        let script = state.reads.pop_front();
        let count = state.to_server.len().min(buf.len());
        let mut count_max = count;
        match script {
            None if chance.strikes(Fault::Interrupted) => return Err(Errno::INTR.into()),
            None if count > 0 && chance.strikes(Fault::WouldBlock) => count_max = 0,
            None if count > 1 && chance.strikes(Fault::ShortRead) => {
                count_max = 1 + chance.below(count - 1);
            }
            Some(Outcome::Interrupted) => return Err(Errno::INTR.into()),
            Some(Outcome::WouldBlock) => count_max = 0,
            Some(Outcome::AtMost(max)) => count_max = max.max(1),
            Some(Outcome::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
            None | Some(Outcome::Normal) => {}
        }
        if count == 0 && script != Some(Outcome::WouldBlock) {
            return read_nothing(&mut state, buf.is_empty());
        }
        let taken = count.min(count_max);
        if taken < count || script == Some(Outcome::WouldBlock) {
            self.conn.raise(&mut state);
        }
        if taken == 0 {
            return Err(Errno::AGAIN.into());
        }
        for (to, from) in buf.iter_mut().zip(state.to_server.drain(..taken)) {
            *to = from;
        }
        Ok(taken)
    }

    pub(super) fn write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let chance = &self.world.chance;
        let mut state = self.conn.lock();
        let script = state.writes.pop_front();
        match script {
            None if chance.strikes(Fault::Interrupted) => return Err(Errno::INTR.into()),
            Some(Outcome::Interrupted) => return Err(Errno::INTR.into()),
            Some(Outcome::Error(code)) => return Err(io::Error::from_raw_os_error(code)),
            _ => {}
        }
        if state.reset || state.server_fin {
            return Err(Errno::PIPE.into());
        }
        let wanted = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if state.peer_gone {
            // The kernel takes the bytes; the peer's answer to them is a reset.
            self.conn.break_off(&mut state);
            return Ok(wanted);
        }
        let fits = wanted.min(state.buffer_bytes - state.to_peer.len());
        let taken = match script {
            Some(Outcome::WouldBlock) => 0,
            Some(Outcome::AtMost(max)) => fits.min(max.max(1)),
            None if fits > 0 && chance.strikes(Fault::WouldBlock) => 0,
            None if fits > 1 && chance.strikes(Fault::ShortWrite) => 1 + chance.below(fits - 1),
            _ => fits,
        };
        if taken < fits || script == Some(Outcome::WouldBlock) {
            self.conn.raise(&mut state);
        }
        state.wants_room |= fits < wanted;
        let bytes = bufs.iter().flat_map(|buf| buf.iter().copied());
        state.to_peer.extend(bytes.take(taken));
        if taken == 0 && wanted > 0 {
            Err(Errno::AGAIN.into())
        } else {
            Ok(taken)
        }
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        let mut state = self.conn.lock();
        if state.reset {
            return Err(Errno::NOTCONN.into());
        }
        state.server_fin = true;
        if state.peer_fin {
            self.conn.raise(&mut state);
        }
        Ok(())
    }

    /// The address at the other end.
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
        self.conn.addr
    }
}

/// An empty queue: the end, the error, or nothing yet.
fn read_nothing(state: &mut State, no_buffer: bool) -> io::Result<usize> {
    if no_buffer && !state.to_server.is_empty() {
        return Ok(0);
    }
    if std::mem::take(&mut state.error) {
        return Err(Errno::CONNRESET.into());
    }
    if state.peer_fin || state.reset {
        Ok(0)
    } else {
        Err(Errno::AGAIN.into())
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.world.open.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.conn.lock();
        self.conn
            .unregister(&mut state, self.world.chance.strikes(Fault::StaleEvent));
        state.server_gone = true;
        if state.to_server.is_empty() {
            state.server_fin = true;
        } else {
            self.conn.break_off(&mut state);
        }
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStream")
            .field("peer_addr", &self.conn.addr)
            .finish_non_exhaustive()
    }
}
