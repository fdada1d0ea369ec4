//! Turns what has happened into records: which messages are stored, for how many, and what waits
//! for its commit. No thread and no clock; the engine is only read.

use std::collections::{BTreeMap, HashMap};

use slabmem::Key;

use super::engine::{Engine, EngineError, Space, WriteBatch, after_prefix};
use super::op::{Op, OpBatch, Page, PageEntry, PagedMessage, PlaceOp, QueueOp, SessionOp};
use super::record::{
    AuthorRecord, BanRecord, MessageRecord, QueueRecord, QueuedRecord, RecordError, SessionRecord,
    WillRecord, encode_group, encode_incoming, encode_subscription, key,
};
use super::time::WallClock;
use crate::defence::BanChange;
use crate::hooks::{Author, Grant};
use crate::publication::{Parts, Publication};

/// Entries that one read of a queue gets at most, and bytes of their messages.
const PAGE_ENTRIES: usize = 64;
const PAGE_BYTES: u64 = 256 * 1_024;

/// Retained topics whose newest version is remembered, twice: far more than are written while the
/// batches of two shards may pass each other.
const VERSIONS: usize = 16 * 1_024;

/// Ops for a message that are not to be written before all shards have accepted it.
#[derive(Debug, Default)]
struct Staged {
    queued: Vec<QueueOp>,
    publication: Option<Box<Publication>>,
    /// Which batches wait for it.
    batches: Vec<(u16, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    clock: WallClock,
    /// Queue records of each message that is stored.
    counts: HashMap<u64, u32>,
    /// Messages of the batch that is being taken in.
    fresh: HashMap<u64, Box<Publication>>,
    staged: HashMap<u64, Staged>,
    /// Batches that wait for commits, and for how many.
    incomplete: BTreeMap<(u16, u64), u32>,
    /// Newest version by topic, of lately; and of before that.
    versions: [HashMap<Box<str>, u64>; 2],
    /// Not written yet.
    write: WriteBatch,
    /// Pages that were asked for: by which shard, for which session and holder, from which number.
    reads: Vec<(u16, Key, u64, u64)>,
    /// Records that were met and cannot be read.
    corrupt: u64,
}

impl Keeper {
    pub(crate) fn new(clock: WallClock, counts: HashMap<u64, u32>) -> Self {
        Self {
            clock,
            counts,
            fresh: HashMap::new(),
            staged: HashMap::new(),
            incomplete: BTreeMap::new(),
            versions: Default::default(),
            write: WriteBatch::default(),
            reads: Vec::new(),
            corrupt: 0,
        }
    }

    /// What is to be written; the caller clears it when it is.
    pub(crate) fn pending(&mut self) -> &mut WriteBatch {
        &mut self.write
    }

    /// Whether nothing is to be written or read.
    pub(crate) fn is_idle(&self) -> bool {
        self.write.is_empty() && self.reads.is_empty()
    }

    /// Records that were met since the last call and put into quarantine.
    pub(crate) fn take_corrupt(&mut self) -> u64 {
        std::mem::take(&mut self.corrupt)
    }

    /// The oldest batch of a shard that waits for a commit.
    pub(crate) fn first_incomplete(&self, shard: u16) -> Option<u64> {
        let mut of_shard = self.incomplete.range((shard, 0)..=(shard, u64::MAX));
        of_shard.next().map(|((_, number), _)| *number)
    }

    /// Takes in a batch: what follows from it is [`pending`](Self::pending).
    ///
    /// # Errors
    ///
    /// Of the engine. The ops that are left stay in `batch`; the same call goes on with them.
    pub(crate) fn apply<E: Engine>(
        &mut self,
        batch: &mut OpBatch,
        engine: &E,
    ) -> Result<(), EngineError> {
        let at = (batch.from, batch.number);
        for op in &mut batch.ops {
            match op {
                Op::EndSession { holder } => self.end(Space::Session, *holder, engine)?,
                Op::EndGroup { holder } => self.end(Space::Group, *holder, engine)?,
                _ => {}
            }
            // Taken out: should a later one fail, this one is not to be done again.
            self.apply_one(std::mem::replace(op, Op::Void), at);
        }
        self.fresh.clear();
        Ok(())
    }

    /// Reads what was asked for by the batches that are written now.
    ///
    /// # Errors
    ///
    /// Of the engine; what was not read is read by the next call.
    pub(crate) fn read_pages<E: Engine>(
        &mut self,
        engine: &E,
        mut give: impl FnMut(u16, Page),
    ) -> Result<(), EngineError> {
        while let Some(&(shard, session, holder, from)) = self.reads.last() {
            let (entries, is_last) = self.read(holder, from, engine)?;
            self.reads.pop();
            let page = Page {
                session,
                holder,
                entries,
                is_last,
            };
            give(shard, page);
        }
        Ok(())
    }

    /// Takes in what became of a ban.
    pub(crate) fn apply_ban(&mut self, change: &BanChange) {
        let key = key::ban(&change.who);
        match change.ban {
            Some(ban) => {
                let record = BanRecord {
                    until_ms: self.clock.to_wall(ban.until_ms),
                    times: ban.times,
                    cause: ban.cause,
                };
                let value = record.encode(&key);
                self.write.put(Space::Ban, key, value);
            }
            None => self.write.remove(Space::Ban, key),
        }
    }

    fn apply_one(&mut self, op: Op, at: (u16, u64)) {
        match op {
            Op::Void | Op::EndSession { .. } | Op::EndGroup { .. } => {}
            Op::Group { holder, text } => {
                let key = key::number(holder);
                self.write.put(Space::Group, key, encode_group(&key, &text));
            }
            Op::Read {
                session,
                holder,
                from,
            } => self.reads.push((at.0, session, holder, from)),
            Op::Session(session) => self.put_session(&session),
            Op::Subscribe {
                holder,
                filter,
                options,
            } => {
                let key = key::subscription(holder, &filter);
                let value = encode_subscription(&key, options);
                self.write.put(Space::Subscription, key, value);
            }
            Op::Unsubscribe { holder, filter } => {
                let key = key::subscription(holder, &filter);
                self.write.remove(Space::Subscription, key);
            }
            Op::Message(publication) => {
                self.fresh.insert(publication.number(), publication);
            }
            Op::Queue(queue) if queue.is_staged => self.stage(queue, at),
            Op::Queue(queue) => {
                let fresh = std::mem::take(&mut self.fresh);
                self.put_queued(&queue, fresh.get(&queue.message).map(|found| &**found));
                self.fresh = fresh;
            }
            Op::Release(place) => {
                let key = key::queue(place.holder, place.number);
                if !self.unstage(place) {
                    let value = QueueRecord::Released.encode(&key);
                    self.write.put(Space::Queue, key, value);
                    self.uncount(place.message);
                }
            }
            Op::Dequeue(place) => {
                if !self.unstage(place) {
                    let key = key::queue(place.holder, place.number);
                    self.write.remove(Space::Queue, key);
                    self.uncount(place.message);
                }
            }
            Op::Receive {
                holder,
                packet_id,
                digest,
            } => {
                let key = key::incoming(holder, packet_id);
                let value = encode_incoming(&key, digest);
                self.write.put(Space::Incoming, key, value);
            }
            Op::Forget { holder, packet_id } => {
                let key = key::incoming(holder, packet_id);
                self.write.remove(Space::Incoming, key);
            }
            Op::Retain {
                version,
                publication,
            } => {
                let topic = publication.view().topic().to_owned();
                if self.is_newest(&topic, version) {
                    let value = self.encode(Space::Retained, topic.as_bytes(), &publication);
                    self.write.put(Space::Retained, topic, value);
                }
            }
            Op::Unretain { version, topic } => {
                if self.is_newest(&topic, version) {
                    self.write.remove(Space::Retained, topic.as_bytes());
                }
            }
            Op::Commit { message } => self.commit(message),
        }
    }

    fn encode(&self, space: Space, key: &[u8], publication: &Publication) -> Vec<u8> {
        self.record(publication).encode(space, key)
    }

    fn record<'a>(&self, publication: &'a Publication) -> MessageRecord<'a> {
        let view = publication.view();
        MessageRecord {
            topic: view.topic(),
            properties: view.properties(),
            payload: view.payload(),
            qos: view.qos(),
            retain: view.retain(),
            expires_at_ms: self.clock.to_wall(view.expires_at_ms()),
        }
    }

    fn put_session(&mut self, session: &SessionOp) {
        let key = key::number(session.holder);
        let record = SessionRecord {
            client_id: &session.client_id,
            is_connected: session.is_connected,
            expiry_s: session.expiry_s,
            ends_at_ms: self.clock.to_wall(session.ends_at_ms),
            sent: session.sent,
            will: session.will.as_ref().map(|will| WillRecord {
                delay_s: will.delay_s,
                due_at_ms: self.clock.to_wall(will.due_at_ms),
                expiry_s: will.expiry_s,
                author: will.author.as_deref().map(author_record),
                message: self.record(&will.publication),
            }),
        };
        let value = record.encode(&key);
        self.write.put(Space::Session, key, value);
    }

    /// The queue record, and the message where it is the first that wants it.
    fn put_queued(&mut self, queue: &QueueOp, publication: Option<&Publication>) {
        let count = self.counts.entry(queue.message).or_insert(0);
        *count += 1;
        if *count == 1 {
            let Some(publication) = publication else {
                debug_assert!(false, "a batch holds the messages that it queues");
                self.counts.remove(&queue.message);
                return;
            };
            let key = key::number(queue.message);
            let value = self.encode(Space::Message, &key, publication);
            self.write.put(Space::Message, key, value);
        }
        let extra = queue.extra.as_deref();
        let key = key::queue(queue.holder, queue.number);
        let record = QueueRecord::Message(QueuedRecord {
            message: queue.message,
            cost: queue.cost,
            qos: queue.qos,
            retain: queue.retain,
            identifiers: extra.map_or_else(Vec::new, |extra| extra.identifiers.to_vec()),
            group: extra.and_then(|extra| {
                let (text, place) = extra.group.as_ref()?;
                Some((&**text, *place))
            }),
        });
        self.write.put(Space::Queue, key, record.encode(&key));
    }

    /// One queue record less wants the message.
    fn uncount(&mut self, message: u64) {
        let Some(count) = self.counts.get_mut(&message) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&message);
            self.write.remove(Space::Message, key::number(message));
        }
    }

    fn stage(&mut self, queue: QueueOp, at: (u16, u64)) {
        let staged = self.staged.entry(queue.message).or_default();
        if staged.publication.is_none() {
            staged.publication = self.fresh.get(&queue.message).cloned();
        }
        staged.queued.push(queue);
        if !staged.batches.contains(&at) {
            staged.batches.push(at);
            *self.incomplete.entry(at).or_insert(0) += 1;
        }
    }

    /// Settled before its commit has come: it is not to be written any more.
    fn unstage(&mut self, place: PlaceOp) -> bool {
        let Some(staged) = self.staged.get_mut(&place.message) else {
            return false;
        };
        let before = staged.queued.len();
        staged
            .queued
            .retain(|queue| (queue.holder, queue.number) != (place.holder, place.number));
        staged.queued.len() < before
    }

    fn commit(&mut self, message: u64) {
        let Some(staged) = self.staged.remove(&message) else {
            return;
        };
        for queue in &staged.queued {
            self.put_queued(queue, staged.publication.as_deref());
        }
        for at in staged.batches {
            if let Some(left) = self.incomplete.get_mut(&at) {
                *left -= 1;
                if *left == 0 {
                    self.incomplete.remove(&at);
                }
            }
        }
    }

    /// Whether no newer version of a retained topic has come. Two shards may retain on one topic,
    /// and their batches pass each other.
    fn is_newest(&mut self, topic: &str, version: u64) -> bool {
        let known = self.versions.iter().filter_map(|map| map.get(topic)).max();
        if known.is_some_and(|known| *known > version) {
            return false;
        }
        let [new, old] = &mut self.versions;
        if new.len() >= VERSIONS {
            *old = std::mem::take(new);
        }
        new.insert(topic.into(), version);
        true
    }

    /// A session or a group ends, with all that it holds.
    fn end<E: Engine>(&mut self, space: Space, holder: u64, engine: &E) -> Result<(), EngineError> {
        for staged in self.staged.values_mut() {
            staged.queued.retain(|queue| queue.holder != holder);
        }
        let prefix = key::number(holder);
        let end = after_prefix(&prefix);
        // All is read before anything is noted, so that an error leaves nothing half done.
        let mut found: BTreeMap<(Space, Vec<u8>), Vec<u8>> = BTreeMap::new();
        for space in [Space::Queue, Space::Subscription, Space::Incoming] {
            for entry in engine.range(space, &prefix, end.as_deref()) {
                let (key, value) = entry?;
                found.insert((space, key), value);
            }
        }
        // What is about to be written counts too.
        for change in self.write.changes() {
            let spaces = [Space::Queue, Space::Subscription, Space::Incoming];
            let is_of_holder = spaces.contains(&change.space);
            if is_of_holder && change.key.starts_with(&prefix) {
                let key = (change.space, change.key.to_vec());
                match change.value {
                    Some(value) => found.insert(key, value.to_vec()),
                    None => found.remove(&key),
                };
            }
        }
        for ((of, key), value) in found {
            if of == Space::Queue
                && let Ok(QueueRecord::Message(queued)) = QueueRecord::decode(&key, &value)
            {
                self.uncount(queued.message);
            }
            self.write.remove(of, key);
        }
        self.write.remove(space, prefix);
        Ok(())
    }

    /// A page of a queue, and whether it is the last one for now.
    fn read<E: Engine>(
        &mut self,
        holder: u64,
        from: u64,
        engine: &E,
    ) -> Result<(Vec<PageEntry>, bool), EngineError> {
        // What waits for its commit is not there yet, and nothing may pass it.
        let waits = self.staged.values().flat_map(|staged| &staged.queued);
        let first_staged = waits
            .filter(|queue| queue.holder == holder)
            .map(|queue| queue.number)
            .min();
        let from_key = key::queue(holder, from);
        let end = match first_staged {
            Some(number) => Some(key::queue(holder, number).to_vec()),
            None => after_prefix(&key::number(holder)),
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        for entry in engine.range(Space::Queue, &from_key, end.as_deref()) {
            let (key, value) = entry?;
            if entries.len() >= PAGE_ENTRIES || bytes >= PAGE_BYTES {
                return Ok((entries, false));
            }
            match self.read_one(&key, &value, engine)? {
                Ok(entry) => {
                    bytes += entry
                        .message
                        .as_ref()
                        .map_or(0, |message| message.publication.cost() as u64);
                    entries.push(entry);
                }
                Err(_) => {
                    // Out of the way, and kept for whoever wants to look.
                    self.corrupt += 1;
                    self.quarantine(Space::Queue, &key, value);
                }
            }
        }
        Ok((entries, first_staged.is_none()))
    }

    fn read_one<E: Engine>(
        &self,
        key: &[u8],
        value: &[u8],
        engine: &E,
    ) -> Result<Result<PageEntry, RecordError>, EngineError> {
        let decoded = key::read_queue(key)
            .and_then(|(_, number)| Ok((number, QueueRecord::decode(key, value)?)));
        let (number, queued) = match decoded {
            Ok((number, QueueRecord::Released)) => {
                return Ok(Ok(PageEntry {
                    number,
                    message: None,
                }));
            }
            Ok((number, QueueRecord::Message(queued))) => (number, queued),
            Err(error) => return Ok(Err(error)),
        };
        let message_key = key::number(queued.message);
        let Some(message) = engine.get(Space::Message, &message_key)? else {
            return Ok(Err(RecordError::Body));
        };
        let record = match MessageRecord::decode(Space::Message, &message_key, &message) {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        let mut publication = restore(&record, self.clock);
        publication.set_number(queued.message);
        Ok(Ok(PageEntry {
            number,
            message: Some(PagedMessage {
                publication,
                cost: queued.cost,
                qos: queued.qos,
                retain: queued.retain,
                identifiers: queued.identifiers,
                is_of_group: queued.group.is_some(),
            }),
        }))
    }

    fn quarantine(&mut self, space: Space, key: &[u8], value: Vec<u8>) {
        let aside = [&[space as u8], key].concat();
        self.write.put(Space::Quarantine, aside, value);
        self.write.remove(space, key);
    }
}

fn author_record(author: &Author) -> AuthorRecord<'_> {
    let grant = author.grant.as_deref();
    AuthorRecord {
        user: grant.and_then(Grant::identity),
        peer: author.peer,
        version: author.version,
        is_whole: grant.is_none_or(Grant::is_name_only),
    }
}

/// The message of a record, on the broker's clock.
pub(crate) fn restore(record: &MessageRecord<'_>, clock: WallClock) -> Publication {
    let parts = Parts {
        topic: record.topic,
        properties: std::iter::once(record.properties),
        payload: record.payload,
        qos: record.qos,
        retain: record.retain,
        expires_at_ms: clock.of_wall(record.expires_at_ms),
    };
    Publication::from_parts(parts, None)
}
