//! The protocol core by itself: what real clients cannot show because they do not choose the order
//! in which shards talk to each other.

mod acks;
mod aliases;
mod arrivals;
mod auth;
mod authors;
#[path = "../../../tests/support/clause.rs"]
mod clause;
mod clauses;
mod connack;
mod defence;
mod entrust;
mod found;
mod garbage;
mod groups;
mod holdings;
mod hooks;
mod kept;
mod limits;
mod local;
mod ops;
mod promises;
mod rate;
mod regroup;
mod restored;
mod review;
mod runs;
mod shortage;
mod storm;
mod world;

use mqtt_codec::{PacketType, Version};

use self::world::{Client, World, ack, connect, packet, publish, will};
use crate::config::Limits;
use crate::message::ConnectInfo;
use crate::store::Restored;

const V5: Version = Version::V5;

/// A client on a shard of the test's choice, with CONNACK read.
fn client_on(world: &mut World, shard: usize, prefix: &str) -> Client {
    let name = world.name(prefix, shard);
    let client = world.attach(connect(&name));
    assert_eq!(world.read(client), ["connack 0"]);
    client
}

/// The same in a world with a store, which has caught up.
fn kept_on(world: &mut World, shard: usize, prefix: &str) -> Client {
    let name = world.name(prefix, shard);
    let client = world.attach(connect(&name));
    world.catch_up();
    assert_eq!(world.read(client), ["connack 0"]);
    client
}

/// A session of an earlier run with nothing in it.
fn earlier(holder: u64, client_id: &str) -> Restored {
    Restored {
        holder,
        client_id: client_id.into(),
        expiry_s: u32::MAX,
        ends_at_ms: u64::MAX,
        will: None,
        subscriptions: Vec::new(),
        received: Vec::new(),
        first: 0,
        count: 0,
        bytes: 0,
        sent: 0,
        next: 0,
    }
}

fn subscriber_on(world: &mut World, shard: usize, filter: &str, qos: u8) -> Client {
    let client = client_on(world, shard, "sub");
    world.subscribe(client, filter, qos);
    assert_eq!(world.read(client), ["suback"]);
    client
}

#[test]
fn a_publish_is_acknowledged_when_every_shard_concerned_has_it() {
    let mut world = World::new(3, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    let near = subscriber_on(&mut world, 0, "a/#", 1);
    let far = subscriber_on(&mut world, 1, "a/b", 1);
    let farther = subscriber_on(&mut world, 2, "+/b", 2);

    world.send(publisher, &publish(V5, "a/b", "1", 1, 7));
    assert_eq!(world.read(near), ["a/b=1 q1 #1"]);
    assert!(
        world.read(publisher).is_empty(),
        "two shards have not said yes"
    );
    world.post();
    assert!(world.deliver(1));
    world.post();
    assert!(world.deliver(0));
    assert!(
        world.read(publisher).is_empty(),
        "one shard has not said yes"
    );
    assert_eq!(world.read(far), ["a/b=1 q1 #1"]);
    world.settle();
    assert_eq!(world.read(farther), ["a/b=1 q1 #1"]);
    assert_eq!(world.read(publisher), ["puback #7"]);
}

#[test]
fn acknowledgements_leave_in_the_order_of_the_publishes() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    let _far = subscriber_on(&mut world, 1, "far", 2);
    world.send(publisher, &publish(V5, "far", "1", 1, 1));
    world.send(publisher, &publish(V5, "nobody", "2", 1, 2));
    world.send(publisher, &publish(V5, "nobody", "3", 2, 3));
    assert!(
        world.read(publisher).is_empty(),
        "[MQTT-4.6.0-2]: the first one is still under way"
    );
    world.settle();
    assert_eq!(
        world.read(publisher),
        ["puback #1", "puback #2", "pubrec #3"]
    );
    clause::v5(&["4.6.0-2", "4.6.0-3"]);
}

#[test]
fn a_duplicate_joins_the_acknowledgement_that_is_due() {
    let mut world = World::new(2, Limits::default());
    let name = world.name("pub", 0);
    let publisher = world.attach(connect(&name));
    let far = subscriber_on(&mut world, 1, "far", 2);
    world.read(publisher);
    world.send(publisher, &publish(V5, "far", "once", 2, 5));
    world.cut(publisher);
    let publisher = world.attach(connect(&name));
    assert_eq!(world.read(publisher), ["connack 1"]);
    world.send(publisher, &packet(V5, "far", "once", 2, 5, true, false));
    assert!(
        world.read(publisher).is_empty(),
        "the first copy is still under way"
    );
    world.settle();
    assert_eq!(world.read(publisher), ["pubrec #5"]);
    assert_eq!(world.read(far), ["far=once q2 #1"], "[MQTT-4.3.3-10]: once");
    world.send(publisher, &packet(V5, "far", "once", 2, 5, true, false));
    assert_eq!(world.read(publisher), ["pubrec #5"]);
    world.send(publisher, &ack(PacketType::PubRel, 5));
    assert_eq!(world.read(publisher), ["pubcomp #5"]);
    world.settle();
    assert!(world.read(far).is_empty());
    clause::v5(&["4.3.3-10", "4.3.3-11"]);
}

#[test]
fn a_take_over_ends_the_first_connection_and_keeps_the_session() {
    let mut world = World::new(1, Limits::default());
    let first = world.attach(connect("one"));
    world.subscribe(first, "t", 1);
    world.read(first);
    let publisher = client_on(&mut world, 0, "pub");
    world.send(publisher, &publish(V5, "t", "unacknowledged", 1, 1));
    world.read(first);
    let second = world.attach(connect("one"));
    assert_eq!(world.read(first), ["disconnect 0x8E"]);
    world.settle();
    assert_eq!(
        world.read(second),
        ["connack 1", "t=unacknowledged q1 #1 dup"]
    );
    assert_eq!(world.read(first), ["closed"]);
    clause::v5(&["3.1.4-3", "3.14.4-1", "3.14.4-2"]);
}

#[test]
fn wills_at_a_take_over() {
    // Delay, clean start of the new connection, expiry of the old one: is the will published?
    let table = [
        (0, false, 1_000, true),
        (10, false, 1_000, false),
        (10, true, 1_000, true),
        (10, false, 0, true),
        (0, true, 0, true),
    ];
    for (delay_s, clean_start, session_expiry_s, is_published) in table {
        let mut world = World::new(2, Limits::default());
        let watcher = subscriber_on(&mut world, 1, "will", 1);
        let name = world.name("one", 0);
        let will = will("will", "x", delay_s);
        world.attach(ConnectInfo {
            will,
            session_expiry_s,
            ..connect(&name)
        });
        let second = world.attach(ConnectInfo {
            clean_start,
            ..connect(&name)
        });
        world.settle();
        let expected: &[&str] = if is_published { &["will=x q1 #1"] } else { &[] };
        let case = (delay_s, clean_start, session_expiry_s);
        assert_eq!(world.read(watcher), expected, "{case:?}");
        let session_present = !clean_start && session_expiry_s != 0;
        let connack = format!("connack {}", u8::from(session_present));
        assert_eq!(world.read(second), [connack], "{case:?}");
        world.pass(60_000);
        assert!(world.read(watcher).is_empty(), "{case:?}: no second will");
    }
    clause::v5(&["3.1.3-9"]);
}

#[test]
fn a_will_waits_for_its_delay_but_no_longer_than_the_session() {
    for (delay_s, session_expiry_s, due_ms) in [(5, 100, 5_000), (100, 7, 7_000), (3, 3, 3_000)] {
        let mut world = World::new(1, Limits::default());
        let watcher = subscriber_on(&mut world, 0, "will", 0);
        let will = will("will", "x", delay_s);
        let client = world.attach(ConnectInfo {
            will,
            session_expiry_s,
            ..connect("one")
        });
        world.cut(client);
        world.settle();
        world.pass(due_ms - 1);
        assert!(world.read(watcher).is_empty(), "never early");
        world.pass(1);
        assert_eq!(world.read(watcher), ["will=x q0"], "on time");
        let again = world.attach(connect("one"));
        let is_present = due_ms < u64::from(session_expiry_s) * 1_000;
        assert_eq!(
            world.read(again),
            [format!("connack {}", u8::from(is_present))]
        );
    }
    clause::v5(&["3.1.2-8"]);
}

#[test]
fn a_connect_completes_what_its_session_has_in_the_funnel() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "will", 0);
    let first = ConnectInfo {
        session_expiry_s: 0,
        will: will("will", "x", 0),
        ..connect("one")
    };
    let first = world.attach(first);
    world.subscribe(first, "t", 0);
    world.cut(first);
    // The funnel has not run. The new client must not inherit anything, nor lose its own later.
    let second = world.attach(connect("one"));
    assert_eq!(world.read(second), ["connack 0"]);
    assert_eq!(world.read(watcher), ["will=x q0"]);
    world.subscribe(second, "t", 0);
    world.settle();
    world.send(second, &publish(V5, "t", "mine", 0, 0));
    assert_eq!(world.read(second), ["suback", "t=mine q0"]);
}

#[test]
fn a_clean_disconnect_drops_the_will() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "will", 0);
    let client = world.attach(ConnectInfo {
        will: will("will", "x", 0),
        ..connect("one")
    });
    world.send(client, &[0xE0, 0x00]);
    world.settle();
    let client = world.attach(ConnectInfo {
        will: will("will", "y", 0),
        ..connect("two")
    });
    // Reason 4: with will [MQTT-3.14.2.1].
    world.send(client, &[0xE0, 0x01, 0x04]);
    world.settle();
    assert_eq!(world.read(watcher), ["will=y q0"]);
}

#[test]
fn a_subscription_counts_from_its_suback_on() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    // The publisher's shard has the empty route in its cache.
    world.send(publisher, &publish(V5, "t/1", "nobody", 0, 0));
    let late = subscriber_on(&mut world, 1, "t/+", 0);
    world.send(publisher, &publish(V5, "t/1", "somebody", 0, 0));
    world.settle();
    assert_eq!(world.read(late), ["t/1=somebody q0"]);
    world.unsubscribe(late, "t/+");
    assert_eq!(world.read(late), ["unsuback"]);
    world.send(publisher, &publish(V5, "t/1", "nobody", 0, 0));
    world.settle();
    assert!(world.read(late).is_empty());
}

#[test]
fn a_subscriber_that_takes_nothing_slows_its_publisher_and_then_loses_qos_0() {
    let limits = Limits {
        out_queue_soft_bytes: 2_000,
        out_queue_bytes: 4_000,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let slow = subscriber_on(&mut world, 0, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    let other = client_on(&mut world, 0, "other");
    let message = publish(V5, "t", &"x".repeat(500), 0, 0);
    let mut sent = 0;
    while world.try_send(publisher, &message) == message.len() {
        sent += 1;
        assert!(sent < 100, "back-pressure has to come");
    }
    assert_eq!(sent, 4, "at the soft mark");
    assert_eq!(
        world.try_send(other, &[0xC0, 0]),
        2,
        "who does not feed it goes on"
    );
    // It takes everything: the publisher goes on.
    assert_eq!(world.read(slow).len(), 4);
    assert_eq!(world.try_send(publisher, &message), message.len());
    // It takes nothing for long: it no longer counts, and loses what is above the soft mark.
    while world.try_send(publisher, &message) == message.len() {}
    world.pass(500);
    for _ in 0..10 {
        world.send(publisher, &message);
    }
    assert_eq!(world.cores[0].counters().dropped_stalled, 10);
    assert_eq!(world.read(slow).len(), 4, "what was queued is not lost");
}

#[test]
fn a_queue_that_is_long_again_has_one_timer_and_its_whole_time() {
    let limits = Limits {
        out_queue_soft_bytes: 2_000,
        out_queue_bytes: 4_000,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let slow = subscriber_on(&mut world, 0, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    let message = publish(V5, "t", &"x".repeat(500), 0, 0);
    for _ in 0..100 {
        while world.try_send(publisher, &message) == message.len() {}
        world.read(slow);
        world.pass(1);
    }
    assert_eq!(world.cores[0].timers.len(), 1);
    // The last time, 100 ms after the timer was armed.
    while world.try_send(publisher, &message) == message.len() {}
    world.pass(199);
    assert_eq!(
        world.try_send(publisher, &message),
        0,
        "it may take something"
    );
    world.pass(300);
    world.send(publisher, &message);
    assert_eq!(world.cores[0].counters().dropped_stalled, 1);
}

#[test]
fn a_will_s_delay_counts_from_the_end_of_its_connection() {
    let mut world = World::new(1, Limits::default());
    let watcher = subscriber_on(&mut world, 0, "will", 0);
    let client = world.attach(ConnectInfo {
        will: will("will", "x", 5),
        ..connect("one")
    });
    world.cut(client);
    // The funnel is long, and its turn comes late.
    world.now_ms += 3_000;
    world.cores[0].set_now(world.now_ms);
    world.settle();
    world.pass(1_999);
    assert!(world.read(watcher).is_empty(), "never early");
    world.pass(1);
    assert_eq!(world.read(watcher), ["will=x q0"]);
}

#[test]
fn pressure_crosses_shards_as_credit() {
    let limits = Limits {
        out_queue_soft_bytes: 2_000,
        out_queue_bytes: 4_000_000,
        mailbox_bytes: 20_000,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let slow = subscriber_on(&mut world, 1, "t", 0);
    let publisher = client_on(&mut world, 0, "pub");
    let message = publish(V5, "t", &"x".repeat(500), 0, 0);
    let mut sent = 0;
    while !world.cores[0].is_congested() {
        world.send(publisher, &message);
        world.settle();
        sent += 1;
        assert!(sent < 1_000, "the credit has to run out");
    }
    assert_eq!(world.read(slow).len(), sent, "nothing was lost");
    world.settle();
    assert!(!world.cores[0].is_congested(), "the credit comes back");
}

#[test]
fn a_session_queue_is_bounded_and_its_drops_are_counted() {
    let limits = Limits {
        session_queue_messages: 3,
        ..Limits::default()
    };
    let mut world = World::new(1, limits);
    let away = subscriber_on(&mut world, 0, "t", 1);
    let name = world.name("sub", 0);
    world.cut(away);
    world.settle();
    let publisher = client_on(&mut world, 0, "pub");
    for n in 1..=5 {
        world.send(publisher, &publish(V5, "t", &n.to_string(), 1, n));
    }
    assert_eq!(
        world.read(publisher).len(),
        5,
        "acknowledged: dropped by a policy, and counted"
    );
    assert_eq!(world.cores[0].counters().dropped_session_queue_full, 2);
    let back = world.attach(connect(&name));
    world.settle();
    assert_eq!(
        world.read(back),
        ["connack 1", "t=1 q1 #1", "t=2 q1 #2", "t=3 q1 #3"]
    );
}

#[test]
fn flow_control_keeps_to_the_clients_receive_maximum() {
    let mut world = World::new(1, Limits::default());
    let narrow = world.attach(ConnectInfo {
        receive_maximum: 2,
        ..connect("narrow")
    });
    world.subscribe(narrow, "t", 2);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 1..=4 {
        world.send(publisher, &publish(V5, "t", &n.to_string(), 2, n));
    }
    assert_eq!(
        world.read(narrow),
        ["connack 0", "suback", "t=1 q2 #1", "t=2 q2 #2"]
    );
    world.send(narrow, &ack(PacketType::PubRec, 1));
    world.settle();
    assert_eq!(
        world.read(narrow),
        ["pubrel #1"],
        "PUBREC frees no place [MQTT-4.9]"
    );
    world.send(narrow, &ack(PacketType::PubComp, 1));
    world.settle();
    assert_eq!(world.read(narrow), ["t=3 q2 #3"]);
    clause::v5(&["3.3.4-9", "3.3.4-10", "4.9.0-1", "4.9.0-2", "4.9.0-3"]);
}

#[test]
fn more_publishes_than_the_servers_receive_maximum_end_the_connection() {
    let limits = Limits {
        receive_maximum: 2,
        ..Limits::default()
    };
    let mut world = World::new(2, limits);
    let _far = subscriber_on(&mut world, 1, "t", 1);
    let publisher = client_on(&mut world, 0, "pub");
    for n in 1..=2 {
        world.try_send(publisher, &publish(V5, "t", "x", 2, n));
    }
    world.settle();
    assert_eq!(world.read(publisher), ["pubrec #1", "pubrec #2"]);
    world.try_send(publisher, &publish(V5, "t", "x", 2, 3));
    assert_eq!(world.read(publisher), ["disconnect 0x93"]);
    clause::v5(&["3.3.4-7"]);
}

#[test]
fn keep_alive_ends_a_silent_client_and_publishes_its_will() {
    for (version, end) in [(V5, "disconnect 0x8D"), (Version::V311, "closed")] {
        let mut world = World::new(1, Limits::default());
        let watcher = subscriber_on(&mut world, 0, "will", 0);
        let silent = ConnectInfo {
            version,
            keep_alive_s: 10,
            will: will("will", "x", 0),
            ..connect("one")
        };
        let silent = world.attach(silent);
        world.pass(14_000);
        world.send(silent, &[0xC0, 0]);
        world.pass(14_999);
        // CONNACK imposes no other keep alive.
        assert_eq!(world.read(silent), ["connack 0", "PingResp"]);
        // Never before one and a half times the keep alive, at most 1/16 or a second after.
        world.pass(1_000);
        assert_eq!(world.read(silent), [end]);
        assert_eq!(world.read(watcher), ["will=x q0"]);
    }
    clause::v5(&["3.1.2-22", "3.2.2-22"]);
    clause::v311(&["3.1.2-24"]);
}

#[test]
fn retained_messages_come_to_every_shard_and_go_with_an_empty_payload() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    for n in 0..200 {
        world.send(
            publisher,
            &packet(V5, &format!("r/{n}"), "v", 1, n + 1, false, true),
        );
    }
    world.read(publisher);
    let late = client_on(&mut world, 1, "late");
    world.subscribe(late, "r/+", 0);
    world.settle();
    let got = world.read(late);
    assert_eq!(got.len(), 201, "SUBACK and all of them, in slices");
    assert!(got[1..].iter().all(|line| line.ends_with("=v q0 retain")));
    for n in 0..200 {
        world.send(
            publisher,
            &packet(V5, &format!("r/{n}"), "", 1, n + 1, false, true),
        );
    }
    world.settle();
    assert_eq!(world.shared.retained.len(), 0);
    assert_eq!(
        world.read(late).len(),
        200,
        "the live copies, without the flag"
    );
}

#[test]
fn nothing_is_left_when_everybody_has_gone() {
    let mut world = World::new(2, Limits::default());
    let publisher = client_on(&mut world, 0, "pub");
    let near = subscriber_on(&mut world, 0, "a/#", 2);
    let far = subscriber_on(&mut world, 1, "+/b", 1);
    for n in 1..=20 {
        world.send(publisher, &publish(V5, "a/b", "x", 2, n));
    }
    world.settle();
    for client in [publisher, near, far] {
        world.cut(client);
    }
    world.settle();
    world.pass(1_000_000);
    world.assert_empty();
}
