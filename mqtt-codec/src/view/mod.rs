//! Views: packets that borrow the bytes they came in, validated once.

/// Makes the getters of properties, each of a line: its name, what its value is, and which it is.
macro_rules! property_getters {
    ($($(#[$doc:meta])* $name:ident: $form:ident $id:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $name(&self) -> Option<property_getters!(@value $form)> {
            self.properties.$form($crate::property::PropertyId::$id)
        }
    )*};
    (@value number) => { u32 };
    (@value number_u16) => { u16 };
    (@value flag) => { bool };
    (@value text) => { &'a str };
    (@value binary) => { &'a [u8] };
}

mod ack;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod subscribe;

use connect::read_connect;

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{Frame, var_int_len};
use crate::reader::Reader;
use crate::types::{PacketType, Role, Version};

pub use ack::{Ack, ReasonCodes, SubAck, UnsubAck};
pub use connack::{ConnAck, ConnAckProperties};
pub use connect::{
    Connect, ConnectProperties, DecodeOptions, Will, WillProperties, decode_connect,
};
pub use disconnect::{Auth, Disconnect};
pub use publish::{Publish, PublishProperties};
pub use subscribe::{Subscribe, SubscribeFilter, SubscribeFilters, TopicFilters, Unsubscribe};

/// A packet of any type, borrowed from its bytes.
///
/// Everything was validated; no getter of any view can fail, and none allocates.
#[derive(Debug, Clone, Copy)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// CONNACK.
    ConnAck(ConnAck<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    PubAck(Ack<'a>),
    /// PUBREC.
    PubRec(Ack<'a>),
    /// PUBREL.
    PubRel(Ack<'a>),
    /// PUBCOMP.
    PubComp(Ack<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK.
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect<'a>),
    /// AUTH.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// Returns the type of the packet.
    #[must_use]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Decodes a whole packet.
///
/// `packet` is exactly the packet, `frame.total_len` bytes, and `frame` what
/// [`scan`](crate::scan) found in it. Everything a single packet can break is checked here and
/// nowhere else. Nothing is copied or allocated. A CONNECT is decoded by its own version and with
/// default options; a server uses [`decode_connect`] for its first packet.
///
/// Not checked: the grammar of topic names and filters (wildcards, `$share`), and all that needs
/// to know what came before.
///
/// # Errors
///
/// The first rule that the packet breaks, in the order of its bytes.
///
/// # Complexity
///
/// Linear in the bytes of the packet without its payload, which is not looked at.
///
/// # Examples
///
/// ```
/// use mqtt_codec::{decode, scan, Packet, Role, Scan, Version};
///
/// let bytes = b"\x30\x05\x00\x01thi";
/// let Ok(Scan::Frame(frame)) = scan(bytes, 1024) else { panic!() };
/// let Ok(Packet::Publish(publish)) = decode(bytes, &frame, Version::V311, Role::Server) else {
///     panic!()
/// };
/// assert_eq!((publish.topic(), publish.payload()), ("t", &b"hi"[..]));
/// ```
#[inline]
pub fn decode<'a>(
    packet: &'a [u8],
    frame: &Frame,
    version: Version,
    role: Role,
) -> Result<Packet<'a>, Error> {
    if frame.packet_type == PacketType::Publish {
        return Publish::decode(packet, frame, version, role).map(Packet::Publish);
    }
    decode_other(packet, frame, version, role)
}

/// Decodes anything but a PUBLISH, out of the way of those.
#[inline(never)]
fn decode_other<'a>(
    packet: &'a [u8],
    frame: &Frame,
    version: Version,
    role: Role,
) -> Result<Packet<'a>, Error> {
    let packet_type = frame.packet_type;
    if !packet_type.may_be_received_by(role, version) {
        let kind = match packet_type {
            PacketType::Auth => ErrorKind::ReservedPacketType,
            _ => ErrorKind::WrongDirection,
        };
        let field = Field::FixedHeader;
        return Err(Error::new(kind, field, Some(packet_type), Some(version), 0));
    }
    if packet_type == PacketType::Connect {
        return read_connect(packet, frame, &DecodeOptions::STRICT, Packet::Connect);
    }
    let mut reader = open(packet, frame, version)?;
    let reader = &mut reader;
    Ok(match packet_type {
        PacketType::PubAck => Packet::PubAck(Ack::read(reader, frame, version, role)?),
        PacketType::PubRec => Packet::PubRec(Ack::read(reader, frame, version, role)?),
        PacketType::PubRel => Packet::PubRel(Ack::read(reader, frame, version, role)?),
        PacketType::PubComp => Packet::PubComp(Ack::read(reader, frame, version, role)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::read(reader, version)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::read(reader, version)?),
        PacketType::SubAck => Packet::SubAck(SubAck::read(reader, version)?),
        PacketType::UnsubAck => Packet::UnsubAck(UnsubAck::read(reader, version)?),
        PacketType::ConnAck => Packet::ConnAck(ConnAck::read(reader, version)?),
        PacketType::Disconnect => Packet::Disconnect(Disconnect::read(reader, version, role)?),
        PacketType::Auth => Packet::Auth(Auth::read(reader, role)?),
        PacketType::PingReq => reader.finish().map(|()| Packet::PingReq)?,
        PacketType::PingResp => reader.finish().map(|()| Packet::PingResp)?,
        PacketType::Connect | PacketType::Publish => {
            return Err(reader.error_at(ErrorKind::WrongDirection, Field::FixedHeader, 0));
        }
    })
}

/// Checks the fixed header of anything but PUBLISH and CONNECT, and opens the body.
fn open<'a>(packet: &'a [u8], frame: &Frame, version: Version) -> Result<Reader<'a>, Error> {
    let reader = Reader::new(packet, frame, Some(version))?;
    check_header(&reader, frame, version)?;
    let expected = frame.packet_type.reserved_flags();
    // MQTT 3.1 lets a client send these three again, with the DUP flag.
    let resent = version == Version::V31 && expected != 0;
    let flags = if resent {
        frame.flags & !0b1000
    } else {
        frame.flags
    };
    if flags != expected {
        return Err(reader.error_at(ErrorKind::InvalidFlags, Field::FixedHeader, 0));
    }
    Ok(reader)
}

/// Checks that the remaining length is not longer than needed [MQTT-1.5.5-1].
#[inline]
fn check_header(reader: &Reader<'_>, frame: &Frame, version: Version) -> Result<(), Error> {
    let remaining = frame.total_len.saturating_sub(frame.header_len);
    if version.has_properties() && frame.header_len != 1 + var_int_len(remaining) {
        return Err(reader.error_at(ErrorKind::VarIntNotMinimal, Field::RemainingLength, 1));
    }
    Ok(())
}
