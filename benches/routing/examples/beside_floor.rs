//! What a match costs beside what the memory alone costs, by turns.
//!
//! Each round matches all topics of a set once, then makes as many random reads in 64 MiB: one,
//! two and three that depend on each other. So a match finds the near caches full of something
//! else, and a machine that changes its pace changes it for both. Prints medians in nanoseconds.
//! A word on the command line chooses the sets whose name has it.
//!
//! ```text
//! cargo run --release -p bench-routing --example beside_floor
//! ```

use std::{hint::black_box, time::Instant};

use bench_routing::{
    Random, map_of, sum_of_map, topic,
    workload::{fleet, per_device},
};

const ROUNDS: usize = 60;
const WORDS: usize = 64 << 20 >> 3;

/// Nanoseconds an operation.
fn timed(count: usize, work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos() as f64 / count as f64
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn main() {
    let only = std::env::args().nth(1).unwrap_or_default();
    let sets = [
        fleet("fleet_100k", 100_000),
        fleet("fleet_1m", 1_000_000),
        per_device("per_device_100k", 100_000),
        per_device("per_device_1m", 1_000_000),
    ];
    let mut random = Random(29);
    let table: Vec<u64> = (0..WORDS).map(|_| random.below(WORDS) as u64).collect();
    for work in sets.iter().filter(|work| work.name.contains(&only)) {
        let map = map_of(&work.filters);
        let topics: Vec<_> = work.topics.iter().map(|text| topic(text)).collect();
        let mut times = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            times[0].push(timed(topics.len(), || {
                for topic in &topics {
                    black_box(sum_of_map(&map, black_box(topic)));
                }
            }));
            for (reads, times) in times.iter_mut().enumerate().skip(1) {
                times.push(timed(topics.len(), || {
                    let mut at = 0;
                    for _ in 0..topics.len() {
                        // Where to begin depends on the last answer, so that reads don't overlap.
                        let first = random.below(WORDS) ^ (at & 1);
                        at = (0..reads).fold(first, |at, _| table[at % WORDS] as usize);
                    }
                    black_box(at);
                }));
            }
        }
        let [matches, one, two, three] = times.map(median);
        println!(
            "{:16} match {matches:4.0}   1, 2, 3 dependent reads {one:4.0} {two:4.0} {three:4.0}",
            work.name
        );
    }
}
