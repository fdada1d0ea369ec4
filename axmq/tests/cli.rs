//! The program as its users meet it: arguments, start-up text, signals, exit codes.
//!
//! Every wait is for a line or for the end of a stream, and fails after `PATIENCE`.

#![cfg(not(loom))]

mod support;

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use self::support::{Lines, PROGRAM, Process, TempDir, at_home, program};

/// Runs the program to its end: output, error output, exit code.
#[track_caller]
fn run(arguments: &[&str]) -> (String, String, Option<i32>) {
    let home = TempDir::new();
    let (out, err, status) = Process::start(program(&home).args(arguments)).end();
    (out, err, status.code())
}

#[test]
fn it_says_where_it_listens_and_ends_orderly_on_each_signal() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = TempDir::new();
        let mut process =
            Process::start(program(&home).args(["--listen", "127.0.0.1:0", "--shards", "2"]));
        let address = process.listening();
        assert_ne!(address.port(), 0);
        TcpStream::connect(address).expect("it listens there");
        process.out.wait_for("to stop: ");
        process.signal(signal);
        let (out, err, status) = process.end();

        assert_eq!(status.code(), Some(0), "{err}");
        let version = format!("axmq {}\n", env!("CARGO_PKG_VERSION"));
        assert!(out.starts_with(&version), "{out}");
        let port = address.port();
        for expected in [
            format!("listening on 127.0.0.1:{port}\n"),
            "2 shards, ".to_owned(),
            ", at most ".to_owned(),
            format!("data in {}\n", home.join(".local/state/axmq").display()),
            format!("mosquitto_sub -h 127.0.0.1 -p {port} -t 'hello/#' -v\n"),
            format!("mosquitto_pub -h 127.0.0.1 -p {port} -t hello/world "),
            "to stop: Ctrl-C, or kill ".to_owned(),
        ] {
            assert!(out.contains(&expected), "{expected:?} is not in\n{out}");
        }
        assert!(out.lines().count() <= 10, "few lines:\n{out}");
        assert!(TcpStream::connect(address).is_err(), "the listener is gone");
    }
}

#[test]
fn log_lines_have_the_time_a_level_and_fields() {
    let home = TempDir::new();
    let mut process = Process::start(program(&home).args(["--listen", "127.0.0.1:0"]));
    process.listening();
    process.signal(Signal::TERM);
    let line = process.err.wait_for("stopping");
    let (time, rest) = line.split_once(' ').expect("there are fields");
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    assert!(rest.trim_start().starts_with("INFO"), "{line}");
    assert!(rest.contains("signal=\"SIGTERM\""), "{line}");
    assert!(
        !line.contains('\u{1b}'),
        "no colours off a terminal: {line:?}"
    );
    assert_eq!(process.end().2.code(), Some(0));

    let mut process =
        Process::start(program(&home).args(["--listen", "127.0.0.1:0", "--log", "error"]));
    process.listening();
    process.signal(Signal::TERM);
    assert_eq!(process.end().1, "", "nothing below the level");
}

#[test]
fn the_log_is_text_logfmt_or_json() {
    for (format, expected) in [
        ("text", "signal=\"SIGTERM\""),
        ("logfmt", "level=info message=\"stopping; a second signal"),
        (
            "json",
            "\"level\":\"info\",\"message\":\"stopping; a second signal",
        ),
    ] {
        let home = TempDir::new();
        let mut command = program(&home);
        command.env("AXMQ_LOG__FORMAT", format);
        let mut process = Process::start(command.args(["--listen", "127.0.0.1:0"]));
        process.out.wait_for("to stop: ");
        process.signal(Signal::TERM);
        assert!(
            process.err.wait_for("stopping").contains(expected),
            "{format}"
        );
        assert_eq!(process.end().2.code(), Some(0));
    }
}

#[test]
fn several_listeners_and_names_are_listened_on() {
    let home = TempDir::new();
    let arguments = ["--listen", "127.0.0.1:0", "--listen", "localhost:0"];
    let mut process = Process::start(program(&home).args(arguments));
    let (first, second) = (process.listening(), process.listening());
    assert_ne!(first.port(), second.port());
    for address in [first, second] {
        TcpStream::connect(address).expect("it listens there");
    }
    process.signal(Signal::TERM);
    assert_eq!(process.end().2.code(), Some(0));
}

#[test]
fn without_arguments_it_would_listen_on_both_loopback_addresses() {
    let (out, err, code) = run(&["config", "show"]);
    assert_eq!((err.as_str(), code), ("", Some(0)));
    let defaults: Vec<_> = out
        .lines()
        .filter_map(|line| line.strip_suffix("# default"))
        .filter(|line| line.starts_with("address = ") || line.starts_with("packet_bytes"))
        .map(str::trim_end)
        .collect();
    assert_eq!(
        defaults,
        [
            "address = \"127.0.0.1:1883\"",
            "address = \"[::1]:1883\"",
            "packet_bytes = 1_048_576",
        ]
    );
}

#[test]
fn the_origin_of_a_value_is_shown() {
    let home = TempDir::new();
    fs::write(home.join("a.toml"), "[limits]\ninflight = 9\n").expect("home is writable");
    let mut command = program(&home);
    command.env("AXMQ_LOG__LEVEL", "warn");
    command.args(["config", "show", "--config", "a.toml", "--shards", "3"]);
    let (out, err, status) = Process::start(&mut command).end();
    assert_eq!(status.code(), Some(0), "{err}");
    for (value, origin) in [
        ("inflight = 9", "# a.toml:2"),
        ("level = \"warn\"", "# AXMQ_LOG__LEVEL"),
        ("shards = 3", "# --shards"),
    ] {
        let line = out
            .lines()
            .find(|line| line.starts_with(value))
            .unwrap_or_default();
        assert!(line.ends_with(origin), "{value}: {out}");
    }
    assert!(
        !home.join(".local").exists(),
        "looking at the configuration writes nothing"
    );
}

#[test]
fn usage_errors_end_with_2() {
    for (arguments, expected) in [
        (vec!["--lisen", "127.0.0.1:0"], "--listen"),
        (vec!["--listen", ":1883"], "127.0.0.1:1883"),
        (vec!["--listen", "127.0.0.1"], "127.0.0.1:1883"),
        (vec!["--listen", "::1:1883"], "brackets"),
        (vec!["--log", "loud"], "error, warn, info, debug, trace"),
        (vec!["--shards", "many"], "many"),
        (vec!["--shards", "65"], "64"),
        (vec!["config"], "check"),
        (vec!["sing"], "sing"),
    ] {
        let (out, err, code) = run(&arguments);
        assert_eq!((out.as_str(), code), ("", Some(2)), "{arguments:?}: {err}");
        assert!(err.contains(expected), "{arguments:?}: {err}");
    }
}

#[test]
fn help_and_version_end_with_0() {
    let (out, _, code) = run(&["--version"]);
    assert_eq!(
        (out, code),
        (format!("axmq {}\n", env!("CARGO_PKG_VERSION")), Some(0))
    );
    let (out, _, code) = run(&["--help"]);
    assert_eq!(code, Some(0));
    for option in [
        "--listen",
        "--config",
        "--data-dir",
        "--shards",
        "--log",
        "--allow-anonymous",
        "--version",
    ] {
        assert!(out.contains(option), "{option} is not in\n{out}");
    }
}

#[test]
fn configuration_errors_end_with_3_whether_it_runs_or_checks() {
    let home = TempDir::new();
    fs::write(home.join("bad.toml"), "[limits]\npacket_byte = 5\n").expect("home is writable");
    for check in [&[][..], &["config", "check"], &["config", "show"]] {
        let mut command = program(&home);
        command.args(check).args(["--config", "bad.toml"]);
        let (out, err, status) = Process::start(&mut command).end();
        assert_eq!((out.as_str(), status.code()), ("", Some(3)));
        for expected in [
            "bad.toml:2:1: unknown key `packet_byte`",
            "2 | packet_byte = 5",
            "^^^^^^^^^^^ did you",
        ] {
            assert!(err.contains(expected), "{expected:?} is not in\n{err}");
        }
    }
    let (_, err, code) = run(&["--config", "missing.toml"]);
    assert_eq!(code, Some(3));
    assert!(
        err.contains("missing.toml: No such file or directory"),
        "{err}"
    );

    let mut command = program(&home);
    command.env("AXMQ_LIMITS__PACKET_BYTE", "5");
    let (_, err, status) = Process::start(&mut command).end();
    assert_eq!(status.code(), Some(3));
    assert!(
        err.contains("did you mean AXMQ_LIMITS__PACKET_BYTES?"),
        "{err}"
    );
    assert!(
        !home.join(".local").exists(),
        "a refused configuration writes nothing"
    );
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let home = TempDir::new();
    fs::write(home.join("a.toml"), "[limits]\ninflight = 9\n").expect("home is writable");
    let mut command = program(&home);
    command.args(["config", "check", "--config", "a.toml"]);
    let (out, err, status) = Process::start(&mut command).end();
    assert_eq!((out.as_str(), err.as_str()), ("a.toml is accepted\n", ""));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn an_open_address_needs_consent() {
    let (out, err, code) = run(&["--listen", "0.0.0.0:0"]);
    assert_eq!((out.as_str(), code), ("", Some(3)));
    for expected in [
        "0.0.0.0:0",
        "--allow-anonymous",
        "allow_anonymous = true",
        "127.0.0.1:0",
    ] {
        assert!(err.contains(expected), "{expected:?} is not in\n{err}");
    }

    let home = TempDir::new();
    let arguments = ["--listen", "0.0.0.0:0", "--allow-anonymous"];
    let mut process = Process::start(program(&home).args(arguments));
    let port = process.listening().port();
    TcpStream::connect(("127.0.0.1", port)).expect("it listens there");
    process
        .out
        .wait_for(&format!("mosquitto_sub -h 127.0.0.1 -p {port} "));
    process.signal(Signal::TERM);
    assert_eq!(process.end().2.code(), Some(0));
}

#[test]
fn a_port_in_use_ends_with_1_and_is_named() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = holder.local_addr().expect("it is bound").to_string();
    let (out, err, code) = run(&["--listen", &address]);
    assert_eq!((out.as_str(), code), ("", Some(1)), "{err}");
    let errors: Vec<_> = err
        .lines()
        .filter(|line| line.starts_with("axmq: "))
        .collect();
    assert_eq!(errors.len(), 1, "one clear line: {err}");
    assert!(
        errors[0].contains(&address) && errors[0].contains("ss -ltnp"),
        "{err}"
    );
}

#[test]
fn an_address_of_another_machine_ends_with_1_and_is_named() {
    // TEST-NET-1 of RFC 5737 belongs to nobody.
    let (_, err, code) = run(&["--listen", "192.0.2.1:0", "--allow-anonymous"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("cannot listen on 192.0.2.1:0"), "{err}");
}

#[test]
fn the_data_directory_is_private_and_the_only_place_written_to() {
    let home = TempDir::new();
    let data = home.join("state/data");
    let mut command = program(&home);
    command.args(["--listen", "127.0.0.1:0", "--data-dir", "state/data"]);
    let mut process = Process::start(&mut command);
    process.listening();
    let metadata = fs::metadata(&data).expect("it was made");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o700);
    let lock = fs::metadata(data.join("lock")).expect("it is locked");
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
    let pid = fs::read_to_string(data.join("lock")).expect("it is ours to read");
    assert_eq!(pid, format!("{}\n", process.child.id()));
    process.out.wait_for(&format!("data in {}", data.display()));
    process.signal(Signal::TERM);
    assert_eq!(process.end().2.code(), Some(0));
    assert_eq!(names_in(&home.0), ["state"], "nothing is written elsewhere");
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("it is there");
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_second_broker_on_the_same_data_is_refused_and_the_first_named() {
    let home = TempDir::new();
    let start = || Process::start(program(&home).args(["--listen", "127.0.0.1:0"]));
    let mut first = start();
    first.listening();
    let (out, err, status) = start().end();
    assert_eq!((out.as_str(), status.code()), ("", Some(1)), "{err}");
    assert!(
        err.contains(&format!("process {}", first.child.id())),
        "{err}"
    );
    assert!(err.contains("--data-dir"), "{err}");

    // A lock ends with its process, however that ends.
    first.signal(Signal::KILL);
    assert_eq!(first.end().2.code(), None);
    let mut third = start();
    third.listening();
    third.signal(Signal::TERM);
    assert_eq!(third.end().2.code(), Some(0));
}

#[test]
fn a_data_directory_that_cannot_be_made_ends_with_1() {
    let home = TempDir::new();
    fs::write(home.join("file"), "").expect("home is writable");
    for path in ["file", "file/below"] {
        let mut command = program(&home);
        command.args(["--listen", "127.0.0.1:0", "--data-dir", path]);
        let (_, err, status) = Process::start(&mut command).end();
        assert_eq!(status.code(), Some(1), "{err}");
        let expected = format!(
            "cannot make the data directory {}",
            home.join(path).display()
        );
        assert!(err.contains(&expected), "{err}");
    }
    let metadata = fs::metadata(home.join("file")).expect("it is there");
    assert_eq!(metadata.size(), 0, "what was there is untouched");
}

/// The program under a limit on open files that the shell sets.
fn limited(home: &TempDir, limits: &str, arguments: &[&str]) -> Process {
    let mut command = Command::new("/bin/sh");
    at_home(&mut command, home);
    command
        .args(["-c", &format!("{limits}; exec \"$@\""), "sh", PROGRAM])
        .args(arguments);
    Process::start(&mut command)
}

#[test]
fn the_file_limit_is_raised_and_bounds_the_connections() {
    let home = TempDir::new();
    let listen = ["--listen", "127.0.0.1:0", "--shards", "1"];
    let mut command = program(&home);
    command.args(["config", "show"]);
    // Fronts depend on the machine.
    let (shown, _, _) = Process::start(&mut command).end();
    let fronts = shown
        .lines()
        .find(|line| line.starts_with("fronts = "))
        .unwrap_or_default();
    let fronts = fronts
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse::<u64>().ok())
        .expect("shown");

    let mut process = limited(&home, "ulimit -Sn 100; ulimit -Hn 300", &listen);
    let line = process.out.wait_for("at most ");
    let expected = 300 - 64 - 4 * (1 + fronts) - fronts;
    assert!(
        line.ends_with(&format!("at most {expected} connections")),
        "{line}"
    );
    process.signal(Signal::TERM);
    let (_, err, _) = process.end();
    assert!(
        !err.contains("fewer connections"),
        "nobody asked for more: {err}"
    );
}

#[test]
fn fewer_connections_than_asked_for_is_a_warning_and_none_at_all_an_error() {
    let home = TempDir::new();
    fs::write(home.join("a.toml"), "[limits]\nconnections = 5000\n").expect("home is writable");
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--shards",
        "1",
        "--config",
        "a.toml",
    ];
    let mut process = limited(&home, "ulimit -n 300", &arguments);
    process.out.wait_for("at most ");
    let line = process.err.wait_for("fewer connections");
    assert!(
        line.contains("wanted=5000") && line.contains("files=300"),
        "{line}"
    );
    process.signal(Signal::TERM);
    assert_eq!(process.end().2.code(), Some(0));

    let (_, err, status) = limited(&home, "ulimit -n 20", &arguments).end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("20 open files are too few"), "{err}");
}

#[test]
fn a_reader_that_has_gone_away_does_no_harm() {
    let home = TempDir::new();
    let mut command = program(&home);
    command
        .args(["--listen", "127.0.0.1:0"])
        .stdout(broken_pipe());
    let mut child = command.spawn().expect("the program was built");
    let err = Lines::of(child.stderr.take().expect("it is piped"));
    let out = Lines::of(std::io::empty());
    let mut process = Process { child, out, err };
    process.err.wait_for("cannot write to standard output");
    process.signal(Signal::TERM);
    process.err.wait_for("stopping");
    assert_eq!(process.end().2.code(), Some(0));

    let output = program(&home)
        .args(["config", "show"])
        .stdout(broken_pipe())
        .output();
    let output = output.expect("it runs");
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

/// Without a log nobody is told, and the broker serves all the same.
#[test]
fn a_log_that_nobody_reads_does_no_harm() {
    let home = TempDir::new();
    let mut command = program(&home);
    command
        .args(["--listen", "127.0.0.1:0", "--log", "trace"])
        .stderr(broken_pipe());
    let mut child = command.spawn().expect("the program was built");
    let out = Lines::of(child.stdout.take().expect("it is piped"));
    let mut process = Process {
        child,
        out,
        err: Lines::of(std::io::empty()),
    };
    let address = process.listening();
    process.out.wait_for("to stop: ");
    process.signal(Signal::HUP);
    TcpStream::connect(address).expect("it still listens");
    process.signal(Signal::TERM);
    assert_eq!(process.end().2.code(), Some(0));
}

/// The writing end of a pipe whose reading end is closed.
fn broken_pipe() -> std::io::PipeWriter {
    let (reader, writer) = std::io::pipe().expect("there are descriptors");
    drop(reader);
    writer
}

#[test]
fn a_full_disk_under_the_output_of_a_command_is_a_failure() {
    let home = TempDir::new();
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("Linux has it");
    let output = program(&home)
        .args(["config", "show"])
        .stdout(full)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("cannot write to standard output"), "{err}");
}
