//! PUBACK, PUBREC, PUBREL and PUBCOMP.

use mqtt_codec::{Ack, AckPacket, PacketId, PacketType, QoS, ReasonCode, Version};
use slabmem::Key;

use super::Core;
use super::journal::Waiter;
use crate::session::{Flow, UnknownId};
use crate::store::op::Op;

/// Waiting messages that one acknowledgement lets out: more than one, so that a queue drains.
const SENT_AN_ACK: usize = 2;

impl<S> Core<S> {
    fn flow_of(&mut self, key: Key) -> Option<(Key, &mut Flow)> {
        let session_key = self.connections.get(key)?.session;
        let session = self.sessions.get_mut(session_key)?;
        Some((session_key, session.flow.as_deref_mut()?))
    }

    pub(super) fn on_pub_ack(&mut self, key: Key, ack: &Ack<'_>) {
        let Some((session, flow)) = self.flow_of(key) else {
            return;
        };
        // An id that waits for nothing is an acknowledgement of something settled: harmless.
        if let Some(queued) = flow.outgoing.acknowledge(ack.packet_id(), QoS::AtLeastOnce) {
            self.done_with(session, &queued);
            self.drain(session, SENT_AN_ACK);
        }
    }

    pub(super) fn on_pub_rec(&mut self, key: Key, ack: &Ack<'_>) {
        let id = ack.packet_id();
        let Some((session, flow)) = self.flow_of(key) else {
            self.ack(
                key,
                PacketType::PubRel,
                id,
                ReasonCode::PacketIdentifierNotFound,
            );
            return;
        };
        // 0x80 and above ends the exchange [MQTT-4.3.3-5].
        if ack.reason() as u8 >= 0x80 {
            if let Some(queued) = flow.outgoing.acknowledge(id, QoS::ExactlyOnce) {
                self.done_with(session, &queued);
                self.drain(session, SENT_AN_ACK);
            }
            return;
        }
        match flow.outgoing.receive(id) {
            Ok(queued) => {
                let durability = queued
                    .as_ref()
                    .and_then(|queued| self.durability_of(queued));
                if let Some(queued) = queued {
                    self.note_received(session, &queued);
                    self.let_settled_go(&queued);
                }
                let waits = self.step_waits(session, durability);
                self.ack_durably(key, waits, PacketType::PubRel, id);
            }
            Err(UnknownId) => {
                self.ack(
                    key,
                    PacketType::PubRel,
                    id,
                    ReasonCode::PacketIdentifierNotFound,
                );
            }
        }
    }

    pub(super) fn on_pub_rel(&mut self, key: Key, ack: &Ack<'_>) {
        let id = ack.packet_id();
        let released = self
            .flow_of(key)
            .and_then(|(session, flow)| Some((session, flow.incoming.release(id)?)));
        let Some((session, durability)) = released else {
            self.complete_unknown(key, id);
            return;
        };
        let holder = self.holder(session);
        if holder != 0 {
            self.journal.push(Op::Forget {
                holder,
                packet_id: id,
            });
        }
        let waits = self.step_waits(session, durability);
        self.ack_durably(key, waits, PacketType::PubComp, id);
    }

    /// Says that a PUBREL releases nothing. It may repeat one whose PUBCOMP was lost with its
    /// connection: until that one is durable, its client must not use the id for another message,
    /// or a crash would make it a repetition of the old one.
    fn complete_unknown(&mut self, key: Key, packet_id: PacketId) {
        let session = self.connections.get(key).map(|found| found.session);
        if session.is_some_and(|session| self.step_waits(session, None)) {
            let waiter = Waiter::Ack(key, PacketType::PubComp, packet_id);
            self.journal.wait(waiter);
        } else {
            let reason = ReasonCode::PacketIdentifierNotFound;
            self.ack(key, PacketType::PubComp, packet_id, reason);
        }
    }

    pub(super) fn on_pub_comp(&mut self, key: Key, ack: &Ack<'_>) {
        let Some((session, flow)) = self.flow_of(key) else {
            return;
        };
        if let Some(number) = flow.outgoing.complete(ack.packet_id()) {
            self.note_completed(session, number);
            self.drain(session, SENT_AN_ACK);
        }
    }

    /// Sends one of the four.
    pub(super) fn ack(
        &mut self,
        key: Key,
        packet_type: PacketType,
        packet_id: PacketId,
        reason: ReasonCode,
    ) {
        let Some(version) = self.version(key) else {
            return;
        };
        let reason = if version == Version::V5 {
            reason
        } else {
            ReasonCode::Success
        };
        let packet = AckPacket::new(packet_type, packet_id, reason);
        self.control(key, packet.encoded_len(version), |out| {
            packet.encode(version, out);
        });
    }
}
