//! SUBSCRIBE and UNSUBSCRIBE.

use mqtt_codec::encode::{SubAck, UnsubAck};
use mqtt_codec::{
    PacketId, QoS, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version,
};
use slabmem::Key;
use topicmap::{Filter, Subscription, parse_subscription};

use super::Core;
use crate::group::Place;
use crate::listener::mounted_filter;
use crate::route::SubscriptionOptions;
use crate::store::op::Op;

/// A subscription that was granted, and whether it gets retained messages now.
pub(super) struct Granted<'a> {
    pub(super) filter: Filter<'a>,
    pub(super) options: SubscriptionOptions,
    replays: bool,
}

/// A SUBACK that waits for the owners of groups, or for the disk.
#[derive(Debug)]
pub(super) struct DueSubAck {
    pub(super) packet_id: PacketId,
    pub(super) codes: Vec<ReasonCode>,
    /// Answers that have not come.
    pub(super) left: usize,
    pub(super) is_unsuback: bool,
}

impl<S> Core<S> {
    pub(super) fn on_subscribe(&mut self, key: Key, packet: &Subscribe<'_>) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let (session, version) = (connection.session, connection.version);
        if !self.listener_lets_subscribe(key, packet) {
            return;
        }
        let offers = self.offers(key, packet);
        let identifier = packet.subscription_identifier().unwrap_or(0);
        let packet_id = packet.packet_id();
        let mut codes = Vec::new();
        let mut granted = Vec::new();
        let mut joins = Vec::new();
        for (at, mut wanted) in packet.filters().enumerate() {
            if let Some(offer) = offers.get(at) {
                if let Some(reason) = offer.refused {
                    codes.push(reason);
                    continue;
                }
                wanted.qos = wanted.qos.min(offer.qos_max);
                wanted.filter = &offer.filter;
            }
            let Some(may) = self.may_subscribe(key, &wanted) else {
                self.unenrol(session, joins.into_iter().map(|(_, member)| member));
                return;
            };
            if let Err(reason) = may {
                codes.push(reason);
                continue;
            }
            let options = SubscriptionOptions {
                identifier,
                qos: wanted.qos,
                no_local: wanted.no_local,
                retain_as_published: wanted.retain_as_published,
            };
            let code = match parse_subscription(wanted.filter, &self.shared.topic_limits) {
                Ok(Subscription::Plain(filter)) => self
                    .subscribe(session, version, filter, &wanted, options)
                    .map(|grant| granted.push(grant)),
                Ok(Subscription::Shared(shared)) => self
                    .enrol(session, &shared, options)
                    .map(|member| joins.push((codes.len(), member))),
                // An illegal filter is refused in SUBACK; the connection stays (DECISIONS 18).
                Err(_) => Err(ReasonCode::TopicFilterInvalid),
            };
            codes.push(code.map_or_else(|reason| reason, |()| granted_code(wanted.qos)));
        }
        if joins.is_empty() {
            self.suback_durably(key, packet_id, codes, false);
        } else {
            self.join_all(key, packet_id, codes, joins);
        }
        for grant in granted.iter().filter(|grant| grant.replays) {
            self.replay(session, &grant.filter, grant.options);
            self.sys_replay(session, &grant.filter, grant.options);
        }
    }

    pub(super) fn send_suback(
        &mut self,
        key: Key,
        packet_id: PacketId,
        codes: &[ReasonCode],
        is_unsuback: bool,
    ) {
        let Some(version) = self.version(key) else {
            return;
        };
        if is_unsuback {
            let answer = UnsubAck {
                packet_id,
                codes,
                reason_string: None,
                user_properties: &[],
            };
            self.control(key, answer.encoded_len(version), |out| {
                answer.encode(version, out);
            });
            return;
        }
        let answer = SubAck {
            packet_id,
            codes,
            reason_string: None,
            user_properties: &[],
        };
        self.control(key, answer.encoded_len(version), |out| {
            answer.encode(version, out);
        });
    }

    /// Asks the owners of the groups; SUBACK leaves when all have answered. Until then no other
    /// packet of the client is read, so that one connection has one SUBACK due at most.
    fn join_all(
        &mut self,
        key: Key,
        packet_id: PacketId,
        codes: Vec<ReasonCode>,
        joins: Vec<(usize, Key)>,
    ) {
        let due = DueSubAck {
            packet_id,
            codes,
            left: joins.len(),
            is_unsuback: false,
        };
        self.due_subacks.insert(key, due);
        for (at, member) in joins {
            let connection = key;
            self.join(member, Some(Place { connection, at }));
        }
    }

    /// Whether a connection's next packet has to wait for its SUBACK.
    pub(super) fn awaits_suback(&self, key: Key) -> bool {
        !self.due_subacks.is_empty() && self.due_subacks.contains_key(&key)
    }

    /// An owner has answered, with a code if it is another one than was wanted.
    pub(super) fn suback_answered(&mut self, place: Place, code: Option<ReasonCode>) {
        let key = place.connection;
        let Some(due) = self.due_subacks.get_mut(&key) else {
            return;
        };
        if let (Some(code), Some(slot)) = (code, due.codes.get_mut(place.at)) {
            *slot = code;
        }
        due.left = due.left.saturating_sub(1);
        if due.left == 0
            && let Some(due) = self.due_subacks.remove(&key)
        {
            self.suback_durably(key, due.packet_id, due.codes, false);
            if !self.awaits_suback(key) {
                self.resume_reading(key);
            }
        }
    }

    /// Adds one subscription: index, mask and stamps are in place before SUBACK is queued
    /// (DECISIONS 15).
    pub(super) fn subscribe<'a>(
        &mut self,
        session_key: Key,
        version: Version,
        filter: Filter<'a>,
        wanted: &SubscribeFilter<'_>,
        options: SubscriptionOptions,
    ) -> Result<Granted<'a>, ReasonCode> {
        let limit = self.shared.limits.subscriptions_per_client as usize;
        let Some(session) = self.sessions.get(session_key) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let is_full = session.filters.len() >= limit;
        let slot = session_key.index();
        let has_it = || {
            self.topics
                .filter_id(&filter)
                .and_then(|id| self.topics.get(id, slot))
                .is_some()
        };
        if is_full && !has_it() {
            return Err(ReasonCode::QuotaExceeded);
        }
        let inserted = self.topics.insert(&filter, slot, options);
        let is_new = inserted.replaced.is_none();
        if is_new && let Some(session) = self.sessions.get_mut(session_key) {
            session.filters.insert(inserted.filter);
        }
        let holder = self.holder(session_key);
        if holder != 0 && !self.is_restoring {
            self.journal.push(Op::Subscribe {
                holder,
                filter: filter.as_str().into(),
                options,
            });
        }
        if inserted.first
            && let Ok(shard) = u8::try_from(self.me)
        {
            self.shared.interest.add(&filter, shard);
        }
        if !planted!(StaleRouteCache) {
            self.shared.stamps.bump(&filter);
        }
        self.sys_watch(session_key, &filter);
        let replays = match (version, wanted.retain_handling) {
            (Version::V5, RetainHandling::SendIfNew) => is_new,
            (Version::V5, RetainHandling::DoNotSend) => false,
            _ => true,
        };
        if replays {
            self.end_replays(session_key, &filter);
        } else {
            self.change_replays(session_key, &filter, options);
        }
        Ok(Granted {
            filter,
            options,
            replays,
        })
    }

    pub(super) fn on_unsubscribe(&mut self, key: Key, packet: &Unsubscribe<'_>) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let session = connection.session;
        let mount = self.mount_of(key);
        let limits = self.shared.topic_limits;
        let codes: Vec<_> = packet
            .filters()
            .map(|text| match &mount {
                Some(rules) => {
                    let text = mounted_filter(&rules.mount_point, text, &limits);
                    self.unsubscribe(session, &text)
                }
                None => self.unsubscribe(session, text),
            })
            .collect();
        self.suback_durably(key, packet.packet_id(), codes, true);
    }

    fn unsubscribe(&mut self, session_key: Key, text: &str) -> ReasonCode {
        let filter = match parse_subscription(text, &self.shared.topic_limits) {
            Ok(Subscription::Plain(filter)) => filter,
            Ok(Subscription::Shared(shared)) if self.leave_group(session_key, &shared) => {
                return ReasonCode::Success;
            }
            Ok(Subscription::Shared(_)) | Err(_) => return ReasonCode::NoSubscriptionExisted,
        };
        let Some(removed) = self.topics.remove(&filter, session_key.index()) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.filters.remove(removed.filter);
        }
        let holder = self.holder(session_key);
        if holder != 0 {
            self.journal.push(Op::Unsubscribe {
                holder,
                filter: filter.as_str().into(),
            });
        }
        if !planted!(ReplayAfterUnsubscribe) {
            self.end_replays(session_key, &filter);
        }
        self.withdraw(&filter, removed.last);
        self.sys_unwatch(session_key);
        ReasonCode::Success
    }
}

/// The SUBACK code that grants `qos`.
fn granted_code(qos: QoS) -> ReasonCode {
    match qos {
        QoS::AtMostOnce => ReasonCode::Success,
        QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
        QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
    }
}
