//! What the program may still do after it has become the user that it is to be.

#![cfg(not(loom))]

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Signal, geteuid};

use self::support::{Process, TempDir, program};

/// A user that every system has, with neither files nor rights.
const USER: &str = "nobody";

/// The program with this user, in a folder that the user can get at.
fn start(home: &TempDir, user: &str) -> Process {
    fs::write(
        home.join("axmq.toml"),
        format!("[broker]\nuser = \"{user}\"\n"),
    )
    .expect("ours");
    let mut command = program(home);
    command.args(["--config", "axmq.toml", "--listen", "127.0.0.1:0"]);
    command.args(["--data-dir", "state/data"]);
    Process::start(&mut command)
}

/// A line of `/proc/PID/status`, without its name and with single blanks.
fn status(pid: u32, name: &str) -> String {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(path).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let line = line.expect("the kernel says so");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_broker_that_was_started_as_root_has_none_of_its_rights_left() {
    let home = TempDir::in_public();
    let mut process = start(&home, USER);
    if !geteuid().is_root() {
        let (_, err, code) = process.end();
        assert_eq!(code.code(), Some(1));
        assert!(
            err.contains("only root can become \"nobody\" (broker.user)"),
            "{err}"
        );
        return;
    }
    process.listening();
    process.out.wait_for("to stop: ");
    let pid = process.child.id();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let mut threads = 0;
    for task in tasks {
        let task = task.expect("it can be listed").file_name();
        let task: u32 = task.to_string_lossy().parse().expect("a number");
        let ids = status(task, "Uid:");
        assert!(
            !ids.split(' ').any(|id| id == "0"),
            "user of thread {task}: {ids}"
        );
        let ids = status(task, "Gid:");
        assert!(
            !ids.split(' ').any(|id| id == "0"),
            "group of thread {task}: {ids}"
        );
        for set in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
            assert_eq!(
                status(task, set),
                "0000000000000000",
                "{set} of thread {task}"
            );
        }
        assert_eq!(status(task, "NoNewPrivs:"), "1");
        threads += 1;
    }
    assert!(threads > 1, "there are shards");
    let data = fs::metadata(home.join("state/data")).expect("it was made");
    assert_ne!(data.uid(), 0);
    assert_eq!(data.mode() & 0o777, 0o700);
    process.signal(Signal::TERM);
    let (_, err, code) = process.end();
    assert!(code.success(), "{err}");
    assert!(err.contains("privileges.dropped"), "{err}");
    assert!(!err.contains("WARN") && !err.contains("ERROR"), "{err}");
}

#[test]
fn a_user_that_is_not_there_ends_the_start() {
    let home = TempDir::in_public();
    let (_, err, code) = start(&home, "no-such-user").end();
    assert_eq!(code.code(), Some(1));
    let expected = "axmq: there is no user \"no-such-user\" on this machine (broker.user)";
    assert!(err.contains(expected), "{err}");
    assert!(!home.join("state").exists(), "nothing was made");
}
