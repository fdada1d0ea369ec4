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

use self::support::{Process, TempDir, program};

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
        write_config(&home, keys);
        let mut command = program(&home);
        let command = command.args(["--config", "axmq.toml", "--shards", "2"]);
        let mut process = Process::start(command.args(options));
        let address = process.listening();
        process.out.wait_for("to stop: ");
        Self {
            process,
            address,
            home,
        }
    }

    /// Goes on by other keys.
    fn reload(&mut self, keys: &str) -> String {
        write_config(&self.home, keys);
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

fn write_config(home: &TempDir, keys: &str) {
    let text = format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{keys}\n");
    std::fs::write(home.join("axmq.toml"), text).expect("a writable folder");
}
