//! Every record comes out of an export as it went in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mqtt_codec::{PacketId, QoS, Version};
use pollio::PeerAddr;

use super::line::Line;
use crate::defence::{BanCause, Banned, ClientOf, Offence};
use crate::network::Network;
use crate::route::SubscriptionOptions;
use crate::store::engine::Space;
use crate::store::record::{
    AuthorRecord, BanRecord, MessageRecord, QueueRecord, QueuedRecord, SessionRecord, WillRecord,
    encode_group, encode_incoming, encode_subscription, key,
};

/// Of whoever wrote a will.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

fn message<'a>(topic: &'a str, payload: &'a [u8]) -> MessageRecord<'a> {
    MessageRecord {
        topic,
        properties: &[1, 1, 255],
        payload,
        qos: QoS::ExactlyOnce,
        retain: true,
        expires_at_ms: u64::MAX - 1,
    }
}

fn will_of(user: Option<&str>, peer: PeerAddr) -> WillRecord<'_> {
    WillRecord {
        delay_s: 3,
        due_at_ms: 9,
        expiry_s: None,
        author: Some(AuthorRecord {
            user,
            peer,
            version: Version::V311,
            is_whole: user.is_some(),
        }),
        message: message("w", &[0, 255]),
    }
}

/// A record of each kind, with all that it may have and with nothing.
fn records() -> Vec<(Space, Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let holder = key::number(7);
    for (client_id, will) in [
        ("plain", None),
        (
            "with \"quotes\" and \u{e9}",
            Some(WillRecord {
                delay_s: 3,
                due_at_ms: 9,
                expiry_s: Some(0),
                author: None,
                message: message("w", &[0, 255]),
            }),
        ),
        ("by a socket", Some(will_of(None, PeerAddr::UNIX))),
        ("by the net", Some(will_of(Some("ann"), ADDRESS.into()))),
    ] {
        let session = SessionRecord {
            client_id,
            is_connected: will.is_some(),
            expiry_s: u32::MAX,
            ends_at_ms: u64::MAX,
            sent: 70_000,
            will,
        };
        records.push((Space::Session, holder.to_vec(), session.encode(&holder)));
    }
    let at = key::subscription(7, "$share/g/a/+/#");
    let options = SubscriptionOptions {
        identifier: 268_435_455,
        qos: QoS::AtLeastOnce,
        no_local: false,
        retain_as_published: true,
    };
    records.push((
        Space::Subscription,
        at.clone(),
        encode_subscription(&at, options),
    ));
    let value = encode_group(&holder, "$share/g/t");
    records.push((Space::Group, holder.to_vec(), value));
    let value = message("t", b"").encode(Space::Message, &holder);
    records.push((Space::Message, holder.to_vec(), value));
    let at = key::queue(7, 1);
    let queued = |identifiers, group| {
        QueueRecord::Message(QueuedRecord {
            message: 7,
            cost: 1,
            qos: QoS::AtLeastOnce,
            retain: false,
            identifiers,
            group,
        })
    };
    for record in [
        QueueRecord::Released,
        queued(Vec::new(), None),
        queued(vec![1, 2], Some(("$share/g/t", 5))),
    ] {
        records.push((Space::Queue, at.to_vec(), record.encode(&at)));
    }
    let at = key::incoming(7, PacketId::MIN);
    records.push((Space::Incoming, at.to_vec(), encode_incoming(&at, u32::MAX)));
    for (network, client, cause) in [
        ("192.0.2.7", None, BanCause::Operator),
        ("2001:db8::/48", None, BanCause::Operator),
        ("192.0.2.7", Some("c"), BanCause::Offence(Offence::Login)),
    ] {
        let network: Network = network.parse().expect("a range");
        let who = match (Banned::try_from(network).expect("it can be banned"), client) {
            (Banned::Host(host), Some(id)) => Banned::Client(ClientOf {
                host,
                id: id.into(),
            }),
            (who, _) => who,
        };
        let record = BanRecord {
            until_ms: u64::MAX,
            times: 3,
            cause,
        };
        let at = key::ban(&who);
        records.push((Space::Ban, at.clone(), record.encode(&at)));
    }
    let value = message("r/1", b"x").encode(Space::Retained, b"r/1");
    records.push((Space::Retained, b"r/1".to_vec(), value));
    records
}

#[test]
fn records_come_back_from_their_lines() {
    for record in records() {
        let (space, key, value) = &record;
        let line = Line::of(*space, key, value).expect("it is a record");
        let text = serde_json::to_string(&line.expect("it has a line")).expect("it is plain");
        assert!(!text.contains('\n'), "{text}");
        let line: Line = serde_json::from_str(&text).expect("it was a line");
        assert_eq!(line.records(), Ok(vec![record]), "{text}");
    }
}

#[test]
fn what_is_no_record_is_refused_by_name() {
    let wrong = |text: &str| {
        let line = serde_json::from_str::<Line>(text);
        line.map_err(|error| error.to_string())
            .and_then(|line| line.records().map(drop))
            .expect_err(text)
    };
    let retained = |topic, qos, payload| {
        format!(
            r#"{{"retained":{{"topic":"{topic}","qos":{qos},"retain":true,"expires_at_ms":0,
            "properties":"","payload":"{payload}"}}}}"#
        )
    };
    let header = |export, node| {
        format!(
            r#"{{"header":{{"export":{export},"node":"{node}","crashes":0,"stopped_at_ms":1}}}}"#
        )
    };
    let ban = |addresses, client_id, cause| {
        format!(
            r#"{{"ban":{{"addresses":"{addresses}","client_id":{client_id},"until_ms":1,"times":1,
            "cause":"{cause}"}}}}"#
        )
    };
    let zero = r#"{"incoming":{"holder":1,"packet_id":0,"digest":0}}"#;
    for (text, why) in [
        (r#"{"sesion":{}}"#, "unknown variant"),
        (r#"{"group":{"holder":1}}"#, "missing field"),
        (zero, "packet id 0"),
        (&retained("a/#", 1, ""), "the body makes no sense"),
        (&retained("a", 3, ""), "no QoS 3"),
        (&retained("a", 1, "?"), "Invalid"),
        (&ban("192.0.2.1/24", "null", "login"), "no range"),
        (&ban("2001:db8::/96", "null", "login"), "first 64 bits"),
        (&ban("192.0.2.0/24", r#""c""#, "login"), "one address"),
        (&ban("192.0.2.1", "null", "whim"), "no cause `whim`"),
        (&header(2, ""), "version 2"),
        (&header(1, "1"), "hexadecimal"),
    ] {
        let found = wrong(text);
        assert!(found.contains(why), "{text}: {found}");
    }
}
