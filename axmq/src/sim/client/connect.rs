//! Connections, and what the client believes of its session at the broker.

use std::collections::VecDeque;

use mqtt_codec::encode::{Connect, ConnectProperties, Disconnect, Will, WillProperties};
use mqtt_codec::{ConnAck, QoS, ReasonCode, Version};

use super::{Client, Conn, Old, Sent, Talk};
use crate::auth::scram;
use crate::sim::ledger::{Ledger, Message, NS_PER_S, Path, WillState};
use crate::sim::report::Feature;
use crate::sim::{Check, World};

/// What CONNACK has to say about the session.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Expected {
    Any,
    Absent,
    /// Unless CONNACK comes later than this.
    PresentUntil(u64),
}

#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
enum Exists {
    #[default]
    No,
    May,
    Must,
}

/// What the client knows of its session.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Belief {
    exists: Exists,
    /// A clean start whose outcome is unknown has to be repeated.
    must_clean: bool,
    expiry_s: u32,
    /// The last time the broker is known to have had a connection of it.
    pub(super) alive_ns: u64,
    /// When the broker was first seen to have none.
    gone_ns: u64,
}

impl Client {
    pub(super) fn connect(&mut self, w: &mut World) {
        let is_clean = self.belief.must_clean
            || self.cannot_tell(w)
            || (!w.is_healing && w.random.below(100) < w.plan.clean_starts as usize);
        let is_assigned = self.assigns && self.connections == 0;
        let expiry_s = match self.version {
            // Without CONNACK nobody would know the name of a session that stays for ever.
            Version::V5 if is_assigned => self.expiry_s.min(1_000_000),
            Version::V5 => self.expiry_s,
            _ if is_clean => 0,
            _ => w.plan.limits.session_expiry_v3_s,
        };
        let expected = self.expect(w, is_clean);
        if expected == Expected::Absent {
            self.begin_session(w);
        }
        let now_ns = w.site.now_ns();
        // Without CONNACK nobody would know whose will it is, nor when its session ends.
        let will = if is_assigned {
            None
        } else {
            self.make_will(w, expiry_s)
        };
        let will_bytes = will.map(|at| will_of(&w.ledger, at));
        let first_message = self.first_message();
        let (username, password, is_right) = self.credentials(w);
        let properties = ConnectProperties {
            topic_alias_maximum: (self.alias_maximum > 0).then_some(self.alias_maximum),
            authentication_method: first_message.is_some().then_some(scram::NAME),
            authentication_data: first_message.as_deref().map(str::as_bytes),
            session_expiry_interval: (expiry_s > 0).then_some(expiry_s),
            receive_maximum: (self.receive_maximum < u16::MAX).then_some(self.receive_maximum),
            maximum_packet_size: (self.packet_bytes_max > 0).then_some(self.packet_bytes_max),
            ..ConnectProperties::default()
        };
        let packet = Connect {
            client_id: if is_assigned { "" } else { &self.name },
            clean_start: is_clean,
            username: username.as_deref(),
            password: password.map(str::as_bytes),
            keep_alive: self.keep_alive_s,
            will: will_bytes
                .as_ref()
                .map(|(topic, payload, qos, retain, delay_s)| Will {
                    topic,
                    payload,
                    qos: QoS::from_u8(*qos).expect("a QoS"),
                    retain: *retain,
                    properties: WillProperties {
                        delay_interval: *delay_s,
                        ..WillProperties::default()
                    },
                }),
            properties,
        };
        let unsent = packet.encode_to_vec(self.version);
        if is_clean {
            w.report.note(Feature::CleanStart);
            self.wills_may_come_at_once(w);
            self.belief.must_clean = true;
        }
        // A connection that is not known to be over may be taken over before its DISCONNECT is
        // read, and then its will comes after all.
        for old in &self.old {
            if let Some(will) = old.will
                && let Some(state) = &mut w.ledger.message(will).will
            {
                state.is_dropped = false;
                state.cut_ns.get_or_insert(now_ns);
            }
        }
        self.connections += 1;
        w.say(self.me, || {
            format!(
                "connects as {}: {packet:?}, expects {expected:?}",
                self.name
            )
        });
        let sent = VecDeque::from([(Sent::Connect, now_ns)]);
        let mut conn = Conn {
            peer: w.site.connect(),
            number: self.connections,
            unsent,
            received: Vec::new(),
            is_accepted: false,
            is_silent: false,
            is_told: false,
            is_over: false,
            expected,
            is_clean,
            expiry_s,
            will,
            sent,
            first: VecDeque::new(),
            again: VecDeque::new(),
            acks: VecDeque::new(),
            open: 0,
            aliases: Vec::new(),
            aliases_in: vec![None; usize::from(self.alias_maximum)],
            is_right,
            server_receive_maximum: 0,
            begun_ns: now_ns,
            pushed_ns: now_ns,
            pushed: 0,
            alive_ns: now_ns,
            since: u64::MAX,
            patience: 0,
        };
        conn.push(w);
        self.conn = Some(conn);
    }

    /// CONNACK of MQTT 3.1 does not say whether there is a session: such clients only keep one that
    /// does not expire while they are away.
    fn cannot_tell(&self, w: &World) -> bool {
        self.version == Version::V31 && w.plan.limits.session_expiry_v3_s < 1_000_000
    }

    fn expect(&self, w: &World, is_clean: bool) -> Expected {
        let belief = &self.belief;
        if is_clean || belief.exists == Exists::No {
            return Expected::Absent;
        }
        if belief.exists == Exists::May {
            return Expected::Any;
        }
        let expiry_ns = u64::from(belief.expiry_s) * NS_PER_S;
        // One tick after its end, and one turn that began then, it has to be gone.
        let over_ns = belief.gone_ns + expiry_ns + 1_000_000;
        let shard = usize::from(w.site.shared.shard_of(&self.name));
        if self.old.is_empty() && w.site.shards[shard].turned_ns >= over_ns {
            return Expected::Absent;
        }
        Expected::PresentUntil(belief.alive_ns + expiry_ns)
    }

    fn make_will(&self, w: &mut World, session_expiry_s: u32) -> Option<u32> {
        let may = !w.is_healing || w.plan.stops;
        if !may || w.random.below(100) >= w.plan.wills as usize {
            return None;
        }
        let is_v5 = self.version == Version::V5;
        let delay_s = if is_v5 {
            w.random.pick(&[0, 0, 1, 3])
        } else {
            0
        };
        w.report.note(Feature::Will);
        if delay_s > 0 && session_expiry_s > 0 {
            w.report.note(Feature::WillDelayed);
        }
        let now_ns = w.site.now_ns();
        let message = Message {
            publisher: self.me,
            topic: Ledger::will_topic(self.me),
            qos: w.random.weighted(&w.plan.qos) as u8,
            retain: w.random.one_in(3),
            expiry_s: None,
            payload_len: 12,
            has_properties: false,
            path: Path::Plain,
            sent: w.tick,
            sent_ns: now_ns,
            routed: None,
            routed_ns: 0,
            attempts: 1,
            will: Some(WillState {
                delay_s,
                session_expiry_s,
                keep_alive_s: self.keep_alive_s,
                alive_ns: now_ns,
                cut_ns: None,
                cleared_ns: None,
                is_dropped: false,
                is_cancelled: false,
                is_cut_by_stop: false,
                is_accepted: false,
            }),
        };
        let topic = message.topic;
        let at = w.ledger.add(message);
        w.ledger.sent.entry((self.me, topic)).or_default().push(at);
        Some(at)
    }

    /// A clean start ends the old session, and with it the delay of its will.
    fn wills_may_come_at_once(&self, w: &mut World) {
        let now_ns = w.site.now_ns();
        for message in &mut w.ledger.messages {
            if message.publisher == self.me
                && let Some(will) = &mut message.will
            {
                will.cleared_ns.get_or_insert(now_ns);
            }
        }
    }

    pub(super) fn on_connack(&mut self, w: &mut World, connack: &ConnAck<'_>) -> Check {
        let alive_ns = self.belief.alive_ns;
        self.answered(w, |sent| matches!(sent, Sent::Connect), "CONNACK")?;
        if connack.reason() != ReasonCode::Success {
            // This has made no session live longer.
            self.belief.alive_ns = alive_ns;
            return self.denied(w, connack.reason());
        }
        let now_ns = w.site.now_ns();
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let is_present = match self.version {
            Version::V31 => conn.expected != Expected::Absent,
            _ => connack.session_present(),
        };
        check!(!conn.is_accepted, "a second CONNACK");
        match conn.expected {
            Expected::Any => {}
            Expected::Absent => check!(!is_present, "CONNACK knows a session that has ended"),
            Expected::PresentUntil(until_ns) => check!(
                is_present || now_ns >= until_ns,
                "CONNACK does not know a session that has {} ns to live",
                until_ns - now_ns
            ),
        }
        if conn.expected == Expected::Absent && self.belief.exists == Exists::Must && !conn.is_clean
        {
            w.report.note(Feature::SessionExpired);
        }
        w.report.note(match self.version {
            Version::V5 => Feature::ConnectV5,
            Version::V311 => Feature::ConnectV311,
            _ => Feature::ConnectV31,
        });
        self.check_login(w, connack.properties().authentication_data())?;
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        if let Some(name) = connack.properties().assigned_client_id() {
            name.clone_into(&mut self.name);
            w.report.note(Feature::AssignedId);
        }
        conn.is_accepted = true;
        conn.since = w.tick;
        if conn.expiry_s == u32::MAX {
            w.report.note(Feature::SessionForEver);
        }
        let limits = &w.plan.limits;
        conn.server_receive_maximum = match self.version {
            Version::V5 => connack.properties().receive_maximum().unwrap_or(u16::MAX),
            _ => 2 * limits.receive_maximum as u16,
        };
        let aliases = connack.properties().topic_alias_maximum();
        conn.aliases = vec![None; usize::from(aliases.unwrap_or(0))];
        self.belief = Belief {
            exists: Exists::Must,
            must_clean: false,
            expiry_s: conn.expiry_s,
            ..self.belief
        };
        let will = conn.will;
        if let Some(state) = will.and_then(|at| w.ledger.message(at).will.as_mut()) {
            state.is_accepted = true;
        }
        if is_present {
            w.report.note(Feature::SessionResumed);
            self.cancel_wills(w);
            self.resend(w);
        } else {
            self.begin_session(w);
            // Until now the old ones may have held.
            for past in &mut self.past {
                past.ended.get_or_insert(w.tick);
            }
        }
        Ok(())
    }

    /// CONNACK does not let the client in. The session, if there is one, stays as it is.
    fn denied(&mut self, w: &mut World, reason: ReasonCode) -> Check {
        check!(
            self.may_be_denied(w, reason),
            "CONNACK refuses with {reason:?}"
        );
        w.report.note(Feature::LoginDenied);
        self.leave(w, true);
        Ok(())
    }

    /// The client is back: what still waited for its delay is not published any more.
    fn cancel_wills(&self, w: &mut World) {
        let now_ns = w.site.now_ns();
        let mine = self.conn.as_ref().and_then(|conn| conn.will);
        for (at, message) in w.ledger.messages.iter_mut().enumerate() {
            if message.publisher != self.me || mine == Some(at as u32) {
                continue;
            }
            // Without CONNACK it may belong to a session under a name that nobody knows.
            let Some(will) = message.will.as_mut().filter(|will| will.is_accepted) else {
                continue;
            };
            let delay_s = will.delay_s.min(will.session_expiry_s);
            let silence_ns = u64::from(will.keep_alive_s) * 3 * NS_PER_S / 2;
            let end_ns = will.cut_ns.map(|cut_ns| match silence_ns {
                0 => cut_ns,
                _ => cut_ns.min(will.alive_ns + silence_ns),
            });
            let due_ns = end_ns.map(|at| at + u64::from(delay_s) * NS_PER_S);
            if due_ns.is_some_and(|due_ns| due_ns > now_ns) && will.cleared_ns.is_none() {
                will.is_cancelled = true;
                w.report.note(Feature::WillCancelled);
            }
        }
    }

    /// The broker has a new session for this client.
    fn begin_session(&mut self, w: &mut World) {
        if self.shares {
            w.ledger.members_lost = w.tick;
        }
        self.outgoing.clear();
        self.requests.clear();
        self.incoming.clear();
        self.completed.clear();
        self.past.append(&mut self.subscriptions);
        self.owed.clear();
        self.early.clear();
        self.got.clear();
    }

    /// From now on the will of the present connection may come.
    pub(super) fn will_may_come(&self, w: &mut World) {
        let now_ns = w.site.now_ns();
        let will = self.conn.as_ref().and_then(|conn| conn.will);
        if let Some(state) = will.and_then(|at| w.ledger.message(at).will.as_mut()) {
            state.cut_ns.get_or_insert(now_ns);
        }
    }

    /// Lets the connection go, with a reset or without a word.
    pub(super) fn leave(&mut self, w: &mut World, resets: bool) {
        self.will_may_come(w);
        let Some(conn) = self.conn.take() else {
            return;
        };
        self.talk = Talk::default();
        w.say(self.me, || format!("leaves, with a reset: {resets}"));
        if resets {
            conn.peer.reset();
        }
        self.forget(conn, false);
    }

    fn forget(&mut self, conn: Conn, is_clean_end: bool) {
        if !conn.is_accepted {
            // A session that did not exist may have been made, and lives as long as it may.
            if self.belief.exists == Exists::No && conn.expiry_s > 0 {
                self.belief.exists = Exists::May;
                self.belief.expiry_s = conn.expiry_s;
            }
        } else if conn.expiry_s == 0 {
            self.belief.exists = Exists::No;
        }
        // What was granted before stays; what was asked is uncertain.
        let unanswered = std::mem::take(&mut self.requests);
        self.give_up_requests(unanswered);
        self.owed_at_end();
        self.old.push(Old {
            peer: conn.peer,
            will: conn.will,
            is_clean_end,
            was_accepted: conn.is_accepted,
            present_until_ns: match conn.expected {
                Expected::PresentUntil(until_ns) if !conn.is_accepted => until_ns,
                _ => u64::MAX,
            },
        });
    }

    /// Looks after connections that were let go, until the broker has noticed.
    pub(super) fn bury(&mut self, w: &mut World) {
        let before = self.old.len();
        let now_ns = w.site.now_ns();
        let mut gone = Vec::new();
        self.old.retain(|old| {
            if w.is_healing || w.random.one_in(60) {
                old.peer.reset();
            }
            let is_gone = old.peer.server_is_gone();
            if is_gone {
                w.say(self.me, || "an old connection is gone".to_owned());
            }
            if is_gone {
                gone.push((old.will, old.is_clean_end));
                // The session may have ended before the CONNECT was read, and a new one been made
                // by it: the next CONNACK could not tell the client which of the two it is.
                self.belief.must_clean |= now_ns >= old.present_until_ns;
            }
            !is_gone
        });
        if self.old.len() < before {
            self.belief.gone_ns = now_ns;
        }
        for (will, is_clean_end) in gone {
            if let Some(at) = will
                && !is_clean_end
            {
                self.will_is_due(w, at);
            }
        }
    }

    /// The broker has noticed the end of a connection: a will without delay is out.
    fn will_is_due(&self, w: &mut World, at: u32) {
        let tick = w.tick;
        let message = w.ledger.message(at);
        if let Some(will) = &message.will
            && will.is_accepted
            && (will.delay_s == 0 || will.session_expiry_s == 0)
            && !will.is_dropped
            && message.routed.is_none()
        {
            message.routed = Some(tick);
            w.report.note(Feature::WillOwed);
        }
    }

    pub(super) fn disconnect(&mut self, w: &mut World) {
        let Some(conn) = &mut self.conn else {
            return;
        };
        let is_v5 = self.version == Version::V5;
        let keeps_will = is_v5 && w.random.one_in(4);
        let ends_session = is_v5 && conn.expiry_s > 0 && w.random.one_in(5);
        let packet = Disconnect {
            reason: if keeps_will {
                ReasonCode::DisconnectWithWill
            } else {
                ReasonCode::Success
            },
            session_expiry_interval: ends_session.then_some(0),
            ..Disconnect::default()
        };
        w.say(self.me, || format!("sends {packet:?}"));
        conn.unsent.extend(packet.encode_to_vec(self.version));
        conn.push(w);
        let is_sent = conn.unsent.is_empty() && conn.peer.end().is_none();
        let now_ns = w.site.now_ns();
        if let Some(state) = conn.will.and_then(|at| w.ledger.message(at).will.as_mut()) {
            // Where the broker may have ended the connection, DISCONNECT may not have been read.
            if is_sent && !keeps_will && state.cut_ns.is_none() {
                state.is_dropped = true;
            }
            state.cut_ns.get_or_insert(now_ns);
            if ends_session {
                state.cleared_ns.get_or_insert(now_ns);
            }
        }
        w.report.note(if keeps_will {
            Feature::DisconnectWithWill
        } else {
            Feature::Disconnect
        });
        let Some(conn) = self.conn.take() else {
            return;
        };
        self.talk = Talk::default();
        if w.random.one_in(2) {
            conn.peer.shutdown_write();
        } else {
            conn.peer.reset();
        }
        if ends_session {
            w.report.note(Feature::ExpiryAtDisconnect);
            self.belief.must_clean = true;
        }
        self.forget(conn, !keeps_will);
    }

    /// Ends a session that would stay for ever, where it is connected.
    pub(in crate::sim) fn say_good_bye(&mut self, w: &World) {
        let Some(conn) = self.conn.as_mut().filter(|conn| conn.expiry_s == u32::MAX) else {
            return;
        };
        let packet = Disconnect {
            session_expiry_interval: Some(0),
            ..Disconnect::default()
        };
        w.say(self.me, || format!("sends {packet:?}"));
        let bytes = packet.encode_to_vec(self.version);
        let sent = conn.peer.send(&bytes);
        debug_assert_eq!(sent.ok(), Some(bytes.len()), "nothing else is under way");
    }

    pub(super) fn on_disconnect(&mut self, w: &mut World, reason: ReasonCode) -> Check {
        if reason == ReasonCode::ServerShuttingDown && w.stop_began.is_some() {
            if let Some(conn) = &mut self.conn {
                conn.is_told = true;
            }
            return Ok(());
        }
        // It may have been said before the network was whole again.
        let begun_ns = self.conn.as_ref().map_or(0, |conn| conn.begun_ns);
        let may_be_shed = w.plan.shortages > 0 && begun_ns < w.healed_ns;
        if reason == ReasonCode::QuotaExceeded && may_be_shed {
            w.report.note(Feature::ClientShed);
            self.leave(w, true);
            return Ok(());
        }
        if reason != ReasonCode::KeepAliveTimeout && self.may_be_denied(w, reason) {
            w.report.note(Feature::AuthAnewDenied);
            self.leave(w, true);
            return Ok(());
        }
        check!(
            reason == ReasonCode::KeepAliveTimeout,
            "the broker disconnects with {reason:?}"
        );
        check!(
            self.keep_alive_s != 0,
            "a keep-alive timeout without keep-alive"
        );
        check!(
            begun_ns < w.healed_ns,
            "a keep-alive timeout although the client has kept to it"
        );
        w.report.note(Feature::KeepAlive);
        self.leave(w, true);
        Ok(())
    }
}

type WillBytes = (String, Vec<u8>, u8, bool, u32);

fn will_of(ledger: &Ledger, at: u32) -> WillBytes {
    let message = &ledger.messages[at as usize];
    let topic = ledger.topics[message.topic].clone();
    let payload = super::publish::payload(at, message.payload_len);
    let delay_s = message.will.as_ref().map_or(0, |will| will.delay_s);
    (topic, payload, message.qos, message.retain, delay_s)
}
