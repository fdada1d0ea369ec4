//! What a kill would leave of a group's messages. Two shards write to the store, and a message that
//! moves from one to the other has to be on disk after every write of either.
//!
//! Nobody is killed. After each turn of the store it is looked up what a start would find: a
//! message in the queue of the group, or in that of a member as the group's.

use std::collections::{BTreeMap, BTreeSet};

use super::client::{Client, number};
use super::plan::{FILTERS, Plan};
use super::report::Feature;
use super::{Check, World};
use crate::config::Durability;
use crate::store::RecordError;
use crate::store::engine::Space;
use crate::store::memory::Map;
use crate::store::record::{MessageRecord, QueueRecord, key};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DiskWatch {
    /// Writes that have been looked at.
    writes: u64,
    /// The kept sessions of those that may be members, by client; 0 where there is none.
    holders: BTreeMap<usize, u64>,
    /// When one of these sessions was last seen to be another one, or none. What was sent before
    /// may have ended with it.
    lost: u64,
    /// Messages for the group that no member has had, as far as is known.
    open: Vec<u32>,
    /// Messages that have been looked at for that.
    seen: usize,
}

impl DiskWatch {
    /// `None` where it is not known what the disk has to have: acknowledgements that do not wait
    /// for it, a disk that fails, or several groups, of which any may have it.
    pub(super) fn new(plan: &Plan) -> Option<Self> {
        let store = plan.store.as_ref()?;
        let is_always = store.settings.durability == Durability::Always
            && store.settings.rules.is_empty()
            && store.weather == 0;
        (is_always && plan.groups == 1).then(Self::default)
    }

    /// Takes note of what has happened since the last time.
    fn catch_up(&mut self, w: &World, clients: &[Client]) {
        for (at, client) in clients.iter().enumerate() {
            if !client.may_share() {
                continue;
            }
            let holder = w.site.holder_of(&client.name);
            let before = self.holders.insert(at, holder);
            if holder == 0 || before != Some(holder) {
                self.lost = w.tick;
            }
        }
        let messages = &w.ledger.messages;
        for (at, message) in messages.iter().enumerate().skip(self.seen) {
            let is_plain = message.will.is_none() && message.expiry_s.is_none();
            let is_for_group = w.ledger.matches[FILTERS.len()][message.topic];
            if is_for_group && message.qos > 0 && is_plain && !message.path.is_void() {
                self.open.push(at as u32);
            }
        }
        self.seen = messages.len();
        let lost = self.lost.max(w.ledger.members_lost);
        self.open.retain(|at| {
            let message = &messages[*at as usize];
            let has_had =
                |client: &Client| client.is_dealt(w, message.topic) && client.has_had(*at);
            message.sent > lost && !clients.iter().any(has_had)
        });
    }
}

/// Whatever was acknowledged to its publisher, and no member has had, is on disk.
pub(super) fn check(w: &mut World, clients: &[Client]) -> Check {
    let (Some(mut watch), Some(disk)) = (w.disk_watch.take(), w.site.disk()) else {
        return Ok(());
    };
    if watch.writes != disk.writes() {
        watch.writes = disk.writes();
        watch.catch_up(w, clients);
        let is_sure = |at: &&u32| {
            let message = &w.ledger.messages[**at as usize];
            let mut members = clients.iter();
            message.routed.is_some()
                && members.any(|client| client.is_member(0, message.sent, w.tick))
        };
        let owed: Vec<u32> = watch.open.iter().filter(is_sure).copied().collect();
        if !owed.is_empty() {
            disk.after_each_crash(|left| compare(w, &owed, left))?;
            w.report.add(Feature::FoundOnDisk, owed.len() as u64);
        }
    }
    w.disk_watch = Some(watch);
    Ok(())
}

fn compare(w: &World, owed: &[u32], disk: &Map) -> Check {
    let found = found(disk)?;
    let missing: Vec<_> = owed.iter().filter(|at| !found.contains(at)).collect();
    let dropped = w.site.shards.iter().map(|shard| shard.server.counters());
    let dropped: u64 = dropped
        .map(|counters| counters.dropped() - counters.dropped_offline)
        .sum();
    check!(
        missing.len() as u64 <= dropped,
        "a kill would lose messages of a group: {missing:?}; {dropped} were dropped"
    );
    Ok(())
}

/// The records of a space.
fn space(disk: &Map, space: Space) -> impl Iterator<Item = (&[u8], &[u8])> {
    let from = disk.range((space, Vec::new())..);
    let of_space = from.take_while(move |((other, _), _)| *other == space);
    of_space.map(|((_, key), value)| (&**key, &**value))
}

/// The messages that are in the queue of a group, or in that of a member as the group's.
fn found(disk: &Map) -> Result<BTreeSet<u32>, String> {
    let wrong = |error: RecordError| format!("a record is wrong: {error}");
    let groups = space(disk, Space::Group).map(|(at, _)| key::read_number(at));
    let groups: BTreeSet<u64> = groups.collect::<Result<_, _>>().map_err(wrong)?;
    let mut found = BTreeSet::new();
    for (at, value) in space(disk, Space::Queue) {
        let holder = key::read_holder(at).map_err(wrong)?;
        let record = QueueRecord::decode(at, value).map_err(wrong)?;
        let QueueRecord::Message(queued) = record else {
            continue;
        };
        if queued.group.is_none() && !groups.contains(&holder) {
            continue;
        }
        let message_key = key::number(queued.message);
        let message = disk.get(&(Space::Message, message_key.to_vec()));
        let message = message.ok_or("a message in a queue is not on disk")?;
        let message = MessageRecord::decode(Space::Message, &message_key, message);
        found.extend(number(message.map_err(wrong)?.payload));
    }
    Ok(found)
}
