//! Who gets a message: merged deliveries, shared groups, expiry and wide masks against models.

#![cfg(not(loom))]

mod model;

use std::{collections::BTreeMap, sync::Arc};

use model::{ExpiryModel, ExpiryOp, LIMITS, Options, ShareModel, ShareOp, check_deliveries};
use proptest::{collection::vec, prelude::*};
use static_assertions::{assert_eq_size, assert_impl_all};
use topicmap::{
    Collector, Deliveries, Filter, InterestMap, InterestReader, MatchCache, SharedGroup,
    Strategy as Dealing, Target, Topic, TopicMap, TopicStore, oracle,
};

assert_eq_size!(Target, [u32; 4]);
assert_eq_size!(topicmap::FilterId, u32);
assert_impl_all!(InterestMap: Send, Sync);
assert_impl_all!(InterestMap<4>: Send, Sync);
assert_impl_all!(InterestReader: Send, Sync, Clone);
assert_impl_all!(TopicMap<u64>: Send, Sync);
assert_impl_all!(TopicStore<u64>: Send, Sync);
assert_impl_all!(MatchCache<u64>: Send, Sync);
assert_impl_all!(Collector<u64>: Send, Sync);
assert_impl_all!(Deliveries<Options>: Send, Sync);
assert_impl_all!(SharedGroup<u32>: Send, Sync, Clone);
assert_impl_all!(topicmap::Stamps: Send, Sync);

fn text(wild: bool) -> impl Strategy<Value = String> {
    let level = if wild { "[ab+]" } else { "[ab]" };
    let tail = if wild { "(/#)?" } else { "" };
    proptest::string::string_regex(&format!("{level}(/{level}){{0,3}}{tail}")).expect("a regex")
}

fn options() -> impl Strategy<Value = Options> {
    (0..3_u8, 0..4_u32, any::<bool>(), any::<bool>()).prop_map(
        |(qos, identifier, no_local, retain_as_published)| Options {
            qos,
            identifier,
            no_local,
            retain_as_published,
        },
    )
}

fn share_op() -> impl Strategy<Value = ShareOp> {
    prop_oneof![
        3 => (0..12_u8, any::<bool>()).prop_map(|(who, online)| ShareOp::Join(who, online)),
        1 => (0..12_u8).prop_map(ShareOp::Leave),
        3 => (0..12_u8, any::<bool>()).prop_map(|(who, online)| ShareOp::Online(who, online)),
        8 => (0..20_u64).prop_map(ShareOp::Pick),
    ]
}

fn strategy() -> impl Strategy<Value = Dealing> {
    prop_oneof![
        Just(Dealing::RoundRobin),
        Just(Dealing::Random),
        Just(Dealing::Sticky),
        Just(Dealing::PublisherHash),
        Just(Dealing::LeastQueued),
    ]
}

fn expiry_op() -> impl Strategy<Value = ExpiryOp> {
    let wait = proptest::option::of(0..20_u8);
    prop_oneof![
        6 => (text(false), any::<u16>(), wait)
            .prop_map(|(text, value, wait)| ExpiryOp::Insert(text, value, wait)),
        1 => text(false).prop_map(ExpiryOp::Remove),
        2 => (0..10_u8).prop_map(ExpiryOp::Wait),
        1 => (0..5_usize).prop_map(ExpiryOp::Sweep),
        2 => (text(true), 1..6_usize).prop_map(|(text, budget)| ExpiryOp::Scan(text, budget)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 300 }))]

    #[test]
    fn deliveries_agree_with_the_oracle(
        // Few slots for overlaps; many subscriptions so that bitmaps are reached.
        subscriptions in vec((text(true), 0..30_u32, options()), 0..250),
        far in 1..300_u32,
        topics in vec(text(false), 1..4),
    ) {
        let spread = |(text, slot, options): (String, u32, Options)| (text, slot * far, options);
        let subscriptions: Vec<_> = subscriptions.into_iter().map(spread).collect();
        check_deliveries(&subscriptions, &topics);
    }

    #[test]
    fn shared_groups_keep_the_promise_of_their_strategy(
        strategy in strategy(),
        ops in vec(share_op(), 1..150),
    ) {
        let mut model = ShareModel::new(strategy);
        for op in &ops {
            model.apply(op);
        }
        if strategy == Dealing::RoundRobin {
            model.deal_evenly(5);
        }
    }

    #[test]
    fn expiry_agrees_with_the_model(ops in vec(expiry_op(), 1..120)) {
        let mut model = ExpiryModel::new(TopicStore::new(LIMITS.seed));
        for op in &ops {
            model.apply(op);
        }
    }

    #[test]
    fn wide_masks_agree_with_the_oracle(
        ops in vec((text(true), any::<u8>(), any::<bool>()), 1..150),
        topics in vec(text(false), 6),
    ) {
        let map = Arc::new(InterestMap::<4>::with_words(LIMITS.seed));
        let mut reader = map.reader();
        let mut counts: BTreeMap<(&str, u8), usize> = BTreeMap::new();
        for (text, shard, add) in &ops {
            let filter = Filter::parse(text, &LIMITS).expect("a filter");
            let count = counts.entry((text, *shard)).or_default();
            if *add {
                map.add(&filter, *shard);
                *count += 1;
            } else if *count > 0 {
                map.remove(&filter, *shard);
                *count -= 1;
            }
        }
        for text in &topics {
            let mut expected = [0_u64; 4];
            for ((filter, shard), count) in &counts {
                if *count > 0 && oracle::matches(filter, text) {
                    expected[usize::from(*shard) / 64] |= 1 << (shard % 64);
                }
            }
            let topic = Topic::parse(text, &LIMITS).expect("a topic");
            prop_assert_eq!(reader.mask_words(&topic), expected);
        }
    }
}

#[test]
fn random_and_hash_spread_evenly_and_hash_moves_little() {
    for strategy in [Dealing::Random, Dealing::PublisherHash] {
        let mut group = SharedGroup::new(strategy, 0x1234_5678);
        for member in 0..10_u32 {
            group.join(member, true);
        }
        let mut random = 1_u64;
        let mut publishers = Vec::new();
        for _ in 0..20_000 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            publishers.push(random ^ random >> 29);
        }
        let before: Vec<_> = publishers.iter().map(|p| group.pick(*p, |_| 0)).collect();
        for member in 0..10 {
            let share = before.iter().filter(|to| **to == Some(member)).count();
            assert!(
                (1700..2300).contains(&share),
                "{strategy:?} {member}: {share}"
            );
        }
        if strategy == Dealing::PublisherHash {
            group.set_online(&4, false);
            let mut moved = 0;
            for (publisher, before) in publishers.iter().zip(&before) {
                let after = group.pick(*publisher, |_| 0);
                assert_ne!(after, Some(4));
                moved += usize::from(*before != after);
            }
            assert!(
                moved < 20_000 * 25 / 100,
                "{moved} publishers changed member"
            );
        }
    }
}

#[test]
fn round_robin_passes_nobody_over_when_one_goes_offline() {
    for turn in 0..6 {
        for gone in 0..6_u32 {
            let mut group = SharedGroup::new(Dealing::RoundRobin, 0);
            for member in 0..6_u32 {
                group.join(member, true);
            }
            let mut round: Vec<_> = (0..turn).filter_map(|_| group.pick(0, |_| 0)).collect();
            group.set_online(&gone, false);
            let rest = 6 - turn - usize::from(!round.contains(&gone));
            round.extend((0..rest).filter_map(|_| group.pick(0, |_| 0)));
            round.retain(|member| *member != gone);
            round.sort_unstable();
            let all: Vec<_> = (0..6).filter(|member| *member != gone).collect();
            assert_eq!(round, all, "turn {turn}, gone {gone}");
        }
    }
}

#[test]
#[should_panic(expected = "no such bit")]
fn a_shard_beyond_the_mask_is_refused() {
    let map = InterestMap::<2>::with_words(LIMITS.seed);
    map.add(&Filter::parse("a", &LIMITS).expect("a filter"), 128);
}
