//! The owner of shared subscriptions deals messages out to their members.
//!
//! A QoS 1 or 2 message goes to a member that is online and has room in its window; while there is
//! none, it waits in the group's queue. What a member gives back goes before all that waits. So
//! there is one place for messages that nobody has, and one way out of it: [`Core::feed_one`].

use std::sync::Arc;

use mqtt_codec::QoS;
use slabmem::Key;
use topicmap::Filter;

use super::Core;
use super::group_queue::QueueLimits;
use super::groups::{Ended, Joined, Picked};
use crate::group::{Call, Dealt, GroupMail, Join, MemberRef, QueuePlace, Returned};
use crate::publication::{SessionRef, View};
use crate::route::Route;

/// Messages of one group that one slice of background work deals out.
const FED_A_SLICE: usize = 16;

/// A number that stays with a publisher as long as its session lasts.
fn publisher_hash(source: Option<SessionRef>) -> u64 {
    source.map_or(0, |source| {
        let bits = source.key.to_bits() ^ (u64::from(source.shard) << 48);
        bits.wrapping_mul(0x9E37_79B9_7F4A_7C15)
    })
}

impl<S> Core<S> {
    pub(super) fn queue_limits(&self) -> QueueLimits {
        QueueLimits {
            messages: self.shared.limits.shared_queue_messages as usize,
            bytes: self.shared.limits.shared_queue_bytes,
        }
    }

    /// Gives a publication to one member of each group of its route.
    pub(super) fn deal_route(&mut self, view: &View<'_>, route: &Route, kept: &mut Option<Key>) {
        for slot in &route.groups {
            let Some(group) = self.groups.key_at(*slot) else {
                debug_assert!(false, "the end of a group voids its routes");
                continue;
            };
            let waits = view.qos() != QoS::AtMostOnce;
            let is_queued = self.groups.has_queue(group) || self.queues_first(group, view);
            let picked = if waits && is_queued {
                None
            } else {
                self.groups
                    .pick(group, publisher_hash(view.source), view.qos())
            };
            match picked {
                Some(picked) => {
                    let place = self.groups.take_place(group);
                    self.deal_to(group, picked, view, place, kept);
                }
                None if waits => self.queue_for_group(group, view),
                None => self.counters.dropped_offline += 1,
            }
        }
    }

    fn deal_to(
        &mut self,
        group: Key,
        picked: Picked,
        view: &View<'_>,
        place: QueuePlace,
        kept: &mut Option<Key>,
    ) {
        let MemberRef { shard, key: member } = picked.member;
        if shard == self.me {
            let dealt = (picked.qos, place);
            self.take_dealt(shard, group, member, view, dealt, kept);
            return;
        }
        let Some(outbox) = self.outboxes.get_mut(usize::from(shard)) else {
            return;
        };
        let publication = view.to_publication();
        outbox.dealt_cost += publication.cost() as u64;
        outbox.dealt.push(Dealt {
            group,
            member,
            publication,
            qos: picked.qos,
            place,
        });
    }

    /// Puts a group on the list of those whose queue is dealt out, if somebody is there for it.
    pub(super) fn feed(&mut self, group: Key) {
        if self.groups.is_hungry(group) && self.groups.set_feeding(group, true) {
            self.feeds.push_back(group);
        }
    }

    /// A slice of background work: the queue of one group; `false` when none can be dealt out.
    pub(crate) fn feed_one(&mut self) -> bool {
        let Some(group) = self.feeds.pop_front() else {
            return false;
        };
        if self.deals_are_congested() {
            // The next reply of the shard that is behind puts it on the list again.
            self.starved.push(group);
            return true;
        }
        self.groups.set_feeding(group, false);
        for _ in 0..FED_A_SLICE {
            let Some(first) = self.groups.first(group) else {
                return true;
            };
            if self.is_closing && first.place.is_stored {
                return true;
            }
            let view = first.publication.view();
            if view.is_expired(self.now_ms) {
                if let Some(waiting) = self.groups.take_first(group) {
                    self.clear_place(waiting.place, &waiting.publication.view());
                }
                self.counters.dropped_expired += 1;
                continue;
            }
            let (publisher, qos) = (publisher_hash(view.source), view.qos());
            let Some(picked) = self.groups.pick(group, publisher, qos) else {
                return true;
            };
            let Some(waiting) = self.groups.take_first(group) else {
                return true;
            };
            let place = self.take_place_back(&waiting);
            self.images.begin();
            let view = waiting.publication.view();
            self.deal_to(group, picked, &view, place, &mut None);
        }
        self.feed(group);
        true
    }

    /// Goes on with the groups that waited for another shard to catch up.
    pub(super) fn feed_starved(&mut self) {
        if !self.starved.is_empty() && !self.deals_are_congested() {
            self.feeds.extend(self.starved.drain(..));
        }
    }

    /// Another shard has not taken what this one has dealt to its members, up to the credit for it.
    pub(super) fn deals_are_congested(&self) -> bool {
        let limit = self.credit;
        self.outboxes
            .iter()
            .any(|outbox| outbox.dealt_unanswered + outbox.dealt_cost >= limit)
    }

    /// Says something to a shard; to this one at once.
    pub(super) fn call(&mut self, shard: u16, call: Call) {
        if shard == self.me {
            self.on_call(shard, call);
        } else if let Some(outbox) = self.outboxes.get_mut(usize::from(shard)) {
            match (outbox.calls.last_mut(), &call) {
                (
                    Some(Call::Settled { member, count }),
                    Call::Settled {
                        member: same,
                        count: more,
                    },
                ) if member == same => *count += more,
                _ => outbox.calls.push(call),
            }
        }
    }

    /// What another shard has to say about groups.
    pub(crate) fn on_group_mail(&mut self, mail: GroupMail) {
        let GroupMail {
            from,
            calls,
            dealt,
            dealt_cost,
        } = mail;
        for call in calls {
            self.on_call(from, call);
        }
        if dealt.is_empty() {
            return;
        }
        self.felt_pressure = false;
        for Dealt {
            group,
            member,
            publication,
            qos,
            place,
        } in dealt
        {
            self.images.begin();
            let view = publication.view();
            self.take_dealt(from, group, member, &view, (qos, place), &mut None);
        }
        let holds = (self.felt_pressure && self.pressing > 0) || self.journal.is_swamped();
        let Some(outbox) = self.outboxes.get_mut(usize::from(from)) else {
            return;
        };
        outbox.has_answer = true;
        if holds {
            outbox.held_dealt_cost += dealt_cost;
        } else {
            outbox.returned_dealt_cost += dealt_cost;
        }
    }

    fn on_call(&mut self, from: u16, call: Call) {
        let at = |key| MemberRef { shard: from, key };
        match call {
            Call::Join(join) => self.on_join(from, *join),
            Call::Joined {
                member,
                group,
                place,
            } => self.on_joined(from, member, group, place),
            Call::Online { member, window } => {
                if let Some(group) = self.groups.set_online(at(member), Some(window)) {
                    self.feed(group);
                }
            }
            Call::Away { member } => {
                self.groups.set_online(at(member), None);
            }
            Call::Leave { member } => self.on_leave(at(member)),
            Call::Settled { member, count } => {
                if let Some(group) = self.groups.answered(at(member), count) {
                    self.feed(group);
                }
            }
            Call::Gone {
                group,
                member,
                messages,
            } => self.on_gone(group, at(member), messages),
        }
    }

    fn on_join(&mut self, from: u16, join: Join) {
        let shared = Arc::clone(&self.shared);
        let joined = match Filter::parse(&join.filter, &shared.topic_limits) {
            Ok(filter) => {
                let joined = self.groups.join(from, &join, &filter, &shared.hasher, || {
                    shared.group_opens()
                });
                if let Some(joined) = &joined {
                    self.route_to_group(joined, &filter);
                    if join.is_kept {
                        self.begin_keeping_group(joined.group, &join.name, &join.filter);
                    }
                }
                joined
            }
            Err(_) => {
                debug_assert!(false, "the member's shard has checked the filter");
                None
            }
        };
        let group = joined.map(|joined| joined.group);
        if group.is_none() {
            self.counters.refused_groups += 1;
        }
        let (member, place) = (join.member, join.place);
        let answer = Call::Joined {
            member,
            group,
            place,
        };
        self.call(from, answer);
        if let Some(group) = group {
            self.feed(group);
        }
    }

    /// Makes routes know a group that is new. As for a subscription of its own, index, mask and
    /// stamps are in place before the answer (DECISIONS 15).
    pub(super) fn route_to_group(&mut self, joined: &Joined, filter: &Filter<'_>) {
        if !joined.is_new {
            return;
        }
        if joined.is_first
            && let Ok(shard) = u8::try_from(self.me)
        {
            self.shared.interest.add(filter, shard);
        }
        self.shared.stamps.bump(filter);
    }

    fn on_leave(&mut self, member: MemberRef) {
        let hasher = &self.shared.hasher;
        let Some(Ended {
            filter,
            is_last,
            queued,
            holder,
        }) = self.groups.leave(member, hasher)
        else {
            return;
        };
        self.shared.group_ended();
        self.end_keeping_group(holder);
        self.counters.dropped_group_ended += queued as u64;
        if let Ok(filter) = Filter::parse(&filter, &Arc::clone(&self.shared).topic_limits) {
            self.withdraw(&filter, is_last);
        }
    }

    /// Takes back what a member could not send, or did not acknowledge before it went.
    fn on_gone(&mut self, group: Key, member: MemberRef, mut messages: Vec<Returned>) {
        let counted = messages
            .iter()
            .filter(|returned| returned.qos != QoS::AtMostOnce)
            .count();
        let counted = u32::try_from(counted).unwrap_or(u32::MAX);
        self.groups.answered(member, counted);
        // QoS 0 does not wait: another member gets it now, or nobody does.
        let at_most_once = messages.extract_if(.., |returned| {
            returned.publication.view().qos() == QoS::AtMostOnce
        });
        for Returned { publication, .. } in at_most_once.collect::<Vec<_>>() {
            let view = publication.view();
            match self
                .groups
                .pick(group, publisher_hash(view.source), view.qos())
            {
                Some(picked) => {
                    self.images.begin();
                    self.deal_to(group, picked, &view, QueuePlace::default(), &mut None);
                }
                None => self.counters.dropped_offline += 1,
            }
        }
        let count = messages.len() as u64;
        let limits = self.queue_limits();
        if self.groups.holder(group) != 0 {
            // The shard of a member that has left does not know whether the group is still there.
            for returned in &mut messages {
                returned.place = self.put_in_place(returned.place, &returned.publication);
            }
        }
        match self.groups.put_back(group, messages, limits) {
            Some(dropped) => self.drop_waiting(dropped),
            None => self.counters.dropped_group_ended += count,
        }
        self.feed(group);
    }
}
