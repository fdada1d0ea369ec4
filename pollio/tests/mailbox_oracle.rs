//! The mailbox against a plain model.

#![cfg(not(loom))]

#[path = "support/mailbox_ops.rs"]
mod mailbox_ops;

use mailbox_ops::{Op, run};
use proptest::prelude::*;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => Just(Op::TryPush),
        20 => (0_usize..100).prop_map(Op::TryPushAll),
        20 => Just(Op::Push),
        20 => (0_usize..100).prop_map(Op::PushAll),
        32 => any::<bool>().prop_map(Op::Drain),
        1 => Just(Op::CloneSender),
        1 => Just(Op::DropReceiver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 10 } else { 1_000 }))]

    #[test]
    fn the_mailbox_behaves_as_two_plain_queues(
        capacity in prop_oneof![0_usize..3, 0_usize..300],
        ops in prop::collection::vec(op(), 0..150),
    ) {
        run(capacity, &ops);
    }
}
