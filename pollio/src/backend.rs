//! The seam between a loop and the operating system.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice};

use crate::{
    addr::PeerAddr,
    event::{Events, Interest, Mode, Token},
    waker::Waker,
};

/// Everything that a loop asks of an operating system.
///
/// [`Epoll`](crate::Epoll) is the real one and [`sim::SimBackend`](crate::sim::SimBackend) the
/// simulated one; a server written against the trait runs on both. No method blocks but
/// [`wait`](Self::wait).
///
/// # Errors
///
/// Implementations answer as Linux does: `WouldBlock` when there is nothing to do,
/// `Interrupted` when the call is to be repeated at once, and operating system codes
/// (`io::Error::from_raw_os_error`) for the conditions that have one, such as `EMFILE`.
pub trait Backend {
    /// A connected byte stream, closed on drop. It belongs to no loop until it is added to one, and
    /// can move between threads.
    type Stream: Send + 'static;
    /// A source of streams.
    type Listener;

    /// The time now, in nanoseconds on a clock that never goes back. Its zero means nothing.
    fn now_ns(&mut self) -> u64;

    /// Waits for events, replaces the contents of `events`, and ends early and without error when
    /// it is interrupted or woken. `None` waits without limit, `Some(0)` not at all.
    ///
    /// A wake of this backend's [`Waker`] since the last wait, or during this one, ends it; it
    /// reports no event.
    ///
    /// # Errors
    ///
    /// Only those after which the loop cannot go on.
    fn wait(&mut self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<()>;

    /// As a [`wait`](Self::wait) of 0, for a loop that looks again and again before it sleeps.
    ///
    /// It may leave wakes to be taken by [`Waker::acknowledge`], and better does: a [`Reactor`]
    /// tells by them that there was work, and looks longer. Where the look takes them itself, as
    /// the provided one, no message is late or lost, but the loop may sleep sooner.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// [`Reactor`]: crate::Reactor
    fn look(&mut self, events: &mut Events) -> io::Result<()> {
        self.wait(events, Some(0))
    }

    /// Starts to report on a stream. If it is ready already, the next wait says so.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; want of memory.
    fn add_stream(
        &mut self,
        stream: &Self::Stream,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()>;

    /// Stops reporting on a stream, so that it can be handed to another loop. Needless before a
    /// drop.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    fn remove_stream(&mut self, stream: &Self::Stream) -> io::Result<()>;

    /// Starts to report on a listener, edge-triggered: accept until there is nothing left, or
    /// remember that there may be. A server that stops accepting simply does not accept, and
    /// later puts the listener's token on the ready list.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`; want of memory.
    fn add_listener(&mut self, listener: &Self::Listener, token: Token) -> io::Result<()>;

    /// Stops reporting on a listener.
    ///
    /// # Errors
    ///
    /// `NotFound`.
    fn remove_listener(&mut self, listener: &Self::Listener) -> io::Result<()>;

    /// Accepts one connection. Servers call [`net::accept_next`](crate::net::accept_next), which
    /// sorts the errors.
    ///
    /// # Errors
    ///
    /// Those of `accept4(2)`.
    fn accept(&mut self, listener: &Self::Listener) -> io::Result<(Self::Stream, PeerAddr)>;

    /// Gets rid of one waiting connection when there is no descriptor to accept it with. Answers
    /// whether there was one.
    ///
    /// # Errors
    ///
    /// When it cannot: another thread took the descriptor that was kept for this.
    fn shed(&mut self, listener: &Self::Listener) -> io::Result<bool>;

    /// Reads what is there, at most `buf.len()` bytes; 0 is the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `Interrupted`, `ConnectionReset` and the like.
    fn read(&mut self, stream: &Self::Stream, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes from the slices in order and answers how many bytes were taken, which may be fewer
    /// than there are.
    ///
    /// # Errors
    ///
    /// `WouldBlock`, `Interrupted`, `BrokenPipe`, `ConnectionReset` and the like.
    fn write_vectored(&mut self, stream: &Self::Stream, bufs: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    ///
    /// `NotConnected` when the peer has reset the connection.
    fn shutdown_write(&mut self, stream: &Self::Stream) -> io::Result<()>;

    /// The handle by which other threads wake this backend's loop. Always the same loop.
    fn waker(&self) -> Waker;
}
