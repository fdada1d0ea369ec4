//! Many connections arrive at once.

use std::io;
use std::sync::Arc;

use pollio::sim::{SimBackend, SimListener, SimNet, SimPeer};
use pollio::{Backend, PeerAddr, Reactor, ReactorOptions, Sender, mailbox};

use super::world::connect;
use crate::config::Limits;
use crate::message::{Answer, AnswerTo, Ask, Handover, Query, ToShard};
use crate::shard::server::{ARRIVALS, Alarm, ShardServer};
use crate::shard::shared::Shared;

/// The shard is not to sleep here.
#[derive(Debug)]
struct NoAlarm;

impl Alarm for NoAlarm {
    fn arm(&mut self, _deadline_ns: Option<u64>, _now_ns: u64) -> io::Result<()> {
        Ok(())
    }
}

type Stream = <SimBackend as Backend>::Stream;

struct Burst {
    listener: SimListener,
    net: SimNet,
    shared: Arc<Shared>,
    backend: SimBackend,
    reactor: Reactor<SimBackend>,
    server: ShardServer<SimBackend, NoAlarm>,
    to_shard: Sender<ToShard<Stream>>,
    peers: Vec<SimPeer>,
}

impl Burst {
    fn new() -> Self {
        let net = SimNet::new(1);
        let address = "192.0.2.1:1883".parse().expect("an address");
        let listener = net.listen(address).expect("it is free");
        let shared = Arc::new(Shared::new(Limits::default(), 1));
        let backend = net.backend();
        let (to_shard, receiver) = mailbox(64, backend.waker());
        let server = ShardServer::new(
            0,
            Arc::clone(&shared),
            receiver,
            vec![to_shard.clone()],
            None,
            NoAlarm,
            net.now_ns(),
        );
        Self {
            listener,
            shared,
            reactor: Reactor::new(backend, ReactorOptions::default()),
            backend: net.backend(),
            net,
            server,
            to_shard,
            peers: Vec::new(),
        }
    }

    fn hand_over(&mut self, count: usize) {
        for _ in 0..count {
            let peer = self.net.connect(self.listener.local_addr());
            self.peers.push(peer.expect("it listens"));
            let accepted = self.backend.accept(&self.listener);
            let (stream, _) = accepted.expect("one has connected");
            self.shared.connection_opened();
            self.to_shard
                .push_unbounded(ToShard::Handover(Box::new(Handover {
                    stream,
                    peer: PeerAddr::UNIX,
                    connect: connect(&format!("device-{}", self.peers.len())),
                    seat: None,
                    layers: None,
                    surplus: Vec::new(),
                })));
        }
    }

    /// Connections that are in after one more turn.
    fn turn(&mut self) -> usize {
        let turn = self.reactor.turn_within(&mut self.server, Some(0));
        turn.expect("the simulated wait never fails");
        self.server.core().connection_count()
    }
}

#[test]
fn they_are_let_in_little_by_little() {
    let mut burst = Burst::new();
    burst.hand_over(3 * ARRIVALS - 1);
    let turns = [(); 4].map(|()| burst.turn());
    let all = 3 * ARRIVALS - 1;
    assert_eq!(turns, [ARRIVALS, 2 * ARRIVALS, all, all]);
    let has_connack = |peer: &SimPeer| peer.receive_all().first() == Some(&0x20);
    assert!(burst.peers.iter().all(has_connack));
}

#[test]
fn who_asks_about_all_meets_those_who_came_before() {
    let mut burst = Burst::new();
    burst.hand_over(2 * ARRIVALS);
    let (answer, answers) = std::sync::mpsc::channel();
    let ask = |query| {
        let answer = answer.clone();
        let answer_to = AnswerTo(Box::new(move |found| {
            let _ = answer.send(found);
        }));
        ToShard::Ask(Ask { query, answer_to })
    };
    burst.to_shard.push_unbounded(ask(Query::Ping));
    assert_eq!(burst.turn(), ARRIVALS, "a sign of life concerns nobody");
    burst.hand_over(ARRIVALS);
    let id = format!("device-{}", 3 * ARRIVALS).into();
    burst.to_shard.push_unbounded(ask(Query::Kick { id }));
    burst.hand_over(1);
    assert_eq!(burst.turn(), 3 * ARRIVALS + 1, "and the next in its turn");
    let found: Vec<_> = answers.try_iter().collect();
    assert!(matches!(found[..], [_, Answer::Done(true)]), "{found:?}");
}
