//! What a program that embeds the broker decides for it: who may connect, what they may do, and
//! what becomes of their messages.
//!
//! # Threads
//!
//! [`Authenticate`] and [`Mechanism`](crate::auth::Mechanism) run on the threads of the auth pool
//! and may block: the connection that they decide about waits, nobody else does. All other hooks
//! run on the shard that owns the client, between its packets. They take `&self`, are called from
//! several threads at once and **must not block**: while one runs, every client of that shard
//! waits. A call that takes longer than the budget `hook_us` is counted
//! ([`HookCounters::slow`]) and logged, at most once a second.
//!
//! # Panics
//!
//! A panic in a hook is caught, counted and logged, and ends the connection of the client that the
//! call was about. It does no harm to anybody else, provided that the hook's own state survives a
//! panic.
//!
//! # Without hooks
//!
//! A broker that has none pays one branch a publish for them.

mod call;
mod client;
mod draft;

use std::fmt;

use mqtt_codec::{QoS, ReasonCode};

pub use self::call::HookCounters;
pub(crate) use self::call::{Hooks, Judged};
pub(crate) use self::client::Author;
pub use self::client::{Client, ConnectRequest, Denied, Grant};
pub use self::draft::Draft;
use crate::events::Cause;

/// Decides who may connect.
///
/// Called on a thread of the auth pool for each CONNECT that names no authentication method; those
/// that name one go to its [`Mechanism`](crate::auth::Mechanism). It may block, for a password hash
/// or a question to another server. The client waits no longer than the limit
/// `connect_timeout_ms`; where more connects than the limit `auth_queue` wait, further ones are
/// refused (MQTT 5.0: reason 0x97, MQTT 3.x: return code 3).
///
/// A function or closure is an authenticator too:
///
/// ```
/// use axmq::hooks::{Authenticate, ConnectRequest, Denied, Grant};
///
/// fn accepts_anybody_called_ann(request: &ConnectRequest) -> Result<Grant, Denied> {
///     match request.username() {
///         Some("ann") => Ok(Grant::to("ann")),
///         _ => Err(Denied::credentials()),
///     }
/// }
/// let hook: &dyn Authenticate = &accepts_anybody_called_ann;
/// ```
pub trait Authenticate: Send + Sync {
    /// Lets the client in, or says why not.
    ///
    /// # Errors
    ///
    /// [`Denied`]: the client is told and its connection is closed [MQTT-3.1.4-2].
    fn authenticate(&self, request: &ConnectRequest) -> Result<Grant, Denied>;
}

impl<F> Authenticate for F
where
    F: Fn(&ConnectRequest) -> Result<Grant, Denied> + Send + Sync,
{
    fn authenticate(&self, request: &ConnectRequest) -> Result<Grant, Denied> {
        self(request)
    }
}

/// What a client wants to do.
///
/// Topics and filters are those of the broker, as every hook sees them: with the mount point of the
/// client's listener before what the client wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action<'a> {
    /// Publish a message. Also asked for a will, at the time of CONNECT and of its publication.
    Publish {
        /// The topic name.
        topic: &'a str,
        /// The quality of service.
        qos: QoS,
        /// Whether it is to be retained.
        retain: bool,
        /// Whether it is a will.
        is_will: bool,
    },
    /// Subscribe.
    Subscribe {
        /// The filter, without `$share` and group.
        filter: &'a str,
        /// The name of the group, of a shared subscription.
        group: Option<&'a str>,
        /// The quality of service asked for.
        qos: QoS,
    },
    /// Get a message that a subscription of the client's matches. Only asked where
    /// [`Authorize::asks_for_deliveries`] says so.
    Receive {
        /// The topic name.
        topic: &'a str,
        /// The quality of service at which it is sent.
        qos: QoS,
        /// Whether it is sent with the RETAIN flag.
        retain: bool,
    },
}

/// What becomes of an [`Action`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It is done.
    Allow,
    /// It is not done; the client stays connected.
    ///
    /// A 5.0 client is told 0x87 in PUBACK, PUBREC or SUBACK. MQTT 3.x has no word for it but 0x80
    /// in SUBACK: there the message is acknowledged and dropped [MQTT-3.3.5-2]. A QoS 0 message is
    /// dropped. Every drop is counted. A will that is denied at CONNECT refuses the connection.
    Deny,
    /// It is not done and the client is disconnected, with 0x87 where it speaks 5.0. From
    /// [`Action::Receive`] it is the same as `Deny` and then the end of the subscriber.
    Disconnect,
}

/// Decides what a client may do. Runs on the client's shard and must not block.
pub trait Authorize: Send + Sync {
    /// Whether `client` may do `action`.
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision;

    /// Whether [`Action::Receive`] is to be asked for each message that goes out to each
    /// subscriber. Asked once, at the start. By default not: what a client may subscribe to it may
    /// get, and a fan-out to a thousand subscribers costs no thousand calls.
    fn asks_for_deliveries(&self) -> bool {
        false
    }
}

impl<F> Authorize for F
where
    F: Fn(&Client<'_>, &Action<'_>) -> Decision + Send + Sync,
{
    fn authorize(&self, client: &Client<'_>, action: &Action<'_>) -> Decision {
        self(client, action)
    }
}

/// What becomes of a message that a client publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It is routed, as it is or as the hook has edited it.
    Pass,
    /// It is acknowledged as if it had been routed, dropped and counted.
    Discard,
    /// It is dropped and counted, and the publisher is told: this reason in PUBACK or PUBREC for a
    /// 5.0 client at QoS 1 and 2, an ordinary acknowledgement for a 3.x client, nothing at QoS 0.
    /// A code that these packets cannot carry becomes 0x83.
    Refuse(ReasonCode),
    /// It is dropped and counted, and the publisher is disconnected. A code that a server's
    /// DISCONNECT cannot carry becomes 0x83.
    Disconnect(ReasonCode),
}

/// Sees every message that a client publishes, wills among them, before it is routed or retained,
/// and after [`Authorize`] has allowed it. Runs on the publisher's shard and must not block.
///
/// A message that comes again, as a QoS 1 or 2 message may, is shown once as long as the broker can
/// know that it is the same.
pub trait OnPublish: Send + Sync {
    /// Looks at `draft`, may edit it, and says what becomes of it.
    fn on_publish(&self, client: &Client<'_>, draft: &mut Draft<'_>) -> Verdict;
}

impl<F> OnPublish for F
where
    F: Fn(&Client<'_>, &mut Draft<'_>) -> Verdict + Send + Sync,
{
    fn on_publish(&self, client: &Client<'_>, draft: &mut Draft<'_>) -> Verdict {
        self(client, draft)
    }
}

/// Is told when clients come and go. Runs on the client's shard and must not block.
///
/// Calls for one client id come in order: a client that takes over is connected after the one
/// before it is disconnected.
pub trait OnConnection: Send + Sync {
    /// The client has its CONNACK under way. `session_present`: it goes on with an old session.
    fn on_connect(&self, client: &Client<'_>, session_present: bool) {
        let _ = (client, session_present);
    }

    /// The connection has ended. Called once for each [`on_connect`](Self::on_connect).
    fn on_disconnect(&self, client: &Client<'_>, ending: &Ending<'_>) {
        let _ = (client, ending);
    }
}

/// Why a connection ended. Its `Display` says it in words, with the clause that was broken.
#[derive(Clone, Copy)]
pub struct Ending<'a>(&'a Cause);

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndedBy {
    /// The client said DISCONNECT.
    Client,
    /// The network, or a client that was gone without a word: closed, failed, or silent for one and
    /// a half times its keep-alive.
    Network,
    /// A later connection with the same client id.
    TakeOver,
    /// The broker, over what the client did.
    Misconduct,
    /// A hook.
    Policy,
    /// An operator, by name of the client.
    Operator,
    /// A ban of the client, or of its address.
    Ban,
    /// The broker, which stops.
    Stop,
    /// The broker, which is short of memory.
    Shortage,
}

impl EndedBy {
    /// In a word or two, as logs and records have it: a client that broke the protocol has ended
    /// its connection itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client | Self::Misconduct => "client",
            Self::Network => "network",
            Self::TakeOver => "another connection",
            Self::Policy => "policy",
            Self::Operator => "operator",
            Self::Ban => "ban",
            Self::Stop | Self::Shortage => "broker",
        }
    }
}

impl<'a> Ending<'a> {
    pub(crate) fn new(cause: &'a Cause) -> Self {
        Self(cause)
    }

    /// Who ended it.
    #[must_use]
    pub fn by(&self) -> EndedBy {
        self.0.ended_by()
    }

    /// The reason code that the DISCONNECT carried, or would have carried for a 5.0 client. From a
    /// client that just went it is 0, and [`by`](Self::by) tells the difference.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        self.0.reason()
    }

    /// The clause of the specification that the client broke, if it broke one.
    #[must_use]
    pub fn clause(&self) -> Option<&'static str> {
        self.0.clause()
    }
}

impl fmt::Display for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ending<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending")
            .field("by", &self.by())
            .field("reason", &self.reason())
            .field("text", &self.0.to_string())
            .finish()
    }
}
