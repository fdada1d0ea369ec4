//! Properties of MQTT 5.0: one pass that validates, and walks over what was validated.

use core::fmt;
use core::iter::FusedIterator;

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{VarInt, read_var_int};
use crate::reader::Reader;
use crate::text;

/// What the value of a property is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
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
            const fn form(self) -> Form {
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

/// The validated properties of a packet, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Properties<'a> {
    raw: &'a [u8],
    seen: u64,
}

impl<'a> Properties<'a> {
    /// Reads the length of the properties and validates them in one pass.
    ///
    /// `repeatable` are those that may appear more than once.
    #[inline]
    pub(crate) fn read(
        reader: &mut Reader<'a>,
        allowed: u64,
        repeatable: u64,
    ) -> Result<Self, Error> {
        let len = reader.var_int(Field::PropertyLength)?;
        if len == 0 {
            return Ok(Self::default());
        }
        let mut section = reader.section(len as usize, Field::PropertyLength)?;
        let raw = section.clone().remaining();
        let mut seen = 0;
        while !section.is_empty() {
            seen |= read_one(&mut section, seen, allowed, repeatable)?;
        }
        Ok(Self { raw, seen })
    }

    /// The bytes without their length.
    #[inline]
    pub(crate) const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Tells whether any of a set is there.
    #[inline]
    pub(crate) const fn has_any(&self, set: u64) -> bool {
        self.seen & set != 0
    }

    /// Tells whether that property is there.
    #[inline]
    pub(crate) const fn has(&self, id: PropertyId) -> bool {
        self.has_any(id.bit())
    }

    pub(crate) const fn iter(&self) -> Walk<'a> {
        Walk { rest: self.raw }
    }

    #[inline]
    fn find(&self, id: PropertyId) -> Option<Value<'a>> {
        if !self.has(id) {
            return None;
        }
        self.iter()
            .find(|property| property.id == id)
            .map(|property| property.value)
    }

    /// The value of a numeric property.
    #[inline]
    pub(crate) fn number(&self, id: PropertyId) -> Option<u32> {
        match self.find(id)? {
            Value::Number(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a numeric property of at most two bytes.
    #[inline]
    pub(crate) fn number_u16(&self, id: PropertyId) -> Option<u16> {
        self.number(id).and_then(|value| u16::try_from(value).ok())
    }

    /// The value of a property of one bit.
    #[inline]
    pub(crate) fn flag(&self, id: PropertyId) -> Option<bool> {
        self.number(id).map(|value| value != 0)
    }

    /// The value of a binary property.
    #[inline]
    pub(crate) fn binary(&self, id: PropertyId) -> Option<&'a [u8]> {
        match self.find(id)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The value of a textual property.
    #[inline]
    pub(crate) fn text(&self, id: PropertyId) -> Option<&'a str> {
        self.binary(id).map(text::checked_before)
    }

    pub(crate) const fn user_properties(&self) -> UserProperties<'a> {
        let some = self.has(PropertyId::UserProperty);
        UserProperties {
            walk: Walk {
                rest: if some { self.raw } else { &[] },
            },
        }
    }

    pub(crate) const fn subscription_identifiers(&self) -> SubscriptionIdentifiers<'a> {
        let some = self.has(PropertyId::SubscriptionIdentifier);
        SubscriptionIdentifiers {
            walk: Walk {
                rest: if some { self.raw } else { &[] },
            },
        }
    }

    pub(crate) const fn without(&self, left_out: u64) -> PassThrough<'a> {
        PassThrough {
            rest: self.raw,
            left_out,
            seen: self.seen,
        }
    }
}

impl fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.iter().map(|property| (property.id, property.value));
        f.debug_map().entries(entries).finish()
    }
}

/// Validates the next property and returns its bit.
#[inline]
fn read_one(
    reader: &mut Reader<'_>,
    seen: u64,
    allowed: u64,
    repeatable: u64,
) -> Result<u64, Error> {
    let at = reader.offset();
    let id = reader.u8(Field::PropertyIdentifier)?;
    let Some(id) = PropertyId::from_u8(id) else {
        let (kind, field) = (ErrorKind::UnknownProperty, Field::PropertyIdentifier);
        return Err(reader.error_at(kind, field, at));
    };
    let (bit, field) = (id.bit(), Field::Property(id));
    if allowed & bit == 0 {
        return Err(reader.error_at(ErrorKind::PropertyNotAllowed, field, at));
    }
    if seen & bit & !repeatable != 0 {
        return Err(reader.error_at(ErrorKind::DuplicateProperty, field, at));
    }
    let in_range = match id.form() {
        Form::Bit => reader.u8(field)? <= 1,
        Form::U16 => reader.u16(field).map(|_| true)?,
        Form::NonZeroU16 => reader.u16(field)? != 0,
        Form::U32 => reader.u32(field).map(|_| true)?,
        Form::NonZeroU32 => reader.u32(field)? != 0,
        Form::NonZeroVarInt => reader.var_int(field)? != 0,
        Form::Text => {
            let text = reader.string(field)?;
            if id == PropertyId::ResponseTopic && !is_response_topic(text) {
                return Err(reader.error_at(ErrorKind::ResponseTopicInvalid, field, at));
            }
            true
        }
        Form::Binary => reader.binary(field).map(|_| true)?,
        Form::Pair => {
            reader.string(field)?;
            reader.string(field).map(|_| true)?
        }
    };
    if in_range {
        return Ok(bit);
    }
    let kind = match id {
        PropertyId::TopicAlias => ErrorKind::TopicAliasZero,
        _ => ErrorKind::PropertyOutOfRange,
    };
    Err(reader.error_at(kind, field, at))
}

/// A response topic is a topic name [MQTT-4.7.3-1] without wildcards [MQTT-3.3.2-14].
fn is_response_topic(text: &str) -> bool {
    !text.is_empty() && !text.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// A property as it lies in the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Property<'a> {
    pub(crate) id: PropertyId,
    pub(crate) value: Value<'a>,
    /// The whole property, identifier included.
    pub(crate) raw: &'a [u8],
}

/// The value of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

/// Walks over validated properties. On bytes that are none it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Walk<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        let start = self.rest;
        let (&id, rest) = start.split_first()?;
        let id = PropertyId::from_u8(id)?;
        let (value, rest) = match id.form() {
            Form::Bit => {
                let (&value, rest) = rest.split_first()?;
                (Value::Number(value.into()), rest)
            }
            Form::U16 | Form::NonZeroU16 => {
                let (&value, rest) = rest.split_first_chunk()?;
                (Value::Number(u16::from_be_bytes(value).into()), rest)
            }
            Form::U32 | Form::NonZeroU32 => {
                let (&value, rest) = rest.split_first_chunk()?;
                (Value::Number(u32::from_be_bytes(value)), rest)
            }
            Form::NonZeroVarInt => {
                let VarInt::Value { value, len } = read_var_int(rest) else {
                    return None;
                };
                (Value::Number(value), rest.get(len..)?)
            }
            Form::Text | Form::Binary => {
                let (bytes, rest) = split_binary(rest)?;
                (Value::Bytes(bytes), rest)
            }
            Form::Pair => {
                let (name, rest) = split_binary(rest)?;
                let (value, rest) = split_binary(rest)?;
                (Value::Pair(name, value), rest)
            }
        };
        self.rest = rest;
        let raw = start.get(..start.len() - rest.len())?;
        Some(Property { id, value, raw })
    }
}

#[inline]
fn split_binary(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(len)))
}

/// The user properties of a packet, in their order: names and values.
///
/// Names may repeat. Made by the `user_properties` methods; does not allocate.
#[derive(Debug, Clone, Copy)]
pub struct UserProperties<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for UserProperties<'a> {
    type Item = (&'a str, &'a str);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.walk.find_map(|property| match property.value {
            Value::Pair(name, value) => {
                Some((text::checked_before(name), text::checked_before(value)))
            }
            _ => None,
        })
    }
}

impl FusedIterator for UserProperties<'_> {}

/// The subscription identifiers of a PUBLISH, 1 to 268,435,455 each, in their order.
#[derive(Debug, Clone, Copy)]
pub struct SubscriptionIdentifiers<'a> {
    walk: Walk<'a>,
}

impl Iterator for SubscriptionIdentifiers<'_> {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        self.walk
            .find_map(|property| match (property.id, property.value) {
                (PropertyId::SubscriptionIdentifier, Value::Number(value)) => Some(value),
                _ => None,
            })
    }
}

impl FusedIterator for SubscriptionIdentifiers<'_> {}

/// The raw properties that a server forwards unchanged, in their order.
///
/// Each item is one or more whole properties that lie side by side, so that there are as few
/// items as can be: one if nothing is left out. No item is empty.
#[derive(Debug, Clone, Copy)]
pub struct PassThrough<'a> {
    rest: &'a [u8],
    left_out: u64,
    seen: u64,
}

impl PassThrough<'_> {
    /// Returns the bytes of all items together.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.map(<[u8]>::len).sum()
    }
}

impl<'a> Iterator for PassThrough<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.seen & self.left_out == 0 {
            let all = core::mem::take(&mut self.rest);
            return (!all.is_empty()).then_some(all);
        }
        let mut walk = Walk { rest: self.rest };
        let mut kept = 0;
        loop {
            let Some(property) = walk.next() else {
                let run = core::mem::take(&mut self.rest);
                return run.get(..kept).filter(|run| !run.is_empty());
            };
            if property.id.bit() & self.left_out == 0 {
                kept += property.raw.len();
            } else if kept == 0 {
                self.rest = walk.rest;
            } else {
                let run = self.rest.get(..kept);
                self.rest = walk.rest;
                return run;
            }
        }
    }
}

impl FusedIterator for PassThrough<'_> {}
