//! A message on its way through `on_publish`.

use std::fmt;

use mqtt_codec::QoS;
use topicmap::{Limits, Topic};

use crate::properties::{InvalidMessage, Properties};
use crate::publication::{Parts, Publication, View};

/// A message that a client publishes, before it is routed. What is not edited is borrowed and costs
/// nothing; an edit copies the message once.
pub struct Draft<'a> {
    view: &'a View<'a>,
    limits: &'a Limits,
    now_ms: u64,
    is_will: bool,
    edits: Edits,
}

#[derive(Default)]
struct Edits {
    topic: Option<String>,
    payload: Option<Vec<u8>>,
    properties: Option<Vec<u8>>,
    qos: Option<QoS>,
    retain: Option<bool>,
    expires_at_ms: Option<u64>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(view: &'a View<'a>, limits: &'a Limits, now_ms: u64, is_will: bool) -> Self {
        Self {
            view,
            limits,
            now_ms,
            is_will,
            edits: Edits::default(),
        }
    }

    /// The topic name; that of an alias, where the client used one.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.edits
            .topic
            .as_deref()
            .unwrap_or_else(|| self.view.topic())
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.edits
            .payload
            .as_deref()
            .unwrap_or_else(|| self.view.payload())
    }

    /// The quality of service.
    #[must_use]
    pub fn qos(&self) -> QoS {
        self.edits.qos.unwrap_or_else(|| self.view.qos())
    }

    /// Whether it is to be retained.
    #[must_use]
    pub fn retain(&self) -> bool {
        self.edits.retain.unwrap_or_else(|| self.view.retain())
    }

    /// Whether it is a will.
    #[must_use]
    pub fn is_will(&self) -> bool {
        self.is_will
    }

    /// The seconds after which nobody gets it any more, rounded up.
    #[must_use]
    pub fn expiry_s(&self) -> Option<u32> {
        match self.edits.expires_at_ms {
            None => self.view.expiry_left_s(self.now_ms),
            Some(0) => None,
            Some(at_ms) => {
                let left_ms = at_ms.saturating_sub(self.now_ms);
                Some(u32::try_from(left_ms.div_ceil(1_000)).unwrap_or(u32::MAX))
            }
        }
    }

    /// The properties, decoded. Allocates.
    #[must_use]
    pub fn properties(&self) -> Properties {
        let raw = self.edits.properties.as_deref();
        Properties::decode(raw.unwrap_or_else(|| self.view.properties()))
    }

    /// Sends the message to another topic: it is routed there, and [`Authorize`](super::Authorize)
    /// is not asked again.
    ///
    /// # Errors
    ///
    /// Where it is not a legal topic name; then nothing is changed.
    pub fn set_topic(&mut self, topic: impl Into<String>) -> Result<(), InvalidMessage> {
        let topic = topic.into();
        Topic::parse(&topic, self.limits).map_err(InvalidMessage::Topic)?;
        self.edits.topic = Some(topic);
        Ok(())
    }

    /// Replaces the payload. One that no packet can hold is delivered to nobody and counted as too
    /// large.
    pub fn set_payload(&mut self, payload: impl Into<Vec<u8>>) {
        self.edits.payload = Some(payload.into());
    }

    /// Changes the quality of service at which it is delivered. The publisher gets the
    /// acknowledgements of the one that it used.
    pub fn set_qos(&mut self, qos: QoS) {
        self.edits.qos = Some(qos);
    }

    /// Changes whether it is retained.
    pub fn set_retain(&mut self, retain: bool) {
        self.edits.retain = Some(retain);
    }

    /// Changes after how many seconds nobody gets it any more; `None` is never.
    pub fn set_expiry_s(&mut self, expiry_s: Option<u32>) {
        let at_ms = expiry_s.map_or(0, |seconds| {
            (self.now_ms + u64::from(seconds) * 1_000).max(1)
        });
        self.edits.expires_at_ms = Some(at_ms);
    }

    /// Replaces the properties.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage::Property`]; then nothing is changed.
    pub fn set_properties(&mut self, properties: &Properties) -> Result<(), InvalidMessage> {
        self.edits.properties = Some(properties.encode()?);
        Ok(())
    }

    /// The message as edited; `None` where it is as it was.
    pub(crate) fn into_edited(self) -> Option<Publication> {
        let Edits {
            topic,
            payload,
            properties,
            qos,
            retain,
            expires_at_ms,
        } = self.edits;
        let is_edited = topic.is_some()
            || payload.is_some()
            || properties.is_some()
            || qos.is_some()
            || retain.is_some()
            || expires_at_ms.is_some();
        let view = self.view;
        is_edited.then(|| {
            let parts = Parts {
                topic: topic.as_deref().unwrap_or_else(|| view.topic()),
                properties: std::iter::once(
                    properties.as_deref().unwrap_or_else(|| view.properties()),
                ),
                payload: payload.as_deref().unwrap_or_else(|| view.payload()),
                qos: qos.unwrap_or_else(|| view.qos()),
                retain: retain.unwrap_or_else(|| view.retain()),
                expires_at_ms: expires_at_ms.unwrap_or_else(|| view.expires_at_ms()),
            };
            Publication::from_parts(parts, view.source)
        })
    }
}

impl fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft")
            .field("topic", &self.topic())
            .field("qos", &self.qos())
            .field("retain", &self.retain())
            .field("is_will", &self.is_will)
            .field("payload_len", &self.payload().len())
            .finish_non_exhaustive()
    }
}
