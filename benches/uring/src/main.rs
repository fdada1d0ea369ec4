//! The relay of `axmq-bench floor --pairs` with io_uring: what the kernel charges for the same
//! bytes when they are asked for in batches.
//!
//! ```sh
//! cargo build --release -p axmq-bench -p bench-uring
//! target/release/axmq-bench floor --pairs 1000 --relay "target/release/bench-uring multi"
//! ```

mod ring;

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::TcpListener,
    process::ExitCode,
};

use pollio::affinity::pin_current_thread;
use rustix::{
    io::Errno,
    net::{SendFlags, listen, send, sockopt::set_tcp_nodelay},
    process::{Signal, set_parent_process_death_signal},
};

use crate::ring::{Event, Ring, Setup};

/// The place of the listener for sinks.
const SINKS: usize = 1;
const BACKLOG: i32 = 4096;
const USAGE: &str = "bench-uring once|multi|polled|seam|ready [--frame 0] [--cpu N]";

/// How bytes get in and out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A request for each receive and each send.
    Once,
    /// One request a connection for all receives, into buffers that the kernel picks.
    Multi,
    /// The ring says when to read; reads are system calls, sends are requests.
    Ready,
    /// The ring says when to read; reads and writes are system calls.
    Seam,
}

/// A connection.
#[derive(Default)]
struct Peer {
    sink: bool,
    /// The number that is said first, as far as it has come.
    hello: Vec<u8>,
    number: Option<u32>,
    /// The sink of a source.
    to: Option<usize>,
    /// What a sink is to be sent, or what a source has sent before its sink came.
    pending: Vec<u8>,
    dirty: bool,
}

/// All connections, by their place in the ring.
#[derive(Default)]
struct Peers {
    all: Vec<Peer>,
    /// The place of the sink with a number.
    sink_of: HashMap<u32, usize>,
    /// Sinks that have something pending since this turn.
    dirty: Vec<usize>,
}

struct Relay {
    how: How,
    ring: Ring,
    peers: Peers,
    buf: Vec<u8>,
}

fn main() -> ExitCode {
    let _ = set_parent_process_death_signal(Some(Signal::TERM));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match read(&arguments) {
        Some((how, setup, cpu)) => serve(how, setup, cpu),
        None => Err(io::Error::new(ErrorKind::InvalidInput, USAGE)),
    };
    if let Err(error) = result {
        eprintln!("bench-uring: {error}");
    }
    ExitCode::FAILURE
}

fn read(arguments: &[String]) -> Option<(How, Setup, Option<u32>)> {
    let (how, options) = arguments.split_first()?;
    let mut cpu = None;
    for pair in options.chunks(2) {
        match pair {
            [name, value] if name == "--cpu" => cpu = Some(value.parse().ok()?),
            [name, value] if name == "--frame" && value == "0" => {}
            _ => return None,
        }
    }
    let polled = Setup::Polled {
        cpu: cpu.unwrap_or(0),
        idle_ms: 50,
    };
    let (how, setup) = match how.as_str() {
        "once" => (How::Once, Setup::Deferred),
        "multi" => (How::Multi, Setup::Deferred),
        "polled" => (How::Multi, polled),
        "ready" => (How::Ready, Setup::Deferred),
        "seam" => (How::Seam, Setup::Deferred),
        _ => return None,
    };
    Some((how, setup, cpu))
}

fn serve(how: How, setup: Setup, cpu: Option<u32>) -> io::Result<()> {
    if let Some(cpu) = cpu {
        pin_current_thread(cpu as usize)?;
    }
    let mut ring = Ring::new(setup)?;
    let (sources, sinks) = (
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    );
    let ports = (sources.local_addr()?.port(), sinks.local_addr()?.port());
    // The standard library waits with 128, and the rest of a burst would try again after a second.
    listen(&sources, BACKLOG)?;
    listen(&sinks, BACKLOG)?;
    ring.listen(sources.into())?;
    ring.listen(sinks.into())?;
    println!("{} {}", ports.0, ports.1);
    let mut relay = Relay {
        how,
        ring,
        peers: Peers::default(),
        buf: vec![0; 256 * 1024],
    };
    let mut events = Vec::new();
    loop {
        relay.ring.turn(&mut events)?;
        for event in events.drain(..) {
            relay.take(event)?;
        }
        for at in std::mem::take(&mut relay.peers.dirty) {
            relay.send(at)?;
        }
    }
}

impl Relay {
    fn take(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted(listener, stream) => {
                let stream = stream?;
                set_tcp_nodelay(&stream, true)?;
                let at = self.ring.add(stream)?;
                self.peers.all.push(Peer {
                    sink: listener == SINKS,
                    ..Default::default()
                });
                self.ask(at)?;
            }
            // At the end of its stream a connection is not asked for more. It stays open until the
            // relay ends, which is soon.
            Event::Received(at, Ok(received), more) => {
                let bytes = self.ring.bytes(at, &received);
                let end = bytes.is_empty();
                self.peers.arrived(at, bytes);
                self.ring.give_back(received);
                if !more && !end {
                    self.ask(at)?;
                }
            }
            // Want of buffers ends a request for all receives.
            Event::Received(at, Err(error), _) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                self.ask(at)?;
            }
            Event::Received(..) => {}
            Event::Readable(at, more) => {
                let end = self.read(at);
                if !more && !end {
                    self.ask(at)?;
                }
            }
            Event::Sent(at, true) if !self.peers.all[at].pending.is_empty() => {
                self.send(at)?;
            }
            Event::Sent(..) => {}
        }
        Ok(())
    }

    /// Asks for what a connection sends.
    fn ask(&mut self, at: usize) -> io::Result<()> {
        match self.how {
            How::Once => self.ring.receive(at),
            How::Multi => self.ring.receive_all(at),
            How::Ready | How::Seam => self.ring.watch(at),
        }
    }

    /// Reads what a connection has. `true` at its end.
    fn read(&mut self, at: usize) -> bool {
        loop {
            match rustix::io::read(self.ring.stream(at), &mut self.buf) {
                Ok(0) => return true,
                Ok(count) => {
                    self.peers.arrived(at, &self.buf[..count]);
                    if count < self.buf.len() {
                        return false;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return error != Errno::AGAIN,
            }
        }
    }

    /// Sends what is pending for a sink.
    fn send(&mut self, at: usize) -> io::Result<()> {
        let peer = &mut self.peers.all[at];
        peer.dirty = false;
        if self.how == How::Seam && !self.ring.is_sending(at) {
            match send(self.ring.stream(at), &peer.pending, SendFlags::NOSIGNAL) {
                Ok(count) => drop(peer.pending.drain(..count)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => peer.pending.clear(),
            }
        }
        // With `Seam` this is what did not fit.
        self.ring.send(at, &mut peer.pending)
    }
}

impl Peers {
    /// Bytes of a connection: first its number, then what a source has for its sink.
    fn arrived(&mut self, at: usize, mut bytes: &[u8]) {
        let peer = &mut self.all[at];
        if peer.number.is_none() {
            let (hello, rest) = bytes.split_at(bytes.len().min(4 - peer.hello.len()));
            peer.hello.extend_from_slice(hello);
            bytes = rest;
            let Some(hello) = peer.hello.first_chunk() else {
                return;
            };
            let number = u32::from_be_bytes(*hello);
            peer.number = Some(number);
            if peer.sink {
                self.greet(at, number);
            } else {
                peer.to = self.sink_of.get(&number).copied();
            }
        }
        let peer = &self.all[at];
        if !peer.sink && !bytes.is_empty() {
            let to = peer.to.unwrap_or(at);
            self.all[to].pending.extend_from_slice(bytes);
            if to != at {
                self.mark(to);
            }
        }
    }

    /// A sink has said its number; its source may have sent something already.
    fn greet(&mut self, sink: usize, number: u32) {
        self.sink_of.insert(number, sink);
        let source = |peer: &&mut Peer| !peer.sink && peer.number == Some(number);
        if let Some(source) = self.all.iter_mut().find(source) {
            source.to = Some(sink);
            let pending = std::mem::take(&mut source.pending);
            self.all[sink].pending = pending;
            self.mark(sink);
        }
    }

    fn mark(&mut self, sink: usize) {
        if !std::mem::replace(&mut self.all[sink].dirty, true) {
            self.dirty.push(sink);
        }
    }
}
