//! What waits for the store, and what does not.

use mqtt_codec::{PacketType, Version};

use super::world::{Client, World, ack, connect, publish};
use super::{V5, client_on, kept_on};
use crate::config::{Durability, Limits, StoreSettings};
use crate::message::ConnectInfo;
use crate::store::op::{Health, Op, OpBatch};

fn world(durability: Durability, limits: Limits) -> World {
    let settings = StoreSettings {
        durability,
        ..StoreSettings::default()
    };
    World::with_store(1, limits, &settings)
}

/// The batch of this turn.
fn batch(world: &mut World) -> Option<OpBatch> {
    world.cores[0].take_op_batch(false)
}

fn queued(batch: &OpBatch) -> usize {
    let is_it = |op: &&Op| matches!(op, Op::Queue(_));
    batch.ops.iter().filter(is_it).count()
}

/// A client with a kept session, and nothing under way.
fn subscriber(world: &mut World, filter: &str, qos: u8) -> Client {
    let client = kept_on(world, 0, "s");
    world.subscribe(client, filter, qos);
    world.catch_up();
    assert_eq!(world.read(client), ["suback"]);
    client
}

/// A session that is kept, and whose client is away.
fn absent(world: &mut World, filter: &str) {
    let subscriber = subscriber(world, filter, 2);
    world.cut(subscriber);
    world.settle();
    world.catch_up();
}

fn publisher(world: &mut World, version: Version) -> Client {
    world.attach(ConnectInfo {
        version,
        session_expiry_s: 0,
        ..connect("p")
    })
}

#[test]
fn with_always_acknowledgements_wait_for_the_disk_and_keep_their_order() {
    let mut world = world(Durability::Always, Limits::default());
    absent(&mut world, "kept/#");
    let publisher = publisher(&mut world, V5);
    world.read(publisher);
    world.send(publisher, &publish(V5, "kept/1", "x", 1, 1));
    world.send(publisher, &publish(V5, "elsewhere", "x", 1, 2));
    assert!(
        world.read(publisher).is_empty(),
        "the second has to wait for the first"
    );
    let first = batch(&mut world).expect("somebody waits");
    assert!(first.is_urgent);
    world.send(publisher, &publish(V5, "kept/2", "x", 2, 3));
    let second = batch(&mut world).expect("somebody waits");
    world.stored(0, first.number, first.cost, Health::Well);
    assert_eq!(world.read(publisher), ["puback #1", "puback #2"]);
    world.stored(0, second.number, second.cost, Health::Well);
    assert_eq!(world.read(publisher), ["pubrec #3"]);
}

#[test]
fn with_always_a_subscription_is_answered_when_it_is_durable() {
    let mut world = world(Durability::Always, Limits::default());
    let client = kept_on(&mut world, 0, "c");
    world.subscribe(client, "t", 1);
    assert!(world.read(client).is_empty());
    world.catch_up();
    assert_eq!(world.read(client).len(), 1);
    world.unsubscribe(client, "t");
    assert!(world.read(client).is_empty());
    world.catch_up();
    assert_eq!(world.read(client).len(), 1);
}

#[test]
fn with_always_each_step_of_qos_2_is_durable_before_the_next() {
    let mut world = world(Durability::Always, Limits::default());
    let subscriber = subscriber(&mut world, "t", 2);
    let publisher = publisher(&mut world, V5);
    world.read(publisher);
    world.send(publisher, &publish(V5, "t", "x", 2, 1));
    world.settle();
    assert!(
        world.read(subscriber).is_empty(),
        "PUBLISH waits for its record"
    );
    world.catch_up();
    assert_eq!(world.read(subscriber).len(), 1);
    world.send(subscriber, &ack(PacketType::PubRec, 1));
    assert!(
        world.read(subscriber).is_empty(),
        "PUBREL waits for the PUBREC"
    );
    world.catch_up();
    assert_eq!(world.read(subscriber), ["pubrel #1"]);
}

#[test]
fn with_interval_nothing_waits_and_what_is_settled_in_time_is_not_written() {
    let mut world = world(Durability::Interval, Limits::default());
    let subscriber = subscriber(&mut world, "t", 1);
    let publisher = publisher(&mut world, V5);
    world.read(publisher);
    world.send(publisher, &publish(V5, "t", "one", 1, 1));
    world.send(publisher, &publish(V5, "t", "two", 1, 2));
    assert_eq!(world.read(publisher), ["puback #1", "puback #2"]);
    assert_eq!(world.read(subscriber).len(), 2);
    assert!(batch(&mut world).is_none(), "its time has not come");
    world.send(subscriber, &ack(PacketType::PubAck, 1));
    // Four fifths of 50 ms; the store has the rest.
    world.pass(39);
    assert!(batch(&mut world).is_none());
    world.pass(1);
    let batch = batch(&mut world).expect("its time has come");
    assert!(!batch.is_urgent);
    assert_eq!(queued(&batch), 1);
}

#[test]
fn clean_sessions_and_qos_0_write_nothing() {
    let mut world = world(Durability::Always, Limits::default());
    let clean = publisher(&mut world, V5);
    world.subscribe(clean, "t", 2);
    world.send(clean, &publish(V5, "t", "x", 1, 1));
    world.send(clean, &publish(V5, "t", "x", 0, 0));
    world.settle();
    assert!(world.cores[0].take_op_batch(true).is_none());
    absent(&mut world, "t");
    world.send(clean, &publish(V5, "t", "x", 0, 0));
    world.settle();
    assert!(world.cores[0].take_op_batch(true).is_none());
}

#[test]
fn a_store_that_is_behind_stops_who_makes_it_write_and_nobody_else() {
    let limits = Limits {
        store_queue_bytes: 2_000,
        ..Limits::default()
    };
    let mut world = world(Durability::Interval, limits);
    absent(&mut world, "kept");
    let busy = publisher(&mut world, V5);
    let other = client_on(&mut world, 0, "other");
    world.catch_up();
    let text = "x".repeat(500);
    let mut sent = 0;
    while world.try_send(busy, &publish(V5, "kept", &text, 1, 1)) > 0 {
        sent += 1;
        assert!(sent < 10, "it is never stopped");
    }
    world.send(other, &publish(V5, "elsewhere", &text, 1, 1));
    assert!(world.read(other).iter().any(|line| line == "puback #1"));
    assert!(world.count(|counters| counters.store_held) > 0);
    world.catch_up();
    assert!(world.try_send(busy, &publish(V5, "kept", &text, 1, 2)) > 0);
}

#[test]
fn clients_that_come_publish_and_go_do_not_pile_up_before_a_store_that_is_behind() {
    let limits = Limits {
        store_queue_bytes: 2_000,
        ..Limits::default()
    };
    let mut world = world(Durability::Interval, limits);
    absent(&mut world, "kept");
    let text = "x".repeat(500);
    let message = publish(V5, "kept", &text, 1, 1);
    let mut held = Vec::new();
    for at in 0..40 {
        let client = client_on(&mut world, 0, &format!("c{at}"));
        if world.try_send(client, &message) == 0 {
            held.push(client);
        }
    }
    assert!(held.len() >= 30, "{} of 40 are held", held.len());
    let newcomer = client_on(&mut world, 0, "newcomer");
    assert!(world.try_send(newcomer, &publish(V5, "elsewhere", &text, 1, 1)) > 0);
    assert!(world.try_send(newcomer, &publish(V5, "kept", &text, 0, 0)) > 0);
    let wish = [0x82, 7, 0, 1, 0, 0, 1, b't', 1];
    assert_eq!(world.try_send(newcomer, &wish), 0);
    world.catch_up();
    assert!(world.try_send(held[0], &message) > 0);
}

#[test]
fn a_store_that_has_failed_keeps_nothing_and_says_so_to_who_asks() {
    for version in [V5, Version::V311] {
        let mut world = world(Durability::Always, Limits::default());
        absent(&mut world, "kept");
        let publisher = publisher(&mut world, version);
        world.read(publisher);
        world.send(publisher, &publish(version, "kept", "x", 1, 1));
        let waits = batch(&mut world).expect("somebody waits");
        world.stored(0, waits.number - 1, waits.cost, Health::Failed);
        if version == V5 {
            assert_eq!(world.read(publisher), ["puback #1 0x97"]);
            world.send(publisher, &publish(version, "kept", "x", 2, 2));
            assert_eq!(world.read(publisher), ["pubrec #2 0x97"]);
            world.send(publisher, &publish(version, "elsewhere", "x", 1, 3));
            assert_eq!(world.read(publisher), ["puback #3"]);
        } else {
            assert_eq!(world.read(publisher), ["closed"]);
        }
    }
}

#[test]
fn a_session_that_is_away_keeps_few_messages_in_memory() {
    let mut world = world(Durability::Interval, Limits::default());
    absent(&mut world, "kept");
    let publisher = publisher(&mut world, V5);
    for _ in 0..100 {
        world.send(publisher, &publish(V5, "kept", "x", 1, 1));
        world.read(publisher);
        world.catch_up();
    }
    assert_eq!(world.cores[0].messages.len(), 16);
    assert_eq!(world.dropped(), 0);
}
