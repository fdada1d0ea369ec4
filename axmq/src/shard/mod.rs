//! A shard: the sessions, connections, subscriptions and timers of the clients that hash to it.
//!
//! [`Core`] is the protocol without the machine: it makes no system call and asks no clock. It
//! takes hand-overs, bytes, messages of other shards and the time, and gives bytes in out-queues,
//! messages in outboxes, streams to close and events to log. `server` puts it on a reactor.

mod aliases;
mod answer;
mod attach;
#[cfg(test)]
mod audit;
mod close;
mod connection;
mod deal;
mod deliver;
mod entrust;
mod evict;
mod group_queue;
mod groups;
mod holdings;
mod hooked;
mod images;
mod input;
mod journal;
mod keep;
mod layered;
mod local;
mod member;
mod outbox;
mod pressure;
mod promises;
mod publish;
mod rate;
mod reauth;
mod receive;
mod replay;
mod restore;
mod rules;
mod runs;
mod server;
mod settle;
mod shared;
mod shortage;
mod subscribe;
mod swamped;
mod sys;
#[cfg(test)]
mod tests;
mod timers;
mod trace;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::HashTable;
use mqtt_codec::Version;
use sharedbuf::{BlockCache, ReadBlock};
use slabmem::{Key, Pool, Slab};
use timerwheel::{Policy, TimerKey, TimerWheel};
use topicmap::{InterestReader, MatchCache, TopicMap, TopicMemo};

pub(crate) use self::answer::{CLIENTS_A_PAGE, RECORDS_AN_ANSWER};
#[cfg(test)]
pub(crate) use self::audit::Audit;
pub(crate) use self::close::Doomed;
pub(crate) use self::connection::{Connection, Partial};
use self::evict::Eviction;
use self::groups::Groups;
use self::images::Images;
pub(crate) use self::input::read;
use self::journal::Journal;
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
pub(crate) use self::shared::Shared;
use self::subscribe::DueSubAck;
use self::sys::Sys;
use self::timers::Timer;
pub(crate) use self::trace::Traced;
use self::trace::Tracer;
use crate::counters::Counters;
use crate::defence::{Charge, TakeOver};
use crate::disconnects::Disconnects;
use crate::events::{Cause, Event};
use crate::memory::Shortage;
use crate::publication::Publication;
use crate::rates::Taken;
use crate::route::{Route, RouteBuilder, SubscriptionOptions};
use crate::session::Session;

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

/// A message that is kept for sessions of this shard, once for all of them (DECISIONS 24).
#[derive(Debug)]
struct Kept {
    publication: Publication,
    sessions: u32,
    /// The batch of ops that tells the store what it is.
    said_in: u64,
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
    /// The number of the next publication above QoS 0 that goes to several, in all sessions that
    /// can give it that one: so they get the same packet id and can share its bytes. Not below
    /// that which any of those has come to who have got the one before.
    numbered: u64,
    sys: Sys,
    /// Of this shard's sessions.
    memberships: Slab<Membership>,
    /// That this shard owns, of sessions of all shards.
    groups: Groups,
    /// Connections that nothing is written to before what their CONNACK says is durable.
    due_connacks: BTreeSet<Key>,
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
    /// What the store is to know.
    journal: Journal,
    /// The message whose ops the store is not to write before its commit; `u64::MAX` where there is
    /// none.
    staging: u64,
    /// What is put in place comes from the store.
    is_restoring: bool,
    /// Sessions of an earlier run whose time has come before all of them were in place.
    early: Option<Vec<Key>>,
    /// An orderly stop is near: groups keep what the store has.
    is_closing: bool,
    /// An orderly stop: wills of kept sessions stay with them.
    is_stopping: bool,

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
    /// The timers for that, also of connections that press no more.
    watched: BTreeMap<Key, TimerKey>,
    /// The publication being routed met such a queue.
    felt_pressure: bool,
    topic_memo: TopicMemo,
    /// The session that has acknowledgements due for what is being read.
    due: Option<Key>,
    shortage: Shortage,
    /// Something is to be done about each publish.
    is_gated: bool,
    /// What clients that have gone had not waited for, by the hash of their id.
    owing: HashMap<u64, Taken>,
    /// Out-queues are shed down to this, the more often the less.
    shed_to: usize,
    /// While publishers are held for want of memory.
    breath: Option<TimerKey>,
    /// Connections that have ended since memory was given back last, and whether it is about to be.
    gone: usize,
    is_calming: bool,
    outboxes: Vec<Outbox>,
    /// Bytes that may be on their way to one other shard.
    credit: u64,
    events: Vec<Event>,
    disconnects: Disconnects,
    /// What is to be held against clients.
    offences: Vec<Charge>,
    take_overs: Vec<TakeOver>,
    eviction: Eviction,
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
        let is_gated = shared.rates.bounds_publishes();
        let strategy = shared.protocol.shared_strategy;
        let journal = Journal::new(
            shared.has_store,
            shared.limits.store_queue_bytes,
            Arc::clone(&shared.numbers),
        );
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
            numbered: 0,
            sys: Sys::default(),
            memberships: Slab::new(),
            groups: Groups::new(strategy, seed),
            due_connacks: BTreeSet::new(),
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
            journal,
            staging: u64::MAX,
            is_restoring: false,
            early: None,
            is_closing: false,
            is_stopping: false,
            dirty: Vec::new(),
            partials: Vec::new(),
            ready: Vec::new(),
            paused: Vec::new(),
            pressing: 0,
            watched: BTreeMap::new(),
            felt_pressure: false,
            topic_memo: TopicMemo::new(),
            due: None,
            shortage: Shortage::None,
            is_gated,
            owing: HashMap::new(),
            shed_to: usize::MAX,
            breath: None,
            gone: 0,
            is_calming: false,
            outboxes,
            credit,
            events: Vec::new(),
            disconnects: Disconnects::new(disconnects_max),
            offences: Vec::new(),
            take_overs: Vec::new(),
            eviction: Eviction::default(),
            tracers: Vec::new(),
            traced: Vec::new(),
            traced_lost: 0,
            clients_connected: 0,
            counters: Counters::default(),
        }
    }

    /// Goes on under other limits. Connections keep what their CONNACK promised them.
    pub(crate) fn reload(&mut self, shared: Arc<Shared>, reports_routine: bool) {
        let has_other_rates = self.shared.rates != shared.rates;
        self.shared = shared;
        self.set_gate();
        if has_other_rates {
            self.forget_waits();
        }
        self.reports_routine = reports_routine;
        self.credit = self.shared.credit();
        self.journal
            .set_credit(self.shared.limits.store_queue_bytes);
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

    /// Whether every client is being told to go.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping
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
            || !self.ready.is_empty()
            || !self.funnel.is_empty()
            || !self.drains.is_empty()
            || !self.condemned.is_empty()
            || !self.feeds.is_empty()
            || self.has_replay()
            || self.has_local()
            || self.has_eviction()
    }

    /// A step of background work of each kind; `false` when there is none.
    pub(crate) fn work_one(&mut self) -> bool {
        self.cleanup_one()
            | self.drain_one()
            | self.feed_one()
            | self.replay_one()
            | self.local_one()
            | self.evict_one()
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

    pub(crate) fn drain_offences(&mut self) -> impl Iterator<Item = Charge> {
        self.offences.drain(..)
    }

    pub(crate) fn drain_take_overs(&mut self) -> impl Iterator<Item = TakeOver> {
        self.take_overs.drain(..)
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

/// Puts a connection on the dirty list, once. Apart from [`Core::mark_dirty`] for callers that
/// hold the connection already.
fn mark<S>(dirty: &mut Vec<Key>, connection: &mut Connection<S>, key: Key) {
    if !connection.has(connection::flag::DIRTY) {
        connection.set(connection::flag::DIRTY);
        dirty.push(key);
    }
}
