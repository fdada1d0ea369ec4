//! A client that keeps to the protocol, keeps its own session, and takes nothing on trust.

mod account;
mod connect;
mod login;
mod publish;
mod receive;
mod stop;
mod subscribe;
mod sys;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

use mqtt_codec::{Packet, PacketId, PacketType, Role, Scan, Version};
use pollio::sim::SimPeer;

use self::connect::{Belief, Expected};
use self::login::{Login, Talk};
use self::publish::Outgoing;
pub(super) use self::publish::number;
use self::subscribe::{Owed, Request, Subscription};
use super::plan::{ACTS, Act};
use super::report::Feature;
use super::{Check, World};

/// A message that came at QoS 1 or 2 and is not settled.
#[derive(Copy, Clone, Debug)]
struct Incoming {
    message: Option<u32>,
    connection: u64,
    qos: u8,
    /// PUBACK is out, or a PUBREC that refuses: the id may be used anew.
    is_settled: bool,
    /// PUBREL has come.
    is_released: bool,
}

/// Something sent that is answered in its turn.
#[derive(Copy, Clone, Debug)]
enum Sent {
    Connect,
    /// The message, its place among the transmissions to a retained topic, and its id.
    Publish(Option<u32>, Option<(usize, usize)>, u16),
    Request(u16),
    Ping,
}

struct Conn {
    peer: SimPeer,
    number: u64,
    unsent: Vec<u8>,
    received: Vec<u8>,
    is_accepted: bool,
    /// The client has stopped without a word.
    is_silent: bool,
    /// DISCONNECT has come, since the broker stops; then the end.
    is_told: bool,
    is_over: bool,
    expected: Expected,
    is_clean: bool,
    expiry_s: u32,
    will: Option<u32>,
    /// What the broker has not answered yet, with the time of sending.
    sent: VecDeque<(Sent, u64)>,
    /// Ids of first transmissions, in order: acknowledgements come in that order.
    first: VecDeque<u16>,
    /// The same of what was sent again at QoS 1.
    again: VecDeque<u16>,
    acks: VecDeque<(PacketType, u16)>,
    /// Deliveries that are not acknowledged.
    open: u16,
    aliases: Vec<Option<usize>>,
    /// Those that the broker has set.
    aliases_in: Vec<Option<String>>,
    /// The password, where one was shown, is right.
    is_right: bool,
    server_receive_maximum: u16,
    begun_ns: u64,
    pushed_ns: u64,
    /// Bytes that the network has taken in this step.
    pushed: usize,
    alive_ns: u64,
    /// Since when it is connected, in ticks.
    since: u64,
    /// Steps without a CONNACK.
    patience: u32,
}

/// A connection that the client has let go, and the broker perhaps not.
struct Old {
    peer: SimPeer,
    will: Option<u32>,
    is_clean_end: bool,
    /// CONNACK had come. A CONNECT that is still on its way could take over a later one.
    was_accepted: bool,
    /// If not: until when its CONNECT surely found the session.
    present_until_ns: u64,
}

pub(super) struct Client {
    me: usize,
    pub(super) name: String,
    version: Version,
    assigns: bool,
    expiry_s: u32,
    keep_alive_s: u16,
    packet_bytes_max: u32,
    receive_maximum: u16,
    alias_maximum: u16,
    login: Login,
    talk: Talk,
    /// Exchanges that it has begun.
    talks: u64,
    /// It subscribes to `$SYS/`.
    watches: bool,
    sys_values: BTreeMap<String, u64>,
    /// Bytes that it reads in one step.
    pace: usize,
    conn: Option<Conn>,
    old: Vec<Old>,
    connections: u64,
    belief: Belief,
    next_id: u16,
    outgoing: VecDeque<Outgoing>,
    requests: BTreeMap<u16, Request>,
    incoming: BTreeMap<u16, Incoming>,
    completed: BTreeSet<u16>,
    subscriptions: Vec<Subscription>,
    /// Those of earlier sessions.
    past: Vec<Subscription>,
    /// Deliveries from the store, and of empty messages.
    replayed: u64,
    emptied: u64,
    owed: Vec<Owed>,
    /// What came while a SUBACK was due, and when: the broker need not wait with stored messages
    /// until it has sent that.
    early: BTreeMap<u32, u64>,
    /// Messages that this session has got.
    got: BTreeSet<u32>,
    /// How often each came live, over all sessions.
    live: BTreeMap<u32, u32>,
    /// How far each publisher's transmissions to a topic have come, at QoS 0 and above.
    cursors: BTreeMap<(usize, usize, bool), usize>,
    /// The newest transmission to a retained topic that came live.
    newest: BTreeMap<(usize, bool), u32>,
    /// Messages to publish while the network is whole.
    probes: u32,
    /// It is a member of groups.
    shares: bool,
    /// Something has come in this step that was not just an answer to a ping.
    has_heard: bool,
}

impl Client {
    pub(super) fn new(me: usize, w: &mut World) -> Self {
        let r = &mut w.random;
        let version = r.pick(&[Version::V5, Version::V5, Version::V311, Version::V31]);
        let is_v5 = version == Version::V5;
        let keep_alive_s = r.pick(&[0, 0, 1, 5]);
        let pace = if r.below(100) < w.plan.slow as usize {
            r.pick(&[1, 7, 60])
        } else {
            usize::MAX
        };
        let login = match &w.plan.hooks {
            None => Login::None,
            Some(_) if is_v5 && r.one_in(2) => Login::Scram,
            Some(_) => Login::Password,
        };
        Self {
            me,
            login,
            talk: Talk::default(),
            talks: 0,
            watches: w.plan.sys_interval_s.is_some() && r.one_in(3),
            sys_values: BTreeMap::new(),
            alias_maximum: if is_v5 { r.pick(&[0, 1, 5]) } else { 0 },
            name: format!("c{me}"),
            version,
            assigns: is_v5 && r.one_in(8),
            expiry_s: match r.pick(&[0, 2, 1_000_000, 1_000_000, u32::MAX]) {
                0 | 2 if w.plan.keeps_sessions => 1_000_000,
                expiry_s => expiry_s,
            },
            keep_alive_s,
            packet_bytes_max: if is_v5 {
                r.pick(&[0, 0, 200, 1_000])
            } else {
                0
            },
            receive_maximum: if is_v5 {
                r.pick(&[1, 2, 5, 65_535])
            } else {
                65_535
            },
            pace,
            conn: None,
            old: Vec::new(),
            connections: 0,
            belief: Belief::default(),
            next_id: 0,
            outgoing: VecDeque::new(),
            requests: BTreeMap::new(),
            incoming: BTreeMap::new(),
            completed: BTreeSet::new(),
            subscriptions: Vec::new(),
            past: Vec::new(),
            replayed: 0,
            emptied: 0,
            owed: Vec::new(),
            early: BTreeMap::new(),
            got: BTreeSet::new(),
            live: BTreeMap::new(),
            cursors: BTreeMap::new(),
            newest: BTreeMap::new(),
            probes: 0,
            shares: r.one_in(2) || w.plan.keeps_sessions,
            has_heard: false,
        }
    }

    /// One step: bytes, packets, answers, and perhaps something new.
    pub(super) fn step(&mut self, w: &mut World) -> Check {
        self.bury(w);
        self.has_heard = false;
        let Some(conn) = &mut self.conn else {
            let may_connect = self.old.iter().all(|old| old.was_accepted);
            if may_connect && (w.is_healing || w.random.one_in(3)) {
                self.connect(w);
            }
            return Ok(());
        };
        if conn.is_silent {
            if w.is_healing || w.random.one_in(30) {
                self.leave(w, false);
            }
            return Ok(());
        }
        conn.pushed = 0;
        conn.receive(w, self.pace);
        self.take_packets(w)?;
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        if conn.peer.end().is_some() {
            return self.ended(w);
        }
        if conn.is_accepted {
            self.answer(w);
            self.act(w);
        } else {
            conn.patience += 1;
            if !w.is_healing && conn.patience > 20 && w.random.one_in(50) {
                self.leave(w, true);
            }
        }
        if let Some(conn) = &mut self.conn {
            conn.push(w);
        }
        Ok(())
    }

    /// The broker closed the connection.
    fn ended(&mut self, w: &mut World) -> Check {
        let is_accepted = self.conn.as_ref().is_some_and(|conn| conn.is_accepted);
        let begun_ns = self.conn.as_ref().map_or(0, |conn| conn.begun_ns);
        check!(
            begun_ns < w.healed_ns || !is_accepted,
            "the broker closed a connection that did nothing wrong"
        );
        if !is_accepted {
            w.report.note(Feature::Refused);
        }
        self.leave(w, true);
        Ok(())
    }

    fn act(&mut self, w: &mut World) {
        if w.is_healing {
            self.act_in_peace(w);
            return;
        }
        let act = ACTS[w.random.weighted(&w.plan.acts)];
        if !w.plan.allows(act, w.tick) {
            self.keep_alive(w);
            return;
        }
        match act {
            Act::Publish => self.publish_something(w),
            Act::Burst => self.burst(w),
            Act::PublishRetained => self.publish_retained(w),
            Act::Subscribe => self.subscribe(w),
            Act::Unsubscribe => self.unsubscribe(w),
            Act::Ping => self.ping(w),
            Act::Disconnect if w.random.one_in(4) => self.disconnect(w),
            Act::Reset if w.random.one_in(4) => {
                w.report.note(Feature::Reset);
                self.leave(w, true);
            }
            Act::FallSilent if w.random.one_in(4) => {
                w.report.note(Feature::HalfOpen);
                if let Some(conn) = &mut self.conn {
                    conn.is_silent = true;
                }
                self.will_may_come(w);
            }
            Act::AuthenticateAnew => self.authenticate_anew(w),
            Act::TakeOver if w.random.one_in(4) => {
                w.report.note(Feature::TakeOver);
                self.leave(w, false);
                self.connect(w);
            }
            _ => self.keep_alive(w),
        }
    }

    /// The faults are over: a few messages more, and nothing else but what is due.
    fn act_in_peace(&mut self, w: &mut World) {
        if self.probes > 0 && self.outgoing.is_empty() {
            self.probes -= 1;
            if self.probes == 0 {
                self.ask_for_all_retained(w);
            } else {
                self.publish_something(w);
            }
        } else {
            self.keep_alive(w);
        }
    }

    fn keep_alive(&mut self, w: &mut World) {
        let is_due = self.conn.as_ref().is_some_and(|conn| {
            let quiet_ns = w.site.now_ns() - conn.pushed_ns;
            self.keep_alive_s != 0 && quiet_ns > u64::from(self.keep_alive_s) * 500_000_000
        });
        if is_due {
            self.ping(w);
        }
    }

    fn ping(&mut self, w: &World) {
        let ping = mqtt_codec::PING_REQ;
        self.send(w, &ping, Some(Sent::Ping));
    }

    fn send(&mut self, w: &World, bytes: &[u8], sent: Option<Sent>) {
        w.say(self.me, || format!("sends {sent:?} {bytes:?}"));
        if let Some(conn) = &mut self.conn {
            conn.unsent.extend_from_slice(bytes);
            if let Some(sent) = sent {
                conn.sent.push_back((sent, w.site.now_ns()));
            }
        }
    }

    /// An id that nothing else has.
    fn fresh_id(&mut self) -> u16 {
        loop {
            self.next_id = self.next_id % 60_000 + 1;
            let id = self.next_id;
            let is_free = !self.requests.contains_key(&id)
                && self.outgoing.iter().all(|outgoing| outgoing.id != id);
            if is_free {
                return id;
            }
        }
    }

    fn take_packets(&mut self, w: &mut World) -> Check {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let bytes = std::mem::take(&mut conn.received);
        let number = conn.number;
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let scan = mqtt_codec::scan(rest, u32::MAX)
                .map_err(|error| format!("{} got no packet: {error}", self.name))?;
            let Scan::Frame(frame) = scan else { break };
            let rest = &rest[..frame.total_len];
            let packet = mqtt_codec::decode(rest, &frame, self.version, Role::Client)
                .map_err(|error| format!("{} got a broken packet: {error}", self.name))?;
            w.trace.packet(self.me, rest);
            w.say(self.me, || format!("gets {packet:?}"));
            w.report.packets += 1;
            self.has_heard |= !matches!(packet, Packet::PingResp);
            at += frame.total_len;
            self.take(w, &packet, frame.total_len)
                .map_err(|text| format!("{} ({:?}): {text}", self.name, self.version))?;
            if self.conn.as_ref().is_none_or(|conn| conn.number != number) {
                return Ok(());
            }
        }
        if let Some(conn) = &mut self.conn {
            conn.received = bytes[at..].to_vec();
        }
        Ok(())
    }

    fn take(&mut self, w: &mut World, packet: &Packet<'_>, len: usize) -> Check {
        check!(
            self.packet_bytes_max == 0 || len <= self.packet_bytes_max as usize,
            "a packet of {len} bytes is larger than the client takes"
        );
        let is_told = self.conn.as_ref().is_some_and(|conn| conn.is_told);
        check!(!is_told, "something comes behind DISCONNECT");
        match packet {
            Packet::ConnAck(connack) => self.on_connack(w, connack),
            Packet::Publish(publish) => self.on_publish(w, publish),
            Packet::PubAck(ack) => self.on_ack(w, 1, ack.packet_id().get(), ack.reason()),
            Packet::PubRec(ack) => self.on_ack(w, 2, ack.packet_id().get(), ack.reason()),
            Packet::Auth(auth) => self.on_auth(w, auth),
            Packet::PubComp(ack) => self.on_pubcomp(ack.packet_id().get()),
            Packet::PubRel(ack) => self.on_pubrel(ack.packet_id().get()),
            Packet::SubAck(ack) => self.on_suback(w, ack),
            Packet::UnsubAck(ack) => self.on_unsuback(w, ack),
            Packet::PingResp => {
                let is_ping = |sent: &Sent| matches!(sent, Sent::Ping);
                self.answered(w, is_ping, "PINGRESP")
            }
            Packet::Disconnect(packet) => self.on_disconnect(w, packet.reason()),
            other => Err(format!("{:?} is not for clients", other.packet_type())),
        }
    }

    /// The broker has answered something: it has handled all that was sent before too.
    fn answered(&mut self, w: &mut World, is_it: impl Fn(&Sent) -> bool, what: &str) -> Check {
        let Some(conn) = &mut self.conn else {
            return Ok(());
        };
        let Some(at) = conn.sent.iter().position(|(sent, _)| is_it(sent)) else {
            return Err(format!("{what} answers nothing"));
        };
        for (sent, sent_ns) in conn.sent.drain(..=at) {
            conn.alive_ns = conn.alive_ns.max(sent_ns);
            // One that is to be acknowledged is known to be stored, but not yet to be everywhere.
            if let Sent::Publish(message, store, id) = sent {
                w.routed(message.filter(|_| id == 0), store);
            }
        }
        let alive_ns = conn.alive_ns;
        self.belief.alive_ns = alive_ns;
        if let Some(will) = conn.will
            && let Some(state) = &mut w.ledger.message(will).will
        {
            state.alive_ns = alive_ns;
        }
        Ok(())
    }

    /// So many messages more, once the network is whole.
    pub(super) fn wish(&mut self, probes: u32) {
        self.probes = probes;
    }

    /// Nothing is under way, as far as the client knows.
    pub(super) fn is_at_rest(&self) -> bool {
        self.probes == 0
            && !self.has_heard
            && self.old.is_empty()
            && self.outgoing.is_empty()
            && self.requests.is_empty()
            && self.conn.as_ref().is_some_and(|conn| {
                conn.is_accepted
                    && conn.unsent.is_empty()
                    && conn.received.is_empty()
                    && conn.acks.is_empty()
                    && conn.open == 0
            })
    }

    /// The broker has read all that was sent before this step. One that waits for its disk takes
    /// its time.
    pub(super) fn is_read(&self) -> bool {
        let conn = self.conn.as_ref();
        conn.is_none_or(|conn| conn.peer.unread() <= conn.pushed)
    }

    pub(super) fn describe(&self) -> String {
        let conn = self.conn.as_ref().map(|conn| {
            let (unsent, received) = (conn.unsent.len(), conn.received.len());
            let (acks, open, sent) = (conn.acks.len(), conn.open, conn.sent.len());
            let accepted = conn.is_accepted;
            format!(
                "accepted {accepted}, unsent {unsent}, received {received}, acks {acks}, \
                 open {open}, unanswered {sent}, not read {}",
                conn.peer.unread()
            )
        });
        let (outgoing, requests) = (self.outgoing.len(), self.requests.len());
        let (name, old, probes) = (&self.name, self.old.len(), self.probes);
        format!(
            "{name}: {conn:?}, old {old}, outgoing {outgoing}, requests {requests}, \
             probes {probes}"
        )
    }
}

impl Conn {
    /// Whether it has met the end of the connection, behind a whole packet.
    fn has_all(&self) -> bool {
        self.is_over && self.received.is_empty()
    }

    fn receive(&mut self, w: &mut World, pace: usize) {
        let most = if w.is_healing { usize::MAX } else { pace };
        if most != usize::MAX {
            w.report.note(Feature::SlowReader);
        }
        self.peer.receive(&mut self.received, most);
    }

    /// Gives the network what it takes, now and then in pieces.
    fn push(&mut self, w: &mut World) {
        if self.unsent.is_empty() {
            return;
        }
        let len = self.unsent.len();
        let most = if !w.is_healing && w.random.one_in(8) {
            w.report.note(Feature::SplitWrite);
            1 + w.random.below(len)
        } else {
            len
        };
        match self.peer.send(&self.unsent[..most]) {
            Ok(sent) => {
                self.unsent.drain(..sent);
                self.pushed_ns = w.site.now_ns();
                self.pushed += sent;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // What is left to be received says why.
            Err(_) => self.unsent.clear(),
        }
    }
}

fn packet_id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}
