//! Reading from a connection into the shard's block, or into one of its own for a large packet.

use std::io;

use pollio::{Backend, Budget, Io, Progress};
use sharedbuf::ReadBlock;
use slabmem::Key;

use super::Next;
use super::connection::{Connection, flag};
use super::receive::PACKET;
use super::server::{Alarm, ShardServer};
use crate::events::Cause;

/// What the block holds that all connections of a shard are read into: the largest of the pool.
pub(super) const BLOCK_BYTES: usize = slabmem::BLOCK_BYTES_MAX - sharedbuf::POOL_OVERHEAD_BYTES;
/// One read asks for no more, so that what comes in fits the packet budget of a turn.
const READ_BYTES: usize = 16 * 1_024;
/// A packet from this size on is read into a block of its own.
const LARGE_BYTES: usize = 32 * 1_024;

/// Where the bytes of a connection come from: its socket, or the layers over it.
pub(super) trait Source<B: Backend> {
    /// Reads as [`Backend::read`] does, but is never interrupted.
    fn read(
        &mut self,
        io: &mut Io<'_, B>,
        connection: &mut Connection<B::Stream>,
        into: &mut [u8],
    ) -> io::Result<usize>;

    /// Whether a short read does not mean that no more is there.
    fn reads_to_the_end(&self) -> bool;

    /// What an error of this source means.
    fn cause(&mut self, error: &io::Error) -> Cause;
}

/// A socket that carries MQTT and nothing else.
struct Plain {
    has_hung_up: bool,
}

impl<B: Backend> Source<B> for Plain {
    #[inline]
    fn read(
        &mut self,
        io: &mut Io<'_, B>,
        connection: &mut Connection<B::Stream>,
        into: &mut [u8],
    ) -> io::Result<usize> {
        read(io, &connection.stream, into)
    }

    fn reads_to_the_end(&self) -> bool {
        // After a hang-up even a short read is followed by another, up to the end (DECISIONS 7).
        self.has_hung_up
    }

    fn cause(&mut self, error: &io::Error) -> Cause {
        Cause::Io(error.kind())
    }
}

/// How reading from a connection ended.
enum Read {
    Progress(Progress),
    Gone,
}

impl<B: Backend, A: Alarm> ShardServer<B, A> {
    /// Reads and acts on what comes, within the budget.
    pub(super) fn read(&mut self, io: &mut Io<'_, B>, key: Key, budget: &Budget) -> Progress {
        let has_hung_up = self
            .core
            .connection(key)
            .is_some_and(|connection| connection.has(flag::HUNG_UP));
        self.read_from(&mut Plain { has_hung_up }, io, key, budget)
    }

    /// The same from any source.
    pub(super) fn read_from(
        &mut self,
        source: &mut impl Source<B>,
        io: &mut Io<'_, B>,
        key: Key,
        budget: &Budget,
    ) -> Progress {
        self.core.hold_publisher(key);
        let mut left = Budget {
            bytes: budget.bytes,
            packets: budget.packets.saturating_mul(PACKET),
        };
        if let Some(block) = self.core.take_block(key)
            && let Read::Progress(progress) = self.read_large(source, io, key, block, &mut left)
        {
            return progress;
        }
        let kept = self.core.kept_bytes(key).len();
        self.make_room(kept + READ_BYTES);
        let start = self.block.len();
        if kept > 0 {
            self.block.extend_from_slice(self.core.kept_bytes(key));
            self.core.drop_bytes(key);
        }
        let progress = self.read_small(source, io, key, start, &mut left);
        if !self.block.reset() && self.block.spare_len() < READ_BYTES {
            self.block = self.core.read_block(BLOCK_BYTES);
        }
        progress
    }

    /// Makes sure that so many bytes fit behind what is in the block.
    fn make_room(&mut self, bytes: usize) {
        if self.block.spare_len() < bytes {
            self.block = self.core.read_block(BLOCK_BYTES.max(bytes));
        }
    }

    /// Goes on with a packet that has a block of its own. `Gone` where the block is through and
    /// ordinary reading goes on.
    fn read_large(
        &mut self,
        source: &mut impl Source<B>,
        io: &mut Io<'_, B>,
        key: Key,
        mut block: ReadBlock,
        left: &mut Budget,
    ) -> Read {
        while block.spare_len() > 0 {
            if left.bytes == 0 || self.is_paused(key) {
                let progress = self.put_off(key, block);
                return Read::Progress(progress);
            }
            let room = block.spare_len().min(left.bytes);
            let Some(connection) = self.core.connection_mut(key) else {
                return Read::Progress(Progress::Done);
            };
            let read = {
                let spare = block.spare_mut().get_mut(..room).unwrap_or_default();
                source.read(io, connection, spare)
            };
            match read {
                Ok(n) if n > 0 => {
                    block.advance(n);
                    left.bytes -= n.min(left.bytes);
                    self.core.heard(key);
                    if n < room && !source.reads_to_the_end() {
                        self.core.keep_block(key, block);
                        return Read::Progress(Progress::Done);
                    }
                }
                other => {
                    if !self.read_ended(source, key, other) {
                        self.core.keep_block(key, block);
                    }
                    return Read::Progress(Progress::Done);
                }
            }
        }
        left.packets = left.packets.max(1);
        let input = self
            .core
            .receive(key, &block, 0..block.len(), &mut left.packets);
        if input.next == Next::Paused && input.used_to < block.len() {
            self.core.keep_block(key, block);
            return Read::Progress(Progress::Done);
        }
        Read::Gone
    }

    fn is_paused(&self, key: Key) -> bool {
        self.core
            .connection(key)
            .is_none_or(|connection| connection.has(flag::PAUSED))
    }

    /// Leaves the rest for a later turn: the next one, or when back-pressure ends.
    fn put_off(&mut self, key: Key, block: ReadBlock) -> Progress {
        self.core.keep_block(key, block);
        self.unless_paused(key)
    }

    fn read_small(
        &mut self,
        source: &mut impl Source<B>,
        io: &mut Io<'_, B>,
        key: Key,
        mut start: usize,
        left: &mut Budget,
    ) -> Progress {
        let mut may_be_drained = false;
        loop {
            let end = self.block.len();
            let input = self
                .core
                .receive(key, &self.block, start..end, &mut left.packets);
            start = input.used_to;
            match input.next {
                Next::Closed => return Progress::Done,
                Next::Paused | Next::Budget => {
                    self.keep_rest(key, start);
                    return self.unless_paused(key);
                }
                Next::Incomplete { total: Some(total) } if total >= LARGE_BYTES => {
                    return self.begin_large(source, io, key, start, total, left);
                }
                Next::Incomplete { .. } => {}
            }
            if may_be_drained {
                self.keep_rest(key, start);
                return Progress::Done;
            }
            if left.bytes == 0 {
                self.keep_rest(key, start);
                return self.unless_paused(key);
            }
            if self.block.spare_len() < READ_BYTES {
                start = self.move_to_new_block(start);
            }
            let room = READ_BYTES.min(left.bytes);
            let Some(connection) = self.core.connection_mut(key) else {
                return Progress::Done;
            };
            let read = {
                let spare = self.block.spare_mut().get_mut(..room).unwrap_or_default();
                source.read(io, connection, spare)
            };
            match read {
                Ok(n) if n > 0 => {
                    self.block.advance(n);
                    left.bytes -= n.min(left.bytes);
                    self.core.heard(key);
                    may_be_drained = n < room && !source.reads_to_the_end();
                }
                other => {
                    if !self.read_ended(source, key, other) {
                        self.keep_rest(key, start);
                    }
                    return Progress::Done;
                }
            }
        }
    }

    /// Keeps what is left in the block for this connection.
    fn keep_rest(&mut self, key: Key, start: usize) {
        let rest = self.block.filled().get(start..).unwrap_or_default();
        if !rest.is_empty() {
            self.core.keep_bytes(key, rest);
        }
    }

    /// There is more to do in the next turn, but for a paused connection: the end of back-pressure
    /// puts that on the ready list.
    pub(super) fn unless_paused(&self, key: Key) -> Progress {
        if self.is_paused(key) {
            Progress::Done
        } else {
            Progress::More
        }
    }

    fn begin_large(
        &mut self,
        source: &mut impl Source<B>,
        io: &mut Io<'_, B>,
        key: Key,
        start: usize,
        total: usize,
        left: &mut Budget,
    ) -> Progress {
        // Exactly as long as the packet: reading ends where the block does. The pool's blocks are
        // rounded up. Zeroed pages cost nothing until bytes arrive in them.
        let mut own = ReadBlock::with_capacity(total);
        own.extend_from_slice(self.block.filled().get(start..).unwrap_or_default());
        match self.read_large(source, io, key, own, left) {
            Read::Progress(progress) => progress,
            // What follows the packet is for the next turn.
            Read::Gone => Progress::More,
        }
    }

    /// Moves an incomplete packet to the start of a fresh block, or back to the start of this one
    /// where nobody shares it.
    fn move_to_new_block(&mut self, start: usize) -> usize {
        let rest = self
            .block
            .filled()
            .get(start..)
            .unwrap_or_default()
            .to_vec();
        if !self.block.reset() {
            self.block = self.core.read_block(BLOCK_BYTES);
        }
        self.block.extend_from_slice(&rest);
        0
    }

    /// A read that gave nothing. Returns whether the connection has ended.
    fn read_ended(
        &mut self,
        source: &mut impl Source<B>,
        key: Key,
        read: io::Result<usize>,
    ) -> bool {
        match read {
            Ok(_) => self.core.close(key, Cause::PeerClosed),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) => self.core.close(key, source.cause(&error)),
        }
        true
    }

    /// Input of a client that is being turned out.
    pub(super) fn discard(&mut self, io: &mut Io<'_, B>, key: Key, budget: &Budget) -> Progress {
        let mut left = budget.bytes;
        self.make_room(READ_BYTES);
        while left > 0 {
            let Some(connection) = self.core.connection(key) else {
                break;
            };
            let spare = self
                .block
                .spare_mut()
                .get_mut(..READ_BYTES)
                .unwrap_or_default();
            match read(io, &connection.stream, spare) {
                Ok(n) if n > 0 => {
                    left = left.saturating_sub(n);
                    if !self.core.discard(key, n) {
                        self.core.finish_closing(key);
                        return Progress::Done;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Done,
                _ => {
                    self.core.finish_closing(key);
                    return Progress::Done;
                }
            }
        }
        Progress::More
    }
}

/// Reads, also after an interruption.
pub(crate) fn read<B: Backend>(
    io: &mut Io<'_, B>,
    stream: &B::Stream,
    into: &mut [u8],
) -> io::Result<usize> {
    loop {
        match io.read(stream, into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Limits;
    use crate::shard::{Core, Shared};

    #[test]
    fn blocks_of_all_sizes_come_from_the_pool_and_go_home() {
        let shared = Arc::new(Shared::new(Limits::default(), 1));
        let mut core = Core::<()>::new(0, shared, 0, false);
        let live = |core: &mut Core<()>| {
            core.tidy_up();
            core.blocks.pool_mut().map(|pool| pool.stats().live)
        };
        assert_eq!(live(&mut core), Some(0));
        let mut block = core.read_block(BLOCK_BYTES);
        assert_eq!(block.capacity(), BLOCK_BYTES);
        block.extend_from_slice(b"packet");
        let large = core.read_block(300_000);
        assert!(large.capacity() >= 300_000);
        let packet = block.share(0..6);
        drop((block, large));
        // The packet is under way to another shard, and dropped there.
        assert_eq!(live(&mut core), Some(1));
        std::thread::spawn(move || assert_eq!(&*packet, b"packet"))
            .join()
            .unwrap();
        assert_eq!(live(&mut core), Some(0));

        let mut out = sharedbuf::WriteQueue::new();
        out.prepare(&mut core.blocks);
        out.push_copy(b"packet", sharedbuf::Class::Control);
        assert_eq!(live(&mut core), Some(1));
        out.advance(6);
        assert_eq!(live(&mut core), Some(0));
    }
}
