//! The counted buffer: header, count and release.
//!
//! Ground rules. A buffer is a [`Header`] on the heap and `len` bytes that `data` points to:
//! behind the header, or with a foreign owner that the header's allocation holds. All handles
//! ([`RawBuf`], [`RawSlice`], [`RawMany`]) own counts; header and bytes live until the last count
//! is given back.
//!
//! Who may touch the bytes: any handle reads the range that it stands for, and nobody writes a
//! range for which a [`RawBuf`] or a [`RawSlice`] exists. There is one writer, the owner of a
//! [`RawBlock`]: it writes bytes from its fill mark on, and hands out slices only below that mark.
//! It lowers the mark only when it has seen that its own count is the only one.
//!
//! Orderings: a count is added relaxed, since whoever adds holds one already. It is given back
//! with Release, and the one who gives the last back fences with Acquire before it frees: so every
//! read of the bytes comes before they go. A handle that sees a count of one by an Acquire load is
//! alone: nobody else has a count to clone from; what the others read came before, by the same
//! pairing.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::slice;
use std::alloc::{Layout, handle_alloc_error};
use std::process;

use crate::BUFFER_BYTES_MAX;
use crate::sync::{self, AtomicUsize, Ordering};

mod part;

pub(crate) use part::{RawBlock, RawSlice};

/// What one addition to a count may be at most: 2¹⁶ threads at once could not carry it from the
/// bound at which we abort to the wrap.
const RETAIN_MAX: usize = isize::MAX as usize >> 16;

/// Where the bytes of a buffer are, and so how it is freed.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Kind {
    /// Behind the header, in the same allocation.
    Inline,
    /// In a `Vec` whose parts are in the header and in [`VecHeader`].
    Vec,
    /// In a `bytes::Bytes` inside [`BytesHeader`].
    #[cfg(feature = "bytes")]
    Bytes,
    /// Behind a [`PoolHeader`], in the block of a pool whose handle that header holds.
    #[cfg(feature = "slabmem")]
    Pool,
}

/// What every buffer begins with.
#[repr(C)]
struct Header {
    refs: AtomicUsize,
    data: NonNull<u8>,
    len: u32,
    kind: Kind,
}

#[repr(C)]
struct VecHeader {
    header: Header,
    capacity: usize,
}

#[cfg(feature = "bytes")]
#[repr(C)]
struct BytesHeader {
    header: Header,
    owner: bytes::Bytes,
}

/// Lies at the start of the block that it holds.
#[cfg(feature = "slabmem")]
#[repr(C)]
struct PoolHeader {
    header: Header,
    block: slabmem::Block,
}

/// What the header of a buffer in a pool's block takes of that block.
#[cfg(feature = "slabmem")]
pub(crate) const POOL_HEADER_BYTES: usize = size_of::<PoolHeader>();

/// What a block needs beside its bytes, in the heap or in a pool, at most: sizes that are powers of
/// two with it fit both.
pub(crate) const BLOCK_OVERHEAD_BYTES: usize = 40;

#[cfg(all(not(loom), target_pointer_width = "64"))]
const _: () = assert!(size_of::<Header>() == 24);
#[cfg(all(not(loom), feature = "slabmem"))]
const _: () = assert!(POOL_HEADER_BYTES <= BLOCK_OVERHEAD_BYTES);

/// The layout of header and bytes in one allocation.
fn inline_layout(len: u32) -> Layout {
    let size = size_of::<Header>().checked_add(len as usize);
    let layout = size.and_then(|size| Layout::from_size_align(size, align_of::<Header>()).ok());
    layout.expect("buffer fits the address space")
}

fn checked_len(len: usize) -> u32 {
    assert!(len <= BUFFER_BYTES_MAX, "a buffer holds at most 4 GiB - 1");
    len as u32
}

fn or_abort(pointer: *mut u8, layout: Layout) -> NonNull<u8> {
    NonNull::new(pointer).unwrap_or_else(|| handle_alloc_error(layout))
}

/// Puts a value into a heap allocation of its own.
fn boxed<T>(value: T) -> NonNull<T> {
    let layout = Layout::new::<T>();
    // SAFETY: The layout has a size, since `T` begins with a header.
    let place = or_abort(unsafe { sync::alloc(layout) }, layout).cast::<T>();
    // SAFETY: The place was just allocated for a `T`.
    unsafe { place.write(value) };
    place
}

/// Drops a value that [`boxed`] put there, and its place.
///
/// # Safety
/// The pointer came from `boxed::<T>` and nobody uses it afterwards.
unsafe fn unbox<T>(place: NonNull<T>) {
    // SAFETY: The caller gives up the value.
    unsafe { place.drop_in_place() };
    // SAFETY: `boxed` allocated the place with this layout.
    unsafe { sync::dealloc(place.as_ptr().cast(), Layout::new::<T>()) };
}

/// The header of a buffer.
///
/// # Safety
/// The caller has a count of that buffer for as long as it uses the reference.
unsafe fn header<'a>(head: NonNull<Header>) -> &'a Header {
    // SAFETY: The header lives while there are counts; after initialisation only `refs` changes.
    unsafe { head.as_ref() }
}

/// Adds counts.
///
/// # Safety
/// The caller has a count.
unsafe fn retain(head: NonNull<Header>, n: usize) {
    assert!(n <= RETAIN_MAX, "too many handles at once");
    // SAFETY: The caller has a count.
    let before = unsafe { header(head) }.refs.fetch_add(n, Ordering::Relaxed);
    if before > isize::MAX as usize {
        process::abort();
    }
}

/// Gives counts back, and frees the buffer with the last.
///
/// # Safety
/// The caller has `n` counts, not zero, and they are gone afterwards.
unsafe fn release(head: NonNull<Header>, n: usize) {
    // SAFETY: The caller has a count.
    let refs = unsafe { &header(head).refs };
    // Where all counts are ours the locked subtraction is saved: nobody else could add one.
    if refs.load(Ordering::Acquire) != n {
        if refs.fetch_sub(n, Ordering::Release) != n {
            return;
        }
        sync::fence(Ordering::Acquire);
    }
    // SAFETY: Those were the last counts; the load or the fence ordered all uses before.
    unsafe { free(head) };
}

/// Has loom check that every access to the count happened before.
///
/// # Safety
/// There is no other count, and nobody uses the header at the same time.
#[cfg(loom)]
unsafe fn assert_alone(mut head: NonNull<Header>) {
    // SAFETY: The caller is alone.
    unsafe { head.as_mut() }.refs.with_mut(|_| ());
}

/// The heap that a buffer takes, header and bytes, by the handles that it is shared by. Nothing for
/// one in a pool, and only the header where somebody else made the bytes.
///
/// # Safety
/// The caller has a count.
unsafe fn heap_share(head: NonNull<Header>) -> usize {
    // SAFETY: The caller has a count.
    let Header {
        refs, len, kind, ..
    } = unsafe { header(head) };
    let bytes = match kind {
        Kind::Inline => size_of::<Header>() + *len as usize,
        Kind::Vec => {
            // SAFETY: This kind of header is the first field of a `VecHeader`, and the caller has a
            // count.
            let capacity = unsafe { head.cast::<VecHeader>().as_ref() }.capacity;
            size_of::<VecHeader>() + capacity
        }
        #[cfg(feature = "bytes")]
        Kind::Bytes => size_of::<BytesHeader>(),
        #[cfg(feature = "slabmem")]
        Kind::Pool => 0,
    };
    bytes / refs.load(Ordering::Relaxed).max(1)
}

/// Frees a buffer by its kind.
///
/// # Safety
/// There is no other count, and nobody uses the buffer afterwards.
#[inline(never)]
unsafe fn free(head: NonNull<Header>) {
    #[cfg(loom)]
    // SAFETY: The caller is alone.
    unsafe {
        assert_alone(head);
    }
    // SAFETY: The caller holds the buffer.
    let &Header { kind, len, .. } = unsafe { header(head) };
    match kind {
        Kind::Inline => {
            // SAFETY: The caller gives up the buffer.
            unsafe { head.drop_in_place() };
            // SAFETY: `RawBuf::inline` allocated it with this layout.
            unsafe { sync::dealloc(head.as_ptr().cast(), inline_layout(len)) };
        }
        Kind::Vec => {
            // SAFETY: The caller gives up the buffer, which is of that kind.
            drop(unsafe { take_vec(head) });
        }
        #[cfg(feature = "bytes")]
        // SAFETY: This kind of header is the first field of a `BytesHeader`, which `from_bytes`
        // put there.
        Kind::Bytes => unsafe { unbox(head.cast::<BytesHeader>()) },
        #[cfg(feature = "slabmem")]
        Kind::Pool => {
            // SAFETY: This kind of header is the first field of a `PoolHeader`; it is moved out of
            // the block before the block goes home, and nobody uses it in place afterwards.
            drop(unsafe { head.cast::<PoolHeader>().read() });
        }
    }
}

/// Puts the `Vec` of a buffer together again and frees the header.
///
/// # Safety
/// The buffer is of [`Kind::Vec`], there is no other count, and nobody uses it afterwards.
unsafe fn take_vec(head: NonNull<Header>) -> Vec<u8> {
    let head = head.cast::<VecHeader>();
    // SAFETY: This kind of header is the first field of a `VecHeader`.
    let VecHeader { header, capacity } = unsafe { head.as_ref() };
    let (data, len, capacity) = (header.data, header.len as usize, *capacity);
    // SAFETY: `from_vec` put the header there.
    unsafe { unbox(head) };
    // SAFETY: The parts are those of the `Vec` that `from_vec` took apart.
    unsafe { Vec::from_raw_parts(data.as_ptr(), len, capacity) }
}

/// One count of a buffer, and the right to read all of it.
pub(crate) struct RawBuf(NonNull<Header>);

impl RawBuf {
    fn header(&self) -> &Header {
        // SAFETY: This handle has a count.
        unsafe { header(self.0) }
    }

    /// Allocates header and bytes, of which the latter are zero if so wished and else not
    /// initialised.
    fn inline(len: u32, zeroed: bool) -> NonNull<Header> {
        let layout = inline_layout(len);
        let allocate = if zeroed {
            sync::alloc_zeroed
        } else {
            sync::alloc
        };
        // SAFETY: The layout has a size, since it begins with a header.
        let place = or_abort(unsafe { allocate(layout) }, layout);
        // SAFETY: The allocation reaches at least to the end of the header.
        let data = unsafe { place.add(size_of::<Header>()) };
        let head = place.cast::<Header>();
        let header = Header {
            refs: AtomicUsize::new(1),
            data,
            len,
            kind: Kind::Inline,
        };
        // SAFETY: The place was just allocated, with the alignment of a header.
        unsafe { head.write(header) };
        head
    }

    pub(crate) fn copy_from(bytes: &[u8]) -> Self {
        let head = Self::inline(checked_len(bytes.len()), false);
        // SAFETY: We hold the only count.
        let data = unsafe { header(head) }.data;
        // SAFETY: The bytes behind the fresh header are as many, and they overlap with nothing.
        unsafe { data.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self(head)
    }

    /// Makes a buffer of `len` bytes inside a block, initialised as those of the block are.
    ///
    /// # Panics
    /// Where header and bytes do not fit.
    #[cfg(feature = "slabmem")]
    fn in_block(mut block: slabmem::Block, len: usize) -> NonNull<Header> {
        let room = block.len().checked_sub(POOL_HEADER_BYTES);
        assert!(
            room.is_some_and(|room| len <= room),
            "buffer fits into the block"
        );
        let place = NonNull::from(&mut block[..]).cast::<u8>();
        assert!(
            place.cast::<PoolHeader>().is_aligned(),
            "blocks are aligned to a cache line"
        );
        // SAFETY: The block is longer than the header.
        let data = unsafe { place.add(POOL_HEADER_BYTES) };
        let refs = AtomicUsize::new(1);
        let header = Header {
            refs,
            data,
            len: checked_len(len),
            kind: Kind::Pool,
        };
        let content = PoolHeader { header, block };
        // SAFETY: The block is ours, long and aligned enough; its handle lives in it until `free`.
        unsafe { place.cast::<PoolHeader>().write(content) };
        place.cast()
    }

    /// Makes a buffer in a block with a copy of these bytes.
    ///
    /// # Panics
    /// Where header and bytes do not fit.
    #[cfg(feature = "slabmem")]
    pub(crate) fn copy_into_block(block: slabmem::Block, bytes: &[u8]) -> Self {
        let head = Self::in_block(block, bytes.len());
        // SAFETY: We hold the only count.
        let data = unsafe { header(head) }.data;
        // SAFETY: `in_block` found room for as many bytes; the block overlaps with nothing.
        unsafe { data.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Self(head)
    }

    pub(crate) fn from_vec(bytes: Vec<u8>) -> Self {
        let len = checked_len(bytes.len());
        let mut bytes = ManuallyDrop::new(bytes);
        // Not from a slice of it, whose address would be good for `len` bytes only: `take_vec`
        // gives all of the capacity back by this one.
        let data = NonNull::new(bytes.as_mut_ptr()).expect("a vector's pointer is not null");
        let header = Header {
            refs: AtomicUsize::new(1),
            data,
            len,
            kind: Kind::Vec,
        };
        Self(
            boxed(VecHeader {
                header,
                capacity: bytes.capacity(),
            })
            .cast(),
        )
    }

    #[cfg(feature = "bytes")]
    pub(crate) fn from_bytes(owner: bytes::Bytes) -> Self {
        let len = checked_len(owner.len());
        let data = NonNull::from(&owner[..]).cast();
        let header = Header {
            refs: AtomicUsize::new(1),
            data,
            len,
            kind: Kind::Bytes,
        };
        Self(boxed(BytesHeader { header, owner }).cast())
    }

    pub(crate) fn len(&self) -> usize {
        self.header().len as usize
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: This handle may read all bytes; they are initialised and nobody writes them.
        unsafe { slice::from_raw_parts(header.data.as_ptr(), header.len as usize) }
    }

    /// The `Vec` that [`from_vec`](Self::from_vec) took over, where no other handle is left; else
    /// the handle.
    pub(crate) fn into_vec(self) -> Result<Vec<u8>, Self> {
        if self.header().kind != Kind::Vec || !self.is_unique() {
            return Err(self);
        }
        let head = ManuallyDrop::new(self).0;
        #[cfg(loom)]
        // SAFETY: The only count is ours.
        unsafe {
            assert_alone(head);
        }
        // SAFETY: The only count is ours, and `is_unique` ordered all uses of others before.
        Ok(unsafe { take_vec(head) })
    }

    pub(crate) fn is_unique(&self) -> bool {
        self.header().refs.load(Ordering::Acquire) == 1
    }

    /// Takes `n` more counts.
    pub(crate) fn retain_n(&self, n: usize) -> RawMany {
        // SAFETY: This handle has a count.
        unsafe { retain(self.0, n) };
        RawMany {
            head: self.0,
            left: n,
        }
    }
}

impl Clone for RawBuf {
    fn clone(&self) -> Self {
        // SAFETY: This handle has a count.
        unsafe { retain(self.0, 1) };
        Self(self.0)
    }
}

impl Drop for RawBuf {
    fn drop(&mut self) {
        // SAFETY: This handle has a count and gives it up.
        unsafe { release(self.0, 1) };
    }
}

// SAFETY: A handle reads bytes that nobody writes and counts atomically; any thread may free the
// buffer, also a foreign owner of one (`Vec`, `Bytes`), since those are `Send` and `Sync`
// themselves.
unsafe impl Send for RawBuf {}
// SAFETY: As above.
unsafe impl Sync for RawBuf {}

/// Counts that no handle stands for yet.
pub(crate) struct RawMany {
    head: NonNull<Header>,
    left: usize,
}

impl RawMany {
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Turns all counts into handles, at the end of a vector.
    ///
    /// The iterator says exactly how long it is, so the vector asks for room once.
    pub(crate) fn append_to<T>(mut self, into: &mut Vec<T>, wrap: impl Fn(RawBuf) -> T) {
        // What can fail comes first, while the counts are still ours.
        into.reserve(self.left);
        let left = core::mem::take(&mut self.left);
        into.extend(core::iter::repeat_with(|| wrap(RawBuf(self.head))).take(left));
    }

    /// Turns a count into a handle for all of the buffer.
    pub(crate) fn take(&mut self) -> Option<RawBuf> {
        self.left = self.left.checked_sub(1)?;
        Some(RawBuf(self.head))
    }
}

impl Drop for RawMany {
    fn drop(&mut self) {
        if self.left > 0 {
            // SAFETY: We have that many counts and give them up.
            unsafe { release(self.head, self.left) };
        }
    }
}

// SAFETY: The counts may be given back by any thread, as those of handles.
unsafe impl Send for RawMany {}
// SAFETY: Through a shared reference there is only a number to read.
unsafe impl Sync for RawMany {}
