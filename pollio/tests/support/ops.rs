//! Peers that do as a script says, the server that they talk to, and the model of what must come
//! of it. A fuzz target can take the same operations.

use std::net::SocketAddr;

use pollio::{
    Backend, Reactor, ReactorOptions, Sender, Token, mailbox,
    sim::{End, Outcome, SimBackend, SimNet, SimPeer, SimStream},
};

use crate::echo::{Echo, LISTENER, Message};

/// One step of a test that plays the peers of a server.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A new connection.
    Connect,
    /// A connection, by number modulo how many there are, sends so many bytes.
    Send(usize, usize),
    /// It receives at most so many.
    Receive(usize, usize),
    /// It sends no more.
    Finish(usize),
    /// It breaks.
    Reset(usize),
    /// What its next reads and writes do.
    Script(usize, Vec<Outcome>, Vec<Outcome>),
    /// What the next accepts do.
    ScriptAccepts(Vec<Outcome>),
    /// So many turns of the server.
    Turns(usize),
    /// The stream is handed to the other loop, if it is the server's to give.
    HandOver(usize),
}

/// A loop with its server.
pub(crate) struct Side {
    reactor: Reactor<SimBackend>,
    pub(crate) server: Echo<SimBackend>,
    mail: Sender<Message<SimStream>>,
}

impl Side {
    fn new(net: &SimNet, options: ReactorOptions) -> Self {
        let backend = net.backend();
        let (mail, inbox) = mailbox(8, backend.waker());
        let mut server = Echo::new(None);
        server.inbox = Some(inbox);
        Self {
            reactor: Reactor::new(backend, options),
            server,
            mail,
        }
    }

    /// Turns only if the loop is awake: a real one would sleep and see nothing.
    fn turn_if_awake(&mut self) -> bool {
        let awake =
            self.reactor.backend().has_work() || self.reactor.sleep_ns(&mut self.server) == Some(0);
        if awake {
            // It may sleep or spin, and does neither for long: something wakes it.
            self.reactor.turn(&mut self.server).unwrap();
        }
        awake
    }
}

/// A peer and the model of its connection.
struct Client {
    peer: SimPeer,
    sent: usize,
    received: usize,
    finished: bool,
    broken: bool,
}

fn byte(client: usize, position: usize) -> u8 {
    (position.wrapping_mul(31) ^ (position >> 8) ^ client.wrapping_mul(97)) as u8
}

/// Two loops, their peers and the model.
pub(crate) struct Test {
    pub(crate) net: SimNet,
    addr: SocketAddr,
    pub(crate) sides: [Side; 2],
    clients: Vec<Client>,
}

impl Test {
    pub(crate) fn new(seed: u64, buffer_bytes: usize, read_bytes_max: usize) -> Self {
        let net = SimNet::new(seed);
        net.set_buffer_bytes(buffer_bytes);
        let options = ReactorOptions {
            events_max: 3,
            read_bytes_max,
            // Every other world has loops that spin.
            spin_ns_max: (seed % 2) * 50_000,
            ..ReactorOptions::default()
        };
        let mut sides = [Side::new(&net, options.clone()), Side::new(&net, options)];
        let addr = "192.0.2.1:1883".parse().unwrap();
        let listener = net.listen(addr).unwrap();
        sides[0]
            .reactor
            .backend()
            .add_listener(&listener, LISTENER)
            .unwrap();
        sides[0].server.listener = Some(listener);
        Self {
            net,
            addr,
            sides,
            clients: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, op: &Op) {
        let count = self.clients.len();
        let chosen = |n: &usize| if count == 0 { None } else { Some(n % count) };
        match op {
            Op::Connect => {
                let peer = self.net.connect(self.addr).unwrap();
                let client = Client {
                    peer,
                    sent: 0,
                    received: 0,
                    finished: false,
                    broken: false,
                };
                self.clients.push(client);
            }
            Op::Send(n, len) => chosen(n).into_iter().for_each(|n| self.send(n, *len)),
            Op::Receive(n, max) => chosen(n).into_iter().for_each(|n| self.receive(n, *max)),
            Op::Finish(n) => {
                if let Some(client) = chosen(n).and_then(|n| self.clients.get_mut(n)) {
                    client.peer.shutdown_write();
                    client.finished = true;
                }
            }
            Op::Reset(n) => {
                if let Some(client) = chosen(n).and_then(|n| self.clients.get_mut(n)) {
                    client.peer.reset();
                    client.broken = true;
                }
            }
            Op::Script(n, reads, writes) => {
                if let Some(client) = chosen(n).and_then(|n| self.clients.get(n)) {
                    client.peer.script_reads(reads.iter().copied());
                    client.peer.script_writes(writes.iter().copied());
                }
            }
            Op::ScriptAccepts(outcomes) => {
                let listener = self.sides[0].server.listener.as_ref().unwrap();
                listener.script_accepts(outcomes.iter().copied());
            }
            Op::Turns(turns) => {
                for _ in 0..*turns {
                    self.turn();
                }
            }
            Op::HandOver(n) => self.hand_over(*n),
        }
    }

    fn turn(&mut self) -> bool {
        let awake = self.sides.each_mut().map(Side::turn_if_awake);
        self.net.advance(1000);
        awake[0] || awake[1]
    }

    fn send(&mut self, n: usize, len: usize) {
        let client = &mut self.clients[n];
        if client.finished {
            return;
        }
        let bytes: Vec<u8> = (client.sent..client.sent + len)
            .map(|at| byte(n, at))
            .collect();
        client.sent += client.peer.send(&bytes).unwrap_or(0);
    }

    fn receive(&mut self, n: usize, max: usize) {
        let client = &mut self.clients[n];
        let mut got = Vec::new();
        client.peer.receive(&mut got, max);
        for byte_got in got {
            assert!(
                client.received < client.sent,
                "more bytes came back than were sent"
            );
            assert_eq!(byte_got, byte(n, client.received), "at {}", client.received);
            client.received += 1;
        }
    }

    /// Moves a connection to the other loop, with what the server still holds of it.
    fn hand_over(&mut self, n: usize) {
        let [from, to] = &mut self.sides;
        let (from, to) = if n.is_multiple_of(2) {
            (from, to)
        } else {
            (to, from)
        };
        let tokens: Vec<Token> = from.server.conns.keys().copied().collect();
        if tokens.is_empty() {
            return;
        }
        let token = tokens[n / 2 % tokens.len()];
        let Some(conn) = from.server.conns.remove(&token) else {
            return;
        };
        let (stream, held) = conn.into_parts();
        from.reactor.backend().remove_stream(&stream).unwrap();
        to.mail.push_unbounded(Message::Adopt(stream, held));
    }

    /// Lets everything that was sent come back.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1_000_000 {
            let mut busy = self.turn();
            for n in 0..self.clients.len() {
                let before = self.clients[n].received;
                self.receive(n, usize::MAX);
                busy |= self.clients[n].received != before;
            }
            if !busy {
                return;
            }
        }
        panic!("the loops do not come to rest");
    }

    pub(crate) fn check(&self) {
        for client in &self.clients {
            let end = client.peer.end();
            if client.broken {
                assert_eq!(end, Some(End::Reset));
            } else if end == Some(End::Reset) {
                // Shed, or broken before it was accepted.
                assert_eq!(client.received, 0, "a connection that was served broke");
            } else {
                assert_eq!(client.received, client.sent, "bytes are missing");
                let finished = client.finished.then_some(End::Closed);
                assert!(
                    end == finished || client.sent == 0,
                    "{end:?} instead of {finished:?}"
                );
            }
        }
    }

    /// Ends all connections and looks at what is left.
    pub(crate) fn finish(mut self) {
        for client in &mut self.clients {
            client.peer.shutdown_write();
            client.finished = true;
        }
        self.settle();
        self.check();
        let left = self
            .sides
            .iter()
            .map(|side| side.server.conns.len())
            .sum::<usize>();
        assert_eq!(left, 0, "connections are left over");
        assert_eq!(self.net.streams_open(), 0, "streams are left open");
        let shed = self.sides[0].server.shed;
        let aborted = self.sides[0].server.aborted;
        let reset = self
            .clients
            .iter()
            .filter(|client| client.peer.end() == Some(End::Reset));
        let unserved = reset.filter(|client| !client.broken).count();
        assert!(
            unserved <= shed + aborted,
            "{unserved} lost of {shed} shed, {aborted} aborted"
        );
    }
}
