//! An echo server with one poller, one-shot sources and a pool of threads.
//!
//! ```sh
//! cargo run -p pollio --example pool -- 127.0.0.1:7777 4
//! ```
//!
//! Any thread serves any connection, so that a slow one delays nobody else; a source reports
//! once and is then the thread's own until it is armed again. The price is one `epoll_ctl` for
//! each time that a connection is served, and state that wanders between processors. Where
//! connections are many and each event is little work, a reactor a core (`examples/echo.rs`)
//! has neither.

use std::{
    io::{self, ErrorKind, IoSlice},
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    thread,
};

use pollio::{
    Events, Interest, Mode, Poller, Token,
    net::{ListenOptions, Listener, Stream},
};

const LISTENER: Token = Token(u64::MAX - 1);
const SLOTS: usize = 16_384;

/// Where a slot is in its life. The only moves are `FREE → OPEN → CLOSING → FREE`.
const FREE: u8 = 0;
const OPEN: u8 = 1;
const CLOSING: u8 = 2;

#[derive(Default)]
struct Slot {
    state: AtomicU8,
    /// Never contended: one-shot mode gives a connection to one thread at a time. The lock also
    /// carries what one thread wrote over to the next.
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    stream: Stream,
    pending: Vec<u8>,
}

struct Pool {
    poller: Poller,
    listener: Listener,
    slots: Vec<Slot>,
}

impl Pool {
    fn serve(&self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut buf = vec![0; 16 * 1024];
        loop {
            self.poller.wait(&mut events, None)?;
            for (token, _) in events.iter() {
                if token == LISTENER {
                    self.accept()?;
                } else if let Some(slot) = self.slots.get(token.0 as usize) {
                    self.echo(slot, token, &mut buf)?;
                }
            }
        }
    }

    fn accept(&self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.open(stream)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    eprintln!("accepting: {error}");
                    break;
                }
            }
        }
        self.poller.modify(
            &self.listener,
            LISTENER,
            Interest::READABLE,
            Mode::EdgeOneShot,
        )
    }

    /// Takes a free slot, or drops the stream if there is none.
    fn open(&self, stream: Stream) -> io::Result<()> {
        let free = self.slots.iter().position(|slot| {
            slot.state
                .compare_exchange(FREE, OPEN, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        });
        let Some(index) = free else { return Ok(()) };
        let token = Token(index as u64);
        let slot = &self.slots[index];
        // Held until the stream is registered: its first event may come before this returns.
        let mut place = slot
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let connection = place.insert(Connection {
            stream,
            pending: Vec::new(),
        });
        self.poller.add(
            &connection.stream,
            token,
            Interest::READABLE,
            Mode::EdgeOneShot,
        )
    }

    fn echo(&self, slot: &Slot, token: Token, buf: &mut [u8]) -> io::Result<()> {
        let mut place = slot
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = place.as_mut() else {
            return Ok(());
        };
        match connection.echo(buf) {
            Ok(interest) => {
                self.poller
                    .modify(&connection.stream, token, interest, Mode::EdgeOneShot)
            }
            Err(_) => {
                let moved = slot.state.compare_exchange(
                    OPEN,
                    CLOSING,
                    Ordering::Acquire,
                    Ordering::Relaxed,
                );
                assert!(moved.is_ok(), "one thread at a time owns a connection");
                // Closing also ends the registration. Only then may the slot be taken again.
                *place = None;
                slot.state.store(FREE, Ordering::Release);
                Ok(())
            }
        }
    }
}

impl Connection {
    /// Sends back what there is and answers what to wait for. An error is the end.
    fn echo(&mut self, buf: &mut [u8]) -> io::Result<Interest> {
        loop {
            while !self.pending.is_empty() {
                match self.stream.write_vectored(&[IoSlice::new(&self.pending)]) {
                    Ok(count) => drop(self.pending.drain(..count)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Interest::WRITABLE);
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.stream.read(buf) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.pending.extend_from_slice(&buf[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Interest::READABLE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let addr = args.next().unwrap_or_else(|| "127.0.0.1:7777".into());
    let addr: SocketAddr = addr
        .parse()
        .map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
    let threads = args
        .next()
        .and_then(|count| count.parse().ok())
        .unwrap_or(4_usize);

    let pool = Pool {
        poller: Poller::new()?,
        listener: Listener::bind(&addr, &ListenOptions::default())?,
        slots: (0..SLOTS).map(|_| Slot::default()).collect(),
    };
    pool.poller.add(
        &pool.listener,
        LISTENER,
        Interest::READABLE,
        Mode::EdgeOneShot,
    )?;
    eprintln!(
        "listening on {} with {threads} threads",
        pool.listener.local_addr()?
    );
    thread::scope(|scope| {
        let serving: Vec<_> = (0..threads).map(|_| scope.spawn(|| pool.serve())).collect();
        serving.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    })
}
