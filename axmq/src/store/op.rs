//! What shards and the store say to each other.
//!
//! A shard says what has happened to what is kept, in *ops*; times in them are those of its clock.
//! The store turns them into records.

use std::sync::mpsc::SyncSender;

use mqtt_codec::{PacketId, QoS};
use slabmem::Key;

use super::engine::Snapshot;
use crate::defence::BanChange;
use crate::hooks::Author;
use crate::publication::Publication;
use crate::route::SubscriptionOptions;

/// The will of a kept session.
#[derive(Clone, Debug)]
pub(crate) struct WillOp {
    pub(crate) publication: Publication,
    pub(crate) delay_s: u32,
    /// 0 while its client is connected.
    pub(crate) due_at_ms: u64,
    pub(crate) expiry_s: Option<u32>,
    pub(crate) author: Option<Box<Author>>,
}

/// A session as it is now.
#[derive(Clone, Debug)]
pub(crate) struct SessionOp {
    pub(crate) holder: u64,
    pub(crate) client_id: Box<str>,
    pub(crate) is_connected: bool,
    pub(crate) expiry_s: u32,
    /// 0 while connected, `u64::MAX` is never.
    pub(crate) ends_at_ms: u64,
    /// Messages with a lower number were sent.
    pub(crate) sent: u64,
    pub(crate) will: Option<WillOp>,
}

/// What few queue records have.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueExtra {
    pub(crate) identifiers: Box<[u32]>,
    /// The shared subscription by which the session got it, and its place in the group's queue.
    pub(crate) group: Option<(Box<str>, u64)>,
}

/// A message for a holder.
#[derive(Clone, Debug)]
pub(crate) struct QueueOp {
    pub(crate) holder: u64,
    /// Its place among the holder's, from which the packet id follows.
    pub(crate) number: u64,
    pub(crate) message: u64,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Not to be written before [`Op::Commit`] for this message.
    pub(crate) is_staged: bool,
    pub(crate) extra: Option<Box<QueueExtra>>,
}

/// A place in a holder's queue. `message` is 0 where PUBREC has let go of it before.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PlaceOp {
    pub(crate) holder: u64,
    pub(crate) number: u64,
    pub(crate) message: u64,
}

/// Something that has happened to what is kept.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// One that came to nothing before it left its shard.
    Void,
    Session(Box<SessionOp>),
    /// The session ends, and all that it holds.
    EndSession {
        holder: u64,
    },
    /// A shared subscription holds messages for its members.
    Group {
        holder: u64,
        text: Box<str>,
    },
    /// It has no member any more; what it holds ends with it.
    EndGroup {
        holder: u64,
    },
    Subscribe {
        holder: u64,
        filter: Box<str>,
        options: SubscriptionOptions,
    },
    Unsubscribe {
        holder: u64,
        filter: Box<str>,
    },
    /// The message that the queue ops behind it, of the same batch, name by its number.
    Message(Box<Publication>),
    Queue(QueueOp),
    /// PUBREC has come.
    Release(PlaceOp),
    /// Settled.
    Dequeue(PlaceOp),
    /// A QoS 2 PUBLISH has come in.
    Receive {
        holder: u64,
        packet_id: PacketId,
        digest: u32,
    },
    /// Its PUBREL has.
    Forget {
        holder: u64,
        packet_id: PacketId,
    },
    /// Versions say which of two shards was last.
    Retain {
        version: u64,
        publication: Box<Publication>,
    },
    Unretain {
        version: u64,
        topic: Box<str>,
    },
    /// What was staged for this message is to be written.
    Commit {
        message: u64,
    },
    /// Asks for what a session's queue has on disk, from this number on.
    Read {
        session: Key,
        holder: u64,
        from: u64,
    },
}

impl Op {
    /// Bytes charged for it.
    pub(crate) fn cost(&self) -> u64 {
        let own = match self {
            Self::Message(publication) | Self::Retain { publication, .. } => publication.cost(),
            Self::Session(session) => session
                .will
                .as_ref()
                .map_or(64, |will| 64 + will.publication.cost()),
            Self::Subscribe { filter, .. } | Self::Unsubscribe { filter, .. } => filter.len(),
            Self::Group { text, .. } => text.len(),
            _ => 0,
        };
        (own + size_of::<Self>()) as u64
    }
}

/// What one shard has had to say since its last batch. It becomes visible as a whole.
#[derive(Debug)]
pub(crate) struct OpBatch {
    pub(crate) from: u16,
    /// Consecutive for each shard, from 1.
    pub(crate) number: u64,
    /// Credit that the shard has taken for it, and gets back with [`Stored`].
    pub(crate) cost: u64,
    /// Somebody waits for it.
    pub(crate) is_urgent: bool,
    pub(crate) ops: Vec<Op>,
}

/// One thing of a session's queue that was on disk.
#[derive(Debug)]
pub(crate) struct PageEntry {
    pub(crate) number: u64,
    /// `None` where only PUBREL is to be sent.
    pub(crate) message: Option<PagedMessage>,
}

#[derive(Debug)]
pub(crate) struct PagedMessage {
    pub(crate) publication: Publication,
    pub(crate) cost: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) identifiers: Vec<u32>,
    /// It came by a shared subscription.
    pub(crate) is_of_group: bool,
}

/// The answer to [`Op::Read`].
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) session: Key,
    pub(crate) holder: u64,
    pub(crate) entries: Vec<PageEntry>,
    /// Nothing came behind them when this was read.
    pub(crate) is_last: bool,
}

/// How the store is.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Health {
    #[default]
    Well,
    /// The disk is full, or does not take what is written: the store tries again.
    Waits,
    /// It will never know again what the disk has.
    Failed,
}

impl Health {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Waits => "waits",
            Self::Failed => "failed",
        }
    }
}

/// The answer to batches of a shard.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Batches up to this one are durable.
    pub(crate) up_to: u64,
    /// Credit that comes back.
    pub(crate) cost: u64,
    pub(crate) pages: Vec<Page>,
    pub(crate) health: Health,
}

/// What the store's mailbox takes.
#[derive(Debug)]
pub(crate) enum ToStore {
    Batch(OpBatch),
    /// Somebody is banned, or is not any more. Nobody waits for it.
    Ban(BanChange),
    /// Asks for the store as it is. Dropped where it cannot be read.
    Snapshot(SyncSender<Box<dyn Snapshot>>),
    /// Write what has come, note that this stop was in order, and end.
    Stop,
}
