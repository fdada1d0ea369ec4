//! A broker in a program of one's own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crate::auth::{Guard, Mechanism, Pool};
use crate::broker::{Broker, Running, Stopper};
use crate::config::{Config, Listener};
use crate::error::{RunError, StartError};
use crate::hooks::{Authenticate, Authorize, Hooks, OnConnection, OnPublish};

/// Puts a broker together: configuration, listeners and hooks. Made by [`Broker::builder`].
///
/// ```
/// use axmq::hooks::{Action, Client, Decision};
/// use axmq::Broker;
///
/// let running = Broker::builder()
///     .listen(([127, 0, 0, 1], 0))
///     .authorize(|client: &Client<'_>, action: &Action<'_>| match action {
///         Action::Publish { topic, .. } if topic.starts_with("private/") => Decision::Deny,
///         _ => Decision::Allow,
///     })
///     .start()?;
/// println!("clients connect to {}", running.listeners()[0]);
/// running.shutdown()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until it is started"]
#[derive(Default)]
pub struct Builder {
    config: Config,
    listeners: Vec<Listener>,
    listens_nowhere: bool,
    hooks: Hooks,
    stopper: Stopper,
}

impl Builder {
    /// Uses this configuration instead of the default one.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Listens on this address, port 0 for any free one. Those of the configuration are not used
    /// then; may be repeated.
    pub fn listen(mut self, address: impl Into<SocketAddr>) -> Self {
        self.listeners.push(Listener::new(address.into()));
        self
    }

    /// Listens nowhere: the broker serves its own program only.
    pub fn listen_nowhere(mut self) -> Self {
        self.listens_nowhere = true;
        self
    }

    /// Asks this hook who may connect, instead of what `[auth]` names. Without either, anybody may.
    ///
    /// It runs on the auth pool: `[broker] auth_threads` threads, with a queue of
    /// `[limits] auth_queue`. With it, listeners that other machines can reach need no
    /// `allow_anonymous`.
    pub fn authenticate(mut self, hook: impl Authenticate + 'static) -> Self {
        self.hooks.authenticate = Some(Arc::new(hook));
        self
    }

    /// Lets clients authenticate by this method (MQTT 5.0 section 4.12); may be repeated.
    ///
    /// Without [`authenticate`](Self::authenticate), clients that name no method are refused then.
    pub fn mechanism(mut self, mechanism: impl Mechanism + 'static) -> Self {
        self.hooks.add_mechanism(Arc::new(mechanism));
        self
    }

    /// Asks this hook what clients may do, instead of `auth.acl_file`. Without either, they may do
    /// everything.
    pub fn authorize(mut self, hook: impl Authorize + 'static) -> Self {
        self.hooks.set_authorize(Arc::new(hook));
        self
    }

    /// Shows this hook every message that a client publishes.
    pub fn on_publish(mut self, hook: impl OnPublish + 'static) -> Self {
        self.hooks.set_on_publish(Arc::new(hook));
        self
    }

    /// Tells this hook when clients come and go.
    pub fn on_connection(mut self, hook: impl OnConnection + 'static) -> Self {
        self.hooks.set_on_connection(Arc::new(hook));
        self
    }

    /// A handle that ends [`run`](Self::run), and [`Running::wait`], from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Starts the broker: binds its listeners and starts its threads.
    ///
    /// # Errors
    ///
    /// See [`StartError`]; then nothing is left behind.
    pub fn start(mut self) -> Result<Running, StartError> {
        if self.listens_nowhere {
            self.config.listeners.clear();
        } else if !self.listeners.is_empty() {
            self.config.listeners = self.listeners;
        }
        check(&self.config, self.listens_nowhere, &self.hooks)?;
        Guard::install(&self.config, &mut self.hooks).map_err(StartError::Auth)?;
        let slow_ns = u64::from(self.config.budgets.hook_us) * 1_000;
        self.hooks.set_clock(monotonic_ns, slow_ns);
        self.hooks.pool = Pool::new(self.config.limits.auth_queue as usize);
        self.hooks.waiting_pool = Pool::new(self.config.limits.auth_queue as usize);
        Broker::start_with(self.config, self.hooks, self.stopper)
    }

    /// Starts the broker, waits until [`Stopper::stop`] is called or it cannot go on, and ends it
    /// in good order.
    ///
    /// # Errors
    ///
    /// See [`RunError`]; a start that failed is [`RunError::Start`].
    pub fn run(self) -> Result<(), RunError> {
        let running = self.start().map_err(RunError::Start)?;
        let waited = running.wait();
        let ended = running.shutdown();
        waited.and(ended)
    }
}

/// What the loader checks for configurations that come from a file.
fn check(config: &Config, listens_nowhere: bool, hooks: &Hooks) -> Result<(), StartError> {
    let mut checked = config.clone();
    // What the check is about is that somebody has to log in.
    checked.broker.allow_anonymous |= hooks.authenticates();
    let mut found = checked.check();
    if listens_nowhere {
        found.retain(|violation| !violation.keys.contains(&("listener", "address")));
    }
    if found.is_empty() {
        Ok(())
    } else {
        Err(StartError::Config(found))
    }
}

/// For the time that hooks take.
fn monotonic_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let start = START.get_or_init(Instant::now);
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("listeners", &self.listeners)
            .field("hooks", &self.hooks)
            .finish_non_exhaustive()
    }
}
