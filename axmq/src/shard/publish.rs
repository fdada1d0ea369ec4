//! A client publishes.

use std::ops::Range;
use std::rc::Rc;

use mqtt_codec::{PacketId, PacketType, PayloadFormat, Publish, QoS, ReasonCode, Version};
use sharedbuf::ReadBlock;
use slabmem::Key;
use topicmap::Topic;

use super::Core;
use super::connection::flag;
use super::hooked::Unacknowledged;
use super::settle::AckRow;
use crate::config::Durability;
use crate::events::Cause;
use crate::message::AcceptTag;
use crate::publication::{Parts, Publication, View};
use crate::route::Route;
use crate::session::{AckKind, Arrival};
use crate::store::op::Op;
use crate::store::record;
use crate::sys_topics::is_sys;

/// Acknowledgements that may be due while what has been read is handled.
const DUE_MAX: u16 = 32;

impl<S> Core<S> {
    /// Handles a PUBLISH that stands at `range` of `block`.
    pub(super) fn on_publish<'a>(
        &mut self,
        key: Key,
        block: &'a ReadBlock,
        range: Range<usize>,
        publish: &Publish<'a>,
    ) {
        self.counters.publishes_received += 1;
        self.counters.publish_bytes_received += publish.payload().len() as u64;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.set(flag::PUBLISHER);
        let (session, version) = (connection.session, connection.version);
        if self.is_gated && !self.gate(key, range.len()) {
            return;
        }
        if !self.listener_lets_publish(key, publish)
            || (version == Version::V5 && !self.properties_are_fine(key, publish))
        {
            return;
        }
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let named = self.resolve_alias(key, publish, &mut text);
        match named {
            Err((reason, clause, what)) => self.violation(key, reason, clause, what),
            Ok(()) => {
                if let Some(rules) = self.mount_of(key) {
                    if text.is_empty() {
                        text.push_str(publish.topic());
                    }
                    // No topic at all stays none, to be refused as that.
                    if !text.is_empty() {
                        text.insert_str(0, &rules.mount_point);
                    }
                }
                let name = if text.is_empty() {
                    publish.topic()
                } else {
                    &text
                };
                match self.topic_memo.parse(name, &self.shared.topic_limits) {
                    Err(error) => {
                        self.counters.refused_topics += 1;
                        self.close(key, Cause::Topic(error));
                    }
                    Ok(topic) => {
                        let source = Some(self.reference(session));
                        if text.is_empty() && publish.properties().is_pass_through() {
                            let view = View::of_packet(block, range, publish, version, source);
                            self.arrive(key, session, &view, &topic, publish);
                        } else {
                            let publication = self.rebuild(publish, name, session);
                            let view = publication.view();
                            self.arrive(key, session, &view, &topic, publish);
                        }
                    }
                }
            }
        }
        self.text = text;
    }

    /// Whether a 5.0 PUBLISH has no more user properties than it may, and the payload that it says;
    /// if not, the client is told and the message goes nowhere.
    fn properties_are_fine(&mut self, key: Key, publish: &Publish<'_>) -> bool {
        let properties = publish.properties();
        let limit = self.shared.limits.user_properties as usize;
        if properties.user_properties().nth(limit).is_some() {
            self.counters.refused_user_properties += 1;
            let what = "more user properties than limits.user_properties";
            self.violation(key, ReasonCode::QuotaExceeded, "MQTT-3.3.2.3.7", what);
            return false;
        }
        let is_wrong = self.shared.protocol.check_payload_format
            && properties.payload_format_indicator() == Some(PayloadFormat::Utf8)
            && str::from_utf8(publish.payload()).is_err();
        if is_wrong {
            self.refuse_payload(key, publish);
        }
        !is_wrong
    }

    /// The payload is not the UTF-8 that it says it is: PUBACK or PUBREC with 0x99 for a new
    /// message, the end of the connection at QoS 0, which has no answer.
    fn refuse_payload(&mut self, key: Key, publish: &Publish<'_>) {
        self.counters.refused_payload_format += 1;
        let session_key = self
            .connections
            .get(key)
            .map(|connection| connection.session);
        let (Some(packet_id), Some(session_key)) = (publish.packet_id(), session_key) else {
            let what = "a payload that says it is UTF-8 and is not";
            self.violation(
                key,
                ReasonCode::PayloadFormatInvalid,
                "MQTT-3.3.2.3.2",
                what,
            );
            return;
        };
        let qos = publish.qos();
        let waits = Unacknowledged {
            session: session_key,
            qos,
            packet_id,
            digest: 0,
        };
        self.refuse_publish(key, Some(waits), ReasonCode::PayloadFormatInvalid);
    }

    /// Sets `text` to the topic that an alias stands for, where the packet names none, and learns
    /// the alias where it names one [MQTT-3.3.2-8 to -12].
    fn resolve_alias(
        &mut self,
        key: Key,
        publish: &Publish<'_>,
        text: &mut String,
    ) -> Result<(), (ReasonCode, &'static str, &'static str)> {
        let invalid = ReasonCode::TopicAliasInvalid;
        let Some(alias) = publish.properties().topic_alias() else {
            return Ok(());
        };
        if u32::from(alias.get()) > self.shared.limits.topic_aliases {
            let what = "a topic alias above the server's maximum";
            return Err((invalid, "MQTT-3.3.2-9", what));
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let at = usize::from(alias.get() - 1);
        let extras = connection.extras.get_or_insert_with(Box::default);
        let aliases = &mut extras.aliases;
        if publish.topic().is_empty() {
            match aliases.get(at).and_then(Option::as_deref) {
                Some(topic) => text.push_str(topic),
                None => {
                    let what = "a topic alias that stands for no topic yet";
                    return Err((ReasonCode::ProtocolError, "MQTT-3.3.2-7", what));
                }
            }
        } else {
            if aliases.len() <= at {
                aliases.resize(at + 1, None);
            }
            if let Some(slot) = aliases.get_mut(at) {
                let old = slot.as_deref().map_or(0, str::len);
                let bytes = extras.alias_bytes as usize + publish.topic().len() - old;
                if bytes > self.shared.limits.topic_alias_bytes as usize {
                    self.counters.refused_topic_alias_bytes += 1;
                    let what = "longer topics under aliases than limits.topic_alias_bytes";
                    return Err((ReasonCode::QuotaExceeded, "MQTT-3.3.2.3.4", what));
                }
                extras.alias_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                *slot = Some(publish.topic().into());
            }
        }
        Ok(())
    }

    /// A publication without its alias, with its expiry as a point in time.
    fn rebuild(&self, publish: &Publish<'_>, topic: &str, session: Key) -> Publication {
        let properties = publish.properties();
        let expires_at_ms = properties
            .message_expiry_interval()
            .map_or(0, |seconds| self.now_ms + u64::from(seconds) * 1_000);
        let parts = Parts {
            topic,
            properties: properties.pass_through(),
            payload: publish.payload(),
            qos: publish.qos(),
            retain: publish.retain(),
            expires_at_ms,
        };
        Publication::from_parts(parts, Some(self.reference(session)))
    }

    fn arrive(
        &mut self,
        key: Key,
        session_key: Key,
        view: &View<'_>,
        topic: &Topic<'_>,
        publish: &Publish<'_>,
    ) {
        let Some(packet_id) = publish.packet_id() else {
            self.take_in(key, view, topic, None);
            return;
        };
        let receive_maximum = self.shared.receive_maximum();
        let Some(session) = self.sessions.get_mut(session_key) else {
            return;
        };
        let is_kept = session.holder != 0 && view.qos() == QoS::ExactlyOnce;
        let incoming = &mut session.flow().incoming;
        let mut digest = 0;
        if is_kept {
            // Of what came: a hook may change it, and not in the same way each time.
            digest = record::digest(topic.as_str(), view.payload());
            if incoming.has_doubts() {
                incoming.tell_apart(packet_id, publish.dup(), digest);
            }
        }
        let waits = Some(Unacknowledged {
            session: session_key,
            qos: view.qos(),
            packet_id,
            digest,
        });
        match incoming.arrive(view.qos(), packet_id, publish.dup(), receive_maximum) {
            Arrival::New => self.take_in(key, view, topic, waits),
            Arrival::Joins => {}
            Arrival::Received => {
                self.ack(key, PacketType::PubRec, packet_id, ReasonCode::Success);
            }
            Arrival::OverLimit => {
                let is_v5 = self
                    .connections
                    .get(key)
                    .is_some_and(|connection| connection.version == Version::V5);
                if is_v5 {
                    self.counters.refused_receive_maximum += 1;
                    self.violation(
                        key,
                        ReasonCode::ReceiveMaximumExceeded,
                        "MQTT-3.3.4-9",
                        "more unacknowledged publishes than the server's receive maximum",
                    );
                } else {
                    // 3.x has no such limit. Its acknowledgements have one of ours: see `receive`.
                    self.take_in(key, view, topic, waits);
                }
            }
        }
    }

    fn take_in(
        &mut self,
        key: Key,
        view: &View<'_>,
        topic: &Topic<'_>,
        waits: Option<Unacknowledged>,
    ) {
        if is_sys(topic.as_str()) {
            // What is under $SYS/ is the broker's to say.
            self.refuse_publish(key, waits, ReasonCode::NotAuthorized);
        } else if self.shared.hooks.sees_publishes() {
            self.accept_judged(key, view, topic, waits);
        } else {
            self.accept(key, view, topic, waits);
        }
    }

    pub(super) fn accept(
        &mut self,
        key: Key,
        view: &View<'_>,
        topic: &Topic<'_>,
        waits: Option<Unacknowledged>,
    ) {
        self.felt_pressure = false;
        self.journal.feel();
        let kept;
        let view = if self.is_told_to_store(view) {
            kept = self.for_store(view, topic);
            &kept
        } else {
            view
        };
        if self.has_store_failed() && self.is_for_kept(view, topic) {
            self.counters.refused_store_failed += 1;
            self.refuse_unkept(key, waits);
            return;
        }
        if view.retain() {
            self.retain(view, topic);
        }
        self.route(view, topic, waits);
        if let Some(waits) = waits {
            self.settle_later(waits.session);
        }
        self.hold_writer(key);
        if self.felt_pressure {
            self.pause(key);
        }
    }

    pub(super) fn retain(&mut self, view: &View<'_>, topic: &Topic<'_>) {
        let stored = self.shared.retained.store(topic, view.to_kept());
        if stored.is_err() {
            self.counters.retained_not_kept += 1;
        }
        if self.journal.is_on() {
            self.note_retained(view, stored);
        }
    }

    /// The route of a topic, from the cache where its stamp still holds.
    pub(super) fn look_up(&mut self, topic: &Topic<'_>) -> Rc<Route> {
        // The stamp is read before the index and the mask: a subscription that comes in between
        // makes the entry stale at once, never wrong for long (DECISIONS 15).
        let stamp = self.shared.stamps.observe(topic);
        if let Some(route) = self.routes.get(topic, stamp) {
            return Rc::clone(route);
        }
        let shards = self.interest.mask(topic);
        let mut groups = Vec::new();
        self.groups.matching(topic, &mut groups);
        let promises = self.shared.promises.as_deref();
        let durability = promises.and_then(|promises| promises.for_topic(topic));
        let route = self
            .route_builder
            .build(&self.topics, topic, shards, &groups, durability);
        let route = Rc::new(route);
        self.routes.insert(topic, stamp, Rc::clone(&route));
        route
    }

    /// Delivers to the sessions of this shard and forwards to the others. An acknowledgement that
    /// is due waits for all of them.
    pub(super) fn route(
        &mut self,
        view: &View<'_>,
        topic: &Topic<'_>,
        waits: Option<Unacknowledged>,
    ) {
        let route = self.look_up(topic);
        let others = route.shards & !(1 << self.me);
        let accept = waits.and_then(|waits| {
            let session = self.sessions.get_mut(waits.session)?;
            let shards = u8::try_from(others.count_ones()).unwrap_or(u8::MAX);
            let holder = session.holder;
            let incoming = &mut session.flow().incoming;
            let mut tag = AcceptTag {
                session: waits.session,
                sequence: incoming.begin(waits.qos, waits.packet_id, shards),
                commit: 0,
                digest: waits.digest,
                is_refused: false,
            };
            if holder != 0 && waits.qos == QoS::ExactlyOnce {
                incoming.promise(waits.packet_id, view.durability());
                if others != 0 && view.durability() == Durability::Always {
                    // With what the other shards write for it, when all have accepted it.
                    tag.commit = view.number();
                    self.staging = tag.commit;
                    incoming.wait_for_one_more(tag.sequence);
                } else {
                    self.journal.push(Op::Receive {
                        holder,
                        packet_id: waits.packet_id,
                        digest: waits.digest,
                    });
                }
            }
            Some(tag)
        });
        self.deliver_route(view, &route);
        self.staging = u64::MAX;
        if let Some(tag) = accept
            && tag.commit == 0
            && self.accept_waits()
        {
            self.wait_for_store(tag);
        }
        if others != 0 {
            self.forward(view, others, accept);
        }
    }

    /// Sends the acknowledgements that are due when what has been read is through, or when they are
    /// many: together they cost a fraction of what they do one by one.
    fn settle_later(&mut self, session: Key) {
        let limit = self.shared.receive_maximum().min(DUE_MAX);
        let flow = self.sessions.get(session).and_then(|s| s.flow.as_ref());
        if flow.is_some_and(|flow| flow.incoming.is_full(limit)) {
            self.settle_incoming(session);
        } else {
            self.due = Some(session);
        }
    }

    /// Sends what [`settle_later`](Self::settle_later) has put off.
    pub(super) fn settle_due(&mut self) {
        if let Some(session) = self.due.take() {
            self.settle_incoming(session);
        }
    }

    /// Sends the acknowledgements that are due, in order of arrival.
    pub(super) fn settle_incoming(&mut self, session_key: Key) {
        let mut row = AckRow::new();
        let connection = self.sessions.get(session_key).and_then(|s| s.connection);
        while let Some((kind, packet_id, reason)) = self.pop_ready(session_key) {
            // Without a connection the client publishes again, and is answered then.
            let Some(key) = connection else { continue };
            if reason == ReasonCode::Success && self.tracers.is_empty() {
                row.acknowledge(kind, packet_id);
                if row.is_full() {
                    self.send_row(key, &mut row);
                }
                continue;
            }
            self.send_row(key, &mut row);
            if reason.is_error() && self.version(key) != Some(Version::V5) {
                // 3.x has no answer that refuses [MQTT-3.3.5-2].
                self.refuse_unkept(key, None);
                return;
            }
            let packet_type = match kind {
                AckKind::PubAck => PacketType::PubAck,
                AckKind::PubRec => PacketType::PubRec,
            };
            self.ack(key, packet_type, packet_id, reason);
        }
        if let Some(key) = connection {
            self.send_row(key, &mut row);
        }
    }

    fn pop_ready(&mut self, session: Key) -> Option<(AckKind, PacketId, ReasonCode)> {
        let session = self.sessions.get_mut(session)?;
        session.flow.as_mut()?.incoming.pop_ready()
    }

    /// Whether a session has as many acknowledgements due as it may: reading then stops.
    pub(super) fn acknowledgements_are_full(&self, session: Key) -> bool {
        let limit = self.shared.receive_maximum();
        self.sessions
            .get(session)
            .and_then(|session| session.flow.as_ref())
            .is_some_and(|flow| flow.incoming.is_full(limit))
    }
}
