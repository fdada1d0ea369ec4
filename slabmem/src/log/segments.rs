//! The segments of a log: where bytes are appended, and how holes are closed.
//!
//! A record is `slot: u32 | len: u16 | bytes`. The slot is that of the index, so that whoever walks
//! a segment can tell the living from the dead: a record lives where the index entry at its slot
//! points to it. One segment's worth of the limit is never filled but kept for moving.
#![forbid(unsafe_code)]

use super::LogError;
use crate::Slab;
use crate::sys::Pages;

pub(super) const SEGMENT_BYTES: usize = 64 << 10;
pub(super) const HEADER_BYTES: usize = 6;

/// Segments that a place can name.
const SEGMENTS_MAX: usize = 1 << 16;

/// A segment with more live bytes is not worth moving, not even at the limit: the longest record
/// would not find room.
const LIVE_MAX: usize = SEGMENT_BYTES - SEGMENT_BYTES / 8;

/// Where the limit is far, holes are closed where they are this much of a segment.
const LIVE_CLEANED: usize = SEGMENT_BYTES / 2;

/// A segment and an offset in it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Place(u32);

impl Place {
    /// What an entry holds while its record is being written. No walk happens meanwhile.
    pub(super) const NOWHERE: Self = Self(u32::MAX);

    fn new(segment: usize, offset: usize) -> Self {
        Self((segment as u32) << 16 | offset as u32)
    }

    fn segment(self) -> usize {
        (self.0 >> 16) as usize
    }

    fn offset(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// Absent where the number is vacant.
    pages: Option<Pages>,
    fill: usize,
    /// Bytes of live records, with headers.
    live: usize,
}

pub(super) struct Segments {
    all: Vec<Segment>,
    /// Numbers without pages.
    vacant: Vec<u16>,
    /// The memory of a segment that was cleaned, for the next.
    spare: Option<Pages>,
    /// Where records are appended; a segment that does not exist at first.
    open: usize,
    count_max: usize,
    moved_bytes: u64,
}

impl Segments {
    pub(super) const fn with_limit(max_bytes: usize) -> Self {
        let count = max_bytes / SEGMENT_BYTES;
        Self {
            all: Vec::new(),
            vacant: Vec::new(),
            spare: None,
            open: usize::MAX,
            count_max: if count > SEGMENTS_MAX {
                SEGMENTS_MAX
            } else {
                count
            },
            moved_bytes: 0,
        }
    }

    pub(super) fn max_bytes(&self) -> usize {
        self.count_max * SEGMENT_BYTES
    }

    pub(super) fn mapped_bytes(&self) -> usize {
        (self.in_use() + usize::from(self.spare.is_some())) * SEGMENT_BYTES
    }

    pub(super) fn moved_bytes(&self) -> u64 {
        self.moved_bytes
    }

    fn in_use(&self) -> usize {
        self.all.len() - self.vacant.len()
    }

    /// Sees to it that a record of `len` bytes fits into the open segment.
    #[inline]
    pub(super) fn make_room(
        &mut self,
        len: usize,
        index: &mut Slab<Place>,
    ) -> Result<(), LogError> {
        match self.all.get(self.open) {
            Some(open) if open.fill + HEADER_BYTES + len <= SEGMENT_BYTES => Ok(()),
            _ => self.open_another(index),
        }
    }

    /// Opens a segment with room for the longest record.
    #[cold]
    #[inline(never)]
    fn open_another(&mut self, index: &mut Slab<Place>) -> Result<(), LogError> {
        let at_limit = self.in_use() + 1 >= self.count_max;
        let worth_it = if at_limit { LIVE_MAX } else { LIVE_CLEANED };
        if let Some(victim) = self.emptiest(worth_it) {
            return self.clean(victim, index);
        }
        if at_limit {
            return Err(LogError::Full);
        }
        self.open = self.map()?;
        Ok(())
    }

    /// The segment with the fewest live bytes, if those are at most `live_max`.
    fn emptiest(&self, live_max: usize) -> Option<usize> {
        let in_use = self.all.iter().enumerate();
        let (number, segment) = in_use
            .filter(|(_, segment)| segment.pages.is_some())
            .min_by_key(|(_, segment)| segment.live)?;
        (segment.live <= live_max).then_some(number)
    }

    /// Makes an empty segment.
    fn map(&mut self) -> Result<usize, LogError> {
        let pages = match self.spare.take() {
            Some(pages) => pages,
            None => Pages::map(SEGMENT_BYTES).ok_or(LogError::NoMemory)?,
        };
        let number = match self.vacant.pop() {
            Some(number) => usize::from(number),
            None => {
                self.all.push(Segment::default());
                self.all.len() - 1
            }
        };
        self.all[number].pages = Some(pages);
        Ok(number)
    }

    /// Moves the live records of a segment to a new one, which is then the open one.
    fn clean(&mut self, victim: usize, index: &mut Slab<Place>) -> Result<(), LogError> {
        self.open = self.map()?;
        self.drain(victim, index);
        Ok(())
    }

    /// Moves the live records of a segment to the open one, which is another and has room for all.
    fn drain(&mut self, victim: usize, index: &mut Slab<Place>) {
        let Some(pages) = self.all[victim].pages.take() else {
            return;
        };
        let mut at = 0;
        while at < self.all[victim].fill {
            let (slot, len) = header(&pages[at..]);
            let end = at + HEADER_BYTES + len;
            if let Some(entry) = index.get_at_mut(slot)
                && *entry == Place::new(victim, at)
            {
                *entry = self.append(slot, len, &[&pages[at + HEADER_BYTES..end]]);
                self.moved_bytes += len as u64;
            }
            at = end;
        }
        self.vacate(victim, pages);
    }

    /// Gives a number free whose pages hold nothing that lives.
    fn vacate(&mut self, number: usize, pages: Pages) {
        self.all[number] = Segment::default();
        self.vacant.push(number as u16);
        self.spare.get_or_insert(pages);
    }

    /// Appends a record for which [`make_room`](Self::make_room) has found room.
    #[inline]
    pub(super) fn append(&mut self, slot: u32, len: usize, parts: &[&[u8]]) -> Place {
        let segment = &mut self.all[self.open];
        let place = Place::new(self.open, segment.fill);
        let pages = segment.pages.as_mut().expect("the open segment has pages");
        let mut rest = &mut pages[segment.fill..][..HEADER_BYTES + len];
        let mut write = |bytes: &[u8]| {
            let (front, back) = core::mem::take(&mut rest).split_at_mut(bytes.len());
            front.copy_from_slice(bytes);
            rest = back;
        };
        write(&slot.to_le_bytes());
        write(&(len as u16).to_le_bytes());
        parts.iter().for_each(|part| write(part));
        segment.fill += HEADER_BYTES + len;
        segment.live += HEADER_BYTES + len;
        place
    }

    /// The record at a place that the index gave.
    #[inline]
    pub(super) fn record(&self, place: Place) -> Option<&[u8]> {
        let pages = self.all.get(place.segment())?.pages.as_deref()?;
        let start = place.offset() + HEADER_BYTES;
        let (_, len) = header(pages.get(place.offset()..)?);
        pages.get(start..start + len)
    }

    #[inline]
    pub(super) fn record_mut(&mut self, place: Place) -> Option<&mut [u8]> {
        let pages = self.all.get_mut(place.segment())?.pages.as_deref_mut()?;
        let start = place.offset() + HEADER_BYTES;
        let (_, len) = header(pages.get(place.offset()..)?);
        pages.get_mut(start..start + len)
    }

    /// Takes note that the record at a place is dead, and returns its length.
    #[inline]
    pub(super) fn forget(&mut self, place: Place) -> usize {
        let len = self.record(place).map_or(0, <[u8]>::len);
        let segment = &mut self.all[place.segment()];
        segment.live -= HEADER_BYTES + len;
        if segment.live == 0 {
            self.vacate_dead(place.segment());
        }
        len
    }

    /// Starts the open segment anew, or gives another back, in which nothing lives.
    #[cold]
    fn vacate_dead(&mut self, number: usize) {
        if number == self.open {
            self.all[number].fill = 0;
        } else if let Some(pages) = self.all[number].pages.take() {
            self.vacate(number, pages);
        }
    }

    /// Packs what lives in segments with holes, and gives the spare back.
    pub(super) fn trim(&mut self, index: &mut Slab<Place>) {
        self.open = usize::MAX;
        for victim in 0..self.all.len() {
            let Segment { pages, live, .. } = &self.all[victim];
            if pages.is_none() || *live > LIVE_MAX || victim == self.open {
                continue;
            }
            let open = self.all.get(self.open);
            let fits = open.is_some_and(|open| open.fill + live <= SEGMENT_BYTES);
            if fits {
                self.drain(victim, index);
            } else if self.clean(victim, index).is_err() {
                break;
            }
        }
        self.spare = None;
    }
}

/// Slot and length of the record that these bytes begin with.
#[inline]
fn header(bytes: &[u8]) -> (u32, usize) {
    match bytes {
        [a, b, c, d, e, f, ..] => (
            u32::from_le_bytes([*a, *b, *c, *d]),
            usize::from(u16::from_le_bytes([*e, *f])),
        ),
        _ => (u32::MAX, 0),
    }
}
