//! Statements of the specifications about time, and about what was said on another connection.

use mqtt_codec::encode::Subscribe;
use mqtt_codec::{PacketType, PublishHead, QoS, SubscribeFilter, Version};

use super::limits::with_properties;
use super::world::{Client, World, ack, connect, id, publish, will};
use super::{V5, clause, client_on, subscriber_on};
use crate::config::Limits;
use crate::message::ConnectInfo;

/// A PUBLISH that lives so many seconds.
fn expiring(payload: &str, qos: u8, n: u16, seconds: u32, dup: bool) -> Vec<u8> {
    let head = PublishHead {
        topic: "t",
        qos: QoS::from_u8(qos).expect("a QoS"),
        packet_id: Some(id(n)),
        dup,
        message_expiry: Some(seconds),
        payload_len: payload.len(),
        ..PublishHead::default()
    };
    head.encode_to_vec(V5, payload.as_bytes())
}

/// The client of that name with its connection lost.
fn away(world: &mut World, client: Client) {
    world.cut(client);
    world.settle();
}

#[test]
fn a_session_lasts_as_long_as_its_connection_and_then_its_expiry_interval() {
    for version in [V5, Version::V311] {
        let mut world = World::new(1, Limits::default());
        let again = |world: &mut World| {
            world.attach(ConnectInfo {
                version,
                session_expiry_s: 5,
                ..connect("one")
            })
        };
        let publisher = client_on(&mut world, 0, "pub");
        let client = again(&mut world);
        world.subscribe(client, "t", 0);
        assert_eq!(world.read(client), ["connack 0", "suback"]);
        world.pass(100_000);
        world.send(publisher, &publish(V5, "t", "still there", 0, 0));
        assert_eq!(world.read(client), ["t=still there q0"]);
        away(&mut world, client);
        world.pass(4_999);
        let client = again(&mut world);
        world.send(publisher, &publish(V5, "t", "back in time", 0, 0));
        assert_eq!(world.read(client), ["connack 1", "t=back in time q0"]);
        away(&mut world, client);
        world.pass(5_000);
        let client = again(&mut world);
        world.send(publisher, &publish(V5, "t", "too late", 0, 0));
        assert_eq!(world.read(client), ["connack 0"]);
        for client in [client, publisher] {
            away(&mut world, client);
        }
        world.pass(1_000_000);
        world.assert_empty();
    }
    clause::v5(&["3.1.2-23", "4.1.0-1", "4.1.0-2"]);
    clause::v311(&["4.1.0-1", "4.1.0-2"]);
}

#[test]
fn a_will_is_not_sent_when_its_client_is_back_before_the_delay_is_over() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "will", 0);
    let client = world.attach(ConnectInfo {
        will: will("will", "x", 5),
        ..connect("one")
    });
    away(&mut world, client);
    world.pass(4_999);
    let client = world.attach(connect("one"));
    assert_eq!(world.read(client), ["connack 1"]);
    world.pass(60_000);
    assert!(world.read(watcher).is_empty());
    clause::v5(&["3.1.2-8", "3.1.3-9"]);
}

#[test]
fn what_waits_expires_and_what_is_left_of_its_time_is_told() {
    let mut world = World::new(1, Limits::default());
    let here = subscriber_on(&mut world, 0, "t", 0);
    let waits = world.attach(connect("waits"));
    world.subscribe(waits, "t", 1);
    away(&mut world, waits);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &expiring("short", 1, 1, 3, false));
    world.send(publisher, &expiring("long", 1, 2, 10, false));
    assert_eq!(
        world.read(here),
        ["t=short q0 expires 3", "t=long q0 expires 10"]
    );
    world.pass(3_000);
    let waits = world.attach(connect("waits"));
    world.settle();
    assert_eq!(world.read(waits), ["connack 1", "t=long q1 #1 expires 7"]);
    clause::v5(&["3.3.2-5", "3.3.2-6"]);
}

#[test]
fn what_was_sent_at_qos_2_does_not_expire() {
    let mut world = World::new(1, Limits::default());
    let client = world.attach(connect("one"));
    world.subscribe(client, "t", 2);
    world.read(client);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &expiring("x", 2, 1, 2, false));
    assert_eq!(world.read(client), ["t=x q2 #1 expires 2"]);
    away(&mut world, client);
    world.pass(60_000);
    let client = world.attach(connect("one"));
    world.settle();
    let got = world.read(client);
    assert_eq!(got[0], "connack 1");
    assert!(got[1].starts_with("t=x q2 #1 dup"), "{got:?}");
    world.send(client, &ack(PacketType::PubRec, 1));
    assert_eq!(world.read(client), ["pubrel #1"]);
    clause::v5(&["4.3.3-7"]);
}

#[test]
fn the_exchange_of_a_message_that_expired_goes_on() {
    let mut world = World::new(1, Limits::default());
    let waits = world.attach(connect("waits"));
    world.subscribe(waits, "t", 2);
    away(&mut world, waits);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &expiring("x", 2, 1, 2, false));
    assert_eq!(world.read(publisher), ["pubrec #1"]);
    world.pass(60_000);
    let waits = world.attach(connect("waits"));
    world.settle();
    assert_eq!(world.read(waits), ["connack 1"], "it has expired");
    world.send(publisher, &expiring("x", 2, 1, 2, true));
    world.send(publisher, &ack(PacketType::PubRel, 1));
    assert_eq!(world.read(publisher), ["pubrec #1", "pubcomp #1"]);
    assert!(world.read(waits).is_empty(), "the duplicate is none anew");
    clause::v5(&["4.3.3-10", "4.3.3-13"]);
}

#[test]
fn topic_aliases_last_as_long_as_their_connection() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "#", 0);
    let client = world.attach(connect("one"));
    let most = u16::try_from(world.shared.limits.topic_aliases).expect("16 bits");
    for alias in 1..=most {
        let topic = format!("t/{alias}");
        world.send(client, &with_properties(&topic, b"set", 0, alias, &[]));
    }
    for alias in 1..=most {
        world.send(client, &with_properties("", b"used", 0, alias, &[]));
    }
    let got = world.read(watcher);
    let said = |word: &str| -> Vec<_> {
        let line = |alias| format!("t/{alias}={word} q0");
        (1..=most).map(line).collect()
    };
    assert_eq!(got, [said("set"), said("used")].concat());
    away(&mut world, client);
    let client = world.attach(connect("one"));
    assert_eq!(world.read(client), ["connack 1"]);
    world.try_send(client, &with_properties("", b"x", 0, 1, &[]));
    assert_eq!(world.read(client), ["disconnect 0x82"], "section 3.3.4");
    assert!(world.read(watcher).is_empty());
    clause::v5(&["3.3.2-7", "3.3.2-12"]);
}

#[test]
fn an_alias_above_the_maximum_ends_the_connection() {
    for (most, alias) in [(3, 4), (0, 1)] {
        let limits = Limits {
            topic_aliases: most,
            ..Limits::default()
        };
        let mut world = World::new(1, limits);
        let client = client_on(&mut world, 0, "c");
        world.try_send(client, &with_properties("t", b"x", 0, alias, &[]));
        assert_eq!(world.read(client), ["disconnect 0x94"]);
    }
    clause::v5(&["3.2.2-17", "3.2.2-18", "3.3.2-9"]);
}

#[test]
fn separate_copies_have_the_identifier_of_their_own_subscription() {
    let mut world = World::new(2, Limits::default());
    let member = client_on(&mut world, 0, "m");
    for (filter, number) in [("$share/g/t", 7), ("t", 8)] {
        let packet = Subscribe {
            packet_id: id(900),
            filters: &[SubscribeFilter {
                filter,
                ..SubscribeFilter::default()
            }],
            subscription_identifier: Some(number),
            user_properties: &[],
        };
        world.send(member, &packet.encode_to_vec(V5));
        world.settle();
        assert_eq!(world.read(member), ["suback"]);
    }
    let publisher = client_on(&mut world, 1, "pub");
    world.send(publisher, &publish(V5, "t", "x", 0, 0));
    world.settle();
    let mut got = world.read(member);
    got.sort();
    assert_eq!(got, ["t=x q0 id7", "t=x q0 id8"]);
    clause::v5(&["3.3.4-5"]);
}
