//! What a shard has to do with who is banned.

use pollio::PeerAddr;

use super::world::{World, connect, publish};
use super::{V5, client_on};
use crate::config::Config;
use crate::defence::{Banned, Host, Offence};
use crate::hooks::EndedBy;

fn peer(ip: &str) -> PeerAddr {
    PeerAddr::new(ip.parse().expect("an address"), 4_660)
}

fn host(ip: &str) -> Host {
    Host::from(peer(ip).ip().expect("it has one"))
}

/// Does the background work that is there.
fn work(world: &mut World) {
    world.pass(0);
    while world.cores[0].work_one() {}
}

#[test]
fn what_a_banned_address_has_open_is_closed_and_its_record_says_why() {
    let mut world = World::with_defence(1, &Config::default());
    let of = |world: &mut World, ip: &str, count: usize| -> Vec<_> {
        world.peer = peer(ip);
        (0..count)
            .map(|n| client_on(world, 0, &format!("{ip}-{n}-")))
            .collect()
    };
    let bad = of(&mut world, "192.0.2.7", 100);
    let good = of(&mut world, "192.0.2.8", 100);
    let in_range = of(&mut world, "203.0.113.9", 3);
    let exempt = of(&mut world, "127.0.0.1", 1);
    world.cores[0].on_banned(Banned::Host(host("192.0.2.7")));
    for range in ["203.0.113.0/24", "0.0.0.0/5", "126.0.0.0/7"] {
        let range = range.parse().expect("a range");
        world.cores[0].on_banned(Banned::Network(range));
    }
    work(&mut world);
    for client in bad.iter().chain(&in_range) {
        assert_eq!(
            world.read(*client).last().map(String::as_str),
            Some("disconnect 0x98")
        );
    }
    for client in good.iter().chain(&exempt) {
        assert!(world.read(*client).is_empty());
    }
    let name = world.name("192.0.2.7-5-", 0);
    let latest = world.cores[0].disconnects.latest(1_000);
    let record = latest.iter().find(|record| *record.client_id == *name);
    let record = record.expect("it is kept");
    assert_eq!(record.cause.ended_by(), EndedBy::Ban);

    // Whoever is banned within the same second waits for the next look.
    world.cores[0].on_banned(Banned::Host(host("192.0.2.8")));
    work(&mut world);
    assert!(world.read(good[0]).is_empty());
    world.pass(1_000);
    work(&mut world);
    assert_eq!(world.read(good[0]), ["disconnect 0x98"]);
    assert!(!world.cores[0].has_eviction());
}

#[test]
fn connections_stay_where_they_are_to_stay() {
    let mut config = Config::default();
    config.defence.close_connections = false;
    let mut world = World::with_defence(1, &config);
    world.peer = peer("192.0.2.7");
    let client = client_on(&mut world, 0, "c");
    world.cores[0].on_banned(Banned::Host(host("192.0.2.7")));
    world.pass(1_000);
    work(&mut world);
    assert!(world.read(client).is_empty());
}

#[test]
fn breaking_the_protocol_is_held_against_a_client_and_other_ends_are_not() {
    let mut world = World::with_defence(1, &Config::default());
    let charges = |world: &mut World| {
        let charges = world.cores[0].drain_offences();
        let all: Vec<_> = charges
            .map(|charge| (charge.client_id.into_string(), charge.offence))
            .collect();
        all
    };
    for (ip, is_watched) in [("192.0.2.7", true), ("127.0.0.1", false)] {
        world.peer = peer(ip);
        let name = world.name("bad", 0);
        let client = world.attach(connect(&name));
        world.send(client, b"\xC0\x01\x00");
        let wanted = [(name.clone(), Offence::Malformed)];
        assert_eq!(charges(&mut world), wanted[..usize::from(is_watched)]);
        let client = world.attach(connect(&name));
        // 2 MB, where one is the limit.
        world.send(client, b"\x30\x80\x80\x80\x01");
        let wanted = [(name.clone(), Offence::Oversized)];
        assert_eq!(charges(&mut world), wanted[..usize::from(is_watched)]);
    }
    world.peer = peer("192.0.2.7");
    let client = client_on(&mut world, 0, "fine");
    world.send(client, &publish(V5, "t", "x", 0, 0));
    world.send(client, b"\xE0\x00");
    let client = client_on(&mut world, 0, "gone");
    world.cut(client);
    assert_eq!(charges(&mut world), []);
}
