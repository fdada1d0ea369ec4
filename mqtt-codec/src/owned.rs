//! Packets that own their bytes.

use alloc::boxed::Box;
use core::fmt;

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{Frame, Scan, scan};
use crate::types::{PacketType, Role, Version};
use crate::view::{Connect, DecodeOptions, Packet, decode, decode_connect};

/// A packet of any type that owns its bytes, for what outlives a read buffer.
///
/// The bytes are kept as they came, in one allocation, and views borrow from them: there is no
/// second set of structs with a `String` a field. It was validated when it was made, so that
/// [`packet`](Self::packet) cannot fail; it decodes again, which costs what [`decode`] costs and
/// does not allocate.
///
/// # Examples
///
/// ```
/// use mqtt_codec::{OwnedPacket, Packet, Role, Version};
///
/// let owned = OwnedPacket::decode(&b"\x30\x05\x00\x01thi"[..], Version::V311, Role::Server)?;
/// let elsewhere = std::thread::spawn(move || match owned.packet() {
///     Packet::Publish(publish) => publish.topic().to_owned(),
///     _ => unreachable!(),
/// });
/// assert_eq!(elsewhere.join().unwrap(), "t");
/// # Ok::<(), mqtt_codec::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedPacket {
    bytes: Box<[u8]>,
    frame: Frame,
    version: Version,
    role: Role,
    options: DecodeOptions,
}

impl OwnedPacket {
    /// Takes exactly one whole packet and validates it.
    ///
    /// A `Vec` whose capacity is its length and a `Box` are taken over; a slice is copied.
    ///
    /// # Errors
    ///
    /// Those of [`scan`] and [`decode`]. Bytes that are less or more than a packet are
    /// [`ErrorKind::Truncated`] and [`ErrorKind::TrailingBytes`].
    pub fn decode(
        bytes: impl Into<Box<[u8]>>,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        let bytes = bytes.into();
        let frame = whole(&bytes, version)?;
        decode(&bytes, &frame, version, role)?;
        let options = DecodeOptions::STRICT;
        Ok(Self {
            bytes,
            frame,
            version,
            role,
            options,
        })
    }

    /// Takes a CONNECT packet, whose version is inside, and validates it.
    ///
    /// # Errors
    ///
    /// Those of [`scan`] and [`decode_connect`], and as [`decode`](Self::decode).
    pub fn decode_connect(
        bytes: impl Into<Box<[u8]>>,
        options: DecodeOptions,
    ) -> Result<Self, Error> {
        let bytes = bytes.into();
        let frame = whole(&bytes, Version::V5)?;
        let version = decode_connect(&bytes, &frame, &options)?.version();
        Ok(Self {
            bytes,
            frame,
            version,
            role: Role::Server,
            options,
        })
    }

    /// Returns the packet, borrowed from this.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        let packet = if self.frame.packet_type == PacketType::Connect {
            decode_connect(&self.bytes, &self.frame, &self.options).map(Packet::Connect)
        } else {
            decode(&self.bytes, &self.frame, self.version, self.role)
        };
        match packet {
            Ok(packet) => packet,
            Err(error) => unreachable!("these bytes were validated: {error}"),
        }
    }

    /// Returns the packet if it is a CONNECT.
    #[must_use]
    pub fn connect(&self) -> Option<Connect<'_>> {
        match self.packet() {
            Packet::Connect(connect) => Some(connect),
            _ => None,
        }
    }

    /// Returns the type of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        self.frame.packet_type
    }

    /// Returns the version that the packet was held against; of a CONNECT, its own.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the bytes of the packet.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the bytes of the packet without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Box<[u8]> {
        self.bytes
    }
}

/// Finds the one packet that the bytes are.
fn whole(bytes: &[u8], version: Version) -> Result<Frame, Error> {
    let packet_type = bytes
        .first()
        .and_then(|first| PacketType::from_u8(first >> 4));
    let (kind, field, offset) = match scan(bytes, u32::MAX)? {
        Scan::Frame(frame) if frame.total_len == bytes.len() => return Ok(frame),
        Scan::Frame(frame) => (ErrorKind::TrailingBytes, Field::End, frame.total_len),
        Scan::Incomplete { .. } => (ErrorKind::Truncated, Field::RemainingLength, bytes.len()),
    };
    Err(Error::new(kind, field, packet_type, Some(version), offset))
}

impl fmt::Debug for OwnedPacket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet().fmt(f)
    }
}
