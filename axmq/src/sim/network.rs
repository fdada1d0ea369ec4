//! The broker in one thread: a front and shards on their reactors, on a simulated network.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pollio::sim::{Faults, SimBackend, SimNet, SimPeer, SimStream};
use pollio::{Backend, Progress, Reactor, ReactorOptions, Sender, Server, mailbox};

use super::Check;
use super::hooks::{Visits, hooks};
use super::plan::{Plan, StorePlan};
use super::random::Random;
use crate::front::{FrontParts, FrontServer};
use crate::keyed_hash::KeyedHash;
use crate::memory::Shortage;
use crate::message::{ToFront, ToShard};
use crate::shard::{Alarm, Audit, ShardServer, Shared};
use crate::store::engine::Space;
use crate::store::memory::{MemoryDisk, MemoryPlace, Weather};
use crate::store::op::{Health, ToStore};
use crate::store::{Disk, Keeper, StoreFigures, StoreParts, StoreServer, WallClock};

/// The reactor's own deadline: the simulated clock has no timerfd.
#[derive(Debug, Default)]
pub(super) struct Deadline(Option<u64>);

impl Alarm for Deadline {
    fn arm(&mut self, deadline_ns: Option<u64>, _now_ns: u64) -> io::Result<()> {
        self.0 = deadline_ns;
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.0
    }
}

pub(super) struct ShardLoop {
    reactor: Reactor<SimBackend>,
    pub(super) server: ShardServer<SimBackend, Deadline>,
    pub(super) audit: Audit,
    /// It spins where it may sleep. So a turn that finds work without sleeping may sleep, too.
    spins: bool,
    /// The time of its last turn.
    pub(super) turned_ns: u64,
}

struct StoreLoop {
    reactor: Reactor<SimBackend>,
    server: StoreServer<MemoryPlace, SimStream>,
    place: MemoryPlace,
    figures: Arc<StoreFigures>,
}

impl StoreLoop {
    fn new(
        plan: &StorePlan,
        net: &SimNet,
        shards: &[Sender<ToShard<SimStream>>],
    ) -> (Self, Sender<ToStore>) {
        let backend = net.backend();
        let (sender, receiver) = mailbox(1, backend.waker());
        let mut place = MemoryPlace::default();
        let figures = Arc::<StoreFigures>::default();
        let clock = WallClock::new(1_700_000_000_000, net.now_ns() / 1_000_000);
        let parts = StoreParts {
            engine: place.open().expect("it opens always"),
            disk: place.clone(),
            keeper: Keeper::new(clock, HashMap::new()),
            clock,
            interval_ms: u64::from(plan.settings.interval_ms),
            receiver,
            shards: shards.to_vec(),
            figures: Arc::clone(&figures),
        };
        let store = Self {
            figures,
            reactor: Reactor::new(backend, ReactorOptions::default()),
            server: StoreServer::new(parts),
            place,
        };
        (store, sender)
    }
}

pub(super) struct Site {
    pub(super) net: SimNet,
    pub(super) shared: Arc<Shared>,
    front: (Reactor<SimBackend>, FrontServer<SimBackend>),
    pub(super) shards: Vec<ShardLoop>,
    store: Option<StoreLoop>,
    pub(super) to_front: Sender<ToFront>,
    pub(super) to_shards: Vec<Sender<ToShard<SimStream>>>,
    /// What a hook has heard, where there are hooks.
    pub(super) visits: Option<Arc<Visits>>,
    address: SocketAddr,
    /// What one turn may put into a queue beyond its limit.
    slack_bytes: u64,
}

/// Whether a loop would not sleep.
fn is_awake<S: Server<SimBackend>>(reactor: &mut Reactor<SimBackend>, server: &mut S) -> bool {
    reactor.backend().has_work() || reactor.sleep_ns(server) == Some(0)
}

/// One turn; whether it found anything to do.
fn turn<S: Server<SimBackend>>(reactor: &mut Reactor<SimBackend>, server: &mut S) -> bool {
    turn_within(reactor, server, Some(0))
}

fn turn_within<S: Server<SimBackend>>(
    reactor: &mut Reactor<SimBackend>,
    server: &mut S,
    wait_ns_max: Option<u64>,
) -> bool {
    let turn = reactor
        .turn_within(server, wait_ns_max)
        .expect("the simulated wait never fails");
    turn.served > 0 || turn.events > 0 || turn.background == Progress::More || turn.timers
}

impl Site {
    pub(super) fn new(plan: &Plan, random: &mut Random) -> Self {
        let net = SimNet::new(random.next());
        net.set_buffer_bytes(plan.buffer_bytes);
        let hasher = KeyedHash::with_keys([random.next(), random.next()]);
        let mut shared = Shared::with_hasher(plan.limits.clone(), plan.shards, hasher);
        shared.sys.set_interval_s(plan.sys_interval_s.unwrap_or(0));
        let mut visits = None;
        if let Some(wanted) = &plan.hooks {
            let (hooks, seen) = hooks(wanted, plan.clients);
            shared = shared.with_hooks(hooks);
            visits = Some(seen);
        }
        if let Some(plan) = &plan.store {
            shared = shared.with_store(&plan.settings, 1, [0; 16]);
        }
        let shared = Arc::new(shared);
        let address = "192.0.2.1:1883".parse().expect("an address");
        let mut receivers = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..plan.shards {
            let backend = net.backend();
            let (sender, receiver) = mailbox(plan.mailbox, backend.waker());
            senders.push(sender);
            receivers.push((backend, receiver));
        }
        let store = plan.store.as_ref();
        let store = store.map(|plan| StoreLoop::new(plan, &net, &senders));
        let (store, to_store) = store.unzip();
        let shards = (0..plan.shards)
            .zip(receivers)
            .map(|(me, (backend, receiver))| {
                let (shared, senders) = (Arc::clone(&shared), senders.clone());
                let (store, alarm) = (to_store.clone(), Deadline::default());
                let mut server =
                    ShardServer::new(me, shared, receiver, senders, store, alarm, net.now_ns());
                if let Some((sessions, connections, messages)) = plan.tables {
                    server
                        .core_mut()
                        .limit_tables(sessions, connections, messages);
                }
                ShardLoop {
                    reactor: Reactor::new(backend, plan.reactor.clone()),
                    server,
                    audit: Audit::default(),
                    spins: plan.reactor.spin_ns_max > 0,
                    turned_ns: 0,
                }
            })
            .collect();
        let mut backend = net.backend();
        let (to_front, receiver) = mailbox(4, backend.waker());
        let parts = FrontParts {
            shared: Arc::clone(&shared),
            fronts: 1,
            configured: vec![0],
            listeners: vec![net.listen(address).expect("it is free")],
            receiver,
            shards: senders.clone(),
            accepts_per_turn: 4,
            connections_max: plan.connections_max,
            pre_connect_bytes_max: 20_000,
        };
        let mut front = FrontServer::new(parts, net.now_ns());
        front.start(&mut backend).expect("listening");
        let front = (Reactor::new(backend, ReactorOptions::default()), front);
        Self {
            net,
            shared,
            front,
            shards,
            store,
            to_front,
            to_shards: senders,
            visits,
            address,
            slack_bytes: plan.slack_bytes(),
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.net.now_ns()
    }

    pub(super) fn connect(&self) -> SimPeer {
        self.net.connect(self.address).expect("it listens")
    }

    /// A turn of the front, or of a shard; `None` where the loop sleeps and stays asleep.
    /// `is_forced` wakes it for nothing.
    pub(super) fn turn(&mut self, at: usize, is_forced: bool) -> Result<Option<bool>, String> {
        let Some(shard) = at.checked_sub(1) else {
            let (reactor, server) = &mut self.front;
            if server.is_done() {
                return Ok(None);
            }
            let is_due = is_forced || is_awake(reactor, server);
            return Ok(is_due.then(|| turn(reactor, server)));
        };
        if let (Some(store), true) = (&mut self.store, shard == self.shards.len()) {
            let is_due = is_forced || is_awake(&mut store.reactor, &mut store.server);
            return Ok(is_due.then(|| turn(&mut store.reactor, &mut store.server)));
        }
        let shard = &mut self.shards[shard];
        if shard.server.is_done() {
            return Ok(None);
        }
        let is_awake = is_awake(&mut shard.reactor, &mut shard.server);
        if !is_forced && !is_awake {
            if shard.server.core().has_work() {
                return Err("a loop sleeps although it has work".to_owned());
            }
            return Ok(None);
        }
        let may_sleep = shard.spins && is_awake;
        let wait_ns_max = if may_sleep { None } else { Some(0) };
        let worked = turn_within(&mut shard.reactor, &mut shard.server, wait_ns_max);
        shard.turned_ns = self.net.now_ns();
        let audit = &mut shard.audit;
        shard.server.core().audit(audit, self.slack_bytes)?;
        Ok(Some(worked))
    }

    /// Does a job of the auth pool; `false` where there is none.
    pub(super) fn authenticate_one(&self) -> bool {
        self.shared.hooks.pool.run_one(&self.shared.hooks)
    }

    /// Memory is so short from now on.
    pub(super) fn tell(&self, shortage: Shortage) {
        self.to_front.push_unbounded(ToFront::Memory(shortage));
        for shard in &self.to_shards {
            shard.push_unbounded(ToShard::Memory(shortage));
        }
    }

    pub(super) fn is_front_done(&self) -> bool {
        self.front.1.is_done()
    }

    /// Every loop has come to its end.
    pub(super) fn is_stopped(&self) -> bool {
        self.is_front_done() && self.shards.iter().all(|shard| shard.server.is_done())
    }

    /// Loops, the front among them.
    pub(super) fn loops(&self) -> usize {
        self.shards.len() + 1 + usize::from(self.store.is_some())
    }

    /// Whatever is on its way to the disk gets there.
    pub(super) fn catch_up(&mut self) -> Check {
        if self.store.is_some() {
            for _ in 0..6 {
                self.net.advance(1_000_000_000);
                for at in 0..self.loops() {
                    self.turn(at, true)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the store has nothing to make up for.
    pub(super) fn store_is_well(&self) -> bool {
        self.store
            .as_ref()
            .is_none_or(|store| store.figures.health() == Health::Well)
    }

    /// The disk of the store, where there is one.
    pub(super) fn disk(&self) -> Option<MemoryDisk> {
        Some(self.store.as_ref()?.place.disk.clone())
    }

    /// The number under which the store keeps a client's session; 0 where it does not.
    pub(super) fn holder_of(&self, client_id: &str) -> u64 {
        let shard = usize::from(self.shared.shard_of(client_id));
        self.shards[shard].server.core().holder_of(client_id)
    }

    /// The disk is like this from now on.
    pub(super) fn set_weather(&self, weather: Weather) {
        if let Some(store) = &self.store {
            store.place.disk.set_weather(weather);
        }
    }

    pub(super) fn heal(&mut self) {
        self.net.set_faults(Faults::NONE);
        self.set_weather(Weather::Fine);
        self.tell(Shortage::None);
        for shard in &mut self.shards {
            shard.server.core_mut().unlimit_tables();
        }
    }

    /// Nothing is left of anybody.
    pub(super) fn check_empty(&self) -> Check {
        for shard in &self.shards {
            let core = shard.server.core();
            check!(
                core.session_count() == 0,
                "sessions are left: {}",
                core.describe()
            );
            core.assert_empty();
        }
        if let Some(store) = &self.store {
            for space in [
                Space::Session,
                Space::Subscription,
                Space::Queue,
                Space::Message,
                Space::Incoming,
                Space::Group,
            ] {
                let left = store.place.disk.len(space);
                check!(left == 0, "{left} records of {} are left", space.name());
            }
        }
        let streams = self.net.streams_open();
        check!(streams == 0, "{streams} streams are still open");
        let connections = self.shared.connections();
        check!(connections == 0, "{connections} connections are counted");
        let waiting = (self.shared.groups(), self.shared.waiting());
        check!(
            waiting == (0, (0, 0)),
            "groups, sessions that are away and wills that wait are counted: {waiting:?}"
        );
        check!(!self.shared.sys.is_watched(), "$SYS is still watched");
        Ok(())
    }
}
