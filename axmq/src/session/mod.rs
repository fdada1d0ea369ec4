//! A session: what the broker remembers of a client beyond its connection.
//!
//! A session lives in the slab of the shard that its client id hashes to and never moves. It makes
//! no system call and asks no clock.

mod incoming;
mod outgoing;
mod queued;
mod tail;

use slabmem::Key;
use timerwheel::TimerKey;
use topicmap::FilterId;

pub(crate) use self::incoming::{AckKind, Arrival, Incoming};
pub(crate) use self::outgoing::{IDS, Outgoing, Resend, UnknownId, packet_id};
pub(crate) use self::queued::Queued;
pub(crate) use self::tail::Tail;
use crate::config::Durability;
use crate::memory::allocated;
use crate::message::Will;

/// The filters a session subscribes to. Most devices have none or one, which cost no heap.
#[derive(Debug, Default)]
pub(crate) enum FilterSet {
    #[default]
    Empty,
    One(FilterId),
    Many(Box<Filters>),
}

#[derive(Debug, Default)]
pub(crate) struct Filters {
    own: Vec<FilterId>,
    /// Memberships of shared subscriptions.
    shared: Vec<Key>,
}

impl Filters {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }
}

impl FilterSet {
    /// Adds a filter that is not in the set.
    pub(crate) fn insert(&mut self, filter: FilterId) {
        match self {
            Self::Empty => *self = Self::One(filter),
            Self::One(first) => {
                *self = Self::Many(Box::new(Filters {
                    own: vec![*first, filter],
                    shared: Vec::new(),
                }));
            }
            Self::Many(filters) => filters.own.push(filter),
        }
    }

    /// Adds a membership that is not in the set.
    pub(crate) fn insert_shared(&mut self, member: Key) {
        let mut filters = match std::mem::take(self) {
            Self::Empty => Box::default(),
            Self::One(first) => Box::new(Filters {
                own: vec![first],
                shared: Vec::new(),
            }),
            Self::Many(filters) => filters,
        };
        filters.shared.push(member);
        *self = Self::Many(filters);
    }

    pub(crate) fn remove_shared(&mut self, member: Key) {
        if let Self::Many(filters) = self {
            filters.shared.retain(|other| *other != member);
            if filters.is_empty() {
                *self = Self::Empty;
            }
        }
    }

    /// The memberships of shared subscriptions.
    pub(crate) fn shared(&self) -> &[Key] {
        match self {
            Self::Many(filters) => &filters.shared,
            Self::Empty | Self::One(_) => &[],
        }
    }

    pub(crate) fn remove(&mut self, filter: FilterId) {
        match self {
            Self::One(only) if *only == filter => *self = Self::Empty,
            Self::Empty | Self::One(_) => {}
            Self::Many(filters) => {
                if let Some(at) = filters.own.iter().position(|other| *other == filter) {
                    filters.own.swap_remove(at);
                }
                if filters.is_empty() {
                    *self = Self::Empty;
                }
            }
        }
    }

    /// Takes one filter of the session's own out, whichever is cheapest.
    pub(crate) fn pop(&mut self) -> Option<FilterId> {
        let (filter, is_last) = match self {
            Self::Empty => return None,
            Self::One(filter) => (Some(*filter), true),
            Self::Many(filters) => (filters.own.pop(), filters.is_empty()),
        };
        if is_last {
            *self = Self::Empty;
        }
        filter
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = FilterId> {
        let all = match self {
            Self::Empty => &[],
            Self::One(filter) => std::slice::from_ref(filter),
            Self::Many(filters) => filters.own.as_slice(),
        };
        all.iter().copied()
    }

    /// What it takes of memory beyond itself.
    pub(crate) fn heap_bytes(&self) -> u64 {
        match self {
            Self::Empty | Self::One(_) => 0,
            Self::Many(filters) => {
                allocated(size_of::<Filters>())
                    + allocated(filters.own.capacity() * size_of::<FilterId>())
                    + allocated(filters.shared.capacity() * size_of::<Key>())
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Empty => 0,
            Self::One(_) => 1,
            Self::Many(filters) => filters.own.len() + filters.shared.len(),
        }
    }
}

/// Message state in both directions; absent for a client that has only ever used QoS 0.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) outgoing: Outgoing,
    pub(crate) incoming: Incoming,
}

impl Flow {
    /// What its tables take of memory. O(1).
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.outgoing.heap_bytes() + self.incoming.heap_bytes()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Box<str>,
    pub(crate) connection: Option<Key>,
    pub(crate) filters: FilterSet,
    pub(crate) flow: Option<Box<Flow>>,
    pub(crate) will: Option<Box<Will>>,
    /// Its end, or the end of its will's delay, whichever comes first.
    pub(crate) timer: Option<TimerKey>,
    /// Milliseconds at which it ends, once its connection has; 0 while connected.
    pub(crate) ends_at_ms: u64,
    /// What its client is promised, for what it publishes too.
    pub(crate) durability: Durability,
    /// Its number in the store; 0 where it is not kept.
    pub(crate) holder: u64,
    /// Place in the cleanup funnel plus one, 0 where it isn't in it.
    pub(crate) funnel_ticket: u64,
    /// Seconds it outlives its connection; `u32::MAX` is for ever.
    pub(crate) expiry_s: u32,
    /// Retained messages are being replayed to it.
    pub(crate) is_replaying: bool,
    /// Counted among the sessions without a connection, and its will among those that wait.
    pub(crate) is_offline: bool,
    pub(crate) will_waits: bool,
    /// On the list of sessions whose queue waits for room.
    pub(crate) is_draining: bool,
}

const _: () = assert!(size_of::<Session>() <= 112);

impl Session {
    pub(crate) fn new(client_id: Box<str>, expiry_s: u32) -> Self {
        Self {
            client_id,
            connection: None,
            filters: FilterSet::Empty,
            flow: None,
            will: None,
            timer: None,
            ends_at_ms: 0,
            durability: Durability::None,
            holder: 0,
            funnel_ticket: 0,
            expiry_s,
            is_replaying: false,
            is_offline: false,
            will_waits: false,
            is_draining: false,
        }
    }

    pub(crate) fn flow(&mut self) -> &mut Flow {
        self.flow.get_or_insert_with(Box::default)
    }
}

#[cfg(test)]
mod tests {
    use topicmap::{Filter, Limits, TopicMap};

    use super::*;

    fn filters<const N: usize>() -> [FilterId; N] {
        let mut map = TopicMap::new(1);
        std::array::from_fn(|n| {
            let text = format!("filter/{n}");
            let filter = Filter::parse(&text, &Limits::default()).expect("a filter");
            map.insert(&filter, 0, ()).filter
        })
    }

    fn member(n: u64) -> Key {
        Key::from_bits(n << 32).expect("not zero")
    }

    fn own(set: &FilterSet) -> Vec<FilterId> {
        set.iter().collect()
    }

    #[test]
    fn a_set_has_what_was_put_in_and_not_taken_out() {
        let [a, b, c] = filters();
        let mut set = FilterSet::default();
        set.insert(a);
        set.remove(b);
        assert_eq!((own(&set), set.len()), (vec![a], 1), "b was never in it");
        set.insert(b);
        set.insert_shared(member(1));
        set.insert(c);
        set.insert_shared(member(3));
        assert_eq!((own(&set), set.len()), (vec![a, b, c], 5));
        set.remove(a);
        set.remove_shared(member(1));
        set.remove_shared(member(7));
        let mut left = own(&set);
        left.sort_unstable_by_key(|id| *id != b);
        assert_eq!((left, set.len()), (vec![b, c], 3));
        assert_eq!(set.shared(), [member(3)]);
        set.remove(b);
        set.remove(c);
        assert_eq!((own(&set), set.len()), (vec![], 1));
        set.remove_shared(member(3));
        assert!(matches!(set, FilterSet::Empty), "no heap is left");
    }

    #[test]
    fn a_set_of_one_is_emptied_by_that_one() {
        let [a] = filters();
        let mut set = FilterSet::default();
        set.insert(a);
        set.remove(a);
        assert!(matches!(set, FilterSet::Empty));
        set.insert_shared(member(1));
        assert_eq!(
            (set.pop(), set.len()),
            (None, 1),
            "that is no filter of its own"
        );
        set.insert(a);
        assert_eq!((set.pop(), set.pop()), (Some(a), None));
        set.remove_shared(member(1));
        assert!(matches!(set, FilterSet::Empty));
    }
}
