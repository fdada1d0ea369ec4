//! Plain counters and gauges of a shard, and the place where other threads read them.
//!
//! A shard counts in plain integers. At the end of a turn it stores them in its [`Figures`], so
//! that whoever wants to know asks no shard and wakes none.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares a struct of numbers with their names, so that none is forgotten where they are shown.
macro_rules! numbers {
    (
        $(#[$meta:meta])*
        pub(crate) struct $name:ident {
            $($(#[$doc:meta])* pub(crate) $field:ident: u64,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, Eq, PartialEq)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: u64,)*
        }

        impl $name {
            /// The names in the order of [`values`](Self::values).
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($field)),*];

            pub(crate) fn values(&self) -> [u64; Self::NAMES.len()] {
                [$(self.$field),*]
            }

            fn add(&mut self, mut values: impl Iterator<Item = u64>) {
                $(self.$field += values.next().unwrap_or(0);)*
            }
        }
    };
}

numbers! {
    /// What happened, in packets and messages. Every drop has a reason of its own.
    pub(crate) struct Counters {
        pub(crate) packets_received: u64,
        pub(crate) packets_sent: u64,
        /// Bytes of the packets received, but for CONNECT.
        pub(crate) bytes_received: u64,
        pub(crate) bytes_sent: u64,
        pub(crate) publishes_received: u64,
        pub(crate) publishes_sent: u64,
        /// Among those sent, the ones with a topic alias in place of their topic.
        pub(crate) publishes_aliased: u64,
        /// Payload bytes of the publishes.
        pub(crate) publish_bytes_received: u64,
        pub(crate) publish_bytes_sent: u64,
        /// Clients that were let in.
        pub(crate) connects: u64,
        /// Sessions that ended because their client stayed away too long.
        pub(crate) sessions_expired: u64,
        /// QoS 0, and the subscriber's out-queue was at its limit.
        pub(crate) dropped_out_queue_full: u64,
        /// QoS 0, and the subscriber makes no progress.
        pub(crate) dropped_stalled: u64,
        /// QoS 0, and the subscriber is not connected.
        pub(crate) dropped_offline: u64,
        /// QoS 1 or 2, and the session's queue was at its limit.
        pub(crate) dropped_session_queue_full: u64,
        /// Larger than the subscriber takes.
        pub(crate) dropped_too_large: u64,
        /// Its message expiry interval was over.
        pub(crate) dropped_expired: u64,
        /// QoS 1 or 2 on a shared subscription, no member was ready, and the group's queue was
        /// full.
        pub(crate) dropped_group_queue_full: u64,
        /// It waited on a shared subscription whose last member left.
        pub(crate) dropped_group_ended: u64,
        /// PUBLISHes whose payload was not what it said.
        pub(crate) refused_payload_format: u64,
        /// PUBLISHes with more user properties than allowed.
        pub(crate) refused_user_properties: u64,
        /// Topic aliases for longer topics than allowed.
        pub(crate) refused_topic_alias_bytes: u64,
        /// PUBLISHes above the server's receive maximum.
        pub(crate) refused_receive_maximum: u64,
        /// Topic names that are illegal or beyond `topic_bytes` or `topic_levels`.
        pub(crate) refused_topics: u64,
        /// Sessions that ended early: too many are kept already.
        pub(crate) sessions_not_kept: u64,
        /// Wills that were published before their delay was over: too many wait already.
        pub(crate) wills_not_delayed: u64,
        /// A subscription was refused: there were as many shared ones as there may be.
        pub(crate) refused_groups: u64,
        /// The retained store was at its limit; the message itself was delivered.
        pub(crate) retained_not_kept: u64,
        /// A subscription of the embedding program had no room for it.
        pub(crate) dropped_local_full: u64,
        /// A hook said that the subscriber may not get it.
        pub(crate) dropped_not_authorized: u64,
        /// QoS 0, in one of the longest out-queues, and memory is short.
        pub(crate) dropped_memory_short: u64,
        /// How often a publisher was not read any more because memory is short.
        pub(crate) publishers_held: u64,
        /// How often a publisher was not read any more because it, or its user, was too fast.
        pub(crate) publishers_slowed: u64,
        /// Clients that were disconnected for that.
        pub(crate) clients_too_fast: u64,
        /// Clients that were disconnected because memory is short.
        pub(crate) clients_shed: u64,
        /// Publishes that a hook refused or discarded, and those under `$SYS/`. Not among the
        /// drops: nobody was to get them.
        pub(crate) publishes_refused: u64,
        /// A table was at its limit.
        pub(crate) dropped_no_memory: u64,
        /// A publisher was made to wait: the store had not caught up.
        pub(crate) store_held: u64,
        /// Publishes that were refused because the store has failed. Not among the drops: their
        /// publishers know.
        pub(crate) refused_store_failed: u64,
        /// Sessions and messages of an earlier run that found no room.
        pub(crate) not_restored: u64,
        /// Records of last disconnects that made room for others.
        pub(crate) disconnect_records_replaced: u64,
    }
}

numbers! {
    /// What there is.
    pub(crate) struct Gauges {
        pub(crate) clients_connected: u64,
        pub(crate) sessions: u64,
        pub(crate) subscriptions: u64,
        /// Memberships of shared subscriptions.
        pub(crate) shared_subscriptions: u64,
        /// Messages kept for sessions.
        pub(crate) messages: u64,
        /// Bytes of the buffers they lie in.
        pub(crate) message_bytes: u64,
        pub(crate) disconnect_records: u64,
    }
}

impl Counters {
    /// Adds up those that stand for a message that somebody did not get.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped_out_queue_full
            + self.dropped_stalled
            + self.dropped_offline
            + self.dropped_session_queue_full
            + self.dropped_too_large
            + self.dropped_expired
            + self.dropped_local_full
            + self.dropped_not_authorized
            + self.dropped_group_queue_full
            + self.dropped_group_ended
            + self.dropped_no_memory
            + self.dropped_memory_short
    }
}

const COUNTERS: usize = Counters::NAMES.len();

/// The numbers of one shard as of its last turn, for every thread to read.
#[derive(Debug)]
pub(crate) struct Figures {
    cells: [AtomicU64; COUNTERS + Gauges::NAMES.len()],
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            cells: [const { AtomicU64::new(0) }; COUNTERS + Gauges::NAMES.len()],
        }
    }
}

impl Figures {
    /// Stores them. Only the shard itself does. Each number is exact; two of them may be of
    /// different turns to one who reads meanwhile.
    pub(crate) fn store(&self, counters: &Counters, gauges: &Gauges) {
        let values = counters.values().into_iter().chain(gauges.values());
        for (cell, value) in self.cells.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Adds them to what is there.
    pub(crate) fn add_to(&self, counters: &mut Counters, gauges: &mut Gauges) {
        let mut values = self.cells.iter().map(|cell| cell.load(Ordering::Relaxed));
        counters.add(values.by_ref().take(COUNTERS));
        gauges.add(values);
    }
}

/// The numbers of all shards.
pub(crate) fn sum(figures: &[Figures]) -> (Counters, Gauges) {
    let (mut counters, mut gauges) = <(Counters, Gauges)>::default();
    for shard in figures {
        shard.add_to(&mut counters, &mut gauges);
    }
    (counters, gauges)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_summed() {
        let figures = [Figures::default(), Figures::default()];
        let counters = Counters {
            packets_received: 3,
            disconnect_records_replaced: 5,
            ..Counters::default()
        };
        let gauges = Gauges {
            clients_connected: 7,
            disconnect_records: 11,
            ..Gauges::default()
        };
        for shard in &figures {
            shard.store(&counters, &gauges);
        }
        let (counters, gauges) = sum(&figures);
        assert_eq!(
            (
                counters.packets_received,
                counters.disconnect_records_replaced
            ),
            (6, 10)
        );
        assert_eq!(
            (gauges.clients_connected, gauges.disconnect_records),
            (14, 22)
        );
        assert_eq!(
            counters.values().iter().sum::<u64>(),
            16,
            "and nothing else"
        );
    }
}
