//! The shared buffer.
#![forbid(unsafe_code)]

use core::hash::{Hash, Hasher};
use core::ops::{Bound, Deref, RangeBounds};
use core::{fmt, iter};

use crate::SharedSlice;
use crate::raw::{RawBuf, RawMany};

/// A counted, immutable buffer behind a thin pointer.
///
/// The pointer leads to a header with the count, the length and the address of the bytes, which
/// follow the header or stay with the foreign owner they came from. A clone is one atomic addition
/// and no indirect call; many clones at once are still one ([`retain_n`](Self::retain_n)).
///
/// A buffer holds at most [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX) bytes; making a larger one
/// panics. A count beyond `isize::MAX` aborts the process, as that of an `Arc` does.
///
/// # Concurrency
/// `Send` and `Sync`. Any thread may give the last handle back, and pays for freeing then. The
/// handle that is the last and knows it (because nobody else can have one) is dropped without a
/// locked instruction.
///
/// # Examples
/// ```
/// use sharedbuf::SharedBuf;
///
/// let image = SharedBuf::from(vec![1_u8, 2, 3, 4]);
/// let mut copies = image.retain_n(2);
/// let (first, second) = (copies.next().unwrap(), copies.next().unwrap());
/// drop(image);
/// assert_eq!(&first[1..3], [2, 3]);
/// assert_eq!(first, second);
/// ```
#[derive(Clone)]
pub struct SharedBuf(RawBuf);

impl SharedBuf {
    /// Makes a buffer with a copy of these bytes. One allocation.
    ///
    /// # Panics
    /// Beyond [`BUFFER_BYTES_MAX`](crate::BUFFER_BYTES_MAX).
    #[must_use]
    pub fn copy_from(bytes: &[u8]) -> Self {
        Self(RawBuf::copy_from(bytes))
    }

    #[cfg(any(feature = "bytes", feature = "slabmem"))]
    pub(crate) fn from_raw(raw: RawBuf) -> Self {
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

    /// Returns a view of a part. One atomic addition, no copy; an empty view holds no buffer.
    ///
    /// # Panics
    /// Where the range is not inside the buffer.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> SharedSlice {
        let (start, len) = resolve(range, self.len());
        SharedSlice::part_of(self.0.clone(), start, len)
    }

    /// Turns the handle into a view of all bytes. No atomic operation.
    #[must_use]
    pub fn into_slice(self) -> SharedSlice {
        let len = self.len();
        SharedSlice::part_of(self.0, 0, len)
    }

    /// Returns the `Vec` that the buffer was made of, without a copy.
    ///
    /// # Errors
    /// The handle itself, where there are others, counting views, or the buffer was not made of a
    /// `Vec` or a box. `Vec::from` copies then.
    ///
    /// # Examples
    /// ```
    /// use sharedbuf::SharedBuf;
    ///
    /// let buf = SharedBuf::from(vec![1_u8, 2, 3]);
    /// let view = buf.slice(1..);
    /// let buf = buf.try_into_vec().unwrap_err();
    /// drop(view);
    /// assert_eq!(buf.try_into_vec(), Ok(vec![1, 2, 3]));
    /// ```
    pub fn try_into_vec(self) -> Result<Vec<u8>, Self> {
        self.0.into_vec().map_err(Self)
    }

    /// Returns whether this is the only handle, counting views.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.0.is_unique()
    }

    /// Takes `n` more handles with one atomic addition.
    ///
    /// They are drawn from the iterator; those that were not are given back together when it is
    /// dropped.
    ///
    /// # Panics
    /// Where `n` is above 2⁴⁷ (on 64-bit machines).
    pub fn retain_n(&self, n: usize) -> Retained {
        Retained(self.0.retain_n(n))
    }
}

impl Deref for SharedBuf {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for SharedBuf {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// Takes the vector over without a copy. Allocates a header.
impl From<Vec<u8>> for SharedBuf {
    fn from(bytes: Vec<u8>) -> Self {
        Self(RawBuf::from_vec(bytes))
    }
}

/// Takes the box over without a copy. Allocates a header.
impl From<Box<[u8]>> for SharedBuf {
    fn from(bytes: Box<[u8]>) -> Self {
        bytes.into_vec().into()
    }
}

/// Gives the bytes back, without a copy where they came from a `Vec` or a box and this is the only
/// handle, views counted; else they are copied.
impl From<SharedBuf> for Vec<u8> {
    fn from(buf: SharedBuf) -> Self {
        buf.0
            .into_vec()
            .unwrap_or_else(|shared| shared.as_slice().to_vec())
    }
}

/// As for a `Vec`; one that has room to spare is shrunk, which may copy.
impl From<SharedBuf> for Box<[u8]> {
    fn from(buf: SharedBuf) -> Self {
        Vec::from(buf).into_boxed_slice()
    }
}

/// Compares the bytes.
impl PartialEq for SharedBuf {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBuf {}

impl Hash for SharedBuf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for SharedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        debug_bytes("SharedBuf", self, f)
    }
}

/// Handles of one buffer that were taken together, by [`SharedBuf::retain_n`].
#[must_use = "handles that are not drawn are given back"]
pub struct Retained(RawMany);

impl Retained {
    /// Appends all handles that are left to a vector: the quickest way to have many of them, since
    /// it asks for room once (`sharedbuf/take` of the benches).
    ///
    /// # Complexity
    /// A store each; allocates where the vector has no room.
    pub fn append_to(self, into: &mut Vec<SharedBuf>) {
        self.0.append_to(into, SharedBuf);
    }
}

impl Iterator for Retained {
    type Item = SharedBuf;

    #[inline]
    fn next(&mut self) -> Option<SharedBuf> {
        self.0.take().map(SharedBuf)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.left(), Some(self.0.left()))
    }
}

impl ExactSizeIterator for Retained {}
impl iter::FusedIterator for Retained {}

impl fmt::Debug for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retained")
            .field("left", &self.0.left())
            .finish_non_exhaustive()
    }
}

/// Start and length of a range within `len` bytes.
///
/// # Panics
/// Where it is not inside.
pub(crate) fn resolve(range: impl RangeBounds<usize>, len: usize) -> (usize, usize) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => len,
    };
    assert!(
        start <= end && end <= len,
        "range {start}..{end} is inside {len} bytes"
    );
    (start, end - start)
}

/// Writes the length and the first bytes.
pub(crate) fn debug_bytes(name: &str, bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const SHOWN: usize = 32;
    let more = if bytes.len() > SHOWN { ".." } else { "" };
    let shown = bytes.get(..SHOWN).unwrap_or(bytes);
    write!(
        f,
        "{name}({} bytes, b\"{}\"{more})",
        bytes.len(),
        shown.escape_ascii()
    )
}
