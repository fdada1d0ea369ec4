//! What is kept survives: kills, stops, and another number of shards each time.
//!
//! A kill is `SIGKILL` right after the last answer; with `always` nothing that was answered may be
//! missing, so nothing here waits for time to pass.

#![cfg(not(loom))]

#[path = "../conformance/client.rs"]
mod client;
mod groups;
#[path = "../support/peer.rs"]
mod peer;
#[path = "../support/mod.rs"]
mod support;
mod tools;
mod upgrades;

use mqtt_codec::encode::{Connect, ConnectProperties, Will};
use mqtt_codec::{PacketType, QoS, Version};
use rustix::process::Signal;

use self::client::{Broker, Client, filter, lasting, message};
use self::support::TempDir;

const ALWAYS: &[(&str, &str)] = &[("AXMQ_STORE__DURABILITY", "always")];

fn start() -> Broker {
    Broker::at(TempDir::new(), 2, ALWAYS)
}

/// Kills it, and starts another one with so many shards.
fn killed(broker: Broker, shards: u16) -> Broker {
    Broker::at(broker.end(Signal::KILL), shards, ALWAYS)
}

/// A client whose session is there, and holds a subscription.
fn subscriber(broker: &Broker, client_id: &str, text: &str, qos: u8) -> Client {
    let mut client = broker.resume(Version::V5, client_id, "connack 0");
    client.subscribes(&[filter(text, qos)], &format!("suback #77 0{qos}"));
    client
}

#[test]
fn messages_for_absent_sessions_survive_a_kill() {
    let mut broker = start();
    for (name, qos) in [("a", 1), ("b", 2), ("c", 1)] {
        subscriber(&broker, name, "t/#", qos).leaves();
    }
    let mut publisher = broker.client(Version::V5, "p");
    publisher.publishes(message("t/1", "one", 1, 1));
    publisher.hears("puback #1");
    publisher.publishes(message("t/2", "two", 2, 2));
    publisher.hears("pubrec #2");
    broker = killed(broker, 3);
    for (name, second) in [("a", "q1"), ("b", "q2"), ("c", "q1")] {
        let mut client = broker.resume(Version::V5, name, "connack 1");
        client.hears("t/1=one q1 #1");
        client.hears(&format!("t/2=two {second} #2"));
        client.hears_nothing_else();
    }
    // Nothing was acknowledged: the same again, and what may have been sent says so.
    broker = killed(broker, 1);
    let mut client = broker.resume(Version::V5, "a", "connack 1");
    client.hears("t/1=one q1 #1 dup");
    client.hears("t/2=two q1 #2 dup");
    client.acknowledges(PacketType::PubAck, 1);
    client.acknowledges(PacketType::PubAck, 2);
    client.hears_nothing_else();
    client.leaves();
    broker = Broker::at(broker.end(Signal::TERM), 2, ALWAYS);
    let mut client = broker.resume(Version::V5, "a", "connack 1");
    client.hears_nothing_else();
}

#[test]
fn retained_messages_survive_and_stay_removed() {
    let mut broker = start();
    let mut publisher = broker.client(Version::V5, "p");
    for (topic, payload, n) in [("r/1", "old", 1), ("r/2", "gone", 2), ("r/1", "new", 3)] {
        publisher.publishes(message(topic, payload, 1, n).retained());
        publisher.hears(&format!("puback #{n}"));
    }
    publisher.publishes(message("r/2", "", 1, 4).retained());
    publisher.hears("puback #4");
    for shards in [1, 2] {
        broker = killed(broker, shards);
        let mut client = broker.client(Version::V5, "s");
        client.subscribes(&[filter("r/#", 1)], "suback #77 01");
        client.hears("r/1=new q1 #1 retain");
        client.hears_nothing_else();
    }
}

#[test]
fn a_message_in_flight_keeps_its_packet_id_and_its_step() {
    let mut broker = start();
    let mut client = subscriber(&broker, "s", "t", 2);
    let mut publisher = broker.client(Version::V5, "p");
    for (payload, n) in [("one", 1), ("two", 2), ("three", 3)] {
        publisher.publishes(message("t", payload, 2, n));
        publisher.hears(&format!("pubrec #{n}"));
    }
    client.hears("t=one q2 #1");
    client.hears("t=two q2 #2");
    client.hears("t=three q2 #3");
    client.acknowledges(PacketType::PubRec, 2);
    client.hears("pubrel #2");
    broker = killed(broker, 1);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    client.hears("t=one q2 #1 dup");
    client.hears("pubrel #2");
    client.hears("t=three q2 #3 dup");
    client.acknowledges(PacketType::PubComp, 2);
    client.acknowledges(PacketType::PubRec, 1);
    client.hears("pubrel #1");
    broker = killed(broker, 2);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    client.hears("pubrel #1");
    client.hears("t=three q2 #3 dup");
    client.hears_nothing_else();
}

#[test]
fn a_publisher_that_repeats_itself_after_a_kill_is_heard_once() {
    let mut broker = start();
    let names = ["s0", "s1", "s2", "s3"];
    for name in names {
        subscriber(&broker, name, "t", 2).leaves();
    }
    let mut publisher = broker.resume(Version::V5, "p", "connack 0");
    publisher.publishes(message("t", "once", 2, 5));
    publisher.hears("pubrec #5");
    broker = killed(broker, 3);
    let mut publisher = broker.resume(Version::V5, "p", "connack 1");
    publisher.publishes(message("t", "once", 2, 5).again());
    publisher.hears("pubrec #5");
    publisher.acknowledges(PacketType::PubRel, 5);
    publisher.hears("pubcomp #5");
    broker = killed(broker, 2);
    let mut publisher = broker.resume(Version::V5, "p", "connack 1");
    publisher.publishes(message("t", "another", 2, 5));
    publisher.hears("pubrec #5");
    for name in names {
        let mut client = broker.resume(Version::V5, name, "connack 1");
        client.hears("t=once q2 #1");
        let next = client.read();
        assert!(next.starts_with("t=another q2 #"), "{next}");
        client.hears_nothing_else();
    }
}

#[test]
fn a_long_queue_comes_back_whole_and_in_order() {
    let mut broker = start();
    subscriber(&broker, "s", "t", 1).leaves();
    let mut publisher = broker.client(Version::V5, "p");
    let payloads: Vec<&'static str> = (0..300).map(|n| &*format!("{n}").leak()).collect();
    let (before, after) = payloads.split_at(200);
    for payload in before {
        publisher.publishes(message("t", payload, 1, 1));
        publisher.hears("puback #1");
    }
    broker = killed(broker, 1);
    let mut publisher = broker.client(Version::V5, "p");
    for payload in after {
        publisher.publishes(message("t", payload, 1, 1));
        publisher.hears("puback #1");
    }
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    for payload in &payloads {
        let words = client.read();
        assert!(
            words.starts_with(&format!("t={payload} q1 #")),
            "{words}, not {payload}"
        );
        let number = words.rsplit('#').next().and_then(|n| n.parse().ok());
        client.acknowledges(PacketType::PubAck, number.expect("an id ends it"));
    }
    client.hears_nothing_else();
}

#[test]
fn what_has_ended_stays_ended() {
    let mut broker = start();
    subscriber(&broker, "ends", "t", 1).leaves();
    let clean = Connect {
        client_id: "ends",
        clean_start: true,
        ..Connect::default()
    };
    broker.connect(Version::V5, &clean, "connack 0").leaves();
    let mut client = subscriber(&broker, "stays", "t", 1);
    client.subscribes(&[filter("u", 1)], "suback #77 01");
    client.unsubscribes(&["t"], "unsuback #78 00");
    broker = killed(broker, 2);
    let mut publisher = broker.client(Version::V5, "p");
    for (topic, n) in [("t", 1), ("u", 2)] {
        publisher.publishes(message(topic, "x", 1, n));
    }
    publisher.hears("puback #1");
    publisher.hears("puback #2");
    broker.resume(Version::V5, "ends", "connack 0").leaves();
    let mut client = broker.resume(Version::V5, "stays", "connack 1");
    let words = client.read();
    assert!(words.starts_with("u=x q1 #"), "{words}");
    client.hears_nothing_else();
}

/// A CONNECT for a session that stays, with a will.
fn with_will<'a>(client_id: &'a str, topic: &'a str) -> Connect<'a> {
    Connect {
        client_id,
        will: Some(Will {
            topic,
            payload: b"gone",
            qos: QoS::AtLeastOnce,
            ..Will::default()
        }),
        properties: ConnectProperties {
            session_expiry_interval: Some(1_000),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    }
}

#[test]
fn a_will_that_waits_is_published_after_the_restart() {
    let mut broker = start();
    subscriber(&broker, "s", "w/#", 1).leaves();
    let _lost = broker.connect(Version::V5, &with_will("lost", "w/lost"), "connack 0");
    broker
        .connect(Version::V5, &with_will("left", "w/left"), "connack 0")
        .leaves();
    // What comes before it in the same shard's order is durable with this.
    let mut client = broker.resume(Version::V5, "lost2", "connack 0");
    client.subscribes(&[filter("x", 1)], "suback #77 01");
    broker = Broker::at(broker.end(Signal::TERM), 1, ALWAYS);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    let words = client.read();
    assert!(words.starts_with("w/lost=gone q1 #"), "{words}");
    client.hears_nothing_else();
}

#[test]
fn connack_stands_for_the_end_of_the_old_session_and_for_the_will_of_the_new_one() {
    let mut broker = start();
    subscriber(&broker, "s", "w/#", 1).leaves();
    subscriber(&broker, "c", "t", 1).leaves();
    let clean = Connect {
        clean_start: true,
        ..with_will("c", "w/c")
    };
    let _client = broker.connect(Version::V5, &clean, "connack 0");
    broker = killed(broker, 1);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    let words = client.read();
    assert!(words.starts_with("w/c=gone q1 #"), "{words}");
    let mut client = broker.resume(Version::V5, "c", "connack 1");
    let mut publisher = broker.client(Version::V5, "p");
    publisher.publishes(message("t", "x", 1, 1));
    publisher.hears("puback #1");
    client.hears_nothing_else();
}

#[test]
fn a_will_that_nobody_may_publish_any_more_is_not_published_after_a_kill() {
    let home = TempDir::new();
    let rules = home.join("acl");
    let write = |text: &str| std::fs::write(&rules, text).expect("it can be written");
    let path = rules.to_str().expect("a text").to_owned();
    let acl = [ALWAYS[0], ("AXMQ_AUTH__ACL_FILE", &*path)];
    write("topic readwrite w/#\n");
    let mut broker = Broker::at(home, 2, &acl);
    subscriber(&broker, "s", "w/#", 1).leaves();
    let _may = broker.connect(Version::V5, &with_will("may", "w/may"), "connack 0");
    let _not = broker.connect(Version::V5, &with_will("not", "w/not"), "connack 0");
    let home = broker.end(Signal::KILL);
    write("topic readwrite w/may\ntopic read w/#\n");
    broker = Broker::at(home, 1, &acl);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    let words = client.read();
    assert!(words.starts_with("w/may=gone q1 #"), "{words}");
    client.hears_nothing_else();
}

#[test]
fn listeners_and_topics_have_a_durability_of_their_own() {
    // Nothing is kept for all, and what the listener keeps is not kept for one topic.
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\ndurability = \"always\"\n\
                [store]\ndurability = \"none\"\n\
                [[store.rule]]\ndurability = \"none\"\ntopics = [\"noise\"]\n";
    let mut broker = Broker::configured(TempDir::new(), 2, text);
    subscriber(&broker, "s", "#", 1).leaves();
    let mut publisher = broker.client(Version::V5, "p");
    for (topic, n) in [("noise", 1), ("bank", 2), ("noise", 3)] {
        publisher.publishes(message(topic, "x", 1, n));
        publisher.hears(&format!("puback #{n}"));
    }
    broker = Broker::configured(broker.end(Signal::KILL), 1, text);
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    let words = client.read();
    assert!(words.starts_with("bank=x q1 #"), "{words}");
    client.hears_nothing_else();
}

#[test]
fn a_session_is_intact_after_ten_restarts_of_all_kinds() {
    let interval = &[("AXMQ_STORE__DURABILITY", "interval")];
    let mut broker = start();
    subscriber(&broker, "s", "t/#", 2).leaves();
    let mut payloads = Vec::new();
    for round in 0..10_u16 {
        let payload = &*format!("round {round}").leak();
        payloads.push(payload);
        let mut publisher = broker.client(Version::V5, "p");
        publisher.publishes(message("t/x", payload, 1, 1));
        publisher.hears("puback #1");
        let shards = round % 3 + 1;
        broker = match round % 4 {
            // The next one acknowledges without waiting, so it is to stop in order.
            1 => Broker::at(broker.end(Signal::KILL), shards, interval),
            2 => Broker::at(broker.end(Signal::TERM), shards, ALWAYS),
            _ => killed(broker, shards),
        };
    }
    let mut client = broker.resume(Version::V5, "s", "connack 1");
    for payload in payloads {
        let words = client.read();
        assert!(words.starts_with(&format!("t/x={payload} q1 #")), "{words}");
    }
    client.hears_nothing_else();
}

#[test]
fn without_durability_nothing_is_written() {
    let none = &[("AXMQ_STORE__DURABILITY", "none")];
    let broker = Broker::at(TempDir::new(), 2, none);
    subscriber(&broker, "s", "t", 1).leaves();
    let home = broker.end(Signal::TERM);
    let store = home.join(".local/state/axmq/store");
    assert!(store.parent().is_some_and(std::path::Path::is_dir));
    assert!(!store.exists());
    let broker = Broker::at(home, 2, none);
    broker.connect(Version::V5, &lasting("s"), "connack 0");
}
