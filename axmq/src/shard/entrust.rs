//! What the store knows of shared subscriptions.
//!
//! A group that has a member with a kept session is a holder of its own. A message of its queue has
//! a place there, and keeps it while it is with a member: so whoever has the message can say where
//! it goes in one write, out of the group's queue and into the member's, or back. What is in
//! neither queue is nowhere, and what is in one of them comes once.
//!
//! With `always` a message goes to a member only when it is durable in the group's queue: its
//! acknowledgement stands for that, and at QoS 2 it got there together with the packet id. With
//! `interval` it goes at once, and what of it was not written yet is taken back.
//!
//! Records that one shard writes and another removes need an order. What a shard says to the store
//! leaves before its mail to other shards, and what has to be there first leaves with that mail.

use std::sync::Arc;

use slabmem::Key;
use topicmap::Filter;

use super::Core;
use super::group_queue::Waiting;
use super::groups::Joined;
use super::journal::Waiter;
use crate::config::Durability;
use crate::group::{QueuePlace, Returned};
use crate::publication::{Publication, View};
use crate::store::RestoredGroup;
use crate::store::op::{Op, PlaceOp, QueueOp};

impl<S> Core<S> {
    /// The group is kept from now on, since a member's session is.
    pub(super) fn begin_keeping_group(&mut self, group: Key, name: &str, filter: &str) {
        if self.groups.holder(group) != 0 || !self.journal.is_on() {
            return;
        }
        let holder = self.journal.take_number();
        self.groups.set_holder(group, holder);
        let text = format!("$share/{name}/{filter}").into();
        self.journal.push(Op::Group { holder, text });
        // A member's record of a message must not be there before it.
        self.journal.hurry();
    }

    pub(super) fn end_keeping_group(&mut self, holder: u64) {
        if holder != 0 {
            self.journal.push(Op::EndGroup { holder });
        }
    }

    /// Whether a message for a group goes through the group's queue, whoever is ready: it has to be
    /// durable there, or the broker stops and may not be able to take it back from a member.
    pub(super) fn queues_first(&self, group: Key, view: &View<'_>) -> bool {
        match view.durability() {
            Durability::None => false,
            Durability::Interval => self.is_closing && self.groups.holder(group) != 0,
            Durability::Always => self.groups.holder(group) != 0,
        }
    }

    /// Lets a message wait for a member.
    pub(super) fn queue_for_group(&mut self, group: Key, view: &View<'_>) {
        let mut place = self.groups.take_place(group);
        place.is_stored = place.holder != 0 && view.durability() != Durability::None;
        let is_held = place.is_stored && view.durability() == Durability::Always;
        let publication = view.to_kept();
        let waiting = Waiting {
            publication: publication.clone(),
            place,
            is_held,
        };
        if !self.groups.keep(group, waiting, self.queue_limits()) {
            self.counters.dropped_group_queue_full += 1;
            return;
        }
        if place.is_stored {
            self.write_place(place, &publication);
            self.journal.note(is_held);
        }
        if is_held {
            self.journal.wait(Waiter::Deal(group, place.number));
        }
        self.feed(group);
    }

    fn write_place(&mut self, place: QueuePlace, publication: &Publication) {
        let (message, view) = (publication.number(), publication.view());
        let op = QueueOp {
            holder: place.holder,
            number: place.number,
            message,
            cost: u32::try_from(view.len()).unwrap_or(u32::MAX),
            qos: view.qos(),
            retain: view.retain(),
            is_staged: self.staging == message,
            extra: None,
        };
        self.journal
            .push(Op::Message(Box::new(publication.clone())));
        self.journal.queue(op);
        if self.staging != u64::MAX {
            // It has to be there before its commit.
            self.journal.hurry();
        }
    }

    /// A message leaves its group's queue for a member: what the store has not been told yet, it
    /// need not be.
    pub(super) fn take_place_back(&mut self, waiting: &Waiting) -> QueuePlace {
        let mut place = waiting.place;
        if place.is_stored {
            place.is_stored = !self
                .journal
                .take_back(op_of(place, &waiting.publication.view()));
        }
        place
    }

    /// A message is in its group's queue no more: a member has it, or it is dropped. Said after the
    /// member's own record, so that the message itself stays.
    pub(super) fn clear_place(&mut self, place: QueuePlace, view: &View<'_>) {
        if place.is_stored {
            self.journal.dequeue(op_of(place, view));
        }
    }

    /// A message goes back to its group. The store is told here, and not by the group's owner, so
    /// that it is never in neither queue.
    pub(super) fn put_in_place(
        &mut self,
        mut place: QueuePlace,
        publication: &Publication,
    ) -> QueuePlace {
        let is_kept = place.holder != 0 && publication.view().durability() != Durability::None;
        if is_kept && !place.is_stored {
            self.write_place(place, publication);
            // Before the owner gives it to another member, which may be in this very turn.
            if !planted!(GivenBackUnpinned) {
                self.journal.pin(place.holder, place.number);
            }
            place.is_stored = true;
        }
        place
    }

    /// Groups deal out nothing more of what the store has: an orderly stop begins.
    pub(super) fn close_groups(&mut self) {
        self.is_closing = true;
    }

    /// A shared subscription of an earlier run, with what waits in it. Its members come with their
    /// sessions, before or after it.
    pub(crate) fn restore_group(&mut self, restored: RestoredGroup) {
        let RestoredGroup {
            holder,
            name,
            filter: text,
            next,
            waiting,
        } = restored;
        let shared = Arc::clone(&self.shared);
        // Who has published them is known no more.
        let durability = shared.strongest();
        let opened = Filter::parse(&text, &shared.topic_limits)
            .ok()
            .and_then(|filter| {
                let may_add = || shared.group_opens();
                let joined = self.groups.open(&name, &filter, &shared.hasher, may_add)?;
                self.route_to_group(&joined, &filter);
                Some(joined)
            });
        let Some(Joined { group, .. }) = opened else {
            self.counters.not_restored += 1;
            self.journal.push(Op::EndGroup { holder });
            return;
        };
        let messages = waiting.into_iter().map(|(number, publication)| Returned {
            qos: publication.view().qos(),
            publication: publication.kept_as(durability),
            place: QueuePlace {
                holder,
                number,
                is_stored: true,
            },
        });
        let limits = self.queue_limits();
        let dropped = self
            .groups
            .restore(group, holder, next, messages.collect(), limits);
        self.drop_waiting(dropped);
        self.feed(group);
    }

    /// Messages that a full queue has no room for.
    pub(super) fn drop_waiting(&mut self, dropped: Vec<Waiting>) {
        self.counters.dropped_group_queue_full += dropped.len() as u64;
        for waiting in dropped {
            self.clear_place(waiting.place, &waiting.publication.view());
        }
    }
}

fn op_of(place: QueuePlace, view: &View<'_>) -> PlaceOp {
    PlaceOp {
        holder: place.holder,
        number: place.number,
        message: view.number(),
    }
}
