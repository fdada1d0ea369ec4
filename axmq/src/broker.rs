//! The broker as a whole: its threads, and their start and stop in order.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use pollio::net::Stream;
use pollio::{Backend, Epoll, Reactor, ReactorOptions, Sender, affinity, mailbox};

use crate::bind::{Bound, bind};
use crate::builder::Builder;
use crate::config::{Budgets, Config, Endpoint};
use crate::control::{Control, ControlServer, clock_ms};
use crate::data_dir::DataDir;
use crate::data_plane::DataPlane;
use crate::defence::Kernel;
use crate::error::{RunError, StartError};
use crate::front::{FrontParts, FrontServer};
use crate::hooks::{HookCounters, Hooks};
use crate::local::Handle;
use crate::memory;
use crate::message::{ToFront, ToShard};
use crate::shard::Shared;
use crate::tls;
use crate::unix_socket::SocketFile;

/// Time for the shards to publish the wills that an orderly stop publishes.
const WILLS_MS: u64 = 1_000;
/// Time for the threads of the auth pool to end; one that sits in a look-up is left behind.
const AUTH_MS: u64 = 1_000;
/// By how much threads that let clients in are nicer than shards. A busy shard leaves them a tenth
/// of a processor: with more (five steps, a quarter), the scheduler makes a shard that has just
/// worked for long wait for a handshake (`docs/benchmarks/doors.md`).
const CONTROL_NICENESS: u8 = 10;

/// The broker, before it runs.
#[derive(Debug, Clone, Copy)]
pub struct Broker;

/// A broker that runs. Dropping it without [`shutdown`](Self::shutdown) leaves its threads running
/// until the process ends.
pub struct Running {
    // Before the directory's lock: the socket in it is removed while the lock is held.
    control_server: Option<ControlServer>,
    data_plane: DataPlane,
    kernel: Option<Kernel>,
    _data_dir: Option<DataDir>,
    control: Control,
    addresses: Vec<SocketAddr>,
    endpoints: Vec<Endpoint>,
    _files: Vec<SocketFile>,
    connections_max: u64,
    stopper: Stopper,
    fronts: Vec<Sender<ToFront>>,
    front_threads: Vec<JoinHandle<()>>,
}

/// Asks a running broker to stop, from any thread.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<(Mutex<Outcome>, Condvar)>);

#[derive(Debug, Default)]
struct Outcome {
    stops: bool,
    failure: Option<RunError>,
}

impl Stopper {
    /// Makes [`Running::wait`] return.
    pub fn stop(&self) {
        self.lock().stops = true;
        self.0.1.notify_all();
    }

    /// Waits so long; whether the broker has been asked to stop by then.
    pub(crate) fn stops_within(&self, time: Duration) -> bool {
        let is_on = |outcome: &mut Outcome| !outcome.stops && outcome.failure.is_none();
        let waited = self.0.1.wait_timeout_while(self.lock(), time, is_on);
        let (mut outcome, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !is_on(&mut outcome)
    }

    fn fail(&self, failure: RunError) {
        let mut outcome = self.lock();
        // A thread that ends because the broker stops is no failure, nor is the second one.
        if !outcome.stops && outcome.failure.is_none() {
            outcome.failure = Some(failure);
        }
        drop(outcome);
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker {
    /// Puts a broker together: configuration from code, hooks.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Starts a broker with this configuration, which [`load`](crate::config::load) or
    /// [`Config::check`] has accepted, and without hooks but those that `[auth]` asks for:
    /// binds its listeners and starts its threads.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; then nothing is left behind.
    pub fn start(config: Config) -> Result<Running, StartError> {
        Self::builder().config(config).start()
    }

    pub(crate) fn start_with(
        config: Config,
        hooks: Hooks,
        stopper: Stopper,
    ) -> Result<Running, StartError> {
        let data_dir = config
            .broker
            .data_dir
            .as_deref()
            .map(DataDir::open)
            .transpose()?;
        let tls = tls::load_all(&config.listeners).map_err(StartError::Tls)?;
        let front_count = config.broker.front_count();
        let shard_count = u16::try_from(config.broker.shard_count()).unwrap_or(1);
        let connections_max = config.limits.connections;
        let auth_threads = if hooks.authenticates() {
            config.broker.auth_thread_count()
        } else {
            0
        };
        // A reload may bring the service that they wait for; without it they sleep.
        let waiting_threads = match &hooks.chain {
            Some(_) if config.auth.http.url.is_some() => config.auth.http.threads,
            Some(_) => 1,
            None => 0,
        };
        let budgets = config.budgets.clone();
        let memory_bytes = memory::limit_bytes(config.limits.memory_bytes);
        let shared = Shared::new(config.limits.clone(), shard_count)
            .with_hooks(hooks)
            .with_protocol(config.protocol.clone())
            .with_memory(memory_bytes, memory::resident_bytes)
            .with_listeners(&config.listeners)
            .with_tls(tls)
            .with_defence(&config);
        shared.sys.set_interval_s(config.broker.sys_interval_s);
        let data_path = data_dir.as_ref().map(DataDir::path);
        let backends = backends(front_count).map_err(StartError::Thread)?;
        let (fronts, receivers): (Vec<_>, Vec<_>) = backends
            .iter()
            .map(|backend| mailbox(16, backend.waker()))
            .unzip();
        let told_fronts = fronts.clone();
        let before = |shared: &Shared, shards: &[Sender<ToShard<Stream>>]| {
            let banning = shards.to_vec();
            shared.defence.close_by(move |who| {
                for shard in &banning {
                    shard.push_unbounded(ToShard::Banned(who.clone()));
                }
            });
            let shards = shards.to_vec();
            let tell = move |shortage| {
                for shard in &shards {
                    shard.push_unbounded(ToShard::Memory(shortage));
                }
                for front in &told_fronts {
                    front.push_unbounded(ToFront::Memory(shortage));
                }
            };
            shared.memory.tell_by(tell, memory::release);
        };
        let mut data_plane = DataPlane::start(&config, shared, data_path, &stopper, before)?;
        let shared = Arc::clone(&data_plane.shared);
        let shards = data_plane.shards.clone();

        // What was kept is in its place: clients may come.
        let bound = match bind(&config, front_count) {
            Ok(bound) => bound,
            Err(error) => {
                stopper.stop();
                data_plane.abort();
                return Err(error);
            }
        };
        let Bound {
            sets: listeners,
            endpoints,
            configured,
            files,
        } = bound;
        let addresses = endpoints.iter().filter_map(|endpoint| match endpoint {
            Endpoint::Internet(address) => Some(*address),
            _ => None,
        });
        let addresses: Vec<SocketAddr> = addresses.collect();
        let mut front_parts = Vec::new();
        for ((listeners, backend), receiver) in listeners.into_iter().zip(backends).zip(receivers) {
            let parts = FrontParts {
                shared: Arc::clone(&shared),
                listeners,
                configured: configured.clone(),
                receiver,
                shards: shards.clone(),
                accepts_per_turn: budgets.accepts_per_turn as usize,
                connections_max,
                fronts: front_count as u64,
                pre_connect_bytes_max: shared.limits.pre_connect_bytes_total / front_count as u64,
            };
            front_parts.push((backend, parts));
        }

        let control = Control::new(
            shards,
            fronts.clone(),
            data_plane.store_sender(),
            endpoints.clone(),
            Arc::clone(&shared),
            config,
        );
        let mut running = Running {
            control_server: None,
            data_plane,
            kernel: None,
            _data_dir: data_dir,
            control,
            addresses,
            endpoints,
            _files: files,
            connections_max,
            stopper: stopper.clone(),
            fronts,
            front_threads: Vec::new(),
        };
        let auth = (0..auth_threads).map(|at| (format!("auth-{at}"), false));
        let waiting = (0..waiting_threads).map(|at| (format!("auth-http-{at}"), true));
        for (name, may_wait) in auth.chain(waiting) {
            let shared = Arc::clone(&shared);
            let thread = spawn(name, &stopper, move || {
                let _ = affinity::lower_priority(CONTROL_NICENESS);
                let hooks = &shared.hooks;
                let pool = if may_wait {
                    &hooks.waiting_pool
                } else {
                    &hooks.pool
                };
                pool.serve(hooks, may_wait);
                Ok(())
            });
            // Ended by the pool: a look-up that hangs must not hang the stop.
            if let Err(error) = thread {
                return Err(running.abort(error));
            }
        }
        for (at, (backend, parts)) in front_parts.into_iter().enumerate() {
            let options = reactor_options(&budgets);
            let thread = spawn(format!("front-{at}"), &stopper, move || {
                run_front(backend, options, parts)
            });
            match thread {
                Ok(thread) => running.front_threads.push(thread),
                Err(error) => return Err(running.abort(error)),
            }
        }
        if let Err(error) = running.watch_certificates(&stopper) {
            return Err(running.abort(error));
        }
        if let Some(data_dir) = &running._data_dir {
            // Without its socket the broker serves all the same.
            match ControlServer::start(data_dir.path(), running.control.clone()) {
                Ok(server) => running.control_server = Some(server),
                Err(error) => tracing::warn!(event = "control.failed", "{error}"),
            }
        }
        let mut ports: Vec<_> = running.addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let defence = &running.data_plane.shared.defence;
        running.kernel = defence.start_kernel(&ports, clock_ms());
        Ok(running)
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("endpoints", &self.endpoints)
            .field("shards", &self.shards())
            .field("fronts", &self.fronts.len())
            .finish_non_exhaustive()
    }
}

impl Running {
    /// Everything that is listened on, with real ports.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The internet addresses among [`endpoints`](Self::endpoints).
    #[must_use]
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.data_plane.shards.len()
    }

    /// The most connections at a time.
    #[must_use]
    pub fn connections_max(&self) -> u64 {
        self.connections_max
    }

    /// Publishes and subscribes from within this program.
    #[must_use]
    pub fn handle(&self) -> Handle {
        let plane = &self.data_plane;
        Handle::new(Arc::clone(&plane.shared), plane.shards.clone())
    }

    /// What calls of hooks have come to.
    #[must_use]
    pub fn hook_counters(&self) -> HookCounters {
        self.data_plane.shared.hooks.counters()
    }

    /// A handle for questions and changes, such as the list of clients or a reload.
    #[must_use]
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// A handle that stops this broker.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until the broker is asked to stop, or cannot go on.
    ///
    /// # Errors
    ///
    /// See [`RunError`].
    pub fn wait(&self) -> Result<(), RunError> {
        let outcome = self.stopper.lock();
        let mut outcome = self
            .stopper
            .0
            .1
            .wait_while(outcome, |outcome| {
                !outcome.stops && outcome.failure.is_none()
            })
            .unwrap_or_else(PoisonError::into_inner);
        outcome.failure.take().map_or(Ok(()), Err)
    }

    /// Ends in good order: no new connections, the wills that are due, DISCONNECT 0x8B for 5.0
    /// clients, and at most five seconds for clients to take what is queued for them.
    ///
    /// # Errors
    ///
    /// [`RunError::Panicked`] where a thread had ended by a panic.
    pub fn shutdown(mut self) -> Result<(), RunError> {
        self.stopper.stop();
        drop(self.control_server.take());
        for front in &self.fronts {
            front.push_unbounded(ToFront::Stop);
        }
        let fronts = join(&mut self.front_threads);
        if let Some(kernel) = self.kernel.take() {
            kernel.stop();
        }
        let (done, all_done) = mpsc::channel();
        for shard in &self.data_plane.shards {
            shard.push_unbounded(ToShard::PublishWills(done.clone()));
        }
        drop(done);
        // A shard that has died drops its end of the channel or never answers; either is waited
        // for no longer than this.
        for _ in &self.data_plane.shards {
            if all_done
                .recv_timeout(Duration::from_millis(WILLS_MS))
                .is_err()
            {
                break;
            }
        }
        for shard in &self.data_plane.shards {
            shard.push_unbounded(ToShard::Stop);
        }
        let shards = self.data_plane.join();
        close_pools(&self.data_plane.shared.hooks);
        fronts.and(shards)
    }

    /// Looks after the files of TLS, where there are any.
    fn watch_certificates(&self, stopper: &Stopper) -> io::Result<()> {
        let listeners = &self.data_plane.shared.listeners;
        if !listeners.iter().any(|listener| listener.tls().is_some()) {
            return Ok(());
        }
        self.control.log_certificates();
        let (control, until) = (self.control.clone(), stopper.clone());
        // It ends by the stop, which does not wait for it.
        spawn("tls-watch".to_owned(), stopper, move || {
            let _ = affinity::lower_priority(CONTROL_NICENESS);
            control.watch_certificates(&until);
            Ok(())
        })
        .map(drop)
    }

    /// Ends what has been started, for a start that failed half-way.
    fn abort(mut self, error: io::Error) -> StartError {
        self.stopper.stop();
        for front in &self.fronts {
            front.push_unbounded(ToFront::Stop);
        }
        // They were idle; how they ended adds nothing to what is reported.
        let _ = join(&mut self.front_threads);
        self.data_plane.abort();
        close_pools(&self.data_plane.shared.hooks);
        StartError::Thread(error)
    }
}

/// Ends the threads that authenticate, both kinds in the time of one.
fn close_pools(hooks: &Hooks) {
    hooks.waiting_pool.close(Duration::ZERO);
    hooks.pool.close(Duration::from_millis(AUTH_MS));
    hooks.waiting_pool.close(Duration::from_millis(AUTH_MS));
}

pub(crate) fn join(threads: &mut Vec<JoinHandle<()>>) -> Result<(), RunError> {
    let mut result = Ok(());
    for thread in threads.drain(..) {
        let name = thread.thread().name().unwrap_or("unnamed").to_owned();
        if thread.join().is_err() {
            result = Err(RunError::Panicked { thread: name });
        }
    }
    result
}

/// Reports how its thread ended, also by a panic.
struct Watch {
    stopper: Stopper,
    name: String,
    is_armed: bool,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_armed {
            self.stopper.fail(RunError::Panicked {
                thread: std::mem::take(&mut self.name),
            });
        }
    }
}

pub(crate) fn spawn(
    name: String,
    stopper: &Stopper,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let mut watch = Watch {
        stopper: stopper.clone(),
        name: name.clone(),
        is_armed: true,
    };
    std::thread::Builder::new().name(name).spawn(move || {
        let result = run();
        watch.is_armed = false;
        if let Err(source) = result {
            let thread = watch.name.clone();
            watch.stopper.fail(RunError::Io { thread, source });
        }
    })
}

/// Those of any thread. Only shards spin: what fronts and the store do is not urgent.
pub(crate) fn reactor_options(budgets: &Budgets) -> ReactorOptions {
    ReactorOptions {
        events_max: budgets.events_per_turn as usize,
        read_bytes_max: budgets.read_bytes as usize,
        read_packets_max: budgets.read_packets as usize,
        background_ns: u64::from(budgets.background_us) * 1_000,
        measure_busy: false,
        spin_ns_max: 0,
    }
}

fn backends(count: usize) -> io::Result<Vec<Epoll>> {
    (0..count).map(|_| Epoll::new()).collect()
}

fn run_front(
    mut backend: Epoll,
    options: ReactorOptions,
    parts: FrontParts<Epoll>,
) -> io::Result<()> {
    // Connects must not slow down the messages of those that are in. Without the right to do it
    // the scheduler's own fairness has to do.
    let _ = affinity::lower_priority(CONTROL_NICENESS);
    let now_ns = backend.now_ns();
    let mut server = FrontServer::new(parts, now_ns);
    server.start(&mut backend)?;
    let mut reactor = Reactor::new(backend, options);
    reactor.run(&mut server, |server| server.is_done())
}
