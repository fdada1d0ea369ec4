//! PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.

use crate::encode::sink::{PropertyList, Sink, put_properties};
use crate::encode::{Body, EncodeError, UserPropertyList, encoder_methods};
use crate::property::PropertyId;
use crate::reason::ReasonCode;
use crate::types::{PacketId, PacketType, Version};

/// What acknowledgements can say beyond their code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) reason_string: Option<&'a str>,
    pub(super) user_properties: UserPropertyList<'a>,
}

impl Words<'_> {
    const fn is_empty(&self) -> bool {
        self.reason_string.is_none() && self.user_properties.is_empty()
    }
}

impl PropertyList for Words<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        out.property_text(PropertyId::ReasonString, self.reason_string);
        out.user_properties(self.user_properties);
    }
}

/// A PUBACK, PUBREC, PUBREL or PUBCOMP packet to write.
///
/// Takes the shortest form there is: without properties, they go without a length, and success
/// without properties is the packet identifier alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AckPacket<'a> {
    /// One of the four types. Another one is a `NotInVersion` of `check` and written as such.
    pub packet_type: PacketType,
    /// The packet identifier.
    pub packet_id: PacketId,
    /// The reason code, left out before MQTT 5.0.
    pub reason: ReasonCode,
    /// The reason in words, left out before MQTT 5.0.
    pub reason_string: Option<&'a str>,
    /// The user properties, left out before MQTT 5.0.
    pub user_properties: UserPropertyList<'a>,
}

impl AckPacket<'_> {
    /// Makes an acknowledgement that says nothing but the reason.
    #[must_use]
    pub const fn new(packet_type: PacketType, packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_type,
            packet_id,
            reason,
            reason_string: None,
            user_properties: &[],
        }
    }
}

impl Body for AckPacket<'_> {
    fn first_byte(&self) -> u8 {
        (self.packet_type as u8) << 4 | self.packet_type.reserved_flags()
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        use PacketType::{PubAck, PubComp, PubRec, PubRel};
        if !matches!(self.packet_type, PubAck | PubRec | PubRel | PubComp) {
            out.fail(EncodeError::NotInVersion);
        }
        out.put_u16(self.packet_id.get());
        let words = Words {
            reason_string: self.reason_string,
            user_properties: self.user_properties,
        };
        let says_success = self.reason == ReasonCode::Success && words.is_empty();
        if !version.has_properties() || says_success {
            return;
        }
        out.put_u8(self.reason as u8);
        if !words.is_empty() {
            put_properties(out, version, &words);
        }
    }
}

encoder_methods!(AckPacket);

/// A SUBACK packet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The packet identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// A code for each topic filter, in order; before MQTT 5.0 every failure is written as 0x80.
    pub codes: &'a [ReasonCode],
    /// A reason in words, left out before MQTT 5.0.
    pub reason_string: Option<&'a str>,
    /// The user properties, left out before MQTT 5.0.
    pub user_properties: UserPropertyList<'a>,
}

impl Body for SubAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::SubAck as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_u16(self.packet_id.get());
        put_properties(
            out,
            version,
            &Words {
                reason_string: self.reason_string,
                user_properties: self.user_properties,
            },
        );
        if self.codes.is_empty() {
            out.fail(EncodeError::EmptyList);
        }
        for code in self.codes {
            out.put_u8(match version {
                Version::V31 | Version::V311 => code.suback_code_v3(),
                Version::V5 => *code as u8,
            });
        }
    }
}

encoder_methods!(SubAck);

/// An UNSUBACK packet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The packet identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// A code for each topic filter, in order, left out before MQTT 5.0.
    pub codes: &'a [ReasonCode],
    /// A reason in words, left out before MQTT 5.0.
    pub reason_string: Option<&'a str>,
    /// The user properties, left out before MQTT 5.0.
    pub user_properties: UserPropertyList<'a>,
}

impl Body for UnsubAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::UnsubAck as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_u16(self.packet_id.get());
        if !version.has_properties() {
            return;
        }
        put_properties(
            out,
            version,
            &Words {
                reason_string: self.reason_string,
                user_properties: self.user_properties,
            },
        );
        if self.codes.is_empty() {
            out.fail(EncodeError::EmptyList);
        }
        for code in self.codes {
            out.put_u8(*code as u8);
        }
    }
}

encoder_methods!(UnsubAck);
