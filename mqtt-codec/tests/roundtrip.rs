//! What is written is read, for every packet of every version.
#![cfg(feature = "alloc")]

mod support;

use mqtt_codec::{Role, Scan, Version, decode, scan};
use proptest::prelude::*;
use support::reencode::reencode;
use support::strategies::{Sample, any_packet};
use support::{VERSIONS, parse};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Every getter gives back what the encoder was told: else the second writing would differ.
    #[test]
    fn writing_what_was_read_gives_the_same_bytes(sample in any_packet()) {
        let Sample { bytes, version, role } = sample;
        let packet = parse(&bytes, version, role)
            .unwrap_or_else(|error| panic!("{error} in {bytes:02x?}"));
        prop_assert_eq!(reencode(&packet, version), bytes);
    }

    /// A packet that stops anywhere is incomplete, and `missing` is true.
    #[test]
    fn a_packet_split_anywhere_is_incomplete(sample in any_packet()) {
        let bytes = sample.bytes;
        for len in 0..bytes.len() {
            let Ok(Scan::Incomplete { missing, total }) = scan(&bytes[..len], u32::MAX) else {
                panic!("{len} of {bytes:02x?} was taken for whole");
            };
            prop_assert!(missing >= 1 && missing <= bytes.len() - len);
            match total {
                Some(total) => {
                    prop_assert_eq!(total, bytes.len());
                    prop_assert_eq!(missing, total - len);
                }
                None => prop_assert!(len < 5),
            }
        }
        let whole = scan(&bytes, u32::try_from(bytes.len()).expect("short"));
        prop_assert!(matches!(whole, Ok(Scan::Frame(frame)) if frame.total_len == bytes.len()));
        let too_small = u32::try_from(bytes.len() - 1).expect("short");
        prop_assert!(scan(&bytes, too_small).is_err());
    }

    /// Nothing that random or damaged bytes hold brings the decoder down, and what it takes for
    /// valid can be written again.
    #[test]
    fn damaged_packets_do_no_harm(
        sample in any_packet(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = sample.bytes;
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        decode_all_ways(&bytes);
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        decode_all_ways(&bytes);
    }
}

fn decode_all_ways(bytes: &[u8]) {
    let Ok(Scan::Frame(frame)) = scan(bytes, u32::MAX) else {
        return;
    };
    let packet = &bytes[..frame.total_len];
    for version in VERSIONS {
        for role in [Role::Server, Role::Client] {
            match decode(packet, &frame, version, role) {
                Ok(view) => check_canonical(&reencode(&view, version), version, role),
                Err(error) => {
                    assert!(error.offset() <= packet.len(), "{error} in {packet:02x?}");
                    assert!(
                        error.clause().starts_with("MQTT"),
                        "{error} in {packet:02x?}"
                    );
                }
            }
        }
    }
}

/// The canonical form of a valid packet is valid and its own canonical form.
fn check_canonical(bytes: &[u8], version: Version, role: Role) {
    let again = parse(bytes, version, role);
    let again = again.unwrap_or_else(|error| panic!("{error} in canonical {bytes:02x?}"));
    assert_eq!(reencode(&again, version), bytes);
}
