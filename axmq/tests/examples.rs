//! The examples run, and end by themselves or with their input.

#![cfg(not(loom))]

#[path = "../examples/embed.rs"]
mod embed;
#[path = "../examples/in_process.rs"]
mod in_process;
#[path = "../examples/scram.rs"]
mod scram;

use std::io;

#[test]
fn a_broker_with_hooks_starts_and_stops() {
    let _: fn() -> _ = embed::main;
    embed::run(io::empty()).expect("it runs");
}

#[test]
fn messages_go_round_within_the_program() {
    in_process::main().expect("it runs");
}

#[test]
fn a_broker_with_scram_starts_and_stops() {
    let _: fn() -> _ = scram::main;
    scram::run(io::empty()).expect("it runs");
}
