//! A hash index: 64-bit hash to `u32` ids whose keys live elsewhere.
//!
//! Open addressing by cache lines. A line has room for seven entries, each an id and the upper half
//! of its hash, and counts the entries that passed it by because it was full, apart for each value
//! of three bits of the tag. So a probe that finds nothing, which is what most probes of a match
//! do, compares seven tags without a branch, sees that nothing like it passed by, and is done: one
//! cache line and one branch that is nearly always foreseen. Growing never looks at the keys;
//! removal leaves no tombstone. The load is at most 4/5.
//!
//! The lines are in *segments* of at most 32 KiB, found through a directory by the first bits of
//! the tag (extendible hashing). A segment grows by a quarter; one that is at its largest is cut
//! in two. So an insert moves the entries of one segment at most, fewer than 3,000, however many
//! there are in all, and the load stays between 16/25 and 4/5.

/// Entries to a line.
const WAYS: usize = 7;
/// The id of an entry that holds nothing; so it is no id.
const VACANT: u32 = u32::MAX;
/// Most lines of a segment, but for segments of `DEPTH_MAX`.
const LINES_MAX: usize = 512;
/// Most bits of a tag that choose a segment. Then there are 65,536 segments.
const DEPTH_MAX: u32 = 16;

#[derive(Clone, Debug)]
#[repr(C, align(64))]
struct Line {
    tags: [u32; WAYS],
    passed: Passed,
    ids: [u32; WAYS],
}

/// How many entries would be in this line or before, and are in a later one: eight counters of
/// four bits, chosen by the lowest bits of the tag.
///
/// With a single count a line that anybody passed would send every probe on to the next one, and
/// where the load is high many lines are passed. A counter that is full stays so until the segment
/// is made anew: probes then go on for nothing. That takes 15 entries with the same bits that pass
/// one line.
#[derive(Clone, Copy, Debug)]
struct Passed(u32);

impl Passed {
    const FULL: u32 = 0xF;

    #[inline(always)]
    const fn count(self, tag: u32) -> u32 {
        self.0 >> Self::shift(tag) & Self::FULL
    }

    #[inline(always)]
    const fn shift(tag: u32) -> u32 {
        (tag & 7) * 4
    }

    fn add(&mut self, tag: u32) {
        if self.count(tag) < Self::FULL {
            self.0 += 1 << Self::shift(tag);
        }
    }

    fn take(&mut self, tag: u32) {
        debug_assert!(self.count(tag) > 0, "what goes had passed by");
        if (1..Self::FULL).contains(&self.count(tag)) {
            self.0 -= 1 << Self::shift(tag);
        }
    }
}

const _: () = assert!(size_of::<Line>() == 64);

impl Line {
    const EMPTY: Self = Self {
        tags: [0; WAYS],
        passed: Passed(0),
        ids: [VACANT; WAYS],
    };

    /// A byte that is 1 for each entry with this tag, vacant ones perhaps among them.
    #[inline(always)]
    fn with_tag(&self, tag: u32) -> u64 {
        // In this form the compiler compares with vector instructions.
        let mut found = [0; 8];
        for (byte, other) in found.iter_mut().zip(&self.tags) {
            *byte = u8::from(*other == tag);
        }
        u64::from_le_bytes(found)
    }

    fn position(&self, tag: u32, id: u32) -> Option<usize> {
        (0..WAYS).find(|way| self.tags[*way] == tag && self.ids[*way] == id)
    }
}

/// The entries whose tags begin with the same `depth` bits.
#[derive(Debug)]
struct Segment {
    /// Never empty.
    lines: Box<[Line]>,
    len: u32,
    depth: u32,
}

const _: () = assert!(size_of::<Segment>() == 24);

/// The line where an entry belongs: the bits behind the segment's, as a fraction of its lines.
#[inline(always)]
const fn home(tag: u32, depth: u32, lines: usize) -> usize {
    (((tag << depth) as u64 * lines as u64) >> 32) as usize
}

const fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}

/// Lines for so many entries at the lowest load.
const fn lines_for(len: usize) -> usize {
    len * 25 / (16 * WAYS) + 1
}

impl Segment {
    fn new(depth: u32, lines: usize) -> Self {
        Self {
            lines: vec![Line::EMPTY; lines].into_boxed_slice(),
            len: 0,
            depth,
        }
    }

    fn is_full(&self) -> bool {
        (self.len as usize + 1) * 5 > self.lines.len() * WAYS * 4
    }

    fn place(&mut self, tag: u32, id: u32) {
        self.len += 1;
        let mut at = home(tag, self.depth, self.lines.len());
        loop {
            let count = self.lines.len();
            let line = &mut self.lines[at];
            if let Some(way) = line.ids.iter().position(|id| *id == VACANT) {
                line.tags[way] = tag;
                line.ids[way] = id;
                return;
            }
            line.passed.add(tag);
            at = next(at, count);
        }
    }

    /// The line and the way of an entry.
    fn position(&self, tag: u32, id: u32) -> Option<(usize, usize)> {
        let mut at = home(tag, self.depth, self.lines.len());
        for _ in 0..self.lines.len() {
            let line = self.lines.get(at)?;
            if let Some(way) = line.position(tag, id) {
                return Some((at, way));
            }
            if line.passed.count(tag) == 0 {
                return None;
            }
            at = next(at, self.lines.len());
        }
        None
    }

    fn remove(&mut self, tag: u32, id: u32) -> bool {
        let Some((found, way)) = self.position(tag, id) else {
            return false;
        };
        let mut at = home(tag, self.depth, self.lines.len());
        while at != found {
            self.lines[at].passed.take(tag);
            at = next(at, self.lines.len());
        }
        self.lines[found].ids[way] = VACANT;
        self.len -= 1;
        if self.lines.len() > 1 && self.len as usize * 8 < self.lines.len() * WAYS {
            self.resize(lines_for(self.len as usize * 2));
        }
        true
    }

    fn resize(&mut self, lines: usize) {
        let old = core::mem::replace(self, Self::new(self.depth, lines));
        for (tag, id) in old.entries() {
            self.place(tag, id);
        }
    }

    fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        let entries = |line: &Line| line.tags.into_iter().zip(line.ids);
        self.lines
            .iter()
            .flat_map(entries)
            .filter(|(_, id)| *id != VACANT)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Index {
    /// The segment for each value of a tag's first `depth` bits; empty when nothing was stored.
    directory: Vec<u32>,
    segments: Vec<Segment>,
    depth: u32,
    len: usize,
}

#[inline]
const fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

impl Index {
    pub(crate) const fn new() -> Self {
        Self {
            directory: Vec::new(),
            segments: Vec::new(),
            depth: 0,
            len: 0,
        }
    }

    /// Where in the directory a tag's segment is.
    #[inline(always)]
    const fn slot(&self, tag: u32) -> usize {
        (tag as u64 >> (32 - self.depth)) as usize
    }

    /// Whether a look at the first line leaves it open that there is an id with this hash.
    #[inline(always)]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let tag = tag(hash);
        let Some(segment) = self.directory.get(self.slot(tag)) else {
            return false;
        };
        let Some(segment) = self.segments.get(*segment as usize) else {
            return false;
        };
        let at = home(tag, segment.depth, segment.lines.len());
        let line = segment.lines.get(at);
        line.is_some_and(|line| (line.with_tag(tag) != 0) | (line.passed.count(tag) != 0))
    }

    /// The first id with this hash (or one that shares its upper half) that `wanted` accepts.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut wanted: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag(hash);
        // There is no segment if the index is empty.
        let segment = *self.directory.get(self.slot(tag))?;
        let segment = self.segments.get(segment as usize)?;
        let mut at = home(tag, segment.depth, segment.lines.len());
        // Once round at most: in a small segment every line can have been passed, by entries that
        // are no more all in one row.
        for _ in 0..segment.lines.len() {
            let line = segment.lines.get(at)?;
            let mut found = line.with_tag(tag);
            while found != 0 {
                let id = line.ids[found.trailing_zeros() as usize / 8 % WAYS];
                if id != VACANT && wanted(id) {
                    return Some(id);
                }
                found &= found - 1;
            }
            if line.passed.count(tag) == 0 {
                return None;
            }
            at = next(at, segment.lines.len());
        }
        None
    }

    /// Adds an id that is not there yet.
    ///
    /// Allocates when the load of a segment is reached; then that segment's entries are moved.
    pub(crate) fn insert(&mut self, hash: u64, id: u32) {
        assert!(id != VACANT, "the id is reserved");
        let tag = tag(hash);
        if self.segments.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment::new(0, 1));
        }
        loop {
            let at = self.directory[self.slot(tag)] as usize;
            let segment = &mut self.segments[at];
            if !segment.is_full() {
                segment.place(tag, id);
                self.len += 1;
                return;
            }
            let lines = segment.lines.len();
            let larger = (lines * 5 / 4).max(lines + 1);
            if larger <= LINES_MAX || segment.depth == DEPTH_MAX {
                segment.resize(larger);
            } else {
                self.cut(at);
            }
        }
    }

    /// Makes two segments of one, by the next bit of the tags.
    fn cut(&mut self, at: usize) {
        let depth = self.segments[at].depth;
        if depth == self.depth {
            self.directory = self.directory.iter().flat_map(|at| [*at; 2]).collect();
            self.depth += 1;
        }
        let is_upper = |tag: u32| tag << depth >> 31 == 1;
        let old = &self.segments[at];
        let upper = old.entries().filter(|(tag, _)| is_upper(*tag)).count();
        let lines = [old.len as usize - upper, upper].map(lines_for);
        let mut halves = lines.map(|lines| Segment::new(depth + 1, lines));
        for (tag, id) in old.entries() {
            halves[usize::from(is_upper(tag))].place(tag, id);
        }
        let [lower, upper] = halves;
        let new = self.segments.len() as u32;
        self.segments[at] = lower;
        self.segments.push(upper);
        // The directory's entries of one segment lie side by side; the upper half gets the new one.
        let mut slots = self.directory.iter_mut().filter(|slot| **slot == at as u32);
        let half = 1 << (self.depth - depth - 1);
        slots.by_ref().take(half).for_each(drop);
        slots.for_each(|slot| *slot = new);
    }

    /// Takes an id out; `false` when it isn't there.
    pub(crate) fn remove(&mut self, hash: u64, id: u32) -> bool {
        let tag = tag(hash);
        let slot = self.slot(tag);
        let Some(at) = self.directory.get(slot) else {
            return false;
        };
        if !self.segments[*at as usize].remove(tag, id) {
            return false;
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::new();
        }
        true
    }

    /// The heap that the index holds, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let lines = |segment: &Segment| size_of_val(&*segment.lines);
        self.segments.iter().map(lines).sum::<usize>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.directory.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A generator of repeatable test input.
    fn draw(state: &mut u64) -> u64 {
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
            let random = draw(&mut state);
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

    #[test]
    fn segments_are_cut_and_an_insert_moves_one_at_most() {
        let mut index = Index::new();
        let mut state = 0x1234_5678_9ABC_DEF1;
        let hashes: Vec<_> = (0..60_000).map(|_| draw(&mut state)).collect();
        for (id, hash) in hashes.iter().enumerate() {
            index.insert(*hash, id as u32);
            if id > 1000 && id % 997 == 0 {
                let each = index.heap_bytes() / (id + 1);
                assert!(each <= 16, "{each} bytes an entry at {id}");
            }
        }
        assert!(index.segments.len() > 16);
        assert!(
            index
                .segments
                .iter()
                .all(|segment| segment.lines.len() <= LINES_MAX)
        );
        let wanted = |id| move |found| found == id;
        for (id, hash) in hashes.iter().enumerate() {
            assert_eq!(index.find(*hash, wanted(id as u32)), Some(id as u32));
            assert_eq!(index.find(*hash, wanted(u32::MAX - 1)), None);
        }
        // A probe that finds nothing ends in the first line but for a few.
        let open = (0..60_000).filter(|_| index.may_hold(draw(&mut state)));
        let open = open.count();
        assert!(open < 60_000 / 20, "{open}");
        for (id, hash) in hashes.iter().enumerate().skip(100) {
            assert!(index.remove(*hash, id as u32) && !index.remove(*hash, id as u32));
        }
        assert!(index.heap_bytes() < 16 << 10, "{}", index.heap_bytes());
    }

    #[test]
    fn a_search_ends_where_every_line_has_been_passed() {
        let mut index = Index::new();
        let lower = |id: u32| u64::from(id) << 32;
        let upper = |id: u32| (1 << 31 | u64::from(id)) << 32;
        for id in 0..8 {
            index.insert(lower(id), id);
        }
        for id in 0..4 {
            assert!(index.remove(lower(id), id));
        }
        for id in 9..16 {
            index.insert(upper(id), id);
        }
        let segment = &index.segments[0];
        assert!(
            segment.lines.iter().all(|line| line.passed.count(7) > 0),
            "that is what it is about"
        );
        // Tags that end like those of the two that passed.
        for hash in [lower(103), upper(103)] {
            assert_eq!(index.find(hash, |_| true), None);
            assert!(!index.remove(hash, 103));
        }
        assert_eq!(index.find(upper(15), |id| id == 15), Some(15));
    }

    #[test]
    fn counters_of_passers_are_apart_and_stay_when_full() {
        let mut passed = Passed(0);
        for _ in 0..3 {
            passed.add(0b1010);
        }
        passed.take(0b0010);
        let counts = |passed: Passed| [0, 1, 2, 3, 4, 5, 6, 7].map(|tag| passed.count(tag));
        assert_eq!(counts(passed), [0, 0, 2, 0, 0, 0, 0, 0]);
        passed.take(2);
        passed.take(2);
        assert_eq!(counts(passed), [0; 8]);
        for _ in 0..20 {
            passed.add(7);
        }
        for _ in 0..20 {
            passed.take(7);
        }
        assert_eq!(counts(passed), [0, 0, 0, 0, 0, 0, 0, 15]);
    }

    #[test]
    fn one_tag_for_all_still_works() {
        let mut index = Index::new();
        for id in 0..8000 {
            index.insert(0xABCD_1234 << 32, id);
        }
        assert_eq!(index.find(0xABCD_1234 << 32, |id| id == 7777), Some(7777));
        // Counters are full here, and a search in vain ends nevertheless.
        assert_eq!(index.find(0xABCD_1234 << 32, |_| false), None);
        assert!(!index.remove(0xABCD_1234 << 32, 8000));
        assert!(index.directory.len() <= 1 << DEPTH_MAX);
        for id in 0..8000 {
            assert!(index.remove(0xABCD_1234 << 32, id));
        }
        assert_eq!(index.heap_bytes(), 0);
    }
}
