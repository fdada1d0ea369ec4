//! Random clients on several shards, mail delivered in random order, connections cut at random.
//! What was acknowledged must reach every persistent subscriber, at QoS 2 exactly once, in order.

use std::collections::BTreeMap;

use mqtt_codec::PacketType;

use super::site::Site;
use super::world::{World, ack, connect, packet};
use super::{V5, publish};
use crate::config::Limits;

/// Where the clients live: bare cores, or the whole broker on a simulated network.
pub(super) trait Net {
    type Client: Copy;

    fn attach(&mut self, name: &str) -> Self::Client;
    fn send(&mut self, client: Self::Client, bytes: &[u8]);
    fn subscribe(&mut self, client: Self::Client, filter: &str, qos: u8);
    /// What has come, one line a packet; "closed" at the end.
    fn read(&mut self, client: Self::Client) -> Vec<String>;
    /// The network loses the connection.
    fn cut(&mut self, client: Self::Client);
    /// Something happens in the broker.
    fn step(&mut self, random: &mut Random);
    /// Everything that can happen now happens.
    fn settle(&mut self);
    /// Faults from now on.
    fn harm(&mut self);
    /// No more faults.
    fn heal(&mut self);
    /// Everybody has gone and time has passed: nothing may be left.
    fn finish(&mut self);
}

impl Net for World {
    type Client = super::world::Client;

    fn attach(&mut self, name: &str) -> Self::Client {
        Self::attach(self, connect(name))
    }

    fn send(&mut self, client: Self::Client, bytes: &[u8]) {
        Self::send(self, client, bytes);
    }

    fn subscribe(&mut self, client: Self::Client, filter: &str, qos: u8) {
        Self::subscribe(self, client, filter, qos);
    }

    fn read(&mut self, client: Self::Client) -> Vec<String> {
        Self::read(self, client)
    }

    fn cut(&mut self, client: Self::Client) {
        Self::cut(self, client);
    }

    fn step(&mut self, random: &mut Random) {
        self.post();
        let shard = random.below(self.cores.len());
        match random.below(5) {
            0 => {
                self.cores[shard].cleanup_one();
            }
            1 => {
                self.cores[shard].drain_one();
            }
            _ => {
                self.deliver(shard);
            }
        }
    }

    fn settle(&mut self) {
        Self::settle(self);
    }

    fn harm(&mut self) {}

    fn heal(&mut self) {}

    fn finish(&mut self) {
        self.pass(2_000_000);
        self.assert_empty();
    }
}

/// A small generator (splitmix64): the same seed is the same run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.next().is_multiple_of(n)
    }
}

/// A device that publishes numbered messages at QoS 2 and sends again what was not acknowledged.
struct Publisher<C> {
    name: String,
    topic: String,
    client: Option<C>,
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

struct Subscriber<C> {
    name: String,
    client: Option<C>,
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

fn run<N: Net>(seed: u64, events: usize, make: impl FnOnce(&mut Random) -> N) {
    let mut random = Random(seed);
    let mut world = make(&mut random);
    let mut publishers: Vec<Publisher<N::Client>> = (0..TOPICS)
        .map(|n| Publisher {
            name: format!("publisher-{n}"),
            topic: format!("t/{n}"),
            client: None,
            number: 0,
            step: Step::Idle,
            done: 0,
        })
        .collect();
    let mut subscribers: Vec<Subscriber<N::Client>> = (0..4)
        .map(|n| Subscriber {
            name: format!("subscriber-{n}"),
            client: None,
            qos: 1 + (n % 2) as u8,
            got: BTreeMap::new(),
            open: Vec::new(),
        })
        .collect();
    for subscriber in &mut subscribers {
        let client = world.attach(&subscriber.name);
        // Some filters overlap: still one copy each.
        world.subscribe(client, "t/+", subscriber.qos);
        if random.one_in(2) {
            world.subscribe(client, "t/1", subscriber.qos);
        }
        subscriber.client = Some(client);
    }
    world.settle();
    world.harm();
    for event in 0..events {
        let is_faulty = event < events / 6 * 5;
        match random.below(10) {
            0..=3 => step_publisher(&mut world, &mut publishers, &mut random, is_faulty),
            4..=6 => step_subscriber(&mut world, &mut subscribers, &mut random, is_faulty),
            _ => world.step(&mut random),
        }
    }
    world.heal();
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
    world.finish();
}

fn step_publisher<N: Net>(
    world: &mut N,
    publishers: &mut [Publisher<N::Client>],
    random: &mut Random,
    is_faulty: bool,
) {
    let at = random.below(publishers.len());
    let publisher = &mut publishers[at];
    let topic = publisher.topic.clone();
    let Some(client) = publisher.client else {
        let client = world.attach(&publisher.name);
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

fn step_subscriber<N: Net>(
    world: &mut N,
    subscribers: &mut [Subscriber<N::Client>],
    random: &mut Random,
    is_faulty: bool,
) {
    let at = random.below(subscribers.len());
    let subscriber = &mut subscribers[at];
    let Some(client) = subscriber.client else {
        subscriber.client = Some(world.attach(&subscriber.name));
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
fn drain<N: Net>(
    world: &mut N,
    publishers: &mut [Publisher<N::Client>],
    subscribers: &mut [Subscriber<N::Client>],
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

fn check<C>(publishers: &[Publisher<C>], subscribers: &[Subscriber<C>], seed: u64) {
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

/// How many runs: 30, or what `AXMQ_STORM_SEEDS` says for a longer one by hand.
fn seeds() -> u64 {
    std::env::var("AXMQ_STORM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(30)
}

#[test]
fn acknowledged_messages_arrive_whatever_the_order_of_the_mail() {
    for seed in 0..seeds() {
        run(seed, 3_000, |random| {
            World::new(1 + random.below(3) as u16, Limits::default())
        });
    }
}

#[test]
fn acknowledged_messages_arrive_over_a_network_that_misbehaves() {
    for seed in 0..seeds() {
        run(seed, 3_000, |random| {
            let shards = 1 + random.below(3) as u16;
            Site::new(random.next(), shards)
        });
    }
}
