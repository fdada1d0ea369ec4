//! Connections whose listener has something between the socket and MQTT: their handshakes.

use std::io::{self, IoSlice};

use pollio::{Backend, Io};
use slabmem::Key;

use super::admit::CertifiedUser;
use super::leave::host;
use super::{FrontServer, Greeting};
use crate::defence::Offence;
use crate::listener::ListenerState;
use crate::transport::{Fault, Layers};

impl<B: Backend> FrontServer<B> {
    /// Takes what has just been read. Returns whether the connection goes on.
    pub(super) fn take_in(&mut self, io: &mut Io<'_, B>, key: Key, count: usize) -> bool {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return false;
        };
        let raw = self.buffer.get(..count).unwrap_or_default();
        let before = greeting.held_bytes();
        let result = match &mut greeting.layers {
            // The header is the proxy's, and comes before anything of the client.
            Some(layers) if !greeting.awaits_proxy_header => {
                layers.receive(raw, &mut greeting.bytes)
            }
            _ => {
                greeting.bytes.extend_from_slice(raw);
                Ok(())
            }
        };
        self.greeting_bytes = self.greeting_bytes - before + greeting.held_bytes();
        self.go_on(io, key, result)
    }

    /// A PROXY header is through: from here on it is the client who speaks. Returns whether the
    /// connection goes on.
    pub(super) fn enter(&mut self, io: &mut Io<'_, B>, key: Key) -> bool {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return false;
        };
        let state = self.parts.shared.listeners.get(greeting.listener);
        // Made anew for the client that the header names.
        greeting.layers = state.and_then(|state| state.layers(&greeting.peer, greeting.listener));
        let Some(layers) = &mut greeting.layers else {
            return true;
        };
        let raw = std::mem::take(&mut greeting.bytes);
        let result = layers.receive(&raw, &mut greeting.bytes);
        self.greeting_bytes = self.greeting_bytes - raw.len() as u64 + greeting.held_bytes();
        self.go_on(io, key, result)
    }

    /// Sends what the layers answer, and acts on what they have found.
    fn go_on(&mut self, io: &mut Io<'_, B>, key: Key, result: Result<(), Fault>) -> bool {
        let Some(greeting) = self.greetings.get_mut(key) else {
            return false;
        };
        let Some(layers) = &mut greeting.layers else {
            return true;
        };
        if let Some(client) = layers.take_client() {
            greeting.peer = client;
            if self.parts.shared.defence.turns_away(&client, self.now_ms) {
                self.drop_greeting(key);
                return false;
            }
        }
        match result {
            Ok(()) => {
                let is_answer = !layers.pending().is_empty();
                if !flush(io, &greeting.stream, layers) {
                    self.left(key, "the connection failed");
                    return false;
                }
                if is_answer {
                    // An answer of a handshake takes a third of a millisecond to make. A shard that
                    // has become ready meanwhile is let in between two of them, where the scheduler
                    // would look again only at its next tick.
                    std::thread::yield_now();
                }
                true
            }
            Err(Fault::Ended) => {
                greeting.say_goodbye(io);
                self.left(key, "the client closed the connection");
                false
            }
            Err(fault) => {
                layers.end_with(fault.clone());
                self.refuse_at_door(io, key, &fault);
                false
            }
        }
    }

    fn refuse_at_door(&mut self, io: &mut Io<'_, B>, key: Key, fault: &Fault) {
        let Some(greeting) = self.greetings.get(key) else {
            return;
        };
        let who = host(&greeting.peer);
        if self.log.allows(self.now_ms, "connection.refused", &who) {
            let hello = greeting.layers.as_deref().and_then(Layers::hello);
            let hello = hello.map_or_else(String::new, |hello| format!(" ({hello})"));
            tracing::warn!(event = "connection.refused", peer = %greeting.peer, "{fault}{hello}");
        }
        self.blame(key, None, Offence::Malformed);
        self.linger(io, key);
    }
}

impl<S> Greeting<S> {
    /// Whether its certificate says which user it is.
    pub(super) fn certified_user(&self, state: Option<&ListenerState>) -> CertifiedUser {
        let layers = self.layers.as_deref();
        let (Some(identity), Some(certificate)) = (
            state.and_then(|state| state.tls()?.identity),
            layers.and_then(Layers::certificate),
        ) else {
            return CertifiedUser::None;
        };
        let user = identity.of(certificate);
        user.map_or(CertifiedUser::Illegible, CertifiedUser::Named)
    }

    /// Sends a small packet to a client that has had nothing before. Its socket buffer has room;
    /// `false` where it has not.
    pub(super) fn send<B: Backend<Stream = S>>(
        &mut self,
        io: &mut Io<'_, B>,
        packet: &[u8],
    ) -> bool {
        match &mut self.layers {
            None => write_all(io, &self.stream, packet).is_ok(),
            Some(layers) => layers.wrap(packet).is_ok() && flush(io, &self.stream, layers),
        }
    }

    /// Ends the layers in good order.
    pub(super) fn say_goodbye<B: Backend<Stream = S>>(&mut self, io: &mut Io<'_, B>) {
        if let Some(layers) = &mut self.layers {
            layers.say_goodbye(false);
            // Nobody is left to hear that it failed.
            let _ = flush(io, &self.stream, layers);
        }
    }
}

/// Writes what is pending; `false` where the socket does not take it all.
fn flush<B: Backend>(io: &mut Io<'_, B>, stream: &B::Stream, layers: &mut Layers) -> bool {
    let pending = layers.pending();
    let len = pending.len();
    let is_written = write_all(io, stream, pending).is_ok();
    if is_written {
        layers.sent(len);
    }
    is_written
}

fn write_all<B: Backend>(
    io: &mut Io<'_, B>,
    stream: &B::Stream,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match io.write_vectored(stream, &[IoSlice::new(bytes)]) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
