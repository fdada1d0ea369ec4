//! Runs: what comes in a row is handed out together, and nobody sees another order.

use mqtt_codec::{PacketType, QoS, RetainHandling, SubscribeFilter, Version};

use super::world::{Client, World, ack, connect, id, packet, publish};
use crate::config::Limits;
use crate::message::ConnectInfo;

const V5: Version = Version::V5;

fn old(client_id: &str) -> ConnectInfo {
    ConnectInfo {
        version: Version::V311,
        ..connect(client_id)
    }
}

/// QoS 0 publishes of one read: `topic=number` each.
fn burst(version: Version, topics: &[&str]) -> Vec<u8> {
    topics
        .iter()
        .enumerate()
        .flat_map(|(n, topic)| publish(version, topic, &n.to_string(), 0, 0))
        .collect()
}

fn with_identifier(world: &mut World, client: Client, filter: &str, identifier: u32) {
    let filters = [SubscribeFilter {
        filter,
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }];
    let packet = mqtt_codec::encode::Subscribe {
        packet_id: id(902),
        filters: &filters,
        subscription_identifier: Some(identifier),
        user_properties: &[],
    };
    let bytes = packet.encode_to_vec(client.version);
    world.send(client, &bytes);
}

fn opened(world: &mut World, connects: Vec<ConnectInfo>) -> Vec<Client> {
    let clients: Vec<_> = connects
        .into_iter()
        .map(|connect| world.attach(connect))
        .collect();
    for client in &clients {
        world.read(*client);
    }
    clients
}

/// As [`opened`], each with a subscription to `filter`.
fn subscribed(world: &mut World, connects: Vec<ConnectInfo>, filter: &str, qos: u8) -> Vec<Client> {
    let clients = opened(world, connects);
    for client in &clients {
        world.subscribe(*client, filter, qos);
        world.read(*client);
    }
    clients
}

#[test]
fn subscribers_of_both_wire_formats_get_a_run_in_order() {
    for version in [Version::V311, V5] {
        let mut world = World::new(1, Limits::default());
        let clients = opened(
            &mut world,
            vec![connect("a"), old("b"), connect("c"), old("d"), connect("e")],
        );
        for client in &clients[..4] {
            world.subscribe(*client, "t/#", 0);
            world.read(*client);
        }
        with_identifier(&mut world, clients[4], "t/#", 7);
        world.read(clients[4]);
        let publisher = ConnectInfo {
            version,
            ..connect("p")
        };
        let publisher = world.attach(publisher);
        let topics = ["t/1", "t/1", "t/1", "t/2", "t/1", "t/2", "t/2", "t/2"];
        world.send(publisher, &burst(version, &topics));
        let wanted: Vec<String> = topics
            .iter()
            .enumerate()
            .map(|(n, topic)| format!("{topic}={n} q0"))
            .collect();
        let identified: Vec<String> = wanted.iter().map(|line| format!("{line} id7")).collect();
        assert_eq!(world.read(clients[4]), identified);
        for client in &clients[..4] {
            assert_eq!(world.read(*client), wanted);
        }
        assert_eq!(world.cores[0].counters().publishes_sent, 8 * 5);
    }
}

#[test]
fn a_run_is_one_segment_for_each_subscriber() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(&mut world, vec![connect("a"), connect("b")], "t", 0);
    let publisher = world.attach(connect("p"));
    let long = "x".repeat(200);
    let bytes: Vec<u8> = (0..50)
        .flat_map(|_| publish(V5, "t", &long, 0, 0))
        .collect();
    world.send(publisher, &bytes);
    for client in clients {
        let connection = world.cores[0].connection(client.key).expect("connected");
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        // The first message is copied, and the others come in one piece.
        assert_eq!(connection.out.fill_io_slices(&mut slices), 2);
        assert_eq!(connection.out.messages(), 50);
        assert_eq!(world.read(client).len(), 50);
    }
}

#[test]
fn anything_else_for_a_member_comes_in_its_place() {
    let mut world = World::new(1, Limits::default());
    let clients = opened(&mut world, vec![connect("a"), connect("b"), connect("p")]);
    for client in &clients[..2] {
        world.subscribe(*client, "#", 1);
        world.read(*client);
    }
    let mut bytes = burst(V5, &["t", "t", "t"]);
    bytes.extend(publish(V5, "t", "acknowledged", 1, 5));
    bytes.extend(burst(V5, &["t", "t", "t"]));
    bytes.extend(packet(V5, "t", "retained", 0, 0, false, true));
    bytes.extend(burst(V5, &["t", "t"]));
    bytes.extend(publish(V5, "t", &"x".repeat(2_000), 0, 0));
    world.send(clients[2], &bytes);
    let long = format!("t={} q0", "x".repeat(2_000));
    for client in &clients[..2] {
        let lines = world.read(*client);
        let wanted = [
            "t=0 q0",
            "t=1 q0",
            "t=2 q0",
            "t=acknowledged q1 #1",
            "t=0 q0",
            "t=1 q0",
            "t=2 q0",
            "t=retained q0",
            "t=0 q0",
            "t=1 q0",
            &long,
        ];
        assert_eq!(lines, wanted);
    }
}

#[test]
fn a_member_that_publishes_unsubscribes_or_leaves_ends_the_run() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(
        &mut world,
        vec![connect("a"), connect("b"), connect("c")],
        "t",
        0,
    );
    // The publisher is a member itself and goes away in the middle of its own burst.
    let mut bytes = burst(V5, &["t", "t", "t"]);
    let unsubscribe = mqtt_codec::encode::Unsubscribe {
        packet_id: id(901),
        filters: &["t"],
        user_properties: &[],
    };
    bytes.extend(unsubscribe.encode_to_vec(V5));
    bytes.extend(burst(V5, &["t", "t", "t"]));
    let leave = mqtt_codec::encode::Disconnect::default();
    let mut end = vec![0; leave.encoded_len(V5)];
    leave.encode(V5, &mut end);
    bytes.extend(end);
    world.send(clients[2], &bytes);
    for client in &clients[..2] {
        let wanted = ["t=0 q0", "t=1 q0", "t=2 q0", "t=0 q0", "t=1 q0", "t=2 q0"];
        assert_eq!(world.read(*client), wanted);
    }
    world.settle();
    assert_eq!(world.cores[0].counters().publishes_sent, 3 * 3 + 3 * 2);
}

#[test]
fn a_full_queue_takes_what_fits_of_a_run_and_the_rest_is_counted() {
    let limits = Limits {
        out_queue_bytes: 1_000,
        out_queue_soft_bytes: 1_000,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let clients = subscribed(&mut world, vec![connect("a"), connect("b")], "t", 0);
    let publisher = world.attach(connect("p"));
    let payload = "x".repeat(94);
    let frame = publish(V5, "t", &payload, 0, 0);
    assert_eq!(frame.len(), 100);
    world.try_send(publisher, &frame.repeat(15));
    for client in clients {
        assert_eq!(world.read(client).len(), 10);
    }
    let counters = world.cores[0].counters();
    assert_eq!(counters.publishes_sent, 20);
    assert_eq!(counters.dropped_out_queue_full, 10);
}

#[test]
fn who_is_away_is_counted_for_every_message_of_a_run() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(
        &mut world,
        vec![connect("a"), connect("b"), connect("c")],
        "t",
        0,
    );
    world.cut(clients[2]);
    world.settle();
    let publisher = world.attach(connect("p"));
    world.send(publisher, &burst(V5, &["t"; 9]));
    assert_eq!(world.cores[0].counters().dropped_offline, 9);
}

#[test]
fn runs_go_on_behind_another_shard() {
    let mut world = World::new(2, Limits::default());
    let (here, there) = (world.name("h", 0), world.name("t", 1));
    let other = world.name("u", 1);
    let clients = subscribed(&mut world, vec![connect(&there), old(&other)], "+/x", 0);
    let publisher = world.attach(connect(&here));
    let topics = ["a/x", "a/x", "b/x", "b/x", "b/x", "a/x"];
    world.send(publisher, &burst(V5, &topics));
    world.settle();
    for client in clients {
        let lines = world.read(client);
        let wanted: Vec<String> = topics
            .iter()
            .enumerate()
            .map(|(n, topic)| format!("{topic}={n} q0"))
            .collect();
        assert_eq!(lines, wanted);
    }
}

/// Publishes of one read at a QoS: `topic=number` each, with packet ids from 500 on.
fn acknowledged(topic: &str, qos: u8, count: u16) -> Vec<u8> {
    (0..count)
        .flat_map(|n| publish(V5, topic, &n.to_string(), qos, 500 + n))
        .collect()
}

/// What a subscriber reads of them, from the message `first` on, under packet ids from `id` on.
fn expected(topic: &str, qos: u8, numbers: std::ops::Range<u16>, id: u16) -> Vec<String> {
    numbers
        .clone()
        .map(|n| match qos {
            0 => format!("{topic}={n} q0"),
            _ => format!("{topic}={n} q{qos} #{}", id + n - numbers.start),
        })
        .collect()
}

fn settle_all(world: &mut World, client: Client, ids: std::ops::Range<u16>) {
    let acks: Vec<u8> = ids.flat_map(|n| ack(PacketType::PubAck, n)).collect();
    world.send(client, &acks);
}

#[test]
fn every_subscriber_gets_a_run_at_its_own_qos() {
    for published in [1, 2] {
        let mut world = World::new(1, Limits::default());
        let clients = opened(
            &mut world,
            vec![
                connect("a"),
                old("b"),
                connect("c"),
                old("d"),
                connect("e"),
                old("f"),
            ],
        );
        for (client, qos) in clients.iter().zip([0, 0, 1, 1, 2, 2]) {
            world.subscribe(*client, "t", qos);
            world.read(*client);
        }
        let publisher = world.attach(connect("p"));
        world.send(publisher, &acknowledged("t", published, 7));
        for (client, qos) in clients.iter().zip([0, 0, 1, 1, 2, 2]) {
            let qos = published.min(qos);
            assert_eq!(world.read(*client), expected("t", qos, 0..7, 1), "{qos}");
            if qos == 1 {
                settle_all(&mut world, *client, 1..8);
            } else if qos == 2 {
                let row = |kind| (1..8).flat_map(|n| ack(kind, n)).collect::<Vec<u8>>();
                world.send(*client, &row(PacketType::PubRec));
                assert_eq!(world.read(*client).len(), 7, "PUBREL");
                world.send(*client, &row(PacketType::PubComp));
            }
        }
        assert_eq!(world.cores[0].messages.len(), 0);
        assert_eq!(world.cores[0].message_bytes, 0);
        assert_eq!(world.cores[0].counters().publishes_sent, 6 * 7);
        assert_eq!(world.dropped(), 0);
    }
}

#[test]
fn a_run_above_qos_0_is_one_segment_too() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(&mut world, vec![connect("a"), connect("b")], "t", 1);
    let publisher = world.attach(connect("p"));
    let long = "x".repeat(200);
    let bytes: Vec<u8> = (0..50)
        .flat_map(|n| publish(V5, "t", &long, 1, n + 1))
        .collect();
    world.send(publisher, &bytes);
    for client in clients {
        let connection = world.cores[0].connection(client.key).expect("connected");
        let mut slices = [std::io::IoSlice::new(&[]); 64];
        assert_eq!(connection.out.fill_io_slices(&mut slices), 2);
        assert_eq!(world.read(client).len(), 50);
    }
}

#[test]
fn who_has_room_for_a_part_of_a_run_gets_the_rest_later() {
    let mut world = World::new(1, Limits::default());
    let narrow = ConnectInfo {
        receive_maximum: 5,
        ..connect("n")
    };
    let clients = subscribed(&mut world, vec![connect("a"), narrow, connect("c")], "t", 1);
    let publisher = world.attach(connect("p"));
    world.send(publisher, &acknowledged("t", 1, 12));
    assert_eq!(world.read(clients[0]), expected("t", 1, 0..12, 1));
    assert_eq!(world.read(clients[1]), expected("t", 1, 0..5, 1));
    settle_all(&mut world, clients[1], 1..4);
    world.settle();
    assert_eq!(world.read(clients[1]), expected("t", 1, 5..8, 6));
    // Behind what waits nothing goes out at once.
    world.send(publisher, &acknowledged("u", 1, 3));
    settle_all(&mut world, clients[1], 4..9);
    world.settle();
    assert_eq!(world.read(clients[1]), expected("t", 1, 8..12, 9));
    settle_all(&mut world, clients[1], 9..13);
    for client in [clients[0], clients[2]] {
        settle_all(&mut world, client, 1..13);
    }
    assert_eq!(world.cores[0].messages.len(), 0);
}

#[test]
fn a_run_that_only_waits_takes_no_memory_for_sending() {
    let mut world = World::new(1, Limits::default());
    let narrow = ConnectInfo {
        receive_maximum: 1,
        ..connect("n")
    };
    let clients = subscribed(&mut world, vec![connect("a"), narrow], "t", 1);
    let publisher = world.attach(connect("p"));
    world.send(publisher, &acknowledged("t", 1, 1));
    assert_eq!(world.read(clients[1]), ["t=0 q1 #1"]);
    world.send(publisher, &acknowledged("t", 1, 5));
    let connection = world.cores[0]
        .connection(clients[1].key)
        .expect("connected");
    assert_eq!(
        (connection.out.bytes(), connection.out.heap_bytes()),
        (0, 0)
    );
    settle_all(&mut world, clients[1], 1..2);
    assert_eq!(world.read(clients[1]).len(), 1);
}

#[test]
fn who_has_other_ids_gets_the_same_messages_under_them() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(
        &mut world,
        vec![connect("a"), connect("b"), connect("c")],
        "t",
        1,
    );
    world.subscribe(clients[1], "own", 1);
    world.read(clients[1]);
    let publisher = world.attach(connect("p"));
    // Ahead of the others, and not acknowledged.
    world.send(publisher, &acknowledged("own", 1, 3));
    assert_eq!(world.read(clients[1]), expected("own", 1, 0..3, 1));
    // The first goes one by one and shows where everybody is; the others go on from there.
    world.send(publisher, &acknowledged("t", 1, 4));
    let others = ["t=0 q1 #1", "t=1 q1 #5", "t=2 q1 #6", "t=3 q1 #7"];
    assert_eq!(world.read(clients[0]), others);
    assert_eq!(world.read(clients[1]), expected("t", 1, 0..4, 4));
    // Ahead again, of a run.
    world.send(publisher, &acknowledged("own", 1, 2));
    assert_eq!(world.read(clients[1]), expected("own", 1, 0..2, 8));
    world.send(publisher, &acknowledged("t", 1, 3));
    assert_eq!(world.read(clients[1]), expected("t", 1, 0..3, 10));
    for client in &clients {
        settle_all(&mut world, *client, 1..20);
        world.read(*client);
    }
    assert_eq!(world.cores[0].messages.len(), 0);
    world.send(publisher, &acknowledged("t", 1, 4));
    for client in &clients {
        assert_eq!(world.read(*client), expected("t", 1, 0..4, 13));
    }
}

#[test]
fn who_cannot_follow_the_numbers_gets_ids_of_its_own() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(
        &mut world,
        vec![connect("a"), connect("b"), old("c")],
        "t",
        2,
    );
    let publisher = world.attach(connect("p"));
    world.send(publisher, &acknowledged("t", 1, 1));
    for client in &clients {
        assert_eq!(world.read(*client), ["t=0 q1 #1"]);
    }
    settle_all(&mut world, clients[1], 1..2);
    settle_all(&mut world, clients[2], 1..2);
    // While the first client keeps that one, there are more others than there are ids.
    world.cores[0].numbered = 3 * crate::session::IDS + 10;
    for (qos, at) in [(1, 0), (2, 4)] {
        world.send(publisher, &acknowledged("t", qos, 4));
        assert_eq!(world.read(clients[0]), expected("t", qos, 0..4, 2 + at));
        assert_eq!(world.read(clients[1]), expected("t", qos, 0..4, 11 + at));
        assert_eq!(world.read(clients[2]), expected("t", qos, 0..4, 11 + at));
    }
    settle_all(&mut world, clients[0], 1..6);
    settle_all(&mut world, clients[1], 11..15);
    settle_all(&mut world, clients[2], 11..15);
    assert_eq!(world.cores[0].messages.len(), 4, "those at QoS 2");
}

#[test]
fn what_is_in_flight_when_a_run_has_come_is_sent_again() {
    let mut world = World::new(1, Limits::default());
    let clients = subscribed(&mut world, vec![connect("a"), connect("b")], "t", 1);
    let publisher = world.attach(connect("p"));
    world.send(publisher, &acknowledged("t", 1, 6));
    assert_eq!(world.read(clients[0]).len(), 6);
    settle_all(&mut world, clients[0], 2..4);
    world.cut(clients[0]);
    world.settle();
    let again = world.attach(connect("a"));
    world.settle();
    let lines = world.read(again);
    let ids: Vec<_> = lines
        .iter()
        .filter_map(|line| line.split('#').nth(1))
        .map(|rest| rest.trim_end_matches(" dup"))
        .collect();
    assert_eq!(ids, ["1", "4", "5", "6"], "{lines:?}");
    assert!(
        lines
            .iter()
            .filter(|line| line.contains("t="))
            .all(|line| line.contains("dup")),
        "{lines:?}"
    );
}
