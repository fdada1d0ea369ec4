//! Members of shared subscriptions that go, come back, or cannot take more.

use mqtt_codec::{AckPacket, PacketType, ReasonCode};

use super::groups::{member_on, newcomer_on, payloads, publish_some};
use super::world::{World, ack, connect, id, publish, will};
use super::{V5, clause, client_on};
use crate::config::Limits;
use crate::message::ConnectInfo;

#[test]
fn what_a_member_did_not_acknowledge_goes_to_another_one() {
    let mut world = World::new(3, Limits::default());
    let first = member_on(&mut world, 0, "first", "$share/g/t", 1);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 2, 3);
    assert_eq!(payloads(&world.read(first)), [1, 2, 3]);
    world.send(first, &ack(PacketType::PubAck, 2));
    let second = member_on(&mut world, 2, "second", "$share/g/t", 1);
    world.cut(first);
    world.settle();
    let got = world.read(second);
    assert_eq!(got, ["t=1 q1 #1", "t=3 q1 #2"], "new messages, without DUP");
    // The first comes back: what went to the other one is not sent to it again.
    let name = world.name("first", 0);
    let first = world.attach(connect(&name));
    world.settle();
    assert_eq!(world.read(first), ["connack 1"]);
}

#[test]
fn qos_2_that_was_sent_waits_for_its_member_and_goes_to_no_other() {
    let mut world = World::new(2, Limits::default());
    let first = client_on(&mut world, 0, "first");
    let narrow = ConnectInfo {
        receive_maximum: 2,
        ..connect(&world.name("first", 0))
    };
    world.cut(first);
    let first = world.attach(narrow);
    world.subscribe(first, "$share/g/t", 2);
    world.settle();
    world.read(first);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 2, 4);
    assert_eq!(payloads(&world.read(first)), [1, 2], "its window is two");
    let (second, waited) = newcomer_on(&mut world, 1, "second", "$share/g/t", 2);
    assert_eq!(payloads(&waited), [3, 4]);
    world.cut(first);
    world.settle();
    assert!(world.read(second).is_empty(), "[MQTT-4.8.2-4]");
    let name = world.name("first", 0);
    let first = world.attach(connect(&name));
    world.settle();
    let got = world.read(first);
    assert_eq!(got, ["connack 1", "t=1 q2 #1 dup", "t=2 q2 #2 dup"]);
    // Its session ends: the messages end with it.
    world.cut(first);
    world.settle();
    world.pass(2_000_000);
    assert!(world.read(second).is_empty(), "[MQTT-4.8.2-5]");
    clause::v5(&["4.8.2-4", "4.8.2-5"]);
}

#[test]
fn a_message_that_a_member_refuses_is_discarded() {
    for (qos, packet_type) in [(1, PacketType::PubAck), (2, PacketType::PubRec)] {
        let mut world = World::new(2, Limits::default());
        let first = member_on(&mut world, 0, "first", "$share/g/t", qos);
        let publisher = client_on(&mut world, 1, "pub");
        publish_some(&mut world, publisher, "t", 2, 1);
        world.read(first);
        let second = member_on(&mut world, 1, "second", "$share/g/t", qos);
        let refusal = AckPacket::new(packet_type, id(1), ReasonCode::QuotaExceeded);
        world.send(first, &refusal.encode_to_vec(V5));
        world.cut(first);
        world.settle();
        assert!(world.read(second).is_empty(), "[MQTT-4.8.2-6]");
        assert_eq!(
            world.dropped(),
            0,
            "refused by the client, not dropped by us"
        );
    }
    clause::v5(&["4.8.2-6"]);
}

#[test]
fn an_offline_member_gets_nothing_while_another_one_is_online() {
    let mut world = World::new(3, Limits::default());
    let away = member_on(&mut world, 0, "away", "$share/g/t", 1);
    let here = member_on(&mut world, 1, "here", "$share/g/t", 1);
    let publisher = client_on(&mut world, 2, "pub");
    // The mail that says so is still under way when the messages are routed.
    world.cut(away);
    publish_some(&mut world, publisher, "t", 1, 6);
    assert_eq!(payloads(&world.read(here)).len(), 6);
    for qos in [0, 1] {
        publish_some(&mut world, publisher, "t", qos, 6);
        assert_eq!(payloads(&world.read(here)).len(), 6);
    }
    let name = world.name("away", 0);
    let away = world.attach(connect(&name));
    world.settle();
    assert_eq!(world.read(away), ["connack 1"]);
}

#[test]
fn messages_wait_in_the_group_while_all_members_are_away() {
    let limits = Limits {
        shared_queue_messages: 4,
        ..Limits::default()
    };
    let mut world = World::new(3, limits);
    let one = member_on(&mut world, 0, "one", "$share/g/t", 1);
    let two = member_on(&mut world, 1, "two", "$share/g/t", 2);
    let publisher = client_on(&mut world, 2, "pub");
    for client in [one, two] {
        world.cut(client);
    }
    world.settle();
    publish_some(&mut world, publisher, "t", 2, 6);
    assert_eq!(world.read(publisher).len(), 6, "accepted or counted");
    assert_eq!(world.count(|counters| counters.dropped_group_queue_full), 2);
    publish_some(&mut world, publisher, "t", 0, 1);
    assert_eq!(world.count(|counters| counters.dropped_offline), 1);
    let name = world.name("two", 1);
    let two = world.attach(connect(&name));
    world.settle();
    let got = world.read(two);
    assert_eq!(payloads(&got), [1, 2, 3, 4], "in order: {got:?}");
}

#[test]
fn bytes_that_wait_in_a_group_are_bounded() {
    let limits = Limits {
        shared_queue_bytes: 2_000,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let member = member_on(&mut world, 0, "m", "$share/g/t", 1);
    world.cut(member);
    world.settle();
    let publisher = client_on(&mut world, 1, "pub");
    for n in 1..=5 {
        world.send(publisher, &publish(V5, "t", &"x".repeat(600), 1, n));
    }
    world.settle();
    assert_eq!(world.count(|counters| counters.dropped_group_queue_full), 3);
}

#[test]
fn a_member_gets_no_more_than_its_window_and_the_rest_waits_for_whoever_has_room() {
    let mut world = World::new(2, Limits::default());
    let slow = ConnectInfo {
        receive_maximum: 1,
        ..connect(&world.name("slow", 0))
    };
    let slow = world.attach(slow);
    world.subscribe(slow, "$share/g/t", 1);
    world.settle();
    world.read(slow);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 1, 3);
    assert_eq!(payloads(&world.read(slow)), [1]);
    // QoS 0 needs no window.
    publish_some(&mut world, publisher, "t", 0, 1);
    assert_eq!(world.read(slow), ["t=1 q0"]);
    world.send(slow, &ack(PacketType::PubAck, 1));
    world.settle();
    assert_eq!(world.read(slow), ["t=2 q1 #2"]);
    let (_, waited) = newcomer_on(&mut world, 1, "quick", "$share/g/t", 1);
    assert_eq!(waited, ["t=3 q1 #1"], "for whoever has room");
}

#[test]
fn leaving_ends_the_membership_and_the_last_one_ends_the_group() {
    let mut world = World::new(2, Limits::default());
    let stays = member_on(&mut world, 0, "stays", "$share/g/t", 1);
    let leaves = ConnectInfo {
        receive_maximum: 1,
        ..connect(&world.name("leaves", 1))
    };
    let leaves = world.attach(leaves);
    world.subscribe(leaves, "$share/g/t", 1);
    world.settle();
    world.read(leaves);
    let publisher = client_on(&mut world, 0, "pub");
    publish_some(&mut world, publisher, "t", 1, 2);
    assert_eq!(payloads(&world.read(stays)).len(), 1);
    world.unsubscribe(leaves, "$share/g/t");
    world.settle();
    let got = world.read(leaves);
    assert_eq!(got.last().map(String::as_str), Some("unsuback"));
    assert_eq!(payloads(&got).len(), 1, "what was sent is still its own");
    publish_some(&mut world, publisher, "t", 1, 2);
    assert_eq!(payloads(&world.read(stays)).len(), 2);
    world.unsubscribe(leaves, "$share/g/t");
    assert_eq!(world.codes(leaves), [0x11], "no subscription existed");
    assert_eq!(world.shared.groups(), 1);
    world.unsubscribe(stays, "$share/g/t");
    world.settle();
    assert_eq!(world.shared.groups(), 0);
    let topic = topicmap::Topic::parse("t", &world.shared.topic_limits).expect("legal");
    assert_eq!(world.shared.interest.reader().mask(&topic), 0);
    publish_some(&mut world, publisher, "t", 1, 1);
    assert_eq!(world.dropped(), 0, "matched nobody");
}

#[test]
fn what_was_sent_before_unsubscribe_is_finished_after_a_reconnect() {
    let mut world = World::new(2, Limits::default());
    let member = member_on(&mut world, 0, "m", "$share/g/t", 1);
    let other = member_on(&mut world, 1, "other", "$share/g/t", 1);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 1, 2);
    world.unsubscribe(member, "$share/g/t");
    let sent = payloads(&world.read(member));
    assert_eq!(sent.len(), 1);
    world.cut(member);
    let name = world.name("m", 0);
    let member = world.attach(connect(&name));
    world.settle();
    let got = world.read(member);
    assert_eq!(payloads(&got), sent, "[MQTT-3.10.4-3]: {got:?}");
    assert_eq!(payloads(&world.read(other)).len(), 1);
    clause::v5(&["3.10.4-3"]);
}

#[test]
fn a_session_that_ends_leaves_its_groups() {
    let mut world = World::new(2, Limits::default());
    let gone = ConnectInfo {
        session_expiry_s: 0,
        ..connect(&world.name("gone", 0))
    };
    let gone = world.attach(gone);
    world.subscribe(gone, "$share/g/t", 1);
    let stays = member_on(&mut world, 1, "stays", "$share/g/t", 1);
    world.read(gone);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 1, 4);
    assert_eq!(payloads(&world.read(gone)).len(), 2);
    world.cut(gone);
    world.settle();
    assert_eq!(
        payloads(&world.read(stays)).len(),
        4,
        "its own and the others"
    );
    // A clean start ends the membership of a session that was kept.
    let name = world.name("stays", 1);
    let stays = world.attach(ConnectInfo {
        clean_start: true,
        ..connect(&name)
    });
    world.settle();
    assert_eq!(world.read(stays), ["connack 0"]);
    assert_eq!(world.shared.groups(), 0);
}

#[test]
fn a_take_over_keeps_the_membership_and_loses_nothing() {
    let mut world = World::new(2, Limits::default());
    let first = member_on(&mut world, 0, "m", "$share/g/t", 1);
    let publisher = client_on(&mut world, 1, "pub");
    publish_some(&mut world, publisher, "t", 1, 2);
    world.read(first);
    let name = world.name("m", 0);
    let second = world.attach(connect(&name));
    world.settle();
    let got = world.read(second);
    assert_eq!(payloads(&got), [1, 2], "{got:?}");
    publish_some(&mut world, publisher, "t", 1, 1);
    assert_eq!(payloads(&world.read(second)), [1]);
}

#[test]
fn a_message_that_expires_in_the_group_is_dropped_and_counted() {
    let mut world = World::new(2, Limits::default());
    let member = member_on(&mut world, 0, "m", "$share/g/will", 1);
    world.cut(member);
    world.settle();
    let mut dying = connect(&world.name("dies", 1));
    dying.will = will("will", "7", 0);
    if let Some(will) = &mut dying.will {
        will.expiry_s = Some(5);
    }
    let dies = world.attach(dying);
    world.cut(dies);
    world.settle();
    world.pass(6_000);
    let name = world.name("m", 0);
    let member = world.attach(connect(&name));
    world.settle();
    assert_eq!(world.read(member), ["connack 1"]);
    assert_eq!(world.count(|counters| counters.dropped_expired), 1);
}
