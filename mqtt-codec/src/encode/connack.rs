//! CONNACK.

use crate::encode::sink::{PropertyList, Sink, put_properties};
use crate::encode::{Body, EncodeError, UserPropertyList, encoder_methods};
use crate::property::PropertyId;
use crate::reason::{ConnectReturnCode, ReasonCode};
use crate::types::{PacketType, QoS, Version};

/// A CONNACK packet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAck<'a> {
    /// Whether the server still has a session.
    ///
    /// Written as `false` in MQTT 3.1, which has no such flag, and in a refusal [MQTT-3.2.2-6].
    pub session_present: bool,
    /// The reason; before MQTT 5.0 the return code of [`ConnectReturnCode::from_reason`] is
    /// written.
    pub reason: ReasonCode,
    /// The properties, left out before MQTT 5.0.
    pub properties: ConnAckProperties<'a>,
}

/// The properties of a CONNACK to write, section 3.2.2.3. `None` is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAckProperties<'a> {
    /// Seconds the session outlives the connection, if not those that the client asked for.
    pub session_expiry_interval: Option<u32>,
    /// How many QoS 1 and 2 messages the client may have in flight; not 0.
    pub receive_maximum: Option<u16>,
    /// The highest quality of service; `ExactlyOnce` is not written, for it is what `None` means.
    pub maximum_qos: Option<QoS>,
    /// Whether the server retains messages.
    pub retain_available: Option<bool>,
    /// The bytes of the largest packet; not 0.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server chose.
    pub assigned_client_id: Option<&'a str>,
    /// The highest topic alias the client may use.
    pub topic_alias_maximum: Option<u16>,
    /// The reason in words.
    pub reason_string: Option<&'a str>,
    /// The user properties.
    pub user_properties: UserPropertyList<'a>,
    /// Whether the server has wildcard subscriptions.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether the server has subscription identifiers.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether the server has shared subscriptions.
    pub shared_subscription_available: Option<bool>,
    /// The keep-alive time in seconds that the client is to use.
    pub server_keep_alive: Option<u16>,
    /// What the client may make response topics of.
    pub response_information: Option<&'a str>,
    /// Another server to use.
    pub server_reference: Option<&'a str>,
    /// The name of the extended authentication.
    pub authentication_method: Option<&'a str>,
    /// The data of the extended authentication; not without a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl PropertyList for ConnAckProperties<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        use PropertyId as P;
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            out.fail(EncodeError::AuthMethodMissing);
        }
        let receive_maximum = out.non_zero(self.receive_maximum);
        let maximum_packet_size = out.non_zero(self.maximum_packet_size);
        let maximum_qos = self.maximum_qos.filter(|&qos| qos != QoS::ExactlyOnce);
        let bit = |flag: Option<bool>| flag.map(u8::from);
        out.property_u32(P::SessionExpiryInterval, self.session_expiry_interval);
        out.property_u16(P::ReceiveMaximum, receive_maximum);
        out.property_u8(P::MaximumQoS, maximum_qos.map(|qos| qos as u8));
        out.property_u8(P::RetainAvailable, bit(self.retain_available));
        out.property_u32(P::MaximumPacketSize, maximum_packet_size);
        out.property_text(P::AssignedClientIdentifier, self.assigned_client_id);
        out.property_u16(P::TopicAliasMaximum, self.topic_alias_maximum);
        out.property_text(P::ReasonString, self.reason_string);
        out.user_properties(self.user_properties);
        out.property_u8(
            P::WildcardSubscriptionAvailable,
            bit(self.wildcard_subscription_available),
        );
        out.property_u8(
            P::SubscriptionIdentifiersAvailable,
            bit(self.subscription_identifiers_available),
        );
        out.property_u8(
            P::SharedSubscriptionAvailable,
            bit(self.shared_subscription_available),
        );
        out.property_u16(P::ServerKeepAlive, self.server_keep_alive);
        out.property_text(P::ResponseInformation, self.response_information);
        out.property_text(P::ServerReference, self.server_reference);
        out.property_text(P::AuthenticationMethod, self.authentication_method);
        out.property_binary(P::AuthenticationData, self.authentication_data);
    }
}

impl Body for ConnAck<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::ConnAck as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        let code = match version {
            Version::V31 | Version::V311 => ConnectReturnCode::from_reason(self.reason) as u8,
            Version::V5 => self.reason as u8,
        };
        let present = self.session_present && code == 0 && version != Version::V31;
        out.put_u8(u8::from(present));
        out.put_u8(code);
        put_properties(out, version, &self.properties);
    }
}

encoder_methods!(ConnAck);
