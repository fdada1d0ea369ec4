//! Blocks of bytes: taken and given back by one thread, and freed by another.

use std::hint::black_box;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use slabmem::{Block, Pool};

const HELD: usize = 256;

/// Takes blocks of the length and gives them back, with some held meanwhile.
fn local_pool(len: usize, turns: u64) -> Duration {
    let mut pool = Pool::new(256 << 20);
    let mut held: Vec<Block> = (0..HELD).map(|_| pool.alloc(len).unwrap()).collect();
    let start = Instant::now();
    for turn in 0..turns as usize {
        let mut block = pool.alloc(len).unwrap();
        block[0] = turn as u8;
        let old = std::mem::replace(&mut held[turn % HELD], block);
        pool.give_back(old);
    }
    let time = start.elapsed();
    assert_eq!(pool.stats().live, HELD);
    time
}

fn local_malloc(len: usize, turns: u64) -> Duration {
    let make = || Vec::<u8>::with_capacity(len.next_power_of_two());
    let mut held: Vec<Vec<u8>> = (0..HELD).map(|_| make()).collect();
    let start = Instant::now();
    for turn in 0..turns as usize {
        let mut block = make();
        block.push(turn as u8);
        drop(black_box(std::mem::replace(&mut held[turn % HELD], block)));
    }
    start.elapsed()
}

/// What it costs to free blocks that another thread allocated, in batches; the time is that of the
/// freeing thread.
fn remote<B: Send + 'static>(turns: u64, mut make: impl FnMut() -> B) -> Duration {
    let (to, from) = mpsc::sync_channel::<Vec<B>>(4);
    let (done, times) = mpsc::sync_channel(4);
    let freer = thread::spawn(move || {
        for batch in from {
            let start = Instant::now();
            drop(batch);
            done.send(start.elapsed()).unwrap();
        }
    });
    let mut time = Duration::ZERO;
    for _ in 0..turns.div_ceil(HELD as u64) {
        to.send((0..HELD).map(|_| make()).collect()).unwrap();
        time += times.recv().unwrap();
    }
    drop(to);
    freer.join().unwrap();
    time.mul_f64(turns as f64 / turns.next_multiple_of(HELD as u64) as f64)
}

fn all(criterion: &mut Criterion) {
    for len in [64, 1024, 4096, 65_536] {
        criterion.bench_function(&format!("slabmem/local/{len}/pool"), |bench| {
            bench.iter_custom(|turns| local_pool(len, turns));
        });
        criterion.bench_function(&format!("slabmem/local/{len}/malloc"), |bench| {
            bench.iter_custom(|turns| local_malloc(len, turns));
        });
    }
    for len in [64, 1024] {
        criterion.bench_function(&format!("slabmem/remote/{len}/pool"), |bench| {
            let mut pool = Pool::new(64 << 20);
            bench.iter_custom(|turns| remote(turns, || pool.alloc(len).unwrap()));
        });
        criterion.bench_function(&format!("slabmem/remote/{len}/malloc"), |bench| {
            bench.iter_custom(|turns| remote(turns, || Vec::<u8>::with_capacity(len)));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(15);
    targets = all
}
criterion_main!(benches);
