//! What a front tells the defence, and how long it listens to silence.

use mqtt_codec::ReasonCode;
use pollio::{Backend, Io, PeerAddr, Readiness};
use slabmem::Key;

use super::FrontServer;
use super::admit::Refusal;
use crate::defence::Offence;
use crate::message::ConnectInfo;

impl<B: Backend> FrontServer<B> {
    /// Whether a connection from there is closed at once: it is banned, or one of too many.
    /// Counted, and a ban was logged: a line for each try is what it would like.
    pub(super) fn is_unwanted(&self, peer: &PeerAddr) -> bool {
        let defence = &self.parts.shared.defence;
        defence.turns_away(peer, self.now_ms) || defence.comes_too_fast(peer, self.now_ms)
    }

    /// How long a new connection may take until it is looked at: for its first byte where somebody
    /// who is watched comes himself, else for all of its CONNECT.
    pub(super) fn first_look_ms(&self, peer: &PeerAddr, awaits_proxy_header: bool) -> u64 {
        let shared = &self.parts.shared;
        let whole_ms = shared.limits.connect_timeout_ms;
        let silence_ms = match shared.defence.settings().silence_ms {
            0 => whole_ms,
            silence_ms => silence_ms.min(whole_ms),
        };
        // A proxy is as quick as its client, and not to be blamed for it.
        let is_watched = !awaits_proxy_header && shared.defence.watches(peer);
        u64::from(if is_watched { silence_ms } else { whole_ms })
    }

    /// Time is up, but only for the first byte, which has come: the rest may take until the end of
    /// `limits.connect_timeout_ms`.
    pub(super) fn has_more_time(&mut self, key: Key) -> bool {
        let whole_ms = u64::from(self.parts.shared.limits.connect_timeout_ms);
        let Some(greeting) = self.greetings.get_mut(key) else {
            return false;
        };
        if greeting.held.is_some() {
            return false;
        }
        let until_ms = greeting.opened_ms + whole_ms;
        let has_more =
            greeting.has_spoken && greeting.discard_left.is_none() && self.now_ms < until_ms;
        if has_more {
            greeting.timer = self.timers.insert(until_ms, key);
        }
        has_more
    }

    /// Holds something against a connection's peer, and against its client where one is named.
    pub(super) fn blame(&self, key: Key, client: Option<&str>, offence: Offence) {
        if let Some(greeting) = self.greetings.get(key) {
            let defence = &self.parts.shared.defence;
            defence.offend(&greeting.peer, client, offence, self.now_ms);
        }
    }

    /// Lets a client wait whose id is fought for; gives back the CONNECT of any other.
    pub(super) fn hold_back(&mut self, key: Key, connect: ConnectInfo) -> Option<ConnectInfo> {
        let defence = &self.parts.shared.defence;
        let delay_ms = defence.connack_delay_ms(&connect.client_id, self.now_ms);
        let (Some(delay_ms), Some(greeting)) = (delay_ms, self.greetings.get_mut(key)) else {
            return Some(connect);
        };
        greeting.held = Some(Box::new(connect));
        self.timers.cancel(greeting.timer);
        greeting.timer = self.timers.insert(self.now_ms + delay_ms, key);
        None
    }

    /// Hands over a client that has waited; whether it was one.
    pub(super) fn has_waited(&mut self, io: &mut Io<'_, B>, key: Key) -> bool {
        let greeting = self.greetings.get_mut(key);
        let Some(connect) = greeting.and_then(|greeting| greeting.held.take()) else {
            return false;
        };
        self.hand_over(io, key, *connect);
        true
    }

    /// Whether a client that has to wait has gone in the meantime: then nothing is taken over.
    pub(super) fn gave_up(&mut self, key: Key, readiness: Readiness) -> bool {
        let has_ended = readiness.is_read_closed() || readiness.is_error();
        let greeting = self.greetings.get(key);
        let gave_up = has_ended && greeting.is_some_and(|greeting| greeting.held.is_some());
        if gave_up {
            self.left(key, "the client gave up");
        }
        gave_up
    }

    /// Refuses a client that is banned, or whose address was in the meantime; whether it was.
    pub(super) fn refuses_banned(
        &mut self,
        io: &mut Io<'_, B>,
        key: Key,
        connect: &ConnectInfo,
    ) -> bool {
        let Some(greeting) = self.greetings.get(key) else {
            return false;
        };
        let defence = &self.parts.shared.defence;
        let (peer, id, now_ms) = (&greeting.peer, &connect.client_id, self.now_ms);
        if !defence.turns_away(peer, now_ms) && !defence.turns_away_client(peer, id, now_ms) {
            return false;
        }
        let refusal = Refusal::banned(connect);
        self.refuse(io, key, &refusal);
        true
    }
}

/// What a refusal with this reason is held for, where authentication came to it.
pub(super) fn offence_of_denial(reason: ReasonCode) -> Option<Offence> {
    match reason {
        ReasonCode::NotAuthorized
        | ReasonCode::BadUserNameOrPassword
        | ReasonCode::BadAuthenticationMethod => Some(Offence::Login),
        _ => None,
    }
}
