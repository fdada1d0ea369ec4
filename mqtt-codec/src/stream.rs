//! A large PUBLISH, read before its payload is there.

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{FIXED_HEADER_LEN_MAX, Frame, Scan, scan};
use crate::types::{PacketType, Role, Version};
use crate::view::Publish;

/// What [`scan_publish_head`] found at the beginning of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadScan<'a> {
    /// The head of the PUBLISH is not complete.
    Incomplete {
        /// At least so many more bytes must come, and always at least 1.
        missing: usize,
    },
    /// The packet is not a PUBLISH: [`scan`] is for it.
    NotPublish(PacketType),
    /// The head is complete; all or part of the payload may be there too.
    Head(PublishStream<'a>),
}

/// A PUBLISH whose payload comes in pieces.
///
/// The view is validated like any other; its payload is as much as was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishStream<'a> {
    head: Publish<'a>,
    head_len: usize,
    total_len: usize,
}

impl<'a> PublishStream<'a> {
    /// Returns the packet, whose payload is only as much as was there.
    #[inline]
    #[must_use]
    pub const fn head(&self) -> &Publish<'a> {
        &self.head
    }

    /// Returns the bytes of everything up to the payload.
    #[inline]
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.head_len
    }

    /// Returns the bytes of the whole packet.
    #[inline]
    #[must_use]
    pub const fn total_len(&self) -> usize {
        self.total_len
    }

    /// Returns the bytes of the whole payload, here or yet to come.
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.total_len - self.head_len
    }

    /// Returns the bytes of the payload that are yet to come, 0 if the packet is complete.
    #[inline]
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.payload_len() - self.head.payload().len()
    }
}

/// Decodes the head of the PUBLISH at the beginning of `bytes` as soon as it is there.
///
/// For payloads that are larger than a receiver wants to buffer: the head is validated and gives
/// the length of the payload, whose bytes the caller then counts off the stream. A receiver that
/// waits for whole packets has no use for this. Nothing is copied or allocated.
///
/// # Errors
///
/// Those of [`scan`] and [`decode`](crate::decode). What is wrong with a head is reported once
/// the field that shows it is complete.
///
/// # Complexity
///
/// Linear in the bytes of the head. Each call begins anew; a head has rarely more than a few
/// hundred bytes, and at most `max_head_len`, so that what a peer can make a receiver buffer and
/// read again is bounded.
///
/// # Examples
///
/// ```
/// use mqtt_codec::{scan_publish_head, HeadScan, Role, Version};
///
/// let first_read = b"\x30\x88\x80\x80\x01\x00\x03big0123";
/// let Ok(HeadScan::Head(stream)) =
///     scan_publish_head(first_read, Version::V311, Role::Server, u32::MAX, 4096)
/// else {
///     panic!()
/// };
/// assert_eq!(stream.head().topic(), "big");
/// assert_eq!(stream.head().payload(), b"0123");
/// assert_eq!(stream.payload_len(), (1 << 21) + 3);
/// assert_eq!(stream.remaining(), (1 << 21) - 1);
/// ```
pub fn scan_publish_head(
    bytes: &[u8],
    version: Version,
    role: Role,
    max_packet_size: u32,
    max_head_len: usize,
) -> Result<HeadScan<'_>, Error> {
    let frame = match scan(bytes, max_packet_size)? {
        Scan::Frame(frame) => frame,
        Scan::Incomplete {
            missing,
            total: None,
        } => {
            return Ok(match bytes.first().map(|first| first >> 4) {
                Some(3) | None => HeadScan::Incomplete { missing },
                Some(other) => match PacketType::from_u8(other) {
                    Some(packet_type) => HeadScan::NotPublish(packet_type),
                    None => HeadScan::Incomplete { missing },
                },
            });
        }
        Scan::Incomplete {
            total: Some(total), ..
        } => frame_of(bytes, total),
    };
    if frame.packet_type != PacketType::Publish {
        return Ok(HeadScan::NotPublish(frame.packet_type));
    }
    let there = bytes.get(..frame.total_len).unwrap_or(bytes);
    match Publish::decode_part(there, &frame, version, role) {
        Ok(head) => {
            let head_len = head.payload_range().start;
            if head_len > max_head_len {
                return Err(too_large(version));
            }
            Ok(HeadScan::Head(PublishStream {
                head,
                head_len,
                total_len: frame.total_len,
            }))
        }
        // A field ends after what is there: of the packet, or only of what has come so far.
        Err(error) if there.len() < frame.total_len && ends_early(&error) => {
            if there.len() >= max_head_len {
                return Err(too_large(version));
            }
            Ok(HeadScan::Incomplete { missing: 1 })
        }
        Err(error) => Err(error),
    }
}

/// Tells whether a field ends after what is there, so that more bytes can mend it.
///
/// A property that ends after its section does not: the section was complete.
fn ends_early(error: &Error) -> bool {
    let outer = matches!(
        error.field(),
        Field::TopicName | Field::PacketId | Field::PropertyLength
    );
    outer && error.kind() == ErrorKind::Truncated
}

/// The frame of a packet that is not complete, of which `scan` told the length.
fn frame_of(bytes: &[u8], total_len: usize) -> Frame {
    let first = bytes.first().copied().unwrap_or_default();
    let length = bytes.get(1..).unwrap_or_default();
    let length = length.iter().take(FIXED_HEADER_LEN_MAX - 1);
    let header_len = 2 + length.take_while(|&&byte| byte >= 0x80).count();
    Frame {
        // `scan` let the type pass.
        packet_type: PacketType::from_u8(first >> 4).unwrap_or(PacketType::Publish),
        flags: first & 0x0F,
        header_len,
        total_len,
    }
}

#[cold]
fn too_large(version: Version) -> Error {
    let (kind, field) = (ErrorKind::PacketTooLarge, Field::PropertyLength);
    Error::new(kind, field, Some(PacketType::Publish), Some(version), 1)
}
