//! The threads that hold the broker's state: its shards, and the store below them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pollio::net::Stream;
use pollio::{
    Backend, Epoll, Interest, Mode, Reactor, ReactorOptions, Receiver, Sender, affinity, mailbox,
};
use timerwheel::driver::TimerFd;
use topicmap::Topic;

use crate::broker::{Stopper, join, reactor_options, spawn};
use crate::config::{Budgets, Config, Durability};
use crate::defence::Resumed;
use crate::error::{RunError, StartError};
use crate::local::this_thread_is_a_shard;
use crate::logging;
use crate::message::ToShard;
use crate::shard::{ShardServer, Shared, TIMER};
use crate::store::op::ToStore;
use crate::store::{
    Disk, DiskEngine, DiskPlace, FormatError, Recovery, Restored, RestoredGroup, StoreParts,
    StoreServer, WallClock, aside, set_aside, upgrade,
};

/// Connections on their way to one shard; beyond it the fronts stop accepting.
const HANDOVERS: usize = 16 * 1_024;

/// Sessions that are restored with one message, messages of that kind under way to a shard, and
/// sessions or retained messages between two lines about it in the log.
const RESTORED_A_TIME: usize = 256;
const RESTORES_UNDER_WAY: usize = 4;
const RESTORED_A_LINE: u64 = 100_000;

const NS_PER_MS: u64 = 1_000_000;

/// The processor time that a shard wants at a time: less than the 1.4 ms and more that others get.
const SLICE: Duration = Duration::from_micros(100);
/// By how much the store's thread is nicer than shards: a busy one leaves it a quarter of a
/// processor, and publishers wait for it where that is too little.
const STORE_NICENESS: u8 = 5;

/// See the module.
pub(crate) struct DataPlane {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shards: Vec<Sender<ToShard<Stream>>>,
    threads: Vec<JoinHandle<()>>,
    store: Option<(Sender<ToStore>, Vec<JoinHandle<()>>)>,
}

/// A store whose directory is open.
struct Opened {
    place: DiskPlace,
    engine: DiskEngine,
    backend: Epoll,
    receiver: Receiver<ToStore>,
    clock: WallClock,
    now_ms: u64,
}

impl Opened {
    fn open(data_dir: &Path, config: &Config) -> Result<Self, StartError> {
        let path = data_dir.join("store");
        let refuse = |why: String| StartError::Store {
            path: path.clone(),
            why,
        };
        let mut place = DiskPlace::new(&path, config.store.reserve_bytes);
        let engine = place.open().map_err(|error| refuse(error.to_string()))?;
        let mut backend = Epoll::new().map_err(StartError::Thread)?;
        let now_ms = backend.now_ns() / NS_PER_MS;
        let (_, receiver) = mailbox(1, backend.waker());
        Ok(Self {
            place,
            engine,
            backend,
            receiver,
            clock: WallClock::new(logging::now_ms(), now_ms),
            now_ms,
        })
    }

    fn begin(&mut self) -> Result<Recovery<'_, DiskEngine>, FormatError> {
        let mut node = [0; 16];
        // Without the system's random numbers the clock has to do: it only has to differ.
        if getrandom::fill(&mut node).is_err() {
            let now_ms = logging::now_ms().to_be_bytes();
            node.iter_mut()
                .zip(now_ms)
                .for_each(|(to, from)| *to = from);
        }
        self.upgrade()?;
        Recovery::begin(&mut self.engine, self.clock, self.now_ms, node)
    }

    /// Brings a store of an earlier version to the format of this one.
    fn upgrade(&mut self) -> Result<(), FormatError> {
        let place = &self.place;
        let old = upgrade(&mut self.engine, |engine, old| {
            let at = aside(place.path(), old);
            tracing::info!(event = "store.upgrade", format = old, copy = %at.display());
            set_aside(engine, &at)
        })?;
        if let Some(old) = old {
            tracing::warn!(
                event = "store.upgraded",
                format = old,
                copy = %aside(place.path(), old).display(),
                "the store had an earlier format; the copy is for going back, and not needed to go \
                 on"
            );
        }
        Ok(())
    }
}

/// Hands sessions to their shards, a few at a time.
struct Hand<'a> {
    shared: &'a Shared,
    shards: &'a [Sender<ToShard<Stream>>],
    gathered: Vec<Vec<Restored>>,
    under_way: Vec<VecDeque<mpsc::Receiver<()>>>,
    count: u64,
}

impl<'a> Hand<'a> {
    fn new(shared: &'a Shared, shards: &'a [Sender<ToShard<Stream>>]) -> Self {
        Self {
            shared,
            shards,
            gathered: shards.iter().map(|_| Vec::new()).collect(),
            under_way: shards.iter().map(|_| VecDeque::new()).collect(),
            count: 0,
        }
    }

    fn give(&mut self, session: Restored) {
        let at = usize::from(self.shared.shard_of(&session.client_id));
        self.count += 1;
        if self.count.is_multiple_of(RESTORED_A_LINE) {
            tracing::info!(event = "store.restoring", sessions = self.count);
        }
        let is_full = self.gathered.get_mut(at).is_some_and(|gathered| {
            gathered.push(session);
            gathered.len() >= RESTORED_A_TIME
        });
        if is_full {
            self.send(at, RESTORES_UNDER_WAY);
        }
    }

    /// Sends what is gathered for a shard, and waits until fewer than `most` messages are under
    /// way.
    fn send(&mut self, at: usize, most: usize) {
        let (Some(gathered), Some(shard)) = (self.gathered.get_mut(at), self.shards.get(at)) else {
            return;
        };
        let (done, is_done) = mpsc::channel();
        shard.push_unbounded(ToShard::Restore(std::mem::take(gathered), done));
        self.wait(at, is_done, most);
    }

    fn wait(&mut self, at: usize, is_done: mpsc::Receiver<()>, most: usize) {
        let Some(under_way) = self.under_way.get_mut(at) else {
            return;
        };
        under_way.push_back(is_done);
        while under_way.len() >= most
            && let Some(is_done) = under_way.pop_front()
        {
            // Nothing is ever sent: the other end is dropped when it is done.
            let _ = is_done.recv();
        }
    }

    fn give_group(&mut self, group: RestoredGroup) {
        let owner = self.shared.owner_of(&group.name, &group.filter);
        let at = usize::from(owner);
        if let Some(shard) = self.shards.get(at) {
            let (done, is_done) = mpsc::channel();
            shard.push_unbounded(ToShard::RestoreGroup(Box::new(group), done));
            self.wait(at, is_done, RESTORES_UNDER_WAY);
        }
    }

    fn finish(mut self) -> u64 {
        for at in 0..self.shards.len() {
            self.send(at, 1);
        }
        self.count
    }
}

impl DataPlane {
    /// Starts the shards, and puts into them what the store has kept. `before` is called before
    /// the first of their threads runs.
    pub(crate) fn start(
        config: &Config,
        shared: Shared,
        data_dir: Option<&Path>,
        stopper: &Stopper,
        before: impl FnOnce(&Shared, &[Sender<ToShard<Stream>>]),
    ) -> Result<Self, StartError> {
        let mut opened = data_dir
            .filter(|_| config.strongest_durability() != Durability::None)
            .map(|data_dir| Opened::open(data_dir, config))
            .transpose()?;
        let sender = opened.as_ref().map(|opened| opened.receiver.sender());
        let recovery = opened.as_mut().map(Opened::begin).transpose();
        let recovery = recovery.map_err(|error| Self::refuse(data_dir, &error))?;
        let shared = match &recovery {
            Some(recovery) => shared.with_store(&config.store, recovery.first_free, recovery.node),
            None => shared,
        };
        let mut plane = Self {
            shared: Arc::new(shared),
            shards: Vec::new(),
            threads: Vec::new(),
            store: None,
        };
        let started = plane.start_shards(config, sender.as_ref(), stopper, before);
        if let Err(error) = started {
            plane.abort();
            return Err(StartError::Thread(error));
        }
        let Some(recovery) = recovery else {
            return Ok(plane);
        };
        let keeper = match plane.recover(recovery) {
            Ok(keeper) => keeper,
            Err(error) => {
                plane.abort();
                return Err(Self::refuse(data_dir, &error));
            }
        };
        if let (Some(opened), Some(sender)) = (opened, sender) {
            let Opened {
                place,
                engine,
                backend,
                receiver,
                clock,
                ..
            } = opened;
            let parts = StoreParts {
                disk: place,
                engine,
                keeper,
                clock,
                interval_ms: u64::from(config.store.interval_ms),
                receiver,
                shards: plane.shards.clone(),
                figures: Arc::clone(&plane.shared.store),
            };
            let options = reactor_options(&config.budgets);
            let thread = spawn("store".to_owned(), stopper, move || {
                run_store(backend, options, parts)
            });
            match thread {
                Ok(thread) => {
                    let keeping = sender.clone();
                    let keep = move |change| keeping.push_unbounded(ToStore::Ban(change));
                    plane.shared.defence.keep_by(keep);
                    plane.store = Some((sender, vec![thread]));
                }
                Err(error) => {
                    plane.abort();
                    return Err(StartError::Thread(error));
                }
            }
        }
        Ok(plane)
    }

    /// Where the store's thread gets its mail, if there is a store.
    pub(crate) fn store_sender(&self) -> Option<Sender<ToStore>> {
        self.store.as_ref().map(|(sender, _)| sender.clone())
    }

    fn refuse(data_dir: Option<&Path>, error: &FormatError) -> StartError {
        StartError::Store {
            path: data_dir.map(|path| path.join("store")).unwrap_or_default(),
            why: error.to_string(),
        }
    }

    fn start_shards(
        &mut self,
        config: &Config,
        store: Option<&Sender<ToStore>>,
        stopper: &Stopper,
        before: impl FnOnce(&Shared, &[Sender<ToShard<Stream>>]),
    ) -> io::Result<()> {
        // Everything that can fail is made before the first thread runs.
        let parts = (0..self.shared.shards)
            .map(|_| ShardParts::new())
            .collect::<io::Result<Vec<_>>>()?;
        self.shards = parts.iter().map(ShardParts::sender).collect();
        before(&self.shared, &self.shards);
        for (me, parts) in parts.into_iter().enumerate() {
            let me = u16::try_from(me).unwrap_or(0);
            let (shared, shards) = (Arc::clone(&self.shared), self.shards.clone());
            let options = shard_options(&config.budgets);
            let store = store.cloned();
            let thread = spawn(format!("shard-{me}"), stopper, move || {
                run_shard(me, options, parts, shared, shards, store)
            })?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// Reads everything back, session by session.
    fn recover(
        &self,
        mut recovery: Recovery<'_, DiskEngine>,
    ) -> Result<crate::store::Keeper, FormatError> {
        let is_unclean = recovery.is_unclean;
        let mut hand = Hand::new(&self.shared, &self.shards);
        recovery.sessions(|session| hand.give(session))?;
        recovery.groups(|group| hand.give_group(group))?;
        let sessions = hand.finish();
        // Groups whose own record was lost have new numbers.
        let numbers = &self.shared.numbers;
        numbers.fetch_max(recovery.first_free, Ordering::Relaxed);
        let mut retained = 0_u64;
        let mut not_restored = 0_u64;
        let strongest = self.shared.strongest();
        recovery.retained(|publication| {
            // Who has published it is known no more.
            let publication = publication.kept_as(strongest);
            let kept = Topic::parse(publication.view().topic(), &self.shared.topic_limits)
                .is_ok_and(|topic| {
                    self.shared
                        .retained
                        .store(&topic, publication.clone())
                        .is_ok()
                });
            retained += u64::from(kept);
            if kept && retained.is_multiple_of(RESTORED_A_LINE) {
                tracing::info!(event = "store.restoring", retained);
            }
            not_restored += u64::from(!kept);
        })?;
        let bans = self.recover_bans(&mut recovery)?;
        for shard in &self.shards {
            shard.push_unbounded(ToShard::Restored);
        }
        let now_aside = recovery.quarantined;
        let (keeper, aside) = recovery.finish()?;
        self.shared.store.set_quarantined(aside);
        tracing::info!(
            event = "store.restored",
            sessions,
            retained,
            bans,
            after_crash = is_unclean
        );
        if not_restored > 0 {
            tracing::warn!(
                event = "store.not_restored",
                retained = not_restored,
                "retained messages of an earlier run found no room"
            );
        }
        if aside > 0 {
            tracing::error!(
                event = "store.quarantine",
                records = aside,
                new = now_aside,
                "records that do not make sense are in quarantine; the rest is in service"
            );
        }
        Ok(keeper)
    }

    /// Goes on with the bans of earlier runs. Returns how many there are.
    fn recover_bans(&self, recovery: &mut Recovery<'_, DiskEngine>) -> Result<u64, FormatError> {
        let now_ms = recovery.now_ms();
        let (mut known, mut no_room) = (0_u64, 0_u64);
        recovery.bans(|who, ban, over_for_ms| {
            let defence = &self.shared.defence;
            let resumed = defence.resume(who, &ban, over_for_ms, now_ms);
            known += u64::from(resumed == Resumed::Known);
            no_room += u64::from(resumed == Resumed::NoRoom);
            resumed != Resumed::Over
        })?;
        if no_room > 0 {
            tracing::warn!(
                event = "store.not_restored",
                bans = no_room,
                "bans of an earlier run found no room (defence.bans)"
            );
        }
        Ok(known)
    }

    /// Waits for the shards, which have been told to end, and then ends the store.
    pub(crate) fn join(&mut self) -> Result<(), RunError> {
        let shards = join(&mut self.threads);
        let store = match self.store.take() {
            Some((store, mut threads)) => {
                store.push_unbounded(ToStore::Stop);
                join(&mut threads)
            }
            None => Ok(()),
        };
        shards.and(store)
    }

    /// Ends what has been started, for a start that failed half-way.
    pub(crate) fn abort(&mut self) {
        for shard in &self.shards {
            shard.push_unbounded(ToShard::Abort);
        }
        // They were idle; how they ended adds nothing to what is reported.
        let _ = self.join();
    }
}

/// What a shard is made of before its thread runs.
struct ShardParts {
    backend: Epoll,
    receiver: Receiver<ToShard<Stream>>,
    timer: TimerFd,
}

impl ShardParts {
    fn new() -> io::Result<Self> {
        let mut backend = Epoll::new()?;
        let (_, receiver) = mailbox(HANDOVERS, backend.waker());
        let timer = TimerFd::new()?;
        // Registered once, edge-triggered, and never read (DECISIONS 5).
        backend.add_source(timer.as_fd(), TIMER, Interest::READABLE, Mode::Edge)?;
        Ok(Self {
            backend,
            receiver,
            timer,
        })
    }

    fn sender(&self) -> Sender<ToShard<Stream>> {
        self.receiver.sender()
    }
}

fn shard_options(budgets: &Budgets) -> ReactorOptions {
    ReactorOptions {
        spin_ns_max: u64::from(budgets.spin_us) * 1_000,
        ..reactor_options(budgets)
    }
}

fn run_shard(
    me: u16,
    options: ReactorOptions,
    parts: ShardParts,
    shared: Arc<Shared>,
    shards: Vec<Sender<ToShard<Stream>>>,
    store: Option<Sender<ToStore>>,
) -> io::Result<()> {
    this_thread_is_a_shard();
    // Where it shares a processor, what it is woken for should not wait until the slice of a
    // handshake or a hash has ended. A wish: without it the scheduler's own fairness has to do.
    let _ = affinity::request_slice(SLICE);
    let _closing = CloseGate(Arc::clone(&shared), me);
    let ShardParts {
        mut backend,
        receiver,
        timer,
    } = parts;
    let now_ns = backend.now_ns();
    let mut reactor = Reactor::new(backend, options);
    let mut server =
        ShardServer::<Epoll, _>::new(me, shared, receiver, shards, store, timer, now_ns);
    reactor.run(&mut server, |server| server.is_done())?;
    let counters = server.counters();
    tracing::debug!(
        event = "shard.stopped",
        shard = me,
        published = counters.publishes_received,
        delivered = counters.publishes_sent,
        dropped = counters.dropped(),
        ?counters
    );
    Ok(())
}

/// Turns away the program's publishers when a shard has ended, also by a panic.
struct CloseGate(Arc<Shared>, u16);

impl Drop for CloseGate {
    fn drop(&mut self) {
        if let Some(gate) = self.0.gates.get(usize::from(self.1)) {
            gate.close();
        }
    }
}

fn run_store(
    backend: Epoll,
    options: ReactorOptions,
    parts: StoreParts<DiskPlace, Stream>,
) -> io::Result<()> {
    // Messages that nobody waits for are to be moved before this.
    let _ = affinity::lower_priority(STORE_NICENESS);
    let mut server = StoreServer::new(parts);
    let mut reactor = Reactor::<Epoll>::new(backend, options);
    reactor.run(&mut server, |server| server.is_done())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_spin_as_configured_and_nobody_else_does() {
        assert_eq!(shard_options(&Budgets::default()).spin_ns_max, 0);
        let budgets = Budgets {
            spin_us: 50,
            ..Budgets::default()
        };
        assert_eq!(shard_options(&budgets).spin_ns_max, 50_000);
        assert_eq!(reactor_options(&budgets).spin_ns_max, 0);
    }
}
