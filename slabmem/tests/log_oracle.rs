//! The log store against a hash map, and what it promises of its memory.
#![cfg(not(loom))]

#[path = "model/log.rs"]
mod model;

use proptest::prelude::*;
use slabmem::{LogError, LogStore, RECORD_BYTES_MAX, RECORD_OVERHEAD_BYTES};

use model::Op;

const OPS_MAX: usize = if cfg!(miri) { 20 } else { 100 };

fn length() -> impl Strategy<Value = usize> {
    // Under Miri every byte counts; the longest records have a test of their own.
    let (long, longest) = if cfg!(miri) {
        (200_usize, 600_usize)
    } else {
        (2000, 9000)
    };
    prop_oneof![6 => 0..64_usize, 3 => 0..long, 1 => 0..longest]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => length().prop_map(Op::Append),
        6 => (length(), any::<u8>()).prop_map(|(len, count)| Op::AppendMany(len, count)),
        4 => any::<usize>().prop_map(Op::Remove),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(i, count)| Op::RemoveMany(i, count)),
        4 => any::<usize>().prop_map(Op::Get),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(i, value)| Op::Change(i, value)),
        1 => Just(Op::Iterate),
        1 => Just(Op::Trim),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 150 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn log_answers_as_a_map_does(
        limit in prop_oneof![Just(usize::MAX), 0..1_500_000_usize],
        ops in prop::collection::vec(op(), 0..OPS_MAX),
    ) {
        model::run(limit, &ops);
    }
}

#[test]
fn the_longest_record_fits_and_no_longer_one() {
    let mut log = LogStore::with_limit(1 << 20);
    let key = log.append(&[7; RECORD_BYTES_MAX]).unwrap();
    assert_eq!(log.get(key), Some(&[7; RECORD_BYTES_MAX][..]));
    let longer = [7; RECORD_BYTES_MAX + 1];
    assert_eq!(log.append(&longer), Err(LogError::TooLong));
    let empty = log.append(&[]).unwrap();
    assert_eq!(log.get(empty), Some(&[][..]));
    assert_eq!(
        LogStore::with_limit(100_000).append(&[1]),
        Err(LogError::Full)
    );
}

#[cfg_attr(miri, ignore = "takes minutes; the oracle runs the same code")]
#[test]
fn a_record_costs_fourteen_bytes_more_than_it_has() {
    let mut log = LogStore::with_limit(usize::MAX);
    let count = 1_000_000;
    for i in 0..count as u64 {
        log.append(&[i.to_le_bytes(), i.to_be_bytes()].concat())
            .unwrap();
    }
    let stats = log.stats();
    let each = (stats.mapped_bytes + stats.index_bytes) as f64 / count as f64;
    // A segment that is not full yet, and a chunk of the index, are the rest.
    let rest = 70_000.0 / count as f64;
    let exact = (16 + RECORD_OVERHEAD_BYTES) as f64;
    assert!(each >= exact && each < exact * 1.001 + rest, "{each}");
}

#[cfg_attr(miri, ignore = "takes minutes; the oracle runs the same code")]
#[test]
fn holes_are_closed() {
    let mut log = LogStore::with_limit(usize::MAX);
    let keys: Vec<_> = (0..60_000)
        .map(|i| log.append(&[u32::to_le_bytes(i); 6].concat()).unwrap())
        .collect();
    let peak = log.stats().mapped_bytes;
    // Nine of ten go, so that every segment is left with a tenth.
    let (kept, gone): (Vec<_>, Vec<_>) = keys.iter().zip(0..).partition(|(_, i)| i % 10 == 0);
    assert!(gone.iter().all(|(key, _)| log.remove(**key)));
    assert_eq!(log.stats().mapped_bytes, peak);
    log.trim();
    assert!(log.stats().mapped_bytes * 7 < peak, "{:?}", log.stats());
    for (key, i) in kept {
        assert_eq!(log.get(*key).unwrap(), u32::to_le_bytes(i).repeat(6));
    }
    assert!(gone.iter().all(|(key, _)| !log.contains(**key)));
}

#[cfg_attr(miri, ignore = "takes minutes; the oracle runs the same code")]
#[test]
fn a_queue_that_wanders_stays_small() {
    let mut log = LogStore::with_limit(1 << 20);
    let mut queue = std::collections::VecDeque::new();
    let pinned = log.append(b"stays").unwrap();
    for i in 0..500_000 {
        queue.push_back(log.append(&[i as u8; 40]).unwrap());
        if queue.len() > 5_000 {
            assert!(log.remove(queue.pop_front().unwrap()));
        }
    }
    let stats = log.stats();
    assert!(
        stats.mapped_bytes <= 2 * 5_001 * 46 + (128 << 10),
        "{stats:?}"
    );
    // The record that stays moves once a segment at most.
    assert!(stats.moved_bytes < 2_000, "{stats:?}");
    assert_eq!(log.get(pinned), Some(&b"stays"[..]));
}
