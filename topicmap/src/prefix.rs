//! The fall-back for filters whose shape is not in the lists: a tree of prefixes, walked along the
//! topic.
//!
//! A node is the hash of a filter's prefix, so that a child is one addition and one probe away and
//! no level needs a name of its own. Each node counts how many filters go on from it by a literal
//! level, by `+`, by `#`, or end there; a count of zero saves the probe. From each node reached, a
//! topic leads to at most two others, so the walk for a topic of `n` levels in a tree of `f`
//! filters looks at no more than
//!
//! ```text
//! 1 + the sum over d = 1 ..= n of min(2^d, 2 f)
//! ```
//!
//! places: at each depth every place is one of the two that lead on from one above, and above it
//! there are no more nodes than filters. Branches whose literal levels differ from the topic's are
//! never entered, so only who publishes such topics pays for them. Two prefixes with one hash share
//! a node, which costs a wasted probe; what is found in the end is verified by its text.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    Filter, Limits,
    hash::level_hash,
    topic::{DEEP, INLINE, View},
};

const LEVELS: usize = Limits::LEVELS_CEILING as usize;
const WORDS: usize = LEVELS / 64;

/// Hands a `u64` that is a hash already to a standard map.
#[derive(Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// How many filters leave a node in which way.
#[derive(Debug, Default)]
struct Node {
    literal: u32,
    plus: u32,
    hash: u32,
    end: u32,
}

impl Node {
    const fn is_unused(&self) -> bool {
        self.literal == 0 && self.plus == 0 && self.hash == 0 && self.end == 0
    }
}

type Nodes = HashMap<u64, Node, BuildHasherDefault<Identity>>;

/// The positions of `+` on a path.
pub(crate) struct Path {
    words: [u64; WORDS],
}

impl Path {
    const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Forgets what lies behind `len` levels.
    fn truncate(&mut self, len: usize, levels: usize) {
        let (word, bit) = (len / 64, len % 64);
        if let Some(slot) = self.words.get_mut(word) {
            *slot &= (1 << bit) - 1;
        }
        for slot in self.words.iter_mut().take(levels / 64 + 1).skip(word + 1) {
            *slot = 0;
        }
    }

    fn add(&mut self, position: usize) {
        self.words[position / 64] |= 1 << (position % 64);
    }

    /// The positions in rising order; `levels` bounds them.
    pub(crate) fn positions(&self, levels: usize) -> impl Iterator<Item = usize> {
        let words = self.words.iter().take(levels / 64 + 1).enumerate();
        words.flat_map(|(at, word)| crate::shape::bits(*word).map(move |bit| at * 64 + bit))
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Prefixes {
    nodes: Nodes,
}

impl Prefixes {
    /// Counts the nodes on the path of a filter, parsed under the owner's seed.
    pub(crate) fn insert(&mut self, filter: &Filter<'_>) {
        self.for_path(filter, |nodes, hash, step| {
            *step(nodes.entry(hash).or_default()) += 1;
        });
    }

    /// Takes back what `insert` counted.
    pub(crate) fn remove(&mut self, filter: &Filter<'_>) {
        self.for_path(filter, |nodes, hash, step| {
            if let Some(node) = nodes.get_mut(&hash) {
                *step(node) -= 1;
                if node.is_unused() {
                    nodes.remove(&hash);
                }
            }
        });
        if self.nodes.is_empty() {
            self.nodes = HashMap::default();
        }
    }

    fn for_path(
        &mut self,
        filter: &Filter<'_>,
        mut touch: impl FnMut(&mut Nodes, u64, fn(&mut Node) -> &mut u32),
    ) {
        let mut sum = 0_u64;
        for (position, level) in filter.levels().enumerate() {
            let step: fn(&mut Node) -> &mut u32 = match level {
                "#" => |node| &mut node.hash,
                "+" => |node| &mut node.plus,
                _ => |node| &mut node.literal,
            };
            touch(&mut self.nodes, sum, step);
            sum = sum.wrapping_add(level_hash(filter.seed(), position, level.as_bytes()));
        }
        if !filter.ends_in_hash() {
            touch(&mut self.nodes, sum, |node| &mut node.end);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Calls `found` with the hash, the `+` positions, the length and the kind of each filter path
    /// that leads along `topic`. Gives the number of nodes looked at. Allocates nothing; keeps
    /// about 16 KiB on the stack for topics of many levels.
    pub(crate) fn walk(
        &self,
        topic: &View<'_>,
        seed: u64,
        found: impl FnMut(u64, &Path, usize, bool),
    ) -> usize {
        match topic.level_count() {
            0..=INLINE => self.walk_with::<{ INLINE + 1 }>(topic, seed, found),
            _ if topic.level_count() <= DEEP => self.walk_with::<{ DEEP + 1 }>(topic, seed, found),
            _ => self.walk_with::<{ LEVELS + 1 }>(topic, seed, found),
        }
    }

    #[inline(never)]
    fn walk_with<const DEPTHS: usize>(
        &self,
        topic: &View<'_>,
        seed: u64,
        mut found: impl FnMut(u64, &Path, usize, bool),
    ) -> usize {
        let levels = topic.level_count();
        let mut path = Path::new();
        // Where to go on by `+`: at most one entry a depth, since what is below is done first.
        let mut pending = [(0_u16, 0_u64); DEPTHS];
        let mut waiting = 0;
        let mut at = Some((0, 0_u64));
        let mut looked = 0;
        while let Some((depth, sum)) = at.take() {
            looked += 1;
            if let Some(node) = self.nodes.get(&sum) {
                let wild = depth > 0 || !topic.is_system();
                if node.hash > 0 && wild {
                    found(
                        sum.wrapping_add(level_hash(seed, depth, b"#")),
                        &path,
                        depth,
                        true,
                    );
                }
                if depth == levels {
                    if node.end > 0 {
                        found(sum, &path, depth, false);
                    }
                } else {
                    if node.plus > 0 && wild {
                        pending[waiting] = (depth as u16, sum);
                        waiting += 1;
                    }
                    if node.literal > 0 {
                        at = Some((depth + 1, sum.wrapping_add(topic.level(depth))));
                        continue;
                    }
                }
            }
            if waiting > 0 {
                waiting -= 1;
                let (depth, sum) = pending[waiting];
                let depth = usize::from(depth);
                path.truncate(depth, levels);
                path.add(depth);
                at = Some((depth + 1, sum.wrapping_add(level_hash(seed, depth, b"+"))));
            }
        }
        looked
    }

    /// The heap that the nodes hold, in bytes, about.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.nodes.capacity() * (size_of::<(u64, Node)>() + 1) * 8 / 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Topic;

    const LIMITS: Limits = Limits::widest(77);

    fn looked_at(prefixes: &Prefixes, topic: &str) -> (usize, usize) {
        let topic = Topic::parse(topic, &LIMITS).unwrap();
        let mut found = 0;
        let looked = topic.with_view(LIMITS.seed, |view| {
            prefixes.walk(&view, LIMITS.seed, |_, _, _, _| found += 1)
        });
        (looked, found)
    }

    /// Every way to put `+` into `levels` levels of `a`, with an end that no topic has.
    fn all_shapes(levels: u32, end: &str) -> Prefixes {
        let mut prefixes = Prefixes::default();
        for shape in 0..1_u32 << levels {
            let level = |at: u32| if shape >> at & 1 == 1 { "+/" } else { "a/" };
            let text = (0..levels).map(level).collect::<String>() + end;
            prefixes.insert(&Filter::parse(&text, &LIMITS).unwrap());
        }
        prefixes
    }

    #[test]
    fn a_walk_is_bounded_by_the_topic_and_prunes() {
        let prefixes = all_shapes(10, "z");
        // The worst that 1,024 filters can do: every node of a full binary tree, and the ends.
        assert_eq!(
            looked_at(&prefixes, "a/a/a/a/a/a/a/a/a/a/y"),
            (2047 + 1024, 0)
        );
        assert_eq!(
            looked_at(&prefixes, "a/a/a/a/a/a/a/a/a/a/z"),
            (2047 + 1024, 1024)
        );
        // A topic that differs at the beginning leaves only the half with `+` there.
        assert!(looked_at(&prefixes, "b/b/b/b/b/b/b/b/b/b/z").0 <= 2 * 11);
        assert_eq!(looked_at(&prefixes, "a/a/z"), (15, 0));
        assert_eq!(looked_at(&prefixes, "$SYS/a/a/a/a/a/a/a/a/a/z").0, 2);
    }

    /// The bound of the module's documentation.
    fn bound(levels: usize, filters: usize) -> usize {
        let at = |depth: usize| {
            let all = u32::try_from(depth)
                .ok()
                .and_then(|d| 1_usize.checked_shl(d));
            all.unwrap_or(usize::MAX).min(2 * filters)
        };
        1 + (1..=levels).map(at).sum::<usize>()
    }

    #[test]
    fn no_set_of_filters_makes_a_walk_exceed_the_bound() {
        let mut state = 0x1234_5678_9ABC_DEF1_u64;
        for (levels, filters) in [(4, 10), (17, 500), (17, 3000), (40, 200), (120, 50)] {
            let mut prefixes = Prefixes::default();
            for n in 0..filters {
                let level = |_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    if state >> 40 & 1 == 0 { "+/" } else { "a/" }
                };
                let text: String = (0..levels).map(level).collect();
                let end = ["#".to_owned(), format!("z{n}")][n % 2].clone();
                prefixes.insert(&Filter::parse(&(text + &end), &LIMITS).unwrap());
            }
            let topic = "a/".repeat(levels) + "y";
            let (looked, found) = looked_at(&prefixes, &topic);
            let most = bound(levels + 1, filters);
            assert!(looked <= most && found <= filters, "{looked} of {most}");
            assert!(looked > filters, "{looked}: the set is no hostile one");
        }
    }

    #[test]
    fn a_thousand_levels_cost_a_thousand_steps() {
        let mut prefixes = Prefixes::default();
        let deep = "+/".repeat(1000) + "#";
        prefixes.insert(&Filter::parse(&deep, &LIMITS).unwrap());
        let topic = "x/".repeat(1000) + "y";
        let (looked, found) = looked_at(&prefixes, &topic);
        assert_eq!((looked, found), (1001, 1));
        prefixes.remove(&Filter::parse(&deep, &LIMITS).unwrap());
        assert!(prefixes.is_empty());
        assert_eq!(prefixes.heap_bytes(), 0);
    }
}
