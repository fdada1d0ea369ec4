//! Slices and read blocks against byte vectors.
#![cfg(not(loom))]

#[path = "model/slices.rs"]
mod model;

use proptest::prelude::*;

use model::Op;

const OPS_MAX: usize = if cfg!(miri) { 60 } else { 120 };

fn op() -> impl Strategy<Value = Op> {
    let n = any::<usize>;
    prop_oneof![
        4 => (0..80_usize, any::<u8>()).prop_map(|(len, how)| Op::New(len, how)),
        3 => n().prop_map(Op::Clone),
        4 => (n(), n(), n()).prop_map(|(i, a, b)| Op::Slice(i, a, b)),
        3 => (n(), n()).prop_map(|(i, at)| Op::SplitTo(i, at)),
        3 => (n(), n()).prop_map(|(i, at)| Op::SplitOff(i, at)),
        3 => (n(), n()).prop_map(|(i, at)| Op::Advance(i, at)),
        3 => (n(), n()).prop_map(|(i, at)| Op::Truncate(i, at)),
        2 => (n(), any::<u8>(), any::<u8>()).prop_map(|(i, n, m)| Op::RetainN(i, n, m)),
        12 => n().prop_map(Op::Drop),
        4 => (0..60_usize).prop_map(Op::Fill),
        4 => (n(), n()).prop_map(|(a, b)| Op::Share(a, b)),
        4 => Just(Op::Reset),
        1 => Just(Op::Freeze),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 300 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn slices_answer_as_vectors_do(ops in prop::collection::vec(op(), 0..OPS_MAX)) {
        model::run(&ops);
    }
}
