//! What a listener forbids its clients, where the specification says what becomes of those who do
//! it all the same, and its mount point.

use std::sync::Arc;

use mqtt_codec::{Publish, QoS, ReasonCode, Subscribe, Version};
use slabmem::Key;
use topicmap::{Subscription, parse_subscription};

use super::Core;
use super::connection::Connection;
use crate::config::ListenerRules;
use crate::listener::mounted_filter;
use crate::publication::View;

impl<S> Connection<S> {
    /// The rules of its listener, where they are not the default ones.
    pub(crate) fn rules(&self) -> Option<&Arc<ListenerRules>> {
        self.extras.as_deref()?.rules.as_ref()
    }
}

impl<S> Core<S> {
    /// What comes before every topic and filter of a client, where anything does.
    pub(super) fn mount_of(&self, key: Key) -> Option<Arc<ListenerRules>> {
        let rules = self.connections.get(key)?.rules().cloned();
        rules.filter(|rules| !rules.mount_point.is_empty())
    }

    /// Whether a client may publish this. One that may not has been told and is closed.
    pub(super) fn listener_lets_publish(&mut self, key: Key, publish: &Publish<'_>) -> bool {
        let Some(rules) = self.connections.get(key).and_then(Connection::rules) else {
            return true;
        };
        if publish.qos() as u8 > rules.maximum_qos {
            self.violation(
                key,
                ReasonCode::QoSNotSupported,
                "MQTT-3.2.2-11",
                "a publish above the maximum QoS of the listener",
            );
            return false;
        }
        if publish.retain() && !rules.retain {
            self.violation(
                key,
                ReasonCode::RetainNotSupported,
                "MQTT-3.2.2-14",
                "a publish with RETAIN, which the listener does not offer",
            );
            return false;
        }
        true
    }

    /// Whether a client may subscribe like this. A 5.0 client that was told otherwise in CONNACK is
    /// closed (MQTT 5.0 sections 3.2.2.3.11 to 13); others are refused filter by filter.
    pub(super) fn listener_lets_subscribe(&mut self, key: Key, packet: &Subscribe<'_>) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let Some(rules) = connection.rules() else {
            return true;
        };
        if connection.version != Version::V5 {
            return true;
        }
        let limits = &self.shared.topic_limits;
        let refused =
            if packet.subscription_identifier().is_some() && !rules.subscription_identifiers {
                Some((
                    ReasonCode::SubscriptionIdentifiersNotSupported,
                    "MQTT 5.0 section 3.2.2.3.12",
                    "a subscription identifier, which the listener does not offer",
                ))
            } else {
                packet
                    .filters()
                    .find_map(|wanted| match forbidden(rules, wanted.filter, limits)? {
                        ReasonCode::WildcardSubscriptionsNotSupported => Some((
                            ReasonCode::WildcardSubscriptionsNotSupported,
                            "MQTT 5.0 section 3.2.2.3.11",
                            "a filter with wildcards, which the listener does not offer",
                        )),
                        reason => Some((
                            reason,
                            "MQTT 5.0 section 3.2.2.3.13",
                            "a shared subscription, which the listener does not offer",
                        )),
                    })
            };
        if let Some((reason, clause, what)) = refused {
            self.violation(key, reason, clause, what);
        }
        refused.is_none()
    }
}

/// What becomes of one filter of a SUBSCRIBE under the rules of a listener.
#[derive(Debug)]
pub(super) struct Offer {
    /// Under the mount point.
    pub(super) filter: String,
    /// What is granted at most: the subscription is taken all the same [MQTT-3.2.2-10].
    pub(super) qos_max: QoS,
    pub(super) refused: Option<ReasonCode>,
}

impl<S> Core<S> {
    /// An offer for each filter; none at all where the listener has no rules.
    pub(super) fn offers(&self, key: Key, packet: &Subscribe<'_>) -> Vec<Offer> {
        let limits = &self.shared.topic_limits;
        let Some(rules) = self.connections.get(key).and_then(Connection::rules) else {
            return Vec::new();
        };
        let offer = |filter: &str| Offer {
            filter: mounted_filter(&rules.mount_point, filter, limits),
            qos_max: QoS::from_u8(rules.maximum_qos).unwrap_or(QoS::ExactlyOnce),
            refused: forbidden(rules, filter, limits),
        };
        packet
            .filters()
            .map(|wanted| offer(wanted.filter))
            .collect()
    }
}

/// Why the listener does not offer such a filter, if it does not. One that is no filter is refused
/// as that, elsewhere.
fn forbidden(rules: &ListenerRules, filter: &str, limits: &topicmap::Limits) -> Option<ReasonCode> {
    let subscription = parse_subscription(filter, limits).ok()?;
    if matches!(subscription, Subscription::Shared(_)) && !rules.shared_subscriptions {
        return Some(ReasonCode::SharedSubscriptionsNotSupported);
    }
    let has_wildcard = !subscription.filter().is_exact();
    (has_wildcard && !rules.wildcard_subscriptions)
        .then_some(ReasonCode::WildcardSubscriptionsNotSupported)
}

/// A publication as a client under a mount point sees it; `None` where it is not under that: a
/// session that came by another listener before has its old subscriptions still.
pub(super) fn unmounted<'a>(view: &View<'a>, rules: &ListenerRules) -> Option<View<'a>> {
    let mount = &rules.mount_point;
    (!mount.is_empty() && view.topic().len() > mount.len() && view.topic().starts_with(mount))
        .then(|| view.without_prefix(mount.len()))
}
