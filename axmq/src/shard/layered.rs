//! Reading and writing of connections that have something between their socket and MQTT.

use std::io::{self, IoSlice};

use pollio::{Backend, Budget, Io, Progress, Readiness};
use slabmem::Key;

use super::connection::{Connection, State, flag};
use super::input::{Source, read};
use super::server::{Alarm, SEGMENTS, ShardServer, WRITE_BYTES_PER_TURN, is_only_writable};
use crate::events::Cause;
use crate::transport::{Fault, Layers};

/// What goes out with one write, and so the most that is copied for a peer that takes only a part
/// of it: what has been announced has to follow, whatever is dropped meanwhile.
const CHUNK_BYTES: usize = 64 * 1_024;

/// What one read of a socket asks for where what comes is encrypted: two records.
const RECORDS_BYTES: usize = 32 * 1_024;

/// What a shard has once for all its connections, so that none needs a buffer of its own.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    raw: Vec<u8>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

/// The layers of a connection as a source.
struct Layered<'a> {
    scratch: &'a mut Scratch,
    /// A short read means that the socket has no more for now.
    may_be_drained: bool,
    is_drained: bool,
    /// Bytes that may still be read from the socket in this turn, also where they hold no data.
    raw_left: usize,
    /// What the last read has failed for.
    fault: Option<Fault>,
}

impl Layered<'_> {
    /// Reads from the socket, into `into` where it is not encrypted. Returns how many bytes of
    /// `into` are data, perhaps with its frames; `None` at the end of the stream.
    fn fill<B: Backend>(
        &mut self,
        io: &mut Io<'_, B>,
        layers: &mut Layers,
        stream: &B::Stream,
        into: &mut [u8],
    ) -> io::Result<Option<usize>> {
        let has_tls = layers.has_tls();
        let raw = &mut self.scratch.raw;
        let before = if has_tls {
            raw.clear();
            raw.extend_from_slice(layers.rest());
            raw.len()
        } else {
            0
        };
        let place = if has_tls {
            raw.resize(before + RECORDS_BYTES, 0);
            raw.get_mut(before..).unwrap_or_default()
        } else {
            &mut *into
        };
        let asked = place.len();
        let count = read(io, stream, place)?;
        self.is_drained = self.may_be_drained && count < asked;
        self.raw_left = self.raw_left.saturating_sub(count);
        if count == 0 || !has_tls {
            return Ok((count > 0).then_some(count));
        }
        raw.truncate(before + count);
        let (len, result) = layers.open_into(raw, into);
        if let Err(fault) = result {
            layers.end_with(fault);
        }
        Ok(Some(len))
    }
}

impl<B: Backend> Source<B> for Layered<'_> {
    fn read(
        &mut self,
        io: &mut Io<'_, B>,
        connection: &mut Connection<B::Stream>,
        into: &mut [u8],
    ) -> io::Result<usize> {
        let Some((layers, stream)) = connection.layers() else {
            return Ok(0);
        };
        loop {
            // What came before the end counts.
            let mut len = layers.take_held(into);
            if len == 0 {
                match layers.end() {
                    Some(Fault::Ended) => return Ok(0),
                    Some(fault) => {
                        self.fault = Some(fault.clone());
                        return Err(io::ErrorKind::InvalidData.into());
                    }
                    None if self.is_drained || self.raw_left == 0 => {
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    None => {}
                }
                let Some(filled) = self.fill(io, layers, stream, into)? else {
                    return Ok(0);
                };
                len = filled;
            }
            let (len, result) = layers.unwrap_in_place(into.get_mut(..len).unwrap_or_default());
            if let Err(fault) = result {
                layers.end_with(fault);
            }
            if len > 0 {
                return Ok(len);
            }
        }
    }

    fn reads_to_the_end(&self) -> bool {
        // It may only mean that a frame ended; the source itself knows when there is no more.
        true
    }

    fn cause(&mut self, error: &io::Error) -> Cause {
        self.fault
            .take()
            .map_or_else(|| Cause::Io(error.kind()), Cause::Transport)
    }
}

impl<B: Backend, A: Alarm> ShardServer<B, A> {
    /// A connection is ready that is not both connected and plain.
    pub(super) fn on_other_ready(
        &mut self,
        io: &mut Io<'_, B>,
        key: Key,
        readiness: Readiness,
        budget: &Budget,
    ) -> Progress {
        let Some(connection) = self.core.connection(key) else {
            return Progress::Done;
        };
        if !connection.is_connected() {
            return self.discard(io, key, budget);
        }
        if connection.has(flag::PAUSED) || is_only_writable(readiness) {
            return Progress::Done;
        }
        self.read_layered(io, key, budget)
    }

    fn read_layered(&mut self, io: &mut Io<'_, B>, key: Key, budget: &Budget) -> Progress {
        let Some(connection) = self.core.connection(key) else {
            return Progress::Done;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut source = Layered {
            scratch: &mut scratch,
            may_be_drained: !connection.has(flag::HUNG_UP),
            is_drained: false,
            raw_left: budget.bytes,
            fault: None,
        };
        let progress = self.read_from(&mut source, io, key, budget);
        let is_cut_short = source.raw_left == 0 && !source.is_drained;
        self.scratch = scratch;
        let Some(connection) = self.core.connection_mut(key) else {
            return Progress::Done;
        };
        let has_answers = connection
            .layers()
            .is_some_and(|(layers, _)| !layers.pending().is_empty());
        if has_answers {
            self.core.write_more(key);
        }
        if is_cut_short {
            return self.unless_paused(key);
        }
        progress
    }

    /// As `write`, through the layers.
    pub(super) fn write_layered(&mut self, io: &mut Io<'_, B>, key: Key) {
        let is_stop = self.core.is_stopping();
        let mut left = WRITE_BYTES_PER_TURN;
        loop {
            let Some(connection) = self.core.connection_mut(key) else {
                return;
            };
            let is_closing = connection.state() == State::Closing;
            let has_data = !connection.out.is_empty();
            let Some((layers, stream)) = connection.layers() else {
                return;
            };
            let written = if !layers.pending().is_empty() {
                let written = io.write_vectored(stream, &[IoSlice::new(layers.pending())]);
                if let Ok(count) = written {
                    layers.sent(count);
                    connection.set(flag::PROGRESS);
                }
                written
            } else if has_data {
                if left == 0 {
                    self.core.write_more(key);
                    return;
                }
                match write_chunk(io, connection, &mut self.scratch) {
                    Ok(taken) => {
                        self.core.wrote(key, taken);
                        Ok(taken)
                    }
                    Err(error) => Err(error),
                }
            } else if is_closing && layers.say_goodbye(is_stop) {
                continue;
            } else {
                self.flushed(io, key);
                return;
            };
            match written {
                Ok(count) => left = left.saturating_sub(count.max(1)),
                Err(error) => {
                    if !self.tries_again(key, &error) {
                        return;
                    }
                }
            }
        }
    }
}

/// Writes the next chunk of a connection's queue; what the socket does not take is kept as pending.
/// Returns how many bytes of the queue are done with.
fn write_chunk<B: Backend>(
    io: &mut Io<'_, B>,
    connection: &mut Connection<B::Stream>,
    scratch: &mut Scratch,
) -> io::Result<usize> {
    let extras = connection.extras.as_deref_mut();
    let Some(layers) = extras.and_then(|extras| extras.layers.as_deref_mut()) else {
        return Ok(0);
    };
    let mut slices = [IoSlice::new(&[]); SEGMENTS];
    let count = connection.out.fill_io_slices(&mut slices);
    let mut pieces: [&[u8]; SEGMENTS] = [&[]; SEGMENTS];
    let mut len = 0;
    for (piece, slice) in pieces.iter_mut().zip(slices.iter().take(count)) {
        let all: &[u8] = slice;
        *piece = all.get(..CHUNK_BYTES - len).unwrap_or(all);
        len += piece.len();
    }
    let (head, head_len) = layers.head(len);
    let head = head.get(..head_len).unwrap_or_default();
    let all = || std::iter::once(head).chain(pieces.iter().copied().take(count));
    if layers.has_tls() {
        // Encrypting copies anyway: one record for many short pieces is what costs least.
        let Scratch { plain, sealed, .. } = scratch;
        plain.clear();
        sealed.clear();
        all().for_each(|piece| plain.extend_from_slice(piece));
        if layers.seal(plain, sealed).is_err() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What has been encrypted has to be sent, and in this order.
        let written = match io.write_vectored(&connection.stream, &[IoSlice::new(sealed)]) {
            Err(error) if is_transient(&error) => 0,
            written => written?,
        };
        layers.keep_rest(std::iter::once(sealed.as_slice()), written);
        return Ok(len);
    }
    let mut vector = [IoSlice::new(&[]); SEGMENTS + 1];
    for (entry, piece) in vector.iter_mut().zip(all()) {
        *entry = IoSlice::new(piece);
    }
    let vector = vector.get(..=count).unwrap_or_default();
    let written = io.write_vectored(&connection.stream, vector)?;
    layers.keep_rest(all(), written);
    Ok(len)
}

/// The socket takes nothing now, but will.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
