//! What the fuzz targets do with their bytes, and the replay of their seeds does too.
//!
//! Each function panics if the codec breaks a promise. None looks at anything but `data`.

use std::fmt::Write as _;

use mqtt_codec::{
    DecodeOptions, Error, Frame, HeadScan, Packet, PacketType, Publish, Role, Scan, Version,
    decode, decode_connect, scan, scan_publish_head,
};

use super::reencode::reencode;

/// A target: its name, which is that of its folder of seeds, and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All targets.
pub(crate) const TARGETS: &[Target] = &[
    ("decode_server", decode_server),
    ("decode_client", decode_client),
    ("roundtrip", roundtrip),
    ("split", split),
];

const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];
const PACKET_SIZE_MAX: u32 = 1 << 20;

/// A server reads a stream: the first byte chooses the version, the rest is what came.
pub(crate) fn decode_server(data: &[u8]) {
    decode_stream(data, Role::Server);
}

/// The same for a client.
pub(crate) fn decode_client(data: &[u8]) {
    decode_stream(data, Role::Client);
}

fn decode_stream(data: &[u8], role: Role) {
    let Some((&first, mut stream)) = data.split_first() else {
        return;
    };
    let version = VERSIONS[usize::from(first) % VERSIONS.len()];
    while let Some((packet, frame)) = next_packet(stream) {
        stream = &stream[packet.len()..];
        let decoded = decode(packet, &frame, version, role);
        match &decoded {
            Ok(view) => look_at(view, packet),
            Err(error) => look_at_error(error, packet),
        }
        look_at_heads(packet, version, role, decoded.is_ok());
        let mut lenient = DecodeOptions::default();
        lenient.v31_long_client_id = true;
        if let Err(error) = decode_connect(packet, &frame, &lenient) {
            look_at_error(&error, packet);
        }
    }
}

/// A PUBLISH of which only a part is there: its head is that of the whole, or not there yet.
fn look_at_heads(packet: &[u8], version: Version, role: Role, valid: bool) {
    for len in (0..packet.len().min(96)).chain([packet.len()]) {
        let part = &packet[..len];
        match scan_publish_head(part, version, role, PACKET_SIZE_MAX, usize::MAX) {
            Ok(HeadScan::Head(stream)) => {
                assert_eq!(stream.total_len(), packet.len());
                assert_eq!(stream.remaining(), packet.len() - len);
                assert!(valid, "a head of what is no packet");
            }
            Ok(HeadScan::Incomplete { missing }) => {
                assert!(missing >= 1 && len + missing <= packet.len());
            }
            Ok(HeadScan::NotPublish(packet_type)) => assert_ne!(packet_type, PacketType::Publish),
            Err(error) => {
                assert!(!valid, "{error} in a part of what is valid");
                look_at_error(&error, packet);
            }
        }
    }
}

/// What decodes can be written and decodes again; writing that once more changes nothing.
pub(crate) fn roundtrip(data: &[u8]) {
    let Some((packet, frame)) = next_packet(data) else {
        return;
    };
    for version in VERSIONS {
        for role in [Role::Server, Role::Client] {
            let Ok(view) = decode(packet, &frame, version, role) else {
                continue;
            };
            let canonical = reencode(&view, version);
            let Some((again, frame)) = next_packet(&canonical) else {
                panic!("{canonical:02x?} is no packet");
            };
            assert_eq!(
                again.len(),
                canonical.len(),
                "there is something behind the packet"
            );
            match decode(again, &frame, version, role) {
                Ok(view) => assert_eq!(reencode(&view, version), canonical),
                Err(error) => panic!("{error} in {canonical:02x?}"),
            }
        }
    }
}

/// However a stream is cut, `scan` says the same in the end, and never asks for too much.
pub(crate) fn split(data: &[u8]) {
    let Some((limit, bytes)) = data.split_first_chunk() else {
        return;
    };
    let limit = u32::from(u16::from_be_bytes(*limit));
    let whole = scan(bytes, limit);
    for len in 0..bytes.len().min(600) {
        match (scan(&bytes[..len], limit), whole) {
            (Ok(Scan::Incomplete { missing, total }), Ok(Scan::Frame(frame))) => {
                assert!(missing >= 1 && len + missing <= frame.total_len);
                assert!(total.is_none_or(|total| total == frame.total_len));
                assert!(total.is_none_or(|total| len + missing == total));
            }
            (Ok(Scan::Incomplete { missing, total }), Ok(Scan::Incomplete { total: end, .. })) => {
                assert!(missing >= 1 && (total.is_none() || total == end));
            }
            (Ok(Scan::Incomplete { missing, total }), Err(_)) => {
                assert!(
                    missing >= 1 && total.is_none(),
                    "an error after a length was known"
                );
            }
            (Ok(Scan::Frame(_)) | Err(_), whole) => assert_eq!(scan(&bytes[..len], limit), whole),
        }
    }
}

fn next_packet(stream: &[u8]) -> Option<(&[u8], Frame)> {
    match scan(stream, PACKET_SIZE_MAX) {
        Ok(Scan::Frame(frame)) => Some((&stream[..frame.total_len], frame)),
        Ok(Scan::Incomplete { missing, .. }) => {
            assert_ne!(missing, 0, "nothing is missing, and it is not complete");
            None
        }
        Err(error) => {
            look_at_error(&error, stream);
            None
        }
    }
}

/// Calls every getter through `Debug`, and holds the ranges against the packet.
fn look_at(view: &Packet<'_>, packet: &[u8]) {
    write!(Nowhere, "{view:?}").expect("nowhere is never full");
    if let Packet::Publish(publish) = view {
        look_at_ranges(publish, packet);
    }
}

fn look_at_ranges(publish: &Publish<'_>, packet: &[u8]) {
    assert_eq!(&packet[publish.topic_range()], publish.topic().as_bytes());
    assert_eq!(&packet[publish.payload_range()], publish.payload());
    assert_eq!(publish.payload_range().end, packet.len());
    let properties = publish.properties();
    assert_eq!(&packet[publish.properties_range()], properties.raw());
    let kept: usize = properties.pass_through().map(<[u8]>::len).sum();
    assert_eq!(properties.is_pass_through(), kept == properties.raw().len());
    assert!(properties.pass_through().all(|span| !span.is_empty()));
}

fn look_at_error(error: &Error, packet: &[u8]) {
    assert!(error.offset() <= packet.len(), "{error} lies outside");
    assert!(error.clause().starts_with("MQTT"), "{error} has no clause");
    assert!(error.reason().is_error());
    write!(Nowhere, "{error} {error:?}").expect("nowhere is never full");
}

struct Nowhere;

impl std::fmt::Write for Nowhere {
    fn write_str(&mut self, _text: &str) -> std::fmt::Result {
        Ok(())
    }
}
