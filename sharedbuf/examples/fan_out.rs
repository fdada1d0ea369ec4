//! One publish to many subscribers: one encoding, one atomic addition, and a queue each.
//!
//! Run with `cargo run --release -p sharedbuf --example fan_out`.

use std::io::{self, IoSlice, Write};

use sharedbuf::{BlockCache, Class, Recipe, SharedSlice, WriteQueue};

const SUBSCRIBERS: usize = 10_000;
const QUEUE_BYTES_MAX: usize = 16 << 10;

/// A socket that takes only so much.
struct Socket {
    room: usize,
    received: usize,
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.received += taken;
        Ok(taken)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut taken = 0;
        for slice in slices {
            taken += self.write(slice)?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn flush(queue: &mut WriteQueue, socket: &mut Socket, cache: &mut BlockCache) -> io::Result<()> {
    while !queue.is_empty() {
        let mut slices = [IoSlice::new(&[]); 64];
        let filled = queue.fill_io_slices(&mut slices);
        let written = socket.write_vectored(&slices[..filled])?;
        if written == 0 {
            // The socket is full. What stays may stay for long: it should not hold large blocks.
            queue.copy_out_small();
            break;
        }
        queue.advance_into(written, cache);
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut cache = BlockCache::new(64);
    let mut queues: Vec<_> = (0..SUBSCRIBERS).map(|_| WriteQueue::new()).collect();
    // Every hundredth subscriber does not read.
    let mut sockets: Vec<_> = (0..SUBSCRIBERS)
        .map(|i| Socket {
            room: if i % 100 == 0 { 0 } else { usize::MAX },
            received: 0,
        })
        .collect();
    let mut dropped = 0;

    for round in 0_u16..20 {
        let head = SharedSlice::copy_from(b"head of a frame");
        let payload = SharedSlice::from(vec![round as u8; 2000]);
        let copies = head
            .retain_n(SUBSCRIBERS)
            .zip(payload.retain_n(SUBSCRIBERS));
        for ((queue, socket), (head, tail)) in queues.iter_mut().zip(&mut sockets).zip(copies) {
            queue.prepare(&mut cache);
            let recipe = Recipe {
                head,
                patch: round.to_be_bytes(),
                own: &[],
                tail,
            };
            queue.push_recipe(recipe, Class::Droppable);
            while queue.bytes() > QUEUE_BYTES_MAX && queue.drop_oldest().is_some() {
                dropped += 1;
            }
            flush(queue, socket, &mut cache)?;
        }
    }

    let received: usize = sockets.iter().map(|socket| socket.received).sum();
    let waiting: usize = queues.iter().map(WriteQueue::messages).sum();
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{received} bytes received, {waiting} frames waiting, {dropped} dropped"
    )?;
    writeln!(
        out,
        "{} blocks served all queues that ran empty",
        cache.len()
    )
}
