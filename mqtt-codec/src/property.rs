//! Which properties MQTT 5.0 has, what they hold, and which packet may carry them.

use core::fmt;

/// What the value of a property is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One byte that is 0 or 1.
    Bit,
    /// Two bytes.
    U16,
    /// Two bytes, not zero.
    NonZeroU16,
    /// Four bytes.
    U32,
    /// Four bytes, not zero.
    NonZeroU32,
    /// A variable byte integer, not zero.
    NonZeroVarInt,
    /// A string.
    Text,
    /// Binary data.
    Binary,
    /// Two strings.
    Pair,
}

macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal, $form:ident;)*) => {
        /// The identifier of a property (MQTT 5.0 section 2.2.2.2).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum PropertyId {
            $($(#[$doc])* $name = $value,)*
        }

        impl PropertyId {
            /// All properties, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Returns the property of a byte.
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

            #[inline]
            pub(crate) const fn form(self) -> Form {
                match self {
                    $(Self::$name => Form::$form,)*
                }
            }
        }
    };
}

properties! {
    /// Whether a payload is text (PUBLISH, will).
    PayloadFormatIndicator = 0x01, "payload format indicator", Bit;
    /// Seconds a message lives (PUBLISH, will).
    MessageExpiryInterval = 0x02, "message expiry interval", U32;
    /// What a payload is (PUBLISH, will).
    ContentType = 0x03, "content type", Text;
    /// Where to answer (PUBLISH, will).
    ResponseTopic = 0x08, "response topic", Text;
    /// What an answer repeats (PUBLISH, will).
    CorrelationData = 0x09, "correlation data", Binary;
    /// The number of a subscription, 1 to 268,435,455 (SUBSCRIBE, PUBLISH by a server).
    SubscriptionIdentifier = 0x0B, "subscription identifier", NonZeroVarInt;
    /// Seconds a session outlives its connection (CONNECT, CONNACK, DISCONNECT by a client).
    SessionExpiryInterval = 0x11, "session expiry interval", U32;
    /// The client identifier that the server chose (CONNACK).
    AssignedClientIdentifier = 0x12, "assigned client identifier", Text;
    /// The keep-alive time that the server chose, in seconds (CONNACK).
    ServerKeepAlive = 0x13, "server keep alive", U16;
    /// The name of the extended authentication (CONNECT, CONNACK, AUTH).
    AuthenticationMethod = 0x15, "authentication method", Text;
    /// The data of the extended authentication (CONNECT, CONNACK, AUTH).
    AuthenticationData = 0x16, "authentication data", Binary;
    /// Whether reasons and user properties are welcome in every answer (CONNECT).
    RequestProblemInformation = 0x17, "request problem information", Bit;
    /// Seconds between the end of a connection and its will (will).
    WillDelayInterval = 0x18, "will delay interval", U32;
    /// Whether response information is welcome (CONNECT).
    RequestResponseInformation = 0x19, "request response information", Bit;
    /// What a client makes response topics of (CONNACK).
    ResponseInformation = 0x1A, "response information", Text;
    /// Another server to use (CONNACK, DISCONNECT by a server).
    ServerReference = 0x1C, "server reference", Text;
    /// A reason in words (every acknowledgement, DISCONNECT, AUTH).
    ReasonString = 0x1F, "reason string", Text;
    /// How many QoS 1 and 2 messages may be in flight (CONNECT, CONNACK).
    ReceiveMaximum = 0x21, "receive maximum", NonZeroU16;
    /// The highest topic alias (CONNECT, CONNACK).
    TopicAliasMaximum = 0x22, "topic alias maximum", U16;
    /// The number that stands for a topic (PUBLISH).
    TopicAlias = 0x23, "topic alias", NonZeroU16;
    /// The highest quality of service, 0 or 1 (CONNACK).
    MaximumQoS = 0x24, "maximum qos", Bit;
    /// Whether the server retains (CONNACK).
    RetainAvailable = 0x25, "retain available", Bit;
    /// A name and a value, as often as wanted (every packet with properties).
    UserProperty = 0x26, "user property", Pair;
    /// The largest packet, in bytes (CONNECT, CONNACK).
    MaximumPacketSize = 0x27, "maximum packet size", NonZeroU32;
    /// Whether the server has wildcard subscriptions (CONNACK).
    WildcardSubscriptionAvailable = 0x28, "wildcard subscription available", Bit;
    /// Whether the server has subscription identifiers (CONNACK).
    SubscriptionIdentifiersAvailable = 0x29, "subscription identifiers available", Bit;
    /// Whether the server has shared subscriptions (CONNACK).
    SharedSubscriptionAvailable = 0x2A, "shared subscription available", Bit;
}

impl PropertyId {
    /// The bit that stands for the property in a [`Set`].
    #[inline]
    pub(crate) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

impl fmt::Display for PropertyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}", *self as u8, self.name())
    }
}

/// Sets of properties, a bit an identifier.
pub(crate) mod set {
    use super::PropertyId as P;

    const fn of(ids: &[P]) -> u64 {
        let mut bits = P::UserProperty.bit();
        let mut at = 0;
        while at < ids.len() {
            bits |= ids[at].bit();
            at += 1;
        }
        bits
    }

    pub(crate) const CONNECT: u64 = of(&[
        P::SessionExpiryInterval,
        P::ReceiveMaximum,
        P::MaximumPacketSize,
        P::TopicAliasMaximum,
        P::RequestResponseInformation,
        P::RequestProblemInformation,
        P::AuthenticationMethod,
        P::AuthenticationData,
    ]);
    pub(crate) const WILL: u64 = of(&[
        P::WillDelayInterval,
        P::PayloadFormatIndicator,
        P::MessageExpiryInterval,
        P::ContentType,
        P::ResponseTopic,
        P::CorrelationData,
    ]);
    pub(crate) const CONNACK: u64 = of(&[
        P::SessionExpiryInterval,
        P::ReceiveMaximum,
        P::MaximumQoS,
        P::RetainAvailable,
        P::MaximumPacketSize,
        P::AssignedClientIdentifier,
        P::TopicAliasMaximum,
        P::ReasonString,
        P::WildcardSubscriptionAvailable,
        P::SubscriptionIdentifiersAvailable,
        P::SharedSubscriptionAvailable,
        P::ServerKeepAlive,
        P::ResponseInformation,
        P::ServerReference,
        P::AuthenticationMethod,
        P::AuthenticationData,
    ]);
    pub(crate) const PUBLISH: u64 = of(&[
        P::PayloadFormatIndicator,
        P::MessageExpiryInterval,
        P::TopicAlias,
        P::ResponseTopic,
        P::CorrelationData,
        P::SubscriptionIdentifier,
        P::ContentType,
    ]);
    /// The properties of a PUBLISH that a server does not forward as they came.
    pub(crate) const PUBLISH_REWRITTEN: u64 =
        P::MessageExpiryInterval.bit() | P::TopicAlias.bit() | P::SubscriptionIdentifier.bit();
    /// The properties of a will that a server does not publish as they came.
    pub(crate) const WILL_REWRITTEN: u64 =
        P::MessageExpiryInterval.bit() | P::WillDelayInterval.bit();
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    pub(crate) const ACK: u64 = of(&[P::ReasonString]);
    pub(crate) const SUBSCRIBE: u64 = of(&[P::SubscriptionIdentifier]);
    pub(crate) const UNSUBSCRIBE: u64 = of(&[]);
    pub(crate) const DISCONNECT: u64 = of(&[
        P::SessionExpiryInterval,
        P::ReasonString,
        P::ServerReference,
    ]);
    pub(crate) const AUTH: u64 = of(&[
        P::AuthenticationMethod,
        P::AuthenticationData,
        P::ReasonString,
    ]);
}
