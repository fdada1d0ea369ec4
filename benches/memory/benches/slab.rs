//! Tables of items of a cache line: insertion and removal, look-up, iteration, growth.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bench_memory::{Item, Numbers, Table, churn, churn_batches, filled, look_up};
use criterion::{Criterion, criterion_group, criterion_main};

struct Ours(slabmem::Slab<Item>);

impl Table for Ours {
    type Key = slabmem::Key;
    const NAME: &'static str = "slabmem";
    #[inline(always)]
    fn new() -> Self {
        Self(slabmem::Slab::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> Self::Key {
        self.0.insert(item).unwrap()
    }
    #[inline(always)]
    fn remove(&mut self, key: Self::Key) -> Option<Item> {
        self.0.remove(key)
    }
    #[inline(always)]
    fn first_word(&self, key: Self::Key) -> Option<u64> {
        self.0.get(key).map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, item)| item[0]).sum()
    }
}

struct Slab(slab::Slab<Item>);

impl Table for Slab {
    type Key = usize;
    const NAME: &'static str = "slab";
    #[inline(always)]
    fn new() -> Self {
        Self(slab::Slab::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> usize {
        self.0.insert(item)
    }
    #[inline(always)]
    fn remove(&mut self, key: usize) -> Option<Item> {
        self.0.try_remove(key)
    }
    #[inline(always)]
    fn first_word(&self, key: usize) -> Option<u64> {
        self.0.get(key).map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, item)| item[0]).sum()
    }
}

struct SlotMap(slotmap::SlotMap<slotmap::DefaultKey, Item>);

impl Table for SlotMap {
    type Key = slotmap::DefaultKey;
    const NAME: &'static str = "slotmap";
    #[inline(always)]
    fn new() -> Self {
        Self(slotmap::SlotMap::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> Self::Key {
        self.0.insert(item)
    }
    #[inline(always)]
    fn remove(&mut self, key: Self::Key) -> Option<Item> {
        self.0.remove(key)
    }
    #[inline(always)]
    fn first_word(&self, key: Self::Key) -> Option<u64> {
        self.0.get(key).map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.0.values().map(|item| item[0]).sum()
    }
}

struct Thunderdome(thunderdome::Arena<Item>);

impl Table for Thunderdome {
    type Key = thunderdome::Index;
    const NAME: &'static str = "thunderdome";
    #[inline(always)]
    fn new() -> Self {
        Self(thunderdome::Arena::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> Self::Key {
        self.0.insert(item)
    }
    #[inline(always)]
    fn remove(&mut self, key: Self::Key) -> Option<Item> {
        self.0.remove(key)
    }
    #[inline(always)]
    fn first_word(&self, key: Self::Key) -> Option<u64> {
        self.0.get(key).map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.0.iter().map(|(_, item)| item[0]).sum()
    }
}

struct ShardedSlab(sharded_slab::Slab<Item>);

impl Table for ShardedSlab {
    type Key = usize;
    const NAME: &'static str = "sharded-slab";
    #[inline(always)]
    fn new() -> Self {
        Self(sharded_slab::Slab::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> usize {
        self.0.insert(item).unwrap()
    }
    #[inline(always)]
    fn remove(&mut self, key: usize) -> Option<Item> {
        self.0.take(key)
    }
    #[inline(always)]
    fn first_word(&self, key: usize) -> Option<u64> {
        self.0.get(key).map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        // It iterates only over a slab that is borrowed exclusively, so it is left out.
        u64::MAX
    }
}

/// Boxes in a list whose vacant places are used again, the last first.
struct Boxes(Vec<Option<Box<Item>>>, Vec<usize>);

impl Table for Boxes {
    type Key = usize;
    const NAME: &'static str = "box";
    #[inline(always)]
    fn new() -> Self {
        Self(Vec::new(), Vec::new())
    }
    #[inline(always)]
    fn insert(&mut self, item: Item) -> usize {
        if let Some(place) = self.1.pop() {
            self.0[place] = Some(Box::new(item));
            return place;
        }
        self.0.push(Some(Box::new(item)));
        self.0.len() - 1
    }
    #[inline(always)]
    fn remove(&mut self, key: usize) -> Option<Item> {
        let item = self.0[key].take()?;
        self.1.push(key);
        Some(*item)
    }
    #[inline(always)]
    fn first_word(&self, key: usize) -> Option<u64> {
        self.0[key].as_ref().map(|item| item[0])
    }
    #[inline(always)]
    fn sum(&self) -> u64 {
        self.0.iter().flatten().map(|item| item[0]).sum()
    }
}

/// What every contender has to answer, computed with one of them.
fn check<T: Table>() {
    fn answers<T: Table>() -> (u64, u64, u64) {
        let (mut table, mut keys) = filled::<T>(5_000);
        let mut numbers = Numbers::new();
        (
            churn(&mut table, &mut keys, &mut numbers, 20_000),
            churn_batches(&mut table, &mut keys, &mut numbers, 20_000),
            look_up(&table, &keys, &mut numbers, 20_000),
        )
    }
    assert_eq!(answers::<T>(), answers::<Slab>(), "{}", T::NAME);
    let (table, _) = filled::<T>(1000);
    assert!([u64::MAX, 499_500].contains(&table.sum()), "{}", T::NAME);
}

fn contender<T: Table>(criterion: &mut Criterion, count: usize, size: &str) {
    check::<T>();
    let (mut table, mut keys) = filled::<T>(count);
    let mut numbers = Numbers::new();
    // Keys in random order, as after some time of use.
    for i in (1..keys.len()).rev() {
        keys.swap(i, numbers.below(i + 1));
    }
    churn(&mut table, &mut keys, &mut numbers, count as u64);
    criterion.bench_function(&format!("slabmem/churn/{size}/{}", T::NAME), |bench| {
        bench.iter_custom(|turns| {
            let start = Instant::now();
            black_box(churn(&mut table, &mut keys, &mut numbers, turns));
            start.elapsed()
        });
    });
    criterion.bench_function(&format!("slabmem/churn64/{size}/{}", T::NAME), |bench| {
        bench.iter_custom(|turns| {
            let turns = turns.next_multiple_of(64);
            let start = Instant::now();
            black_box(churn_batches(&mut table, &mut keys, &mut numbers, turns));
            start.elapsed()
        });
    });
    criterion.bench_function(&format!("slabmem/get/{size}/{}", T::NAME), |bench| {
        bench.iter_custom(|turns| {
            let start = Instant::now();
            black_box(look_up(&table, &keys, &mut numbers, turns));
            start.elapsed()
        });
    });
    if table.sum() != u64::MAX {
        criterion.bench_function(&format!("slabmem/iterate/{size}/{}", T::NAME), |bench| {
            bench.iter(|| black_box(table.sum()));
        });
    }
    keys.into_iter().for_each(|key| _ = table.remove(key));
}

/// The slowest of the insertions that fill a table, and their p99.9, which criterion does not
/// report.
fn growth<T: Table>(count: usize) {
    let mut table = T::new();
    let mut times = Vec::with_capacity(count);
    let mut keys = Vec::with_capacity(count);
    for i in 0..count as u64 {
        let start = Instant::now();
        keys.push(table.insert([i; 8]));
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!(
        "slabmem/growth/{count}/{:<14} p99.9 {:>8} ns   slowest {:>8} us",
        T::NAME,
        times[count - count / 1000].as_nanos(),
        times[count - 1].as_micros(),
    );
    keys.into_iter().for_each(|key| _ = table.remove(key));
}

/// Resident memory in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How much memory stays resident where nine of ten items go, of what a million took.
fn rss<T: Table>(order: &str) {
    let before = resident_kib();
    let (mut table, mut keys) = filled::<T>(1_000_000);
    let peak = resident_kib();
    if order == "random" {
        let mut numbers = Numbers::new();
        for i in (1..keys.len()).rev() {
            keys.swap(i, numbers.below(i + 1));
        }
    }
    for key in keys.drain(..900_000) {
        table.remove(key);
    }
    let after = resident_kib();
    // The keys are the bench's own: 8 or 16 bytes each.
    let own = (1_000_000 * size_of::<T::Key>() as u64) >> 10;
    println!(
        "slabmem/rss/{order}/{:<14} peak {:>6} KiB   after {:>6} KiB   {:>3} %",
        T::NAME,
        peak - before - own,
        (after - before).saturating_sub(own),
        (after - before).saturating_sub(own) * 100 / (peak - before - own),
    );
    keys.into_iter().for_each(|key| _ = table.remove(key));
}

fn all(criterion: &mut Criterion) {
    // First, while the heap is small.
    for order in ["insertion", "random"] {
        rss::<Ours>(order);
        rss::<Slab>(order);
    }
    for (count, size) in [(10_000, "10k"), (1_000_000, "1m")] {
        contender::<Ours>(criterion, count, size);
        contender::<Slab>(criterion, count, size);
        contender::<SlotMap>(criterion, count, size);
        contender::<Thunderdome>(criterion, count, size);
        contender::<Boxes>(criterion, count, size);
    }
    contender::<ShardedSlab>(criterion, 10_000, "10k");
    growth::<Ours>(1_000_000);
    growth::<Slab>(1_000_000);
    growth::<SlotMap>(1_000_000);
    growth::<Thunderdome>(1_000_000);
    growth::<Boxes>(1_000_000);
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(1000))
        .sample_size(20);
    targets = all
}
criterion_main!(benches);
