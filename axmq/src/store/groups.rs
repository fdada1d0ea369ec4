//! Shared subscriptions at start. What a member of an earlier run had not got, or had not
//! acknowledged at QoS 1, is its group's again, so that no message waits for a client that may not
//! come back while another one is there.

use std::collections::{BTreeSet, HashMap};

use mqtt_codec::QoS;

use super::engine::{Engine, EngineError, Space, WriteBatch, after_prefix};
use super::keeper::restore;
use super::record::{
    MessageRecord, QueueRecord, QueuedRecord, RecordError, decode_group, encode_group, key,
};
use super::recover::{Rejects, Restored};
use super::time::WallClock;
use crate::publication::Publication;

/// A shared subscription of an earlier run.
#[derive(Debug)]
pub(crate) struct RestoredGroup {
    pub(crate) holder: u64,
    pub(crate) name: Box<str>,
    pub(crate) filter: Box<str>,
    /// Places in its queue from this one on are free.
    pub(crate) next: u64,
    /// What waits, by its place.
    pub(crate) waiting: Vec<(u64, Publication)>,
}

#[derive(Debug)]
struct Group {
    holder: u64,
    next: u64,
    /// Some session is a member.
    has_member: bool,
}

/// What is known of them while sessions are read.
#[derive(Debug, Default)]
pub(super) struct FoundGroups {
    /// By the text of the subscription.
    by_text: HashMap<Box<str>, Group>,
    holders: BTreeSet<u64>,
    /// To be written before queues are read.
    pub(super) repairs: WriteBatch,
}

impl FoundGroups {
    /// Reads which there are.
    pub(super) fn find<E: Engine>(
        &mut self,
        engine: &E,
        rejects: &mut Rejects,
    ) -> Result<(), EngineError> {
        for entry in engine.range(Space::Group, &[], None) {
            let (key, value) = entry?;
            let decoded = key::read_number(&key)
                .and_then(|holder| Ok((holder, Box::<str>::from(decode_group(&key, &value)?))));
            match decoded {
                Ok((holder, text)) if !self.by_text.contains_key(&text) => {
                    self.add(text, holder);
                }
                _ => rejects.add(Space::Group, key, value, "group"),
            }
        }
        Ok(())
    }

    fn add(&mut self, text: Box<str>, holder: u64) {
        self.holders.insert(holder);
        let group = Group {
            holder,
            next: 0,
            has_member: false,
        };
        self.by_text.insert(text, group);
    }

    pub(super) fn is_holder(&self, holder: u64) -> bool {
        self.holders.contains(&holder)
    }

    /// A session is a member of a group. One whose own record is lost takes the next number that is
    /// free.
    pub(super) fn note_member(&mut self, text: &str, first_free: &mut u64) {
        if !self.by_text.contains_key(text) {
            let key = key::number(*first_free);
            self.repairs
                .put(Space::Group, key, encode_group(&key, text));
            self.add(text.into(), *first_free);
            *first_free += 1;
        }
        if let Some(group) = self.by_text.get_mut(text) {
            group.has_member = true;
        }
    }

    /// Whether what waits for a member is its group's again, and then puts it there. What was sent
    /// at QoS 2 stays with the member [MQTT-4.8.2-4], and what it got as a member of a group that
    /// it has left is its own.
    pub(super) fn takes_back(
        &mut self,
        session: &Restored,
        (number, key): (u64, &[u8]),
        queued: &QueuedRecord<'_>,
    ) -> bool {
        let Some((text, place)) = queued.group else {
            return false;
        };
        let Some(group) = self.by_text.get_mut(text) else {
            return false;
        };
        group.next = group.next.max(place + 1);
        let was_sent = queued.qos == QoS::ExactlyOnce && number < session.sent;
        let mut subscriptions = session.subscriptions.iter();
        if was_sent || !subscriptions.any(|(filter, _)| **filter == *text) {
            return false;
        }
        let to = key::queue(group.holder, place);
        let record = QueueRecord::Message(QueuedRecord {
            identifiers: Vec::new(),
            group: None,
            ..*queued
        });
        self.repairs.put(Space::Queue, to, record.encode(&to));
        self.repairs.remove(Space::Queue, key);
        true
    }

    /// Reads what waits in each, after the sessions. One without a member ends.
    pub(super) fn read<E: Engine>(
        self,
        engine: &E,
        clock: WallClock,
        (counts, rejects): (&mut HashMap<u64, u32>, &mut Rejects),
        mut each: impl FnMut(RestoredGroup),
    ) -> Result<WriteBatch, EngineError> {
        let mut ended = Vec::new();
        for (text, group) in self.by_text {
            let prefix = key::number(group.holder);
            let parts = text.strip_prefix("$share/");
            let parts = parts.and_then(|parts| parts.split_once('/'));
            let Some((name, filter)) = parts.filter(|_| group.has_member) else {
                ended.push(prefix);
                continue;
            };
            let mut restored = RestoredGroup {
                holder: group.holder,
                name: name.into(),
                filter: filter.into(),
                next: group.next,
                waiting: Vec::new(),
            };
            let end = after_prefix(&prefix);
            for entry in engine.range(Space::Queue, &prefix, end.as_deref()) {
                let (key, value) = entry?;
                match read_whole(engine, clock, &key, &value)? {
                    Ok((place, publication)) => {
                        restored.next = restored.next.max(place + 1);
                        *counts.entry(publication.number()).or_insert(0) += 1;
                        restored.waiting.push((place, publication));
                    }
                    Err(_) => rejects.add(Space::Queue, key, value, "queue"),
                }
            }
            each(restored);
        }
        // Only now it is known which messages nobody waits for.
        let mut repairs = WriteBatch::default();
        for prefix in ended {
            repairs.remove(Space::Group, prefix);
            drop_queue(engine, &prefix, counts, &mut repairs)?;
        }
        Ok(repairs)
    }
}

/// Drops what waits in a group that has ended, and messages that nobody else waits for.
fn drop_queue<E: Engine>(
    engine: &E,
    prefix: &[u8],
    counts: &HashMap<u64, u32>,
    repairs: &mut WriteBatch,
) -> Result<(), EngineError> {
    let end = after_prefix(prefix);
    for entry in engine.range(Space::Queue, prefix, end.as_deref()) {
        let (key, value) = entry?;
        if let Ok(QueueRecord::Message(queued)) = QueueRecord::decode(&key, &value)
            && !counts.contains_key(&queued.message)
        {
            repairs.remove(Space::Message, key::number(queued.message));
        }
        repairs.remove(Space::Queue, key);
    }
    Ok(())
}

/// A message that waits, with its place. What makes no sense is no error of the engine.
fn read_whole<E: Engine>(
    engine: &E,
    clock: WallClock,
    key: &[u8],
    value: &[u8],
) -> Result<Result<(u64, Publication), RecordError>, EngineError> {
    let decoded =
        key::read_queue(key).and_then(|(_, place)| Ok((place, QueueRecord::decode(key, value)?)));
    let (place, queued) = match decoded {
        Ok((place, QueueRecord::Message(queued))) => (place, queued),
        Ok(_) => return Ok(Err(RecordError::Body)),
        Err(error) => return Ok(Err(error)),
    };
    let message_key = key::number(queued.message);
    let Some(message) = engine.get(Space::Message, &message_key)? else {
        return Ok(Err(RecordError::Body));
    };
    let decoded = MessageRecord::decode(Space::Message, &message_key, &message);
    Ok(decoded.map(|record| {
        let mut publication = restore(&record, clock);
        publication.set_number(queued.message);
        (place, publication)
    }))
}
