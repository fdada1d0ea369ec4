//! What a match costs on the sets of filters that matter, by shapes and by the tree of prefixes.
//!
//! Each contender is first checked to find the same number of subscriptions. Prints nanoseconds a
//! match, parsing of the topic included, and with the topic parsed before; best of several rounds.
//! A word on the command line chooses the sets whose name has it.
//!
//! ```text
//! cargo run --release -p topicmap --example match_cost
//! ```

use std::{
    collections::HashMap,
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use topicmap::{Filter, Limits, Stamps, Topic, TopicMap};

const LIMITS: Limits = Limits {
    levels_max: 128,
    bytes_max: u16::MAX,
    seed: 0xFEED_5EED_0BAD_F00D,
};
const ROUNDS: usize = 15;
const BLOCK: usize = 128;
const TOPICS: usize = 1 << 14;

/// A repeatable generator; not a good one, but good enough to draw names with.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % bound
    }
}

/// The design that most brokers have: a hash map of children in every node.
#[derive(Default)]
struct Trie {
    children: HashMap<String, Self>,
    plus: Option<Box<Self>>,
    here: Vec<u32>,
    hash: Vec<u32>,
}

impl Trie {
    fn insert(&mut self, filter: &str, subscriber: u32) {
        let mut node = self;
        for level in filter.split('/') {
            match level {
                "#" => {
                    node.hash.push(subscriber);
                    return;
                }
                "+" => node = node.plus.get_or_insert_default(),
                level => node = node.children.entry(level.to_owned()).or_default(),
            }
        }
        node.here.push(subscriber);
    }

    fn for_each_match(&self, levels: &[&str], root: bool, visit: &mut impl FnMut(u32)) {
        let wild = !(root && levels.first().is_some_and(|level| level.starts_with('$')));
        if wild {
            self.hash.iter().for_each(|subscriber| visit(*subscriber));
        }
        let Some((first, rest)) = levels.split_first() else {
            self.here.iter().for_each(|subscriber| visit(*subscriber));
            return;
        };
        if let Some(child) = self.children.get(*first) {
            child.for_each_match(rest, false, visit);
        }
        if let (true, Some(plus)) = (wild, &self.plus) {
            plus.for_each_match(rest, false, visit);
        }
    }
}

struct Workload {
    name: &'static str,
    filters: Vec<String>,
    topics: Vec<String>,
}

fn fleet(name: &'static str, devices: usize, wild_every: usize) -> Workload {
    let mut random = Random(7);
    let commands = ["cmd", "config", "firmware", "ping"];
    let filters = (0..devices).map(|n| {
        let (region, device) = (n % 50, n / 4);
        match (n % wild_every, n % 7) {
            (0, 0) => format!("fleet/{region}/+/{device}/state"),
            (0, 1) => format!("fleet/{region}/dev/{device}/#"),
            (0, 2) => format!("fleet/+/dev/{device}/event/+"),
            (0, 3) => format!("alerts/{device}/+"),
            (0, 4) => format!("fleet/{region}/dev/+/{device}"),
            (0, 5) => format!("+/{region}/dev/{device}/log"),
            (0, _) => format!("site/+/+/{device}/#"),
            _ => format!("fleet/{region}/dev/{device}/{}", commands[n % 4]),
        }
    });
    let filters = filters.collect();
    let topics = (0..TOPICS).map(|_| {
        let n = random.below(devices);
        let what = ["cmd", "state", "event/open", "log", "telemetry"][random.below(5)];
        format!("fleet/{}/dev/{}/{what}", n % 50, n / 4)
    });
    Workload {
        name,
        filters,
        topics: topics.collect(),
    }
}

fn dense(name: &'static str, count: usize) -> Workload {
    let mut random = Random(9);
    let level = |random: &mut Random, wild: bool| {
        let names = ["alpha", "beta", "gamma", "delta", "epsilon"];
        if wild && random.below(2) == 0 {
            "+"
        } else {
            names[random.below(5)]
        }
    };
    let mut name_of = |wild| {
        (0..4)
            .map(|_| level(&mut random, wild))
            .collect::<Vec<_>>()
            .join("/")
    };
    let filters = (0..count).map(|_| name_of(true)).collect();
    let topics = (0..TOPICS).map(|_| name_of(false)).collect();
    Workload {
        name,
        filters,
        topics,
    }
}

fn exact(name: &'static str, count: usize) -> Workload {
    let mut random = Random(11);
    let filters = (0..count).map(|n| format!("plant/{}/line/{}/sensor/{n}", n % 100, n % 977));
    let filters = filters.collect();
    let topics = (0..TOPICS).map(|_| {
        let n = random.below(count);
        format!("plant/{}/line/{}/sensor/{n}x", n % 100, n % 977)
    });
    Workload {
        name,
        filters,
        topics: topics.collect(),
    }
}

fn per_device(name: &'static str, count: usize) -> Workload {
    let mut random = Random(13);
    let filters = (0..count).map(|n| match n % 2 {
        0 => format!("devices/{n}/#"),
        _ => format!("devices/{n}/+/set"),
    });
    let filters = filters.collect();
    let topics = (0..TOPICS).map(|_| format!("devices/{}/heat/set", random.below(count)));
    Workload {
        name,
        filters,
        topics: topics.collect(),
    }
}

fn hostile(name: &'static str, count: usize, topic_of: fn(usize) -> String) -> Workload {
    let mut random = Random(17);
    let filters = (0..count).map(|n| {
        let levels = (0..17).map(|_| if random.below(2) == 0 { "+" } else { "a" });
        levels.collect::<Vec<_>>().join("/") + &format!("/z{n}")
    });
    let filters = filters.collect();
    Workload {
        name,
        filters,
        topics: (0..64).map(topic_of).collect(),
    }
}

/// Nanoseconds a call of `f` with each topic: the sum over blocks of topics of the best time of
/// each, so that a neighbour on the machine spoils a block of a round and not the figure.
fn best<T>(topics: &[T], mut f: impl FnMut(&T) -> usize) -> (f64, usize) {
    let mut bests = vec![u128::MAX; topics.len().div_ceil(BLOCK)];
    let mut hits = 0;
    for _ in 0..ROUNDS {
        hits = 0;
        for (block, best) in topics.chunks(BLOCK).zip(&mut bests) {
            let start = Instant::now();
            hits += block.iter().map(&mut f).sum::<usize>();
            *best = start.elapsed().as_nanos().min(*best);
        }
    }
    (
        bests.iter().sum::<u128>() as f64 / topics.len() as f64,
        hits,
    )
}

fn count(map: &TopicMap<u32>, topic: &Topic<'_>) -> usize {
    let mut hits = 0;
    map.for_each_match(topic, |_, _, value| {
        hits += usize::from(black_box(*value) != u32::MAX);
    });
    hits
}

fn run(work: &Workload, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{} ({} filters)", work.name, work.filters.len())?;
    let parsed: Vec<_> = work
        .topics
        .iter()
        .filter_map(|text| Topic::parse(text, &LIMITS).ok())
        .collect();
    let mut expected = None;
    for (name, shapes) in [("shapes", 64), ("prefixes", 0)] {
        let start = Instant::now();
        let mut map = TopicMap::with_shapes_max(LIMITS.seed, shapes);
        for (n, text) in work.filters.iter().enumerate() {
            if let Ok(filter) = Filter::parse(text, &LIMITS) {
                map.insert(&filter, n as u32, n as u32);
            }
        }
        let insert = start.elapsed().as_nanos() as f64 / work.filters.len() as f64;
        let (whole, hits) = best(&work.topics, |text| {
            Topic::parse(text, &LIMITS).map_or(0, |topic| count(&map, &topic))
        });
        let (alone, _) = best(&parsed, |topic| count(&map, topic));
        assert_eq!(*expected.get_or_insert(hits), hits, "the contenders differ");
        let bytes = map.heap_bytes() as f64 / map.subscription_count() as f64;
        let each = hits as f64 / work.topics.len() as f64;
        writeln!(
            out,
            "  {name:9} {whole:10.1} ns with parsing, {alone:10.1} alone, {each:8.2} hits, \
             insert {insert:6.0} ns, {bytes:5.1} B"
        )?;
    }
    let mut trie = Trie::default();
    for (n, text) in work.filters.iter().enumerate() {
        trie.insert(text, n as u32);
    }
    let (whole, hits) = best(&work.topics, |text| {
        let (mut hits, levels) = (0, text.split('/').collect::<Vec<_>>());
        trie.for_each_match(&levels, true, &mut |value| {
            hits += usize::from(black_box(value) != u32::MAX);
        });
        hits
    });
    assert_eq!(expected, Some(hits), "the contenders differ");
    writeln!(out, "  {:9} {whole:10.1} ns with splitting", "map trie")
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for work in [
        fleet("fleet, 1 in 20 with wildcards", 100_000, 20),
        fleet("fleet, 1 in 20 with wildcards", 1_000_000, 20),
        exact("exact only, no hit", 1_000_000),
        per_device("wildcards for every device", 100_000),
        per_device("wildcards for every device", 1_000_000),
        dense("dense wildcards", 10_000),
        hostile("hostile shapes, harmless topics", 5_000, |n| {
            format!("plant/{n}/{}", "b/".repeat(16))
        }),
        hostile("hostile shapes, hostile topics", 5_000, |n| {
            format!("{}y{n}", "a/".repeat(17))
        }),
    ]
    .iter()
    .filter(|work| work.name.contains(&wanted))
    {
        run(work, &mut out)?;
    }
    let topics: Vec<_> = (0..TOPICS)
        .map(|n| format!("fleet/{}/dev/{n}/telemetry", n % 50))
        .collect();
    let (parse, _) = best(&topics, |text| {
        Topic::parse(black_box(text), &LIMITS).map_or(0, |topic| topic.hash() as usize & 1)
    });
    let stamps = Stamps::with_seed(LIMITS.seed);
    let mut cache = topicmap::MatchCache::new(1024);
    let hot: Vec<_> = topics[..512]
        .iter()
        .filter_map(|t| Topic::parse(t, &LIMITS).ok())
        .collect();
    for topic in &hot {
        cache.insert(topic, stamps.observe(topic), 1);
    }
    let (cached, _) = best(&hot, |topic| {
        cache
            .get(topic, stamps.observe(topic))
            .copied()
            .unwrap_or_default()
    });
    writeln!(out, "\nparse {parse:.1} ns, cached answer {cached:.1} ns")
}
