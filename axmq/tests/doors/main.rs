//! The ways in that are not plain TCP, with the real program.
//!
//! Nothing here waits for time to pass: every wait is for bytes or a line, and fails after
//! `PATIENCE`.

#![cfg(not(loom))]

mod packets;
#[path = "../support/packets.rs"]
mod plain;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod unix;
mod web;

use std::net::SocketAddr;
use std::process::Command;

use self::support::{Process, TempDir, program, write_config};

/// A broker with one listener of the given keys, in a folder of its own.
struct Broker {
    process: Process,
    address: SocketAddr,
    home: TempDir,
}

impl Broker {
    /// `keys` follow the listener's address; sections may come behind them.
    fn start(keys: &str) -> Self {
        Self::start_in(TempDir::new(), keys, &[])
    }

    fn start_in(home: TempDir, keys: &str, options: &[&str]) -> Self {
        let options = [&["--shards", "2"], options].concat();
        let (process, address) = Process::broker(&home, &listener(keys), &options);
        Self {
            process,
            address,
            home,
        }
    }

    /// Goes on by other keys.
    fn reload(&mut self, keys: &str) -> String {
        write_config(&self.home, &listener(keys));
        let output = self.command(&["reload"]).output().expect("it was built");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).expect("text")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.home);
        command.args(arguments);
        command
    }
}

/// The configuration of one listener.
fn listener(keys: &str) -> String {
    format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{keys}\n")
}
