//! Stored topics that expire: deadlines, scans that skip what has passed its own, and the sweep.

use std::collections::BTreeSet;

use super::{Cursor, TopicStore};
use crate::{Filter, Topic};

/// The deadline of what never expires.
pub(super) const NEVER: u64 = u64::MAX;

/// The nodes that have a deadline, soonest first.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    due: BTreeSet<(u64, u32)>,
}

impl Deadlines {
    /// A node's deadline changes.
    #[inline]
    pub(super) fn change(&mut self, id: u32, before: u64, after: u64) {
        if before == after {
            return;
        }
        if before != NEVER {
            self.due.remove(&(before, id));
        }
        if after != NEVER {
            self.due.insert((after, id));
        }
    }

    /// About, for a tree whose nodes are two thirds full.
    pub(super) fn heap_bytes(&self) -> usize {
        self.due.len() * size_of::<(u64, u32)>() * 3 / 2
    }
}

/// What [`TopicStore::scan_at`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a scan that is not complete has to be gone on with"]
#[non_exhaustive]
pub struct Scanned {
    /// Where to go on; `None` when the scan is complete.
    pub next: Option<Cursor>,
    /// Matching topics that were skipped because they have expired: there is something to sweep.
    pub expired: usize,
}

impl<V> TopicStore<V> {
    /// As [`scan`](Self::scan), but topics whose deadline is `now` or before are skipped and
    /// counted. They stay until [`sweep`](Self::sweep) takes them out.
    ///
    /// ```
    /// use topicmap::{Cursor, Filter, Limits, Topic, TopicStore};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let limits = Limits::default();
    /// let mut store = TopicStore::new(limits.seed);
    /// store.insert_until(&Topic::parse("a/old", &limits)?, "old", 100);
    /// store.insert(&Topic::parse("a/new", &limits)?, "new");
    ///
    /// let mut seen = Vec::new();
    /// let filter = Filter::parse("a/+", &limits)?;
    /// let now = 100;
    /// let scanned = store.scan_at(&filter, Cursor::start(), 64, now, |_, value| {
    ///     seen.push(*value);
    /// });
    /// assert_eq!((seen, scanned.expired, scanned.next), (vec!["new"], 1, None));
    ///
    /// assert_eq!(store.next_deadline(), Some(100));
    /// assert_eq!(store.sweep(now, 64, |topic, _| assert_eq!(topic, "a/old")), 1);
    /// assert_eq!(store.next_deadline(), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scan_at(
        &self,
        filter: &Filter<'_>,
        from: Cursor,
        budget: usize,
        now: u64,
        mut visit: impl FnMut(&str, &V),
    ) -> Scanned {
        let mut expired = 0;
        let next = self.scan_nodes(filter, from, budget, &mut |node, value| {
            if node.deadline <= now && node.deadline != NEVER {
                expired += 1;
            } else {
                visit(&node.text, value);
            }
        });
        Scanned { next, expired }
    }

    /// Takes out at most `budget` topics whose deadline is `now` or before, soonest first, and
    /// hands each to `taken`. Gives their number; one below `budget` says that none is left.
    ///
    /// # Complexity
    ///
    /// O(levels + log topics) for each topic taken, nothing for the others.
    pub fn sweep(&mut self, now: u64, budget: usize, mut taken: impl FnMut(&str, V)) -> usize {
        let mut count = 0;
        while count < budget {
            let Some((deadline, id)) = self.deadlines.due.first().copied() else {
                break;
            };
            if deadline > now {
                break;
            }
            self.deadlines.due.pop_first();
            if let Some(node) = self.nodes.get_mut(id)
                && let Some(value) = node.value.take()
            {
                node.deadline = NEVER;
                taken(&node.text, value);
                self.len -= 1;
                count += 1;
                self.drop_unused(id);
            }
        }
        count
    }

    /// The soonest deadline, also one that has passed: when a sweep is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.due.first().map(|(deadline, _)| *deadline)
    }

    /// A topic's deadline, if it has one.
    #[must_use]
    pub fn deadline(&self, topic: &Topic<'_>) -> Option<u64> {
        let id = self.find(topic.hash_under(self.seed), topic.as_str())?;
        let deadline = self.nodes.get(id)?.deadline;
        (deadline != NEVER).then_some(deadline)
    }
}
