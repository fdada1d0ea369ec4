//! What all threads of a broker share: limits, indexes, and counts of what is there.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use topicmap::{InterestMap, Stamps};

use super::promises::Promises;
use crate::config::{
    Config, Durability, Limits, Listener, ProtocolSettings, RateSettings, StoreSettings,
};
use crate::counters::Figures;
use crate::defence::Defence;
use crate::hooks::Hooks;
use crate::keyed_hash::KeyedHash;
use crate::listener::ListenerState;
use crate::local::Gate;
use crate::memory::Guard;
use crate::rates::Users;
use crate::retained::Retained;
use crate::store::StoreFigures;
use crate::sys_topics::SysTopics;
use crate::tls::Tls;

/// What all threads of a broker share.
///
/// The limits are plain values: a reload gives each thread a new `Shared` by message, with the same
/// state behind it, so that nobody reads an atomic for them.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) protocol: ProtocolSettings,
    pub(crate) topic_limits: topicmap::Limits,
    pub(crate) interest: Arc<InterestMap>,
    pub(crate) stamps: Arc<Stamps>,
    pub(crate) retained: Arc<Retained>,
    /// Keyed, so that nobody can choose client ids that all go to one shard.
    pub(crate) hasher: KeyedHash,
    pub(crate) seed: u64,
    pub(crate) shards: u16,
    pub(crate) hooks: Arc<Hooks>,
    /// Whether anything is kept on disk.
    pub(crate) has_store: bool,
    /// The id that the node has had since its store was made.
    pub(crate) node: [u8; 16],
    /// The numbers of the store.
    pub(crate) store: Arc<StoreFigures>,
    /// What all are promised that no rule is for.
    pub(crate) durability: Durability,
    /// Those who are promised something else; `None` where nobody is, which then costs nothing.
    pub(crate) promises: Option<Arc<Promises>>,
    pub(crate) store_interval_ms: u32,
    /// The series of numbers of what is kept.
    pub(crate) numbers: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    ids_assigned: Arc<AtomicU64>,
    groups: Arc<AtomicU64>,
    offline_sessions: Arc<AtomicU64>,
    delayed_wills: Arc<AtomicU64>,
    connections_peak: Arc<AtomicU64>,
    accepting_held: Arc<AtomicU64>,
    pub(crate) sys: Arc<SysTopics>,
    pub(crate) memory: Arc<Guard>,
    pub(crate) defence: Defence,
    pub(crate) rates: RateSettings,
    pub(crate) users: Arc<Users>,
    /// In the order of the configuration.
    pub(crate) listeners: Arc<[ListenerState]>,
    /// The numbers of each shard, for whoever wants to know.
    pub(crate) figures: Arc<[Figures]>,
    /// What bounds the messages of the program itself, by shard.
    pub(crate) gates: Arc<[Gate]>,
}

impl Shared {
    pub(crate) fn new(limits: Limits, shards: u16) -> Self {
        Self::with_hasher(limits, shards, KeyedHash::secret())
    }

    /// The same with keys from outside: everything that looks like chance follows from them.
    pub(crate) fn with_hasher(limits: Limits, shards: u16, hasher: KeyedHash) -> Self {
        let seed = hasher.hash_one("axmq");
        let topic_limits = topicmap::Limits {
            // The configuration's range ends at 65,535.
            levels_max: u16::try_from(limits.topic_levels).unwrap_or(u16::MAX),
            bytes_max: u16::try_from(limits.topic_bytes).unwrap_or(u16::MAX),
            seed,
        };
        let gates = (0..shards).map(|_| Gate::new(limits.local_bytes)).collect();
        let defence = Defence::off(&hasher);
        let retained = Retained::new(seed, limits.retained_messages, limits.retained_bytes);
        Self {
            limits,
            protocol: ProtocolSettings::default(),
            topic_limits,
            interest: Arc::new(InterestMap::new(seed)),
            stamps: Arc::new(Stamps::with_seed(seed)),
            retained: Arc::new(retained),
            hasher,
            seed,
            shards,
            hooks: Arc::default(),
            gates,
            has_store: false,
            node: [0; 16],
            store: Arc::default(),
            durability: Durability::None,
            promises: None,
            store_interval_ms: 0,
            numbers: Arc::new(AtomicU64::new(1)),
            connections: Arc::default(),
            listeners: Arc::default(),
            ids_assigned: Arc::default(),
            groups: Arc::default(),
            offline_sessions: Arc::default(),
            delayed_wills: Arc::default(),
            connections_peak: Arc::default(),
            accepting_held: Arc::default(),
            sys: Arc::new(SysTopics::new(|| 0)),
            memory: Arc::default(),
            defence,
            rates: RateSettings::default(),
            users: Arc::default(),
            figures: (0..shards).map(|_| Figures::default()).collect(),
        }
    }

    /// The same with a function that says how much memory the process uses, of which it may use
    /// `limit_bytes`; 0 is no limit.
    pub(crate) fn with_memory(self, limit_bytes: u64, memory: fn() -> u64) -> Self {
        Self {
            sys: Arc::new(SysTopics::new(memory)),
            memory: Arc::new(Guard::new(limit_bytes, memory)),
            ..self
        }
    }

    /// The same for a broker with a store, whose numbers begin with this one.
    pub(crate) fn with_store(
        self,
        settings: &StoreSettings,
        first_number: u64,
        node: [u8; 16],
    ) -> Self {
        self.numbers.store(first_number, Ordering::Relaxed);
        let listeners = self.listeners.iter();
        let by_listener = listeners.filter_map(|listener| listener.rules()?.durability);
        let promises = Promises::new(settings, by_listener, self.topic_limits);
        Self {
            promises: promises.map(Arc::new),
            has_store: true,
            node,
            durability: settings.durability,
            store_interval_ms: settings.interval_ms,
            ..self
        }
    }

    /// The most that anybody is promised.
    pub(crate) fn strongest(&self) -> Durability {
        let promises = self.promises.as_deref();
        promises.map_or(self.durability, Promises::strongest)
    }

    /// The same, which keeps out, and slows, whom this configuration wants to.
    pub(crate) fn with_defence(self, config: &Config) -> Self {
        Self {
            defence: self.defence.with_config(config),
            rates: config.rates.clone(),
            ..self
        }
    }

    /// The same with listeners that have rules.
    pub(crate) fn with_listeners(self, listeners: &[Listener]) -> Self {
        Self {
            listeners: listeners.iter().map(ListenerState::new).collect(),
            ..self
        }
    }

    /// The same broker with other rules for the same listeners.
    pub(crate) fn with_rules(self, listeners: &[Listener]) -> Self {
        let pairs = self.listeners.iter().zip(listeners);
        Self {
            listeners: pairs
                .map(|(state, listener)| state.with_rules(&listener.rules))
                .collect(),
            ..self
        }
    }

    /// The same with TLS for its listeners, in their order.
    pub(crate) fn with_tls(self, tls: Vec<Option<Arc<Tls>>>) -> Self {
        let pairs = self.listeners.iter().cloned().zip(tls);
        Self {
            listeners: pairs.map(|(state, tls)| state.with_tls(tls)).collect(),
            ..self
        }
    }

    /// The same broker under other limits.
    pub(crate) fn with_limits(&self, limits: Limits) -> Self {
        self.retained
            .set_limits(limits.retained_messages, limits.retained_bytes);
        Self {
            limits,
            ..self.clone()
        }
    }

    /// The same, for a broker that asks these hooks.
    pub(crate) fn with_hooks(self, hooks: Hooks) -> Self {
        Self {
            hooks: Arc::new(hooks),
            ..self
        }
    }

    pub(crate) fn with_protocol(self, protocol: ProtocolSettings) -> Self {
        Self { protocol, ..self }
    }

    /// What one shard may have under way to another: in all no more than an out-queue holds above
    /// its soft mark, so that a subscriber that makes progress loses nothing (DECISIONS 22).
    pub(super) fn credit(&self) -> u64 {
        let limits = &self.limits;
        let room = limits
            .out_queue_bytes
            .saturating_sub(limits.out_queue_soft_bytes);
        let sources = u64::from(self.shards.saturating_sub(1)).max(1);
        // One for publications, one for what is dealt to members of groups.
        let lanes = 2 * sources;
        // Without a byte of credit nothing would ever go out.
        limits.mailbox_bytes.min(room / lanes).max(1)
    }

    /// QoS 1 and 2 messages that a client may have unacknowledged; the configuration's range ends
    /// at 65,535.
    pub(crate) fn receive_maximum(&self) -> u16 {
        u16::try_from(self.limits.receive_maximum).unwrap_or(u16::MAX)
    }

    /// The same for what is sent to a client.
    pub(crate) fn inflight(&self) -> u16 {
        u16::try_from(self.limits.inflight).unwrap_or(u16::MAX)
    }

    /// Last disconnects that one shard remembers.
    pub(super) fn disconnects_max(&self) -> usize {
        let records = self.limits.disconnect_records;
        records.div_ceil(u32::from(self.shards.max(1))) as usize
    }

    /// Connections that are open, in whatever state.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn connection_opened(&self) {
        let open = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        self.connections_peak.fetch_max(open, Ordering::Relaxed);
    }

    /// The most connections that were open at a time.
    pub(crate) fn connections_peak(&self) -> u64 {
        self.connections_peak.load(Ordering::Relaxed)
    }

    pub(crate) fn connection_closed(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// A front stops accepting for a moment, because of `connects_per_s`.
    pub(crate) fn accepting_held(&self) {
        self.accepting_held.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a front has.
    pub(crate) fn times_accepting_held(&self) -> u64 {
        self.accepting_held.load(Ordering::Relaxed)
    }

    /// A client id for a client that has none: a new one each time, and none that can be guessed
    /// from another.
    pub(crate) fn assign_client_id(&self) -> Box<str> {
        let number = self.ids_assigned.fetch_add(1, Ordering::Relaxed);
        let half = |which: u8| self.hasher.hash_one(("client id", number, which));
        format!("auto-{:016x}{:016x}", half(0), half(1)).into()
    }

    /// The shard that a shared subscription belongs to.
    pub(crate) fn owner_of(&self, name: &str, filter: &str) -> u16 {
        let hash = self.hasher.hash_one((name, filter));
        u16::try_from(hash % u64::from(self.shards.max(1))).unwrap_or(0)
    }

    /// A shared subscription begins, where there may be another one.
    pub(crate) fn group_opens(&self) -> bool {
        take_place(&self.groups, self.limits.shared_groups)
    }

    /// A session loses its connection; whether it may be kept.
    pub(crate) fn session_leaves(&self) -> bool {
        take_place(&self.offline_sessions, self.limits.offline_sessions)
    }

    pub(crate) fn session_returns(&self) {
        self.offline_sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A will has a delay; whether it may wait.
    pub(crate) fn will_waits(&self) -> bool {
        take_place(&self.delayed_wills, self.limits.delayed_wills)
    }

    pub(crate) fn will_is_over(&self) {
        self.delayed_wills.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sessions without a connection and wills that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.offline_sessions), load(&self.delayed_wills))
    }

    pub(crate) fn group_ended(&self) {
        self.groups.fetch_sub(1, Ordering::Relaxed);
    }

    /// Shared subscriptions that have a member.
    #[cfg(test)]
    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// The shard that a client id belongs to.
    pub(crate) fn shard_of(&self, client_id: &str) -> u16 {
        let hash = self.hasher.hash_one(client_id);
        u16::try_from(hash % u64::from(self.shards.max(1))).unwrap_or(0)
    }
}

/// Counts one more where there are fewer than `limit`; whether there were.
fn take_place(count: &AtomicU64, limit: u64) -> bool {
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit).then_some(count + 1)
        })
        .is_ok()
}
