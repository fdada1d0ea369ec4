//! A broker, and clients that say packets and hear them in words.

#![allow(dead_code, reason = "each test uses its part")]

use std::net::SocketAddr;
use std::process::Command;

use mqtt_codec::encode::{self, Connect, ConnectProperties, Subscribe, Unsubscribe};
use mqtt_codec::{
    AckPacket, Packet, PacketId, PacketType, PublishHead, PublishProperties, QoS, ReasonCode,
    SubscribeFilter, UserProperties, Version,
};

use rustix::process::Signal;

use crate::peer::Peer;
use crate::support::{Process, TempDir, program};

pub(crate) struct Broker {
    pub(crate) process: Process,
    address: SocketAddr,
    pub(crate) home: TempDir,
}

impl Broker {
    /// A broker with one shard, so that what one client does is over before another's next answer.
    pub(crate) fn start() -> Self {
        Self::at(TempDir::new(), 1, &[])
    }

    /// A broker at home in this folder, with so many shards, and settings by environment.
    pub(crate) fn at(home: TempDir, shards: u16, settings: &[(&str, &str)]) -> Self {
        let mut command = program(&home);
        command.args(["--listen", "127.0.0.1:0", "--shards", &shards.to_string()]);
        command.envs(settings.iter().copied());
        Self::of(&mut command, home)
    }

    /// The same with a configuration file of this content, which has one listener.
    pub(crate) fn configured(home: TempDir, shards: u16, text: &str) -> Self {
        std::fs::write(home.join("axmq.toml"), text).expect("a writable folder");
        let mut command = program(&home);
        command.args(["--config", "axmq.toml", "--shards", &shards.to_string()]);
        Self::of(&mut command, home)
    }

    fn of(command: &mut Command, home: TempDir) -> Self {
        let mut process = Process::start(command);
        let address = process.listening();
        Self {
            process,
            address,
            home,
        }
    }

    /// Ends it in this way, and gives what it has left behind.
    pub(crate) fn end(self, signal: Signal) -> TempDir {
        self.process.signal(signal);
        self.process.end();
        self.home
    }

    pub(crate) fn open(&self, version: Version) -> Client {
        Client {
            peer: Peer::open(self.address, version),
            version,
            packet_bytes_max: usize::MAX,
            last_len: 0,
        }
    }

    /// A client with a new session.
    #[track_caller]
    pub(crate) fn client(&self, version: Version, client_id: &str) -> Client {
        let connect = Connect {
            client_id,
            clean_start: true,
            ..Connect::default()
        };
        self.connect(version, &connect, "connack 0")
    }

    /// A client whose session outlives its connection.
    #[track_caller]
    pub(crate) fn resume(&self, version: Version, client_id: &str, answer: &str) -> Client {
        self.connect(version, &lasting(client_id), answer)
    }

    #[track_caller]
    pub(crate) fn connect(&self, version: Version, connect: &Connect<'_>, answer: &str) -> Client {
        let mut client = self.open(version);
        if let Some(bytes) = connect.properties.maximum_packet_size {
            client.packet_bytes_max = bytes as usize;
        }
        client.says(&connect.encode_to_vec(version));
        client.hears(answer);
        client
    }
}

/// A CONNECT for a session that outlives its connection.
pub(crate) fn lasting(client_id: &str) -> Connect<'_> {
    Connect {
        client_id,
        properties: ConnectProperties {
            session_expiry_interval: Some(1_000),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    }
}

pub(crate) struct Client {
    peer: Peer,
    version: Version,
    /// What it said in CONNECT; a larger packet is a failure, whatever the test is about.
    packet_bytes_max: usize,
    /// Bytes of the packet that was heard last.
    pub(crate) last_len: usize,
}

pub(crate) fn id(n: u16) -> PacketId {
    PacketId::new(n).expect("not zero")
}

/// A message to publish: topic, payload, QoS, and packet identifier where there is one.
pub(crate) fn message<'a>(topic: &'a str, payload: &'static str, qos: u8, n: u16) -> Message<'a> {
    Message {
        head: PublishHead {
            topic,
            qos: QoS::from_u8(qos).expect("a QoS"),
            packet_id: (qos > 0).then(|| id(n)),
            payload_len: payload.len(),
            ..PublishHead::default()
        },
        payload,
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) head: PublishHead<'a>,
    payload: &'static str,
}

impl Message<'_> {
    pub(crate) fn retained(mut self) -> Self {
        self.head.retain = true;
        self
    }

    pub(crate) fn again(mut self) -> Self {
        self.head.dup = true;
        self
    }
}

pub(crate) fn filter(filter: &str, qos: u8) -> SubscribeFilter<'_> {
    SubscribeFilter {
        filter,
        qos: QoS::from_u8(qos).expect("a QoS"),
        ..SubscribeFilter::default()
    }
}

impl Client {
    #[track_caller]
    pub(crate) fn says(&mut self, bytes: &[u8]) {
        self.peer.send(bytes);
    }

    #[track_caller]
    pub(crate) fn publishes(&mut self, message: Message<'_>) {
        self.says(
            &message
                .head
                .encode_to_vec(self.version, message.payload.as_bytes()),
        );
    }

    #[track_caller]
    pub(crate) fn acknowledges(&mut self, packet_type: PacketType, n: u16) {
        let ack = AckPacket::new(packet_type, id(n), ReasonCode::Success);
        self.says(&ack.encode_to_vec(self.version));
    }

    /// Subscribes, with packet identifier 77, and hears the answer.
    #[track_caller]
    pub(crate) fn subscribes(&mut self, filters: &[SubscribeFilter<'_>], answer: &str) {
        let packet = Subscribe {
            packet_id: id(77),
            filters,
            subscription_identifier: None,
            user_properties: &[],
        };
        self.says(&packet.encode_to_vec(self.version));
        self.hears(answer);
    }

    /// Unsubscribes, with packet identifier 78, and hears the answer.
    #[track_caller]
    pub(crate) fn unsubscribes(&mut self, filters: &[&str], answer: &str) {
        let packet = Unsubscribe {
            packet_id: id(78),
            filters,
            user_properties: &[],
        };
        self.says(&packet.encode_to_vec(self.version));
        self.hears(answer);
    }

    #[track_caller]
    pub(crate) fn hears(&mut self, words: &str) {
        assert_eq!(self.read(), words);
    }

    /// Nothing comes: the answer to a ping is next.
    #[track_caller]
    pub(crate) fn hears_nothing_else(&mut self) {
        self.says(&mqtt_codec::PING_REQ);
        self.hears("pingresp");
    }

    /// The connection ends without DISCONNECT, and the broker knows.
    #[track_caller]
    pub(crate) fn is_lost(&mut self) {
        self.peer
            .stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        while !matches!(&*self.read(), "end") {}
    }

    /// The connection ends as it should, and the broker knows.
    #[track_caller]
    pub(crate) fn leaves(mut self) {
        let packet = encode::Disconnect::default();
        self.says(&packet.encode_to_vec(self.version));
        self.hears("end");
    }

    /// The next packet in words, or `end` when the broker has closed.
    #[track_caller]
    pub(crate) fn read(&mut self) -> String {
        let received = self.peer.receive(|packet, len| (words(packet), len));
        let Ok((words, len)) = received else {
            return "end".into();
        };
        self.last_len = len;
        assert!(len <= self.packet_bytes_max, "[MQTT-3.1.2-24]");
        words
    }
}

fn codes(codes: impl Iterator<Item = ReasonCode>) -> String {
    codes.map(|code| format!(" {:02x}", code as u8)).collect()
}

/// Whether there is something for people to read: a reason string, or user properties.
fn note(reason: Option<&str>, mut user_properties: UserProperties<'_>) -> &'static str {
    match (reason, user_properties.next()) {
        (None, None) => "",
        _ => " with a note",
    }
}

/// The properties of a message, but for subscription identifiers.
fn properties(of: PublishProperties<'_>) -> String {
    let mut words = String::new();
    let mut say = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.push_str(&format!(" {name}:{value}"));
        }
    };
    say("alias", of.topic_alias().map(|alias| alias.to_string()));
    let format = of.payload_format_indicator();
    say("format", format.map(|format| (format as u8).to_string()));
    let expiry = of.message_expiry_interval();
    say("expires", expiry.map(|seconds| seconds.to_string()));
    say("type", of.content_type().map(str::to_owned));
    say("answer", of.response_topic().map(str::to_owned));
    say(
        "correlation",
        of.correlation_data().map(|it| format!("{it:02x?}")),
    );
    for (name, value) in of.user_properties() {
        say(name, Some(value.to_owned()));
    }
    words
}

fn words(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &mqtt_codec::Ack<'_>| {
        let note = note(ack.reason_string(), ack.user_properties());
        match ack.reason() as u8 {
            ..0x80 => format!("{name} #{}{note}", ack.packet_id()),
            code => format!("{name} #{} {code:02x}{note}", ack.packet_id()),
        }
    };
    match packet {
        Packet::ConnAck(it) if it.reason() == ReasonCode::Success => {
            let assigned = it.properties().assigned_client_id().is_some();
            let assigned = if assigned { " with an identifier" } else { "" };
            format!("connack {}{assigned}", u8::from(it.session_present()))
        }
        Packet::ConnAck(it) => format!("connack refused {:02x}", it.reason() as u8),
        Packet::Publish(it) => {
            let id = it.packet_id().map_or(String::new(), |id| format!(" #{id}"));
            let dup = if it.dup() { " dup" } else { "" };
            let retain = if it.retain() { " retain" } else { "" };
            let payload = String::from_utf8_lossy(it.payload());
            let ids = it.properties().subscription_identifiers();
            let ids: String = ids.map(|id| format!(" [{id}]")).collect();
            format!(
                "{}={payload} q{}{id}{dup}{retain}{ids}{}",
                it.topic(),
                it.qos() as u8,
                properties(it.properties())
            )
        }
        Packet::PubAck(it) => ack("puback", it),
        Packet::PubRec(it) => ack("pubrec", it),
        Packet::PubRel(it) => ack("pubrel", it),
        Packet::PubComp(it) => ack("pubcomp", it),
        Packet::SubAck(it) => {
            let note = note(it.reason_string(), it.user_properties());
            format!("suback #{}{}{note}", it.packet_id(), codes(it.codes()))
        }
        Packet::UnsubAck(it) => {
            let note = note(it.reason_string(), it.user_properties());
            format!("unsuback #{}{}{note}", it.packet_id(), codes(it.codes()))
        }
        Packet::PingResp => "pingresp".into(),
        Packet::Disconnect(it) => format!("disconnect {:02x}", it.reason() as u8),
        other => format!("{:?}", other.packet_type()),
    }
}
