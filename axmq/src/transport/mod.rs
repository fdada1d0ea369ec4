//! What lies between a socket and MQTT: TLS, WebSocket, both, or nothing.
//!
//! A plain connection has no [`Layers`] and knows nothing of this module. For the others these are
//! made by the front, which shakes hands through them, and move to the shard with the connection.
//! No system call, no clock: bytes from the socket go in, bytes for MQTT and bytes for the socket
//! come out.

pub(crate) mod frames;
mod hello;
mod tls;
pub(crate) mod upgrade;
mod web;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use pollio::PeerAddr;
use rustls::pki_types::CertificateDer;

use self::frames::FrameError;
pub(crate) use self::hello::Hello;
use self::tls::Tls;
use self::upgrade::Refusal;
use self::web::Web;
pub(crate) use self::web::WebRules;
use crate::memory::allocated;

/// Bytes of answers of the layers themselves, such as pongs, that wait for a peer that reads
/// nothing. Beyond it pings go unanswered (RFC 6455 section 5.5.3 lets the last one stand for all).
const ANSWERS_MAX: usize = 4 * 1_024;

/// What a listener puts between its sockets and MQTT.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) tls: Option<Arc<rustls::ServerConfig>>,
    pub(crate) web: Option<Arc<WebRules>>,
}

/// What a connection has between its socket and MQTT.
///
/// An idle one has no buffer: all of them are freed when they are empty.
#[derive(Debug)]
pub(crate) struct Layers {
    tls: Option<Box<Tls>>,
    web: Option<Web>,
    /// Data that has been decrypted and found no room: at most what one read of the socket held.
    held: Vec<u8>,
    held_at: usize,
    /// What the socket gets before anything else: the rest of a write, and what the layers answer
    /// themselves. It ends where a frame does.
    pending: Vec<u8>,
    /// How much of that has been written.
    pending_at: usize,
    /// What ends the connection once the data before it has been used.
    end: Option<Fault>,
    has_said_goodbye: bool,
    listener: u32,
}

/// Why there is nothing more to come from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has ended the layer in good order.
    Ended,
    /// Its request for a WebSocket is refused.
    Upgrade(Refusal),
    Frame(FrameError),
    /// Something came that is no TLS.
    NotTls(&'static str),
    /// What rustls says.
    Tls(Box<str>),
}

impl Fault {
    fn tls(error: &rustls::Error) -> Self {
        Self::Tls(error.to_string().into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the client closed the connection"),
            Self::Upgrade(refusal) => {
                write!(f, "{} (HTTP status {})", refusal.why, refusal.status as u16)
            }
            Self::Frame(error) => write!(f, "WebSocket: {error}"),
            Self::NotTls(what) => f.write_str(what),
            Self::Tls(what) => write!(f, "TLS: {what}"),
        }
    }
}

impl Layers {
    /// Those of a connection from `peer` to this listener; `None` where there is nothing between
    /// socket and MQTT.
    pub(crate) fn new(door: &Door, peer: Option<IpAddr>, listener: u32) -> Option<Box<Self>> {
        let web = door.web.as_ref();
        let web = web.map(|rules| Web::new(Arc::clone(rules), peer));
        let mut end = None;
        let tls = door.tls.as_ref().and_then(|tls| {
            let tls = Tls::new(Arc::clone(tls));
            // Without TLS it would be open: better closed.
            tls.map_err(|error| end = Some(Fault::tls(&error))).ok()
        });
        if web.is_none() && tls.is_none() && end.is_none() {
            return None;
        }
        Some(Box::new(Self {
            tls: tls.map(Box::new),
            web,
            held: Vec::new(),
            held_at: 0,
            pending: Vec::new(),
            pending_at: 0,
            end,
            has_said_goodbye: false,
            listener,
        }))
    }

    /// What it takes of memory, but for what rustls has on the heap.
    pub(crate) fn heap_bytes(&self) -> u64 {
        allocated(size_of::<Self>())
            + allocated(self.held.capacity())
            + allocated(self.pending.capacity())
            + self.tls.as_deref().map_or(0, Tls::heap_bytes)
    }

    /// Takes bytes from the socket and appends what of them is MQTT's.
    ///
    /// # Errors
    ///
    /// What ends the connection; `plain` has what came before it, and what the peer is to be told
    /// is [pending](Self::pending).
    ///
    /// # Complexity
    ///
    /// Linear, but for a request that comes in pieces: see [`upgrade::read`].
    pub(crate) fn receive(&mut self, raw: &[u8], plain: &mut Vec<u8>) -> Result<(), Fault> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let start = plain.len();
        let opened = if self.tls.is_some() {
            let mut records = [self.rest(), raw].concat();
            self.open(&mut records, |data| plain.extend_from_slice(data))
        } else {
            plain.extend_from_slice(raw);
            Ok(())
        };
        let bytes = plain.get_mut(start..).unwrap_or_default();
        let (len, result) = self.unwrap_in_place(bytes);
        plain.truncate(start + len);
        result.and(opened)
    }

    /// Whether bytes of the socket are [opened](Self::open_into) before they are unwrapped.
    pub(crate) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What has to come before the next bytes of the socket.
    pub(crate) fn rest(&self) -> &[u8] {
        self.tls.as_ref().map_or(&[], |tls| tls.rest())
    }

    /// Decrypts `raw`, which begins with the [rest](Self::rest), into `into`, and
    /// returns how many bytes that are. What finds no room there is kept for
    /// [`take_held`](Self::take_held).
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive).
    pub(crate) fn open_into(
        &mut self,
        raw: &mut [u8],
        into: &mut [u8],
    ) -> (usize, Result<(), Fault>) {
        let mut held = std::mem::take(&mut self.held);
        let mut len = 0;
        let result = self.open(raw, |data| {
            let room = into.get_mut(len..).unwrap_or_default();
            let (now, later) = data.split_at(data.len().min(room.len()));
            room.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            len += now.len();
            held.extend_from_slice(later);
        });
        self.held = held;
        (len, result)
    }

    /// Data that has been decrypted already.
    pub(crate) fn take_held(&mut self, into: &mut [u8]) -> usize {
        let held = self.held.get(self.held_at..).unwrap_or_default();
        let len = held.len().min(into.len());
        let (now, later) = held.split_at(len);
        into.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
        if later.is_empty() {
            self.held = Vec::new();
            self.held_at = 0;
        } else {
            self.held_at += len;
        }
        len
    }

    fn open(&mut self, raw: &mut [u8], mut sink: impl FnMut(&[u8])) -> Result<(), Fault> {
        let Some(tls) = &mut self.tls else {
            return Ok(());
        };
        if tls.is_handshaking()
            && tls.hello().is_none()
            && let Some(what) = not_tls(raw)
        {
            return Err(Fault::NotTls(what));
        }
        match tls.open(raw, &mut self.pending, &mut sink) {
            Ok(()) if tls.is_closed() => Err(Fault::Ended),
            Ok(()) => Ok(()),
            Err(error) => Err(Fault::tls(&error)),
        }
    }

    /// Takes what lies over MQTT off these bytes, which are no longer encrypted, in place: returns
    /// how many are now at the front.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive).
    pub(crate) fn unwrap_in_place(&mut self, bytes: &mut [u8]) -> (usize, Result<(), Fault>) {
        let Some(web) = &mut self.web else {
            return (bytes.len(), Ok(()));
        };
        let room = ANSWERS_MAX.saturating_sub(self.pending.len());
        let mut answers = Vec::new();
        let (len, mut result) = web.unwrap_in_place(bytes, &mut answers, room);
        if let Err(fault) = self.push(&answers) {
            result = result.and(Err(fault));
        }
        if let Err(Fault::Upgrade(_)) = &result {
            // The answer is in place; HTTP has no other end.
            self.web = None;
        }
        (len, result)
    }

    /// Puts bytes that lie over MQTT, or MQTT's with their heads, behind what is pending.
    fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match &mut self.tls {
            _ if bytes.is_empty() => Ok(()),
            None => {
                self.pending.extend_from_slice(bytes);
                Ok(())
            }
            Some(tls) => tls
                .seal(bytes, &mut self.pending)
                .map_err(|error| Fault::tls(&error)),
        }
    }

    /// Remembers what ends the connection, for when the data before it has been used.
    pub(crate) fn end_with(&mut self, fault: Fault) {
        self.end.get_or_insert(fault);
    }

    pub(crate) fn end(&self) -> Option<&Fault> {
        self.end.as_ref()
    }

    /// The client that a trusted proxy says it connects for, once.
    pub(crate) fn take_client(&mut self) -> Option<PeerAddr> {
        self.web.as_mut().and_then(Web::take_client)
    }

    /// What has not come whole, for the log.
    pub(crate) fn stage(&self) -> &'static str {
        match (&self.tls, &self.web) {
            (Some(tls), _) if tls.is_handshaking() => "TLS handshake",
            (_, Some(web)) if !web.is_open() => "request for a WebSocket",
            _ => "CONNECT",
        }
    }

    /// What the client said first of TLS, while the handshake is not over.
    pub(crate) fn hello(&self) -> Option<&Hello> {
        self.tls.as_ref()?.hello()
    }

    /// The certificate that the client has shown and that has been verified, in DER.
    pub(crate) fn certificate(&self) -> Option<&[u8]> {
        self.certificates()
            .first()
            .map(|certificate| &**certificate)
    }

    /// The same with those that it has shown with it; empty where it has shown none.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        self.tls.as_ref().map_or(&[], |tls| tls.certificates())
    }

    /// The listener that it came in by, by its place in the configuration.
    pub(crate) fn listener(&self) -> u32 {
        self.listener
    }

    /// Bytes that are kept for a handshake, or of a record that has not come whole.
    pub(crate) fn held_bytes(&self) -> usize {
        let web = self.web.as_ref().map_or(0, Web::held_bytes);
        let tls = self.tls.as_ref().map_or(0, |tls| tls.held_bytes());
        web + tls + self.held.len()
    }

    /// What the socket gets before anything else.
    pub(crate) fn pending(&self) -> &[u8] {
        self.pending.get(self.pending_at..).unwrap_or_default()
    }

    /// So much of what was pending has been written.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.pending_at += bytes;
        if self.pending_at >= self.pending.len() {
            self.pending = Vec::new();
            self.pending_at = 0;
        }
    }

    /// Keeps what a write left over of `pieces`, of which so many bytes are written.
    pub(crate) fn keep_rest<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
        mut written: usize,
    ) {
        for piece in pieces {
            let skipped = written.min(piece.len());
            written -= skipped;
            self.pending
                .extend_from_slice(piece.get(skipped..).unwrap_or_default());
        }
    }

    /// The head that goes before so many bytes of data, with its length; 0 where there is none.
    pub(crate) fn head(&self, data_len: usize) -> ([u8; frames::HEAD_LEN_MAX], usize) {
        match &self.web {
            Some(_) => frames::head(data_len as u64),
            None => ([0; frames::HEAD_LEN_MAX], 0),
        }
    }

    /// Encrypts data, its heads in it, behind `out`.
    ///
    /// # Errors
    ///
    /// Where nothing can be sent any more.
    pub(crate) fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        match &mut self.tls {
            Some(tls) => tls.seal(data, out).map_err(|error| Fault::tls(&error)),
            None => {
                out.extend_from_slice(data);
                Ok(())
            }
        }
    }

    /// Puts data, with all that goes around it, behind what is pending.
    ///
    /// # Errors
    ///
    /// As for [`seal`](Self::seal).
    pub(crate) fn wrap(&mut self, data: &[u8]) -> Result<(), Fault> {
        let (head, head_len) = self.head(data.len());
        let head = head.get(..head_len).unwrap_or_default();
        self.push(&[head, data].concat())
    }

    /// Says to the peer that nothing more comes, once. Returns whether something is pending for it
    /// now.
    pub(crate) fn say_goodbye(&mut self, is_stop: bool) -> bool {
        if !std::mem::replace(&mut self.has_said_goodbye, true) {
            let mut close = Vec::new();
            if let Some(web) = &self.web {
                web.say_goodbye(self.end.as_ref(), is_stop, &mut close);
            }
            // Where it cannot be said, the end of the stream says it.
            let _ = self.push(&close);
            if let Some(tls) = &mut self.tls {
                tls.say_goodbye(&mut self.pending);
            }
        }
        !self.pending().is_empty()
    }
}

/// What came in place of TLS, as far as the first bytes tell; `None` where it may be TLS.
fn not_tls(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [] | [0x16] | [0x16, 3, ..] => None,
        [0x10, ..] => Some("MQTT without TLS on a TLS listener"),
        [b'G', b'E', b'T', ..] | [b'G', b'E'] | [b'G'] => {
            Some("HTTP without TLS on a TLS listener")
        }
        _ => Some("no TLS on a TLS listener"),
    }
}

#[cfg(test)]
mod tests;
