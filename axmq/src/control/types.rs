//! What the control channel says, as Rust types and, by serde, as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::MemoryUse;
use crate::config::Change;

/// What a running broker can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    Status,
    /// What the memory of the process is for.
    Memory,
    /// A page of the clients.
    Clients {
        from: Cursor,
        most: u32,
    },
    Client {
        id: String,
    },
    Kick {
        id: String,
    },
    Disconnects {
        client: Option<String>,
        most: u32,
    },
    Reload,
    /// Copy the store into a folder.
    Backup {
        folder: String,
    },
    /// The bans in force, those that end last first.
    Bans {
        most: u32,
    },
    /// Ban an address or a range, for so many seconds or for ever.
    Ban {
        network: String,
        for_s: Option<u32>,
    },
    /// Lift the ban of an address or range, or of one client of an address.
    Unban {
        network: String,
        client: Option<String>,
    },
    /// Answered by one frame a packet until either side closes.
    Trace {
        id: String,
    },
}

/// One frame of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Response {
    Ok(serde_json::Value),
    Error(String),
}

/// Where a page of clients begins: a shard, and a place in it. The default is the beginning.
///
/// Clients that come and go between two pages may be missed or not; those that stay are listed
/// once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cursor {
    /// The shard.
    pub shard: u16,
    /// The place in it.
    pub slot: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.shard, self.slot)
    }
}

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text
            .split_once(':')
            .and_then(|(shard, slot)| Some((shard.parse().ok()?, slot.parse().ok()?)));
        let (shard, slot) = parsed.ok_or("not a page: two numbers such as 0:128")?;
        Ok(Self { shard, slot })
    }
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BackupMade {
    /// Where it is.
    pub folder: String,
    /// Records in it.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// The broker as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The id of the process.
    pub pid: u32,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// The addresses listened on, with real ports.
    pub listeners: Vec<String>,
    /// The number of shards.
    pub shards: u64,
    /// Open connections, also those whose CONNECT has not come.
    pub connections: u64,
    /// The most connections at a time.
    pub connections_max: u64,
    /// Clients that are connected.
    pub clients_connected: u64,
    /// Sessions, of connected clients and of those that are away.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Bytes of the retained messages, topics included.
    pub retained_bytes: u64,
    /// Memory of the process that is in the machine.
    pub memory_bytes: u64,
    /// What it may use (`limits.memory_bytes`); 0 is no limit.
    pub memory_bytes_max: u64,
    /// What gives way because memory is short: `none`, `few-connections`, `no-publishers`,
    /// `shed-messages` or `shed-clients`, each with those before it.
    pub memory_shortage: String,
    /// What is kept on disk; `None` where nothing is.
    #[serde(default)]
    pub store: Option<StoreStatus>,
    /// What that memory is for; `None` in what [`Control::status`](super::Control::status) says,
    /// which asks nobody: `axmq status` puts in what [`Control::memory`](super::Control::memory)
    /// says.
    #[serde(default)]
    pub memory: Option<MemoryUse>,
    /// The certificates that TLS listeners show.
    #[serde(default)]
    pub certificates: Vec<CertificateStatus>,
    /// Counters over all shards, by name.
    pub counters: BTreeMap<String, u64>,
}

/// A certificate of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CertificateStatus {
    /// The address of the listener, as it is configured.
    pub listener: String,
    /// Its file.
    pub file: String,
    /// The end of its validity, in seconds since 1970.
    pub not_after_s: i64,
    /// Whole days until then; negative when it has expired.
    pub days_left: i64,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StoreStatus {
    /// The id that this node has had since its store was made, in hexadecimal digits.
    pub node: String,
    /// What an acknowledgement stands for: `none`, `interval` or `always`.
    pub durability: String,
    /// Whether it is another for some listeners, users or topics.
    #[serde(default)]
    pub has_other_durabilities: bool,
    /// `well`; `waits` while the disk takes nothing, such as a full one; `failed` after a sync that
    /// failed, until the broker is started anew.
    pub health: String,
    /// Bytes on disk, about.
    pub bytes: u64,
    /// Group commits since the start.
    pub syncs: u64,
    /// Atomic writes since the start.
    pub writes: u64,
    /// Records in quarantine: they made no sense. Anything but 0 wants to be looked at.
    pub quarantined: u64,
}

/// A line of the list of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientLine {
    /// The client id.
    pub id: String,
    /// The address it is connected from; `None` while it is away.
    pub peer: Option<String>,
    /// The version of the protocol it speaks: `3.1`, `3.1.1` or `5.0`; `None` while it is away.
    pub protocol: Option<String>,
    /// Who it is, by what its authentication has found out; `None` for one that is nobody, and
    /// while it is away.
    #[serde(default)]
    pub user: Option<String>,
    /// Which part of `auth.chain` let it in; `None` where nobody was asked, or a hook, and while it
    /// is away.
    #[serde(default)]
    pub login: Option<String>,
    /// Its subscriptions.
    pub subscriptions: u64,
    /// QoS 1 and 2 messages for it: in flight, and waiting.
    pub queued: u64,
}

/// A part of the list of clients.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientsPage {
    /// The clients.
    pub clients: Vec<ClientLine>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ClientDetail {
    /// What the list says of it.
    #[serde(flatten)]
    pub line: ClientLine,
    /// The shard it belongs to.
    pub shard: u16,
    /// Its keep-alive in seconds; 0 is none, `None` while it is away.
    pub keep_alive_s: Option<u16>,
    /// Bytes that wait to be written to its connection.
    pub out_queue_bytes: u64,
    /// Whether reading from it is paused by back-pressure.
    pub is_paused: bool,
    /// Whether it takes nothing of what waits for it.
    pub is_stalled: bool,
    /// Seconds that its session outlives its connection; 4 294 967 295 is for ever.
    pub session_expiry_s: u32,
    /// Milliseconds until its session ends; `None` while it is connected, and for ever.
    pub session_ends_in_ms: Option<u64>,
    /// Whether a will is kept for it.
    pub has_will: bool,
    /// Its subscriptions, at most a thousand.
    pub filters: Vec<SubscriptionLine>,
    /// How its last connection ended.
    pub last_disconnect: Option<DisconnectLine>,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionLine {
    /// The filter.
    pub filter: String,
    /// The QoS that was granted.
    pub qos: u8,
}

/// How a client's last connection ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DisconnectLine {
    /// The client id.
    pub client: String,
    /// The address it was connected from.
    pub peer: String,
    /// Milliseconds ago.
    pub ago_ms: u64,
    /// By whom, as [`EndedBy::name`](crate::hooks::EndedBy::name) has it.
    pub by: String,
    /// The reason code, as MQTT 5.0 numbers it.
    pub reason: u8,
    /// The clause of the specification that the client broke, if it broke one.
    pub clause: Option<String>,
    /// Why, in words.
    pub why: String,
    /// How often it has disconnected since it is remembered.
    pub times: u64,
}

/// A ban in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BanLine {
    /// The address, or the range of addresses. IPv6 addresses are banned by the first 64 bits.
    pub address: String,
    /// The one client of that address that is banned; `None` where all are.
    pub client: Option<String>,
    /// For what: `no CONNECT`, `malformed packets`, `oversized packets`, `failed logins` or
    /// `connections for nothing`, the last of the offences that led to it; or `operator`.
    pub cause: String,
    /// How often in a row; 0 for one that an operator has set.
    pub times: u8,
    /// Seconds that are left; `None` is for ever.
    pub ends_in_s: Option<u32>,
}

/// The bans in force, or some of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BansPage {
    /// The bans, those that end last first.
    pub bans: Vec<BanLine>,
    /// How many there are in all.
    pub total: u64,
}

/// A packet of a client that is traced, or an event of its connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TraceLine {
    /// Milliseconds since 1970-01-01 UTC.
    pub at_ms: u64,
    /// `in` for what the client sent, `out` for what is queued for it, `--` for everything else.
    pub direction: String,
    /// The packet in words.
    pub text: String,
    /// Lines before this one that were lost because the reader was too slow.
    pub lost: u64,
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Reloaded {
    /// Everything that differs from what was in force.
    pub changes: Vec<Change>,
}
