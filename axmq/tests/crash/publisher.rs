//! A client that publishes, remembers what is not acknowledged, and says it again.

use std::collections::VecDeque;
use std::time::Instant;

use mqtt_codec::{PacketId, PacketType, PublishHead, QoS};

use crate::Check;
use crate::ledger::{Ledger, Purpose, Sent};
use crate::link::Client;

/// Messages that are not acknowledged.
const WINDOW: usize = 16;

struct Flight {
    id: PacketId,
    stream: usize,
    number: usize,
    /// PUBREC has come.
    is_released: bool,
}

pub(crate) struct Publisher {
    pub(crate) client: Client,
    pub(crate) streams: Vec<usize>,
    flights: VecDeque<Flight>,
    /// Uses the lowest packet id that is free, rather than all in turn.
    pub(crate) reuses_ids: bool,
    next_id: u16,
}

impl Publisher {
    pub(crate) fn new(client: Client, streams: Vec<usize>, reuses_ids: bool) -> Self {
        Self {
            client,
            streams,
            flights: VecDeque::new(),
            reuses_ids,
            next_id: 1,
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.client.is_up && self.flights.len() < WINDOW
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    fn free_id(&mut self) -> PacketId {
        if self.reuses_ids {
            self.next_id = 1;
        }
        loop {
            let id = PacketId::new(self.next_id).expect("it is never 0");
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            if self.flights.iter().all(|flight| flight.id != id) {
                return id;
            }
        }
    }

    /// The next message of a stream.
    pub(crate) fn publish(&mut self, ledger: &mut Ledger, stream: usize, is_removal: bool) {
        let id = self.free_id();
        let sent = &mut ledger.streams[stream].sent;
        sent.push(Sent {
            said_first_at: Instant::now(),
            acked_at: None,
            is_removal,
        });
        self.flights.push_back(Flight {
            id,
            stream,
            number: sent.len() - 1,
            is_released: false,
        });
        self.say(ledger, self.flights.len() - 1, false);
    }

    fn say(&mut self, ledger: &Ledger, at: usize, dup: bool) {
        let flight = &self.flights[at];
        let stream = &ledger.streams[flight.stream];
        let payload = ledger.payload(flight.stream, flight.number);
        let head = PublishHead {
            dup,
            topic: &stream.topic,
            qos: stream.qos,
            retain: stream.purpose == Purpose::Retain,
            packet_id: Some(flight.id),
            payload_len: payload.len(),
            ..PublishHead::default()
        };
        self.client
            .say(&head.encode_to_vec(self.client.version, &payload));
    }

    /// It has a connection again [MQTT-4.4.0-1].
    pub(crate) fn accepted(&mut self, ledger: &Ledger) {
        for at in 0..self.flights.len() {
            if self.flights[at].is_released {
                let id = self.flights[at].id;
                self.client.acknowledge(PacketType::PubRel, id);
            } else {
                self.say(ledger, at, true);
            }
        }
    }

    pub(crate) fn acknowledged(
        &mut self,
        ledger: &mut Ledger,
        (kind, id, reason): (PacketType, PacketId, u8),
        at: Instant,
    ) -> Check<()> {
        let name = &self.client.name;
        let found = self.flights.iter().position(|flight| flight.id == id);
        let Some(index) = found else {
            return Err(format!("{name}: {kind:?} for {id}, which is free"));
        };
        let flight = &mut self.flights[index];
        let stream = &mut ledger.streams[flight.stream];
        // The broker may have forgotten in the meantime what is to be released: 0x92.
        if reason >= 0x80 && kind != PacketType::PubComp {
            return Err(format!("{name}: {} is refused: {reason:#x}", stream.topic));
        }
        let is_due = match (stream.qos, kind) {
            (QoS::AtLeastOnce, PacketType::PubAck) | (QoS::ExactlyOnce, PacketType::PubRec) => true,
            (QoS::ExactlyOnce, PacketType::PubComp) => flight.is_released,
            _ => false,
        };
        if !is_due {
            return Err(format!("{name}: {kind:?} for {id} is out of order"));
        }
        stream.sent[flight.number].acked_at.get_or_insert(at);
        if kind == PacketType::PubRec {
            flight.is_released = true;
            self.client.acknowledge(PacketType::PubRel, id);
        } else {
            self.flights.remove(index);
        }
        Ok(())
    }
}
