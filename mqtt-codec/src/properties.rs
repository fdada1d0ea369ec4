//! The properties of a packet: one pass that validates, and walks over what was validated.

use core::fmt;
use core::iter::FusedIterator;

use crate::error::{Error, ErrorKind, Field};
use crate::frame::{VarInt, read_var_int};
use crate::property::{Form, PropertyId};
use crate::reader::Reader;
use crate::text;

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

    /// Takes bytes that were validated before.
    pub(crate) fn of_validated(raw: &'a [u8]) -> Self {
        let seen = Walk { rest: raw }.fold(0, |seen, property| seen | property.id.bit());
        Self { raw, seen }
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
            let text = reader.string_bytes(field)?;
            if id == PropertyId::ResponseTopic && !is_response_topic(text) {
                return Err(reader.error_at(ErrorKind::ResponseTopicInvalid, field, at));
            }
            true
        }
        Form::Binary => reader.binary(field).map(|_| true)?,
        Form::Pair => {
            reader.string_bytes(field)?;
            reader.string_bytes(field).map(|_| true)?
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
fn is_response_topic(text: &[u8]) -> bool {
    !text.is_empty() && !text.iter().any(|byte| matches!(byte, b'+' | b'#'))
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a [u8], &'a [u8]),
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(value) => write!(f, "{value}"),
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Self::Pair(name, value) => {
                write!(
                    f,
                    "\"{}\"=\"{}\"",
                    name.escape_ascii(),
                    value.escape_ascii()
                )
            }
        }
    }
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
