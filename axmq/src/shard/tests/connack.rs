//! With `always` CONNACK waits for the disk, and what is said behind it too.

use super::promises::{attach, batch, come, users, world};
use super::world::connect;
use crate::config::Durability::{Always, Interval};
use crate::message::ConnectInfo;
use crate::store::op::Health;

#[test]
fn connack_waits_for_a_session_that_begins_goes_on_or_ends() {
    let always = Some(Always);
    let clean = |mut connect: ConnectInfo, expiry_s| {
        connect.clean_start = true;
        connect.session_expiry_s = expiry_s;
        connect
    };
    for (before, next, waits) in [
        (None, come("c", None, always), true),
        (None, come("c", None, None), false),
        (None, clean(come("c", None, always), 0), false),
        (None, clean(come("c", None, always), 9), true),
        (always, come("c", None, always), true),
        (always, come("c", None, None), false),
        (always, clean(come("c", None, always), 0), true),
        (always, clean(come("c", None, None), 0), false),
    ] {
        let mut world = world(1, Interval, &[users(Always, &["somebody"])]);
        if before.is_some() {
            let client = attach(&mut world, come("c", None, before));
            world.cut(client);
            world.catch_up();
        }
        let is_present = before.is_some() && !next.clean_start;
        let client = world.attach(next);
        // It need not wait for the answer itself.
        world.send(client, &[0xC0, 0]);
        world.subscribe(client, "t", 0);
        let mut lines = world.read(client);
        assert_eq!(lines.is_empty(), waits);
        world.catch_up();
        lines.extend(world.read(client));
        let connack = format!("connack {}", u8::from(is_present));
        assert_eq!(lines.first(), Some(&connack));
        assert_eq!(lines.len(), 3, "{lines:?}");
    }
}

#[test]
fn a_take_over_of_a_client_that_waits_for_its_connack_is_told_in_order() {
    let mut world = world(1, Always, &[]);
    let first = world.attach(connect("c"));
    let second = world.attach(connect("c"));
    assert!(world.read(first).is_empty() && world.read(second).is_empty());
    world.catch_up();
    assert_eq!(world.read(first), ["connack 0", "disconnect 0x8E"]);
    assert_eq!(world.read(second), ["connack 1"]);
    let third = world.attach(connect("other"));
    world.cut(third);
    world.catch_up();
    assert!(world.cores[0].due_connacks.is_empty());
}

#[test]
fn a_store_that_has_failed_keeps_nobody_from_coming() {
    let mut world = world(1, Always, &[]);
    let client = world.attach(connect("c"));
    let waits = batch(&mut world, 0);
    world.stored(0, waits.number - 1, waits.cost, Health::Failed);
    assert_eq!(world.read(client), ["connack 0"]);
}
