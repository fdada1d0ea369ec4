//! Models of `InterestMap`: what is added before a match is in its mask, whatever goes on beside.
#![cfg(loom)]

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering, fence},
    thread,
};
use topicmap::{Filter, InterestMap, Limits, Topic};

const LIMITS: Limits = Limits {
    levels_max: 8,
    bytes_max: 64,
    seed: 42,
};

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(f);
}

fn filter(text: &str) -> Filter<'_> {
    Filter::parse(text, &LIMITS).unwrap()
}

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text, &LIMITS).unwrap()
}

#[test]
fn what_was_added_is_seen_by_later_matches() {
    model(|| {
        let map = Arc::new(InterestMap::new(LIMITS.seed));
        let done = Arc::new(AtomicBool::new(false));
        let mut reader = map.reader();
        let writer = thread::spawn({
            let (map, done) = (Arc::clone(&map), Arc::clone(&done));
            move || {
                // The second key makes the table of two buckets grow; the third brings a shape.
                map.add(&filter("a"), 1);
                map.add(&filter("b"), 2);
                map.add(&filter("+"), 3);
                done.store(true, Ordering::Release);
            }
        });
        let expected = if done.load(Ordering::Acquire) {
            0b1010
        } else {
            0
        };
        let mask = reader.mask(&topic("a"));
        assert_eq!(mask & expected, expected, "a bit is missed");
        assert_eq!(mask & !0b1010, 0, "a bit that nobody set");
        writer.join().unwrap();
        assert_eq!(reader.mask(&topic("a")), 0b1010);
        assert_eq!(reader.mask(&topic("b")), 0b1100);
    });
}

#[test]
fn growth_loses_nothing_that_another_writer_adds() {
    model(|| {
        let map = Arc::new(InterestMap::new(LIMITS.seed));
        map.add(&filter("a"), 0);
        let writer = thread::spawn({
            let map = Arc::clone(&map);
            move || map.add(&filter("b"), 1)
        });
        let mut reader = map.reader();
        map.add(&filter("a"), 2);
        assert_eq!(
            reader.mask(&topic("a")),
            0b101,
            "what this thread added it sees"
        );
        writer.join().unwrap();
        assert_eq!(reader.mask(&topic("a")), 0b101);
        assert_eq!(reader.mask(&topic("b")), 0b10);
    });
}

#[test]
fn removing_takes_one_bit_and_no_other() {
    model(|| {
        let map = Arc::new(InterestMap::new(LIMITS.seed));
        map.add(&filter("a"), 0);
        map.add(&filter("a"), 1);
        map.add(&filter("a"), 1);
        let mut reader = map.reader();
        let writer = thread::spawn({
            let map = Arc::clone(&map);
            move || {
                map.remove(&filter("a"), 0);
                map.remove(&filter("a"), 1);
            }
        });
        assert_eq!(
            reader.mask(&topic("a")) & 0b10,
            0b10,
            "one of two was taken back"
        );
        writer.join().unwrap();
        assert_eq!(reader.mask(&topic("a")), 0b10);
        map.remove(&filter("a"), 1);
        assert_eq!(reader.mask(&topic("a")), 0);
    });
}

/// A retained publish against a subscribe: the publisher writes the store and then reads the mask,
/// the subscriber sets its bit and then reads the store. One of them sees the other.
#[test]
fn retained_and_subscribe_never_miss_each_other() {
    model(|| {
        let map = Arc::new(InterestMap::new(LIMITS.seed));
        // Growth happens in the very add that is raced.
        map.add(&filter("x"), 5);
        let store = Arc::new(AtomicU64::new(0));
        let mut reader = map.reader();
        let subscriber = thread::spawn({
            let (map, store) = (Arc::clone(&map), Arc::clone(&store));
            move || {
                map.add(&filter("a"), 1);
                fence(Ordering::SeqCst);
                store.load(Ordering::Relaxed) == 1
            }
        });
        store.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let forwarded = reader.mask(&topic("a")) != 0;
        let replayed = subscriber.join().unwrap();
        assert!(forwarded || replayed, "neither of them saw the other");
    });
}
