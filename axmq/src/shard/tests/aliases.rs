//! Topic aliases that the broker sets.

use mqtt_codec::{PacketType, Version};

use super::world::{Client, World, ack, connect, publish};
use super::{V5, client_on};
use crate::config::Limits;
use crate::memory::Shortage;
use crate::message::ConnectInfo;

fn limits(aliases: u32) -> Limits {
    Limits {
        topic_aliases_out: aliases,
        ..Limits::default()
    }
}

/// A subscriber that takes so many aliases.
fn taker(world: &mut World, name: &str, topic_alias_max: u16) -> Client {
    let client = world.attach(ConnectInfo {
        topic_alias_max,
        ..connect(name)
    });
    world.subscribe(client, "topic/#", 2);
    assert_eq!(world.read(client), ["connack 0", "suback"]);
    client
}

#[test]
fn a_topic_is_named_once_a_connection() {
    let mut world = World::new(1, limits(2));
    let client = taker(&mut world, "takes", 9);
    let publisher = client_on(&mut world, 0, "pub");
    for (n, topic) in ["topic/1", "topic/2", "topic/3"].into_iter().enumerate() {
        for qos in 0..=2 {
            world.send(
                publisher,
                &publish(V5, topic, "x", qos, n as u16 * 3 + 1 + u16::from(qos)),
            );
        }
    }
    assert_eq!(
        world.read(client),
        [
            "topic/1=x q0 alias1",
            "=x q1 #1 alias1",
            "=x q2 #2 alias1",
            "topic/2=x q0 alias2",
            "=x q1 #3 alias2",
            "=x q2 #4 alias2",
            "topic/3=x q0",
            "topic/3=x q1 #5",
            "topic/3=x q2 #6",
        ]
    );
    assert_eq!(world.count(|counters| counters.publishes_aliased), 4);
    // An alias is worth nothing on another connection [MQTT-3.3.2-7].
    world.send(client, &ack(PacketType::PubAck, 5));
    world.cut(client);
    let client = world.attach(ConnectInfo {
        topic_alias_max: 9,
        ..connect("takes")
    });
    world.settle();
    assert_eq!(
        world.read(client),
        [
            "connack 1",
            "topic/1=x q1 #1 dup alias1",
            "=x q2 #2 dup alias1",
            "topic/2=x q1 #3 dup alias2",
            "=x q2 #4 dup alias2",
            "topic/3=x q2 #6 dup",
        ]
    );
}

#[test]
fn nobody_gets_more_aliases_than_it_takes_nor_than_are_allowed() {
    for (allowed, taken, version, sent) in [
        (0, 9, V5, 0),
        (9, 0, V5, 0),
        (9, 1, V5, 1),
        (1, 9, V5, 1),
        (9, 9, V5, 3),
        (9, 0, Version::V311, 0),
    ] {
        let mut world = World::new(1, limits(allowed));
        let client = world.attach(ConnectInfo {
            version,
            topic_alias_max: taken,
            ..connect("c")
        });
        world.subscribe(client, "topic/#", 0);
        world.read(client);
        let publisher = client_on(&mut world, 0, "pub");
        for topic in ["topic/1", "topic/2", "topic/3"] {
            world.send(publisher, &publish(V5, topic, "x", 0, 0));
        }
        let lines = world.read(client);
        assert_eq!(lines.len(), 3);
        let with_alias = lines.iter().filter(|line| line.contains("alias"));
        assert_eq!(with_alias.count(), sent, "{allowed} {taken} {version}");
    }
}

#[test]
fn long_and_many_names_have_their_limit_and_short_ones_no_alias() {
    let mut world = World::new(
        1,
        Limits {
            topic_alias_bytes: 20,
            ..limits(9)
        },
    );
    let client = taker(&mut world, "takes", 9);
    world.subscribe(client, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    for topic in ["t", "topic/of/15/byt", "topic/6", "topic", "topic"] {
        world.send(publisher, &publish(V5, topic, "x", 0, 0));
    }
    assert_eq!(
        world.read(client),
        [
            "suback",
            "t=x q0",
            "topic/of/15/byt=x q0 alias1",
            "topic/6=x q0",
            "topic=x q0 alias2",
            "=x q0 alias2",
        ]
    );
}

#[test]
fn an_alias_does_not_make_a_packet_too_large() {
    let mut world = World::new(1, limits(9));
    let client = world.attach(ConnectInfo {
        topic_alias_max: 9,
        packet_bytes_max: 30,
        ..connect("small")
    });
    world.subscribe(client, "topic/#", 0);
    world.read(client);
    let publisher = client_on(&mut world, 0, "pub");
    let whole = |payload: &str| publish(V5, "topic/1", payload, 0, 0);
    let fits = "x".repeat(30 - whole("").len());
    world.send(publisher, &whole(&fits));
    world.send(publisher, &whole("short"));
    world.send(publisher, &whole(&fits));
    world.send(publisher, &whole(&(fits.clone() + "xxxxx")));
    assert_eq!(
        world.read(client),
        [
            format!("topic/1={fits} q0"),
            "topic/1=short q0 alias1".to_owned(),
            format!("={fits} q0 alias1"),
        ]
    );
    assert_eq!(world.count(|counters| counters.dropped_too_large), 1);
}

#[test]
fn runs_pass_by_those_that_have_aliases() {
    let mut world = World::new(1, limits(9));
    let takes = taker(&mut world, "takes", 9);
    let others = ["a", "b", "c"].map(|name| taker(&mut world, name, 0));
    let publisher = client_on(&mut world, 0, "pub");
    let burst: Vec<u8> = (0..5)
        .flat_map(|n| publish(V5, "topic/1", &n.to_string(), 0, 0))
        .collect();
    world.send(publisher, &burst);
    let names = ["topic/1", "", "", "", ""];
    let wanted = (0..5).map(|n| format!("{}={n} q0 alias1", names[n]));
    assert_eq!(world.read(takes), wanted.collect::<Vec<_>>());
    for other in others {
        let wanted = (0..5).map(|n| format!("topic/1={n} q0"));
        assert_eq!(world.read(other), wanted.collect::<Vec<_>>());
    }
}

#[test]
fn a_frame_that_introduces_an_alias_is_not_shed() {
    let mut world = World::new(1, limits(9));
    let client = taker(&mut world, "takes", 9);
    let publisher = client_on(&mut world, 0, "pub");
    let large = "x".repeat(5_000);
    for payload in ["1", "2", &large] {
        world.send(publisher, &publish(V5, "topic/1", payload, 0, 0));
    }
    for _ in 0..20 {
        world.cores[0].on_shortage(Shortage::ShedMessages);
    }
    world.cores[0].on_shortage(Shortage::None);
    world.send(publisher, &publish(V5, "topic/1", "4", 0, 0));
    assert_eq!(world.read(client), ["topic/1=1 q0 alias1", "=4 q0 alias1"]);
    assert_eq!(world.count(|counters| counters.dropped_memory_short), 2);
}
