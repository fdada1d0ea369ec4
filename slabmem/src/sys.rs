//! Anonymous memory of the operating system.
//!
//! Ground rules: a [`Mapping`] owns its address range from `map` to drop, nobody else unmaps it,
//! and it hands out nothing but raw pointers; who dereferences them answers for it. Fresh memory
//! reads as zero, and so does memory after `discard`. Under Miri, which has no `mmap`, the range
//! comes from the allocator and `discard` leaves it as it is, which the callers must be able to
//! live with.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

/// Has the C library's allocator give back what it holds and nobody uses, where it can.
#[cfg(all(target_env = "gnu", not(miri)))]
pub(crate) fn trim_heap() -> bool {
    // SAFETY: It takes no pointer, and any thread may call it at any time (malloc_trim(3)).
    unsafe { libc::malloc_trim(0) != 0 }
}

/// Another allocator, which cannot be asked.
#[cfg(not(all(target_env = "gnu", not(miri))))]
pub(crate) fn trim_heap() -> bool {
    false
}

/// An anonymous private mapping, resident only where it was touched.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, page-aligned, or nothing where the system refuses. `len` must not be zero.
    #[cfg(not(miri))]
    pub(crate) fn map(len: usize) -> Option<Self> {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        debug_assert!(len > 0);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: A null hint and no `FIXED` flag: the kernel chooses a range that nobody has.
        let start = unsafe { mmap_anonymous(core::ptr::null_mut(), len, access, flags) };
        NonNull::new(start.ok()?.cast()).map(|start| Self { start, len })
    }

    /// As [`map`](Self::map), at a multiple of [`HUGE_BYTES`] and with the advice to use huge
    /// pages.
    /// `len` is such a multiple, too.
    #[cfg(not(miri))]
    pub(crate) fn map_huge(len: usize) -> Option<Self> {
        use rustix::mm::{Advice, madvise};
        let wide = ManuallyDrop::new(Self::map(len.checked_add(HUGE_BYTES)?)?);
        let before = wide.start.addr().get().next_multiple_of(HUGE_BYTES) - wide.start.addr().get();
        // SAFETY: `before` is less than the mapping is longer than `len`.
        let start = unsafe { wide.start.add(before) };
        if before > 0 {
            // SAFETY: The front of the mapping, which is ours and is given up here.
            drop(unsafe { Self::from_parts(wide.start, before) });
        }
        if before < HUGE_BYTES {
            // SAFETY: `start` and `len` lie inside the mapping.
            let end = unsafe { start.add(len) };
            // SAFETY: The end of the mapping, which is ours and is given up here.
            drop(unsafe { Self::from_parts(end, HUGE_BYTES - before) });
        }
        // SAFETY: The pages are ours. A refusal costs speed and nothing else.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxHugepage) };
        Some(Self { start, len })
    }

    /// The stand-in under Miri, which has no pages.
    #[cfg(miri)]
    pub(crate) fn map_huge(len: usize) -> Option<Self> {
        Self::map(len)
    }

    /// The stand-in under Miri.
    #[cfg(miri)]
    pub(crate) fn map(len: usize) -> Option<Self> {
        // SAFETY: The layout has a size, since `len` is not zero.
        let start = unsafe { std::alloc::alloc_zeroed(Self::layout(len)) };
        NonNull::new(start).map(|start| Self { start, len })
    }

    #[cfg(miri)]
    fn layout(len: usize) -> std::alloc::Layout {
        std::alloc::Layout::from_size_align(len, PAGE_ALIGN)
            .expect("mapping fits the address space")
    }

    /// Gives the range up to the caller, who is its owner from now on.
    pub(crate) fn into_start(self) -> NonNull<u8> {
        ManuallyDrop::new(self).start
    }

    /// The mapping that [`into_start`](Self::into_start) gave up.
    ///
    /// # Safety
    /// The parts are those of that mapping, or of whole pages of it, and no other value that unmaps
    /// them when dropped has them.
    pub(crate) const unsafe fn from_parts(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    /// Returns the first byte. The pointer is good for the whole mapping, as long as that lives.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives the whole pages between the byte offsets `from` and `to` back to the system.
    ///
    /// Their contents are lost. A refusal is without consequence but for the memory.
    ///
    /// # Safety
    /// Nobody holds a reference into that range, and nobody expects what he wrote there to last.
    #[cfg(not(miri))]
    pub(crate) unsafe fn discard(&self, from: usize, to: usize) {
        use rustix::mm::{Advice, madvise};
        let page = rustix::param::page_size();
        let first = from.next_multiple_of(page);
        let end = if to >= self.len {
            self.len.next_multiple_of(page)
        } else {
            to - to % page
        };
        if first >= end {
            return;
        }
        // SAFETY: `first` lies in the mapping, since it is below `end`.
        let start = unsafe { self.start.as_ptr().add(first) };
        // SAFETY: The pages belong to this mapping; the caller vouches that their contents are
        // dead.
        let _ = unsafe { madvise(start.cast(), end - first, Advice::LinuxDontNeed) };
    }

    /// The stand-in under Miri keeps the memory.
    #[cfg(miri)]
    pub(crate) unsafe fn discard(&self, _from: usize, _to: usize) {}
}

/// A mapping whose bytes belong to whoever holds it: readable and writable without `unsafe`.
#[derive(Debug)]
pub(crate) struct Pages(Mapping);

impl Pages {
    /// Maps `len` zeros, or nothing where the system refuses. `len` must not be zero.
    pub(crate) fn map(len: usize) -> Option<Self> {
        Mapping::map(len).map(Self)
    }
}

impl Deref for Pages {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: The mapping lives as long as this borrow and is initialised; its address was
        // given to nobody else, so only the exclusive borrow below writes.
        unsafe { slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }
}

impl DerefMut for Pages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and this borrow is exclusive.
        unsafe { slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.len) }
    }
}

/// What every mapping is aligned to at least, on any supported machine.
pub(crate) const PAGE_ALIGN: usize = 4096;

/// The size of a huge page, on the machines that have those of one size below a gigabyte.
pub(crate) const HUGE_BYTES: usize = 2 << 20;

impl Drop for Mapping {
    #[cfg(not(miri))]
    fn drop(&mut self) {
        // SAFETY: The range is ours since `map` and nobody uses it past its owner.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
    }

    #[cfg(miri)]
    fn drop(&mut self) {
        // SAFETY: `map` allocated the range with this layout.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), Self::layout(self.len)) }
    }
}

// SAFETY: The mapping is a range of addresses that this value alone owns; no thread is special to
// it.
unsafe impl Send for Mapping {}
// SAFETY: Through a shared reference only the address can be read (`discard` has its own contract).
unsafe impl Sync for Mapping {}
