//! Several cores on one thread, without sockets: the test carries bytes and mail and moves time.

use std::collections::VecDeque;
use std::sync::Arc;

use mqtt_codec::encode::{Subscribe, Unsubscribe};
use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, PublishHead, QoS, ReasonCode, RetainHandling, Role,
    Scan, SubscribeFilter, Version,
};
use pollio::PeerAddr;
use sharedbuf::ReadBlock;
use slabmem::Key;

use super::super::outbox::Outbox;
use super::super::{Core, Shared};
use crate::config::{Config, Limits, ProtocolSettings, StoreSettings};
use crate::counters::Counters;
use crate::group::GroupMail;
use crate::hooks::Hooks;
use crate::message::{Batch, ConnectInfo, Handover, Reply, Will};
use crate::publication::{Parts, Publication};
use crate::store::op::{Health, Stored};

/// What travels between cores.
#[derive(Debug)]
pub(super) enum Mail {
    Batch(Batch),
    Reply(Reply),
    Group(GroupMail),
}

/// A connection as the test holds it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Client {
    pub(super) shard: usize,
    pub(super) key: Key,
    pub(super) version: Version,
}

pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    pub(super) cores: Vec<Core<u32>>,
    /// Mail that has been sent and not been taken, by target.
    pub(super) mail: Vec<VecDeque<Mail>>,
    pub(super) now_ms: u64,
    /// Where whoever attaches next comes from.
    pub(super) peer: PeerAddr,
    streams: u32,
    /// Bytes of clients whose reading is stopped.
    unsent: Vec<(Client, Vec<u8>)>,
}

/// A CONNECT of version 5.0 with nothing special.
pub(super) fn connect(client_id: &str) -> ConnectInfo {
    ConnectInfo {
        version: Version::V5,
        client_id: client_id.into(),
        client_id_assigned: false,
        clean_start: false,
        keep_alive_s: 0,
        keep_alive_imposed: false,
        session_expiry_s: 1_000,
        session_expiry_imposed: false,
        receive_maximum: 100,
        packet_bytes_max: 0,
        topic_alias_max: 0,
        wants_problem_information: true,
        wants_response_information: false,
        will: None,
        grant: None,
        rules: None,
        enhanced: None,
    }
}

pub(super) fn will(topic: &str, payload: &str, delay_s: u32) -> Option<Box<Will>> {
    let parts = Parts {
        topic,
        properties: std::iter::empty(),
        payload: payload.as_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_ms: 0,
    };
    Some(Box::new(Will {
        publication: Publication::from_parts(parts, None),
        expiry_s: None,
        delay_s,
        due_at_ms: 0,
        author: None,
    }))
}

pub(super) fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

pub(super) fn publish(version: Version, topic: &str, payload: &str, qos: u8, n: u16) -> Vec<u8> {
    packet(version, topic, payload, qos, n, false, false)
}

pub(super) fn packet(
    version: Version,
    topic: &str,
    payload: &str,
    qos: u8,
    n: u16,
    dup: bool,
    retain: bool,
) -> Vec<u8> {
    let qos = QoS::from_u8(qos).expect("a QoS");
    let head = PublishHead {
        dup,
        qos,
        retain,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| id(n)),
        message_expiry: None,
        subscription_ids: &[],
        topic_alias: None,
        pass_through: &[],
        payload_len: payload.len(),
    };
    head.encode_to_vec(version, payload.as_bytes())
}

pub(super) fn ack(packet_type: PacketType, n: u16) -> Vec<u8> {
    AckPacket::new(packet_type, id(n), ReasonCode::Success).encode_to_vec(Version::V5)
}

impl World {
    pub(super) fn new(shards: u16, limits: Limits) -> Self {
        Self::of(Shared::new(limits, shards))
    }

    pub(super) fn with_hooks(shards: u16, limits: Limits, hooks: Hooks) -> Self {
        Self::of(Shared::new(limits, shards).with_hooks(hooks))
    }

    pub(super) fn with_protocol(shards: u16, limits: Limits, protocol: ProtocolSettings) -> Self {
        Self::of(Shared::new(limits, shards).with_protocol(protocol))
    }

    /// With the defence that this configuration asks for.
    pub(super) fn with_defence(shards: u16, config: &Config) -> Self {
        Self::of(Shared::new(config.limits.clone(), shards).with_defence(config))
    }

    /// The test plays the store.
    pub(super) fn with_store(shards: u16, limits: Limits, settings: &StoreSettings) -> Self {
        Self::of(Shared::new(limits, shards).with_store(settings, 1, [0; 16]))
    }

    /// The same on one shard, with hooks.
    pub(super) fn with_store_and_hooks(settings: &StoreSettings, hooks: Hooks) -> Self {
        let shared = Shared::new(Limits::default(), 1).with_hooks(hooks);
        Self::of(shared.with_store(settings, 1, [0; 16]))
    }

    fn of(shared: Shared) -> Self {
        let shards = shared.shards;
        let shared = Arc::new(shared);
        let cores = (0..shards)
            .map(|me| Core::new(me, Arc::clone(&shared), 1_000, true))
            .collect();
        Self {
            shared,
            cores,
            mail: (0..shards).map(|_| VecDeque::new()).collect(),
            now_ms: 1_000,
            peer: PeerAddr::UNIX,
            streams: 0,
            unsent: Vec::new(),
        }
    }

    /// A client id that belongs to `shard`.
    pub(super) fn name(&self, prefix: &str, shard: usize) -> String {
        (0..)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| usize::from(self.shared.shard_of(name)) == shard)
            .expect("the hash reaches every shard")
    }

    pub(super) fn attach(&mut self, connect: ConnectInfo) -> Client {
        let shard = usize::from(self.shared.shard_of(&connect.client_id));
        let version = connect.version;
        self.streams += 1;
        self.shared.connection_opened();
        let handover = Handover {
            stream: self.streams,
            peer: self.peer,
            connect,
            seat: None,
            layers: None,
            surplus: Vec::new(),
        };
        let key = self.cores[shard].attach(handover).expect("there is room");
        Client {
            shard,
            key,
            version,
        }
    }

    /// Sends bytes; all of them have to be taken.
    pub(super) fn send(&mut self, client: Client, bytes: &[u8]) {
        let used = self.try_send(client, bytes);
        assert_eq!(used, bytes.len(), "reading was stopped");
    }

    /// Sends bytes; returns how many were taken.
    pub(super) fn try_send(&mut self, client: Client, bytes: &[u8]) -> usize {
        self.send_within(client, bytes, &mut { usize::MAX })
    }

    /// The same within the budget of a turn.
    pub(super) fn send_within(
        &mut self,
        client: Client,
        bytes: &[u8],
        budget: &mut usize,
    ) -> usize {
        let mut block = ReadBlock::with_capacity(bytes.len().max(1));
        block.extend_from_slice(bytes);
        let core = &mut self.cores[client.shard];
        core.heard(client.key);
        core.receive(client.key, &block, 0..bytes.len(), budget)
            .used_to
    }

    /// Sends bytes, now or when they are read.
    pub(super) fn send_some_time(&mut self, client: Client, bytes: &[u8]) {
        let same = |(other, _): &&mut (Client, Vec<u8>)| *other == client;
        if let Some((_, waiting)) = self.unsent.iter_mut().find(same) {
            waiting.extend_from_slice(bytes);
            return;
        }
        let used = self.try_send(client, bytes);
        if used < bytes.len() {
            self.unsent.push((client, bytes[used..].to_vec()));
        }
    }

    fn send_again(&mut self) {
        for (client, bytes) in std::mem::take(&mut self.unsent) {
            self.send_some_time(client, &bytes);
        }
    }

    pub(super) fn subscribe(&mut self, client: Client, filter: &str, qos: u8) {
        let filters = [SubscribeFilter {
            filter,
            qos: QoS::from_u8(qos).expect("a QoS"),
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
        let bytes = packet.encode_to_vec(client.version);
        self.send_some_time(client, &bytes);
    }

    pub(super) fn unsubscribe(&mut self, client: Client, filter: &str) {
        let packet = Unsubscribe {
            packet_id: id(901),
            filters: &[filter],
            user_properties: &[],
        };
        let bytes = packet.encode_to_vec(client.version);
        self.send_some_time(client, &bytes);
    }

    /// Adds up a counter of all cores.
    pub(super) fn count(&self, counter: impl Fn(&Counters) -> u64) -> u64 {
        self.cores.iter().map(|core| counter(core.counters())).sum()
    }

    /// Messages that somebody did not get.
    pub(super) fn dropped(&self) -> u64 {
        self.count(Counters::dropped)
    }

    /// Takes what the broker has written to a client, one line a packet.
    pub(super) fn read(&mut self, client: Client) -> Vec<String> {
        let Some(bytes) = self.read_bytes(client) else {
            return vec!["closed".into()];
        };
        let mut lines = Vec::new();
        each_packet(&bytes, client.version, |packet| {
            lines.push(describe(packet));
        });
        lines
    }

    /// Takes what the broker has written to a client, which has to be SUBACKs and UNSUBACKs:
    /// their codes.
    pub(super) fn codes(&mut self, client: Client) -> Vec<u8> {
        let bytes = self.read_bytes(client).expect("it is connected");
        let mut codes = Vec::new();
        each_packet(&bytes, client.version, |packet| match packet {
            Packet::SubAck(ack) => codes.extend(ack.codes().map(|code| code as u8)),
            Packet::UnsubAck(ack) => codes.extend(ack.codes().map(|code| code as u8)),
            other => panic!("{}", describe(other)),
        });
        codes
    }

    pub(super) fn read_bytes(&mut self, client: Client) -> Option<Vec<u8>> {
        let core = &mut self.cores[client.shard];
        if core.is_held_back(client.key) {
            return Some(Vec::new());
        }
        let connection = core.connection(client.key)?;
        let mut bytes = Vec::new();
        let mut slices = [std::io::IoSlice::new(&[]); 1_000];
        let count = connection.out.fill_io_slices(&mut slices);
        for slice in &slices[..count] {
            bytes.extend_from_slice(slice);
        }
        core.wrote(client.key, bytes.len());
        if core.flushed(client.key) {
            // What follows is the peer's own close.
            core.finish_closing(client.key);
        }
        Some(bytes)
    }

    /// Puts what the cores have for each other in the mail.
    pub(super) fn post(&mut self) {
        for (me, core) in self.cores.iter_mut().enumerate() {
            let from = u16::try_from(me).expect("few shards");
            for (outbox, mail) in core.outboxes().iter_mut().zip(&mut self.mail) {
                if let Some(reply) = outbox.take_reply(from) {
                    mail.push_back(Mail::Reply(reply));
                }
                if let Some(group) = outbox.take_group_mail(from) {
                    mail.push_back(Mail::Group(group));
                }
                if let Some(batch) = outbox.take_batch(from) {
                    mail.push_back(Mail::Batch(batch));
                }
            }
        }
    }

    /// One core takes the oldest item of its mail.
    pub(super) fn deliver(&mut self, shard: usize) -> bool {
        let Some(mail) = self.mail[shard].pop_front() else {
            return false;
        };
        match mail {
            Mail::Batch(batch) => self.cores[shard].on_batch(batch),
            Mail::Reply(reply) => self.cores[shard].on_reply(reply),
            Mail::Group(group) => self.cores[shard].on_group_mail(group),
        }
        self.send_again();
        true
    }

    /// Does everything there is to do now.
    pub(super) fn settle(&mut self) {
        loop {
            self.post();
            let mut worked = false;
            for shard in 0..self.cores.len() {
                worked |= self.deliver(shard);
                worked |= self.cores[shard].work_one();
            }
            if !worked {
                return;
            }
        }
    }

    /// The store answers, if need be with what it has just written.
    pub(super) fn stored(&mut self, shard: usize, up_to: u64, cost: u64, health: Health) {
        self.cores[shard].on_stored(Stored {
            up_to,
            cost,
            pages: Vec::new(),
            health,
        });
        self.settle();
    }

    /// Everything that is said, by all shards, is durable at once.
    pub(super) fn catch_up(&mut self) {
        let mut was_busy = true;
        while std::mem::take(&mut was_busy) {
            for shard in 0..self.cores.len() {
                if let Some(batch) = self.cores[shard].take_op_batch(true) {
                    self.stored(shard, batch.number, batch.cost, Health::Well);
                    was_busy = true;
                }
            }
        }
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for core in &mut self.cores {
            core.set_now(self.now_ms);
            while core.on_timers(&mut Vec::new(), &mut Vec::new()) {}
        }
        self.settle();
    }

    /// The network loses a connection.
    pub(super) fn cut(&mut self, client: Client) {
        self.cores[client.shard].close(client.key, crate::events::Cause::PeerClosed);
    }

    /// Nothing is left of anybody.
    pub(super) fn assert_empty(&self) {
        for core in &self.cores {
            core.assert_empty();
        }
        assert_eq!(self.shared.connections(), 0, "open connections");
        assert_eq!(self.shared.groups(), 0, "groups in all");
        assert_eq!(self.shared.waiting(), (0, 0), "sessions and wills");
    }
}

impl<S> Core<S> {
    /// Nothing is left of anybody.
    pub(crate) fn assert_empty(&self) {
        assert_eq!(self.sessions.len(), 0, "sessions");
        assert_eq!(self.connections.len(), 0, "connections");
        assert_eq!(self.messages.len(), 0, "messages");
        assert_eq!(self.topics.subscription_count(), 0, "subscriptions");
        assert_eq!(self.index.len(), 0, "client ids");
        assert_eq!(self.keep_alive.len() + self.timers.len(), 0, "timers");
        let members = (self.memberships.len(), self.groups.member_count());
        assert_eq!(members, (0, 0), "members, here and at their owner");
        assert_eq!(self.groups.len(), 0, "groups");
        assert_eq!(self.due_subacks.len(), 0, "subacks");
        assert_eq!(self.due_connacks.len(), 0, "connacks");
        let work = self.funnel.len() + self.drains.len() + self.replays.len() + self.feeds.len();
        assert_eq!(work + self.starved.len(), 0, "work");
        assert_eq!(self.pressing, 0, "pressure");
        assert_eq!(self.sys_subscribers(), 0, "subscribers of $SYS");
        let unanswered = |outbox: &Outbox| outbox.unanswered + outbox.held_cost + outbox.cost;
        let unanswered: u64 = self.outboxes.iter().map(unanswered).sum();
        assert_eq!(unanswered, 0, "credit");
        let unanswered =
            |outbox: &Outbox| outbox.dealt_unanswered + outbox.held_dealt_cost + outbox.dealt_cost;
        let unanswered: u64 = self.outboxes.iter().map(unanswered).sum();
        assert_eq!(unanswered, 0, "credit for dealt messages");
        assert_eq!(self.message_bytes, 0, "bytes of messages");
    }
}

/// A reason code that refuses.
fn refusal(code: u8) -> String {
    if code < 0x80 {
        return String::new();
    }
    format!(" 0x{code:02X}")
}

pub(super) fn each_packet(bytes: &[u8], version: Version, mut see: impl FnMut(&Packet<'_>)) {
    let mut rest = bytes;
    while let Scan::Frame(frame) = mqtt_codec::scan(rest, u32::MAX).expect("a packet") {
        let (packet, others) = rest.split_at(frame.total_len);
        let packet = mqtt_codec::decode(packet, &frame, version, Role::Client);
        see(&packet.expect("the broker keeps to the protocol"));
        rest = others;
    }
    assert!(rest.is_empty(), "the broker writes whole packets");
}

pub(super) fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(packet) => {
            let properties = packet.properties();
            let mut line = format!("connack {}", u8::from(packet.session_present()));
            if let Some(method) = properties.authentication_method() {
                line += &format!(" {method}");
            }
            if let Some(data) = properties.authentication_data() {
                line += &format!(" {}", String::from_utf8_lossy(data));
            }
            if let Some(text) = properties.response_information() {
                line += &format!(" information {text}");
            }
            if let Some(seconds) = properties.server_keep_alive() {
                line += &format!(" keep-alive {seconds}");
            }
            line
        }
        Packet::Publish(packet) => {
            let id = packet
                .packet_id()
                .map_or(String::new(), |id| format!(" #{}", id.get()));
            let dup = if packet.dup() { " dup" } else { "" };
            let retain = if packet.retain() { " retain" } else { "" };
            let properties = packet.properties();
            let ids: String = properties
                .subscription_identifiers()
                .map(|id| format!(" id{id}"))
                .collect();
            let expiry = properties.message_expiry_interval();
            let expiry = expiry.map_or(String::new(), |seconds| format!(" expires {seconds}"));
            let alias = properties.topic_alias();
            let alias = alias.map_or(String::new(), |alias| format!(" alias{alias}"));
            format!(
                "{}={} q{}{id}{dup}{retain}{ids}{expiry}{alias}",
                packet.topic(),
                String::from_utf8_lossy(packet.payload()),
                packet.qos() as u8
            )
        }
        Packet::PubAck(ack) => format!(
            "puback #{}{}",
            ack.packet_id().get(),
            refusal(ack.reason() as u8)
        ),
        Packet::PubRec(ack) => format!(
            "pubrec #{}{}",
            ack.packet_id().get(),
            refusal(ack.reason() as u8)
        ),
        Packet::PubRel(ack) => format!("pubrel #{}", ack.packet_id().get()),
        Packet::PubComp(ack) => format!("pubcomp #{}", ack.packet_id().get()),
        Packet::SubAck(ack) => {
            let refusals: String = ack.codes().map(|code| refusal(code as u8)).collect();
            format!("suback{refusals}")
        }
        Packet::UnsubAck(_) => "unsuback".into(),
        Packet::Auth(auth) => {
            let has_words =
                auth.reason_string().is_some() || auth.user_properties().next().is_some();
            format!(
                "auth 0x{:02X} {} {}{}",
                auth.reason() as u8,
                auth.authentication_method().unwrap_or("-"),
                String::from_utf8_lossy(auth.authentication_data().unwrap_or_default()),
                if has_words { " with words" } else { "" }
            )
        }
        Packet::Disconnect(packet) => format!("disconnect 0x{:02X}", packet.reason() as u8),
        other => format!("{:?}", other.packet_type()),
    }
}
