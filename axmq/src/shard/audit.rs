//! What the simulator looks at from inside: limits, lateness, and loops that sleep on work.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pollio::Backend;
use slabmem::{Key, Slab};

use super::Core;
use super::connection::flag;
use super::server::{Alarm, ShardServer};

/// What one shard's earlier turns have shown.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// When the cleanup of a session with a will was seen to be over, by session.
    wills_since_ms: BTreeMap<u64, u64>,
    pub(crate) paused_seen: u64,
    pub(crate) congested_seen: u64,
    pub(crate) replays_seen: u64,
    pub(crate) funnel_seen: u64,
}

fn check(is_right: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(text()) }
}

impl<S> Core<S> {
    /// Refuses memory: the tables take no more than this from now on.
    pub(crate) fn limit_tables(&mut self, sessions: u32, connections: u32, messages: u32) {
        debug_assert!(self.sessions.is_empty(), "before the first client");
        self.sessions = Slab::with_limit(sessions);
        self.connections = Slab::with_limit(connections);
        self.messages = Slab::with_limit(messages);
    }

    /// The number under which the store keeps a client's session; 0 where it does not.
    pub(crate) fn holder_of(&self, client_id: &str) -> u64 {
        self.find(client_id).map_or(0, |key| self.holder(key))
    }

    /// Refuses no more.
    pub(crate) fn unlimit_tables(&mut self) {
        self.sessions.raise_limit(u32::MAX);
        self.connections.raise_limit(u32::MAX);
        self.messages.raise_limit(u32::MAX);
    }

    /// Looks at a shard after a turn. `slack_bytes` is what one turn may put into a queue.
    pub(crate) fn audit(&self, audit: &mut Audit, slack_bytes: u64) -> Result<(), String> {
        let limits = &self.shared.limits;
        for (key, connection) in self.connections.iter() {
            let bytes = connection.out.bytes() as u64;
            let bytes_max = limits.out_queue_bytes + slack_bytes;
            check(bytes <= bytes_max, || {
                format!("an out-queue holds {bytes} bytes, the limit is {bytes_max}")
            })?;
            audit.paused_seen += u64::from(connection.has(flag::PAUSED));
            check(connection.receive_maximum <= self.shared.inflight(), || {
                format!("the receive maximum of {key:?} is above the limit")
            })?;
        }
        audit.congested_seen += u64::from(self.is_congested());
        audit.replays_seen += self.replays.len() as u64;
        audit.funnel_seen += self.funnel.len() as u64;
        let funnel_max = limits.cleanup_funnel as usize;
        check(self.funnel.len() <= funnel_max, || {
            format!(
                "the funnel holds {}, the limit is {funnel_max}",
                self.funnel.len()
            )
        })?;
        self.audit_sessions(audit)?;
        for outbox in &self.outboxes {
            let under_way = outbox.unanswered + outbox.cost;
            let most = self.credit + 64 * slack_bytes;
            check(under_way <= most, || {
                format!("{under_way} bytes are under way to another shard, the credit is {most}")
            })?;
            let dealt = outbox.dealt_unanswered + outbox.dealt_cost;
            check(dealt <= most, || {
                format!("{dealt} bytes are dealt to another shard, the credit is {most}")
            })?;
        }
        let (messages, bytes) = self.groups.longest_queue();
        let messages_max = limits.shared_queue_messages as usize;
        let bytes_max = limits.shared_queue_bytes;
        check(messages <= messages_max && bytes <= bytes_max, || {
            format!("{messages} messages, or {bytes} bytes, wait in a group, above the limit")
        })
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// What a shard that does not come to rest is waiting for.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!(
            "shard {}: pressing {}, paused {}, credit {}, work {}\n",
            self.me,
            self.pressing,
            self.paused.len(),
            self.credit,
            self.has_work()
        );
        for outbox in &self.outboxes {
            let _ = writeln!(
                text,
                "  unanswered {}, cost {}, held {}, has answer {}",
                outbox.unanswered, outbox.cost, outbox.held_cost, outbox.has_answer
            );
        }
        for (_, session) in self.sessions.iter() {
            if session.connection.is_none() {
                let (ends_at_ms, timer) = (session.ends_at_ms, session.timer);
                let (id, ticket) = (&session.client_id, session.funnel_ticket);
                let _ = writeln!(
                    text,
                    "  {id:?} is away, ends at {ends_at_ms} ms, timer {timer:?}, ticket {ticket}"
                );
            }
        }
        for (key, connection) in self.connections.iter() {
            let session = self.sessions.get(connection.session);
            let pending = self.pending(connection.session);
            let _ = writeln!(
                text,
                "  {key:?} of {:?}: {:?}, flags {:#b}, out {}, pending {pending}, partial {}",
                session.map(|session| &session.client_id),
                connection.state(),
                connection.flags,
                connection.out.bytes(),
                connection.partial.is_some()
            );
        }
        text
    }

    fn audit_sessions(&self, audit: &mut Audit) -> Result<(), String> {
        let limits = &self.shared.limits;
        audit
            .wills_since_ms
            .retain(|bits, _| Key::from_bits(*bits).is_some_and(|key| self.sessions.contains(key)));
        for (key, session) in self.sessions.iter() {
            let who = &session.client_id;
            if let Some(flow) = &session.flow {
                let (count, bytes) = (flow.outgoing.waiting_count(), flow.outgoing.waiting_bytes());
                check(count <= limits.session_queue_messages as usize, || {
                    format!("{count} messages wait for {who}, above the limit")
                })?;
                let bytes_max = limits.session_queue_bytes + u64::from(limits.packet_bytes);
                check(bytes <= bytes_max, || {
                    format!("{bytes} bytes wait for {who}, above the limit")
                })?;
            }
            let filters = session.filters.len();
            check(filters <= limits.subscriptions_per_client as usize, || {
                format!("{who} has {filters} subscriptions, above the limit")
            })?;
            if session.connection.is_some() || session.funnel_ticket != 0 {
                audit.wills_since_ms.remove(&key.to_bits());
                continue;
            }
            // A turn has just ended: what was due when it began has been done in it.
            check(session.ends_at_ms > self.now_ms, || {
                let late_ms = self.now_ms - session.ends_at_ms;
                format!("the session of {who} is {late_ms} ms over its end")
            })?;
            if let Some(will) = &session.will {
                let since_ms = audit
                    .wills_since_ms
                    .entry(key.to_bits())
                    .or_insert(self.now_ms);
                let due_ms = *since_ms + u64::from(will.delay_s) * 1_000;
                check(due_ms > self.now_ms, || {
                    format!("the will of {who} is {} ms late", self.now_ms - due_ms)
                })?;
            }
        }
        Ok(())
    }
}

impl<B: Backend, A: Alarm> ShardServer<B, A> {
    pub(crate) fn core(&self) -> &Core<B::Stream> {
        &self.core
    }

    pub(crate) fn core_mut(&mut self) -> &mut Core<B::Stream> {
        &mut self.core
    }
}
