//! What a client publishes, and what comes of it.

use std::num::NonZeroU16;

use mqtt_codec::{AckPacket, PacketType, PublishHead, QoS, ReasonCode, Version};

use super::{Client, Sent, packet_id};
use crate::sim::ledger::{Ledger, Message, Path, Sending, user_property};
use crate::sim::plan::{TOPICS_PLAIN, TOPICS_SHARED};
use crate::sim::report::Feature;
use crate::sim::{Check, World};

/// Publishes of a client that are not acknowledged, at most.
const WINDOW: usize = 12;

/// What hooks may do to a message; only the first two to one that is to be stored, so that the
/// books know the store.
const PATHS: [Path; 5] = [
    Path::Plain,
    Path::Edited,
    Path::Denied,
    Path::Discarded,
    Path::Refused,
];

/// A QoS 1 or 2 message on its way to the broker.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) id: u16,
    /// `None` is an empty one.
    message: Option<u32>,
    topic: usize,
    qos: u8,
    is_released: bool,
}

/// The bytes of a message: its number, and what fills them up.
pub(super) fn payload(message: u32, len: usize) -> Vec<u8> {
    let mut bytes = format!("{message};").into_bytes();
    bytes.resize(len.max(bytes.len()), b'x');
    bytes
}

pub(in crate::sim) fn number(payload: &[u8]) -> Option<u32> {
    let end = payload.iter().position(|byte| *byte == b';')?;
    std::str::from_utf8(&payload[..end]).ok()?.parse().ok()
}

impl Client {
    pub(super) fn publish_something(&mut self, w: &mut World) {
        let qos = w.random.weighted(&w.plan.qos) as u8;
        let is_for_group = w.plan.groups > 0 && w.random.one_in(4) != w.plan.keeps_sessions;
        let topic = if is_for_group {
            w.report.note(Feature::SharedPublished);
            w.ledger.topics.len() - 1 - w.random.below(TOPICS_SHARED.len())
        } else {
            w.random.below(TOPICS_PLAIN.len())
        };
        self.publish(w, topic, qos, false);
    }

    /// Messages that the broker may gather into a run, and some that are too large for one.
    pub(super) fn burst(&mut self, w: &mut World) {
        w.report.note(Feature::Burst);
        let topic = w.random.below(TOPICS_PLAIN.len());
        for _ in 0..2 + w.random.below(6) {
            self.publish(w, topic, 0, false);
        }
    }

    pub(super) fn publish_retained(&mut self, w: &mut World) {
        let n = w.random.below(w.plan.retained_topics);
        let topic = Ledger::retained_topic(&w.plan, self.me, n);
        if w.random.one_in(6) {
            self.clear_retained(w, topic);
        } else {
            let qos = w.random.weighted(&w.plan.qos) as u8;
            self.publish(w, topic, qos, true);
        }
    }

    fn has_window(&self) -> bool {
        self.conn.as_ref().is_some_and(|conn| {
            let most = usize::from(conn.server_receive_maximum).min(WINDOW);
            self.outgoing.len() < most && conn.unsent.len() < 16_384
        })
    }

    fn publish(&mut self, w: &mut World, topic: usize, qos: u8, retain: bool) {
        if !self.has_window() {
            return;
        }
        let is_v5 = self.version == Version::V5;
        let expires = is_v5 && w.random.below(100) < w.plan.expiries as usize;
        let r = &mut w.random;
        let expiry_s = expires.then(|| r.pick(&[1, 2, 5, 1_000_000]));
        let payload_len = if r.one_in(6) {
            r.below(w.plan.payload_max)
        } else {
            r.below(16)
        };
        let has_properties = is_v5 && r.one_in(4);
        let path = if w.plan.hooks.is_some() && r.one_in(6) {
            r.pick(if retain { &PATHS[..2] } else { &PATHS })
        } else {
            Path::Plain
        };
        w.report
            .add(Feature::EditedByHook, u64::from(path == Path::Edited));
        w.report.add(Feature::VoidByHook, u64::from(path.is_void()));
        w.report.note(match qos {
            0 => Feature::Qos0,
            1 => Feature::Qos1,
            _ => Feature::Qos2,
        });
        if expires {
            w.report.note(Feature::MessageExpiry);
        }
        let mut message = Message {
            publisher: self.me,
            topic,
            qos,
            retain,
            expiry_s,
            payload_len,
            has_properties,
            path,
            sent: w.tick,
            sent_ns: w.site.now_ns(),
            routed: None,
            routed_ns: 0,
            attempts: 0,
            will: None,
        };
        let number = w.ledger.messages.len() as u32;
        message.payload_len = payload(number, payload_len).len();
        let at = w.ledger.add(message);
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        if qos > 0 {
            self.outgoing.push_back(Outgoing {
                id,
                message: Some(at),
                topic,
                qos,
                is_released: false,
            });
        }
        self.transmit(w, at, id, false);
    }

    /// Puts a message on the wire.
    fn transmit(&mut self, w: &mut World, at: u32, id: u16, dup: bool) {
        let store = w.ledger.transmit(at, self.connections, w.tick);
        let message = w.ledger.message(at).clone();
        let payload = payload(at, message.payload_len);
        let (topic, alias) = if message.path == Path::Plain {
            self.alias(w, message.topic, dup)
        } else {
            (
                message.path.prefix().to_owned() + &w.ledger.topics[message.topic],
                None,
            )
        };
        let mut properties = Vec::new();
        if message.has_properties {
            let value = user_property(at);
            properties.extend_from_slice(&[0x26, 0, 1, b'k', 0, value.len() as u8]);
            properties.extend_from_slice(value.as_bytes());
        }
        let head = PublishHead {
            dup,
            qos: QoS::from_u8(message.qos).expect("a QoS"),
            retain: message.retain,
            topic: &topic,
            packet_id: (message.qos > 0).then(|| packet_id(id)),
            message_expiry: message.expiry_s,
            topic_alias: alias,
            pass_through: &properties,
            payload_len: payload.len(),
            ..PublishHead::default()
        };
        let bytes = head.encode_to_vec(self.version, &payload);
        let store = store.map(|place| (message.topic, place));
        self.send(w, &bytes, Some(Sent::Publish(Some(at), store, id)));
        if !dup
            && message.qos > 0
            && let Some(conn) = &mut self.conn
        {
            conn.first.push_back(id);
        }
    }

    /// The topic to write and the alias: a known one now and then stands for the topic.
    fn alias(&mut self, w: &mut World, topic: usize, dup: bool) -> (String, Option<NonZeroU16>) {
        let name = w.ledger.topics[topic].clone();
        let Some(conn) = self
            .conn
            .as_mut()
            .filter(|conn| !conn.aliases.is_empty() && !dup)
        else {
            return (name, None);
        };
        if let Some(at) = conn.aliases.iter().position(|known| *known == Some(topic)) {
            w.report.note(Feature::TopicAlias);
            return (String::new(), NonZeroU16::new(at as u16 + 1));
        }
        if !w.random.one_in(4) {
            return (name, None);
        }
        let at = w.random.below(conn.aliases.len());
        conn.aliases[at] = Some(topic);
        (name, NonZeroU16::new(at as u16 + 1))
    }

    fn clear_retained(&mut self, w: &mut World, topic: usize) {
        if !self.has_window() {
            return;
        }
        w.report.note(Feature::RetainedCleared);
        let qos = w.random.below(3) as u8;
        let id = if qos > 0 { self.fresh_id() } else { 0 };
        if qos > 0 {
            self.outgoing.push_back(Outgoing {
                id,
                message: None,
                topic,
                qos,
                is_released: false,
            });
        }
        let place = w.ledger.clear(topic, self.sending(w, qos, false));
        self.transmit_clear(w, topic, place, qos, id, false);
    }

    fn transmit_clear(
        &mut self,
        w: &World,
        topic: usize,
        place: usize,
        qos: u8,
        id: u16,
        dup: bool,
    ) {
        let head = PublishHead {
            dup,
            qos: QoS::from_u8(qos).expect("a QoS"),
            retain: true,
            topic: &w.ledger.topics[topic],
            packet_id: (qos > 0).then(|| packet_id(id)),
            ..PublishHead::default()
        };
        let bytes = head.encode_to_vec(self.version, &[]);
        self.send(
            w,
            &bytes,
            Some(Sent::Publish(None, Some((topic, place)), id)),
        );
        if !dup
            && qos > 0
            && let Some(conn) = &mut self.conn
        {
            conn.first.push_back(id);
        }
    }

    /// The client's side of [MQTT-4.4.0-1].
    pub(super) fn resend(&mut self, w: &mut World) {
        for outgoing in self.outgoing.clone() {
            w.report.note(Feature::ResentByClient);
            if outgoing.is_released {
                self.send_ack(w, PacketType::PubRel, outgoing.id);
                continue;
            }
            match outgoing.message {
                Some(at) => self.transmit(w, at, outgoing.id, true),
                None => {
                    let Outgoing { id, topic, qos, .. } = outgoing;
                    let place = w.ledger.clear(topic, self.sending(w, qos, true));
                    self.transmit_clear(w, topic, place, qos, id, true);
                }
            }
            if outgoing.qos == 1
                && let Some(conn) = &mut self.conn
            {
                conn.again.push_back(outgoing.id);
            }
        }
    }

    fn sending(&self, w: &World, qos: u8, is_repeated: bool) -> Sending {
        Sending {
            qos,
            connection: self.connections,
            tick: w.tick,
            is_repeated,
        }
    }

    pub(super) fn send_ack(&mut self, w: &World, packet_type: PacketType, id: u16) {
        self.send_ack_with(w, packet_type, id, ReasonCode::Success);
    }

    pub(super) fn send_ack_with(
        &mut self,
        w: &World,
        packet_type: PacketType,
        id: u16,
        reason: ReasonCode,
    ) {
        let packet = AckPacket::new(packet_type, packet_id(id), reason);
        let bytes = packet.encode_to_vec(self.version);
        self.send(w, &bytes, None);
    }

    /// PUBACK or PUBREC.
    pub(super) fn on_ack(&mut self, w: &mut World, qos: u8, id: u16, reason: ReasonCode) -> Check {
        let Some(at) = self.outgoing.iter().position(|outgoing| outgoing.id == id) else {
            return Err(format!(
                "an acknowledgement of {id}, which nothing waits for"
            ));
        };
        let outgoing = &mut self.outgoing[at];
        check!(
            outgoing.qos == qos && !outgoing.is_released,
            "an acknowledgement of the wrong kind for {id}"
        );
        outgoing.is_released = true;
        let message = outgoing.message;
        let path = message.map_or(Path::Plain, |at| w.ledger.message(at).path);
        let expected = match path {
            Path::Denied if self.version == Version::V5 => ReasonCode::NotAuthorized,
            Path::Refused if self.version == Version::V5 => ReasonCode::QuotaExceeded,
            _ => ReasonCode::Success,
        };
        check!(
            reason == expected,
            "the acknowledgement of {id} says {reason:?}, not {expected:?}"
        );
        // A PUBREC that refuses ends the exchange.
        let is_over = qos == 1 || reason.is_error();
        if is_over {
            self.outgoing.remove(at);
        }
        if let Some(conn) = &mut self.conn {
            for sent in [&mut conn.first, &mut conn.again] {
                let Some(at) = sent.iter().position(|sent| *sent == id) else {
                    continue;
                };
                check!(
                    at == 0,
                    "the acknowledgement of {id} has overtaken an older one"
                );
                sent.pop_front();
            }
        }
        w.routed(message, None);
        let is_it = |sent: &Sent| matches!(sent, Sent::Publish(_, _, sent) if *sent == id);
        if self
            .conn
            .as_ref()
            .is_some_and(|conn| conn.sent.iter().any(|(sent, _)| is_it(sent)))
        {
            // Else a later packet has been answered before: this one waited for other shards.
            self.answered(w, is_it, "an acknowledgement")?;
        }
        if !is_over {
            self.send_ack(w, PacketType::PubRel, id);
        }
        Ok(())
    }

    pub(super) fn on_pubcomp(&mut self, id: u16) -> Check {
        let at = self
            .outgoing
            .iter()
            .position(|outgoing| outgoing.id == id && outgoing.is_released);
        let Some(at) = at else {
            return Err(format!("PUBCOMP {id}, which nothing waits for"));
        };
        self.outgoing.remove(at);
        Ok(())
    }
}
