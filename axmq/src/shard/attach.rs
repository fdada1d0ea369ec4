//! A client comes in: its session is found, taken over or made, and CONNACK answers.

use std::sync::Arc;

use mqtt_codec::Version;
use slabmem::Key;

use super::aliases::AliasesOut;
use super::connection::{Connection, Extras, Partial, Stage};
use super::journal::Waiter;
use super::{Authentication, Core, Timer};
use crate::auth::Turn;
use crate::connack;
use crate::defence::TakeOver;
use crate::events::{Cause, Event};
use crate::message::{ConnectInfo, Handover};
use crate::session::{Outgoing, Session};

impl<S> Core<S> {
    /// Takes a connection from a front and answers its CONNECT.
    ///
    /// # Errors
    ///
    /// Gives the stream back, to be closed, where the tables are at their limit.
    pub(crate) fn attach(&mut self, handover: Handover<S>) -> Result<Key, S> {
        let Handover {
            stream,
            peer,
            mut connect,
            seat,
            layers,
            surplus,
        } = handover;
        // Asked before the session is touched: for want of room a client is turned away, and its
        // session stays as it was.
        if self.connections.vacant_entry().is_none() {
            self.turned_away(connect.client_id, peer);
            return Err(stream);
        }
        let durability = self.promised_to(&connect);
        let had_record = self
            .find(&connect.client_id)
            .is_some_and(|key| self.holder(key) != 0);
        let present = self.resume(&connect, peer);
        let session_key = match present {
            Some(key) => key,
            None => match self.open_session(&connect) {
                Ok(key) => key,
                Err(()) => {
                    self.turned_away(connect.client_id, peer);
                    return Err(stream);
                }
            },
        };
        let mut connection = self.new_connection(stream, peer, session_key, &connect, surplus);
        if let (Some(seat), Some(extras)) = (seat, &mut connection.extras) {
            extras.seat = Some(seat);
        }
        if layers.is_some() {
            connection.stage = Stage::new(true);
            connection.extras.get_or_insert_default().layers = layers;
        }
        let key = match self.connections.insert(connection) {
            Ok(key) => key,
            Err(full) => {
                debug_assert!(false, "there was room");
                return Err(full.into_inner().stream);
            }
        };
        if let Some(connection) = self.connections.get_mut(key) {
            if let Some(silence_ms) = connection.silence_max_ms() {
                connection.timer = Some(self.keep_alive.insert(self.now_ms + silence_ms, key));
            }
            if connection.partial.is_some() {
                self.ready.push(key);
            }
        }
        self.time_grant(key);
        let author = connect.will.is_some().then(|| self.author(key)).flatten();
        let timer = self.sessions.get_mut(session_key).and_then(|session| {
            session.connection = Some(key);
            session.expiry_s = connect.session_expiry_s;
            session.durability = durability;
            session.will = connect.will.take();
            if let Some(will) = &mut session.will {
                will.author = author;
            }
            session.ends_at_ms = 0;
            session.timer.take()
        });
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        self.keep_as_promised(session_key);
        self.clients_connected += 1;
        self.counters.connects += 1;
        if !self.tracers.is_empty() {
            self.trace_connect(key, &connect);
        }
        self.connack(key, &connect, present.is_some());
        self.hold_connack(key, session_key, had_record && present.is_none());
        if present.is_some() {
            // Before anything new, and this session may be the first to hear of its own return.
            self.resend(session_key);
        }
        self.sys_attached(session_key);
        if self.shared.sys.is_watched() {
            self.sys_connected(&connect, peer, present.is_some());
        }
        if self.reports_routine {
            self.events.push(Event::Connected {
                client_id: connect.client_id.clone(),
                peer,
                version: connect.version,
                session_present: present.is_some(),
            });
        }
        self.tell_connected(key, present.is_some());
        if present.is_some() {
            let window = self
                .connections
                .get(key)
                .map_or(1, |connection| connection.receive_maximum);
            self.come_back(session_key, window);
        }
        Ok(key)
    }

    fn turned_away(&mut self, client_id: Box<str>, peer: pollio::PeerAddr) {
        self.events.push(Event::TurnedAway { client_id, peer });
    }

    /// The session that this CONNECT goes on with. An older connection of the same client id gets
    /// out first [MQTT-3.1.4-3], and what its end had left to do is done before CONNACK
    /// (DECISIONS 9).
    fn resume(&mut self, connect: &ConnectInfo, peer: pollio::PeerAddr) -> Option<Key> {
        let key = self.find(&connect.client_id)?;
        if let Some(connection) = self.sessions.get(key)?.connection {
            self.note_take_over(connect, connection, peer);
            self.close(connection, Cause::TakenOver(peer));
        }
        self.finish_cleanup(key, Some(connect.clean_start));
        // Where the old session ended with its connection it is gone now.
        let will = self.take_waiting_will(key);
        let session = self.sessions.get_mut(key)?;
        if std::mem::take(&mut session.is_offline) {
            self.shared.session_returns();
        }
        if connect.clean_start {
            // A will that waits for its delay is published when the session ends [MQTT-3.1.2-8];
            // one of a session that goes on is not [MQTT-3.1.3-9].
            if let Some(will) = will {
                self.publish_will(key, *will);
            }
            self.end_session(key);
            return None;
        }
        Some(key)
    }

    fn note_take_over(&mut self, connect: &ConnectInfo, old: Key, new: pollio::PeerAddr) {
        if let Some(old) = self.connections.get(old)
            && self.shared.defence.watches_take_overs()
        {
            self.take_overs.push(TakeOver {
                client_id: connect.client_id.clone(),
                old: old.peer,
                new,
            });
        }
    }

    fn open_session(&mut self, connect: &ConnectInfo) -> Result<Key, ()> {
        let session = Session::new(connect.client_id.clone(), connect.session_expiry_s);
        let key = self.sessions.insert(session).map_err(|_| ())?;
        self.index_insert(&connect.client_id, key.index());
        Ok(key)
    }

    fn new_connection(
        &self,
        stream: S,
        peer: pollio::PeerAddr,
        session: Key,
        connect: &ConnectInfo,
        surplus: Vec<u8>,
    ) -> Connection<S> {
        let is_terse = connect.version == Version::V5 && !connect.wants_problem_information;
        let rules = connect.rules.clone();
        let aliases_out = self.aliases_out(connect);
        let has_extras = connect.packet_bytes_max != 0
            || is_terse
            || connect.grant.is_some()
            || rules.is_some()
            || aliases_out.is_some();
        let inflight_v3 = rules.as_ref().map_or(u32::MAX, |rules| rules.inflight_v3);
        let extras = has_extras.then(|| {
            let packet_bytes_max = connect.packet_bytes_max;
            Box::new(Extras {
                packet_bytes_max,
                aliases_out,
                is_terse,
                grant: connect.grant.clone(),
                rules,
                authentication: connect.enhanced.as_ref().map(|enhanced| {
                    Box::new(Authentication {
                        mechanism: Arc::clone(&enhanced.mechanism),
                        turn: Turn::Nobody,
                    })
                }),
                ..Extras::default()
            })
        });
        let inflight_max = self.shared.inflight();
        Connection {
            stream,
            out: sharedbuf::WriteQueue::new(),
            session,
            partial: (!surplus.is_empty()).then(|| Box::new(Partial::Small(surplus))),
            extras,
            timer: None,
            peer,
            keep_alive_s: connect.keep_alive_s,
            receive_maximum: match connect.version {
                Version::V5 => connect.receive_maximum.min(inflight_max),
                _ => inflight_max.min(u16::try_from(inflight_v3).unwrap_or(u16::MAX)),
            },
            flags: 0,
            discard_left: 0,
            stage: Stage::new(false),
            version: connect.version,
        }
    }

    /// Room for the topic aliases that the broker may set for a client; `None` where it sets none.
    fn aliases_out(&self, connect: &ConnectInfo) -> Option<Box<AliasesOut>> {
        let limits = &self.shared.limits;
        let max = u32::from(connect.topic_alias_max).min(limits.topic_aliases_out);
        let max = u16::try_from(max).ok().filter(|max| *max > 0)?;
        Some(Box::new(AliasesOut::new(max, limits.topic_alias_bytes)))
    }

    fn connack(&mut self, key: Key, connect: &ConnectInfo, session_present: bool) {
        let shared = Arc::clone(&self.shared);
        let packet = connack::success(connect, &shared, session_present);
        self.control(key, packet.encoded_len(connect.version), |out| {
            packet.encode(connect.version, out);
        });
    }

    /// What the client has not acknowledged is sent again, in the old order, and then what waits
    /// [MQTT-4.4.0-1].
    fn resend(&mut self, session_key: Key) {
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        if let Some(flow) = session.flow.as_mut() {
            flow.outgoing.begin_resend();
            flow.incoming.begin_connection();
        }
        // What goes out again must be what the disk has.
        self.drain_durably(session_key);
    }

    /// Sends a session what it has to get again, once that is durable.
    fn drain_durably(&mut self, session: Key) {
        if self.step_waits(session, None) {
            self.with_outgoing(session, Outgoing::hold_resend);
            self.journal.wait(Waiter::Resend(session));
        } else {
            self.drain_later(session);
        }
    }

    /// Publishes the wills that an orderly stop publishes: those of sessions that end with it
    /// (DECISIONS 11).
    pub(crate) fn publish_wills_at_stop(&mut self) {
        self.close_groups();
        let keys: Vec<Key> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.will.is_some() && session.expiry_s == 0)
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            // A connection that has just ended may have ended with DISCONNECT: its cleanup knows.
            self.finish_cleanup(key, None);
            if let Some(will) = self
                .sessions
                .get_mut(key)
                .and_then(|session| session.will.take())
            {
                self.publish_will(key, *will);
            }
        }
    }

    /// Says good-bye to every client.
    pub(crate) fn stop(&mut self) {
        self.is_stopping = true;
        let keys: Vec<Key> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.is_connected())
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            if let Some(session) = self
                .connections
                .get(key)
                .map(|connection| connection.session)
                && let Some(session) = self.sessions.get_mut(session)
                && session.holder == 0
            {
                // Kept with a persistent session, published before with the others.
                session.will = None;
            }
            self.close(key, Cause::ServerStops);
        }
    }

    pub(super) fn arm_session(&mut self, key: Key, at_ms: u64) {
        if let Some(session) = self.sessions.get_mut(key) {
            if let Some(old) = session.timer.take() {
                self.timers.cancel(old);
            }
            session.timer = Some(self.timers.insert(at_ms, Timer::Session(key)));
        }
    }
}
