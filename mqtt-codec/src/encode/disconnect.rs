//! DISCONNECT and AUTH.

use crate::encode::ack::Words;
use crate::encode::sink::{Counter, PropertyList, Sink, put_properties};
use crate::encode::{Body, EncodeError, UserPropertyList, encoder_methods};
use crate::property::PropertyId;
use crate::reason::ReasonCode;
use crate::types::{PacketType, Version};

/// A DISCONNECT packet to write, in its shortest form.
///
/// Before MQTT 5.0 it has nothing but its type, and only clients send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disconnect<'a> {
    /// The reason.
    pub reason: ReasonCode,
    /// The reason in words.
    pub reason_string: Option<&'a str>,
    /// Another server to use; only servers send it.
    pub server_reference: Option<&'a str>,
    /// Seconds the session is to outlive the connection; only clients send it.
    pub session_expiry_interval: Option<u32>,
    /// The user properties.
    pub user_properties: UserPropertyList<'a>,
}

impl PropertyList for Disconnect<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        out.property_u32(
            PropertyId::SessionExpiryInterval,
            self.session_expiry_interval,
        );
        out.property_text(PropertyId::ServerReference, self.server_reference);
        let words = Words {
            reason_string: self.reason_string,
            user_properties: self.user_properties,
        };
        words.put(out);
    }
}

impl Body for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Disconnect as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        let mut properties = Counter::default();
        PropertyList::put(self, &mut properties);
        let no_properties = properties.len == 0;
        if !version.has_properties() || (self.reason == ReasonCode::Success && no_properties) {
            return;
        }
        out.put_u8(self.reason as u8);
        if !no_properties {
            put_properties(out, version, self);
        }
    }
}

encoder_methods!(Disconnect);

/// An AUTH packet to write. Only MQTT 5.0 has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Auth<'a> {
    /// The reason: success, continue or re-authenticate.
    pub reason: ReasonCode,
    /// The name of the authentication; may be left out only with success and nothing else.
    pub authentication_method: Option<&'a str>,
    /// The data of this step.
    pub authentication_data: Option<&'a [u8]>,
    /// The reason in words.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserPropertyList<'a>,
}

impl PropertyList for Auth<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        out.property_text(PropertyId::AuthenticationMethod, self.authentication_method);
        out.property_binary(PropertyId::AuthenticationData, self.authentication_data);
        let words = Words {
            reason_string: self.reason_string,
            user_properties: self.user_properties,
        };
        words.put(out);
    }
}

impl Body for Auth<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Auth as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        if !version.has_properties() {
            out.fail(EncodeError::NotInVersion);
            return;
        }
        if *self == Self::default() {
            return;
        }
        if self.authentication_method.is_none() {
            out.fail(EncodeError::AuthMethodMissing);
        }
        out.put_u8(self.reason as u8);
        put_properties(out, version, self);
    }
}

encoder_methods!(Auth);
