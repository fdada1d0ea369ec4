//! What the protocol core has to report: it makes no system call, so it writes no log line itself.
//! The thread around it logs the events at the end of a turn.

use std::fmt;

use mqtt_codec::{ReasonCode, Version};
use pollio::PeerAddr;

use crate::hooks::EndedBy;

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
    KeepAlive,
    TakenOver(PeerAddr),
    /// A hook, or what authentication came to, ends it.
    Policy {
        reason: ReasonCode,
        what: &'static str,
    },
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
            Self::KeepAlive => ReasonCode::KeepAliveTimeout,
            Self::TakenOver(_) => ReasonCode::SessionTakenOver,
            Self::Policy { reason, .. } => *reason,
            Self::ServerStops => ReasonCode::ServerShuttingDown,
        }
    }

    /// Who ended the connection.
    pub(crate) fn ended_by(&self) -> EndedBy {
        match self {
            Self::ClientDisconnected(_) => EndedBy::Client,
            Self::PeerClosed | Self::Io(_) | Self::KeepAlive => EndedBy::Network,
            Self::Protocol(_) | Self::Violation { .. } | Self::Topic(_) => EndedBy::Misconduct,
            Self::TakenOver(_) => EndedBy::TakeOver,
            Self::Policy { .. } => EndedBy::Policy,
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

    /// Whether the client did something that an operator has to know.
    pub(crate) fn is_misconduct(&self) -> bool {
        matches!(
            self,
            Self::Protocol(_) | Self::Violation { .. } | Self::Topic(_)
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
            Self::KeepAlive => f.write_str("nothing came for 1.5 times the keep alive"),
            Self::Policy { what, .. } => f.write_str(what),
            Self::TakenOver(peer) => write!(f, "taken over by a connection from {peer}"),
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
}

impl Event {
    fn is_routine(&self) -> bool {
        match self {
            Self::Connected { .. } => true,
            Self::Disconnected { cause, .. } => !cause.is_misconduct(),
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
            Self::Disconnected {
                client_id,
                peer,
                cause,
            } if cause.is_misconduct() => {
                tracing::warn!(
                    event = "client.disconnected",
                    client = %client_id.escape_debug(),
                    %peer,
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
                "{cause}"
            ),
        }
    }
}

/// Keeps a crowd of misbehaving clients from filling the disk: so many lines a second, then one
/// that says how many were left out.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    second: u64,
    written: u32,
    left_out: u64,
}

/// Lines of one shard in one second.
const LINES_A_SECOND: u32 = 200;

impl LogBudget {
    pub(crate) fn write(&mut self, events: impl Iterator<Item = Event>, now_ms: u64) {
        for event in events {
            // Routine lines are only there because somebody asked for all of them.
            if event.is_routine() || self.allows(now_ms) {
                event.log();
            }
        }
    }

    /// Whether one more line may be written.
    pub(crate) fn allows(&mut self, now_ms: u64) -> bool {
        let second = now_ms / 1_000;
        if second != self.second {
            self.second = second;
            self.written = 0;
            if self.left_out > 0 {
                tracing::warn!(event = "log.limited", left_out = self.left_out);
                self.left_out = 0;
            }
        }
        let allows = self.written < LINES_A_SECOND;
        if allows {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        allows
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
