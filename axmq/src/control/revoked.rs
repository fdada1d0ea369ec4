//! Ending the connections of clients that could not come in any more as they did, where
//! `auth.disconnect_revoked` asks for it.

use std::sync::Arc;

use super::{Control, ControlError, State};
use crate::auth::Policy;
use crate::config::Config;
use crate::message::{Answer, Query, Shown};
use crate::tls::Tls;

/// By what connections are to be ended.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// By what their clients came in by, where this does not let them in any more.
    pub(super) policy: Option<Arc<Policy>>,
    /// By their certificates, where listeners do not take them any more.
    pub(super) by_certificate: bool,
}

impl State {
    /// Whether the certificates of connected clients are to be checked by TLS as it is `next`: it
    /// has changed, or nobody has wanted it before.
    pub(super) fn ends_certificates(&self, config: &Config, next: &[Option<Arc<Tls>>]) -> bool {
        let is_new = !self.running.auth.disconnect_revoked;
        let before = self.shared.listeners.iter().map(|state| state.tls());
        let concerns_clients = |(old, new): (Option<&Arc<Tls>>, &Option<Arc<Tls>>)| {
            let asks = |tls: &Arc<Tls>| tls.asks_clients();
            let is_same = old
                .zip(new.as_ref())
                .is_some_and(|(old, new)| Arc::ptr_eq(old, new));
            (old.is_some_and(asks) || new.as_ref().is_some_and(asks)) && (is_new || !is_same)
        };
        config.auth.disconnect_revoked && before.zip(next).any(concerns_clients)
    }
}

impl Control {
    /// Goes through all connections, a page at a time, so that no shard is held up.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub(super) fn end_revoked(&self, ending: &Ending) -> Result<(), ControlError> {
        if let Some(policy) = &ending.policy {
            self.end_by_policy(policy)?;
        }
        if ending.by_certificate {
            self.end_by_certificate()?;
        }
        Ok(())
    }

    fn end_by_policy(&self, policy: &Arc<Policy>) -> Result<(), ControlError> {
        for shard in 0..self.0.shards.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let policy = Arc::clone(policy);
                let Answer::Revoked(left) = self.ask(shard, Query::Revoke { policy, from })? else {
                    break;
                };
                next = left;
            }
        }
        Ok(())
    }

    /// The certificates are checked on this thread: shards have messages to move meanwhile.
    fn end_by_certificate(&self) -> Result<(), ControlError> {
        let listeners = Arc::clone(&self.state().shared.listeners);
        let is_taken = |shown: &Shown| {
            let listener = listeners.get(shown.listener as usize);
            let tls = listener.and_then(|listener| listener.tls());
            tls.is_some_and(|tls| tls.takes(&shown.certificates))
        };
        for shard in 0..self.0.shards.len() {
            let mut next = Some(0);
            while let Some(from) = next {
                let query = Query::Certificates { from };
                let Answer::Certificates(page, left) = self.ask(shard, query)? else {
                    break;
                };
                let refused = page.iter().filter(|shown| !is_taken(shown));
                let connections: Vec<_> = refused.map(|shown| shown.connection).collect();
                if !connections.is_empty() {
                    self.ask(shard, Query::End { connections })?;
                }
                next = left;
            }
        }
        Ok(())
    }
}
