//! The pool through its public API.
#![cfg(not(loom))]

use std::collections::HashMap;
use std::sync::mpsc;

use proptest::prelude::*;
use slabmem::{BLOCK_BYTES_MAX, Block, Pool, PoolError};

static_assertions::assert_impl_all!(Block: Send, Sync);
static_assertions::assert_impl_all!(Pool: Send);
static_assertions::assert_not_impl_any!(Block: Clone);
#[cfg(target_pointer_width = "64")]
static_assertions::assert_eq_size!(Block, Option<Block>, Result<Block, PoolError>, [u64; 2]);

/// Whether all bytes are the same one. By comparison of slices, which Miri does in one step.
fn is_filled(bytes: &[u8], with: u8) -> bool {
    bytes == vec![with; bytes.len()]
}

#[test]
fn every_length_gets_the_smallest_class_that_holds_it() {
    let mut pool = Pool::new(64 << 20);
    let mut out = Vec::new();
    for len in [0, 1, 63, 64, 65, 128, 129, 1000, 4096, 4097, 65_535, 65_536] {
        let block = pool.alloc(len).unwrap();
        assert_eq!(block.len(), len.next_power_of_two().max(64));
        assert!(is_filled(&block, 0));
        assert_eq!(block.as_ptr().addr() % 64, 0);
        out.push(block);
    }
    assert_eq!(pool.alloc(usize::MAX).unwrap_err(), PoolError::TooLarge);
}

#[test]
fn what_is_mapped_is_out_vacant_or_uncut() {
    let mut pool = Pool::new(64 << 20);
    let blocks: Vec<_> = (0..100).map(|_| pool.alloc(1000).unwrap()).collect();
    let other = pool.alloc(64).unwrap();
    let stats = pool.stats();
    assert_eq!(stats.vacant_bytes, 0);
    assert_eq!(stats.mapped_bytes, stats.uncut_bytes + 100 * 1024 + 64);
    drop((blocks, other));
    pool.collect();
    let vacant = pool.stats().vacant_bytes;
    assert_eq!(
        (vacant, pool.stats().uncut_bytes),
        (100 * 1024 + 64, stats.uncut_bytes)
    );
    // Nothing of a segment is uncut when it goes.
    pool.trim();
    assert_eq!(
        (pool.stats().mapped_bytes, pool.stats().uncut_bytes),
        (0, 0)
    );
}

#[test]
fn a_large_block_is_mapped_and_unmapped_alone() {
    let mut pool = Pool::new(4 << 20);
    let mut block = pool.alloc(BLOCK_BYTES_MAX + 1).unwrap();
    assert_eq!(block.len(), BLOCK_BYTES_MAX + 4096 - 64);
    assert_eq!(block.as_ptr().addr() % 64, 0);
    block.fill(7);
    let other = pool.alloc((3 << 20) - 64).unwrap();
    assert_eq!(pool.alloc(1 << 20).unwrap_err(), PoolError::Full);
    assert_eq!((pool.stats().live, pool.stats().cached), (2, 0));
    std::thread::spawn(move || drop(other)).join().unwrap();
    // Room is made by what others have dropped.
    let other = pool.alloc((3 << 20) - 64).unwrap();
    assert!(is_filled(&block, 7) && is_filled(&other, 0));
    pool.give_back(block);
    assert_eq!(pool.stats().mapped_bytes, 3 << 20);
    assert_eq!(pool.stats().peak_bytes, (3 << 20) + BLOCK_BYTES_MAX + 4096);
    drop(other);
    pool.collect();
    assert_eq!((pool.stats().live, pool.stats().mapped_bytes), (0, 0));
    assert_eq!(pool.stats().remote_frees, 2);
}

#[test]
fn large_blocks_outlive_their_pool() {
    let mut pool = Pool::new(4 << 20);
    let (first, second) = (pool.alloc(100_000).unwrap(), pool.alloc(100_000).unwrap());
    let small = pool.alloc(64).unwrap();
    drop(first);
    drop(pool);
    assert!(is_filled(&second, 0));
    drop(second);
    drop(small);
}

#[test]
fn above_the_high_mark_memory_goes_down_to_the_low_one() {
    let mut pool = Pool::new(64 << 20).with_marks(2 << 20, 8 << 20);
    let blocks: Vec<_> = (0..160).map(|_| pool.alloc(65_536).unwrap()).collect();
    assert_eq!(pool.stats().mapped_bytes, 10 << 20);
    let mut blocks = blocks.into_iter();
    blocks
        .by_ref()
        .take(128)
        .for_each(|block| pool.give_back(block));
    pool.collect();
    // At the mark, not above it.
    assert_eq!(pool.stats().mapped_bytes, 10 << 20);
    drop(blocks.next());
    pool.collect();
    // 31 blocks are out: two segments at least.
    assert!(pool.stats().mapped_bytes <= 5 << 20, "{:?}", pool.stats());
    assert!(pool.stats().cached * 65_536 >= 2 << 20);
    drop(blocks);
    pool.trim();
    assert_eq!(
        (pool.stats().mapped_bytes, pool.stats().peak_bytes),
        (0, 10 << 20)
    );
}

#[test]
fn marks_that_cannot_be_met_cost_no_work_at_every_turn() {
    let mut pool = Pool::new(64 << 20).with_marks(0, 1 << 20);
    // One block of each segment stays out.
    let mut blocks: Vec<_> = (0..128).map(|_| pool.alloc(65_536).unwrap()).collect();
    let mut kept = Vec::new();
    while !blocks.is_empty() {
        let rest = blocks.split_off(16.min(blocks.len()));
        kept.extend(blocks.into_iter().next());
        blocks = rest;
    }
    for _ in 0..3 {
        pool.collect();
        assert_eq!(pool.stats().mapped_bytes, 8 << 20);
    }
    drop(kept);
    pool.trim();
    assert_eq!(pool.stats().mapped_bytes, 0);
}

#[cfg(not(miri))]
#[test]
fn huge_pages_are_asked_for() {
    let mut pool = Pool::new(8 << 20).with_huge_pages();
    let mut blocks: Vec<_> = (0..64).map(|_| pool.alloc(65_536).unwrap()).collect();
    blocks.iter_mut().for_each(|block| block.fill(1));
    assert_eq!(pool.stats().mapped_bytes, 4 << 20);
    let first = blocks[0].as_ptr().addr();
    assert_eq!(first % (2 << 20), 0);
    if !std::path::Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return;
    }
    // The kernel marks the advice on the mapping.
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_ours = false;
    let mut is_advised = false;
    for line in maps.lines() {
        let range = line
            .split(' ')
            .next()
            .and_then(|range| range.split_once('-'));
        if let Some((from, to)) = range
            && let (Ok(from), Ok(to)) = (
                usize::from_str_radix(from, 16),
                usize::from_str_radix(to, 16),
            )
        {
            is_ours = (from..to).contains(&first);
        } else if is_ours && line.starts_with("VmFlags:") {
            is_advised = line.split(' ').any(|flag| flag == "hg");
        }
    }
    assert!(is_advised);
}

#[test]
fn the_limit_is_an_error_and_not_the_end() {
    let mut pool = Pool::new(1 << 20);
    let mut blocks: Vec<_> = (0..16).map(|_| pool.alloc(65_536).unwrap()).collect();
    assert_eq!(pool.alloc(65_536).unwrap_err(), PoolError::Full);
    assert_eq!(pool.alloc(1).unwrap_err(), PoolError::Full);
    drop(blocks.pop());
    blocks.push(pool.alloc(65_536).unwrap());
    assert_eq!(pool.alloc(65_536).unwrap_err(), PoolError::Full);
    drop(blocks);
    pool.trim();
    assert_eq!(pool.stats().mapped_bytes, 0);
    assert!(pool.alloc(1).is_ok());
    assert_eq!(Pool::new(0).alloc(1).unwrap_err(), PoolError::Full);
}

#[test]
fn the_books_hold() {
    const GONE: usize = if cfg!(miri) { 500 } else { 5000 };
    let mut pool = Pool::new(64 << 20);
    let kept: Vec<_> = (0..10).map(|_| pool.alloc(100).unwrap()).collect();
    let gone: Vec<_> = (0..GONE).map(|_| pool.alloc(100).unwrap()).collect();
    assert_eq!(
        (pool.stats().live, pool.stats().remote_frees),
        (GONE + 10, 0)
    );
    let peak = pool.stats().mapped_bytes;
    drop(gone);
    pool.collect();
    assert_eq!((pool.stats().live, pool.stats().cached), (10, GONE));
    let stats = pool.stats();
    assert!(stats.vacant_bytes >= GONE * 64 && stats.vacant_bytes < stats.mapped_bytes);
    assert_eq!(pool.stats().remote_frees, GONE as u64);
    pool.trim();
    assert!(pool.stats().mapped_bytes * 3 < peak);
    kept.into_iter().for_each(|block| pool.give_back(block));
    pool.trim();
    let stats = pool.stats();
    assert_eq!((stats.live, stats.cached, stats.mapped_bytes), (0, 0, 0));
    assert_eq!(stats.remote_frees, GONE as u64);
}

#[test]
fn a_block_given_to_a_stranger_goes_home() {
    let (mut first, mut second) = (Pool::new(1 << 20), Pool::new(1 << 20));
    let block = first.alloc(64).unwrap();
    second.give_back(block);
    first.collect();
    assert_eq!((first.stats().live, first.stats().cached), (0, 1));
    assert_eq!(second.stats().cached, 0);
}

#[test]
fn blocks_outlive_their_pool() {
    let mut pool = Pool::new(1 << 20);
    let blocks: Vec<_> = (0..100_u8)
        .map(|i| {
            let mut block = pool.alloc(64).unwrap();
            block.fill(i);
            block
        })
        .collect();
    drop(pool);
    for (block, i) in blocks.iter().zip(0..) {
        assert!(is_filled(block, i));
    }
    std::thread::spawn(move || drop(blocks)).join().unwrap();
}

#[test]
fn others_free_what_the_owner_allocates() {
    const SENT: usize = if cfg!(miri) { 300 } else { 30_000 };
    let mut pool = Pool::new(8 << 20);
    std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver) = mpsc::sync_channel::<(u8, Block)>(64);
                scope.spawn(move || {
                    for (mark, block) in receiver {
                        assert!(is_filled(&block, mark));
                    }
                });
                sender
            })
            .collect();
        for i in 0..SENT {
            let mut block = pool.alloc(64 << (i % 4)).unwrap();
            block.fill(i as u8);
            senders[i % 3].send((i as u8, block)).unwrap();
        }
    });
    pool.collect();
    assert_eq!(
        (pool.stats().live, pool.stats().remote_frees),
        (0, SENT as u64)
    );
    assert!(pool.stats().mapped_bytes < 2 << 20, "{:?}", pool.stats());
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc(usize),
    Drop(usize),
    GiveBack(usize),
    Collect,
    Trim,
}

const OPS_MAX: usize = if cfg!(miri) { 50 } else { 200 };

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..13_u32, 0..64_usize).prop_map(|(class, less)| Op::Alloc((64 << class) - less)),
        4 => any::<usize>().prop_map(Op::Drop),
        4 => any::<usize>().prop_map(Op::GiveBack),
        1 => Just(Op::Collect),
        1 => Just(Op::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// No two blocks share a byte, and the books agree with a plain list of what is out.
    #[test]
    fn blocks_never_overlap(ops in prop::collection::vec(op(), 0..OPS_MAX)) {
        let mut pool = Pool::new(6 << 20).with_marks(1 << 16, 1 << 18);
        let mut out: Vec<(u8, Block)> = Vec::new();
        let mut counts = HashMap::<bool, u64>::new();
        for (mark, op) in (0_u8..).cycle().zip(ops) {
            match op {
                Op::Alloc(len) => match pool.alloc(len) {
                    Ok(mut block) => {
                        prop_assert!(block.len() >= len);
                        block.fill(mark);
                        out.push((mark, block));
                    }
                    Err(error) => prop_assert_eq!(error, PoolError::Full),
                },
                Op::Drop(i) if !out.is_empty() => {
                    let (mark, block) = out.swap_remove(i % out.len());
                    prop_assert!(is_filled(&block, mark));
                    *counts.entry(true).or_default() += 1;
                }
                Op::GiveBack(i) if !out.is_empty() => {
                    let (mark, block) = out.swap_remove(i % out.len());
                    prop_assert!(is_filled(&block, mark));
                    pool.give_back(block);
                }
                Op::Trim => pool.trim(),
                _ => pool.collect(),
            }
            prop_assert!(pool.stats().mapped_bytes <= 6 << 20);
            prop_assert!(pool.stats().live >= out.len());
        }
        pool.collect();
        prop_assert_eq!(pool.stats().live, out.len());
        prop_assert_eq!(pool.stats().remote_frees, counts.get(&true).copied().unwrap_or(0));
        drop(pool);
        prop_assert!(out.iter().all(|(mark, block)| is_filled(block, *mark)));
    }
}
