//! What a script of the simulation can say. A fuzz target can take the same operations.

use pollio::sim::{Fault, Faults, Outcome};
use proptest::prelude::*;

/// One step of a test that plays the peers of a server.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// A new connection.
    Connect,
    /// A connection, by number modulo how many there are, sends so many bytes.
    Send(usize, usize),
    /// It receives at most so many.
    Receive(usize, usize),
    /// It sends no more.
    Finish(usize),
    /// It breaks.
    Reset(usize),
    /// What its next reads and writes do.
    Script(usize, Vec<Outcome>, Vec<Outcome>),
    /// What the next accepts do.
    ScriptAccepts(Vec<Outcome>),
    /// So many turns of the server.
    Turns(usize),
    /// The stream is handed to the other loop, if it is the server's to give.
    HandOver(usize),
}

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

pub(crate) fn op() -> impl Strategy<Value = Op> {
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

pub(crate) fn faults() -> impl Strategy<Value = Faults> {
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
