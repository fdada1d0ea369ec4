//! Connections that wait to be accepted.

#![forbid(unsafe_code)]

use std::{collections::VecDeque, fmt, io, net::SocketAddr};

use rustix::io::Errno;

use super::{
    World,
    backend::{Inbox, Source},
    conn::{Conn, Outcome, SimStream},
    fault::Fault,
};
use crate::{
    event::Token,
    sync::plain::{Arc, Mutex, Ordering, lock},
};

#[derive(Debug)]
pub(super) struct Accepting {
    addr: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Conn>>,
    /// The loops that are told, and whether the listener lies in their queue.
    registrations: Vec<(Arc<Inbox>, Token, bool)>,
    script: VecDeque<Outcome>,
    /// No handle is left.
    closed: bool,
}

impl Accepting {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            state: Mutex::default(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        !lock(&self.state).closed
    }

    pub(super) fn arrive(self: &Arc<Self>, conn: Arc<Conn>) {
        let mut state = lock(&self.state);
        state.waiting.push_back(conn);
        self.raise(&mut state);
    }

    fn raise(self: &Arc<Self>, state: &mut State) {
        for (inbox, _, queued) in &mut state.registrations {
            if !std::mem::replace(queued, true) {
                inbox.push(Source::Listener(Arc::clone(self)));
            }
        }
    }

    /// Takes the listener off the queue of a loop and answers its name there and whether there is
    /// something to accept.
    pub(super) fn unqueue(&self, inbox: &Arc<Inbox>) -> Option<(Token, bool)> {
        let mut state = lock(&self.state);
        let waiting = !state.waiting.is_empty();
        let place = state
            .registrations
            .iter_mut()
            .find(|(of, ..)| Arc::ptr_eq(of, inbox))?;
        place.2 = false;
        Some((place.1, waiting))
    }

    /// Puts the listener into the queue of a loop although nothing has changed.
    pub(super) fn requeue(self: &Arc<Self>, inbox: &Arc<Inbox>) {
        let mut state = lock(&self.state);
        let place = state
            .registrations
            .iter_mut()
            .find(|(of, ..)| Arc::ptr_eq(of, inbox));
        if place.is_some_and(|place| !std::mem::replace(&mut place.2, true)) {
            inbox.push(Source::Listener(Arc::clone(self)));
        }
    }

    pub(super) fn register(self: &Arc<Self>, inbox: &Arc<Inbox>, token: Token) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state
            .registrations
            .iter()
            .any(|(of, ..)| Arc::ptr_eq(of, inbox))
        {
            return Err(Errno::EXIST.into());
        }
        let queued = !state.waiting.is_empty();
        state.registrations.push((Arc::clone(inbox), token, queued));
        if queued {
            inbox.push(Source::Listener(Arc::clone(self)));
        }
        Ok(())
    }

    pub(super) fn unregister(&self, inbox: &Arc<Inbox>) -> io::Result<()> {
        let mut state = lock(&self.state);
        let before = state.registrations.len();
        state
            .registrations
            .retain(|(of, ..)| !Arc::ptr_eq(of, inbox));
        if state.registrations.len() == before {
            Err(Errno::NOENT.into())
        } else {
            Ok(())
        }
    }

    pub(super) fn accept(self: &Arc<Self>, world: &Arc<World>) -> io::Result<SimStream> {
        let chance = &world.chance;
        let mut state = lock(&self.state);
        let script = state.script.pop_front();
        match script {
            Some(Outcome::Interrupted) => return Err(Errno::INTR.into()),
            Some(Outcome::Error(code)) => {
                if code == Errno::CONNABORTED.raw_os_error() {
                    abort(&mut state);
                }
                return Err(io::Error::from_raw_os_error(code));
            }
            None if chance.strikes(Fault::Interrupted) => return Err(Errno::INTR.into()),
            _ => {}
        }
        if state.waiting.is_empty() {
            return Err(Errno::AGAIN.into());
        }
        let blocked = script.is_none() && chance.strikes(Fault::WouldBlock);
        if blocked || script == Some(Outcome::WouldBlock) {
            self.raise(&mut state);
            return Err(Errno::AGAIN.into());
        }
        if script.is_none() && chance.strikes(Fault::AcceptAborted) {
            abort(&mut state);
            return Err(Errno::CONNABORTED.into());
        }
        let full = world.open.load(Ordering::Relaxed) >= world.open_max.load(Ordering::Relaxed);
        if full || (script.is_none() && chance.strikes(Fault::NoDescriptor)) {
            return Err(Errno::MFILE.into());
        }
        let conn = state.waiting.pop_front().ok_or(Errno::AGAIN)?;
        Ok(SimStream::new(conn, Arc::clone(world)))
    }

    /// Accepts and closes at once.
    pub(super) fn shed(&self, world: &Arc<World>) -> bool {
        let conn = lock(&self.state).waiting.pop_front();
        conn.map(|conn| drop(SimStream::new(conn, Arc::clone(world))))
            .is_some()
    }
}

/// What the handles of a listener share. Loops and the world may keep the rest alive for a while.
#[derive(Debug)]
struct Handle(Arc<Accepting>);

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        state.closed = true;
        state.registrations.clear();
        while abort(&mut state) {}
    }
}

/// Breaks the connection that is next. Answers whether there was one.
fn abort(state: &mut State) -> bool {
    state
        .waiting
        .pop_front()
        .map(|conn| {
            let mut state = conn.lock();
            state.server_gone = true;
            conn.break_off(&mut state);
        })
        .is_some()
}

/// A simulated listener. Connections that wait on it when it is dropped break.
pub struct SimListener {
    handle: Arc<Handle>,
}

impl SimListener {
    pub(super) fn new(accepting: Arc<Accepting>) -> Self {
        Self {
            handle: Arc::new(Handle(accepting)),
        }
    }

    pub(super) fn accepting(&self) -> &Arc<Accepting> {
        &self.handle.0
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.accepting().addr
    }

    /// A second handle of the same listener, for another loop.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            handle: Arc::clone(&self.handle),
        }
    }

    /// Connections that wait to be accepted.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.accepting().state).waiting.len()
    }

    /// Says what the next accepts do, one after the other.
    pub fn script_accepts(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        lock(&self.accepting().state).script.extend(outcomes);
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener")
            .field("addr", &self.accepting().addr)
            .finish_non_exhaustive()
    }
}
