//! Publishers that are faster than they may be.

use std::sync::Arc;

use super::client_on;
use super::world::{Client, World, connect, publish};
use super::{V5, subscriber_on};
use crate::config::{Config, Exceeded, RateSettings};
use crate::hooks::Grant;

fn world(rates: RateSettings) -> World {
    let config = Config {
        rates,
        ..Config::default()
    };
    World::with_defence(2, &config)
}

/// How many of these publishes are taken at once.
fn taken(world: &mut World, client: Client, count: usize) -> usize {
    let one = publish(V5, "t", "x", 0, 0);
    world.try_send(client, &one.repeat(count)) / one.len()
}

fn sum(world: &World, figure: fn(&crate::counters::Counters) -> u64) -> u64 {
    world.cores.iter().map(|core| figure(core.counters())).sum()
}

#[test]
fn a_fast_publisher_is_not_read_until_it_has_waited() {
    let mut world = world(RateSettings {
        client_publishes_per_s: 10,
        ..RateSettings::default()
    });
    let fast = client_on(&mut world, 0, "fast");
    let other = client_on(&mut world, 0, "other");
    assert_eq!(
        taken(&mut world, fast, 100),
        11,
        "a burst, and one to wait for"
    );
    assert_eq!(taken(&mut world, fast, 1), 0);
    assert_eq!(
        taken(&mut world, other, 10),
        10,
        "it is nobody else's affair"
    );
    world.pass(99);
    assert_eq!(taken(&mut world, fast, 1), 0);
    world.pass(1);
    assert_eq!(taken(&mut world, fast, 5), 1);
    // Over a minute: the rate.
    let mut count = 0;
    for _ in 0..60_000 {
        world.pass(1);
        count += taken(&mut world, fast, 5);
    }
    assert_eq!(count, 600);
    assert_eq!(sum(&world, |counters| counters.clients_too_fast), 0);
    assert!(sum(&world, |counters| counters.publishers_slowed) > 600);
    world.pass(60_000);
    assert_eq!(
        taken(&mut world, fast, 100),
        11,
        "a burst again, and no more"
    );
}

#[test]
fn back_pressure_that_ends_does_not_end_the_waiting() {
    let mut world = world(RateSettings {
        client_publishes_per_s: 1,
        ..RateSettings::default()
    });
    let fast = client_on(&mut world, 0, "fast");
    assert_eq!(taken(&mut world, fast, 9), 2);
    world.cores[0].resume_paused();
    world.cores[0].hold_publisher(fast.key);
    assert_eq!(taken(&mut world, fast, 9), 0);
}

#[test]
fn bytes_count_as_well_and_by_policy_a_client_is_disconnected() {
    for (rates, reason) in [
        (
            RateSettings {
                client_publishes_per_s: 5,
                ..RateSettings::default()
            },
            "disconnect 0x96",
        ),
        (
            RateSettings {
                client_bytes_per_s: 35,
                ..RateSettings::default()
            },
            "disconnect 0x97",
        ),
    ] {
        let mut world = world(RateSettings {
            exceeded: Exceeded::Disconnect,
            ..rates
        });
        let subscriber = subscriber_on(&mut world, 0, "t", 0);
        let fast = client_on(&mut world, 0, "fast");
        // Seven bytes each.
        taken(&mut world, fast, 5);
        assert!(world.read(fast).is_empty());
        taken(&mut world, fast, 1);
        assert_eq!(world.read(fast), [reason]);
        assert_eq!(world.read(subscriber).len(), 5, "the last one went nowhere");
        assert_eq!(sum(&world, |counters| counters.clients_too_fast), 1);
    }
}

#[test]
fn the_clients_of_a_user_share_its_rate_over_all_shards() {
    let mut world = world(RateSettings {
        user_publishes_per_s: 10,
        ..RateSettings::default()
    });
    let of = |world: &mut World, shard: usize, user: &str| {
        let name = world.name(user, shard);
        let client = world.attach(crate::message::ConnectInfo {
            grant: Some(Arc::new(Grant::to(user))),
            ..connect(&name)
        });
        assert_eq!(world.read(client).len(), 1, "connack");
        client
    };
    let (ann, also_ann) = (of(&mut world, 0, "ann"), of(&mut world, 1, "ann"));
    let bob = of(&mut world, 1, "bob");
    let nobody = client_on(&mut world, 1, "nobody");
    assert_eq!(taken(&mut world, ann, 8), 8);
    assert_eq!(taken(&mut world, also_ann, 8), 3);
    assert_eq!(
        taken(&mut world, ann, 8),
        1,
        "it finds out with the next one"
    );
    assert_eq!(taken(&mut world, bob, 10), 10);
    assert_eq!(taken(&mut world, nobody, 100), 100);
    // Both go, and their user comes back with another client.
    world.cut(ann);
    world.cut(also_ann);
    let third = of(&mut world, 0, "ann");
    assert_eq!(taken(&mut world, third, 8), 1);
}

#[test]
fn coming_back_forgives_nothing() {
    let mut world = world(RateSettings {
        client_bytes_per_s: 10,
        ..RateSettings::default()
    });
    let name = world.name("again", 0);
    for _ in 0..3 {
        let client = world.attach(connect(&name));
        taken(&mut world, client, 100);
        world.cut(client);
    }
    // Two publishes of the first connection, and one of each further: 5 * 7 bytes, 10 of them free.
    let client = world.attach(connect(&name));
    assert_eq!(taken(&mut world, client, 9), 1);
    world.pass(2_499);
    assert_eq!(taken(&mut world, client, 9), 0);
    world.pass(1);
    assert_eq!(taken(&mut world, client, 9), 1);
}

#[test]
fn who_has_hung_up_is_read_to_its_end_and_an_ended_wait_leaves_no_timer() {
    let mut world = world(RateSettings {
        client_publishes_per_s: 1,
        ..RateSettings::default()
    });
    let fast = client_on(&mut world, 0, "fast");
    assert_eq!(taken(&mut world, fast, 9), 2);
    let core = &mut world.cores[0];
    let connection = core.connection_mut(fast.key).expect("it is there");
    connection.set(super::super::connection::flag::HUNG_UP);
    connection.clear(super::super::connection::flag::PAUSED);
    assert_eq!(taken(&mut world, fast, 9), 9);
    world.cut(fast);
    let deadline_ms = world.cores[0].timers.next_deadline();
    assert!(
        deadline_ms.is_none_or(|ms| ms > world.now_ms + 100_000),
        "{deadline_ms:?}"
    );
}

#[test]
fn a_reload_lets_them_go() {
    let mut world = world(RateSettings {
        client_publishes_per_s: 1,
        ..RateSettings::default()
    });
    let fast = client_on(&mut world, 0, "fast");
    assert_eq!(taken(&mut world, fast, 9), 2);
    let shared = (*world.shared).clone().with_defence(&Config::default());
    world.cores[0].reload(Arc::new(shared), false);
    assert_eq!(taken(&mut world, fast, 900), 900);
    // A slow rate leaves no long wait behind for a faster one.
    for (rate, wait_ms) in [(1, None), (1_000, Some(1))] {
        let mut config = Config::default();
        config.rates.client_publishes_per_s = rate;
        config.rates.burst_ms = 10;
        let shared = (*world.shared).clone().with_defence(&config);
        world.cores[0].reload(Arc::new(shared), false);
        world.pass(3_600_000);
        assert!(taken(&mut world, fast, 100) < 100);
        if let Some(wait_ms) = wait_ms {
            world.pass(wait_ms);
            assert_eq!(taken(&mut world, fast, 1), 1);
        }
    }
}
