//! A shard: the sessions, connections, subscriptions and timers of the clients that hash to it.
//!
//! [`Core`] is the protocol without the machine: it makes no system call and asks no clock. It
//! takes hand-overs, bytes, messages of other shards and the time, and gives bytes in out-queues,
//! messages in outboxes, streams to close and events to log. `server` puts it on a reactor.

mod answer;
mod attach;
#[cfg(test)]
mod audit;
mod close;
mod connection;
mod deal;
mod deliver;
mod groups;
mod hooked;
mod images;
mod input;
mod local;
mod member;
mod outbox;
mod pressure;
mod publish;
mod reauth;
mod receive;
mod replay;
mod rules;
mod runs;
mod server;
mod settle;
mod subscribe;
mod sys;
#[cfg(test)]
mod tests;
mod timers;
mod trace;

use std::collections::{BTreeMap, VecDeque};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use mqtt_codec::Version;
use sharedbuf::{BlockCache, ReadBlock};
use slabmem::{Key, Pool, Slab};
use timerwheel::{Policy, TimerWheel};
use topicmap::{InterestMap, InterestReader, MatchCache, Stamps, TopicMap};

pub(crate) use self::answer::{CLIENTS_A_PAGE, RECORDS_AN_ANSWER};
#[cfg(test)]
pub(crate) use self::audit::Audit;
pub(crate) use self::close::Doomed;
pub(crate) use self::connection::{Connection, Partial};
use self::groups::Groups;
use self::images::Images;
pub(crate) use self::input::read;
use self::local::LocalSide;
use self::member::Membership;
use self::outbox::Outbox;
use self::reauth::AuthJob;
pub(crate) use self::reauth::Authentication;
pub(crate) use self::receive::Next;
use self::replay::Replay;
use self::runs::Run;
#[cfg(test)]
pub(crate) use self::server::Alarm;
pub(crate) use self::server::{ShardServer, TIMER};
use self::subscribe::DueSubAck;
use self::sys::Sys;
use self::timers::Timer;
pub(crate) use self::trace::Traced;
use self::trace::Tracer;
use crate::config::{Limits, Listener, ProtocolSettings};
use crate::counters::{Counters, Figures};
use crate::disconnects::Disconnects;
use crate::events::{Cause, Event};
use crate::hooks::Hooks;
use crate::keyed_hash::KeyedHash;
use crate::listener::ListenerState;
use crate::local::Gate;
use crate::publication::Publication;
use crate::retained::Retained;
use crate::route::{Route, RouteBuilder, SubscriptionOptions};
use crate::session::Session;
use crate::sys_topics::SysTopics;

/// Topics whose routes a shard remembers.
const ROUTES_CACHED: usize = 16 * 1_024;

/// Out-queues whose memory is kept for the next, under load and when timers find time to tidy up.
const BLOCKS_CACHED: usize = 256;
const BLOCKS_KEPT: usize = 32;

/// What the pool of a shard maps at most; beyond that blocks come from the heap. What a shard holds
/// is bounded by the limits of its queues and packets, not here.
const POOL_BYTES_MAX: usize = 1 << 30;
/// Vacant blocks are kept up to the high mark, and given back down to the low one.
const POOL_BYTES_LOW: usize = 1 << 20;
const POOL_BYTES_HIGH: usize = 4 << 20;

fn block_pool() -> Pool {
    Pool::new(POOL_BYTES_MAX).with_marks(POOL_BYTES_LOW, POOL_BYTES_HIGH)
}

/// Keep-alive may fire this much later than it is due, so that a million of them wake a thread
/// tens of times a second (DECISIONS 5).
const KEEP_ALIVE_SLACK_MS: u64 = 1_000;

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
    connections: Arc<AtomicU64>,
    ids_assigned: Arc<AtomicU64>,
    groups: Arc<AtomicU64>,
    offline_sessions: Arc<AtomicU64>,
    delayed_wills: Arc<AtomicU64>,
    connections_peak: Arc<AtomicU64>,
    accepting_held: Arc<AtomicU64>,
    pub(crate) sys: Arc<SysTopics>,
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
            connections: Arc::default(),
            listeners: Arc::default(),
            ids_assigned: Arc::default(),
            groups: Arc::default(),
            offline_sessions: Arc::default(),
            delayed_wills: Arc::default(),
            connections_peak: Arc::default(),
            accepting_held: Arc::default(),
            sys: Arc::new(SysTopics::new(|| 0)),
            figures: (0..shards).map(|_| Figures::default()).collect(),
        }
    }

    /// The same with a function that says how much memory the process uses.
    pub(crate) fn with_memory(self, memory: fn() -> u64) -> Self {
        Self {
            sys: Arc::new(SysTopics::new(memory)),
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
    fn credit(&self) -> u64 {
        let limits = &self.limits;
        let room = limits
            .out_queue_bytes
            .saturating_sub(limits.out_queue_soft_bytes);
        let sources = u64::from(self.shards.saturating_sub(1)).max(1);
        // One for publications, one for what is dealt to members of groups.
        let lanes = 2 * sources;
        limits.mailbox_bytes.min(room / lanes)
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
    fn disconnects_max(&self) -> usize {
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

/// A message that is kept for sessions of this shard, once for all of them (DECISIONS 24).
#[derive(Debug)]
struct Kept {
    publication: Publication,
    sessions: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core<S> {
    me: u16,
    shared: Arc<Shared>,
    now_ms: u64,
    /// Report connects and ordinary disconnects too, not only misconduct.
    reports_routine: bool,

    connections: Slab<Connection<S>>,
    sessions: Slab<Session>,
    /// Slots of sessions by client id.
    index: HashTable<u32>,
    messages: Slab<Kept>,
    message_bytes: u64,
    sys: Sys,
    /// Of this shard's sessions.
    memberships: Slab<Membership>,
    /// That this shard owns, of sessions of all shards.
    groups: Groups,
    /// SUBSCRIBEs whose groups have not all answered, by connection.
    due_subacks: BTreeMap<Key, DueSubAck>,

    topics: TopicMap<SubscriptionOptions>,
    interest: InterestReader,
    routes: MatchCache<Rc<Route>>,
    route_builder: RouteBuilder,
    images: Images,
    run: Run,
    /// Memory of out-queues that ran empty, for those that fill next, and the pool that all blocks
    /// of the shard come from: of out-queues, and those that sockets are read into.
    blocks: BlockCache,
    text: String,

    keep_alive: TimerWheel<Key>,
    timers: TimerWheel<Timer>,

    funnel: VecDeque<Doomed<S>>,
    funnel_done: u64,
    replays: VecDeque<Replay>,
    drains: VecDeque<Key>,
    /// Connections that a hook wants ended.
    condemned: Vec<(Key, Cause)>,
    /// Groups whose queue is dealt out, and those that wait for another shard to catch up.
    feeds: VecDeque<Key>,
    starved: Vec<Key>,
    /// The program's own messages and subscriptions.
    local: LocalSide,
    /// Work for the auth pool.
    auth_jobs: Vec<AuthJob>,

    dirty: Vec<Key>,
    /// Used boxes for incomplete packets, so that a busy publisher costs no allocation a turn.
    #[expect(
        clippy::vec_box,
        reason = "the box itself goes to a connection and comes back"
    )]
    partials: Vec<Box<Partial>>,
    /// Connections to be read from although no event says so.
    ready: Vec<Key>,
    paused: Vec<Key>,
    /// Connections whose queues press on publishers.
    pressing: usize,
    /// The publication being routed met such a queue.
    felt_pressure: bool,
    outboxes: Vec<Outbox>,
    /// Bytes that may be on their way to one other shard.
    credit: u64,
    events: Vec<Event>,
    disconnects: Disconnects,
    tracers: Vec<Tracer>,
    traced: Vec<Traced>,
    traced_lost: u64,
    clients_connected: u64,
    counters: Counters,
}

impl<S> Core<S> {
    pub(crate) fn new(me: u16, shared: Arc<Shared>, now_ms: u64, reports_routine: bool) -> Self {
        let seed = shared.seed;
        let outboxes = (0..shared.shards).map(|_| Outbox::default()).collect();
        let interest = shared.interest.reader();
        let credit = shared.credit();
        let disconnects_max = shared.disconnects_max();
        shared.sys.begin(now_ms);
        let strategy = shared.protocol.shared_strategy;
        Self {
            me,
            shared,
            now_ms,
            reports_routine,
            connections: Slab::new(),
            sessions: Slab::new(),
            index: HashTable::new(),
            messages: Slab::new(),
            message_bytes: 0,
            sys: Sys::default(),
            memberships: Slab::new(),
            groups: Groups::new(strategy, seed),
            due_subacks: BTreeMap::new(),
            topics: TopicMap::new(seed),
            interest,
            routes: MatchCache::new(ROUTES_CACHED),
            route_builder: RouteBuilder::default(),
            images: Images::default(),
            run: Run::default(),
            blocks: BlockCache::with_pool(BLOCKS_CACHED, block_pool()),
            text: String::new(),
            keep_alive: TimerWheel::new(
                Policy::Coarse {
                    max_slack_ticks: KEEP_ALIVE_SLACK_MS,
                },
                now_ms,
            ),
            timers: TimerWheel::new(Policy::Exact, now_ms),
            funnel: VecDeque::new(),
            funnel_done: 0,
            replays: VecDeque::new(),
            drains: VecDeque::new(),
            condemned: Vec::new(),
            feeds: VecDeque::new(),
            starved: Vec::new(),
            local: LocalSide::default(),
            auth_jobs: Vec::new(),
            dirty: Vec::new(),
            partials: Vec::new(),
            ready: Vec::new(),
            paused: Vec::new(),
            pressing: 0,
            felt_pressure: false,
            outboxes,
            credit,
            events: Vec::new(),
            disconnects: Disconnects::new(disconnects_max),
            tracers: Vec::new(),
            traced: Vec::new(),
            traced_lost: 0,
            clients_connected: 0,
            counters: Counters::default(),
        }
    }

    /// Goes on under other limits. Connections keep what their CONNACK promised them.
    pub(crate) fn reload(&mut self, shared: Arc<Shared>, reports_routine: bool) {
        self.shared = shared;
        self.reports_routine = reports_routine;
        self.credit = self.shared.credit();
        self.disconnects.set_max(self.shared.disconnects_max());
    }

    /// The time of this turn, in milliseconds of a clock that all shards share.
    pub(crate) fn set_now(&mut self, now_ms: u64) {
        // A clock that steps back must not make timers early or counters negative.
        self.now_ms = self.now_ms.max(now_ms);
        // The wheels count delays from here.
        self.keep_alive.advance(self.now_ms);
        self.timers.advance(self.now_ms);
    }

    /// A block for at least `bytes`, to be read into: of the pool, or of the heap where the pool
    /// has none to give.
    pub(crate) fn read_block(&mut self, bytes: usize) -> ReadBlock {
        let block = self
            .blocks
            .pool_mut()
            .and_then(|pool| ReadBlock::in_pool(pool, bytes).ok());
        block.unwrap_or_else(|| ReadBlock::with_capacity(bytes))
    }

    pub(crate) fn connection(&self, key: Key) -> Option<&Connection<S>> {
        self.connections.get(key)
    }

    pub(crate) fn connection_mut(&mut self, key: Key) -> Option<&mut Connection<S>> {
        self.connections.get_mut(key)
    }

    fn version(&self, key: Key) -> Option<Version> {
        self.connections
            .get(key)
            .map(|connection| connection.version)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections with something to write.
    pub(crate) fn take_dirty(&mut self, into: &mut Vec<Key>) {
        self.end_run();
        into.append(&mut self.dirty);
    }

    /// Whether there is something to do that no event will announce: the loop must not sleep.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.funnel.is_empty()
            || !self.drains.is_empty()
            || !self.condemned.is_empty()
            || !self.feeds.is_empty()
            || self.has_replay()
            || self.has_local()
    }

    /// A step of background work of each kind; `false` when there is none.
    pub(crate) fn work_one(&mut self) -> bool {
        self.cleanup_one()
            | self.drain_one()
            | self.feed_one()
            | self.replay_one()
            | self.local_one()
    }

    /// Lets go of what only a match would let go of, for a shard that has none.
    pub(crate) fn tidy_up(&mut self) {
        self.interest.refresh();
        self.blocks.trim(BLOCKS_KEPT);
        if let Some(pool) = self.blocks.pool_mut() {
            // Gives back what a storm has left vacant.
            pool.collect();
        }
    }

    pub(crate) fn take_ready(&mut self, into: &mut Vec<Key>) {
        into.append(&mut self.ready);
    }

    pub(crate) fn drain_events(&mut self) -> impl Iterator<Item = Event> {
        self.events.drain(..)
    }

    pub(crate) fn outboxes(&mut self) -> &mut [Outbox] {
        &mut self.outboxes
    }

    /// Puts a connection on the dirty list, once.
    fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            mark(&mut self.dirty, connection, key);
        }
    }

    /// Queues a control packet; such are never dropped.
    fn control(&mut self, key: Key, len: usize, write: impl FnOnce(&mut [u8])) {
        let is_watched = !self.tracers.is_empty();
        let mut copy = None;
        if let Some(connection) = self.connections.get_mut(key) {
            connection.out.prepare(&mut self.blocks);
            connection
                .out
                .push_with(len, sharedbuf::Class::Control, |out| {
                    write(out);
                    copy = is_watched.then(|| out.to_vec());
                });
            mark(&mut self.dirty, connection, key);
            self.counters.packets_sent += 1;
        }
        if let Some(packet) = copy {
            self.trace_out(key, &packet);
        }
    }

    fn find(&self, client_id: &str) -> Option<Key> {
        let hash = self.shared.hasher.hash_one(client_id);
        let sessions = &self.sessions;
        let slot = self.index.find(hash, |slot| {
            sessions
                .get_at(*slot)
                .is_some_and(|session| &*session.client_id == client_id)
        })?;
        self.sessions.key_at(*slot)
    }

    fn index_insert(&mut self, client_id: &str, slot: u32) {
        let hash = self.shared.hasher.hash_one(client_id);
        let (sessions, hasher) = (&self.sessions, &self.shared.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            sessions
                .get_at(*slot)
                .map_or(0, |session| hasher.hash_one(&*session.client_id))
        });
    }

    fn index_remove(&mut self, client_id: &str, slot: u32) {
        let hash = self.shared.hasher.hash_one(client_id);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        // A storm that came and went must not leave its table behind.
        if self.index.capacity() > 4 * self.index.len().max(1_024) {
            let (sessions, hasher) = (&self.sessions, &self.shared.hasher);
            self.index.shrink_to(2 * self.index.len(), |slot| {
                sessions
                    .get_at(*slot)
                    .map_or(0, |session| hasher.hash_one(&*session.client_id))
            });
        }
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

/// Puts a connection on the dirty list, once. Apart from [`Core::mark_dirty`] for callers that
/// hold the connection already.
fn mark<S>(dirty: &mut Vec<Key>, connection: &mut Connection<S>, key: Key) {
    if !connection.has(connection::flag::DIRTY) {
        connection.set(connection::flag::DIRTY);
        dirty.push(key);
    }
}
