//! The queue while there is something in it: segments to be sent, and the frames that they make up.
//!
//! The bytes of the frames, in order, are the bytes of the segments, in order. A segment is a run
//! of the queue's own bytes or a slice, of any number of frames. In a segment no droppable frame
//! comes after one that is not: so dropping takes from the front of a segment and, but for one that
//! was sent in part, never cuts one in two. What is dropped leaves an empty segment
//! and an empty frame behind, so that nothing shifts.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::GATHER_BYTES_MIN;
use super::blocks::{Blocks, CAPACITY_MAX, Place};
use super::frames::{Class, Frame};
use crate::{ReadBlock, SharedSlice};

/// What a queue keeps of its index when it goes to the cache.
const CACHED_SEGMENTS_MAX: usize = 256;
const CACHED_FRAMES_MAX: usize = 1024;

/// A part of the byte stream.
#[derive(Debug)]
enum Segment {
    Own { place: Place, len: u32 },
    Shared(SharedSlice),
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Segment>() == 16);

impl Segment {
    const GONE: Self = Self::Own {
        place: Place::NOWHERE,
        len: 0,
    };

    fn len(&self) -> usize {
        match self {
            Self::Own { len, .. } => *len as usize,
            Self::Shared(slice) => slice.len(),
        }
    }

    /// Drops the first `n` of more than `n` bytes.
    fn trim(&mut self, n: usize, blocks: &mut Blocks) {
        debug_assert!(n < self.len());
        match self {
            Self::Own { place, len } => {
                blocks.release(*place, n);
                *place = place.after(n);
                *len -= n as u32;
            }
            Self::Shared(slice) => slice.advance(n),
        }
    }

    /// Drops all bytes.
    fn remove(&mut self, blocks: &mut Blocks) {
        if let Self::Own {
            place,
            len: len @ 1..,
        } = self
        {
            blocks.release(*place, *len as usize);
        }
        *self = Self::GONE;
    }

    /// Cuts the segment: keeps `at` bytes and returns the others.
    fn split_off(&mut self, at: usize) -> Self {
        match self {
            Self::Own { place, len } => {
                let back = Self::Own {
                    place: place.after(at),
                    len: *len - at as u32,
                };
                *len = at as u32;
                back
            }
            Self::Shared(slice) => Self::Shared(slice.split_off(at)),
        }
    }
}

/// Where the search for a droppable frame goes on: no frame before can be dropped.
#[derive(Copy, Clone, Debug, Default)]
struct Cursor {
    frame: usize,
    /// The segment and the offset in it where that frame begins; an offset at the end of a segment
    /// stands for the beginning of the next.
    segment: usize,
    offset: usize,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inner {
    segments: VecDeque<Segment>,
    frames: VecDeque<Frame>,
    blocks: Blocks,
    bytes: usize,
    messages: usize,
    /// How many bytes of the first frame have been sent.
    sent: usize,
    cursor: Cursor,
}

impl Inner {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes memory of the pool where the next frame may need some.
    #[cfg(feature = "slabmem")]
    #[inline]
    pub(super) fn stock_up(&mut self, pool: &mut slabmem::Pool) {
        self.blocks.stock_up(pool);
    }

    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Queues the frame of `len` bytes, not zero, that `build` makes.
    #[inline]
    pub(super) fn push(&mut self, len: usize, class: Class, build: impl FnOnce(&mut Builder<'_>)) {
        let frame = Frame::new(len, class);
        let last_is_kept = self
            .frames
            .back()
            .is_some_and(|frame| !frame.is_droppable());
        let may_join = !(last_is_kept && class == Class::Droppable);
        let mut builder = Builder {
            inner: self,
            may_join,
            len: 0,
        };
        build(&mut builder);
        debug_assert_eq!(builder.len, len);
        self.frames.push_back(frame);
        self.bytes += len;
        self.messages += 1;
    }

    /// Queues frames of these lengths, which are the bytes of the slice.
    pub(super) fn push_run(&mut self, lens: &[u32], slice: SharedSlice, class: Class) {
        let (len, first) = (slice.len(), self.frames.len());
        self.push(len, class, |frame| frame.give(slice));
        // Not one frame of all bytes, but each.
        self.frames.truncate(first);
        let frames = lens.iter().map(|len| Frame::new(*len as usize, class));
        self.frames.extend(frames);
        self.messages += lens.len() - 1;
    }

    pub(super) fn fill<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        // The place and length of the entry filled last, where it is of own bytes.
        let mut run: Option<(Place, usize)> = None;
        for segment in &self.segments {
            let len = segment.len();
            if len == 0 {
                continue;
            }
            let bytes = match segment {
                Segment::Own { place, .. } => {
                    if let Some((start, before)) = &mut run
                        && start.after(*before) == *place
                    {
                        *before += len;
                        out[filled - 1] = IoSlice::new(self.blocks.bytes(*start, *before));
                        continue;
                    }
                    run = Some((*place, len));
                    self.blocks.bytes(*place, len)
                }
                Segment::Shared(slice) => {
                    run = None;
                    slice.as_slice()
                }
            };
            let Some(entry) = out.get_mut(filled) else {
                break;
            };
            *entry = IoSlice::new(bytes);
            filled += 1;
        }
        filled
    }

    /// Takes note that fewer bytes than there are have been sent.
    pub(super) fn advance(&mut self, written: usize) {
        debug_assert!(written < self.bytes);
        self.bytes -= written;
        let (mut left, mut gone_segments, mut trimmed) = (written, 0, 0);
        while let Some(segment) = self.segments.front_mut() {
            let len = segment.len();
            if len > left {
                if left > 0 {
                    segment.trim(left, &mut self.blocks);
                    trimmed = left;
                }
                break;
            }
            segment.remove(&mut self.blocks);
            left -= len;
            self.segments.pop_front();
            gone_segments += 1;
        }
        let (mut left, mut gone_frames) = (written + self.sent, 0);
        while let Some(frame) = self.frames.front() {
            if frame.len() > left {
                break;
            }
            left -= frame.len();
            self.messages -= usize::from(!frame.is_gone());
            self.frames.pop_front();
            gone_frames += 1;
        }
        self.sent = left;
        self.shift_cursor(gone_frames, gone_segments, trimmed);
    }

    /// Keeps the cursor where it was while the front moves.
    fn shift_cursor(&mut self, frames: usize, segments: usize, trimmed: usize) {
        let cursor = &mut self.cursor;
        if cursor.frame <= frames || cursor.segment < segments {
            // All before the cursor is gone. Where its frame begins is the front, or has been sent.
            *cursor = Cursor {
                frame: cursor.frame.saturating_sub(frames),
                ..Cursor::default()
            };
            return;
        }
        cursor.frame -= frames;
        cursor.segment -= segments;
        if cursor.segment == 0 {
            cursor.offset -= trimmed;
        }
    }

    /// Drops the oldest frame that may be, and returns its length.
    pub(super) fn drop_oldest(&mut self) -> Option<usize> {
        let len = self.seek_droppable()?;
        let index = self.cursor.frame;
        let mut at = self.cursor.segment;
        if self.cursor.offset > 0 {
            let back = self.segments[at].split_off(self.cursor.offset);
            at += 1;
            self.segments.insert(at, back);
        }
        let mut left = len;
        while left > 0 {
            let segment = &mut self.segments[at];
            let here = segment.len();
            if here > left {
                segment.trim(left, &mut self.blocks);
                break;
            }
            segment.remove(&mut self.blocks);
            left -= here;
            at += 1;
        }
        self.frames[index].remove();
        self.bytes -= len;
        self.messages -= 1;
        self.cursor = Cursor {
            frame: index + 1,
            segment: at,
            offset: 0,
        };
        self.sweep_front();
        Some(len)
    }

    /// Drops every frame but one that was sent in part.
    pub(super) fn drop_unsent(&mut self) {
        let begun = match self.frames.front() {
            Some(frame) if self.sent > 0 => frame.len() - self.sent,
            _ => 0,
        };
        let (mut left, mut kept) = (begun, 0);
        while left > 0 {
            let segment = &mut self.segments[kept];
            let len = segment.len();
            if len > left {
                segment.split_off(left).remove(&mut self.blocks);
            }
            left -= len.min(left);
            kept += 1;
        }
        for mut segment in self.segments.drain(kept..) {
            segment.remove(&mut self.blocks);
        }
        let frames = usize::from(begun > 0);
        self.frames.truncate(frames);
        (self.bytes, self.messages) = (begun, frames);
        self.cursor = Cursor::default();
    }

    /// Moves the cursor to the oldest droppable frame and returns its length.
    fn seek_droppable(&mut self) -> Option<usize> {
        loop {
            // Frames may have come since the cursor stopped at the end.
            self.settle_cursor();
            let frame = *self.frames.get(self.cursor.frame)?;
            let sent = if self.cursor.frame == 0 { self.sent } else { 0 };
            if frame.is_droppable() && !frame.is_gone() && sent == 0 {
                return Some(frame.len());
            }
            self.cursor.offset += frame.len() - sent;
            self.cursor.frame += 1;
        }
    }

    /// Moves the cursor to the segment in which its offset lies, or to the end of the last.
    fn settle_cursor(&mut self) {
        let cursor = &mut self.cursor;
        while cursor.segment + 1 < self.segments.len() {
            let len = self.segments[cursor.segment].len();
            if len > cursor.offset {
                break;
            }
            cursor.offset -= len;
            cursor.segment += 1;
        }
    }

    /// Removes what was dropped from the front.
    fn sweep_front(&mut self) {
        let (mut frames, mut segments) = (0, 0);
        while self.frames.front().is_some_and(|frame| frame.is_gone()) {
            self.frames.pop_front();
            frames += 1;
        }
        while self
            .segments
            .front()
            .is_some_and(|segment| segment.len() == 0)
        {
            self.segments.pop_front();
            segments += 1;
        }
        self.shift_cursor(frames, segments, 0);
    }

    pub(super) fn copy_out_small(&mut self) {
        for segment in &mut self.segments {
            let Segment::Shared(slice) = segment else {
                continue;
            };
            if slice.len() >= slice.buffer_len() / 4 {
                continue;
            }
            *segment = match self.blocks.copy(slice) {
                Some(place) => Segment::Own {
                    place,
                    len: slice.len() as u32,
                },
                None => Segment::Shared(SharedSlice::copy_from(slice)),
            };
        }
    }

    pub(super) fn pinned_bytes(&self) -> usize {
        let mut last: Option<&SharedSlice> = None;
        let mut pinned = self.blocks.capacity();
        for segment in &self.segments {
            let Segment::Shared(slice) = segment else {
                continue;
            };
            if !last.is_some_and(|last| last.same_buffer(slice)) {
                pinned += slice.buffer_len();
            }
            last = Some(slice);
        }
        pinned
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let shared = self.segments.iter().map(|segment| match segment {
            Segment::Shared(slice) => slice.heap_share(),
            Segment::Own { .. } => 0,
        });
        size_of::<Self>()
            + self.segments.capacity() * size_of::<Segment>()
            + self.frames.capacity() * size_of::<Frame>()
            + self.blocks.heap_bytes()
            + shared.sum::<usize>()
    }

    /// Forgets everything but some memory.
    pub(super) fn reset(&mut self) {
        self.segments.clear();
        if self.segments.capacity() > CACHED_SEGMENTS_MAX {
            self.segments.shrink_to(CACHED_SEGMENTS_MAX);
        }
        self.frames.clear();
        if self.frames.capacity() > CACHED_FRAMES_MAX {
            self.frames.shrink_to(CACHED_FRAMES_MAX);
        }
        self.blocks.reset();
        (self.bytes, self.messages, self.sent) = (0, 0, 0);
        self.cursor = Cursor::default();
    }
}

/// Appends the pieces of one frame.
pub(super) struct Builder<'a> {
    inner: &'a mut Inner,
    /// Whether the next own bytes may become part of the last segment.
    may_join: bool,
    len: usize,
}

impl Builder<'_> {
    /// Appends a copy.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.inner.blocks.copy(bytes) {
            Some(place) => self.append_own(place, bytes.len()),
            None => self.append(Segment::Shared(SharedSlice::copy_from(bytes))),
        }
    }

    /// Appends bytes that are written in place.
    #[inline]
    pub(super) fn encode(&mut self, len: usize, write: impl FnOnce(&mut [u8])) {
        match self.inner.blocks.encode(len, write) {
            Ok(place) => self.append_own(place, len),
            Err(write) => {
                debug_assert!(len > CAPACITY_MAX || self.inner.segments.len() > 1);
                let mut block = ReadBlock::with_capacity(len);
                write(block.spare_mut());
                block.advance(len);
                self.append(Segment::Shared(block.freeze()));
            }
        }
    }

    /// Appends a slice, by reference where it is long.
    #[inline]
    pub(super) fn give(&mut self, slice: SharedSlice) {
        if slice.len() < GATHER_BYTES_MIN {
            self.copy(&slice);
        } else {
            self.append(Segment::Shared(slice));
        }
    }

    /// As [`give`](Self::give), but takes a count only where it needs one.
    #[inline]
    pub(super) fn lend(&mut self, slice: &SharedSlice) {
        if slice.len() < GATHER_BYTES_MIN {
            self.copy(slice);
        } else {
            self.append(Segment::Shared(slice.clone()));
        }
    }

    #[inline]
    fn append_own(&mut self, place: Place, len: usize) {
        if let Some(Segment::Own {
            place: start,
            len: before @ 1..,
        }) = self.inner.segments.back_mut()
            && self.may_join
            && start.after(*before as usize) == place
        {
            *before += len as u32;
            self.len += len;
            return;
        }
        self.append(Segment::Own {
            place,
            len: len as u32,
        });
    }

    fn append(&mut self, segment: Segment) {
        self.len += segment.len();
        self.may_join = true;
        self.inner.segments.push_back(segment);
    }
}
