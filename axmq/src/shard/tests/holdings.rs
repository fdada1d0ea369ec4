//! What a shard says that it holds.

use super::world::{Client, World, connect};
use super::{V5, client_on, publish};
use crate::config::Limits;
use crate::memory::Held;
use crate::message::ConnectInfo;

/// All pages of the only shard, and how many there were.
fn held(world: &World) -> (Held, usize) {
    let (mut held, mut next, mut pages) = (Held::default(), Some(0), 0);
    while let Some(from) = next {
        let (part, left) = world.cores[0].holdings(from);
        assert!(left.is_none_or(|left| left > from), "it goes on");
        held += part;
        next = left;
        pages += 1;
    }
    (held, pages)
}

fn crowd(world: &mut World, count: u64, id_bytes: usize) -> Vec<Client> {
    (0..count)
        .map(|n| {
            let client = world.attach(ConnectInfo {
                session_expiry_s: 0,
                keep_alive_s: 60,
                ..connect(&format!("{n:0id_bytes$}"))
            });
            world.subscribe(client, &format!("devices/{n}"), 1);
            world.read(client);
            client
        })
        .collect()
}

#[test]
fn what_entries_own_is_on_the_page_of_their_slot() {
    let totals = [8, 100].map(|id_bytes| {
        let mut world = World::new(1, Limits::default());
        let (empty, pages) = held(&world);
        assert_eq!((empty.connections, empty.sessions, empty.queues), (0, 0, 0));
        assert!(pages > 1, "a page is not everything");
        crowd(&mut world, 5_000, id_bytes);
        held(&world).0
    });
    let [short, long] = totals;
    assert!(short.connections >= 5_000 * 64 && short.timers >= 5_000 * 32);
    // 32 bytes of the allocator in place of 112, for every one of them.
    assert_eq!(long.sessions - short.sessions, 5_000 * 80);
    assert_eq!(long.connections, short.connections);
}

#[test]
fn a_message_is_held_once_for_all_of_the_shard_and_gone_with_the_last() {
    let mut world = World::new(1, Limits::default());
    let publisher = client_on(&mut world, 0, "publisher");
    world.read(publisher);
    let subscribers: Vec<_> = (0..20)
        .map(|n| {
            let client = world.attach(connect(&format!("sub-{n}")));
            world.subscribe(client, "t", 1);
            world.read(client);
            client
        })
        .collect();
    let (before, _) = held(&world);
    world.send(publisher, &publish(V5, "t", &"x".repeat(100_000), 1, 1));
    let (during, _) = held(&world);
    // Kept for the sessions, and referenced by their out-queues.
    let queues = during.queues - before.queues;
    let with_pool = queues + during.pool - before.pool;
    assert!((100_000..300_000).contains(&with_pool), "{with_pool}");
    for client in subscribers {
        world.cut(client);
    }
    world.settle();
    let (after, _) = held(&world);
    assert!(after.queues < during.queues, "{after:?}");
}

#[test]
fn a_crowd_that_has_gone_leaves_little() {
    let mut world = World::new(1, Limits::default());
    let crowd = crowd(&mut world, 5_000, 30);
    let (full, _) = held(&world);
    for client in crowd {
        world.cut(client);
    }
    world.settle();
    world.pass(10_000);
    world.assert_empty();
    let (left, _) = held(&world);
    assert!(
        left.connections < full.connections / 10,
        "{left:?} of {full:?}"
    );
    assert!(left.sessions < full.sessions / 2, "{left:?} of {full:?}");
    assert!(left.timers < full.timers / 4, "{left:?} of {full:?}");
}

#[test]
fn long_queues_make_more_pages() {
    let mut world = World::new(1, Limits::default());
    let publisher = client_on(&mut world, 0, "publisher");
    world.read(publisher);
    let crowd = crowd(&mut world, 100, 8);
    for client in &crowd {
        world.subscribe(*client, "t", 0);
        world.read(*client);
    }
    let (before, pages_before) = held(&world);
    let messages: Vec<u8> = (0..1_000)
        .flat_map(|_| publish(V5, "t", "x", 0, 0))
        .collect();
    world.send(publisher, &messages);
    let (during, pages) = held(&world);
    // 100,000 frames, of which a page looks at few more than 16,384.
    assert!(pages > pages_before + 4, "{pages} after {pages_before}");
    // A run of frames is one buffer for all; each queue has four bytes for each of its frames.
    let waiting = crowd
        .iter()
        .filter_map(|client| world.cores[0].connection(client.key));
    let waiting: u64 = waiting
        .map(|connection| connection.out.bytes() as u64)
        .sum();
    let blocks = during.queues + during.pool - before.queues - before.pool;
    assert!(
        (400_000..waiting).contains(&blocks),
        "{blocks} of {waiting}"
    );
}
