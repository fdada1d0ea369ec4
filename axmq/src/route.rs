//! Where a publication goes: which other shards, and which sessions of this one.

use mqtt_codec::QoS;
use topicmap::{Deliveries, DeliveryOptions, Target, Topic, TopicMap};

use crate::config::Durability;
use crate::memory::allocated;

/// What a subscription asked for, as it stands beside the session in the topic map.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct SubscriptionOptions {
    /// Subscription identifier, 0 where there is none [MQTT-3.8.2.1.2].
    pub(crate) identifier: u32,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

const _: () = assert!(size_of::<SubscriptionOptions>() <= 8);

impl DeliveryOptions for SubscriptionOptions {
    fn qos(&self) -> u8 {
        self.qos as u8
    }

    fn identifier(&self) -> u32 {
        self.identifier
    }

    fn is_no_local(&self) -> bool {
        self.no_local
    }

    fn retains_as_published(&self) -> bool {
        self.retain_as_published
    }
}

/// With fewer subscribers what they could share is not worth the trouble.
pub(crate) const MEMBERS_MIN: usize = 2;

/// The answer to a topic, good for as long as its stamp. A session gets the message once, however
/// many of its filters match (DECISIONS 17).
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Shards that have a subscriber, this one among them.
    pub(crate) shards: u64,
    /// In the order of the sessions' slots, which is that of memory.
    pub(crate) targets: Box<[Target]>,
    identifiers: Box<[u32]>,
    /// Slots of the groups that this shard owns and that get it.
    pub(crate) groups: Box<[u32]>,
    /// What the rules of the store promise what is published there.
    pub(crate) durability: Option<Durability>,
}

impl Route {
    /// What it takes of memory, itself behind an `Rc`.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let counts = 2 * size_of::<usize>();
        let lists = [
            size_of_val(&*self.targets),
            size_of_val(&*self.identifiers),
            size_of_val(&*self.groups),
        ];
        allocated(counts + size_of::<Self>()) + lists.map(allocated).iter().sum::<u64>()
    }

    /// Whether several sessions of this shard get what is published there.
    pub(crate) fn is_wide(&self) -> bool {
        self.targets.len() >= MEMBERS_MIN
    }

    /// The subscription identifiers that go with `target`.
    pub(crate) fn identifiers(&self, target: &Target) -> &[u32] {
        target.identifiers_in(&self.identifiers)
    }
}

/// Builds routes; keeps its scratch space between them.
#[derive(Debug, Default)]
pub(crate) struct RouteBuilder(Deliveries<SubscriptionOptions>);

impl RouteBuilder {
    pub(crate) fn build(
        &mut self,
        map: &TopicMap<SubscriptionOptions>,
        topic: &Topic<'_>,
        shards: u64,
        groups: &[u32],
        durability: Option<Durability>,
    ) -> Route {
        self.0.compute(map, topic);
        Route {
            shards,
            targets: self.0.targets().into(),
            identifiers: self.0.all_identifiers().into(),
            groups: groups.into(),
            durability,
        }
    }
}

#[cfg(test)]
mod tests {
    use topicmap::{Audience, Filter, Limits};

    use super::*;

    fn map(filters: &[(&str, u32, SubscriptionOptions)]) -> TopicMap<SubscriptionOptions> {
        let mut map = TopicMap::new(7);
        for (text, session, options) in filters {
            let filter = Filter::parse(text, &Limits::default()).expect("legal filter");
            map.insert(&filter, *session, *options);
        }
        map
    }

    fn options(qos: QoS, no_local: bool, identifier: u32) -> SubscriptionOptions {
        SubscriptionOptions {
            identifier,
            qos,
            no_local,
            retain_as_published: false,
        }
    }

    fn route(map: &TopicMap<SubscriptionOptions>, topic: &str) -> Route {
        let topic = Topic::parse(topic, &Limits::default()).expect("legal topic");
        RouteBuilder::default().build(map, &topic, 1, &[], None)
    }

    #[test]
    fn overlapping_filters_make_one_target_with_the_highest_qos_and_all_identifiers() {
        let map = map(&[
            ("a/+", 3, options(QoS::AtMostOnce, false, 5)),
            ("a/b", 3, options(QoS::ExactlyOnce, false, 9)),
            ("#", 3, options(QoS::AtLeastOnce, false, 0)),
            ("#", 1, options(QoS::AtLeastOnce, false, 0)),
        ]);
        let route = route(&map, "a/b");
        assert_eq!(route.targets.len(), 2);
        assert_eq!(route.targets[0].slot, 1);
        assert_eq!(route.targets[1].qos, 2);
        let mut ids = route.identifiers(&route.targets[1]).to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [5, 9]);
    }

    #[test]
    fn a_message_keeps_its_flag_for_who_asks_for_it() {
        let keeps = SubscriptionOptions {
            retain_as_published: true,
            ..options(QoS::AtLeastOnce, false, 0)
        };
        let map = map(&[
            ("a", 1, keeps),
            ("a", 2, options(QoS::AtLeastOnce, false, 0)),
        ]);
        let targets = route(&map, "a").targets;
        let keep: Vec<_> = targets.iter().map(|it| it.retain_as_published).collect();
        assert_eq!(keep, [true, false]);
    }

    #[test]
    fn a_no_local_subscription_beside_another_makes_two_targets() {
        let map = map(&[
            ("a/+", 3, options(QoS::ExactlyOnce, true, 5)),
            ("a/b", 3, options(QoS::AtLeastOnce, false, 9)),
        ]);
        let route = route(&map, "a/b");
        let audiences: Vec<_> = route.targets.iter().map(|t| (t.audience, t.qos)).collect();
        assert_eq!(
            audiences,
            [
                (Audience::NotThePublisher, 2),
                (Audience::OnlyThePublisher, 1)
            ]
        );
        assert_eq!(route.identifiers(&route.targets[1]), [9]);
    }

    #[test]
    fn a_no_local_subscription_alone_is_never_for_the_publisher() {
        let map = map(&[("a/+", 3, options(QoS::ExactlyOnce, true, 0))]);
        let route = route(&map, "a/b");
        assert_eq!(route.targets.len(), 1);
        assert_eq!(route.targets[0].audience, Audience::NotThePublisher);
    }
}
