//! The numeric sections `[limits]` and `[budgets]`: fields, defaults and permitted ranges in one
//! place.

use super::keys::{Key, Kind, Value};

/// Declares a section of numbers: the struct, its defaults, and the keys through which the
/// loader reads and writes it. One line a key, so that none can be forgotten anywhere.
macro_rules! numbers {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $section:ident {
            $(
                $(#[$doc:meta])*
                $field:ident: $ty:ty
                    = $default:literal in $min:literal..=$max:literal, $unit:literal;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name {
            $(
                $(#[$doc])*
                ///
                #[doc = concat!(
                    "Default ", stringify!($default), " ", $unit,
                    ", from ", stringify!($min), " to ", stringify!($max), "."
                )]
                pub $field: $ty,
            )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl $name {
            /// The keys of this section in the order of their declaration.
            pub(super) const KEYS: &'static [Key] = &[$(
                Key {
                    section: stringify!($section),
                    name: stringify!($field),
                    unit: $unit,
                    kind: Kind::Number { min: $min, max: $max },
                    read: |config| Some(Value::Number(u64::from(config.$section.$field))),
                    write: |config, value| {
                        if let Value::Number(number) = value
                            && let Ok(number) = <$ty>::try_from(number)
                        {
                            config.$section.$field = number;
                        }
                    },
                },
            )*];
        }
    };
}

numbers! {
    /// What may grow, and how far: the section `[limits]`.
    ///
    /// Nothing in the broker is unbounded. Reaching a limit is an answer to one client or a
    /// counted loss, as each field says; it is never a panic and never growth.
    pub struct Limits in limits {
        /// Connections at a time.
        ///
        /// The default is no bound of its own: the limit on open files decides. The binary lowers
        /// this to what that limit permits before it starts the broker. Beyond it a new connection
        /// is accepted and closed at once.
        connections: u64 = 4_294_967_295 in 1..=4_294_967_295, "connections";
        /// Connections that are accepted in a second; 0 is no bound.
        ///
        /// As many may come at once after a quiet second. Beyond it a new connection waits in the
        /// kernel's queue, and accepting that stops for it is counted (`accepting_held`). Each
        /// front has an equal share, rounded up.
        connects_per_s: u32 = 0 in 0..=10_000_000, "connections";
        /// How long a connection may take from accept to the end of its authentication.
        ///
        /// One whose CONNECT is not complete by then is closed without an answer, one whose
        /// authentication is not is refused.
        connect_timeout_ms: u32 = 10_000 in 100..=600_000, "milliseconds";
        /// Bytes that a connection may send before its CONNECT is complete, CONNECT included.
        ///
        /// With more, it is closed.
        pre_connect_bytes: u32 = 65_536 in 256..=268_435_460, "bytes";
        /// Bytes held for all connections that have not completed their CONNECT.
        ///
        /// Above it, the fronts stop accepting until handshakes have completed or timed out.
        pre_connect_bytes_total: u64 = 268_435_456 in 65_536..=1_099_511_627_776, "bytes";
        /// Connects that wait for a thread of the auth pool, and clients that authenticate anew.
        ///
        /// A further connect is refused with reason 0x97 (3.x: return code 3), a further
        /// authentication ends the connection with 0x97.
        auth_queue: u32 = 100_000 in 1..=10_000_000, "connects";
        /// The largest MQTT packet that a client may send, fixed header included.
        ///
        /// A larger one closes the connection (5.0: reason 0x95). 268 435 460 is the largest that
        /// the protocol can express.
        packet_bytes: u32 = 1_048_576 in 256..=268_435_460, "bytes";
        /// Levels of a topic name or filter, which is one more than its slashes.
        ///
        /// A longer name closes the connection (5.0: reason 0x90), a longer filter is refused in
        /// the SUBACK.
        topic_levels: u32 = 128 in 1..=65_535, "levels";
        /// Bytes of a topic name or filter.
        ///
        /// A longer name closes the connection (5.0: reason 0x90), a longer filter is refused in
        /// the SUBACK.
        topic_bytes: u32 = 65_535 in 1..=65_535, "bytes";
        /// User properties of one PUBLISH, or of a will.
        ///
        /// More of them close the connection with reason 0x97, or refuse the CONNECT, and are
        /// counted.
        user_properties: u32 = 256 in 0..=1_000_000, "properties";
        /// Subscriptions that one client may hold.
        ///
        /// A further one is refused in the SUBACK (5.0: reason 0x97).
        subscriptions_per_client: u32 = 10_000 in 1..=10_000_000, "subscriptions";
        /// QoS 1 and 2 messages sent to a client and not yet acknowledged by it.
        ///
        /// A 5.0 client may ask for fewer, not for more. Further messages wait in the session's
        /// queue.
        inflight: u32 = 4_096 in 1..=65_535, "messages";
        /// QoS 1 and 2 messages received from a client and not yet acknowledged to it.
        ///
        /// Told to 5.0 clients in the CONNACK; one that sends more is disconnected with reason
        /// 0x93. From a 3.x client reading pauses.
        receive_maximum: u32 = 1_024 in 1..=65_535, "messages";
        /// Messages that wait in one session, for an absent client or for room in flight.
        ///
        /// Beyond it, a message for this session is dropped and counted.
        session_queue_messages: u32 = 10_000 in 1..=100_000_000, "messages";
        /// Bytes of the messages that wait in one session.
        ///
        /// Beyond it, a message for this session is dropped and counted.
        session_queue_bytes: u64 = 16_777_216 in 1_024..=1_099_511_627_776, "bytes";
        /// Bytes that wait to be written to one connection.
        ///
        /// Beyond it, QoS 0 messages for this client are dropped and counted; QoS 1 and 2 wait in
        /// its session.
        out_queue_bytes: u64 = 4_194_304 in 1_024..=1_099_511_627_776, "bytes";
        /// Bytes waiting for one connection from which on its publishers are paused.
        ///
        /// They go on when it has drained, or when the subscriber makes no progress.
        out_queue_soft_bytes: u64 = 262_144 in 1_024..=1_099_511_627_776, "bytes";
        /// Topic aliases that a 5.0 client may set up; 0 turns them off.
        ///
        /// Told to clients in the CONNACK; a higher alias disconnects with reason 0x94.
        topic_aliases: u32 = 32 in 0..=65_535, "aliases";
        /// Topic aliases that the broker sets up for a 5.0 client, and never more than that takes;
        /// 0 turns them off.
        ///
        /// The first topics that a connection gets have them; the others are sent by name.
        topic_aliases_out: u32 = 0 in 0..=65_535, "aliases";
        /// Bytes of the topics that one client's aliases stand for, those of either side by
        /// themselves.
        ///
        /// A client's alias beyond it closes the connection with reason 0x97, and is counted; the
        /// broker sets none beyond it.
        topic_alias_bytes: u32 = 65_536 in 0..=268_435_460, "bytes";
        /// Sessions without a connection that are kept, in all.
        ///
        /// Beyond it, a session ends with its connection as if its expiry interval were 0, and is
        /// counted.
        offline_sessions: u64 = 4_000_000 in 0..=4_294_967_295, "sessions";
        /// Wills that wait for their delay, in all.
        ///
        /// Beyond it, a will is published without its delay, and counted.
        delayed_wills: u64 = 1_000_000 in 0..=4_294_967_295, "wills";
        /// How long the session of an absent 3.1 or 3.1.1 client with clean session 0 is kept.
        ///
        /// The protocol gives these clients no say, hence a default. 4 294 967 295 is for ever.
        session_expiry_v3_s: u32 = 604_800 in 0..=4_294_967_295, "seconds";
        /// The longest session expiry interval that any client gets.
        ///
        /// A 5.0 client that asks for more is told this value in the CONNACK. It also bounds
        /// `session_expiry_v3_s`. 4 294 967 295 is for ever.
        session_expiry_max_s: u32 = 4_294_967_295 in 0..=4_294_967_295, "seconds";
        /// The longest keep-alive interval that a client gets.
        ///
        /// A 5.0 client that asks for more, or for none, is told this value in the CONNACK; for a
        /// 3.x client it is applied silently. With 65 535, the most that the protocol can
        /// express, a client that turns keep-alive off is left alone.
        keep_alive_max_s: u32 = 65_535 in 1..=65_535, "seconds";
        /// Retained messages in all.
        ///
        /// Beyond it, a publish that would retain on a new topic is delivered, but not retained,
        /// and counted.
        retained_messages: u64 = 1_000_000 in 0..=4_294_967_295, "messages";
        /// Bytes of the retained messages in all, topics included.
        ///
        /// Beyond it, as for `retained_messages`.
        retained_bytes: u64 = 1_073_741_824 in 0..=17_592_186_044_416, "bytes";
        /// Shared subscriptions, which are pairs of a group and a filter, in all.
        ///
        /// A subscription that would make another one is refused in the SUBACK (5.0: reason 0x97)
        /// and counted.
        shared_groups: u64 = 100_000 in 0..=4_294_967_295, "groups";
        /// QoS 1 and 2 messages that wait in one shared subscription for a member that is online
        /// and has room in flight.
        ///
        /// Beyond it, a message for this subscription is dropped and counted.
        shared_queue_messages: u32 = 10_000 in 1..=100_000_000, "messages";
        /// Bytes of the messages that wait in one shared subscription.
        ///
        /// Beyond it, a message for this subscription is dropped and counted.
        shared_queue_bytes: u64 = 16_777_216 in 1_024..=1_099_511_627_776, "bytes";
        /// Memory that the process may use; 0 is 70 % of the machine's, or of the control group's
        /// where that is less.
        ///
        /// From here on things give way in steps: connections are accepted one a second and
        /// front; publishers are not read; QoS 0 messages of the longest out-queues are dropped;
        /// clients with the longest queues are disconnected (5.0: reason 0x97). Each is counted.
        memory_bytes: u64 = 0 in 0..=17_592_186_044_416, "bytes";
        /// Closed connections that wait for their cleanup in one shard.
        ///
        /// When it is full, closing slows down; nothing is lost.
        cleanup_funnel: u32 = 1_100_000 in 1_024..=100_000_000, "connections";
        /// Clients whose last disconnect is remembered: when, why, by whom.
        ///
        /// Beyond it, the record of a client that has not disconnected for long makes room. 0 keeps
        /// none.
        disconnect_records: u32 = 10_000 in 0..=100_000_000, "records";
        /// Bytes of messages that an embedding program has published and one shard has not routed.
        ///
        /// At the limit publishing waits, or is refused, as the program chooses.
        local_bytes: u64 = 4_194_304 in 65_536..=1_099_511_627_776, "bytes";
        /// Bytes of forwarded messages under way from one shard to another, for each pair.
        ///
        /// At the limit, the source stops reading from its publishers until the target has caught
        /// up. With many shards less is used, so that all of them together cannot fill an
        /// out-queue from its soft mark to its limit.
        mailbox_bytes: u64 = 262_144 in 65_536..=1_099_511_627_776, "bytes";
        /// Bytes that one shard has handed to the store and that are not on disk.
        ///
        /// At the limit, publishers that make it write wait until the store has caught up, and
        /// are counted (`store_held`).
        store_queue_bytes: u64 = 16_777_216 in 65_536..=1_099_511_627_776, "bytes";
    }
}

numbers! {
    /// How much a thread does before it turns to something else: the section `[budgets]`.
    ///
    /// Budgets trade latency for throughput and lose nothing: what exceeds one is done in the
    /// next turn of the loop.
    pub struct Budgets in budgets {
        /// Events taken from the kernel in one wait.
        events_per_turn: u32 = 256 in 1..=65_536, "events";
        /// Bytes read from one connection before the others have their turn.
        read_bytes: u32 = 65_536 in 512..=16_777_216, "bytes";
        /// Packets handled for one connection before the others have their turn.
        read_packets: u32 = 64 in 1..=65_536, "packets";
        /// Connections accepted from one listener before anything else is done.
        accepts_per_turn: u32 = 64 in 1..=65_536, "connections";
        /// Time for cleanup, replay of retained messages, drains and closes in one turn.
        background_us: u32 = 200 in 10..=1_000_000, "microseconds";
        /// How long a shard without work looks for more before it sleeps, at most; 0 is off.
        ///
        /// Messages that come within this time of the last ones are served sooner, and the
        /// processor does nothing else meanwhile. It adapts itself: a shard whose messages are
        /// further apart sleeps at once.
        spin_us: u32 = 0 in 0..=1_000, "microseconds";
        /// Time that a hook of the embedding program may hold up its shard before it is counted
        /// as slow and logged.
        ///
        /// Nothing is interrupted. The binary has no hooks.
        hook_us: u32 = 1_000 in 1..=1_000_000, "microseconds";
    }
}
