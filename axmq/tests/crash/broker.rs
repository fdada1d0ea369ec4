//! The broker as a process that is ended in all ways, and begins anew in the same folder.

use std::net::SocketAddr;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::{Process, TempDir, program};
use crate::{Check, PATIENCE};

pub(crate) struct Broker {
    process: Process,
    pub(crate) address: SocketAddr,
}

/// The same as `always`, said by the listener only.
const BY_LISTENER: &str = "\
[[listener]]
address = \"127.0.0.1:0\"
durability = \"always\"

[store]
durability = \"none\"
";

fn spawn(home: &TempDir, durability: Option<&str>, shards: usize) -> Process {
    let mut command = program(home);
    command.args(["--shards", &shards.to_string()]);
    if durability == Some("listener") {
        std::fs::write(home.join("axmq.toml"), BY_LISTENER).expect("a writable folder");
        command.args(["--config", "axmq.toml"]);
    } else {
        command.args(["--listen", "127.0.0.1:0"]);
        command.envs(durability.map(|value| ("AXMQ_STORE__DURABILITY", value)));
    }
    Process::start(&mut command)
}

impl Broker {
    pub(crate) fn start(home: &TempDir, durability: Option<&str>, shards: usize) -> Check<Self> {
        let mut process = spawn(home, durability, shards);
        let line = process.out.look_for("listening on ", PATIENCE);
        let address = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
        match address {
            Some(address) => Ok(Self { process, address }),
            None => Err(format!(
                "the broker does not start:\n{}",
                Self::kill(process).1
            )),
        }
    }

    /// Starts one, and kills it while it reads what is there, or right after.
    pub(crate) fn start_and_kill(
        home: &TempDir,
        durability: Option<&str>,
        shards: usize,
        within: Duration,
    ) -> Check<()> {
        let mut process = spawn(home, durability, shards);
        process.out.look_for("listening on ", within);
        no_complaint(&Self::kill(process).1)
    }

    fn kill(process: Process) -> (String, String) {
        process.signal(Signal::KILL);
        let (out, err, _) = process.end();
        (out, err)
    }

    /// Ends it after a failure; the last lines of its log may say why.
    pub(crate) fn autopsy(self) -> String {
        let log = Self::kill(self.process).1;
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for its end, after a signal.
    pub(crate) fn end(self) -> Check<()> {
        let (_, err, _) = self.process.end();
        no_complaint(&err)
    }
}

/// What would be wrong whatever the clients see.
fn no_complaint(log: &str) -> Check<()> {
    let is_bad = |line: &&str| ["ERROR", "panicked"].iter().any(|word| line.contains(word));
    match log.lines().find(is_bad) {
        Some(line) => Err(format!("the broker complains: {line}")),
        None => Ok(()),
    }
}
