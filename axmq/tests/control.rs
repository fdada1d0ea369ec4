//! The sub-commands that talk to a running broker, and reloads, as their users meet them.
//!
//! Every wait is for a line, for bytes or for the end of a process, and fails after `PATIENCE`.

#![cfg(not(loom))]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;

use mqtt_codec::Version;
use mqtt_codec::encode::Connect;
use rustix::process::Signal;

use self::support::{PATIENCE, Process, TempDir, program, write_config};

struct Broker {
    process: Process,
    address: SocketAddr,
    home: TempDir,
}

impl Broker {
    /// A broker with these lines as its configuration.
    fn start(lines: &str) -> Self {
        let home = TempDir::new();
        let (process, address) = Process::broker(&home, lines, &["--listen", "127.0.0.1:0"]);
        Self {
            process,
            address,
            home,
        }
    }

    fn write(&self, lines: &str) {
        write_config(&self.home, lines);
    }

    /// Output, error output and exit code of a command to this broker.
    fn command(&self, arguments: &[&str]) -> (String, String, Option<i32>) {
        let (out, err, status) = Process::start(program(&self.home).args(arguments)).end();
        (out, err, status.code())
    }

    /// The output of a command that succeeds.
    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> String {
        let (out, err, code) = self.command(arguments);
        assert_eq!((err.as_str(), code), ("", Some(0)), "{arguments:?}: {out}");
        out
    }

    fn connect(&self, client_id: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let connect = Connect {
            client_id,
            clean_start: true,
            ..Connect::default()
        };
        let bytes = connect.encode_to_vec(Version::V311);
        stream.write_all(&bytes).expect("it reads");
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).expect("it answers");
        assert_eq!(connack, [0x20, 2, 0, 0]);
        stream
    }
}

#[test]
fn clients_are_listed_shown_kicked_and_remembered() {
    let broker = Broker::start("[broker]\nshards = 2\n");
    let mut streams: Vec<_> = ["a", "b \"quoted\"", "c"]
        .map(|id| broker.connect(id))
        .into();
    let status = broker.ask(&["status"]);
    assert!(status.contains("clients connected    3\n"), "{status}");
    assert!(status.contains("  accepting_held  "), "{status}");
    assert!(
        status.contains(&format!("listening on {}\n", broker.address)),
        "{status}"
    );

    let list = broker.ask(&["clients", "list", "--json"]);
    for id in [r#""id":"a""#, r#""id":"b \"quoted\"""#, r#""id":"c""#] {
        assert!(list.contains(id), "{list}");
    }
    let list = broker.ask(&["clients", "list", "--limit", "2"]);
    assert!(
        list.contains("there are more: axmq clients list --from "),
        "{list}"
    );
    let page = list
        .split_whitespace()
        .skip_while(|word| *word != "--from")
        .nth(1);
    let page = page.expect("it names the page").trim_end_matches(',');
    let rest = broker.ask(&["clients", "list", "--from", page]);
    assert_eq!(
        rest.lines().count(),
        2,
        "a heading and the third client: {rest}"
    );
    assert_eq!(broker.ask(&["clients", "list", "--all"]).lines().count(), 4);

    let shown = broker.ask(&["clients", "show", "a"]);
    assert!(shown.contains("connected from  127.0.0.1:"), "{shown}");
    let kicked = broker.ask(&["clients", "kick", "a"]);
    assert_eq!(kicked, "\"a\" is disconnected\n");
    let mut nothing = [0; 1];
    assert_eq!(streams[0].read(&mut nothing).expect("a close"), 0);
    let (_, err, code) = broker.command(&["clients", "kick", "a"]);
    assert_eq!(
        (err.as_str(), code),
        ("axmq: \"a\" is not connected\n", Some(1))
    );
    let (_, err, code) = broker.command(&["clients", "show", "nobody"]);
    assert_eq!(
        (err.as_str(), code),
        ("axmq: \"nobody\" has no session here\n", Some(1))
    );

    let last = broker.ask(&["disconnects", "a"]);
    assert!(
        last.contains("by operator (0x98): an operator has ended"),
        "{last}"
    );
    // A packet type that does not exist.
    streams[2].write_all(&[0, 0]).expect("it reads");
    assert_eq!(streams[2].read(&mut nothing).expect("a close"), 0);
    let all = broker.ask(&["disconnects"]);
    let mut lines = all.lines();
    let latest = lines.next().expect("two lines");
    assert!(latest.contains(" c from 127.0.0.1:"), "{all}");
    assert!(
        latest.contains("by client (0x81)") && latest.contains("[MQTT 5.0 section 2.1.2"),
        "{all}"
    );
    assert!(
        lines.next().is_some_and(|line| line.contains(" a from ")),
        "{all}"
    );
    let (_, err, code) = broker.command(&["disconnects", "nobody"]);
    assert_eq!(code, Some(1), "{err}");
}

#[test]
fn a_trace_shows_packets_until_it_is_interrupted() {
    let broker = Broker::start("");
    let mut tracer = Process::start(program(&broker.home).args(["trace", "device"]));
    tracer.out.wait_for("not connected");
    let mut device = broker.connect("device");
    assert!(tracer.out.wait_for("CONNECT").contains("MQTT 3.1.1"));
    tracer.out.wait_for("CONNACK 0x00");
    device.write_all(&[0xC0, 0]).expect("it reads");
    tracer.out.wait_for("PINGREQ");
    tracer.out.wait_for("PINGRESP");
    // Read to the end, so that the close is no reset.
    device.read_exact(&mut [0; 2]).expect("it answers");
    drop(device);
    tracer.out.wait_for("closed by network");
    // Two at a time see the same, and one that is killed does no harm to the other.
    let mut second = Process::start(program(&broker.home).args(["trace", "--json", "device"]));
    second.out.wait_for("\"text\":\"not connected\"");
    // Not SIGINT, which a background job of a shell ignores, and its children with it.
    tracer.signal(Signal::TERM);
    assert!(!tracer.end().2.success());
    let _device = broker.connect("device");
    second.out.wait_for("CONNACK");
    broker.process.signal(Signal::TERM);
    let (_, err, status) = second.end();
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("the broker has stopped"), "{err}");
}

#[test]
fn a_reload_applies_what_it_can_and_names_what_needs_a_restart() {
    let mut broker = Broker::start("[limits]\nkeep_alive_max_s = 100\n");
    assert_eq!(broker.ask(&["reload"]), "nothing has changed\n");
    broker.write(
        "[limits]\nkeep_alive_max_s = 7\n[log]\nlevel = \"debug\"\n[budgets]\nread_packets = 9\n",
    );
    let said = broker.ask(&["reload"]);
    assert_eq!(
        said,
        "log.level: \"info\" -> \"debug\"\nlimits.keep_alive_max_s: 100 -> 7\n\
         budgets.read_packets: 64 -> 9 (needs a restart)\n"
    );
    broker.process.err.wait_for("config.reloaded");
    let _client = broker.connect("device");
    // The level holds at once: a connect is a line for debugging.
    broker.process.err.wait_for("client.connected");
    let shown = broker.ask(&["clients", "show", "device"]);
    assert!(shown.contains("keep alive      7 s"), "{shown}");
    assert_eq!(
        broker.ask(&["reload"]),
        "budgets.read_packets: 64 -> 9 (needs a restart)\n",
        "what is applied is no change any more"
    );

    // Nothing of a bad configuration is applied, whoever asks.
    broker.write("[limits]\nkeep_alive_max_s = 5\ninflite = 3\n");
    let (out, err, code) = broker.command(&["reload"]);
    assert_eq!((out.as_str(), code), ("", Some(1)), "{err}");
    for expected in [
        "nothing has changed",
        "axmq.toml:3:1: unknown key `inflite`",
    ] {
        assert!(err.contains(expected), "{err}");
    }
    broker.process.signal(Signal::HUP);
    let refused = broker.process.err.wait_for("by=\"SIGHUP\"");
    assert!(
        refused.contains("ERROR") && refused.contains("unknown key `inflite`"),
        "{refused}"
    );
    let shown = broker.ask(&["clients", "show", "device"]);
    assert!(shown.contains("keep alive      7 s"), "{shown}");

    broker.write("[limits]\ninflight = 3\n");
    broker.process.signal(Signal::HUP);
    broker.process.err.wait_for("limits.inflight: 4_096 -> 3");
}

#[test]
fn a_shortage_of_memory_is_shown_and_a_reload_ends_it() {
    // Less than any process has.
    let mut broker = Broker::start("[limits]\nmemory_bytes = 1\n");
    let mut stream = broker.connect("a");
    let line = broker.process.err.wait_for("memory.short");
    assert!(line.contains("shed-clients"), "{line}");
    let status = broker.ask(&["status"]);
    assert!(
        status.contains("bytes of 1, shortage: shed-clients\n"),
        "{status}"
    );
    // Topic `t`, QoS 1, packet ids 1 and 2. That it publishes is known after the first.
    stream
        .write_all(&[0x32, 5, 0, 1, b't', 0, 1, 0x32, 5, 0, 1, b't', 0, 2])
        .expect("it has room");
    let mut puback = [0; 4];
    stream.read_exact(&mut puback).expect("the first");
    assert_eq!(puback, [0x40, 2, 0, 1]);
    let status = broker.ask(&["status", "--json"]);
    assert!(status.contains("\"publishers_held\":1"), "{status}");

    broker.write("");
    assert_eq!(
        broker.ask(&["reload"]),
        "limits.memory_bytes: 1 -> 0\n",
        "at once"
    );
    broker.process.err.wait_for("memory.eased");
    stream.read_exact(&mut puback).expect("the second");
    assert_eq!(puback, [0x40, 2, 0, 2]);
    assert!(broker.ask(&["status"]).contains("shortage: none\n"));
}

#[test]
fn the_socket_is_private_and_goes_with_its_broker() {
    let broker = Broker::start("");
    let data_dir = broker.home.join(".local/state/axmq");
    let socket = data_dir.join("control.sock");
    let metadata = fs::symlink_metadata(&socket).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    // Bytes that are no question are answered by an error, and end nothing but their connection.
    let mut stream = UnixStream::connect(&socket).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(b"\0\0\0\x02hi").expect("it reads");
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .expect("it answers and closes");
    assert!(
        String::from_utf8_lossy(&answer).contains("\"error\""),
        "{answer:?}"
    );
    broker.ask(&["status"]);

    broker.process.signal(Signal::TERM);
    let Broker { process, home, .. } = broker;
    assert_eq!(process.end().2.code(), Some(0));
    assert!(!socket.exists());
    for arguments in [&["status"][..], &["reload"], &["clients", "list"]] {
        let (out, err, status) = Process::start(program(&home).args(arguments)).end();
        assert_eq!((out.as_str(), status.code()), ("", Some(1)));
        assert!(
            err.contains("no broker is running with the data directory"),
            "{err}"
        );
        assert!(err.contains(".local/state/axmq"), "{err}");
    }
}

#[test]
fn another_user_is_told_that_it_has_no_permission() {
    let broker = Broker::start("");
    let mut command = program(&broker.home);
    command.arg("status");
    if rustix::process::geteuid().is_root() {
        // Root may do everything; nobody may not.
        command.uid(65_534);
    } else {
        let socket = broker.home.join(".local/state/axmq/control.sock");
        fs::set_permissions(socket, fs::Permissions::from_mode(0o000)).expect("it is ours");
    }
    let (out, err, status) = Process::start(&mut command).end();
    assert_eq!((out.as_str(), status.code()), ("", Some(1)));
    assert!(err.starts_with("axmq: no permission for "), "{err}");
    let ends = "control.sock: only the user that runs the broker, and root, may\n";
    assert!(err.ends_with(ends), "{err}");
}

#[test]
fn a_socket_left_over_by_a_killed_broker_is_no_broker_and_no_obstacle() {
    let mut broker = Broker::start("");
    broker.process.child.kill().expect("it is ours");
    broker.process.child.wait().expect("it is ours");
    let (_, err, code) = broker.command(&["status"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no broker is running"), "{err}");
    let mut command = program(&broker.home);
    let mut process = Process::start(command.args(["--listen", "127.0.0.1:0"]));
    process.out.wait_for("to stop: ");
    assert!(broker.ask(&["status"]).contains("clients connected    0"));
}

#[test]
fn a_data_directory_with_a_long_name_has_its_socket_too() {
    let home = TempDir::new();
    let name = "d".repeat(120);
    let mut command = program(&home);
    command.args(["--listen", "127.0.0.1:0", "--data-dir", &name]);
    let mut process = Process::start(&mut command);
    process.out.wait_for("to stop: ");
    let mut command = program(&home);
    let (out, err, _) = Process::start(command.args(["status", "--data-dir", &name])).end();
    assert!(out.contains("connections"), "{err}");
}

#[test]
fn a_service_manager_hears_how_it_is() {
    let home = TempDir::new();
    let path = home.join("notify");
    let manager = UnixDatagram::bind(&path).expect("a short path");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let mut command = program(&home);
    command
        .args(["--listen", "127.0.0.1:0"])
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "20000");
    let process = Process::start(&mut command);
    let next = || {
        let mut bytes = [0; 200];
        let len = manager.recv(&mut bytes).expect("it says something");
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    };
    assert_eq!(next(), "READY=1");
    assert_eq!((next(), next()), ("WATCHDOG=1".into(), "WATCHDOG=1".into()));
    process.signal(Signal::HUP);
    let other = || {
        loop {
            let said = next();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    };
    assert!(other().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(other(), "READY=1");
    process.signal(Signal::TERM);
    assert_eq!(other(), "STOPPING=1");
    assert_eq!(process.end().2.code(), Some(0));
}
