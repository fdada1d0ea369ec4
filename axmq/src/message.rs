//! What the threads say to each other. Nothing else is shared between them but the interest map,
//! the route stamps and the retained store.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use mqtt_codec::Version;
use pollio::PeerAddr;
use rustls::pki_types::CertificateDer;
use slabmem::Key;

use crate::auth::{self, Enhanced, Policy};
use crate::config::ListenerRules;
use crate::control::{ClientDetail, ClientsPage, DisconnectLine, TraceLine};
use crate::defence::Banned;
use crate::group::GroupMail;
use crate::hooks::{Author, Grant};
use crate::listener::Seat;
use crate::local::Outlet;
use crate::memory::{Held, Shortage};
use crate::publication::Publication;
use crate::shard::Shared;
use crate::store::op::Stored;
use crate::store::{Restored, RestoredGroup};
use crate::transport::Layers;

/// A will as it was given in CONNECT.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) publication: Publication,
    /// The message expiry interval, which starts when the will is published; `None` is never.
    pub(crate) expiry_s: Option<u32>,
    pub(crate) delay_s: u32,
    /// When its delay is over; set by the end of its connection.
    pub(crate) due_at_ms: u64,
    /// Who wrote it, where a hook wants to know when it is published.
    pub(crate) author: Option<Box<Author>>,
}

/// What a CONNECT said, owned, and checked by the front.
#[derive(Debug)]
pub(crate) struct ConnectInfo {
    pub(crate) version: Version,
    /// Never empty: the front assigns one where the client gave none.
    pub(crate) client_id: Box<str>,
    pub(crate) client_id_assigned: bool,
    pub(crate) clean_start: bool,
    pub(crate) keep_alive_s: u16,
    /// The server's own keep-alive holds instead of the client's, and CONNACK says so.
    pub(crate) keep_alive_imposed: bool,
    /// Seconds; 0 ends with the connection, `u32::MAX` never [MQTT-3.1.2.11.2].
    pub(crate) session_expiry_s: u32,
    /// What the client asked for differs, and CONNACK says what holds.
    pub(crate) session_expiry_imposed: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_bytes_max: u32,
    /// Topic aliases that the client takes.
    pub(crate) topic_alias_max: u16,
    pub(crate) wants_problem_information: bool,
    pub(crate) wants_response_information: bool,
    pub(crate) will: Option<Box<Will>>,
    /// What authentication came to.
    pub(crate) grant: Option<Arc<Grant>>,
    /// What its listener lets it do, where that is not everything.
    pub(crate) rules: Option<Arc<ListenerRules>>,
    /// The method of an enhanced authentication, and what CONNACK says of it.
    pub(crate) enhanced: Option<Box<Enhanced>>,
}

/// A connection on its way from a front to its shard (DECISIONS 1).
#[derive(Debug)]
pub(crate) struct Handover<S> {
    pub(crate) stream: S,
    pub(crate) peer: PeerAddr,
    pub(crate) connect: ConnectInfo,
    /// Its place among the connections of its listener, where those are counted.
    pub(crate) seat: Option<Seat>,
    /// What lies between the socket and MQTT, where anything does.
    pub(crate) layers: Option<Box<Layers>>,
    /// What the front read past CONNECT.
    pub(crate) surplus: Vec<u8>,
}

/// Which incoming acknowledgement a forwarded publication holds up. It names the session and its
/// place in the ring, never a connection (DECISIONS 21).
#[derive(Copy, Clone, Debug)]
pub(crate) struct AcceptTag {
    pub(crate) session: Key,
    pub(crate) sequence: u32,
    /// The number of the message, where what the shards write for it waits until all have accepted
    /// it (DECISIONS 25); else 0.
    pub(crate) commit: u64,
    /// Goes to the store with the packet id, where that waits for the commit.
    pub(crate) digest: u32,
    /// In an answer: it was not kept where it should have been.
    pub(crate) is_refused: bool,
}

/// A publication on its way to another shard.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) publication: Publication,
    pub(crate) accept: Option<AcceptTag>,
}

/// What one shard routes to another in one turn.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) from: u16,
    /// Credit that the source has taken for it, and gets back with [`Reply`].
    pub(crate) cost: u64,
    pub(crate) items: Vec<Forwarded>,
}

/// The answer to a [`Batch`]: every item is queued, matched nobody or was dropped by a counted
/// policy.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) from: u16,
    pub(crate) cost: u64,
    /// The same for messages dealt to members of groups.
    pub(crate) dealt_cost: u64,
    pub(crate) accepted: Vec<AcceptTag>,
    /// The batch's own vector, empty, to be filled again.
    pub(crate) spare: Vec<Forwarded>,
}

/// What an operator asks a shard.
#[derive(Debug)]
pub(crate) enum Query {
    /// Whether it still takes its mail.
    Ping,
    /// The sessions from this slot on.
    Clients {
        from: u32,
        most: u32,
    },
    Client {
        id: Box<str>,
    },
    /// End a client's connection. The answer is whether it had one.
    Kick {
        id: Box<str>,
    },
    Disconnects {
        client: Option<Box<str>>,
        most: u32,
    },
    /// What the shard holds in memory, of its tables from this slot on.
    Memory {
        from: u32,
    },
    /// End the connections of clients whose credentials do not hold any more, from this slot on.
    Revoke {
        policy: Arc<Policy>,
        from: u32,
    },
    /// The certificates that clients have shown, from this slot on.
    Certificates {
        from: u32,
    },
    /// End these connections, where they are still there.
    End {
        connections: Vec<Key>,
    },
}

/// The certificates that a client has shown, its own first.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) connection: Key,
    /// The listener that it came in by, by its place in the configuration.
    pub(crate) listener: u32,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

/// The answer to a [`Query`].
#[derive(Debug)]
pub(crate) enum Answer {
    Done(bool),
    Clients(ClientsPage),
    Client(Option<Box<ClientDetail>>),
    Disconnects(Vec<DisconnectLine>),
    /// A part of it, and the slot where it goes on.
    Memory(Held, Option<u32>),
    /// The slot where it goes on.
    Revoked(Option<u32>),
    /// Some, and the slot where it goes on.
    Certificates(Vec<Shown>, Option<u32>),
}

/// A question and who wants the answer.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) query: Query,
    pub(crate) answer_to: AnswerTo,
}

/// Carries an answer to the one who asked, from the shard's thread: it must not block.
pub(crate) struct AnswerTo(pub(crate) Box<dyn FnOnce(Answer) + Send>);

impl fmt::Debug for AnswerTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerTo")
    }
}

/// Where the packets of a traced client are written down.
#[derive(Debug)]
pub(crate) struct TraceSink {
    pub(crate) id: u64,
    pub(crate) client_id: Box<str>,
    /// Bounded: what a slow reader leaves no room for is lost, and counted.
    pub(crate) lines: SyncSender<TraceLine>,
    pub(crate) lost: u64,
}

/// What the program that runs the broker wants of a shard.
#[derive(Debug)]
pub(crate) enum Local {
    /// Route this message, which expires after so many seconds.
    Publish(Publication, Option<u32>),
    Subscribe(Box<LocalSubscribe>),
    Unsubscribe(Key),
}

/// A subscription of the program's own.
#[derive(Debug)]
pub(crate) struct LocalSubscribe {
    pub(crate) filter: Box<str>,
    pub(crate) outlet: Arc<Outlet>,
    /// Gets the session, or `None` where there is no room for one.
    pub(crate) reply: std::sync::mpsc::Sender<Option<Key>>,
}

/// What a shard's mailbox takes.
#[derive(Debug)]
pub(crate) enum ToShard<S> {
    Handover(Box<Handover<S>>),
    Batch(Batch),
    Reply(Reply),
    /// An operator asks.
    Ask(Ask),
    /// Write down each packet of a client.
    Trace(Box<TraceSink>),
    /// Nobody watches any more.
    Untrace(u64),
    /// Go on under other limits.
    Reload(Arc<Shared>),
    /// How short memory is from now on, or still is.
    Memory(Shortage),
    /// Somebody was banned.
    Banned(Banned),
    Group(GroupMail),
    Local(Local),
    /// The store's answer to batches of ops.
    Stored(Stored),
    /// Sessions that the store has kept, at start. Dropping the sender says that they are in place.
    Restore(Vec<Restored>, std::sync::mpsc::Sender<()>),
    /// The same for a shared subscription.
    RestoreGroup(Box<RestoredGroup>, std::sync::mpsc::Sender<()>),
    /// All shards have all of that.
    Restored,
    /// The auth pool's answer for a client that authenticates anew.
    Authenticated(Key, Box<auth::Answer>),
    /// Publish the wills that an orderly stop publishes, and say so.
    PublishWills(std::sync::mpsc::Sender<()>),
    /// Say good-bye to every client, flush, and end.
    Stop,
    /// End now.
    Abort,
}

/// What a front's mailbox takes.
#[derive(Debug)]
pub(crate) enum ToFront {
    /// Go on under other limits.
    Reload(Arc<Shared>),
    /// How short memory is from now on, or still is.
    Memory(Shortage),
    /// The auth pool's answer for a connection that waits.
    Authenticated(Key, Box<auth::Answer>),
    Stop,
}
