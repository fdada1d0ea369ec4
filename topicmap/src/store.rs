//! Stored topics matched by a filter: the inverse of `TopicMap`, for retained messages.
//!
//! # Layout
//!
//! A tree with a node for every stored topic and every prefix of one. All nodes are in one hash
//! index under the hash of their path, so that a topic is found by one probe, and a child by one
//! addition and one probe. A node's children also have *places* in a vector, which a scan goes
//! through. A place is kept for as long as the child lives; one that becomes free is given to a
//! later child. So a position in a scan is a list of places, one a level, and stays good whatever
//! comes and goes: what was there all the time is still in its place, either before the position
//! or behind it.

mod account;
mod expiry;

use core::fmt;

use crate::{Filter, Topic, hash::level_hash, index::Index, slab::Slab, topic::View};

pub use expiry::Scanned;
use expiry::{Deadlines, NEVER};

/// The place of no child.
const HOLE: u32 = u32::MAX;

#[derive(Debug)]
enum Children {
    None,
    /// One child, at place 0.
    One(u32),
    Many(Box<Places>),
}

#[derive(Debug, Default)]
struct Places {
    places: Vec<u32>,
    free: Vec<u32>,
}

impl Children {
    fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The number of places.
    #[inline]
    fn places(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(many) => many.places.len(),
        }
    }

    #[inline]
    fn at(&self, place: usize) -> Option<u32> {
        let id = match self {
            Self::None => None,
            Self::One(id) => (place == 0).then_some(*id),
            Self::Many(many) => many.places.get(place).copied(),
        };
        id.filter(|id| *id != HOLE)
    }

    /// Gives a child a place.
    fn add(&mut self, id: u32) -> u32 {
        match self {
            Self::None => {
                *self = Self::One(id);
                0
            }
            Self::One(first) => {
                let places = vec![*first, id];
                *self = Self::Many(Box::new(Places {
                    places,
                    free: Vec::new(),
                }));
                1
            }
            Self::Many(many) => {
                let place = many.free.pop().unwrap_or(many.places.len() as u32);
                match many.places.get_mut(place as usize) {
                    Some(slot) => *slot = id,
                    None => many.places.push(id),
                }
                place
            }
        }
    }

    fn remove(&mut self, place: u32) {
        match self {
            Self::None => {}
            Self::One(_) => *self = Self::None,
            Self::Many(many) => {
                if let Some(slot) = many.places.get_mut(place as usize) {
                    *slot = HOLE;
                    many.free.push(place);
                }
                if many.free.len() == many.places.len() {
                    *self = Self::None;
                }
            }
        }
    }
}

struct Node<V> {
    /// The whole path.
    text: Box<str>,
    /// The hash of the path.
    sum: u64,
    /// The parent's id, or `HOLE` for a first level.
    parent: u32,
    /// The place among the parent's children.
    place: u32,
    children: Children,
    value: Option<V>,
    /// When the value expires; `NEVER` without a value.
    deadline: u64,
}

/// Where a scan goes on; valid for the filter that it was made with, however the store changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The next place to look at, a level each; the place before it is the one entered.
    path: Vec<u32>,
}

impl Cursor {
    /// The beginning of a scan.
    #[must_use]
    pub const fn start() -> Self {
        Self { path: Vec::new() }
    }
}

/// Topics with a value each, found by topic or matched by filter.
///
/// # Complexity
///
/// [`get`](Self::get) is one probe; [`insert`](Self::insert) and [`remove`](Self::remove) are
/// O(levels). [`scan`](Self::scan) looks at the nodes that the filter's prefix matches and at no
/// others.
///
/// # Memory
///
/// About 80 bytes, the value and the path's text for each topic, and the same for each prefix that
/// is no stored topic itself; 16 to 30 bytes more for a topic with a deadline.
///
/// # Examples
///
/// ```
/// use topicmap::{Cursor, Filter, Limits, Topic, TopicStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let limits = Limits::default();
/// let mut store = TopicStore::new(limits.seed);
/// for n in 0..10 {
///     store.insert(&Topic::parse(&format!("room/{n}/light"), &limits)?, n);
/// }
/// let filter = Filter::parse("room/+/light", &limits)?;
/// let mut seen = Vec::new();
/// let mut from = Cursor::start();
/// while let Some(next) = store.scan(&filter, from, 4, |_, n| seen.push(*n)) {
///     from = next; // other work can be done here, also on the store
/// }
/// assert_eq!(seen, (0..10).collect::<Vec<_>>());
/// # Ok(())
/// # }
/// ```
pub struct TopicStore<V> {
    seed: u64,
    nodes: Slab<Node<V>>,
    index: Index,
    roots: Children,
    deadlines: Deadlines,
    len: usize,
}

impl<V> TopicStore<V> {
    /// An empty store; `seed` is the [`Limits::seed`](crate::Limits::seed) that topics and filters
    /// are parsed with. Allocates nothing.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (nodes, index) = (Slab::new(), Index::new());
        Self {
            seed,
            nodes,
            index,
            roots: Children::None,
            deadlines: Deadlines::default(),
            len: 0,
        }
    }

    /// The number of topics.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no topic.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a topic.
    #[must_use]
    pub fn get(&self, topic: &Topic<'_>) -> Option<&V> {
        let id = self.find(topic.hash_under(self.seed), topic.as_str())?;
        self.nodes.get(id)?.value.as_ref()
    }

    /// The value of a topic, to change it.
    #[must_use]
    pub fn get_mut(&mut self, topic: &Topic<'_>) -> Option<&mut V> {
        let id = self.find(topic.hash_under(self.seed), topic.as_str())?;
        self.nodes.get_mut(id)?.value.as_mut()
    }

    /// Stores a value without a deadline and gives back the one that it replaces, whose deadline is
    /// forgotten.
    ///
    /// # Panics
    ///
    /// At 2^32 − 512 topics and prefixes.
    pub fn insert(&mut self, topic: &Topic<'_>, value: V) -> Option<V> {
        self.insert_until(topic, value, NEVER)
    }

    /// Stores a value that expires at `deadline`, in a unit of the caller's; `u64::MAX` is never.
    /// Gives back the value that it replaces, expired or not.
    ///
    /// # Complexity
    ///
    /// O(levels), and with a deadline O(log topics).
    ///
    /// # Panics
    ///
    /// At 2^32 − 512 topics and prefixes.
    pub fn insert_until(&mut self, topic: &Topic<'_>, value: V, deadline: u64) -> Option<V> {
        let id = match self.find(topic.hash_under(self.seed), topic.as_str()) {
            Some(id) => id,
            None => topic.with_view(self.seed, |view| self.add_path(&view)),
        };
        let Some(node) = self.nodes.get_mut(id) else {
            unreachable!("the index names nodes that are there");
        };
        let replaced = node.value.replace(value);
        let before = core::mem::replace(&mut node.deadline, deadline);
        self.deadlines.change(id, before, deadline);
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes a topic out.
    pub fn remove(&mut self, topic: &Topic<'_>) -> Option<V> {
        let id = self.find(topic.hash_under(self.seed), topic.as_str())?;
        let node = self.nodes.get_mut(id)?;
        let value = node.value.take()?;
        let before = core::mem::replace(&mut node.deadline, NEVER);
        self.deadlines.change(id, before, NEVER);
        self.len -= 1;
        self.drop_unused(id);
        Some(value)
    }

    /// Visits topics that match `filter`, until all are visited or `budget` nodes looked at.
    ///
    /// Begin with [`Cursor::start`] and go on with what the last call gave, with the same filter;
    /// `None` means that the scan is complete. Between two calls the store may change as it will:
    /// a topic that is there during the whole scan is visited exactly once; one that comes or goes
    /// may be visited or not, and one that goes and comes again may be visited twice. A budget of
    /// 0 is taken for 1. The order is not specified.
    ///
    /// # Complexity
    ///
    /// O(matches) for filters without wildcards (one probe), with a final `#`, and with a `+` in
    /// the last level; with `+` in earlier levels O(nodes that match a prefix of the filter).
    pub fn scan(
        &self,
        filter: &Filter<'_>,
        from: Cursor,
        budget: usize,
        mut visit: impl FnMut(&str, &V),
    ) -> Option<Cursor> {
        self.scan_nodes(filter, from, budget, &mut |node, value| {
            visit(&node.text, value);
        })
    }

    fn scan_nodes(
        &self,
        filter: &Filter<'_>,
        from: Cursor,
        budget: usize,
        visit: &mut impl FnMut(&Node<V>, &V),
    ) -> Option<Cursor> {
        if filter.is_exact() {
            let id = self.find(filter.under(self.seed).hash(), filter.as_str())?;
            let node = self.nodes.get(id)?;
            if let Some(value) = &node.value {
                visit(node, value);
            }
            return None;
        }
        Scan::resume(
            self,
            filter.as_str(),
            filter.fixed(),
            filter.ends_in_hash(),
            from,
        )
        .run(budget.max(1), visit)
    }

    /// All topics, in no specified order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.nodes
            .iter()
            .filter_map(|(_, node)| Some((&*node.text, node.value.as_ref()?)))
    }

    #[inline]
    fn find(&self, hash: u64, path: &str) -> Option<u32> {
        self.index.find(hash, |id| {
            self.nodes.get(id).is_some_and(|node| &*node.text == path)
        })
    }

    fn children(&self, id: u32) -> &Children {
        self.nodes
            .get(id)
            .map_or(&self.roots, |node| &node.children)
    }

    fn children_mut(&mut self, id: u32) -> &mut Children {
        match self.nodes.get_mut(id) {
            Some(node) => &mut node.children,
            None => &mut self.roots,
        }
    }

    /// Adds the nodes on the way to a topic that are not there, and gives the last one.
    fn add_path(&mut self, topic: &View<'_>) -> u32 {
        let mut parent = HOLE;
        for levels in 1..=topic.level_count() {
            let path = topic.text.get(..topic.end(levels)).unwrap_or(topic.text);
            let sum = topic.sums[levels];
            parent = match self.find(sum, path) {
                Some(id) => id,
                None => self.add_node(path, sum, parent),
            };
        }
        parent
    }

    fn add_node(&mut self, path: &str, sum: u64, parent: u32) -> u32 {
        let node = Node {
            text: path.into(),
            sum,
            parent,
            place: 0,
            children: Children::None,
            value: None,
            deadline: NEVER,
        };
        let id = self.nodes.insert(node);
        self.index.insert(sum, id);
        let place = self.children_mut(parent).add(id);
        if let Some(node) = self.nodes.get_mut(id) {
            node.place = place;
        }
        id
    }

    /// Takes out a node that has neither value nor children, and then its parent if that is so.
    fn drop_unused(&mut self, mut id: u32) {
        while let Some(node) = self.nodes.get(id) {
            if node.value.is_some() || !node.children.is_none() {
                return;
            }
            let (sum, parent, place) = (node.sum, node.parent, node.place);
            self.index.remove(sum, id);
            self.nodes.remove(id);
            self.children_mut(parent).remove(place);
            id = parent;
        }
    }
}

/// A node that a scan has entered, and the place among its children to look at next.
struct Frame {
    node: u32,
    sum: u64,
    next: u32,
}

struct Scan<'s, V> {
    store: &'s TopicStore<V>,
    levels: Vec<&'s str>,
    fixed: usize,
    tail: bool,
    stack: Vec<Frame>,
}

impl<'s, V> Scan<'s, V> {
    /// Goes back to where `from` says, as far as the nodes on the way are still there.
    ///
    /// A node in the place of one that has gone is a new one, of which nothing is owed.
    fn resume(
        store: &'s TopicStore<V>,
        filter: &'s str,
        fixed: usize,
        tail: bool,
        from: Cursor,
    ) -> Self {
        let levels = filter.split('/').take(fixed).collect();
        let mut scan = Self {
            store,
            levels,
            fixed,
            tail,
            stack: Vec::new(),
        };
        let first = from.path.first().copied().unwrap_or_default();
        scan.stack.push(Frame {
            node: HOLE,
            sum: 0,
            next: first,
        });
        for next in from.path.into_iter().skip(1) {
            let Some((node, sum)) = scan.entered() else {
                break;
            };
            scan.stack.push(Frame { node, sum, next });
        }
        scan
    }

    /// The child that the last frame's position says was entered last.
    fn entered(&self) -> Option<(u32, u64)> {
        let frame = self.stack.last()?;
        let place = frame.next.checked_sub(1)?;
        match self.child(frame, self.stack.len() - 1, place) {
            Step::Child(node, sum) => Some((node, sum)),
            _ => None,
        }
    }

    /// What is at a place below a frame at `depth`.
    fn child(&self, frame: &Frame, depth: usize, place: u32) -> Step {
        let literal = match self.levels.get(depth) {
            Some(&"+") => None,
            Some(level) => Some(*level),
            None if self.tail => None,
            None => return Step::End,
        };
        if let Some(level) = literal {
            return if place == 0 {
                self.literal_child(frame, depth, level)
            } else {
                Step::End
            };
        }
        let children = self.store.children(frame.node);
        if place as usize >= children.places() {
            return Step::End;
        }
        let Some(id) = children.at(place as usize) else {
            return Step::Nothing;
        };
        let Some(node) = self.store.nodes.get(id) else {
            return Step::Nothing;
        };
        if depth == 0 && node.text.starts_with('$') {
            return Step::Nothing;
        }
        Step::Child(id, node.sum)
    }

    fn literal_child(&self, frame: &Frame, depth: usize, level: &str) -> Step {
        let sum = frame
            .sum
            .wrapping_add(level_hash(self.store.seed, depth, level.as_bytes()));
        let is_it = |id| {
            self.store.nodes.get(id).is_some_and(|node| {
                node.parent == frame.node && node.text.rsplit('/').next() == Some(level)
            })
        };
        match self.store.index.find(sum, is_it) {
            Some(id) => Step::Child(id, sum),
            None => Step::Nothing,
        }
    }

    fn run(mut self, mut budget: usize, visit: &mut impl FnMut(&Node<V>, &V)) -> Option<Cursor> {
        while let Some(depth) = self.stack.len().checked_sub(1) {
            if budget == 0 {
                return Some(Cursor {
                    path: self.stack.iter().map(|frame| frame.next).collect(),
                });
            }
            budget -= 1;
            let step = self.child(&self.stack[depth], depth, self.stack[depth].next);
            self.stack[depth].next += 1;
            match step {
                Step::End => {
                    self.stack.pop();
                }
                Step::Nothing => {}
                Step::Child(id, sum) => {
                    self.look(id, depth + 1, visit);
                    let deeper = self.tail || depth + 1 < self.fixed;
                    if deeper && !self.store.children(id).is_none() {
                        self.stack.push(Frame {
                            node: id,
                            sum,
                            next: 0,
                        });
                    }
                }
            }
        }
        None
    }

    /// Visits a node at `depth` if the filter matches it.
    fn look(&self, id: u32, depth: usize, visit: &mut impl FnMut(&Node<V>, &V)) {
        let matches = depth == self.fixed || (self.tail && depth > self.fixed);
        if matches
            && let Some(node) = self.store.nodes.get(id)
            && let Some(value) = &node.value
        {
            visit(node, value);
        }
    }
}

enum Step {
    Child(u32, u64),
    /// No child at this place.
    Nothing,
    /// No further places.
    End,
}

impl<V> fmt::Debug for TopicStore<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicStore")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
