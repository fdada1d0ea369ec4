//! What the simulator has found, each in its smallest form.

use mqtt_codec::PacketType;

use super::world::{Client, World, ack, connect, packet, publish, will};
use super::{V5, clause, client_on, subscriber_on};
use crate::config::Limits;
use crate::message::ConnectInfo;

#[test]
fn a_disconnect_that_was_received_counts_although_a_write_failed_before() {
    for (says_good_bye, expected) in [(true, &[][..]), (false, &["will=x q0"][..])] {
        let mut world = World::new(1, Limits::default());
        let watcher = subscriber_on(&mut world, 0, "will", 0);
        let client = world.attach(ConnectInfo {
            will: will("will", "x", 0),
            ..connect("one")
        });
        world.cores[0].write_failed(client.key, std::io::ErrorKind::BrokenPipe);
        if says_good_bye {
            world.send(client, &[0xE0, 0]);
        }
        world.cut(client);
        world.settle();
        assert_eq!(world.read(watcher), expected);
    }
}

#[test]
fn a_client_that_finds_no_room_keeps_its_session() {
    let mut world = World::new(1, Limits::default());
    world.cores[0].limit_tables(10, 1, 10);
    let sleeper = world.attach(connect("sleeper"));
    world.subscribe(sleeper, "t", 1);
    world.cut(sleeper);
    world.settle();
    let other = world.attach(connect("other"));
    let handover = crate::message::Handover {
        stream: 9,
        peer: pollio::PeerAddr::UNIX,
        connect: connect("sleeper"),
        seat: None,
        layers: None,
        surplus: Vec::new(),
    };
    assert!(world.cores[0].attach(handover).is_err(), "one connection");
    world.send(other, &publish(V5, "t", "x", 1, 1));
    world.cut(other);
    world.settle();
    let sleeper = world.attach(connect("sleeper"));
    world.settle();
    assert_eq!(world.read(sleeper), ["connack 1", "t=x q1 #1"]);
}

#[test]
fn what_waits_behind_messages_that_are_dropped_still_goes_out() {
    let mut world = World::new(1, Limits::default());
    let sleeper = ConnectInfo {
        receive_maximum: 1,
        packet_bytes_max: 60,
        ..connect("sleeper")
    };
    let client = world.attach(ConnectInfo {
        will: None,
        ..sleeper
    });
    world.subscribe(client, "t", 1);
    assert_eq!(world.read(client), ["connack 0", "suback"]);
    let publisher = client_on(&mut world, 0, "pub");
    let large = "x".repeat(100);
    for (n, payload) in (1..).zip(["first", &large, &large, &large, "last"]) {
        world.send(publisher, &publish(V5, "t", payload, 1, n));
    }
    world.settle();
    assert_eq!(world.read(client), ["t=first q1 #1"]);
    world.send(client, &ack(PacketType::PubAck, 1));
    world.settle();
    assert_eq!(world.read(client), ["t=last q1 #5"]);
}

#[test]
fn a_replay_that_waits_for_its_subscriber_ends_with_it() {
    let limits = Limits {
        out_queue_soft_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 0..200 {
        let stored = packet(V5, &format!("r/{n}"), &"x".repeat(100), 0, 1, false, true);
        world.send(publisher, &stored);
    }
    let client = world.attach(ConnectInfo {
        session_expiry_s: 0,
        ..connect("one")
    });
    world.subscribe(client, "r/#", 0);
    world.settle();
    world.cut(client);
    world.cut(publisher);
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}

#[test]
fn a_message_that_expires_between_shards_is_dropped() {
    let mut world = World::new(2, Limits::default());
    let watcher = subscriber_on(&mut world, 1, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    let head = mqtt_codec::PublishHead {
        topic: "t",
        message_expiry: Some(1),
        payload_len: 1,
        ..mqtt_codec::PublishHead::default()
    };
    world.send(publisher, &head.encode_to_vec(V5, b"x"));
    world.post();
    world.pass(1_000);
    assert!(world.read(watcher).is_empty());
    assert_eq!(world.cores[1].counters().dropped_expired, 1);
    clause::v5(&["3.3.2-5"]);
}

#[test]
fn a_message_that_expires_on_the_way_to_a_member_is_dropped_and_settled() {
    let mut world = World::new(2, Limits::default());
    let filter = (0..)
        .map(|n| (format!("g{n}"), format!("$share/g{n}/t")))
        .find_map(|(name, filter)| (world.shared.owner_of(&name, "t") == 0).then_some(filter))
        .expect("some group is the first shard's");
    let name = world.name("member", 1);
    let member = world.attach(ConnectInfo {
        receive_maximum: 1,
        ..connect(&name)
    });
    world.subscribe(member, &filter, 1);
    world.settle();
    assert_eq!(world.read(member), ["connack 0", "suback"]);
    let publisher = client_on(&mut world, 0, "pub");
    let head = mqtt_codec::PublishHead {
        topic: "t",
        qos: mqtt_codec::QoS::AtLeastOnce,
        packet_id: Some(super::world::id(1)),
        message_expiry: Some(1),
        payload_len: 1,
        ..mqtt_codec::PublishHead::default()
    };
    world.send(publisher, &head.encode_to_vec(V5, b"x"));
    world.post();
    world.pass(1_000);
    assert!(world.read(member).is_empty());
    assert_eq!(world.cores[1].counters().dropped_expired, 1);
    // Its window is open again.
    world.send(publisher, &publish(V5, "t", "y", 1, 2));
    world.settle();
    assert_eq!(world.read(member), ["t=y q1 #1"]);
}

/// All that comes as the client takes it.
fn read_to_the_end(world: &mut World, client: Client) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        world.settle();
        let lines = world.read(client);
        if lines.is_empty() {
            return got;
        }
        got.extend(lines);
    }
}

#[test]
fn a_replay_brings_what_was_dropped_live() {
    let limits = Limits {
        out_queue_soft_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let publisher = client_on(&mut world, 0, "pub");
    let store = |world: &mut World, text: &str| {
        for n in 0..200 {
            let payload = text.repeat(100);
            let stored = packet(V5, &format!("r/{n}"), &payload, 0, 1, false, true);
            world.send(publisher, &stored);
        }
    };
    store(&mut world, "a");
    let client = client_on(&mut world, 0, "one");
    world.subscribe(client, "r/#", 0);
    // It takes nothing for so long that it does not hold up publishers any more.
    world.pass(1_000);
    store(&mut world, "b");
    assert_eq!(world.dropped(), 200);
    let got = read_to_the_end(&mut world, client);
    let new = got.iter().filter(|line| line.contains("=b")).count();
    let old = got.iter().filter(|line| line.contains("=a")).count();
    assert_eq!(new + old, 200);
    assert!(new > 0 && old < 200, "{old} came before the store changed");
}

#[test]
fn unsubscribe_ends_the_replay() {
    let limits = Limits {
        out_queue_soft_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 0..200 {
        let stored = packet(V5, &format!("r/{n}"), &"x".repeat(100), 0, 1, false, true);
        world.send(publisher, &stored);
    }
    let client = client_on(&mut world, 0, "one");
    world.subscribe(client, "r/#", 0);
    // With room again it is read from; the replay has not gone on yet.
    let first = world.read(client);
    assert!(first.len() < 200, "a slice and SUBACK: {}", first.len());
    world.unsubscribe(client, "r/#");
    assert_eq!(read_to_the_end(&mut world, client), ["unsuback"]);
}

#[test]
fn a_message_that_finds_no_place_in_the_table_is_not_counted_in_it() {
    let mut world = World::new(1, Limits::default());
    world.cores[0].limit_tables(10, 10, 1);
    let client = subscriber_on(&mut world, 0, "t", 1);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 1..=2 {
        world.send(publisher, &publish(V5, "t", "x", 1, n));
    }
    assert_eq!(world.dropped(), 1);
    world.send(client, &ack(PacketType::PubAck, 1));
    assert_eq!(world.cores[0].message_bytes, 0);
}

#[test]
fn a_client_hears_of_its_own_return_behind_what_is_sent_again() {
    let mut world = World::new(1, Limits::default());
    let client = subscriber_on(&mut world, 0, "$SYS/broker/clients/+/connected", 1);
    let publisher = client_on(&mut world, 0, "pub");
    let told = world.read(client);
    assert_eq!(told.len(), 1, "the publisher: {told:?}");
    world.cut(client);
    world.cut(publisher);
    world.settle();
    let name = world.name("sub", 0);
    let client = world.attach(connect(&name));
    world.settle();
    let got = world.read(client);
    let who = |line: &str, name: &str| line.contains(&format!("clients/{name}/connected"));
    assert_eq!(got[0], "connack 1");
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(
        who(&got[1], &world.name("pub", 0)) && got[1].contains(" dup"),
        "{got:?}"
    );
    assert!(who(&got[2], &name) && !got[2].contains(" dup"), "{got:?}");
}

#[test]
fn a_stop_gives_its_clients_five_seconds_and_not_one() {
    let mut world = World::new(1, Limits::default());
    let client = subscriber_on(&mut world, 0, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &publish(V5, "t", "x", 0, 0));
    world.cores[0].stop();
    world.pass(4_000);
    assert_eq!(world.read(client), ["t=x q0", "disconnect 0x8B"]);
}
