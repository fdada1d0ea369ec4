//! Plain counters of a shard; one owner, so no atomics.

/// What happened, in packets and messages. Every drop has a reason of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) packets_received: u64,
    pub(crate) packets_sent: u64,
    pub(crate) publishes_received: u64,
    pub(crate) publishes_sent: u64,
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
    /// The retained store was at its limit; the message itself was delivered.
    pub(crate) retained_not_kept: u64,
    /// A hook said that the subscriber may not get it.
    pub(crate) dropped_not_authorized: u64,
    /// Publishes that a hook refused or discarded. Not among the drops: nobody was to get them.
    pub(crate) publishes_refused: u64,
    /// A table was at its limit.
    pub(crate) dropped_no_memory: u64,
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
            + self.dropped_not_authorized
            + self.dropped_no_memory
    }
}
