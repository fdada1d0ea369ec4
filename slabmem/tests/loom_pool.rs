//! Every interleaving of blocks that come home while the owner allocates, or has gone.
//!
//! The home is allocated through loom, which reports it where it is freed twice or never.
#![cfg(loom)]

use loom::thread;
use slabmem::Pool;

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(run);
}

#[test]
fn remote_frees_meet_the_owner_allocating() {
    model(|| {
        let mut pool = Pool::new(1 << 20);
        let (a, b) = (pool.alloc(64).unwrap(), pool.alloc(64).unwrap());
        let first = thread::spawn(move || drop(a));
        let second = thread::spawn(move || drop(b));
        pool.collect();
        let again = pool.alloc(64).unwrap();
        pool.give_back(again);
        first.join().unwrap();
        second.join().unwrap();
        pool.collect();
        assert_eq!((pool.stats().live, pool.stats().remote_frees), (0, 2));
    });
}

#[test]
fn the_owner_goes_while_blocks_come_home() {
    model(|| {
        let mut pool = Pool::new(1 << 20);
        let (a, b) = (pool.alloc(64).unwrap(), pool.alloc(64).unwrap());
        let first = thread::spawn(move || drop(a));
        let second = thread::spawn(move || drop(b));
        drop(pool);
        first.join().unwrap();
        second.join().unwrap();
    });
}

#[test]
fn the_owner_goes_first() {
    model(|| {
        let mut pool = Pool::new(1 << 20);
        let (a, b) = (pool.alloc(64).unwrap(), pool.alloc(64).unwrap());
        drop(pool);
        let first = thread::spawn(move || drop(a));
        drop(b);
        first.join().unwrap();
    });
}
