//! Sockets in the file system, and those that a service manager passes.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::process::Signal;

use super::packets::{PING, Packets, connect};
use super::support::{PATIENCE, PROGRAM, Process, TempDir, at_home, program};

fn configured(home: &TempDir, keys: &str) -> Command {
    let text = format!("[[listener]]\n{keys}\n");
    fs::write(home.join("axmq.toml"), text).expect("a writable folder");
    let mut command = program(home);
    command.args(["--config", "axmq.toml", "--shards", "1"]);
    command
}

fn speaks_mqtt<S: Read + Write>(stream: S) {
    let mut client = Packets::new(stream);
    client.stream.write_all(&connect("c")).expect("it is open");
    assert_eq!(client.next(), "connack 0x00");
    client.stream.write_all(&PING).expect("it is open");
    assert_eq!(client.next(), "pingresp");
}

fn dial(home: &TempDir) -> UnixStream {
    let stream = UnixStream::connect(home.join("s")).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream
}

fn unix(home: &TempDir, keys: &str) -> Command {
    let path = home.join("s");
    configured(
        home,
        &format!("address = \"unix:{}\"\n{keys}", path.display()),
    )
}

#[test]
fn a_socket_in_the_file_system_has_its_rights_and_goes_with_the_broker() {
    let home = TempDir::new();
    let mut process = Process::start(&mut unix(
        &home,
        "unix_mode = \"0600\"\n[broker]\nfronts = 2",
    ));
    process.out.wait_for("listening on unix:/");
    process.out.wait_for("to stop: ");
    let mode = fs::metadata(home.join("s"))
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    for _ in 0..4 {
        speaks_mqtt(dial(&home));
    }
    process.signal(Signal::TERM);
    let (_, err, status) = process.end();
    assert!(status.success(), "{err}");
    assert!(!home.join("s").exists());
}

#[test]
fn only_a_socket_that_nobody_listens_at_is_replaced() {
    let home = TempDir::new();
    // Left over: the file stays when the listener goes.
    drop(UnixListener::bind(home.join("s")).expect("a new path"));
    let mut first = Process::start(&mut unix(&home, ""));
    first.out.wait_for("to stop: ");
    speaks_mqtt(dial(&home));
    let other = TempDir::new();
    let mut command = configured(
        &other,
        &format!("address = \"unix:{}\"", home.join("s").display()),
    );
    let (_, err, status) = Process::start(&mut command).end();
    assert_eq!(status.code(), Some(1));
    assert!(err.contains("cannot listen on unix:/"), "{err}");
    speaks_mqtt(dial(&home));
    drop(first);
    fs::remove_file(home.join("s")).expect("a killed broker leaves it");
    fs::write(home.join("s"), "precious").expect("a writable folder");
    let (_, err, _) = Process::start(&mut unix(&home, "")).end();
    assert!(err.contains("something else than a socket"), "{err}");
    assert_eq!(fs::read(home.join("s")).expect("kept"), b"precious");
}

#[test]
fn addresses_of_sockets_are_checked() {
    let home = TempDir::new();
    for (keys, why) in [
        ("address = \"unix:s\"", "is no full path"),
        ("address = \"fd:\"", "fd:NAME"),
        ("address = \"fd:mqtt\"", "nobody has to log in"),
        (
            "address = \"127.0.0.1:0\"\nunix_mode = \"rw\"",
            "rights in octal",
        ),
    ] {
        let (_, err, status) = Process::start(&mut configured(&home, keys)).end();
        assert_eq!(status.code(), Some(3), "{err}");
        assert!(err.contains(why), "{err}");
    }
    let keys = "address = \"fd:mqtt\"\n[broker]\nallow_anonymous = true";
    let (_, err, status) = Process::start(&mut configured(&home, keys)).end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("has passed no listening socket"), "{err}");
}

#[test]
fn sockets_of_a_service_manager_are_taken_by_name() {
    let home = TempDir::new();
    let (mqtt, other) = (
        TcpListener::bind("127.0.0.1:0").expect("a port"),
        TcpListener::bind("127.0.0.1:0").expect("a port"),
    );
    let address = mqtt.local_addr().expect("it is bound");
    let text = "[[listener]]\naddress = \"fd:mqtt\"\n[broker]\nallow_anonymous = true\n";
    fs::write(home.join("axmq.toml"), text).expect("a writable folder");
    // A shell is what gives descriptors numbers and knows its own id before the program is there.
    for fd in [&mqtt, &other] {
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).expect("it is open");
    }
    let script = format!(
        "exec 8>&{} 9>&{}; exec 3>&9 4>&8; \
         LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=other:mqtt exec {PROGRAM} --config axmq.toml",
        mqtt.as_raw_fd(),
        other.as_raw_fd(),
    );
    let mut command = Command::new("/bin/sh");
    at_home(&mut command, &home);
    let mut process = Process::start(command.args(["-c", &script]));
    drop((mqtt, other));
    process.out.wait_for("listening on fd:mqtt");
    process.out.wait_for("to stop: ");
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    speaks_mqtt(stream);
}
