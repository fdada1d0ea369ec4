//! Handles for a part of a buffer: the slice, and the block that is filled from the front.
//!
//! Ground rules: those of the parent module. A [`RawSlice`] of length zero has no count and its
//! pointer dangles; any other has one, and its range lies inside the buffer. A [`RawBlock`] has a
//! count of a buffer behind its header, all of whose bytes are initialised; it is the one writer,
//! of the bytes from `filled` on.

use core::mem::{self, ManuallyDrop};
use core::ptr::NonNull;
use core::slice;

use super::{Header, RawBuf, RawMany, checked_len, header, heap_share, release, retain};
use crate::sync::Ordering;

/// One count of a buffer and the right to read a part of it; an empty part has no buffer.
pub(crate) struct RawSlice {
    /// Dangling where `len` is zero.
    head: NonNull<Header>,
    offset: u32,
    len: u32,
}

impl RawSlice {
    pub(crate) const EMPTY: Self = Self {
        head: NonNull::dangling(),
        offset: 0,
        len: 0,
    };

    /// Turns the count of a handle into one for a part.
    ///
    /// # Panics
    /// Where the buffer does not reach that far.
    pub(crate) fn of(buf: RawBuf, offset: usize, len: usize) -> Self {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= buf.len()),
            "range is inside the buffer"
        );
        if len == 0 {
            return Self::EMPTY;
        }
        let head = ManuallyDrop::new(buf).0;
        Self {
            head,
            offset: offset as u32,
            len: len as u32,
        }
    }

    /// Another handle, for a part of this part.
    ///
    /// # Panics
    /// Where this part does not reach that far.
    pub(crate) fn part(&self, offset: usize, len: usize) -> Self {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "range is inside the slice"
        );
        if len == 0 {
            return Self::EMPTY;
        }
        // SAFETY: `len` is not zero, so neither is ours, and we have a count.
        unsafe { retain(self.head, 1) };
        // No overflow: both bounds were just compared with a `u32`.
        Self {
            head: self.head,
            offset: self.offset + offset as u32,
            len: len as u32,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: Not empty, so there is a count.
        let data = unsafe { header(self.head) }.data;
        // SAFETY: The range lies inside the buffer.
        let start = unsafe { data.add(self.offset as usize) };
        // SAFETY: This handle may read the range: it is initialised and nobody writes it.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.len as usize) }
    }

    /// The length of the whole buffer, zero for an empty part.
    pub(crate) fn buffer_len(&self) -> usize {
        if self.len == 0 {
            return 0;
        }
        // SAFETY: Not empty, so there is a count.
        unsafe { header(self.head) }.len as usize
    }

    /// This handle's share of the heap that the buffer takes, zero for an empty part.
    pub(crate) fn heap_share(&self) -> usize {
        if self.len == 0 {
            return 0;
        }
        // SAFETY: Not empty, so there is a count.
        unsafe { heap_share(self.head) }
    }

    /// Whether both keep the same buffer alive.
    pub(crate) fn same_buffer(&self, other: &Self) -> bool {
        self.len > 0 && other.len > 0 && self.head == other.head
    }

    /// Drops the first `n` bytes, and the buffer with the last.
    ///
    /// # Panics
    /// Where there are fewer.
    #[inline]
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(n <= self.len(), "advance stays inside the slice");
        if n == self.len() {
            *self = Self::EMPTY;
        } else {
            self.offset += n as u32;
            self.len -= n as u32;
        }
    }

    /// Keeps the first `n` bytes.
    ///
    /// # Panics
    /// Where there are fewer.
    pub(crate) fn truncate(&mut self, n: usize) {
        assert!(n <= self.len(), "truncation stays inside the slice");
        if n == 0 {
            *self = Self::EMPTY;
        } else {
            self.len = n as u32;
        }
    }

    /// Takes `n` more counts, or nothing where there is no buffer.
    pub(crate) fn retain_n(&self, n: usize) -> Option<RawMany> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: Not empty, so there is a count.
        unsafe { retain(self.head, n) };
        Some(RawMany {
            head: self.head,
            left: n,
        })
    }

    /// Turns one of the counts that [`retain_n`](Self::retain_n) took from `self` into a handle
    /// for the same part.
    pub(crate) fn take_from(&self, many: &mut RawMany) -> Option<Self> {
        assert!(
            self.len > 0 && many.head == self.head,
            "counts of this slice's buffer"
        );
        many.left = many.left.checked_sub(1)?;
        Some(Self {
            head: self.head,
            offset: self.offset,
            len: self.len,
        })
    }
}

impl Clone for RawSlice {
    fn clone(&self) -> Self {
        if self.len > 0 {
            // SAFETY: Not empty, so there is a count.
            unsafe { retain(self.head, 1) };
        }
        Self {
            head: self.head,
            offset: self.offset,
            len: self.len,
        }
    }
}

impl Drop for RawSlice {
    #[inline]
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: Not empty, so there is a count, which is given up here.
            unsafe { release(self.head, 1) };
        }
    }
}

// SAFETY: As for `RawBuf`: it reads bytes that nobody writes, and counts atomically.
unsafe impl Send for RawSlice {}
// SAFETY: As above.
unsafe impl Sync for RawSlice {}

/// The owner of a buffer that is filled from the front.
pub(crate) struct RawBlock {
    head: NonNull<Header>,
    filled: u32,
}

impl RawBlock {
    pub(crate) fn zeroed(capacity: usize) -> Self {
        Self {
            head: RawBuf::inline(checked_len(capacity), true),
            filled: 0,
        }
    }

    /// A block in that of a pool, as long as there is room.
    #[cfg(feature = "slabmem")]
    pub(crate) fn in_block(block: slabmem::Block) -> Self {
        let capacity = block.len().saturating_sub(super::POOL_HEADER_BYTES);
        Self {
            head: RawBuf::in_block(block, capacity),
            filled: 0,
        }
    }

    fn header(&self) -> &Header {
        // SAFETY: The block has a count.
        unsafe { header(self.head) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.header().len as usize
    }

    /// This handle's share of the heap that the buffer takes.
    pub(crate) fn heap_share(&self) -> usize {
        // SAFETY: The block has a count.
        unsafe { heap_share(self.head) }
    }

    pub(crate) fn filled_len(&self) -> usize {
        self.filled as usize
    }

    pub(crate) fn filled(&self) -> &[u8] {
        // SAFETY: The bytes below the mark are initialised, and nobody writes them while `self` is
        // borrowed.
        unsafe { slice::from_raw_parts(self.header().data.as_ptr(), self.filled as usize) }
    }

    pub(crate) fn spare_mut(&mut self) -> &mut [u8] {
        let spare = self.capacity() - self.filled_len();
        // SAFETY: The mark is inside the buffer.
        let start = unsafe { self.header().data.add(self.filled as usize) };
        // SAFETY: The bytes from the mark on are initialised since allocation, and no slice
        // reaches there.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), spare) }
    }

    /// Moves the mark up.
    ///
    /// # Panics
    /// Where the block has not as much room.
    pub(crate) fn advance(&mut self, n: usize) {
        assert!(
            n <= self.capacity() - self.filled_len(),
            "advance stays inside the block"
        );
        self.filled += n as u32;
    }

    /// A handle for a part below the mark.
    ///
    /// # Panics
    /// Where the mark is not that high.
    pub(crate) fn share(&self, offset: usize, len: usize) -> RawSlice {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.filled_len()),
            "range is inside the filled part"
        );
        if len == 0 {
            return RawSlice::EMPTY;
        }
        // SAFETY: The block has a count.
        unsafe { retain(self.head, 1) };
        RawSlice {
            head: self.head,
            offset: offset as u32,
            len: len as u32,
        }
    }

    /// Turns the count into one for the filled part.
    pub(crate) fn freeze(self) -> RawSlice {
        let block = ManuallyDrop::new(self);
        if block.filled == 0 {
            // SAFETY: The block has a count and gives it up.
            unsafe { release(block.head, 1) };
            return RawSlice::EMPTY;
        }
        RawSlice {
            head: block.head,
            offset: 0,
            len: block.filled,
        }
    }

    pub(crate) fn is_shared(&self) -> bool {
        self.header().refs.load(Ordering::Acquire) != 1
    }

    /// Lowers the mark to zero where nobody else has a count.
    pub(crate) fn reset(&mut self) -> bool {
        let alone = !self.is_shared();
        if alone {
            #[cfg(loom)]
            // SAFETY: The count is one and ours, and we are borrowed exclusively.
            unsafe {
                super::assert_alone(self.head);
            }
            self.filled = 0;
        }
        alone
    }
}

impl Drop for RawBlock {
    fn drop(&mut self) {
        // SAFETY: The block has a count and gives it up.
        unsafe { release(self.head, 1) };
    }
}

// SAFETY: The block is the one writer of bytes that no handle reads; below the mark it is as
// `RawSlice`.
unsafe impl Send for RawBlock {}
// SAFETY: Through a shared reference it only reads bytes and counts, and clones counts, all as
// `RawSlice` does.
unsafe impl Sync for RawBlock {}

const _: () = assert!(mem::size_of::<Option<RawSlice>>() == 16 || size_of::<usize>() < 8);
