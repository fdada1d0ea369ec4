//! A broker in a program, with hooks for everything: who gets in, what they may do, what becomes of
//! their messages, and who comes and goes.
//!
//! ```sh
//! cargo run -p axmq --example embed
//! mosquitto_sub -p PORT -u ann -P apple -t '#' -v
//! mosquitto_pub -p PORT -u bob -P banana -t bob/state -m hello
//! ```
//!
//! Everybody may publish below a topic of their own name and read everything. Passwords are
//! replaced in payloads. An end of input stops it.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::io::{self, BufRead};

use axmq::hooks::{
    Action, Client, ConnectRequest, Decision, Denied, Draft, Ending, Grant, OnConnection, Verdict,
};
use axmq::{Broker, ReasonCode};

/// A table of users; a real program asks a store with password hashes, and may take its time: this
/// runs on threads of its own.
const USERS: [(&str, &[u8]); 2] = [("ann", b"apple"), ("bob", b"banana")];

fn authenticate(request: &ConnectRequest) -> Result<Grant, Denied> {
    let (Some(user), Some(password)) = (request.username(), request.password()) else {
        return Err(Denied::credentials());
    };
    match USERS.iter().find(|(name, _)| *name == user) {
        Some((_, right)) if *right == password => Ok(Grant::to(user)),
        _ => Err(Denied::credentials()),
    }
}

fn authorize(client: &Client<'_>, action: &Action<'_>) -> Decision {
    match action {
        Action::Publish { topic, .. } => {
            let own = topic.split('/').next();
            if own == client.identity() {
                Decision::Allow
            } else {
                Decision::Deny
            }
        }
        _ => Decision::Allow,
    }
}

fn on_publish(_: &Client<'_>, draft: &mut Draft<'_>) -> Verdict {
    let Ok(text) = std::str::from_utf8(draft.payload()) else {
        return Verdict::Refuse(ReasonCode::PayloadFormatInvalid);
    };
    if text.contains("apple") {
        let text = text.replace("apple", "*****");
        draft.set_payload(text);
    }
    Verdict::Pass
}

struct Log;

impl OnConnection for Log {
    fn on_connect(&self, client: &Client<'_>, session_present: bool) {
        let back = if session_present { " again" } else { "" };
        println!("{} is here{back}, from {}", client.id(), client.peer());
    }

    fn on_disconnect(&self, client: &Client<'_>, ending: &Ending<'_>) {
        println!("{} is gone: {ending}", client.id());
    }
}

/// Runs the broker until `input` ends.
pub(crate) fn run(mut input: impl BufRead) -> Result<(), Box<dyn Error>> {
    let running = Broker::builder()
        .listen(([127, 0, 0, 1], 0))
        .authenticate(authenticate)
        .authorize(authorize)
        .on_publish(on_publish)
        .on_connection(Log)
        .start()?;
    println!("listening on {}", running.listeners()[0]);
    io::copy(&mut input, &mut io::sink())?;
    running.shutdown()?;
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    run(io::stdin().lock())
}
