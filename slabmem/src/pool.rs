//! Blocks of bytes by size class.
#![deny(unsafe_code)]

use core::fmt;

use crate::sys::Mapping;

#[allow(
    unsafe_code,
    reason = "the stack on which blocks come back; its ground rules open the file"
)]
mod home;

pub use home::Block;

use home::{Owner, Place};

/// The smallest class, in bytes.
pub const BLOCK_BYTES_MIN: usize = 64;
/// The largest class, in bytes.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;

const CLASSES: usize = 11;
const SEGMENT_BYTES_MAX: usize = 1 << 20;

const _: () = assert!(class_bytes(CLASSES as u8 - 1) == BLOCK_BYTES_MAX);

/// The size of the blocks of a class: a power of two.
const fn class_bytes(class: u8) -> usize {
    BLOCK_BYTES_MIN << class
}

/// What is mapped at once for a class: up to 1,024 blocks and up to a megabyte.
const fn segment_bytes(class: u8) -> usize {
    let bytes = class_bytes(class) * 1024;
    if bytes > SEGMENT_BYTES_MAX {
        SEGMENT_BYTES_MAX
    } else {
        bytes
    }
}

/// The class of the smallest blocks of at least `len` bytes, which is at most [`BLOCK_BYTES_MAX`].
fn class_of(len: usize) -> usize {
    let units = len.max(1).div_ceil(BLOCK_BYTES_MIN);
    units.next_power_of_two().trailing_zeros() as usize
}

#[derive(Default)]
struct Class {
    free: Vec<Place>,
    /// The segment that blocks are cut from, as an index, and how much of it is cut.
    cutting: Option<(usize, usize)>,
}

/// Blocks of 64 bytes to 64 KiB, allocated by one owner and freed by anybody.
///
/// Each size class, a power of two, cuts its blocks from mapped segments and keeps those that came
/// back, of which the owner takes the latest first: no atomic operation, no system call. A
/// [`Block`] that is dropped, on whatever thread, is pushed on a stack with one atomic operation;
/// the owner takes the whole stack with one swap when a class has run out, or in
/// [`collect`](Self::collect). The owner may hand a block back without an atomic operation by
/// [`give_back`](Self::give_back).
///
/// Memory is bounded by `max_bytes`, counted in mapped segments (64 KiB to 1 MiB). It is given
/// back to the system by [`trim`](Self::trim) only. Blocks above [`BLOCK_BYTES_MAX`] are refused:
/// such are rare enough for the general allocator, which maps them one by one.
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
    /// There but while the pool is dropped.
    owner: Option<Owner>,
    classes: [Class; CLASSES],
    segments: Vec<Mapping>,
    max_bytes: usize,
    mapped_bytes: usize,
    live: usize,
    remote_frees: u64,
}

impl Pool {
    /// Makes an empty pool that maps at most `max_bytes`.
    #[must_use]
    pub fn new(max_bytes: usize) -> Self {
        Self {
            owner: Some(Owner::new()),
            classes: Default::default(),
            segments: Vec::new(),
            max_bytes,
            mapped_bytes: 0,
            live: 0,
            remote_frees: 0,
        }
    }

    /// Takes a block of at least `len` bytes, whose contents are initialised but of no meaning.
    ///
    /// # Errors
    /// [`PoolError::TooLarge`] above [`BLOCK_BYTES_MAX`]; [`PoolError::Full`] where a segment more
    /// would be above the pool's limit; [`PoolError::NoMemory`] where the system gives none.
    ///
    /// # Complexity
    /// O(1), amortised over the blocks that others have freed since. Maps a segment now and then.
    #[inline]
    pub fn alloc(&mut self, len: usize) -> Result<Block, PoolError> {
        if len > BLOCK_BYTES_MAX {
            return Err(PoolError::TooLarge);
        }
        let class = class_of(len);
        let place = match self.classes[class].free.pop() {
            Some(place) => place,
            None => self.refill(class)?,
        };
        let owner = self.owner.as_ref().ok_or(PoolError::NoMemory)?;
        self.live += 1;
        Ok(owner.lend(place, class as u8))
    }

    /// Takes a block of this pool back, without an atomic operation. A block of another pool goes
    /// home to that.
    #[inline]
    pub fn give_back(&mut self, block: Block) {
        if let Some(owner) = &self.owner
            && let Ok((class, place)) = owner.take_back(block)
        {
            self.live -= 1;
            self.classes[usize::from(class)].free.push(place);
        }
    }

    /// Takes all blocks that were dropped since. One atomic swap, none where there are none.
    ///
    /// An owner who allocates need not call it; it makes [`stats`](Self::stats) exact.
    pub fn collect(&mut self) {
        let Some(owner) = &self.owner else { return };
        owner.drain(|class, place| {
            self.classes[usize::from(class)].free.push(place);
            self.live -= 1;
            self.remote_frees += 1;
        });
    }

    /// Gives the segments back to the system of which no block is out.
    ///
    /// # Complexity
    /// Linear in the blocks that are not out, times the logarithm of the segments.
    pub fn trim(&mut self) {
        self.collect();
        for class in 0..CLASSES {
            // Then every block is either out or on a list, and segments may be moved.
            while let Some(place) = self.cut(class) {
                self.classes[class].free.push(place);
            }
        }
        self.segments
            .sort_unstable_by_key(|segment| segment.start().addr());
        let mut vacant = vec![0; self.segments.len()];
        for (number, class) in self.classes.iter().enumerate() {
            for place in &class.free {
                vacant[segment_of(&self.segments, place)] += class_bytes(number as u8);
            }
        }
        let goes: Vec<bool> = self
            .segments
            .iter()
            .zip(vacant)
            .map(|(segment, vacant)| segment.len() == vacant)
            .collect();
        for class in &mut self.classes {
            class
                .free
                .retain(|place| !goes[segment_of(&self.segments, place)]);
            class.free.shrink_to_fit();
        }
        let mut goes = goes.into_iter();
        self.segments.retain(|_| !goes.next().unwrap_or(false));
        self.mapped_bytes = self.segments.iter().map(Mapping::len).sum();
    }

    /// Returns the state of the pool, as of the last [`collect`](Self::collect).
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats {
            live: self.live,
            cached: self.classes.iter().map(|class| class.free.len()).sum(),
            mapped_bytes: self.mapped_bytes,
            max_bytes: self.max_bytes,
            remote_frees: self.remote_frees,
        }
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
        let bytes = segment_bytes(class as u8);
        if bytes > self.max_bytes - self.mapped_bytes {
            return Err(PoolError::Full);
        }
        self.segments
            .push(Mapping::map(bytes).ok_or(PoolError::NoMemory)?);
        self.mapped_bytes += bytes;
        self.classes[class].cutting = Some((self.segments.len() - 1, 0));
        self.cut(class).ok_or(PoolError::NoMemory)
    }

    /// Cuts a block from the segment that the class is at.
    fn cut(&mut self, class: usize) -> Option<Place> {
        let (segment, offset) = self.classes[class].cutting?;
        let mapping = &self.segments[segment];
        let place = Place::in_segment(mapping, offset, class as u8);
        let next = offset + class_bytes(class as u8);
        self.classes[class].cutting = (next < mapping.len()).then_some((segment, next));
        Some(place)
    }
}

/// The segment in which a place lies, among segments in the order of their addresses.
fn segment_of(segments: &[Mapping], place: &Place) -> usize {
    segments.partition_point(|segment| segment.start().addr().get() <= place.address()) - 1
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(owner) = self.owner.take() {
            owner.close(core::mem::take(&mut self.segments), self.live);
        }
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
    /// More was asked for than the largest class has.
    TooLarge,
    /// Another segment would be above the limit of the pool.
    Full,
    /// The system gives no memory.
    NoMemory,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "block is larger than the largest class",
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
    /// The memory of all segments in bytes.
    pub mapped_bytes: usize,
    /// What `mapped_bytes` may be at most.
    pub max_bytes: usize,
    /// Blocks that came back by a drop instead of by [`Pool::give_back`].
    pub remote_frees: u64,
}
