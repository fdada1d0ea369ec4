//! Reading everything back at start: sessions one by one, with what belongs to each, then retained
//! messages. Messages that wait stay on disk; only how many there are is read.
//!
//! What does not decode goes to quarantine, and so does what belongs to nobody. The rest starts.

use std::collections::HashMap;
use std::iter::Peekable;
use std::sync::Arc;

use super::engine::{Engine, EngineError, Entries, Space, WriteBatch};
use super::groups::{FoundGroups, RestoredGroup};
use super::keeper::{Keeper, restore};
use super::record::{
    AuthorRecord, BanRecord, MessageRecord, QueueRecord, RecordError, SessionRecord,
    decode_incoming, decode_subscription, key, seal, unseal,
};
use super::time::WallClock;
use super::upgrade::{FormatError, format_of, put_format};
use crate::defence::{Banned, KeptBan};
use crate::hooks::{Author, Grant};
use crate::publication::Publication;
use crate::route::SubscriptionOptions;
use crate::session::IDS;

/// After a crash a session numbers its messages from another place on: its client may remember the
/// packet ids of QoS 2 messages that were sent and are not on disk, for ever, since nobody will
/// release them. The place follows from how many crashes there were: this, the golden section of
/// all ids, is between one and the next, so that each is far away from all before it.
const AFTER_A_CRASH: u64 = 40_504;

/// Where the numbers of a session go on after so many crashes; `next` is the lowest that is free.
fn after_crashes(next: u64, crashes: u64) -> u64 {
    let place = crashes.wrapping_mul(AFTER_A_CRASH) % IDS;
    next + (place + IDS - next % IDS) % IDS
}

/// A will of an earlier run.
#[derive(Debug)]
pub(crate) struct RestoredWill {
    pub(crate) publication: Publication,
    pub(crate) delay_s: u32,
    pub(crate) due_at_ms: u64,
    pub(crate) expiry_s: Option<u32>,
    /// `None` where not all that rules may ask for is known of whoever wrote it.
    pub(crate) author: Option<Box<Author>>,
}

/// A session of an earlier run. Times are those of the broker's clock.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) holder: u64,
    pub(crate) client_id: Box<str>,
    pub(crate) expiry_s: u32,
    pub(crate) ends_at_ms: u64,
    pub(crate) will: Option<RestoredWill>,
    pub(crate) subscriptions: Vec<(Box<str>, SubscriptionOptions)>,
    /// Incoming QoS 2 packet ids that have not been released, and the digests of their messages.
    pub(crate) received: Vec<(u16, u32)>,
    /// The lowest number in its queue, how many there are, and their bytes.
    pub(crate) first: u64,
    pub(crate) count: usize,
    pub(crate) bytes: u64,
    /// Messages below this number may have been sent.
    pub(crate) sent: u64,
    /// The number of its next message.
    pub(crate) next: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recovery<'e, E> {
    engine: &'e mut E,
    clock: WallClock,
    now_ms: u64,
    /// The last run has not stopped in order.
    pub(crate) is_unclean: bool,
    /// How often that has been so.
    crashes: u64,
    pub(crate) node: [u8; 16],
    counts: HashMap<u64, u32>,
    /// No record has this number or a higher one.
    pub(crate) first_free: u64,
    groups: FoundGroups,
    /// What is to be changed when everything has been read.
    repairs: WriteBatch,
    /// Some of that is written and not synced.
    is_dirty: bool,
    /// Records that were put into quarantine now.
    pub(crate) quarantined: u64,
}

/// A record: its holder, its key and its value.
type Owned = (u64, Vec<u8>, Vec<u8>);

/// The records of one space that belong to holders, in the order of these.
struct Column<'a> {
    space: Space,
    entries: Peekable<Entries<'a>>,
}

impl<'a> Column<'a> {
    fn new<E: Engine>(engine: &'a E, space: Space) -> Self {
        Self {
            space,
            entries: engine.range(space, &[], None).peekable(),
        }
    }

    /// The next record whose holder is at most this one.
    fn next_up_to(&mut self, holder: u64) -> Option<Result<Owned, EngineError>> {
        let is_due = match self.entries.peek()? {
            // A key that is too short has no holder: out with it, whoever comes.
            Ok((key, _)) => {
                key::read_holder(key).is_ok_and(|found| found <= holder) || key.len() < 8
            }
            Err(_) => true,
        };
        if !is_due {
            return None;
        }
        Some(self.entries.next()?.map(|(key, value)| {
            let found = key::read_holder(&key).unwrap_or(0);
            (found, key, value)
        }))
    }
}

/// What goes to quarantine, while the engine is still being read.
#[derive(Default)]
pub(super) struct Rejects(Vec<(Space, Vec<u8>, Vec<u8>, &'static str)>);

impl Rejects {
    pub(super) fn add(&mut self, space: Space, key: Vec<u8>, value: Vec<u8>, why: &'static str) {
        self.0.push((space, key, value, why));
    }
}

impl<'e, E: Engine> Recovery<'e, E> {
    /// Begins: looks at the format, and makes a store that is empty one of this format. `random` is
    /// the id of a new node.
    ///
    /// # Errors
    ///
    /// See [`FormatError`]. What is older has to be upgraded before.
    pub(crate) fn begin(
        engine: &'e mut E,
        clock: WallClock,
        now_ms: u64,
        random: [u8; 16],
    ) -> Result<Self, FormatError> {
        let mut recovery = Self {
            engine,
            clock,
            now_ms,
            is_unclean: false,
            crashes: 0,
            node: random,
            counts: HashMap::new(),
            first_free: 1,
            groups: FoundGroups::default(),
            repairs: WriteBatch::default(),
            is_dirty: false,
            quarantined: 0,
        };
        if format_of(recovery.engine)?.is_none() {
            let mut batch = WriteBatch::default();
            put_format(&mut batch);
            let value = seal(Space::Meta, key::NODE, |out| out.extend_from_slice(&random));
            batch.put(Space::Meta, key::NODE, value);
            recovery.engine.write(&batch)?;
            recovery.engine.sync()?;
            return Ok(recovery);
        }
        recovery.node = recovery.meta(key::NODE)?.unwrap_or(random);
        recovery.is_unclean = recovery.meta::<8>(key::STOPPED)?.is_none();
        recovery.repairs.remove(Space::Meta, key::STOPPED);
        recovery.crashes = recovery.meta(key::CRASHES)?.map_or(0, u64::from_be_bytes);
        if recovery.is_unclean {
            // Durable before the first message is sent: see `finish`.
            recovery.crashes = recovery.crashes.wrapping_add(1);
            let value = seal(Space::Meta, key::CRASHES, |out| {
                out.extend_from_slice(&recovery.crashes.to_be_bytes());
            });
            recovery.repairs.put(Space::Meta, key::CRASHES, value);
        }
        for space in [Space::Session, Space::Message, Space::Group] {
            let last = recovery.engine.last(space)?;
            let number = last
                .and_then(|key| key::read_number(&key).ok())
                .unwrap_or(0);
            recovery.first_free = recovery.first_free.max(number.saturating_add(1));
        }
        Ok(recovery)
    }

    fn meta<const N: usize>(&self, key: &[u8]) -> Result<Option<[u8; N]>, EngineError> {
        let value = self.engine.get(Space::Meta, key)?;
        let body = value
            .as_deref()
            .and_then(|value| unseal(Space::Meta, key, value).ok());
        Ok(body.and_then(|body| body.try_into().ok()))
    }

    /// What the broker's clock shows.
    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Reads all sessions, in the order of their numbers.
    pub(crate) fn sessions(&mut self, mut each: impl FnMut(Restored)) -> Result<(), EngineError> {
        let mut rejects = Rejects::default();
        let engine = &*self.engine;
        self.groups.find(engine, &mut rejects)?;
        let mut subscriptions = Column::new(engine, Space::Subscription);
        let mut queue = Column::new(engine, Space::Queue);
        let mut incoming = Column::new(engine, Space::Incoming);
        for entry in engine.range(Space::Session, &[], None) {
            let (key, value) = entry?;
            let decoded = key::read_number(&key)
                .and_then(|holder| Ok((holder, SessionRecord::decode(&key, &value)?)));
            let Ok((holder, record)) = decoded else {
                // What belongs to it follows, as belonging to nobody.
                rejects.add(Space::Session, key, value, "session");
                continue;
            };
            let mut session = self.of_record(holder, &record);
            while let Some(entry) = subscriptions.next_up_to(holder) {
                let (found, key, value) = entry?;
                let decoded = key::read_subscription(&key)
                    .and_then(|(_, filter)| Ok((filter, decode_subscription(&key, &value)?)));
                match decoded {
                    Ok((filter, options)) if found == holder => {
                        if filter.starts_with("$share/") {
                            self.groups.note_member(filter, &mut self.first_free);
                        }
                        session.subscriptions.push((filter.into(), options));
                    }
                    _ => rejects.add(Space::Subscription, key, value, "subscription"),
                }
            }
            while let Some(entry) = incoming.next_up_to(holder) {
                let (found, key, value) = entry?;
                let decoded = key::read_incoming(&key)
                    .and_then(|(_, id)| Ok((id.get(), decode_incoming(&key, &value)?)));
                match decoded {
                    Ok(incoming) if found == holder => session.received.push(incoming),
                    _ => rejects.add(Space::Incoming, key, value, "incoming"),
                }
            }
            if self.is_unclean && record.is_connected {
                // Whatever there is may have been sent.
                session.sent = u64::MAX;
            }
            let mut last = None;
            while let Some(entry) = queue.next_up_to(holder) {
                let (found, key, value) = entry?;
                match read_queued(&key, &value) {
                    Ok((number, record)) if found == holder => {
                        last = Some(number);
                        if let QueueRecord::Message(queued) = &record
                            && self.groups.takes_back(&session, (number, &key), queued)
                        {
                            continue;
                        }
                        if session.count == 0 {
                            session.first = number;
                        }
                        session.count += 1;
                        if let QueueRecord::Message(queued) = record {
                            session.bytes += u64::from(queued.cost);
                            *self.counts.entry(queued.message).or_insert(0) += 1;
                        }
                    }
                    Ok(_) if self.groups.is_holder(found) => {}
                    _ => rejects.add(Space::Queue, key, value, "queue"),
                }
            }
            session.next = record.sent.max(last.map_or(0, |last| last + 1));
            session.sent = session.sent.min(session.next);
            if self.is_unclean {
                session.next = after_crashes(session.next, self.crashes);
            }
            each(session);
        }
        for column in [&mut subscriptions, &mut queue, &mut incoming] {
            while let Some(entry) = column.next_up_to(u64::MAX) {
                let (found, key, value) = entry?;
                if column.space != Space::Queue || !self.groups.is_holder(found) {
                    rejects.add(column.space, key, value, "belongs to nobody");
                }
            }
        }
        drop((subscriptions, queue, incoming));
        self.reject(rejects);
        let repairs = std::mem::take(&mut self.groups.repairs);
        self.is_dirty |= !repairs.is_empty();
        self.engine.write(&repairs)
    }

    /// Reads all shared subscriptions, after the sessions.
    pub(crate) fn groups(&mut self, each: impl FnMut(RestoredGroup)) -> Result<(), EngineError> {
        let mut rejects = Rejects::default();
        let into = (&mut self.counts, &mut rejects);
        let found = std::mem::take(&mut self.groups);
        let repairs = found.read(&*self.engine, self.clock, into, each)?;
        self.is_dirty |= !repairs.is_empty();
        self.engine.write(&repairs)?;
        self.reject(rejects);
        Ok(())
    }

    fn of_record(&self, holder: u64, record: &SessionRecord<'_>) -> Restored {
        // One that was connected has lost its connection now, at the latest.
        let ends_at_ms = match (record.is_connected, record.expiry_s) {
            (false, _) => self.clock.of_wall(record.ends_at_ms),
            (true, u32::MAX) => u64::MAX,
            (true, expiry_s) => self.now_ms + u64::from(expiry_s) * 1_000,
        };
        let will = record.will.as_ref().map(|will| RestoredWill {
            publication: restore(&will.message, self.clock),
            delay_s: will.delay_s,
            due_at_ms: match will.due_at_ms {
                0 => self.now_ms + u64::from(will.delay_s) * 1_000,
                due_at_ms => self.clock.of_wall(due_at_ms),
            },
            expiry_s: will.expiry_s,
            author: will.author.filter(|author| author.is_whole).map(author_of),
        });
        Restored {
            holder,
            client_id: record.client_id.into(),
            expiry_s: record.expiry_s,
            ends_at_ms,
            will,
            subscriptions: Vec::new(),
            received: Vec::new(),
            first: 0,
            count: 0,
            bytes: 0,
            sent: record.sent,
            next: record.sent,
        }
    }

    /// Reads all retained messages; those that have expired are removed.
    pub(crate) fn retained(
        &mut self,
        mut each: impl FnMut(Publication),
    ) -> Result<(), EngineError> {
        let mut rejects = Rejects::default();
        for entry in self.engine.range(Space::Retained, &[], None) {
            let (key, value) = entry?;
            match MessageRecord::decode(Space::Retained, &key, &value) {
                Ok(record) => {
                    let publication = restore(&record, self.clock);
                    if publication.view().is_expired(self.now_ms) {
                        self.repairs.remove(Space::Retained, key);
                    } else {
                        each(publication);
                    }
                }
                Err(_) => rejects.add(Space::Retained, key, value, "retained"),
            }
        }
        self.reject(rejects);
        Ok(())
    }

    /// Reads all bans; those that `each` does not want any more are removed. It is also told for
    /// how many milliseconds a ban has been over, which the broker's clock cannot say of what was
    /// before its start.
    pub(crate) fn bans(
        &mut self,
        mut each: impl FnMut(Banned, KeptBan, u64) -> bool,
    ) -> Result<(), EngineError> {
        let wall_ms = self.clock.to_wall(self.now_ms);
        let mut rejects = Rejects::default();
        for entry in self.engine.range(Space::Ban, &[], None) {
            let (key, value) = entry?;
            let decoded = key::read_ban(&key)
                .and_then(|banned| Ok((banned, BanRecord::decode(&key, &value)?)));
            let Ok((banned, record)) = decoded else {
                rejects.add(Space::Ban, key, value, "ban");
                continue;
            };
            let ban = KeptBan {
                until_ms: self.clock.of_wall(record.until_ms),
                times: record.times,
                cause: record.cause,
            };
            let over_for_ms = wall_ms.saturating_sub(record.until_ms);
            if !each(banned, ban, over_for_ms) {
                self.repairs.remove(Space::Ban, key);
            }
        }
        self.reject(rejects);
        Ok(())
    }

    fn reject(&mut self, rejects: Rejects) {
        for (space, key, value, why) in rejects.0 {
            tracing::debug!(event = "store.quarantine", space = space.name(), why, ?key);
            let aside = [&[space as u8], &*key].concat();
            self.repairs.put(Space::Quarantine, aside, value);
            self.repairs.remove(space, key);
            self.quarantined += 1;
        }
    }

    /// Writes what was repaired. Returns the keeper, and how many records are in quarantine.
    pub(crate) fn finish(self) -> Result<(Keeper, u64), EngineError> {
        if self.is_dirty || !self.repairs.is_empty() {
            self.engine.write(&self.repairs)?;
            self.engine.sync()?;
        }
        let mut aside = 0;
        for entry in self.engine.range(Space::Quarantine, &[], None) {
            entry?;
            aside += 1;
        }
        let keeper = Keeper::new(self.clock, self.counts);
        Ok((keeper, aside))
    }
}

fn author_of(record: AuthorRecord<'_>) -> Box<Author> {
    Box::new(Author {
        peer: record.peer,
        version: record.version,
        grant: record.user.map(|user| Arc::new(Grant::to(user))),
    })
}

fn read_queued<'a>(key: &[u8], value: &'a [u8]) -> Result<(u64, QueueRecord<'a>), RecordError> {
    let (_, number) = key::read_queue(key)?;
    Ok((number, QueueRecord::decode(key, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_above_all_others_and_far_from_where_they_went_on_before() {
        let mut places: Vec<u64> = Vec::new();
        for crashes in 1..=100 {
            // Some of what was sent before is on disk, or nothing of it.
            for next in [0, 7, 40_504, 65_534, 65_535, 200_000] {
                let from = after_crashes(next, crashes);
                assert!(from >= next && from < next + IDS);
                assert_eq!(from % IDS, after_crashes(0, crashes));
            }
            let place = after_crashes(0, crashes);
            let nearest = places.iter().map(|other| {
                let distance = place.abs_diff(*other);
                distance.min(IDS - distance)
            });
            assert!(nearest.min().is_none_or(|nearest| nearest > 200));
            places.push(place);
        }
    }
}
