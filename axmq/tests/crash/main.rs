//! What was acknowledged is there after a crash: real clients, a real broker, `kill -9` at moments
//! of chance, and everything looked at after each start.
//!
//! Four publishers send at QoS 1 and 2, to followers that are there, come and go or are away, and
//! to a shared group; they retain messages and remove them; others subscribe and unsubscribe.
//! Clients of 3.1.1 and 5.0 keep their half of the protocol across the crashes, and repeat what was
//! not acknowledged. The number of shards changes with each start, some ends are orderly, and some
//! kills come while the broker starts. Checked after each start, with `always`:
//!
//! - every session is there;
//! - every message that was acknowledged comes to each follower, in the order of its publisher and
//!   topic, and at QoS 2 once;
//! - every message that was acknowledged comes to a member of its group, and at QoS 2 to one of
//!   them, once;
//! - retained is what was acknowledged last, or what came later and was not acknowledged;
//! - a filter whose SUBACK came is subscribed to, one whose UNSUBACK came is not.
//!
//! With `interval`, the third argument of `.ci/crash`, the same has to hold but for what was said
//! or acknowledged within [`BOUND`] before a kill.
//!
//! `.ci/crash ROUNDS` runs more rounds. A failure prints its seed and round; `AXMQ_CRASH_SEED`
//! repeats the dice, though not the moment at which the machine has what to do.

#![cfg(not(loom))]

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod dice;
mod extras;
mod ledger;
mod link;
mod publisher;
mod scenes;
mod stage;
mod subscriber;
mod view;

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use rustix::process::Signal;

use self::broker::Broker;
use self::stage::Stage;
use self::support::TempDir;

/// `Err` says what is wrong.
type Check<T> = Result<T, String>;

/// What the default interval of 50 ms may lose: the interval, and a sync on a disk that is busy.
const BOUND: Duration = Duration::from_millis(300);

/// Within this something comes. Many rounds run at the lowest priority, beside whatever else the
/// machine does.
const PATIENCE: Duration = Duration::from_secs(600);

/// Rounds after which everything begins anew in an empty folder, from a seed of its own.
const ROUNDS_A_LIFE: usize = 50;

/// Broker and clients are busy in each other's time; a round takes about half a second.
const ROUNDS: usize = 2;

fn of_environment<T: FromStr<Err: Display>>(name: &str, otherwise: T) -> T {
    match std::env::var(name) {
        Ok(text) => match text.parse() {
            Ok(value) => value,
            Err(error) => panic!("{name}={text}: {error}"),
        },
        Err(_) => otherwise,
    }
}

/// Runs rounds on one data directory. The stage is given back for its numbers.
fn live(durability: Option<&str>, seed: u64, rounds: usize, home: &TempDir) -> Check<Stage> {
    let bound = (durability == Some("interval")).then_some(BOUND);
    let mut stage = Stage::new(seed, bound);
    for round in 0..=rounds {
        let at_round = |error| format!("round {round}: {error}");
        let shards = 1 + (round + 1) % 2;
        let broker = Broker::start(home, durability, shards).map_err(at_round)?;
        let address = broker.address;
        let is_last = round == rounds;
        let mut done = stage.settle(address);
        if !is_last {
            done = done.and_then(|()| stage.work(address));
        }
        if let Err(error) = done {
            let log = broker.autopsy();
            return Err(at_round(format!("{error}\nthe broker's log ends:\n{log}")));
        }
        // After the first, so that nothing of what was set up is new when it is killed.
        let is_orderly = round == 0 || is_last || stage.dice.is_one_in(8);
        let signal = if is_orderly {
            Signal::TERM
        } else {
            Signal::KILL
        };
        stage.end(broker, signal).map_err(at_round)?;
        if stage.dice.is_one_in(6) {
            let within = Duration::from_millis(stage.dice.below(150) as u64);
            Broker::start_and_kill(home, durability, shards, within).map_err(at_round)?;
        }
    }
    Ok(stage)
}

fn run(durability: &str) {
    let rounds = of_environment("AXMQ_CRASH_ROUNDS", ROUNDS);
    let first_seed = of_environment("AXMQ_CRASH_SEED", 1_u64);
    let (mut left, mut seed) = (rounds, first_seed);
    let (mut acks, mut arrivals, mut lost, mut doubled) = (0, 0, 0, 0);
    let mut worst = Duration::ZERO;
    while left > 0 {
        let of_life = left.min(ROUNDS_A_LIFE);
        let home = TempDir::new();
        let stage = match live(Some(durability), seed, of_life, &home) {
            Ok(stage) => stage,
            Err(error) => {
                let folder = home.0.clone();
                // For whoever wants to look.
                std::mem::forget(home);
                panic!(
                    "with {durability}: {error}\nto repeat: AXMQ_CRASH_SEED={seed} \
                     AXMQ_CRASH_ROUNDS={of_life}; its data: {}",
                    folder.display()
                );
            }
        };
        acks += stage.acks;
        arrivals += stage.arrivals;
        lost += stage.judge.lost;
        doubled += stage.judge.doubled;
        worst = worst.max(stage.judge.worst);
        left -= of_life;
        seed += 1;
        eprintln!("{durability}: {left} rounds left");
    }
    eprintln!(
        "{durability}: {rounds} rounds from seed {first_seed}: {acks} acknowledged, {arrivals} \
         received, {lost} lost and {doubled} doubled within the bound, the oldest {worst:?} before \
         a kill"
    );
}

#[test]
fn nothing_is_lost_and_nothing_doubled() {
    run(&of_environment(
        "AXMQ_CRASH_DURABILITY",
        "always".to_owned(),
    ));
}

/// The proof can fail: without a store it does, in the first round after the first kill.
#[test]
fn without_durability_it_is_found_out() {
    let home = TempDir::new();
    let Err(error) = live(Some("none"), 1, 2, &home) else {
        panic!("nothing was missing");
    };
    assert!(error.contains("is lost"), "{error}");
}
