//! The broker on the wire: what real clients rarely do, and what becomes of those who should not
//! do it.
//!
//! Nothing here waits for time to pass: every wait is for bytes or a line, and fails after
//! `PATIENCE`.

#![cfg(not(loom))]

#[path = "support/packets.rs"]
mod packets;
#[path = "support/peer.rs"]
mod peer;
mod support;

use std::io::Read;
use std::net::{Shutdown, SocketAddr};

use mqtt_codec::encode::Connect;
use mqtt_codec::{Packet, QoS, Version};
use rustix::process::Signal;

use self::packets::{publish, subscribe};
use self::peer::{End, Peer};
use self::support::{Process, TempDir, program};

struct Broker {
    process: Process,
    address: SocketAddr,
    _home: TempDir,
}

impl Broker {
    fn start(options: &[&str]) -> Self {
        Self::start_in(TempDir::new(), options)
    }

    /// Starts a broker with these lines as its configuration.
    fn configured(lines: &str) -> Self {
        let home = TempDir::new();
        std::fs::write(home.join("axmq.toml"), lines).expect("the folder is writable");
        Self::start_in(home, &["--config", "axmq.toml"])
    }

    fn start_in(home: TempDir, options: &[&str]) -> Self {
        let mut command = program(&home);
        let mut process = Process::start(command.args(["--listen", "127.0.0.1:0"]).args(options));
        let address = process.listening();
        Self {
            process,
            address,
            _home: home,
        }
    }

    fn connect(&self, version: Version, client_id: &str) -> Peer {
        let mut client = self.open(version);
        client.send(&connect(version, client_id));
        assert_eq!(client.read(), "connack");
        client
    }

    fn open(&self, version: Version) -> Peer {
        Peer::open(self.address, version)
    }
}

fn connect(version: Version, client_id: &str) -> Vec<u8> {
    Connect {
        client_id,
        clean_start: true,
        ..Connect::default()
    }
    .encode_to_vec(version)
}

impl Peer {
    /// The next packet in words, or how the connection ended.
    #[track_caller]
    fn read(&mut self) -> String {
        match self.receive(|packet, _| describe(packet)) {
            Ok(words) => words,
            Err(End::Closed) => "end".into(),
            Err(End::Reset) => "reset".into(),
        }
    }

    #[track_caller]
    fn assert_alive(&mut self) {
        self.send(&mqtt_codec::PING_REQ);
        assert_eq!(self.read(), "PingResp");
    }
}

fn describe(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(packet) if packet.reason() as u8 == 0 => "connack".into(),
        Packet::ConnAck(packet) => format!("connack 0x{:02X}", packet.reason() as u8),
        Packet::SubAck(_) => "suback".into(),
        Packet::Publish(packet) => {
            format!(
                "{}={}",
                packet.topic(),
                String::from_utf8_lossy(packet.payload())
            )
        }
        Packet::Disconnect(packet) => {
            let text = packet.reason_string().unwrap_or("");
            format!("disconnect 0x{:02X} {text}", packet.reason() as u8)
        }
        other => format!("{:?}", other.packet_type()),
    }
}

#[test]
fn a_malformed_packet_ends_its_connection_with_a_reason_and_a_line_and_no_other() {
    let mut broker = Broker::start(&[]);
    let mut bystander = broker.connect(Version::V311, "bystander");
    // What is sent, what 5.0 is told, and what the line says: fault, clause, byte.
    let table: [(&[u8], &str, &str); 4] = [
        (
            b"\x30\x05\x00\x02\xff\xfe\x00",
            "0x81",
            "byte 4: the string is not well-formed utf-8",
        ),
        (b"\x30\x06\x00\x03a/#\x00", "0x90", "at byte 2 of the topic"),
        (
            b"\x60\x02\x00\x01",
            "0x81",
            "byte 0: the flags are not those of the packet type",
        ),
        (
            b"\x30\xff\xff\xff\x7f",
            "0x95",
            "byte 1: the packet is larger than allowed",
        ),
    ];
    for (at, (bytes, reason, fault)) in table.into_iter().enumerate() {
        let name = format!("culprit-{at}");
        let mut culprit = broker.connect(Version::V5, &name);
        let peer = culprit.stream.local_addr().expect("it is bound");
        culprit.send(bytes);
        let told = culprit.read();
        let (code, text) = told
            .strip_prefix("disconnect ")
            .and_then(|told| told.split_once(' '))
            .unwrap_or_else(|| panic!("{told}"));
        assert_eq!(code, reason, "{told}");
        assert!(text.contains(fault), "{text} does not say {fault}");
        assert_eq!(culprit.read(), "end");
        let line = broker.process.err.wait_for(&name);
        for part in [
            fault,
            "[MQTT",
            &peer.to_string(),
            reason,
            "client.disconnected",
        ] {
            assert!(line.contains(part), "{line} does not say {part}");
        }
        let mut culprit = broker.connect(Version::V311, &name);
        culprit.send(bytes);
        let end = culprit.read();
        assert!(
            end == "end" || end == "reset",
            "3.1.1 is told nothing: {end}"
        );
        broker.process.err.wait_for(&name);
        bystander.assert_alive();
    }
}

#[test]
fn a_stranger_that_does_not_speak_mqtt_is_shown_the_door() {
    let mut broker = Broker::start(&[]);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x30\x03\x00\x01a",
        b"\x16\x03\x01\x02\x00",
    ] {
        let mut stranger = broker.open(Version::V5);
        let peer = stranger.stream.local_addr().expect("it is bound");
        stranger.send(bytes);
        let end = stranger.read();
        assert!(end == "end" || end == "reset", "{end}");
        let line = broker.process.err.wait_for(&peer.to_string());
        assert!(
            line.contains("connection.refused") && line.contains("MQTT"),
            "{line}"
        );
    }
}

#[test]
fn unknown_versions_are_refused_in_words_they_may_know() {
    let broker = Broker::start(&[]);
    let mut future = connect(Version::V311, "future");
    future[8] = 6;
    let mut client = broker.open(Version::V311);
    client.send(&future);
    assert_eq!(
        client.read(),
        "connack 0x84",
        "0x01 on the wire, unsupported version"
    );
    assert_eq!(client.read(), "end");
}

#[test]
fn a_whole_life_in_one_write_is_lived_in_order() {
    let broker = Broker::start(&["--shards", "3"]);
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut watcher = broker.connect(version, "watcher");
        watcher.send(&subscribe(version, "life/#", QoS::AtMostOnce));
        assert_eq!(watcher.read(), "suback");
        let will = mqtt_codec::encode::Will {
            topic: "life/will",
            payload: b"never",
            qos: QoS::AtMostOnce,
            retain: false,
            properties: mqtt_codec::encode::WillProperties::default(),
        };
        let connect = Connect {
            client_id: "short",
            clean_start: true,
            will: Some(will),
            ..Connect::default()
        };
        let mut bytes = connect.encode_to_vec(version);
        bytes.extend(publish(version, "life/1", b"hello"));
        bytes.extend(publish(version, "life/2", &[b'x'; 100_000]));
        bytes.extend(publish(version, "life/3", b"bye"));
        bytes.extend([0xE0, 0x00]);
        let mut client = broker.open(version);
        client.send(&bytes);
        client.stream.shutdown(Shutdown::Write).expect("it is open");
        assert_eq!(watcher.read(), "life/1=hello");
        assert_eq!(watcher.read().len(), "life/2=".len() + 100_000);
        assert_eq!(watcher.read(), "life/3=bye");
        assert_eq!(client.read(), "connack");
        assert_eq!(client.read(), "end");
        watcher.send(&publish(version, "life/after", b"no will"));
        assert_eq!(watcher.read(), "life/after=no will");
    }
}

#[test]
fn a_packet_may_come_byte_by_byte() {
    let broker = Broker::start(&[]);
    let mut bytes = connect(Version::V5, "slow");
    bytes.extend(subscribe(Version::V5, "t", QoS::AtMostOnce));
    bytes.extend(publish(Version::V5, "t", b"in pieces"));
    let mut client = broker.open(Version::V5);
    client.stream.set_nodelay(true).expect("a socket option");
    for byte in bytes {
        client.send(&[byte]);
    }
    assert_eq!(client.read(), "connack");
    assert_eq!(client.read(), "suback");
    assert_eq!(client.read(), "t=in pieces");
}

#[test]
fn a_stop_says_good_bye_and_flushes() {
    let broker = Broker::start(&["--shards", "2"]);
    let mut modern = broker.connect(Version::V5, "modern");
    let mut classic = broker.connect(Version::V311, "classic");
    let mut greedy = broker.connect(Version::V5, "greedy");
    greedy.send(&subscribe(Version::V5, "bulk", QoS::AtMostOnce));
    assert_eq!(greedy.read(), "suback");
    modern.send(&publish(Version::V5, "bulk", &[b'x'; 500_000]));
    modern.assert_alive();
    // The last word of the publish may still be on its way between shards: its first bytes say
    // that it is queued.
    let mut first = [0; 1];
    greedy.stream.read_exact(&mut first).expect("it comes");
    greedy.received.push(first[0]);
    broker.process.signal(Signal::TERM);
    assert_eq!(modern.read(), "disconnect 0x8B the server stops");
    assert_eq!(modern.read(), "end");
    assert_eq!(classic.read(), "end");
    assert_eq!(
        greedy.read().len(),
        "bulk=".len() + 500_000,
        "what was queued is flushed"
    );
    assert_eq!(greedy.read(), "disconnect 0x8B the server stops");
    drop((modern, classic, greedy));
    let (_, err, status) = broker.process.end();
    assert_eq!(status.code(), Some(0), "{err}");
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_its_time() {
    let broker = Broker::start(&["--shards", "1"]);
    // It does not close its side: the stop waits a moment for it to go.
    let deaf = broker.connect(Version::V5, "deaf");
    broker.process.signal(Signal::TERM);
    broker.process.signal(Signal::INT);
    let (_, err, status) = broker.process.end();
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("second signal"), "{err}");
    drop(deaf);
}

#[test]
fn limits_are_kept_and_said() {
    let mut broker =
        Broker::configured("[limits]\nconnections = 2\nconnect_timeout_ms = 100\ntopic_levels = 3");
    // Silence is ended, and makes room.
    let mut silent = broker.open(Version::V5);
    assert_eq!(silent.read(), "end");
    broker.process.err.wait_for("no complete CONNECT within 1");
    let mut first = broker.connect(Version::V5, "first");
    let mut second = broker.connect(Version::V5, "second");
    let mut third = broker.open(Version::V5);
    assert!(matches!(third.read().as_str(), "end" | "reset"));
    broker.process.err.wait_for("limits.connections");
    first.assert_alive();
    second.send(&publish(Version::V5, "a/b/c/d", b""));
    let told = second.read();
    assert!(told.starts_with("disconnect 0x90"), "{told}");
    first.assert_alive();
}
