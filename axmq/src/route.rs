//! Where a publication goes: which other shards, and which sessions of this one.

use mqtt_codec::QoS;
use topicmap::{Topic, TopicMap};

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

/// For whom a target stands: overlapping subscriptions of which some are no-local make two.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Audience {
    Everybody,
    /// Only where somebody else has published.
    NotThePublisher,
    /// Only where this session itself has published.
    OnlyThePublisher,
}

/// One session that gets the message once, however many of its filters match (DECISIONS 17).
#[derive(Copy, Clone, Debug)]
pub(crate) struct Target {
    /// The session's slot.
    pub(crate) session: u32,
    ids_at: u32,
    ids_len: u16,
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) audience: Audience,
}

/// The answer to a topic, good for as long as its stamp.
#[derive(Debug, Default)]
pub(crate) struct Route {
    /// Shards that have a subscriber, this one among them.
    pub(crate) shards: u64,
    pub(crate) targets: Box<[Target]>,
    identifiers: Box<[u32]>,
}

impl Route {
    /// The subscription identifiers that go with `target`.
    pub(crate) fn identifiers(&self, target: &Target) -> &[u32] {
        let start = target.ids_at as usize;
        self.identifiers
            .get(start..start + usize::from(target.ids_len))
            .unwrap_or_default()
    }
}

/// Builds routes; keeps its scratch space between them.
#[derive(Debug, Default)]
pub(crate) struct RouteBuilder {
    matches: Vec<(u32, SubscriptionOptions)>,
    targets: Vec<Target>,
    identifiers: Vec<u32>,
}

impl RouteBuilder {
    pub(crate) fn build(
        &mut self,
        map: &TopicMap<SubscriptionOptions>,
        topic: &Topic<'_>,
        shards: u64,
    ) -> Route {
        self.matches.clear();
        self.targets.clear();
        self.identifiers.clear();
        let matches = &mut self.matches;
        map.for_each_match(topic, |_, session, options| {
            matches.push((session, *options));
        });
        // Slot order is memory order: the deliveries then walk the session slab forwards.
        self.matches.sort_by_key(|(session, _)| *session);
        let mut rest = &self.matches[..];
        while let Some((session, _)) = rest.first().copied() {
            let len = rest.partition_point(|(other, _)| *other == session);
            let (of_session, others) = rest.split_at(len);
            rest = others;
            push_targets(
                &mut self.targets,
                &mut self.identifiers,
                session,
                of_session,
            );
        }
        Route {
            shards,
            targets: self.targets.as_slice().into(),
            identifiers: self.identifiers.as_slice().into(),
        }
    }
}

fn push_targets(
    targets: &mut Vec<Target>,
    identifiers: &mut Vec<u32>,
    session: u32,
    subscriptions: &[(u32, SubscriptionOptions)],
) {
    let no_local = subscriptions
        .iter()
        .filter(|(_, options)| options.no_local)
        .count();
    if no_local == 0 {
        targets.extend(merge(
            identifiers,
            session,
            Audience::Everybody,
            subscriptions,
            |_| true,
        ));
        return;
    }
    targets.extend(merge(
        identifiers,
        session,
        Audience::NotThePublisher,
        subscriptions,
        |_| true,
    ));
    if no_local < subscriptions.len() {
        let echo = |options: &SubscriptionOptions| !options.no_local;
        targets.extend(merge(
            identifiers,
            session,
            Audience::OnlyThePublisher,
            subscriptions,
            echo,
        ));
    }
}

/// One delivery for all: the highest QoS, retain as published if any asks for it, every identifier
/// [MQTT-3.3.4-2, -3, -4].
fn merge(
    identifiers: &mut Vec<u32>,
    session: u32,
    audience: Audience,
    subscriptions: &[(u32, SubscriptionOptions)],
    include: impl Fn(&SubscriptionOptions) -> bool,
) -> Option<Target> {
    let ids_at = u32::try_from(identifiers.len()).ok()?;
    let mut target = Target {
        session,
        ids_at,
        ids_len: 0,
        qos: QoS::AtMostOnce,
        retain_as_published: false,
        audience,
    };
    for (_, options) in subscriptions.iter().filter(|(_, options)| include(options)) {
        target.qos = target.qos.max(options.qos);
        target.retain_as_published |= options.retain_as_published;
        if options.identifier != 0 && target.ids_len < u16::MAX {
            identifiers.push(options.identifier);
            target.ids_len += 1;
        }
    }
    Some(target)
}

#[cfg(test)]
mod tests {
    use topicmap::{Filter, Limits};

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
        RouteBuilder::default().build(map, &topic, 1)
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
        assert_eq!(route.targets[0].session, 1);
        assert_eq!(route.targets[1].qos, QoS::ExactlyOnce);
        let mut ids = route.identifiers(&route.targets[1]).to_vec();
        ids.sort_unstable();
        assert_eq!(ids, [5, 9]);
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
                (Audience::NotThePublisher, QoS::ExactlyOnce),
                (Audience::OnlyThePublisher, QoS::AtLeastOnce)
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
