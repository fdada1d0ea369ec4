//! What operators ask a shard; it comes and goes by the mailbox.

use std::hash::BuildHasher;

use slabmem::Key;

use super::Core;
use super::connection::flag;
use crate::auth::Policy;
use crate::control::{
    ClientDetail, ClientLine, ClientsPage, Cursor, DisconnectLine, SubscriptionLine,
};
use crate::counters::Gauges;
use crate::disconnects::Disconnect;
use crate::events::{Cause, ProtocolName};
use crate::message::{Answer, Query, Shown};
use crate::session::Session;

/// Slots that one page looks at, however few of them hold a session.
const SLOTS_A_PAGE: u32 = 16 * 1_024;
/// Slots that a page of a revocation looks at: each may end a connection.
const REVOKED_A_PAGE: u32 = 1_024;
/// Clients on one page whose certificates are copied, at most; each has a few KiB.
const CERTIFICATES_A_PAGE: usize = 64;
/// Clients on one page, at most.
pub(crate) const CLIENTS_A_PAGE: u32 = 1_000;
/// Records of last disconnects in one answer, at most.
pub(crate) const RECORDS_AN_ANSWER: u32 = 100_000;
/// Subscriptions of one client that are shown.
const FILTERS_SHOWN: usize = 1_000;
/// Slots of a chunk of the slab.
pub(super) const CHUNK_SLOTS: u32 = 64;

impl<S> Core<S> {
    /// Answers a question. Bounded work: a page, or one client.
    pub(crate) fn answer(&mut self, query: Query) -> Answer {
        match query {
            Query::Ping => Answer::Done(true),
            Query::Clients { from, most } => Answer::Clients(self.clients_page(from, most)),
            Query::Client { id } => {
                Answer::Client(self.find(&id).map(|key| Box::new(self.client_detail(key))))
            }
            Query::Kick { id } => Answer::Done(self.kick(&id)),
            Query::Disconnects { client, most } => {
                Answer::Disconnects(self.last_disconnects(client.as_deref(), most))
            }
            Query::Memory { from } => {
                let (held, next) = self.holdings(from);
                Answer::Memory(held, next)
            }
            Query::Revoke { policy, from } => Answer::Revoked(self.revoke(&policy, from)),
            Query::Certificates { from } => {
                let (shown, next) = self.certificates(from);
                Answer::Certificates(shown, next)
            }
            Query::End { connections } => {
                for key in connections {
                    self.close(key, Cause::Kicked);
                }
                Answer::Done(true)
            }
        }
    }

    fn clients_page(&self, from: u32, most: u32) -> ClientsPage {
        let end = self.sessions.stats().chunks.saturating_mul(CHUNK_SLOTS);
        let stop = end.min(from.saturating_add(SLOTS_A_PAGE));
        let most = most.clamp(1, CLIENTS_A_PAGE) as usize;
        let mut clients = Vec::new();
        let mut at = from;
        while at < stop && clients.len() < most {
            if let Some(session) = self.sessions.get_at(at)
                && !self
                    .sessions
                    .key_at(at)
                    .is_some_and(|key| self.is_local(key))
            {
                clients.push(self.client_line(session));
            }
            at += 1;
        }
        let next = (at < end).then_some(Cursor {
            shard: self.me,
            slot: at,
        });
        ClientsPage { clients, next }
    }

    fn client_line(&self, session: &Session) -> ClientLine {
        let connection = session.connection.and_then(|key| self.connections.get(key));
        ClientLine {
            id: session.client_id.to_string(),
            peer: connection.map(|connection| connection.peer.to_string()),
            protocol: connection.map(|connection| ProtocolName(connection.version).to_string()),
            user: connection
                .and_then(|connection| connection.grant()?.identity())
                .map(str::to_owned),
            login: connection
                .and_then(|connection| connection.grant()?.login())
                .map(|login| login.by.name().to_owned()),
            subscriptions: session.filters.len() as u64,
            queued: session
                .flow
                .as_ref()
                .map_or(0, |flow| flow.outgoing.unsettled() as u64),
        }
    }

    fn client_detail(&self, key: Key) -> ClientDetail {
        let Some(session) = self.sessions.get(key) else {
            // The caller has just found it.
            return ClientDetail::default();
        };
        let connection = session.connection.and_then(|key| self.connections.get(key));
        let filters = session.filters.iter().take(FILTERS_SHOWN).filter_map(|id| {
            Some(SubscriptionLine {
                filter: self.topics.filter_text(id)?.to_owned(),
                qos: self.topics.get(id, key.index())?.qos as u8,
            })
        });
        let hash = self.shared.hasher.hash_one(&*session.client_id);
        ClientDetail {
            line: self.client_line(session),
            shard: self.me,
            keep_alive_s: connection.map(|connection| connection.keep_alive_s),
            out_queue_bytes: connection.map_or(0, |connection| connection.out.bytes() as u64),
            is_paused: connection.is_some_and(|connection| connection.has(flag::PAUSED)),
            is_stalled: connection.is_some_and(|connection| connection.has(flag::STALLED)),
            session_expiry_s: session.expiry_s,
            session_ends_in_ms: (connection.is_none() && session.ends_at_ms != u64::MAX)
                .then(|| session.ends_at_ms.saturating_sub(self.now_ms)),
            has_will: session.will.is_some(),
            filters: filters.collect(),
            last_disconnect: self
                .disconnects
                .of(hash, &session.client_id)
                .map(|record| self.disconnect_line(record)),
        }
    }

    fn kick(&mut self, id: &str) -> bool {
        let connection = self
            .find(id)
            .and_then(|key| self.sessions.get(key)?.connection);
        if let Some(key) = connection {
            self.close(key, Cause::Kicked);
        }
        connection.is_some()
    }

    /// Ends the connections of a page of sessions whose credentials do not hold any more; the slot
    /// of the next page.
    fn revoke(&mut self, policy: &Policy, from: u32) -> Option<u32> {
        let end = self.sessions.stats().chunks.saturating_mul(CHUNK_SLOTS);
        let stop = end.min(from.saturating_add(REVOKED_A_PAGE));
        for at in from..stop {
            let session = self.sessions.get_at(at);
            let Some(key) = session.and_then(|session| session.connection) else {
                continue;
            };
            let connection = self.connections.get(key);
            if connection.is_some_and(|connection| !policy.holds(connection.grant())) {
                self.close(key, Cause::Kicked);
            }
        }
        (stop < end).then_some(stop)
    }

    /// The certificates that the clients of a page of sessions have shown, and the slot of the next
    /// page. They are copied, and checked by whoever asks: that takes too long for a shard.
    fn certificates(&self, from: u32) -> (Vec<Shown>, Option<u32>) {
        let end = self.sessions.stats().chunks.saturating_mul(CHUNK_SLOTS);
        let stop = end.min(from.saturating_add(REVOKED_A_PAGE));
        let mut found = Vec::new();
        let mut at = from;
        while at < stop && found.len() < CERTIFICATES_A_PAGE {
            let session = self.sessions.get_at(at);
            let key = session.and_then(|session| session.connection);
            found.extend(key.and_then(|key| self.connections.get(key)?.shown(key)));
            at += 1;
        }
        (found, (at < end).then_some(at))
    }

    fn last_disconnects(&self, client: Option<&str>, most: u32) -> Vec<DisconnectLine> {
        let line = |record| self.disconnect_line(record);
        match client {
            Some(client) => {
                let hash = self.shared.hasher.hash_one(client);
                self.disconnects
                    .of(hash, client)
                    .map(line)
                    .into_iter()
                    .collect()
            }
            None => {
                let most = most.min(RECORDS_AN_ANSWER) as usize;
                self.disconnects
                    .latest(most)
                    .into_iter()
                    .map(line)
                    .collect()
            }
        }
    }

    fn disconnect_line(&self, record: Disconnect<'_>) -> DisconnectLine {
        let cause = &record.cause;
        DisconnectLine {
            client: record.client_id.into_owned(),
            peer: record.peer.to_string(),
            ago_ms: self.now_ms.saturating_sub(record.at_ms),
            by: cause.ended_by().name().to_owned(),
            reason: cause.reason() as u8,
            clause: cause.clause().map(str::to_owned),
            why: cause.to_string(),
            times: record.times,
        }
    }

    /// Stores this shard's numbers where other threads read them.
    pub(crate) fn store_figures(&mut self) {
        self.counters.disconnect_records_replaced = self.disconnects.replaced();
        let gauges = Gauges {
            clients_connected: self.clients_connected,
            sessions: self.client_count() as u64,
            subscriptions: self.topics.subscription_count() as u64,
            shared_subscriptions: self.memberships.len() as u64,
            messages: self.messages.len() as u64,
            message_bytes: self.message_bytes,
            disconnect_records: self.disconnects.len() as u64,
        };
        if let Some(figures) = self.shared.figures.get(usize::from(self.me)) {
            figures.store(&self.counters, &gauges);
        }
    }
}
