//! Runs: what comes in a row is handed out together, and nobody sees another order.

use mqtt_codec::{QoS, RetainHandling, SubscribeFilter, Version};

use super::world::{Client, World, connect, id, packet, publish};
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
    let clients = opened(&mut world, vec![connect("a"), connect("b")]);
    for client in &clients {
        world.subscribe(*client, "t", 0);
        world.read(*client);
    }
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
    let clients = opened(&mut world, vec![connect("a"), connect("b"), connect("c")]);
    for client in &clients {
        world.subscribe(*client, "t", 0);
        world.read(*client);
    }
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
    let clients = opened(&mut world, vec![connect("a"), connect("b")]);
    for client in &clients {
        world.subscribe(*client, "t", 0);
        world.read(*client);
    }
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
    let clients = opened(&mut world, vec![connect("a"), connect("b"), connect("c")]);
    for client in &clients {
        world.subscribe(*client, "t", 0);
        world.read(*client);
    }
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
    let clients = opened(&mut world, vec![connect(&there), old(&other)]);
    for client in &clients {
        world.subscribe(*client, "+/x", 0);
        world.read(*client);
    }
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
