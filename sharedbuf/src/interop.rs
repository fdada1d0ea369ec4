//! The `bytes` crate.
#![forbid(unsafe_code)]

use bytes::{Buf, Bytes};

use crate::raw::RawBuf;
use crate::{SharedBuf, SharedSlice};

/// Takes the bytes over without a copy. Allocates a header.
impl From<Bytes> for SharedBuf {
    fn from(bytes: Bytes) -> Self {
        Self::from_raw(RawBuf::from_bytes(bytes))
    }
}

/// Hands the buffer over without a copy.
impl From<SharedBuf> for Bytes {
    fn from(buf: SharedBuf) -> Self {
        Self::from_owner(buf)
    }
}

/// Takes the bytes over without a copy. Allocates a header, or nothing for no bytes.
impl From<Bytes> for SharedSlice {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::new()
        } else {
            SharedBuf::from(bytes).into_slice()
        }
    }
}

/// Hands the view over without a copy.
impl From<SharedSlice> for Bytes {
    fn from(slice: SharedSlice) -> Self {
        Self::from_owner(slice)
    }
}

impl Buf for SharedSlice {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self
    }

    fn advance(&mut self, n: usize) {
        Self::advance(self, n);
    }

    fn copy_to_bytes(&mut self, n: usize) -> Bytes {
        self.split_to(n).into()
    }
}
