//! The whole broker in one thread: a front and shards on their reactors, on a simulated network
//! whose every fault follows from a seed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use mqtt_codec::encode::{Connect, ConnectProperties, Subscribe};
use mqtt_codec::{RetainHandling, Role, Scan, SubscribeFilter, Version};
use pollio::sim::{Faults, SimBackend, SimNet, SimPeer};
use pollio::{Backend, Progress, Reactor, ReactorOptions, Server, mailbox};

use super::super::server::Alarm;
use super::super::{ShardServer, Shared};
use super::storm::{Net, Random};
use super::world::{describe, id};
use crate::config::Limits;
use crate::front::{FrontParts, FrontServer};

/// The reactor's own deadline: the simulated clock has no timerfd.
#[derive(Debug, Default)]
struct Deadline(Option<u64>);

impl Alarm for Deadline {
    fn arm(&mut self, deadline_ns: Option<u64>, _now_ns: u64) -> io::Result<()> {
        self.0 = deadline_ns;
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.0
    }
}

struct Peer {
    peer: Option<SimPeer>,
    received: Vec<u8>,
    /// What the network has not taken yet.
    unsent: Vec<u8>,
}

pub(super) struct Site {
    net: SimNet,
    shared: Arc<Shared>,
    front: (Reactor<SimBackend>, FrontServer<SimBackend>),
    shards: Vec<(Reactor<SimBackend>, ShardServer<SimBackend, Deadline>)>,
    peers: Vec<Peer>,
    address: SocketAddr,
}

/// One turn of a loop that has something to do; whether it had.
fn turn<S: Server<SimBackend>>(reactor: &mut Reactor<SimBackend>, server: &mut S) -> bool {
    let has_work = reactor.backend().has_work() || reactor.sleep_ns(server) == Some(0);
    if has_work {
        let turn = reactor
            .turn_within(server, Some(0))
            .expect("the simulated wait never fails");
        return turn.served > 0
            || turn.events > 0
            || turn.background == Progress::More
            || turn.timers;
    }
    false
}

impl Site {
    pub(super) fn new(seed: u64, shard_count: u16) -> Self {
        let net = SimNet::new(seed);
        let shared = Arc::new(Shared::new(Limits::default(), shard_count));
        let address = "192.0.2.1:1883".parse().expect("an address");
        let mut receivers = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..shard_count {
            let backend = net.backend();
            // Small, so that a full mailbox is met too.
            let (sender, receiver) = mailbox(2, backend.waker());
            senders.push(sender);
            receivers.push((backend, receiver));
        }
        let shards = receivers
            .into_iter()
            .enumerate()
            .map(|(me, (backend, receiver))| {
                let me = u16::try_from(me).expect("few shards");
                let (shared, senders) = (Arc::clone(&shared), senders.clone());
                let alarm = Deadline::default();
                let server = ShardServer::new(me, shared, receiver, senders, alarm, net.now_ns());
                (Reactor::new(backend, ReactorOptions::default()), server)
            })
            .collect();
        let mut backend = net.backend();
        let (_, receiver) = mailbox(4, backend.waker());
        let parts = FrontParts {
            shared: Arc::clone(&shared),
            listeners: vec![net.listen(address).expect("it is free")],
            receiver,
            shards: senders,
            accepts_per_turn: 4,
            connections_max: 1_000,
            pre_connect_bytes_max: 100_000,
        };
        let mut front = FrontServer::new(parts, net.now_ns());
        front.start(&mut backend).expect("listening");
        let front = (Reactor::new(backend, ReactorOptions::default()), front);
        Self {
            net,
            shared,
            front,
            shards,
            peers: Vec::new(),
            address,
        }
    }

    /// Lets the network take what it can, both ways.
    fn exchange(&mut self) {
        for peer in &mut self.peers {
            let Some(stream) = &peer.peer else { continue };
            stream.receive(&mut peer.received, usize::MAX);
            if peer.unsent.is_empty() {
                continue;
            }
            match stream.send(&peer.unsent) {
                Ok(sent) => drop(peer.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => peer.unsent.clear(),
            }
        }
    }

    fn turn_all(&mut self) -> bool {
        let mut worked = turn(&mut self.front.0, &mut self.front.1);
        for (reactor, server) in &mut self.shards {
            worked |= turn(reactor, server);
        }
        worked
    }
}

impl Net for Site {
    type Client = usize;

    fn attach(&mut self, name: &str) -> usize {
        let peer = self.net.connect(self.address).expect("it listens");
        let properties = ConnectProperties {
            session_expiry_interval: Some(1_000),
            ..Default::default()
        };
        let connect = Connect {
            client_id: name,
            properties,
            ..Connect::default()
        };
        let unsent = connect.encode_to_vec(Version::V5);
        self.peers.push(Peer {
            peer: Some(peer),
            received: Vec::new(),
            unsent,
        });
        self.exchange();
        self.peers.len() - 1
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        self.peers[client].unsent.extend_from_slice(bytes);
        self.exchange();
    }

    fn subscribe(&mut self, client: usize, filter: &str, qos: u8) {
        let filters = [SubscribeFilter {
            filter,
            qos: mqtt_codec::QoS::from_u8(qos).expect("a QoS"),
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }];
        let packet = Subscribe {
            packet_id: id(900),
            filters: &filters,
            subscription_identifier: None,
            user_properties: &[],
        };
        let bytes = packet.encode_to_vec(Version::V5);
        self.send(client, &bytes);
    }

    fn read(&mut self, client: usize) -> Vec<String> {
        self.exchange();
        let peer = &mut self.peers[client];
        let mut lines = Vec::new();
        let mut at = 0;
        while let Scan::Frame(frame) =
            mqtt_codec::scan(&peer.received[at..], u32::MAX).expect("whole packets in order")
        {
            let packet = &peer.received[at..at + frame.total_len];
            let packet = mqtt_codec::decode(packet, &frame, Version::V5, Role::Client);
            lines.push(describe(&packet.expect("the broker keeps to the protocol")));
            at += frame.total_len;
        }
        peer.received.drain(..at);
        if peer
            .peer
            .as_ref()
            .is_none_or(|stream| stream.end().is_some())
        {
            peer.peer = None;
            lines.push("closed".into());
        }
        lines
    }

    fn cut(&mut self, client: usize) {
        if let Some(stream) = self.peers[client].peer.take() {
            stream.reset();
        }
    }

    fn step(&mut self, random: &mut Random) {
        self.exchange();
        match random.below(8) {
            0 => self.net.advance(random.next() % 20_000_000),
            1 => {
                turn(&mut self.front.0, &mut self.front.1);
            }
            _ => {
                let at = random.below(self.shards.len());
                let (reactor, server) = &mut self.shards[at];
                turn(reactor, server);
            }
        }
    }

    fn settle(&mut self) {
        // Faults can make a turn idle although there is something left, so an idle round is only
        // believed when several follow each other.
        let mut idle = 0;
        for round in 0.. {
            if idle == 8 {
                return;
            }
            assert!(round < 100_000, "the broker does not come to rest");
            self.exchange();
            idle = if self.turn_all() { 0 } else { idle + 1 };
            if idle > 0 {
                self.net.advance(1_000_000);
            }
        }
    }

    fn harm(&mut self) {
        self.net.set_faults(Faults::all(60));
        // Writes meet full buffers now and then.
        self.net.set_buffer_bytes(200);
    }

    fn heal(&mut self) {
        self.net.set_faults(Faults::NONE);
    }

    fn finish(&mut self) {
        for _ in 0..3 {
            self.net.advance(1_000_000_000_000);
            self.settle();
        }
        assert_eq!(self.net.streams_open(), 0, "streams");
        assert_eq!(self.shared.connections(), 0, "open connections");
        for (_, server) in &self.shards {
            server.core.assert_empty();
        }
    }
}
