//! Operations on slices and a read block, run against byte vectors. Used by the property test and
//! by the fuzz target.

use sharedbuf::{ReadBlock, SharedBuf, SharedSlice};

/// An operation. Numbers choose a slice, and are taken modulo its length where they are positions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    New(usize, u8),
    Clone(usize),
    Slice(usize, usize, usize),
    SplitTo(usize, usize),
    SplitOff(usize, usize),
    Advance(usize, usize),
    Truncate(usize, usize),
    RetainN(usize, u8, u8),
    Drop(usize),
    Fill(usize),
    Share(usize, usize),
    Reset,
    Freeze,
}

const BLOCK_BYTES: usize = 200;

struct World {
    slices: Vec<(SharedSlice, Vec<u8>)>,
    block: ReadBlock,
    filled: Vec<u8>,
    /// Makes every byte different from its neighbours.
    counter: u8,
}

impl World {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len)
            .map(|_| {
                self.counter = self.counter.wrapping_mul(5).wrapping_add(17);
                self.counter
            })
            .collect()
    }

    fn make(&mut self, len: usize, how: u8) {
        let bytes = self.bytes(len);
        let slice = match how % 5 {
            0 => SharedSlice::copy_from(&bytes),
            1 => SharedSlice::from(bytes.clone()),
            2 => SharedBuf::copy_from(&bytes).into_slice(),
            3 => SharedBuf::from(bytes.clone().into_boxed_slice()).slice(..),
            _ => {
                let mut roomy = Vec::with_capacity(len * 2);
                roomy.extend_from_slice(&bytes);
                SharedBuf::from(roomy).into()
            }
        };
        assert_eq!(slice.buffer_len(), len);
        self.slices.push((slice, bytes));
    }

    fn step_slice(&mut self, op: Op) {
        let count = self.slices.len();
        if count == 0 {
            return;
        }
        let position = |at: usize, bytes: &[u8]| at % (bytes.len() + 1);
        match op {
            Op::Clone(i) => {
                let (slice, bytes) = &self.slices[i % count];
                self.slices.push((slice.clone(), bytes.clone()));
            }
            Op::Slice(i, a, b) => {
                let (slice, bytes) = &self.slices[i % count];
                let (a, b) = (position(a, bytes), position(b, bytes));
                let (start, end) = (a.min(b), a.max(b));
                let part = slice.slice(start..end);
                self.slices.push((part, bytes[start..end].to_vec()));
            }
            Op::SplitTo(i, at) => {
                let (slice, bytes) = &mut self.slices[i % count];
                let at = position(at, bytes);
                let back = bytes.split_off(at);
                let front = (slice.split_to(at), core::mem::replace(bytes, back));
                self.slices.push(front);
            }
            Op::SplitOff(i, at) => {
                let (slice, bytes) = &mut self.slices[i % count];
                let at = position(at, bytes);
                let back = (slice.split_off(at), bytes.split_off(at));
                self.slices.push(back);
            }
            Op::Advance(i, n) => {
                let (slice, bytes) = &mut self.slices[i % count];
                let n = position(n, bytes);
                slice.advance(n);
                bytes.drain(..n);
            }
            Op::Truncate(i, n) => {
                let (slice, bytes) = &mut self.slices[i % count];
                let n = position(n, bytes);
                slice.truncate(n);
                bytes.truncate(n);
            }
            Op::RetainN(i, n, drawn) => {
                let (slice, bytes) = &self.slices[i % count];
                let mut many = slice.retain_n(usize::from(n));
                assert_eq!(many.len(), usize::from(n));
                let drawn: Vec<_> = many.by_ref().take(usize::from(drawn % 4)).collect();
                drop(many);
                let bytes = bytes.clone();
                self.slices
                    .extend(drawn.into_iter().map(|slice| (slice, bytes.clone())));
            }
            Op::Drop(i) => drop(self.slices.swap_remove(i % count)),
            _ => {}
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::New(len, how) => self.make(len, how),
            Op::Fill(n) => {
                let n = n % (self.block.spare_len() + 1);
                let bytes = self.bytes(n);
                self.block.spare_mut()[..n].copy_from_slice(&bytes);
                self.block.advance(n);
                self.filled.extend(bytes);
            }
            Op::Share(a, b) => {
                let len = self.filled.len() + 1;
                let (start, end) = ((a % len).min(b % len), (a % len).max(b % len));
                let part = self.block.share(start..end);
                assert_eq!(
                    part.buffer_len(),
                    if part.is_empty() { 0 } else { BLOCK_BYTES }
                );
                self.slices.push((part, self.filled[start..end].to_vec()));
            }
            Op::Reset => {
                let probe = if self.filled.is_empty() {
                    None
                } else {
                    Some(self.block.share(0..1))
                };
                let same = |slice: &SharedSlice| {
                    probe.as_ref().is_some_and(|probe| probe.same_buffer(slice))
                };
                let shared = self.slices.iter().any(|(slice, _)| same(slice));
                drop(probe);
                assert_eq!(self.block.is_shared(), shared);
                assert_eq!(self.block.reset(), !shared);
                if !shared {
                    self.filled.clear();
                }
            }
            Op::Freeze => {
                let fresh = ReadBlock::with_capacity(BLOCK_BYTES);
                let slice = core::mem::replace(&mut self.block, fresh).freeze();
                self.slices.push((slice, core::mem::take(&mut self.filled)));
            }
            _ => self.step_slice(op),
        }
        assert_eq!(self.block.filled(), self.filled);
        assert_eq!(self.block.spare_len(), BLOCK_BYTES - self.filled.len());
        for (slice, bytes) in &self.slices {
            assert_eq!(slice.as_slice(), bytes);
            assert!(slice.buffer_len() >= slice.len());
        }
    }
}

/// Runs the operations on slices and on byte vectors, and compares all of them after every one.
pub(crate) fn run(ops: &[Op]) {
    let block = ReadBlock::with_capacity(BLOCK_BYTES);
    let mut world = World {
        slices: Vec::new(),
        block,
        filled: Vec::new(),
        counter: 0,
    };
    for op in ops {
        world.step(*op);
    }
}
