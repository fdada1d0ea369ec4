//! SUBSCRIBE and UNSUBSCRIBE.

use mqtt_codec::encode::{SubAck, UnsubAck};
use mqtt_codec::{
    QoS, ReasonCode, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version,
};
use slabmem::Key;
use topicmap::{Filter, Subscription, parse_subscription};

use super::Core;
use crate::listener::mounted_filter;
use crate::route::SubscriptionOptions;

/// A subscription that was granted, and whether it gets retained messages now.
struct Granted<'a> {
    filter: Filter<'a>,
    options: SubscriptionOptions,
    replays: bool,
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
        let mut codes = Vec::new();
        let mut granted = Vec::new();
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
                return;
            };
            match may.and_then(|()| self.subscribe(session, version, &wanted, identifier)) {
                Ok(grant) => {
                    codes.push(granted_code(grant.options.qos));
                    granted.push(grant);
                }
                Err(reason) => codes.push(reason),
            }
        }
        let packet_id = packet.packet_id();
        let answer = SubAck {
            packet_id,
            codes: &codes,
            reason_string: None,
            user_properties: &[],
        };
        self.control(key, answer.encoded_len(version), |out| {
            answer.encode(version, out);
        });
        for grant in granted.iter().filter(|grant| grant.replays) {
            self.replay(session, &grant.filter, grant.options);
            self.sys_replay(session, &grant.filter, grant.options);
        }
    }

    /// Adds one subscription: index, mask and stamps are in place before SUBACK is queued
    /// (DECISIONS 15).
    fn subscribe<'a>(
        &mut self,
        session_key: Key,
        version: Version,
        wanted: &SubscribeFilter<'a>,
        identifier: u32,
    ) -> Result<Granted<'a>, ReasonCode> {
        let filter = match parse_subscription(wanted.filter, &self.shared.topic_limits) {
            Ok(Subscription::Plain(filter)) => filter,
            Ok(Subscription::Shared(_)) => {
                return Err(ReasonCode::SharedSubscriptionsNotSupported);
            }
            // An illegal filter is refused in SUBACK; the connection stays (DECISIONS 18).
            Err(_) => return Err(ReasonCode::TopicFilterInvalid),
        };
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
        let options = SubscriptionOptions {
            identifier,
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
        };
        let inserted = self.topics.insert(&filter, slot, options);
        let is_new = inserted.replaced.is_none();
        if is_new && let Some(session) = self.sessions.get_mut(session_key) {
            session.filters.insert(inserted.filter);
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
        let (session, version) = (connection.session, connection.version);
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
        let answer = UnsubAck {
            packet_id: packet.packet_id(),
            codes: &codes,
            reason_string: None,
            user_properties: &[],
        };
        self.control(key, answer.encoded_len(version), |out| {
            answer.encode(version, out);
        });
    }

    fn unsubscribe(&mut self, session_key: Key, text: &str) -> ReasonCode {
        let Ok(Subscription::Plain(filter)) = parse_subscription(text, &self.shared.topic_limits)
        else {
            return ReasonCode::NoSubscriptionExisted;
        };
        let Some(removed) = self.topics.remove(&filter, session_key.index()) else {
            return ReasonCode::NoSubscriptionExisted;
        };
        if let Some(session) = self.sessions.get_mut(session_key) {
            session.filters.remove(removed.filter);
        }
        self.withdraw(&filter, removed.last);
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
