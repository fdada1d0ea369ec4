//! A simulated network and clock, on which the same loops run in one thread, from one seed.
//!
//! [`SimNet`] is the world: a clock that moves when it is told to, listeners by address, and
//! [`Faults`] that strike at random. A [`SimBackend`] is the system as one loop sees it; several
//! loops share a world and can hand streams over to each other. A [`SimPeer`] is the other end of a
//! connection, played by the test.
//!
//! # What is simulated
//!
//! Edge-triggered and level-triggered reports as epoll makes them: an edge is raised when bytes
//! come in, when a peer closes or resets, and when there is room again after a write that found
//! none; a report carries everything that is true when it is made. Half-closed and reset streams;
//! buffers of limited size; closing with unread bytes, which turns into a reset; a limit on
//! descriptors. Bytes arrive at once: a test that wants them late sends them late.
//!
//! # Time
//!
//! [`wait`](crate::Backend::wait) with a timeout and nothing to report moves the clock to the end
//! of the timeout. Without a timeout it fails, since nothing would ever end it: so a lost wake-up
//! or a forgotten edge is an error and not a hanging test. A [`look`](crate::Backend::look) of a
//! loop that spins takes [`SimNet::LOOK_NS`], so that spinning ends. Several loops are stepped in
//! turn with [`Reactor::turn_within`](crate::Reactor::turn_within) and a limit of 0;
//! [`SimBackend::has_work`] and [`Reactor::sleep_ns`](crate::Reactor::sleep_ns) tell which of them
//! is awake, and [`SimNet::advance`] moves the clock.
//!
//! # Examples
//!
//! ```
//! use pollio::{Backend, Events, Interest, Mode, Token, sim::SimNet};
//!
//! let net = SimNet::new(42);
//! let mut backend = net.backend();
//! let addr = "192.0.2.1:1883".parse().unwrap();
//! let listener = net.listen(addr)?;
//! let peer = net.connect(addr)?;
//! peer.send(b"hello")?;
//!
//! let (stream, _) = backend.accept(&listener)?;
//! backend.add_stream(&stream, Token(1), Interest::BOTH, Mode::Edge)?;
//! let mut events = Events::with_capacity(8);
//! backend.wait(&mut events, None)?;
//! assert!(events.iter().any(|(token, is)| token == Token(1) && is.is_readable()));
//! let mut buf = [0; 16];
//! assert_eq!(backend.read(&stream, &mut buf)?, 5);
//! # Ok::<(), std::io::Error>(())
//! ```

#![forbid(unsafe_code)]

mod backend;
mod conn;
mod fault;
mod listener;
mod peer;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
};

pub use self::{
    backend::SimBackend,
    conn::{Outcome, SimStream},
    fault::{Fault, Faults},
    listener::SimListener,
    peer::{End, SimPeer},
};
use self::{conn::Conn, fault::Chance, listener::Accepting};
use crate::{
    addr::PeerAddr,
    sync::plain::{Arc, AtomicU64, AtomicUsize, Mutex, Ordering, Weak, lock},
};

/// A simulated world. Clones are the same world.
#[derive(Clone, Debug)]
pub struct SimNet {
    world: Arc<World>,
}

#[derive(Debug)]
pub(crate) struct World {
    now_ns: AtomicU64,
    chance: Chance,
    listeners: Mutex<BTreeMap<SocketAddr, Vec<Weak<Accepting>>>>,
    connections: AtomicU64,
    /// Streams on the servers' side.
    open: AtomicUsize,
    open_max: AtomicUsize,
    buffer_bytes: AtomicUsize,
}

impl SimNet {
    /// How far a [`look`](crate::Backend::look) moves the clock: a microsecond, in nanoseconds.
    pub const LOOK_NS: u64 = 1_000;

    /// A world whose every chance follows from `seed`. Nothing goes wrong until
    /// [`set_faults`](Self::set_faults).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let world = World {
            // Not zero, which would hide servers that take it for the beginning of time.
            now_ns: AtomicU64::new(1_000_000_000),
            chance: Chance::new(seed),
            listeners: Mutex::default(),
            connections: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            open_max: AtomicUsize::new(usize::MAX),
            buffer_bytes: AtomicUsize::new(256 * 1024),
        };
        Self {
            world: Arc::new(world),
        }
    }

    /// The system as one more loop sees it.
    #[must_use]
    pub fn backend(&self) -> SimBackend {
        SimBackend::new(Arc::clone(&self.world))
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.world.chance.set(faults);
    }

    /// How often a fault has struck.
    #[must_use]
    pub fn fault_count(&self, fault: Fault) -> u64 {
        self.world.chance.count(fault)
    }

    /// The time, in nanoseconds.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.world.now_ns.load(Ordering::Relaxed)
    }

    /// Moves the clock.
    pub fn advance(&self, ns: u64) {
        self.world.advance(ns);
    }

    /// How many bytes each direction of a connection holds, at least 1. Default: 256 KiB.
    pub fn set_buffer_bytes(&self, bytes: usize) {
        self.world
            .buffer_bytes
            .store(bytes.max(1), Ordering::Relaxed);
    }

    /// How many accepted streams may be open at a time; accepting more fails with `EMFILE`.
    pub fn set_streams_max(&self, count: usize) {
        self.world.open_max.store(count, Ordering::Relaxed);
    }

    /// How many accepted streams are open.
    #[must_use]
    pub fn streams_open(&self) -> usize {
        self.world.open.load(Ordering::Relaxed)
    }

    /// Listens on an address. Several listeners on one address share its connections, as with
    /// `SO_REUSEPORT`.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn listen(&self, addr: SocketAddr) -> io::Result<SimListener> {
        let accepting = Arc::new(Accepting::new(addr));
        let mut listeners = lock(&self.world.listeners);
        listeners
            .entry(addr)
            .or_default()
            .push(Arc::downgrade(&accepting));
        Ok(SimListener::new(accepting))
    }

    /// Connects to an address, from one of its own in `10.0.0.0/8`.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nobody listens there.
    pub fn connect(&self, addr: SocketAddr) -> io::Result<SimPeer> {
        let count = self.world.connections.load(Ordering::Relaxed);
        let host = u32::from(Ipv4Addr::new(10, 0, 0, 0)) | ((count / 32_768) as u32 & 0xff_ffff);
        let port = 32_768 + (count % 32_768) as u16;
        self.connect_from(addr, PeerAddr::new(Ipv4Addr::from(host).into(), port))
    }

    /// Connects to an address from a given one.
    ///
    /// # Errors
    ///
    /// `ConnectionRefused` when nobody listens there.
    pub fn connect_from(&self, addr: SocketAddr, from: PeerAddr) -> io::Result<SimPeer> {
        let mut listeners = lock(&self.world.listeners);
        let group = listeners.entry(addr).or_default();
        group.retain(|accepting| accepting.upgrade().is_some_and(|is| is.is_open()));
        if group.is_empty() {
            listeners.remove(&addr);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let chosen = group[self.world.chance.below(group.len())].upgrade();
        drop(listeners);
        let Some(accepting) = chosen else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        self.world.connections.fetch_add(1, Ordering::Relaxed);
        let conn = Arc::new(Conn::new(
            from,
            self.world.buffer_bytes.load(Ordering::Relaxed),
        ));
        accepting.arrive(Arc::clone(&conn));
        Ok(SimPeer::new(conn))
    }
}

impl World {
    fn advance(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }
}
