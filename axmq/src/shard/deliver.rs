//! A routed publication reaches the sessions of this shard.

use std::rc::Rc;

use mqtt_codec::{PacketId, PacketType, QoS, ReasonCode};
use slabmem::{Key, Slab};
use topicmap::{Audience, Target};

use super::aliases::{self, Naming};
use super::connection::{Connection, flag};
use super::images::{Look, TooLarge};
use super::rules::unmounted;
use super::{Core, Kept, mark};
use crate::config::Limits;
use crate::message::{AcceptTag, Batch, Forwarded, Reply};
use crate::publication::{Publication, SessionRef, View};
use crate::route::Route;
use crate::session::{Outgoing, Queued, Resend};

/// Messages that one slice of background work sends to one session.
const DRAINED_A_SLICE: usize = 16;

/// A group's message for one of its members.
#[derive(Copy, Clone, Debug)]
pub(super) struct Dealing {
    pub(super) member: Key,
    /// In the group's queue.
    pub(super) place: u64,
}

/// How one session wants a publication.
#[derive(Copy, Clone, Debug)]
pub(super) struct Wanted<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) packet_id: Option<PacketId>,
    pub(super) identifiers: &'a [u32],
    /// How the session gets it, where it is a group's message.
    pub(super) dealing: Option<Dealing>,
    /// The number that it has in all sessions that can give it that one.
    pub(super) number: Option<u64>,
}

impl Wanted<'_> {
    /// The membership by which a session gets it, and the message's place in the group's queue.
    fn dealt(&self) -> Option<(Key, u64)> {
        self.dealing.map(|dealing| (dealing.member, dealing.place))
    }
}

/// What becomes of a QoS 1 or 2 message that comes for a session.
pub(super) enum Course {
    /// It goes out, by this connection.
    Send(Key),
    Wait,
    /// As many wait as may.
    Drop,
}

impl Course {
    pub(super) fn of<S>(
        outgoing: &Outgoing,
        connection: Option<Key>,
        connections: &Slab<Connection<S>>,
        limits: &Limits,
    ) -> Self {
        let has_room = |key: &Key| {
            connections.get(*key).is_some_and(|connection| {
                outgoing.has_room(connection.receive_maximum)
                    && connection.out.bytes() < limits.out_queue_bytes as usize
            })
        };
        let waiting = outgoing.waiting_count();
        // While there is a tail, a page may be under way that would bring it too.
        let is_next = waiting == 0 && !outgoing.has_tail();
        match connection.filter(|key| is_next && has_room(key)) {
            Some(key) => Self::Send(key),
            _ if waiting < limits.session_queue_messages as usize
                && outgoing.waiting_bytes() < limits.session_queue_bytes =>
            {
                Self::Wait
            }
            _ => Self::Drop,
        }
    }
}

impl<S> Core<S> {
    /// The process-wide name of a session of this shard.
    pub(super) fn reference(&self, key: Key) -> SessionRef {
        SessionRef {
            shard: self.me,
            key,
        }
    }

    /// Whether a target gets what this publisher publishes, as far as no-local goes.
    pub(super) fn hears(&self, view: &View<'_>, target: &Target) -> bool {
        let is_source = view
            .source
            .is_some_and(|source| source.shard == self.me && source.key.index() == target.slot);
        match target.audience {
            Audience::Everybody => true,
            Audience::NotThePublisher => !is_source,
            Audience::OnlyThePublisher => is_source,
        }
    }

    /// Delivers to every target of this shard.
    pub(super) fn deliver_route(&mut self, view: &View<'_>, route: &Rc<Route>) {
        if view.is_expired(self.now_ms) {
            // On its way between shards, or when it came.
            let hear = |target: &&Target| self.hears(view, target);
            let count = route.targets.iter().filter(hear).count() + route.groups.len();
            self.counters.dropped_expired += count as u64;
            return;
        }
        if !self.join_run(view, route) {
            self.images.begin();
            let mut kept = None;
            for target in &route.targets {
                if self.hears(view, target) {
                    self.deliver(view, target, route, &mut kept);
                }
            }
            if !route.groups.is_empty() {
                self.deal_route(view, route, &mut kept);
            }
        }
        if view.qos() != QoS::AtMostOnce && route.is_wide() {
            self.numbered += 1;
        }
    }

    pub(super) fn deliver(
        &mut self,
        view: &View<'_>,
        target: &Target,
        route: &Route,
        kept: &mut Option<Key>,
    ) {
        let wanted = Wanted {
            qos: view
                .qos()
                .min(QoS::from_u8(target.qos).unwrap_or(QoS::AtMostOnce)),
            retain: view.retain() && target.retain_as_published,
            dup: false,
            packet_id: None,
            identifiers: route.identifiers(target),
            dealing: None,
            number: route.is_wide().then_some(self.numbered),
        };
        let Some(key) = self.sessions.key_at(target.slot) else {
            return;
        };
        let Some(session) = self.sessions.get(key) else {
            return;
        };
        let is_replaying = session.is_replaying;
        let is_queued = self.deliver_to(key, view, &wanted, kept);
        if is_replaying && view.retain() {
            self.note_live(key, view.topic(), is_queued);
        }
    }

    /// Delivers to one session; `false` where the message was dropped, and counted. `kept` is the
    /// message's place in the table, once it has one.
    pub(super) fn deliver_to(
        &mut self,
        session: Key,
        view: &View<'_>,
        wanted: &Wanted<'_>,
        kept: &mut Option<Key>,
    ) -> bool {
        if wanted.qos == QoS::AtMostOnce {
            self.deliver_once_at_most(session, view, wanted)
        } else {
            self.deliver_acknowledged(session, view, wanted, kept)
        }
    }

    fn deliver_once_at_most(&mut self, session: Key, view: &View<'_>, wanted: &Wanted<'_>) -> bool {
        let connection = self
            .sessions
            .get(session)
            .and_then(|session| session.connection);
        let Some(key) = connection else {
            self.deliver_local(session, view, wanted);
            return false;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let queued = connection.out.bytes();
        let limits = &self.shared.limits;
        if queued >= limits.out_queue_soft_bytes as usize {
            if connection.has(flag::STALLED) {
                self.counters.dropped_stalled += 1;
                return false;
            }
            if queued >= limits.out_queue_bytes as usize {
                self.counters.dropped_out_queue_full += 1;
                self.press(key);
                return false;
            }
        }
        self.push(key, view, wanted)
    }

    fn deliver_acknowledged(
        &mut self,
        session_key: Key,
        view: &View<'_>,
        wanted: &Wanted<'_>,
        kept: &mut Option<Key>,
    ) -> bool {
        let Some(message) = self.keep(view, kept) else {
            self.counters.dropped_no_memory += 1;
            if let Some(dealing) = wanted.dealing {
                self.settled(dealing.member);
            }
            return false;
        };
        let Some(session) = self.sessions.get_mut(session_key) else {
            return false;
        };
        let queued = Queued::new(message, view.len(), wanted.qos, wanted.retain)
            .with(wanted.identifiers, wanted.dealt());
        if session.holder != 0 {
            return self.deliver_kept(session_key, view, wanted, queued);
        }
        let connection = session.connection;
        let outgoing = &mut session.flow().outgoing;
        match Course::of(outgoing, connection, &self.connections, &self.shared.limits) {
            Course::Send(key) => {
                if let Some(number) = wanted.number {
                    self.numbered = self.numbered.max(outgoing.align(number));
                }
                let packet_id = outgoing.send(queued);
                self.send_first(session_key, key, view, wanted, packet_id)
            }
            Course::Wait => {
                outgoing.wait(queued);
                true
            }
            Course::Drop => {
                self.counters.dropped_session_queue_full +=
                    1 + u64::from(planted!(DropCountedTwice));
                self.done_with(session_key, &queued);
                false
            }
        }
    }

    /// Sends a message that is in flight from now on; where it can't be queued, it is given up.
    pub(super) fn send_first(
        &mut self,
        session: Key,
        connection: Key,
        view: &View<'_>,
        wanted: &Wanted<'_>,
        packet_id: PacketId,
    ) -> bool {
        let wanted = Wanted {
            packet_id: Some(packet_id),
            ..*wanted
        };
        let is_queued = self.push(connection, view, &wanted);
        if !is_queued {
            self.give_up(session, packet_id, wanted.qos);
        }
        is_queued
    }

    /// Puts the message in the table, once for all its sessions, and counts one session more.
    pub(super) fn keep(&mut self, view: &View<'_>, kept: &mut Option<Key>) -> Option<Key> {
        if let Some(key) = *kept
            && let Some(message) = self.messages.get_mut(key)
        {
            message.sessions += 1;
            return Some(key);
        }
        let message = Kept {
            publication: view.to_kept(),
            sessions: 1,
            said_in: 0,
        };
        let cost = message.publication.cost() as u64;
        *kept = self.messages.insert(message).ok();
        self.message_bytes += kept.map_or(0, |_| cost);
        *kept
    }

    /// One session needs the message no more.
    pub(super) fn release(&mut self, message: Option<Key>) {
        let Some(message) = message else { return };
        let Some(kept) = self.messages.get_mut(message) else {
            return;
        };
        kept.sessions -= 1;
        if kept.sessions == 0
            && let Some(kept) = self.messages.remove(message)
        {
            self.message_bytes -= kept.publication.cost() as u64;
        }
    }

    /// A message that the client cannot take is as good as delivered [MQTT-3.1.2-25].
    pub(super) fn give_up(&mut self, session_key: Key, packet_id: PacketId, qos: QoS) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        if let Some(queued) = session.flow().outgoing.acknowledge(packet_id, qos) {
            self.done_with(session_key, &queued);
        }
    }

    /// Queues the frame on a connection; `false` where the client cannot take so large a one, or a
    /// hook says that it may not have it.
    pub(super) fn push(&mut self, key: Key, view: &View<'_>, wanted: &Wanted<'_>) -> bool {
        if self.shared.hooks.sees_deliveries()
            && !self.may_deliver(key, view, wanted.qos, wanted.retain)
        {
            return false;
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        debug_assert!(connection.is_connected(), "closing lets the session go");
        let unmounted = connection.rules().and_then(|rules| unmounted(view, rules));
        let view = unmounted.as_ref().unwrap_or(view);
        let look = Look {
            version: connection.version,
            qos: wanted.qos,
            retain: wanted.retain,
            dup: wanted.dup,
            packet_id: wanted.packet_id,
            identifiers: wanted.identifiers,
            is_renamed: unmounted.is_some(),
            naming: Naming::Whole,
        };
        connection.out.prepare(&mut self.blocks);
        let (images, hasher) = (&mut self.images, &self.shared.hasher);
        match aliases::push(images, connection, view, look, hasher, self.now_ms) {
            Ok(is_aliased) => self.counters.publishes_aliased += u64::from(is_aliased),
            Err(TooLarge) => {
                self.counters.dropped_too_large += 1;
                return false;
            }
        }
        mark(&mut self.dirty, connection, key);
        self.counters.publishes_sent += 1;
        self.counters.publish_bytes_sent += view.payload().len() as u64;
        if connection.out.bytes() >= self.shared.limits.out_queue_soft_bytes as usize {
            self.press(key);
        }
        if !self.tracers.is_empty() {
            self.trace_publish(key, view, wanted);
        }
        true
    }

    /// Sends a kept message under its packet id.
    pub(super) fn send_kept(&mut self, key: Key, message: Key, wanted: &Wanted<'_>) -> bool {
        // A share of its own, so that the table may change under it: one atomic add.
        let Some(publication) = self
            .messages
            .get(message)
            .map(|kept| kept.publication.clone())
        else {
            return false;
        };
        self.images.begin();
        self.push(key, &publication.view(), wanted)
    }

    /// Puts a session on the list of those whose waiting messages go out as there is room.
    pub(super) fn drain_later(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let waits = session
            .flow
            .as_ref()
            .is_some_and(|flow| flow.outgoing.pending() > 0);
        if waits && session.connection.is_some() && !session.is_draining {
            session.is_draining = true;
            self.drains.push_back(key);
        }
    }

    /// Sends up to `most` of what waits in one session: first what its new connection has to get
    /// again, then what is new.
    pub(super) fn drain(&mut self, session_key: Key, most: usize) {
        for _ in 0..most {
            let Some(session) = self.sessions.get_mut(session_key) else {
                return;
            };
            let (Some(key), Some(flow)) = (session.connection, session.flow.as_mut()) else {
                return;
            };
            let Some(connection) = self.connections.get(key) else {
                return;
            };
            if connection.out.bytes() >= self.shared.limits.out_queue_soft_bytes as usize {
                return;
            }
            let outgoing = &mut flow.outgoing;
            let (id, queued, dup) = match outgoing.next_resend(connection.receive_maximum) {
                Some(Resend::Release(id)) => {
                    self.ack(key, PacketType::PubRel, id, ReasonCode::Success);
                    continue;
                }
                Some(Resend::Publish(id, queued)) => (id, queued, true),
                None => {
                    if !outgoing.has_room(connection.receive_maximum) {
                        return;
                    }
                    let Some(queued) = outgoing.next_waiting() else {
                        self.read_ahead(session_key);
                        return;
                    };
                    let Some(message) = queued.message else {
                        let id = outgoing.send(queued);
                        self.ack(key, PacketType::PubRel, id, ReasonCode::Success);
                        continue;
                    };
                    if is_expired(&self.messages, message, self.now_ms) {
                        self.counters.dropped_expired += 1;
                        self.done_with(session_key, &queued);
                        self.drain_later(session_key);
                        continue;
                    }
                    let dup = queued.may_be_known();
                    (outgoing.send(queued.clone()), queued, dup)
                }
            };
            let Some(message) = queued.message else {
                continue;
            };
            let wanted = Wanted {
                qos: queued.qos,
                retain: queued.retain(),
                dup,
                packet_id: Some(id),
                identifiers: queued.identifiers(),
                dealing: None,
                number: None,
            };
            if !self.send_kept(key, message, &wanted) {
                self.give_up(session_key, id, queued.qos);
                // No acknowledgement will come for it, so none will let out what waits behind it.
                self.drain_later(session_key);
            }
        }
    }

    pub(super) fn pending(&self, session: Key) -> usize {
        self.sessions
            .get(session)
            .and_then(|session| session.flow.as_ref())
            .map_or(0, |flow| flow.outgoing.pending())
    }

    /// A slice of background work: what waits in one session; `false` when none waits.
    pub(crate) fn drain_one(&mut self) -> bool {
        let Some(key) = self.drains.pop_front() else {
            return false;
        };
        if let Some(session) = self.sessions.get_mut(key) {
            session.is_draining = false;
        }
        let before = self.pending(key);
        self.drain(key, DRAINED_A_SLICE);
        // Without progress the next acknowledgement or write puts it on the list again.
        if self.pending(key) < before {
            self.drain_later(key);
        }
        true
    }

    /// Queues a publication for other shards; each gets it in the batch of this turn.
    pub(super) fn forward(&mut self, view: &View<'_>, shards: u64, accept: Option<AcceptTag>) {
        let mut left = shards;
        while left != 0 {
            let shard = left.trailing_zeros() as usize;
            left &= left - 1;
            let Some(outbox) = self.outboxes.get_mut(shard) else {
                continue;
            };
            let publication = view.to_publication();
            outbox.cost += publication.cost() as u64;
            outbox.items.push(Forwarded {
                publication,
                accept,
            });
        }
    }

    /// Routes what another shard has forwarded, and answers it.
    pub(crate) fn on_batch(&mut self, mut batch: Batch) {
        self.felt_pressure = false;
        for Forwarded {
            publication,
            accept,
        } in batch.items.drain(..)
        {
            self.journal.feel();
            self.staging = match accept {
                Some(AcceptTag { commit, .. }) if commit != 0 => commit,
                _ => u64::MAX,
            };
            self.deliver_forwarded(&publication);
            self.staging = u64::MAX;
            let Some(mut accept) = accept else { continue };
            accept.is_refused = self.journal.felt().writes && self.has_store_failed();
            if accept.commit == 0 && !accept.is_refused && self.accept_waits() {
                self.keep_back(batch.from, accept);
            } else if let Some(outbox) = self.outboxes.get_mut(usize::from(batch.from)) {
                outbox.accepted.push(accept);
            }
        }
        self.end_run();
        let holds = (self.felt_pressure && self.pressing > 0)
            || self.deals_are_congested()
            || self.journal.is_swamped();
        let Some(outbox) = self.outboxes.get_mut(usize::from(batch.from)) else {
            return;
        };
        outbox.returned = batch.items;
        outbox.has_answer = true;
        if holds {
            outbox.held_cost += batch.cost;
        } else {
            outbox.returned_cost += batch.cost;
        }
    }

    fn deliver_forwarded(&mut self, publication: &Publication) {
        let view = publication.view();
        let Ok(topic) = self
            .topic_memo
            .parse(view.topic(), &self.shared.topic_limits)
        else {
            debug_assert!(false, "the publisher's shard has checked the topic");
            return;
        };
        let route = self.look_up(&topic);
        self.deliver_route(&view, &route);
    }

    /// Another shard has taken a batch of ours.
    pub(crate) fn on_reply(&mut self, reply: Reply) {
        if let Some(outbox) = self.outboxes.get_mut(usize::from(reply.from)) {
            let leak = u64::from(planted!(CreditLeak)) * reply.cost / 2;
            outbox.unanswered = outbox.unanswered.saturating_sub(reply.cost - leak);
            outbox.dealt_unanswered = outbox.dealt_unanswered.saturating_sub(reply.dealt_cost);
            outbox.spare = reply.spare;
        }
        self.release_held();
        self.feed_starved();
        for tag in reply.accepted {
            self.accepted(tag);
        }
        self.resume_paused();
    }
}

fn is_expired(messages: &Slab<Kept>, message: Key, now_ms: u64) -> bool {
    messages
        .get(message)
        .is_none_or(|kept| kept.publication.view().is_expired(now_ms))
}
