//! Leaky buckets by key, in memory that is bounded beforehand.
//!
//! A bucket is one number: the time at which it will have run empty. What is poured in moves that
//! on, time itself lets it out, and one that is empty is the same as none. (It is the generic cell
//! rate algorithm, ITU-T I.371, with the limit left to the caller.)
//!
//! Buckets lie in sets of eight, chosen by a keyed hash. In a full set a newcomer takes the place
//! of the emptiest bucket. So what makes room is what is owed least, an empty bucket before all: to
//! push out one that is nearly full somebody would have to fill eight others as far, and as nobody
//! can aim at a set, as many as the whole table holds.

/// Buckets in a set: two cache lines.
const WAYS: usize = 8;

#[derive(Copy, Clone, Debug, Default)]
struct Bucket {
    key: u64,
    /// Microseconds; one in the past is an empty bucket.
    empty_at_us: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// None before the first use: who is never attacked pays nothing.
    sets: Vec<[Bucket; WAYS]>,
    buckets_max: usize,
}

impl Buckets {
    /// Room for about so many buckets; rounded up to a power of two.
    pub(crate) fn new(buckets_max: usize) -> Self {
        Self {
            sets: Vec::new(),
            buckets_max,
        }
    }

    /// What the table takes of memory.
    pub(crate) fn heap_bytes(&self) -> u64 {
        (self.sets.capacity() * size_of::<[Bucket; WAYS]>()) as u64
    }

    /// Another size; what is there is forgotten if it differs.
    pub(crate) fn set_max(&mut self, buckets_max: usize) {
        if self.buckets_max != buckets_max {
            *self = Self::new(buckets_max);
        }
    }

    /// Pours so many microseconds into the bucket of `key`; how many are in it now. `hash` is
    /// keyed, and the same for the same key. O(1).
    pub(crate) fn pour(&mut self, hash: u64, key: u64, now_us: u64, amount_us: u64) -> u64 {
        if self.sets.is_empty() {
            let sets = self.buckets_max.div_ceil(WAYS).next_power_of_two();
            self.sets = vec![[Bucket::default(); WAYS]; sets];
        }
        let at = hash as usize & (self.sets.len() - 1);
        let Some(set) = self.sets.get_mut(at) else {
            return amount_us;
        };
        let is_it = |bucket: &&mut Bucket| bucket.key == key && bucket.empty_at_us > now_us;
        let found = match set.iter_mut().find(is_it) {
            Some(bucket) => Some(bucket),
            None => set.iter_mut().min_by_key(|bucket| bucket.empty_at_us),
        };
        let Some(bucket) = found else {
            return amount_us;
        };
        if bucket.key != key || bucket.empty_at_us < now_us {
            *bucket = Bucket {
                key,
                empty_at_us: now_us,
            };
        }
        bucket.empty_at_us = bucket.empty_at_us.saturating_add(amount_us);
        bucket.empty_at_us - now_us
    }

    /// As [`pour`](Self::pour), but pours nothing where more than so many would be in it then;
    /// whether it has.
    pub(crate) fn pour_within(
        &mut self,
        hash: u64,
        key: u64,
        now_us: u64,
        amount_us: u64,
        most_us: u64,
    ) -> bool {
        let fits = self.level(hash, key, now_us) + amount_us <= most_us;
        if fits {
            self.pour(hash, key, now_us, amount_us);
        }
        fits
    }

    /// Microseconds that are in the bucket of `key`.
    pub(crate) fn level(&self, hash: u64, key: u64, now_us: u64) -> u64 {
        let at = hash as usize & self.sets.len().saturating_sub(1);
        let set = self.sets.get(at).map(|set| &set[..]).unwrap_or_default();
        let found = set.iter().find(|bucket| bucket.key == key);
        found.map_or(0, |bucket| bucket.empty_at_us.saturating_sub(now_us))
    }

    /// Empties the bucket of `key`.
    pub(crate) fn empty(&mut self, hash: u64, key: u64) {
        let at = hash as usize & self.sets.len().saturating_sub(1);
        let set = self.sets.get_mut(at).map(|set| &mut set[..]);
        for bucket in set.unwrap_or_default() {
            if bucket.key == key {
                *bucket = Bucket::default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What the module says, slowly: sets of buckets by key, and the emptiest makes room.
    #[derive(Default)]
    struct Model(BTreeMap<usize, BTreeMap<u64, u64>>);

    impl Model {
        fn pour(&mut self, set: usize, key: u64, now_us: u64, amount_us: u64) -> u64 {
            let set = self.0.entry(set).or_default();
            set.retain(|_, empty_at_us| *empty_at_us > now_us);
            if !set.contains_key(&key) && set.len() == WAYS {
                let least = set.iter().min_by_key(|(_, at)| **at).map(|(key, _)| *key);
                set.remove(&least.expect("it is full"));
            }
            let empty_at_us = set.entry(key).or_insert(now_us);
            *empty_at_us += amount_us;
            *empty_at_us - now_us
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Pour { key: u64, amount_us: u64 },
        Pass(u64),
        Empty(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            // Amounts that differ, so that there is one emptiest bucket.
            6 => (1..40_u64, 1..1_000_000_u64)
                .prop_map(|(key, amount_us)| Op::Pour { key, amount_us }),
            2 => (1..500_000_u64).prop_map(Op::Pass),
            1 => (1..40_u64).prop_map(Op::Empty),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_model(ops in prop::collection::vec(op(), 1..300)) {
            // Two sets, by the lowest bit.
            let mut buckets = Buckets::new(16);
            let mut model = Model::default();
            let mut now_us = 1_u64 << 40;
            for (n, op) in ops.into_iter().enumerate() {
                match op {
                    Op::Pour { key, amount_us } => {
                        let amount_us = amount_us * 512 + n as u64;
                        let set = (key & 1) as usize;
                        prop_assert_eq!(
                            buckets.pour(key, key, now_us, amount_us),
                            model.pour(set, key, now_us, amount_us)
                        );
                    }
                    Op::Pass(us) => now_us += us * 512,
                    Op::Empty(key) => {
                        buckets.empty(key, key);
                        model.0.entry((key & 1) as usize).or_default().remove(&key);
                    }
                }
            }
        }
    }

    #[test]
    fn a_crowd_of_newcomers_does_not_push_out_one_that_is_nearly_full() {
        let mut buckets = Buckets::new(64);
        let hash = |key: u64| key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        for _ in 0..4 {
            buckets.pour(hash(7), 7, 1_000, 60);
        }
        for key in 100..100_000 {
            buckets.pour(hash(key), key, 1_000, 60);
        }
        assert_eq!(buckets.pour(hash(7), 7, 1_000, 60), 300);
    }

    #[test]
    fn what_does_not_fit_is_not_poured() {
        let mut buckets = Buckets::new(64);
        let pours = (0..10).filter(|_| buckets.pour_within(5, 5, 1_000, 30, 100));
        assert_eq!(pours.count(), 3);
        assert!(!buckets.pour_within(5, 5, 1_019, 30, 100));
        assert!(buckets.pour_within(5, 5, 1_020, 30, 100));
        assert!(!buckets.pour_within(6, 6, 1_020, 101, 100), "never");
    }

    #[test]
    fn nothing_is_allocated_before_the_first_use_and_nothing_after_it() {
        let mut buckets = Buckets::new(1_000);
        buckets.empty(5, 5);
        assert_eq!(buckets.sets.capacity(), 0);
        buckets.pour(5, 5, 0, 1);
        let capacity = buckets.sets.capacity();
        assert_eq!(capacity, 128, "1,024 buckets");
        for key in 0..10_000 {
            buckets.pour(key, key, 0, 1);
        }
        assert_eq!(buckets.sets.capacity(), capacity);
    }
}
