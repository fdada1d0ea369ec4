//! Whatever the script: every byte arrives once and in order, and nothing sleeps for ever.

#![cfg(not(loom))]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/ops.rs"]
mod ops;

use std::net::SocketAddr;

use echo::{Echo, LISTENER, Message};
use ops::{Op, faults, op};
use pollio::{
    Backend, Reactor, ReactorOptions, Sender, Token, mailbox,
    sim::{End, Fault, Faults, SimBackend, SimNet, SimPeer, SimStream},
};
use proptest::prelude::*;

/// A loop with its server.
struct Side {
    reactor: Reactor<SimBackend>,
    server: Echo<SimBackend>,
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
            self.reactor.turn_within(&mut self.server, Some(0)).unwrap();
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

struct Test {
    net: SimNet,
    addr: SocketAddr,
    sides: [Side; 2],
    clients: Vec<Client>,
}

impl Test {
    fn new(seed: u64, buffer_bytes: usize, read_bytes_max: usize) -> Self {
        let net = SimNet::new(seed);
        net.set_buffer_bytes(buffer_bytes);
        let options = ReactorOptions {
            events_max: 3,
            read_bytes_max,
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

    fn apply(&mut self, op: &Op) {
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
    fn settle(&mut self) {
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

    fn check(&self) {
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
    fn finish(mut self) {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_byte_arrives_once_and_in_order(
        seed in any::<u64>(),
        faults in faults(),
        buffer_bytes in prop_oneof![1_usize..100, 1000_usize..5000],
        read_bytes_max in prop_oneof![1_usize..200, Just(64 * 1024)],
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut test = Test::new(seed, buffer_bytes, read_bytes_max);
        test.net.set_faults(faults);
        for op in &ops {
            test.apply(op);
        }
        // First everything comes back although things go wrong, and again when they no longer do.
        test.settle();
        test.check();
        test.net.set_faults(Faults::NONE);
        test.finish();
    }
}

#[test]
fn every_fault_is_exercised() {
    let mut test = Test::new(7, 100, 1000);
    test.net.set_faults(Faults::all(200));
    for round in 0..400 {
        test.apply(&Op::Connect);
        test.apply(&Op::Send(round, 150));
        test.apply(&Op::Turns(3));
        test.apply(&Op::HandOver(round));
        test.apply(&Op::Finish(round / 2));
        test.apply(&Op::Receive(round / 3, 1000));
    }
    for fault in Fault::ALL {
        assert!(test.net.fault_count(fault) > 0, "{fault:?} never struck");
    }
    let stale: usize = test.sides.iter().map(|side| side.server.stale).sum();
    assert!(stale > 0, "the server has dropped stale events");
    test.net.set_faults(Faults::NONE);
    test.finish();
}
