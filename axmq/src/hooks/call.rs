//! Calls of hooks: a panic is caught, the time is taken.
//!
//! The protocol core asks no clock. It calls hooks through [`Hooks`], which was given one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mqtt_codec::{PacketType, QoS, ReasonCode, Role};

use super::{
    Action, Authenticate, Authorize, Client, Decision, Draft, Ending, OnConnection, OnPublish,
    Verdict,
};
use crate::auth::{Guard, Mechanism, Pool};
use crate::publication::{Publication, View};

/// Nanoseconds of a clock that does not go back.
pub(crate) type Clock = fn() -> u64;

const NS_PER_S: u64 = 1_000_000_000;

/// What calls of hooks came to, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookCounters {
    /// Calls on a shard that took longer than the budget `hook_us`.
    pub slow: u64,
    /// Calls that ended by a panic.
    pub panicked: u64,
}

/// The hook panicked; what that was has been counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

/// What is told to the client whose hook broke.
const BROKEN: &str = "a hook of the broker has failed";
const NOT_AUTHORIZED: &str = "not authorized";

/// What becomes of a publish, once all hooks have been asked.
#[derive(Debug)]
pub(crate) enum Judged {
    /// Go on, with the edited message if there is one.
    Pass(Option<Publication>),
    Discard,
    Refuse(ReasonCode),
    Disconnect(ReasonCode, &'static str),
}

/// The hooks of a broker.
pub(crate) struct Hooks {
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    mechanisms: Vec<Arc<dyn Mechanism>>,
    /// The chain of `[auth]`, where no hook of the program decides.
    pub(crate) chain: Option<Arc<Guard>>,
    pub(crate) pool: Pool,
    /// For work that may wait for others.
    pub(crate) waiting_pool: Pool,
    /// What `[auth]` asks for, where it is among these hooks.
    pub(crate) guard: Option<Arc<Guard>>,
    authorize: Option<Arc<dyn Authorize>>,
    asks_for_deliveries: bool,
    on_publish: Option<Arc<dyn OnPublish>>,
    on_connection: Option<Arc<dyn OnConnection>>,
    clock: Clock,
    slow_ns: u64,
    slow: AtomicU64,
    panicked: AtomicU64,
    /// The second, counted from 1, in which a slow call was last logged.
    said_s: AtomicU64,
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            authenticate: None,
            mechanisms: Vec::new(),
            chain: None,
            pool: Pool::new(0),
            waiting_pool: Pool::new(0),
            guard: None,
            authorize: None,
            asks_for_deliveries: false,
            on_publish: None,
            on_connection: None,
            clock: || 0,
            slow_ns: u64::MAX,
            slow: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            said_s: AtomicU64::new(0),
        }
    }
}

impl Hooks {
    /// Counts calls that take longer than `slow_ns` on `clock`.
    pub(crate) fn set_clock(&mut self, clock: Clock, slow_ns: u64) {
        self.clock = clock;
        self.slow_ns = slow_ns;
    }

    pub(crate) fn set_authorize(&mut self, hook: Arc<dyn Authorize>) {
        self.asks_for_deliveries = hook.asks_for_deliveries();
        self.authorize = Some(hook);
    }

    pub(crate) fn set_on_publish(&mut self, hook: Arc<dyn OnPublish>) {
        self.on_publish = Some(hook);
    }

    pub(crate) fn set_on_connection(&mut self, hook: Arc<dyn OnConnection>) {
        self.on_connection = Some(hook);
    }

    pub(crate) fn add_mechanism(&mut self, mechanism: Arc<dyn Mechanism>) {
        self.mechanisms.push(mechanism);
    }

    /// The authentication method of this name.
    pub(crate) fn mechanism(&self, name: &str) -> Option<&Arc<dyn Mechanism>> {
        self.mechanisms
            .iter()
            .find(|mechanism| mechanism.name() == name)
    }

    /// Whether clients have to say who they are.
    pub(crate) fn authenticates(&self) -> bool {
        self.authenticate.is_some() || self.chain.is_some() || !self.mechanisms.is_empty()
    }

    /// Whether somebody is asked what clients may do.
    pub(crate) fn authorizes(&self) -> bool {
        self.authorize.is_some()
    }

    /// Whether publishes have to be shown to [`judge_publish`](Self::judge_publish).
    pub(crate) fn sees_publishes(&self) -> bool {
        self.authorize.is_some() || self.on_publish.is_some()
    }

    /// Whether deliveries have to be shown to [`judge_delivery`](Self::judge_delivery).
    pub(crate) fn sees_deliveries(&self) -> bool {
        self.asks_for_deliveries
    }

    /// Whether subscriptions have to be shown to [`decide`](Self::decide).
    pub(crate) fn sees_subscriptions(&self) -> bool {
        self.authorize.is_some()
    }

    /// Whether somebody wants to know when clients come and go.
    pub(crate) fn sees_connections(&self) -> bool {
        self.on_connection.is_some()
    }

    pub(crate) fn counters(&self) -> HookCounters {
        HookCounters {
            slow: self.slow.load(Ordering::Relaxed),
            panicked: self.panicked.load(Ordering::Relaxed),
        }
    }

    /// Asks whether a client may do something; whoever is not asked allows it.
    pub(crate) fn decide(
        &self,
        client: &Client<'_>,
        action: &Action<'_>,
    ) -> Result<Decision, Broken> {
        let Some(hook) = &self.authorize else {
            return Ok(Decision::Allow);
        };
        self.timed("authorize", client.id, || hook.authorize(client, action))
    }

    /// Asks what becomes of a message.
    pub(crate) fn judge_publish(
        &self,
        client: &Client<'_>,
        view: &View<'_>,
        limits: &topicmap::Limits,
        now_ms: u64,
        is_will: bool,
    ) -> Judged {
        let action = Action::Publish {
            topic: view.topic(),
            qos: view.qos(),
            retain: view.retain(),
            is_will,
        };
        match self.decide(client, &action) {
            Ok(Decision::Allow) => {}
            Ok(Decision::Deny) => return Judged::Refuse(ReasonCode::NotAuthorized),
            Ok(Decision::Disconnect) => {
                return Judged::Disconnect(ReasonCode::NotAuthorized, NOT_AUTHORIZED);
            }
            Err(Broken) => {
                return Judged::Disconnect(ReasonCode::ImplementationSpecificError, BROKEN);
            }
        }
        let Some(hook) = &self.on_publish else {
            return Judged::Pass(None);
        };
        let mut draft = Draft::new(view, limits, now_ms, is_will);
        let verdict = self.timed("on_publish", client.id, || {
            hook.on_publish(client, &mut draft)
        });
        match verdict {
            Ok(Verdict::Pass) => Judged::Pass(draft.into_edited()),
            Ok(Verdict::Discard) => Judged::Discard,
            Ok(Verdict::Refuse(reason)) => Judged::Refuse(reason_for(reason, PacketType::PubAck)),
            Ok(Verdict::Disconnect(reason)) => Judged::Disconnect(
                reason_for(reason, PacketType::Disconnect),
                "the broker's policy refuses the message",
            ),
            Err(Broken) => Judged::Disconnect(ReasonCode::ImplementationSpecificError, BROKEN),
        }
    }

    /// Asks whether a subscriber gets a message. The error ends the subscriber's connection.
    pub(crate) fn judge_delivery(
        &self,
        client: &Client<'_>,
        topic: &str,
        qos: QoS,
        retain: bool,
    ) -> Result<bool, (ReasonCode, &'static str)> {
        match self.decide(client, &Action::Receive { topic, qos, retain }) {
            Ok(Decision::Allow) => Ok(true),
            Ok(Decision::Deny) => Ok(false),
            Ok(Decision::Disconnect) => Err((ReasonCode::NotAuthorized, NOT_AUTHORIZED)),
            Err(Broken) => Err((ReasonCode::ImplementationSpecificError, BROKEN)),
        }
    }

    /// Asks whether a subscription is made; the inner error goes into SUBACK, the outer one ends
    /// the connection.
    pub(crate) fn judge_subscribe(
        &self,
        client: &Client<'_>,
        action: &Action<'_>,
    ) -> Result<Result<(), ReasonCode>, (ReasonCode, &'static str)> {
        match self.decide(client, action) {
            Ok(Decision::Allow) => Ok(Ok(())),
            Ok(Decision::Deny) => Ok(Err(ReasonCode::NotAuthorized)),
            Ok(Decision::Disconnect) => Err((ReasonCode::NotAuthorized, NOT_AUTHORIZED)),
            Err(Broken) => Err((ReasonCode::ImplementationSpecificError, BROKEN)),
        }
    }

    /// Tells of a new connection; the error ends it.
    pub(crate) fn connected(
        &self,
        client: &Client<'_>,
        session_present: bool,
    ) -> Result<(), (ReasonCode, &'static str)> {
        let Some(hook) = &self.on_connection else {
            return Ok(());
        };
        self.timed("on_connect", client.id, || {
            hook.on_connect(client, session_present);
        })
        .map_err(|Broken| (ReasonCode::ImplementationSpecificError, BROKEN))
    }

    /// Tells of the end of a connection.
    pub(crate) fn disconnected(&self, client: &Client<'_>, ending: &Ending<'_>) {
        if let Some(hook) = &self.on_connection {
            // It has ended anyway; that the hook broke is counted.
            let _ = self.timed("on_disconnect", client.id, || {
                hook.on_disconnect(client, ending);
            });
        }
    }

    /// Runs a hook that holds up a shard.
    fn timed<T>(
        &self,
        name: &'static str,
        client_id: &str,
        call: impl FnOnce() -> T,
    ) -> Result<T, Broken> {
        let begin_ns = (self.clock)();
        let result = self.guarded(name, client_id, call);
        let end_ns = (self.clock)();
        let took_ns = end_ns.saturating_sub(begin_ns);
        if took_ns > self.slow_ns {
            self.slow.fetch_add(1, Ordering::Relaxed);
            let second = end_ns / NS_PER_S + 1;
            if self.said_s.swap(second, Ordering::Relaxed) != second {
                tracing::warn!(
                    event = "hook.slow",
                    hook = name,
                    client = %client_id.escape_debug(),
                    took_us = took_ns / 1_000,
                    "a hook held up its shard"
                );
            }
        }
        result
    }

    /// Runs a hook and catches its panic.
    pub(crate) fn guarded<T>(
        &self,
        name: &'static str,
        client_id: &str,
        call: impl FnOnce() -> T,
    ) -> Result<T, Broken> {
        // What is left half-done is the hook's own; of ours nothing is borrowed mutably but a
        // draft, which is thrown away.
        catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
            self.panicked.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                event = "hook.panicked",
                hook = name,
                client = %client_id.escape_debug(),
                "a hook panicked; its client is disconnected"
            );
            Broken
        })
    }
}

/// A reason that a packet to a client can carry.
fn reason_for(reason: ReasonCode, packet: PacketType) -> ReasonCode {
    if reason.is_error() && reason.is_allowed_in(packet, Role::Client) {
        reason
    } else {
        ReasonCode::ImplementationSpecificError
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("authenticate", &self.authenticate.is_some())
            .field("authorize", &self.authorize.is_some())
            .field("on_publish", &self.on_publish.is_some())
            .field("on_connection", &self.on_connection.is_some())
            .finish_non_exhaustive()
    }
}
