//! The write queue against a list of byte vectors.
#![cfg(not(loom))]

#[path = "model/queue.rs"]
mod model;

use proptest::prelude::*;
use sharedbuf::BlockCache;

use model::Op;

const OPS_MAX: usize = if cfg!(miri) { 30 } else { 150 };

fn short() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0..40_usize, 1 => 0..600_usize]
}

fn length() -> impl Strategy<Value = usize> {
    // Under Miri every byte of the model counts; a block of the queue is still outgrown.
    let long = if cfg!(miri) {
        2_000..6_000
    } else {
        10_000..40_000_usize
    };
    prop_oneof![4 => short(), 2 => 400..3000_usize, 1 => long]
}

fn op() -> impl Strategy<Value = Op> {
    let class = any::<u8>;
    prop_oneof![
        8 => (length(), class()).prop_map(|(len, class)| Op::Copy(len, class)),
        4 => (length(), class()).prop_map(|(len, class)| Op::With(len, class)),
        4 => (length(), length(), class()).prop_map(|(len, around, c)| Op::Slice(len, around, c)),
        4 => (short(), length(), class()).prop_map(|(head, tail, c)| Op::Parts(head, tail, c)),
        4 => (short(), length(), class()).prop_map(|(head, tail, c)| Op::Pieces(head, tail, c)),
        4 => (length(), short(), length(), class())
            .prop_map(|(head, own, tail, class)| Op::Recipe(head, own, tail, class)),
        3 => (any::<u8>(), length(), class()).prop_map(|(count, len, c)| Op::Run(count, len, c)),
        6 => (0..5_usize, length()).prop_map(|(entries, most)| Op::Send(entries, most)),
        1 => Just(Op::SendAll),
        6 => Just(Op::DropOldest),
        2 => any::<u8>().prop_map(Op::DropMany),
        1 => Just(Op::DropUnsent),
        1 => Just(Op::CopyOutSmall),
        1 => Just(Op::Clear),
        2 => Just(Op::Prepare),
    ]
}

#[cfg(not(feature = "slabmem"))]
fn cache() -> BlockCache {
    BlockCache::new(2)
}

/// With blocks of a pool, which is soon at its limit.
#[cfg(feature = "slabmem")]
fn cache() -> BlockCache {
    BlockCache::with_pool(2, slabmem::Pool::new(2 << 20))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 400 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn queue_answers_as_a_list_does(
        cached in any::<bool>(),
        ops in prop::collection::vec(op(), 0..OPS_MAX),
    ) {
        model::run(cached.then(cache), &ops);
    }
}

/// Every byte boundary of a queue with all kinds of frames, once.
#[test]
fn writes_may_end_at_every_byte() {
    let pushes = [
        Op::Copy(5, 0),
        Op::Copy(7, 2),
        Op::Recipe(12, 3, 600, 1),
        Op::Slice(520, 10, 2),
        Op::With(9, 3),
        Op::Parts(3, 530, 2),
        Op::Copy(4, 1),
        Op::Copy(4, 2),
    ];
    let total = 5 + 7 + (12 + 2 + 3 + 600) + 520 + 9 + 533 + 4 + 4;
    // Under Miri some of them: each takes its time.
    for written in (0..=total).step_by(if cfg!(miri) { 151 } else { 1 }) {
        for after in [
            Op::SendAll,
            Op::DropMany(9),
            Op::DropUnsent,
            Op::CopyOutSmall,
        ] {
            let mut ops = pushes.to_vec();
            ops.extend([Op::Send(64, written), after, Op::Copy(3, 2), Op::DropOldest]);
            model::run(None, &ops);
        }
    }
}
