//! The shared subscriptions that this shard owns: who is a member, and who gets the next message
//! (DECISIONS 13). A table without a protocol; `deal` is what a shard does with it.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::HashTable;
use mqtt_codec::QoS;
use slabmem::{Key, Slab};
use topicmap::{Filter, FilterId, SharedGroup, Strategy, Topic, TopicMap};

use super::answer::CHUNK_SLOTS;
use super::group_queue::{GroupQueue, QueueLimits, Waiting};
use crate::group::{Join, MemberRef, QueuePlace, Returned};
use crate::keyed_hash::KeyedHash;
use crate::memory::{Held, allocated};

/// Members that are looked at for one that is online when none has room.
const LOOKED_AT_MAX: usize = 32;

#[derive(Debug)]
struct Group {
    name: Box<str>,
    filter: FilterId,
    /// Those that may get a message now count as online.
    members: SharedGroup<Key>,
    queue: GroupQueue,
    /// On the list of groups whose queue is dealt out.
    is_feeding: bool,
}

#[derive(Debug)]
struct Member {
    at: MemberRef,
    group: Key,
    /// Messages dealt at QoS 1 or 2 that have not been answered.
    outstanding: u32,
    window: u16,
    qos: QoS,
    is_online: bool,
    /// What the group was told last: it is online and has room.
    is_ready: bool,
}

/// The member that gets a message, and how.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) struct Picked {
    pub(super) member: MemberRef,
    pub(super) qos: QoS,
}

/// What came of a [`Join`].
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) group: Key,
    /// The group is new: routes have to know it.
    pub(super) is_new: bool,
    /// It is the first group on its filter.
    pub(super) is_first: bool,
}

/// A group whose last member has left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) filter: Box<str>,
    /// No other group has this filter.
    pub(super) is_last: bool,
    /// Messages that nobody is there for.
    pub(super) queued: usize,
    /// Under which the store kept it; else 0.
    pub(super) holder: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Groups {
    strategy: Strategy,
    seed: u64,
    groups: Slab<Group>,
    by_name: HashTable<u32>,
    members: Slab<Member>,
    by_member: HashTable<u32>,
    /// Subscribers are slots of groups.
    filters: TopicMap<()>,
}

/// Slab keys are not chosen by clients, so that mixing their bits is enough.
fn hash_of(member: MemberRef) -> u64 {
    let bits = member.key.to_bits() ^ (u64::from(member.shard) << 48);
    let wide = u128::from(bits) * 0x9E37_79B9_7F4A_7C15;
    (wide >> 64) as u64 ^ wide as u64
}

impl Groups {
    pub(super) fn new(strategy: Strategy, seed: u64) -> Self {
        Self {
            strategy,
            seed,
            groups: Slab::new(),
            by_name: HashTable::new(),
            members: Slab::new(),
            by_member: HashTable::new(),
            filters: TopicMap::new(seed),
        }
    }

    /// What the slots of all tables are below.
    pub(super) fn slots_end(&self) -> u32 {
        let slots = self.groups.stats().chunks.saturating_mul(CHUNK_SLOTS);
        slots.max(self.filters.ids_end())
    }

    /// What the tables take, without what entries own.
    pub(super) fn add_tables(&self, held: &mut Held) {
        let slabs = self.groups.stats().mapped_bytes + self.members.stats().mapped_bytes;
        let indexes = self.by_name.allocation_size() + self.by_member.allocation_size();
        held.subscriptions += (slabs + indexes + self.filters.table_bytes()) as u64;
    }

    /// What the entries in these slots own.
    pub(super) fn add_entries(&self, slots: Range<u32>, held: &mut Held) {
        for group in slots.clone().filter_map(|slot| self.groups.get_at(slot)) {
            held.subscriptions +=
                allocated(group.name.len()) + allocated(group.members.heap_bytes());
            held.queues += group.queue.heap_bytes();
        }
        let subscriptions = &mut held.subscriptions;
        self.filters
            .for_each_allocation(slots, |bytes| *subscriptions += allocated(bytes));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    #[cfg(test)]
    pub(super) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// The most messages, and the most bytes, that wait in one group.
    #[cfg(test)]
    pub(super) fn longest_queue(&self) -> (usize, u64) {
        let groups = self.groups.iter().map(|(_, group)| group);
        groups.fold((0, 0), |(messages, bytes), group| {
            (
                messages.max(group.queue.len()),
                bytes.max(group.queue.bytes()),
            )
        })
    }

    /// Puts the slots of the groups that get messages on `topic` into `slots`.
    pub(super) fn matching(&self, topic: &Topic<'_>, slots: &mut Vec<u32>) {
        if self.filters.filter_count() > 0 {
            self.filters
                .for_each_match(topic, |_, slot, ()| slots.push(slot));
        }
    }

    /// Adds a member, or changes one that is there. `may_add` is asked where the group is new, and
    /// says whether there may be another.
    pub(super) fn join(
        &mut self,
        shard: u16,
        join: &Join,
        filter: &Filter<'_>,
        hasher: &KeyedHash,
        may_add: impl FnOnce() -> bool,
    ) -> Option<Joined> {
        let at = MemberRef {
            shard,
            key: join.member,
        };
        if let Some(key) = self.find_member(at) {
            return self.change(key, join);
        }
        let joined = self.open(&join.name, filter, hasher, may_add)?;
        let group = joined.group;
        let member = Member {
            at,
            group,
            outstanding: 0,
            window: join.window,
            qos: join.qos,
            is_online: true,
            is_ready: true,
        };
        let key = self.members.insert(member).ok()?;
        let members = &self.members;
        self.by_member
            .insert_unique(hash_of(at), key.index(), |slot| {
                members.get_at(*slot).map_or(0, |member| hash_of(member.at))
            });
        if let Some(group) = self.groups.get_mut(group) {
            group.members.join(key, true);
        }
        Some(joined)
    }

    /// Finds a group, or makes one without members.
    pub(super) fn open(
        &mut self,
        name: &str,
        filter: &Filter<'_>,
        hasher: &KeyedHash,
        may_add: impl FnOnce() -> bool,
    ) -> Option<Joined> {
        let hash = hasher.hash_one((name, filter.as_str()));
        let (group, is_new, is_first) = match self.find(hash, name, filter) {
            Some(key) => (key, false, false),
            None if may_add() => {
                let (key, is_first) = self.add(hash, name, filter, hasher)?;
                (key, true, is_first)
            }
            None => return None,
        };
        Some(Joined {
            group,
            is_new,
            is_first,
        })
    }

    fn change(&mut self, key: Key, join: &Join) -> Option<Joined> {
        let member = self.members.get_mut(key)?;
        member.qos = join.qos;
        member.window = join.window;
        let group = member.group;
        self.set_ready(key);
        Some(Joined {
            group,
            is_new: false,
            is_first: false,
        })
    }

    fn add(
        &mut self,
        hash: u64,
        name: &str,
        filter: &Filter<'_>,
        hasher: &KeyedHash,
    ) -> Option<(Key, bool)> {
        let entry = self.groups.vacant_entry()?;
        let key = entry.key();
        let inserted = self.filters.insert(filter, key.index(), ());
        entry.insert(Group {
            name: name.into(),
            filter: inserted.filter,
            members: SharedGroup::new(self.strategy, self.seed ^ key.to_bits()),
            queue: GroupQueue::default(),
            is_feeding: false,
        });
        let (groups, filters) = (&self.groups, &self.filters);
        self.by_name.insert_unique(hash, key.index(), |slot| {
            groups.get_at(*slot).map_or(0, |group| {
                let filter = filters.filter_text(group.filter).unwrap_or_default();
                hasher.hash_one((&*group.name, filter))
            })
        });
        Some((key, inserted.first))
    }

    fn find(&self, hash: u64, name: &str, filter: &Filter<'_>) -> Option<Key> {
        let id = self.filters.filter_id(filter)?;
        let slot = self.by_name.find(hash, |slot| {
            self.groups
                .get_at(*slot)
                .is_some_and(|group| group.filter == id && &*group.name == name)
        })?;
        self.groups.key_at(*slot)
    }

    fn find_member(&self, at: MemberRef) -> Option<Key> {
        let slot = self.by_member.find(hash_of(at), |slot| {
            self.members
                .get_at(*slot)
                .is_some_and(|member| member.at == at)
        })?;
        self.members.key_at(*slot)
    }

    /// Takes a member out, and the group with its last one.
    pub(super) fn leave(&mut self, at: MemberRef, hasher: &KeyedHash) -> Option<Ended> {
        let key = self.find_member(at)?;
        if let Ok(entry) = self
            .by_member
            .find_entry(hash_of(at), |slot| *slot == key.index())
        {
            entry.remove();
        }
        let group_key = self.members.remove(key)?.group;
        let group = self.groups.get_mut(group_key)?;
        group.members.leave(&key);
        if !group.members.is_empty() {
            return None;
        }
        let group = self.groups.remove(group_key)?;
        let filter: Box<str> = self.filters.filter_text(group.filter)?.into();
        let hash = hasher.hash_one((&*group.name, &*filter));
        if let Ok(entry) = self
            .by_name
            .find_entry(hash, |slot| *slot == group_key.index())
        {
            entry.remove();
        }
        let removed = self.filters.remove_by_id(group.filter, group_key.index())?;
        Some(Ended {
            filter,
            is_last: removed.last,
            queued: group.queue.len(),
            holder: group.queue.holder,
        })
    }

    /// A member has a connection with this window, or none. Returns its group if that has
    /// something for it.
    pub(super) fn set_online(&mut self, at: MemberRef, window: Option<u16>) -> Option<Key> {
        let key = self.find_member(at)?;
        let member = self.members.get_mut(key)?;
        member.is_online = window.is_some();
        member.window = window.unwrap_or(member.window);
        self.set_ready(key)
    }

    /// Messages that a member had are settled, or have come back. Returns its group if that has
    /// something for it.
    pub(super) fn answered(&mut self, at: MemberRef, count: u32) -> Option<Key> {
        let key = self.find_member(at)?;
        let member = self.members.get_mut(key)?;
        member.outstanding = member.outstanding.saturating_sub(count);
        self.set_ready(key)
    }

    /// Tells the group whether a member may get a message. Returns the group if the member may and
    /// there is one.
    fn set_ready(&mut self, key: Key) -> Option<Key> {
        let member = self.members.get_mut(key)?;
        let group = self.groups.get_mut(member.group)?;
        let is_ready = member.is_online && has_room(self.strategy, member);
        if is_ready != member.is_ready {
            member.is_ready = is_ready;
            group.members.set_online(&key, is_ready);
        }
        (is_ready && !group.queue.is_empty()).then_some(member.group)
    }

    pub(super) fn key_at(&self, slot: u32) -> Option<Key> {
        self.groups.key_at(slot)
    }

    /// Chooses who gets a message published with `qos`. `None` where nobody is ready: a QoS 1 or 2
    /// message then waits.
    pub(super) fn pick(&mut self, group_key: Key, publisher: u64, qos: QoS) -> Option<Picked> {
        let group = self.groups.get_mut(group_key)?;
        let members = &self.members;
        let key = if group.members.online_count() > 0 {
            let queued = |key: &Key| {
                members
                    .get(*key)
                    .map_or(usize::MAX, |member| member.outstanding as usize)
            };
            group.members.pick(publisher, queued)?
        } else if qos == QoS::AtMostOnce {
            // A full window is no reason to drop what needs none.
            let mut some = group.members.members().take(LOOKED_AT_MAX);
            let is_online = |key: &Key| members.get(*key).is_some_and(|member| member.is_online);
            some.find(|(key, _)| is_online(key)).map(|(key, _)| *key)?
        } else {
            return None;
        };
        let member = self.members.get_mut(key)?;
        let qos = qos.min(member.qos);
        let picked = Picked {
            member: member.at,
            qos,
        };
        if qos != QoS::AtMostOnce {
            member.outstanding += 1;
            self.set_ready(key);
        }
        Some(picked)
    }

    /// Whether messages wait, so that a new one has to wait behind them.
    pub(super) fn has_queue(&self, group: Key) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| !group.queue.is_empty())
    }

    /// Whether somebody is there to get what waits.
    pub(super) fn is_hungry(&self, group: Key) -> bool {
        self.groups
            .get(group)
            .is_some_and(|group| group.queue.first().is_some() && group.members.online_count() > 0)
    }

    /// Under which the store keeps a group; 0 where it does not.
    pub(super) fn holder(&self, group: Key) -> u64 {
        self.groups.get(group).map_or(0, |group| group.queue.holder)
    }

    pub(super) fn set_holder(&mut self, group: Key, holder: u64) {
        if let Some(group) = self.groups.get_mut(group) {
            group.queue.holder = holder;
        }
    }

    /// A place in a group's queue, for a message that comes now.
    pub(super) fn take_place(&mut self, group: Key) -> QueuePlace {
        let group = self.groups.get_mut(group);
        group.map_or_else(QueuePlace::default, |group| group.queue.take_place())
    }

    /// Keeps a message until a member is ready; `false` where the queue is full.
    pub(super) fn keep(&mut self, group: Key, waiting: Waiting, limits: QueueLimits) -> bool {
        let group = self.groups.get_mut(group);
        group.is_some_and(|group| group.queue.push(waiting, limits))
    }

    /// Puts messages that a member gave back before all others, in their order. Returns the newest
    /// ones, which had to go for them; `None` where the group is no more.
    pub(super) fn put_back(
        &mut self,
        group: Key,
        messages: Vec<Returned>,
        limits: QueueLimits,
    ) -> Option<Vec<Waiting>> {
        let group = self.groups.get_mut(group)?;
        Some(group.queue.put_back(messages, limits))
    }

    /// See [`GroupQueue::restore`].
    pub(super) fn restore(
        &mut self,
        group: Key,
        holder: u64,
        next: u64,
        messages: Vec<Returned>,
        limits: QueueLimits,
    ) -> Vec<Waiting> {
        self.groups.get_mut(group).map_or_else(Vec::new, |group| {
            group.queue.restore(holder, next, messages, limits)
        })
    }

    /// The oldest message that waits, where it may go.
    pub(super) fn first(&self, group: Key) -> Option<&Waiting> {
        self.groups.get(group)?.queue.first()
    }

    pub(super) fn take_first(&mut self, group: Key) -> Option<Waiting> {
        self.groups.get_mut(group)?.queue.take_first()
    }

    /// See [`GroupQueue::let_out`].
    pub(super) fn let_out(&mut self, group: Key, number: u64) {
        if let Some(group) = self.groups.get_mut(group) {
            group.queue.let_out(number);
        }
    }

    /// Notes whether a group is on the list of those that are fed; `true` if that is news.
    pub(super) fn set_feeding(&mut self, group: Key, is_feeding: bool) -> bool {
        self.groups
            .get_mut(group)
            .is_some_and(|group| std::mem::replace(&mut group.is_feeding, is_feeding) != is_feeding)
    }
}

/// Whether a member may get one message more. A strategy that binds messages to a member does not
/// look for another one because that member is slow.
fn has_room(strategy: Strategy, member: &Member) -> bool {
    matches!(strategy, Strategy::Sticky | Strategy::PublisherHash)
        || member.outstanding < u32::from(member.window)
}
