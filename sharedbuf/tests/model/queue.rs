//! Operations on a write queue, run against a naive model. Used by the property test and by the
//! fuzz target.

use std::collections::VecDeque;
use std::io::IoSlice;

use sharedbuf::{BlockCache, Class, Recipe, RunBuilder, SharedSlice, WriteQueue};

/// An operation. Lengths choose how much is pushed; numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Copy(usize, u8),
    With(usize, u8),
    Slice(usize, usize, u8),
    Parts(usize, usize, u8),
    Pieces(usize, usize, u8),
    Recipe(usize, usize, usize, u8),
    /// That many frames, each a byte longer than the last.
    Run(u8, usize, u8),
    /// Sends up to that many bytes of up to that many entries.
    Send(usize, usize),
    SendAll,
    DropOldest,
    DropMany(u8),
    DropUnsent,
    CopyOutSmall,
    Clear,
    Prepare,
}

struct Frame {
    bytes: Vec<u8>,
    class: Class,
    sent: usize,
}

#[derive(Default)]
struct World {
    queue: WriteQueue,
    model: VecDeque<Frame>,
    cache: Option<BlockCache>,
    /// Where in [`CYCLE`] the next frame starts.
    at: usize,
}

/// All values of a byte, each once and none beside its neighbour: every byte of every frame differs
/// from those around it.
const CYCLE: [u8; 256] = {
    let mut cycle = [17_u8; 256];
    let mut at = 1;
    while at < 256 {
        // A generator of full period: one more than a multiple of four, and an odd step.
        cycle[at] = cycle[at - 1].wrapping_mul(5).wrapping_add(17);
        at += 1;
    }
    cycle
};

fn class(number: u8) -> Class {
    match number % 4 {
        0 => Class::Control,
        1 => Class::Message,
        _ => Class::Droppable,
    }
}

impl World {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Piece by piece, not byte by byte: under Miri that is what makes the difference.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let piece = &CYCLE[self.at..];
            let piece = &piece[..piece.len().min(len - bytes.len())];
            bytes.extend_from_slice(piece);
            self.at = (self.at + piece.len()) % CYCLE.len();
        }
        bytes
    }

    /// A slice of a buffer that has `around` more bytes.
    fn slice(&mut self, len: usize, around: usize) -> SharedSlice {
        let bytes = self.bytes(len + around);
        SharedSlice::from(bytes).slice(around / 2..around / 2 + len)
    }

    fn expect(&mut self, parts: &[&[u8]], number: u8) {
        let bytes = parts.concat();
        if !bytes.is_empty() {
            self.model.push_back(Frame {
                bytes,
                class: class(number),
                sent: 0,
            });
        }
    }

    fn push(&mut self, op: Op) {
        match op {
            Op::Copy(len, number) => {
                let bytes = self.bytes(len);
                self.queue.push_copy(&bytes, class(number));
                self.expect(&[&bytes], number);
            }
            Op::With(len, number) => {
                let bytes = self.bytes(len);
                self.queue.push_with(len, class(number), |place| {
                    assert_eq!(place, vec![0; len]);
                    place.copy_from_slice(&bytes);
                });
                self.expect(&[&bytes], number);
            }
            Op::Slice(len, around, number) => {
                let slice = self.slice(len, around);
                self.queue.push_slice(slice.clone(), class(number));
                self.expect(&[&slice], number);
            }
            Op::Parts(head, tail, number) => {
                let (head, tail) = (self.bytes(head), self.slice(tail, 40));
                self.queue.push_parts(&head, tail.clone(), class(number));
                self.expect(&[&head, &tail], number);
            }
            Op::Pieces(head, tail, number) => {
                let (head, tail) = (self.bytes(head), self.slice(tail, 40));
                let (front, back) = head.split_at(head.len() / 3);
                self.queue.push_pieces(&[front, back], &tail, class(number));
                self.expect(&[&head, &tail], number);
            }
            Op::Recipe(head, own, tail, number) => {
                let (head, tail) = (self.slice(head, 10), self.slice(tail, 10_000));
                let (own, patch) = (self.bytes(own), [number, !number]);
                let recipe = Recipe {
                    head: head.clone(),
                    patch,
                    own: &own,
                    tail: tail.clone(),
                };
                self.queue.push_recipe(recipe, class(number));
                self.expect(&[&head, &patch, &own, &tail], number);
            }
            Op::Run(count, len, number) => {
                let frames: Vec<_> = (1..=usize::from(count % 20) + 1)
                    .map(|i| self.bytes((len + i) % 5_000 + 1))
                    .collect();
                let mut builder = RunBuilder::new(128 << 10);
                assert!(frames.iter().all(|frame| builder.push(frame)));
                let run = builder.seal().unwrap();
                self.queue
                    .push_run(&run, run.bytes().clone(), class(number));
                for frame in &frames {
                    self.expect(&[frame], number);
                }
            }
            _ => unreachable!("only what pushes"),
        }
    }

    fn send(&mut self, entries: usize, most: usize) {
        let mut slices = vec![IoSlice::new(&[]); entries];
        let filled = self.queue.fill_io_slices(&mut slices);
        assert_eq!(filled == 0, entries == 0 || self.model.is_empty());
        let offered = slices[..filled].iter().map(|slice| &slice[..]);
        let offered = offered.collect::<Vec<_>>().concat();
        assert!(slices[..filled].iter().all(|slice| !slice.is_empty()));
        let flat = self.model.iter().map(|frame| &frame.bytes[frame.sent..]);
        let flat = flat.collect::<Vec<_>>().concat();
        assert!(flat.starts_with(&offered));
        let written = offered.len().min(most);
        match &mut self.cache {
            Some(cache) => self.queue.advance_into(written, cache),
            None => self.queue.advance(written),
        }
        let mut left = written;
        while left > 0 {
            let frame = self.model.front_mut().unwrap();
            let rest = frame.bytes.len() - frame.sent;
            if rest > left {
                frame.sent += left;
                return;
            }
            left -= rest;
            self.model.pop_front();
        }
    }

    fn drop_oldest(&mut self) {
        let droppable = |frame: &Frame| frame.class == Class::Droppable && frame.sent == 0;
        let index = self.model.iter().position(droppable);
        let expected = index.and_then(|index| self.model.remove(index));
        let dropped = self.queue.drop_oldest();
        assert_eq!(
            dropped.map(|d| d.bytes),
            expected.map(|frame| frame.bytes.len())
        );
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Send(entries, most) => self.send(entries, most),
            Op::SendAll => self.send(1024, usize::MAX),
            Op::DropOldest => self.drop_oldest(),
            Op::DropMany(count) => (0..count).for_each(|_| self.drop_oldest()),
            Op::DropUnsent => {
                self.queue.drop_unsent();
                self.model.retain(|frame| frame.sent > 0);
            }
            Op::CopyOutSmall => self.queue.copy_out_small(),
            Op::Clear => {
                match &mut self.cache {
                    Some(cache) => self.queue.clear_into(cache),
                    None => self.queue.clear(),
                }
                self.model.clear();
            }
            Op::Prepare => {
                if let Some(cache) = &mut self.cache {
                    self.queue.prepare(cache);
                }
            }
            _ => self.push(op),
        }
        let bytes: usize = self
            .model
            .iter()
            .map(|frame| frame.bytes.len() - frame.sent)
            .sum();
        assert_eq!(self.queue.bytes(), bytes);
        assert_eq!(self.queue.messages(), self.model.len());
        assert_eq!(self.queue.is_empty(), bytes == 0);
        assert!(self.queue.pinned_bytes() >= bytes);
    }
}

/// Runs the operations on a queue, with a cache or without, and on the model; compares every
/// answer.
pub(crate) fn run(cache: Option<BlockCache>, ops: &[Op]) {
    let mut world = World {
        cache,
        ..World::default()
    };
    for op in ops {
        world.step(*op);
    }
    while !world.model.is_empty() {
        world.step(Op::Send(3, 7000));
    }
    assert!(world.queue.is_empty());
}
