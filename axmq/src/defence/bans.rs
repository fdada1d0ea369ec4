//! Who is banned, and until when.
//!
//! A table with the seconds of the caller's clock. A ban that is over is remembered for as long as
//! it lasted: who comes back to the same in that time is banned for twice as long.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::Offence;
use crate::keyed_hash::KeyedHash;

/// A ban until this second never ends.
pub(crate) const FOR_EVER: u32 = u32::MAX;

/// Who has set a ban.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Cause {
    /// The offence that was the last straw.
    Offence(Offence),
    Operator,
}

/// Causes, in the order of their numbers in the store, and the words for them in an export. What
/// has been kept once has to be read by all later versions: more come at the end.
const KEPT_CAUSES: [(Cause, &str); 6] = [
    (Cause::Operator, "operator"),
    (Cause::Offence(Offence::Silent), "silent"),
    (Cause::Offence(Offence::Malformed), "malformed"),
    (Cause::Offence(Offence::Oversized), "oversized"),
    (Cause::Offence(Offence::Login), "login"),
    (Cause::Offence(Offence::Fruitless), "fruitless"),
];

impl Cause {
    pub(crate) fn number(self) -> u8 {
        let found = KEPT_CAUSES.iter().zip(0..).find(|(kept, _)| kept.0 == self);
        found.map_or(0, |(_, number)| number)
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        KEPT_CAUSES.get(usize::from(number)).map(|kept| kept.0)
    }

    pub(crate) fn word(self) -> &'static str {
        let found = KEPT_CAUSES.iter().find(|kept| kept.0 == self);
        found.map_or("operator", |kept| kept.1)
    }

    pub(crate) fn of_word(word: &str) -> Option<Self> {
        let found = KEPT_CAUSES.iter().find(|kept| kept.1 == word);
        found.map(|kept| kept.0)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Offence(offence) => offence.name(),
            Self::Operator => "operator",
        }
    }
}

/// A ban, in force or remembered.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ban<K> {
    pub(crate) key: K,
    /// The first second in which it does not hold any more.
    pub(crate) until_s: u32,
    /// How often in a row; what an operator has set is not counted.
    pub(crate) times: u8,
    pub(crate) cause: Cause,
}

const _: () = assert!(size_of::<Ban<super::Host>>() == 16);

impl<K> Ban<K> {
    pub(super) fn new(key: K, until_s: u32, times: u8, cause: Cause) -> Self {
        Self {
            key,
            until_s,
            times,
            cause,
        }
    }
}

/// How long bans last, in seconds.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Terms {
    pub(crate) first_s: u32,
    pub(crate) most_s: u32,
}

impl Terms {
    /// How long the ban lasts that is the `times`th in a row.
    pub(crate) fn length_s(self, times: u8) -> u32 {
        let doublings = u32::from(times.saturating_sub(1)).min(31);
        let length = u64::from(self.first_s) << doublings;
        u32::try_from(length).unwrap_or(u32::MAX).min(self.most_s)
    }
}

/// The table is full.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct Full;

/// See the module.
#[derive(Debug)]
pub(crate) struct Bans<K> {
    table: HashTable<Ban<K>>,
    hasher: KeyedHash,
    bans_max: usize,
    /// With so many the table is looked through for what can be forgotten.
    sweep_at: usize,
    /// Those that were forgotten since somebody asked.
    forgotten: Vec<K>,
}

const SWEEP_MIN: usize = 64;

impl<K: Clone + Eq + std::hash::Hash> Bans<K> {
    pub(crate) fn new(hasher: KeyedHash, bans_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher,
            bans_max,
            sweep_at: SWEEP_MIN,
            forgotten: Vec::new(),
        }
    }

    /// What the table takes of memory, without what keys own.
    pub(crate) fn heap_bytes(&self) -> u64 {
        (self.table.allocation_size() + self.forgotten.capacity() * size_of::<K>()) as u64
    }

    /// Whom the table has forgotten since the last call, but for those whose ban was lifted.
    pub(crate) fn take_forgotten(&mut self) -> Vec<K> {
        std::mem::take(&mut self.forgotten)
    }

    /// Another limit. What is beyond it stays until it is over.
    pub(crate) fn set_max(&mut self, bans_max: usize) {
        self.bans_max = bans_max;
    }

    /// Bans in force and remembered.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn find(&self, key: &K) -> Option<&Ban<K>> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |ban| ban.key == *key)
    }

    /// The ban that is in force. O(1).
    pub(crate) fn of(&self, key: &K, now_s: u32) -> Option<&Ban<K>> {
        self.find(key).filter(|ban| ban.until_s > now_s)
    }

    /// Bans for an offence; how long follows from how often before.
    ///
    /// # Errors
    ///
    /// [`Full`] where as many are banned as may be.
    pub(crate) fn punish(
        &mut self,
        key: K,
        now_s: u32,
        terms: Terms,
        offence: Offence,
    ) -> Result<Ban<K>, Full> {
        let before = self.find(&key).filter(|ban| remembers(ban, now_s, terms));
        let times = before.map_or(0, |ban| ban.times).saturating_add(1);
        // What an operator has set for longer holds for longer.
        let set_s = before.map_or(0, |ban| ban.until_s);
        let until_s = now_s.saturating_add(terms.length_s(times)).max(set_s);
        let ban = Ban {
            key,
            until_s,
            times,
            cause: Cause::Offence(offence),
        };
        self.put(ban.clone(), now_s, terms)?;
        Ok(ban)
    }

    /// Puts a ban in its place, an older one of the same key aside.
    ///
    /// # Errors
    ///
    /// [`Full`].
    pub(crate) fn put(&mut self, ban: Ban<K>, now_s: u32, terms: Terms) -> Result<(), Full> {
        let hash = self.hasher.hash_one(&ban.key);
        if let Some(found) = self.table.find_mut(hash, |found| found.key == ban.key) {
            *found = ban;
            return Ok(());
        }
        if self.table.len() >= self.sweep_at.min(self.bans_max) {
            let over = self
                .table
                .extract_if(|ban| !remembers(ban, now_s, terms))
                .map(|ban| ban.key);
            self.forgotten.extend(over);
            // So each look through the table is paid for by as many bans as it goes through.
            self.sweep_at = (self.table.len() * 2).max(SWEEP_MIN);
            let hasher = &self.hasher;
            if self.table.capacity() > 4 * self.sweep_at {
                self.table
                    .shrink_to(self.sweep_at, |ban| hasher.hash_one(&ban.key));
            }
        }
        if self.table.len() >= self.bans_max {
            return Err(Full);
        }
        let hasher = &self.hasher;
        self.table
            .insert_unique(hash, ban, |ban| hasher.hash_one(&ban.key));
        Ok(())
    }

    /// Lifts a ban, and forgets it; whether it was in force.
    pub(crate) fn lift(&mut self, key: &K, now_s: u32) -> bool {
        let hash = self.hasher.hash_one(key);
        match self.table.find_entry(hash, |ban| ban.key == *key) {
            Ok(entry) => entry.remove().0.until_s > now_s,
            Err(_) => false,
        }
    }

    /// Those in force and remembered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Ban<K>> {
        self.table.iter()
    }

    /// Those in force.
    pub(crate) fn in_force(&self, now_s: u32) -> impl Iterator<Item = &Ban<K>> {
        self.table.iter().filter(move |ban| ban.until_s > now_s)
    }
}

/// Whether a ban is in force, or not over for longer than it lasted.
fn remembers<K>(ban: &Ban<K>, now_s: u32, terms: Terms) -> bool {
    ban.until_s.saturating_add(terms.length_s(ban.times)) > now_s
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const TERMS: Terms = Terms {
        first_s: 30,
        most_s: 200,
    };

    fn bans(bans_max: usize) -> Bans<u32> {
        Bans::new(KeyedHash::with_keys([1, 2]), bans_max)
    }

    #[test]
    fn each_ban_in_a_row_lasts_twice_as_long_up_to_the_most() {
        let mut bans = bans(10);
        let mut now_s = 1_000;
        for length_s in [30, 60, 120, 200, 200] {
            let ban = bans.punish(7, now_s, TERMS, Offence::Login);
            assert_eq!(ban.map(|ban| ban.until_s), Ok(now_s + length_s));
            now_s += length_s;
            assert!(bans.of(&7, now_s - 1).is_some() && bans.of(&7, now_s).is_none());
        }
        now_s += 200;
        let ban = bans.punish(7, now_s, TERMS, Offence::Login);
        assert_eq!(ban.map(|ban| ban.times), Ok(1), "that was long ago");
    }

    #[test]
    fn what_an_operator_has_set_is_not_shortened_by_an_offence() {
        let mut bans = bans(10);
        let ban = Ban {
            key: 7,
            until_s: FOR_EVER,
            times: 0,
            cause: Cause::Operator,
        };
        assert_eq!(bans.put(ban, 5, TERMS), Ok(()));
        assert!(bans.punish(7, 5, TERMS, Offence::Silent).is_ok());
        assert_eq!(
            bans.of(&7, 1_000_000).map(|ban| ban.until_s),
            Some(FOR_EVER)
        );
        assert!(bans.lift(&7, 6) && !bans.lift(&7, 6));
        assert!(bans.of(&7, 6).is_none());
    }

    #[test]
    fn a_full_table_takes_no_more_until_one_is_over() {
        let mut bans = bans(2);
        for key in [1, 2] {
            assert!(bans.punish(key, 10, TERMS, Offence::Silent).is_ok());
        }
        assert_eq!(bans.punish(3, 10, TERMS, Offence::Silent), Err(Full));
        assert!(
            bans.punish(1, 11, TERMS, Offence::Silent).is_ok(),
            "it is there"
        );
        assert!(bans.take_forgotten().is_empty());
        // The second is over, and forgotten after as long again.
        assert_eq!(bans.punish(3, 60, TERMS, Offence::Silent), Err(Full));
        assert!(bans.punish(3, 70, TERMS, Offence::Silent).is_ok());
        assert_eq!(bans.take_forgotten(), [2]);
        assert!(bans.take_forgotten().is_empty());
    }

    #[test]
    fn causes_have_the_numbers_and_words_that_they_have_had_from_the_first() {
        let offences = Offence::ALL.map(Cause::Offence);
        for (cause, number) in [Cause::Operator].into_iter().chain(offences).zip(0..) {
            assert_eq!(cause.number(), number);
            assert_eq!(Cause::of_number(number), Some(cause));
            assert_eq!(Cause::of_word(cause.word()), Some(cause));
        }
        assert_eq!(Cause::of_number(6), None);
        assert_eq!(Cause::of_word("whim"), None);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Punish(u32),
        Set(u32, u32),
        Lift(u32),
        Pass(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..12_u32).prop_map(Op::Punish),
            1 => (0..12_u32, 1..400_u32).prop_map(|(key, s)| Op::Set(key, s)),
            1 => (0..12_u32).prop_map(Op::Lift),
            4 => (1..90_u32).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// Against a map that forgets nothing: until when, and how often.
        #[test]
        fn it_is_a_map(ops in prop::collection::vec(op(), 1..400)) {
            let mut bans = bans(1_000);
            let mut model: HashMap<u32, (u32, u8)> = HashMap::new();
            let mut now_s = 10_000;
            for op in ops {
                match op {
                    Op::Punish(key) => {
                        let (until_s, times) = model.get(&key).copied().unwrap_or((0, 0));
                        let known = until_s + TERMS.length_s(times) > now_s && until_s > 0;
                        let times = if known { times + 1 } else { 1 };
                        let until_s = until_s.max(now_s + TERMS.length_s(times));
                        model.insert(key, (until_s, times));
                        let ban = bans.punish(key, now_s, TERMS, Offence::Malformed);
                        let ban = ban.map(|ban| (ban.until_s, ban.times));
                        prop_assert_eq!(ban, Ok((until_s, times)));
                    }
                    Op::Set(key, s) => {
                        let until_s = now_s + s;
                        model.insert(key, (until_s, 0));
                        let cause = Cause::Operator;
                        let ban = Ban { key, until_s, times: 0, cause };
                        prop_assert_eq!(bans.put(ban, now_s, TERMS), Ok(()));
                    }
                    Op::Lift(key) => {
                        let was = model.remove(&key).is_some_and(|(until_s, _)| until_s > now_s);
                        prop_assert_eq!(bans.lift(&key, now_s), was);
                    }
                    Op::Pass(s) => now_s += s,
                }
                for key in 0..12 {
                    let is_banned = model.get(&key).is_some_and(|(until_s, _)| *until_s > now_s);
                    prop_assert_eq!(bans.of(&key, now_s).is_some(), is_banned);
                }
                let count = model.values().filter(|(until_s, _)| *until_s > now_s).count();
                prop_assert_eq!(bans.in_force(now_s).count(), count);
            }
        }
    }
}
