//! Other ways to read and write the same packet: streamed, owned, in parts, forwarded.
#![cfg(feature = "alloc")]

mod support;

use mqtt_codec::{
    DecodeOptions, ErrorKind, HeadScan, OwnedPacket, Packet, PacketId, PublishHead, QoS, Role,
    Version, encode, scan_publish_head,
};
use proptest::prelude::*;
use support::reencode::reencode;
use support::strategies::{Sample, any_packet, publish};
use support::{VERSIONS, parse};

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Wherever a PUBLISH is cut, its head is either incomplete or the one of the whole packet.
    #[test]
    fn a_head_is_the_same_however_much_of_the_payload_is_there(sample in publish()) {
        let Sample { bytes, version, role } = sample;
        let Ok(Packet::Publish(whole)) = parse(&bytes, version, role) else { panic!() };
        let head_len = whole.payload_range().start;
        for len in 0..=bytes.len() {
            let found = scan_publish_head(&bytes[..len], version, role, u32::MAX, 1 << 16);
            match found.expect("valid") {
                HeadScan::Incomplete { missing } => {
                    prop_assert!(len < head_len && missing >= 1 && len + missing <= bytes.len());
                }
                HeadScan::Head(stream) => {
                    prop_assert!(len >= head_len);
                    prop_assert_eq!(stream.head_len(), head_len);
                    prop_assert_eq!(stream.total_len(), bytes.len());
                    prop_assert_eq!(stream.payload_len(), whole.payload().len());
                    prop_assert_eq!(stream.remaining(), bytes.len() - len);
                    prop_assert_eq!(stream.head().topic(), whole.topic());
                    prop_assert_eq!(stream.head().packet_id(), whole.packet_id());
                    prop_assert_eq!(stream.head().properties(), whole.properties());
                    let there = stream.head().payload();
                    prop_assert_eq!(there, &whole.payload()[..len - head_len]);
                }
                HeadScan::NotPublish(_) => panic!("it is one"),
            }
        }
    }

    /// A damaged PUBLISH is refused in parts if it is refused as a whole, and for the same reason.
    #[test]
    fn a_damaged_head_is_refused_in_the_end(
        sample in publish(), place in any::<prop::sample::Index>(), value in any::<u8>(),
    ) {
        let Sample { mut bytes, version, role } = sample;
        let place = place.index(bytes.len().min(40));
        bytes[place] = value;
        bytes[0] = 0x30 | bytes[0] & 0x0F;
        let scanned = mqtt_codec::scan(&bytes, u32::MAX);
        let Ok(mqtt_codec::Scan::Frame(frame)) = scanned else { return Ok(()) };
        let packet = &bytes[..frame.total_len];
        let whole = mqtt_codec::decode(packet, &frame, version, role);
        let parts = scan_publish_head(packet, version, role, u32::MAX, usize::MAX);
        match (whole, parts) {
            (Ok(_), Ok(HeadScan::Head(stream))) => prop_assert_eq!(stream.remaining(), 0),
            (Err(whole), Err(part)) => prop_assert_eq!(whole, part),
            (whole, part) => prop_assert!(false, "{whole:?} and {part:?}"),
        }
        for len in 0..packet.len() {
            if let Err(error) = scan_publish_head(&packet[..len], version, role, u32::MAX, 1 << 16)
            {
                prop_assert_eq!(whole.err().map(|whole| whole.kind()), Some(error.kind()));
            }
        }
    }

    /// An owned packet is the packet.
    #[test]
    fn an_owned_packet_is_the_packet(sample in any_packet()) {
        let Sample { bytes, version, role } = sample;
        let owned = OwnedPacket::decode(bytes.clone(), version, role).expect("valid");
        prop_assert_eq!(&reencode(&owned.packet(), owned.version()), &bytes);
        prop_assert_eq!(owned.as_bytes(), &bytes[..]);
        prop_assert_eq!(&*owned.into_bytes(), &bytes[..]);
        let short = OwnedPacket::decode(&bytes[..bytes.len() - 1], version, role);
        prop_assert_eq!(short.unwrap_err().kind(), ErrorKind::Truncated);
        let long = OwnedPacket::decode([&bytes[..], b"\0"].concat(), version, role);
        prop_assert_eq!(long.unwrap_err().kind(), ErrorKind::TrailingBytes);
    }

    /// The parts of a packet are the packet.
    #[test]
    fn parts_are_the_packet(sample in publish(), id in 1..=u16::MAX) {
        let Sample { bytes, version, role } = sample;
        let Ok(Packet::Publish(view)) = parse(&bytes, version, role) else { panic!() };
        let mut room = vec![0; bytes.len()];
        let mut head = view.forward(&mut room).expect("there is room");
        head.packet_id = PacketId::new(id);
        let ids = [1, 200, 268_435_455];
        for count in 0..=ids.len() {
            head.subscription_ids = &ids[..count];
            head.topic_alias = std::num::NonZeroU16::new(7).filter(|_| count > 1);
            for version in VERSIONS {
                let mut scratch = vec![0; head.parts_scratch_len()];
                let parts = head.parts(version, &mut scratch, view.payload()).concat();
                prop_assert_eq!(parts, head.encode_to_vec(version, view.payload()));
            }
        }
    }

    /// A forwarded message has the topic, the payload and the properties that are its own.
    #[test]
    fn a_forwarded_message_keeps_what_is_its_own(
        sample in publish(), qos in support::strategies::any_qos(),
        to in support::strategies::any_version(), retain in any::<bool>(),
    ) {
        let Sample { bytes, version, role } = sample;
        let Ok(Packet::Publish(view)) = parse(&bytes, version, role) else { panic!() };
        let mut room = vec![0; view.properties().pass_through().byte_len()];
        let mut head = view.forward(&mut room).expect("there is room");
        head.qos = qos;
        head.retain = retain;
        head.packet_id = Some(PacketId::MAX);
        let forwarded = head.encode_to_vec(to, view.payload());
        let Ok(Packet::Publish(again)) = parse(&forwarded, to, Role::Client) else { panic!() };
        prop_assert_eq!((again.topic(), again.payload()), (view.topic(), view.payload()));
        prop_assert_eq!((again.qos(), again.retain(), again.dup()), (qos, retain, false));
        let (old, new) = (view.properties(), again.properties());
        prop_assert_eq!(new.topic_alias(), None);
        prop_assert_eq!(new.subscription_identifiers().count(), 0);
        if to == Version::V5 {
            prop_assert_eq!(new.message_expiry_interval(), old.message_expiry_interval());
            prop_assert_eq!(new.response_topic(), old.response_topic());
            prop_assert_eq!(new.correlation_data(), old.correlation_data());
            prop_assert_eq!(new.content_type(), old.content_type());
            prop_assert!(new.user_properties().eq(old.user_properties()));
        } else {
            prop_assert!(new.is_empty());
        }
    }
}

#[test]
fn a_head_that_never_ends_is_refused_at_its_limit() {
    // A topic of 65,535 bytes, and a limit of 100.
    let mut bytes = b"\x30\xff\xff\x7f\xff\xff".to_vec();
    bytes.extend([b'a'; 93]);
    let scan = |bytes: &[u8]| {
        scan_publish_head(bytes, Version::V5, Role::Server, u32::MAX, 100).map(|_| ())
    };
    assert_eq!(scan(&bytes), Ok(()), "99 bytes are within it");
    bytes.push(b'a');
    assert_eq!(scan(&bytes).unwrap_err().kind(), ErrorKind::PacketTooLarge);
}

#[test]
fn a_property_past_its_section_is_refused_at_once() {
    // The section has two bytes, the property in it wants five, and the payload is far away.
    let bytes = b"\x30\xff\xff\x7f\x00\x01a\x02\x02\x00\x00\x00\x00";
    let error = scan_publish_head(bytes, Version::V5, Role::Server, u32::MAX, 100).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Truncated);
}

#[test]
fn other_packets_are_not_a_head() {
    use mqtt_codec::PacketType::PingReq;
    let scan = |bytes| scan_publish_head(bytes, Version::V5, Role::Server, u32::MAX, 100);
    assert_eq!(scan(b"\xc0\x00"), Ok(HeadScan::NotPublish(PingReq)));
    assert_eq!(scan(b"\xc0"), Ok(HeadScan::NotPublish(PingReq)));
    assert_eq!(scan(b""), Ok(HeadScan::Incomplete { missing: 2 }));
}

#[test]
fn an_owned_connect_remembers_its_leniency() {
    let id = "an-identifier-of-more-than-23-characters";
    let connect = mqtt_codec::encode::Connect {
        client_id: id,
        clean_start: true,
        ..Default::default()
    };
    let bytes = connect.encode_to_vec(Version::V31);
    let strict = OwnedPacket::decode_connect(bytes.clone(), DecodeOptions::STRICT);
    assert_eq!(strict.unwrap_err().kind(), ErrorKind::ClientIdNotValid);
    let mut options = DecodeOptions::STRICT;
    options.v31_long_client_id = true;
    let owned = OwnedPacket::decode_connect(bytes, options).expect("lenient");
    assert_eq!(owned.version(), Version::V31);
    assert_eq!(owned.connect().expect("it is one").client_id(), id);
}

/// What the loss of an alias's topic would bring about is for the caller to see.
#[test]
fn a_message_of_an_alias_alone_wants_its_topic_set() {
    let bytes = b"\x30\x06\x00\x00\x03\x23\x00\x01";
    let Ok(Packet::Publish(view)) = parse(bytes, Version::V5, Role::Server) else {
        panic!()
    };
    let head = view.forward(&mut []).expect("nothing to copy");
    assert!(head.check(Version::V5).is_err());
    let head = PublishHead {
        topic: "t",
        qos: QoS::AtMostOnce,
        ..head
    };
    assert_eq!(
        head.encode_to_vec(Version::V5, b""),
        b"\x30\x04\x00\x01t\x00"
    );
}

/// The strings of a CONNECT are checked together: that no string gets away with what its neighbours
/// make of it, nor suffers from them.
#[test]
fn strings_of_a_connect_are_judged_each_by_itself() {
    // The identifier ends in the midst of a character that the next length would complete.
    let bytes = b"\x10\x0f\x00\x04MQTT\x04\x82\x00\x3c\x00\x01\xc3\xa9\x00";
    let error = parse(bytes, Version::V311, Role::Server).expect_err("half a character");
    assert_eq!(error.kind(), ErrorKind::StringNotUtf8);
    assert_eq!(
        (error.field(), error.offset()),
        (mqtt_codec::Field::ClientId, 14)
    );
    // Beside a password of any bytes, near and far from the beginning.
    for len in [0, 1, 200, 300, 60_000] {
        let (client_id, topic) = ("é".repeat(len / 2 + 1), "ü/".repeat(len / 3 + 1));
        for payload in [&b"\xff"[..], b"ascii", &[0xC3; 300]] {
            let connect = encode::Connect {
                client_id: &client_id,
                username: Some("ß"),
                password: Some(b"\x80\x00"),
                will: Some(encode::Will {
                    topic: &topic,
                    payload,
                    ..encode::Will::default()
                }),
                ..encode::Connect::default()
            };
            for version in [Version::V311, Version::V5] {
                let bytes = connect.encode_to_vec(version);
                let Ok(Packet::Connect(view)) = parse(&bytes, version, Role::Server) else {
                    panic!("{len}")
                };
                assert_eq!(
                    (view.client_id(), view.username()),
                    (&*client_id, Some("ß"))
                );
                let will = view.will().expect("there is one");
                assert_eq!((will.topic, will.payload), (&*topic, payload));
            }
        }
    }
}
