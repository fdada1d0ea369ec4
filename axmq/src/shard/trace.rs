//! Tracing one client: each of its packets in words, for an operator who watches.
//!
//! The core only collects lines; the thread around it carries them away at the end of a turn. With
//! nobody watching a packet costs one look at an empty list.

use std::fmt::{self, Write as _};

use mqtt_codec::{Packet, Role, Scan};
use slabmem::Key;

use super::Core;
use super::deliver::Wanted;
use crate::events::{Cause, ProtocolName, ReasonHex};
use crate::message::ConnectInfo;
use crate::publication::View;

/// Lines of one turn, for all that are traced; more are counted as lost.
const LINES_A_TURN: usize = 4_096;
/// Filters that a line names.
const FILTERS_SHOWN: usize = 20;

/// Whose packets are written down.
#[derive(Debug)]
pub(super) struct Tracer {
    /// Names the one who watches.
    id: u64,
    client_id: Box<str>,
    connection: Option<Key>,
}

/// A line for one who watches.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Traced {
    pub(crate) tracer: u64,
    pub(crate) direction: &'static str,
    pub(crate) text: String,
}

impl<S> Core<S> {
    /// Begins to trace a client, which need not be connected.
    pub(crate) fn trace(&mut self, id: u64, client_id: &str) {
        // A traced client gets its messages one by one.
        self.end_run();
        let connection = self
            .find(client_id)
            .and_then(|key| self.sessions.get(key)?.connection);
        let state = connection
            .and_then(|key| self.connections.get(key))
            .map(|connection| (connection.peer, connection.version));
        self.tracers.push(Tracer {
            id,
            client_id: client_id.into(),
            connection,
        });
        let text = match state {
            Some((peer, version)) => {
                format!("connected from {peer}, MQTT {}", ProtocolName(version))
            }
            None => "not connected".to_owned(),
        };
        self.traced.push(Traced {
            tracer: id,
            direction: "--",
            text,
        });
    }

    pub(crate) fn untrace(&mut self, id: u64) {
        self.tracers.retain(|tracer| tracer.id != id);
    }

    /// Takes the lines of this turn, and how many more there were.
    pub(crate) fn take_traced(&mut self) -> (Vec<Traced>, u64) {
        let lost = std::mem::take(&mut self.traced_lost);
        (std::mem::take(&mut self.traced), lost)
    }

    pub(crate) fn has_traced(&self) -> bool {
        !self.traced.is_empty()
    }

    fn trace_line(&mut self, key: Key, direction: &'static str, text: impl fmt::Display) {
        for tracer in self.tracers.iter().filter(|t| t.connection == Some(key)) {
            if self.traced.len() < LINES_A_TURN {
                self.traced.push(Traced {
                    tracer: tracer.id,
                    direction,
                    text: text.to_string(),
                });
            } else {
                self.traced_lost += 1;
            }
        }
    }

    pub(super) fn is_traced(&self, key: Key) -> bool {
        self.tracers.iter().any(|t| t.connection == Some(key))
    }

    #[cold]
    pub(super) fn trace_connect(&mut self, key: Key, connect: &ConnectInfo) {
        for tracer in &mut self.tracers {
            if tracer.client_id == connect.client_id {
                tracer.connection = Some(key);
            }
        }
        if !self.is_traced(key) {
            return;
        }
        let Some(peer) = self.connections.get(key).map(|connection| connection.peer) else {
            return;
        };
        let text = format!(
            "CONNECT from {peer}, MQTT {}, clean start {}, keep alive {} s, session expiry {} s, \
             will {}",
            ProtocolName(connect.version),
            yes_no(connect.clean_start),
            connect.keep_alive_s,
            connect.session_expiry_s,
            yes_no(connect.will.is_some()),
        );
        self.trace_line(key, "in", text);
    }

    #[cold]
    pub(super) fn trace_end(&mut self, key: Key, cause: &Cause) {
        self.trace_line(
            key,
            "--",
            format_args!("closed by {}: {cause}", cause.ended_by().name()),
        );
        for tracer in &mut self.tracers {
            if tracer.connection == Some(key) {
                tracer.connection = None;
            }
        }
    }

    /// A packet has come in.
    #[cold]
    pub(super) fn trace_in(&mut self, key: Key, packet: &Packet<'_>) {
        if self.is_traced(key) {
            self.trace_line(key, "in", Words(packet));
        }
    }

    /// A control packet was queued.
    #[cold]
    pub(super) fn trace_out(&mut self, key: Key, bytes: &[u8]) {
        let Some(version) = self.connections.get(key).map(|c| c.version) else {
            return;
        };
        if !self.is_traced(key) {
            return;
        }
        if let Ok(Scan::Frame(frame)) = mqtt_codec::scan(bytes, u32::MAX)
            && let Ok(packet) = mqtt_codec::decode(bytes, &frame, version, Role::Client)
        {
            self.trace_line(key, "out", Words(&packet));
        }
    }

    /// A PUBLISH was queued.
    #[cold]
    pub(super) fn trace_publish(&mut self, key: Key, view: &View<'_>, wanted: &Wanted<'_>) {
        if !self.is_traced(key) {
            return;
        }
        let mut text = String::new();
        let words = PublishWords {
            topic: view.topic(),
            qos: wanted.qos as u8,
            packet_id: wanted.packet_id.map(mqtt_codec::PacketId::get),
            dup: wanted.dup,
            retain: wanted.retain,
            payload: view.payload().len(),
        };
        // Writing to a text cannot fail.
        let _ = write!(text, "{words}");
        self.trace_line(key, "out", text);
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

struct PublishWords<'a> {
    topic: &'a str,
    qos: u8,
    packet_id: Option<u16>,
    dup: bool,
    retain: bool,
    payload: usize,
}

impl fmt::Display for PublishWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PUBLISH \"{}\" QoS {}",
            self.topic.escape_debug(),
            self.qos
        )?;
        if let Some(id) = self.packet_id {
            write!(f, " #{id}")?;
        }
        if self.dup {
            f.write_str(" DUP")?;
        }
        if self.retain {
            f.write_str(" RETAIN")?;
        }
        write!(f, ", {} bytes", self.payload)
    }
}

/// A packet in words, without its payload.
struct Words<'a>(&'a Packet<'a>);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Packet::Publish(publish) => PublishWords {
                topic: publish.topic(),
                qos: publish.qos() as u8,
                packet_id: publish.packet_id().map(mqtt_codec::PacketId::get),
                dup: publish.dup(),
                retain: publish.retain(),
                payload: publish.payload().len(),
            }
            .fmt(f),
            Packet::ConnAck(packet) => write!(
                f,
                "CONNACK {}, session present {}",
                ReasonHex(packet.reason()),
                yes_no(packet.session_present())
            ),
            Packet::PubAck(ack)
            | Packet::PubRec(ack)
            | Packet::PubRel(ack)
            | Packet::PubComp(ack) => {
                let (kind, id) = (self.0.packet_type(), ack.packet_id());
                write!(f, "{kind} #{id} {}", ReasonHex(ack.reason()))
            }
            Packet::Subscribe(packet) => {
                write!(f, "SUBSCRIBE #{}", packet.packet_id())?;
                for wanted in packet.filters().take(FILTERS_SHOWN) {
                    let filter = wanted.filter.escape_debug();
                    write!(f, " \"{filter}\" QoS {}", wanted.qos as u8)?;
                }
                more(f, packet.filters().count())
            }
            Packet::Unsubscribe(packet) => {
                write!(f, "UNSUBSCRIBE #{}", packet.packet_id())?;
                for filter in packet.filters().take(FILTERS_SHOWN) {
                    write!(f, " \"{}\"", filter.escape_debug())?;
                }
                more(f, packet.filters().count())
            }
            Packet::SubAck(packet) => {
                write!(f, "SUBACK #{}", packet.packet_id())?;
                codes(f, packet.codes())
            }
            Packet::UnsubAck(packet) => {
                write!(f, "UNSUBACK #{}", packet.packet_id())?;
                codes(f, packet.codes())
            }
            Packet::Disconnect(packet) => write!(f, "DISCONNECT {}", ReasonHex(packet.reason())),
            Packet::Auth(packet) => write!(f, "AUTH {}", ReasonHex(packet.reason())),
            other => write!(f, "{}", other.packet_type()),
        }
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: usize) -> fmt::Result {
    match count.saturating_sub(FILTERS_SHOWN) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}

fn codes(
    f: &mut fmt::Formatter<'_>,
    codes: impl Iterator<Item = mqtt_codec::ReasonCode> + Clone,
) -> fmt::Result {
    for code in codes.clone().take(FILTERS_SHOWN) {
        write!(f, " {}", ReasonHex(code))?;
    }
    more(f, codes.count())
}
