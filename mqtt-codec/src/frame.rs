//! The outer layer: where a packet ends, known before anything is allocated for it.

use crate::error::{Error, ErrorKind, Field};
use crate::types::PacketType;

/// The largest value of a variable byte integer, and so of a remaining length: 268,435,455.
pub const VAR_INT_MAX: u32 = 0x0FFF_FFFF;

/// The longest fixed header: the first byte and a remaining length of four.
pub const FIXED_HEADER_LEN_MAX: usize = 5;

/// What [`scan`] found at the beginning of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The packet is not complete.
    Incomplete {
        /// At least so many more bytes must come; exactly so many if `total` is known.
        missing: usize,
        /// The length of the whole packet, `None` while the fixed header is incomplete.
        total: Option<usize>,
    },
    /// The packet is complete, and bytes may follow it.
    Frame(Frame),
}

/// Where a packet lies, from its fixed header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// The type of the packet.
    pub packet_type: PacketType,
    /// The low half of the first byte.
    pub flags: u8,
    /// The bytes of the fixed header, 2 to 5.
    pub header_len: usize,
    /// The bytes of the whole packet, fixed header included.
    pub total_len: usize,
}

/// Finds the packet at the beginning of `bytes`.
///
/// Looks at the fixed header only, at most five bytes, and neither copies nor allocates. Type 0,
/// the QoS 3 of a PUBLISH, an over-long length and a packet of more than `max_packet_size` bytes,
/// fixed header included, are errors as soon as the byte that shows it is there. Which flags and
/// types a version allows, and a remaining length that is longer than needed, which MQTT 5.0
/// forbids and 3.x does not, is for [`decode`](crate::decode) to check.
///
/// # Errors
///
/// [`ErrorKind::ReservedPacketType`], [`ErrorKind::QosInvalid`], [`ErrorKind::VarIntTooLong`],
/// [`ErrorKind::PacketTooLarge`].
///
/// # Examples
///
/// ```
/// use mqtt_codec::{scan, PacketType, Scan};
///
/// assert_eq!(scan(b"\xc0", 1024), Ok(Scan::Incomplete { missing: 1, total: None }));
/// assert_eq!(scan(b"\x30\x05\x00", 1024), Ok(Scan::Incomplete { missing: 4, total: Some(7) }));
/// let Ok(Scan::Frame(frame)) = scan(b"\xc0\x00\xc0", 1024) else { panic!() };
/// assert_eq!((frame.packet_type, frame.total_len), (PacketType::PingReq, 2));
/// ```
// Always inlined: a frame that goes through memory costs more than finding it.
#[inline(always)]
pub fn scan(bytes: &[u8], max_packet_size: u32) -> Result<Scan, Error> {
    let Some((&first, rest)) = bytes.split_first() else {
        return Ok(Scan::Incomplete {
            missing: 2,
            total: None,
        });
    };
    let Some(packet_type) = PacketType::from_u8(first >> 4) else {
        return Err(scan_error(
            ErrorKind::ReservedPacketType,
            Field::FixedHeader,
            None,
            0,
        ));
    };
    if first & 0xF6 == 0x36 {
        let field = Field::FixedHeader;
        return Err(scan_error(
            ErrorKind::QosInvalid,
            field,
            Some(packet_type),
            0,
        ));
    }
    let (remaining, len) = match read_var_int(rest) {
        VarInt::Value { value, len } => (value, len),
        VarInt::Incomplete => {
            return Ok(Scan::Incomplete {
                missing: 1,
                total: None,
            });
        }
        VarInt::TooLong => {
            let field = Field::RemainingLength;
            return Err(scan_error(
                ErrorKind::VarIntTooLong,
                field,
                Some(packet_type),
                1,
            ));
        }
    };
    let header_len = 1 + len;
    let total_len = header_len + remaining as usize;
    if total_len > max_packet_size as usize {
        let field = Field::RemainingLength;
        return Err(scan_error(
            ErrorKind::PacketTooLarge,
            field,
            Some(packet_type),
            1,
        ));
    }
    if bytes.len() < total_len {
        let missing = total_len - bytes.len();
        return Ok(Scan::Incomplete {
            missing,
            total: Some(total_len),
        });
    }
    Ok(Scan::Frame(Frame {
        packet_type,
        flags: first & 0x0F,
        header_len,
        total_len,
    }))
}

#[cold]
fn scan_error(kind: ErrorKind, field: Field, packet: Option<PacketType>, offset: usize) -> Error {
    Error::new(kind, field, packet, None, offset)
}

/// The outcome of reading a variable byte integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VarInt {
    /// The value and the bytes it took, 1 to 4.
    Value { value: u32, len: usize },
    /// The bytes end before the integer does.
    Incomplete,
    /// The fourth byte asks for a fifth.
    TooLong,
}

/// Reads the variable byte integer at the beginning of `bytes`, minimal or not.
#[inline]
pub(crate) fn read_var_int(bytes: &[u8]) -> VarInt {
    let low = |byte: u8| u32::from(byte & 0x7F);
    let (value, len) = match *bytes {
        [a, ..] if a < 0x80 => (u32::from(a), 1),
        [a, b, ..] if b < 0x80 => (low(a) | low(b) << 7, 2),
        [a, b, c, ..] if c < 0x80 => (low(a) | low(b) << 7 | low(c) << 14, 3),
        [a, b, c, d, ..] if d < 0x80 => (low(a) | low(b) << 7 | low(c) << 14 | low(d) << 21, 4),
        [_, _, _, _, ..] => return VarInt::TooLong,
        _ => return VarInt::Incomplete,
    };
    VarInt::Value { value, len }
}

/// Returns the bytes a variable byte integer takes, 1 to 4 for what is in its range.
#[inline]
pub(crate) const fn var_int_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}
