//! SUBSCRIBE and UNSUBSCRIBE, which clients write.

use crate::encode::sink::{PropertyList, Sink, put_properties};
use crate::encode::{Body, EncodeError, UserPropertyList, encoder_methods};
use crate::property::PropertyId;
use crate::types::{PacketId, PacketType, Version};
use crate::view::SubscribeFilter;

/// A SUBSCRIBE packet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// At least one topic filter; before MQTT 5.0 only its QoS is written.
    pub filters: &'a [SubscribeFilter<'a>],
    /// The identifier of the subscriptions, 1 to 268,435,455, left out before MQTT 5.0.
    pub subscription_identifier: Option<u32>,
    /// The user properties, left out before MQTT 5.0.
    pub user_properties: UserPropertyList<'a>,
}

impl PropertyList for Subscribe<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        if let Some(id) = self.subscription_identifier {
            out.property_var_int(PropertyId::SubscriptionIdentifier, id);
        }
        out.user_properties(self.user_properties);
    }
}

impl Body for Subscribe<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Subscribe as u8) << 4 | PacketType::Subscribe.reserved_flags()
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_u16(self.packet_id.get());
        put_properties(out, version, self);
        if self.filters.is_empty() {
            out.fail(EncodeError::EmptyList);
        }
        for filter in self.filters {
            out.put_text(filter.filter);
            out.put_u8(filter.options(version));
        }
    }
}

encoder_methods!(Subscribe);

/// An UNSUBSCRIBE packet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The packet identifier.
    pub packet_id: PacketId,
    /// At least one topic filter.
    pub filters: &'a [&'a str],
    /// The user properties, left out before MQTT 5.0.
    pub user_properties: UserPropertyList<'a>,
}

impl PropertyList for Unsubscribe<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        out.user_properties(self.user_properties);
    }
}

impl Body for Unsubscribe<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Unsubscribe as u8) << 4 | PacketType::Unsubscribe.reserved_flags()
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        out.put_u16(self.packet_id.get());
        put_properties(out, version, self);
        if self.filters.is_empty() {
            out.fail(EncodeError::EmptyList);
        }
        for filter in self.filters {
            out.put_text(filter);
        }
    }
}

encoder_methods!(Unsubscribe);
