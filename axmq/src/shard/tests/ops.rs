//! What operators ask of a shard.

use std::hash::BuildHasher;
use std::sync::Arc;

use mqtt_codec::Version;

use super::world::{World, connect, packet, publish};
use super::{V5, client_on};
use crate::config::Limits;
use crate::counters::sum;
use crate::disconnects::Disconnect;
use crate::events::Cause;
use crate::hooks::EndedBy;
use crate::message::{Answer, ConnectInfo, Query};

/// The record of the client with this name.
fn last_disconnect<'a>(world: &'a World, shard: usize, name: &str) -> Option<Disconnect<'a>> {
    let hash = world.shared.hasher.hash_one(name);
    world.cores[shard].disconnects.of(hash, name)
}

#[test]
fn the_last_disconnect_says_when_why_and_by_whom() {
    let mut world = World::new(2, Limits::default());
    let name = world.name("device", 1);
    let client = world.attach(connect(&name));
    world.pass(500);
    world.send(client, &publish(V5, "a/#", "x", 0, 0));
    let record = last_disconnect(&world, 1, &name).expect("it is kept");
    assert_eq!(record.at_ms, world.now_ms);
    assert_eq!(record.cause.ended_by(), EndedBy::Misconduct);
    assert_eq!(record.cause.clause(), Some("MQTT-4.7.0-1"));

    let client = world.attach(connect(&name));
    world.attach(connect(&name));
    let record = last_disconnect(&world, 1, &name).expect("it is kept");
    assert!(matches!(record.cause, Cause::TakenOver(_)));
    assert_eq!(record.cause.ended_by(), EndedBy::TakeOver);
    assert_eq!((record.cause.clause(), record.times), (None, 2));
    assert_eq!(
        world.read(client).last().map(String::as_str),
        Some("disconnect 0x8E")
    );
}

#[test]
fn the_records_are_bounded_over_all_shards() {
    let limits = Limits {
        disconnect_records: 3,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    for n in 0..10 {
        for shard in 0..2 {
            let client = client_on(&mut world, shard, &format!("c{n}-"));
            world.cut(client);
        }
    }
    for core in &world.cores {
        assert_eq!(core.disconnects.len(), 2, "half of three, rounded up");
        assert_eq!(core.disconnects.replaced(), 8);
    }
}

/// What one question is answered.
fn ask(world: &mut World, shard: usize, query: Query) -> Answer {
    world.cores[shard].answer(query)
}

#[test]
fn the_list_of_clients_comes_in_pages_and_misses_nobody() {
    let mut world = World::new(1, Limits::default());
    let mut names: Vec<String> = (0..130).map(|n| format!("client-{n}")).collect();
    for name in &names {
        world.attach(connect(name));
    }
    let mut found = Vec::new();
    let mut from = 0;
    for page in 0.. {
        assert!(page < 10, "the list ends");
        let query = Query::Clients { from, most: 40 };
        let Answer::Clients(page) = ask(&mut world, 0, query) else {
            panic!("a page is wanted");
        };
        assert!(page.clients.len() <= 40);
        found.extend(page.clients.into_iter().map(|client| client.id));
        match page.next {
            Some(next) => from = next.slot,
            None => break,
        }
    }
    found.sort();
    names.sort();
    assert_eq!(found, names);
}

#[test]
fn a_client_is_shown_with_what_it_has() {
    let mut world = World::new(1, Limits::default());
    let client = world.attach(connect("device"));
    world.subscribe(client, "a/+", 1);
    world.subscribe(client, "b", 2);
    world.pass(100);
    world.cut(client);
    world.settle();
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &publish(V5, "a/b", "x", 1, 1));
    world.pass(4_000);
    let query = Query::Client {
        id: "device".into(),
    };
    let Answer::Client(Some(shown)) = ask(&mut world, 0, query) else {
        panic!("it has a session");
    };
    assert_eq!(
        (shown.line.id.as_str(), &shown.line.peer),
        ("device", &None)
    );
    assert_eq!((shown.line.subscriptions, shown.line.queued), (2, 1));
    let filters: Vec<_> = shown.filters.iter().map(|f| (&*f.filter, f.qos)).collect();
    assert_eq!(filters, [("a/+", 1), ("b", 2)]);
    assert_eq!(shown.session_ends_in_ms, Some(996_000));
    let last = shown.last_disconnect.expect("it was cut off");
    assert_eq!((last.ago_ms, last.by.as_str()), (4_000, "network"));

    let query = Query::Client {
        id: "nobody".into(),
    };
    assert!(matches!(ask(&mut world, 0, query), Answer::Client(None)));
}

#[test]
fn a_kicked_client_is_told_and_keeps_its_session() {
    let mut world = World::new(1, Limits::default());
    let client = client_on(&mut world, 0, "device");
    let name = world.name("device", 0);
    let kick = || Query::Kick {
        id: name.as_str().into(),
    };
    assert!(matches!(ask(&mut world, 0, kick()), Answer::Done(true)));
    assert_eq!(world.read(client), ["disconnect 0x98"]);
    assert!(matches!(ask(&mut world, 0, kick()), Answer::Done(false)));
    let record = last_disconnect(&world, 0, &name).expect("it is kept");
    assert_eq!(record.cause.ended_by(), EndedBy::Operator);
    world.settle();
    let again = world.attach(connect(&name));
    assert_eq!(world.read(again), ["connack 1"], "the session is there");
}

/// The lines that were written down for those who watch.
fn traced(world: &mut World, shard: usize) -> Vec<String> {
    let (lines, lost) = world.cores[shard].take_traced();
    assert_eq!(lost, 0);
    lines
        .into_iter()
        .map(|line| format!("{} {}", line.direction, line.text))
        .collect()
}

#[test]
fn a_trace_has_each_packet_of_its_client_and_of_nobody_else() {
    let mut world = World::new(1, Limits::default());
    let other = client_on(&mut world, 0, "other");
    world.cores[0].trace(7, "device");
    let client = world.attach(connect("device"));
    world.subscribe(client, "a/#", 1);
    world.send(other, &publish(V5, "a/b", "12345", 1, 9));
    world.send(client, &publish(V5, "c", "x", 0, 0));
    world.cut(client);
    assert_eq!(
        traced(&mut world, 0),
        [
            "-- not connected",
            "in CONNECT from unix, MQTT 5.0, clean start no, keep alive 0 s, \
             session expiry 1000 s, will no",
            "out CONNACK 0x00, session present no",
            "in SUBSCRIBE #900 \"a/#\" QoS 1",
            "out SUBACK #900 0x01",
            "out PUBLISH \"a/b\" QoS 1 #1, 5 bytes",
            "in PUBLISH \"c\" QoS 0, 1 bytes",
            "-- closed by network: the client closed the connection",
        ]
    );
    world.cores[0].untrace(7);
    world.attach(connect("device"));
    assert!(traced(&mut world, 0).is_empty());
}

#[test]
fn a_trace_has_what_others_get_as_a_run() {
    let mut world = World::new(1, Limits::default());
    for name in ["a", "b", "device"] {
        let client = world.attach(connect(name));
        world.subscribe(client, "t", 0);
    }
    let publisher = client_on(&mut world, 0, "pub");
    world.cores[0].trace(7, "device");
    let burst: Vec<u8> = (0..4)
        .flat_map(|_| publish(V5, "t", "12345", 0, 0))
        .collect();
    world.send(publisher, &burst);
    let lines = traced(&mut world, 0);
    let publishes = lines.iter().filter(|line| line.contains("PUBLISH \"t\""));
    assert_eq!(publishes.count(), 4, "{lines:?}");
    world.cores[0].store_figures();
    assert_eq!(world.cores[0].counters().publishes_sent, 12);
    assert_eq!(world.cores[0].counters().publish_bytes_sent, 60);
}

#[test]
fn a_trace_is_bounded_in_a_turn_and_counts_what_it_loses() {
    let mut world = World::new(1, Limits::default());
    let client = client_on(&mut world, 0, "device");
    let name = world.name("device", 0);
    world.cores[0].trace(1, &name);
    for _ in 0..5_000 {
        world.send(client, &publish(V5, "a", "x", 0, 0));
    }
    let (lines, lost) = world.cores[0].take_traced();
    assert_eq!((lines.len() as u64 + lost, lines.len()), (5_001, 4_096));
}

#[test]
fn other_limits_hold_from_the_reload_on() {
    let mut world = World::new(1, Limits::default());
    let client = client_on(&mut world, 0, "device");
    world.subscribe(client, "a", 0);
    assert_eq!(world.read(client), ["suback"]);
    let limits = Limits {
        subscriptions_per_client: 1,
        packet_bytes: 300,
        disconnect_records: 0,
        retained_messages: 0,
        ..Limits::default()
    };
    let shared = Arc::new(world.shared.with_limits(limits));
    world.cores[0].reload(shared, true);
    world.send(client, &packet(V5, "r", "kept?", 0, 0, false, true));
    assert_eq!(world.shared.retained.len(), 0, "nothing more is retained");
    world.cores[0].store_figures();
    let (counters, gauges) = sum(&world.shared.figures);
    assert_eq!((counters.retained_not_kept, gauges.subscriptions), (1, 1));
    world.send(client, &publish(V5, "a", &"x".repeat(400), 0, 0));
    assert_eq!(
        world.read(client),
        ["disconnect 0x95"],
        "the packet is too large now"
    );
    assert_eq!(world.cores[0].disconnects.len(), 0);
}

/// The messages of `lines` whose topic ends so.
fn value<'a>(lines: &'a [String], name: &str) -> Option<&'a str> {
    let topic = format!("$SYS/broker/{name}=");
    lines.iter().find_map(|line| line.strip_prefix(&topic))
}

#[test]
fn a_subscriber_of_sys_gets_the_values_at_once_as_if_retained() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 1, "pub");
    world.send(publisher, &packet(V5, "a", "kept", 0, 0, false, true));
    for core in &mut world.cores {
        core.store_figures();
    }
    world.pass(3_000);
    let subscriber = client_on(&mut world, 0, "sub");
    world.subscribe(subscriber, "$SYS/broker/#", 1);
    let lines = world.read(subscriber);
    assert_eq!(lines[0], "suback");
    let version = format!("axmq version {} q0 retain", env!("CARGO_PKG_VERSION"));
    for (name, expected) in [
        ("version", version.as_str()),
        ("uptime", "3 seconds q0 retain"),
        ("clients/connected", "2 q0 retain"),
        ("clients/total", "2 q0 retain"),
        ("messages/received", "2 q0 retain"),
        ("messages/sent", "3 q0 retain"),
        ("publish/messages/received", "1 q0 retain"),
        ("publish/bytes/received", "4 q0 retain"),
        ("subscriptions/count", "1 q0 retain"),
        ("retained messages/count", "1 q0 retain"),
        ("load/connections/1min", "0.00 q0 retain"),
    ] {
        // The rate is a fraction of the minute that has not passed.
        if name.starts_with("load") {
            assert!(value(&lines, name).is_some(), "{name}: {lines:?}");
        } else {
            assert_eq!(value(&lines, name), Some(expected), "{name}: {lines:?}");
        }
    }
    // A part of the tree by a filter of its own, and again at once.
    world.subscribe(subscriber, "$SYS/+/clients/total", 0);
    assert_eq!(
        world.read(subscriber),
        ["suback", "$SYS/broker/clients/total=2 q0 retain"]
    );
}

#[test]
fn sys_counts_members_of_shared_subscriptions_by_themselves() {
    let mut world = World::new(2, Limits::default());
    for (shard, filter) in [(0, "$share/g/t"), (1, "$share/g/t"), (1, "t")] {
        let client = client_on(&mut world, shard, filter);
        world.subscribe(client, filter, 0);
        world.settle();
    }
    for core in &mut world.cores {
        core.store_figures();
    }
    let subscriber = client_on(&mut world, 0, "watcher");
    world.subscribe(subscriber, "$SYS/broker/+/count", 0);
    let lines = world.read(subscriber);
    assert_eq!(
        value(&lines, "shared_subscriptions/count"),
        Some("2 q0 retain")
    );
    assert_eq!(value(&lines, "subscriptions/count"), Some("2 q0 retain"));
}

#[test]
fn sys_ticks_only_while_a_subscriber_is_connected() {
    let mut world = World::new(1, Limits::default());
    let subscriber = client_on(&mut world, 0, "sub");
    assert_eq!(
        world.cores[0].next_deadline_ms(),
        None,
        "nothing to wake for"
    );
    world.subscribe(subscriber, "$SYS/broker/clients/connected", 0);
    assert_eq!(
        world.read(subscriber),
        ["suback", "$SYS/broker/clients/connected=1 q0 retain"]
    );
    world.pass(10_000);
    assert!(world.read(subscriber).is_empty(), "nothing has changed");
    let _other = client_on(&mut world, 0, "other");
    world.pass(9_999);
    assert!(
        world.read(subscriber).is_empty(),
        "not before the interval is over"
    );
    world.pass(1);
    assert_eq!(
        world.read(subscriber),
        ["$SYS/broker/clients/connected=2 q0"]
    );

    // Away, it costs nothing; back, it goes on.
    let name = world.name("sub", 0);
    world.cut(subscriber);
    world.settle();
    world.pass(10_000);
    assert_eq!(
        world.cores[0]
            .next_deadline_ms()
            .map(|at| at > world.now_ms + 500_000),
        Some(true),
        "only the session's end is left"
    );
    let subscriber = world.attach(connect(&name));
    world.pass(10_000);
    assert_eq!(
        world.read(subscriber),
        ["connack 1"],
        "2 it was told before"
    );
    world.unsubscribe(subscriber, "$SYS/broker/clients/connected");
    world.pass(10_000);
    assert_eq!(world.cores[0].next_deadline_ms(), None);
    assert!(!world.shared.sys.is_watched());
}

#[test]
fn wildcards_at_the_first_level_see_nothing_of_sys() {
    let mut world = World::new(1, Limits::default());
    let subscriber = client_on(&mut world, 0, "sub");
    world.subscribe(subscriber, "#", 0);
    world.subscribe(subscriber, "+/broker/version", 0);
    let watcher = client_on(&mut world, 0, "watch");
    world.subscribe(watcher, "$SYS/#", 0);
    assert!(world.read(watcher).len() > 40);
    world.pass(60_000);
    let _other = client_on(&mut world, 0, "other");
    assert_eq!(world.read(subscriber), ["suback", "suback"]);
}

#[test]
fn a_watcher_that_goes_gets_nothing_of_its_own_end_on_the_old_connection() {
    let mut world = World::new(1, Limits::default());
    let watcher = client_on(&mut world, 0, "watch");
    let name = world.name("watch", 0);
    world.subscribe(watcher, "$SYS/broker/clients/+/disconnected", 1);
    world.subscribe(watcher, "$SYS/broker/clients/+/connected", 0);
    world.read(watcher);
    world.cores[0].answer(Query::Kick {
        id: name.as_str().into(),
    });
    assert_eq!(world.read(watcher), ["disconnect 0x98"]);
    world.settle();
    // What it missed waits for it at QoS 1, like any message.
    let again = world.attach(connect(&name));
    world.settle();
    let lines = world.read(again);
    assert_eq!(lines[0], "connack 1");
    let queued = |line: &String| line.contains("/disconnected=") && line.ends_with("q1 #1");
    assert!(lines.iter().any(queued), "{lines:?}");
}

#[test]
fn clients_do_not_publish_under_sys() {
    let mut world = World::new(1, Limits::default());
    let watcher = client_on(&mut world, 0, "watch");
    world.subscribe(watcher, "$SYS/mine", 2);
    assert_eq!(world.read(watcher), ["suback"]);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &packet(V5, "$SYS/mine", "x", 0, 0, false, true));
    world.send(publisher, &publish(V5, "$SYS/mine", "x", 1, 1));
    world.send(publisher, &publish(V5, "$SYS/mine", "x", 2, 2));
    assert_eq!(world.read(publisher), ["puback #1 0x87", "pubrec #2 0x87"]);
    let old = world.attach(ConnectInfo {
        version: Version::V311,
        ..connect("old")
    });
    world.send(old, &publish(Version::V311, "$SYS/mine", "x", 1, 1));
    assert_eq!(world.read(old), ["connack 0", "puback #1"]);
    assert!(world.read(watcher).is_empty());
    assert_eq!(world.shared.retained.len(), 0);
    assert_eq!(world.cores[0].counters().publishes_refused, 4);
}

#[test]
fn connects_and_disconnects_are_told_to_who_subscribes_on_any_shard() {
    let mut world = World::new(2, Limits::default());
    let watcher = client_on(&mut world, 0, "watch");
    world.subscribe(watcher, "$SYS/broker/clients/+/connected", 1);
    world.subscribe(watcher, "$SYS/broker/clients/+/disconnected", 0);
    world.read(watcher);
    let name = world.name("a/b#", 1);
    let client = world.attach(connect(&name));
    world.settle();
    let level = name.replace('/', "%2F").replace('#', "%23");
    let lines = world.read(watcher);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let topic = format!("$SYS/broker/clients/{level}/connected=");
    let json = lines[0].strip_prefix(&topic).expect(&lines[0]);
    let json = json
        .strip_suffix(" q1 #1")
        .expect("at the QoS of the subscription");
    let event: serde_json::Value = serde_json::from_str(json).expect(json);
    assert_eq!(event["client"], name.as_str());
    assert_eq!(
        (&event["protocol"], &event["session_present"]),
        (&"5.0".into(), &false.into())
    );

    world.cores[1].answer(Query::Kick {
        id: name.as_str().into(),
    });
    world.settle();
    let lines = world.read(watcher);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let topic = format!("$SYS/broker/clients/{level}/disconnected=");
    let json = lines[0].strip_prefix(&topic).expect(&lines[0]);
    let json = json
        .strip_suffix(" q0")
        .expect("at the QoS of the subscription");
    let event: serde_json::Value = serde_json::from_str(json).expect(json);
    assert_eq!(
        (&event["by"], &event["reason"]),
        (&"operator".into(), &0x98.into())
    );
    let _ = client;
}
