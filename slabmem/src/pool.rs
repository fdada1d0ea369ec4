//! Blocks of bytes by size class.
#![deny(unsafe_code)]

use core::fmt;

use crate::sys::{HUGE_BYTES, Mapping, PAGE_ALIGN};

#[allow(
    unsafe_code,
    reason = "the stack on which blocks come back; its ground rules open the file"
)]
mod home;

pub use home::Block;

use home::{Back, LargeHeader, Owner, Place};

/// The smallest class, in bytes.
pub const BLOCK_BYTES_MIN: usize = 64;
/// The largest class, in bytes. Longer blocks are mapped one by one.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;

const CLASSES: usize = 11;
/// What a block has for a class that is a mapping of its own.
const LARGE: usize = CLASSES;
const SEGMENT_BYTES_MAX: usize = 1 << 20;
/// Blocks a segment, unless that is too large. Under Miri few, since `shrink` looks at each.
const SEGMENT_BLOCKS: usize = if cfg!(miri) { 64 } else { 1024 };

const _: () = assert!(class_bytes(CLASSES - 1) == BLOCK_BYTES_MAX);

/// The size of the blocks of a class: a power of two.
const fn class_bytes(class: usize) -> usize {
    BLOCK_BYTES_MIN << class
}

/// The class of the smallest blocks of at least `len` bytes; not below [`CLASSES`] where there is
/// none.
#[inline]
const fn class_of(len: usize) -> usize {
    let more = len.saturating_sub(1) / BLOCK_BYTES_MIN;
    (usize::BITS - more.leading_zeros()) as usize
}

/// The vacant blocks of a size.
#[derive(Default)]
struct Class {
    free: Vec<Place>,
    /// The segment that blocks are cut from, as an index, and how much of it is cut.
    cutting: Option<(usize, usize)>,
    /// Blocks that are on the list or out: so those that are out need no count.
    cut: usize,
}

/// Blocks of bytes, allocated by one owner and freed by anybody.
///
/// Each size class, a power of two from 64 bytes to 64 KiB, cuts its blocks from mapped segments
/// and keeps those that came back, of which the owner takes the latest first: no atomic operation,
/// no system call. A [`Block`] that is dropped, on whatever thread, is pushed on a stack with one
/// atomic operation; the owner takes the whole stack with one swap when a class has run out, or in
/// [`collect`](Self::collect). The owner may hand a block back without an atomic operation by
/// [`give_back`](Self::give_back).
///
/// A block above [`BLOCK_BYTES_MAX`] is a mapping of its own, in whole pages, and goes back to the
/// system when the owner has it back: two system calls and a fault a page, which is what such a
/// block costs from any allocator.
///
/// # Limits
/// `max_bytes` bounds what is mapped: segments (64 KiB to 1 MiB) and large blocks. Memory is given
/// back by [`trim`](Self::trim), and where marks are set ([`with_marks`](Self::with_marks)) by
/// `collect`: vacant blocks above the high mark are a storm that has passed, and segments of which
/// no block is out go until they are down to the low mark.
///
/// # When the owner goes
/// A pool may be dropped while blocks are out. They stay valid; the memory of all is unmapped with
/// the last.
///
/// # Examples
/// ```
/// use slabmem::Pool;
///
/// let mut pool = Pool::new(16 << 20);
/// let mut block = pool.alloc(1000)?;
/// assert_eq!(block.len(), 1024);
/// block[..5].copy_from_slice(b"hello");
///
/// std::thread::spawn(move || drop(block)).join().unwrap();
/// pool.collect();
/// assert_eq!(pool.stats().live, 0);
/// # Ok::<(), slabmem::PoolError>(())
/// ```
pub struct Pool {
    owner: Owner,
    classes: [Class; CLASSES],
    max_bytes: usize,
    mapped_bytes: usize,
    peak_bytes: usize,
    /// Large blocks that are out.
    large: usize,
    remote_frees: u64,
    low_bytes: usize,
    high_bytes: usize,
    /// Vacant bytes at which `collect` tries next: above the high mark where a try has found that
    /// too many segments have a block out.
    shrink_at: usize,
    has_huge_pages: bool,
}

impl Pool {
    /// Makes an empty pool that maps at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            owner: Owner::new(),
            classes: Default::default(),
            max_bytes,
            mapped_bytes: 0,
            peak_bytes: 0,
            large: 0,
            remote_frees: 0,
            low_bytes: 0,
            high_bytes: usize::MAX,
            shrink_at: usize::MAX,
            has_huge_pages: false,
        }
    }

    /// Sets the marks between which vacant memory is kept: where there are more than `high_bytes`
    /// of vacant blocks at a [`collect`](Self::collect), segments go back to the system until there
    /// are
    /// `low_bytes`. Without marks only [`trim`](Self::trim) gives memory back.
    ///
    /// # Panics
    /// Where the low mark is above the high one.
    #[must_use]
    pub fn with_marks(mut self, low_bytes: usize, high_bytes: usize) -> Self {
        assert!(
            low_bytes <= high_bytes,
            "the low mark is not above the high one"
        );
        (self.low_bytes, self.high_bytes, self.shrink_at) = (low_bytes, high_bytes, high_bytes);
        self
    }

    /// Asks for huge pages (`MADV_HUGEPAGE`): segments are 2 MiB and so aligned.
    ///
    /// That saves page walks where many megabytes are in use at random, and takes 2 MiB for each
    /// class that is used at all. A kernel without huge pages gives ordinary ones.
    #[must_use]
    pub fn with_huge_pages(mut self) -> Self {
        self.has_huge_pages = true;
        self
    }

    /// Takes a block of at least `len` bytes, whose contents are initialised but of no meaning.
    ///
    /// # Errors
    /// [`PoolError::Full`] where a segment or a large block more would be above the pool's limit;
    /// [`PoolError::NoMemory`] where the system gives none.
    ///
    /// # Complexity
    /// O(1), amortised over the blocks that others have freed since. Maps a segment now and then,
    /// and every large block.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> Result<Block, PoolError> {
        let class = class_of(len);
        let place = match self.classes.get_mut(class) {
            Some(lists) => match lists.free.pop() {
                Some(place) => place,
                None => self.refill(class)?,
            },
            None => return self.alloc_large(len),
        };
        Ok(self.owner.lend(place, class))
    }

    /// Takes a block of this pool back, without an atomic operation. A block of another pool goes
    /// home to that.
    #[inline]
    pub fn give_back(&mut self, block: Block) {
        if let Some(back) = self.owner.take_back(block) {
            self.take_in(back);
        }
    }

    /// Takes all blocks that were dropped since. One atomic swap, none where there are none.
    ///
    /// An owner who allocates need not call it, unless marks are set; it makes
    /// [`stats`](Self::stats) exact.
    ///
    /// # Complexity
    /// Linear in the blocks that were dropped; above the high mark as [`trim`](Self::trim).
    pub fn collect(&mut self) {
        let mut list = self.owner.take_returned();
        while let Some(back) = list.pop() {
            self.take_in(back);
            self.remote_frees += 1;
        }
        if self.high_bytes < usize::MAX && self.vacant_bytes() > self.shrink_at {
            self.shrink(self.low_bytes);
            // Where blocks here and there hold their segments, the next try waits for more.
            let step = (self.high_bytes - self.low_bytes) / 2;
            self.shrink_at = self
                .high_bytes
                .max(self.vacant_bytes().saturating_add(step));
        }
    }

    /// Gives the segments back to the system of which no block is out.
    ///
    /// # Complexity
    /// Linear in the blocks that are not out, times the logarithm of the segments.
    pub fn trim(&mut self) {
        self.collect();
        self.shrink(0);
    }

    /// Returns the state of the pool, as of the last [`collect`](Self::collect).
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            live: self.live(),
            cached: self.classes.iter().map(|class| class.free.len()).sum(),
            vacant_bytes: self.vacant_bytes(),
            uncut_bytes: self.uncut_bytes(),
            mapped_bytes: self.mapped_bytes,
            peak_bytes: self.peak_bytes,
            max_bytes: self.max_bytes,
            remote_frees: self.remote_frees,
        }
    }

    /// The blocks that are out.
    fn live(&self) -> usize {
        let small = self
            .classes
            .iter()
            .map(|class| class.cut - class.free.len());
        self.large + small.sum::<usize>()
    }

    /// The bytes of the vacant blocks.
    fn vacant_bytes(&self) -> usize {
        let classes = self.classes.iter().enumerate();
        classes
            .map(|(number, class)| class.free.len() * class_bytes(number))
            .sum()
    }

    /// The bytes of segments that are no block yet.
    fn uncut_bytes(&self) -> usize {
        let cutting = self.classes.iter().filter_map(|class| class.cutting);
        cutting
            .map(|(segment, from)| self.owner.segments[segment].len() - from)
            .sum()
    }

    /// Puts a block on the list of its class, or takes note that it was unmapped.
    #[inline]
    fn take_in(&mut self, back: Back) {
        match back {
            Back::Vacant(class, place) => self.classes[class].free.push(place),
            Back::Unmapped(bytes) => {
                self.large -= 1;
                self.mapped_bytes -= bytes;
            }
        }
    }

    /// Maps a block of its own.
    #[cold]
    #[inline(never)]
    fn alloc_large(&mut self, len: usize) -> Result<Block, PoolError> {
        let unit = if self.has_huge_pages && len >= HUGE_BYTES {
            HUGE_BYTES
        } else {
            PAGE_ALIGN
        };
        let bytes = len
            .checked_add(size_of::<LargeHeader>())
            .and_then(|bytes| bytes.checked_next_multiple_of(unit))
            .ok_or(PoolError::TooLarge)?;
        // Large blocks that others have dropped are mapped until now.
        self.collect();
        self.map(bytes, |mapping, pool| pool.owner.lend_mapping(mapping))
            .inspect(|_| self.large += 1)
    }

    /// Maps so many bytes within the limit.
    fn map<R>(
        &mut self,
        bytes: usize,
        use_it: impl FnOnce(Mapping, &mut Self) -> R,
    ) -> Result<R, PoolError> {
        if bytes > self.max_bytes - self.mapped_bytes {
            return Err(PoolError::Full);
        }
        let mapping = if self.has_huge_pages && bytes.is_multiple_of(HUGE_BYTES) {
            Mapping::map_huge(bytes)
        } else {
            Mapping::map(bytes)
        };
        let mapping = mapping.ok_or(PoolError::NoMemory)?;
        self.mapped_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.mapped_bytes);
        Ok(use_it(mapping, self))
    }

    /// Finds a vacant block where the list of the class is empty.
    #[cold]
    #[inline(never)]
    fn refill(&mut self, class: usize) -> Result<Place, PoolError> {
        self.collect();
        if let Some(place) = self.classes[class].free.pop() {
            return Ok(place);
        }
        if let Some(place) = self.cut(class) {
            return Ok(place);
        }
        let bytes = if self.has_huge_pages {
            HUGE_BYTES
        } else {
            (class_bytes(class) * SEGMENT_BLOCKS).min(SEGMENT_BYTES_MAX)
        };
        self.map(bytes, |mapping, pool| pool.owner.segments.push(mapping))?;
        self.classes[class].cutting = Some((self.owner.segments.len() - 1, 0));
        self.cut(class).ok_or(PoolError::NoMemory)
    }

    /// Cuts a block from the segment that the class is at.
    fn cut(&mut self, class: usize) -> Option<Place> {
        let (segment, offset) = self.classes[class].cutting?;
        let mapping = &self.owner.segments[segment];
        let place = Place::in_segment(mapping, offset, class_bytes(class));
        let next = offset + class_bytes(class);
        self.classes[class].cutting = (next < mapping.len()).then_some((segment, next));
        self.classes[class].cut += 1;
        Some(place)
    }

    /// Gives segments back of which no block is out, until `keep_bytes` are vacant.
    #[cold]
    fn shrink(&mut self, keep_bytes: usize) {
        for class in 0..CLASSES {
            // Then every block is either out or on a list, and segments may be moved.
            while let Some(place) = self.cut(class) {
                self.classes[class].free.push(place);
            }
        }
        let segments = &mut self.owner.segments;
        segments.sort_unstable_by_key(|segment| segment.start().addr());
        let mut vacant = vec![0; segments.len()];
        for (number, class) in self.classes.iter().enumerate() {
            for place in &class.free {
                vacant[segment_of(segments, place)] += class_bytes(number);
            }
        }
        let mut left: usize = vacant.iter().sum();
        let goes: Vec<bool> = segments
            .iter()
            .zip(vacant)
            .map(|(segment, vacant)| {
                let goes = vacant == segment.len() && left >= keep_bytes.saturating_add(vacant);
                left -= if goes { vacant } else { 0 };
                goes
            })
            .collect();
        for class in &mut self.classes {
            let before = class.free.len();
            class
                .free
                .retain(|place| !goes[segment_of(segments, place)]);
            class.cut -= before - class.free.len();
            class.free.shrink_to(2 * class.free.len());
        }
        let mut goes = goes.into_iter();
        let before: usize = segments.iter().map(Mapping::len).sum();
        segments.retain(|_| !goes.next().unwrap_or(false));
        let after: usize = segments.iter().map(Mapping::len).sum();
        self.mapped_bytes -= before - after;
    }
}

/// The segment in which a place lies, among segments in the order of their addresses.
fn segment_of(segments: &[Mapping], place: &Place) -> usize {
    segments.partition_point(|segment| segment.start().addr().get() <= place.address()) - 1
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.owner.leave(self.live());
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Why a [`Pool`] gave no block.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PoolError {
    /// More was asked for than there are addresses.
    TooLarge,
    /// Another segment, or the large block, would be above the limit of the pool.
    Full,
    /// The system gives no memory.
    NoMemory,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "block is larger than the address space",
            Self::Full => "pool is at its limit",
            Self::NoMemory => "system gives no memory",
        })
    }
}

impl core::error::Error for PoolError {}

/// The state of a [`Pool`].
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Blocks that are out, with those that were dropped but not collected.
    pub live: usize,
    /// Blocks that came back and wait for the next user.
    pub cached: usize,
    /// The memory of those blocks in bytes, a part of `mapped_bytes`.
    pub vacant_bytes: usize,
    /// The memory of segments that is no block yet, a part of `mapped_bytes`: nobody has touched
    /// it, so that the kernel has given no pages for it.
    pub uncut_bytes: usize,
    /// The memory of all segments and large blocks in bytes.
    pub mapped_bytes: usize,
    /// What `mapped_bytes` was at most.
    pub peak_bytes: usize,
    /// What `mapped_bytes` may be at most.
    pub max_bytes: usize,
    /// Blocks that came back by a drop instead of by [`Pool::give_back`].
    pub remote_frees: u64,
}
