//! Random clients on several shards, mail delivered in random order, connections cut at random.
//! What was acknowledged must reach every persistent subscriber, at QoS 2 exactly once, in order.

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
    world.settle();
    for event in 0..events {
        let is_faulty = event < events / 6 * 5;
        match random.below(10) {
            0..=3 => step_publisher(&mut world, &mut publishers, &mut random, is_faulty),
            4..=6 => step_subscriber(&mut world, &mut subscribers, &mut random, is_faulty),
            _ => step(&mut world, &mut random),
        }
    }
    drain(&mut world, &mut publishers, &mut subscribers, &mut random);
    check(&publishers, &subscribers, seed);
    for client in publishers.iter().filter_map(|publisher| publisher.client) {
        world.cut(client);
    }
    for client in subscribers
        .iter()
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
                world.send(client, &again);
            }
            Step::Received => world.send(client, &ack(PacketType::PubRel, 1)),
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
        world.send(
            client,
            &publish(V5, &topic, &publisher.number.to_string(), 2, 1),
        );
    }
    for line in world.read(client) {
        match line.as_str() {
            "pubrec #1" if publisher.step == Step::Published => {
                publisher.step = Step::Received;
                world.send(client, &ack(PacketType::PubRel, 1));
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
            world.send(client, &ack(answer, id));
        } else if let Some(id) = line.strip_prefix("pubrel #") {
            let id = id.parse().expect("a number");
            subscriber.open.retain(|open| *open != id);
            world.send(client, &ack(PacketType::PubComp, id));
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

/// No more faults: everything under way has to arrive.
fn drain(
    world: &mut World,
    publishers: &mut [Publisher],
    subscribers: &mut [Subscriber],
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

#[test]
fn acknowledged_messages_arrive_whatever_the_order_of_the_mail() {
    for seed in 0..30 {
        run(seed, 3_000);
    }
}
