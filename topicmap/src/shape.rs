//! Shapes: what wildcard filters have in common, so that one probe answers for all of a kind.
//!
//! A filter's *shape* is the set of positions of its `+`, its number of levels, and whether it ends
//! in `#`. Among the filters of one shape at most one matches a given topic: the one whose other
//! levels are the topic's. Since hashes of names are sums over levels (see `hash`), its hash is
//!
//! ```text
//! sum of the topic's first `len` levels − the topic's levels at `plus` + the hashes of "+" and "#"
//! ```
//!
//! so a match costs one probe of a hash table for each shape that exists and fits the topic's
//! number of levels, however many filters there are. How many shapes are kept in the lists that
//! every match goes through is bounded; what is beyond goes elsewhere (`prefix`, or a superset).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    hash::{is_same, level_hash},
    topic::View,
};

/// Most live shapes of one length without `#`, and most live shapes with `#`.
///
/// Up to five levels there are fewer shapes than that, so only deep and odd filters miss out.
pub(crate) const LIVE_MAX: usize = 64;

/// A shape by what defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShapeKey {
    /// Levels, without a final `#`.
    pub(crate) len: u16,
    /// The positions of `+`.
    pub(crate) plus: u64,
    /// Whether `#` follows.
    pub(crate) tail: bool,
}

/// A shape in a list of live ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) key: ShapeKey,
    /// The hashes of all `+` and of `#`.
    wild_sum: u64,
}

impl Shape {
    fn new(key: ShapeKey, seed: u64) -> Self {
        let mut wild_sum = 0_u64;
        for position in bits(key.plus) {
            wild_sum = wild_sum.wrapping_add(level_hash(seed, position, b"+"));
        }
        if key.tail {
            wild_sum = wild_sum.wrapping_add(level_hash(seed, usize::from(key.len), b"#"));
        }
        Self { key, wild_sum }
    }

    /// The hash that the filter of this shape that matches `topic` has.
    #[inline]
    fn hash(&self, topic: &View<'_>) -> u64 {
        let mut sum = topic.sums[usize::from(self.key.len)].wrapping_add(self.wild_sum);
        for position in bits(self.key.plus) {
            sum = sum.wrapping_sub(topic.level(position));
        }
        sum
    }

    #[inline]
    const fn is_first_wild(&self) -> bool {
        self.key.plus & 1 != 0 || (self.key.tail && self.key.len == 0)
    }
}

/// The positions of the bits of `word`, lowest first.
#[inline]
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

/// The lists of shapes that a match goes through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shapes {
    /// Shapes without `#`, by their number of levels.
    fixed: Vec<Vec<Shape>>,
    /// Shapes with `#`, shortest first.
    tails: Vec<Shape>,
}

impl Shapes {
    /// Calls `visit` with each shape that fits `topic` and the filter hash to look for.
    #[inline]
    pub(crate) fn for_each<'s>(
        &'s self,
        topic: &View<'_>,
        mut visit: impl FnMut(&'s ShapeKey, u64),
    ) {
        let system = topic.is_system();
        let levels = topic.level_count();
        let fixed = self.fixed.get(levels).map_or(&[][..], Vec::as_slice);
        for list in [fixed, &self.tails] {
            for shape in list {
                if usize::from(shape.key.len) > levels {
                    break;
                }
                if !(system && shape.is_first_wild()) {
                    visit(&shape.key, shape.hash(topic));
                }
            }
        }
    }

    fn list(&mut self, key: ShapeKey) -> &mut Vec<Shape> {
        if key.tail {
            return &mut self.tails;
        }
        let len = usize::from(key.len);
        if self.fixed.len() <= len {
            self.fixed.resize(len + 1, Vec::new());
        }
        &mut self.fixed[len]
    }

    fn insert(&mut self, key: ShapeKey, seed: u64) {
        let list = self.list(key);
        let at = list.partition_point(|shape| shape.key < key);
        list.insert(at, Shape::new(key, seed));
    }

    fn remove(&mut self, key: ShapeKey) {
        let list = self.list(key);
        list.retain(|shape| shape.key != key);
        if list.is_empty() {
            *list = Vec::new();
        }
    }
}

/// Whether the filters of a shape are found through the lists or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the lists.
    Live,
    /// Elsewhere: the lists were full when the shape came up.
    Overflow,
}

#[derive(Debug)]
struct Known {
    filters: u32,
    place: Place,
}

/// Every shape that has filters, and where these are found.
///
/// A shape's place is chosen when its first filter comes and stays until its last one is gone, so
/// that all its filters are in one place.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: BTreeMap<ShapeKey, Known>,
    live: Shapes,
    /// Live shapes without filters.
    idle: BTreeSet<ShapeKey>,
}

impl Registry {
    /// The lists of live shapes.
    pub(crate) const fn live(&self) -> &Shapes {
        &self.live
    }

    /// Where filters of this shape are, if there are any.
    pub(crate) fn place(&self, key: ShapeKey) -> Option<Place> {
        self.known.get(&key).map(|known| known.place)
    }

    /// Counts a new filter of a shape; `true` when the lists changed.
    pub(crate) fn acquire(&mut self, key: ShapeKey, seed: u64) -> (Place, bool) {
        self.acquire_up_to(key, seed, LIVE_MAX)
    }

    /// As `acquire`, with a bound of the lists' lengths.
    pub(crate) fn acquire_up_to(
        &mut self,
        key: ShapeKey,
        seed: u64,
        live_max: usize,
    ) -> (Place, bool) {
        if let Some(known) = self.known.get_mut(&key) {
            if known.filters == 0 {
                self.idle.remove(&key);
            }
            known.filters += 1;
            return (known.place, false);
        }
        if self.live.list(key).len() >= live_max {
            self.prune();
        }
        let live = self.live.list(key).len() < live_max;
        let place = if live { Place::Live } else { Place::Overflow };
        if live {
            self.live.insert(key, seed);
        }
        self.known.insert(key, Known { filters: 1, place });
        (place, live)
    }

    /// Counts a filter less. With `keep`, a live shape without filters stays in the lists until
    /// [`Registry::prune`].
    pub(crate) fn release(&mut self, key: ShapeKey, keep: bool) {
        let Some(known) = self.known.get_mut(&key) else {
            debug_assert!(false, "a filter is gone whose shape was never counted");
            return;
        };
        known.filters = known.filters.saturating_sub(1);
        if known.filters > 0 {
            return;
        }
        if keep && known.place == Place::Live {
            self.idle.insert(key);
            return;
        }
        if known.place == Place::Live {
            self.live.remove(key);
        }
        self.known.remove(&key);
    }

    /// Takes shapes without filters out of the lists.
    pub(crate) fn prune(&mut self) {
        while let Some(key) = self.idle.pop_first() {
            self.live.remove(key);
            self.known.remove(&key);
        }
    }
}

/// Whether `filter` is the filter of the shape (`plus`, `tail`, `len` levels) that matches `topic`.
///
/// `plus` yields the positions of `+` in rising order. Compares the literal runs as a whole, so it
/// costs a few short comparisons, and it says no to a filter of any other shape: a hash
/// that two filters share can't make one appear twice.
#[inline]
pub(crate) fn verify(
    filter: &[u8],
    topic: &View<'_>,
    plus: impl Iterator<Item = usize>,
    len: usize,
    tail: bool,
) -> bool {
    let name = topic.text.as_bytes();
    let run = |from: usize, to: usize| name.get(from..to).unwrap_or_default();
    let mut rest = filter;
    let mut from = 0;
    for position in plus {
        let literal = run(from, topic.start(position));
        let Some([b'+', behind @ ..]) = strip(rest, literal) else {
            return false;
        };
        rest = behind;
        from = topic.end(position + 1);
    }
    match (tail, len) {
        (false, _) => is_same(rest, run(from, name.len())),
        (true, 0) => matches!(rest, b"#"),
        (true, _) => matches!(strip(rest, run(from, topic.end(len))), Some(b"/#")),
    }
}

/// What follows `literal` in a text that begins with it.
#[inline]
fn strip<'t>(text: &'t [u8], literal: &[u8]) -> Option<&'t [u8]> {
    let (first, rest) = text.split_at_checked(literal.len())?;
    is_same(first, literal).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Filter, Limits, Topic};

    #[test]
    fn however_many_shapes_there_are_a_match_probes_few() {
        let limits = Limits::default();
        let mut registry = Registry::default();
        let mut keys = Vec::new();
        for shape in 0..4096_u32 {
            for end in ["z", "#"] {
                let level = |at: u32| if shape >> at & 1 == 1 { "+/" } else { "a/" };
                let text = (0..12).map(level).collect::<String>() + end;
                let key = Filter::parse(&text, &limits).unwrap().shape().unwrap();
                registry.acquire(key, limits.seed);
                keys.push(key);
            }
        }
        let topic = Topic::parse("a/a/a/a/a/a/a/a/a/a/a/a/z", &limits).unwrap();
        let mut probes = 0;
        topic.with_view(limits.seed, |view| {
            registry.live().for_each(&view, |_, _| probes += 1);
        });
        assert_eq!(probes, 2 * LIVE_MAX);
        // Shapes without filters make room for others.
        for key in keys {
            registry.release(key, true);
        }
        let late = ShapeKey {
            len: 13,
            plus: 1 << 12,
            tail: false,
        };
        assert_eq!(registry.acquire(late, limits.seed), (Place::Live, true));
        assert_eq!(registry.known.len(), 1);
    }
}
