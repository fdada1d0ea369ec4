//! Who is kept out, by the program itself. Loopback is never banned, so strangers come through a
//! PROXY header.

#![cfg(not(loom))]

#[path = "support/peer.rs"]
mod peer;
mod support;

use std::net::SocketAddr;
use std::process::Output;

use mqtt_codec::encode::Connect;
use mqtt_codec::{Packet, Version};
use rustix::process::Signal;

use self::peer::{End, Peer};
use self::support::{Process, TempDir, program};

const V5: Version = Version::V5;

struct Broker {
    process: Process,
    address: SocketAddr,
    home: TempDir,
}

impl Broker {
    /// One behind a proxy, with more in its configuration.
    fn start(configuration: &str) -> Self {
        Self::start_at(TempDir::new(), configuration)
    }

    /// Ends it in this way, and starts another one with what it has left.
    fn restart(self, signal: Signal, configuration: &str) -> Self {
        self.process.signal(signal);
        self.process.end();
        Self::start_at(self.home, configuration)
    }

    fn start_at(home: TempDir, configuration: &str) -> Self {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\nproxy_protocol_from = \"127.0.0.1\"\n\
             [broker]\ndata_dir = \"data\"\n{configuration}"
        );
        let (process, address) = Process::broker(&home, &text, &["--shards", "2"]);
        Self {
            process,
            address,
            home,
        }
    }

    /// A connection from elsewhere.
    fn from(&self, ip: &str) -> Peer {
        let mut peer = Peer::open(self.address, V5);
        let family = if ip.contains(':') { "TCP6" } else { "TCP4" };
        let other = if ip.contains(':') { "::1" } else { "127.0.0.1" };
        peer.send(format!("PROXY {family} {ip} {other} 4660 1883\r\n").as_bytes());
        peer
    }

    fn client(&self, ip: &str, client_id: &str) -> Peer {
        let connect = Connect {
            client_id,
            clean_start: true,
            ..Connect::default()
        };
        let mut peer = self.from(ip);
        peer.send(&connect.encode_to_vec(V5));
        peer
    }

    fn command(&self, words: &[&str]) -> Output {
        let mut command = program(&self.home);
        command.args(["--config", "axmq.toml"]).args(words);
        command.output().expect("the program was built")
    }

    #[track_caller]
    fn says(&self, words: &[&str]) -> String {
        let output = self.command(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{words:?}: {output:?}");
        text
    }

    /// A counter of `axmq status`.
    fn count(&self, name: &str) -> u64 {
        let status = self.says(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        status["counters"][name].as_u64().expect("a counter")
    }
}

#[track_caller]
fn read(peer: &mut Peer) -> String {
    let packet = peer.receive(|packet, _| match packet {
        Packet::ConnAck(packet) => format!("connack 0x{:02X}", packet.reason() as u8),
        Packet::Disconnect(packet) => format!("disconnect 0x{:02X}", packet.reason() as u8),
        other => format!("{:?}", other.packet_type()),
    });
    match packet {
        Ok(words) => words,
        Err(End::Closed | End::Reset) => "closed".to_owned(),
    }
}

#[test]
fn an_address_that_sends_rubbish_is_banned_and_an_operator_lets_it_in_again() {
    let mut broker = Broker::start("");
    let mut living = broker.client("192.0.2.7", "living");
    let mut other = broker.client("192.0.2.8", "other");
    assert_eq!(read(&mut living), "connack 0x00");
    assert_eq!(read(&mut other), "connack 0x00");
    for _ in 0..5 {
        let mut peer = broker.from("192.0.2.7");
        peer.send(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read(&mut peer), "closed");
    }
    let line = broker.process.err.wait_for("ban.set");
    assert!(
        line.contains("192.0.2.7") && line.contains("malformed packets"),
        "{line}"
    );
    assert!(line.contains("seconds=1800"), "{line}");
    // What it had open is closed as well, and the record says why.
    assert_eq!(read(&mut living), "disconnect 0x98");
    let record = broker.says(&["disconnects", "living"]);
    assert!(record.contains("by ban (0x98)"), "{record}");
    assert_eq!(read(&mut broker.client("192.0.2.7", "again")), "closed");
    assert_eq!(broker.count("banned_connections"), 1);
    assert_eq!(broker.count("offences_malformed"), 5);
    let list = broker.says(&["ban", "list"]);
    assert!(
        list.contains("192.0.2.7 ") && list.contains("malformed packets"),
        "{list}"
    );

    broker.says(&["ban", "remove", "192.0.2.7"]);
    let refused = broker.command(&["ban", "remove", "192.0.2.7"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(
        read(&mut broker.client("192.0.2.7", "again")),
        "connack 0x00"
    );
    other.send(b"\xC0\x00");
    assert_eq!(read(&mut other), "PingResp", "it was never concerned");
}

#[test]
fn bans_hold_after_a_stop_and_after_a_kill() {
    const ALWAYS: &str = "[store]\ndurability = \"always\"\n";
    let mut broker = Broker::start("");
    for _ in 0..5 {
        let mut peer = broker.from("192.0.2.7");
        peer.send(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(read(&mut peer), "closed");
    }
    broker.process.err.wait_for("ban.set");
    broker.says(&["ban", "add", "203.0.113.0/24", "--for", "2h"]);
    broker.says(&["ban", "add", "192.0.2.9"]);
    broker.says(&["ban", "remove", "192.0.2.9"]);
    broker = broker.restart(Signal::TERM, ALWAYS);
    for banned in ["192.0.2.7", "203.0.113.9"] {
        assert_eq!(read(&mut broker.client(banned, "c")), "closed", "{banned}");
    }
    let list = broker.says(&["ban", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["total"], 2);
    for (at, address, most_s, cause) in [
        (0, "203.0.113.0/24", 7_200, "operator"),
        (1, "192.0.2.7", 1_800, "malformed packets"),
    ] {
        let ban = &list["bans"][at];
        assert_eq!(
            (&ban["address"], &ban["cause"]),
            (&address.into(), &cause.into())
        );
        let ends_in_s = ban["ends_in_s"].as_u64().expect("it ends");
        // Seconds of one clock become milliseconds of another and come back: rounded up.
        assert!(
            ends_in_s <= most_s + 1 && ends_in_s > most_s - 600,
            "{list}"
        );
    }
    // What is acknowledged after them is durable, and so are they.
    broker.says(&["ban", "add", "198.51.100.1", "--for", "ever"]);
    broker.says(&["ban", "remove", "192.0.2.7"]);
    let mut client = broker.client("192.0.2.9", "c");
    assert_eq!(read(&mut client), "connack 0x00");
    // A retained PUBLISH of QoS 1 with packet id 1.
    client.send(b"\x33\x07\0\x01t\0\x01\0x");
    assert_eq!(read(&mut client), "PubAck");
    broker = broker.restart(Signal::KILL, "");
    let list = broker.says(&["ban", "list"]);
    assert!(
        list.contains("198.51.100.1 ") && list.contains("203.0.113.0/24"),
        "{list}"
    );
    assert_eq!(read(&mut broker.client("198.51.100.1", "c")), "closed");
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "connack 0x00");
}

#[test]
fn without_a_store_a_restart_forgets_bans() {
    const NONE: &str = "[store]\ndurability = \"none\"\n";
    let mut broker = Broker::start(NONE);
    broker.says(&["ban", "add", "192.0.2.7"]);
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "closed");
    broker = broker.restart(Signal::TERM, NONE);
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "connack 0x00");
}

#[test]
fn operators_ban_addresses_and_ranges() {
    let broker = Broker::start("[defence]\nenabled = false\nallow = \"203.0.113.5\"\n");
    let mut living = broker.client("203.0.113.9", "living");
    assert_eq!(read(&mut living), "connack 0x00");
    let text = broker.says(&["ban", "add", "203.0.113.0/24", "--for", "2h"]);
    assert_eq!(text, "203.0.113.0/24 is banned for 7200 s\n");
    let text = broker.says(&["ban", "add", "2001:db8::7", "--for", "ever"]);
    assert_eq!(text, "2001:db8::/64 is banned for ever\n");
    assert_eq!(read(&mut living), "disconnect 0x98");
    for (ip, answer) in [
        ("203.0.113.200", "closed"),
        ("203.0.113.5", "connack 0x00"),
        ("203.0.114.1", "connack 0x00"),
        ("2001:db8::ffff", "closed"),
        ("2001:db8:0:1::1", "connack 0x00"),
    ] {
        assert_eq!(read(&mut broker.client(ip, ip)), answer, "{ip}");
    }
    let list = broker.says(&["ban", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["total"], 2);
    assert_eq!(list["bans"][0]["address"], "2001:db8::/64");
    assert_eq!(list["bans"][0]["ends_in_s"], serde_json::Value::Null);
    assert_eq!(list["bans"][1]["cause"], "operator");
    for (range, wrong) in [
        ("127.0.0.1", "is never banned"),
        ("203.0.113.5", "is never banned"),
        ("2001:db8::/96", "first 64 bits"),
        ("10.0.0.1/8", "no range"),
        ("localhost", "no address"),
    ] {
        let output = broker.command(&["ban", "add", range]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(wrong), "{range}: {text}");
        assert_eq!(output.status.code(), Some(1));
    }
    let output = broker.command(&["ban", "add", "192.0.2.1", "--for", "0"]);
    assert_eq!(output.status.code(), Some(2), "no time");
}

#[test]
fn failed_logins_ban_the_client_and_not_all_who_share_its_address() {
    let home = TempDir::new();
    let mut command = program(&home);
    let output = command.args(["passwd", "create", "users"]).output();
    assert!(output.is_ok_and(|output| output.status.success()));
    let users = home.join("users");
    let broker = Broker::start(&format!("[auth]\npassword_file = {users:?}\n"));
    for _ in 0..5 {
        assert_eq!(
            read(&mut broker.client("192.0.2.7", "wrong")),
            "connack 0x87"
        );
    }
    assert_eq!(
        read(&mut broker.client("192.0.2.7", "wrong")),
        "connack 0x8A"
    );
    assert_eq!(
        read(&mut broker.client("192.0.2.7", "right")),
        "connack 0x87"
    );
    assert_eq!(broker.count("offences_login"), 6);
    assert_eq!(broker.count("banned_clients_refused"), 1);
    let list = broker.says(&["ban", "list"]);
    assert!(list.contains("192.0.2.7, client wrong"), "{list}");
    broker.says(&["ban", "remove", "192.0.2.7", "--client", "wrong"]);
    assert_eq!(
        read(&mut broker.client("192.0.2.7", "wrong")),
        "connack 0x87"
    );
}

#[test]
fn a_reload_turns_it_off_and_on() {
    let broker = Broker::start("[defence]\nstrikes = 2\n");
    let rubbish = |times: u32| {
        for _ in 0..times {
            let mut peer = broker.from("192.0.2.7");
            peer.send(b"\x00\x00");
            read(&mut peer);
        }
    };
    let reload = |defence: &str| {
        let path = broker.home.join("axmq.toml");
        let text = std::fs::read_to_string(&path).expect("it is there");
        let (text, _) = text.split_once("[defence]").expect("a section");
        std::fs::write(&path, format!("{text}[defence]\n{defence}\n")).expect("writable");
        broker.says(&["reload"])
    };
    let text = reload("enabled = false");
    assert!(text.contains("defence.enabled: true -> false\n"), "{text}");
    rubbish(4);
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "connack 0x00");
    reload("strikes = 2\nban_s = 7\nban_max_s = 7");
    rubbish(2);
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "closed");
    reload("allow = \"192.0.2.0/24\"");
    assert_eq!(read(&mut broker.client("192.0.2.7", "c")), "connack 0x00");
}

#[test]
fn two_devices_with_one_client_id_are_noticed_and_slowed() {
    let mut broker = Broker::start("[defence]\ntakeovers = 3\ntakeover_delay_ms = 100\n");
    let mut twins = Vec::new();
    for n in 0..4 {
        let ip = format!("192.0.2.{}", n % 2);
        let mut twin = broker.client(&ip, "twin");
        assert_eq!(read(&mut twin), "connack 0x00");
        twins.push(twin);
    }
    let line = broker.process.err.wait_for("takeover.fight");
    assert!(
        line.contains("twin") && line.contains("192.0.2.0"),
        "{line}"
    );
    assert!(line.contains("192.0.2.1"), "{line}");
    assert_eq!(broker.count("connects_delayed"), 0);
    assert_eq!(
        read(&mut broker.client("192.0.2.0", "twin")),
        "connack 0x00"
    );
    assert_eq!(broker.count("connects_delayed"), 1);
    assert_eq!(broker.count("takeover_fights"), 1);
}

#[test]
fn rates_slow_a_publisher_or_disconnect_it_and_turn_away_an_address() {
    let broker = Broker::start(
        "[rates]\nexceeded = \"disconnect\"\nclient_publishes_per_s = 3\nburst_ms = 1_000\n",
    );
    let mut client = broker.client("192.0.2.7", "fast");
    assert_eq!(read(&mut client), "connack 0x00");
    let publish = b"\x30\x05\x00\x01t\x00x";
    client.send(&publish.repeat(4));
    assert_eq!(read(&mut client), "disconnect 0x96");
    assert_eq!(broker.count("clients_too_fast"), 1);

    let path = broker.home.join("axmq.toml");
    let text = std::fs::read_to_string(&path).expect("it is there");
    let (text, _) = text.split_once("[rates]").expect("a section");
    // What a minute brings may come at once.
    let rates = "client_publishes_per_s = 1\naddress_connects_per_s = 1\nburst_ms = 60_000";
    std::fs::write(&path, format!("{text}[rates]\n{rates}\n")).expect("writable");
    broker.says(&["reload"]);
    let mut slow = broker.client("192.0.2.8", "slow");
    assert_eq!(read(&mut slow), "connack 0x00");
    slow.send(&publish.repeat(62));
    // The ping behind them is not read before a second has passed.
    slow.send(b"\xC0\x00");
    assert_eq!(read(&mut slow), "PingResp");
    assert!(broker.count("publishers_slowed") >= 1);
    assert!(broker.count("publishes_received") >= 62);
    // As fast as it can, which is faster than one a second.
    let turned_away = (0..10_000).find(|n| {
        let mut client = broker.client("192.0.2.9", &n.to_string());
        read(&mut client) == "closed"
    });
    assert!(turned_away.is_some_and(|n| n >= 60), "{turned_away:?}");
    assert_eq!(broker.count("connects_too_fast"), 1);
    assert_eq!(broker.count("offences_fruitless"), 1);
}
