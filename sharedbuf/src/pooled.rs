//! Buffers in the blocks of a `slabmem` pool.
#![forbid(unsafe_code)]

use slabmem::{Pool, PoolError};

use crate::raw::{POOL_HEADER_BYTES, RawBlock, RawBuf};
use crate::{ReadBlock, SharedBuf};

/// What a block of a pool holds less than its size, in bytes, when a buffer is made in it.
pub const POOL_OVERHEAD_BYTES: usize = POOL_HEADER_BYTES;

impl SharedBuf {
    /// Makes a buffer with a copy of these bytes in a block of the pool, to which it returns with
    /// the last handle.
    ///
    /// The header lies in the block too, so nothing else is allocated. Whatever thread drops the
    /// last handle, the block goes home by one atomic operation, also where the pool is gone.
    ///
    /// # Errors
    /// Those of [`Pool::alloc`], for [`POOL_OVERHEAD_BYTES`] more than there are bytes.
    pub fn copy_in(pool: &mut Pool, bytes: &[u8]) -> Result<Self, PoolError> {
        let wanted = bytes
            .len()
            .checked_add(POOL_OVERHEAD_BYTES)
            .ok_or(PoolError::TooLarge)?;
        Ok(Self::from_raw(RawBuf::copy_into_block(
            pool.alloc(wanted)?,
            bytes,
        )))
    }
}

impl ReadBlock {
    /// Takes a block of the pool for at least `n` bytes; its capacity is what the block has room
    /// for.
    ///
    /// It returns to the pool when it and all views of it are dropped. Unlike that of a block of
    /// its own, the memory is not zero at first but whatever the last user left.
    ///
    /// # Errors
    /// Those of [`Pool::alloc`], for [`POOL_OVERHEAD_BYTES`] more than `n`.
    ///
    /// # Examples
    /// ```
    /// use sharedbuf::{POOL_OVERHEAD_BYTES, ReadBlock};
    /// use slabmem::Pool;
    ///
    /// let mut pool = Pool::new(16 << 20);
    /// let mut block = ReadBlock::in_pool(&mut pool, 4096 - POOL_OVERHEAD_BYTES)?;
    /// block.extend_from_slice(b"hello");
    /// let word = block.share(0..5);
    /// drop(block);
    /// assert_eq!(&*word, b"hello");
    ///
    /// drop(word);
    /// pool.collect();
    /// assert_eq!(pool.stats().live, 0);
    /// # Ok::<(), slabmem::PoolError>(())
    /// ```
    pub fn in_pool(pool: &mut Pool, n: usize) -> Result<Self, PoolError> {
        let wanted = n
            .checked_add(POOL_OVERHEAD_BYTES)
            .ok_or(PoolError::TooLarge)?;
        Ok(Self::from_raw(RawBlock::in_block(pool.alloc(wanted)?)))
    }
}
