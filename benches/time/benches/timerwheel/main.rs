//! A server's timers: one a connection, reset all the time, hardly ever expiring.

mod contenders;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use contenders::{Delay, HashWheel, Heap, Timers, Tree, Wheel};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use timerwheel::{Policy, TimerWheel};

/// The longest delay, in ticks.
const DELAY_MAX: u64 = 60_000;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn delay(&mut self) -> u64 {
        1 + self.next() % DELAY_MAX
    }
}

fn shuffled(count: usize) -> Vec<u32> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut ids: Vec<u32> = (0..count as u32).collect();
    for n in (1..count).rev() {
        ids.swap(n, random.next() as usize % (n + 1));
    }
    ids
}

fn filled<T: Timers>(count: usize) -> T {
    let mut random = Random(88_172_645_463_325_252);
    let mut timers = T::new(count);
    for id in 0..count as u32 {
        timers.insert(id, random.delay());
    }
    timers
}

/// What a contender answers to a script: the connections that expire, tick by tick.
fn answers<T: Timers>(lateness_max: u64) -> Vec<(u64, Vec<u32>)> {
    let mut random = Random(3);
    let mut timers = T::new(100);
    let mut deadlines = vec![None; 100];
    let mut answers = Vec::new();
    for tick in 1..2000 {
        for _ in 0..3 {
            let id = random.next() as usize % 100;
            let deadline = tick + 1 + random.next() % 300;
            match (deadlines[id], random.next() % 4) {
                (None, _) => {
                    timers.insert(id as u32, deadline);
                    deadlines[id] = Some(deadline);
                }
                (Some(_), 0) => {
                    timers.cancel(id as u32);
                    deadlines[id] = None;
                }
                (Some(old), _) if deadline > old => {
                    timers.touch(id as u32, deadline);
                    deadlines[id] = Some(deadline);
                }
                _ => {}
            }
        }
        let mut due = Vec::new();
        timers.expire(tick + 1, &mut due);
        due.sort_unstable();
        for id in &due {
            let deadline = deadlines[*id as usize].take().expect("it was armed");
            assert!(deadline <= tick + 1, "early");
            assert!(tick + 1 - deadline <= lateness_max, "late");
        }
        answers.push((tick, due));
    }
    answers
}

fn check(_: &mut Criterion) {
    let ours = answers::<Wheel<false>>(1);
    assert_eq!(ours, answers::<Delay>(1));
    assert_eq!(ours, answers::<HashWheel>(1));
    assert_eq!(ours, answers::<Tree>(1));
    assert_eq!(ours, answers::<Heap>(1));
    // Late as it may be: by a sixteenth of the delay that it was inserted with.
    answers::<Wheel<true>>(1 + 301 / 16);
}

/// Times whole rounds of `count` operations, each on a structure of its own, and answers what
/// `iters` operations would have taken.
fn in_rounds<S>(
    iters: u64,
    count: usize,
    mut set_up: impl FnMut() -> S,
    mut op: impl FnMut(&mut S, usize),
) -> Duration {
    let rounds = iters.div_ceil(count as u64);
    let mut total = Duration::ZERO;
    for _ in 0..rounds {
        let mut state = set_up();
        let start = Instant::now();
        for n in 0..count {
            op(&mut state, n);
        }
        total += start.elapsed();
    }
    total.mul_f64(iters as f64 / (rounds * count as u64) as f64)
}

fn insert<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let ids = shuffled(count);
    let mut random = Random(5);
    let delays: Vec<u64> = (0..count).map(|_| random.delay()).collect();
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            in_rounds(
                iters,
                count,
                || {
                    // Warm: as many timers as are to come have been there and are gone.
                    let mut timers = filled::<T>(count);
                    for id in 0..count as u32 {
                        timers.cancel(id);
                    }
                    timers
                },
                |timers, n| timers.insert(ids[n], delays[n]),
            )
        });
    });
}

fn cancel<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let ids = shuffled(count);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            in_rounds(
                iters,
                count,
                || filled::<T>(count),
                |timers, n| timers.cancel(ids[n]),
            )
        });
    });
}

fn touch<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let ids = shuffled(count);
    let mut timers = filled::<T>(count);
    let (mut deadline, mut n) = (DELAY_MAX, 0);
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            n += 1;
            if n == count {
                n = 0;
                deadline += 1;
            }
            timers.touch(black_box(ids[n]), deadline);
        });
    });
}

/// One operation is a cancel and an insert; time goes on so that about one timer expires in a
/// hundred operations, and is inserted again.
fn churn<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let mut random = Random(7);
    let mut timers = filled::<T>(count);
    let (mut tick, mut left, mut due) = (0, 300, Vec::new());
    group.bench_function(name, |bencher| {
        bencher.iter(|| {
            let id = (random.next() % count as u64) as u32;
            timers.cancel(id);
            timers.insert(id, tick + random.delay());
            left -= 1;
            if left == 0 {
                left = 300;
                tick += 1;
                timers.expire(tick, &mut due);
                for id in due.drain(..) {
                    timers.insert(id, tick + random.delay());
                }
            }
        });
    });
}

/// One operation is a timer that expires, of many at the same tick.
fn burst<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let ids = shuffled(count);
    let mut due = Vec::with_capacity(count);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let rounds = iters.div_ceil(count as u64);
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let mut timers = T::new(count);
                for &id in &ids {
                    timers.insert(id, 1000);
                }
                timers.expire(999, &mut due);
                assert!(due.is_empty());
                let start = Instant::now();
                // The slack of the coarse policy is over.
                timers.expire(1000 + 1000 / 16, &mut due);
                total += start.elapsed();
                assert_eq!(due.len(), count);
                due.clear();
            }
            total.mul_f64(iters as f64 / (rounds * count as u64) as f64)
        });
    });
}

/// A keep-alive from beginning to end: each connection is heard of 20 times within its keep-alive
/// of 60 s, then falls silent, and expires. One iteration is all of that for all connections.
fn keepalive<T: Timers>(group: &mut Group<'_>, count: usize, name: &str) {
    let ids = shuffled(count);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iters| {
            let mut total = Duration::ZERO;
            for _ in 0..iters {
                let mut timers = T::new(count);
                let mut due = Vec::with_capacity(count);
                let start = Instant::now();
                for &id in &ids {
                    timers.insert(id, DELAY_MAX);
                }
                let mut tick = 0;
                for _ in 0..20 {
                    for part in ids.chunks(count / 100) {
                        tick += 30;
                        for &id in part {
                            timers.touch(id, tick + DELAY_MAX);
                        }
                        timers.expire(tick, &mut due);
                    }
                }
                assert!(due.is_empty());
                while due.len() < count {
                    tick += 30;
                    timers.expire(tick, &mut due);
                }
                total += start.elapsed();
            }
            total
        });
    });
}

macro_rules! group {
    ($to:ident, $bench:ident, $size:literal, $count:expr, [$($name:literal: $type:ty),*]) => {
        let mut group = $to.benchmark_group(concat!(
            "timerwheel/", stringify!($bench), "/", $size
        ));
        group.sample_size(10);
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(700));
        $($bench::<$type>(&mut group, $count, $name);)*
        group.finish();
    };
}

/// A touch alone: the key is at hand, as in a server whose connections keep theirs.
fn touch_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timerwheel/touch_key/1k");
    for (name, policy) in [
        ("exact", Policy::Exact),
        (
            "coarse",
            Policy::Coarse {
                max_slack_ticks: 1000,
            },
        ),
    ] {
        let mut wheel = TimerWheel::with_capacity(policy, 0, 1000);
        let keys: Vec<_> = (0..1000).map(|n| wheel.insert(60_000 + n, n)).collect();
        let mut deadline = DELAY_MAX;
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iters| {
                let start = Instant::now();
                for _ in 0..iters.div_ceil(1000) {
                    deadline += 1;
                    for key in black_box(&keys) {
                        wheel.touch(*key, deadline);
                    }
                }
                let elapsed = start.elapsed();
                elapsed.mul_f64(iters as f64 / (iters.div_ceil(1000) * 1000) as f64)
            });
        });
    }
    group.finish();
}

fn all(criterion: &mut Criterion) {
    touch_key(criterion);
    group!(criterion, insert, "100k", 100_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel": HashWheel, "btree": Tree, "heap": Heap
    ]);
    group!(criterion, cancel, "100k", 100_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel_mark": HashWheel, "btree": Tree, "heap_mark": Heap
    ]);
    group!(criterion, insert, "1k", 1000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel": HashWheel, "btree": Tree, "heap": Heap
    ]);
    group!(criterion, cancel, "1k", 1000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel_mark": HashWheel, "btree": Tree, "heap_mark": Heap
    ]);
    group!(criterion, touch, "1k", 1000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "btree": Tree, "heap": Heap
    ]);
    group!(criterion, touch, "1m", 1_000_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "btree": Tree, "heap": Heap
    ]);
    group!(criterion, churn, "100k", 100_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel": HashWheel, "btree": Tree, "heap": Heap
    ]);
    group!(criterion, burst, "100k", 100_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel": HashWheel, "btree": Tree, "heap": Heap
    ]);
    group!(criterion, keepalive, "100k_x20", 100_000, [
        "exact": Wheel<false>, "coarse": Wheel<true>, "delay_queue": Delay,
        "hash_wheel": HashWheel, "btree": Tree, "heap": Heap
    ]);
}

criterion_group!(benches, check, all);
criterion_main!(benches);
