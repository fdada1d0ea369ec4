//! What the store is told of shared subscriptions, and in which order.

use mqtt_codec::PacketType;

use super::world::{Client, World, ack, publish};
use super::{V5, client_on, kept_on};
use crate::config::{Durability, Limits, StoreSettings};
use crate::store::op::{Health, Op, OpBatch};

const FILTER: &str = "$share/g/t";

fn world(durability: Durability) -> World {
    let settings = StoreSettings {
        durability,
        ..StoreSettings::default()
    };
    World::with_store(1, Limits::default(), &settings)
}

fn member(world: &mut World, name: &str) -> Client {
    let client = kept_on(world, 0, name);
    world.subscribe(client, FILTER, 2);
    world.catch_up();
    assert_eq!(world.read(client), ["suback"]);
    client
}

fn publisher(world: &mut World) -> Client {
    kept_on(world, 0, "p")
}

/// Where messages are put and taken from: `+` and `-`, with `g` for the group and `m` for a member.
fn moves(batch: &OpBatch) -> Vec<&'static str> {
    let group = batch.ops.iter().find_map(|op| match op {
        Op::Queue(queue) if queue.extra.is_none() => Some(queue.holder),
        _ => None,
    });
    let name = |holder: u64, of_group, of_member| {
        if group == Some(holder) || group.is_none() && holder == group_of(batch) {
            of_group
        } else {
            of_member
        }
    };
    let ops = batch.ops.iter().filter_map(|op| match op {
        Op::Queue(queue) => Some(name(queue.holder, "+g", "+m")),
        Op::Dequeue(place) => Some(name(place.holder, "-g", "-m")),
        _ => None,
    });
    ops.collect()
}

/// The holder of the last removal: where a batch puts nothing into a group, that is the group.
fn group_of(batch: &OpBatch) -> u64 {
    let mut ops = batch.ops.iter().rev();
    ops.find_map(|op| match op {
        Op::Dequeue(place) => Some(place.holder),
        _ => None,
    })
    .unwrap_or(0)
}

#[test]
fn with_always_a_message_goes_to_a_member_when_the_group_has_it_on_disk() {
    let mut world = world(Durability::Always);
    let member = member(&mut world, "m");
    let publisher = publisher(&mut world);
    world.send(publisher, &publish(V5, "t", "x", 1, 1));
    world.settle();
    assert!(world.read(member).is_empty() && world.read(publisher).is_empty());
    let first = world.cores[0].take_op_batch(false).expect("somebody waits");
    assert_eq!(moves(&first), ["+g"]);
    world.stored(0, first.number, first.cost, Health::Well);
    assert_eq!(world.read(publisher), ["puback #1"]);
    assert_eq!(world.read(member).len(), 1);
    let second = world.cores[0].take_op_batch(true).expect("it has moved");
    assert_eq!(moves(&second), ["+m", "-g"], "in one write");
}

#[test]
fn with_interval_a_message_goes_at_once_and_only_the_member_has_it() {
    let mut world = world(Durability::Interval);
    let member = member(&mut world, "m");
    let publisher = publisher(&mut world);
    world.send(publisher, &publish(V5, "t", "x", 1, 1));
    world.settle();
    assert_eq!(world.read(member).len(), 1);
    let batch = world.cores[0].take_op_batch(true).expect("it is due");
    assert_eq!(moves(&batch), ["+m"]);
    // It waited, but not long enough to be written.
    world.cut(member);
    world.settle();
    world.catch_up();
    world.send(publisher, &publish(V5, "t", "y", 1, 2));
    world.settle();
    let other = client_on(&mut world, 0, "other");
    world.subscribe(other, FILTER, 2);
    world.settle();
    assert_eq!(world.read(other).len(), 3, "SUBACK, x and y");
    let batch = world.cores[0].take_op_batch(true).expect("it is due");
    assert_eq!(
        moves(&batch),
        ["+m", "-g", "+m"],
        "x was in the group, y never"
    );
}

#[test]
fn what_is_given_back_goes_to_the_group_in_the_same_write_and_at_once() {
    let mut world = world(Durability::Interval);
    let member = member(&mut world, "m");
    let publisher = publisher(&mut world);
    world.send(publisher, &publish(V5, "t", "x", 1, 1));
    world.settle();
    world.catch_up();
    world.cut(member);
    world.settle();
    let batch = world.cores[0].take_op_batch(false).expect("it is urgent");
    assert_eq!(moves(&batch), ["+g", "-m"]);
}

#[test]
fn a_group_ends_with_its_last_member_and_the_store_is_told() {
    let mut world = world(Durability::Always);
    let member = member(&mut world, "m");
    world.unsubscribe(member, FILTER);
    let batch = world.cores[0].take_op_batch(true).expect("somebody waits");
    let is_end = |op: &Op| matches!(op, Op::EndGroup { .. });
    assert!(batch.ops.iter().any(is_end), "{:?}", batch.ops);
}

#[test]
fn a_group_without_kept_members_is_not_kept() {
    let mut world = world(Durability::Always);
    let clean = world.attach(crate::message::ConnectInfo {
        session_expiry_s: 0,
        ..super::world::connect("clean")
    });
    world.subscribe(clean, FILTER, 2);
    world.settle();
    let publisher = publisher(&mut world);
    world.read(clean);
    world.send(publisher, &publish(V5, "t", "x", 1, 1));
    world.settle();
    assert_eq!(world.read(clean).len(), 1, "it does not wait");
    assert_eq!(world.read(publisher), ["puback #1"]);
    world.send(clean, &ack(PacketType::PubAck, 1));
    assert!(world.cores[0].take_op_batch(true).is_none());
}

/// How many messages a batch puts somewhere, and how many it takes from somewhere.
fn puts_and_takes(batch: &OpBatch) -> (usize, usize) {
    let count = |which: fn(&Op) -> bool| batch.ops.iter().filter(|op| which(op)).count();
    (
        count(|op| matches!(op, Op::Queue(_))),
        count(|op| matches!(op, Op::Dequeue(_))),
    )
}

#[test]
fn what_moves_on_to_another_shard_is_in_one_queue_at_least_after_each_write() {
    for durability in [Durability::Always, Durability::Interval] {
        let settings = StoreSettings {
            durability,
            ..StoreSettings::default()
        };
        let mut world = World::with_store(2, Limits::default(), &settings);
        let publisher = kept_on(&mut world, 0, "p");
        let members = [0, 1].map(|shard| {
            let client = kept_on(&mut world, shard, &format!("m{shard}"));
            world.subscribe(client, FILTER, 2);
            world.catch_up();
            client
        });
        for n in 1..=4 {
            world.send(publisher, &publish(V5, "t", "x", 1, n));
            world.settle();
            world.catch_up();
        }
        let [owner, other] = match world.cores[0].groups.len() {
            0 => [1, 0],
            _ => [0, 1],
        };
        assert_eq!(members.map(|member| world.read(member).len()), [3, 3]);
        // The owner of the group gives to the other shard at once what its own member has left.
        world.cut(members[owner]);
        world.settle();
        assert_eq!(world.read(members[other]).len(), 2);
        for shard in [owner, other] {
            let batch = world.cores[shard].take_op_batch(true).expect("they move");
            assert_eq!(puts_and_takes(&batch), (2, 2), "{shard}: {batch:?}");
        }
    }
}

#[test]
fn a_message_without_a_place_that_moves_on_does_not_hide_where_the_others_go() {
    let settings = StoreSettings {
        durability: Durability::Always,
        ..StoreSettings::default()
    };
    let mut world = World::with_store(2, Limits::default(), &settings);
    let members = [0, 1].map(|shard| {
        let client = kept_on(&mut world, shard, &format!("m{shard}"));
        world.subscribe(client, FILTER, 2);
        world.catch_up();
        client
    });
    let [owner, other] = match world.cores[0].groups.len() {
        0 => [1, 0],
        _ => [0, 1],
    };
    let publisher = kept_on(&mut world, owner, "p");
    for n in 1..=4 {
        world.send(publisher, &publish(V5, "t", "x", 1, n));
        world.settle();
        world.catch_up();
    }
    assert_eq!(members.map(|member| world.read(member).len()), [3, 3]);
    for n in 1..=2 {
        world.send(members[other], &ack(PacketType::PubAck, n));
    }
    world.settle();
    // At QoS 0, to both in turn; those for the other shard find nobody there and come back.
    for _ in 0..4 {
        world.send(publisher, &publish(V5, "t", "y", 0, 0));
    }
    world.cut(members[other]);
    world.settle();
    world.catch_up();
    let y = |packet: &String| packet.contains('y');
    let had = world.read(members[owner]);
    assert_eq!(had.iter().filter(|packet| y(packet)).count(), 4, "{had:?}");
    // What the last member leaves is in the group's queue again.
    world.cut(members[owner]);
    world.settle();
    let batch = world.cores[owner].take_op_batch(true).expect("they move");
    assert_eq!(puts_and_takes(&batch), (2, 2), "{batch:?}");
}
