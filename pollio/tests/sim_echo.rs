//! Whatever the script: every byte arrives once and in order, and nothing sleeps for ever.

#![cfg(not(loom))]

#[path = "support/echo.rs"]
mod echo;
#[path = "support/ops.rs"]
mod ops;

use ops::{Op, Test};
use pollio::sim::{Fault, Faults, Outcome};
use proptest::prelude::*;

const EMFILE: i32 = 24;
const ECONNABORTED: i32 = 103;

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Normal),
        (1_usize..50).prop_map(Outcome::AtMost),
        Just(Outcome::Interrupted),
        Just(Outcome::WouldBlock),
    ]
}

fn accept_outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Interrupted),
        Just(Outcome::WouldBlock),
        Just(Outcome::Error(EMFILE)),
        Just(Outcome::Error(ECONNABORTED)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let outcomes = || prop::collection::vec(outcome(), 0..6);
    prop_oneof![
        3 => Just(Op::Connect),
        8 => (any::<usize>(), 0_usize..3000).prop_map(|(n, len)| Op::Send(n, len)),
        6 => (any::<usize>(), 0_usize..3000).prop_map(|(n, len)| Op::Receive(n, len)),
        1 => any::<usize>().prop_map(Op::Finish),
        1 => any::<usize>().prop_map(Op::Reset),
        3 => (any::<usize>(), outcomes(), outcomes()).prop_map(|(n, r, w)| Op::Script(n, r, w)),
        1 => prop::collection::vec(accept_outcome(), 0..4).prop_map(Op::ScriptAccepts),
        8 => (1_usize..5).prop_map(Op::Turns),
        2 => any::<usize>().prop_map(Op::HandOver),
    ]
}

fn faults() -> impl Strategy<Value = Faults> {
    prop::collection::vec(
        prop_oneof![2 => Just(0_u16), 1 => 1_u16..700],
        Fault::ALL.len(),
    )
    .prop_map(|rates| {
        let pairs = Fault::ALL.into_iter().zip(rates);
        pairs.fold(Faults::NONE, |faults, (fault, rate)| {
            faults.with(fault, rate)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_byte_arrives_once_and_in_order(
        seed in any::<u64>(),
        faults in faults(),
        buffer_bytes in prop_oneof![1_usize..100, 1000_usize..5000],
        read_bytes_max in prop_oneof![1_usize..200, Just(64 * 1024)],
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut test = Test::new(seed, buffer_bytes, read_bytes_max);
        test.net.set_faults(faults);
        for op in &ops {
            test.apply(op);
        }
        // First everything comes back although things go wrong, and again when they no longer do.
        test.settle();
        test.check();
        test.net.set_faults(Faults::NONE);
        test.finish();
    }
}

#[test]
fn every_fault_is_exercised() {
    let mut test = Test::new(7, 100, 1000);
    test.net.set_faults(Faults::all(200));
    for round in 0..400 {
        test.apply(&Op::Connect);
        test.apply(&Op::Send(round, 150));
        test.apply(&Op::Turns(3));
        test.apply(&Op::HandOver(round));
        test.apply(&Op::Finish(round / 2));
        test.apply(&Op::Receive(round / 3, 1000));
    }
    for fault in Fault::ALL {
        assert!(test.net.fault_count(fault) > 0, "{fault:?} never struck");
    }
    let stale: usize = test.sides.iter().map(|side| side.server.stale).sum();
    assert!(stale > 0, "the server has dropped stale events");
    test.net.set_faults(Faults::NONE);
    test.finish();
}
