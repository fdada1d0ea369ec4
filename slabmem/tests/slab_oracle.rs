//! The slab against a hash map of every key that was ever made.
#![cfg(not(loom))]

#[path = "model/slab.rs"]
mod model;

use proptest::prelude::*;

use model::Op;

const OPS_MAX: usize = if cfg!(miri) { 20 } else { 120 };

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => any::<u32>().prop_map(Op::Insert),
        4 => (0..700_u16).prop_map(Op::InsertMany),
        1 => Just(Op::EntryUnused),
        6 => any::<usize>().prop_map(Op::Remove),
        6 => (any::<usize>(), any::<u8>()).prop_map(|(i, n)| Op::RemoveMany(i, n)),
        4 => any::<usize>().prop_map(Op::Get),
        2 => (any::<usize>(), any::<u32>()).prop_map(|(choice, value)| Op::Change(choice, value)),
        2 => (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Op::ChangeTwo(a, b)),
        2 => (0..5_000_u32).prop_map(Op::At),
        1 => (0..5_000_u64, 0..40_u64).prop_map(|(i, generation)| Op::Forge(generation << 32 | i)),
        1 => any::<u64>().prop_map(Op::Forge),
        1 => (1..5_u32).prop_map(Op::Retain),
        1 => Just(Op::Iterate),
        1 => Just(Op::ChangeAll),
        1 => Just(Op::Trim),
        1 => Just(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn slab_answers_as_a_map_does(
        limit in prop_oneof![Just(u32::MAX), 0..6_000_u32],
        ops in prop::collection::vec(op(), 0..OPS_MAX),
    ) {
        model::run(limit, &ops);
    }
}
