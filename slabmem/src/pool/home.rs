//! Where blocks go home: the one thing that a pool shares with its blocks.
//!
//! Ground rules. A [`Block`] owns its bytes alone. A [`Home`] lives until its owner has closed it
//! *and* every block that was out at that time is back: a block may therefore use its home until
//! the moment at which it is pushed or counted off, and not afterwards. The memory of the blocks of
//! a class belongs to the segments; those belong to the owner, and from its end on to the home. A
//! longer block is a mapping of its own, at whose start its length stands ([`LargeHeader`]): that
//! memory belongs to the block, and whoever takes it in unmaps it.
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

use super::{BLOCK_BYTES_MIN, LARGE, class_bytes};
use crate::sync::{self, AtomicIsize, AtomicPtr, Ordering};
use crate::sys::Mapping;

/// A block on its way home.
struct Node {
    next: *mut Self,
    class: usize,
}

const _: () = assert!(size_of::<Node>() <= BLOCK_BYTES_MIN);

/// The head of a stack whose owner is gone. No node has this address.
fn closed() -> *mut Node {
    ptr::without_provenance_mut(1)
}

/// Aligned, so that the low bits of its address can say the class of a block.
#[repr(align(16))]
struct Home {
    returned: AtomicPtr<Node>,
    /// After the owner has closed: how many blocks are out.
    orphans: AtomicIsize,
    /// After the owner has closed: the memory of the blocks.
    segments: UnsafeCell<Vec<Mapping>>,
}

/// The bits of a home's address that say a class.
const CLASS_MASK: usize = align_of::<Home>() - 1;

const _: () = assert!(LARGE <= CLASS_MASK);

/// The address of a home, with the class of a block in its low bits: a handle of two words travels
/// in registers, where one of three goes through memory.
#[derive(Copy, Clone)]
struct Tagged(NonNull<Home>);

impl Tagged {
    #[inline]
    fn new(home: NonNull<Home>, class: usize) -> Self {
        debug_assert!(class <= CLASS_MASK);
        Self(home.map_addr(|address| address | class))
    }

    #[inline]
    fn class(self) -> usize {
        self.0.addr().get() & CLASS_MASK
    }

    #[inline]
    fn home(self) -> *mut Home {
        self.0.as_ptr().map_addr(|address| address & !CLASS_MASK)
    }
}

/// What stands before the bytes of a block that is a mapping of its own. A cache line, so that the
/// bytes are aligned to one.
#[repr(C, align(64))]
pub(super) struct LargeHeader {
    mapped_bytes: usize,
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

    /// The place behind the header of a mapping of its own.
    fn in_mapping(mapping: Mapping) -> Self {
        let mapped_bytes = mapping.len();
        assert!(mapped_bytes > size_of::<LargeHeader>(), "mapping has room");
        let start = mapping.into_start().cast::<LargeHeader>();
        // SAFETY: The mapping is ours, page-aligned and longer than a header.
        unsafe { start.write(LargeHeader { mapped_bytes }) };
        // SAFETY: It is longer than a header.
        Self(unsafe { start.add(1) }.cast())
    }

    /// The header before the place of a block that is [`LARGE`].
    ///
    /// # Safety
    /// The place is that of such a block.
    unsafe fn header(&self) -> NonNull<LargeHeader> {
        // SAFETY: `in_mapping` left a header before the place, from the same mapping.
        unsafe { self.0.cast::<LargeHeader>().sub(1) }
    }

    /// The bytes that are mapped for a block that is [`LARGE`].
    ///
    /// # Safety
    /// The place is that of such a block.
    unsafe fn mapped_bytes(&self) -> usize {
        // SAFETY: The caller vouches for it.
        let header = unsafe { self.header() };
        // SAFETY: `in_mapping` wrote it, and nobody writes there afterwards.
        unsafe { header.as_ref() }.mapped_bytes
    }

    /// Unmaps the place of a block that is [`LARGE`]. Returns how many bytes were mapped.
    ///
    /// # Safety
    /// The place is that of such a block.
    unsafe fn unmap(self) -> usize {
        // SAFETY: The caller vouches for it.
        let mapped_bytes = unsafe { self.mapped_bytes() };
        // SAFETY: As above.
        let start = unsafe { self.header() }.cast();
        // SAFETY: Those are the parts that `in_mapping` took from a mapping, and the place, which
        // ends here, is their only owner.
        drop(unsafe { Mapping::from_parts(start, mapped_bytes) });
        mapped_bytes
    }

    pub(super) fn address(&self) -> usize {
        self.0.addr().get()
    }
}

/// A block that is back: of a class, or unmapped.
pub(super) enum Back {
    Vacant(usize, Place),
    /// It was a mapping of its own, of so many bytes.
    Unmapped(usize),
}

impl Back {
    /// # Safety
    /// Place and class are those of a block, and the caller is their only owner.
    #[inline]
    unsafe fn new(class: usize, place: Place) -> Self {
        if class == LARGE {
            // SAFETY: The caller vouches for it.
            return Self::Unmapped(unsafe { place.unmap() });
        }
        Self::Vacant(class, place)
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
    pub(super) fn lend(&self, place: Place, class: usize) -> Block {
        debug_assert!(class < LARGE);
        Block {
            data: place.0,
            home: Tagged::new(self.home, class),
        }
    }

    /// Lends a mapping out, but for the header at its start.
    pub(super) fn lend_mapping(&self, mapping: Mapping) -> Block {
        Block {
            data: Place::in_mapping(mapping).0,
            home: Tagged::new(self.home, LARGE),
        }
    }

    /// Takes a block back that belongs here, without an atomic operation. Another goes home.
    #[inline]
    pub(super) fn take_back(&self, block: Block) -> Option<Back> {
        if block.home.home() != self.home.as_ptr() {
            return None;
        }
        let block = ManuallyDrop::new(block);
        // SAFETY: The block was the only owner of its place, and is not dropped.
        Some(unsafe { Back::new(block.home.class(), Place(block.data)) })
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
        while list.pop().is_some() {
            returned += 1;
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
    pub(super) fn pop(&mut self) -> Option<Back> {
        let node = NonNull::new(self.0)?;
        // SAFETY: The node was written before it was pushed, and the swap that took the list was
        // Acquire; its memory is ours since.
        let Node { next, class } = unsafe { node.read() };
        self.0 = next;
        // SAFETY: Who pushed the node gave its place up to whoever takes the list.
        Some(unsafe { Back::new(class, Place(node.cast())) })
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
// SAFETY: `take_returned` and `lend` on a shared owner are sound from several threads: the list is
// taken by a swap.
unsafe impl Sync for Owner {}

/// A block of a [`Pool`](crate::Pool): bytes that go home when it is dropped, on whatever thread.
///
/// It dereferences to all its bytes, which are initialised but of no meaning at first: they may be
/// what the last user left. There are [`len`](slice::len) of them: what its class has, or whole
/// pages where it is above the classes; at least what was asked for.
///
/// # Concurrency
/// `Send` and `Sync`. A drop is one push on the pool's stack, or, where the pool is gone, one
/// subtraction; the last block of a pool that is gone unmaps its memory. The owner of the pool
/// saves the atomic operation by [`Pool::give_back`](crate::Pool::give_back).
pub struct Block {
    data: NonNull<u8>,
    home: Tagged,
}

impl Block {
    #[inline]
    fn byte_count(&self) -> usize {
        match self.home.class() {
            LARGE => {
                // SAFETY: `lend_mapping` made this block.
                unsafe { large_byte_count(self.data) }
            }
            class => class_bytes(class),
        }
    }
}

/// How many bytes a block has that is [`LARGE`].
///
/// # Safety
/// There is such a block at `data`.
// By value, as `send_home`: a block whose address a call gets cannot stay in registers.
#[cold]
unsafe fn large_byte_count(data: NonNull<u8>) -> usize {
    // SAFETY: The caller vouches for it.
    unsafe { Place(data).mapped_bytes() - size_of::<LargeHeader>() }
}

impl Deref for Block {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: The block owns that many bytes; they are initialised since they were mapped.
        unsafe { slice::from_raw_parts(self.data.as_ptr(), self.byte_count()) }
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: As above, and the block is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.data.as_ptr(), self.byte_count()) }
    }
}

impl Drop for Block {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: The block ends here.
        unsafe { send_home(self.data, self.home) };
    }
}

/// Pushes a block on the stack of its home, or counts it off where the owner has gone.
///
/// # Safety
/// These are the parts of a block that ends here.
#[inline(never)]
unsafe fn send_home(data: NonNull<u8>, tagged: Tagged) {
    // SAFETY: A home's address is not null.
    let place = unsafe { NonNull::new_unchecked(tagged.home()) };
    // SAFETY: The block is out, so its home lives.
    let home = unsafe { place.as_ref() };
    let node = data.cast::<Node>();
    let mut head = home.returned.load(Ordering::Relaxed);
    while head != closed() {
        let content = Node {
            next: head,
            class: tagged.class(),
        };
        // SAFETY: The block's memory is ours until the exchange succeeds, and large and aligned
        // enough.
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
    if tagged.class() == LARGE {
        // SAFETY: `lend_mapping` made this block, which the caller gives up.
        unsafe { Place(data).unmap() };
    }
    if home.orphans.fetch_sub(1, Ordering::AcqRel) == 1 {
        // By the pointer that the owner made: a shared reference does not carry the right to end
        // what it refers to.
        // SAFETY: The count reached zero after the owner had gone: this was the last block.
        unsafe { free(place) };
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
