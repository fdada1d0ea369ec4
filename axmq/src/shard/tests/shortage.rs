//! Memory is short: who waits, what is dropped and who is disconnected, in order.

use mqtt_codec::PacketType;

use super::world::{Client, World, ack, connect, publish};
use super::{V5, client_on, subscriber_on};
use crate::config::Limits;
use crate::events::Cause;
use crate::hooks::EndedBy;
use crate::memory::Shortage::{self, FewConnections, NoPublishers, ShedClients, ShedMessages};
use crate::message::ConnectInfo;
use crate::shard::shortage::GONE_MIN;

fn tell(world: &mut World, shortage: Shortage) {
    for core in &mut world.cores {
        core.on_shortage(shortage);
    }
}

/// How many bytes are read, where they are what an event announces.
fn read_from(world: &mut World, client: Client, bytes: &[u8]) -> usize {
    world.cores[client.shard].hold_publisher(client.key);
    world.try_send(client, bytes)
}

/// Bytes and messages that are queued for a client.
fn queued(world: &World, client: Client) -> (usize, usize) {
    let connection = world.cores[client.shard].connection(client.key);
    connection.map_or((0, 0), |it| (it.out.bytes(), it.out.messages()))
}

/// Queues so many messages of a kilobyte for a subscriber of `topic`.
fn fill(world: &mut World, publisher: Client, topic: &str, qos: u8, count: u16) {
    for n in 1..=count {
        let message = publish(V5, topic, &"x".repeat(1_000), qos, n);
        world.send(publisher, &message);
        world.read(publisher);
    }
}

/// A client that is called as the topic it subscribes to.
fn subscriber(world: &mut World, topic: &str) -> Client {
    let client = world.attach(connect(topic));
    world.subscribe(client, topic, 1);
    assert_eq!(world.read(client), ["connack 0", "suback"]);
    client
}

/// Nobody is paused by a long queue.
fn roomy() -> Limits {
    Limits {
        out_queue_soft_bytes: 4_000_000,
        ..Limits::default()
    }
}

#[test]
fn publishers_wait_and_subscribers_go_on() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "t", 1);
    let old = client_on(&mut world, 0, "old");
    let new = client_on(&mut world, 0, "new");
    world.send(old, &publish(V5, "t", "1", 1, 1));
    tell(&mut world, FewConnections);
    let message = publish(V5, "t", "2", 1, 2);
    assert_eq!(read_from(&mut world, old, &message), message.len());
    tell(&mut world, NoPublishers);
    assert_eq!(read_from(&mut world, old, &message), 0);
    assert_eq!(read_from(&mut world, old, &message), 0, "not counted twice");
    let two = [&message[..], &message].concat();
    assert_eq!(
        read_from(&mut world, new, &two),
        message.len(),
        "that it publishes is known when it has"
    );
    assert_eq!(world.count(|counters| counters.publishers_held), 2);
    assert_eq!(world.read(watcher).len(), 3);
    for n in 1..=3 {
        let ack = ack(PacketType::PubAck, n);
        assert_eq!(read_from(&mut world, watcher, &ack), ack.len());
    }
    assert_eq!(read_from(&mut world, watcher, &[0xC0, 0]), 2);
    // Nothing but time passes.
    world.pass(10_000);
    assert_eq!(read_from(&mut world, old, &message), 0);
    tell(&mut world, FewConnections);
    let mut ready = Vec::new();
    world.cores[0].take_ready(&mut ready);
    assert!(ready.contains(&old.key) && ready.contains(&new.key));
    assert_eq!(read_from(&mut world, old, &message), message.len());
    for client in [watcher, old, new] {
        world.cut(client);
    }
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}

#[test]
fn a_publisher_that_owes_acknowledgements_is_read_up_to_its_next_message() {
    let mut world = World::new(1, Limits::default());
    let both = subscriber_on(&mut world, 0, "t", 1);
    let message = publish(V5, "elsewhere", "x", 1, 1);
    world.send(both, &message);
    for n in 1..=3 {
        let publisher = client_on(&mut world, 0, &format!("pub{n}-"));
        world.send(publisher, &publish(V5, "t", "x", 1, 1));
    }
    world.read(both);
    tell(&mut world, NoPublishers);
    let some = [&ack(PacketType::PubAck, 1)[..], &message, &message].concat();
    let first = some.len() - message.len();
    assert_eq!(read_from(&mut world, both, &some), first);
    assert_eq!(read_from(&mut world, both, &message), 0);
    world.pass(199);
    assert_eq!(read_from(&mut world, both, &message), 0);
    world.pass(1);
    let rest = [
        &ack(PacketType::PubAck, 2)[..],
        &ack(PacketType::PubAck, 3),
        &message,
    ]
    .concat();
    assert_eq!(read_from(&mut world, both, &rest), rest.len());
    world.pass(1_000);
    assert_eq!(
        read_from(&mut world, both, &message),
        0,
        "it owes nothing now"
    );
}

#[test]
fn the_longest_queues_give_first_and_only_qos_0() {
    let mut world = World::new(1, roomy());
    let subscribers = ["long", "middle", "short"].map(|topic| subscriber(&mut world, topic));
    let publisher = client_on(&mut world, 0, "pub");
    fill(&mut world, publisher, "long", 0, 100);
    fill(&mut world, publisher, "middle", 0, 40);
    fill(&mut world, publisher, "short", 0, 10);
    for topic in ["long", "middle", "short"] {
        fill(&mut world, publisher, topic, 1, 1);
    }
    world.send(subscribers[0], &[0xC0, 0]);
    let messages = |world: &World| {
        let queued = subscribers.map(|it| queued(world, it).1);
        let dropped = world.count(|counters| counters.dropped_memory_short);
        (queued, dropped)
    };
    tell(&mut world, NoPublishers);
    assert_eq!(messages(&world), ([102, 41, 11], 0));
    tell(&mut world, ShedMessages);
    assert_eq!(messages(&world), ([51, 41, 11], 51), "half the bytes");
    tell(&mut world, ShedMessages);
    assert_eq!(messages(&world), ([25, 24, 11], 51 + 26 + 17));
    for _ in 0..20 {
        tell(&mut world, ShedMessages);
    }
    assert_eq!(messages(&world), ([2, 1, 1], 150), "down to nothing");
    assert_eq!(world.dropped(), 150, "they are among the drops");
    let rest = world.read(subscribers[0]);
    assert!(
        rest[0].ends_with("q1 #1") && rest[1] == "PingResp",
        "what is not QoS 0 is left, in order: {rest:?}"
    );
    // The next shortage begins with the longest again.
    tell(&mut world, Shortage::None);
    fill(&mut world, publisher, "long", 0, 100);
    tell(&mut world, ShedMessages);
    assert_eq!(messages(&world).0, [50, 1, 1], "and not with all");
}

#[test]
fn a_client_that_waits_for_its_own_queue_goes_on_when_that_is_shed() {
    let limits = Limits {
        out_queue_soft_bytes: 10_000,
        out_queue_bytes: 40_000,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let client = subscriber_on(&mut world, 0, "t", 0);
    let message = publish(V5, "t", &"x".repeat(1_000), 0, 0);
    while world.try_send(client, &message) == message.len() {}
    assert_eq!(world.try_send(client, &[0xC0, 0]), 0);
    tell(&mut world, ShedMessages);
    tell(&mut world, ShedMessages);
    tell(&mut world, Shortage::None);
    assert_eq!(world.try_send(client, &[0xC0, 0]), 2);
}

#[test]
fn the_clients_with_the_longest_queues_are_told_and_disconnected() {
    let mut world = World::new(1, roomy());
    let subscribers = ["long", "middle", "short"].map(|topic| subscriber(&mut world, topic));
    let publisher = client_on(&mut world, 0, "pub");
    // QoS 1: nothing that could be dropped.
    for (topic, count) in [("long", 95), ("middle", 70), ("short", 30)] {
        fill(&mut world, publisher, topic, 1, count);
    }
    // Of the first frame some bytes are out.
    let mut bytes = first_bytes(&world, subscribers[0], 10);
    world.cores[0].wrote(subscribers[0].key, 10);
    tell(&mut world, ShedClients);
    assert_eq!(world.count(|counters| counters.clients_shed), 2);
    assert_eq!(queued(&world, subscribers[2]).1, 30, "it frees too little");
    bytes.extend(world.read_bytes(subscribers[0]).expect("it lingers"));
    let mut lines = Vec::new();
    super::world::each_packet(&bytes, V5, |packet| {
        lines.push(super::world::describe(packet));
    });
    assert_eq!(
        lines.len(),
        2,
        "the frame that was under way, and the reason"
    );
    assert!(lines[0].ends_with("q1 #1") && lines[1] == "disconnect 0x97");
    assert_eq!(world.read(subscribers[1]), ["disconnect 0x97"]);
    let ends = world.cores[0].disconnects.latest(2);
    for end in ends {
        assert!(matches!(end.cause, Cause::MemoryShort));
        assert_eq!(end.cause.ended_by(), EndedBy::Shortage);
    }
    tell(&mut world, ShedClients);
    assert_eq!(world.count(|counters| counters.clients_shed), 2);
    assert_eq!(world.dropped(), 0, "QoS 1 stays with the session");
}

#[test]
fn a_session_that_ends_with_its_connection_counts_with_all_that_waits_in_it() {
    let mut world = World::new(1, roomy());
    let clients = [("ends", 0), ("stays", 1_000)].map(|(name, session_expiry_s)| {
        let client = world.attach(ConnectInfo {
            receive_maximum: 1,
            session_expiry_s,
            ..connect(name)
        });
        world.subscribe(client, "t", 1);
        client
    });
    let publisher = client_on(&mut world, 0, "pub");
    fill(&mut world, publisher, "t", 1, 80);
    for client in clients {
        world.read(client);
    }
    tell(&mut world, ShedClients);
    assert_eq!(world.count(|counters| counters.clients_shed), 1);
    assert_eq!(world.read(clients[0]), ["disconnect 0x97"]);
    world.settle();
    assert_eq!(
        world.cores[0].pending(world.cores[0].find("stays").expect("there")),
        79
    );
    assert!(world.cores[0].find("ends").is_none());
}

fn first_bytes(world: &World, client: Client, count: usize) -> Vec<u8> {
    let connection = world.cores[client.shard].connection(client.key);
    let mut slices = [std::io::IoSlice::new(&[]); 1];
    connection
        .expect("it is connected")
        .out
        .fill_io_slices(&mut slices);
    slices[0][..count].to_vec()
}

#[test]
fn what_was_queued_for_a_client_that_is_disconnected_is_counted() {
    let mut world = World::new(1, roomy());
    let client = subscriber(&mut world, "long");
    let publisher = client_on(&mut world, 0, "pub");
    fill(&mut world, publisher, "long", 0, 200);
    tell(&mut world, ShedClients);
    assert_eq!(world.read(client), ["disconnect 0x97"]);
    assert_eq!(world.count(|counters| counters.dropped_memory_short), 200);
}

#[test]
fn the_list_of_those_that_are_not_read_does_not_grow_with_time() {
    let limits = Limits {
        out_queue_soft_bytes: 1_024,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let client = client_on(&mut world, 0, "pings");
    for _ in 0..300 {
        // It does not take its answers, and then does.
        let used = world.try_send(client, &[0xC0, 0].repeat(600));
        assert!((1_024..1_200).contains(&used));
        world.read(client);
    }
    let count = world.cores[0].paused.len();
    assert!(count <= 70, "{count} for one client");
}

/// Bytes that are mapped for connections and sessions, and vacant in the pool of blocks.
fn reserves(world: &mut World) -> usize {
    let core = &mut world.cores[0];
    let blocks = core
        .blocks
        .pool_mut()
        .map_or(0, |pool| pool.stats().mapped_bytes);
    core.connections.stats().mapped_bytes + core.sessions.stats().mapped_bytes + blocks
}

/// A client whose session ends with its connection.
fn passer_by(world: &mut World, name: &str) -> Client {
    let client = world.attach(ConnectInfo {
        session_expiry_s: 0,
        ..connect(name)
    });
    world.subscribe(client, name, 1);
    assert_eq!(world.read(client), ["connack 0", "suback"]);
    client
}

/// As many as give something to give back come and go, many times over.
const STORM: usize = 5 * GONE_MIN;

#[test]
fn what_a_storm_took_is_given_back_a_while_after_it() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber(&mut world, "t");
    let quiet = reserves(&mut world);
    let storm = |world: &mut World| {
        let clients: Vec<_> = (0..STORM)
            .map(|n| passer_by(world, &format!("client {n}")))
            .collect();
        let full = reserves(world);
        for client in clients {
            world.cut(client);
        }
        world.settle();
        full
    };
    let full = storm(&mut world);
    let after = reserves(&mut world);
    assert!(full > quiet && after > quiet, "{quiet}, {full}, {after}");
    // They come again at once.
    assert!(storm(&mut world) <= full);
    world.pass(499);
    assert!(reserves(&mut world) > quiet);
    world.pass(2);
    assert!(reserves(&mut world) <= quiet);
    world.send(watcher, &publish(V5, "t", "still here", 0, 0));
    assert_eq!(world.read(watcher).len(), 1);
}

#[test]
fn a_few_that_come_and_go_leave_the_reserves_alone() {
    let mut world = World::new(1, Limits::default());
    for n in 0..GONE_MIN + 10 {
        passer_by(&mut world, &format!("stays {n}"));
    }
    let come_and_go = |world: &mut World, times: usize| {
        for _ in 0..times {
            let client = passer_by(world, "comes and goes");
            world.cut(client);
            world.settle();
        }
        world.cores[0].is_calming
    };
    assert!(!come_and_go(&mut world, GONE_MIN + 9));
    assert!(come_and_go(&mut world, 1), "as many have gone as there are");
}
