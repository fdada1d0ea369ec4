//! TLS over buffers, by rustls without buffers of its own: an idle connection keeps keys and no
//! more.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ServerConfig, ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};

use super::hello::Hello;
use crate::memory::allocated;

/// What a connection has of TLS.
pub(crate) struct Tls {
    connection: UnbufferedServerConnection,
    /// The beginning of a record that has not come whole: at most one record, 16 KiB and its head;
    /// in a handshake at most one message, which rustls bounds at 64 KiB.
    rest: Vec<u8>,
    /// What the client said first, until the handshake is over.
    hello: Option<Box<Hello>>,
    is_closed: bool,
    has_failed: bool,
}

/// What one step has come to.
pub(super) struct Step {
    /// Bytes of the input that are done with.
    pub(super) used: usize,
    pub(super) result: Result<(), rustls::Error>,
}

impl Tls {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            connection: UnbufferedServerConnection::new(config)?,
            rest: Vec::new(),
            hello: None,
            is_closed: false,
            has_failed: false,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The client has said that it sends no more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.rest.len()
    }

    /// What it takes of memory, itself in a box, but for what rustls has on the heap.
    pub(super) fn heap_bytes(&self) -> u64 {
        allocated(size_of::<Self>()) + allocated(self.rest.capacity())
    }

    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_deref()
    }

    /// The certificates that the client has shown and that have been verified, its own first.
    /// rustls keeps them with the connection.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        self.connection.peer_certificates().unwrap_or_default()
    }

    /// The beginning of a record that was left over, to be put before what comes.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Decrypts `raw`, which begins with what was left over; what is left over now is kept. Data
    /// goes to `sink`, and what TLS has to say behind `out`.
    ///
    /// # Errors
    ///
    /// What is wrong; the alert that says so to the peer is in `out`.
    pub(super) fn open(
        &mut self,
        raw: &mut [u8],
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), rustls::Error> {
        if self.connection.is_handshaking() && self.hello.is_none() {
            self.hello = Hello::read(raw).map(Box::new);
        }
        let Step { used, result } = self.drive(raw, out, sink, None);
        self.rest = raw.get(used..).unwrap_or_default().to_vec();
        if !self.connection.is_handshaking() {
            self.hello = None;
        }
        result
    }

    /// Encrypts `data` behind `out`.
    ///
    /// # Errors
    ///
    /// Where nothing can be sent any more.
    pub(super) fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        self.write(Write::Data(data), out)
    }

    /// Says behind `out` that nothing more is sent.
    pub(super) fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        // Without a handshake there is nothing to end.
        let _ = self.write(Write::Goodbye, out);
    }

    fn write(&mut self, write: Write<'_>, out: &mut Vec<u8>) -> Result<(), rustls::Error> {
        // What is left over has to be shown again: rustls remembers places in it.
        let mut rest = std::mem::take(&mut self.rest);
        let Step { used, result } = self.drive(&mut rest, out, &mut |_| {}, Some(write));
        rest.drain(..used);
        self.rest = rest;
        result
    }

    /// After a failure: the alert that says so. Nothing else may be asked of rustls then, least of
    /// all to read the same bytes again.
    fn say_what_failed(&mut self, out: &mut Vec<u8>, sink: &mut dyn FnMut(&[u8])) {
        self.has_failed = true;
        while self.connection.wants_write() {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, out),
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(Ok(record)) = records.next_record() {
                        sink(record.payload);
                    }
                }
                _ => break,
            }
        }
    }

    /// Lets rustls do all that it can.
    fn drive(
        &mut self,
        raw: &mut [u8],
        out: &mut Vec<u8>,
        sink: &mut dyn FnMut(&[u8]),
        mut write: Option<Write<'_>>,
    ) -> Step {
        if self.has_failed {
            return Step {
                used: raw.len(),
                result: Err(rustls::Error::HandshakeNotComplete),
            };
        }
        let mut used = 0;
        let mut failure = None;
        loop {
            let rest = raw.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(rest);
            let mut is_over = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(Ok(record)) = records.next_record() {
                        discard += record.discard;
                        sink(record.payload);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => encode(&mut message, out),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let write = write.take();
                    is_over = true;
                    let is_written = write.is_none_or(|write| {
                        append(out, |to| {
                            let written = match write {
                                Write::Data(data) => traffic.encrypt(data, to),
                                Write::Goodbye => traffic.queue_close_notify(to),
                            };
                            written.map_err(|error| match error {
                                EncryptError::InsufficientSize(size) => Some(size.required_size),
                                EncryptError::EncryptExhausted => None,
                            })
                        })
                    });
                    if !is_written {
                        failure = Some(rustls::Error::EncryptError);
                    }
                }
                Ok(ConnectionState::PeerClosed) => self.is_closed = true,
                Err(error) => {
                    self.say_what_failed(out, sink);
                    failure = Some(error);
                    is_over = true;
                }
                // No early data is offered, and so none comes.
                Ok(_) => is_over = true,
            }
            used += discard;
            if is_over {
                break;
            }
        }
        if failure.is_none() && write.is_some() {
            failure = Some(rustls::Error::HandshakeNotComplete);
        }
        Step {
            used,
            result: failure.map_or(Ok(()), Err),
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy)]
enum Write<'a> {
    Data(&'a [u8]),
    Goodbye,
}

fn encode(message: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    append(out, |to| {
        message.encode(to).map_err(|error| match error {
            EncodeError::InsufficientSize(size) => Some(size.required_size),
            EncodeError::AlreadyEncoded => None,
        })
    });
}

/// Appends what `write` writes, which says how many bytes it needs where it has too few. Returns
/// whether it could.
fn append(
    out: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> bool {
    let start = out.len();
    loop {
        match write(out.get_mut(start..).unwrap_or_default()) {
            Ok(len) => {
                out.truncate(start + len);
                return true;
            }
            Err(Some(needed)) if start + needed > out.len() => out.resize(start + needed, 0),
            Err(_) => {
                out.truncate(start);
                return false;
            }
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("rest", &self.rest.len())
            .field("hello", &self.hello)
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}
