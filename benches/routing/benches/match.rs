//! What a match costs: by `TopicMap`, the usual trie, and a scan with `rumqttc`'s `matches`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::{hint::black_box, time::Duration};

use bench_routing::{
    LIMITS, Random, Workload, filter, map_of, sum_of_map, sum_of_trie, topic, trie_of,
    workload::{dense, fleet, hostile, per_device, zipf},
};
use topicmap::{MatchCache, Stamps, Topic};

/// Filters up to which a scan of all is measured, and is checked topic by topic.
const SCAN_MAX: usize = 100_000;

fn sum_of_scan(filters: &[String], topic: &str) -> u64 {
    let hits = filters.iter().zip(1_u64..);
    hits.filter(|(filter, _)| rumqttc::matches(topic, filter))
        .map(|(_, n)| n)
        .sum()
}

fn check(work: &Workload, what: &str, sums: impl Iterator<Item = (u64, u64)>) {
    for (at, (one, other)) in sums.enumerate() {
        assert_eq!(
            one, other,
            "{}: {what} differs at {}",
            work.name, work.topics[at]
        );
    }
}

fn matches(c: &mut Criterion) {
    let sets = [
        fleet("fleet_100k", 100_000),
        fleet("fleet_1m", 1_000_000),
        per_device("per_device_100k", 100_000),
        per_device("per_device_1m", 1_000_000),
        dense("dense_10k", 10_000),
        hostile("hostile_5k", 5_000),
    ];
    for work in &sets {
        let mut group = c.benchmark_group(format!("topicmap/match/{}", work.name));
        group.throughput(Throughput::Elements(1));
        let map = map_of(&work.filters);
        let parsed: Vec<_> = work.topics.iter().map(|text| topic(text)).collect();
        let trie = trie_of(&work.filters);
        let ours = parsed.iter().map(|topic| sum_of_map(&map, topic));
        let theirs = work.topics.iter().map(|text| sum_of_trie(&trie, text));
        check(work, "the trie", ours.zip(theirs));
        let some = work.topics.iter().step_by(work.topics.len() / 8);
        let pairs = some.map(|text| {
            (
                sum_of_map(&map, &topic(text)),
                sum_of_scan(&work.filters, text),
            )
        });
        check(work, "the scan", pairs);

        let mut texts = work.topics.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter("topicmap_with_parsing"), |b| {
            b.iter(|| {
                let text = texts.next().map_or("", |text| text);
                Topic::parse(black_box(text), &LIMITS).map_or(0, |topic| sum_of_map(&map, &topic))
            });
        });
        let mut topics = parsed.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter("topicmap"), |b| {
            b.iter(|| {
                topics
                    .next()
                    .map_or(0, |topic| sum_of_map(&map, black_box(topic)))
            });
        });
        drop(map);
        let mut texts = work.topics.iter().cycle();
        group.bench_function(BenchmarkId::from_parameter("hashmap_trie"), |b| {
            b.iter(|| {
                texts
                    .next()
                    .map_or(0, |text| sum_of_trie(&trie, black_box(text)))
            });
        });
        if work.filters.len() <= SCAN_MAX {
            let mut texts = work.topics.iter().cycle();
            group.sample_size(10);
            group.bench_function(BenchmarkId::from_parameter("rumqttc_scan"), |b| {
                b.iter(|| {
                    let text = texts.next().map_or("", |text| text);
                    sum_of_scan(&work.filters, black_box(text))
                });
            });
        }
        group.finish();
    }
}

/// Topics by Zipf's law through a cache that holds a tenth of them, beside no cache.
fn cached(c: &mut Criterion) {
    let work = fleet("fleet_100k", 100_000);
    let map = map_of(&work.filters);
    let parsed: Vec<_> = work.topics.iter().map(|text| topic(text)).collect();
    let draws = zipf(parsed.len(), 1 << 16);
    let stamps = Stamps::with_seed(LIMITS.seed);
    let mut cache = MatchCache::new(2048);
    let (mut hits, mut asked) = (0_u64, 0_u64);
    let mut ask = |at: usize| {
        let topic = &parsed[at];
        let stamp = stamps.observe(topic);
        asked += 1;
        if let Some(sum) = cache.get(topic, stamp) {
            hits += 1;
            return *sum;
        }
        *cache.insert(topic, stamp, sum_of_map(&map, topic))
    };
    for at in &draws {
        assert_eq!(ask(*at), sum_of_map(&map, &parsed[*at]));
    }
    let mut group = c.benchmark_group("topicmap/zipf/16k_topics");
    group.throughput(Throughput::Elements(1));
    let mut order = draws.iter().copied().cycle();
    group.bench_function("cache_of_2048", |b| {
        b.iter(|| ask(black_box(order.next().unwrap_or_default())));
    });
    let mut order = draws.iter().copied().cycle();
    group.bench_function("no_cache", |b| {
        b.iter(|| sum_of_map(&map, &parsed[black_box(order.next().unwrap_or_default())]));
    });
    group.finish();
    println!("of {asked} asked, {hits} came from the cache");

    let mut cache = MatchCache::new(1024);
    for topic in &parsed[..512] {
        cache.insert(topic, stamps.observe(topic), 1_u64);
    }
    let mut group = c.benchmark_group("topicmap/cached/512_topics");
    let mut order = parsed[..512].iter().cycle();
    group.bench_function("topicmap", |b| {
        b.iter(|| {
            let topic = order.next().expect("endless");
            cache.get(topic, stamps.observe(topic)).copied()
        });
    });
    group.finish();
    assert!(rumqttc::matches("a/b", "a/+") && filter("a/+").matches(&topic("a/b")));
}

/// What the memory alone costs: two reads, the second where the first says, in as much memory as
/// a million filters take. A hit among them can't cost less.
fn floor(c: &mut Criterion) {
    const WORDS: usize = 64 << 20 >> 3;
    let mut random = Random(29);
    let table: Vec<u64> = (0..WORDS).map(|_| random.below(WORDS) as u64).collect();
    let mut group = c.benchmark_group("topicmap/floor/64_mib");
    for reads in [1, 2, 3] {
        let mut at = 0_usize;
        group.bench_function(format!("{reads}_dependent_reads"), |b| {
            b.iter(|| {
                // Where to begin depends on the last answer, so that iterations don't overlap.
                let first = random.below(WORDS) ^ (at & 1);
                at = (0..reads).fold(first, |at, _| table[at % WORDS] as usize);
                at
            });
        });
    }
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(1500))
}

criterion_group! { name = benches; config = config(); targets = floor, matches, cached }
criterion_main!(benches);
