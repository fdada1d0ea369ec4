//! What it costs to know whom a message goes to: one filter with 100,000 subscribers, overlapping
//! filters, and a member of a shared group.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::{collections::BTreeMap, hint::black_box, time::Duration};

use bench_routing::{LIMITS, Random, filter, topic};
use topicmap::{Deliveries, DeliveryOptions, SharedGroup, Strategy, Topic, TopicMap};

#[derive(Clone, Copy)]
struct Options {
    identifier: u32,
    qos: u8,
}

impl DeliveryOptions for Options {
    fn qos(&self) -> u8 {
        self.qos
    }

    fn identifier(&self) -> u32 {
        self.identifier
    }
}

/// As most brokers do it: a map of those who were seen already.
fn by_map(map: &TopicMap<Options>, topic: &Topic<'_>) -> BTreeMap<u32, (u8, Vec<u32>)> {
    let mut all: BTreeMap<u32, (u8, Vec<u32>)> = BTreeMap::new();
    map.for_each_match(topic, |_, slot, options| {
        let (qos, ids) = all.entry(slot).or_default();
        *qos = (*qos).max(options.qos);
        ids.push(options.identifier);
    });
    all
}

/// As our broker did it: sort, then merge neighbours.
fn by_sort(matches: &mut Vec<(u32, Options)>, map: &TopicMap<Options>, topic: &Topic<'_>) -> u64 {
    matches.clear();
    map.for_each_match(topic, |_, slot, options| matches.push((slot, *options)));
    matches.sort_by_key(|(slot, _)| *slot);
    let (mut targets, mut identifiers) = (Vec::new(), Vec::new());
    for group in matches.chunk_by(|one, other| one.0 == other.0) {
        let at = identifiers.len() as u32;
        let mut target = (group[0].0, at, group.len() as u16, 0);
        for (_, options) in group {
            target.3 = options.qos.max(target.3);
            identifiers.push(options.identifier);
        }
        targets.push(target);
    }
    let each = |(slot, at, len, qos): &(u32, u32, u16, u8)| {
        let ids = &identifiers[*at as usize..][..usize::from(*len)];
        u64::from(*slot) + u64::from(*qos) + ids.iter().copied().map(u64::from).sum::<u64>()
    };
    targets.iter().map(each).sum()
}

fn sum(deliveries: &Deliveries<Options>) -> u64 {
    let each = |target| {
        let target: &topicmap::Target = target;
        let ids: u64 = deliveries
            .identifiers(target)
            .iter()
            .copied()
            .map(u64::from)
            .sum();
        u64::from(target.qos) + ids + u64::from(target.slot)
    };
    deliveries.targets().iter().map(each).sum()
}

fn overlaps(c: &mut Criterion) {
    let four = ["news/#", "news/+", "+/today", "news/today"].map(str::to_owned);
    // Ten levels with one topic, and as many filters as wanted that match it.
    let deep = |count: usize| -> Vec<_> {
        let level = |n: usize, at: usize| if n >> at & 1 == 1 { "+" } else { "a" };
        let text = |n| (0..10).map(|at| level(n, at)).collect::<Vec<_>>().join("/");
        (0..count).map(text).collect()
    };
    for (name, filters, each) in [
        ("1_filter_of_100k", vec!["news/#".to_owned()], 100_000),
        ("4_filters_of_25k", four.to_vec(), 25_000),
        ("4_filters_of_100", four.to_vec(), 100),
        ("4_filters_of_4", four.to_vec(), 4),
        ("16_filters_of_6k", deep(16), 6_000),
        ("64_filters_of_1500", deep(64), 1_500),
        ("1000_filters_of_100", deep(1000), 100),
    ] {
        let mut random = Random(5);
        let mut map = TopicMap::new(LIMITS.seed);
        for text in &filters {
            for _ in 0..each {
                let options = Options {
                    identifier: 7,
                    qos: random.below(3) as u8,
                };
                map.insert(&filter(text), random.below(200_000) as u32, options);
            }
        }
        let name_of_all = if filters.len() > 4 {
            "a/a/a/a/a/a/a/a/a/a"
        } else {
            "news/today"
        };
        let today = topic(name_of_all);
        let mut deliveries = Deliveries::new();
        deliveries.compute(&map, &today);
        let mut matches = Vec::new();
        let expected = by_map(&map, &today);
        let of_map: u64 = expected
            .iter()
            .map(|(slot, (qos, ids))| {
                let ids: u64 = ids.iter().copied().map(u64::from).sum();
                u64::from(*slot) + u64::from(*qos) + ids
            })
            .sum();
        assert_eq!(deliveries.targets().len(), expected.len());
        assert_eq!(sum(&deliveries), of_map);
        assert_eq!(by_sort(&mut matches, &map, &today), of_map);

        let mut group = c.benchmark_group(format!("topicmap/deliver/{name}"));
        group.throughput(Throughput::Elements(map.subscription_count() as u64));
        group.bench_function("deliveries", |b| {
            b.iter(|| {
                deliveries.compute(&map, black_box(&today));
                sum(&deliveries)
            });
        });
        group.bench_function("sort_and_merge", |b| {
            b.iter(|| by_sort(&mut matches, &map, black_box(&today)));
        });
        group.bench_function("btreemap", |b| {
            b.iter(|| by_map(&map, black_box(&today)).len())
        });
        group.finish();
    }
}

fn shares(c: &mut Criterion) {
    let mut group = c.benchmark_group("topicmap/share/1000_members");
    for strategy in [
        Strategy::RoundRobin,
        Strategy::Random,
        Strategy::Sticky,
        Strategy::PublisherHash,
        Strategy::LeastQueued,
    ] {
        let mut members = SharedGroup::new(strategy, 7);
        for member in 0..1000_u32 {
            members.join(member, true);
        }
        let mut publisher = 0_u64;
        group.bench_function(format!("{strategy:?}"), |b| {
            b.iter(|| {
                publisher = publisher.wrapping_add(0x9E37_79B9_7F4A_7C15);
                members.pick(publisher, |member| *member as usize % 7 + 1)
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
}

criterion_group! { name = benches; config = config(); targets = overlaps, shares }
criterion_main!(benches);
