//! What a listener offers its clients and what not, on the wire.
//!
//! Nothing here waits for time to pass: every wait is for bytes or a line, and fails after
//! `PATIENCE`.

#![cfg(not(loom))]

#[path = "support/clause.rs"]
mod clause;
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::io::{Read, Write};
use std::net::SocketAddr;

use mqtt_codec::encode::{
    Connect, ConnectProperties, Subscribe, Unsubscribe, Will, WillProperties,
};
use mqtt_codec::{
    Packet, PacketId, PublishHead, QoS, ReasonCode, RetainHandling, SubscribeFilter, Version,
};

use self::peer::{End, Peer};
use self::support::{Process, TempDir, program};

const V5: Version = Version::V5;
const V311: Version = Version::V311;

/// A broker with a listener of the given keys and one without any.
struct Broker {
    process: Process,
    ruled: SocketAddr,
    plain: SocketAddr,
    home: TempDir,
}

fn configuration(keys: &str) -> String {
    let address = "address = \"127.0.0.1:0\"";
    format!("[[listener]]\n{address}\n{keys}\n[[listener]]\n{address}\n")
}

impl Broker {
    fn start(keys: &str) -> Self {
        let home = TempDir::new();
        std::fs::write(home.join("axmq.toml"), configuration(keys)).expect("a writable folder");
        let mut command = program(&home);
        let mut process = Process::start(command.args(["--config", "axmq.toml", "--shards", "1"]));
        let (ruled, plain) = (process.listening(), process.listening());
        process.out.wait_for("to stop: ");
        Self {
            process,
            ruled,
            plain,
            home,
        }
    }

    /// A client of the listener with the rules, and its CONNACK.
    fn connect(&self, version: Version, connect: &Connect<'_>) -> (Peer, String) {
        let mut client = Peer::connect(self.ruled, version, connect);
        let connack = client.read();
        (client, connack)
    }

    fn client(&self, version: Version, client_id: &str) -> Peer {
        let (client, connack) = self.connect(version, &named(client_id));
        assert!(connack.starts_with("connack 0x00"), "{connack}");
        client
    }

    /// A client of the listener without rules.
    fn outsider(&self) -> Peer {
        let mut client = Peer::connect(self.plain, V5, &named("outsider"));
        assert_eq!(client.read(), "connack 0x00");
        client
    }
}

fn named(client_id: &str) -> Connect<'_> {
    Connect {
        client_id,
        clean_start: true,
        ..Connect::default()
    }
}

impl Peer {
    fn subscribe(&mut self, filter: &str, qos: u8, identifier: Option<u32>) {
        let filters = [SubscribeFilter {
            filter,
            qos: QoS::from_u8(qos).expect("a QoS"),
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }];
        let packet = Subscribe {
            packet_id: PacketId::MIN,
            filters: &filters,
            subscription_identifier: identifier,
            user_properties: &[],
        };
        self.send(&packet.encode_to_vec(self.version));
    }

    fn unsubscribe(&mut self, filter: &str) {
        let packet = Unsubscribe {
            packet_id: PacketId::MIN,
            filters: &[filter],
            user_properties: &[],
        };
        self.send(&packet.encode_to_vec(self.version));
    }

    fn publish(&mut self, topic: &str, qos: u8, retain: bool) {
        let qos = QoS::from_u8(qos).expect("a QoS");
        let head = PublishHead {
            dup: false,
            qos,
            retain,
            topic,
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
            message_expiry: None,
            subscription_ids: &[],
            topic_alias: None,
            pass_through: &[],
            payload_len: 1,
        };
        self.send(&head.encode_to_vec(self.version, b"x"));
    }

    /// The next packet in words, or `closed`.
    #[track_caller]
    fn read(&mut self) -> String {
        match self.receive(|packet, _| describe(packet)) {
            Ok(words) => words,
            Err(End::Closed) => "closed".to_owned(),
            Err(End::Reset) => panic!("the connection was reset"),
        }
    }
}

fn hex(codes: impl Iterator<Item = ReasonCode>) -> String {
    let all: Vec<_> = codes.map(|code| format!("0x{:02X}", code as u8)).collect();
    all.join(" ")
}

fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(packet) => {
            let mut text = format!("connack 0x{:02X}", packet.reason() as u8);
            let properties = packet.properties();
            for (name, value) in [
                ("qos", properties.maximum_qos().map(|qos| qos as u32)),
                ("retain", properties.retain_available().map(u32::from)),
                (
                    "wildcard",
                    properties.wildcard_subscription_available().map(u32::from),
                ),
                (
                    "ids",
                    properties
                        .subscription_identifiers_available()
                        .map(u32::from),
                ),
                ("keep-alive", properties.server_keep_alive().map(u32::from)),
                ("expiry", properties.session_expiry_interval()),
            ] {
                if let Some(value) = value {
                    text.push_str(&format!(" {name}={value}"));
                }
            }
            if let Some(id) = properties.assigned_client_id() {
                text.push_str(&format!(" id={id}"));
            }
            text
        }
        Packet::Publish(packet) => format!("{} q{}", packet.topic(), packet.qos() as u8),
        Packet::SubAck(packet) => format!("suback {}", hex(packet.codes())),
        Packet::UnsubAck(packet) => format!("unsuback {}", hex(packet.codes())),
        Packet::PubAck(ack) => format!("puback 0x{:02X}", ack.reason() as u8),
        Packet::Disconnect(packet) => format!("disconnect 0x{:02X}", packet.reason() as u8),
        other => format!("{:?}", other.packet_type()),
    }
}

#[test]
fn a_version_that_is_not_served_is_refused_as_such() {
    let broker = Broker::start("mqtt_3_1 = false\nmqtt_5_0 = false");
    let (mut client, connack) = broker.connect(V5, &named("a"));
    assert_eq!(
        (connack.as_str(), client.read().as_str()),
        ("connack 0x84", "closed")
    );
    let mut client = Peer::open(broker.ruled, Version::V31);
    client.send(&named("a").encode_to_vec(Version::V31));
    // 3.1 knows the return code 1, which reads as the reason it stands for.
    assert_eq!(client.read(), "connack 0x84");
    broker.client(V311, "a");
}

#[test]
fn a_maximum_qos_is_told_granted_and_enforced() {
    let broker = Broker::start("maximum_qos = 1");
    let (mut client, connack) = broker.connect(V5, &named("a"));
    assert_eq!(connack, "connack 0x00 qos=1");
    client.subscribe("t", 2, None);
    assert_eq!(client.read(), "suback 0x01", "[MQTT-3.2.2-10]");
    broker.outsider().publish("t", 2, false);
    assert_eq!(client.read(), "t q1");
    client.publish("t", 2, false);
    assert_eq!(client.read(), "disconnect 0x9B");
    assert_eq!(client.read(), "closed");

    let mut old = broker.client(V311, "b");
    old.subscribe("t", 2, None);
    assert_eq!(old.read(), "suback 0x01");
    old.publish("t", 2, false);
    assert_eq!(old.read(), "closed");

    let will = Will {
        topic: "w",
        payload: b"x",
        qos: QoS::ExactlyOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    let connect = Connect {
        will: Some(will),
        ..named("c")
    };
    let (mut client, connack) = broker.connect(V5, &connect);
    assert_eq!(
        (connack.as_str(), client.read().as_str()),
        ("connack 0x9B", "closed")
    );
    clause::v5(&["3.2.2-9", "3.2.2-10", "3.2.2-11", "3.2.2-12", "4.13.1-1"]);
}

#[test]
fn without_retain_neither_publishes_nor_wills_may_ask_for_it() {
    let broker = Broker::start("retain = false");
    let (mut client, connack) = broker.connect(V5, &named("a"));
    assert_eq!(connack, "connack 0x00 retain=0");
    client.publish("t", 0, true);
    assert_eq!(client.read(), "disconnect 0x9A");
    let mut old = broker.client(V311, "b");
    old.publish("t", 0, true);
    assert_eq!(old.read(), "closed");
    let will = Will {
        topic: "w",
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: true,
        properties: WillProperties::default(),
    };
    let connect = Connect {
        will: Some(will),
        ..named("c")
    };
    let (mut client, connack) = broker.connect(V5, &connect);
    assert_eq!(
        (connack.as_str(), client.read().as_str()),
        ("connack 0x9A", "closed")
    );
    let mut outsider = broker.outsider();
    outsider.subscribe("#", 0, None);
    assert_eq!(outsider.read(), "suback 0x00");
    outsider.publish("end", 0, false);
    assert_eq!(
        outsider.read(),
        "end q0",
        "nothing was published or kept before"
    );
    clause::v5(&["3.2.2-13", "3.2.2-14"]);
}

#[test]
fn filters_that_are_not_offered_end_5_0_clients_and_are_refused_to_others() {
    for (keys, said, filter, identifier, reason) in [
        (
            "wildcard_subscriptions = false",
            " wildcard=0",
            "a/+",
            None,
            "0xA2",
        ),
        (
            "wildcard_subscriptions = false",
            " wildcard=0",
            "$share/g/a/#",
            None,
            "0xA2",
        ),
        (
            "shared_subscriptions = false",
            "",
            "$share/g/a",
            None,
            "0x9E",
        ),
        (
            "subscription_identifiers = false",
            " ids=0",
            "a",
            Some(7),
            "0xA1",
        ),
    ] {
        let broker = Broker::start(keys);
        let (mut client, connack) = broker.connect(V5, &named("a"));
        assert_eq!(connack, format!("connack 0x00{said}"), "{keys}");
        client.subscribe("a", 1, None);
        assert_eq!(client.read(), "suback 0x01", "{keys}: others are as ever");
        client.subscribe(filter, 1, identifier);
        assert_eq!(client.read(), format!("disconnect {reason}"), "{keys}");
        let mut old = broker.client(V311, "b");
        if identifier.is_none() {
            old.subscribe(filter, 1, None);
            assert_eq!(old.read(), "suback 0x80", "{keys}");
        }
        old.subscribe("a", 1, None);
        assert_eq!(old.read(), "suback 0x01", "{keys}: it is still there");
    }
    clause::v311(&["3.8.3-2"]);
}

#[test]
fn a_mount_point_is_a_world_of_its_own() {
    let broker = Broker::start("mount_point = \"site/\"");
    let mut outsider = broker.outsider();
    outsider.subscribe("#", 1, None);
    assert_eq!(outsider.read(), "suback 0x01");
    let mut a = broker.client(V5, "a");
    let mut b = broker.client(V311, "b");
    for client in [&mut a, &mut b] {
        client.subscribe("t/+", 1, None);
        assert_eq!(client.read(), "suback 0x01");
    }
    outsider.publish("t/1", 0, false);
    assert_eq!(outsider.read(), "t/1 q0");
    outsider.publish("site/t/2", 0, false);
    assert_eq!(outsider.read(), "site/t/2 q0");
    // Neither has seen t/1, which is not under their mount.
    assert_eq!((a.read(), b.read()), ("t/2 q0".into(), "t/2 q0".into()));
    a.publish("t/3", 1, true);
    assert_eq!(outsider.read(), "site/t/3 q1");
    assert_eq!(b.read(), "t/3 q1");
    let mut answers = [a.read(), a.read()];
    answers.sort();
    assert_eq!(answers, ["puback 0x00", "t/3 q1"]);
    // What is retained comes to a late subscriber under its own name as well.
    let mut late = broker.client(V5, "late");
    late.subscribe("#", 0, None);
    assert_eq!(
        (late.read(), late.read()),
        ("suback 0x00".into(), "t/3 q0".into())
    );
    a.unsubscribe("t/+");
    assert_eq!(a.read(), "unsuback 0x00");
    a.unsubscribe("site/t/+");
    assert_eq!(a.read(), "unsuback 0x11");
    // $SYS is the broker's, and not in any mount.
    late.subscribe("$SYS/#", 0, None);
    assert_eq!(late.read(), "suback 0x00");
    outsider.publish("site/u", 0, false);
    assert_eq!(late.read(), "u q0", "nothing of $SYS in between");
}

#[test]
fn a_will_is_published_under_the_mount_point() {
    let broker = Broker::start("mount_point = \"site/\"");
    let mut outsider = broker.outsider();
    outsider.subscribe("site/#", 0, None);
    assert_eq!(outsider.read(), "suback 0x00");
    let will = Will {
        topic: "gone",
        payload: b"x",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    let connect = Connect {
        will: Some(will),
        ..named("a")
    };
    let (client, _) = broker.connect(V311, &connect);
    drop(client);
    assert_eq!(outsider.read(), "site/gone q0");
}

#[test]
fn keep_alive_and_session_expiry_have_a_maximum_of_the_listener() {
    let broker = Broker::start("keep_alive_max_s = 30\nsession_expiry_max_s = 60");
    let connect = Connect {
        keep_alive: 300,
        properties: ConnectProperties {
            session_expiry_interval: Some(1_000),
            ..ConnectProperties::default()
        },
        ..named("a")
    };
    let connack = broker.connect(V5, &connect).1;
    assert_eq!(connack, "connack 0x00 keep-alive=30 expiry=60");
}

#[test]
fn client_ids_may_be_wanted_or_be_the_user_name() {
    let broker = Broker::start("empty_client_ids = false");
    for version in [V5, V311] {
        let (mut client, connack) = broker.connect(version, &named(""));
        assert_eq!(
            (connack.as_str(), client.read().as_str()),
            ("connack 0x85", "closed")
        );
    }
    clause::v5(&["3.1.3-8"]);
    clause::v311(&["3.1.3-9"]);
    broker.client(V311, "a");

    let broker = Broker::start("username_as_client_id = true");
    let user = |client_id| Connect {
        username: Some("alice"),
        ..named(client_id)
    };
    assert_eq!(broker.connect(V5, &user("")).1, "connack 0x00 id=alice");
    let (mut first, connack) = broker.connect(V5, &user("one"));
    assert_eq!(connack, "connack 0x00");
    let _second = broker.connect(V5, &user("two"));
    assert_eq!(first.read(), "disconnect 0x8E", "both are alice");
    assert_eq!(broker.connect(V5, &named("one")).1, "connack 0x85");
}

#[test]
fn a_3_x_client_has_the_window_of_its_listener() {
    let broker = Broker::start("inflight_v3 = 2");
    let mut client = broker.client(V311, "a");
    client.subscribe("t", 1, None);
    assert_eq!(client.read(), "suback 0x01");
    let mut outsider = broker.outsider();
    for _ in 0..3 {
        outsider.publish("t", 1, false);
        assert_eq!(outsider.read(), "puback 0x00");
    }
    assert_eq!(
        (client.read(), client.read()),
        ("t q1".into(), "t q1".into())
    );
    // The third comes only after an acknowledgement: a ping's answer comes before it.
    client.send(&[0xC0, 0]);
    assert_eq!(client.read(), "PingResp");
    client.send(&[0x40, 2, 0, 1]);
    assert_eq!(client.read(), "t q1");
}

#[test]
fn connections_of_a_listener_are_bounded_and_a_reload_changes_its_rules() {
    let mut broker = Broker::start("connections = 1");
    let first = broker.client(V5, "a");
    let mut second = Peer::open(broker.ruled, V5);
    second.stream.set_nodelay(true).expect("a socket");
    let refused = second
        .stream
        .write_all(&named("b").encode_to_vec(V5))
        .and_then(|()| second.stream.read(&mut [0; 9]));
    assert!(!matches!(refused, Ok(n) if n > 0), "{refused:?}");
    broker.process.err.wait_for("as many connections as it may");
    broker.outsider();

    let keys = configuration("connections = 2\nmaximum_qos = 0");
    std::fs::write(broker.home.join("axmq.toml"), keys).expect("a writable folder");
    let mut command = program(&broker.home);
    let (out, err, _) = Process::start(command.args(["reload", "--config", "axmq.toml"])).end();
    assert_eq!(err, "");
    for line in [
        "listener 127.0.0.1:0: connections: 1 -> 2\n",
        "listener 127.0.0.1:0: maximum_qos: 2 -> 0\n",
    ] {
        assert!(out.contains(line), "{out}");
    }
    // Answered by the same front after it has taken the new rules.
    let mut command = program(&broker.home);
    let status = Process::start(command.args(["status", "--config", "axmq.toml"])).end();
    assert!(status.0.contains("clients connected    "), "{}", status.1);
    let (_second, connack) = broker.connect(V5, &named("b"));
    assert_eq!(connack, "connack 0x00 qos=0");
    drop(first);
}
