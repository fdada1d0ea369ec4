//! A hash index: 64-bit hash to `u32` ids whose keys live elsewhere.
//!
//! Open addressing by cache lines. A line has room for seven entries, each an id and the upper half
//! of its hash, and counts the entries that passed it by because it was full. So a probe that finds
//! nothing, which is what most probes of a match do, compares seven tags without a branch, sees that
//! nothing passed by, and is done: one cache line and one branch that is nearly always foreseen.
//! Growing never looks at the keys; removal leaves no tombstone. The load is at most 4/5.

/// Entries to a line.
const WAYS: usize = 7;
/// The id of an entry that holds nothing; so it is no id.
const VACANT: u32 = u32::MAX;

#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Line {
    tags: [u32; WAYS],
    /// Entries that would be here or before, and are in a later line.
    passed: u32,
    ids: [u32; WAYS],
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const EMPTY: Self = Self {
        tags: [0; WAYS],
        passed: 0,
        ids: [VACANT; WAYS],
    };

    /// A bit for each entry with this tag, vacant ones perhaps among them.
    #[inline(always)]
    fn with_tag(&self, tag: u32) -> u32 {
        let mut found = 0;
        for (way, other) in self.tags.iter().enumerate() {
            found |= u32::from(*other == tag) << way;
        }
        found
    }

    fn position(&self, tag: u32, id: u32) -> Option<usize> {
        (0..WAYS).find(|way| self.tags[*way] == tag && self.ids[*way] == id)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two of them, or none.
    lines: Box<[Line]>,
    len: usize,
}

#[inline]
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            lines: Box::default(),
            len: 0,
        }
    }

    /// The first id with this hash (or one that shares its upper half) that `wanted` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        let mask = self.lines.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        loop {
            // There is no line if the index is empty.
            let line = self.lines.get(at)?;
            let mut found = line.with_tag(tag);
            while found != 0 {
                let id = line.ids[found.trailing_zeros() as usize % WAYS];
                if id != VACANT && wanted(id) {
                    return Some(id);
                }
                found &= found - 1;
            }
            if line.passed == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds an id that is not there yet.
    ///
    /// Allocates when the load is reached; then all entries are moved.
    pub(crate) fn insert(&mut self, hash: u64, id: u32) {
        assert!(id != VACANT, "the id is reserved");
        if (self.len + 1) * 5 > self.lines.len() * WAYS * 4 {
            self.resize((self.lines.len() * 2).max(1));
        }
        self.place(tag(hash), id);
        self.len += 1;
    }

    fn place(&mut self, tag: u32, id: u32) {
        let mask = self.lines.len() - 1;
        let mut at = tag as usize & mask;
        loop {
            let line = &mut self.lines[at];
            if let Some(way) = line.ids.iter().position(|id| *id == VACANT) {
                line.tags[way] = tag;
                line.ids[way] = id;
                return;
            }
            line.passed += 1;
            at = (at + 1) & mask;
        }
    }

    /// The line and the way of an entry.
    fn position(&self, tag: u32, id: u32) -> Option<(usize, usize)> {
        let mask = self.lines.len().wrapping_sub(1);
        let mut at = tag as usize & mask;
        loop {
            let line = self.lines.get(at)?;
            if let Some(way) = line.position(tag, id) {
                return Some((at, way));
            }
            if line.passed == 0 {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Takes an id out; `false` when it isn't there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) -> bool {
        let tag = tag(hash);
        let Some((found, way)) = self.position(tag, id) else {
            return false;
        };
        let mask = self.lines.len() - 1;
        let mut at = tag as usize & mask;
        while at != found {
            self.lines[at].passed -= 1;
            at = (at + 1) & mask;
        }
        self.lines[found].ids[way] = VACANT;
        self.len -= 1;
        if self.len == 0 {
            self.lines = Box::default();
        } else if self.len * 8 < self.lines.len() * WAYS {
            self.resize(self.lines.len() / 2);
        }
        true
    }

    fn resize(&mut self, lines: usize) {
        let new = vec![Line::EMPTY; lines].into_boxed_slice();
        for line in core::mem::replace(&mut self.lines, new) {
            for (tag, id) in line.tags.into_iter().zip(line.ids) {
                if id != VACANT {
                    self.place(tag, id);
                }
            }
        }
    }

    /// The heap that the index holds, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.lines)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A generator of repeatable test input.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn agrees_with_a_set_under_churn_and_collisions() {
        let mut index = Index::new();
        let mut model: BTreeSet<(u64, u32)> = BTreeSet::new();
        let mut state = 0x1234_5678_9ABC_DEF1;
        for _ in 0..40_000 {
            let random = next(&mut state);
            // Few hashes, so that clusters and wrap-around are common.
            let hash = (random % 61) << 59 | (random % 61) << 32;
            let id = (random >> 20) as u32 % 50;
            if model.len() < 400 && random & 1 << 50 != 0 {
                if model.insert((hash, id)) {
                    index.insert(hash, id);
                }
            } else {
                assert_eq!(index.remove(hash, id), model.remove(&(hash, id)));
            }
            assert_eq!(index.find(hash, |found| found == id), {
                model.contains(&(hash, id)).then_some(id)
            });
        }
        for (hash, id) in model {
            assert!(index.remove(hash, id));
        }
        assert_eq!(index.len, 0);
        assert_eq!(index.heap_bytes(), 0);
    }
}
