//! What a change costs: subscribe and unsubscribe, alone, on a crowded filter, and beside a reader;
//! and the longest that one insert took on the way to a million filters.

use criterion::{Criterion, criterion_group, criterion_main};
use std::{
    collections::HashMap,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bench_routing::{LIMITS, filter, map_of, topic, workload::fleet};
use topicmap::{Filter, InterestMap, TopicMap};

fn subscribe(c: &mut Criterion) {
    let work = fleet("fleet_1m", 1_000_000);
    let mut map = map_of(&work.filters);
    let fresh: Vec<_> = (0..1 << 14)
        .map(|n| format!("fleet/9/dev/{n}/fresh"))
        .collect();
    let mut group = c.benchmark_group("topicmap/subscribe/fleet_1m");
    let mut next = fresh.iter().cycle();
    group.bench_function("insert_and_remove_with_parsing", |b| {
        b.iter(|| {
            let text = next.next().map_or("", |text| text);
            let Ok(filter) = Filter::parse(black_box(text), &LIMITS) else {
                return false;
            };
            let inserted = map.insert(&filter, 1, 1);
            inserted.first && map.remove_by_id(inserted.filter, 1).is_some()
        });
    });
    group.bench_function("insert_new", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            for _ in 0..iterations {
                let start = Instant::now();
                for text in &fresh {
                    map.insert(&filter(text), 1, 1);
                }
                spent += start.elapsed();
                for text in &fresh {
                    map.remove(&filter(text), 1);
                }
            }
            // What is reported is one insert.
            spent / fresh.len() as u32
        });
    });
    group.finish();

    let mut crowd = TopicMap::new(LIMITS.seed);
    for slot in 0..100_000_u32 {
        crowd.insert(&filter("news/#"), slot * 2, slot);
    }
    let news = filter("news/#");
    let mut slot = 1_u32;
    let mut group = c.benchmark_group("topicmap/subscribe/1_filter_of_100k");
    group.bench_function("insert_and_remove", |b| {
        b.iter(|| {
            slot = ((slot + 7_778) % 200_000) | 1;
            crowd.insert(&news, slot, 1);
            crowd.remove(&news, slot)
        });
    });
    group.finish();
}

/// One thread changes without pause; another asks for masks.
fn storm(c: &mut Criterion) {
    let map = Arc::new(InterestMap::new(LIMITS.seed));
    let work = fleet("fleet_100k", 100_000);
    for (n, text) in work.filters.iter().enumerate() {
        map.add(&filter(text), (n % 16) as u8);
    }
    let parsed: Vec<_> = work.topics.iter().map(|text| topic(text)).collect();
    let mut reader = map.reader();
    let mut group = c.benchmark_group("topicmap/mask/fleet_100k");
    let mut topics = parsed.iter().cycle();
    group.bench_function("alone", |b| {
        b.iter(|| {
            topics
                .next()
                .map_or(0, |topic| reader.mask(black_box(topic)))
        });
    });
    let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let texts: Vec<_> = (0..4096).map(|n| format!("storm/{n}/x")).collect();
            let filters: Vec<_> = texts.iter().map(|text| filter(text)).collect();
            while !stop.load(Ordering::Relaxed) {
                for filter in &filters {
                    map.add(filter, 3);
                }
                for filter in &filters {
                    map.remove(filter, 3);
                }
                changes.fetch_add(2 * 4096, Ordering::Relaxed);
            }
        });
        let (start, before) = (Instant::now(), changes.load(Ordering::Relaxed));
        group.bench_function("beside_a_storm", |b| {
            b.iter(|| {
                topics
                    .next()
                    .map_or(0, |topic| reader.mask(black_box(topic)))
            });
        });
        let done = changes.load(Ordering::Relaxed) - before;
        println!(
            "{:.0} changes a second",
            done as f64 / start.elapsed().as_secs_f64()
        );
        stop.store(true, Ordering::Relaxed);
    });
    group.finish();
}

/// Inserts each filter into a fresh structure, five times over, and tells the longest of the
/// shortest times: what is the structure's own comes at the same insert each time, and what the
/// machine's neighbours do doesn't.
fn worst<T>(name: &str, filters: &[String], new: fn() -> T, insert: fn(&mut T, &str)) -> T {
    let mut times = vec![Duration::MAX; filters.len()];
    let mut last = new();
    for _ in 0..5 {
        last = new();
        for (text, time) in filters.iter().zip(&mut times) {
            let start = Instant::now();
            insert(&mut last, black_box(text));
            *time = start.elapsed().min(*time);
        }
    }
    times.sort_unstable();
    let count = times.len();
    println!(
        "pauses/{name}: mean {:?}, 99.9 % {:?}, 10th worst {:?}, worst {:?}",
        times.iter().sum::<Duration>() / count as u32,
        times[count * 999 / 1000],
        times[count - 10],
        times[count - 1],
    );
    last
}

/// The longest single inserts; not a criterion measurement, since the worst is what counts.
fn pauses(_: &mut Criterion) {
    let work = fleet("fleet_1m", 1_000_000);
    let map = worst(
        "topicmap",
        &work.filters,
        || TopicMap::new(LIMITS.seed),
        |map, text| {
            map.insert(&filter(text), 1, [1_u32, 2]);
        },
    );
    let bytes = map.heap_bytes() as f64 / map.subscription_count() as f64;
    println!("{bytes:.1} bytes a subscription beside its text");
    worst(
        "interest",
        &work.filters,
        || InterestMap::new(LIMITS.seed),
        |map, text| map.add(&filter(text), 1),
    );
    worst("hashmap", &work.filters, HashMap::new, |map, text| {
        map.insert(text.to_owned(), 1_u64);
    });
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1500))
}

criterion_group! { name = benches; config = config(); targets = subscribe, storm, pauses }
criterion_main!(benches);
