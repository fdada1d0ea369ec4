//! MQTT's rule for overlapping subscriptions: one delivery, the highest QoS, every identifier.

use core::fmt;

use crate::{Collector, Topic, TopicMap};

/// What a subscription's value must tell so that overlapping ones can be merged.
pub trait DeliveryOptions: Copy {
    /// The maximum QoS that was granted, 0 to 2.
    fn qos(&self) -> u8;

    /// The subscription identifier (MQTT 5.0, 3.8.2.1.2), 0 where there is none.
    fn identifier(&self) -> u32 {
        0
    }

    /// Whether the subscriber's own publications stay away (MQTT 5.0, 3.8.3.1).
    fn is_no_local(&self) -> bool {
        false
    }

    /// Whether the RETAIN flag is passed on as it was published (MQTT 5.0, 3.8.3.1).
    fn retains_as_published(&self) -> bool {
        false
    }
}

/// For whom a target stands: overlapping subscriptions of which some are no-local make two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Whoever published.
    Everybody,
    /// Only where somebody else has published.
    NotThePublisher,
    /// Only where this subscriber itself has published.
    OnlyThePublisher,
}

/// A subscriber that gets the message once, however many of its filters match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The subscriber's slot.
    pub slot: u32,
    ids_at: u32,
    ids_len: u16,
    /// The highest QoS among the subscriptions [MQTT-3.3.4-2].
    pub qos: u8,
    /// Whether any of them asks for the RETAIN flag as published.
    pub retain_as_published: bool,
    /// Whether the target counts depends on who has published.
    pub audience: Audience,
}

const _: () = assert!(size_of::<Target>() == 16);

/// The deliveries of one topic, in rising order of slots: merges overlaps, and keeps its scratch
/// space from one topic to the next.
///
/// Without no-local subscriptions each subscriber has one [`Target`]. One that has both kinds has
/// two, of which a publication concerns exactly one, by who published it: so the answer doesn't
/// depend on the publisher and can be cached.
///
/// # Examples
///
/// ```
/// use topicmap::{Deliveries, DeliveryOptions, Filter, Limits, Topic, TopicMap};
///
/// #[derive(Clone, Copy)]
/// struct Options { qos: u8, identifier: u32 }
///
/// impl DeliveryOptions for Options {
///     fn qos(&self) -> u8 { self.qos }
///     fn identifier(&self) -> u32 { self.identifier }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits::default();
/// let mut map = TopicMap::new(limits.seed);
/// map.insert(&Filter::parse("a/+", &limits)?, 3, Options { qos: 0, identifier: 5 });
/// map.insert(&Filter::parse("a/b", &limits)?, 3, Options { qos: 2, identifier: 9 });
///
/// let mut deliveries = Deliveries::new();
/// deliveries.compute(&map, &Topic::parse("a/b", &limits)?);
/// let [target] = deliveries.targets() else { panic!("one subscriber") };
/// assert_eq!((target.slot, target.qos), (3, 2));
/// let mut identifiers = deliveries.identifiers(target).to_vec();
/// identifiers.sort();
/// assert_eq!(identifiers, [5, 9]);
/// # Ok(())
/// # }
/// ```
pub struct Deliveries<V> {
    collector: Collector<V>,
    targets: Vec<Target>,
    identifiers: Vec<u32>,
}

impl<V: DeliveryOptions> Deliveries<V> {
    /// An empty one; allocates nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            collector: Collector::new(),
            targets: Vec::new(),
            identifiers: Vec::new(),
        }
    }

    /// Replaces what is there by the deliveries of `topic`.
    ///
    /// Allocates where the topic has more matches than any before it, and where hundreds of matches
    /// of 2 to 32 filters are sorted, the scratch space of the sort.
    ///
    /// # Panics
    ///
    /// At 2^32 matches.
    pub fn compute(&mut self, map: &TopicMap<V>, topic: &Topic<'_>) {
        self.targets.clear();
        self.identifiers.clear();
        self.collector.collect(map, topic);
        for group in self.collector.groups() {
            push_targets(&mut self.targets, &mut self.identifiers, group);
        }
    }

    /// The targets in rising order of slots.
    #[must_use]
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// The subscription identifiers that go with `target` [MQTT-3.3.4-3, -4]: as many as there
    /// are subscriptions that have one, in no specified order; at most 65,535.
    #[must_use]
    pub fn identifiers(&self, target: &Target) -> &[u32] {
        target.identifiers_in(&self.identifiers)
    }

    /// All identifiers, for a copy of the whole answer; see [`Target::identifiers_in`].
    #[must_use]
    pub fn all_identifiers(&self) -> &[u32] {
        &self.identifiers
    }

    /// Gives the scratch space back.
    pub fn shrink(&mut self) {
        *self = Self::new();
    }

    /// The heap that is kept, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.collector.heap_bytes()
            + self.targets.capacity() * size_of::<Target>()
            + self.identifiers.capacity() * size_of::<u32>()
    }
}

impl Target {
    /// The target's identifiers in (a copy of) [`Deliveries::all_identifiers`] of the same answer.
    #[must_use]
    pub fn identifiers_in<'i>(&self, all: &'i [u32]) -> &'i [u32] {
        let start = self.ids_at as usize;
        all.get(start..start + usize::from(self.ids_len))
            .unwrap_or_default()
    }
}

fn push_targets<V: DeliveryOptions>(
    targets: &mut Vec<Target>,
    identifiers: &mut Vec<u32>,
    group: &[(u32, V)],
) {
    if let [(slot, own)] = group {
        let ids_at = identifiers.len() as u32;
        identifiers.extend((own.identifier() != 0).then(|| own.identifier()));
        targets.push(Target {
            slot: *slot,
            ids_at,
            ids_len: u16::from(own.identifier() != 0),
            qos: own.qos(),
            retain_as_published: own.retains_as_published(),
            audience: if own.is_no_local() {
                Audience::NotThePublisher
            } else {
                Audience::Everybody
            },
        });
        return;
    }
    let no_local = group.iter().filter(|(_, own)| own.is_no_local()).count();
    let audience = if no_local == 0 {
        Audience::Everybody
    } else {
        Audience::NotThePublisher
    };
    targets.extend(merge(identifiers, audience, group.iter()));
    if no_local > 0 {
        let echo = group.iter().filter(|(_, own)| !own.is_no_local());
        targets.extend(merge(identifiers, Audience::OnlyThePublisher, echo));
    }
}

/// One delivery for all of `group`; `None` if there is none of it.
#[inline]
fn merge<'g, V: DeliveryOptions + 'g>(
    identifiers: &mut Vec<u32>,
    audience: Audience,
    group: impl Iterator<Item = &'g (u32, V)>,
) -> Option<Target> {
    let mut target: Option<Target> = None;
    for (slot, own) in group {
        let target = target.get_or_insert(Target {
            slot: *slot,
            ids_at: identifiers.len() as u32,
            ids_len: 0,
            qos: 0,
            retain_as_published: false,
            audience,
        });
        target.qos = target.qos.max(own.qos());
        target.retain_as_published |= own.retains_as_published();
        if own.identifier() != 0 && target.ids_len < u16::MAX {
            identifiers.push(own.identifier());
            target.ids_len += 1;
        }
    }
    target
}

impl<V: DeliveryOptions> Default for Deliveries<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> fmt::Debug for Deliveries<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliveries")
            .field("targets", &self.targets)
            .finish_non_exhaustive()
    }
}
