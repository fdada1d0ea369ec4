//! What the tests share.
#![allow(dead_code, reason = "each test uses a part of it")]

pub(crate) mod clause;
pub(crate) mod exercise;
pub(crate) mod reencode;
pub(crate) mod strategies;

use mqtt_codec::{Error, Packet, Role, Scan, Version, decode, scan};

pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Scans and decodes a single packet, which must be complete.
pub(crate) fn parse(bytes: &[u8], version: Version, role: Role) -> Result<Packet<'_>, Error> {
    match scan(bytes, u32::MAX)? {
        Scan::Frame(frame) => {
            assert_eq!(
                frame.total_len,
                bytes.len(),
                "there are bytes behind the packet"
            );
            decode(bytes, &frame, version, role)
        }
        incomplete @ Scan::Incomplete { .. } => panic!("{bytes:02x?} is {incomplete:?}"),
    }
}
