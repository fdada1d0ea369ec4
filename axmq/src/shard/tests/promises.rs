//! Durability by topic, user and listener: which of them holds, and what waits for it.

use std::sync::Arc;

use mqtt_codec::{PacketType, QoS, Version};
use topicmap::Topic;

use super::super::promises::Promises;
use super::world::{Client, World, ack, connect, packet, publish, will};
use super::{V5, earlier, kept_on};
use crate::config::Durability::{self, Always, Interval, None as Nothing};
use crate::config::{Limits, ListenerRules, StoreRule, StoreSettings};
use crate::hooks::Grant;
use crate::message::ConnectInfo;
use crate::publication::{Parts, Publication};
use crate::store::op::{Health, Op, OpBatch, Page, PageEntry, PagedMessage, Stored};
use crate::store::{Restored, RestoredGroup, RestoredWill};

fn topics(durability: Durability, topics: &[&str]) -> StoreRule {
    StoreRule {
        durability,
        topics: topics.iter().map(|text| (*text).to_owned()).collect(),
        users: Vec::new(),
    }
}

pub(super) fn users(durability: Durability, users: &[&str]) -> StoreRule {
    StoreRule {
        durability,
        users: users.iter().map(|text| (*text).to_owned()).collect(),
        topics: Vec::new(),
    }
}

fn settings(durability: Durability, rules: &[StoreRule]) -> StoreSettings {
    StoreSettings {
        durability,
        rules: rules.to_vec(),
        ..StoreSettings::default()
    }
}

pub(super) fn world(shards: u16, durability: Durability, rules: &[StoreRule]) -> World {
    World::with_store(shards, Limits::default(), &settings(durability, rules))
}

/// A CONNECT of a user by a listener.
pub(super) fn come(name: &str, user: Option<&str>, listener: Option<Durability>) -> ConnectInfo {
    ConnectInfo {
        grant: user.map(|user| Arc::new(Grant::to(user))),
        rules: listener.map(|durability| {
            Arc::new(ListenerRules {
                durability: Some(durability),
                ..ListenerRules::default()
            })
        }),
        ..connect(name)
    }
}

/// A client that has come in so, with CONNACK read.
pub(super) fn attach(world: &mut World, connect: ConnectInfo) -> Client {
    let client = world.attach(connect);
    world.catch_up();
    assert_eq!(world.read(client).len(), 1);
    client
}

/// Something that is kept waits for what is published to all topics.
fn absent(world: &mut World, shard: usize) -> String {
    let client = kept_on(world, shard, "absent");
    world.subscribe(client, "#", 2);
    world.catch_up();
    world.cut(client);
    world.catch_up();
    world.name("absent", shard)
}

pub(super) fn batch(world: &mut World, shard: usize) -> OpBatch {
    let batch = world.cores[shard].take_op_batch(true);
    batch.expect("something is to be written")
}

fn is_idle(world: &mut World) -> bool {
    let mut cores = world.cores.iter_mut();
    cores.all(|core| core.take_op_batch(true).is_none())
}

fn count(batch: &OpBatch, which: fn(&Op) -> bool) -> usize {
    batch.ops.iter().filter(|op| which(op)).count()
}

fn is_queue(op: &Op) -> bool {
    matches!(op, Op::Queue(_))
}

#[test]
fn without_rules_nobody_looks_for_any() {
    let limits = topicmap::Limits::default();
    let of = |rules: &[StoreRule], listeners: &[Durability]| {
        let listeners = listeners.iter().copied();
        Promises::new(&settings(Interval, rules), listeners, limits)
    };
    assert!(of(&[], &[]).is_none());
    assert!(of(&[topics(Interval, &["a"])], &[Interval]).is_none());
    let strongest = |rules: &[StoreRule], listeners: &[Durability]| {
        of(rules, listeners).expect("there are some").strongest()
    };
    assert_eq!(strongest(&[], &[Always]), Always);
    assert_eq!(strongest(&[topics(Always, &["a"])], &[Nothing]), Always);
    assert_eq!(strongest(&[users(Nothing, &["a"])], &[]), Interval);
}

#[test]
fn of_the_rules_for_a_topic_the_strongest_holds() {
    let rules = [
        topics(Nothing, &["a/#", "b"]),
        topics(Always, &["a/+/c"]),
        topics(Interval, &["a/x/c", "a/x/d"]),
    ];
    let limits = topicmap::Limits::default();
    let promises = Promises::new(&settings(Interval, &rules), std::iter::empty(), limits);
    let promises = promises.expect("there are some");
    for (topic, expected) in [
        ("a/y", Some(Nothing)),
        ("b", Some(Nothing)),
        ("a/x/d", Some(Interval)),
        ("a/x/c", Some(Always)),
        ("b/c", None),
    ] {
        let topic = Topic::parse(topic, &limits).expect("a topic");
        assert_eq!(promises.for_topic(&topic), expected, "{}", topic.as_str());
    }
}

#[test]
fn the_nearest_rule_decides() {
    let rules = [
        topics(Nothing, &["n/#"]),
        topics(Always, &["a/#"]),
        users(Nothing, &["nobody"]),
        users(Always, &["bank"]),
    ];
    let durabilities = [Nothing, Interval, Always];
    for default in durabilities {
        for listener in durabilities.map(Some).into_iter().chain([None]) {
            for (user, by_user) in [
                (Some("nobody"), Some(Nothing)),
                (Some("bank"), Some(Always)),
                (Some("other"), None),
                (None, None),
            ] {
                for (topic, by_topic) in
                    [("n/1", Some(Nothing)), ("a/1", Some(Always)), ("t", None)]
                {
                    let of_client = by_user.or(listener).unwrap_or(default);
                    let expected = by_topic.unwrap_or(of_client);
                    let mut world = world(1, default, &rules);
                    let keeper = attach(&mut world, come("keeper", Some("bank"), None));
                    world.subscribe(keeper, "#", 1);
                    world.catch_up();
                    world.cut(keeper);
                    world.catch_up();
                    let client = attach(&mut world, come("c", user, listener));
                    let is_kept = world.cores[0]
                        .sessions
                        .iter()
                        .any(|(_, session)| &*session.client_id == "c" && session.holder != 0);
                    assert_eq!(is_kept, of_client != Nothing);
                    world.catch_up();
                    world.send(client, &publish(V5, topic, "x", 1, 1));
                    let is_answered = !world.read(client).is_empty();
                    assert_eq!(
                        is_answered,
                        expected != Always,
                        "{topic} {user:?} {listener:?}"
                    );
                    let written = world.cores[0].take_op_batch(true);
                    let written = written.map_or(0, |batch| count(&batch, is_queue));
                    assert_eq!(written, usize::from(expected != Nothing));
                }
            }
        }
    }
}

#[test]
fn only_what_was_promised_it_waits_for_the_disk() {
    let mut world = world(1, Interval, &[topics(Always, &["bank/#"])]);
    absent(&mut world, 0);
    let one = kept_on(&mut world, 0, "one");
    let two = kept_on(&mut world, 0, "two");
    world.send(one, &publish(V5, "bank/1", "x", 1, 1));
    world.send(one, &publish(V5, "news", "x", 1, 2));
    world.send(two, &publish(V5, "news", "x", 1, 1));
    assert_eq!(world.read(two), ["puback #1"]);
    assert!(world.read(one).is_empty(), "in its order");
    let written = batch(&mut world, 0);
    assert!(written.is_urgent, "and the other two are written with it");
    assert_eq!(count(&written, is_queue), 3);
    world.stored(0, written.number, written.cost, Health::Well);
    assert_eq!(world.read(one), ["puback #1", "puback #2"]);
    world.send(two, &publish(V5, "news", "x", 1, 2));
    assert!(!batch(&mut world, 0).is_urgent, "nobody waits");
}

#[test]
fn each_step_of_an_exchange_waits_where_its_message_was_promised_it() {
    for (topic, waits) in [("bank", true), ("news", false)] {
        let mut world = world(1, Interval, &[topics(Always, &["bank"])]);
        let to = kept_on(&mut world, 0, "to");
        let from = kept_on(&mut world, 0, "from");
        world.subscribe(to, "#", 2);
        assert_eq!(
            world.read(to),
            ["suback"],
            "the sessions are of another kind"
        );
        world.catch_up();
        let step = |world: &mut World, client: Client, bytes: &[u8], who: Client, line: &str| {
            world.send(client, bytes);
            world.settle();
            assert_eq!(
                world.read(who).is_empty(),
                waits || line.is_empty(),
                "{line}"
            );
            world.catch_up();
            if waits && !line.is_empty() {
                assert_eq!(world.read(who), [line]);
            }
        };
        let delivery = format!("{topic}=x q2 #1");
        step(
            &mut world,
            from,
            &publish(V5, topic, "x", 2, 1),
            to,
            &delivery,
        );
        assert_eq!(world.read(from), ["pubrec #1"]);
        step(&mut world, to, &ack(PacketType::PubRec, 1), to, "pubrel #1");
        step(
            &mut world,
            from,
            &ack(PacketType::PubRel, 1),
            from,
            "pubcomp #1",
        );
    }
}

#[test]
fn a_pubrel_that_is_due_again_is_durable_too() {
    let mut world = world(1, Interval, &[topics(Always, &["bank"])]);
    let to = kept_on(&mut world, 0, "to");
    let from = kept_on(&mut world, 0, "from");
    world.subscribe(to, "#", 2);
    world.send(from, &publish(V5, "bank", "x", 2, 1));
    world.catch_up();
    assert_eq!(world.read(to).len(), 2);
    world.send(to, &ack(PacketType::PubRec, 1));
    let pubrec = batch(&mut world, 0);
    world.cut(to);
    world.settle();
    let again = world.attach(connect(&world.name("to", 0)));
    world.settle();
    assert_eq!(
        world.read(again),
        ["connack 1"],
        "interval: that need not wait"
    );
    world.send(again, &ack(PacketType::PubRec, 1));
    assert!(world.read(again).is_empty());
    world.stored(0, pubrec.number, pubrec.cost, Health::Well);
    world.catch_up();
    assert_eq!(world.read(again), ["pubrel #1", "pubrel #1"]);
}

#[test]
fn a_message_goes_through_shards_with_what_it_was_promised() {
    let rules = [topics(Always, &["bank"]), topics(Nothing, &["noise"])];
    for (topic, commits, is_written) in [
        ("bank", true, true),
        ("news", false, true),
        ("noise", false, false),
    ] {
        let mut world = world(2, Interval, &rules);
        absent(&mut world, 1);
        let publisher = kept_on(&mut world, 0, "p");
        world.send(publisher, &publish(V5, topic, "x", 2, 1));
        world.settle();
        let far = world.cores[1].take_op_batch(true);
        let far_ops = far.as_ref().map_or(&[][..], |batch| &batch.ops);
        let is_staged = |op: &Op| matches!(op, Op::Queue(queue) if queue.is_staged);
        assert_eq!(far_ops.iter().any(is_queue), is_written, "{topic}");
        assert_eq!(far_ops.iter().any(is_staged), commits, "{topic}");
        assert_eq!(world.read(publisher).is_empty(), commits, "{topic}");
        let near = batch(&mut world, 0);
        let is_commit = |op: &Op| matches!(op, Op::Commit { .. });
        assert_eq!(count(&near, is_commit), usize::from(commits), "{topic}");
        if commits {
            world.stored(0, near.number, near.cost, Health::Well);
            assert_eq!(world.read(publisher), ["pubrec #1"]);
        }
    }
}

#[test]
fn a_session_is_kept_from_when_it_is_to_be_and_until_it_ends() {
    let mut world = world(1, Interval, &[users(Always, &["u"])]);
    let client = attach(&mut world, come("c", None, Some(Nothing)));
    world.subscribe(client, "plain", 1);
    world.subscribe(client, "$share/g/shared", 1);
    world.settle();
    assert!(is_idle(&mut world), "nothing of it is written");
    world.cut(client);
    world.settle();
    let client = world.attach(come("c", Some("u"), Some(Nothing)));
    world.settle();
    assert!(world.read(client).is_empty(), "CONNACK waits");
    let written = batch(&mut world, 0);
    let subscribed: Vec<_> = written
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Subscribe { filter, .. } => Some(&**filter),
            _ => None,
        })
        .collect();
    assert_eq!(subscribed, ["plain", "$share/g/shared"]);
    assert_eq!(count(&written, |op| matches!(op, Op::Group { .. })), 1);
    assert!(count(&written, |op| matches!(op, Op::Session(_))) > 0);
    world.stored(0, written.number, written.cost, Health::Well);
    assert_eq!(world.read(client), ["connack 1"]);
    world.cut(client);
    world.catch_up();
    // With less it stays kept, and waits for nothing.
    let client = world.attach(come("c", None, Some(Nothing)));
    assert_eq!(world.read(client), ["connack 1"]);
    world.subscribe(client, "more", 1);
    assert_eq!(world.read(client), ["suback"]);
    let written = batch(&mut world, 0);
    assert_eq!(count(&written, |op| matches!(op, Op::Subscribe { .. })), 1);
}

/// The store answers with the messages that it has on disk.
fn page(world: &mut World, numbers: &[u64]) {
    let asked = batch(world, 0);
    let (session, holder) = asked
        .ops
        .iter()
        .find_map(|op| match op {
            Op::Read {
                session, holder, ..
            } => Some((*session, *holder)),
            _ => None,
        })
        .expect("it asks for what is on disk");
    let entries = numbers.iter().map(|&number| PageEntry {
        number,
        message: Some(PagedMessage {
            publication: message(&format!("news/{number}")),
            cost: 1,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers: Vec::new(),
            is_of_group: false,
        }),
    });
    world.cores[0].on_stored(Stored {
        up_to: asked.number,
        cost: asked.cost,
        pages: vec![Page {
            session,
            holder,
            entries: entries.collect(),
            is_last: true,
        }],
        health: Health::Well,
    });
    world.settle();
}

#[test]
fn what_is_promised_nothing_keeps_its_place_behind_what_is_on_disk() {
    let mut world = world(1, Interval, &[topics(Nothing, &["noise"])]);
    let absent = absent(&mut world, 0);
    let publisher = kept_on(&mut world, 0, "p");
    // Sixteen stay in memory, four are on disk only, and between those one is not written.
    let say = |world: &mut World, topic: &str| {
        world.send(publisher, &publish(V5, topic, "x", 1, 1));
        assert_eq!(world.read(publisher), ["puback #1"]);
    };
    for number in 0..19 {
        say(&mut world, &format!("news/{number}"));
    }
    world.catch_up();
    say(&mut world, "noise");
    assert!(is_idle(&mut world));
    say(&mut world, "news/20");
    world.catch_up();
    let back = world.attach(connect(&absent));
    world.settle();
    page(&mut world, &[16, 17, 18, 20]);
    let lines = world.read(back);
    let expected = (0..21).map(|number| match number {
        19 => "noise=x q1 #20".to_owned(),
        _ => format!("news/{number}=x q1 #{}", number + 1),
    });
    assert_eq!(lines[1..], expected.collect::<Vec<_>>());
}

#[test]
fn who_is_promised_nothing_goes_on_while_the_store_is_behind() {
    let limits = Limits {
        store_queue_bytes: 500,
        ..Limits::default()
    };
    let rules = [topics(Nothing, &["noise"]), users(Nothing, &["noisy"])];
    let mut world = World::with_store(1, limits, &settings(Interval, &rules));
    absent(&mut world, 0);
    let other = kept_on(&mut world, 0, "o");
    let noisy = attach(&mut world, come("n", Some("noisy"), None));
    let fresh = kept_on(&mut world, 0, "f");
    let third = kept_on(&mut world, 0, "t");
    let text = "x".repeat(1_000);
    world.send(other, &publish(V5, "news", &text, 1, 1));
    assert_eq!(world.try_send(fresh, &publish(V5, "news", &text, 1, 1)), 0);
    world.send(third, &publish(V5, "noise", &text, 1, 1));
    world.send(noisy, &publish(V5, "news", &text, 1, 1));
    assert_eq!(world.read(noisy), ["puback #1"]);
}

#[test]
fn a_retained_message_that_is_promised_nothing_leaves_nothing_on_disk() {
    let mut world = world(1, Interval, &[users(Nothing, &["noisy"])]);
    let noisy = attach(&mut world, come("n", Some("noisy"), None));
    let other = kept_on(&mut world, 0, "o");
    let retain = |payload: &str| packet(V5, "t", payload, 0, 0, false, true);
    world.send(noisy, &retain("1"));
    world.send(noisy, &retain(""));
    assert!(is_idle(&mut world));
    world.send(other, &retain("2"));
    world.send(noisy, &retain("3"));
    world.send(noisy, &retain("4"));
    let written = batch(&mut world, 0);
    assert!(
        matches!(&written.ops[..], [Op::Retain { .. }, Op::Unretain { .. }]),
        "the older one must not come back: {:?}",
        written.ops
    );
}

#[test]
fn a_store_that_has_failed_refuses_nothing_that_it_would_not_keep() {
    let mut world = world(1, Interval, &[topics(Nothing, &["noise"])]);
    let absent = absent(&mut world, 0);
    let publisher = kept_on(&mut world, 0, "p");
    world.stored(0, 0, 0, Health::Failed);
    world.send(publisher, &publish(V5, "noise", "x", 1, 1));
    world.send(publisher, &publish(V5, "news", "x", 1, 2));
    assert_eq!(world.read(publisher), ["puback #1", "puback #2 0x97"]);
    let back = world.attach(connect(&absent));
    world.settle();
    assert_eq!(world.read(back), ["connack 1", "noise=x q1 #1"]);
}

#[test]
fn a_will_is_promised_what_its_client_was() {
    for (user, expected) in [(Some("bank"), Always), (None, Interval)] {
        let mut world = world(1, Interval, &[users(Always, &["bank"])]);
        absent(&mut world, 0);
        let client = attach(
            &mut world,
            ConnectInfo {
                will: will("w", "x", 0),
                session_expiry_s: 0,
                ..come("c", user, None)
            },
        );
        world.cut(client);
        world.settle();
        let kept = world.cores[0].messages.iter().next().expect("it waits");
        assert_eq!(kept.1.publication.view().durability(), expected);
    }
}

fn message(topic: &str) -> Publication {
    let parts = Parts {
        topic,
        properties: std::iter::empty(),
        payload: b"x",
        qos: QoS::AtLeastOnce,
        retain: false,
        expires_at_ms: 0,
    };
    Publication::from_parts(parts, None)
}

#[test]
fn what_is_from_an_earlier_run_gets_the_strongest_there_is() {
    let mut world = world(1, Interval, &[users(Always, &["bank"])]);
    absent(&mut world, 0);
    world.cores[0].restore(Restored {
        will: Some(RestoredWill {
            publication: message("w"),
            delay_s: 1,
            due_at_ms: world.now_ms + 1,
            expiry_s: None,
            author: None,
        }),
        received: vec![(7, 0)],
        ..earlier(100, "back")
    });
    world.cores[0].restore_group(RestoredGroup {
        holder: 101,
        name: "g".into(),
        filter: "t".into(),
        next: 2,
        waiting: vec![(1, message("t"))],
    });
    world.cores[0].all_are_restored();
    world.pass(1);
    let kept = world.cores[0].messages.iter().next().expect("the will");
    assert_eq!(kept.1.publication.view().durability(), Always);
    world.catch_up();
    // Its client is back, and what it is promised is known: but not what that message was.
    let client = world.attach(connect("back"));
    assert_eq!(world.read(client), ["connack 1"]);
    world.send(client, &ack(PacketType::PubRel, 7));
    assert!(world.read(client).is_empty());
    world.catch_up();
    assert_eq!(world.read(client), ["pubcomp #7"]);
    world.send(client, &publish(Version::V5, "t", "y", 2, 7));
    world.send(client, &ack(PacketType::PubRel, 7));
    assert_eq!(world.read(client), ["pubrec #7", "pubcomp #7"]);
}
