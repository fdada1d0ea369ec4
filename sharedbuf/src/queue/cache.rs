//! Memory of queues that ran empty, for those that fill next.

use core::fmt;

use super::inner::Inner;

/// A bounded stock of queue memory, shared by the queues of one thread.
///
/// Where most connections are idle and each is sent something now and then, a queue would allocate
/// and free at every burst. With a cache the memory wanders:
/// [`WriteQueue::prepare`](crate::WriteQueue::prepare) before pushing takes a block,
/// [`WriteQueue::advance_into`](crate::WriteQueue::advance_into) returns it when everything is
/// sent. Both are optional at every call.
///
/// # Examples
/// ```
/// use sharedbuf::{BlockCache, Class, WriteQueue};
///
/// let mut cache = BlockCache::new(64);
/// let mut queue = WriteQueue::new();
/// for _ in 0..1000 {
///     queue.prepare(&mut cache);
///     queue.push_copy(b"\xd0\x00", Class::Control);
///     queue.advance_into(2, &mut cache);
/// }
/// assert_eq!(cache.len(), 1);
/// ```
pub struct BlockCache {
    // The box is what wanders between cache and queue.
    #[allow(
        clippy::vec_box,
        reason = "queues hold boxes, and these move between the two"
    )]
    stock: Vec<Box<Inner>>,
    max: usize,
    #[cfg(feature = "slabmem")]
    pool: Option<slabmem::Pool>,
}

impl BlockCache {
    /// Makes an empty cache that keeps the memory of at most `max` queues, each of at most about
    /// 24 KiB.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self {
            stock: Vec::new(),
            max,
            #[cfg(feature = "slabmem")]
            pool: None,
        }
    }

    /// Makes an empty cache as [`new`](Self::new) does, whose queues take their blocks from a pool:
    /// [`WriteQueue::prepare`](crate::WriteQueue::prepare) then sees to it that a block is at hand
    /// when the last one is nearly full. A frame for which that is too small, and any frame where
    /// the pool gives nothing, finds its block on the heap.
    #[cfg(feature = "slabmem")]
    #[must_use]
    pub const fn with_pool(max: usize, pool: slabmem::Pool) -> Self {
        Self {
            stock: Vec::new(),
            max,
            pool: Some(pool),
        }
    }

    /// Returns the pool, to be looked at.
    #[cfg(feature = "slabmem")]
    #[must_use]
    pub const fn pool(&self) -> Option<&slabmem::Pool> {
        self.pool.as_ref()
    }

    /// Returns the pool, for other buffers of the same thread.
    #[cfg(feature = "slabmem")]
    #[inline]
    pub const fn pool_mut(&mut self) -> Option<&mut slabmem::Pool> {
        self.pool.as_mut()
    }

    /// Returns how many are in stock.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stock.len()
    }

    /// Returns whether nothing is in stock.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stock.is_empty()
    }

    /// Returns the heap of the stock, without blocks that are of the pool.
    ///
    /// # Complexity
    /// Linear in the stock.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let stock: usize = self.stock.iter().map(|inner| inner.heap_bytes()).sum();
        self.stock.capacity() * size_of::<Box<Inner>>() + stock
    }

    /// Frees all but `keep` of the stock.
    pub fn trim(&mut self, keep: usize) {
        self.stock.truncate(keep);
        self.stock.shrink_to(keep);
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<Box<Inner>> {
        self.stock.pop()
    }

    #[inline]
    pub(super) fn put(&mut self, mut inner: Box<Inner>) {
        if self.stock.len() < self.max {
            inner.reset();
            self.stock.push(inner);
        }
    }
}

impl fmt::Debug for BlockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockCache")
            .field("len", &self.len())
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}
