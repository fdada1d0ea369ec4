//! Rows of acknowledgements.

use mqtt_codec::PacketType::{self, PubAck, PubComp, PubRec, PubRel};
use mqtt_codec::Version;

use super::world::{Client, World, ack, connect};
use super::{V5, client_on, publish, subscriber_on};
use crate::config::Limits;
use crate::message::ConnectInfo;
use crate::shard::receive::PACKET;

fn acks(packet_type: PacketType, ids: impl Iterator<Item = u16>) -> Vec<u8> {
    ids.flat_map(|id| ack(packet_type, id)).collect()
}

fn publishes(qos: u8, ids: impl Iterator<Item = u16>) -> Vec<u8> {
    publishes_of(V5, qos, ids)
}

fn publishes_of(version: Version, qos: u8, ids: impl Iterator<Item = u16>) -> Vec<u8> {
    ids.flat_map(|id| publish(version, "t", "x", qos, id))
        .collect()
}

/// A subscriber that has got `count` messages, and the one who has published them.
fn pair(world: &mut World, qos: u8, count: u16) -> (Client, Client) {
    let subscriber = subscriber_on(world, 0, "t", qos);
    let publisher = client_on(world, 0, "publisher");
    world.read(publisher);
    world.send(publisher, &publishes(qos, 1..=count));
    assert_eq!(world.read(subscriber).len(), usize::from(count));
    (subscriber, publisher)
}

#[test]
fn publishes_of_one_read_are_acknowledged_in_their_order() {
    for (qos, name) in [(1, "puback"), (2, "pubrec")] {
        let mut world = World::new(1, Limits::default());
        let (_, publisher) = pair(&mut world, qos, 100);
        let expected: Vec<_> = (1..=100).map(|id| format!("{name} #{id}")).collect();
        assert_eq!(world.read(publisher), expected);
    }
}

#[test]
fn what_was_acknowledged_is_said_before_the_end() {
    let mut world = World::new(1, Limits::default());
    let publisher = client_on(&mut world, 0, "publisher");
    world.read(publisher);
    let mut bytes = publishes(1, 1..=2);
    // A packet of type 0.
    bytes.extend([0, 0]);
    world.try_send(publisher, &bytes);
    let lines = world.read(publisher);
    assert_eq!(lines[..2], ["puback #1", "puback #2"]);
    assert!(lines[2].starts_with("disconnect"), "{lines:?}");
}

#[test]
fn a_row_settles_what_it_names() {
    let mut world = World::new(1, Limits::default());
    let (subscriber, _) = pair(&mut world, 1, 100);
    let before = world.count(|counters| counters.packets_received);
    // Twice the same, and one of nothing: harmless.
    let ids = (1..=100).chain([7, 40_000]);
    world.send(subscriber, &acks(PubAck, ids));
    let received = world.count(|counters| counters.packets_received) - before;
    assert_eq!(received, 102);
    assert_eq!(world.cores[0].messages.len(), 0);
}

#[test]
fn both_halves_of_qos_2_go_in_rows() {
    let mut world = World::new(1, Limits::default());
    let (subscriber, publisher) = pair(&mut world, 2, 50);
    world.read(publisher);
    world.send(subscriber, &acks(PubRec, 1..=50));
    let released: Vec<_> = (1..=50).map(|id| format!("pubrel #{id}")).collect();
    assert_eq!(world.read(subscriber), released);
    world.send(publisher, &acks(PubRel, 1..=50));
    let completed: Vec<_> = (1..=50).map(|id| format!("pubcomp #{id}")).collect();
    assert_eq!(world.read(publisher), completed);
    world.send(subscriber, &acks(PubComp, 1..=50));
    assert_eq!(world.read(subscriber), [""; 0]);
    assert_eq!(world.cores[0].messages.len(), 0);
}

#[test]
fn what_needs_a_closer_look_ends_the_row() {
    let mut world = World::new(1, Limits::default());
    let (subscriber, publisher) = pair(&mut world, 2, 3);
    world.read(publisher);
    // The second is of nothing, which is said in 5.0.
    world.send(subscriber, &acks(PubRec, [1, 9, 2].into_iter()));
    let released = [
        [0x62, 2, 0, 1].as_slice(),
        &[0x62, 3, 0, 9, 0x92],
        &[0x62, 2, 0, 2],
    ];
    assert_eq!(world.read_bytes(subscriber), Some(released.concat()));
    world.send(publisher, &acks(PubRel, [1, 9, 2].into_iter()));
    let completed = [
        [0x70, 2, 0, 1].as_slice(),
        &[0x70, 3, 0, 9, 0x92],
        &[0x70, 2, 0, 2],
    ];
    assert_eq!(world.read_bytes(publisher), Some(completed.concat()));
    let mut bytes = acks(PubComp, 1..=1);
    bytes.extend([0x40, 2, 0, 0]);
    world.try_send(subscriber, &bytes);
    let lines = world.read(subscriber);
    assert!(lines[0].starts_with("disconnect"), "an id of 0: {lines:?}");
}

#[test]
fn acknowledgements_take_little_of_the_budget() {
    let mut world = World::new(1, Limits::default());
    let (subscriber, publisher) = pair(&mut world, 1, 100);
    let row = acks(PubAck, 1..=100);
    let mut budget = 2 * PACKET;
    let used = world.send_within(subscriber, &row, &mut budget);
    assert_eq!((used, budget), (2 * PACKET * 4, 0), "as two publishes");
    let mut budget = 2 * PACKET;
    let bytes = publishes(1, 101..=103);
    let used = world.send_within(publisher, &bytes, &mut budget);
    assert_eq!((used, budget), (bytes.len() / 3 * 2, 0));
}

#[test]
fn more_than_the_receive_maximum_at_once_is_not_lost_in_a_row() {
    let limits = Limits {
        receive_maximum: 2,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let name = world.name("publisher", 0);
    let publisher = world.attach(ConnectInfo {
        version: Version::V311,
        ..connect(&name)
    });
    world.read(publisher);
    world.send(publisher, &publishes_of(Version::V311, 1, 1..=20));
    assert_eq!(world.read(publisher).len(), 20);
}
