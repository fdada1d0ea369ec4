//! Authentication anew on a live connection (MQTT 5.0 section 4.12.1). The work is done by the auth
//! pool; meanwhile the client's other packets go on.

use std::fmt;
use std::sync::Arc;

use mqtt_codec::encode;
use mqtt_codec::{Auth, PacketType, ReasonCode, Role, Version};
use slabmem::Key;

use super::Core;
use super::Timer;
use crate::auth::{Answer, Mechanism, Turn, Work};
use crate::events::Cause;
use crate::hooks::{ConnectRequest, Grant};

/// What a connection that came in by an enhanced authentication keeps of it.
pub(crate) struct Authentication {
    pub(crate) mechanism: Arc<dyn Mechanism>,
    pub(crate) turn: Turn,
}

/// Work for the auth pool, about one connection.
#[derive(Debug)]
pub(crate) struct AuthJob {
    pub(crate) key: Key,
    pub(crate) request: Arc<ConnectRequest>,
    pub(crate) work: Work,
}

const OTHER_METHOD: (ReasonCode, &str, &str) = (
    ReasonCode::BadAuthenticationMethod,
    "MQTT-4.12.1-1",
    "AUTH names another method than CONNECT",
);
const NO_METHOD: (ReasonCode, &str, &str) = (
    ReasonCode::ProtocolError,
    "MQTT-4.12.0-7",
    "AUTH without an authentication method in CONNECT",
);
const OUT_OF_TURN: (ReasonCode, &str, &str) = (
    ReasonCode::ProtocolError,
    "MQTT-4.12.0-3",
    "AUTH that nothing waits for",
);

impl<S> Core<S> {
    pub(super) fn on_auth(&mut self, key: Key, packet: &Auth<'_>) {
        match self.next_work(key, packet) {
            Ok(work) => {
                let Some(client) = self.client(key) else {
                    return;
                };
                let request = Arc::new(ConnectRequest {
                    client_id: client.id.into(),
                    certified_user: None,
                    username: None,
                    password: None,
                    peer: client.peer,
                    version: client.version,
                });
                self.auth_jobs.push(AuthJob { key, request, work });
            }
            Err((reason, clause, what)) => self.violation(key, reason, clause, what),
        }
    }

    /// What an AUTH asks for, with the turn passed on to the pool.
    fn next_work(
        &mut self,
        key: Key,
        packet: &Auth<'_>,
    ) -> Result<Work, (ReasonCode, &'static str, &'static str)> {
        let authentication = self.authentication(key).ok_or(NO_METHOD)?;
        if packet.authentication_method() != Some(authentication.mechanism.name()) {
            return Err(OTHER_METHOD);
        }
        let data = packet.authentication_data().unwrap_or_default().to_vec();
        match (
            packet.reason(),
            std::mem::replace(&mut authentication.turn, Turn::Pool),
        ) {
            (ReasonCode::ReAuthenticate, Turn::Nobody) => {
                Ok(Work::Begin(Arc::clone(&authentication.mechanism), data))
            }
            (ReasonCode::ContinueAuthentication, Turn::Client(exchange)) => {
                Ok(Work::Step(exchange, data))
            }
            _ => Err(OUT_OF_TURN),
        }
    }

    fn authentication(&mut self, key: Key) -> Option<&mut Authentication> {
        let extras = self.connections.get_mut(key)?.extras.as_deref_mut()?;
        extras.authentication.as_deref_mut()
    }

    /// What the auth pool has to do.
    pub(crate) fn take_auth_jobs(&mut self) -> Vec<AuthJob> {
        std::mem::take(&mut self.auth_jobs)
    }

    /// The pool has an answer. The connection may be gone, or be closing.
    pub(crate) fn on_authenticated(&mut self, key: Key, answer: Answer) {
        let is_connected = self
            .connections
            .get(key)
            .is_some_and(|connection| connection.is_connected());
        if !is_connected {
            return;
        }
        match answer {
            Answer::Granted(grant, data) => self.renew(key, grant, data),
            Answer::Continue(data, exchange) => {
                if let Some(authentication) = self.authentication(key) {
                    authentication.turn = Turn::Client(exchange);
                }
                self.send_auth(key, ReasonCode::ContinueAuthentication, Some(&data));
            }
            Answer::Denied(denied) => {
                let reason = denied.reason();
                let fits =
                    reason.is_error() && reason.is_allowed_in(PacketType::Disconnect, Role::Client);
                let reason = if fits {
                    reason
                } else {
                    ReasonCode::NotAuthorized
                };
                // [MQTT-4.12.1-2]
                self.end_by_policy(key, reason, "the client could not authenticate anew");
            }
        }
    }

    fn renew(&mut self, key: Key, grant: Grant, data: Option<Vec<u8>>) {
        let Some(extras) = self
            .connections
            .get_mut(key)
            .and_then(|connection| connection.extras.as_deref_mut())
        else {
            return;
        };
        let was = extras.grant.as_deref().and_then(Grant::identity);
        if was != grant.identity() {
            // Its session, its will and its subscriptions are those of the one that it was.
            let what = "the client authenticated anew as somebody else";
            self.end_by_policy(key, ReasonCode::NotAuthorized, what);
            return;
        }
        extras.grant = Some(Arc::new(grant));
        if let Some(authentication) = extras.authentication.as_deref_mut() {
            authentication.turn = Turn::Nobody;
        }
        self.time_grant(key);
        self.send_auth(key, ReasonCode::Success, data.as_deref());
    }

    /// Sets the timer for the end of a connection's grant, and takes back that of the one before.
    pub(super) fn time_grant(&mut self, key: Key) {
        let connection = self.connections.get_mut(key);
        let Some(extras) = connection.and_then(|connection| connection.extras.as_deref_mut())
        else {
            return;
        };
        if let Some(timer) = extras.grant_timer.take() {
            self.timers.cancel(timer);
        }
        if let Some(lasts_ms) = extras.grant.as_deref().and_then(Grant::lasts_ms) {
            let due_ms = self.now_ms.saturating_add(lasts_ms);
            extras.grant_timer = Some(self.timers.insert(due_ms, Timer::Grant(key)));
        }
    }

    /// The end of a grant. The connection has not closed before: that takes the timer back.
    pub(super) fn grant_due(&mut self, key: Key) {
        let connection = self.connections.get_mut(key);
        if let Some(extras) = connection.and_then(|connection| connection.extras.as_deref_mut()) {
            extras.grant_timer = None;
        }
        let what = "what the client has logged in by has expired";
        self.end_by_policy(key, ReasonCode::NotAuthorized, what);
    }

    fn end_by_policy(&mut self, key: Key, reason: ReasonCode, what: &'static str) {
        self.close(key, Cause::Policy { reason, what });
    }

    /// Sends AUTH, with the method that CONNECT named [MQTT-4.12.0-5].
    fn send_auth(&mut self, key: Key, reason: ReasonCode, data: Option<&[u8]>) {
        let Some(mechanism) = self
            .authentication(key)
            .map(|authentication| Arc::clone(&authentication.mechanism))
        else {
            return;
        };
        let packet = encode::Auth {
            reason,
            authentication_method: Some(mechanism.name()),
            authentication_data: data.filter(|data| !data.is_empty()),
            ..encode::Auth::default()
        };
        let len = packet.encoded_len(Version::V5);
        let is_too_large = self
            .connections
            .get(key)
            .is_some_and(|connection| len > connection.packet_bytes_max());
        if is_too_large {
            // [MQTT-3.1.2-24]
            let what = "the client does not take the packet that authentication needs";
            self.end_by_policy(key, ReasonCode::PacketTooLarge, what);
            return;
        }
        self.control(key, len, |out| {
            packet.encode(Version::V5, out);
        });
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authentication")
            .field("mechanism", &self.mechanism.name())
            .field("turn", &self.turn)
            .finish()
    }
}
