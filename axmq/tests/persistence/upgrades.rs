//! Stores of earlier formats, as earlier versions have left them.
//!
//! `format-N.hex` has the files of a store of format N: a line each of path, length, and bytes in
//! hexadecimal without the zeros at the end. It was recorded from what [`filled`] leaves behind,
//! with the version that wrote this format:
//!
//! ```sh
//! cd DATA_DIR/store && find . -type f | sort | while read -r f; do
//!   echo "$f $(stat -c %s "$f") $(xxd -p -c 0 "$f" | sed 's/\(00\)*$//')"
//! done
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use mqtt_codec::encode::{Connect, ConnectProperties, Will};
use mqtt_codec::{PacketType, QoS, Version};
use rustix::process::Signal;

use super::ALWAYS;
use super::client::{Broker, filter, message};
use super::support::TempDir;
use super::tools::works;

/// Sessions, a group, messages, a step of each handshake of QoS 2, a delayed will, and a retained
/// message. No session ends by itself.
fn filled(home: TempDir) -> TempDir {
    let broker = Broker::at(home, 2, ALWAYS);
    let for_ever = |client_id, will| Connect {
        client_id,
        will,
        properties: ConnectProperties {
            session_expiry_interval: Some(u32::MAX),
            ..ConnectProperties::default()
        },
        ..Connect::default()
    };
    let connect =
        |client_id, will| broker.connect(Version::V5, &for_ever(client_id, will), "connack 0");
    let mut away = connect("away", None);
    away.subscribes(&[filter("t/#", 2)], "suback #77 02");
    let mut member = connect("member", None);
    member.subscribes(&[filter("$share/g/u", 1)], "suback #77 01");
    member.leaves();
    let mut publisher = connect("publisher", None);
    publisher.publishes(message("t/1", "first", 2, 9));
    publisher.hears("pubrec #9");
    away.hears("t/1=first q2 #1");
    away.acknowledges(PacketType::PubRec, 1);
    away.hears("pubrel #1");
    away.leaves();
    for (n, topic, qos) in [(1, "t/2", 1), (2, "u", 1)] {
        publisher.publishes(message(topic, "x", qos, n));
        publisher.hears(&format!("puback #{n}"));
    }
    publisher.publishes(message("r", "kept", 1, 4).retained());
    publisher.hears("puback #4");
    let will = Will {
        topic: "t/will",
        payload: b"gone",
        qos: QoS::AtLeastOnce,
        ..Will::default()
    };
    let _mourned = connect("mourned", Some(will));
    broker.end(Signal::TERM)
}

/// All that [`filled`] has left.
fn is_there(broker: &Broker) {
    let mut away = broker.resume(Version::V5, "away", "connack 1");
    away.hears("pubrel #1");
    away.hears("t/2=x q1 #2");
    away.hears("t/will=gone q1 #3");
    let mut member = broker.resume(Version::V5, "member", "connack 1");
    member.hears("u=x q1 #1");
    let mut publisher = broker.resume(Version::V5, "publisher", "connack 1");
    publisher.publishes(message("t/1", "first", 2, 9).again());
    publisher.hears("pubrec #9");
    away.hears_nothing_else();
    let mut newcomer = broker.client(Version::V5, "newcomer");
    newcomer.subscribes(&[filter("r", 1)], "suback #77 01");
    newcomer.hears("r=kept q1 #1 retain");
    broker.resume(Version::V5, "mourned", "connack 1");
}

/// Writes the files of a fixture.
fn unpack(fixture: &str, store: &Path) {
    for line in fixture.lines() {
        let mut words = line.split(' ');
        let path = store.join(words.next().expect("a path"));
        fs::create_dir_all(path.parent().expect("a folder")).expect("there is room");
        let length = words.next().and_then(|word| word.parse().ok());
        let pairs = words.next().unwrap_or("").as_bytes().chunks(2);
        let byte = |pair: &[u8]| {
            let pair = std::str::from_utf8(pair).expect("text");
            u8::from_str_radix(pair, 16).expect("hexadecimal")
        };
        fs::write(&path, pairs.map(byte).collect::<Vec<_>>()).expect("there is room");
        let file = File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        file.set_len(length.expect("a length"))
            .expect("there is room");
    }
}

/// The folder with a fixture's store at its usual place.
fn fixture(text: &str) -> (TempDir, PathBuf) {
    let home = TempDir::new();
    let data = home.join(".local/state/axmq");
    unpack(text, &data.join("store"));
    (home, data)
}

const FORMAT_1: &str = include_str!("format-1.hex");

#[test]
fn what_a_fixture_is_made_of_is_there_after_a_restart() {
    is_there(&Broker::at(filled(TempDir::new()), 1, ALWAYS));
}

#[test]
fn a_store_of_format_1_is_upgraded_and_the_copy_is_what_it_was() {
    let (home, data) = fixture(FORMAT_1);
    // What an upgrade has left that a kill has ended.
    let part = data.join("store.format-1.part");
    fs::create_dir(&part).expect("there is room");
    fs::write(part.join("0.jnl"), "cut short").expect("there is room");
    let before = works(&home, &["store", "export"]);
    let mut broker = Broker::at(home, 2, ALWAYS);
    broker.process.err.wait_for("store.upgraded");
    is_there(&broker);
    let home = broker.end(Signal::TERM);
    assert!(!part.exists());
    // To go back is to put the copy in the store's place.
    fs::rename(data.join("store"), data.join("store.format-2")).expect("it is there");
    fs::rename(data.join("store.format-1"), data.join("store")).expect("it is there");
    assert_eq!(works(&home, &["store", "export"]), before);
    let broker = Broker::at(home, 1, ALWAYS);
    is_there(&broker);
    let mut broker = Broker::at(broker.end(Signal::TERM), 1, ALWAYS);
    broker.resume(Version::V5, "away", "connack 1");
    broker.process.signal(Signal::TERM);
    let said = broker.process.err.drain();
    assert!(!said.contains("store.upgraded"), "once: {said}");
}
