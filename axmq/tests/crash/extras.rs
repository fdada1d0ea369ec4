//! Retained messages, and subscriptions that come and go: what of them is there after a start.

use std::time::Instant;

use mqtt_codec::{PacketId, PacketType, PublishHead, QoS};

use crate::Check;
use crate::dice::Dice;
use crate::ledger::{Judge, Ledger, Purpose, Sent};
use crate::link::{Client, Message};

pub(crate) const ALL_RETAINED: &str = "r/#";
/// Filters that a wanderer has or has not.
pub(crate) const FILTERS: usize = 6;

pub(crate) fn id(n: usize) -> PacketId {
    PacketId::new(u16::try_from(n).expect("few ids are used")).expect("not zero")
}

/// Subscribes after each start, before anybody publishes, and sees what is retained.
pub(crate) struct Observer {
    pub(crate) client: Client,
    /// The SUBACK has come.
    pub(crate) is_ready: bool,
    topics: Vec<Topic>,
}

/// What is known of what is retained on one topic, by the numbers of its stream.
#[derive(Clone, Debug, Default)]
struct Topic {
    /// Was retained at some time, for certain.
    certain: usize,
    /// When the broker had started, this one was retained or a later one.
    oldest: usize,
    /// Something was, in any case.
    is_due: bool,
}

impl Observer {
    pub(crate) fn new(client: Client, ledger: &Ledger) -> Self {
        Self {
            client,
            is_ready: false,
            topics: vec![Topic::default(); ledger.streams.len()],
        }
    }

    /// The broker has started, and no publisher has come yet.
    pub(crate) fn begin(&mut self, ledger: &Ledger, judge: &Judge) {
        self.is_ready = false;
        for (topic, stream) in self.topics.iter_mut().zip(&ledger.streams) {
            let sent = &stream.sent;
            let is_firm = |sent: &Sent| sent.acked_at.is_some_and(|at| !judge.may_be_gone(at));
            let firm = sent.iter().rposition(is_firm);
            topic.oldest = topic.certain.max(firm.unwrap_or(0));
            // Before the first message nothing is retained, and that may be as it was.
            let is_begun = topic.oldest > 0 || firm.is_some();
            let mut from_oldest = sent.iter().skip(topic.oldest);
            topic.is_due = stream.purpose == Purpose::Retain
                && is_begun
                && from_oldest.all(|sent| !sent.is_removal);
        }
    }

    pub(crate) fn hears(&mut self, ledger: &Ledger, message: &Message) -> Check<()> {
        if !message.retain {
            return Ok(());
        }
        let (stream, number) = ledger.recognize(&message.topic, &message.payload)?;
        let topic = &mut self.topics[stream];
        // A removal has a payload of none, so what comes is none.
        if number < topic.oldest || ledger.streams[stream].sent[number].is_removal {
            return Err(format!(
                "{} {number} is retained, which {} has replaced",
                message.topic, topic.oldest
            ));
        }
        topic.certain = number;
        topic.is_due = false;
        Ok(())
    }

    /// A topic on which something has to be retained, and was not seen.
    pub(crate) fn is_due(&self, ledger: &Ledger) -> Option<String> {
        let at = self.topics.iter().position(|topic| topic.is_due)?;
        Some(format!("what is retained on {}", ledger.streams[at].topic))
    }
}

/// A filter of a wanderer, as it was and may be.
#[derive(Debug)]
struct Wish {
    /// Subscribed or not, and when that was acknowledged. The first is certain.
    versions: Vec<(bool, Option<Instant>)>,
    pending: Option<PacketId>,
    has_come: bool,
}

/// Subscribes and unsubscribes.
pub(crate) struct Wanderer {
    pub(crate) client: Client,
    wishes: Vec<Wish>,
    next_id: usize,
    /// Of this many probes all have come.
    pub(crate) probed: usize,
}

impl Wanderer {
    pub(crate) fn new(client: Client) -> Self {
        let wish = |_| Wish {
            versions: vec![(false, None)],
            pending: None,
            has_come: false,
        };
        Self {
            client,
            wishes: (0..FILTERS).map(wish).collect(),
            next_id: 0,
            probed: 0,
        }
    }

    pub(crate) fn topic(&self, filter: usize) -> String {
        format!("w/{}/{filter}", self.client.name)
    }

    /// The filter that it always has.
    pub(crate) fn last_topic(&self) -> String {
        self.topic(FILTERS)
    }

    /// What it asked for and got no answer to may have been done or not.
    pub(crate) fn begin(&mut self) {
        for wish in &mut self.wishes {
            wish.pending = None;
            wish.has_come = false;
        }
    }

    /// Subscribes or unsubscribes, if all is answered on the filter that the dice choose.
    pub(crate) fn wander(&mut self, dice: &mut Dice) {
        let at = dice.below(FILTERS);
        let topic = self.topic(at);
        let wish = &mut self.wishes[at];
        if !self.client.is_up || wish.pending.is_some() {
            return;
        }
        self.next_id = self.next_id % 60_000 + 1;
        // 1 is that of the filter it always has.
        let packet_id = id(self.next_id + 1);
        let wants = dice.is_one_in(2);
        wish.pending = Some(packet_id);
        wish.versions.push((wants, None));
        if wants {
            let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][dice.below(2)];
            self.client.subscribe(&topic, qos, packet_id);
        } else {
            self.client.unsubscribe(&topic, packet_id);
        }
    }

    /// SUBACK or UNSUBACK.
    pub(crate) fn acknowledged(&mut self, packet_id: PacketId, at: Instant) {
        for wish in &mut self.wishes {
            if wish.pending == Some(packet_id) {
                wish.pending = None;
                wish.versions.last_mut().expect("it was pushed").1 = Some(at);
            }
        }
    }

    /// A probe has come; with the last one, the subscriptions are as they were acknowledged.
    pub(crate) fn hears(&mut self, judge: &Judge, message: &Message, round: usize) -> Check<()> {
        if let Some(id) = message.id {
            self.client.acknowledge(PacketType::PubAck, id);
        }
        if message.payload != round.to_string().into_bytes() {
            // One of an earlier round, whose acknowledgement was forgotten.
            return Ok(());
        }
        if message.topic != self.last_topic() {
            let at = (0..FILTERS).find(|at| self.topic(*at) == message.topic);
            let at = at.ok_or_else(|| format!("{}: {}", self.client.name, message.topic))?;
            self.wishes[at].has_come = true;
            return Ok(());
        }
        for (at, wish) in self.wishes.iter_mut().enumerate() {
            let is_firm = |version: &(bool, Option<Instant>)| {
                version.1.is_some_and(|at| !judge.may_be_gone(at))
            };
            let from = wish.versions.iter().rposition(is_firm).unwrap_or(0);
            let is_allowed = |version: &(bool, _)| version.0 == wish.has_come;
            if !wish.versions[from..].iter().any(is_allowed) {
                return Err(format!(
                    "{} is subscribed to w/{}/{at}: {}, against what was acknowledged",
                    self.client.name, self.client.name, wish.has_come
                ));
            }
            wish.versions = vec![(wish.has_come, None)];
        }
        self.probed = round;
        Ok(())
    }
}

/// A message that shows whether a filter is subscribed to.
pub(crate) fn probe(client: &mut Client, topic: &str, round: usize, n: usize) {
    let payload = round.to_string();
    let head = PublishHead {
        topic,
        qos: QoS::AtLeastOnce,
        packet_id: Some(id(n)),
        payload_len: payload.len(),
        ..PublishHead::default()
    };
    client.say(&head.encode_to_vec(client.version, payload.as_bytes()));
}
