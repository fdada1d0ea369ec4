//! The fast structures against naive models, driven by random operations.
#![cfg(not(loom))]

mod model;

use model::{LIMITS, MapModel, MapOp};
use proptest::{collection::vec, prelude::*};
use topicmap::{Filter, Topic, TopicMap, oracle};

/// Names over an alphabet so small that they overlap all the time, with empty levels.
fn topic_text() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        4 => Just("a"), 3 => Just("b"), 1 => Just(""), 1 => Just("é"), 1 => Just("a-longer-level-name"),
    ];
    let shallow = vec(level.clone(), 1..6);
    let deep = vec(level, 15..20);
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn map_agrees_with_the_oracle(shapes in prop_oneof![Just(0), Just(2), Just(64)], seed in any::<bool>(), ops in vec(map_op(), 1..120)) {
        // With another seed than the texts are parsed with, the answers must be the same.
        let seed = if seed { LIMITS.seed } else { 1 };
        let mut model = MapModel::new(TopicMap::with_shapes_max(seed, shapes));
        for op in &ops {
            model.apply(op);
        }
        model.check_all();
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
