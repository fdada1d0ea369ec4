//! What lies between a socket and MQTT: TLS, WebSocket, both, or nothing.
//!
//! A plain connection has no [`Layers`] and knows nothing of this module. For the others these are
//! made by the front, which shakes hands through them, and move to the shard with the connection.
//! No system call, no clock: bytes from the socket go in, bytes for MQTT and bytes for the socket
//! come out.

pub(crate) mod frames;
pub(crate) mod upgrade;
mod web;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use pollio::PeerAddr;

use self::frames::FrameError;
use self::upgrade::Refusal;
use self::web::Web;
pub(crate) use self::web::WebRules;

/// Bytes of answers of the layers themselves, such as pongs, that wait for a peer that reads
/// nothing. Beyond it pings go unanswered (RFC 6455 section 5.5.3 lets the last one stand for all).
const ANSWERS_MAX: usize = 4 * 1_024;

/// What a listener puts between its sockets and MQTT.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) web: Option<Arc<WebRules>>,
}

/// What a connection has between its socket and MQTT.
///
/// An idle one has no buffer: all of them are freed when they are empty.
#[derive(Debug)]
pub(crate) struct Layers {
    web: Option<Web>,
    /// What the socket gets before anything else: the rest of a write, and what the layers answer
    /// themselves. It ends where a frame does.
    pending: Vec<u8>,
    /// How much of that has been written.
    pending_at: usize,
    /// What ends the connection once the data before it has been used.
    end: Option<Fault>,
    has_said_goodbye: bool,
}

/// Why there is nothing more to come from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It has ended the layer in good order.
    Ended,
    /// Its request for a WebSocket is refused.
    Upgrade(Refusal),
    Frame(FrameError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the client closed the connection"),
            Self::Upgrade(refusal) => {
                write!(f, "{} (HTTP status {})", refusal.why, refusal.status as u16)
            }
            Self::Frame(error) => write!(f, "WebSocket: {error}"),
        }
    }
}

impl Layers {
    /// Those of a connection from `peer`; `None` where there is nothing between socket and MQTT.
    pub(crate) fn new(door: &Door, peer: Option<IpAddr>) -> Option<Box<Self>> {
        let web = door.web.as_ref();
        let web = web.map(|rules| Web::new(Arc::clone(rules), peer));
        web.as_ref()?;
        Some(Box::new(Self {
            web,
            pending: Vec::new(),
            pending_at: 0,
            end: None,
            has_said_goodbye: false,
        }))
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
        let start = plain.len();
        plain.extend_from_slice(raw);
        let bytes = plain.get_mut(start..).unwrap_or_default();
        let (len, result) = self.unwrap_in_place(bytes);
        plain.truncate(start + len);
        result
    }

    /// Takes what lies over MQTT off these bytes, in place: returns how many are now at the front.
    ///
    /// # Errors
    ///
    /// As for [`receive`](Self::receive).
    pub(crate) fn unwrap_in_place(&mut self, bytes: &mut [u8]) -> (usize, Result<(), Fault>) {
        let Some(web) = &mut self.web else {
            return (bytes.len(), Ok(()));
        };
        let room = ANSWERS_MAX.saturating_sub(self.pending.len());
        let (len, result) = web.unwrap_in_place(bytes, &mut self.pending, room);
        if let Err(Fault::Upgrade(_)) = &result {
            // The answer is in place; nothing but it is said.
            self.has_said_goodbye = true;
        }
        (len, result)
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

    /// What a handshake has got to, for the log.
    pub(crate) fn stage(&self) -> &'static str {
        match &self.web {
            Some(web) if !web.is_open() => "request for a WebSocket",
            _ => "CONNECT",
        }
    }

    /// Bytes that are kept for a handshake.
    pub(crate) fn held_bytes(&self) -> usize {
        self.web.as_ref().map_or(0, Web::held_bytes)
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

    /// Puts data, with all that goes around it, behind what is pending.
    pub(crate) fn wrap(&mut self, data: &[u8]) {
        let (head, head_len) = self.head(data.len());
        self.pending
            .extend_from_slice(head.get(..head_len).unwrap_or_default());
        self.pending.extend_from_slice(data);
    }

    /// Says to the peer that nothing more comes, once. Returns whether something is pending for it
    /// now.
    pub(crate) fn say_goodbye(&mut self, is_stop: bool) -> bool {
        if !std::mem::replace(&mut self.has_said_goodbye, true)
            && let Some(web) = &self.web
        {
            web.say_goodbye(self.end.as_ref(), is_stop, &mut self.pending);
        }
        !self.pending().is_empty()
    }
}

#[cfg(test)]
mod tests;
