//! Asking a running broker, and telling it: status, clients, last disconnects, traces, reloads.
//!
//! [`Control`] does the work, from any thread. `axmq`'s sub-commands reach it over a unix socket
//! in the data directory (`server`, `client`); other interfaces call the same functions. A question
//! for a shard travels by its mailbox and is answered between two turns: nobody waits in a shard.

mod bans;
mod client;
mod memory;
mod revoked;
mod server;
mod show;
mod tls;
mod types;
mod wire;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pollio::Sender;
use pollio::net::Stream;

pub(crate) use self::bans::clock_ms;
pub use self::client::{CommandError, Format, run_command};
pub use self::memory::{MemoryKind, MemoryUse};
use self::revoked::Ending;
pub(crate) use self::server::ControlServer;
pub use self::server::SOCKET;
pub use self::types::{
    BackupMade, BanLine, BansPage, CertificateStatus, ClientDetail, ClientLine, ClientsPage,
    Cursor, DisconnectLine, Reloaded, Status, StoreStatus, SubscriptionLine, TraceLine,
};
use crate::auth::Guard;
use crate::config::{Config, Endpoint};
use crate::counters::{self, Counters};
use crate::message::{Answer, AnswerTo, Ask, Query, ToFront, ToShard, TraceSink};
use crate::shard::{CLIENTS_A_PAGE, RECORDS_AN_ANSWER, Shared};
use crate::store::op::ToStore;
use crate::store::{self, CopyError};

/// A shard answers between two turns, which take milliseconds at most. One that does not in this
/// time is stuck, or gone with a broker that stops.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines that wait for a reader of a trace; more are lost and counted.
const TRACE_LINES: usize = 4_096;

/// Why a question got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ControlError {
    /// A shard did not answer in five seconds: it is stuck, or the broker stops.
    NoAnswer {
        /// The shard.
        shard: usize,
    },
    /// The new configuration is refused; nothing has changed.
    Refused(String),
    /// There is no backup, and why.
    Backup(String),
    /// A ban that cannot be set or lifted, and why.
    Ban(String),
    /// This broker was started from values and does not know where to read others.
    NothingToReload,
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { shard } => write!(
                f,
                "shard {shard} did not answer within {} s; is the broker stopping?",
                PATIENCE.as_secs()
            ),
            Self::Refused(why) => {
                write!(
                    f,
                    "the new configuration is refused, and nothing has changed\n{why}"
                )
            }
            Self::Ban(why) | Self::Backup(why) => f.write_str(why),
            Self::NothingToReload => {
                f.write_str("this broker does not know where its configuration comes from")
            }
        }
    }
}

impl std::error::Error for ControlError {}

/// Where a reload finds the configuration, and what outside the broker follows it.
pub trait Reload: Send {
    /// Reads the whole configuration anew.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for people; the running broker is left as it is.
    fn load(&mut self) -> Result<Config, String>;

    /// The broker goes on under `config`; called only after a change.
    fn applied(&mut self, config: &Config);
}

/// A handle on a running broker, for any thread. Clones are the same handle.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    shards: Vec<Sender<ToShard<Stream>>>,
    fronts: Vec<Sender<ToFront>>,
    store: Option<Sender<ToStore>>,
    addresses: Vec<Endpoint>,
    started: Instant,
    traces: AtomicU64,
    /// What the process had before anybody came.
    base: OnceLock<memory::Base>,
    state: Mutex<State>,
}

/// What a reload changes.
struct State {
    shared: Arc<Shared>,
    running: Config,
    source: Option<Box<dyn Reload>>,
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("addresses", &self.0.addresses)
            .finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn new(
        shards: Vec<Sender<ToShard<Stream>>>,
        fronts: Vec<Sender<ToFront>>,
        store: Option<Sender<ToStore>>,
        addresses: Vec<Endpoint>,
        shared: Arc<Shared>,
        running: Config,
    ) -> Self {
        let control = Self(Arc::new(Inner {
            shards,
            fronts,
            store,
            addresses,
            started: Instant::now(),
            traces: AtomicU64::new(0),
            base: OnceLock::new(),
            state: Mutex::new(State {
                shared,
                running,
                source: None,
            }),
        }));
        let base = control.look_at_base();
        control.0.base.get_or_init(|| base);
        control
    }

    /// Says where [`reload`](Self::reload) finds the configuration.
    pub fn set_source(&self, source: Box<dyn Reload>) {
        self.state().source = Some(source);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic leaves the old state or the new one, both whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.state().shared)
    }

    /// Hands a question to one shard, and the answer to `reply`, which the shard's thread calls and
    /// which must not block. For interfaces that have better to do than to wait.
    fn ask_with(&self, shard: usize, query: Query, reply: impl FnOnce(Answer) + Send + 'static) {
        if let Some(sender) = self.0.shards.get(shard) {
            let answer_to = AnswerTo(Box::new(reply));
            sender.push_unbounded(ToShard::Ask(Ask { query, answer_to }));
        }
    }

    fn ask(&self, shard: usize, query: Query) -> Result<Answer, ControlError> {
        let (sender, answer) = channel();
        self.ask_with(shard, query, move |answer| {
            // Nobody waits any more where it came too late.
            let _ = sender.send(answer);
        });
        answer
            .recv_timeout(PATIENCE)
            .map_err(|_| ControlError::NoAnswer { shard })
    }

    fn shard_of(&self, client_id: &str) -> usize {
        self.shared().shard_of(client_id).into()
    }

    /// The broker as a whole. Asks no shard: each stores its numbers at the end of a turn.
    #[must_use]
    pub fn status(&self) -> Status {
        let shared = self.shared();
        let (counters, gauges) = counters::sum(&shared.figures);
        let guard = shared.hooks.guard.as_deref();
        let asked = guard.into_iter().flat_map(Guard::http_figures);
        let named = Counters::NAMES.iter().zip(counters.values());
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.0.started.elapsed().as_secs(),
            listeners: self.0.addresses.iter().map(ToString::to_string).collect(),
            shards: self.0.shards.len() as u64,
            connections: shared.connections(),
            connections_max: shared.limits.connections,
            clients_connected: gauges.clients_connected,
            sessions: gauges.sessions,
            subscriptions: gauges.subscriptions,
            retained_messages: shared.retained.len(),
            retained_bytes: shared.retained.bytes(),
            memory_bytes: shared.memory.used_bytes(),
            memory_bytes_max: shared.memory.limit_bytes(),
            memory_shortage: shared.memory.shortage().name().to_owned(),
            memory: None,
            store: shared.has_store.then(|| StoreStatus {
                node: shared
                    .node
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                durability: shared.durability.name().to_owned(),
                has_other_durabilities: shared.promises.is_some(),
                health: shared.store.health().name().to_owned(),
                bytes: shared.store.bytes(),
                syncs: shared.store.syncs(),
                writes: shared.store.writes(),
                quarantined: shared.store.quarantined(),
            }),
            certificates: self.certificates(),
            counters: named
                .map(|(name, value)| (*name, value))
                .chain([
                    ("accepting_held", shared.times_accepting_held()),
                    (
                        "accepting_held_memory",
                        shared.memory.times_accepting_held(),
                    ),
                ])
                .chain([("rates_without_user", shared.users.times_alone())])
                .chain(shared.defence.figures())
                .chain(asked)
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
        }
    }

    /// A page of at most `most` clients, and at most a thousand. A page may be empty and not the
    /// last: one looks at a bounded part of the table.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub fn clients(&self, from: Cursor, most: u32) -> Result<ClientsPage, ControlError> {
        let mut page = ClientsPage::default();
        let mut next = Some(from);
        let most = most.clamp(1, CLIENTS_A_PAGE);
        // One shard a step, so that a page over many small shards is full as well.
        while let Some(cursor) = next {
            let left = most.saturating_sub(u32::try_from(page.clients.len()).unwrap_or(u32::MAX));
            if left == 0 || usize::from(cursor.shard) >= self.0.shards.len() {
                break;
            }
            let query = Query::Clients {
                from: cursor.slot,
                most: left,
            };
            let Answer::Clients(part) = self.ask(cursor.shard.into(), query)? else {
                break;
            };
            page.clients.extend(part.clients);
            next = part.next.or_else(|| {
                Some(Cursor {
                    shard: cursor.shard.saturating_add(1),
                    slot: 0,
                })
            });
            if part.next.is_some() {
                break;
            }
        }
        page.next = next.filter(|cursor| usize::from(cursor.shard) < self.0.shards.len());
        Ok(page)
    }

    /// One client; `None` where it has no session.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub fn client(&self, id: &str) -> Result<Option<ClientDetail>, ControlError> {
        match self.ask(self.shard_of(id), Query::Client { id: id.into() })? {
            Answer::Client(client) => Ok(client.map(|client| *client)),
            _ => Ok(None),
        }
    }

    /// Ends a client's connection: DISCONNECT 0x98 for 5.0, and its session is kept as after any
    /// other end. Whether it was connected.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub fn kick(&self, id: &str) -> Result<bool, ControlError> {
        let answer = self.ask(self.shard_of(id), Query::Kick { id: id.into() })?;
        Ok(matches!(answer, Answer::Done(true)))
    }

    /// How the last connections of clients ended, the latest first; or that of one client.
    ///
    /// # Errors
    ///
    /// [`ControlError::NoAnswer`].
    pub fn disconnects(
        &self,
        client: Option<&str>,
        most: u32,
    ) -> Result<Vec<DisconnectLine>, ControlError> {
        let most = most.min(RECORDS_AN_ANSWER);
        let shards = match client {
            Some(id) => self.shard_of(id)..self.shard_of(id) + 1,
            None => 0..self.0.shards.len(),
        };
        let mut lines = Vec::new();
        for shard in shards {
            let query = Query::Disconnects {
                client: client.map(Into::into),
                most,
            };
            if let Answer::Disconnects(part) = self.ask(shard, query)? {
                lines.extend(part);
            }
        }
        lines.sort_by_key(|line| line.ago_ms);
        lines.truncate(most as usize);
        Ok(lines)
    }

    /// Begins to write down each packet of a client, connected or not, until the trace is dropped.
    #[must_use]
    pub fn trace(&self, id: &str) -> Trace {
        let shard = self.shard_of(id);
        let number = self.0.traces.fetch_add(1, Ordering::Relaxed);
        let (sender, lines) = sync_channel(TRACE_LINES);
        if let Some(mailbox) = self.0.shards.get(shard) {
            mailbox.push_unbounded(ToShard::Trace(Box::new(TraceSink {
                id: number,
                client_id: id.into(),
                lines: sender,
                lost: 0,
            })));
        }
        Trace {
            control: self.clone(),
            shard,
            id: number,
            lines,
        }
    }

    /// Reads the whole configuration anew, checks it, and applies it or nothing of it.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`] and [`ControlError::NothingToReload`]; then nothing has changed.
    pub fn reload(&self) -> Result<Reloaded, ControlError> {
        let mut state = self.state();
        let source = state.source.as_mut().ok_or(ControlError::NothingToReload)?;
        let new = source.load().map_err(ControlError::Refused)?;
        let (reloaded, ending) = self.apply_to(&mut state, &new)?;
        drop(state);
        self.end_revoked(&ending)?;
        Ok(reloaded)
    }

    /// As [`reload`](Self::reload), with a configuration from code.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`]; then nothing has changed.
    pub fn apply(&self, new: &Config) -> Result<Reloaded, ControlError> {
        let (reloaded, ending) = self.apply_to(&mut self.state(), new)?;
        self.end_revoked(&ending)?;
        Ok(reloaded)
    }

    /// Reloads and logs what came of it; `by` says who asked.
    ///
    /// # Errors
    ///
    /// As for [`reload`](Self::reload).
    pub fn reload_and_log(&self, by: &str) -> Result<Reloaded, ControlError> {
        let result = self.reload();
        match &result {
            Ok(reloaded) => {
                tracing::info!(
                    event = "config.reloaded",
                    by,
                    changes = reloaded.changes.len()
                );
                for change in &reloaded.changes {
                    if change.needs_restart {
                        tracing::warn!(event = "config.changed", "{change}");
                    } else {
                        tracing::info!(event = "config.changed", "{change}");
                    }
                }
            }
            Err(error) => {
                // One event is one line; the first complaint is the one to begin with.
                let text = error.to_string();
                let text = text.lines().take(2).collect::<Vec<_>>().join(": ");
                tracing::error!(event = "config.refused", by, "{text}");
            }
        }
        result
    }

    /// What has changed, and by what connections are to be ended for it.
    fn apply_to(
        &self,
        state: &mut State,
        new: &Config,
    ) -> Result<(Reloaded, Ending), ControlError> {
        let violations = new.check();
        if !violations.is_empty() {
            let all: Vec<_> = violations.into_iter().map(|v| v.message).collect();
            return Err(ControlError::Refused(all.join("\n")));
        }
        let mut changes = state.running.changes(new);
        let guard = state.shared.hooks.guard.as_deref();
        let mut ending = Ending::default();
        let mut next = state.running.clone();
        next.take_over(new);
        // Read before anything changes, so that a wrong file changes nothing.
        let (tls, of_tls) = state.load_tls(&next)?;
        changes.extend(of_tls);
        if let Some(guard) = guard {
            let policy = guard.load(&next);
            let policy = policy.map_err(|error| ControlError::Refused(error.to_string()))?;
            changes.extend(guard.replace(Arc::clone(&policy)));
            ending.policy = next.auth.disconnect_revoked.then_some(policy);
        }
        ending.by_certificate = state.ends_certificates(&next, &tls);
        if changes.iter().any(|change| !change.needs_restart) {
            state.running = next;
            // First the log, so that the threads see its level when they look.
            if let Some(source) = &mut state.source {
                source.applied(&state.running);
            }
            let interval_s = state.running.broker.sys_interval_s;
            state.shared.sys.set_interval_s(interval_s);
            let limits = state.running.limits.clone();
            // The messages of the reload make turns, and the first turn looks.
            let memory_bytes = crate::memory::limit_bytes(limits.memory_bytes);
            state.shared.memory.set_limit(memory_bytes);
            let shared = state.shared.with_limits(limits);
            let shared = shared
                .with_rules(&state.running.listeners)
                .with_tls(tls)
                .with_protocol(state.running.protocol.clone())
                .with_defence(&state.running);
            self.go_on_by(state, shared);
        }
        Ok((Reloaded { changes }, ending))
    }

    /// Copies the store as it is at one moment into a folder, from which a broker can be started.
    /// The broker goes on meanwhile: this thread reads and writes, a record at a time.
    ///
    /// # Errors
    ///
    /// [`ControlError::Backup`].
    pub fn backup(&self, folder: &Path) -> Result<BackupMade, ControlError> {
        let refuse = |why: &str| ControlError::Backup(why.to_owned());
        let store = self.0.store.as_ref();
        let store = store.ok_or_else(|| refuse("this broker keeps nothing on disk"))?;
        let (sender, snapshot) = sync_channel(1);
        store.push_unbounded(ToStore::Snapshot(sender));
        let snapshot = snapshot
            .recv_timeout(PATIENCE)
            .map_err(|_| refuse("the store cannot be read now; `axmq status` says how it is"))?;
        let (records, bytes) = store::backup(&*snapshot, folder)
            .map_err(|error: CopyError| ControlError::Backup(error.to_string()))?;
        let folder = folder.display().to_string();
        tracing::info!(event = "store.backup", folder, records, bytes);
        Ok(BackupMade {
            folder,
            records,
            bytes,
        })
    }

    /// Whether every shard takes its mail, asked all at once and waited for no longer than
    /// `patience`. For a watchdog.
    #[must_use]
    pub fn is_alive(&self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        let (sender, answers) = channel();
        for shard in 0..self.0.shards.len() {
            let sender = sender.clone();
            self.ask_with(shard, Query::Ping, move |_| {
                let _ = sender.send(());
            });
        }
        drop(sender);
        (0..self.0.shards.len()).all(|_| {
            let left = until.saturating_duration_since(Instant::now());
            answers.recv_timeout(left).is_ok()
        })
    }
}

/// The packets of one client as they come and go. Ends when it is dropped.
#[derive(Debug)]
pub struct Trace {
    control: Control,
    shard: usize,
    id: u64,
    lines: Receiver<TraceLine>,
}

impl Trace {
    /// The next line; `Ok(None)` where none has come in this time.
    ///
    /// # Errors
    ///
    /// The broker has stopped.
    pub fn next(&self, patience: Duration) -> Result<Option<TraceLine>, TraceEnded> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(TraceEnded),
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Some(shard) = self.control.0.shards.get(self.shard) {
            shard.push_unbounded(ToShard::Untrace(self.id));
        }
    }
}

/// The broker has stopped, and the trace with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceEnded;

impl fmt::Display for TraceEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker has stopped")
    }
}

impl std::error::Error for TraceEnded {}
