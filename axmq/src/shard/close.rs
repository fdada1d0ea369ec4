//! The end of a connection, in two phases: the fast path marks and queues, the cleanup funnel does
//! the slow work within the background budget (DESIGN 5, DECISIONS 8 and 9).

use std::hash::BuildHasher;
use std::io::ErrorKind;

use mqtt_codec::encode::Disconnect;
use mqtt_codec::{ReasonCode, Version};
use slabmem::Key;
use topicmap::Filter;

use super::connection::{State, flag};
use super::server::STOP_MS;
use super::{Core, Timer};
use crate::defence::{Charge, Offence};
use crate::events::{Cause, Event};
use crate::message::Will;
use crate::session::FilterSet;
use crate::store::op::Op;

/// A peer that is told why has this long to read it; at a stop this long once it has been told,
/// and [`STOP_MS`] for all that is queued for it.
const LINGER_MS: u64 = 1_000;

/// Input that is thrown away in the meantime, in units of 4 KiB: 256 KiB.
pub(super) const LINGER_DISCARD: u8 = 64;

/// What is left to do for a connection that has ended.
#[derive(Debug)]
pub(crate) struct Doomed<S> {
    /// To be closed.
    stream: Option<S>,
    session: Option<Key>,
    drops_will: bool,
}

impl<S> Core<S> {
    /// Ends a connection: the session is let go at once, the rest is left to the funnel. A 5.0
    /// client that did not leave by itself is told the reason.
    pub(crate) fn close(&mut self, key: Key, cause: Cause) {
        // What was published before goes out before, and so do its acknowledgements; one that
        // refuses may end a connection by itself.
        self.end_run();
        self.settle_due();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.is_connected() {
            if cause.is_from_peer() {
                self.finish_closing(key);
            }
            return;
        }
        let (session_key, peer) = (connection.session, connection.peer);
        let tells = connection.version == Version::V5 && !cause.is_from_peer();
        // What was said before is still flushed to a client that the server turns out politely.
        let lingers = tells
            || matches!(
                cause,
                Cause::ServerStops | Cause::TakenOver(_) | Cause::Kicked | Cause::Transport(_)
            )
            || connection.owes_goodbye(&cause);
        connection.advance(State::Closing);
        if let Some(timer) = connection.timer.take() {
            self.keep_alive.cancel(timer);
        }
        let extras = connection.extras.as_deref_mut();
        if let Some(timer) = extras.and_then(|extras| extras.grant_timer.take()) {
            self.timers.cancel(timer);
        }
        connection.partial = None;
        self.clients_connected -= 1;
        self.stop_pressing(key);
        self.end_meter(key);
        self.report_end(key, session_key, &cause);
        self.tell_disconnected(key, &cause);
        if tells {
            self.disconnect(key, &cause);
        }
        if !self.tracers.is_empty() {
            self.trace_end(key, &cause);
        }
        let stream = if lingers {
            let is_stop = matches!(cause, Cause::ServerStops);
            self.linger(key, if is_stop { STOP_MS } else { LINGER_MS });
            None
        } else {
            self.connections
                .remove(key)
                .map(|connection| connection.stream)
        };
        let watched = self.shared.sys.is_watched();
        let client_id = self.sessions.get(session_key).filter(|_| watched);
        let client_id = client_id.map(|session| session.client_id.clone());
        self.let_go(session_key, stream, cause.drops_will());
        if let Some(client_id) = client_id {
            // Nothing goes to this client's connection any more, also not what it subscribed to.
            self.sys_disconnected(&client_id, peer, &cause);
        }
    }

    /// A write has failed. What the client sent before is still to be read: DISCONNECT may be in
    /// it, and with it the will is void (DECISIONS 7). Reading then meets the end, and closes.
    pub(crate) fn write_failed(&mut self, key: Key, kind: ErrorKind) {
        let is_gone = matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
        match self.connections.get_mut(key) {
            Some(connection) if is_gone && connection.is_connected() => {
                connection.set(flag::HUNG_UP | flag::BLOCKED);
                connection.clear(flag::PAUSED);
                connection.out.clear_into(&mut self.blocks);
                self.ready.push(key);
                self.stop_pressing(key);
            }
            _ => self.close(key, Cause::Io(kind)),
        }
    }

    /// Takes note of the end, and logs it where somebody has to know or wants to.
    fn report_end(&mut self, key: Key, session_key: Key, cause: &Cause) {
        let Some(peer) = self.connections.get(key).map(|connection| connection.peer) else {
            return;
        };
        let Some(session) = self.sessions.get(session_key) else {
            return;
        };
        let hash = self.shared.hasher.hash_one(&*session.client_id);
        self.disconnects
            .record(hash, &session.client_id, peer, self.now_ms, cause.clone());
        if let Some(offence) = Offence::of_cause(cause)
            && self.shared.defence.watches(&peer)
        {
            self.offences.push(Charge {
                peer,
                client_id: session.client_id.clone(),
                offence,
            });
        }
        if self.reports_routine || cause.is_noteworthy() {
            let client_id = session.client_id.clone();
            self.events.push(Event::Disconnected {
                client_id,
                peer,
                cause: cause.clone(),
            });
        }
    }

    fn disconnect(&mut self, key: Key, cause: &Cause) {
        let is_terse = self
            .connections
            .get(key)
            .is_none_or(super::Connection::is_terse);
        let text = (!is_terse).then(|| cause.text_for_client());
        let mut packet = Disconnect {
            reason: cause.reason(),
            reason_string: text.as_deref(),
            ..Disconnect::default()
        };
        // Words must not make the packet larger than the client takes [MQTT-3.14.2-3].
        let bytes_max = self
            .connections
            .get(key)
            .map_or(usize::MAX, super::Connection::packet_bytes_max);
        if packet.encoded_len(Version::V5) > bytes_max {
            packet.reason_string = None;
        }
        let len = packet.encoded_len(Version::V5);
        self.control(key, len, |out| {
            packet.encode(Version::V5, out);
        });
    }

    fn linger(&mut self, key: Key, most_ms: u64) {
        let timer = self
            .timers
            .insert(self.now_ms + most_ms, Timer::Linger(key));
        if let Some(connection) = self.connections.get_mut(key) {
            connection.timer = Some(timer);
            connection.discard_left = LINGER_DISCARD;
        }
        // Also with nothing to write: the flush is what shuts the write side.
        self.mark_dirty(key);
    }

    /// The last step of a connection that lingered.
    pub(crate) fn finish_closing(&mut self, key: Key) {
        let Some(connection) = self.connections.remove(key) else {
            return;
        };
        debug_assert!(!connection.is_connected(), "the session was let go before");
        if let Some(timer) = connection.timer {
            self.timers.cancel(timer);
        }
        self.push_doomed(Doomed {
            stream: Some(connection.stream),
            session: None,
            drops_will: true,
        });
    }

    fn let_go(&mut self, session_key: Key, stream: Option<S>, drops_will: bool) {
        // Nobody will take what the replay waited for; without this it would outlive its session.
        self.unblock_replay(session_key);
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.connection = None;
            session.ends_at_ms = match session.expiry_s {
                u32::MAX => u64::MAX,
                expiry_s => self.now_ms + u64::from(expiry_s) * 1_000,
            };
            if let Some(will) = &mut session.will {
                will.due_at_ms = self.now_ms + u64::from(will.delay_s) * 1_000;
            }
            session.funnel_ticket = self.funnel_done + self.funnel.len() as u64 + 1;
            if !session.filters.shared().is_empty() {
                self.go_away(session_key);
            }
        }
        self.push_doomed(Doomed {
            stream,
            session: Some(session_key),
            drops_will,
        });
    }

    fn push_doomed(&mut self, doomed: Doomed<S>) {
        // Full, closing slows down and nothing is lost.
        self.funnel.push_back(doomed);
        while self.funnel.len() > self.shared.limits.cleanup_funnel as usize {
            self.cleanup_one();
        }
    }

    /// Does the slow work for the oldest item; `false` when there is none.
    pub(crate) fn cleanup_one(&mut self) -> bool {
        if self.execute_one() {
            return true;
        }
        let Some(doomed) = self.funnel.pop_front() else {
            if self.funnel.capacity() > 1_024 {
                self.funnel.shrink_to(1_024);
            }
            return false;
        };
        self.funnel_done += 1;
        if let Some(session) = doomed.session {
            self.cleanup_session(session, doomed.drops_will, None);
        }
        if let Some(stream) = doomed.stream {
            drop(stream);
            self.shared.connection_closed();
            self.count_gone(self.funnel.is_empty());
        }
        true
    }

    pub(crate) fn funnel_len(&self) -> usize {
        self.funnel.len()
    }

    /// Completes what a session has in the funnel, before a new connection takes it.
    pub(super) fn finish_cleanup(&mut self, key: Key, clean_start: Option<bool>) {
        let Some(session) = self
            .sessions
            .get(key)
            .filter(|session| session.funnel_ticket != 0)
        else {
            return;
        };
        let at = (session.funnel_ticket - 1).checked_sub(self.funnel_done);
        let item = at.and_then(|at| self.funnel.get_mut(at as usize));
        let Some(item) = item.filter(|item| item.session == Some(key)) else {
            return;
        };
        if !planted!(FunnelHitsNewSession) {
            item.session = None;
        }
        let drops_will = item.drops_will;
        self.cleanup_session(key, drops_will, clean_start);
    }

    /// Will, session end or its timer. `clean_start` is that of the CONNECT that takes over, if one
    /// does.
    fn cleanup_session(&mut self, key: Key, drops_will: bool, clean_start: Option<bool>) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.funnel_ticket = 0;
        // One that is taken over is not left without a connection.
        if clean_start.is_none() && session.expiry_s != 0 {
            session.is_offline = self.shared.session_leaves();
            if !session.is_offline {
                session.expiry_s = 0;
                self.counters.sessions_not_kept += 1;
            }
        }
        let ends_now = session.expiry_s == 0;
        if !ends_now && !session.filters.shared().is_empty() {
            self.give_back(key);
        }
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        if drops_will {
            session.will = None;
        }
        if self.is_stopping && session.holder != 0 && !ends_now {
            self.note_session(key);
            return;
        }
        let mut wake_at_ms = session.ends_at_ms;
        let publishes = |will: &Will| will.delay_s == 0 || ends_now || clean_start == Some(true);
        // One that waits for a take-over only does not wait.
        if clean_start.is_none() && session.will.as_deref().is_some_and(|will| !publishes(will)) {
            session.will_waits = self.shared.will_waits();
            self.counters.wills_not_delayed += u64::from(!session.will_waits);
        }
        let has_no_place = clean_start.is_none() && !session.will_waits;
        if let Some(will) = session.will.take_if(|will| publishes(will) || has_no_place) {
            self.publish_will(key, *will);
        } else if let Some(will) = &session.will {
            wake_at_ms = wake_at_ms.min(will.due_at_ms);
        }
        if ends_now {
            self.end_session(key);
        } else if clean_start.is_none() {
            self.note_session(key);
            self.spill(key);
            if wake_at_ms != u64::MAX {
                self.arm_session(key, wake_at_ms);
            }
        }
    }

    /// The will of a session that has no connection, which waits no more.
    pub(super) fn take_waiting_will(&mut self, key: Key) -> Option<Box<Will>> {
        let session = self.sessions.get_mut(key)?;
        if std::mem::take(&mut session.will_waits) {
            self.shared.will_is_over();
        }
        session.will.take()
    }

    /// A session's timer has come up: its will's delay is over, or it ends.
    pub(super) fn session_due(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        session.timer = None;
        if session.connection.is_some() {
            return;
        }
        if let Some(early) = &mut self.early {
            early.push(key);
            return;
        }
        let ends = session.ends_at_ms <= self.now_ms;
        let ends_at_ms = session.ends_at_ms;
        self.counters.sessions_expired += u64::from(ends);
        // The end of a session publishes a will that still waits [MQTT-3.1.3-9].
        if let Some(will) = self.take_waiting_will(key) {
            self.publish_will(key, *will);
        }
        if ends {
            self.end_session(key);
        } else {
            self.note_session(key);
            if ends_at_ms != u64::MAX {
                self.arm_session(key, ends_at_ms);
            }
        }
    }

    pub(super) fn publish_will(&mut self, source: Key, will: Will) {
        let Some(edited) = self.judge_will(source, &will) else {
            self.counters.publishes_refused += 1;
            return;
        };
        let mut publication = edited.unwrap_or(will.publication);
        if let Some(expiry_s) = will.expiry_s {
            publication.expire_at(self.now_ms + u64::from(expiry_s) * 1_000);
        }
        publication.source = Some(self.reference(source));
        let topic = publication.view().topic().to_owned();
        let Ok(topic) = topicmap::Topic::parse(&topic, &self.shared.topic_limits) else {
            debug_assert!(
                false,
                "the front has checked the will's topic, and a draft its own"
            );
            return;
        };
        let view = self.for_store(&publication.view(), &topic);
        if view.retain() {
            self.retain(&view, &topic);
        }
        self.route(&view, &topic, None);
    }

    /// Takes a session out of everything that knows it.
    pub(super) fn end_session(&mut self, key: Key) {
        self.leave_groups(key);
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        let mut filters = std::mem::replace(&mut session.filters, FilterSet::Empty);
        while let Some(filter) = filters.pop() {
            self.unsubscribe_id(key.index(), filter);
        }
        let Some(mut session) = self.sessions.remove(key) else {
            return;
        };
        self.sys_unwatch(key);
        if session.holder != 0 {
            self.journal.push(Op::EndSession {
                holder: session.holder,
            });
        }
        if let Some(timer) = session.timer.take() {
            self.timers.cancel(timer);
        }
        if let Some(flow) = session.flow.take() {
            for queued in flow.outgoing.into_messages() {
                self.release(queued.message);
            }
        }
        if session.is_offline {
            self.shared.session_returns();
        }
        if session.will_waits {
            self.shared.will_is_over();
        }
        // The index finds entries by comparing slots, so the session may be gone already.
        self.index_remove(&session.client_id, key.index());
    }

    fn unsubscribe_id(&mut self, slot: u32, id: topicmap::FilterId) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        text.push_str(self.topics.filter_text(id).unwrap_or_default());
        if let Ok(filter) = Filter::parse(&text, &self.shared.topic_limits)
            && let Some(removed) = self.topics.remove_by_id(id, slot)
        {
            self.withdraw(&filter, removed.last);
        }
        self.text = text;
    }

    /// What follows the removal of a subscription: the interest, and the routes that knew it.
    pub(super) fn withdraw(&mut self, filter: &Filter<'_>, is_last: bool) {
        if (is_last || planted!(InterestClearedEarly))
            && let Ok(shard) = u8::try_from(self.me)
        {
            self.shared.interest.remove(filter, shard);
        }
        self.shared.stamps.bump(filter);
    }

    /// Bytes went out.
    pub(crate) fn wrote(&mut self, key: Key, bytes: usize) {
        debug_assert!(!self.is_held_back(key), "CONNACK is to be durable first");
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        self.counters.bytes_sent += bytes as u64;
        connection.out.advance_into(bytes, &mut self.blocks);
        if bytes > 0 {
            connection.set(flag::PROGRESS);
        }
        self.relieve(key);
    }

    /// Everything is written. Returns whether the write side is to be shut now.
    pub(crate) fn flushed(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let shuts = connection.state() == State::Closing;
        if shuts {
            connection.advance(State::Draining);
            if let Some(timer) = connection.timer {
                self.timers.reset_sooner(timer, self.now_ms + LINGER_MS);
            }
        }
        shuts
    }

    /// There is more to write than this turn may.
    pub(crate) fn write_more(&mut self, key: Key) {
        self.mark_dirty(key);
    }

    /// A client that is being turned out sent something; `false` once it has sent too much.
    pub(crate) fn discard(&mut self, key: Key, bytes: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        // Rounded to the nearest: a client that goes on acknowledging, in small reads, is to get
        // what it is told all the same. The time that it has bounds those.
        let units = u8::try_from((bytes + 2_048) / 4_096).unwrap_or(u8::MAX);
        connection.discard_left = connection.discard_left.saturating_sub(units);
        connection.discard_left != 0
    }

    pub(super) fn violation(
        &mut self,
        key: Key,
        reason: ReasonCode,
        clause: &'static str,
        what: &'static str,
    ) {
        self.close(
            key,
            Cause::Violation {
                reason,
                clause,
                what,
            },
        );
    }
}
