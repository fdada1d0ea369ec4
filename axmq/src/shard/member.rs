//! The sessions of this shard that are members of shared subscriptions: what they get, and what
//! they give back (DECISIONS 13).
//!
//! Every message that was dealt at QoS 1 or 2 is answered to the owner of the group once: settled
//! (acknowledged, refused by the client, or dropped by a counted policy), or given back. A QoS 2
//! message that was sent is never given back [MQTT-4.8.2-4, -5].

use std::hash::BuildHasher;

use mqtt_codec::{QoS, ReasonCode};
use slabmem::Key;
use topicmap::SharedFilter;

use super::Core;
use super::deliver::{Dealing, Wanted};
use crate::group::{Call, Join, Place, QueuePlace, Returned};
use crate::memory::allocated;
use crate::publication::View;
use crate::route::SubscriptionOptions;
use crate::session::Queued;
use crate::store::op::Op;

/// A session's share of a group.
#[derive(Debug)]
pub(super) struct Membership {
    session: Key,
    /// Keyed, of name and filter.
    hash: u64,
    name: Box<str>,
    filter: Box<str>,
    owner: u16,
    options: SubscriptionOptions,
    /// On the owner's shard; `None` until that has answered.
    group: Option<Key>,
    /// Under which the store keeps the group, as the owner has said with its last message; else 0.
    holder: u64,
}

impl Membership {
    /// What it owns on the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        allocated(self.name.len()) + allocated(self.filter.len())
    }
}

impl<S> Core<S> {
    /// Makes a session a member, or changes how it is one; what is left is to ask the owner with
    /// [`Core::join`].
    pub(super) fn enrol(
        &mut self,
        session_key: Key,
        wanted: &SharedFilter<'_>,
        options: SubscriptionOptions,
    ) -> Result<Key, ReasonCode> {
        let (name, filter) = (wanted.group, wanted.filter.as_str());
        if let Some(key) = self.membership(session_key, name, filter) {
            if let Some(membership) = self.memberships.get_mut(key) {
                membership.options = options;
            }
            return Ok(key);
        }
        let limit = self.shared.limits.subscriptions_per_client as usize;
        let Some(session) = self.sessions.get_mut(session_key) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        if session.filters.len() >= limit {
            return Err(ReasonCode::QuotaExceeded);
        }
        let hash = self.shared.hasher.hash_one((name, filter));
        let membership = Membership {
            session: session_key,
            hash,
            name: name.into(),
            filter: filter.into(),
            owner: self.shared.owner_of(name, filter),
            options,
            group: None,
            holder: 0,
        };
        let key = self
            .memberships
            .insert(membership)
            .map_err(|_| ReasonCode::QuotaExceeded)?;
        session.filters.insert_shared(key);
        Ok(key)
    }

    /// Takes back what [`Core::enrol`] has done, where no owner has been asked.
    pub(super) fn unenrol(&mut self, session: Key, members: impl Iterator<Item = Key>) {
        for member in members {
            let is_new = |membership: &Membership| membership.group.is_none();
            if self.memberships.get(member).is_some_and(is_new) {
                self.memberships.remove(member);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.filters.remove_shared(member);
                }
            }
        }
    }

    fn membership(&self, session: Key, name: &str, filter: &str) -> Option<Key> {
        let shared = self.sessions.get(session)?.filters.shared();
        if shared.is_empty() {
            return None;
        }
        let hash = self.shared.hasher.hash_one((name, filter));
        let is_it = |key: &&Key| {
            self.memberships.get(**key).is_some_and(|membership| {
                membership.hash == hash
                    && &*membership.name == name
                    && &*membership.filter == filter
            })
        };
        shared.iter().find(is_it).copied()
    }

    /// Asks the owner of the group to take the member in, or to note what has changed.
    pub(super) fn join(&mut self, member: Key, place: Option<Place>) {
        let Some(membership) = self.memberships.get(member) else {
            return;
        };
        let owner = membership.owner;
        let session = self.sessions.get(membership.session);
        let window = session
            .and_then(|session| self.connections.get(session.connection?))
            .map_or(1, |connection| connection.receive_maximum);
        let join = Join {
            member,
            name: membership.name.clone(),
            filter: membership.filter.clone(),
            qos: membership.options.qos,
            window,
            is_kept: self.holder(membership.session) != 0 && !self.is_restoring,
            place,
        };
        self.call(owner, Call::Join(Box::new(join)));
    }

    /// The owner has answered.
    pub(super) fn on_joined(
        &mut self,
        owner: u16,
        member: Key,
        group: Option<Key>,
        place: Option<Place>,
    ) {
        let code = if let (Some(membership), Some(_)) = (self.memberships.get_mut(member), group) {
            membership.group = group;
            self.note_joined(member);
            None
        } else {
            if group.is_some() {
                // The same SUBSCRIBE had asked twice, and been refused before.
                self.call(owner, Call::Leave { member });
            }
            if let Some(membership) = self.memberships.remove(member)
                && let Some(session) = self.sessions.get_mut(membership.session)
            {
                session.filters.remove_shared(member);
            }
            Some(ReasonCode::QuotaExceeded)
        };
        if let Some(place) = place {
            self.suback_answered(place, code);
        }
    }

    /// The subscription that a membership comes from.
    pub(super) fn group_text(&self, member: Key) -> Option<Box<str>> {
        let membership = self.memberships.get(member)?;
        Some(format!("$share/{}/{}", membership.name, membership.filter).into())
    }

    fn note_joined(&mut self, member: Key) {
        let Some(membership) = self.memberships.get(member) else {
            return;
        };
        let (holder, options) = (self.holder(membership.session), membership.options);
        if let (true, Some(filter)) = (holder != 0, self.group_text(member)) {
            // Said again for a membership of an earlier run, which does no harm.
            self.journal.push(Op::Subscribe {
                holder,
                filter,
                options,
            });
        }
    }

    fn note_left(&mut self, session: Key, member: Key) {
        let holder = self.holder(session);
        if let (true, Some(filter)) = (holder != 0, self.group_text(member)) {
            self.journal.push(Op::Unsubscribe { holder, filter });
        }
    }

    /// A message that the owner of a group has chosen a member of this shard for.
    pub(super) fn take_dealt(
        &mut self,
        owner: u16,
        group: Key,
        member: Key,
        view: &View<'_>,
        (qos, place): (QoS, QueuePlace),
        kept: &mut Option<Key>,
    ) {
        let is_member = self.memberships.contains(member);
        let membership = self.memberships.get_mut(member).filter(|membership| {
            self.sessions
                .get(membership.session)
                .is_some_and(|session| session.connection.is_some())
        });
        let Some(membership) = membership else {
            // It went while the message was on its way.
            let publication = view.to_kept();
            let place = if is_member {
                self.put_in_place(place, &publication)
            } else {
                place
            };
            let messages = vec![Returned {
                publication,
                qos,
                place,
            }];
            let gone = Call::Gone {
                group,
                member,
                messages,
            };
            self.call(owner, gone);
            return;
        };
        // A message that has no place, at QoS 0, says nothing of the group.
        if place.holder != 0 {
            membership.holder = place.holder;
        }
        let (session, options) = (membership.session, membership.options);
        if view.is_expired(self.now_ms) {
            // On its way from the owner of the group.
            self.counters.dropped_expired += 1;
            self.clear_place(place, view);
            if qos != QoS::AtMostOnce {
                self.settled(member);
            }
            return;
        }
        let identifier = [options.identifier];
        let wanted = Wanted {
            qos,
            retain: view.retain() && options.retain_as_published,
            dup: false,
            packet_id: None,
            identifiers: if options.identifier == 0 {
                &[]
            } else {
                &identifier
            },
            dealing: Some(Dealing {
                member,
                place: place.number,
            }),
            number: None,
        };
        self.deliver_to(session, view, &wanted, kept);
        self.clear_place(place, view);
    }

    /// A session needs a message no more: it is acknowledged, refused or dropped.
    pub(super) fn done_with(&mut self, session: Key, queued: &Queued) {
        self.forget_queued(session, queued);
        self.let_settled_go(queued);
    }

    /// The same, where the store knows already.
    pub(super) fn let_settled_go(&mut self, queued: &Queued) {
        self.release(queued.message);
        if let Some(member) = queued.member() {
            self.settled(member);
        }
    }

    /// Tells the owner that a message needs no other member.
    pub(super) fn settled(&mut self, member: Key) {
        if let Some(owner) = self.memberships.get(member).map(|found| found.owner) {
            self.call(owner, Call::Settled { member, count: 1 });
        }
    }

    fn members_of(&self, session: Key) -> Vec<Key> {
        self.sessions
            .get(session)
            .map_or_else(Vec::new, |session| session.filters.shared().to_vec())
    }

    fn call_owners(&mut self, session: Key, make: impl Fn(Key) -> Call) {
        for member in self.members_of(session) {
            if let Some(owner) = self.memberships.get(member).map(|found| found.owner) {
                self.call(owner, make(member));
            }
        }
    }

    /// The session has lost its connection: groups pass it over from now on.
    pub(super) fn go_away(&mut self, session: Key) {
        self.call_owners(session, |member| Call::Away { member });
    }

    /// The session has a connection again.
    pub(super) fn come_back(&mut self, session: Key, window: u16) {
        self.call_owners(session, |member| Call::Online { member, window });
    }

    /// Gives back what another member may get instead of a session that has no connection: what
    /// was not sent, and what it had not acknowledged at QoS 1. QoS 2 waits for it.
    pub(super) fn give_back(&mut self, session: Key) {
        let members = self.members_of(session);
        if members.is_empty() {
            return;
        }
        let Some(flow) = self
            .sessions
            .get_mut(session)
            .and_then(|session| session.flow.as_mut())
        else {
            return;
        };
        let taken = flow.outgoing.take_shared();
        let bundles = self.take_out(session, taken);
        self.send_back(bundles);
    }

    /// Makes messages that were a session's their groups' again, as far as the store goes. Returns
    /// them by membership.
    fn take_out(&mut self, session: Key, taken: Vec<(Key, Queued)>) -> Vec<(Key, Vec<Returned>)> {
        let mut bundles: Vec<(Key, Vec<Returned>)> = Vec::new();
        for (member, queued) in taken {
            let publication = queued
                .message
                .and_then(|key| self.messages.get(key))
                .map(|kept| kept.publication.clone());
            let Some(publication) = publication else {
                self.done_with(session, &queued);
                continue;
            };
            let place = QueuePlace {
                holder: self.memberships.get(member).map_or(0, |found| found.holder),
                number: queued.place(),
                is_stored: false,
            };
            let place = self.put_in_place(place, &publication);
            self.forget_queued(session, &queued);
            self.release(queued.message);
            let returned = Returned {
                publication,
                qos: queued.qos,
                place,
            };
            match bundles.iter_mut().find(|(other, _)| *other == member) {
                Some((_, messages)) => messages.push(returned),
                None => bundles.push((member, vec![returned])),
            }
        }
        bundles
    }

    fn send_back(&mut self, bundles: Vec<(Key, Vec<Returned>)>) {
        for (member, messages) in bundles {
            let Some(membership) = self.memberships.get(member) else {
                continue;
            };
            let owner = membership.owner;
            if let Some(group) = membership.group {
                let gone = Call::Gone {
                    group,
                    member,
                    messages,
                };
                self.call(owner, gone);
            }
        }
    }

    /// UNSUBSCRIBE of a shared subscription. What was sent is still the session's to finish
    /// [MQTT-3.10.4-3]; what was not is another member's.
    pub(super) fn leave_group(&mut self, session_key: Key, wanted: &SharedFilter<'_>) -> bool {
        let Some(member) = self.membership(session_key, wanted.group, wanted.filter.as_str())
        else {
            return false;
        };
        let mut taken = Vec::new();
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.filters.remove_shared(member);
            if let Some(flow) = session.flow.as_mut() {
                taken = flow.outgoing.leave_shared(member);
            }
        }
        self.note_left(session_key, member);
        self.leave(session_key, member, taken);
        true
    }

    /// The session ends. QoS 2 messages that were sent end with it [MQTT-4.8.2-5].
    pub(super) fn leave_groups(&mut self, session_key: Key) {
        let members = self.members_of(session_key);
        if members.is_empty() {
            return;
        }
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let mut taken = session
            .flow
            .as_mut()
            .map_or_else(Vec::new, |flow| flow.outgoing.take_shared());
        for member in members {
            let own = taken.extract_if(.., |(other, _)| *other == member);
            let own = own.collect();
            self.leave(session_key, member, own);
        }
    }

    /// First leave, so that the owner does not choose the same member again; then give back.
    fn leave(&mut self, session: Key, member: Key, taken: Vec<(Key, Queued)>) {
        // What is said of the group's messages has to be there before the group may end.
        let bundles = self.take_out(session, taken);
        if let Some(membership) = self.memberships.get(member) {
            if membership.holder != 0 {
                self.journal.hurry();
            }
            let owner = membership.owner;
            self.call(owner, Call::Leave { member });
        }
        self.send_back(bundles);
        self.memberships.remove(member);
    }
}
