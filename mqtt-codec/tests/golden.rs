//! Packets written down by hand from the specifications, field by field.
//!
//! The round trips cannot see an error that encoder and decoder share; these can.
#![cfg(feature = "alloc")]

mod support;

use std::num::NonZeroU16;

use mqtt_codec::{
    AckPacket, ConnectReturnCode, EncodeError, Packet, PacketId, PacketType, PayloadFormat,
    PublishHead, QoS, ReasonCode, RetainHandling, Role, SubscribeFilter, Version, encode,
    patch_packet_id, set_dup,
};
use support::parse;
use support::reencode::reencode;

use Role::{Client, Server};
use Version::{V5, V31, V311};

fn id(value: u16) -> PacketId {
    PacketId::new(value).expect("not zero")
}

#[test]
fn connect_of_mqtt_5_with_everything() {
    clause!(
        "MQTT-1.5.7-1",
        "MQTT-3.1.2-17",
        "MQTT-3.1.2-19",
        "MQTT-3.1.3-1",
        "MQTT-3.1.3-3"
    );
    let bytes = [
        &b"\x10\x6b\x00\x04MQTT\x05\xf6\x00\x3c"[..],
        b"\x28\x11\x00\x00\x0e\x10\x21\x00\x0a\x27\x00\x00\x10\x00\x22\x00\x05\x19\x01\x17\x00",
        b"\x26\x00\x01k\x00\x01v\x15\x00\x05SCRAM\x16\x00\x02\x00\xff",
        b"\x00\x01c",
        b"\x27\x18\x00\x00\x00\x07\x01\x01\x02\x00\x00\x00\x09\x03\x00\x01j\x08\x00\x01r",
        b"\x09\x00\x02\x00\x01\x26\x00\x01a\x00\x01b\x26\x00\x01a\x00\x01c",
        b"\x00\x01w\x00\x02hi\x00\x01u\x00\x01p",
    ]
    .concat();
    let Ok(Packet::Connect(connect)) = parse(&bytes, V5, Server) else {
        panic!()
    };
    assert_eq!((connect.version(), connect.client_id()), (V5, "c"));
    assert!(connect.clean_start());
    assert_eq!(connect.keep_alive(), 60);
    assert_eq!(
        (connect.username(), connect.password()),
        (Some("u"), Some(&b"p"[..]))
    );
    let properties = connect.properties();
    assert_eq!(properties.session_expiry_interval(), Some(3600));
    assert_eq!(properties.receive_maximum(), Some(10));
    assert_eq!(properties.maximum_packet_size(), Some(4096));
    assert_eq!(properties.topic_alias_maximum(), Some(5));
    assert!(properties.request_response_information());
    assert!(!properties.request_problem_information());
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("k", "v")]
    );
    assert_eq!(properties.authentication_method(), Some("SCRAM"));
    assert_eq!(properties.authentication_data(), Some(&[0, 0xff][..]));
    let will = connect.will().expect("there is a will");
    assert_eq!((will.topic, will.payload), ("w", &b"hi"[..]));
    assert_eq!((will.qos, will.retain), (QoS::ExactlyOnce, true));
    assert_eq!(will.properties.delay_interval(), 7);
    assert_eq!(
        will.properties.payload_format_indicator(),
        Some(PayloadFormat::Utf8)
    );
    assert_eq!(will.properties.message_expiry_interval(), Some(9));
    assert_eq!(will.properties.content_type(), Some("j"));
    assert_eq!(will.properties.response_topic(), Some("r"));
    assert_eq!(will.properties.correlation_data(), Some(&[0, 1][..]));
    let user: Vec<_> = will.properties.user_properties().collect();
    assert_eq!(
        user,
        [("a", "b"), ("a", "c")],
        "names repeat and keep their order"
    );
    let kept = will.properties.pass_through().collect::<Vec<_>>();
    assert_eq!(kept.len(), 2, "delay and expiry are cut out");
    assert_eq!(kept[0], b"\x01\x01");
    assert!(kept[1].starts_with(b"\x03\x00\x01j\x08"));
    let shown = format!("{connect:?}");
    assert!(
        !shown.contains("255") && shown.contains("***"),
        "secrets stay out: {shown}"
    );
}

#[test]
fn connect_of_mqtt_3() {
    clause!(v311 "MQTT-3.1.3-3", "MQTT-3.1.3-5", "MQTT-3.1.3-6", "MQTT-3.1.3-7");
    let bytes = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00";
    let Ok(Packet::Connect(connect)) = parse(bytes, V311, Server) else {
        panic!()
    };
    assert_eq!((connect.version(), connect.client_id()), (V311, ""));
    assert_eq!(
        (connect.username(), connect.password(), connect.will()),
        (None, None, None)
    );
    let bytes = b"\x10\x11\x00\x06MQIsdp\x03\x02\x00\x05\x00\x03abc";
    let Ok(Packet::Connect(connect)) = parse(bytes, V31, Server) else {
        panic!()
    };
    assert_eq!((connect.version(), connect.client_id()), (V31, "abc"));
    assert_eq!(connect.keep_alive(), 5);
}

/// MQTT 3.1 section 3.1: the remaining length has the last word over the user name flag, and
/// flags of a will that is not there are disregarded.
#[test]
fn mqtt_3_1_is_as_patient_as_it_says() {
    let bytes = b"\x10\x0f\x00\x06MQIsdp\x03\xc2\x00\x05\x00\x01a";
    let Ok(Packet::Connect(connect)) = parse(bytes, V31, Server) else {
        panic!()
    };
    assert_eq!((connect.username(), connect.password()), (None, None));
    let bytes = b"\x10\x0f\x00\x06MQIsdp\x03\x3a\x00\x05\x00\x01a";
    let Ok(Packet::Connect(connect)) = parse(bytes, V31, Server) else {
        panic!()
    };
    assert_eq!(connect.will(), None);
    for resent in [
        &b"\x8a\x06\x00\x01\x00\x01a\x01"[..],
        b"\xaa\x05\x00\x01\x00\x01a",
    ] {
        assert!(parse(resent, V31, Server).is_ok(), "sent again with dup");
    }
    assert!(
        parse(b"\x6a\x02\x00\x01", V31, Client).is_ok(),
        "sent again with dup"
    );
}

#[test]
fn a_password_alone_is_allowed_since_mqtt_5() {
    let bytes = b"\x10\x10\x00\x04MQTT\x05\x42\x00\x00\x00\x00\x00\x00\x01p";
    let Ok(Packet::Connect(connect)) = parse(bytes, V5, Server) else {
        panic!()
    };
    assert_eq!(
        (connect.username(), connect.password()),
        (None, Some(&b"p"[..]))
    );
}

#[test]
fn publish_with_ranges() {
    clause!("MQTT-2.2.1-2", "MQTT-3.3.2-1");
    let bytes = b"\x3d\x12\x00\x03a/b\x00\x07\x08\x01\x01\x23\x00\x02\x03\x00\x00!!";
    let Ok(Packet::Publish(publish)) = parse(bytes, V5, Server) else {
        panic!()
    };
    assert!(publish.dup() && publish.retain());
    assert_eq!(
        (publish.qos(), publish.packet_id()),
        (QoS::ExactlyOnce, Some(id(7)))
    );
    assert_eq!((publish.topic(), publish.payload()), ("a/b", &b"!!"[..]));
    assert_eq!(&bytes[publish.topic_range()], b"a/b");
    assert_eq!(&bytes[publish.payload_range()], b"!!");
    assert_eq!(
        &bytes[publish.properties_range()],
        b"\x01\x01\x23\x00\x02\x03\x00\x00"
    );
    let properties = publish.properties();
    assert_eq!(properties.topic_alias(), NonZeroU16::new(2));
    assert_eq!(
        properties.payload_format_indicator(),
        Some(PayloadFormat::Utf8)
    );
    assert_eq!(properties.content_type(), Some(""));
    assert!(!properties.is_pass_through());
    let kept: Vec<_> = properties.pass_through().collect();
    assert_eq!(kept, [&b"\x01\x01"[..], b"\x03\x00\x00"]);
    assert_eq!(properties.pass_through().byte_len(), 5);

    let bytes = b"\x30\x05\x00\x01a\x00\xff";
    for (version, payload) in [(V31, &b"\x00\xff"[..]), (V311, b"\x00\xff"), (V5, b"\xff")] {
        let Ok(Packet::Publish(publish)) = parse(bytes, version, Client) else {
            panic!()
        };
        assert_eq!(publish.payload(), payload);
        assert_eq!(publish.packet_id(), None);
        assert_eq!(&bytes[publish.payload_range()], payload);
        assert!(publish.properties_range().is_empty());
        assert!(publish.properties().is_pass_through() && publish.properties().is_empty());
        assert_eq!(publish.properties().pass_through().next(), None);
    }
}

#[test]
fn an_alias_stands_for_an_empty_topic() {
    let bytes = b"\x30\x06\x00\x00\x03\x23\x00\x01";
    let Ok(Packet::Publish(publish)) = parse(bytes, V5, Server) else {
        panic!()
    };
    assert_eq!(
        (publish.topic(), publish.properties().topic_alias()),
        ("", NonZeroU16::new(1))
    );
}

#[test]
fn a_server_may_send_many_subscription_identifiers() {
    let bytes = b"\x30\x0b\x00\x01a\x07\x0b\x01\x0b\xff\x7f\x0b\x01";
    let Ok(Packet::Publish(publish)) = parse(bytes, V5, Client) else {
        panic!()
    };
    let ids: Vec<_> = publish.properties().subscription_identifiers().collect();
    assert_eq!(ids, [1, 16_383, 1]);
    assert_eq!(publish.properties().pass_through().next(), None);
}

#[test]
fn acknowledgements_have_short_forms() {
    for (packet_type, first) in [
        (PacketType::PubAck, 0x40),
        (PacketType::PubRec, 0x50),
        (PacketType::PubRel, 0x62),
        (PacketType::PubComp, 0x70),
    ] {
        let success = AckPacket::new(packet_type, id(0x0102), ReasonCode::Success);
        for version in support::VERSIONS {
            assert_eq!(success.encode_to_vec(version), [first, 2, 1, 2]);
        }
        let wrong = match packet_type {
            PacketType::PubAck | PacketType::PubRec => ReasonCode::NotAuthorized,
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        let failure = AckPacket::new(packet_type, id(0x0102), wrong);
        assert_eq!(failure.encode_to_vec(V5), [first, 3, 1, 2, wrong as u8]);
        assert_eq!(failure.encode_to_vec(V311), [first, 2, 1, 2]);
        let long = [first, 4, 1, 2, wrong as u8, 0];
        let packet = parse(&long, V5, Server).expect("the long form is allowed");
        assert_eq!(reencode(&packet, V5), [first, 3, 1, 2, wrong as u8]);
    }
    let words = AckPacket {
        reason_string: Some("no"),
        user_properties: &[("a", "b")],
        ..AckPacket::new(PacketType::PubAck, id(1), ReasonCode::Success)
    };
    let bytes = b"\x40\x10\x00\x01\x00\x0c\x1f\x00\x02no\x26\x00\x01a\x00\x01b";
    assert_eq!(words.encode_to_vec(V5), bytes);
    let not_an_ack = AckPacket::new(PacketType::Publish, id(1), ReasonCode::Success);
    assert_eq!(not_an_ack.check(V5), Err(EncodeError::NotInVersion));
}

#[test]
fn subscribe_with_all_options() {
    let bytes = b"\x82\x0e\x00\x01\x02\x0b\x05\x00\x01a\x2e\x00\x02b#\x01";
    let Ok(Packet::Subscribe(subscribe)) = parse(bytes, V5, Server) else {
        panic!()
    };
    assert_eq!(
        (subscribe.packet_id(), subscribe.subscription_identifier()),
        (id(1), Some(5))
    );
    let filters: Vec<_> = subscribe.filters().collect();
    let first = SubscribeFilter {
        filter: "a",
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let second = SubscribeFilter {
        filter: "b#",
        qos: QoS::AtLeastOnce,
        ..<_>::default()
    };
    assert_eq!(
        filters,
        [first, second],
        "the grammar of a filter is not the codec's matter"
    );
    let bytes = b"\xa2\x07\x00\x09\x00\x01a\x00\x00";
    let Ok(Packet::Unsubscribe(unsubscribe)) = parse(bytes, V311, Server) else {
        panic!()
    };
    assert_eq!(unsubscribe.packet_id(), id(9));
    assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), ["a", ""]);
    let shared = b"\x82\x0f\x00\x01\x00\x00\x09$share/ga\x00";
    assert!(parse(shared, V5, Server).is_ok());
}

#[test]
fn suback_in_each_version() {
    clause!("MQTT-3.9.3-1");
    clause!(v311 "MQTT-3.9.3-1", "MQTT-3.9.3-2");
    let suback = encode::SubAck {
        packet_id: id(3),
        codes: &[
            ReasonCode::granted(QoS::ExactlyOnce),
            ReasonCode::NotAuthorized,
        ],
        reason_string: None,
        user_properties: &[],
    };
    assert_eq!(suback.encode_to_vec(V5), b"\x90\x05\x00\x03\x00\x02\x87");
    assert_eq!(suback.encode_to_vec(V311), b"\x90\x04\x00\x03\x02\x80");
    let bytes = suback.encode_to_vec(V311);
    let Ok(Packet::SubAck(view)) = parse(&bytes, V311, Client) else {
        panic!()
    };
    let codes: Vec<_> = view.codes().collect();
    assert_eq!(
        codes,
        [ReasonCode::GrantedQoS2, ReasonCode::UnspecifiedError]
    );
    let unsuback = encode::UnsubAck {
        packet_id: id(3),
        codes: &[ReasonCode::NoSubscriptionExisted],
        reason_string: None,
        user_properties: &[],
    };
    assert_eq!(unsuback.encode_to_vec(V5), b"\xb0\x04\x00\x03\x00\x11");
    assert_eq!(unsuback.encode_to_vec(V31), b"\xb0\x02\x00\x03");
}

#[test]
fn connack_in_each_version() {
    // Without properties there is a length, and it is zero.
    clause!("MQTT-2.2.2-1");
    clause!("MQTT-3.2.2-6", "MQTT-3.2.2-8");
    clause!(v311 "MQTT-3.2.2-4");
    let accepted = encode::ConnAck {
        session_present: true,
        ..Default::default()
    };
    assert_eq!(accepted.encode_to_vec(V5), b"\x20\x03\x01\x00\x00");
    assert_eq!(accepted.encode_to_vec(V311), b"\x20\x02\x01\x00");
    assert_eq!(accepted.encode_to_vec(V31), b"\x20\x02\x00\x00");
    let refused = encode::ConnAck {
        session_present: true,
        reason: ReasonCode::BadUserNameOrPassword,
        properties: Default::default(),
    };
    assert_eq!(refused.encode_to_vec(V5), b"\x20\x03\x00\x86\x00");
    assert_eq!(refused.encode_to_vec(V311), b"\x20\x02\x00\x04");
    let bytes = [
        &b"\x20\x5a\x00\x00\x57\x11\x00\x00\x00\x01\x21\x00\x02\x24\x01\x25\x00"[..],
        b"\x27\x00\x00\x00\x03\x12\x00\x01c\x22\x00\x04\x1f\x00\x01r\x26\x00\x01a\x00\x01b",
        b"\x28\x00\x29\x01\x2a\x00\x13\x00\x05\x1a\x00\x01i\x1c\x00\x01s\x15\x00\x01m\x16\x00\x01d",
    ]
    .concat();
    let bytes = fix_lengths(bytes);
    let Ok(Packet::ConnAck(connack)) = parse(&bytes, V5, Client) else {
        panic!()
    };
    let properties = connack.properties();
    assert_eq!(properties.session_expiry_interval(), Some(1));
    assert_eq!(properties.receive_maximum(), Some(2));
    assert_eq!(properties.maximum_qos(), Some(QoS::AtLeastOnce));
    assert_eq!(properties.retain_available(), Some(false));
    assert_eq!(properties.maximum_packet_size(), Some(3));
    assert_eq!(properties.assigned_client_id(), Some("c"));
    assert_eq!(properties.topic_alias_maximum(), Some(4));
    assert_eq!(properties.reason_string(), Some("r"));
    assert_eq!(
        properties.user_properties().collect::<Vec<_>>(),
        [("a", "b")]
    );
    assert_eq!(properties.wildcard_subscription_available(), Some(false));
    assert_eq!(properties.subscription_identifiers_available(), Some(true));
    assert_eq!(properties.shared_subscription_available(), Some(false));
    assert_eq!(properties.server_keep_alive(), Some(5));
    assert_eq!(properties.response_information(), Some("i"));
    assert_eq!(properties.server_reference(), Some("s"));
    assert_eq!(properties.authentication_method(), Some("m"));
    assert_eq!(properties.authentication_data(), Some(&b"d"[..]));
    assert_eq!(reencode(&Packet::ConnAck(connack), V5), bytes);
}

/// Counts the lengths of a CONNACK for the reader who would else have to.
fn fix_lengths(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[1] = (bytes.len() - 2) as u8;
    bytes[4] = (bytes.len() - 5) as u8;
    bytes
}

#[test]
fn disconnect_and_auth() {
    for version in support::VERSIONS {
        assert_eq!(
            encode::Disconnect::default().encode_to_vec(version),
            b"\xe0\x00"
        );
    }
    let shutting_down = encode::Disconnect {
        reason: ReasonCode::ServerShuttingDown,
        ..Default::default()
    };
    assert_eq!(shutting_down.encode_to_vec(V5), b"\xe0\x01\x8b");
    assert!(parse(b"\xe0\x01\x8b", V5, Client).is_ok());
    let moved = encode::Disconnect {
        reason: ReasonCode::ServerMoved,
        server_reference: Some("b"),
        reason_string: Some("x"),
        ..Default::default()
    };
    assert_eq!(
        moved.encode_to_vec(V5),
        b"\xe0\x0a\x9d\x08\x1c\x00\x01b\x1f\x00\x01x"
    );
    let Ok(Packet::Disconnect(view)) = parse(b"\xe0\x07\x04\x05\x11\0\0\0\x08", V5, Server) else {
        panic!()
    };
    assert_eq!(view.reason(), ReasonCode::DisconnectWithWill);
    assert_eq!(view.session_expiry_interval(), Some(8));
    let auth = encode::Auth {
        reason: ReasonCode::ContinueAuthentication,
        authentication_method: Some("m"),
        authentication_data: Some(b"d"),
        ..Default::default()
    };
    assert_eq!(
        auth.encode_to_vec(V5),
        b"\xf0\x0a\x18\x08\x15\x00\x01m\x16\x00\x01d"
    );
    assert_eq!(auth.check(V311), Err(EncodeError::NotInVersion));
    let Ok(Packet::Auth(view)) = parse(b"\xf0\x00", V5, Client) else {
        panic!()
    };
    assert_eq!(
        (view.reason(), view.authentication_method()),
        (ReasonCode::Success, None)
    );
}

#[test]
fn a_byte_order_mark_is_a_character() {
    clause!("MQTT-1.5.4-3");
    clause!(v311 "MQTT-1.5.3-3");
    let bytes = b"\x30\x06\x00\x04\xef\xbb\xbfa";
    let Ok(Packet::Publish(publish)) = parse(bytes, V311, Server) else {
        panic!()
    };
    assert_eq!(publish.topic(), "\u{feff}a");
}

#[test]
fn one_head_is_patched_for_each_receiver() {
    let mut bytes = [0; 32];
    let head = PublishHead {
        qos: QoS::AtLeastOnce,
        topic: "a/b",
        message_expiry: Some(5),
        subscription_ids: &[1, 200],
        pass_through: b"\x01\x01",
        payload_len: 3,
        ..PublishHead::default()
    };
    let len = head.encode_head(V5, &mut bytes);
    assert_eq!(
        &bytes[..len],
        b"\x32\x17\x00\x03a/b\x00\x00\x0c\x02\x00\x00\x00\x05\x0b\x01\x0b\xc8\x01\x01\x01"
    );
    assert_eq!((head.head_len(V5), head.total_len(V5)), (len, len + 3));
    assert_eq!(head.check(V5), Ok(len + 3));
    let at = head.packet_id_offset(V5).expect("qos 1 has one");
    patch_packet_id(&mut bytes, at, id(0xabcd));
    set_dup(&mut bytes);
    bytes[len..len + 3].copy_from_slice(b"xyz");
    let Ok(Packet::Publish(publish)) = parse(&bytes[..len + 3], V5, Client) else {
        panic!()
    };
    assert!(publish.dup());
    assert_eq!(
        (publish.packet_id(), publish.payload()),
        (Some(id(0xabcd)), &b"xyz"[..])
    );
}

#[test]
fn dup_is_never_written_with_qos_0() {
    clause!("MQTT-3.3.1-2");
    clause!(v311 "MQTT-3.3.1-2");
    let head = PublishHead {
        dup: true,
        topic: "a",
        packet_id: Some(id(1)),
        ..<_>::default()
    };
    assert_eq!(head.encode_to_vec(V311, b""), b"\x30\x03\x00\x01a");
    assert_eq!(head.packet_id_offset(V311), None);
}

#[test]
fn nothing_is_cut_short() {
    clause!("MQTT-4.7.3-3");
    clause!(v311 "MQTT-4.7.3-3");
    let longest = "t".repeat(65_535);
    let head = PublishHead {
        topic: &longest,
        ..<_>::default()
    };
    let bytes = head.encode_to_vec(V311, b"");
    assert_eq!(head.check(V311), Ok(bytes.len()));
    let Ok(Packet::Publish(publish)) = parse(&bytes, V311, Server) else {
        panic!()
    };
    assert_eq!(publish.topic(), longest);

    let too_long = "t".repeat(65_536);
    let head = PublishHead {
        topic: &too_long,
        ..head
    };
    assert_eq!(head.check(V311), Err(EncodeError::FieldTooLong));
    let pairs = [("k", too_long.as_str())];
    let ack = AckPacket {
        user_properties: &pairs,
        ..AckPacket::new(PacketType::PubAck, id(1), ReasonCode::Success)
    };
    assert_eq!(ack.check(V5), Err(EncodeError::FieldTooLong));
    assert_eq!(ack.check(V311), Ok(4), "3.x does not write it");
    let head = PublishHead {
        topic: "t",
        payload_len: 268_435_452,
        ..<_>::default()
    };
    assert_eq!(
        head.check(V311),
        Ok(268_435_460),
        "the largest packet there is"
    );
    let head = PublishHead {
        payload_len: 268_435_453,
        ..head
    };
    assert_eq!(head.check(V311), Err(EncodeError::PacketTooLong));
    let head = PublishHead {
        payload_len: usize::MAX,
        ..head
    };
    assert_eq!(head.check(V5), Err(EncodeError::PacketTooLong));
    let head = PublishHead {
        topic: "",
        payload_len: 0,
        ..head
    };
    assert_eq!(head.check(V5), Err(EncodeError::TopicEmpty));
    let aliased = PublishHead {
        topic_alias: NonZeroU16::new(1),
        ..head
    };
    assert_eq!(aliased.check(V5), Ok(8));
    assert_eq!(aliased.check(V311), Err(EncodeError::TopicEmpty));
    for ids in [[0], [268_435_456]] {
        let head = PublishHead {
            topic: "t",
            subscription_ids: &ids,
            ..head
        };
        assert_eq!(head.check(V311).is_ok(), head.check(V5).is_err());
    }
}

#[test]
#[should_panic(expected = "see `check`")]
fn encoding_a_string_that_is_too_long_panics() {
    let topic = "t".repeat(65_536);
    let _ = PublishHead {
        topic: &topic,
        ..<_>::default()
    }
    .encode_head(V311, &mut [0; 70_000]);
}

#[test]
fn what_cannot_be_true_is_not_encoded() {
    let user = encode::Connect {
        password: Some(b"p"),
        ..<_>::default()
    };
    assert_eq!(user.check(V311), Err(EncodeError::PasswordWithoutUserName));
    assert!(user.check(V5).is_ok());
    let mut auth = encode::Connect::default();
    auth.properties.authentication_data = Some(b"d");
    assert_eq!(auth.check(V5), Err(EncodeError::AuthMethodMissing));
    let mut zero = encode::ConnAck::default();
    zero.properties.receive_maximum = Some(0);
    assert_eq!(zero.check(V5), Err(EncodeError::ValueOutOfRange));
    assert_eq!(zero.check(V311), Ok(4));
    let empty = encode::Unsubscribe {
        packet_id: id(1),
        filters: &[],
        user_properties: &[],
    };
    assert_eq!(empty.check(V5), Err(EncodeError::EmptyList));
}

#[test]
fn refusals_translate_to_mqtt_3() {
    use ConnectReturnCode as C;
    for (reason, code) in [
        (ReasonCode::Success, C::Accepted),
        (
            ReasonCode::UnsupportedProtocolVersion,
            C::UnacceptableProtocolVersion,
        ),
        (ReasonCode::ClientIdentifierNotValid, C::IdentifierRejected),
        (ReasonCode::ServerBusy, C::ServerUnavailable),
        (ReasonCode::BadUserNameOrPassword, C::BadUserNameOrPassword),
        (ReasonCode::Banned, C::NotAuthorized),
    ] {
        assert_eq!(C::from_reason(reason), code);
    }
    for code in (0..=5).filter_map(C::from_u8) {
        assert_eq!(C::from_reason(code.reason()), code);
    }
    for reason in ReasonCode::ALL {
        assert_eq!(ReasonCode::from_u8(*reason as u8), Some(*reason));
        let refused = C::from_reason(*reason) != C::Accepted;
        assert_eq!(refused, reason.is_error(), "{reason}");
    }
}

static_assertions::assert_eq_size!(Option<PacketId>, u16);
static_assertions::assert_eq_size!(mqtt_codec::Error, u64);
static_assertions::assert_impl_all!(Packet<'static>: Copy, Send, Sync);
static_assertions::assert_impl_all!(mqtt_codec::Error: Copy, Send, Sync, std::error::Error);

#[cfg(feature = "bytes")]
#[test]
fn a_buffer_gets_the_same_bytes_as_a_vec() {
    // A `Vec` is a `BufMut` too, and that is another path than `encode_to_vec`.
    let mut buffer = Vec::new();
    let ack = AckPacket::new(
        PacketType::PubRel,
        id(5),
        ReasonCode::PacketIdentifierNotFound,
    );
    let head = PublishHead {
        topic: "a/b",
        pass_through: b"\x01\x01",
        ..<_>::default()
    };
    let lens = [
        ack.encode_to(V5, &mut buffer),
        head.encode_head_to(V5, &mut buffer),
    ];
    let expected = [ack.encode_to_vec(V5), head.encode_to_vec(V5, b"")];
    assert_eq!(lens, [expected[0].len(), expected[1].len()]);
    assert_eq!(buffer, expected.concat());
}
