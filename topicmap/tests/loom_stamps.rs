//! Models of `Stamps`: a publish after SUBACK never uses an answer from before the subscribe.
#![cfg(loom)]

use std::sync::Arc;

use loom::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};
use topicmap::{Filter, InterestMap, Limits, MatchCache, Stamps, Topic};

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

fn cached_route_is_fresh_after_suback(filter: &'static str) {
    model(move || {
        let stamps = Arc::new(Stamps::with_seed(LIMITS.seed));
        let index = Arc::new(AtomicU64::new(0));
        let suback = Arc::new(AtomicBool::new(false));
        let subscriber = thread::spawn({
            let (stamps, index, suback) =
                (Arc::clone(&stamps), Arc::clone(&index), Arc::clone(&suback));
            move || {
                index.store(1, Ordering::Relaxed);
                stamps.bump(&Filter::parse(filter, &LIMITS).unwrap());
                suback.store(true, Ordering::Release);
            }
        });
        let topic = Topic::parse("a/b", &LIMITS).unwrap();
        let mut cache = MatchCache::new(4);
        for _ in 0..2 {
            let acknowledged = suback.load(Ordering::Acquire);
            let stamp = stamps.observe(&topic);
            let route = match cache.get(&topic, stamp) {
                Some(route) => *route,
                None => *cache.insert(&topic, stamp, index.load(Ordering::Relaxed)),
            };
            assert!(!acknowledged || route == 1, "a stale route after SUBACK");
        }
        subscriber.join().unwrap();
        let stamp = stamps.observe(&topic);
        assert!(
            cache.get(&topic, stamp).is_none_or(|route| *route == 1),
            "stale for ever"
        );
    });
}

#[test]
fn exact_filters() {
    cached_route_is_fresh_after_suback("a/b");
}

#[test]
fn filters_with_a_literal_first_level() {
    cached_route_is_fresh_after_suback("a/#");
}

#[test]
fn filters_with_a_wildcard_first_level() {
    cached_route_is_fresh_after_suback("+/b");
}

/// The same with the real index behind it.
#[test]
fn masks_behind_a_cache() {
    model(|| {
        let stamps = Arc::new(Stamps::with_seed(LIMITS.seed));
        let map = Arc::new(InterestMap::new(LIMITS.seed));
        let suback = Arc::new(AtomicBool::new(false));
        let mut reader = map.reader();
        let subscriber = thread::spawn({
            let (stamps, map, suback) =
                (Arc::clone(&stamps), Arc::clone(&map), Arc::clone(&suback));
            move || {
                let filter = Filter::parse("a/+", &LIMITS).unwrap();
                map.add(&filter, 3);
                stamps.bump(&filter);
                suback.store(true, Ordering::Release);
            }
        });
        let topic = Topic::parse("a/b", &LIMITS).unwrap();
        let mut cache = MatchCache::new(4);
        let stamp = stamps.observe(&topic);
        let mask = reader.mask(&topic);
        cache.insert(&topic, stamp, mask);
        let acknowledged = suback.load(Ordering::Acquire);
        let stamp = stamps.observe(&topic);
        let route = match cache.get(&topic, stamp) {
            Some(route) => *route,
            None => reader.mask(&topic),
        };
        assert!(
            !acknowledged || route == 0b1000,
            "a stale mask after SUBACK"
        );
        subscriber.join().unwrap();
    });
}
