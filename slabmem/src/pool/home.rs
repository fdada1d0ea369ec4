//! Where blocks go home: the one thing that a pool shares with its blocks.
//!
//! Ground rules. A [`Block`] owns its bytes alone. A [`Home`] lives until its owner has closed it
//! *and* every block that was out at that time is back: a block may therefore use its home until
//! the moment at which it is pushed or counted off, and not afterwards. The memory of the blocks of a
//! class belongs to the segments; those belong to the owner, and from its end on to the home. A
//! longer block is a mapping of its own: its memory belongs to the block, and whoever takes it in
//! unmaps it.
//!
//! A block that comes back becomes a [`Node`] in its own memory, on a stack that is pushed by
//! compare and exchange and emptied by one swap. Nobody pops a single node, so a head that came
//! back to the same address does no harm.
//!
//! Orderings. A push is Release and the swap that takes the list is Acquire: what a thread did
//! with a block comes before what the owner does with it. `orphans` is only changed by AcqRel
//! operations: who brings it to zero after the owner's addition comes after all of them, and
//! frees. Before that addition the count is negative or zero and nobody who subtracts can bring it
//! to zero.

use core::cell::UnsafeCell;
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, DerefMut};
use core::ptr::{self, NonNull};
use core::{fmt, slice};
use std::alloc::{Layout, handle_alloc_error};

use super::{BLOCK_BYTES_MAX, BLOCK_BYTES_MIN};
use crate::sync::{self, AtomicIsize, AtomicPtr, Ordering};
use crate::sys::Mapping;

/// A block on its way home.
struct Node {
    next: *mut Self,
    len: usize,
}

const _: () = assert!(size_of::<Node>() <= BLOCK_BYTES_MIN);

/// The head of a stack whose owner is gone. No node has this address.
fn closed() -> *mut Node {
    ptr::without_provenance_mut(1)
}

struct Home {
    returned: AtomicPtr<Node>,
    /// After the owner has closed: how many blocks are out.
    orphans: AtomicIsize,
    /// After the owner has closed: the memory of the blocks.
    segments: UnsafeCell<Vec<Mapping>>,
}

/// The memory of a vacant block.
pub(super) struct Place(NonNull<u8>);

impl Place {
    /// The place at an offset of a segment.
    pub(super) fn in_segment(segment: &Mapping, offset: usize, len: usize) -> Self {
        assert!(offset + len <= segment.len(), "block lies in its segment");
        // SAFETY: The offset has just been found to lie in the mapping.
        Self(unsafe { segment.start().add(offset) })
    }

    pub(super) fn address(&self) -> usize {
        self.0.addr().get()
    }

    /// Unmaps the place of a block that is longer than any class has.
    pub(super) fn unmap(self, len: usize) {
        assert!(
            len > BLOCK_BYTES_MAX,
            "blocks of a class belong to segments"
        );
        // SAFETY: A place of that length is what `lend_mapping` took from a mapping, and nobody
        // else has it.
        drop(unsafe { Mapping::from_parts(self.0, len) });
    }
}

// SAFETY: A place is the address of memory that nobody else uses; no thread is special to it.
unsafe impl Send for Place {}
// SAFETY: Through a shared reference only the address can be read.
unsafe impl Sync for Place {}

/// The owner's side of a home. Dropped, it leaves the segments to the blocks that are out.
pub(super) struct Owner {
    home: NonNull<Home>,
    pub(super) segments: Vec<Mapping>,
    /// How many blocks are out, said by [`leave`](Self::leave).
    out: usize,
}

impl Owner {
    pub(super) fn new() -> Self {
        let layout = Layout::new::<Home>();
        // SAFETY: The layout has a size.
        let place = unsafe { sync::alloc(layout) }.cast::<Home>();
        let place = NonNull::new(place).unwrap_or_else(|| handle_alloc_error(layout));
        let home = Home {
            returned: AtomicPtr::new(ptr::null_mut()),
            orphans: AtomicIsize::new(0),
            segments: UnsafeCell::new(Vec::new()),
        };
        // SAFETY: The place was just allocated for a home.
        unsafe { place.write(home) };
        Self {
            home: place,
            segments: Vec::new(),
            out: 0,
        }
    }

    fn home(&self) -> &Home {
        // SAFETY: The owner has not gone, so the home lives.
        unsafe { self.home.as_ref() }
    }

    /// Lends a vacant block of a class out.
    #[inline]
    pub(super) fn lend(&self, place: Place, len: usize) -> Block {
        Block {
            data: place.0,
            len,
            home: self.home,
        }
    }

    /// Lends a mapping out, which is longer than any class has.
    pub(super) fn lend_mapping(&self, mapping: Mapping) -> Block {
        let len = mapping.len();
        assert!(len > BLOCK_BYTES_MAX, "a block of its own has no class");
        self.lend(Place(mapping.into_start()), len)
    }

    /// Takes a block back that belongs here, without an atomic operation; else returns it.
    #[inline]
    pub(super) fn take_back(&self, block: Block) -> Result<(usize, Place), Block> {
        if block.home != self.home {
            return Err(block);
        }
        let block = ManuallyDrop::new(block);
        Ok((block.len, Place(block.data)))
    }

    /// Takes all that has come back by other ways.
    pub(super) fn take_returned(&self) -> Returned {
        let returned = &self.home().returned;
        if returned.load(Ordering::Relaxed).is_null() {
            return Returned(ptr::null_mut());
        }
        Returned(returned.swap(ptr::null_mut(), Ordering::Acquire))
    }

    /// Says how many blocks are out by the owner's books, which are about to be dropped.
    pub(super) fn leave(&mut self, out: usize) {
        self.out = out;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let segments = mem::take(&mut self.segments);
        let home = self.home();
        // SAFETY: Nobody else looks at the cell before the addition below.
        unsafe { *home.segments.get() = segments };
        let mut list = Returned(home.returned.swap(closed(), Ordering::AcqRel));
        let mut returned = 0;
        while let Some((len, place)) = list.pop() {
            returned += 1;
            if len > BLOCK_BYTES_MAX {
                place.unmap(len);
            }
        }
        let out = (self.out - returned) as isize;
        if home.orphans.fetch_add(out, Ordering::AcqRel) + out == 0 {
            // SAFETY: All blocks are back, and the owner ends here.
            unsafe { free(self.home) };
        }
    }
}

/// Blocks that have come back. Nobody else can reach them.
pub(super) struct Returned(*mut Node);

impl Returned {
    pub(super) fn pop(&mut self) -> Option<(usize, Place)> {
        let node = NonNull::new(self.0)?;
        // SAFETY: The node was written before it was pushed, and the swap that took the list was
        // Acquire; its memory is ours since.
        let Node { next, len } = unsafe { node.read() };
        self.0 = next;
        Some((len, Place(node.cast())))
    }
}

/// Frees a home and its segments.
///
/// # Safety
/// The owner has closed and no block is out; nobody uses the home afterwards.
unsafe fn free(home: NonNull<Home>) {
    // SAFETY: The caller is the last.
    unsafe { home.drop_in_place() };
    // SAFETY: `Owner::new` allocated it with this layout.
    unsafe { sync::dealloc(home.as_ptr().cast(), Layout::new::<Home>()) };
}

// SAFETY: The owner's side uses the home by atomics; the cell is touched as `drop` says.
unsafe impl Send for Owner {}
// SAFETY: `take_returned` and `lend` on a shared owner are sound from several threads: the list is taken
// by a swap.
unsafe impl Sync for Owner {}

/// A block of a [`Pool`](crate::Pool): bytes that go home when it is dropped, on whatever thread.
///
/// It dereferences to all its bytes, which are initialised but of no meaning at first: they may be
/// what the last user left. There are [`len`](slice::len) of them: what its class has, or whole pages
/// where it is above the classes; at least what was asked for.
///
/// # Concurrency
/// `Send` and `Sync`. A drop is one push on the pool's stack, or, where the pool is gone, one
/// subtraction; the last block of a pool that is gone unmaps its memory. The owner of the pool
/// saves the atomic operation by [`Pool::give_back`](crate::Pool::give_back).
pub struct Block {
    data: NonNull<u8>,
    /// That of a class, or more than any class has.
    len: usize,
    home: NonNull<Home>,
}

impl Deref for Block {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: The block owns that many bytes; they are initialised since they were mapped.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and the block is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: This block is out, so its home lives.
        let home = unsafe { self.home.as_ref() };
        let node = self.data.cast::<Node>();
        let mut head = home.returned.load(Ordering::Relaxed);
        while head != closed() {
            let content = Node {
                next: head,
                len: self.len,
            };
            // SAFETY: The block's memory is ours until the exchange succeeds, and large and
            // aligned enough.
            unsafe { node.write(content) };
            let order = (Ordering::Release, Ordering::Relaxed);
            match home
                .returned
                .compare_exchange_weak(head, node.as_ptr(), order.0, order.1)
            {
                // From here on neither block nor home may be touched.
                Ok(_) => return,
                Err(other) => head = other,
            }
        }
        if self.len > BLOCK_BYTES_MAX {
            Place(self.data).unmap(self.len);
        }
        if home.orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: The count reached zero after the owner closed: this was the last block.
            unsafe { free(self.home) };
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

// SAFETY: A block owns its bytes alone, and goes home by atomic operations from any thread.
unsafe impl Send for Block {}
// SAFETY: A shared block gives nothing but shared bytes.
unsafe impl Sync for Block {}
