//! Bytes come in: packets are found, decoded and acted on, within the budget.

use std::ops::Range;

use mqtt_codec::{Packet, PacketType, ReasonCode, Role, Scan, Version};
use sharedbuf::ReadBlock;
use slabmem::Key;

use super::Core;
use super::connection::{Partial, flag};
use super::settle::SHORT_ACK;
use crate::events::Cause;

/// Boxes for incomplete packets that are kept for the next one.
const PARTIALS_SPARE: usize = 64;
/// The largest of them.
const PARTIAL_BYTES_SPARE: usize = 64 * 1_024;

/// A packet in the budget of a turn. Acknowledgements count less, as they cost less: a subscriber
/// has to be able to acknowledge in a turn what a hundred publishers send in it, or what is in
/// flight grows to its limit, and then each message waits in a queue first.
pub(super) const PACKET: usize = 16;
/// A PUBACK, PUBREC, PUBREL or PUBCOMP by itself.
const ACK: usize = 4;
/// One of a row.
const ACK_OF_ROW: usize = 1;

fn cost(packet: PacketType) -> usize {
    match packet {
        PacketType::PubAck | PacketType::PubRec | PacketType::PubRel | PacketType::PubComp => ACK,
        _ => PACKET,
    }
}

/// Why parsing stopped.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Next {
    /// The packet at the end is not whole; its length, where that is known.
    Incomplete { total: Option<usize> },
    /// There may be whole packets left for the next turn.
    Budget,
    /// Reading is stopped by back-pressure; there may be whole packets left.
    Paused,
    /// The connection takes no more input.
    Closed,
}

/// How far [`Core::receive`] came.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Input {
    /// End of what was used, as an offset in the block.
    pub(crate) used_to: usize,
    pub(crate) next: Next,
}

impl<S> Core<S> {
    /// Handles the packets that stand at `range` of `block`, while there is something left of
    /// `budget`, of which each takes up to [`PACKET`].
    pub(crate) fn receive(
        &mut self,
        key: Key,
        block: &ReadBlock,
        range: Range<usize>,
        budget: &mut usize,
    ) -> Input {
        let input = self.receive_packets(key, block, range, budget);
        self.felt_pressure = false;
        self.end_run();
        self.settle_due();
        if self.felt_pressure {
            self.pause(key);
        }
        input
    }

    fn receive_packets(
        &mut self,
        key: Key,
        block: &ReadBlock,
        range: Range<usize>,
        budget: &mut usize,
    ) -> Input {
        let Range { start: mut at, end } = range;
        let is_swamped = self.is_swamped();
        loop {
            let Some(connection) = self.connections.get(key) else {
                return Input {
                    used_to: end,
                    next: Next::Closed,
                };
            };
            if !connection.is_connected() {
                return Input {
                    used_to: end,
                    next: Next::Closed,
                };
            }
            if connection.has(flag::PAUSED) || self.awaits_suback(key) {
                if let Some(connection) = self.connections.get_mut(key) {
                    connection.set(flag::PAUSED);
                }
                return Input {
                    used_to: at,
                    next: Next::Paused,
                };
            }
            if *budget == 0 {
                return Input {
                    used_to: at,
                    next: Next::Budget,
                };
            }
            let (version, session) = (connection.version, connection.session);
            let bytes = block.filled().get(at..end).unwrap_or_default();
            let taken = self.take_acks(key, session, bytes, budget.div_ceil(ACK_OF_ROW));
            if taken > 0 {
                *budget = budget.saturating_sub(taken * ACK_OF_ROW);
                at += taken * SHORT_ACK;
                self.hold_back(key);
                continue;
            }
            let frame = match mqtt_codec::scan(bytes, self.shared.limits.packet_bytes) {
                Ok(Scan::Frame(frame)) => frame,
                Ok(Scan::Incomplete { total, .. }) => {
                    return Input {
                        used_to: at,
                        next: Next::Incomplete { total },
                    };
                }
                Err(error) => {
                    self.close(key, Cause::Protocol(error));
                    continue;
                }
            };
            let packet = bytes.get(..frame.total_len).unwrap_or_default();
            let decoded = mqtt_codec::decode(packet, &frame, version, Role::Server);
            if is_swamped
                && let Ok(packet) = &decoded
                && self.has_to_wait(key, packet)
            {
                self.pause(key);
                return Input {
                    used_to: at,
                    next: Next::Paused,
                };
            }
            *budget = budget.saturating_sub(cost(frame.packet_type));
            self.counters.packets_received += 1;
            self.counters.bytes_received += packet.len() as u64;
            match decoded {
                Ok(packet) => self.handle(key, block, at..at + frame.total_len, &packet),
                Err(error) => self.close(key, Cause::Protocol(error)),
            }
            at += frame.total_len;
            self.hold_back(key);
        }
    }

    fn handle<'a>(
        &mut self,
        key: Key,
        block: &'a ReadBlock,
        range: Range<usize>,
        packet: &Packet<'a>,
    ) {
        if !matches!(packet, Packet::Publish(_)) {
            self.end_run();
        }
        if !self.tracers.is_empty() {
            self.trace_in(key, packet);
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(key, block, range, publish),
            Packet::PubAck(ack) => self.on_pub_ack(key, ack),
            Packet::PubRec(ack) => self.on_pub_rec(key, ack),
            Packet::PubRel(ack) => self.on_pub_rel(key, ack),
            Packet::PubComp(ack) => self.on_pub_comp(key, ack),
            Packet::Subscribe(subscribe) => self.on_subscribe(key, subscribe),
            Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(key, unsubscribe),
            Packet::PingReq => {
                let pong = mqtt_codec::PING_RESP;
                self.control(key, pong.len(), |out| out.copy_from_slice(&pong));
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(key, disconnect),
            Packet::Connect(_) => self.violation(
                key,
                ReasonCode::ProtocolError,
                "MQTT-3.1.0-2",
                "a second CONNECT on one connection",
            ),
            Packet::Auth(auth) => self.on_auth(key, auth),
            // The codec refuses these from a client; a mistake there must not pass unseen.
            _ => self.violation(
                key,
                ReasonCode::ProtocolError,
                "MQTT-4.8.0-1",
                "a packet that only servers send",
            ),
        }
    }

    /// Stops reading from a client that lets its answers pile up.
    fn hold_back(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let soft = self.shared.limits.out_queue_soft_bytes as usize;
        let session = connection.session;
        if (connection.out.bytes() >= soft && !connection.has(flag::HUNG_UP))
            || (connection.has(flag::PUBLISHER) && self.acknowledgements_are_full(session))
        {
            self.pause(key);
        }
    }

    fn on_disconnect(&mut self, key: Key, packet: &mqtt_codec::Disconnect<'_>) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let (session_key, version) = (connection.session, connection.version);
        if version == Version::V5
            && let Some(expiry_s) = packet.session_expiry_interval()
        {
            let rules = connection.rules();
            let expiry_s = expiry_s
                .min(self.shared.limits.session_expiry_max_s)
                .min(rules.map_or(u32::MAX, |rules| rules.session_expiry_max_s));
            let Some(session) = self.sessions.get_mut(session_key) else {
                return;
            };
            if session.expiry_s == 0 && expiry_s != 0 {
                self.violation(
                    key,
                    ReasonCode::ProtocolError,
                    "MQTT-3.14.2-2",
                    "a session expiry in DISCONNECT where CONNECT had none",
                );
                return;
            }
            session.expiry_s = expiry_s;
        }
        self.close(key, Cause::ClientDisconnected(packet.reason()));
    }

    /// Keeps a packet that has a block of its own and is not whole.
    pub(crate) fn keep_block(&mut self, key: Key, block: ReadBlock) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.is_connected()
        {
            connection.partial = Some(Box::new(Partial::Large(block)));
        }
    }

    /// Keeps a copy of a packet that is not whole, or of packets that had to wait.
    pub(crate) fn keep_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.is_connected() {
            return;
        }
        let mut partial = self
            .partials
            .pop()
            .unwrap_or_else(|| Box::new(Partial::Small(Vec::new())));
        if let Partial::Small(buffer) = &mut *partial {
            buffer.extend_from_slice(bytes);
        }
        connection.partial = Some(partial);
    }

    /// What was kept, if it is a block of its own.
    pub(crate) fn take_block(&mut self, key: Key) -> Option<ReadBlock> {
        let partial = &mut self.connections.get_mut(key)?.partial;
        match *partial.take_if(|partial| matches!(**partial, Partial::Large(_)))? {
            Partial::Large(block) => Some(block),
            Partial::Small(_) => None,
        }
    }

    /// Bytes that were kept by copy.
    pub(crate) fn kept_bytes(&self, key: Key) -> &[u8] {
        match self
            .connections
            .get(key)
            .and_then(|connection| connection.partial.as_deref())
        {
            Some(Partial::Small(bytes)) => bytes,
            Some(Partial::Large(_)) | None => &[],
        }
    }

    /// Lets go of the bytes that were kept by copy; the box is used again.
    pub(crate) fn drop_bytes(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(mut partial) = connection.partial.take() else {
            return;
        };
        if let Partial::Small(bytes) = &mut *partial
            && self.partials.len() < PARTIALS_SPARE
            && bytes.capacity() <= PARTIAL_BYTES_SPARE
        {
            bytes.clear();
            self.partials.push(partial);
        }
    }
}
