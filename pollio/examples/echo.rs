//! An echo server: one reactor, edge-triggered, with everything that a real one needs.
//!
//! ```sh
//! cargo run -p pollio --example echo -- 127.0.0.1:7777
//! nc 127.0.0.1 7777
//! ```
//!
//! Look at how a token names a slot and its generation, at how reading stops at its budget, and at
//! how a slow reader stops being read from instead of being buffered for.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
};

use pollio::{
    Backend as _, Budget, Epoll, Interest, Io, Mode, Progress, Reactor, ReactorOptions, Readiness,
    Server, Token,
    net::{Accepted, ListenOptions, Listener, Stream},
};

const LISTENER: Token = Token(u64::MAX - 1);
const READ_BYTES: usize = 16 * 1024;

/// What has been read and not yet been sent back; nothing is read while there is any.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    sent: usize,
}

struct Connection {
    stream: Stream,
    pending: Pending,
}

/// A place for a connection. Its generation changes whenever the connection does.
#[derive(Default)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

struct Echo {
    listener: Listener,
    slots: Vec<Slot>,
    free: Vec<u32>,
    buf: Vec<u8>,
}

fn token(slot: u32, generation: u32) -> Token {
    Token((u64::from(generation) << 32) | u64::from(slot))
}

impl Echo {
    fn accept(&mut self, io: &mut Io<'_, Epoll>, budget: &Budget) -> Progress {
        for _ in 0..budget.packets {
            match io.accept_next(&self.listener) {
                Ok(Accepted::Stream(stream, _)) => self.open(io, stream),
                Ok(Accepted::Empty) => return Progress::Done,
                Ok(_) => {}
                Err(error) => {
                    eprintln!("accepting: {error}");
                    break;
                }
            }
        }
        Progress::More
    }

    fn open(&mut self, io: &mut Io<'_, Epoll>, stream: Stream) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        let token = token(slot, place.generation);
        // Registered once for everything: no further `epoll_ctl` for as long as it lives.
        if let Err(error) = io.add_stream(&stream, token, Interest::BOTH, Mode::Edge) {
            eprintln!("registering: {error}");
            self.free.push(slot);
            return;
        }
        place.connection = Some(Connection {
            stream,
            pending: Pending::default(),
        });
    }

    fn close(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        place.connection = None;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
    }
}

impl Connection {
    /// Reads and sends back in turn. `Ok(None)` is the end.
    fn serve(
        &mut self,
        io: &mut Io<'_, Epoll>,
        buf: &mut [u8],
        budget: &Budget,
    ) -> io::Result<Option<Progress>> {
        let mut left = budget.bytes;
        loop {
            if !self.send(io)? {
                // No room: the next event comes when there is, and no byte is read before.
                return Ok(Some(Progress::Done));
            }
            if left == 0 {
                return Ok(Some(Progress::More));
            }
            match io.read(&self.stream, buf) {
                Ok(0) => return Ok(None),
                Ok(count) => {
                    self.pending.bytes.extend_from_slice(&buf[..count]);
                    left = left.saturating_sub(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Some(Progress::Done));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether everything has been sent.
    fn send(&mut self, io: &mut Io<'_, Epoll>) -> io::Result<bool> {
        while self.pending.sent < self.pending.bytes.len() {
            let slice = IoSlice::new(&self.pending.bytes[self.pending.sent..]);
            match io.write_vectored(&self.stream, &[slice]) {
                Ok(count) => self.pending.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.pending.bytes.clear();
        self.pending.sent = 0;
        Ok(true)
    }
}

impl Server<Epoll> for Echo {
    fn on_ready(
        &mut self,
        io: &mut Io<'_, Epoll>,
        token: Token,
        _: Readiness,
        budget: &Budget,
    ) -> Progress {
        if token == LISTENER {
            return self.accept(io, budget);
        }
        let (slot, generation) = (token.0 as u32, (token.0 >> 32) as u32);
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return Progress::Done;
        };
        let Some(connection) = place
            .connection
            .as_mut()
            .filter(|_| place.generation == generation)
        else {
            // An event of a connection that has been closed since.
            return Progress::Done;
        };
        match connection.serve(io, &mut self.buf, budget) {
            Ok(Some(progress)) => progress,
            Ok(None) | Err(_) => {
                self.close(slot);
                Progress::Done
            }
        }
    }
}

fn main() -> io::Result<()> {
    let addr = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7777".into());
    let addr: SocketAddr = addr
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let listener = Listener::bind(&addr, &ListenOptions::default())?;
    eprintln!("listening on {}", listener.local_addr()?);

    let mut reactor = Reactor::new(Epoll::new()?, ReactorOptions::default());
    reactor.backend().add_listener(&listener, LISTENER)?;
    let mut server = Echo {
        listener,
        slots: Vec::new(),
        free: Vec::new(),
        buf: vec![0; READ_BYTES],
    };
    reactor.run(&mut server, |_| false)
}
