//! Deliveries: [`Deliveries`] against the rules of MQTT 3.3.4 applied one subscriber at a time.

use std::collections::BTreeMap;

use topicmap::{Audience, Deliveries, DeliveryOptions, Filter, Topic, TopicMap, oracle};

use super::LIMITS;

/// What a subscription asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) qos: u8,
    pub(crate) identifier: u32,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
}

impl DeliveryOptions for Options {
    fn qos(&self) -> u8 {
        self.qos
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

/// What a subscriber gets: QoS, RETAIN as published, identifiers in rising order.
type Delivery = (u8, bool, Vec<u32>);

/// Subscribes all, and compares who gets what with each topic, for each possible publisher.
pub(crate) fn check_deliveries(subscriptions: &[(String, u32, Options)], topics: &[String]) {
    let mut map = TopicMap::new(LIMITS.seed);
    let mut plain = BTreeMap::new();
    for (text, slot, options) in subscriptions {
        let Ok(filter) = Filter::parse(text, &LIMITS) else {
            continue;
        };
        map.insert(&filter, *slot, *options);
        plain.insert((text.as_str(), *slot), *options);
    }
    let mut deliveries = Deliveries::new();
    for text in topics {
        let Ok(topic) = Topic::parse(text, &LIMITS) else {
            continue;
        };
        deliveries.compute(&map, &topic);
        let slots: Vec<_> = deliveries.targets().iter().map(|to| to.slot).collect();
        assert!(slots.is_sorted(), "targets come in the order of slots");
        let publishers: Vec<_> = slots.into_iter().chain([u32::MAX]).collect();
        for publisher in publishers {
            assert_eq!(
                actual(&deliveries, publisher),
                expected(&plain, text, publisher)
            );
        }
    }
}

fn actual(deliveries: &Deliveries<Options>, publisher: u32) -> BTreeMap<u32, Delivery> {
    let mut all = BTreeMap::new();
    for target in deliveries.targets() {
        let concerned = match target.audience {
            Audience::Everybody => true,
            Audience::NotThePublisher => target.slot != publisher,
            Audience::OnlyThePublisher => target.slot == publisher,
        };
        if concerned {
            let mut ids = deliveries.identifiers(target).to_vec();
            ids.sort_unstable();
            let delivery = (target.qos, target.retain_as_published, ids);
            assert!(
                all.insert(target.slot, delivery).is_none(),
                "one gets it twice"
            );
        }
    }
    all
}

fn expected(
    plain: &BTreeMap<(&str, u32), Options>,
    topic: &str,
    publisher: u32,
) -> BTreeMap<u32, Delivery> {
    let mut all: BTreeMap<u32, Delivery> = BTreeMap::new();
    for ((filter, slot), options) in plain {
        if !oracle::matches(filter, topic) || (options.no_local && *slot == publisher) {
            continue;
        }
        let (qos, retain, ids) = all.entry(*slot).or_default();
        *qos = (*qos).max(options.qos);
        *retain |= options.retain_as_published;
        ids.extend((options.identifier != 0).then_some(options.identifier));
        ids.sort_unstable();
    }
    all
}
