//! CONNECT, which clients write.

use crate::encode::sink::{PropertyList, Sink, put_properties};
use crate::encode::{Body, EncodeError, UserPropertyList, encoder_methods};
use crate::property::PropertyId;
use crate::types::{PacketType, PayloadFormat, QoS, Version};

/// A CONNECT packet to write. Its version is the one it is encoded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Connect<'a> {
    /// The client identifier.
    pub client_id: &'a str,
    /// Whether the session begins anew.
    pub clean_start: bool,
    /// The keep-alive time in seconds, 0 for none.
    pub keep_alive: u16,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password; before MQTT 5.0 not without a user name.
    pub password: Option<&'a [u8]>,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The properties, left out before MQTT 5.0.
    pub properties: ConnectProperties<'a>,
}

/// A will to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Will<'a> {
    /// The topic name; not empty.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The quality of service.
    pub qos: QoS,
    /// Whether the server retains the message.
    pub retain: bool,
    /// The properties, left out before MQTT 5.0.
    pub properties: WillProperties<'a>,
}

/// The properties of a will to write, section 3.1.3.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WillProperties<'a> {
    /// Seconds between the end of the connection and the will; 0 is not written.
    pub delay_interval: u32,
    /// What the payload is said to be.
    pub payload_format_indicator: Option<PayloadFormat>,
    /// Seconds the message lives.
    pub message_expiry_interval: Option<u32>,
    /// What the payload is.
    pub content_type: Option<&'a str>,
    /// Where to answer.
    pub response_topic: Option<&'a str>,
    /// What an answer is to repeat.
    pub correlation_data: Option<&'a [u8]>,
    /// The user properties.
    pub user_properties: UserPropertyList<'a>,
}

impl PropertyList for WillProperties<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        use PropertyId as P;
        let delay = Some(self.delay_interval).filter(|&delay| delay != 0);
        let format = self.payload_format_indicator.map(|format| format as u8);
        out.property_u32(P::WillDelayInterval, delay);
        out.property_u8(P::PayloadFormatIndicator, format);
        out.property_u32(P::MessageExpiryInterval, self.message_expiry_interval);
        out.property_text(P::ContentType, self.content_type);
        out.property_text(P::ResponseTopic, self.response_topic);
        out.property_binary(P::CorrelationData, self.correlation_data);
        out.user_properties(self.user_properties);
    }
}

/// The properties of a CONNECT to write, section 3.1.2.11. `None` is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectProperties<'a> {
    /// Seconds the session is to outlive the connection.
    pub session_expiry_interval: Option<u32>,
    /// How many QoS 1 and 2 messages the server may have in flight; not 0.
    pub receive_maximum: Option<u16>,
    /// The bytes of the largest packet; not 0.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias the server may use.
    pub topic_alias_maximum: Option<u16>,
    /// Whether response information is welcome.
    pub request_response_information: Option<bool>,
    /// Whether reason strings and user properties are welcome in every packet.
    pub request_problem_information: Option<bool>,
    /// The user properties.
    pub user_properties: UserPropertyList<'a>,
    /// The name of the extended authentication.
    pub authentication_method: Option<&'a str>,
    /// The data of the extended authentication; not without a method.
    pub authentication_data: Option<&'a [u8]>,
}

impl PropertyList for ConnectProperties<'_> {
    fn put<S: Sink>(&self, out: &mut S) {
        use PropertyId as P;
        if self.authentication_data.is_some() && self.authentication_method.is_none() {
            out.fail(EncodeError::AuthMethodMissing);
        }
        let receive_maximum = out.non_zero(self.receive_maximum);
        let maximum_packet_size = out.non_zero(self.maximum_packet_size);
        let bit = |flag: Option<bool>| flag.map(u8::from);
        out.property_u32(P::SessionExpiryInterval, self.session_expiry_interval);
        out.property_u16(P::ReceiveMaximum, receive_maximum);
        out.property_u32(P::MaximumPacketSize, maximum_packet_size);
        out.property_u16(P::TopicAliasMaximum, self.topic_alias_maximum);
        out.property_u8(
            P::RequestResponseInformation,
            bit(self.request_response_information),
        );
        out.property_u8(
            P::RequestProblemInformation,
            bit(self.request_problem_information),
        );
        out.user_properties(self.user_properties);
        out.property_text(P::AuthenticationMethod, self.authentication_method);
        out.property_binary(P::AuthenticationData, self.authentication_data);
    }
}

impl Connect<'_> {
    fn flags(&self) -> u8 {
        let will = self.will.map_or(0, |will| {
            0b0000_0100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5
        });
        will | u8::from(self.clean_start) << 1
            | u8::from(self.password.is_some()) << 6
            | u8::from(self.username.is_some()) << 7
    }
}

impl Body for Connect<'_> {
    fn first_byte(&self) -> u8 {
        (PacketType::Connect as u8) << 4
    }

    fn put<S: Sink>(&self, version: Version, out: &mut S) {
        if self.password.is_some() && self.username.is_none() && !version.has_properties() {
            out.fail(EncodeError::PasswordWithoutUserName);
        }
        out.put_text(version.protocol_name());
        out.put_u8(version.level());
        out.put_u8(self.flags());
        out.put_u16(self.keep_alive);
        put_properties(out, version, &self.properties);
        // The fields of the payload come in this order [MQTT-3.1.3-1].
        out.put_text(self.client_id);
        if let Some(will) = self.will {
            put_properties(out, version, &will.properties);
            if will.topic.is_empty() {
                out.fail(EncodeError::TopicEmpty);
            }
            out.put_text(will.topic);
            out.put_binary(will.payload);
        }
        if let Some(username) = self.username {
            out.put_text(username);
        }
        if let Some(password) = self.password {
            out.put_binary(password);
        }
    }
}

encoder_methods!(Connect);
