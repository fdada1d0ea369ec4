//! The fast structures against naive models, driven by random operations.
#![cfg(not(loom))]

mod model;

use model::{
    CacheModel, CacheOp, InterestModel, InterestOp, LIMITS, MapModel, MapOp, StoreModel, StoreOp,
};
use proptest::{collection::vec, prelude::*};
use topicmap::{Filter, InterestMap, MatchCache, Stamps, Topic, TopicMap, TopicStore, oracle};

/// Names over an alphabet so small that they overlap all the time, with empty levels.
fn topic_text() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        4 => Just("a"),
        3 => Just("b"),
        1 => Just(""),
        1 => Just("é"),
        1 => Just("a-longer-level-name"),
    ];
    let shallow = vec(level.clone(), 1..6);
    let deep = prop_oneof![5 => vec(level.clone(), 15..20), 1 => vec(level, 60..80)];
    (
        prop_oneof![12 => Just(""), 1 => Just("$")],
        prop_oneof![15 => shallow, 1 => deep],
    )
        .prop_map(|(first, levels)| first.to_owned() + &levels.join("/"))
        .prop_filter("names are not empty", |text| !text.is_empty())
}

fn filter_text() -> impl Strategy<Value = String> {
    (
        topic_text(),
        any::<u32>(),
        prop_oneof![3 => Just(""), 2 => Just("/#"), 1 => Just("#")],
    )
        .prop_map(|(topic, plus, tail)| {
            let wild = |(at, level): (usize, &str)| {
                if plus >> (2 * (at % 16)) & 3 == 3 {
                    "+".to_owned()
                } else {
                    level.to_owned()
                }
            };
            let levels: Vec<_> = topic.split('/').enumerate().map(wild).collect();
            match tail {
                "#" => "#".to_owned(),
                tail => levels.join("/") + tail,
            }
        })
}

fn any_text() -> impl Strategy<Value = String> {
    "[ab/+#$]{0,8}"
}

fn map_op() -> impl Strategy<Value = MapOp> {
    let filter = prop_oneof![20 => filter_text(), 1 => any_text()];
    let topic = prop_oneof![20 => topic_text(), 1 => any_text()];
    let insert = (filter.clone(), 0..6_u32, any::<u16>());
    prop_oneof![
        5 => insert.prop_map(|(text, subscriber, value)| MapOp::Insert(text, subscriber, value)),
        2 => (filter, 0..6_u32).prop_map(|(text, subscriber)| MapOp::Remove(text, subscriber)),
        3 => (any::<usize>(), 0..6_u32).prop_map(|(nth, who)| MapOp::RemoveById(nth, who)),
        4 => topic.prop_map(MapOp::Match),
    ]
}

fn store_op() -> impl Strategy<Value = StoreOp> {
    let budget = prop_oneof![4 => 0..6_usize, 1 => Just(1000)];
    prop_oneof![
        6 => (topic_text(), any::<u16>()).prop_map(|(text, value)| StoreOp::Insert(text, value)),
        1 => topic_text().prop_map(StoreOp::Remove),
        3 => any::<usize>().prop_map(StoreOp::RemoveNth),
        2 => (filter_text(), budget.clone()).prop_map(|(text, budget)| StoreOp::Scan(text, budget)),
        2 => filter_text().prop_map(StoreOp::Begin),
        5 => (any::<usize>(), budget).prop_map(|(nth, budget)| StoreOp::Continue(nth, budget)),
    ]
}

fn interest_op() -> impl Strategy<Value = InterestOp> {
    prop_oneof![
        4 => (filter_text(), 0..64_u8).prop_map(|(text, shard)| InterestOp::Add(text, shard)),
        1 => (filter_text(), 0..2_u8).prop_map(|(text, shard)| InterestOp::Add(text, shard)),
        4 => any::<usize>().prop_map(InterestOp::Remove),
        4 => (topic_text(), any::<usize>()).prop_map(|(text, who)| InterestOp::Mask(text, who)),
    ]
}

fn cache_op() -> impl Strategy<Value = CacheOp> {
    prop_oneof![
        20 => filter_text().prop_map(CacheOp::Change),
        60 => topic_text().prop_map(CacheOp::Ask),
        1 => Just(CacheOp::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn map_agrees_with_the_oracle(
        shapes in prop_oneof![Just(0), Just(2), Just(64)],
        seed in any::<bool>(),
        ops in vec(map_op(), 1..120),
    ) {
        // With another seed than the texts are parsed with, the answers must be the same.
        let seed = if seed { LIMITS.seed } else { 1 };
        let mut model = MapModel::new(TopicMap::with_shapes_max(seed, shapes));
        for op in &ops {
            model.apply(op);
        }
        model.check_all();
    }

    #[test]
    fn store_agrees_with_the_oracle(ops in vec(store_op(), 1..160), own_seed in any::<bool>()) {
        let seed = if own_seed { 7 } else { LIMITS.seed };
        let mut model = StoreModel::new(TopicStore::new(seed));
        for op in &ops {
            model.apply(op);
        }
        model.finish();
    }

    #[test]
    fn interest_agrees_with_the_oracle(
        ops in vec(interest_op(), 1..300),
        topics in vec(topic_text(), 8),
        own_seed in any::<bool>(),
    ) {
        let seed = if own_seed { 7 } else { LIMITS.seed };
        let mut model = InterestModel::new(InterestMap::new(seed));
        for op in &ops {
            model.apply(op);
        }
        model.finish(&topics);
    }

    #[test]
    fn cache_is_never_stale(
        ops in vec(cache_op(), 1..200),
        places in 1..20_usize,
        own_seed in any::<bool>(),
    ) {
        let stamps = if own_seed { Stamps::with_seed(7) } else { Stamps::with_seed(LIMITS.seed) };
        let mut model = CacheModel::new(stamps, MatchCache::new(places));
        for op in &ops {
            model.apply(op);
        }
    }

    #[test]
    fn parsing_agrees_with_the_oracle(text in any_text()) {
        prop_assert_eq!(Topic::parse(&text, &LIMITS).is_ok(), oracle::valid_topic(&text));
        prop_assert_eq!(Filter::parse(&text, &LIMITS).is_ok(), oracle::valid_filter(&text));
    }

    #[test]
    fn exact_filters_hash_like_topics(text in topic_text()) {
        let topic = Topic::parse(&text, &LIMITS).unwrap();
        let filter = Filter::parse(&text, &LIMITS).unwrap();
        prop_assert_eq!(topic.hash(), filter.hash());
        prop_assert_eq!(topic.level_count(), text.split('/').count());
        prop_assert_eq!(filter.level_count(), text.split('/').count());
    }
}
