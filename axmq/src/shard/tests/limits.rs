//! Limits and choices of the protocol that one client meets by itself.

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{PublishHead, QoS, RetainHandling, SubscribeFilter};

use super::world::{World, connect, id, publish, will};
use super::{V5, clause, client_on, subscriber_on};
use crate::config::{Limits, ProtocolSettings};
use crate::message::ConnectInfo;

/// A PUBLISH with these properties as they stand on the wire.
pub(super) fn with_properties(
    topic: &str,
    payload: &[u8],
    qos: u8,
    alias: u16,
    raw: &[u8],
) -> Vec<u8> {
    let qos = QoS::from_u8(qos).expect("a QoS");
    let head = PublishHead {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: (qos != QoS::AtMostOnce).then(|| id(1)),
        message_expiry: None,
        subscription_ids: &[],
        topic_alias: std::num::NonZero::new(alias),
        pass_through: raw,
        payload_len: payload.len(),
    };
    head.encode_to_vec(V5, payload)
}

const SAYS_UTF8: [u8; 2] = [1, 1];

#[test]
fn a_payload_that_is_not_what_it_says_is_refused_where_that_is_checked() {
    for checks in [false, true] {
        let protocol = ProtocolSettings {
            check_payload_format: checks,
            ..ProtocolSettings::default()
        };
        let mut world = World::with_protocol(1, Limits::default(), protocol);
        let watcher = subscriber_on(&mut world, 0, "t", 2);
        let publisher = client_on(&mut world, 0, "pub");
        for (qos, refused, accepted) in [
            (1, "puback #1 0x99", "puback #1"),
            (2, "pubrec #1 0x99", "pubrec #1"),
            (0, "disconnect 0x99", ""),
        ] {
            let bad = with_properties("t", b"\xFF", qos, 0, &SAYS_UTF8);
            world.try_send(publisher, &bad);
            let got = world.read(publisher);
            let wanted = if checks { refused } else { accepted };
            assert_eq!(got.join(""), wanted, "QoS {qos}");
            assert_eq!(world.read(watcher).len(), usize::from(!checks));
            let good = with_properties("t", b"ok", qos, 0, &SAYS_UTF8);
            if qos == 1 {
                world.send(publisher, &good);
                assert_eq!(world.read(publisher), ["puback #1"]);
                assert_eq!(world.read(watcher).len(), 1);
            }
        }
        let refused = world.count(|counters| counters.refused_payload_format);
        assert_eq!(refused, if checks { 3 } else { 0 });
    }
}

#[test]
fn no_local_is_about_the_publisher_and_not_about_its_slot() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    let other = client_on(&mut world, 1, "sub");
    for client in [publisher, other] {
        let filters = [SubscribeFilter {
            filter: "t",
            qos: QoS::AtMostOnce,
            no_local: true,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        }];
        let packet = Subscribe {
            packet_id: id(1),
            filters: &filters,
            subscription_identifier: None,
            user_properties: &[],
        };
        world.send(client, &packet.encode_to_vec(V5));
        assert_eq!(world.read(client), ["suback"]);
    }
    // Both sessions are the first of their shard.
    world.send(publisher, &publish(V5, "t", "x", 0, 0));
    world.settle();
    assert!(world.read(publisher).is_empty());
    assert_eq!(world.read(other), ["t=x q0"]);
}

#[test]
fn response_information_comes_to_those_that_ask() {
    let protocol = ProtocolSettings {
        response_information: Some("answers/".into()),
        ..ProtocolSettings::default()
    };
    let mut world = World::with_protocol(1, Limits::default(), protocol);
    for (asks, line) in [
        (true, "connack 0 information answers/"),
        (false, "connack 0"),
    ] {
        let client = world.attach(ConnectInfo {
            wants_response_information: asks,
            ..connect(if asks { "asks" } else { "does not" })
        });
        assert_eq!(world.read(client), [line], "[MQTT-3.1.2-28]");
    }
    clause::v5(&["3.1.2-28"]);
}

#[test]
fn user_properties_are_counted_and_come_in_order() {
    let limits = Limits {
        user_properties: 3,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let watcher = subscriber_on(&mut world, 1, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    let property = |key: u8, value: u8| [38, 0, 1, key, 0, 1, value];
    let three = [
        property(b'b', b'1'),
        property(b'a', b'2'),
        property(b'b', b'3'),
    ]
    .concat();
    world.send(publisher, &with_properties("t", b"x", 0, 0, &three));
    world.settle();
    let bytes = world.read_bytes(watcher).expect("it is connected");
    let at = bytes
        .windows(three.len())
        .position(|window| window == three);
    assert!(at.is_some(), "[MQTT-3.3.2-18]: all three, in order");
    let four = [&three[..], &property(b'd', b'4')].concat();
    world.try_send(publisher, &with_properties("t", b"x", 0, 0, &four));
    assert_eq!(world.read(publisher), ["disconnect 0x97"]);
    assert_eq!(world.count(|counters| counters.refused_user_properties), 1);
    clause::v5(&["3.3.2-17", "3.3.2-18"]);
}

#[test]
fn long_topics_close_and_long_filters_are_refused() {
    let limits = Limits {
        topic_bytes: 10,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let client = client_on(&mut world, 0, "c");
    for (filter, code) in [
        ("0123456789", 0),
        ("0123456789a", 0x8F),
        ("$share/g/0123456789", 0x8F),
    ] {
        world.subscribe(client, filter, 0);
        assert_eq!(world.codes(client), [code], "{filter}");
    }
    world.send(client, &publish(V5, "0123456789", "fits", 0, 0));
    assert_eq!(world.read(client), ["0123456789=fits q0"]);
    world.try_send(client, &publish(V5, "0123456789a", "does not", 0, 0));
    assert_eq!(world.read(client), ["disconnect 0x90"]);
    assert_eq!(world.count(|counters| counters.refused_topics), 1);
}

#[test]
fn the_bytes_behind_topic_aliases_are_bounded() {
    let limits = Limits {
        topic_alias_bytes: 10,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let client = client_on(&mut world, 0, "c");
    // A new topic under the same alias takes the place of the old one.
    for (topic, alias) in [("12345", 1), ("123", 1), ("1234567", 2)] {
        world.send(client, &with_properties(topic, b"", 0, alias, &[]));
    }
    assert!(world.read(client).is_empty());
    world.try_send(client, &with_properties("1", b"", 0, 3, &[]));
    assert_eq!(world.read(client), ["disconnect 0x97"]);
    assert_eq!(
        world.count(|counters| counters.refused_topic_alias_bytes),
        1
    );
}

#[test]
fn sessions_without_a_connection_are_bounded() {
    let limits = Limits {
        offline_sessions: 1,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let names = [world.name("a", 0), world.name("b", 1)];
    let clients = [0, 1].map(|at| world.attach(connect(&names[at])));
    for client in clients {
        world.cut(client);
        world.settle();
    }
    assert_eq!(world.count(|counters| counters.sessions_not_kept), 1);
    let kept = [0, 1].map(|at| {
        let client = world.attach(connect(&names[at]));
        world.read(client)
    });
    assert_eq!(kept, [["connack 1"], ["connack 0"]]);
    // A take-over needs no place of its own.
    let away = world.attach(connect(&world.name("c", 0)));
    world.cut(away);
    world.settle();
    let second = world.attach(connect(&names[0]));
    assert_eq!(world.read(second), ["connack 1"]);
    assert_eq!(world.count(|counters| counters.sessions_not_kept), 1);
    world.pass(2_000_000);
    assert_eq!(world.shared.waiting(), (0, 0));
}

#[test]
fn wills_that_wait_are_bounded() {
    let limits = Limits {
        delayed_wills: 1,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let watcher = subscriber_on(&mut world, 0, "will", 0);
    for name in ["first", "second"] {
        let client = world.attach(ConnectInfo {
            will: will("will", name, 100),
            ..connect(name)
        });
        world.cut(client);
        world.settle();
    }
    assert_eq!(
        world.read(watcher),
        ["will=second q0"],
        "it has no place to wait"
    );
    assert_eq!(world.count(|counters| counters.wills_not_delayed), 1);
    // Its client comes back in time: the first one's place is free again.
    let back = world.attach(connect("first"));
    assert_eq!(world.read(back), ["connack 1"]);
    assert_eq!(world.shared.waiting().1, 0);
    world.pass(200_000);
    assert!(world.read(watcher).is_empty());
}

#[test]
fn the_reason_in_words_stays_within_the_clients_packet_size() {
    let mut world = World::new(1, Limits::default());
    for (packet_bytes_max, has_words) in [(0, true), (10, false)] {
        let client = world.attach(ConnectInfo {
            packet_bytes_max,
            ..connect(if has_words { "large" } else { "small" })
        });
        world.read(client);
        world.try_send(client, &publish(V5, "a/#", "illegal", 0, 0));
        let bytes = world.read_bytes(client).expect("it lingers");
        assert_eq!(bytes.len() > 10, has_words, "[MQTT-3.14.2-3]");
    }
    clause::v5(&["3.14.2-3", "3.14.2-4"]);
}

#[test]
fn more_unacknowledged_publishes_than_allowed_are_counted() {
    let limits = Limits {
        receive_maximum: 1,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let client = client_on(&mut world, 0, "c");
    for n in 1..=2 {
        world.try_send(client, &publish(V5, "t", "x", 2, n));
    }
    // It goes on with what it has begun, in small reads, and has time to read why it is to go.
    let core = &mut world.cores[0];
    assert!((0..1_000).all(|_| core.discard(client.key, 4)));
    assert_eq!(world.read(client), ["pubrec #1", "disconnect 0x93"]);
    assert_eq!(world.count(|counters| counters.refused_receive_maximum), 1);
}
