//! Reason codes of MQTT 5.0 (section 2.4) and return codes of MQTT 3.x.

use core::fmt;

use crate::types::{InvalidValue, PacketType, Role};

/// Where a reason code may appear: one bit a packet and sender, as the tables of chapter 3 say.
mod place {
    pub(super) const CONNACK: u16 = 1;
    pub(super) const PUBACK: u16 = 1 << 1;
    pub(super) const PUBREC: u16 = 1 << 2;
    pub(super) const PUBREL: u16 = 1 << 3;
    pub(super) const PUBCOMP: u16 = 1 << 4;
    pub(super) const SUBACK: u16 = 1 << 5;
    pub(super) const UNSUBACK: u16 = 1 << 6;
    pub(super) const DISCONNECT_BY_CLIENT: u16 = 1 << 7;
    pub(super) const DISCONNECT_BY_SERVER: u16 = 1 << 8;
    pub(super) const AUTH_BY_CLIENT: u16 = 1 << 9;
    pub(super) const AUTH_BY_SERVER: u16 = 1 << 10;
    /// PUBACK and PUBREC share a table.
    pub(super) const RECEIVED: u16 = PUBACK | PUBREC;
    /// PUBREL and PUBCOMP share a table.
    pub(super) const RELEASED: u16 = PUBREL | PUBCOMP;
    /// A DISCONNECT by either side.
    pub(super) const DISCONNECT: u16 = DISCONNECT_BY_CLIENT | DISCONNECT_BY_SERVER;
}

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $places:expr;)*) => {
        /// A reason code of MQTT 5.0, section 2.4.
        ///
        /// Codes from 0x80 on are failures. The code 0x00 has three names in the specification
        /// (success, normal disconnection, granted QoS 0) and one here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $value,)*
        }

        impl ReasonCode {
            /// All codes, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the code of a byte, `None` if the specification names none.
            #[inline]
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value {
                    $($value => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// Returns the name as the specification has it, in lower case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            const fn places(self) -> u16 {
                use place::*;
                match self {
                    $(Self::$name => $places,)*
                }
            }
        }
    };
}

reason_codes! {
    /// Success, normal disconnection, or granted QoS 0.
    #[default]
    Success = 0x00, "success",
        CONNACK | RECEIVED | RELEASED | SUBACK | UNSUBACK | DISCONNECT | AUTH_BY_SERVER;
    /// The subscription was granted with QoS 1.
    GrantedQoS1 = 0x01, "granted qos 1", SUBACK;
    /// The subscription was granted with QoS 2.
    GrantedQoS2 = 0x02, "granted qos 2", SUBACK;
    /// The client leaves and wants its will published all the same.
    DisconnectWithWill = 0x04, "disconnect with will message", DISCONNECT_BY_CLIENT;
    /// The message was accepted, and nobody subscribes to it.
    NoMatchingSubscribers = 0x10, "no matching subscribers", RECEIVED;
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11, "no subscription existed", UNSUBACK;
    /// The exchange goes on with another step.
    ContinueAuthentication = 0x18, "continue authentication", AUTH_BY_CLIENT | AUTH_BY_SERVER;
    /// The client starts a new authentication on the live connection.
    ReAuthenticate = 0x19, "re-authenticate", AUTH_BY_CLIENT;
    /// The sender does not say what it is, or no other code fits.
    UnspecifiedError = 0x80, "unspecified error",
        CONNACK | RECEIVED | SUBACK | UNSUBACK | DISCONNECT;
    /// The packet could not be parsed.
    MalformedPacket = 0x81, "malformed packet", CONNACK | DISCONNECT;
    /// The packet was out of place, or said what it may not say.
    ProtocolError = 0x82, "protocol error", CONNACK | DISCONNECT;
    /// The packet is valid, and this receiver does not take it.
    ImplementationSpecificError = 0x83, "implementation specific error",
        CONNACK | RECEIVED | SUBACK | UNSUBACK | DISCONNECT;
    /// The server does not speak that version.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version", CONNACK;
    /// The client identifier is a valid string and not allowed.
    ClientIdentifierNotValid = 0x85, "client identifier not valid", CONNACK;
    /// The server does not accept that user name or password.
    BadUserNameOrPassword = 0x86, "bad user name or password", CONNACK;
    /// The client may not do that.
    NotAuthorized = 0x87, "not authorized",
        CONNACK | RECEIVED | SUBACK | UNSUBACK | DISCONNECT_BY_SERVER;
    /// The server is not available.
    ServerUnavailable = 0x88, "server unavailable", CONNACK;
    /// The server is busy and asks to try again later.
    ServerBusy = 0x89, "server busy", CONNACK | DISCONNECT_BY_SERVER;
    /// The client was banned by an administrator.
    Banned = 0x8A, "banned", CONNACK;
    /// The server is shutting down.
    ServerShuttingDown = 0x8B, "server shutting down", DISCONNECT_BY_SERVER;
    /// The authentication method is not supported, or not the one in use.
    BadAuthenticationMethod = 0x8C, "bad authentication method", CONNACK | DISCONNECT_BY_SERVER;
    /// Nothing was heard for one and a half times the keep-alive time.
    KeepAliveTimeout = 0x8D, "keep alive timeout", DISCONNECT_BY_SERVER;
    /// Another connection uses the same client identifier.
    SessionTakenOver = 0x8E, "session taken over", DISCONNECT_BY_SERVER;
    /// The filter is well formed and not accepted.
    TopicFilterInvalid = 0x8F, "topic filter invalid", SUBACK | UNSUBACK | DISCONNECT_BY_SERVER;
    /// The topic name is well formed and not accepted.
    TopicNameInvalid = 0x90, "topic name invalid", CONNACK | RECEIVED | DISCONNECT;
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91, "packet identifier in use", RECEIVED | SUBACK | UNSUBACK;
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92, "packet identifier not found", RELEASED;
    /// More messages are in flight than the receiver allows.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded", DISCONNECT;
    /// The topic alias is zero or above the maximum.
    TopicAliasInvalid = 0x94, "topic alias invalid", DISCONNECT;
    /// The packet is larger than the receiver allows.
    PacketTooLarge = 0x95, "packet too large", CONNACK | DISCONNECT;
    /// Data comes too fast.
    MessageRateTooHigh = 0x96, "message rate too high", DISCONNECT;
    /// A limit of the implementation or of the administrator is reached.
    QuotaExceeded = 0x97, "quota exceeded", CONNACK | RECEIVED | SUBACK | DISCONNECT;
    /// An administrator closed the connection.
    AdministrativeAction = 0x98, "administrative action", DISCONNECT;
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99, "payload format invalid", CONNACK | RECEIVED | DISCONNECT;
    /// The server does not keep retained messages.
    RetainNotSupported = 0x9A, "retain not supported", CONNACK | DISCONNECT_BY_SERVER;
    /// The quality of service is above the server's maximum.
    QoSNotSupported = 0x9B, "qos not supported", CONNACK | DISCONNECT_BY_SERVER;
    /// The client should use another server for now.
    UseAnotherServer = 0x9C, "use another server", CONNACK | DISCONNECT_BY_SERVER;
    /// The client should use another server from now on.
    ServerMoved = 0x9D, "server moved", CONNACK | DISCONNECT_BY_SERVER;
    /// The server has no shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported",
        SUBACK | DISCONNECT_BY_SERVER;
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded", CONNACK | DISCONNECT_BY_SERVER;
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xA0, "maximum connect time", DISCONNECT_BY_SERVER;
    /// The server has no subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported",
        SUBACK | DISCONNECT_BY_SERVER;
    /// The server has no wildcard subscriptions.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported",
        SUBACK | DISCONNECT_BY_SERVER;
}

impl ReasonCode {
    /// Tells whether the code stands for a failure, that is 0x80 or above.
    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Tells whether a packet of that type that comes to that receiver may carry this code.
    ///
    /// Follows the tables of chapter 3 of MQTT 5.0, and table 2-6 where that one allows more
    /// (0x8C in a DISCONNECT by the server).
    #[inline]
    #[must_use]
    pub const fn is_allowed_in(self, packet: PacketType, receiver: Role) -> bool {
        let place = match (packet, receiver) {
            (PacketType::ConnAck, _) => place::CONNACK,
            (PacketType::PubAck, _) => place::PUBACK,
            (PacketType::PubRec, _) => place::PUBREC,
            (PacketType::PubRel, _) => place::PUBREL,
            (PacketType::PubComp, _) => place::PUBCOMP,
            (PacketType::SubAck, _) => place::SUBACK,
            (PacketType::UnsubAck, _) => place::UNSUBACK,
            (PacketType::Disconnect, Role::Server) => place::DISCONNECT_BY_CLIENT,
            (PacketType::Disconnect, Role::Client) => place::DISCONNECT_BY_SERVER,
            (PacketType::Auth, Role::Server) => place::AUTH_BY_CLIENT,
            (PacketType::Auth, Role::Client) => place::AUTH_BY_SERVER,
            _ => 0,
        };
        self.places() & place != 0
    }

    /// Returns the code of a SUBACK that grants that quality of service.
    #[inline]
    #[must_use]
    pub const fn granted(qos: crate::QoS) -> Self {
        match qos {
            crate::QoS::AtMostOnce => Self::Success,
            crate::QoS::AtLeastOnce => Self::GrantedQoS1,
            crate::QoS::ExactlyOnce => Self::GrantedQoS2,
        }
    }

    /// Returns the byte that a SUBACK of MQTT 3.x has in the place of this code.
    ///
    /// Failures all become 0x80 [MQTT-3.9.3-2].
    #[inline]
    #[must_use]
    pub const fn suback_code_v3(self) -> u8 {
        if self.is_error() { 0x80 } else { self as u8 }
    }
}

impl TryFrom<u8> for ReasonCode {
    type Error = InvalidValue;

    fn try_from(value: u8) -> Result<Self, InvalidValue> {
        Self::from_u8(value).ok_or(InvalidValue(value))
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}", *self as u8, self.name())
    }
}

/// A return code of a CONNACK in MQTT 3.1 and 3.1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ConnectReturnCode {
    /// 0: accepted.
    #[default]
    Accepted = 0,
    /// 1: the server does not speak that protocol level.
    UnacceptableProtocolVersion = 1,
    /// 2: the client identifier is not allowed.
    IdentifierRejected = 2,
    /// 3: the service is not available.
    ServerUnavailable = 3,
    /// 4: the user name or the password is malformed or wrong.
    BadUserNameOrPassword = 4,
    /// 5: the client may not connect.
    NotAuthorized = 5,
}

impl ConnectReturnCode {
    /// Returns the code of a byte from 0 to 5.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Self::Accepted,
            1 => Self::UnacceptableProtocolVersion,
            2 => Self::IdentifierRejected,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// Returns the return code that says best what a reason code says.
    ///
    /// What has no counterpart becomes `ServerUnavailable` when trying later may help, and
    /// `NotAuthorized` otherwise. A server that meets a malformed CONNECT of MQTT 3.x closes the
    /// connection without a CONNACK, so it has no use for a mapping of that.
    #[must_use]
    pub const fn from_reason(reason: ReasonCode) -> Self {
        match reason {
            ReasonCode::UnsupportedProtocolVersion => Self::UnacceptableProtocolVersion,
            ReasonCode::ClientIdentifierNotValid => Self::IdentifierRejected,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => {
                Self::BadUserNameOrPassword
            }
            ReasonCode::UnspecifiedError
            | ReasonCode::ImplementationSpecificError
            | ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::ConnectionRateExceeded => Self::ServerUnavailable,
            reason if reason.is_error() => Self::NotAuthorized,
            _ => Self::Accepted,
        }
    }

    /// Returns the reason code that means the same.
    #[must_use]
    pub const fn reason(self) -> ReasonCode {
        match self {
            Self::Accepted => ReasonCode::Success,
            Self::UnacceptableProtocolVersion => ReasonCode::UnsupportedProtocolVersion,
            Self::IdentifierRejected => ReasonCode::ClientIdentifierNotValid,
            Self::ServerUnavailable => ReasonCode::ServerUnavailable,
            Self::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
            Self::NotAuthorized => ReasonCode::NotAuthorized,
        }
    }
}

impl TryFrom<u8> for ConnectReturnCode {
    type Error = InvalidValue;

    fn try_from(value: u8) -> Result<Self, InvalidValue> {
        Self::from_u8(value).ok_or(InvalidValue(value))
    }
}

impl fmt::Display for ConnectReturnCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Accepted => "connection accepted",
            Self::UnacceptableProtocolVersion => "unacceptable protocol version",
            Self::IdentifierRejected => "identifier rejected",
            Self::ServerUnavailable => "server unavailable",
            Self::BadUserNameOrPassword => "bad user name or password",
            Self::NotAuthorized => "not authorized",
        };
        write!(f, "{:#04x} {text}", *self as u8)
    }
}
