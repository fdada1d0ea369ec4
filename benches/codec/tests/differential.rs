//! mqtt-codec against three other decoders, on valid and on damaged packets.
//!
//! Where two disagree, the table says what each thinks and who is right; a disagreement that is
//! not in the table fails, and so does a line of the table that no packet shows any more.

#[path = "../../../mqtt-codec/tests/support/strategies.rs"]
#[allow(dead_code, reason = "the whole of the codec's own generators")]
mod strategies;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bench_codec::{Answer, rivals};
use bytes::BytesMut;
use mqtt_codec::{Role, Scan, Version, decode, scan};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

const KNOWN: &str = include_str!("../disagreements.txt");

/// The packets that a server receives and all three know.
const TYPES: [u8; 5] = [1, 3, 4, 8, 10];

/// What a decoder made of a packet.
#[derive(Debug, PartialEq)]
enum Verdict {
    Takes(Answer),
    Refuses(String),
}

fn ours(bytes: &[u8], version: Version) -> Verdict {
    let found = scan(bytes, rivals::SIZE_MAX).and_then(|scan| match scan {
        Scan::Frame(frame) => decode(&bytes[..frame.total_len], &frame, version, Role::Server),
        Scan::Incomplete { .. } => unreachable!("only whole packets are compared"),
    });
    match found {
        Ok(packet) => Verdict::Takes(rivals::ours_answer(&packet)),
        Err(error) => Verdict::Refuses(format!("{:?}", error.kind())),
    }
}

fn theirs(decode: impl FnOnce() -> Option<Answer>) -> Verdict {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Some(answer)) => Verdict::Takes(answer),
        Ok(None) => Verdict::Refuses("refuses".to_owned()),
        Err(_) => Verdict::Refuses("panics".to_owned()),
    }
}

/// All rivals that speak the version, with their verdicts.
fn verdicts(bytes: &[u8], version: Version) -> Vec<(&'static str, Verdict)> {
    let core = || rivals::protocol_core(bytes, version).map(|it| rivals::protocol_core_answer(&it));
    let mut all = vec![("mqtt-protocol-core", theirs(core))];
    let buffer = || BytesMut::from(bytes);
    if version == Version::V5 {
        let decode = || rivals::rumqttc_v5(&mut buffer()).map(|it| rivals::rumqttc_v5_answer(&it));
        all.push(("rumqttc", theirs(decode)));
    } else {
        let decode = || rivals::rumqttc_v4(&mut buffer()).map(|it| rivals::rumqttc_v4_answer(&it));
        all.push(("rumqttc", theirs(decode)));
        let decode = || rivals::mqttrs(bytes).map(|it| rivals::mqttrs_answer(&it));
        all.push(("mqttrs", theirs(decode)));
    }
    all
}

/// Compares all on a packet and notes where they differ, with the first packet that shows it.
fn compare(bytes: &[u8], version: Version, notes: &mut BTreeMap<String, String>) {
    let Ok(Scan::Frame(frame)) = scan(bytes, rivals::SIZE_MAX) else {
        return;
    };
    let packet = &bytes[..frame.total_len];
    if !TYPES.contains(&(packet[0] >> 4)) {
        return;
    }
    // A CONNECT of another version is another decoder's, for those that have one a version.
    let level = packet.get(frame.header_len + 6);
    if packet[0] >> 4 == 1 && level != Some(&version.level()) {
        return;
    }
    let we = ours(packet, version);
    for (name, they) in verdicts(packet, version) {
        let difference = match (&we, &they) {
            (Verdict::Takes(our), Verdict::Takes(their)) if our == their => continue,
            (Verdict::Refuses(_), Verdict::Refuses(why)) if why == "refuses" => continue,
            (Verdict::Takes(_), Verdict::Takes(_)) => "reads something else".to_owned(),
            (Verdict::Takes(_), Verdict::Refuses(why)) => {
                format!("we take it, it {why}{}", password(packet, version))
            }
            (Verdict::Refuses(kind), Verdict::Takes(_)) => format!("we refuse it, {kind}"),
            (Verdict::Refuses(kind), Verdict::Refuses(_)) => format!("it panics; {kind}"),
        };
        let key = format!("{name} | {version} | {} | {difference}", frame.packet_type);
        let shown = || {
            packet
                .iter()
                .take(60)
                .map(|byte| format!("{byte:02x}"))
                .collect()
        };
        notes.entry(key).or_insert_with(shown);
    }
}

/// What is special about the password of a CONNECT.
fn password(packet: &[u8], version: Version) -> &'static str {
    match rivals::ours(packet, version) {
        Some(mqtt_codec::Packet::Connect(view)) => match (view.username(), view.password()) {
            (None, Some(_)) => " a password alone",
            (_, Some(bytes)) if std::str::from_utf8(bytes).is_err() => " a binary password",
            _ => "",
        },
        _ => "",
    }
}

#[test]
fn disagreements_are_those_known() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut notes = BTreeMap::new();
    let mut runner = TestRunner::deterministic();
    let strategy = strategies::any_packet();
    for _ in 0..6_000 {
        let sample = strategy
            .new_tree(&mut runner)
            .expect("no filter rejects")
            .current();
        if sample.role != Role::Server || sample.version == Version::V31 {
            continue;
        }
        compare(&sample.bytes, sample.version, &mut notes);
        let mut damaged = sample.bytes.clone();
        for place in 0..damaged.len().min(64) {
            for value in [0, 1, 0x03, 0x0f, 0x40, 0x80, 0xff] {
                let old = std::mem::replace(&mut damaged[place], value);
                compare(&damaged, sample.version, &mut notes);
                damaged[place] = old;
            }
        }
    }
    let _ = std::panic::take_hook();
    let known: Vec<_> = KNOWN
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let mut wrong = vec![];
    for (key, packet) in &notes {
        if !known
            .iter()
            .any(|line| line.rsplit_once(" => ").is_some_and(|(k, _)| k == key))
        {
            wrong.push(format!("{key} => ? ({packet})"));
        }
    }
    for line in known {
        if !line
            .rsplit_once(" => ")
            .is_some_and(|(key, _)| notes.contains_key(key))
        {
            wrong.push(format!("not seen any more: {line}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
