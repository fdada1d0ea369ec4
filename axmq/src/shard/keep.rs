//! What of a shard is kept: which ops follow from what happens to a session, and what happens when
//! the store answers.

use mqtt_codec::{PacketId, PacketType, QoS, ReasonCode, Version};
use slabmem::Key;
use topicmap::{Target, Topic};

use super::deliver::{Course, Wanted};
use super::hooked::Unacknowledged;
use super::journal::Waiter;
use super::subscribe::DueSubAck;
use super::{Core, Kept, Timer};
use crate::config::Durability;
use crate::events::Cause;
use crate::message::AcceptTag;
use crate::publication::View;
use crate::retained::{Change, RetainedFull};
use crate::session::{Outgoing, Queued};
use crate::store::op::{
    Health, Op, OpBatch, Page, PagedMessage, PlaceOp, QueueExtra, QueueOp, SessionOp, Stored,
    WillOp,
};

/// Messages of a session without a connection that stay in memory; what comes after them is on disk
/// only.
const HEAD: usize = 16;

/// A page is read when fewer messages than this wait in memory.
const READ_AHEAD: usize = 16;

/// How long a journal waits for more: most of the interval, since what is settled in the meantime
/// is never written. The rest is the store's.
fn journal_ms(interval_ms: u32) -> u64 {
    u64::from(interval_ms) - u64::from(interval_ms) / 5
}

impl<S> Core<S> {
    pub(super) fn holder(&self, session: Key) -> u64 {
        self.sessions
            .get(session)
            .map_or(0, |session| session.holder)
    }

    /// Says how a kept session is now.
    pub(super) fn note_session(&mut self, key: Key) {
        let Some(session) = self.sessions.get(key).filter(|session| session.holder != 0) else {
            return;
        };
        let will = session.will.as_deref().map(|will| WillOp {
            publication: will.publication.clone(),
            delay_s: will.delay_s,
            due_at_ms: will.due_at_ms,
            expiry_s: will.expiry_s,
            author: will.author.clone(),
        });
        let sent = session
            .flow
            .as_ref()
            .map_or(0, |flow| flow.outgoing.sent_below());
        let op = SessionOp {
            holder: session.holder,
            client_id: session.client_id.clone(),
            is_connected: session.connection.is_some(),
            expiry_s: session.expiry_s,
            ends_at_ms: session.ends_at_ms,
            sent,
            will,
        };
        self.journal.push(Op::Session(Box::new(op)));
    }

    /// Queues a message for a kept session, and says so; `false` where it was dropped.
    pub(super) fn deliver_kept(
        &mut self,
        session_key: Key,
        view: &View<'_>,
        wanted: &Wanted<'_>,
        mut queued: Queued,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return false;
        };
        let connection = session.connection;
        let outgoing = &mut session.flow().outgoing;
        let waits = view.durability() == Durability::Always;
        let is_held = waits && wanted.qos == QoS::ExactlyOnce;
        let course = Course::of(outgoing, connection, &self.connections, &self.shared.limits);
        if matches!(course, Course::Drop) {
            self.counters.dropped_session_queue_full += 1;
            self.done_with(session_key, &queued);
            return false;
        }
        let number = outgoing.number(&mut queued);
        let is_stored = view.durability() != Durability::None;
        if is_stored {
            queued.set_stored();
            self.write_queued(session_key, &queued);
            self.journal.note(waits);
            if self.staging != u64::MAX {
                // It has to be there before its commit.
                self.journal.hurry();
            }
        }
        let Some(outgoing) = self
            .sessions
            .get_mut(session_key)
            .map(|s| &mut s.flow().outgoing)
        else {
            return false;
        };
        if let (Course::Send(key), false) = (course, is_held) {
            let packet_id = outgoing.send(queued);
            return self.send_first(session_key, key, view, wanted, packet_id);
        }
        let is_beyond_head = connection.is_none() && outgoing.waiting_in_memory() >= HEAD;
        if is_stored && queued.member().is_none() && (outgoing.has_tail() || is_beyond_head) {
            outgoing.wait_on_disk(number, queued.cost);
            self.release(queued.message);
            self.drain_later(session_key);
            return true;
        }
        if is_held {
            queued.set_held();
            self.journal.wait(Waiter::LetOut(session_key, number));
        }
        outgoing.wait(queued);
        true
    }

    /// Says that a message is queued, with the message itself once a batch.
    fn write_queued(&mut self, session_key: Key, queued: &Queued) {
        let holder = self.holder(session_key);
        let Some(kept) = queued.message.and_then(|key| self.messages.get_mut(key)) else {
            return;
        };
        if kept.publication.number() == 0 {
            kept.publication.set_number(self.journal.take_number());
        }
        let message = kept.publication.number();
        if kept.said_in != self.journal.epoch() {
            kept.said_in = self.journal.epoch();
            let publication = Box::new(kept.publication.clone());
            self.journal.push(Op::Message(publication));
        }
        let group = queued.member().and_then(|member| {
            let text = self.group_text(member)?;
            Some((text, queued.place()))
        });
        let extra = (group.is_some() || !queued.identifiers().is_empty()).then(|| {
            Box::new(QueueExtra {
                identifiers: queued.identifiers().into(),
                group,
            })
        });
        self.journal.queue(QueueOp {
            holder,
            number: queued.number(),
            message,
            cost: queued.cost,
            qos: queued.qos,
            retain: queued.retain(),
            is_staged: self.staging == message,
            extra,
        });
    }

    fn place(&self, session: Key, queued: &Queued) -> Option<PlaceOp> {
        let holder = self.holder(session);
        (holder != 0 && queued.is_stored()).then(|| PlaceOp {
            holder,
            number: queued.number(),
            message: queued
                .message
                .and_then(|key| self.messages.get(key))
                .map_or(0, |kept| kept.publication.number()),
        })
    }

    /// A session needs a message no more: the store needs not either.
    pub(super) fn forget_queued(&mut self, session: Key, queued: &Queued) {
        if let Some(place) = self.place(session, queued) {
            self.journal.dequeue(place);
        }
    }

    /// What a message was promised.
    pub(super) fn durability_of(&self, queued: &Queued) -> Option<Durability> {
        let kept = self.messages.get(queued.message?)?;
        Some(kept.publication.view().durability())
    }

    /// PUBREC has come for a message, which is about to be let go.
    pub(super) fn note_received(&mut self, session: Key, queued: &Queued) {
        if let Some(place) = self.place(session, queued) {
            self.journal.release(place);
        }
    }

    /// PUBCOMP has come.
    pub(super) fn note_completed(&mut self, session: Key, number: u64) {
        let holder = self.holder(session);
        if holder != 0 {
            self.journal.dequeue(PlaceOp {
                holder,
                number,
                message: 0,
            });
        }
    }

    /// Sends PUBREL or PUBCOMP, when what it stands for is durable.
    pub(super) fn ack_durably(
        &mut self,
        key: Key,
        waits: bool,
        packet_type: PacketType,
        packet_id: PacketId,
    ) {
        if waits {
            self.journal.wait(Waiter::Ack(key, packet_type, packet_id));
        } else {
            self.ack(key, packet_type, packet_id, ReasonCode::Success);
        }
    }

    /// Sends SUBACK or UNSUBACK, when what it stands for is durable. Until then no other packet of
    /// the client is read, so that its answers keep their order.
    pub(super) fn suback_durably(
        &mut self,
        connection: Key,
        packet_id: PacketId,
        codes: Vec<ReasonCode>,
        is_unsuback: bool,
    ) {
        let session = self.connections.get(connection).map(|found| found.session);
        if session.is_some_and(|session| self.answers_wait(session)) {
            let due = DueSubAck {
                packet_id,
                codes,
                left: 0,
                is_unsuback,
            };
            self.due_subacks.insert(connection, due);
            self.journal.wait(Waiter::SubAck(connection));
        } else {
            self.send_suback(connection, packet_id, &codes, is_unsuback);
        }
    }

    /// Whether an accept of the publish that was just handled is kept back, and until what is said
    /// so far is durable: by what `durability` asks, or since the store has not caught up.
    pub(super) fn accept_waits(&mut self) -> bool {
        let felt = self.journal.felt();
        let is_full = felt.writes && self.journal.is_full();
        self.counters.store_held += u64::from(is_full);
        felt.waits || is_full
    }

    /// Stops reading from a publisher that makes a store write which has not caught up.
    pub(super) fn hold_writer(&mut self, key: Key) {
        if self.journal.felt().writes && self.journal.is_full() {
            self.pause(key);
        }
    }

    pub(super) fn keep_back(&mut self, shard: u16, tag: AcceptTag) {
        self.journal.wait(Waiter::Accept(shard, tag));
    }

    /// An acknowledgement of this shard waits until what was said for it is durable.
    pub(super) fn wait_for_store(&mut self, tag: AcceptTag) {
        let flow = self
            .sessions
            .get_mut(tag.session)
            .and_then(|s| s.flow.as_mut());
        if let Some(flow) = flow {
            flow.incoming.wait_for_one_more(tag.sequence);
            self.keep_back(self.me, tag);
        }
    }

    /// Says what has become of a retained message. One that is promised nothing is not written, but
    /// the record of an older one must not bring that back.
    pub(super) fn note_retained(&mut self, view: &View<'_>, stored: Result<Change, RetainedFull>) {
        let (Ok(change) | Err(RetainedFull(change))) = stored;
        if view.durability() == Durability::None && !change.had_record {
            return;
        }
        let is_kept = view.durability() != Durability::None && !view.payload().is_empty();
        let version = change.version;
        let op = match stored {
            Ok(_) if is_kept => Op::Retain {
                version,
                publication: Box::new(view.to_kept()),
            },
            Ok(_) | Err(_) => Op::Unretain {
                version,
                topic: view.topic().into(),
            },
        };
        self.journal.push(op);
        self.journal.note(view.durability() == Durability::Always);
    }

    /// Whether a publish is for something that is kept, as far as this shard knows.
    pub(super) fn is_for_kept(&mut self, view: &View<'_>, topic: &Topic<'_>) -> bool {
        let is_kept = |core: &Self, target: &Target| {
            let session = core.sessions.get_at(target.slot);
            target.qos != 0 && session.is_some_and(|session| session.holder != 0)
        };
        if view.qos() == QoS::AtMostOnce || view.durability() == Durability::None {
            return false;
        }
        let route = self.look_up(topic);
        let mut groups = route
            .groups
            .iter()
            .filter_map(|slot| self.groups.key_at(*slot));
        view.retain()
            || route.targets.iter().any(|target| is_kept(self, target))
            || groups.any(|group| self.groups.holder(group) != 0)
    }

    /// Refuses a publish that cannot be kept. MQTT 3.x knows no refusal: the connection ends
    /// [MQTT-3.3.5-2].
    pub(super) fn refuse_unkept(&mut self, key: Key, waits: Option<Unacknowledged>) {
        if self.version(key) == Some(Version::V5) {
            self.refuse_publish(key, waits, ReasonCode::QuotaExceeded);
        } else {
            let (reason, what) = (ReasonCode::QuotaExceeded, "the store has failed");
            self.close(key, Cause::Policy { reason, what });
        }
    }

    /// Whether the store keeps nothing any more.
    pub(super) fn has_store_failed(&self) -> bool {
        self.journal.health == Health::Failed
    }

    /// A shard has accepted a publish of this shard's, or its store has it.
    pub(super) fn accepted(&mut self, tag: AcceptTag) {
        let session = self.sessions.get_mut(tag.session);
        let holder = session.as_ref().map_or(0, |session| session.holder);
        let Some(flow) = session.and_then(|session| session.flow.as_mut()) else {
            if tag.commit != 0 {
                // Its publisher is gone; what the shards have staged is not to wait for ever.
                self.journal.push(Op::Commit {
                    message: tag.commit,
                });
                self.journal.hurry();
            }
            return;
        };
        let last = flow.incoming.accepted(tag.sequence, tag.is_refused);
        if let (Some(packet_id), true) = (last, tag.commit != 0) {
            // All shards have it: from here on it is one write.
            self.journal.push(Op::Receive {
                holder,
                packet_id,
                digest: tag.digest,
            });
            self.journal.push(Op::Commit {
                message: tag.commit,
            });
            self.keep_back(self.me, AcceptTag { commit: 0, ..tag });
        }
        self.settle_incoming(tag.session);
    }

    /// What the store is to get after this turn.
    pub(crate) fn take_op_batch(&mut self, is_last: bool) -> Option<OpBatch> {
        if is_last {
            self.journal.set_due();
        }
        let batch = self.journal.take_batch(self.me);
        self.go_on_with_room();
        if self.journal.wants_timer() {
            self.journal.is_armed = true;
            let at_ms = self.now_ms + journal_ms(self.shared.store_interval_ms);
            self.timers.insert(at_ms, Timer::Journal);
        }
        batch
    }

    /// The time of a batch has come.
    pub(super) fn journal_due(&mut self) {
        self.journal.is_armed = false;
        self.journal.set_due();
    }

    /// The store has answered.
    pub(crate) fn on_stored(&mut self, stored: Stored) {
        let has_failed = stored.health == Health::Failed;
        self.journal.on_stored(stored.cost, stored.health);
        let up_to = if has_failed { u64::MAX } else { stored.up_to };
        while let Some(waiter) = self.journal.next_ready(up_to) {
            self.go_ahead(waiter, has_failed);
        }
        for page in stored.pages {
            self.on_page(page);
        }
        self.go_on_with_room();
    }

    /// Lets those go on who have waited for room in the journal, where there is some again.
    fn go_on_with_room(&mut self) {
        if self.journal.finds_room() {
            self.release_held();
            self.resume_paused();
        }
    }

    pub(super) fn with_outgoing(&mut self, session: Key, act: impl FnOnce(&mut Outgoing)) {
        if let Some(flow) = self.sessions.get_mut(session).and_then(|s| s.flow.as_mut()) {
            act(&mut flow.outgoing);
        }
    }

    fn go_ahead(&mut self, waiter: Waiter, has_failed: bool) {
        match waiter {
            Waiter::Accept(shard, mut tag) => {
                tag.is_refused |= has_failed;
                if shard == self.me {
                    self.accepted(tag);
                } else if let Some(outbox) = self.outboxes.get_mut(usize::from(shard)) {
                    outbox.accepted.push(tag);
                    outbox.has_answer = true;
                }
            }
            Waiter::ConnAck(connection) => {
                self.due_connacks.remove(&connection);
                self.mark_dirty(connection);
            }
            Waiter::SubAck(connection) => {
                let Some(mut due) = self.due_subacks.remove(&connection) else {
                    return;
                };
                if has_failed {
                    due.codes.fill(ReasonCode::ImplementationSpecificError);
                }
                self.send_suback(connection, due.packet_id, &due.codes, due.is_unsuback);
                self.resume_reading(connection);
            }
            // An exchange that is not durable goes no further.
            Waiter::Ack(..) if has_failed => {}
            Waiter::Ack(key, packet_type, packet_id) => {
                self.ack(key, packet_type, packet_id, ReasonCode::Success);
            }
            Waiter::Resend(session) => {
                self.with_outgoing(session, Outgoing::let_resend);
                self.drain_later(session);
            }
            Waiter::Deal(group, number) => {
                self.groups.let_out(group, number);
                self.feed(group);
            }
            Waiter::LetOut(session, number) => {
                self.with_outgoing(session, |outgoing| outgoing.let_out(number));
                self.drain_later(session);
            }
        }
    }

    /// Asks for the next messages of a session that are on disk only, where few wait in memory.
    pub(super) fn read_ahead(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let (holder, Some(flow)) = (session.holder, session.flow.as_mut()) else {
            return;
        };
        if flow.outgoing.waiting_in_memory() >= READ_AHEAD {
            return;
        }
        if let Some(from) = flow.outgoing.ask() {
            self.journal.push(Op::Read {
                session: session_key,
                holder,
                from,
            });
            self.journal.hurry();
        }
    }

    fn on_page(&mut self, page: Page) {
        let Page {
            session: session_key,
            holder,
            entries,
            is_last,
        } = page;
        if self.holder(session_key) != holder {
            return;
        }
        let mut queue = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.message {
                None => queue.push(Queued::released(entry.number)),
                Some(message)
                    if message.is_of_group && self.is_follower(session_key, entry.number) => {}
                Some(message) => {
                    if let Some(queued) = self.take_paged(session_key, entry.number, message) {
                        queue.push(queued);
                    }
                }
            }
        }
        if let Some(flow) = self
            .sessions
            .get_mut(session_key)
            .and_then(|s| s.flow.as_mut())
        {
            flow.outgoing.turn_page(queue, is_last);
        }
        self.drain_later(session_key);
    }

    /// Whether a group's message that was read is in memory as well, or was until another member
    /// got it.
    fn is_follower(&mut self, session: Key, number: u64) -> bool {
        let session = self.sessions.get_mut(session);
        let flow = session.and_then(|session| session.flow.as_mut());
        flow.and_then(|flow| flow.outgoing.tail())
            .is_some_and(|tail| tail.leaves_out(number))
    }

    fn take_paged(&mut self, session: Key, number: u64, message: PagedMessage) -> Option<Queued> {
        let PagedMessage {
            publication,
            cost,
            qos,
            retain,
            identifiers,
            // Of a group's messages a session has only those of an earlier run that were sent to it
            // at QoS 2: they are its own.
            is_of_group: _,
        } = message;
        let may_be_known = self
            .sessions
            .get_mut(session)
            .and_then(|session| session.flow.as_mut())
            .and_then(|flow| flow.outgoing.tail())
            .is_some_and(|tail| tail.may_be_known(number));
        let stored = publication.number();
        let charged = publication.cost() as u64;
        let kept = Kept {
            // What it was promised is not written down.
            publication: publication.kept_as(self.shared.strongest()),
            sessions: 1,
            said_in: 0,
        };
        match self.messages.insert(kept) {
            Ok(key) => {
                self.message_bytes += charged;
                let queued = Queued::new(key, cost as usize, qos, retain);
                let queued = queued.with(&identifiers, None);
                Some(queued.stored_as(number, may_be_known))
            }
            Err(_) => {
                self.counters.dropped_no_memory += 1;
                let holder = self.holder(session);
                self.journal.dequeue(PlaceOp {
                    holder,
                    number,
                    message: stored,
                });
                None
            }
        }
    }

    /// A session has lost its connection: most of what waits for it stays on disk only.
    pub(super) fn spill(&mut self, session: Key) {
        let Some(flow) = self.sessions.get_mut(session).and_then(|s| s.flow.as_mut()) else {
            return;
        };
        for queued in flow.outgoing.spill(HEAD) {
            self.release(queued.message);
        }
    }
}
