//! What a connection still has to send.
#![forbid(unsafe_code)]

use core::fmt;
use std::io::IoSlice;

use crate::{Run, SharedSlice};

mod blocks;
mod cache;
mod frames;
mod inner;

pub use cache::BlockCache;
pub use frames::Class;

use inner::Inner;

/// From this length on, in bytes, a slice is referenced by the queue; shorter ones are copied.
///
/// A reference costs an entry of the `writev` vector and two atomic operations, and pins its
/// buffer; a copy takes memory of the queue. On socket pairs a copy was cheaper at twice this
/// length and dearer at four times (`sharedbuf/gather` of the benches).
pub const GATHER_BYTES_MIN: usize = 512;

/// What a single frame may have at most, in bytes.
pub const FRAME_BYTES_MAX: usize = (1 << 30) - 1;

/// The frames that a connection still has to send, ready for `writev`.
///
/// Small frames are copied behind each other, so that a thousand of them are one entry of the
/// vector; large ones are referenced. The queue itself is 8 bytes; empty, it has no heap, and a
/// [`BlockCache`] keeps its memory for the next queue that fills.
///
/// A frame is what is counted, and what is dropped whole: [`drop_oldest`](Self::drop_oldest) never
/// takes one of which a byte has been sent. It has 1 to [`FRAME_BYTES_MAX`] bytes; pushing a
/// longer one panics, pushing an empty one does nothing. How much may be queued is for the caller
/// to decide, by [`bytes`](Self::bytes), [`messages`](Self::messages) and
/// [`pinned_bytes`](Self::pinned_bytes); own bytes come in blocks of up to 16 KiB.
///
/// # Examples
/// ```
/// use std::io::{IoSlice, Write};
///
/// use sharedbuf::{Class, SharedSlice, WriteQueue};
///
/// let payload = SharedSlice::from(vec![7; 1000]);
/// let mut queue = WriteQueue::new();
/// queue.push_copy(b"\xd0\x00", Class::Control);
/// queue.push_parts(b"head", payload, Class::Droppable);
/// assert_eq!((queue.bytes(), queue.messages()), (1006, 2));
///
/// let mut socket = Vec::new();
/// while !queue.is_empty() {
///     let mut slices = [IoSlice::new(&[]); 8];
///     let n = queue.fill_io_slices(&mut slices);
///     assert_eq!(n, 2);
///     let written = socket.write_vectored(&slices[..n])?;
///     queue.advance(written);
/// }
/// assert_eq!(socket.len(), 1006);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Default)]
pub struct WriteQueue(Option<Box<Inner>>);

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<WriteQueue>() == 8);

/// The pieces of a frame of which most is shared by all its receivers, in the order of the wire.
///
/// Short pieces are copied into the queue, long ones are referenced. Callers who have the pieces
/// at hand but no counts to give away use [`WriteQueue::push_pieces`].
#[derive(Clone, Debug, Default)]
pub struct Recipe<'a> {
    /// What comes first, the same for a class of receivers.
    pub head: SharedSlice,
    /// Two bytes of this receiver's own, such as a packet id.
    pub patch: [u8; 2],
    /// More bytes of this receiver's own, or none.
    pub own: &'a [u8],
    /// What comes last, the same for all.
    pub tail: SharedSlice,
}

/// What [`WriteQueue::drop_oldest`] dropped.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Dropped {
    /// The length of the frame.
    pub bytes: usize,
}

impl WriteQueue {
    /// Makes an empty queue, without heap.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Queues a copy of a frame.
    ///
    /// # Panics
    /// Beyond [`FRAME_BYTES_MAX`].
    ///
    /// # Complexity
    /// A copy; allocates where the current block is full.
    #[inline]
    pub fn push_copy(&mut self, frame: &[u8], class: Class) {
        if !frame.is_empty() {
            self.inner()
                .push(frame.len(), class, |build| build.copy(frame));
        }
    }

    /// Queues a frame of `len` bytes which `write` encodes in place.
    ///
    /// The bytes are zero before. If `write` panics, nothing is queued.
    ///
    /// # Panics
    /// Beyond [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn push_with(&mut self, len: usize, class: Class, write: impl FnOnce(&mut [u8])) {
        if len > 0 {
            self.inner()
                .push(len, class, |frame| frame.encode(len, write));
        }
    }

    /// Queues a frame by reference, or by copy where it is shorter than [`GATHER_BYTES_MIN`].
    ///
    /// # Panics
    /// Beyond [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn push_slice(&mut self, slice: SharedSlice, class: Class) {
        if !slice.is_empty() {
            self.inner()
                .push(slice.len(), class, |frame| frame.give(slice));
        }
    }

    /// Queues one frame of a copied head and a shared tail.
    ///
    /// # Panics
    /// Where both together are beyond [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn push_parts(&mut self, head: &[u8], tail: SharedSlice, class: Class) {
        let len = head.len() + tail.len();
        if len > 0 {
            self.inner().push(len, class, |frame| {
                frame.copy(head);
                frame.give(tail);
            });
        }
    }

    /// Queues one frame of copied pieces and a tail that is referenced only where it is long.
    ///
    /// Unlike the others this needs no count to give away: a short tail costs no atomic operation
    /// at all.
    ///
    /// # Panics
    /// Where all together are beyond [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn push_pieces(&mut self, pieces: &[&[u8]], tail: &SharedSlice, class: Class) {
        let len = tail.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if len > 0 {
            self.inner().push(len, class, |frame| {
                pieces.iter().for_each(|piece| frame.copy(piece));
                frame.lend(tail);
            });
        }
    }

    /// Queues one frame by its recipe.
    ///
    /// # Panics
    /// Where all together are beyond [`FRAME_BYTES_MAX`].
    #[inline]
    pub fn push_recipe(&mut self, recipe: Recipe<'_>, class: Class) {
        let Recipe {
            head,
            patch,
            own,
            tail,
        } = &recipe;
        let len = head.len() + patch.len() + own.len() + tail.len();
        self.inner().push(len, class, |frame| {
            frame.give(recipe.head);
            frame.copy(&recipe.patch);
            frame.copy(recipe.own);
            frame.give(recipe.tail);
        });
    }

    /// Queues all frames of a run by a handle of its bytes, or by copy where they are shorter than
    /// [`GATHER_BYTES_MIN`] together.
    ///
    /// They are counted and dropped one by one, as if each had been pushed.
    ///
    /// # Panics
    /// Where the handle is not of the run's length.
    #[inline]
    pub fn push_run(&mut self, run: &Run<'_>, handle: SharedSlice, class: Class) {
        assert!(
            handle.len() == run.bytes().len(),
            "a handle of a run has all its bytes"
        );
        self.inner().push_run(run.lens(), handle, class);
    }

    /// Fills `out` from the front with what is to be sent next, and returns how many entries that
    /// took.
    ///
    /// Copied frames that lie behind each other share an entry. What does not fit into `out` is
    /// left for the next call.
    ///
    /// # Complexity
    /// Linear in the entries, not in the frames.
    pub fn fill_io_slices<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.fill(out))
    }

    /// Takes note that the first `written` bytes have been sent. With the last byte all heap is
    /// freed.
    ///
    /// # Panics
    /// Past [`bytes`](Self::bytes).
    #[inline]
    pub fn advance(&mut self, written: usize) {
        assert!(written <= self.bytes(), "no more is sent than was queued");
        if written == self.bytes() {
            self.0 = None;
        } else if let Some(inner) = &mut self.0 {
            inner.advance(written);
        }
    }

    /// Returns how many bytes there are to be sent.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.bytes())
    }

    /// Returns how many frames of any class have not been sent to their end.
    #[inline]
    #[must_use]
    pub fn messages(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.messages())
    }

    /// Returns whether there is nothing to send.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Drops the oldest frame of [`Class::Droppable`] of which no byte has been sent. `None` if
    /// there is none.
    ///
    /// # Complexity
    /// O(1) amortised: frames that may not be dropped are passed over once, not at every call.
    pub fn drop_oldest(&mut self) -> Option<Dropped> {
        let inner = self.0.as_mut()?;
        let bytes = inner.drop_oldest()?;
        if inner.bytes() == 0 {
            self.0 = None;
        }
        Some(Dropped { bytes })
    }

    /// Drops every frame of which no byte has been sent, whatever its class.
    ///
    /// For a connection that is to end: what is pushed now is what its peer reads next.
    ///
    /// # Complexity
    /// Linear in the frames.
    pub fn drop_unsent(&mut self) {
        if let Some(inner) = &mut self.0 {
            inner.drop_unsent();
            if inner.bytes() == 0 {
                self.0 = None;
            }
        }
    }

    /// Copies every slice that is shorter than a quarter of the buffer that it keeps alive.
    ///
    /// For a connection whose socket takes no more: what it has queued may stay for long, and
    /// should not hold the large blocks of others.
    pub fn copy_out_small(&mut self) {
        if let Some(inner) = &mut self.0 {
            inner.copy_out_small();
        }
    }

    /// Returns how many bytes of memory the queue keeps alive: its blocks, and the buffers of its
    /// slices.
    ///
    /// A buffer counts once for slices of it that follow each other with no slice of another
    /// buffer between.
    ///
    /// # Complexity
    /// Linear in the referenced slices and the runs of copied frames between.
    #[must_use]
    pub fn pinned_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.pinned_bytes())
    }

    /// Returns the heap that the queue takes: its index, its blocks but for those of a pool, and of
    /// each buffer that it references its share ([`SharedSlice::heap_share`]).
    ///
    /// The allocator's own overhead is not in it.
    ///
    /// # Complexity
    /// Linear in the referenced slices and the runs of copied frames between.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.heap_bytes())
    }

    /// Drops everything, also a frame that was sent in part, and frees all heap.
    pub fn clear(&mut self) {
        self.0 = None;
    }

    /// Takes memory from the cache where the queue has none, so that the next push need not
    /// allocate; also where the last block is nearly full and the cache has a pool.
    #[inline]
    pub fn prepare(&mut self, cache: &mut BlockCache) {
        if self.0.is_none() {
            self.0 = cache.take();
        }
        #[cfg(feature = "slabmem")]
        if let Some(pool) = cache.pool_mut() {
            self.inner().stock_up(pool);
        }
    }

    /// As [`advance`](Self::advance), but with the last byte the memory goes to the cache.
    ///
    /// # Panics
    /// Past [`bytes`](Self::bytes).
    #[inline]
    pub fn advance_into(&mut self, written: usize, cache: &mut BlockCache) {
        assert!(written <= self.bytes(), "no more is sent than was queued");
        if written == self.bytes() {
            self.clear_into(cache);
        } else if let Some(inner) = &mut self.0 {
            inner.advance(written);
        }
    }

    /// As [`clear`](Self::clear), but the memory goes to the cache.
    #[inline]
    pub fn clear_into(&mut self, cache: &mut BlockCache) {
        if let Some(inner) = self.0.take() {
            cache.put(inner);
        }
    }

    #[inline]
    fn inner(&mut self) -> &mut Inner {
        self.0.get_or_insert_default()
    }
}

impl fmt::Debug for WriteQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteQueue")
            .field("bytes", &self.bytes())
            .field("messages", &self.messages())
            .finish_non_exhaustive()
    }
}
