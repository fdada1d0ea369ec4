//! The list of tokens that have work left, in fair order and each once.

#![forbid(unsafe_code)]

use std::mem;

use crate::event::{Readiness, Token};

/// Below this many places the index is never shrunk.
const PLACES_MIN: usize = 64;

/// A queue of tokens with their readiness, and an index that finds a token in it.
///
/// Filled during one turn and taken as a whole at the next, so removal is not needed. The common
/// case, an empty list, costs nothing.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    queue: Vec<(Token, Readiness)>,
    index: Index,
}

impl ReadyList {
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Puts a token at the back, or merges into the place that it already has.
    pub(crate) fn push(&mut self, token: Token, readiness: Readiness) {
        let next = self.queue.len();
        let position = self.index.find_or_insert(token, next);
        match self.queue.get_mut(position) {
            Some((_, merged)) => *merged = merged.merge(readiness),
            None => self.queue.push((token, readiness)),
        }
    }

    /// Takes the whole list, with `events` merged into it or put behind it, into `batch`.
    pub(crate) fn take_with(
        &mut self,
        events: impl Iterator<Item = (Token, Readiness)>,
        batch: &mut Vec<(Token, Readiness)>,
    ) -> usize {
        batch.clear();
        mem::swap(&mut self.queue, batch);
        let mut count = 0;
        if batch.is_empty() {
            batch.extend(events.inspect(|_| count += 1));
            return count;
        }
        for (token, readiness) in events {
            count += 1;
            match self
                .index
                .find(token)
                .and_then(|position| batch.get_mut(position))
            {
                Some((_, merged)) => *merged = merged.merge(readiness),
                // Not entered into the index, which is about to be emptied: one wait names no
                // source twice.
                None => batch.push((token, readiness)),
            }
        }
        self.index.clear();
        count
    }
}

/// Open addressing from tokens to positions. Emptied by starting a new age.
#[derive(Debug, Default)]
struct Index {
    /// A power of two, at most half full.
    places: Vec<Place>,
    used: usize,
    age: u32,
}

#[derive(Copy, Clone, Debug, Default)]
struct Place {
    token: u64,
    position: u32,
    /// The age in which the place was filled. Ages start at 1, so 0 is empty.
    age: u32,
}

impl Index {
    fn find(&self, token: Token) -> Option<usize> {
        let (_, found) = self.probe(token)?;
        found
    }

    /// The place of the token, or the empty one where it belongs. `None` if there are no places.
    fn probe(&self, token: Token) -> Option<(usize, Option<usize>)> {
        let mask = self.places.len().checked_sub(1)?;
        // Fibonacci hashing: the topmost bits of the product depend on all bits of the token.
        let shift = (mask as u64).leading_zeros();
        let mut at = (token.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> shift) as usize;
        loop {
            let place = &self.places[at];
            if place.age != self.age {
                return Some((at, None));
            }
            if place.token == token.0 {
                return Some((at, Some(place.position as usize)));
            }
            at = (at + 1) & mask;
        }
    }

    /// The token's position, after putting it at `position` if it has none.
    fn find_or_insert(&mut self, token: Token, position: usize) -> usize {
        if (self.used + 1) * 2 > self.places.len() {
            self.resize((self.places.len() * 2).max(PLACES_MIN));
        }
        match self.probe(token) {
            Some((_, Some(found))) => found,
            Some((at, None)) => {
                let age = self.age;
                let position = u32::try_from(position).expect("fewer than 2^32 ready tokens");
                self.places[at] = Place {
                    token: token.0,
                    position,
                    age,
                };
                self.used += 1;
                position as usize
            }
            None => unreachable!("there are at least {PLACES_MIN} places"),
        }
    }

    fn resize(&mut self, len: usize) {
        let old = mem::replace(&mut self.places, vec![Place::default(); len]);
        let old_age = mem::replace(&mut self.age, 1);
        for place in old
            .into_iter()
            .filter(|place| place.age == old_age && old_age != 0)
        {
            if let Some((at, None)) = self.probe(Token(place.token)) {
                self.places[at] = Place { age: 1, ..place };
            }
        }
    }

    fn clear(&mut self) {
        // After a storm the memory goes back, in steps, so that a second one finds some of it.
        if self.places.len() > PLACES_MIN && self.used * 16 < self.places.len() {
            let len = self.places.len() / 4;
            self.places = vec![Place::default(); len.max(PLACES_MIN)];
            self.age = 0;
        }
        self.used = 0;
        self.age = match self.age.checked_add(1) {
            Some(age) => age,
            None => {
                self.places.fill(Place::default());
                1
            }
        };
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_has_one_place_and_merges() {
        let (mut list, mut batch) = (ReadyList::default(), Vec::new());
        list.push(Token(1), Readiness::READABLE);
        list.push(Token(2), Readiness::READABLE);
        list.push(Token(1), Readiness::WRITABLE);
        let events = [(Token(3), Readiness::WRITABLE), (Token(2), Readiness::HUP)];
        assert_eq!(list.take_with(events.into_iter(), &mut batch), 2);
        assert_eq!(
            batch,
            [
                (Token(1), Readiness::READABLE | Readiness::WRITABLE),
                (Token(2), Readiness::READABLE | Readiness::HUP),
                (Token(3), Readiness::WRITABLE),
            ]
        );
        assert!(list.is_empty());
        list.push(Token(2), Readiness::EMPTY);
        list.take_with([].into_iter(), &mut batch);
        assert_eq!(batch, [(Token(2), Readiness::EMPTY)]);
    }

    #[test]
    fn memory_goes_back_after_a_storm() {
        let (mut list, mut batch) = (ReadyList::default(), Vec::new());
        for n in 0..10_000 {
            list.push(Token(n), Readiness::READABLE);
        }
        list.take_with([].into_iter(), &mut batch);
        for _ in 0..10 {
            list.push(Token(1), Readiness::READABLE);
            list.take_with([].into_iter(), &mut batch);
        }
        assert_eq!(list.index.places.len(), PLACES_MIN);
    }

    #[test]
    fn the_age_may_wrap() {
        let (mut list, mut batch) = (ReadyList::default(), Vec::new());
        list.push(Token(1), Readiness::READABLE);
        list.take_with([].into_iter(), &mut batch);
        list.index.age = u32::MAX;
        list.push(Token(1), Readiness::READABLE);
        list.take_with([].into_iter(), &mut batch);
        assert_eq!(list.index.age, 1);
        list.push(Token(1), Readiness::READABLE);
        assert_eq!(list.len(), 1);
    }

    proptest! {
        #[test]
        fn behaves_as_an_ordered_map(rounds in prop::collection::vec(
            (prop::collection::vec((0_u64..90, 0_usize..5), 0..200),
             prop::collection::btree_map(0_u64..90, 0_usize..5, 0..40)),
            0..12,
        )) {
            let bits = [
                Readiness::READABLE, Readiness::WRITABLE, Readiness::ERROR, Readiness::HUP,
                Readiness::READ_CLOSED,
            ];
            let (mut list, mut batch) = (ReadyList::default(), Vec::new());
            for (pushes, events) in rounds {
                let mut model: Vec<(Token, Readiness)> = Vec::new();
                let mut merge = |token: u64, bit: usize| {
                    // Tokens as a server makes them: a slot below, a generation above.
                    let token = Token(((token % 9) << 32) | (token / 9));
                    match model.iter_mut().find(|(known, _)| *known == token) {
                        Some((_, merged)) => *merged = merged.merge(bits[bit]),
                        None => model.push((token, bits[bit])),
                    }
                    (token, bits[bit])
                };
                for (token, bit) in pushes {
                    let (token, bit) = merge(token, bit);
                    list.push(token, bit);
                }
                let events: Vec<_> = events.into_iter().map(|(t, b)| merge(t, b)).collect();
                let count = list.take_with(events.clone().into_iter(), &mut batch);
                prop_assert_eq!(count, events.len());
                prop_assert_eq!(&batch, &model);
            }
        }
    }
}
