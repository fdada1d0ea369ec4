//! What allocates and what doesn't, and what a subscription costs, counted by the allocator.
//!
//! Ground rules of the `unsafe` here: the allocator passes every call on to the system's with the
//! arguments that it got, so the contracts of both are the same; the counts are the thread's own.
#![cfg(not(loom))]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use topicmap::{
    Cursor, Filter, InterestMap, Limits, MatchCache, Stamps, Topic, TopicMap, TopicStore,
};

struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // The thread may be past the destruction of its locals; then nobody counts any more.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
    let _ = BYTES.try_with(|sum| sum.set(sum.get() + bytes));
}

// SAFETY: each method calls the system allocator's with the same arguments (see above).
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: `at` came from `System.alloc` with this layout, since `alloc` passes it on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LIMITS: Limits = Limits {
    levels_max: 1024,
    bytes_max: u16::MAX,
    seed: 3,
};

fn filter(text: &str) -> Filter<'_> {
    Filter::parse(text, &LIMITS).unwrap()
}

fn topic(text: &str) -> Topic<'_> {
    Topic::parse(text, &LIMITS).unwrap()
}

fn calls(f: impl FnOnce()) -> usize {
    let before = CALLS.get();
    f();
    CALLS.get() - before
}

fn bytes(f: impl FnOnce()) -> isize {
    let before = BYTES.get();
    f();
    BYTES.get() - before
}

#[test]
fn a_match_allocates_nothing() {
    let deep = "a/".repeat(900) + "z";
    let many_plus = "+/".repeat(900) + "z";
    // The second map finds its wildcard filters through the tree of prefixes.
    for shapes in [64, 0] {
        let mut map = TopicMap::with_shapes_max(LIMITS.seed, shapes);
        for text in ["a/b", "+/b", "a/#", "#", "+/+/#", &many_plus, &deep] {
            map.insert(&filter(text), 1, ());
        }
        for subscriber in 0..10_000 {
            map.insert(&filter("a/+"), subscriber, ());
        }
        let mut matches = 0;
        let allocations = calls(|| {
            for text in ["a/b", "x/y/z", "$SYS/x", &deep] {
                map.for_each_match(&topic(text), |_, _, ()| matches += 1);
            }
        });
        assert_eq!((allocations, matches), (0, 10_000 + 5 + 2 + 5));
    }
}

#[test]
fn masks_stamps_and_cached_answers_allocate_nothing() {
    let map = std::sync::Arc::new(InterestMap::new(LIMITS.seed));
    let stamps = Stamps::with_seed(LIMITS.seed);
    let mut cache = MatchCache::new(64);
    for text in ["a/b", "+/b", "a/#"] {
        map.add(&filter(text), 1);
    }
    let mut reader = map.reader();
    let known = topic("a/b");
    cache.insert(&known, stamps.observe(&known), 9);
    let allocations = calls(|| {
        assert_eq!(reader.mask(&topic("a/b")), 2);
        let topic = topic("a/b");
        assert_eq!(cache.get(&topic, stamps.observe(&topic)), Some(&9));
        stamps.bump(&filter("c/#"));
        assert_eq!(cache.insert(&topic, stamps.observe(&topic), 8), &8);
    });
    assert_eq!(allocations, 0);
}

#[derive(Clone, Copy)]
struct Qos(u8);

impl topicmap::DeliveryOptions for Qos {
    fn qos(&self) -> u8 {
        self.0
    }

    fn identifier(&self) -> u32 {
        u32::from(self.0)
    }
}

#[test]
fn deliveries_and_picks_allocate_nothing_after_warm_up() {
    let mut map = TopicMap::new(LIMITS.seed);
    for shape in 0..64_u32 {
        let level = |at: u32| if shape >> at & 1 == 1 { "+" } else { "a" };
        let text: Vec<_> = (0..6).map(level).collect();
        for slot in 0..50 {
            map.insert(&filter(&text.join("/")), slot * 7 + shape, Qos(1));
        }
    }
    let all = topic("a/a/a/a/a/a");
    let mut deliveries = topicmap::Deliveries::new();
    let mut group = topicmap::SharedGroup::new(topicmap::Strategy::Random, 1);
    for member in 0..100_u32 {
        group.join(member, member % 2 == 0);
    }
    // A sort may take scratch space of its own; counting, which many filters lead to, must not.
    deliveries.compute(&map, &all);
    let allocations = calls(|| {
        deliveries.compute(&map, &all);
        assert!(group.pick(9, |_| 0).is_some_and(|member| member % 2 == 0));
    });
    assert_eq!(allocations, 0);
    let identifiers: usize = deliveries
        .targets()
        .iter()
        .map(|target| deliveries.identifiers(target).len())
        .sum();
    assert_eq!(identifiers, 64 * 50);
}

#[test]
fn an_exact_scan_allocates_nothing() {
    let mut store = TopicStore::new(LIMITS.seed);
    store.insert(&topic("a/b/c"), 5);
    let allocations = calls(|| {
        let end = store.scan(&filter("a/b/c"), Cursor::start(), 1, |_, value| {
            assert_eq!(*value, 5);
        });
        assert_eq!(end, None);
    });
    assert_eq!(allocations, 0);
}

/// At most 64 bytes a subscription beside the filter's text, at every size, and all of it back.
#[test]
fn a_subscription_costs_at_most_64_bytes() {
    for wild in ["", "/#"] {
        let mut map = TopicMap::<u64>::new(LIMITS.seed);
        let mut text_bytes = 0;
        let mut worst = 0;
        let held = bytes(|| {
            for n in 0..200_000_u32 {
                let text = format!("devices/{n}/commands{wild}");
                text_bytes += text.len() as isize;
                map.insert(&filter(&text), n, u64::from(n));
                if n >= 10_000 && n % 1000 == 0 {
                    worst = worst.max(map.heap_bytes() / (n as usize + 1));
                }
            }
        });
        assert!(worst <= 64, "{worst} bytes a subscription");
        let counted = held - text_bytes;
        assert!(
            counted as usize <= map.heap_bytes() + 4096,
            "{counted} {}",
            map.heap_bytes()
        );
        let freed = bytes(|| {
            for n in 0..200_000_u32 {
                let text = format!("devices/{n}/commands{wild}");
                assert!(
                    map.remove(&filter(&text), n)
                        .is_some_and(|removed| removed.last)
                );
            }
        });
        assert!(held + freed < 4096, "{} bytes stay behind", held + freed);
    }
}

#[test]
fn a_further_subscriber_costs_at_most_32_bytes() {
    let mut map = TopicMap::<u64>::new(LIMITS.seed);
    let mut state = 1_u32;
    let held = bytes(|| {
        for _ in 0..100_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            map.insert(&filter("news/#"), state >> 8, 0);
        }
    });
    let each = held as usize / map.subscription_count();
    assert!(each <= 32, "{each} bytes");
    assert_eq!(map.filter_count(), 1);
}

/// What a map says that it holds, table by table and filter by filter.
fn said_by<V>(map: &TopicMap<V>) -> usize {
    let mut bytes = map.table_bytes();
    let middle = map.ids_end() / 2;
    for ids in [0..middle, middle..map.ids_end() + 9] {
        map.for_each_allocation(ids, |allocation| bytes += allocation);
    }
    bytes
}

#[test]
fn a_map_says_what_it_allocates() {
    let mut map = TopicMap::<u64>::new(LIMITS.seed);
    let held = bytes(|| {
        for n in 0..3_000_u32 {
            // Short and long texts; one subscriber, several, and many.
            map.insert(&filter(&format!("a/{n}")), n, 0);
            map.insert(&filter(&format!("a/long/long/long/long/long/{n}")), n, 0);
            map.insert(&filter(&format!("a/{}", n / 7)), n, 0);
            map.insert(&filter("news"), n, 0);
        }
    });
    assert_eq!(said_by(&map), held as usize);
}

#[test]
fn a_store_says_what_it_allocates() {
    let mut store = TopicStore::new(LIMITS.seed);
    let held = bytes(|| {
        for n in 0..3_000_u32 {
            store.insert(&topic(&format!("a/{n}/state")), n);
            store.insert(&topic(&format!("b/{}/{n}", n % 9)), n);
        }
    });
    let (mut said, mut sum) = (store.heap_bytes(), 0_u64);
    let middle = store.nodes_end() / 2;
    for places in [0..middle, middle..store.nodes_end()] {
        store.for_each_allocation(
            places,
            |allocation| said += allocation,
            |value| sum += u64::from(*value),
        );
    }
    assert_eq!((said, sum), (held as usize, 2 * (0..3_000).sum::<u64>()));
}

#[test]
fn a_cache_and_an_interest_map_say_what_they_allocate() {
    let stamps = Stamps::with_seed(LIMITS.seed);
    let mut cache = MatchCache::new(64);
    let mut places = 0;
    let held = bytes(|| {
        cache = MatchCache::new(1_000);
        places = cache.capacity();
        for n in 0..500_u32 {
            let text = format!("a/{n}");
            let topic = topic(&text);
            cache.insert(&topic, stamps.observe(&topic), n);
        }
    });
    let (mut said, mut entries) = (cache.table_bytes(), 0);
    for places in [0..places / 3, places / 3..places + 5] {
        cache.for_each_in(places, |text, _| {
            said += text.len();
            entries += 1;
        });
    }
    let before = MatchCache::<u32>::new(64).table_bytes();
    assert_eq!((said - before, entries), (held as usize, cache.len()));

    let map: InterestMap = InterestMap::new(LIMITS.seed);
    let before = map.heap_bytes();
    let held = bytes(|| {
        for n in 0..5_000 {
            map.add(&filter(&format!("a/{n}")), 3);
        }
    });
    let said = (map.heap_bytes() - before) as isize;
    assert!((held - said).abs() < 1_024, "{said} of {held}");
}
