//! The other end of a connection, in the hands of a test.

#![forbid(unsafe_code)]

use std::{fmt, io};

use rustix::io::Errno;

use super::conn::{Conn, Outcome};
use crate::{addr::PeerAddr, sync::plain::Arc};

/// How a connection ended for the peer.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Debug)]
pub enum End {
    /// The server said that it sends no more, and everything it sent has been received.
    Closed,
    /// The connection broke.
    Reset,
}

/// A peer. Dropping it closes the connection.
pub struct SimPeer {
    conn: Arc<Conn>,
}

impl SimPeer {
    pub(super) fn new(conn: Arc<Conn>) -> Self {
        Self { conn }
    }

    /// Where the server sees it.
    #[must_use]
    pub fn addr(&self) -> PeerAddr {
        self.conn.addr
    }

    /// Sends bytes, as many of the first as the server's buffer holds, and answers how many.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when it holds none; `BrokenPipe` after `shutdown_write`; `ConnectionReset` when
    /// the server is gone.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.conn.lock();
        if state.reset || state.server_gone {
            return Err(Errno::CONNRESET.into());
        }
        if state.peer_fin {
            return Err(Errno::PIPE.into());
        }
        let count = bytes.len().min(state.buffer_bytes - state.to_server.len());
        if count == 0 && !bytes.is_empty() {
            return Err(Errno::AGAIN.into());
        }
        state.to_server.extend(bytes.iter().take(count));
        self.conn.raise(&mut state);
        Ok(count)
    }

    /// How many bytes sent the server has not read yet.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.conn.lock().to_server.len()
    }

    /// Receives at most `count_max` bytes, puts them behind those of `out`, and answers how many.
    pub fn receive(&self, out: &mut Vec<u8>, count_max: usize) -> usize {
        let mut state = self.conn.lock();
        let count = state.to_peer.len().min(count_max);
        out.extend(state.to_peer.drain(..count));
        if count > 0 && std::mem::take(&mut state.wants_room) {
            self.conn.raise(&mut state);
        }
        count
    }

    /// Receives everything that is there.
    #[must_use]
    pub fn receive_all(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.receive(&mut out, usize::MAX);
        out
    }

    /// How the connection ended; `None` while it has not, or while there are bytes to be received.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let state = self.conn.lock();
        if state.reset {
            Some(End::Reset)
        } else if state.server_fin && state.to_peer.is_empty() {
            Some(End::Closed)
        } else {
            None
        }
    }

    /// Whether the server has let go of its end, which it may do long after this one was reset.
    #[must_use]
    pub fn server_is_gone(&self) -> bool {
        self.conn.lock().server_gone
    }

    /// Says that it sends no more. It still receives.
    pub fn shutdown_write(&self) {
        let mut state = self.conn.lock();
        if !state.peer_fin && !state.reset {
            state.peer_fin = true;
            self.conn.raise(&mut state);
        }
    }

    /// Breaks the connection.
    pub fn reset(&self) {
        let mut state = self.conn.lock();
        if !state.reset {
            state.peer_fin = true;
            state.peer_gone = true;
            self.conn.break_off(&mut state);
        }
    }

    /// Closes both directions, as dropping does. With bytes not yet received it breaks the
    /// connection, as a real socket does.
    pub fn close(self) {}

    /// Says what the next reads of the server's end do, one after the other.
    pub fn script_reads(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.conn.lock().reads.extend(outcomes);
    }

    /// Says what the next writes of the server's end do, one after the other.
    pub fn script_writes(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.conn.lock().writes.extend(outcomes);
    }
}

impl Drop for SimPeer {
    fn drop(&mut self) {
        let mut state = self.conn.lock();
        if state.reset {
            return;
        }
        state.peer_fin = true;
        state.peer_gone = true;
        if state.to_peer.is_empty() {
            self.conn.raise(&mut state);
        } else {
            self.conn.break_off(&mut state);
        }
    }
}

impl fmt::Debug for SimPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimPeer")
            .field("addr", &self.conn.addr)
            .finish_non_exhaustive()
    }
}
