//! A broker that lets in who proves by SCRAM-SHA-256 that they know the password.
//!
//! ```sh
//! cargo run -p axmq --example scram
//! ```
//!
//! A client names the authentication method `SCRAM-SHA-256` and sends its first message as
//! authentication data in CONNECT (MQTT 5.0 section 4.12, RFC 7677). An end of input stops the
//! broker.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use std::error::Error;
use std::io::{self, BufRead};

use axmq::Broker;
use axmq::auth::scram::{self, Scram, Users};

/// Runs the broker until `input` ends.
pub(crate) fn run(mut input: impl BufRead) -> Result<(), Box<dyn Error>> {
    // The broker keeps salted keys, never the password. A program with a user store of its own
    // implements `scram::SecretStore`.
    let mut users = Users::default();
    users.insert("ann", "correct horse")?;
    let running = Broker::builder()
        .listen(([127, 0, 0, 1], 0))
        .mechanism(Scram::sha_256(users)?)
        .start()?;
    println!(
        "listening on {} for {}",
        running.listeners()[0],
        scram::NAME
    );
    io::copy(&mut input, &mut io::sink())?;
    running.shutdown()?;
    Ok(())
}

pub(crate) fn main() -> Result<(), Box<dyn Error>> {
    run(io::stdin().lock())
}
