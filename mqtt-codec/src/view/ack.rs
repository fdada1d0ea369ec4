//! PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK: sections 3.4 to 3.7, 3.9 and 3.11.

use core::iter::FusedIterator;

use crate::error::{Error, ErrorKind, Field};
use crate::frame::Frame;
use crate::properties::{Properties, UserProperties};
use crate::property::{PropertyId, set};
use crate::reader::Reader;
use crate::reason::ReasonCode;
use crate::types::{PacketId, PacketType, Role, Version};

/// The reason and user properties that acknowledgements have in common.
macro_rules! ack_properties {
    () => {
        /// Returns the reason in words, for logs and not for programs. `None` before MQTT 5.0.
        #[must_use]
        pub fn reason_string(&self) -> Option<&'a str> {
            self.properties.text(PropertyId::ReasonString)
        }

        /// Returns the user properties, in their order. None before MQTT 5.0.
        #[must_use]
        pub const fn user_properties(&self) -> UserProperties<'a> {
            self.properties.user_properties()
        }
    };
}
pub(super) use ack_properties;

/// A PUBACK, PUBREC, PUBREL or PUBCOMP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    packet_id: PacketId,
    reason: ReasonCode,
    properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        frame: &Frame,
        version: Version,
        role: Role,
    ) -> Result<Self, Error> {
        let packet_id = reader.packet_id()?;
        let mut ack = Self {
            packet_id,
            reason: ReasonCode::Success,
            properties: <_>::default(),
        };
        // Before MQTT 5.0 there is nothing else. Since then the reason may be left out, and the
        // property length behind it too (section 3.4.2.1).
        if version.has_properties() && !reader.is_empty() {
            ack.reason = read_reason(reader, frame.packet_type, role)?;
            ack.properties = read_optional_properties(reader, set::ACK)?;
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Returns the packet identifier.
    #[inline]
    #[must_use]
    pub const fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// Returns the reason code, `Success` before MQTT 5.0.
    #[inline]
    #[must_use]
    pub const fn reason(&self) -> ReasonCode {
        self.reason
    }

    ack_properties!();
}

/// A SUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    packet_id: PacketId,
    codes: ReasonCodes<'a>,
    properties: Properties<'a>,
}

impl<'a> SubAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, set::ACK)?;
        let at = reader.offset();
        let codes = reader.remaining();
        if codes.is_empty() {
            return Err(reader.error(ErrorKind::NoReasonCode, Field::ReasonCode));
        }
        for (index, &code) in codes.iter().enumerate() {
            let valid = match version {
                Version::V31 | Version::V311 => matches!(code, 0..=2 | 0x80),
                Version::V5 => ReasonCode::from_u8(code)
                    .is_some_and(|code| code.is_allowed_in(PacketType::SubAck, Role::Client)),
            };
            if !valid {
                let (kind, field) = (ErrorKind::ReasonCodeInvalid, Field::ReasonCode);
                return Err(reader.error_at(kind, field, at + index));
            }
        }
        Ok(Self {
            packet_id,
            codes: ReasonCodes { codes },
            properties,
        })
    }

    /// Returns the packet identifier of the SUBSCRIBE.
    #[must_use]
    pub const fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// Returns a code for each topic filter of the SUBSCRIBE, in its order.
    ///
    /// Before MQTT 5.0, a failure is `UnspecifiedError`.
    #[must_use]
    pub const fn codes(&self) -> ReasonCodes<'a> {
        self.codes
    }

    ack_properties!();
}

/// An UNSUBACK packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    packet_id: PacketId,
    codes: ReasonCodes<'a>,
    properties: Properties<'a>,
}

impl<'a> UnsubAck<'a> {
    pub(super) fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self, Error> {
        let packet_id = reader.packet_id()?;
        let properties = read_properties(reader, version, set::ACK)?;
        if !version.has_properties() {
            reader.finish()?;
            return Ok(Self {
                packet_id,
                codes: ReasonCodes { codes: &[] },
                properties,
            });
        }
        let at = reader.offset();
        let codes = reader.remaining();
        if codes.is_empty() {
            return Err(reader.error(ErrorKind::NoReasonCode, Field::ReasonCode));
        }
        let invalid = codes.iter().position(|&code| {
            !ReasonCode::from_u8(code)
                .is_some_and(|code| code.is_allowed_in(PacketType::UnsubAck, Role::Client))
        });
        if let Some(index) = invalid {
            let (kind, field) = (ErrorKind::ReasonCodeInvalid, Field::ReasonCode);
            return Err(reader.error_at(kind, field, at + index));
        }
        Ok(Self {
            packet_id,
            codes: ReasonCodes { codes },
            properties,
        })
    }

    /// Returns the packet identifier of the UNSUBSCRIBE.
    #[must_use]
    pub const fn packet_id(&self) -> PacketId {
        self.packet_id
    }

    /// Returns a code for each topic filter of the UNSUBSCRIBE, in its order.
    ///
    /// None before MQTT 5.0.
    #[must_use]
    pub const fn codes(&self) -> ReasonCodes<'a> {
        self.codes
    }

    ack_properties!();
}

/// The reason codes of a SUBACK or UNSUBACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReasonCodes<'a> {
    codes: &'a [u8],
}

impl<'a> ReasonCodes<'a> {
    /// Returns the codes as they lie in the packet, a byte each.
    #[must_use]
    pub const fn raw(&self) -> &'a [u8] {
        self.codes
    }
}

impl Iterator for ReasonCodes<'_> {
    type Item = ReasonCode;

    fn next(&mut self) -> Option<ReasonCode> {
        let (&code, rest) = self.codes.split_first()?;
        self.codes = rest;
        ReasonCode::from_u8(code)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.codes.len(), Some(self.codes.len()))
    }
}

impl ExactSizeIterator for ReasonCodes<'_> {}
impl FusedIterator for ReasonCodes<'_> {}

/// Reads a reason code that the packet may carry.
pub(super) fn read_reason(
    reader: &mut Reader<'_>,
    packet_type: PacketType,
    role: Role,
) -> Result<ReasonCode, Error> {
    let at = reader.offset();
    let code = reader.u8(Field::ReasonCode)?;
    ReasonCode::from_u8(code)
        .filter(|code| code.is_allowed_in(packet_type, role))
        .ok_or_else(|| reader.error_at(ErrorKind::ReasonCodeInvalid, Field::ReasonCode, at))
}

/// Reads properties that may be missing altogether, length and all, at the packet's end.
pub(super) fn read_optional_properties<'a>(
    reader: &mut Reader<'a>,
    allowed: u64,
) -> Result<Properties<'a>, Error> {
    if reader.is_empty() {
        return Ok(Properties::default());
    }
    Properties::read(reader, allowed, PropertyId::UserProperty.bit())
}

/// Reads the properties that MQTT 5.0 has and earlier versions do not.
pub(super) fn read_properties<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    allowed: u64,
) -> Result<Properties<'a>, Error> {
    if !version.has_properties() {
        return Ok(Properties::default());
    }
    Properties::read(reader, allowed, PropertyId::UserProperty.bit())
}
