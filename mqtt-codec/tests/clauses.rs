//! Normative statements that no malformed packet shows, each by a packet that keeps it.
#![cfg(feature = "alloc")]

mod support;

use mqtt_codec::{
    ErrorKind, Packet, PacketId, PublishHead, QoS, ReasonCode, Role, SubscribeFilter, Version,
    encode,
};
use support::parse;

use Role::{Client, Server};
use Version::{V5, V31, V311};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

fn kind(bytes: &[u8], version: Version) -> ErrorKind {
    parse(bytes, version, Server).expect_err("malformed").kind()
}

#[test]
fn every_identifier_of_letters_and_digits_is_taken() {
    clause!("MQTT-3.1.3-5");
    clause!(v311 "MQTT-3.1.3-5");
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for len in 1..=23 {
        for start in 0..=all.len() - len {
            let client_id = &all[start..start + len];
            let connect = encode::Connect {
                client_id,
                clean_start: true,
                ..Default::default()
            };
            for version in [V31, V311, V5] {
                let bytes = connect.encode_to_vec(version);
                let Ok(Packet::Connect(view)) = parse(&bytes, version, Server) else {
                    panic!()
                };
                assert_eq!(view.client_id(), client_id);
            }
        }
    }
}

#[test]
fn what_belongs_to_a_message_is_forwarded_unaltered_and_in_order() {
    clause!(
        "MQTT-3.3.2-4",
        "MQTT-3.3.2-15",
        "MQTT-3.3.2-16",
        "MQTT-3.3.2-17",
        "MQTT-3.3.2-18"
    );
    clause!("MQTT-3.3.2-20");
    let properties = b"\x26\x00\x01b\x00\x01\x31\x01\x01\x02\x00\x00\x00\x09\x08\x00\x01r\
        \x26\x00\x01a\x00\x01\x32\x23\x00\x04\x09\x00\x02\x00\xff\x03\x00\x01j\
        \x26\x00\x01b\x00\x01\x33";
    let head = PublishHead {
        topic: "t",
        pass_through: properties,
        payload_len: 0,
        ..PublishHead::default()
    };
    let bytes = head.encode_to_vec(V5, b"");
    let Ok(Packet::Publish(view)) = parse(&bytes, V5, Server) else {
        panic!()
    };
    let mut scratch = [0; 64];
    let forwarded = view
        .forward(&mut scratch)
        .expect("room")
        .encode_to_vec(V5, b"");
    let Ok(Packet::Publish(again)) = parse(&forwarded, V5, Client) else {
        panic!()
    };
    let again = again.properties();
    assert_eq!(
        again.payload_format_indicator(),
        Some(mqtt_codec::PayloadFormat::Utf8)
    );
    assert_eq!(again.response_topic(), Some("r"));
    assert_eq!(again.correlation_data(), Some(&[0, 0xff][..]));
    assert_eq!(again.content_type(), Some("j"));
    let user: Vec<_> = again.user_properties().collect();
    assert_eq!(user, [("b", "1"), ("a", "2"), ("b", "3")]);
}

#[test]
fn no_topic_or_filter_has_the_null_character() {
    clause!("MQTT-4.7.3-2");
    clause!(v311 "MQTT-4.7.3-2");
    for (v5, v311) in [
        (
            &b"\x30\x04\x00\x01\x00\x00"[..],
            &b"\x30\x03\x00\x01\x00"[..],
        ),
        (
            b"\x82\x07\x00\x01\x00\x00\x01\x00\x00",
            b"\x82\x06\x00\x01\x00\x01\x00\x00",
        ),
        (
            b"\xa2\x06\x00\x01\x00\x00\x01\x00",
            b"\xa2\x05\x00\x01\x00\x01\x00",
        ),
    ] {
        assert_eq!(kind(v5, V5), ErrorKind::StringHasNul);
        assert_eq!(kind(v311, V311), ErrorKind::StringHasNul);
    }
}

#[test]
fn every_string_of_3_1_1_is_utf_8() {
    clause!(v311 "MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11", "MQTT-3.3.2-1");
    clause!(v311 "MQTT-3.8.3-1", "MQTT-3.10.3-1");
    for bytes in [
        // Client identifier, will topic, user name.
        &b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01\xff"[..],
        b"\x10\x12\x00\x04MQTT\x04\x06\x00\x00\x00\x01c\x00\x01\xff\x00\x00",
        b"\x10\x10\x00\x04MQTT\x04\x82\x00\x00\x00\x01c\x00\x01\xff",
        b"\x30\x03\x00\x01\xff",
        b"\x82\x06\x00\x01\x00\x01\xff\x00",
        b"\xa2\x05\x00\x01\x00\x01\xff",
    ] {
        assert_eq!(kind(bytes, V311), ErrorKind::StringNotUtf8, "{bytes:02x?}");
    }
}

#[test]
fn every_string_of_5_0_is_utf_8() {
    clause!(
        "MQTT-3.1.3-4",
        "MQTT-3.1.3-11",
        "MQTT-3.1.3-12",
        "MQTT-3.3.2-1",
        "MQTT-3.3.2-13",
        "MQTT-3.3.2-19",
        "MQTT-3.8.3-1",
        "MQTT-3.10.3-1"
    );
    for bytes in [
        // Client identifier, will topic, user name.
        &b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x01\xff"[..],
        b"\x10\x14\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x01c\x00\x00\x01\xff\x00\x00",
        b"\x10\x11\x00\x04MQTT\x05\x82\x00\x00\x00\x00\x01c\x00\x01\xff",
        // Topic, response topic, content type.
        b"\x30\x04\x00\x01\xff\x00",
        b"\x30\x08\x00\x01t\x04\x08\x00\x01\xff",
        b"\x30\x08\x00\x01t\x04\x03\x00\x01\xff",
        b"\x82\x07\x00\x01\x00\x00\x01\xff\x00",
        b"\xa2\x06\x00\x01\x00\x00\x01\xff",
    ] {
        assert_eq!(kind(bytes, V5), ErrorKind::StringNotUtf8, "{bytes:02x?}");
    }
}

#[test]
fn the_fields_of_a_3_1_1_connect_come_in_order_and_as_its_flags_say() {
    clause!(v311 "MQTT-3.1.2-9", "MQTT-3.1.2-11", "MQTT-3.1.3-1");
    let bytes =
        b"\x10\x19\x00\x04MQTT\x04\xc6\x00\x05\x00\x01c\x00\x01w\x00\x01m\x00\x01u\x00\x01p";
    let Ok(Packet::Connect(view)) = parse(bytes, V311, Server) else {
        panic!()
    };
    let will = view.will().expect("there is one");
    assert_eq!(
        (view.client_id(), will.topic, will.payload),
        ("c", "w", &b"m"[..])
    );
    assert_eq!(
        (view.username(), view.password()),
        (Some("u"), Some(&b"p"[..]))
    );
    // A will flag without will, and a will without will flag.
    let missing = b"\x10\x0d\x00\x04MQTT\x04\x06\x00\x05\x00\x01c";
    assert_eq!(kind(missing, V311), ErrorKind::Truncated);
    let surplus = b"\x10\x13\x00\x04MQTT\x04\x02\x00\x05\x00\x01c\x00\x01w\x00\x01m";
    assert_eq!(kind(surplus, V311), ErrorKind::TrailingBytes);
}

#[test]
fn a_3_1_1_connect_names_its_protocol_and_a_publish_its_quality() {
    clause!(v311 "MQTT-3.1.2-1", "MQTT-3.3.1-4");
    let bytes = b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x05\x00\x01c";
    assert_eq!(kind(bytes, V311), ErrorKind::UnknownProtocolName);
    let error = mqtt_codec::scan(b"\x36\x05\x00\x01a\x00\x01", 64).expect_err("qos 3");
    assert_eq!(error.kind(), ErrorKind::QosInvalid);
}

#[test]
fn encoders_write_reserved_flags_and_no_identifier_with_qos_0() {
    clause!(v311 "MQTT-2.2.2-1", "MQTT-2.3.1-5");
    let ack = |packet_type| encode::AckPacket {
        packet_type,
        packet_id: id(1),
        reason: ReasonCode::Success,
        reason_string: None,
        user_properties: &[],
    };
    use mqtt_codec::PacketType as P;
    for (packet_type, first) in [
        (P::PubAck, 0x40),
        (P::PubRec, 0x50),
        (P::PubRel, 0x62),
        (P::PubComp, 0x70),
    ] {
        assert_eq!(ack(packet_type).encode_to_vec(V311), [first, 2, 0, 1]);
    }
    let filters = [SubscribeFilter {
        filter: "f",
        ..SubscribeFilter::default()
    }];
    let subscribe = encode::Subscribe {
        packet_id: id(1),
        filters: &filters,
        subscription_identifier: None,
        user_properties: &[],
    };
    assert_eq!(subscribe.encode_to_vec(V311)[0], 0x82);
    let head = PublishHead {
        topic: "t",
        dup: true,
        packet_id: Some(id(1)),
        ..PublishHead::default()
    };
    // Neither identifier nor DUP with QoS 0; the DUP of a forwarded message is its own.
    assert_eq!(head.encode_to_vec(V311, b""), b"\x30\x03\x00\x01t");
    let Ok(Packet::Publish(view)) = parse(b"\x3a\x05\x00\x01t\x00\x07", V311, Server) else {
        panic!()
    };
    assert!(view.dup() && view.qos() == QoS::AtLeastOnce);
    assert!(!view.forward(&mut []).expect("nothing to copy").dup);
}
