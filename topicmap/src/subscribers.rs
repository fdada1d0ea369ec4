//! The subscribers of one filter: slot → value, in slot order.
//!
//! Most filters have one subscriber, which needs no heap; the enum is kept small for them, so that
//! others are one pointer further away. Up to [`RUN_MAX`] live in one sorted vector. Beyond that
//! they live in *runs*, sorted vectors of at most [`RUN_MAX`] entries, under a vector of the runs'
//! first slots: an insert or removal finds its run by binary search and moves at most one run's
//! worth of entries, so its cost hardly depends on how many subscribers there are; walking them all
//! is walking plain vectors.

/// Most entries of a run; a full one is cut in two.
const RUN_MAX: usize = 128;
/// A run that falls below this joins a neighbour if the two have room in one.
const RUN_LOW: usize = 32;

type Run<V> = Vec<(u32, V)>;

/// See the module's documentation. Never empty but for a moment inside an operation.
#[derive(Debug)]
pub(crate) enum Subscribers<V> {
    One((u32, V)),
    Few(Box<Few<V>>),
    Many(Box<Runs<V>>),
}

/// One sorted run.
#[derive(Debug)]
pub(crate) struct Few<V> {
    run: Run<V>,
}

const _: () = assert!(size_of::<Subscribers<[u32; 2]>>() == 16);

/// Sorted runs, none of them empty.
#[derive(Debug)]
pub(crate) struct Runs<V> {
    /// The first slot of each run.
    firsts: Vec<u32>,
    runs: Vec<Run<V>>,
    len: usize,
}

fn put<V>(run: &mut Run<V>, slot: u32, value: V) -> Option<V> {
    match run.binary_search_by_key(&slot, |entry| entry.0) {
        Ok(at) => Some(core::mem::replace(&mut run[at].1, value)),
        Err(at) => {
            run.insert(at, (slot, value));
            None
        }
    }
}

fn take<V>(run: &mut Run<V>, slot: u32) -> Option<V> {
    let at = run.binary_search_by_key(&slot, |entry| entry.0).ok()?;
    Some(run.remove(at).1)
}

impl<V> Subscribers<V> {
    pub(crate) const fn one(slot: u32, value: V) -> Self {
        Self::One((slot, value))
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Few(few) => few.run.len(),
            Self::Many(runs) => runs.len,
        }
    }

    /// Stores a value for a slot and gives back the one that it replaces.
    pub(crate) fn insert(&mut self, slot: u32, value: V) -> Option<V> {
        match self {
            Self::One(entry) if entry.0 == slot => Some(core::mem::replace(&mut entry.1, value)),
            Self::One(_) => {
                let mut run = Vec::with_capacity(2);
                run.push((slot, value));
                let few = Self::Few(Box::new(Few { run }));
                if let (Self::One(first), Self::Few(few)) = (core::mem::replace(self, few), self) {
                    let at = usize::from(first.0 > slot);
                    few.run.insert(at, first);
                }
                None
            }
            Self::Few(few) => {
                let replaced = put(&mut few.run, slot, value);
                if few.run.len() > RUN_MAX {
                    let run = core::mem::take(&mut few.run);
                    *self = Self::Many(Box::new(Runs::from_run(run)));
                }
                replaced
            }
            Self::Many(runs) => runs.insert(slot, value),
        }
    }

    /// Takes a slot out. The last one stays: the caller drops the whole set instead, which
    /// [`Removal::Last`] asks for.
    pub(crate) fn remove(&mut self, slot: u32) -> Removal<V> {
        let value = match self {
            Self::One(entry) => {
                return if entry.0 == slot {
                    Removal::Last
                } else {
                    Removal::Absent
                };
            }
            Self::Few(few) => take(&mut few.run, slot),
            Self::Many(runs) => runs.remove(slot),
        };
        let Some(value) = value else {
            return Removal::Absent;
        };
        self.shrink();
        Removal::Taken(value)
    }

    fn shrink(&mut self) {
        match self {
            Self::Few(few) if few.run.len() == 1 => {
                if let Some(entry) = few.run.pop() {
                    *self = Self::One(entry);
                }
            }
            Self::Few(few) if few.run.len() * 4 <= few.run.capacity() => {
                few.run.shrink_to(few.run.len() * 2);
            }
            Self::Many(runs) if runs.runs.len() == 1 && runs.len <= RUN_MAX / 2 => {
                if let Some(run) = runs.runs.pop() {
                    *self = Self::Few(Box::new(Few { run }));
                }
            }
            _ => {}
        }
    }

    /// The value of the only subscriber.
    pub(crate) fn into_last(self) -> Option<V> {
        match self {
            Self::One((_, value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get(&self, slot: u32) -> Option<&V> {
        let run = match self {
            Self::One(entry) => return (entry.0 == slot).then_some(&entry.1),
            Self::Few(few) => &few.run,
            Self::Many(runs) => runs.runs.get(runs.at(slot))?,
        };
        let at = run.binary_search_by_key(&slot, |entry| entry.0).ok()?;
        run.get(at).map(|entry| &entry.1)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut V> {
        let run = match self {
            Self::One(entry) => return (entry.0 == slot).then_some(&mut entry.1),
            Self::Few(few) => &mut few.run,
            Self::Many(runs) => {
                let at = runs.at(slot);
                runs.runs.get_mut(at)?
            }
        };
        let at = run.binary_search_by_key(&slot, |entry| entry.0).ok()?;
        run.get_mut(at).map(|entry| &mut entry.1)
    }

    /// The runs in slot order.
    #[inline]
    fn runs(&self) -> (&[(u32, V)], &[Run<V>]) {
        match self {
            Self::One(entry) => (core::slice::from_ref(entry), &[]),
            Self::Few(few) => (&few.run, &[]),
            Self::Many(runs) => (&[], &runs.runs),
        }
    }

    /// Visits all subscribers in slot order.
    #[inline]
    pub(crate) fn for_each(&self, mut visit: impl FnMut(u32, &V)) {
        let (first, others) = self.runs();
        for (slot, value) in first {
            visit(*slot, value);
        }
        for (slot, value) in others.iter().flatten() {
            visit(*slot, value);
        }
    }

    /// All subscribers in slot order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &V)> {
        let (first, others) = self.runs();
        first
            .iter()
            .chain(others.iter().flatten())
            .map(|(slot, value)| (*slot, value))
    }

    /// The heap that the set holds, in bytes, without what the values own.
    pub(crate) fn heap_bytes(&self) -> usize {
        let mut bytes = 0;
        self.for_each_allocation(&mut |allocation| bytes += allocation);
        bytes
    }

    /// The size of each allocation.
    pub(crate) fn for_each_allocation(&self, visit: &mut impl FnMut(usize)) {
        let entry = size_of::<(u32, V)>();
        match self {
            Self::One(_) => {}
            Self::Few(few) => {
                visit(size_of::<Few<V>>());
                visit(few.run.capacity() * entry);
            }
            Self::Many(runs) => {
                visit(size_of::<Runs<V>>());
                visit(runs.firsts.capacity() * size_of::<u32>());
                visit(runs.runs.capacity() * size_of::<Run<V>>());
                for run in &runs.runs {
                    visit(run.capacity() * entry);
                }
            }
        }
    }
}

/// What removing a slot did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Removal<V> {
    /// There is no such slot.
    Absent,
    /// The value is out, and others are left.
    Taken(V),
    /// The slot is the only one, and still there.
    Last,
}

impl<V> Runs<V> {
    fn from_run(run: Run<V>) -> Self {
        let first = run.first().map_or(0, |entry| entry.0);
        let len = run.len();
        let mut runs = Self {
            firsts: vec![first],
            runs: vec![run],
            len,
        };
        runs.cut(0);
        runs
    }

    /// The run in which `slot` is or would be.
    #[inline]
    fn at(&self, slot: u32) -> usize {
        self.firsts
            .partition_point(|first| *first <= slot)
            .saturating_sub(1)
    }

    fn insert(&mut self, slot: u32, value: V) -> Option<V> {
        let at = self.at(slot);
        let run = &mut self.runs[at];
        let replaced = put(run, slot, value);
        if replaced.is_some() {
            return replaced;
        }
        self.firsts[at] = run[0].0;
        self.len += 1;
        if run.len() > RUN_MAX {
            self.cut(at);
        }
        None
    }

    /// Cuts a run in two. Slots mostly come in rising order, so a run at the end is left full.
    fn cut(&mut self, at: usize) {
        let last = at + 1 == self.runs.len();
        let run = &mut self.runs[at];
        let keep = if last { RUN_MAX - RUN_LOW } else { RUN_MAX / 2 };
        let upper = run.split_off(keep);
        run.shrink_to_fit();
        self.firsts.insert(at + 1, upper[0].0);
        self.runs.insert(at + 1, upper);
    }

    fn remove(&mut self, slot: u32) -> Option<V> {
        let at = self.at(slot);
        let run = self.runs.get_mut(at)?;
        let value = take(run, slot)?;
        self.len -= 1;
        match run.first() {
            None => {
                self.runs.remove(at);
                self.firsts.remove(at);
            }
            Some(first) => {
                self.firsts[at] = first.0;
                if run.len() < RUN_LOW {
                    self.join(at);
                }
            }
        }
        Some(value)
    }

    /// Joins a small run with a neighbour if that leaves room.
    fn join(&mut self, at: usize) {
        let left = if at > 0 { at - 1 } else { at };
        let (Some(a), Some(b)) = (self.runs.get(left), self.runs.get(left + 1)) else {
            return;
        };
        if a.len() + b.len() > RUN_MAX - RUN_LOW {
            return;
        }
        let upper = self.runs.remove(left + 1);
        self.firsts.remove(left + 1);
        self.runs[left].extend(upper);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn agrees_with_a_map_in_growth_and_decline() {
        let mut state = 0xDEAD_BEEF_0BAD_CAFE;
        for range in [3, 40, 200, 2000, 100_000] {
            let mut set = Subscribers::one(1, 0_u64);
            let mut model = BTreeMap::from([(1, 0)]);
            for step in 0..12_000_u64 {
                let slot = (next(&mut state) % range) as u32;
                let grow = step < 6000;
                if next(&mut state).is_multiple_of(4)
                    || (grow && !next(&mut state).is_multiple_of(4))
                {
                    assert_eq!(set.insert(slot, step), model.insert(slot, step));
                } else {
                    match set.remove(slot) {
                        Removal::Absent => assert!(!model.contains_key(&slot)),
                        Removal::Taken(value) => assert_eq!(model.remove(&slot), Some(value)),
                        Removal::Last => {
                            assert!(model.len() == 1 && model.contains_key(&slot));
                        }
                    }
                }
                assert_eq!(set.get(slot), model.get(&slot));
                assert_eq!(set.get_mut(slot), model.get_mut(&slot));
                assert_eq!(set.len(), model.len());
                if step.is_multiple_of(64) {
                    assert!(
                        set.iter()
                            .eq(model.iter().map(|(slot, value)| (*slot, value)))
                    );
                }
            }
        }
    }

    #[test]
    fn rising_slots_fill_runs_well() {
        let mut set = Subscribers::one(0, 0_u32);
        for slot in 1..100_000 {
            set.insert(slot * 3, slot);
        }
        assert!(set.heap_bytes() < 100_000 * 14, "{}", set.heap_bytes());
        for slot in 1..100_000 {
            assert_eq!(set.remove(slot * 3), Removal::Taken(slot));
        }
        assert_eq!(set.remove(0), Removal::Last);
        assert_eq!(set.into_last(), Some(0));
    }
}
