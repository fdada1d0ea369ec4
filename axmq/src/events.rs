//! What the protocol core has to report: it makes no system call, so it writes no log line itself.
//! The thread around it logs the events at the end of a turn.

use std::collections::HashMap;
use std::fmt;

use mqtt_codec::{ReasonCode, Version};
use pollio::PeerAddr;

use crate::hooks::EndedBy;
use crate::transport::Fault;

/// Why a connection ended, and by whom.
#[derive(Clone, Debug)]
pub(crate) enum Cause {
    /// The client said DISCONNECT.
    ClientDisconnected(ReasonCode),
    /// The client closed without DISCONNECT.
    PeerClosed,
    /// Reading or writing failed.
    Io(std::io::ErrorKind),
    /// The client broke the protocol: what, which clause, at which byte of which packet.
    Protocol(mqtt_codec::Error),
    /// The client broke a rule that needs more than one packet to break.
    Violation {
        reason: ReasonCode,
        clause: &'static str,
        what: &'static str,
    },
    /// A topic name that is not legal.
    Topic(topicmap::TopicError),
    /// What lies between socket and MQTT was broken or ended.
    Transport(Fault),
    KeepAlive,
    TakenOver(PeerAddr),
    /// A hook, or what authentication came to, ends it.
    Policy {
        reason: ReasonCode,
        what: &'static str,
    },
    /// An operator asked for it.
    Kicked,
    /// Its address, or the client itself, was banned.
    Banned,
    /// Memory is short, and its queues were among the longest.
    MemoryShort,
    ServerStops,
}

impl Cause {
    /// What a 5.0 client is told.
    pub(crate) fn reason(&self) -> ReasonCode {
        match self {
            Self::ClientDisconnected(reason) => *reason,
            Self::PeerClosed => ReasonCode::Success,
            Self::Io(_) => ReasonCode::UnspecifiedError,
            Self::Protocol(error) => error.reason(),
            Self::Violation { reason, .. } => *reason,
            Self::Topic(_) => ReasonCode::TopicNameInvalid,
            Self::Transport(_) => ReasonCode::ProtocolError,
            Self::KeepAlive => ReasonCode::KeepAliveTimeout,
            Self::TakenOver(_) => ReasonCode::SessionTakenOver,
            Self::Policy { reason, .. } => *reason,
            Self::Kicked | Self::Banned => ReasonCode::AdministrativeAction,
            Self::MemoryShort => ReasonCode::QuotaExceeded,
            Self::ServerStops => ReasonCode::ServerShuttingDown,
        }
    }

    /// Who ended the connection.
    pub(crate) fn ended_by(&self) -> EndedBy {
        match self {
            Self::ClientDisconnected(_) => EndedBy::Client,
            Self::PeerClosed | Self::Io(_) | Self::KeepAlive => EndedBy::Network,
            Self::Protocol(_) | Self::Violation { .. } | Self::Topic(_) | Self::Transport(_) => {
                EndedBy::Misconduct
            }
            Self::TakenOver(_) => EndedBy::TakeOver,
            Self::Policy { .. } => EndedBy::Policy,
            Self::Kicked => EndedBy::Operator,
            Self::Banned => EndedBy::Ban,
            Self::MemoryShort => EndedBy::Shortage,
            Self::ServerStops => EndedBy::Stop,
        }
    }

    /// The clause that the client broke.
    pub(crate) fn clause(&self) -> Option<&'static str> {
        match self {
            Self::Protocol(error) => Some(error.clause()),
            Self::Violation { clause, .. } => Some(*clause),
            Self::Topic(error) => Some(error.clause()),
            _ => None,
        }
        .filter(|clause| !clause.is_empty())
    }

    /// What a 5.0 client is told in words: no more than concerns it.
    pub(crate) fn text_for_client(&self) -> String {
        match self {
            Self::TakenOver(_) => "another connection has taken over this client id".to_owned(),
            other => other.to_string(),
        }
    }

    /// Whether the client ended it, so that there is nobody to tell.
    pub(crate) fn is_from_peer(&self) -> bool {
        matches!(
            self,
            Self::ClientDisconnected(_) | Self::PeerClosed | Self::Io(_)
        )
    }

    /// Whether it is something that an operator has to know.
    pub(crate) fn is_noteworthy(&self) -> bool {
        matches!(
            self,
            Self::Protocol(_)
                | Self::Violation { .. }
                | Self::Topic(_)
                | Self::Transport(_)
                | Self::MemoryShort
        )
    }

    /// Whether the will is dropped: only a DISCONNECT with reason 0 does that [MQTT-3.14.4-3].
    pub(crate) fn drops_will(&self) -> bool {
        matches!(self, Self::ClientDisconnected(ReasonCode::Success))
            && !planted!(WillAfterDisconnect)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientDisconnected(reason) => {
                write!(f, "the client disconnected (0x{:02X})", *reason as u8)
            }
            Self::PeerClosed => f.write_str("the client closed the connection"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::Protocol(error) => write!(f, "{error}"),
            Self::Violation { clause, what, .. } => write!(f, "{what} [{clause}]"),
            Self::Topic(error) => {
                write!(
                    f,
                    "{error} [{}], at byte {} of the topic",
                    error.clause(),
                    error.position()
                )
            }
            Self::Transport(fault) => write!(f, "{fault}"),
            Self::KeepAlive => f.write_str("nothing came for 1.5 times the keep alive"),
            Self::Policy { what, .. } => f.write_str(what),
            Self::TakenOver(peer) => write!(f, "taken over by a connection from {peer}"),
            Self::Kicked => f.write_str("an operator has ended the connection"),
            Self::MemoryShort => {
                f.write_str("the broker is short of memory, and much was queued for this client")
            }
            Self::Banned => f.write_str("the client, or its address, is banned"),
            Self::ServerStops => f.write_str("the server stops"),
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Connected {
        client_id: Box<str>,
        peer: PeerAddr,
        version: Version,
        session_present: bool,
    },
    Disconnected {
        client_id: Box<str>,
        peer: PeerAddr,
        cause: Cause,
    },
    /// A table of the shard had no room for a client that the front had let in.
    TurnedAway { client_id: Box<str>, peer: PeerAddr },
}

impl Event {
    fn name(&self) -> &'static str {
        match self {
            Self::Connected { .. } => "client.connected",
            Self::Disconnected { .. } => "client.disconnected",
            Self::TurnedAway { .. } => "connection.refused",
        }
    }

    fn client_id(&self) -> &str {
        let (Self::Connected { client_id, .. }
        | Self::Disconnected { client_id, .. }
        | Self::TurnedAway { client_id, .. }) = self;
        client_id
    }

    /// Whose lines it is among. Clients that have to go because memory is short are many at once,
    /// and one line is as good as another.
    fn counts_for(&self) -> &str {
        match self {
            Self::Disconnected {
                cause: Cause::MemoryShort,
                ..
            } => "",
            _ => self.client_id(),
        }
    }

    fn is_routine(&self) -> bool {
        match self {
            Self::Connected { .. } => true,
            Self::Disconnected { cause, .. } => !cause.is_noteworthy(),
            Self::TurnedAway { .. } => false,
        }
    }

    /// Writes the log line.
    pub(crate) fn log(&self) {
        match self {
            Self::Connected {
                client_id,
                peer,
                version,
                session_present,
            } => tracing::debug!(
                event = "client.connected",
                client = %client_id.escape_debug(),
                %peer,
                protocol = %ProtocolName(*version),
                session_present
            ),
            Self::TurnedAway { client_id, peer } => tracing::warn!(
                event = "connection.refused",
                client = %client_id.escape_debug(),
                %peer,
                "the tables of its shard are full"
            ),
            Self::Disconnected {
                client_id,
                peer,
                cause,
            } if cause.is_noteworthy() => {
                tracing::warn!(
                    event = "client.disconnected",
                    client = %client_id.escape_debug(),
                    %peer,
                    by = cause.ended_by().name(),
                    reason = %ReasonHex(cause.reason()),
                    "{cause}"
                );
            }
            Self::Disconnected {
                client_id,
                peer,
                cause,
            } => tracing::debug!(
                event = "client.disconnected",
                client = %client_id.escape_debug(),
                %peer,
                by = cause.ended_by().name(),
                reason = %ReasonHex(cause.reason()),
                "{cause}"
            ),
        }
    }
}

/// Keeps misbehaving clients from filling the disk: so many lines an event and client in a minute,
/// and so many of all in a second; then one that says how many were left out.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    second: u64,
    written: u32,
    left_out: u64,
    minute: u64,
    /// Lines of this minute by event and client.
    lines: HashMap<(&'static str, Box<str>), u32>,
}

/// Lines of one shard or front in one second.
const LINES_A_SECOND: u32 = 200;
/// Lines of one event of one client in one minute.
const LINES_A_CLIENT: u32 = 10;
/// Clients that are told apart in one minute; the others have only the limit of all.
const CLIENTS_A_MINUTE: usize = 4_096;

impl LogBudget {
    pub(crate) fn write(&mut self, events: impl Iterator<Item = Event>, now_ms: u64) {
        for event in events {
            // Routine lines are only there because somebody asked for all of them.
            if event.is_routine() || self.allows(now_ms, event.name(), event.counts_for()) {
                event.log();
            }
        }
    }

    /// Whether one more line about this event of this client, or address, may be written.
    pub(crate) fn allows(&mut self, now_ms: u64, event: &'static str, who: &str) -> bool {
        let second = now_ms / 1_000;
        if second / 60 != self.minute {
            self.minute = second / 60;
            self.lines.clear();
        }
        if second != self.second {
            self.second = second;
            self.written = 0;
            if self.left_out > 0 {
                tracing::warn!(event = "log.limited", left_out = self.left_out);
                self.left_out = 0;
            }
        }
        let allows = self.written < LINES_A_SECOND && self.is_news(event, who);
        if allows {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        allows
    }
}

impl LogBudget {
    /// Whether this client has had few lines of the event in this minute.
    fn is_news(&mut self, event: &'static str, who: &str) -> bool {
        let key = (event, who.into());
        if self.lines.len() >= CLIENTS_A_MINUTE && !self.lines.contains_key(&key) {
            return true;
        }
        let lines = self.lines.entry(key).or_default();
        *lines += 1;
        *lines <= LINES_A_CLIENT
    }
}

/// A protocol version as people name it.
pub(crate) struct ProtocolName(pub(crate) Version);

impl fmt::Display for ProtocolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Version::V31 => "3.1",
            Version::V311 => "3.1.1",
            Version::V5 => "5.0",
        })
    }
}

/// A reason code as the specification writes it.
pub(crate) struct ReasonHex(pub(crate) ReasonCode);

impl fmt::Display for ReasonHex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02X}", self.0 as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_few_lines_of_an_event_and_all_have_a_limit() {
        let mut log = LogBudget::default();
        let allowed = |log: &mut LogBudget, now_ms, event, who: &str, tries: u32| {
            (0..tries)
                .filter(|_| log.allows(now_ms, event, who))
                .count()
        };
        assert_eq!(allowed(&mut log, 0, "a", "noisy", 50), 10);
        assert_eq!(allowed(&mut log, 0, "b", "noisy", 50), 10, "another event");
        assert_eq!(allowed(&mut log, 0, "a", "other", 1), 1, "another client");
        assert_eq!(log.left_out, 80);
        assert_eq!(
            allowed(&mut log, 59_000, "a", "noisy", 5),
            0,
            "the same minute"
        );
        assert_eq!(allowed(&mut log, 60_000, "a", "noisy", 5), 5, "the next");
        let all: usize = (0..500)
            .map(|n| allowed(&mut log, 61_000, "a", &n.to_string(), 1))
            .sum();
        assert_eq!(all, 200, "of all in one second");
    }
}
