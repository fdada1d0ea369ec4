//! The block that is read into.
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::Range;

use crate::SharedSlice;
use crate::raw::RawBlock;

/// A block that one owner fills from the front while parts of what it has filled are shared.
///
/// A server reads from a socket into [`spare_mut`](Self::spare_mut), says how much came
/// ([`advance`](Self::advance)), decodes [`filled`](Self::filled), and passes parts on with
/// [`share`](Self::share): no copy. When everything is decoded it calls [`reset`](Self::reset),
/// and makes a new block where somebody still holds a part of the old one.
///
/// The block is zeroed once when it is allocated, so that reading into it needs no `unsafe`; large
/// blocks get their zeros from the operating system. It holds at most
/// [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX) bytes.
///
/// # Examples
/// ```
/// use std::io::Read;
///
/// use sharedbuf::ReadBlock;
///
/// let mut socket: &[u8] = b"hello world";
/// let mut block = ReadBlock::with_capacity(64);
/// let n = socket.read(block.spare_mut())?;
/// block.advance(n);
///
/// let word = block.share(6..11);
/// assert_eq!(&*word, b"world");
/// assert!(!block.reset());
/// drop(word);
/// assert!(block.reset());
/// assert_eq!(block.spare_len(), 64);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct ReadBlock(RawBlock);

impl ReadBlock {
    /// Allocates a block for `n` bytes, zeroed.
    ///
    /// # Panics
    /// Beyond [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX).
    #[must_use]
    pub fn with_capacity(n: usize) -> Self {
        Self(RawBlock::zeroed(n))
    }

    #[cfg(feature = "slabmem")]
    pub(crate) fn from_raw(raw: RawBlock) -> Self {
        Self(raw)
    }

    /// Returns how many bytes the block holds when full.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// Returns how many bytes are filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.filled_len()
    }

    /// Returns whether nothing is filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the heap that the block takes, divided by the handles of it there are: see
    /// [`SharedSlice::heap_share`]. 0 for a block in a pool.
    #[must_use]
    pub fn heap_share(&self) -> usize {
        self.0.heap_share()
    }

    /// Returns how many bytes there is still room for.
    #[must_use]
    pub fn spare_len(&self) -> usize {
        self.capacity() - self.len()
    }

    /// Returns the memory behind the filled part. Its contents are initialised, but of no meaning.
    #[must_use]
    pub fn spare_mut(&mut self) -> &mut [u8] {
        self.0.spare_mut()
    }

    /// Marks the next `n` bytes as filled.
    ///
    /// # Panics
    /// Past the capacity.
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Copies bytes behind the filled part and marks them as filled.
    ///
    /// # Panics
    /// Past the capacity.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let place = self
            .spare_mut()
            .get_mut(..bytes.len())
            .expect("block has room");
        place.copy_from_slice(bytes);
        self.advance(bytes.len());
    }

    /// Returns the filled part.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        self.0.filled()
    }

    /// Returns a counted view of a range of the filled part. One atomic addition, no copy.
    ///
    /// # Panics
    /// Where the range is not inside the filled part.
    #[must_use]
    pub fn share(&self, range: Range<usize>) -> SharedSlice {
        assert!(range.start <= range.end, "range starts before its end");
        SharedSlice::from_raw(self.0.share(range.start, range.end - range.start))
    }

    /// Turns the block into a view of all that is filled. No copy; the room behind it stays
    /// allocated.
    #[must_use]
    pub fn freeze(self) -> SharedSlice {
        SharedSlice::from_raw(self.0.freeze())
    }

    /// Empties the block where nobody shares it. Returns whether it did.
    ///
    /// The old bytes stay in the memory behind the mark until they are overwritten.
    #[must_use = "where it is false, the block is as full as before"]
    pub fn reset(&mut self) -> bool {
        self.0.reset()
    }

    /// Returns whether a view of the block exists. It may become false at any time, but true only
    /// by [`share`](Self::share) and clones of what that returned.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.is_shared()
    }
}

impl fmt::Debug for ReadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadBlock")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}
