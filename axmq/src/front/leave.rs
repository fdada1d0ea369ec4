//! How connections end that are not handed over: refused, timed out, or gone by themselves.

use pollio::{Backend, Io, PeerAddr};
use slabmem::Key;

use super::admit::Refusal;
use super::authenticate::Pending;
use super::proxy::ProxyError;
use super::{FrontServer, Greeting};
use crate::defence::Offence;
use crate::events::ReasonHex;
use crate::transport::Layers;

/// A refused client has this long to read why.
const LINGER_MS: u64 = 1_000;
/// Input that is thrown away meanwhile.
const LINGER_BYTES: u32 = 256 * 1_024;

impl<B: Backend> FrontServer<B> {
    pub(super) fn refuse(&mut self, io: &mut Io<'_, B>, key: Key, refusal: &Refusal) {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return;
        };
        let who = host(&greeting.peer);
        if self.log.allows(self.now_ms, "connection.refused", &who) {
            tracing::warn!(
                event = "connection.refused",
                peer = %greeting.peer,
                client = %refusal.client_id.escape_debug(),
                reason = %ReasonHex(refusal.reason),
                "{refusal}"
            );
        }
        if let Some(offence) = refusal.offence {
            let defence = &self.parts.shared.defence;
            let client = Some(&*refusal.client_id);
            defence.offend(&greeting.peer, client, offence, self.now_ms);
        }
        let answer = refusal.connack();
        if answer.is_empty() {
            self.drop_greeting(key);
            return;
        }
        // The socket buffer of a new connection has room for one small packet; where it has not,
        // the client misses the reason and no more.
        let _ = greeting.send(io, &answer);
        self.linger(io, key);
    }

    /// Ends a connection that has been told why, but lets its client read that.
    pub(super) fn linger(&mut self, io: &mut Io<'_, B>, key: Key) {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return;
        };
        greeting.say_goodbye(io);
        let _ = io.shutdown_write(&greeting.stream);
        self.greeting_bytes -= greeting.held_bytes();
        greeting.layers = None;
        greeting.bytes = Vec::new();
        greeting.connect_bytes = 0;
        greeting.pending = None;
        greeting.discard_left = Some(LINGER_BYTES);
        self.timers.cancel(greeting.timer);
        greeting.timer = self.timers.insert(self.now_ms + LINGER_MS, key);
    }

    /// Refuses a connection whose PROXY header is wrong. There is nobody to answer.
    pub(super) fn refuse_proxy(&mut self, key: Key, error: ProxyError) {
        let Some(greeting) = self.greetings.get(key) else {
            return;
        };
        let who = host(&greeting.peer);
        if self.log.allows(self.now_ms, "connection.refused", &who) {
            tracing::warn!(
                event = "connection.refused",
                peer = %greeting.peer,
                "{error} (listener.proxy_protocol_from)"
            );
        }
        self.drop_greeting(key);
    }

    pub(super) fn take(&mut self, key: Key) -> Option<Greeting<B::Stream>> {
        let greeting = self.greetings.remove(key)?;
        self.timers.cancel(greeting.timer);
        self.greeting_bytes -= greeting.held_bytes();
        Some(greeting)
    }

    /// Lets go of a connection of which the log knows all there is to know.
    pub(super) fn drop_greeting(&mut self, key: Key) {
        if self.take(key).is_some() {
            self.parts.shared.connection_closed();
        }
    }

    /// A client has closed its connection, or left, before CONNACK.
    pub(super) fn left(&mut self, key: Key, how: &str) {
        if let Some(greeting) = self.greetings.get(key)
            && greeting.discard_left.is_none()
        {
            let pending = greeting.pending.as_deref();
            tracing::debug!(
                event = "connection.closed",
                peer = %greeting.peer,
                client = %pending.map_or("", Pending::client_id).escape_debug(),
                bytes = greeting.bytes.len(),
                "{how} before CONNACK"
            );
        }
        if self.is_fruitless(key) {
            self.blame(key, None, Offence::Fruitless);
        }
        self.drop_greeting(key);
    }

    /// Whether a client leaves that has not been answered, and does not wait for an answer of ours.
    fn is_fruitless(&self, key: Key) -> bool {
        let greeting = self.greetings.get(key);
        greeting.is_some_and(|it| {
            it.discard_left.is_none() && it.pending.is_none() && it.held.is_none()
        })
    }

    pub(super) fn time_out(&mut self, io: &mut Io<'_, B>, key: Key) {
        if self.has_more_time(key) || self.has_waited(io, key) {
            return;
        }
        let too_late = self
            .greetings
            .get(key)
            .and_then(|greeting| greeting.pending.as_deref())
            .map(Pending::too_late);
        if let Some(refusal) = too_late {
            self.refuse(io, key, &refusal);
            return;
        }
        if self.is_fruitless(key) {
            self.blame(key, None, Offence::Silent);
        }
        if let Some(greeting) = self.greetings.get(key)
            && greeting.discard_left.is_none()
            && self
                .log
                .allows(self.now_ms, "connect_timeout", &host(&greeting.peer))
        {
            tracing::info!(
                event = "connection.refused",
                peer = %greeting.peer,
                "no complete {} within {} ms, {} bytes came ({})",
                greeting.layers.as_deref().map_or("CONNECT", Layers::stage),
                self.now_ms.saturating_sub(greeting.opened_ms),
                greeting.held_bytes(),
                if greeting.has_spoken {
                    "limits.connect_timeout_ms"
                } else {
                    "defence.silence_ms, limits.connect_timeout_ms"
                }
            );
        }
        self.drop_greeting(key);
    }
}

/// Who a stranger is, for the log's limits.
pub(super) fn host(peer: &PeerAddr) -> String {
    peer.ip().map_or_else(String::new, |ip| ip.to_string())
}
