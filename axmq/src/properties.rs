//! The properties of a message as a program sees them: owned, decoded, checked when they are given.

use std::error::Error;
use std::fmt;

use mqtt_codec::{PayloadFormat, PropertyId, PublishProperties};
use topicmap::TopicError;

/// The longest text or binary value of a property, in bytes [MQTT-1.5.4-1, MQTT-1.5.6].
const VALUE_BYTES_MAX: usize = u16::MAX as usize;

/// What travels with a message from its publisher to its subscribers: the properties that MQTT 5.0
/// has the server pass on unchanged (section 3.3.2.3). Subscribers of older versions do not get
/// them.
///
/// ```
/// let properties = axmq::Properties {
///     content_type: Some("application/json".to_owned()),
///     user: vec![("origin".to_owned(), "line 4".to_owned())],
///     ..axmq::Properties::default()
/// };
/// assert!(!properties.is_empty());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// The payload is UTF-8 text, as far as its publisher says (payload format indicator 1).
    pub is_text: bool,
    /// What kind of payload it is, by convention a MIME type.
    pub content_type: Option<String>,
    /// Where to answer: a topic name.
    pub response_topic: Option<String>,
    /// What an answer is to repeat.
    pub correlation_data: Option<Vec<u8>>,
    /// Names and values of the publisher's own, in order. A name may repeat.
    pub user: Vec<(String, String)>,
}

/// Why a message cannot be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// The topic is not a legal topic name.
    Topic(TopicError),
    /// A text or a binary value is longer than 65,535 bytes, a text contains U+0000, or the
    /// response topic is empty or has a wildcard.
    Property,
    /// Topic, properties and payload together are more than a PUBLISH packet can hold, or more
    /// than the limit `packet_bytes`.
    TooLarge,
}

impl fmt::Display for InvalidMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(error) => write!(f, "the topic is not legal: {error}"),
            Self::Property => f.write_str("a property that no packet can carry"),
            Self::TooLarge => f.write_str("the message is larger than a packet may be"),
        }
    }
}

impl Error for InvalidMessage {}

impl Properties {
    /// Whether there is nothing to pass on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Those of a message; `raw` is what the codec has validated.
    pub(crate) fn decode(raw: &[u8]) -> Self {
        let view = PublishProperties::of_validated(raw);
        Self {
            is_text: view.payload_format_indicator() == Some(PayloadFormat::Utf8),
            content_type: view.content_type().map(str::to_owned),
            response_topic: view.response_topic().map(str::to_owned),
            correlation_data: view.correlation_data().map(<[u8]>::to_vec),
            user: view
                .user_properties()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// As they stand in a packet, without a length before them.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, InvalidMessage> {
        let mut out = Vec::new();
        if self.is_text {
            out.extend_from_slice(&[PropertyId::PayloadFormatIndicator as u8, 1]);
        }
        if let Some(text) = &self.content_type {
            out.push(PropertyId::ContentType as u8);
            put_text(&mut out, text)?;
        }
        if let Some(topic) = &self.response_topic {
            if topic.is_empty() || topic.contains(['+', '#']) {
                return Err(InvalidMessage::Property);
            }
            out.push(PropertyId::ResponseTopic as u8);
            put_text(&mut out, topic)?;
        }
        if let Some(data) = &self.correlation_data {
            out.push(PropertyId::CorrelationData as u8);
            put(&mut out, data)?;
        }
        for (name, value) in &self.user {
            out.push(PropertyId::UserProperty as u8);
            put_text(&mut out, name)?;
            put_text(&mut out, value)?;
        }
        Ok(out)
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), InvalidMessage> {
    if text.contains('\0') {
        return Err(InvalidMessage::Property);
    }
    put(out, text.as_bytes())
}

fn put(out: &mut Vec<u8>, value: &[u8]) -> Result<(), InvalidMessage> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(InvalidMessage::Property);
    }
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use mqtt_codec::{Packet, PublishHead, QoS, Role, Scan, Version};
    use proptest::prelude::*;

    use super::*;

    fn properties() -> impl Strategy<Value = Properties> {
        let text = || proptest::option::of("[^\u{0}]{0,20}");
        let topic = proptest::option::of("[a-z/]{1,9}");
        let data = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        let user = proptest::collection::vec(("[^\u{0}]{0,5}", "[^\u{0}]{0,5}"), 0..4);
        (any::<bool>(), text(), topic, data, user).prop_map(
            |(is_text, content_type, response_topic, correlation_data, user)| Properties {
                is_text,
                content_type,
                response_topic,
                correlation_data,
                user,
            },
        )
    }

    proptest! {
        /// What is encoded passes the codec's own check and is read back.
        #[test]
        fn a_packet_carries_them(properties in properties()) {
            let raw = properties.encode().expect("they are legal");
            let head = PublishHead {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: false,
                topic: "t",
                packet_id: None,
                message_expiry: None,
                subscription_ids: &[],
                topic_alias: None,
                pass_through: &raw,
                payload_len: 0,
            };
            let packet = head.encode_to_vec(Version::V5, &[]);
            let Ok(Scan::Frame(frame)) = mqtt_codec::scan(&packet, u32::MAX) else {
                panic!("a whole packet");
            };
            let decoded = mqtt_codec::decode(&packet, &frame, Version::V5, Role::Server);
            let Ok(Packet::Publish(publish)) = decoded else {
                panic!("{decoded:?}");
            };
            prop_assert_eq!(publish.properties().raw(), &raw[..]);
            prop_assert_eq!(Properties::decode(&raw), properties);
        }
    }

    #[test]
    fn what_no_packet_can_carry_is_refused() {
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        for wrong in [
            Properties {
                content_type: Some("a\0b".to_owned()),
                ..Properties::default()
            },
            Properties {
                response_topic: Some("a/+".to_owned()),
                ..Properties::default()
            },
            Properties {
                response_topic: Some(String::new()),
                ..Properties::default()
            },
            Properties {
                correlation_data: Some(long.clone().into()),
                ..Properties::default()
            },
            Properties {
                user: vec![(String::new(), long)],
                ..Properties::default()
            },
        ] {
            assert_eq!(wrong.encode(), Err(InvalidMessage::Property));
        }
    }
}
