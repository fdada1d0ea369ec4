//! What a callback may do.

#![forbid(unsafe_code)]

use std::io::{self, IoSlice};

use crate::{
    addr::PeerAddr,
    backend::Backend,
    event::{Interest, Mode, Readiness, Token},
    net::{Accepted, accept_next},
    ready::ReadyList,
};

/// A callback's access to its loop: the backend, the ready list and the time.
#[derive(Debug)]
pub struct Io<'a, B: Backend> {
    pub(super) backend: &'a mut B,
    pub(super) ready: &'a mut ReadyList,
    pub(super) now_ns: u64,
}

impl<B: Backend> Io<'_, B> {
    /// The backend.
    pub fn backend(&mut self) -> &mut B {
        self.backend
    }

    /// The time of this turn, in nanoseconds. Costs nothing; the same throughout the turn.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Puts a token at the back of the ready list, as readable: it is served in the next turn,
    /// which does not wait.
    ///
    /// For edge-triggered sources whose edge will not come again: a stream that was handed over
    /// together with bytes read from it, plaintext held by a decoder, a paused source that is
    /// resumed. A token that is on the list already keeps its place.
    pub fn make_ready(&mut self, token: Token) {
        self.make_ready_for(token, Readiness::READABLE);
    }

    /// As [`make_ready`](Self::make_ready), with a readiness of the caller's choice, which is
    /// merged into that on the list.
    pub fn make_ready_for(&mut self, token: Token, readiness: Readiness) {
        self.ready.push(token, readiness);
    }

    /// See [`Backend::add_stream`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add_stream(
        &mut self,
        stream: &B::Stream,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.backend.add_stream(stream, token, interest, mode)
    }

    /// See [`Backend::remove_stream`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove_stream(&mut self, stream: &B::Stream) -> io::Result<()> {
        self.backend.remove_stream(stream)
    }

    /// See [`Backend::add_listener`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn add_listener(&mut self, listener: &B::Listener, token: Token) -> io::Result<()> {
        self.backend.add_listener(listener, token)
    }

    /// See [`Backend::remove_listener`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn remove_listener(&mut self, listener: &B::Listener) -> io::Result<()> {
        self.backend.remove_listener(listener)
    }

    /// See [`Backend::accept`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn accept(&mut self, listener: &B::Listener) -> io::Result<(B::Stream, PeerAddr)> {
        self.backend.accept(listener)
    }

    /// See [`accept_next`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn accept_next(&mut self, listener: &B::Listener) -> io::Result<Accepted<B::Stream>> {
        accept_next(self.backend, listener)
    }

    /// See [`Backend::read`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn read(&mut self, stream: &B::Stream, buf: &mut [u8]) -> io::Result<usize> {
        self.backend.read(stream, buf)
    }

    /// See [`Backend::write_vectored`].
    ///
    /// # Errors
    ///
    /// As there.
    #[inline]
    pub fn write_vectored(
        &mut self,
        stream: &B::Stream,
        bufs: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        self.backend.write_vectored(stream, bufs)
    }

    /// See [`Backend::shutdown_write`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn shutdown_write(&mut self, stream: &B::Stream) -> io::Result<()> {
        self.backend.shutdown_write(stream)
    }
}
