//! Shared groups: [`SharedGroup`] against the members as a plain map, and the promise of each
//! strategy.

use std::collections::BTreeMap;

use topicmap::{SharedGroup, Strategy};

/// An operation on a [`SharedGroup`].
#[derive(Clone, Debug)]
pub(crate) enum ShareOp {
    /// A member joins, online or not.
    Join(u8, bool),
    /// A member leaves.
    Leave(u8),
    /// A member comes or goes.
    Online(u8, bool),
    /// A message is to be dealt.
    Pick(u64),
}

/// A [`SharedGroup`] beside its members.
pub(crate) struct ShareModel {
    group: SharedGroup<u8>,
    /// Member → whether it is online.
    members: BTreeMap<u8, bool>,
    queues: BTreeMap<u8, usize>,
    last: Option<u8>,
    /// The picks since members came or went, by publisher.
    by_publisher: BTreeMap<u64, u8>,
}

impl ShareModel {
    /// An empty group.
    pub(crate) fn new(strategy: Strategy) -> Self {
        Self {
            group: SharedGroup::new(strategy, 7),
            members: BTreeMap::new(),
            queues: BTreeMap::new(),
            last: None,
            by_publisher: BTreeMap::new(),
        }
    }

    /// Runs one operation on both and compares.
    pub(crate) fn apply(&mut self, op: &ShareOp) {
        match op {
            ShareOp::Join(member, online) => {
                let is_new = self.group.join(*member, *online);
                assert_eq!(is_new, self.members.insert(*member, *online).is_none());
            }
            ShareOp::Leave(member) => {
                let was = self.members.remove(member);
                assert_eq!(self.group.leave(member), was.is_some());
                // Who comes again is a new member.
                self.last = self.last.filter(|last| last != member);
            }
            ShareOp::Online(member, online) => {
                let known = self.members.get_mut(member);
                assert_eq!(self.group.set_online(member, *online), known.is_some());
                if let Some(known) = known {
                    *known = *online;
                }
            }
            ShareOp::Pick(publisher) => self.pick(*publisher),
        }
        if !matches!(op, ShareOp::Pick(_)) {
            self.by_publisher.clear();
        }
        let members: BTreeMap<_, _> = self.group.members().map(|(m, on)| (*m, on)).collect();
        assert_eq!(members, self.members);
        let online = self.members.values().filter(|online| **online).count();
        assert_eq!(self.group.online_count(), online);
        assert_eq!(self.group.len(), self.members.len());
    }

    fn pick(&mut self, publisher: u64) {
        let queues = &self.queues;
        let queued = |member: &u8| queues.get(member).copied().unwrap_or_default();
        let picked = self.group.pick(publisher, queued);
        assert_eq!(picked.is_none(), self.members.is_empty());
        let Some(picked) = picked else { return };
        let some_online = self.members.values().any(|online| *online);
        let eligible: Vec<u8> = self
            .members
            .iter()
            .filter(|(_, online)| **online || !some_online)
            .map(|(member, _)| *member)
            .collect();
        assert!(eligible.contains(&picked), "an offline member was chosen");
        match self.group.strategy() {
            Strategy::Sticky => {
                let stays = self.last.filter(|last| eligible.contains(last));
                assert!(stays.is_none_or(|last| last == picked));
            }
            Strategy::PublisherHash => {
                let kept = *self.by_publisher.entry(publisher).or_insert(picked);
                assert_eq!(kept, picked, "a publisher changed its member");
            }
            Strategy::LeastQueued if eligible.len() <= 32 => {
                let least = eligible.iter().map(queued).min();
                assert_eq!(Some(queued(&picked)), least);
            }
            _ => {}
        }
        *self.queues.entry(picked).or_default() += usize::from(!publisher.is_multiple_of(3));
        self.last = Some(picked);
    }

    /// Deals so many rounds to the members there are, and expects equal shares.
    pub(crate) fn deal_evenly(&mut self, rounds: usize) {
        let count = match self.group.online_count() {
            0 => self.group.len(),
            online => online,
        };
        let mut dealt: BTreeMap<u8, usize> = BTreeMap::new();
        for _ in 0..rounds * count {
            if let Some(member) = self.group.pick(0, |_| 0) {
                *dealt.entry(member).or_default() += 1;
            }
        }
        assert_eq!(dealt.len(), count);
        assert!(dealt.values().all(|share| *share == rounds), "{dealt:?}");
    }
}
