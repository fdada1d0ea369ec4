//! The small types every packet is made of.

use core::fmt;
use core::num::NonZeroU16;

/// A protocol version, as the level byte of a CONNECT packet gives it.
///
/// The order is the order of publication, so `version >= Version::V311` reads as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1, whose protocol name is `MQIsdp`.
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// Returns the version of a protocol level byte.
    #[must_use]
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            3 => Some(Self::V31),
            4 => Some(Self::V311),
            5 => Some(Self::V5),
            _ => None,
        }
    }

    /// Returns the protocol level byte, 3, 4 or 5.
    #[must_use]
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// Returns the protocol name that a CONNECT packet of this version carries.
    #[must_use]
    pub const fn protocol_name(self) -> &'static str {
        match self {
            Self::V31 => "MQIsdp",
            Self::V311 | Self::V5 => "MQTT",
        }
    }

    /// Tells whether packets of this version carry properties, which is so in MQTT 5.0 only.
    #[inline]
    #[must_use]
    pub const fn has_properties(self) -> bool {
        matches!(self, Self::V5)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "MQTT 3.1",
            Self::V311 => "MQTT 3.1.1",
            Self::V5 => "MQTT 5.0",
        })
    }
}

/// A byte that stands for none of the values of the type it was to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidValue(pub u8);

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} is not a value of this type", self.0)
    }
}

impl core::error::Error for InvalidValue {}

/// A quality of service.
///
/// The order is the order of the guarantees, so `a.min(b)` is the quality of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: the message may be lost.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: the message may come twice.
    AtLeastOnce = 1,
    /// QoS 2: the message comes once.
    ExactlyOnce = 2,
}

impl QoS {
    /// Returns the quality of a number from 0 to 2.
    #[inline]
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl TryFrom<u8> for QoS {
    type Error = InvalidValue;

    fn try_from(value: u8) -> Result<Self, InvalidValue> {
        Self::from_u8(value).ok_or(InvalidValue(value))
    }
}

/// A packet identifier, from 1 to 65,535.
///
/// `Option<PacketId>` takes two bytes, as the field does on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PacketId(NonZeroU16);

impl PacketId {
    /// The smallest identifier, 1.
    pub const MIN: Self = Self(NonZeroU16::MIN);
    /// The largest identifier, 65,535.
    pub const MAX: Self = Self(NonZeroU16::MAX);

    /// Returns the identifier of that number, `None` for zero.
    #[inline]
    #[must_use]
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// Returns the number.
    #[inline]
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// Returns the identifier after this one, 1 after 65,535.
    #[inline]
    #[must_use]
    pub const fn next(self) -> Self {
        match Self::new(self.get().wrapping_add(1)) {
            Some(next) => next,
            None => Self::MIN,
        }
    }
}

impl From<NonZeroU16> for PacketId {
    fn from(value: NonZeroU16) -> Self {
        Self(value)
    }
}

impl From<PacketId> for u16 {
    fn from(value: PacketId) -> Self {
        value.get()
    }
}

impl fmt::Display for PacketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The type of a control packet: the high half of its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// CONNECT, client to server.
    Connect = 1,
    /// CONNACK, server to client.
    ConnAck = 2,
    /// PUBLISH, either way.
    Publish = 3,
    /// PUBACK, either way: the answer to a QoS 1 PUBLISH.
    PubAck = 4,
    /// PUBREC, either way: the first answer to a QoS 2 PUBLISH.
    PubRec = 5,
    /// PUBREL, either way: the answer to a PUBREC.
    PubRel = 6,
    /// PUBCOMP, either way: the answer to a PUBREL.
    PubComp = 7,
    /// SUBSCRIBE, client to server.
    Subscribe = 8,
    /// SUBACK, server to client.
    SubAck = 9,
    /// UNSUBSCRIBE, client to server.
    Unsubscribe = 10,
    /// UNSUBACK, server to client.
    UnsubAck = 11,
    /// PINGREQ, client to server.
    PingReq = 12,
    /// PINGRESP, server to client.
    PingResp = 13,
    /// DISCONNECT, either way in MQTT 5.0, client to server before.
    Disconnect = 14,
    /// AUTH, either way, MQTT 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// Returns the type of a number from 1 to 15.
    #[inline]
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Connect,
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            8 => Self::Subscribe,
            9 => Self::SubAck,
            10 => Self::Unsubscribe,
            11 => Self::UnsubAck,
            12 => Self::PingReq,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// Returns the name as the specifications write it, such as `PUBLISH`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "CONNECT",
            Self::ConnAck => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::PubAck => "PUBACK",
            Self::PubRec => "PUBREC",
            Self::PubRel => "PUBREL",
            Self::PubComp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::SubAck => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::UnsubAck => "UNSUBACK",
            Self::PingReq => "PINGREQ",
            Self::PingResp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        }
    }

    /// Returns the low half of the first byte that every packet of this type but PUBLISH has.
    #[inline]
    #[must_use]
    pub const fn reserved_flags(self) -> u8 {
        match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// Tells whether such a packet may come to that receiver in that version.
    #[inline]
    #[must_use]
    pub const fn may_be_received_by(self, receiver: Role, version: Version) -> bool {
        match self {
            Self::Publish | Self::PubAck | Self::PubRec | Self::PubRel | Self::PubComp => true,
            Self::Connect | Self::Subscribe | Self::Unsubscribe | Self::PingReq => {
                matches!(receiver, Role::Server)
            }
            Self::ConnAck | Self::SubAck | Self::UnsubAck | Self::PingResp => {
                matches!(receiver, Role::Client)
            }
            Self::Disconnect => matches!(receiver, Role::Server) || version.has_properties(),
            Self::Auth => version.has_properties(),
        }
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who decodes: which end of the connection receives the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// A server, which receives what clients send.
    Server,
    /// A client, which receives what a server sends.
    Client,
}

/// What a subscription wants of the messages retained before it (MQTT 5.0 section 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// 0: send them at every subscribe.
    #[default]
    SendAtSubscribe = 0,
    /// 1: send them if the subscription did not exist.
    SendIfNew = 1,
    /// 2: do not send them.
    DoNotSend = 2,
}

impl RetainHandling {
    /// Returns the handling of a number from 0 to 2.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::SendAtSubscribe),
            1 => Some(Self::SendIfNew),
            2 => Some(Self::DoNotSend),
            _ => None,
        }
    }
}

/// What a payload is said to be (MQTT 5.0 section 3.3.2.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum PayloadFormat {
    /// 0: bytes without a stated form.
    #[default]
    Unspecified = 0,
    /// 1: text in UTF-8. The codec does not look at payloads, so this is a claim, not a check.
    Utf8 = 1,
}
