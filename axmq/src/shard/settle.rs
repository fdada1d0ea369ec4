//! PUBACK, PUBREC, PUBREL and PUBCOMP.

use mqtt_codec::{Ack, AckPacket, PacketId, PacketType, QoS, ReasonCode, Version};
use slabmem::Key;

use super::Core;
use super::journal::Waiter;
use crate::session::{AckKind, Flow, UnknownId};
use crate::store::op::Op;

/// Waiting messages that one acknowledgement lets out: more than one, so that a queue drains.
const SENT_AN_ACK: usize = 2;

/// Bytes of an acknowledgement in its short form, which says that all is well.
pub(super) const SHORT_ACK: usize = 4;
/// Acknowledgements that are queued as one frame.
const ROW: usize = 32;

/// The first byte of each.
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;

/// Acknowledgements in their short form that go out together. All versions have the same one.
#[derive(Debug)]
pub(super) struct AckRow {
    bytes: [u8; ROW * SHORT_ACK],
    len: usize,
}

impl AckRow {
    pub(super) fn new() -> Self {
        Self {
            bytes: [0; ROW * SHORT_ACK],
            len: 0,
        }
    }

    fn push(&mut self, head: u8, id: PacketId) {
        let [high, low] = id.get().to_be_bytes();
        let end = self.len + SHORT_ACK;
        if let Some(place) = self.bytes.get_mut(self.len..end) {
            place.copy_from_slice(&[head, 2, high, low]);
            self.len = end;
        }
    }

    /// Adds the acknowledgement of a PUBLISH.
    pub(super) fn acknowledge(&mut self, kind: AckKind, id: PacketId) {
        let head = match kind {
            AckKind::PubAck => PUBACK,
            AckKind::PubRec => PUBREC,
        };
        self.push(head, id);
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == self.bytes.len()
    }
}

impl<S> Core<S> {
    fn flow(&mut self, session: Key) -> Option<&mut Flow> {
        self.sessions.get_mut(session)?.flow.as_deref_mut()
    }

    fn flow_of(&mut self, key: Key) -> Option<(Key, &mut Flow)> {
        let session = self.connections.get(key)?.session;
        Some((session, self.flow(session)?))
    }

    /// A PUBACK. Returns whether it has settled a message: one for an id that waits for nothing is
    /// a repetition, and harmless.
    fn acknowledged(&mut self, session: Key, id: PacketId) -> bool {
        let flow = self.flow(session);
        let Some(queued) = flow.and_then(|it| it.outgoing.acknowledge(id, QoS::AtLeastOnce)) else {
            return false;
        };
        self.done_with(session, &queued);
        true
    }

    /// A PUBCOMP. Returns whether it has settled a message.
    fn completed(&mut self, session: Key, id: PacketId) -> bool {
        let flow = self.flow(session);
        let Some(number) = flow.and_then(|it| it.outgoing.complete(id)) else {
            return false;
        };
        self.note_completed(session, number);
        true
    }

    /// Takes the acknowledgements in their short form that stand at the beginning of `bytes`, up to
    /// `most`; how many they are. They come in rows, and cost this way a fraction of what they do
    /// one by one. What needs a closer look is left.
    pub(super) fn take_acks(
        &mut self,
        key: Key,
        session_key: Key,
        bytes: &[u8],
        most: usize,
    ) -> usize {
        let is_ack = matches!(bytes, [PUBACK | PUBREC | PUBREL | PUBCOMP, 2, ..]);
        if !is_ack || !self.tracers.is_empty() {
            return 0;
        }
        self.end_run();
        // Answers may have to wait for the store.
        let is_kept = self.holder(session_key) != 0;
        let mut row = AckRow::new();
        let (mut taken, mut settled) = (0, 0);
        for packet in bytes.chunks_exact(SHORT_ACK).take(most) {
            let &[head, 2, high, low] = packet else { break };
            // The codec says what is wrong with an id of 0.
            let Some(id) = PacketId::new(u16::from_be_bytes([high, low])) else {
                break;
            };
            match head {
                PUBACK => settled += usize::from(self.acknowledged(session_key, id)),
                PUBCOMP => settled += usize::from(self.completed(session_key, id)),
                PUBREC if !is_kept => {
                    let flow = self.flow(session_key);
                    let Some(Ok(queued)) = flow.map(|flow| flow.outgoing.receive(id)) else {
                        break;
                    };
                    if let Some(queued) = queued {
                        self.let_settled_go(&queued);
                    }
                    row.push(PUBREL, id);
                }
                PUBREL if !is_kept => {
                    let flow = self.flow(session_key);
                    if flow.and_then(|flow| flow.incoming.release(id)).is_none() {
                        break;
                    }
                    row.push(PUBCOMP, id);
                }
                _ => break,
            }
            taken += 1;
            if row.is_full() {
                self.send_row(key, &mut row);
            }
        }
        self.send_row(key, &mut row);
        self.counters.packets_received += taken as u64;
        self.counters.bytes_received += (taken * SHORT_ACK) as u64;
        if settled > 0 {
            self.drain(session_key, settled * SENT_AN_ACK);
        }
        taken
    }

    pub(super) fn send_row(&mut self, key: Key, row: &mut AckRow) {
        let len = std::mem::take(&mut row.len);
        let bytes = row.bytes.get(..len).unwrap_or_default();
        if !bytes.is_empty() {
            self.control(key, len, |out| out.copy_from_slice(bytes));
            self.counters.packets_sent += (len / SHORT_ACK - 1) as u64;
        }
    }

    pub(super) fn on_pub_ack(&mut self, key: Key, ack: &Ack<'_>) {
        let session = self.connections.get(key).map(|found| found.session);
        if let Some(session) = session
            && self.acknowledged(session, ack.packet_id())
        {
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
        let session = self.connections.get(key).map(|found| found.session);
        if let Some(session) = session
            && self.completed(session, ack.packet_id())
        {
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
