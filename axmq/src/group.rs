//! What shards say to each other about shared subscriptions (DECISIONS 13).
//!
//! A group belongs to one shard, its *owner*, which chooses who gets a message and deals it out.
//! A *membership* belongs to the shard of its session, which alone knows what was sent and
//! acknowledged, and gives back what it could not send. Both sides name a membership by its key on
//! the member's shard, so that whatever is late meets a key that resolves to nothing.

use mqtt_codec::QoS;
use slabmem::Key;

use crate::publication::Publication;

/// A membership anywhere in the process.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct MemberRef {
    pub(crate) shard: u16,
    pub(crate) key: Key,
}

/// A message's place in its group's queue. It is the message's own, also while a member has it.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub(crate) struct QueuePlace {
    /// The group, where the store keeps it; else 0.
    pub(crate) holder: u64,
    pub(crate) number: u64,
    /// The store has the message there.
    pub(crate) is_stored: bool,
}

/// A message for one member, from the owner of its group.
#[derive(Debug)]
pub(crate) struct Dealt {
    /// The group, on the owner's shard.
    pub(crate) group: Key,
    pub(crate) member: Key,
    pub(crate) publication: Publication,
    /// What it is delivered with. Above 0 the member's shard answers, once: settled or given back.
    pub(crate) qos: QoS,
    pub(crate) place: QueuePlace,
}

/// A message that a member did not get, or did not acknowledge before it went.
#[derive(Debug)]
pub(crate) struct Returned {
    pub(crate) publication: Publication,
    /// What it was dealt with.
    pub(crate) qos: QoS,
    pub(crate) place: QueuePlace,
}

/// Which code of which SUBACK waits for an answer.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Place {
    pub(crate) connection: Key,
    pub(crate) at: usize,
}

/// A session becomes a member, or changes how it is one.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) member: Key,
    pub(crate) name: Box<str>,
    pub(crate) filter: Box<str>,
    pub(crate) qos: QoS,
    /// QoS 1 and 2 messages that it may have at a time.
    pub(crate) window: u16,
    /// Its session is kept, and did not come from the store: there the group comes by itself.
    pub(crate) is_kept: bool,
    /// `None` where nobody waits for the answer.
    pub(crate) place: Option<Place>,
}

/// Requests and answers between an owner and the shards of the members. They come in the order in
/// which they were sent.
#[derive(Debug)]
pub(crate) enum Call {
    /// To the owner, which answers with `Joined`.
    Join(Box<Join>),
    /// From the owner: the group, or `None` where there are as many groups as there may be.
    Joined {
        member: Key,
        group: Option<Key>,
        place: Option<Place>,
    },
    /// The member's session has a connection again.
    Online { member: Key, window: u16 },
    /// The member's session has lost its connection.
    Away { member: Key },
    /// The subscription or the session has ended.
    Leave { member: Key },
    /// So many messages need no other member any more.
    Settled { member: Key, count: u32 },
    /// These do.
    Gone {
        group: Key,
        member: Key,
        messages: Vec<Returned>,
    },
}

/// What one shard has to say to another about groups in one turn.
#[derive(Debug)]
pub(crate) struct GroupMail {
    pub(crate) from: u16,
    pub(crate) calls: Vec<Call>,
    pub(crate) dealt: Vec<Dealt>,
    /// Credit that the owner has taken for `dealt`, and gets back with the next
    /// [`Reply`](crate::message::Reply).
    pub(crate) dealt_cost: u64,
}
