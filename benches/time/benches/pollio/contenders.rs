//! A poller, in each contender's own way, edge-triggered throughout.
//!
//! Ground rules: `polling` makes registration unsafe, because it wants sources to be removed before
//! they are closed. Each source here outlives the poller that it is registered with, or is removed
//! when it goes (`forget`), so that holds.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use pollio::{Interest, Mode, Token, net::ListenOptions};
use rustix::{
    buffer::spare_capacity,
    event::{EventfdFlags, epoll, eventfd},
};

pub const EVENTS: usize = 256;

pub trait Contender: Sized {
    type Waker: Clone + Send + 'static;
    type Listener: AsFd;
    /// A connection that `accept` has given.
    type Stream: AsFd;

    fn new() -> Self;
    /// Registers for reading and writing.
    fn add(&mut self, source: &UnixStream, token: u64);
    fn forget(&mut self, source: &UnixStream);
    /// Waits and tells the tokens that are readable; `None` waits without limit.
    fn wait(&mut self, timeout: Option<Duration>, readable: impl FnMut(u64));
    fn waker(&self) -> Self::Waker;
    fn wake(waker: &Self::Waker);
    /// Binds to a port of loopback, listens and registers.
    fn listen(&mut self, token: u64) -> (Self::Listener, SocketAddr);
    /// Accepts one and registers it for reading and writing.
    fn accept(&mut self, listener: &Self::Listener, token: u64) -> Option<Self::Stream>;
    fn close(&mut self, stream: Self::Stream);
}

pub struct Pollio {
    poller: pollio::Poller,
    events: pollio::Events,
}

impl Contender for Pollio {
    type Waker = pollio::Waker;
    type Listener = pollio::net::Listener;
    type Stream = pollio::net::Stream;

    fn new() -> Self {
        Self {
            poller: pollio::Poller::new().unwrap(),
            events: pollio::Events::with_capacity(EVENTS),
        }
    }

    fn add(&mut self, source: &UnixStream, token: u64) {
        self.poller
            .add(source, Token(token), Interest::BOTH, Mode::Edge)
            .unwrap();
    }

    fn forget(&mut self, source: &UnixStream) {
        self.poller.delete(source).unwrap();
    }

    fn wait(&mut self, timeout: Option<Duration>, mut readable: impl FnMut(u64)) {
        let timeout_ns = timeout.map(|time| time.as_nanos() as u64);
        self.poller.wait(&mut self.events, timeout_ns).unwrap();
        for (token, readiness) in self.events.iter() {
            if readiness.is_readable() {
                readable(token.0);
            }
        }
    }

    fn waker(&self) -> pollio::Waker {
        self.poller.waker()
    }

    fn wake(waker: &pollio::Waker) {
        waker.wake();
    }

    fn listen(&mut self, token: u64) -> (Self::Listener, SocketAddr) {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Self::Listener::bind(&any, &ListenOptions::default()).unwrap();
        self.poller
            .add(&listener, Token(token), Interest::READABLE, Mode::Edge)
            .unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn accept(&mut self, listener: &Self::Listener, token: u64) -> Option<Self::Stream> {
        let (stream, _) = would_block(listener.accept())?;
        self.poller
            .add(&stream, Token(token), Interest::BOTH, Mode::Edge)
            .unwrap();
        Some(stream)
    }

    fn close(&mut self, stream: Self::Stream) {
        drop(stream);
    }
}

pub struct Mio {
    poll: mio::Poll,
    events: mio::Events,
    waker: std::sync::Arc<mio::Waker>,
}

const MIO_WAKER: mio::Token = mio::Token(usize::MAX);

impl Contender for Mio {
    type Waker = std::sync::Arc<mio::Waker>;
    type Listener = MioListener;
    type Stream = MioStream;

    fn new() -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), MIO_WAKER).unwrap();
        Self {
            poll,
            events: mio::Events::with_capacity(EVENTS),
            waker: std::sync::Arc::new(waker),
        }
    }

    fn add(&mut self, source: &UnixStream, token: u64) {
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        let fd = source.as_raw_fd();
        self.poll
            .registry()
            .register(
                &mut mio::unix::SourceFd(&fd),
                mio::Token(token as usize),
                interest,
            )
            .unwrap();
    }

    fn forget(&mut self, source: &UnixStream) {
        let fd = source.as_raw_fd();
        self.poll
            .registry()
            .deregister(&mut mio::unix::SourceFd(&fd))
            .unwrap();
    }

    fn wait(&mut self, timeout: Option<Duration>, mut readable: impl FnMut(u64)) {
        self.poll.poll(&mut self.events, timeout).unwrap();
        for event in &self.events {
            if event.is_readable() && event.token() != MIO_WAKER {
                readable(event.token().0 as u64);
            }
        }
    }

    fn waker(&self) -> Self::Waker {
        self.waker.clone()
    }

    fn wake(waker: &Self::Waker) {
        waker.wake().unwrap();
    }

    fn listen(&mut self, token: u64) -> (Self::Listener, SocketAddr) {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listener = mio::net::TcpListener::bind(any).unwrap();
        self.poll
            .registry()
            .register(
                &mut listener,
                mio::Token(token as usize),
                mio::Interest::READABLE,
            )
            .unwrap();
        let addr = listener.local_addr().unwrap();
        (MioListener(listener), addr)
    }

    fn accept(&mut self, listener: &Self::Listener, token: u64) -> Option<Self::Stream> {
        let (mut stream, _) = would_block(listener.0.accept())?;
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, mio::Token(token as usize), interest)
            .unwrap();
        Some(MioStream(stream))
    }

    fn close(&mut self, stream: Self::Stream) {
        drop(stream);
    }
}

pub struct MioListener(mio::net::TcpListener);
pub struct MioStream(mio::net::TcpStream);

impl AsFd for MioListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for MioStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

pub struct Polling {
    poller: std::sync::Arc<polling::Poller>,
    events: polling::Events,
}

impl Polling {
    fn register(&self, source: BorrowedFd<'_>, event: polling::Event) {
        let (fd, mode) = (source.as_raw_fd(), polling::PollMode::Edge);
        // SAFETY: The source is removed, or outlives the poller: see the ground rules.
        unsafe { self.poller.add_with_mode(fd, event, mode) }.unwrap();
    }
}

impl Contender for Polling {
    type Waker = std::sync::Arc<polling::Poller>;
    type Listener = TcpListener;
    type Stream = std::net::TcpStream;

    fn new() -> Self {
        Self {
            poller: std::sync::Arc::new(polling::Poller::new().unwrap()),
            events: polling::Events::with_capacity(EVENTS.try_into().unwrap()),
        }
    }

    fn add(&mut self, source: &UnixStream, token: u64) {
        self.register(source.as_fd(), polling::Event::all(token as usize));
    }

    fn forget(&mut self, source: &UnixStream) {
        self.poller.delete(source).unwrap();
    }

    fn wait(&mut self, timeout: Option<Duration>, mut readable: impl FnMut(u64)) {
        self.events.clear();
        self.poller.wait(&mut self.events, timeout).unwrap();
        for event in self.events.iter() {
            if event.readable {
                readable(event.key as u64);
            }
        }
    }

    fn waker(&self) -> Self::Waker {
        self.poller.clone()
    }

    fn wake(waker: &Self::Waker) {
        waker.notify().unwrap();
    }

    fn listen(&mut self, token: u64) -> (Self::Listener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        self.register(listener.as_fd(), polling::Event::readable(token as usize));
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    fn accept(&mut self, listener: &Self::Listener, token: u64) -> Option<Self::Stream> {
        let (stream, _) = would_block(listener.accept())?;
        stream.set_nonblocking(true).unwrap();
        self.register(stream.as_fd(), polling::Event::all(token as usize));
        Some(stream)
    }

    fn close(&mut self, stream: Self::Stream) {
        self.poller.delete(&stream).unwrap();
    }
}

/// The floor: nothing between the loop and the kernel.
pub struct Raw {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    bell: std::sync::Arc<OwnedFd>,
}

impl Raw {
    fn register(&self, source: impl AsFd, token: u64, flags: epoll::EventFlags) {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, source, data, flags | epoll::EventFlags::ET).unwrap();
    }
}

const IN_OUT: epoll::EventFlags = epoll::EventFlags::IN
    .union(epoll::EventFlags::OUT)
    .union(epoll::EventFlags::RDHUP);

impl Contender for Raw {
    type Waker = std::sync::Arc<OwnedFd>;
    type Listener = OwnedFd;
    type Stream = OwnedFd;

    fn new() -> Self {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let raw = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
            events: Vec::with_capacity(EVENTS),
            bell: std::sync::Arc::new(bell),
        };
        raw.register(&raw.bell, u64::MAX, epoll::EventFlags::IN);
        raw
    }

    fn add(&mut self, source: &UnixStream, token: u64) {
        self.register(source, token, IN_OUT);
    }

    fn forget(&mut self, source: &UnixStream) {
        epoll::delete(&self.epoll, source).unwrap();
    }

    fn wait(&mut self, timeout: Option<Duration>, mut readable: impl FnMut(u64)) {
        let timeout = timeout.map(|time| time.try_into().unwrap());
        self.events.clear();
        epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        )
        .unwrap();
        for event in &self.events {
            let (flags, data) = (event.flags, event.data);
            if flags.contains(epoll::EventFlags::IN) && data.u64() != u64::MAX {
                readable(data.u64());
            }
        }
    }

    fn waker(&self) -> Self::Waker {
        self.bell.clone()
    }

    fn wake(waker: &Self::Waker) {
        rustix::io::write(waker, &1_u64.to_ne_bytes()).unwrap();
    }

    fn listen(&mut self, token: u64) -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        self.register(&listener, token, epoll::EventFlags::IN);
        (listener.into(), addr)
    }

    fn accept(&mut self, listener: &OwnedFd, token: u64) -> Option<OwnedFd> {
        use rustix::net::SocketFlags;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = rustix::net::accept_with(listener, flags);
        let stream = would_block(accepted.map_err(io::Error::from))?;
        self.register(&stream, token, IN_OUT);
        Some(stream)
    }

    fn close(&mut self, stream: OwnedFd) {
        drop(stream);
    }
}

fn would_block<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("accepting: {error}"),
    }
}
