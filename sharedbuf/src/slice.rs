//! The view of a part of a shared buffer.
#![forbid(unsafe_code)]

use core::hash::{Hash, Hasher};
use core::ops::{Deref, RangeBounds};
use core::{fmt, iter};

use crate::SharedBuf;
use crate::buf::{debug_bytes, resolve};
use crate::raw::{RawBuf, RawMany, RawSlice};

/// A counted view of a part of a buffer: 16 bytes.
///
/// It keeps the whole buffer alive ([`buffer_len`](Self::buffer_len) says what that is), so a
/// small view of a large buffer that lives for long is better copied. An empty view holds no
/// buffer.
///
/// # Examples
/// ```
/// use sharedbuf::SharedSlice;
///
/// let mut packet = SharedSlice::from(b"head|body".to_vec());
/// let head = packet.split_to(4);
/// packet.advance(1);
/// assert_eq!((&*head, &*packet), (&b"head"[..], &b"body"[..]));
/// ```
#[derive(Clone)]
pub struct SharedSlice(RawSlice);

impl SharedSlice {
    /// Makes an empty view. Allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self(RawSlice::EMPTY)
    }

    /// Makes a view of a copy of these bytes. One allocation, none for no bytes.
    ///
    /// # Panics
    /// Beyond [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX).
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        if bytes.is_empty() {
            Self::new()
        } else {
            SharedBuf::copy_from(bytes).into_slice()
        }
    }

    pub(crate) fn part_of(buf: RawBuf, offset: usize, len: usize) -> Self {
        Self(RawSlice::of(buf, offset, len))
    }

    pub(crate) fn from_raw(raw: RawSlice) -> Self {
        Self(raw)
    }

    /// Returns the bytes.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Returns the number of bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no bytes.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the length in bytes of the buffer that this view keeps alive: zero for an empty
    /// view.
    #[inline]
    #[must_use]
    pub fn buffer_len(&self) -> usize {
        self.0.buffer_len()
    }

    /// Returns this slice's share of the heap that its buffer takes: header and bytes, divided by
    /// the slices and other handles of the buffer there are now.
    ///
    /// So what all handles of a buffer say adds up to what it takes, but for rounding and for what
    /// comes and goes meanwhile. It is 0 for an empty slice and for a buffer in a pool's block,
    /// whose pool counts it; of a buffer around a `bytes::Bytes` it is the header's only. The
    /// allocator's own overhead is not in it.
    #[must_use]
    pub fn heap_share(&self) -> usize {
        self.0.heap_share()
    }

    /// Returns whether both views keep the same buffer alive. Empty views keep none.
    #[inline]
    #[must_use]
    pub fn same_buffer(&self, other: &Self) -> bool {
        self.0.same_buffer(&other.0)
    }

    /// Returns a view of a part of this one. One atomic addition, no copy.
    ///
    /// # Panics
    /// Where the range is not inside the view.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let (start, len) = resolve(range, self.len());
        Self(self.0.part(start, len))
    }

    /// Splits at `at`: returns what comes before, keeps the rest.
    ///
    /// # Panics
    /// Where `at` is past the end.
    #[must_use = "use `advance` to drop the front"]
    pub fn split_to(&mut self, at: usize) -> Self {
        if at == self.len() {
            return core::mem::take(self);
        }
        let front = self.slice(..at);
        self.0.advance(at);
        front
    }

    /// Splits at `at`: keeps what comes before, returns the rest.
    ///
    /// # Panics
    /// Where `at` is past the end.
    #[must_use = "use `truncate` to drop the end"]
    pub fn split_off(&mut self, at: usize) -> Self {
        if at == 0 {
            return core::mem::take(self);
        }
        let back = self.slice(at..);
        self.0.truncate(at);
        back
    }

    /// Drops the first `n` bytes, and the hold on the buffer with the last.
    ///
    /// # Panics
    /// Where there are fewer.
    #[inline]
    pub fn advance(&mut self, n: usize) {
        self.0.advance(n);
    }

    /// Keeps the first `n` bytes only.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn truncate(&mut self, n: usize) {
        self.0.truncate(n);
    }

    /// Takes `n` more such views with one atomic addition, or none for an empty view.
    ///
    /// They are drawn from the iterator; those that were not are given back together when it is
    /// dropped.
    ///
    /// # Panics
    /// Where `n` is above 2⁴⁷ (on 64-bit machines).
    pub fn retain_n(&self, n: usize) -> RetainedSlices<'_> {
        RetainedSlices {
            like: self,
            many: self.0.retain_n(n),
            empty: if self.is_empty() { n } else { 0 },
        }
    }
}

impl Default for SharedSlice {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for SharedSlice {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for SharedSlice {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<SharedBuf> for SharedSlice {
    fn from(buf: SharedBuf) -> Self {
        buf.into_slice()
    }
}

/// Takes the vector over without a copy. Allocates a header, or nothing for no bytes.
impl From<Vec<u8>> for SharedSlice {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.is_empty() {
            Self::new()
        } else {
            SharedBuf::from(bytes).into_slice()
        }
    }
}

/// Compares the bytes.
impl PartialEq for SharedSlice {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedSlice {}

impl Hash for SharedSlice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for SharedSlice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_bytes("SharedSlice", self, f)
    }
}

/// Views of one part that were taken together, by [`SharedSlice::retain_n`].
#[must_use = "views that are not drawn are given back"]
pub struct RetainedSlices<'a> {
    like: &'a SharedSlice,
    many: Option<RawMany>,
    empty: usize,
}

impl Iterator for RetainedSlices<'_> {
    type Item = SharedSlice;

    #[inline]
    fn next(&mut self) -> Option<SharedSlice> {
        if let Some(many) = &mut self.many {
            return self.like.0.take_from(many).map(SharedSlice);
        }
        self.empty = self.empty.checked_sub(1)?;
        Some(SharedSlice::new())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.many.as_ref().map_or(self.empty, RawMany::left);
        (left, Some(left))
    }
}

impl ExactSizeIterator for RetainedSlices<'_> {}
impl iter::FusedIterator for RetainedSlices<'_> {}

impl fmt::Debug for RetainedSlices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetainedSlices")
            .field("left", &self.len())
            .finish_non_exhaustive()
    }
}
