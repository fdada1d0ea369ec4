//! A client that receives: its half of QoS 1 and 2, and acknowledgements that it keeps back.

use std::collections::{HashMap, VecDeque};

use mqtt_codec::{PacketId, PacketType, QoS};

use crate::Check;
use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::link::{Client, Message};

pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    /// QoS 2 messages that were received and not released.
    received: HashMap<PacketId, (usize, usize)>,
    owed: VecDeque<(PacketType, PacketId)>,
}

/// A message that has not been received before, as far as this client can tell.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: usize,
    pub(crate) number: usize,
    pub(crate) qos: QoS,
}

impl Subscriber {
    pub(crate) fn new(client: Client, filter: &str, qos: QoS) -> Self {
        Self {
            client,
            filter: filter.to_owned(),
            qos,
            received: HashMap::new(),
            owed: VecDeque::new(),
        }
    }

    /// What it owes on a connection that has ended is not owed any more [MQTT-4.4.0-1].
    pub(crate) fn forget_owed(&mut self) {
        self.owed.clear();
    }

    /// Takes in a message.
    pub(crate) fn hears(&mut self, ledger: &Ledger, message: &Message) -> Check<Option<Arrival>> {
        let (stream, number) = ledger.recognize(&message.topic, &message.payload)?;
        let is_due = message.qos == self.qos.min(ledger.streams[stream].qos);
        let (Some(id), true) = (message.id, is_due) else {
            return Err(format!(
                "{}: {} at {:?}",
                self.client.name, message.topic, message.qos
            ));
        };
        let arrival = Arrival {
            stream,
            number,
            qos: message.qos,
        };
        if message.qos == QoS::AtLeastOnce {
            self.owed.push_back((PacketType::PubAck, id));
            return Ok(Some(arrival));
        }
        self.owed.push_back((PacketType::PubRec, id));
        match self.received.insert(id, (stream, number)) {
            None => Ok(Some(arrival)),
            Some(before) if before == (stream, number) => Ok(None),
            // A client that goes by the packet id would take it for that one, and lose it.
            Some((old, n)) => Err(format!(
                "{}: {} {number} comes as {id}, by which {} {n} came, which was not released",
                self.client.name, message.topic, ledger.streams[old].topic
            )),
        }
    }

    /// PUBREL: the message that it releases.
    pub(crate) fn released(&mut self, id: PacketId) -> Option<(usize, usize)> {
        self.owed.push_back((PacketType::PubComp, id));
        self.received.remove(&id)
    }

    pub(crate) fn acknowledge_all(&mut self) {
        self.acknowledge(usize::MAX);
    }

    /// Some of what it owes, the oldest first.
    pub(crate) fn acknowledge_some(&mut self, dice: &mut Dice) {
        let most = dice.below(self.owed.len() + 1);
        self.acknowledge(most);
    }

    fn acknowledge(&mut self, most: usize) {
        if !self.client.is_up {
            return;
        }
        for (kind, id) in self.owed.drain(..most.min(self.owed.len())) {
            self.client.acknowledge(kind, id);
        }
    }
}
