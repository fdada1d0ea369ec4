//! The real backend.

#![forbid(unsafe_code)]

use std::{
    io::{self, IoSlice},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    time::{ClockId, clock_gettime},
};

use crate::{
    addr::PeerAddr,
    backend::Backend,
    event::{Events, Interest, Mode, Token},
    net::{Listener, Stream},
    poller::Poller,
    waker::Waker,
};

/// The [`Backend`] over a [`Poller`], sockets and the system's monotonic clock.
///
/// Keeps three descriptors: epoll, the waker's, and a spare that is given up for a moment to
/// refuse a connection when the process has run out of them.
#[derive(Debug)]
pub struct Epoll {
    poller: Poller,
    spare: Option<OwnedFd>,
}

impl Epoll {
    /// Opens the three descriptors.
    ///
    /// # Errors
    ///
    /// When the process or the system has none left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            spare: Some(open_spare()?),
        })
    }

    /// Starts to report on any pollable descriptor, such as a timerfd or a signalfd.
    ///
    /// The descriptor stays the caller's; closing its last duplicate ends the reports.
    ///
    /// # Errors
    ///
    /// As [`Poller::add`].
    pub fn add_source(
        &mut self,
        source: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.poller.add(source, token, interest, mode)
    }

    /// Stops reporting on a descriptor.
    ///
    /// # Errors
    ///
    /// As [`Poller::delete`].
    pub fn remove_source(&mut self, source: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.delete(source)
    }

    /// The poller underneath.
    #[must_use]
    pub fn poller(&self) -> &Poller {
        &self.poller
    }
}

impl Backend for Epoll {
    type Stream = Stream;
    type Listener = Listener;

    fn now_ns(&mut self) -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        // Neither is negative on this clock, and 2^64 ns are 584 years of uptime.
        (now.tv_sec as u64)
            .wrapping_mul(1_000_000_000)
            .wrapping_add(now.tv_nsec as u64)
    }

    fn wait(&mut self, events: &mut Events, timeout_ns: Option<u64>) -> io::Result<()> {
        self.poller.wait(events, timeout_ns)
    }

    fn look(&mut self, events: &mut Events) -> io::Result<()> {
        self.poller.look(events)
    }

    fn add_stream(
        &mut self,
        stream: &Stream,
        token: Token,
        interest: Interest,
        mode: Mode,
    ) -> io::Result<()> {
        self.poller.add(stream, token, interest, mode)
    }

    fn remove_stream(&mut self, stream: &Stream) -> io::Result<()> {
        self.poller.delete(stream)
    }

    fn add_listener(&mut self, listener: &Listener, token: Token) -> io::Result<()> {
        let mode = if listener.is_exclusive() {
            Mode::Exclusive
        } else {
            Mode::Edge
        };
        self.poller.add(listener, token, Interest::READABLE, mode)
    }

    fn remove_listener(&mut self, listener: &Listener) -> io::Result<()> {
        self.poller.delete(listener)
    }

    fn accept(&mut self, listener: &Listener) -> io::Result<(Stream, PeerAddr)> {
        listener.accept()
    }

    fn shed(&mut self, listener: &Listener) -> io::Result<bool> {
        if self.spare.is_none() {
            self.spare = Some(open_spare()?);
        }
        self.spare = None;
        let accepted = listener.accept().map(drop);
        // If another thread was quicker, the next call tries to get it back.
        self.spare = open_spare().ok();
        match accepted {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&mut self, stream: &Stream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf)
    }

    fn write_vectored(&mut self, stream: &Stream, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        stream.write_vectored(bufs)
    }

    fn shutdown_write(&mut self, stream: &Stream) -> io::Result<()> {
        stream.shutdown_write()
    }

    fn waker(&self) -> Waker {
        self.poller.waker()
    }
}

/// Any descriptor will do; this kind needs no file to exist.
fn open_spare() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC)?)
}
