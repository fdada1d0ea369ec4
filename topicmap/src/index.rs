//! A hash index: 64-bit hash to `u32` ids whose keys live elsewhere.
//!
//! Open addressing with linear probing over 8-byte slots, eight to a cache line. A slot holds the
//! upper half of the hash and the id, so that growing and removing never look at the keys, and a
//! probe that finds nothing rarely does. Removal moves later entries back, so there are no
//! tombstones and lookups stay as short as the load allows. The load is at most 3/4.

/// The slot that holds nothing; so `u32::MAX` is no id.
const EMPTY: u64 = u64::MAX;
const SLOTS_MIN: usize = 8;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two of them, or none.
    slots: Box<[u64]>,
    len: usize,
}

#[inline]
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            slots: Box::default(),
            len: 0,
        }
    }

    #[inline]
    fn home(&self, tag: u32) -> usize {
        tag as usize & self.slots.len().wrapping_sub(1)
    }

    #[inline]
    fn next(&self, at: usize) -> usize {
        (at + 1) & (self.slots.len() - 1)
    }

    /// The first id with this hash (or one that shares its upper half) that `wanted` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let tag = tag(hash);
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if (slot >> 32) as u32 == tag && wanted(slot as u32) {
                return Some(slot as u32);
            }
            at = self.next(at);
        }
    }

    /// Adds an id that is not there yet.
    ///
    /// Allocates when the load is reached; then all slots are moved.
    pub(crate) fn insert(&mut self, hash: u64, id: u32) {
        assert!(id != u32::MAX, "the id is reserved");
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize((self.slots.len() * 2).max(SLOTS_MIN));
        }
        self.place(u64::from(tag(hash)) << 32 | u64::from(id));
        self.len += 1;
    }

    fn place(&mut self, slot: u64) {
        let mut at = self.home((slot >> 32) as u32);
        while self.slots[at] != EMPTY {
            at = self.next(at);
        }
        self.slots[at] = slot;
    }

    /// Takes an id out; `false` when it isn't there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) -> bool {
        if self.slots.is_empty() {
            return false;
        }
        let wanted = u64::from(tag(hash)) << 32 | u64::from(id);
        let mut at = self.home(tag(hash));
        while self.slots[at] != wanted {
            if self.slots[at] == EMPTY {
                return false;
            }
            at = self.next(at);
        }
        self.close_gap(at);
        self.len -= 1;
        if self.len * 8 < self.slots.len() && self.slots.len() > SLOTS_MIN {
            let smaller = if self.len == 0 {
                0
            } else {
                self.slots.len() / 2
            };
            self.resize(smaller);
        }
        true
    }

    /// Moves entries back over the gap at `gap`, each no further than to its home.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.slots.len() - 1;
        let mut at = gap;
        loop {
            at = self.next(at);
            let slot = self.slots[at];
            if slot == EMPTY {
                break;
            }
            let from_home = at.wrapping_sub(self.home((slot >> 32) as u32)) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                self.slots[gap] = slot;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
    }

    fn resize(&mut self, slots: usize) {
        let old = core::mem::replace(&mut self.slots, vec![EMPTY; slots].into_boxed_slice());
        for slot in old {
            if slot != EMPTY {
                self.place(slot);
            }
        }
    }

    /// The heap that the index holds, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of_val(&*self.slots)
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
        assert!(index.heap_bytes() <= SLOTS_MIN * 8);
    }
}
