//! One loop of an echo server: everything that a real one needs, but for its protocol.
//!
//! A token names a slot and its generation, so that a stale event is recognised. Reading stops at
//! its budget. A slow reader stops being read from instead of being buffered for.

use std::io::{self, ErrorKind, IoSlice};

use pollio::{
    Budget, Epoll, Interest, Io, Mode, Progress, Readiness, Server, Token,
    net::{Accepted, Listener, Stream},
};

/// The token that the listener is to be registered under.
pub(crate) const LISTENER: Token = Token(u64::MAX - 1);
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

/// One loop's connections.
pub(crate) struct Echo {
    listener: Listener,
    slots: Vec<Slot>,
    free: Vec<u32>,
    buf: Vec<u8>,
    work: fn(&[u8]),
    /// Connections accepted so far.
    pub(crate) accepted: usize,
    /// Connections that were refused for want of a descriptor.
    pub(crate) shed: usize,
}

fn token(slot: u32, generation: u32) -> Token {
    Token((u64::from(generation) << 32) | u64::from(slot))
}

impl Echo {
    /// Answers connections of `listener`, which reports under the token [`LISTENER`]. `work` is
    /// done on each piece that is read.
    pub(crate) fn new(listener: Listener, work: fn(&[u8])) -> Self {
        Self {
            listener,
            slots: Vec::new(),
            free: Vec::new(),
            buf: vec![0; READ_BYTES],
            work,
            accepted: 0,
            shed: 0,
        }
    }

    /// Connections that are open.
    pub(crate) fn open_now(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Bytes that wait for a peer to read them.
    pub(crate) fn pending_bytes(&self) -> usize {
        let connections = self
            .slots
            .iter()
            .filter_map(|slot| slot.connection.as_ref());
        connections
            .map(|connection| connection.pending.bytes.len() - connection.pending.sent)
            .sum()
    }

    fn accept(&mut self, io: &mut Io<'_, Epoll>, budget: &Budget) -> Progress {
        for _ in 0..budget.packets {
            match io.accept_next(&self.listener) {
                Ok(Accepted::Stream(stream, _)) => self.open(io, stream),
                Ok(Accepted::Empty) => return Progress::Done,
                Ok(Accepted::Shed) => self.shed += 1,
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
        self.accepted += 1;
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
        work: fn(&[u8]),
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
                    work(&buf[..count]);
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
        match connection.serve(io, &mut self.buf, self.work, budget) {
            Ok(Some(progress)) => progress,
            Ok(None) | Err(_) => {
                self.close(slot);
                Progress::Done
            }
        }
    }
}
