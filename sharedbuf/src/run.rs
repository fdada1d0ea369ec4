//! Many frames in one block, shared by all their receivers.
#![forbid(unsafe_code)]

use core::fmt;
use std::collections::VecDeque;

use crate::{ReadBlock, SharedSlice};

/// Full blocks that a builder keeps, to use them again when nobody shares them any more.
const BLOCKS_KEPT: usize = 4;

/// Gathers frames that the same receivers get, so that each receiver is given one slice for all.
///
/// A server that routes a burst of messages to the same thousand receivers encodes each once into
/// a builder, [`seal`](Self::seal)s it, and gives every queue a handle of the whole
/// ([`WriteQueue::push_run`](crate::WriteQueue::push_run)): one segment a receiver, however many
/// messages. Runs follow each other in one block until it is full; then a block is taken that
/// nobody shares any more, or a new one.
///
/// # Examples
/// ```
/// use sharedbuf::{Class, RunBuilder, WriteQueue};
///
/// let mut queues = [WriteQueue::new(), WriteQueue::new()];
/// let mut builder = RunBuilder::new(16 << 10);
/// for number in 0..100_u8 {
///     assert!(builder.push(&[number; 20]));
/// }
/// let run = builder.seal().unwrap();
/// for (queue, handle) in queues.iter_mut().zip(run.bytes().retain_n(2)) {
///     queue.push_run(&run, handle, Class::Droppable);
///     assert_eq!((queue.messages(), queue.bytes()), (100, 2000));
/// }
/// ```
pub struct RunBuilder {
    block: ReadBlock,
    /// Where the frames that are not sealed begin in the block.
    start: usize,
    /// The lengths of the frames of the run that is built, or was sealed last.
    lens: Vec<u32>,
    is_sealed: bool,
    used: VecDeque<ReadBlock>,
}

impl RunBuilder {
    /// Makes a builder whose runs have at most `block_bytes` bytes. Allocates a block.
    ///
    /// # Panics
    /// Beyond [`FRAME_BYTES_MAX`](crate::FRAME_BYTES_MAX).
    #[must_use]
    pub fn new(block_bytes: usize) -> Self {
        assert!(
            block_bytes <= crate::FRAME_BYTES_MAX,
            "a run is no longer than a frame may be"
        );
        Self {
            block: ReadBlock::with_capacity(block_bytes),
            start: 0,
            lens: Vec::new(),
            is_sealed: false,
            used: VecDeque::new(),
        }
    }

    /// Adds a copy of a frame. False where it does not fit into this run: then the caller seals
    /// and tries again, and a frame for which an empty builder has no room goes another way. Empty
    /// frames are ignored.
    #[must_use = "where it is false, the frame was not added"]
    pub fn push(&mut self, frame: &[u8]) -> bool {
        self.push_with(frame.len(), |place| place.copy_from_slice(frame))
    }

    /// As [`push`](Self::push), for a frame of `len` bytes that `write` encodes in place. The
    /// bytes are initialised before, but of no meaning.
    #[must_use = "where it is false, the frame was not added"]
    pub fn push_with(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        if len == 0 {
            return true;
        }
        if core::mem::take(&mut self.is_sealed) {
            self.lens.clear();
        }
        if len > self.block.spare_len() && (!self.lens.is_empty() || !self.renew(len)) {
            return false;
        }
        write(&mut self.block.spare_mut()[..len]);
        self.block.advance(len);
        self.lens.push(len as u32);
        true
    }

    /// Returns how many frames are waiting to be sealed.
    #[must_use]
    pub fn frames(&self) -> usize {
        if self.is_sealed { 0 } else { self.lens.len() }
    }

    /// Returns how many bytes they have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.block.len() - self.start
    }

    /// Ends the run and returns it, or nothing where no frame was added since the last. No copy.
    ///
    /// Its lengths stay in the builder until the next frame is added, so it is pushed to all
    /// receivers first; its bytes live as long as handles of them do.
    #[must_use = "the frames of a run that is not pushed are lost"]
    pub fn seal(&mut self) -> Option<Run<'_>> {
        if self.frames() == 0 {
            return None;
        }
        let bytes = self.block.share(self.start..self.block.len());
        self.start = self.block.len();
        self.is_sealed = true;
        Some(Run {
            bytes,
            lens: &self.lens,
        })
    }

    /// Takes an empty block, where frames of that length fit into one.
    fn renew(&mut self, len: usize) -> bool {
        let capacity = self.block.capacity();
        if len > capacity {
            return false;
        }
        self.start = 0;
        if self.block.reset() {
            return true;
        }
        let old = self.used.iter_mut().position(ReadBlock::reset);
        let next = old.and_then(|at| self.used.remove(at));
        let next = next.unwrap_or_else(|| ReadBlock::with_capacity(capacity));
        self.used
            .push_back(core::mem::replace(&mut self.block, next));
        if self.used.len() > BLOCKS_KEPT {
            self.used.pop_front();
        }
        true
    }
}

impl fmt::Debug for RunBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunBuilder")
            .field("frames", &self.frames())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// Frames behind each other in one slice, with their boundaries: what
/// [`RunBuilder::seal`] made.
#[derive(Debug)]
pub struct Run<'a> {
    bytes: SharedSlice,
    lens: &'a [u32],
}

impl Run<'_> {
    /// Returns all frames, behind each other. Handles for the receivers are taken from it, best
    /// by [`SharedSlice::retain_n`].
    #[must_use]
    pub const fn bytes(&self) -> &SharedSlice {
        &self.bytes
    }

    /// Returns how many frames there are: one at least.
    #[must_use]
    pub const fn frames(&self) -> usize {
        self.lens.len()
    }

    /// Returns the lengths of the frames, in bytes and in their order.
    #[must_use]
    pub const fn lens(&self) -> &[u32] {
        self.lens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_each_other_until_the_block_is_full() {
        let mut builder = RunBuilder::new(100);
        assert!(builder.seal().is_none());
        assert!(builder.push(&[1; 30]) && builder.push(&[]) && builder.push(&[2; 30]));
        assert_eq!((builder.frames(), builder.bytes()), (2, 60));
        let first = builder.seal().unwrap().bytes().clone();
        assert_eq!((builder.frames(), builder.bytes()), (0, 0));
        assert!(builder.seal().is_none());
        assert!(builder.push(&[3; 40]));
        assert!(!builder.push(&[4; 1]));
        let run = builder.seal().unwrap();
        assert_eq!((run.frames(), run.lens()), (1, &[40][..]));
        assert!(run.bytes().same_buffer(&first));
        drop(run);
        assert!(builder.push(&[5; 100]));
        let second = builder.seal().unwrap().bytes().clone();
        assert!(!second.same_buffer(&first));
        assert_eq!(first[..], [[1; 30], [2; 30]].concat());
        assert!(!builder.push(&[6; 101]));
        drop(first);
        // The first block is free again.
        assert!(builder.push(&[7; 100]));
        assert_eq!((builder.used.len(), second[0]), (1, 5));
    }
}
