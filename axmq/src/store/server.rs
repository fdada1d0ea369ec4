//! The store's thread: takes batches of ops from the shards, writes them, syncs for all at once,
//! and answers. It runs on the same reactor as shards and fronts, and sleeps when nothing comes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use pollio::{Backend, Budget, Io, Progress, Readiness, Receiver, Sender, Server, Token};

use super::engine::{Engine, EngineError, Snapshot, Space, WriteBatch};
use super::figures::StoreFigures;
use super::keeper::Keeper;
use super::op::{Health, OpBatch, Page, Stored, ToStore};
use super::record::{key, seal};
use super::time::WallClock;
use crate::defence::BanChange;
use crate::message::ToShard;

/// How long the store waits before it tries again what the disk did not take.
const RETRY_NS: u64 = 1_000_000_000;

const NS_PER_MS: u64 = 1_000_000;

/// The machine below the store.
pub(crate) trait Disk: Send {
    type Engine: Engine;

    /// Opens the engine, also anew after an error.
    fn open(&mut self) -> Result<Self::Engine, EngineError>;

    /// Whether so little room is left that nothing is to be written.
    fn is_full(&mut self) -> bool;
}

/// What one shard has sent and not been told about.
#[derive(Debug, Default)]
struct Lane {
    /// The newest batch that was taken in.
    taken: u64,
    /// The newest one that the shard knows to be durable.
    told: u64,
    /// Credit to be given back with the next sync.
    cost: u64,
    pages: Vec<Page>,
}

/// What a store is made of before its thread runs.
#[derive(Debug)]
pub(crate) struct StoreParts<D: Disk, S> {
    pub(crate) disk: D,
    pub(crate) engine: D::Engine,
    pub(crate) keeper: Keeper,
    pub(crate) clock: WallClock,
    /// What was acknowledged is durable after about so long.
    pub(crate) interval_ms: u64,
    pub(crate) receiver: Receiver<ToStore>,
    pub(crate) shards: Vec<Sender<ToShard<S>>>,
    pub(crate) figures: Arc<StoreFigures>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct StoreServer<D: Disk, S> {
    disk: D,
    /// `None` after an error, until it is opened anew.
    engine: Option<D::Engine>,
    keeper: Keeper,
    clock: WallClock,
    interval_ns: u64,
    receiver: Receiver<ToStore>,
    shards: Vec<Sender<ToShard<S>>>,
    figures: Arc<StoreFigures>,
    mail: Vec<ToStore>,
    /// Came, and is not taken in.
    batches: VecDeque<OpBatch>,
    /// The same of bans, which have no shard.
    bans: Vec<BanChange>,
    /// Who wants the store as it is.
    snapshots: Vec<SyncSender<Box<dyn Snapshot>>>,
    /// Written and not synced: written again where the engine is opened anew.
    unsynced: Vec<WriteBatch>,
    lanes: Vec<Lane>,
    /// When the next sync is due.
    sync_at_ns: Option<u64>,
    /// Somebody waits for it.
    is_urgent: bool,
    health: Health,
    retry_at_ns: Option<u64>,
    stops: bool,
    is_done: bool,
}

/// Writes what is pending, and remembers it until the next sync.
fn write_to<E: Engine>(
    engine: &mut E,
    pending: &mut WriteBatch,
    unsynced: &mut Vec<WriteBatch>,
) -> Result<(), EngineError> {
    if !pending.is_empty() {
        engine.write(pending)?;
        unsynced.push(std::mem::take(pending));
    }
    Ok(())
}

impl<D: Disk, S: Send> StoreServer<D, S> {
    pub(crate) fn new(parts: StoreParts<D, S>) -> Self {
        let StoreParts {
            disk,
            engine,
            keeper,
            clock,
            interval_ms,
            receiver,
            shards,
            figures,
        } = parts;
        let lanes = shards.iter().map(|_| Lane::default()).collect();
        Self {
            disk,
            engine: Some(engine),
            keeper,
            clock,
            // Shards send after four fifths of it.
            interval_ns: interval_ms * NS_PER_MS / 5,
            receiver,
            shards,
            figures,
            mail: Vec::new(),
            batches: VecDeque::new(),
            bans: Vec::new(),
            snapshots: Vec::new(),
            unsynced: Vec::new(),
            lanes,
            sync_at_ns: None,
            is_urgent: false,
            health: Health::Well,
            retry_at_ns: None,
            stops: false,
            is_done: false,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    fn lane(&mut self, shard: u16) -> Option<&mut Lane> {
        self.lanes.get_mut(usize::from(shard))
    }

    /// Does what there is to do; called at the end of each turn.
    fn work(&mut self, now_ns: u64) {
        if self.health == Health::Failed {
            self.snapshots.clear();
            self.discard();
            return;
        }
        if let Some(retry_at_ns) = self.retry_at_ns {
            if now_ns < retry_at_ns && !self.stops {
                return;
            }
            self.retry_at_ns = None;
        }
        match self.take_in() {
            Ok(()) => {
                self.give_snapshots();
                if !self.unsynced.is_empty() && self.sync_at_ns.is_none() {
                    self.sync_at_ns = Some(now_ns + self.interval_ns);
                }
                let is_due = self.sync_at_ns.is_some_and(|at_ns| at_ns <= now_ns);
                if is_due || self.is_urgent || self.stops {
                    self.sync(now_ns);
                }
            }
            Err(error) => self.put_off(&error, now_ns),
        }
    }

    /// Opens the engine where an error has closed it, and takes in what has come.
    fn take_in(&mut self) -> Result<(), EngineError> {
        let has_come = !self.batches.is_empty() || !self.bans.is_empty();
        if !has_come && self.keeper.is_idle() && self.engine.is_some() {
            return Ok(());
        }
        if self.disk.is_full() {
            return Err(EngineError::Full);
        }
        let engine = match &mut self.engine {
            Some(engine) => engine,
            closed => {
                let mut engine = self.disk.open()?;
                // Putting and removing twice does no harm.
                for batch in &self.unsynced {
                    engine.write(batch)?;
                }
                closed.insert(engine)
            }
        };
        while let Some(batch) = self.batches.front_mut() {
            let Some(lane) = self.lanes.get_mut(usize::from(batch.from)) else {
                self.batches.pop_front();
                continue;
            };
            self.keeper.apply(batch, engine)?;
            lane.taken = batch.number;
            lane.cost += batch.cost;
            self.is_urgent |= batch.is_urgent;
            self.batches.pop_front();
        }
        for change in self.bans.drain(..) {
            self.keeper.apply_ban(&change);
        }
        write_to(engine, self.keeper.pending(), &mut self.unsynced)?;
        let lanes = &mut self.lanes;
        self.keeper.read_pages(engine, |shard, page| {
            if let Some(lane) = lanes.get_mut(usize::from(shard)) {
                lane.pages.push(page);
            }
        })?;
        // What could not be read has gone to quarantine.
        write_to(engine, self.keeper.pending(), &mut self.unsynced)?;
        self.figures.add_corrupt(self.keeper.take_corrupt());
        if self.health != Health::Well {
            self.set_health(Health::Well);
            tracing::warn!(event = "store.resumed", "the store goes on");
        }
        Ok(())
    }

    fn give_snapshots(&mut self) {
        if let Some(engine) = &self.engine {
            for asker in self.snapshots.drain(..) {
                // Who asked may have given up.
                let _ = asker.try_send(engine.snapshot());
            }
        }
    }

    /// The disk does not take it: nothing is lost, and all of it is tried again.
    fn put_off(&mut self, error: &EngineError, now_ns: u64) {
        self.retry_at_ns = Some(now_ns + RETRY_NS);
        if !matches!(error, EngineError::Full) {
            // What it has in memory is not to be trusted any more.
            self.engine = None;
        }
        if self.stops {
            tracing::error!(event = "store.lost", %error, "what the disk did not take is lost");
            self.is_done = true;
        }
        if self.health == Health::Well {
            self.set_health(Health::Waits);
            tracing::error!(
                event = "store.waits",
                %error,
                "the store cannot write: messages for kept sessions are held back until it can"
            );
        }
    }

    /// Makes everything written durable, and tells who waits.
    fn sync(&mut self, now_ns: u64) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        if self.stops {
            let value = seal(Space::Meta, key::STOPPED, |out| {
                let stopped_ms = self.clock.to_wall(now_ns / NS_PER_MS);
                out.extend_from_slice(&stopped_ms.to_be_bytes());
            });
            let mut batch = WriteBatch::default();
            batch.put(Space::Meta, key::STOPPED, value);
            if let Err(error) = engine.write(&batch) {
                tracing::error!(event = "store.failed", %error, "cannot note this stop");
            }
        }
        let synced = engine.sync();
        self.sync_at_ns = None;
        self.is_urgent = false;
        match synced {
            Ok(()) => {
                let batches = std::mem::take(&mut self.unsynced);
                self.figures.synced(batches.len() as u64, engine.bytes());
                self.figures.set_memory_bytes(engine.memory_bytes());
                self.tell();
                self.is_done |= self.stops;
            }
            Err(error) => self.fail(&error),
        }
    }

    /// A sync has failed: what the disk has, nobody knows, and asking again would only pretend.
    fn fail(&mut self, error: &EngineError) {
        self.engine = None;
        self.set_health(Health::Failed);
        tracing::error!(
            event = "store.failed",
            %error,
            "the disk has failed to sync: nothing is stored any more, and QoS 1 and 2 messages for \
             kept sessions are refused; find out why, then start the broker anew"
        );
        self.is_done |= self.stops;
    }

    /// Nothing is stored any more. Credit comes back, since nobody is to be held for ever.
    fn discard(&mut self) {
        self.bans.drain(..).for_each(BanChange::lose);
        for batch in std::mem::take(&mut self.batches) {
            if let Some(lane) = self.lane(batch.from) {
                lane.cost += batch.cost;
            }
        }
        self.tell();
        self.is_done |= self.stops;
    }

    fn set_health(&mut self, health: Health) {
        self.health = health;
        self.figures.set_health(health);
        // What is not on disk keeps its credit.
        for (lane, shard) in self.lanes.iter().zip(&self.shards) {
            shard.push_unbounded(ToShard::Stored(Stored {
                up_to: lane.told,
                cost: 0,
                pages: Vec::new(),
                health,
            }));
        }
    }

    fn tell(&mut self) {
        for at in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(at) else {
                continue;
            };
            let shard = u16::try_from(at).unwrap_or(u16::MAX);
            let up_to = match (self.health, self.keeper.first_incomplete(shard)) {
                (Health::Failed, _) => lane.told,
                (_, Some(first)) => lane.taken.min(first - 1),
                (_, None) => lane.taken,
            };
            if up_to != lane.told || lane.cost != 0 || !lane.pages.is_empty() {
                lane.told = up_to;
                self.tell_one(at);
            }
        }
    }

    fn tell_one(&mut self, at: usize) {
        let (Some(lane), Some(shard)) = (self.lanes.get_mut(at), self.shards.get(at)) else {
            return;
        };
        shard.push_unbounded(ToShard::Stored(Stored {
            up_to: lane.told,
            cost: std::mem::take(&mut lane.cost),
            pages: std::mem::take(&mut lane.pages),
            health: self.health,
        }));
    }
}

impl<B, D> Server<B> for StoreServer<D, B::Stream>
where
    B: Backend,
    B::Stream: Send,
    D: Disk,
{
    fn on_ready(
        &mut self,
        _io: &mut Io<'_, B>,
        _token: Token,
        _readiness: Readiness,
        _budget: &Budget,
    ) -> Progress {
        Progress::Done
    }

    fn on_messages(&mut self, _io: &mut Io<'_, B>) {
        self.receiver.drain_into(&mut self.mail);
        for message in self.mail.drain(..) {
            match message {
                ToStore::Batch(batch) => self.batches.push_back(batch),
                ToStore::Ban(change) => self.bans.push(change),
                ToStore::Snapshot(asker) => self.snapshots.push(asker),
                ToStore::Stop => self.stops = true,
            }
        }
    }

    fn next_deadline(&mut self) -> Option<u64> {
        if self.health == Health::Failed {
            return None;
        }
        match (self.retry_at_ns, self.sync_at_ns) {
            // Until then nothing is done.
            (Some(retry_at_ns), _) => Some(retry_at_ns),
            (None, sync_at_ns) => sync_at_ns,
        }
    }

    fn flush(&mut self, io: &mut Io<'_, B>) {
        self.work(io.now_ns());
    }
}
