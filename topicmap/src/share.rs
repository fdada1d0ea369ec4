//! Groups that share a subscription: who of the members gets the next message.

use std::collections::BTreeMap;

use core::fmt;

/// Members that [`Strategy::LeastQueued`] compares at one pick.
const COMPARED_MAX: usize = 32;

/// How a [`SharedGroup`] chooses among its members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// One after the other.
    #[default]
    RoundRobin,
    /// Drawn from the group's own generator, seeded by the caller.
    Random,
    /// The same one until it leaves or goes offline; then the next one.
    Sticky,
    /// By the publisher's hash: a publisher keeps its member, and with a member that comes or goes
    /// only about two in `n` publishers get another one (jump consistent hashing).
    PublisherHash,
    /// The one with the shortest queue, as the caller tells; in turn among equals. Of more than 32
    /// members, 32 that follow each other in turn are compared, so that a pick stays cheap.
    LeastQueued,
}

/// The members of a shared subscription (MQTT 5.0, 4.8.2), and whose turn it is.
///
/// As long as one member is online, no offline member is chosen; if none is, the strategy chooses
/// among all, so that messages may wait in a session. `M` is a small handle, such as a session's
/// slot or a (node, session) pair. The group knows no clock and draws from its own seed only.
///
/// # Complexity
///
/// Join, leave, online and offline: O(log members). A pick: O(1), with
/// [`Strategy::PublisherHash`] O(log members), with [`Strategy::LeastQueued`] at most 32 questions.
/// A pick allocates nothing.
///
/// # Examples
///
/// ```
/// use topicmap::{SharedGroup, Strategy};
///
/// let mut group = SharedGroup::new(Strategy::RoundRobin, 0x5EED);
/// group.join("a", true);
/// group.join("b", true);
/// group.join("c", false);
/// let turns: Vec<_> = (0..4).filter_map(|_| group.pick(0, |_| 0)).collect();
/// assert_eq!(turns, ["a", "b", "a", "b"]);
/// group.set_online(&"a", false);
/// group.leave(&"b");
/// assert!(group.pick(0, |_| 0).is_some(), "nobody is online: the message waits with one");
/// ```
#[derive(Clone)]
pub struct SharedGroup<M> {
    strategy: Strategy,
    /// The online members, then the others.
    members: Vec<M>,
    online: usize,
    places: BTreeMap<M, usize>,
    /// Whose turn it is; may be past the end.
    turn: usize,
    stuck: Option<M>,
    random: u64,
}

impl<M> SharedGroup<M> {
    /// The heap that the group holds, in bytes, about: its tree is taken to be two thirds full.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.members.capacity() * size_of::<M>()
            + self.places.len() * size_of::<(M, usize)>() * 3 / 2
    }
}

impl<M: Clone + Ord> SharedGroup<M> {
    /// A group without members. `seed` is for [`Strategy::Random`]. Allocates nothing.
    #[must_use]
    pub const fn new(strategy: Strategy, seed: u64) -> Self {
        Self {
            strategy,
            members: Vec::new(),
            online: 0,
            places: BTreeMap::new(),
            turn: 0,
            stuck: None,
            random: seed,
        }
    }

    /// Adds a member; one that is there already is set online or offline. `true` when it is new.
    pub fn join(&mut self, member: M, is_online: bool) -> bool {
        let is_new = !self.places.contains_key(&member);
        if is_new {
            self.places.insert(member.clone(), self.members.len());
            self.members.push(member.clone());
        }
        self.set_online(&member, is_online);
        is_new
    }

    /// Takes a member out; `false` when it isn't there.
    pub fn leave(&mut self, member: &M) -> bool {
        if !self.set_online(member, false) {
            return false;
        }
        let Some(at) = self.places.remove(member) else {
            return false;
        };
        self.members.swap_remove(at);
        if let Some(moved) = self.members.get(at) {
            self.places.insert(moved.clone(), at);
        }
        if self.stuck.as_ref() == Some(member) {
            self.stuck = None;
        }
        if self.members.is_empty() {
            self.members = Vec::new();
        }
        true
    }

    /// Says whether a member can take messages now; `false` when it isn't there.
    pub fn set_online(&mut self, member: &M, is_online: bool) -> bool {
        let Some(at) = self.places.get(member).copied() else {
            return false;
        };
        if is_online && at >= self.online {
            self.swap(at, self.online);
            self.online += 1;
        } else if !is_online && at < self.online {
            // The last one fills the gap. If the gap is among those that had their turn, it is
            // moved behind them first, so that nobody is passed over.
            let mut gap = at;
            if at < self.turn && self.turn <= self.online {
                self.turn -= 1;
                gap = self.turn;
                self.swap(at, gap);
            }
            self.online -= 1;
            self.swap(gap, self.online);
        }
        true
    }

    /// The member that gets the next message; `None` only when there are no members.
    ///
    /// `publisher` is the publisher's hash, for [`Strategy::PublisherHash`]. `queued` tells how
    /// much waits for a member, in a unit of the caller's, and is asked under
    /// [`Strategy::LeastQueued`] only.
    pub fn pick(&mut self, publisher: u64, queued: impl FnMut(&M) -> usize) -> Option<M> {
        let count = if self.online > 0 {
            self.online
        } else {
            self.members.len()
        };
        if count == 0 {
            return None;
        }
        let at = match self.strategy {
            Strategy::RoundRobin => self.next(count),
            Strategy::Random => self.draw(count),
            Strategy::Sticky => self.stay(count),
            Strategy::PublisherHash => jump(publisher, count),
            Strategy::LeastQueued => self.least(count, queued),
        };
        self.members.get(at).cloned()
    }

    /// The strategy.
    #[must_use]
    pub const fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// Changes the strategy.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.strategy = strategy;
        self.stuck = None;
        self.turn = 0;
    }

    /// The number of members, online or not.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members, so that the group can be dropped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The number of members that are online.
    #[must_use]
    pub const fn online_count(&self) -> usize {
        self.online
    }

    /// Whether `member` is there.
    #[must_use]
    pub fn contains(&self, member: &M) -> bool {
        self.places.contains_key(member)
    }

    /// All members with whether they are online, those first.
    pub fn members(&self) -> impl Iterator<Item = (&M, bool)> {
        let online = self.online;
        let all = self.members.iter().enumerate();
        all.map(move |(at, member)| (member, at < online))
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.members.swap(one, other);
        for at in [one, other] {
            if let Some(place) = self.places.get_mut(&self.members[at]) {
                *place = at;
            }
        }
    }

    fn next(&mut self, count: usize) -> usize {
        let at = if self.turn < count { self.turn } else { 0 };
        self.turn = at + 1;
        at
    }

    fn draw(&mut self, count: usize) -> usize {
        // Weyl sequence with a mixer (the finisher of SplitMix64), then a multiplication in place
        // of a remainder.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * count as u128) >> 64) as usize
    }

    fn stay(&mut self, count: usize) -> usize {
        let kept = self.stuck.as_ref().and_then(|stuck| self.places.get(stuck));
        if let Some(at) = kept.filter(|at| **at < count) {
            return *at;
        }
        let at = self.next(count);
        self.stuck = self.members.get(at).cloned();
        at
    }

    fn least(&mut self, count: usize, mut queued: impl FnMut(&M) -> usize) -> usize {
        let first = self.next(count);
        let mut best = (usize::MAX, first);
        for step in 0..count.min(COMPARED_MAX) {
            let at = (first + step) % count;
            let length = queued(&self.members[at]);
            if length < best.0 {
                best = (length, at);
            }
            if length == 0 {
                break;
            }
        }
        self.turn = best.1 + 1;
        best.1
    }
}

/// The bucket of `key` among `count`, such that another bucket moves 1 in `count` of the keys only
/// (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014).
fn jump(mut key: u64, count: usize) -> usize {
    let (mut bucket, mut next) = (0, 0_u64);
    while next < count as u64 {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let divisor = (key >> 33) + 1;
        next = (u128::from(bucket + 1) * (1 << 31) / u128::from(divisor)) as u64;
    }
    bucket as usize
}

impl<M: fmt::Debug> fmt::Debug for SharedGroup<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGroup")
            .field("strategy", &self.strategy)
            .field("members", &self.members)
            .field("online", &self.online)
            .finish_non_exhaustive()
    }
}
