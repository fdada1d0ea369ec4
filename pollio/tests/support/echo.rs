//! A server that sends back what it gets, written against any backend. Its naivety is the point:
//! a stream's echo is a queue of bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, IoSlice},
};

use pollio::{
    Backend, Budget, Interest, Io, Mode, Progress, Readiness, Receiver, Server, Token,
    net::Accepted,
};

pub(crate) const LISTENER: Token = Token(0);

pub(crate) struct Conn<S> {
    pub(crate) stream: S,
    out: VecDeque<u8>,
    ended: bool,
    writable: bool,
}

impl<S> Conn<S> {
    /// The stream and what has not been sent back yet.
    #[allow(dead_code, reason = "not every test hands streams over")]
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.out.into())
    }
}

/// What can be sent to the server from other threads.
pub(crate) enum Message<S> {
    /// A stream to take over, with bytes that were already read from it.
    Adopt(S, Vec<u8>),
    #[allow(dead_code, reason = "not every test runs the server on a thread")]
    Stop,
}

pub(crate) struct Echo<B: Backend> {
    pub(crate) listener: Option<B::Listener>,
    pub(crate) conns: BTreeMap<Token, Conn<B::Stream>>,
    pub(crate) inbox: Option<Receiver<Message<B::Stream>>>,
    pub(crate) stopped: bool,
    pub(crate) accepted: usize,
    pub(crate) shed: usize,
    pub(crate) aborted: usize,
    pub(crate) stale: usize,
    pub(crate) closed: usize,
    messages: Vec<Message<B::Stream>>,
    next: u64,
    buf: Vec<u8>,
}

impl<B: Backend> Echo<B> {
    pub(crate) fn new(listener: Option<B::Listener>) -> Self {
        Self {
            listener,
            conns: BTreeMap::new(),
            inbox: None,
            stopped: false,
            accepted: 0,
            shed: 0,
            aborted: 0,
            stale: 0,
            closed: 0,
            messages: Vec::new(),
            next: 1,
            buf: vec![0; 4096],
        }
    }

    pub(crate) fn adopt(&mut self, io: &mut Io<'_, B>, stream: B::Stream, had: Vec<u8>) {
        let token = Token(self.next);
        self.next += 1;
        io.add_stream(&stream, token, Interest::BOTH, Mode::Edge)
            .expect("a new stream can be added");
        if !had.is_empty() {
            io.make_ready(token);
        }
        let conn = Conn {
            stream,
            out: had.into(),
            ended: false,
            writable: true,
        };
        self.conns.insert(token, conn);
    }

    fn accept(&mut self, io: &mut Io<'_, B>, budget: &Budget) -> Progress {
        for _ in 0..budget.packets {
            let Some(listener) = &self.listener else {
                return Progress::Done;
            };
            match io.accept_next(listener).expect("the listener is good") {
                Accepted::Stream(stream, _) => {
                    self.accepted += 1;
                    self.adopt(io, stream, Vec::new());
                }
                Accepted::Shed => self.shed += 1,
                Accepted::Aborted => self.aborted += 1,
                Accepted::Empty => return Progress::Done,
                _ => break,
            }
        }
        Progress::More
    }

    /// Reads up to the budget. `Err` means that the connection is dead.
    fn read(
        &mut self,
        io: &mut Io<'_, B>,
        token: Token,
        budget: &Budget,
    ) -> Result<Progress, ErrorKind> {
        let conn = self.conns.get_mut(&token).expect("looked up before");
        let mut left = budget.bytes;
        while left > 0 && !conn.ended {
            let len = left.min(self.buf.len());
            match io.read(&conn.stream, &mut self.buf[..len]) {
                Ok(0) => conn.ended = true,
                Ok(count) => {
                    conn.out.extend(&self.buf[..count]);
                    left -= count;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(Progress::Done),
                    ErrorKind::Interrupted => {}
                    kind => return Err(kind),
                },
            }
        }
        Ok(if conn.ended {
            Progress::Done
        } else {
            Progress::More
        })
    }

    fn write(&mut self, io: &mut Io<'_, B>, token: Token) -> Result<(), ErrorKind> {
        let conn = self.conns.get_mut(&token).expect("looked up before");
        while conn.writable && !conn.out.is_empty() {
            let (front, back) = conn.out.as_slices();
            let slices = [IoSlice::new(front), IoSlice::new(back)];
            match io.write_vectored(&conn.stream, &slices) {
                Ok(count) => drop(conn.out.drain(..count)),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => conn.writable = false,
                    ErrorKind::Interrupted => {}
                    kind => return Err(kind),
                },
            }
        }
        Ok(())
    }
}

impl<B: Backend> Server<B> for Echo<B> {
    fn on_ready(
        &mut self,
        io: &mut Io<'_, B>,
        token: Token,
        readiness: Readiness,
        budget: &Budget,
    ) -> Progress {
        if token == LISTENER {
            return self.accept(io, budget);
        }
        let Some(conn) = self.conns.get_mut(&token) else {
            self.stale += 1;
            return Progress::Done;
        };
        conn.writable |= readiness.is_writable();
        let mut progress = Progress::Done;
        let mut result = Ok(());
        if readiness.is_readable() || readiness.must_read_to_end() {
            result = self.read(io, token, budget).map(|more| progress = more);
        }
        result = result.and_then(|()| self.write(io, token));
        let done = self
            .conns
            .get(&token)
            .is_some_and(|conn| conn.ended && conn.out.is_empty());
        if done || result.is_err() {
            self.conns.remove(&token);
            self.closed += 1;
            return Progress::Done;
        }
        progress
    }

    fn on_messages(&mut self, io: &mut Io<'_, B>) {
        let Some(inbox) = &mut self.inbox else { return };
        let mut messages = std::mem::take(&mut self.messages);
        inbox.drain_into(&mut messages);
        for message in messages.drain(..) {
            match message {
                Message::Adopt(stream, had) => self.adopt(io, stream, had),
                Message::Stop => self.stopped = true,
            }
        }
        self.messages = messages;
    }
}
