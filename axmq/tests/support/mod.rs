//! The program as a child process whose lines are read as they come.

#![allow(dead_code, reason = "each test file uses its part")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_axmq");
/// How long a line may take. Far more than it ever does, also on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that is gone when this is.
pub(crate) struct TempDir(pub PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "cli-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Self(path)
    }

    /// One that every user of this machine can get at.
    pub(crate) fn in_public() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("axmq-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Self(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What the configuration is called in the folder of a broker.
const CONFIG: &str = "axmq.toml";

/// Writes the configuration that a broker at `home` goes by from its next reload.
pub(crate) fn write_config(home: &TempDir, lines: &str) {
    fs::write(home.join(CONFIG), lines).expect("the folder is writable");
}

/// The program with a clean environment, at home in `home`.
pub(crate) fn program(home: &TempDir) -> Command {
    let mut command = Command::new(PROGRAM);
    at_home(&mut command, home);
    command
}

pub(crate) fn at_home(command: &mut Command, home: &TempDir) {
    command
        .env_clear()
        .env("HOME", &home.0)
        .current_dir(&home.0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

/// A process whose lines are read as they come, and which does not outlive this.
pub(crate) struct Process {
    pub child: Child,
    pub out: Lines,
    pub err: Lines,
}

pub(crate) struct Lines {
    incoming: Receiver<String>,
    seen: String,
}

impl Lines {
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let (sender, incoming) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            incoming,
            seen: String::new(),
        }
    }

    /// The next line that contains `text`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            let Ok(line) = self.incoming.recv_timeout(PATIENCE) else {
                panic!("no line contains {text:?}; until then:\n{}", self.seen);
            };
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return line;
            }
        }
    }

    /// The same where it comes in time and before the end.
    pub(crate) fn look_for(&mut self, text: &str, within: Duration) -> Option<String> {
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.incoming.recv_timeout(left).ok()?;
            self.seen.push_str(&line);
            self.seen.push('\n');
            if line.contains(text) {
                return Some(line);
            }
        }
    }

    /// Everything, until the stream has ended.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> &str {
        loop {
            match self.incoming.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return &self.seen,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("the stream does not end; until then:\n{}", self.seen)
                }
            }
        }
    }
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("the program was built");
        let out = Lines::of(child.stdout.take().expect("it is piped"));
        let err = Lines::of(child.stderr.take().expect("it is piped"));
        Self { child, out, err }
    }

    /// A broker that goes by these lines of configuration and these options, with the address of
    /// its first listener. It has started: signals are followed, and it can be asked.
    #[track_caller]
    pub(crate) fn broker(home: &TempDir, lines: &str, options: &[&str]) -> (Self, SocketAddr) {
        write_config(home, lines);
        let mut command = program(home);
        command.args(["--config", CONFIG]).args(options);
        let mut process = Self::start(&mut command);
        let address = process.listening();
        process.out.wait_for("to stop: ");
        (process, address)
    }

    #[track_caller]
    pub(crate) fn listening(&mut self) -> SocketAddr {
        let line = self.out.wait_for("listening on ");
        let address = line
            .strip_prefix("listening on ")
            .expect("the line begins so");
        address.parse().expect("an address ends the line")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("an id fits");
        kill_process(Pid::from_raw(pid).expect("an id is positive"), signal).expect("it is ours");
    }

    /// Output, error output and exit status, when it has ended by itself.
    #[track_caller]
    pub(crate) fn end(mut self) -> (String, String, ExitStatus) {
        let out = self.out.drain().to_owned();
        let err = self.err.drain().to_owned();
        let status = self.child.wait().expect("it is ours");
        (out, err, status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
