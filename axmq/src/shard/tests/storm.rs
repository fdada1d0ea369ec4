//! Random clients on several shards, mail delivered in random order, connections cut at random.
//! What was acknowledged must reach every persistent subscriber, at QoS 2 exactly once, in order;
//! and one member of each group, at QoS 2 exactly once over all of them.

use std::collections::BTreeMap;

use mqtt_codec::PacketType;

use super::world::{Client, World, ack, connect, packet};
use super::{V5, publish};
use crate::config::Limits;
use crate::sim::random::Random;

/// Something happens in one core.
fn step(world: &mut World, random: &mut Random) {
    world.post();
    let shard = random.below(world.cores.len());
    match random.below(5) {
        0 => {
            world.cores[shard].cleanup_one();
        }
        1 => {
            world.cores[shard].drain_one();
            world.cores[shard].feed_one();
        }
        _ => {
            world.deliver(shard);
        }
    }
}

/// A device that publishes numbered messages at QoS 2 and sends again what was not acknowledged.
struct Publisher {
    name: String,
    topic: String,
    client: Option<Client>,
    /// Number of the message that is under way, and how far it is.
    number: u32,
    step: Step,
    done: u32,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Step {
    Idle,
    Published,
    Received,
}

struct Subscriber {
    name: String,
    client: Option<Client>,
    qos: u8,
    /// What has come, by topic.
    got: BTreeMap<String, Vec<u32>>,
    /// QoS 2 ids between PUBLISH and PUBREL: a second copy is not a second message.
    open: Vec<u16>,
}

const TOPICS: usize = 3;

/// The groups, with the QoS of their members; all of them share the topics of all publishers.
const GROUPS: [(&str, u8); 2] = [("$share/twos/t/+", 2), ("$share/ones/t/+", 1)];

fn parse(line: &str) -> Option<(String, u32, u8, u16)> {
    let (topic, rest) = line.split_once('=')?;
    let mut words = rest.split(' ');
    let number = words.next()?.parse().ok()?;
    let qos = words.next()?.strip_prefix('q')?.parse().ok()?;
    let id = words
        .find_map(|word| word.strip_prefix('#'))?
        .parse()
        .ok()?;
    Some((topic.to_owned(), number, qos, id))
}

fn run(seed: u64, events: usize) {
    let mut random = Random(seed);
    let mut world = World::new(1 + random.below(3) as u16, Limits::default());
    let mut publishers: Vec<Publisher> = (0..TOPICS)
        .map(|n| Publisher {
            name: format!("publisher-{n}"),
            topic: format!("t/{n}"),
            client: None,
            number: 0,
            step: Step::Idle,
            done: 0,
        })
        .collect();
    let mut subscribers: Vec<Subscriber> = (0..4)
        .map(|n| Subscriber {
            name: format!("subscriber-{n}"),
            client: None,
            qos: 1 + (n % 2) as u8,
            got: BTreeMap::new(),
            open: Vec::new(),
        })
        .collect();
    for subscriber in &mut subscribers {
        let client = world.attach(connect(&subscriber.name));
        // Some filters overlap: still one copy each.
        world.subscribe(client, "t/+", subscriber.qos);
        if random.one_in(2) {
            world.subscribe(client, "t/1", subscriber.qos);
        }
        subscriber.client = Some(client);
    }
    let mut members: Vec<Subscriber> = (0..6)
        .map(|n| Subscriber {
            name: format!("member-{n}"),
            client: None,
            qos: GROUPS[n % 2].1,
            got: BTreeMap::new(),
            open: Vec::new(),
        })
        .collect();
    for (n, member) in members.iter_mut().enumerate() {
        let client = world.attach(connect(&member.name));
        world.subscribe(client, GROUPS[n % 2].0, member.qos);
        member.client = Some(client);
    }
    world.settle();
    for event in 0..events {
        let is_faulty = event < events / 6 * 5;
        match random.below(13) {
            10 | 11 => step_subscriber(&mut world, &mut members, &mut random, is_faulty),
            12 => step_membership(&mut world, &members, &mut random),
            0..=3 => step_publisher(&mut world, &mut publishers, &mut random, is_faulty),
            4..=6 => step_subscriber(&mut world, &mut subscribers, &mut random, is_faulty),
            _ => step(&mut world, &mut random),
        }
    }
    let listeners = [&mut subscribers, &mut members];
    drain(&mut world, &mut publishers, listeners, &mut random);
    check(&publishers, &subscribers, seed);
    for (n, (filter, _)) in GROUPS.iter().enumerate() {
        let group = members.iter().skip(n).step_by(GROUPS.len());
        check_group(&publishers, group, &format!("seed {seed}: {filter}"));
    }
    for client in publishers.iter().filter_map(|publisher| publisher.client) {
        world.cut(client);
    }
    for client in subscribers
        .iter()
        .chain(&members)
        .filter_map(|subscriber| subscriber.client)
    {
        world.cut(client);
    }
    world.settle();
    world.pass(2_000_000);
    world.assert_empty();
}

fn step_publisher(
    world: &mut World,
    publishers: &mut [Publisher],
    random: &mut Random,
    is_faulty: bool,
) {
    let at = random.below(publishers.len());
    let publisher = &mut publishers[at];
    let topic = publisher.topic.clone();
    let Some(client) = publisher.client else {
        let client = world.attach(connect(&publisher.name));
        publisher.client = Some(client);
        // The client's side of [MQTT-4.4.0-1].
        let number = publisher.number.to_string();
        match publisher.step {
            Step::Idle => {}
            Step::Published => {
                let again = packet(V5, &topic, &number, 2, 1, true, false);
                world.send_some_time(client, &again);
            }
            Step::Received => world.send_some_time(client, &ack(PacketType::PubRel, 1)),
        }
        return;
    };
    if is_faulty && random.one_in(20) {
        world.cut(client);
        publisher.client = None;
        return;
    }
    if publisher.step == Step::Idle {
        publisher.number += 1;
        publisher.step = Step::Published;
        world.send_some_time(
            client,
            &publish(V5, &topic, &publisher.number.to_string(), 2, 1),
        );
    }
    for line in world.read(client) {
        match line.as_str() {
            "pubrec #1" if publisher.step == Step::Published => {
                publisher.step = Step::Received;
                world.send_some_time(client, &ack(PacketType::PubRel, 1));
            }
            "pubcomp #1" if publisher.step == Step::Received => {
                publisher.step = Step::Idle;
                publisher.done = publisher.number;
            }
            "closed" => publisher.client = None,
            _ => {}
        }
    }
}

fn step_subscriber(
    world: &mut World,
    subscribers: &mut [Subscriber],
    random: &mut Random,
    is_faulty: bool,
) {
    let at = random.below(subscribers.len());
    let subscriber = &mut subscribers[at];
    let Some(client) = subscriber.client else {
        subscriber.client = Some(world.attach(connect(&subscriber.name)));
        return;
    };
    for line in world.read(client) {
        if let Some((topic, number, qos, id)) = parse(&line) {
            assert_eq!(qos, subscriber.qos, "{line}");
            let is_new = qos == 1 || !subscriber.open.contains(&id);
            if is_new {
                subscriber.got.entry(topic).or_default().push(number);
            }
            if qos == 2 && is_new {
                subscriber.open.push(id);
            }
            let answer = if qos == 1 {
                PacketType::PubAck
            } else {
                PacketType::PubRec
            };
            // A client that is cut off before it answers gets the message again.
            if is_faulty && random.one_in(10) {
                world.cut(client);
                subscriber.client = None;
                return;
            }
            world.send_some_time(client, &ack(answer, id));
        } else if let Some(id) = line.strip_prefix("pubrel #") {
            let id = id.parse().expect("a number");
            subscriber.open.retain(|open| *open != id);
            world.send_some_time(client, &ack(PacketType::PubComp, id));
        } else if line == "closed" {
            subscriber.client = None;
            return;
        }
    }
    if is_faulty && random.one_in(30) {
        world.cut(client);
        subscriber.client = None;
    }
}

/// A member leaves its group, or joins it again; the first one of each group stays.
fn step_membership(world: &mut World, members: &[Subscriber], random: &mut Random) {
    let at = GROUPS.len() + random.below(members.len() - GROUPS.len());
    let member = &members[at];
    let (filter, qos) = GROUPS[at % GROUPS.len()];
    if let Some(client) = member.client {
        if random.one_in(3) {
            world.unsubscribe(client, filter);
        } else {
            world.subscribe(client, filter, qos);
        }
    }
}

/// No more faults: everything under way has to arrive.
fn drain(
    world: &mut World,
    publishers: &mut [Publisher],
    [subscribers, members]: [&mut Vec<Subscriber>; 2],
    random: &mut Random,
) {
    for _ in 0..2_000 {
        world.settle();
        let under_way = publishers
            .iter()
            .any(|publisher| publisher.step != Step::Idle);
        if under_way {
            // Also begins a new message on an idle one; the loop ends when all are idle at once.
            let at = publishers
                .iter()
                .position(|publisher| publisher.step != Step::Idle);
            let at = at.expect("one is under way");
            step_publisher(
                world,
                std::slice::from_mut(&mut publishers[at]),
                random,
                false,
            );
        }
        step_subscriber(world, subscribers, random, false);
        step_subscriber(world, members, random, false);
    }
}

fn check(publishers: &[Publisher], subscribers: &[Subscriber], seed: u64) {
    for (at, publisher) in publishers.iter().enumerate() {
        assert!(
            publisher.done > 0,
            "seed {seed}: nothing was published on t/{at}"
        );
        let all: Vec<u32> = (1..=publisher.done).collect();
        for subscriber in subscribers {
            let who = format!("seed {seed}: {} on t/{at}", subscriber.name);
            let got = subscriber
                .got
                .get(&format!("t/{at}"))
                .cloned()
                .unwrap_or_default();
            if subscriber.qos == 2 {
                assert_eq!(got, all, "{who}: exactly once and in order");
            } else {
                let mut unique = got.clone();
                unique.dedup();
                unique.sort_unstable();
                unique.dedup();
                assert_eq!(unique, all, "{who}: at least once");
            }
        }
    }
}

/// All that was acknowledged has reached one member of the group, at QoS 2 exactly once.
fn check_group<'a>(
    publishers: &[Publisher],
    members: impl Iterator<Item = &'a Subscriber>,
    who: &str,
) {
    let members: Vec<_> = members.collect();
    for publisher in publishers {
        let all: Vec<u32> = (1..=publisher.done).collect();
        let got = members
            .iter()
            .filter_map(|one| one.got.get(&publisher.topic));
        let mut got: Vec<u32> = got.flatten().copied().collect();
        got.sort_unstable();
        if members.iter().any(|member| member.qos < 2) {
            got.dedup();
        }
        assert_eq!(got, all, "{who} on {}", publisher.topic);
    }
}

#[test]
fn acknowledged_messages_arrive_whatever_the_order_of_the_mail() {
    for seed in 0..30 {
        run(seed, 3_000);
    }
}
