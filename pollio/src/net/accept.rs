//! Accepting with a budget, and what to do when it fails.

#![forbid(unsafe_code)]

use std::io;

use rustix::io::Errno;

use crate::{addr::PeerAddr, backend::Backend, reactor::Progress};

/// What came of one attempt to accept.
#[derive(Debug)]
#[non_exhaustive]
pub enum Accepted<S> {
    /// A connection.
    Stream(S, PeerAddr),
    /// There is no descriptor left, and the connection was closed at once, so that the peer does
    /// not wait in the backlog for ever.
    Shed,
    /// The connection failed before it was accepted. There may be others.
    Aborted,
    /// There is no descriptor left, not even the one that is kept for shedding, because another
    /// thread was quicker. Connections may wait: try again in the next turn.
    Exhausted,
    /// No connection waits; the next one is an event.
    Empty,
}

/// Accepts one connection and sorts the errors of `accept4(2)`.
///
/// Call it until it answers [`Accepted::Empty`], or stop at a budget and return
/// [`Progress::More`]. Interruptions are repeated.
///
/// # Errors
///
/// Those that say that the listener is no good, or that memory is short. Not
/// `ConnectionAborted` and the like, which are [`Accepted::Aborted`]; not `EMFILE` and `ENFILE`,
/// which lead to [`Accepted::Shed`] or [`Accepted::Exhausted`].
pub fn accept_next<B: Backend + ?Sized>(
    backend: &mut B,
    listener: &B::Listener,
) -> io::Result<Accepted<B::Stream>> {
    loop {
        let error = match backend.accept(listener) {
            Ok((stream, addr)) => return Ok(Accepted::Stream(stream, addr)),
            Err(error) => error,
        };
        return match Errno::from_io_error(&error) {
            Some(Errno::INTR) => continue,
            Some(Errno::AGAIN) => Ok(Accepted::Empty),
            Some(Errno::MFILE | Errno::NFILE) => shed(backend, listener),
            Some(errno) if is_of_the_connection(errno) => Ok(Accepted::Aborted),
            _ => match error.kind() {
                io::ErrorKind::Interrupted => continue,
                io::ErrorKind::WouldBlock => Ok(Accepted::Empty),
                io::ErrorKind::ConnectionAborted => Ok(Accepted::Aborted),
                _ => Err(error),
            },
        };
    }
}

fn shed<B: Backend + ?Sized>(
    backend: &mut B,
    listener: &B::Listener,
) -> io::Result<Accepted<B::Stream>> {
    match backend.shed(listener) {
        Ok(true) => Ok(Accepted::Shed),
        Ok(false) => Ok(Accepted::Empty),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::MFILE | Errno::NFILE) => Ok(Accepted::Exhausted),
            Some(errno) if errno == Errno::INTR || is_of_the_connection(errno) => {
                Ok(Accepted::Aborted)
            }
            _ => Err(error),
        },
    }
}

/// Whether an error of `accept4` belongs to the connection that would have been next. Linux passes
/// pending network errors of the new socket on, and reports a firewall's refusal as `EPERM`.
fn is_of_the_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNABORTED
            | Errno::NETDOWN
            | Errno::PROTO
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH
            | Errno::PERM
            | Errno::TIMEDOUT
            | Errno::CONNRESET
    )
}

/// What [`accept_batch`] did.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[non_exhaustive]
pub struct AcceptBatch {
    /// Connections put into the vector.
    pub accepted: usize,
    /// Connections closed at once for want of descriptors.
    pub shed: usize,
    /// Connections that failed before they were accepted.
    pub aborted: usize,
    /// `More` when the budget, or the want of descriptors, ended it: call again in the next turn.
    pub progress: Progress,
}

/// Accepts until there is nothing more to accept, at most `attempts_max` times, and puts the
/// connections behind those of `out`.
///
/// # Errors
///
/// As [`accept_next`]. What was accepted before the error is in `out`.
pub fn accept_batch<B: Backend + ?Sized>(
    backend: &mut B,
    listener: &B::Listener,
    attempts_max: usize,
    out: &mut Vec<(B::Stream, PeerAddr)>,
) -> io::Result<AcceptBatch> {
    let mut batch = AcceptBatch {
        accepted: 0,
        shed: 0,
        aborted: 0,
        progress: Progress::More,
    };
    for _ in 0..attempts_max {
        match accept_next(backend, listener)? {
            Accepted::Stream(stream, addr) => {
                out.push((stream, addr));
                batch.accepted += 1;
            }
            Accepted::Shed => batch.shed += 1,
            Accepted::Aborted => batch.aborted += 1,
            Accepted::Exhausted => break,
            Accepted::Empty => {
                batch.progress = Progress::Done;
                break;
            }
        }
    }
    Ok(batch)
}
