//! What is wrong with a packet, where, and which clause says so.

use core::fmt;

use crate::property::PropertyId;
use crate::reason::ReasonCode;
use crate::types::{PacketType, Version};

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $name:ident => $reason:ident, $text:literal,
        [$v5:literal, $v311:literal, $v31:literal];)*) => {
        /// What is wrong with a packet.
        ///
        /// Each kind stands for one rule of the specifications, so that a caller can tell those
        /// apart that it answers in its own way.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum ErrorKind {
            $($(#[$doc])* $name,)*
        }

        impl ErrorKind {
            /// All kinds there are.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the reason code that a DISCONNECT or CONNACK answers with.
            #[must_use]
            pub const fn reason(self) -> ReasonCode {
                match self {
                    $(Self::$name => ReasonCode::$reason,)*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The clause of each version: MQTT 5.0, 3.1.1, 3.1.
            const fn clauses(self) -> [&'static str; 3] {
                match self {
                    $(Self::$name => [$v5, $v311, $v31],)*
                }
            }
        }
    };
}

error_kinds! {
    /// The packet type is 0, or is AUTH before MQTT 5.0.
    ReservedPacketType => MalformedPacket, "the packet type is reserved",
        ["MQTT 5.0 section 2.1.2", "MQTT 3.1.1 section 2.2.1", "MQTT 3.1 section 2.1"];
    /// The flags of the first byte are not those of the packet type.
    InvalidFlags => MalformedPacket, "the flags are not those of the packet type",
        ["MQTT-2.1.3-1", "MQTT-2.2.2-2", "MQTT 3.1 section 2.6"];
    /// The packet type may not be sent in this direction.
    WrongDirection => ProtocolError, "this packet may not be sent in this direction",
        ["MQTT 5.0 section 2.1.2", "MQTT 3.1.1 section 2.2.1", "MQTT 3.1 section 2.1"];
    /// The first packet of a connection is not a CONNECT.
    ConnectExpected => ProtocolError, "the first packet is not a connect",
        ["MQTT-3.1.0-1", "MQTT-3.1.0-1", "MQTT 3.1 section 3.1"];
    /// A variable byte integer goes on past its fourth byte.
    VarIntTooLong => MalformedPacket, "a variable byte integer is longer than four bytes",
        ["MQTT 5.0 section 1.5.5", "MQTT 3.1.1 section 2.2.3", "MQTT 3.1 section 2.1"];
    /// A variable byte integer has more bytes than its value needs (an error in MQTT 5.0 only).
    VarIntNotMinimal => MalformedPacket, "a variable byte integer is longer than its value needs",
        ["MQTT-1.5.5-1", "MQTT 3.1.1 section 2.2.3", "MQTT 3.1 section 2.1"];
    /// The packet is larger than the receiver allows.
    PacketTooLarge => PacketTooLarge, "the packet is larger than allowed",
        ["MQTT-3.2.2-15", "MQTT 3.1.1 section 2.2.3", "MQTT 3.1 section 2.1"];
    /// A field ends after the end of the packet, or is missing.
    Truncated => MalformedPacket, "the packet ends before this field does",
        ["MQTT-4.13.1-1", "MQTT-4.8.0-1", "MQTT 3.1 section 2"];
    /// Bytes are left over after the last field.
    TrailingBytes => MalformedPacket, "bytes are left over after the last field",
        ["MQTT-4.13.1-1", "MQTT-4.8.0-1", "MQTT 3.1 section 2"];
    /// A string is not well-formed UTF-8.
    StringNotUtf8 => MalformedPacket, "the string is not well-formed utf-8",
        ["MQTT-1.5.4-1", "MQTT-1.5.3-1", "MQTT 3.1 section 2.5"];
    /// A string has the character U+0000.
    StringHasNul => MalformedPacket, "the string has the character u+0000",
        ["MQTT-1.5.4-2", "MQTT-1.5.3-2", "MQTT 3.1 section 2.5"];
    /// A packet identifier is zero.
    PacketIdZero => ProtocolError, "the packet identifier is zero",
        ["MQTT-2.2.1-3", "MQTT-2.3.1-1", "MQTT 3.1 section 2.4"];
    /// A property identifier is not one of MQTT 5.0.
    UnknownProperty => MalformedPacket, "there is no property with this identifier",
        ["MQTT 5.0 section 2.2.2.2", "", ""];
    /// A property is not one of this packet.
    PropertyNotAllowed => MalformedPacket, "this packet has no such property",
        ["MQTT 5.0 section 2.2.2.2", "", ""];
    /// A property that may appear once appears again.
    DuplicateProperty => ProtocolError, "the property appears twice",
        ["MQTT 5.0 section 2.2.2.2", "", ""];
    /// The value of a property is out of its range.
    PropertyOutOfRange => ProtocolError, "the value of the property is out of range",
        ["MQTT 5.0 section 2.2.2.2", "", ""];
    /// A topic alias is zero.
    TopicAliasZero => TopicAliasInvalid, "the topic alias is zero",
        ["MQTT-3.3.2-8", "", ""];
    /// A response topic is empty or has a wildcard character.
    ResponseTopicInvalid => ProtocolError, "the response topic is empty or has a wildcard",
        ["MQTT-3.3.2-14", "", ""];
    /// A PUBLISH by a client carries a subscription identifier.
    SubscriptionIdFromClient => ProtocolError, "a client may not send a subscription identifier",
        ["MQTT-3.3.4-6", "", ""];
    /// A DISCONNECT by a server carries a session expiry interval.
    SessionExpiryFromServer => ProtocolError, "a server may not send a session expiry interval",
        ["MQTT-3.14.2-2", "", ""];
    /// Authentication data comes without a method, or an AUTH packet has no method.
    AuthMethodMissing => ProtocolError, "the authentication method is missing",
        ["MQTT 5.0 section 3.15.2.2.2", "", ""];
    /// The protocol name of a CONNECT is none of those known.
    ///
    /// A server may answer with CONNACK 0x84 of MQTT 5.0, or close without a word.
    UnknownProtocolName => UnsupportedProtocolVersion, "the protocol name is not known",
        ["MQTT-3.1.2-1", "MQTT-3.1.2-1", "MQTT 3.1 section 3.1"];
    /// The protocol level of a CONNECT is not known, not that of its name, or not allowed here.
    ///
    /// A server answers with CONNACK 0x01 of MQTT 3.x or CONNACK 0x84 of MQTT 5.0; the byte is
    /// at [`Error::offset`].
    UnsupportedProtocolLevel => UnsupportedProtocolVersion, "the protocol level is not supported",
        ["MQTT-3.1.2-2", "MQTT-3.1.2-2", "MQTT 3.1 section 3.1"];
    /// The reserved bit of the connect flags is set.
    ConnectReservedFlag => MalformedPacket, "the reserved connect flag is set",
        ["MQTT-3.1.2-3", "MQTT-3.1.2-3", "MQTT 3.1 section 2.6"];
    /// The QoS of the will is 3.
    WillQosInvalid => MalformedPacket, "the qos of the will is 3",
        ["MQTT-3.1.2-12", "MQTT-3.1.2-14", "MQTT 3.1 section 3.1"];
    /// There is a QoS of the will, and no will.
    WillQosWithoutWill => MalformedPacket, "there is a qos of the will, and no will",
        ["MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT 3.1 section 3.1"];
    /// The will is to be retained, and there is no will.
    WillRetainWithoutWill => MalformedPacket, "there is a retain flag of the will, and no will",
        ["MQTT-3.1.2-13", "MQTT-3.1.2-15", "MQTT 3.1 section 3.1"];
    /// There is a password and no user name (an error before MQTT 5.0).
    PasswordWithoutUserName => MalformedPacket, "there is a password, and no user name",
        ["MQTT 5.0 section 3.1.2.9", "MQTT-3.1.2-22", "MQTT 3.1 section 3.1"];
    /// The client identifier is empty without a clean session (3.1.1), or not of 1 to 23
    /// characters (3.1).
    ///
    /// A server answers with CONNACK 0x02.
    ClientIdNotValid => ClientIdentifierNotValid, "the client identifier is not allowed",
        ["MQTT-3.1.3-8", "MQTT-3.1.3-8", "MQTT 3.1 section 3.1"];
    /// The QoS of a PUBLISH is 3.
    QosInvalid => MalformedPacket, "the qos is 3",
        ["MQTT-3.3.1-4", "MQTT-3.3.1-4", "MQTT 3.1 section 2.1"];
    /// A PUBLISH with QoS 0 has its DUP flag set.
    DupWithQos0 => MalformedPacket, "the dup flag is set with qos 0",
        ["MQTT-3.3.1-2", "MQTT-3.3.1-2", "MQTT 3.1 section 2.1"];
    /// A topic name is empty, and no alias stands for it.
    TopicEmpty => ProtocolError, "the topic name is empty",
        ["MQTT-4.7.3-1", "MQTT-4.7.3-1", "MQTT 3.1 section 3.3"];
    /// A SUBSCRIBE or UNSUBSCRIBE has no topic filter.
    NoTopicFilter => ProtocolError, "there is no topic filter",
        ["MQTT-3.8.3-2", "MQTT-3.8.3-3", "MQTT 3.1 section 3.8"];
    /// Reserved bits of the subscription options are set.
    SubscriptionOptionsReserved => MalformedPacket, "reserved subscription options are set",
        ["MQTT-3.8.3-5", "MQTT-3.8.3-4", "MQTT 3.1 section 2.6"];
    /// The QoS of a subscription is 3.
    SubscriptionQosInvalid => ProtocolError, "the qos of the subscription is 3",
        ["MQTT 5.0 section 3.8.3.1", "MQTT-3.8.3-4", "MQTT 3.1 section 3.8"];
    /// The retain handling of a subscription is 3.
    RetainHandlingInvalid => ProtocolError, "the retain handling is 3",
        ["MQTT 5.0 section 3.8.3.1", "", ""];
    /// A shared subscription asks not to get the client's own messages.
    NoLocalOnShared => ProtocolError, "the no-local option is set on a shared subscription",
        ["MQTT-3.8.3-4", "", ""];
    /// A reason code or return code is not one of this packet.
    ReasonCodeInvalid => ProtocolError, "this packet has no such reason code",
        ["MQTT 5.0 section 2.4", "MQTT 3.1.1 section 3.2.2.3", "MQTT 3.1 section 3.2"];
    /// A SUBACK or UNSUBACK has no reason code.
    NoReasonCode => ProtocolError, "there is no reason code",
        ["MQTT-3.8.4-6", "MQTT-3.8.4-5", "MQTT 3.1 section 3.9"];
    /// Reserved bits of the flags of a CONNACK are set.
    AckFlagsReserved => MalformedPacket, "reserved acknowledge flags are set",
        ["MQTT-3.2.2-1", "MQTT 3.1.1 section 3.2.2.1", "MQTT 3.1 section 2.6"];
    /// A CONNACK says that a session is present and that the connection is refused.
    SessionPresentOnRefusal => ProtocolError, "a session is present in a refusal",
        ["MQTT-3.2.2-6", "MQTT-3.2.2-4", "MQTT 3.1 section 3.2"];
}

/// The part of a packet in which an error was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Field {
    /// The first byte.
    FixedHeader,
    /// The length behind the first byte.
    RemainingLength,
    /// The packet identifier.
    PacketId,
    /// The protocol name of a CONNECT.
    ProtocolName,
    /// The protocol level of a CONNECT.
    ProtocolLevel,
    /// The flags of a CONNECT.
    ConnectFlags,
    /// The keep-alive time of a CONNECT.
    KeepAlive,
    /// The client identifier.
    ClientId,
    /// The topic of the will.
    WillTopic,
    /// The payload of the will.
    WillPayload,
    /// The user name.
    UserName,
    /// The password.
    Password,
    /// The topic name of a PUBLISH.
    TopicName,
    /// A topic filter.
    TopicFilter,
    /// The options of a subscription.
    SubscriptionOptions,
    /// A reason code or return code.
    ReasonCode,
    /// The flags of a CONNACK.
    AckFlags,
    /// The length of the properties.
    PropertyLength,
    /// The identifier of a property.
    PropertyIdentifier,
    /// A property.
    Property(PropertyId),
    /// What comes after the last field.
    End,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FixedHeader => "fixed header",
            Self::RemainingLength => "remaining length",
            Self::PacketId => "packet identifier",
            Self::ProtocolName => "protocol name",
            Self::ProtocolLevel => "protocol level",
            Self::ConnectFlags => "connect flags",
            Self::KeepAlive => "keep alive",
            Self::ClientId => "client identifier",
            Self::WillTopic => "will topic",
            Self::WillPayload => "will payload",
            Self::UserName => "user name",
            Self::Password => "password",
            Self::TopicName => "topic name",
            Self::TopicFilter => "topic filter",
            Self::SubscriptionOptions => "subscription options",
            Self::ReasonCode => "reason code",
            Self::AckFlags => "acknowledge flags",
            Self::PropertyLength => "property length",
            Self::PropertyIdentifier => "property identifier",
            Self::Property(id) => return write!(f, "property {id}"),
            Self::End => "end",
        })
    }
}

/// Why bytes are not a packet.
///
/// Eight bytes, `Copy`, made without an allocation. `Display` says what is wrong, where, and
/// which clause says so:
///
/// ```
/// use mqtt_codec::{scan, decode, Role, Scan, Version};
///
/// let bytes = b"\x30\x04\x00\x02a\xff";
/// let Ok(Scan::Frame(frame)) = scan(bytes, 1024) else { panic!() };
/// let error = decode(bytes, &frame, Version::V5, Role::Server).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "PUBLISH topic name at byte 4: the string is not well-formed utf-8 \
///      [MQTT-1.5.4-1, 0x81 malformed packet]",
/// );
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Error {
    kind: ErrorKind,
    field: Field,
    packet_type: Option<PacketType>,
    version: Option<Version>,
    offset: u32,
}

impl Error {
    #[cold]
    pub(crate) fn new(
        kind: ErrorKind,
        field: Field,
        packet_type: Option<PacketType>,
        version: Option<Version>,
        offset: usize,
    ) -> Self {
        // A packet has at most 268,435,460 bytes, so the offset fits but for a frame that was
        // not made by `scan`.
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        Self {
            kind,
            field,
            packet_type,
            version,
            offset,
        }
    }

    /// Returns what is wrong.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the part of the packet in which it was found.
    #[must_use]
    pub const fn field(&self) -> Field {
        self.field
    }

    /// Returns the packet's type, `None` if its first byte names none.
    #[must_use]
    pub const fn packet_type(&self) -> Option<PacketType> {
        self.packet_type
    }

    /// Returns the version the packet was held against.
    ///
    /// `None` if it was not known yet, as in a fixed header and before the level of a CONNECT.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.version
    }

    /// Returns the reason code to answer with in a DISCONNECT or CONNACK of MQTT 5.0.
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.kind.reason()
    }

    /// Returns the byte offset within the packet at which the offending field or byte begins.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Returns the clause that the packet breaks.
    ///
    /// A normative statement such as `MQTT-3.1.2-3`, or the section, such as
    /// `MQTT 3.1 section 3.1`, where the version numbers no statement for it. When the version
    /// is not known yet, that of MQTT 5.0.
    #[must_use]
    pub const fn clause(&self) -> &'static str {
        let v31 = matches!(self.version, Some(Version::V31));
        let v5 = !v31 && !matches!(self.version, Some(Version::V311));
        if !v31
            && let Some(packet_type) = self.packet_type
            && let Some(clause) = clause_of_packet(self.kind, packet_type, v5)
        {
            return clause;
        }
        let [in_v5, in_v311, in_v31] = self.kind.clauses();
        if v31 {
            in_v31
        } else if v5 {
            in_v5
        } else {
            in_v311
        }
    }
}

/// Returns the clause where the rule has one of its own for the packet type.
const fn clause_of_packet(kind: ErrorKind, packet: PacketType, v5: bool) -> Option<&'static str> {
    Some(match (kind, packet) {
        (ErrorKind::InvalidFlags, PacketType::PubRel) => "MQTT-3.6.1-1",
        (ErrorKind::InvalidFlags, PacketType::Subscribe) => "MQTT-3.8.1-1",
        (ErrorKind::InvalidFlags, PacketType::Unsubscribe) => "MQTT-3.10.1-1",
        (ErrorKind::InvalidFlags, PacketType::Disconnect) => "MQTT-3.14.1-1",
        (ErrorKind::InvalidFlags, PacketType::Auth) => "MQTT-3.15.1-1",
        (ErrorKind::NoTopicFilter, PacketType::Unsubscribe) => "MQTT-3.10.3-2",
        (ErrorKind::NoReasonCode, PacketType::UnsubAck) => "MQTT-3.11.3-1",
        (ErrorKind::ReasonCodeInvalid, PacketType::SubAck) => "MQTT-3.9.3-2",
        (ErrorKind::ReasonCodeInvalid, packet) if v5 => match packet {
            PacketType::ConnAck => "MQTT-3.2.2-8",
            PacketType::PubAck => "MQTT-3.4.2-1",
            PacketType::PubRec => "MQTT-3.5.2-1",
            PacketType::PubRel => "MQTT-3.6.2-1",
            PacketType::PubComp => "MQTT-3.7.2-1",
            PacketType::UnsubAck => "MQTT-3.11.3-2",
            PacketType::Disconnect => "MQTT-3.14.2-1",
            PacketType::Auth => "MQTT-3.15.2-1",
            _ => return None,
        },
        (ErrorKind::TopicEmpty, PacketType::Publish) if v5 => "MQTT 5.0 section 3.3.2.1",
        (ErrorKind::AuthMethodMissing, PacketType::Connect) => "MQTT 5.0 section 3.1.2.11.10",
        (ErrorKind::AuthMethodMissing, PacketType::ConnAck) => "MQTT 5.0 section 3.2.2.3.18",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(packet_type) = self.packet_type {
            write!(f, "{packet_type} ")?;
        }
        write!(
            f,
            "{} at byte {}: {} [{}, {}]",
            self.field,
            self.offset,
            self.kind.text(),
            self.clause(),
            self.reason(),
        )
    }
}

impl core::error::Error for Error {}

const _: () = assert!(
    size_of::<Error>() == 8,
    "an error is to stay as small as a pointer"
);
