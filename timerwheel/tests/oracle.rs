//! Random operations on the wheel and on a naive model must agree.
#![cfg(not(loom))]

mod model;

use model::{Op, Pair};
use proptest::prelude::*;
use timerwheel::Policy;

/// Short, long, and right at the powers of two where levels begin.
fn ticks() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..20_u64,
        4 => 0..5000_u64,
        2 => 900..1100_u64,
        2 => any::<u64>().prop_perturb(|bits, mut rng| bits >> (rng.random::<u32>() % 64)),
        2 => (0..64_u32, 0..3_u64).prop_map(|(bit, off)| (1_u64 << bit).saturating_add(off) - 1),
        1 => Just(u64::MAX),
    ]
}

fn budget() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1..4_usize, Just(usize::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    // Time mostly passes in steps that are short next to the delays.
    let step = || prop_oneof![4 => 0..100_u64, 3 => 0..5000_u64, 1 => ticks()];
    prop_oneof![
        4 => ticks().prop_map(|delay| Op::Insert { delay, zeros: 0 }),
        4 => (0..5000_u64, 6..13_u32).prop_map(|(delay, zeros)| Op::Insert { delay, zeros }),
        1 => ticks().prop_map(|ago| Op::InsertPast { ago }),
        2 => any::<usize>().prop_map(|pick| Op::Cancel { pick }),
        3 => (any::<usize>(), ticks()).prop_map(|(pick, delay)| Op::Touch { pick, delay }),
        2 => (any::<usize>(), ticks()).prop_map(|(pick, delay)| Op::Reset { pick, delay }),
        3 => (step(), budget(), 1..4_usize)
            .prop_map(|(ticks, budget, calls)| Op::Expire { ticks, budget, calls }),
        2 => step().prop_map(|ticks| Op::Follow { ticks }),
        2 => step().prop_map(|ticks| Op::Advance { ticks }),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![
        Just(Policy::Exact),
        Just(Policy::Coarse {
            max_slack_ticks: u64::MAX
        }),
        (0..200_u64).prop_map(|max_slack_ticks| Policy::Coarse { max_slack_ticks }),
    ]
}

fn start() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        (0..100_u64).prop_map(|off| (1 << 36) - 50 + off),
        (0..5000_u64).prop_map(|off| u64::MAX - off),
        any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 5000 },
        max_shrink_time: 20_000,
        // A failure is kept as a case of its own in `regressions.rs`.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_wheel_agrees_with_the_model(
        policy in policy(),
        start in start(),
        ops in prop::collection::vec(op(), 1..if cfg!(miri) { 40 } else { 200 }),
    ) {
        let mut pair = Pair::new(policy, start);
        for op in ops {
            pair.apply(op);
        }
        pair.finish();
    }
}
