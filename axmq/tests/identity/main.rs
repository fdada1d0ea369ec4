//! Who comes in, and what they may do: the real program, its files and real connections.
//!
//! Every wait is for bytes, for a line or for the end of a process, and fails after `PATIENCE`.

#![cfg(not(loom))]

mod acl;
mod chain;
mod http;
#[path = "../support/packets.rs"]
mod packets;
mod passwords;
#[path = "../support/peer.rs"]
mod peer;
mod roles;
#[path = "../support/mod.rs"]
mod support;
mod tokens;

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use mqtt_codec::encode::Connect;
use mqtt_codec::{Packet, PacketId, PublishHead, QoS, ReasonCode, Version};
use rustix::process::Signal;

use self::peer::Peer;
use self::support::{Process, TempDir, program};

const V5: Version = Version::V5;
const V311: Version = Version::V311;

/// Runs the program to its end with this input: output, error output, exit code.
fn run(home: &TempDir, arguments: &[&str], input: &str) -> (String, String, Option<i32>) {
    let mut command = program(home);
    command.args(arguments).stdin(Stdio::piped());
    let mut process = Process::start(&mut command);
    let mut stdin = process.child.stdin.take().expect("it is piped");
    // A command that needs no input may be gone.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let (out, err, status) = process.end();
    (out, err, status.code())
}

/// The output of a command that succeeds.
#[track_caller]
fn ask(home: &TempDir, arguments: &[&str], input: &str) -> String {
    let (out, err, code) = run(home, arguments, input);
    assert_eq!((err.as_str(), code), ("", Some(0)), "{arguments:?}: {out}");
    out
}

struct Broker {
    process: Process,
    address: SocketAddr,
    home: TempDir,
}

impl Broker {
    /// A broker at this home, with these lines as its configuration.
    fn start(home: TempDir, lines: &str) -> Self {
        let options = ["--listen", "127.0.0.1:0", "--log", "trace"];
        let (process, address) = Process::broker(&home, lines, &options);
        Self {
            process,
            address,
            home,
        }
    }

    /// What a CONNECT is answered, by its return code.
    fn answer(&self, version: Version, connect: &Connect<'_>) -> u8 {
        Peer::connect(self.address, version, connect).connack()
    }

    /// The same for a user with a password.
    fn login(&self, version: Version, user: Option<&str>, password: Option<&str>) -> u8 {
        self.answer(version, &login("client", user, password))
    }

    /// Ends it in good order; everything that it has logged.
    fn end(self) -> String {
        self.process.signal(Signal::TERM);
        self.process.end().1
    }
}

fn login<'a>(client_id: &'a str, user: Option<&'a str>, password: Option<&'a str>) -> Connect<'a> {
    Connect {
        client_id,
        clean_start: true,
        username: user,
        password: password.map(str::as_bytes),
        ..Connect::default()
    }
}

impl Peer {
    /// Hands the next packet to `look`; `None` at the end of the connection.
    fn read<T>(&mut self, look: impl FnOnce(&Packet<'_>) -> T) -> Option<T> {
        self.receive(|packet, _| look(packet)).ok()
    }

    /// The code of the CONNACK that is next: for 3.x the return code, for 5.0 the reason.
    #[track_caller]
    fn connack(&mut self) -> u8 {
        let version = self.version;
        let code = self.read(|packet| match packet {
            Packet::ConnAck(ack) if version == V5 => ack.reason() as u8,
            Packet::ConnAck(ack) => match ack.reason() {
                ReasonCode::Success => 0,
                ReasonCode::BadUserNameOrPassword => 4,
                ReasonCode::NotAuthorized => 5,
                ReasonCode::ServerUnavailable => 3,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
        code.expect("it answers")
    }

    /// Connects as this user; it has to be let in.
    #[track_caller]
    fn connected(address: SocketAddr, version: Version, connect: &Connect<'_>) -> Self {
        let mut peer = Self::connect(address, version, connect);
        assert_eq!(peer.connack(), 0);
        peer
    }

    /// The reason in the acknowledgement of a QoS 1 publish; for 3.x, 0 where it comes.
    #[track_caller]
    fn publish(&mut self, topic: &str) -> u8 {
        let head = PublishHead {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            packet_id: Some(PacketId::MIN),
            message_expiry: None,
            subscription_ids: &[],
            topic_alias: None,
            pass_through: &[],
            payload_len: 0,
        };
        self.send(&head.encode_to_vec(self.version, &[]));
        let code = self.read(|packet| match packet {
            Packet::PubAck(ack) => ack.reason() as u8,
            other => panic!("{other:?}"),
        });
        code.expect("it answers")
    }

    /// The reason in the SUBACK.
    #[track_caller]
    fn subscribe(&mut self, filter: &str) -> u8 {
        self.send(&packets::subscribe(self.version, filter, QoS::AtMostOnce));
        let code = self.read(|packet| match packet {
            Packet::SubAck(ack) => ack.codes().next().map(|reason| reason as u8),
            other => panic!("{other:?}"),
        });
        code.flatten().expect("it answers")
    }

    /// The reason of the DISCONNECT that is next, and ends the connection.
    #[track_caller]
    fn disconnect(&mut self) -> u8 {
        let code = self.read(|packet| match packet {
            Packet::Disconnect(packet) => packet.reason() as u8,
            other => panic!("{other:?}"),
        });
        assert_eq!(self.read(|_| ()), None, "and the connection ends");
        code.expect("it says why")
    }

    /// The topic of the next message.
    #[track_caller]
    fn message(&mut self) -> String {
        let topic = self.read(|packet| match packet {
            Packet::Publish(publish) => publish.topic().to_owned(),
            other => panic!("{other:?}"),
        });
        topic.expect("it is connected")
    }
}
