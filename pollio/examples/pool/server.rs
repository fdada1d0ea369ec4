//! An echo server with one poller, one-shot sources and a pool of threads.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use pollio::{
    Events, Interest, Mode, Poller, Token,
    net::{Listener, Stream},
};

use crate::life::{Begin, Life, Rest};

const LISTENER: Token = Token(u64::MAX - 1);

#[derive(Default)]
struct Slot {
    life: Life,
    /// Never contended, since the life-cycle gives a slot to one thread at a time.
    connection: Mutex<Option<Connection>>,
}

struct Connection {
    stream: Stream,
    pending: Vec<u8>,
}

/// What the threads share.
pub(crate) struct Pool {
    poller: Poller,
    listener: Listener,
    slots: Vec<Slot>,
    free: Mutex<Vec<u32>>,
    work: fn(&[u8]),
    stopped: AtomicBool,
}

fn token(slot: u32, tenant: u32) -> Token {
    Token((u64::from(tenant) << 32) | u64::from(slot))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// Answers connections of `listener`, `slots` of them at a time. `work` is done on each piece
    /// that is read.
    pub(crate) fn new(listener: Listener, slots: u32, work: fn(&[u8])) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER, Interest::READABLE, Mode::EdgeOneShot)?;
        Ok(Self {
            poller,
            listener,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            free: Mutex::new((0..slots).rev().collect()),
            work,
            stopped: AtomicBool::new(false),
        })
    }

    /// What each thread of the pool does, until [`stop`](Self::stop).
    pub(crate) fn serve(&self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        let mut buf = vec![0; 16 * 1024];
        while !self.stopped.load(Ordering::Acquire) {
            self.poller.wait(&mut events, None)?;
            for (token, _) in events.iter() {
                if token == LISTENER {
                    self.accept(&mut buf)?;
                } else {
                    self.event(token, &mut buf)?;
                }
            }
        }
        // Each ring ends the wait of one thread; whoever leaves sends the next one home.
        self.poller.waker().ring();
        Ok(())
    }

    /// Ends all of [`serve`](Self::serve), from any thread.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.poller.waker().wake();
        self.poller.waker().ring();
    }

    /// Closes a connection from any thread, whatever its own is doing.
    pub(crate) fn kick(&self, token: Token) {
        let (slot, tenant) = (token.0 as u32, (token.0 >> 32) as u32);
        if self
            .slots
            .get(slot as usize)
            .is_some_and(|place| place.life.kick(tenant))
        {
            self.close(slot, tenant);
        }
    }

    fn accept(&self, buf: &mut [u8]) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.open(stream, buf)?,
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
    fn open(&self, stream: Stream, buf: &mut [u8]) -> io::Result<()> {
        let Some(slot) = lock(&self.free).pop() else {
            return Ok(());
        };
        let place = &self.slots[slot as usize];
        let Some(tenant) = place.life.open() else {
            unreachable!("what is on the free list is free");
        };
        // Registered with no interest at all would do as well; the first event may already be
        // there before this thread rests, and is then left with it.
        self.poller.add(
            &stream,
            token(slot, tenant),
            Interest::READABLE,
            Mode::EdgeOneShot,
        )?;
        *lock(&place.connection) = Some(Connection {
            stream,
            pending: Vec::new(),
        });
        match place.life.rest(tenant) {
            Rest::Idle => Ok(()),
            Rest::Again => self.own(slot, tenant, buf),
            Rest::Close => {
                self.close(slot, tenant);
                Ok(())
            }
        }
    }

    fn event(&self, token: Token, buf: &mut [u8]) -> io::Result<()> {
        let (slot, tenant) = (token.0 as u32, (token.0 >> 32) as u32);
        match self
            .slots
            .get(slot as usize)
            .map(|place| place.life.begin(tenant))
        {
            Some(Begin::Mine) => self.own(slot, tenant, buf),
            Some(Begin::Left | Begin::Stale) | None => Ok(()),
        }
    }

    /// Serves a slot that is this thread's, until nobody wants anything of it.
    fn own(&self, slot: u32, tenant: u32, buf: &mut [u8]) -> io::Result<()> {
        let place = &self.slots[slot as usize];
        loop {
            {
                let mut guard = lock(&place.connection);
                let Some(connection) = guard.as_mut() else {
                    unreachable!("a slot that is served has a connection");
                };
                let Ok(interest) = connection.echo(buf, self.work) else {
                    break;
                };
                let (stream, token) = (&connection.stream, token(slot, tenant));
                self.poller
                    .modify(stream, token, interest, Mode::EdgeOneShot)?;
            }
            match place.life.rest(tenant) {
                Rest::Idle => return Ok(()),
                Rest::Again => {}
                Rest::Close => break,
            }
        }
        self.close(slot, tenant);
        Ok(())
    }

    /// Ends a tenant of a slot that is this thread's.
    fn close(&self, slot: u32, tenant: u32) {
        let place = &self.slots[slot as usize];
        // Closing also ends the registration. Only then may the slot be taken again.
        *lock(&place.connection) = None;
        place.life.close(tenant);
        lock(&self.free).push(slot);
    }
}

impl Connection {
    /// Sends back what there is and answers what to wait for. An error is the end.
    fn echo(&mut self, buf: &mut [u8], work: fn(&[u8])) -> io::Result<Interest> {
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
                Ok(count) => {
                    work(&buf[..count]);
                    self.pending.extend_from_slice(&buf[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Interest::READABLE);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
