//! The clients of `conn`, `sub` and `pub` in one process.

mod publish;

use std::{collections::VecDeque, io::Write as _};

use mqtt_codec::{Packet, PacketId, PacketType, encode};
use pollio::{Epoll, Io, Reactor, ReactorOptions};
use timerwheel::{Policy, TimerWheel};

use super::{
    options::{Command, Header, Options, feed},
    saturation::Saturation,
    stats::{Counter, Counters, Printer},
};
use crate::{
    clock,
    fail::Failure,
    fleet::{Client, Closed, Fleet, Load, Message, Runner},
    net::{self, Dialer},
};

const TICK_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// A publisher with more than this unsent waits for its socket.
const PENDING_BYTES_MAX: usize = 64 * 1024;
/// Messages of one publisher a turn, so that all get their turn.
const BURST: usize = 64;
/// Connections on their way at once, when no interval holds them back.
const CONNECTING_MAX: u32 = 1_000;
/// How long acknowledgements may be waited for when the limit is reached.
const FINISH_NS: u64 = 5 * SECOND_NS;
const COMPLAINTS_MAX: u32 = 20;

#[derive(Clone, Copy, Debug)]
enum Timer {
    Ping(u32),
    Publish(u32),
    Open(u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    New,
    Connecting,
    Up,
    Gone,
}

#[derive(Debug, Default)]
struct Member {
    state: State,
    attempts: u32,
    reconnects: u32,
    was_up: bool,
    pinging: bool,
    sent_since_ping: bool,
    publishing: bool,
    /// Whether a timer to publish is set; there is never a second one.
    timed: bool,
    inflight: u16,
    last_id: u16,
    published: u64,
    begin_ns: u64,
    last_cnt: Option<u64>,
    topic: Option<Box<str>>,
}

/// The clients of a process, and what they have done.
#[derive(Debug)]
pub struct Crowd {
    options: Options,
    dialer: Dialer,
    suffix: String,
    wheel: TimerWheel<Timer>,
    start_ns: u64,
    members: Vec<Member>,
    opened: u32,
    connecting: u32,
    tried: u32,
    due: VecDeque<u32>,
    counters: Counters,
    printer: Printer,
    next_stats_ns: u64,
    child: bool,
    left: Option<u64>,
    unacknowledged: u64,
    finish_by_ns: Option<u64>,
    complaints: u32,
    saturation: Saturation,
    payload: Vec<u8>,
    random: u64,
    /// How it ended, when it has.
    end: Option<Result<(), Failure>>,
}

/// Runs the clients of this process until they are done; `child` prints for a parent to read.
///
/// # Errors
///
/// What keeps it from beginning or going on.
pub fn run(options: Options, dialer: Dialer, child: bool) -> Result<(), Failure> {
    let start_ns = clock::now_ns();
    let seed = clock::wall_ns() ^ u64::from(std::process::id()) << 40;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut members = Vec::new();
    members.resize_with(options.count as usize, Member::default);
    let payload = match &options.message {
        Some(message) => message.clone().into_bytes(),
        None => vec![b'a'; options.size],
    };
    let fleet = Fleet::new(options.count as usize, options.target.version);
    let load = Crowd {
        dialer,
        suffix: format!("{}|{}", host.trim(), seed & 0xffff_ffff),
        wheel: TimerWheel::with_capacity(Policy::Exact, 0, options.count as usize * 2),
        start_ns,
        members,
        opened: 0,
        connecting: 0,
        tried: 0,
        due: VecDeque::new(),
        counters: Counters::default(),
        printer: Printer::new(start_ns),
        next_stats_ns: start_ns + SECOND_NS,
        child,
        left: Some(options.limit).filter(|&limit| limit > 0),
        unacknowledged: 0,
        finish_by_ns: None,
        complaints: 0,
        saturation: Saturation::default(),
        payload,
        random: seed,
        end: None,
        options,
    };
    let epoll = Epoll::new().map_err(|error| Failure::run(format!("no epoll: {error}")))?;
    let mut reactor = Reactor::new(epoll, ReactorOptions::default());
    let mut runner = Runner { fleet, load };
    reactor
        .run(&mut runner, |runner| runner.load.end.is_some())
        .map_err(|error| Failure::run(format!("waiting for events: {error}")))?;
    runner.load.show(clock::now_ns());
    let end = runner.load.end.take().unwrap_or(Ok(()));
    if end.is_ok() {
        runner.load.say("publish complete\n");
    }
    end
}

impl Crowd {
    fn number(&self, id: u32) -> u64 {
        self.options.startnumber + u64::from(id) + 1
    }

    fn client_id(&self, id: u32) -> String {
        let (options, number) = (&self.options, self.number(id));
        let prefix = options.prefix.as_deref();
        if options.shortids {
            return format!("{}{number}", prefix.unwrap_or_default());
        }
        let name = options.command.name();
        if let Some(prefix) = prefix {
            return format!("{prefix}_bench_{name}_{number}");
        }
        let (host, random) = self.suffix.split_once('|').unwrap_or_default();
        let source = self
            .options
            .target
            .ifaddr
            .as_ref()
            .and(self.dialer.source(u64::from(id)));
        match source {
            Some(source) => format!("{source}_bench_{name}_{random}_{number}"),
            None => format!("{host}_bench_{name}_{random}_{number}"),
        }
    }

    fn topic(&self, template: &str, id: u32, published: u64) -> String {
        let user = self.options.username.as_deref();
        feed(
            template,
            self.number(id),
            &self.client_id(id),
            user,
            published,
        )
    }

    /// Writes to standard output; a reader who has gone is no reason to go on.
    fn say(&mut self, text: &str) {
        if !self.options.quiet && std::io::stdout().write_all(text.as_bytes()).is_err() {
            self.end
                .get_or_insert(Err(Failure::run("standard output is closed")));
        }
    }

    fn complain(&mut self, id: u32, what: &str) {
        self.complaints += 1;
        match self.complaints {
            1..COMPLAINTS_MAX => self.say(&format!("client({}): {what}\n", self.number(id))),
            COMPLAINTS_MAX => self.say("further lines of this kind are left out\n"),
            _ => {}
        }
    }

    fn show(&mut self, now_ns: u64) {
        let text = if self.child {
            format!("@{}\n", self.counters.to_line())
        } else {
            self.printer.lines(&self.counters, now_ns)
        };
        if !text.is_empty() {
            self.say(&text);
        }
    }

    fn tick(&self, ns: u64) -> u64 {
        ns.saturating_sub(self.start_ns) / TICK_NS
    }

    fn random_below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn open(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, id: u32) {
        match fleet.open(io, &self.dialer, id, u64::from(id)) {
            Ok(()) => {
                self.members[id as usize].state = State::Connecting;
                self.connecting += 1;
            }
            Err(error) => {
                let failure = self.dialer.explain(u64::from(id), &error);
                self.end.get_or_insert(Err(failure));
            }
        }
    }

    /// Opens what the interval says should be open by now; when more are wanted, if they are.
    fn open_due(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) {
        let interval_ns = self.options.connect_interval_ns();
        let should = match (now_ns - self.start_ns).checked_div(interval_ns) {
            Some(intervals) => intervals + 1,
            None => {
                u64::from(self.opened)
                    + u64::from(CONNECTING_MAX - self.connecting.min(CONNECTING_MAX))
            }
        };
        while u64::from(self.opened) < should
            && self.opened < self.options.count
            && self.connecting < CONNECTING_MAX
            && self.end.is_none()
        {
            self.open(fleet, io, self.opened);
            self.opened += 1;
        }
    }

    /// A client has connected, or has given up for the first time.
    fn has_tried(&mut self, id: u32, now_ns: u64) {
        if self.members[id as usize].was_up {
            return;
        }
        self.tried += 1;
        if self.options.wait && self.tried == self.options.count {
            self.say(&format!(
                "Collected {} 'go' signals, start publishing\n",
                self.tried
            ));
            for id in 0..self.options.count {
                self.begin_publishing(id, now_ns);
            }
        }
    }

    fn up(&mut self, client: &mut Client, id: u32) {
        let now_ns = clock::now_ns();
        self.connecting -= 1;
        let member = &mut self.members[id as usize];
        let again = member.was_up;
        (member.state, member.attempts, member.inflight) = (State::Up, 0, 0);
        self.counters.add(
            if again {
                Counter::ReconnectSucc
            } else {
                Counter::ConnectSucc
            },
            1,
        );
        self.has_tried(id, now_ns);
        self.members[id as usize].was_up = true;
        if self.options.keepalive_s > 0 {
            let tick = self.tick(now_ns) + u64::from(self.options.keepalive_s) * 1_000;
            self.wheel.insert(tick, Timer::Ping(id));
        }
        match self.options.command {
            Command::Conn => {}
            Command::Sub => {
                let topics = self.options.topics.clone();
                let filters: Vec<_> = topics.iter().map(|t| self.topic(t, id, 0)).collect();
                let filters: Vec<_> = filters.iter().map(String::as_str).collect();
                let (version, qos) = (self.options.target.version, self.options.qos);
                client.subscribe(version, PacketId::MIN, &filters, qos);
            }
            Command::Pub if self.options.wait && self.tried < self.options.count => {}
            Command::Pub => self.begin_publishing(id, now_ns),
        }
    }

    fn ping(&mut self, fleet: &mut Fleet, id: u32, now_ns: u64) {
        let member = &mut self.members[id as usize];
        let Some(client) = fleet.client(id).filter(|_| member.state == State::Up) else {
            return;
        };
        if member.pinging {
            fleet.close(id);
            self.lost(id, "EXIT for {shutdown,pingresp_timeout}");
            return;
        }
        if !std::mem::take(&mut member.sent_since_ping) {
            member.pinging = true;
            client.out.extend_from_slice(&mqtt_codec::PING_REQ);
            fleet.touch(id);
        }
        let tick = self.tick(now_ns) + u64::from(self.options.keepalive_s) * 1_000;
        self.wheel.insert(tick, Timer::Ping(id));
    }

    /// A connection that stood is gone.
    fn lost(&mut self, id: u32, how: &str) {
        let reconnects = self.options.reconnects;
        let member = &mut self.members[id as usize];
        self.unacknowledged -= u64::from(member.inflight);
        (member.inflight, member.pinging, member.publishing) = (0, false, false);
        if member.reconnects < reconnects {
            member.reconnects += 1;
            member.state = State::New;
            self.retry(id);
        } else {
            member.state = State::Gone;
        }
        self.complain(id, how);
    }

    /// Tries again in a second, so that a broker that refuses is not stormed.
    fn retry(&mut self, id: u32) {
        let tick = self.tick(clock::now_ns()) + 1_000;
        self.wheel.insert(tick, Timer::Open(id));
    }

    /// An attempt to connect has failed.
    fn refused(&mut self, id: u32, name: &str, failure: Failure) {
        self.connecting -= 1;
        let retries = self.options.retries;
        let member = &mut self.members[id as usize];
        if member.attempts < retries {
            member.attempts += 1;
            member.state = State::New;
            self.counters.add(Counter::ConnectRetried, 1);
            self.retry(id);
        } else {
            member.state = State::Gone;
            self.counters.add(Counter::ConnectFail, 1);
            if self.options.command == Command::Sub {
                self.counters.add(Counter::SubFail, 1);
            }
            if self.counters.count(Counter::ConnectSucc) == 0 {
                self.end.get_or_insert(Err(failure));
                return;
            }
            self.has_tried(id, clock::now_ns());
        }
        self.complain(id, &format!("connect error - {name}"));
    }

    fn fire(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) {
        let mut due = Vec::new();
        while self.wheel.expire(self.tick(now_ns), 4_096, &mut due) {}
        for timer in due {
            match timer.value {
                Timer::Ping(id) => self.ping(fleet, id, now_ns),
                Timer::Publish(id) => {
                    self.members[id as usize].timed = false;
                    self.due.push_back(id);
                }
                Timer::Open(id) => {
                    if self.members[id as usize].state == State::New {
                        // One that was refused may still be open.
                        fleet.close(id);
                        self.open(fleet, io, id);
                    }
                }
            }
        }
    }

    fn finish(&mut self, fleet: &mut Fleet, now_ns: u64) {
        let gone = |member: &Member| member.state == State::Gone;
        if self.opened == self.options.count && fleet.is_empty() && self.members.iter().all(gone) {
            let line = "all connections are gone; the lines above say why";
            self.end.get_or_insert(Err(Failure::run(line)));
        }
        if let Some(by_ns) = self.finish_by_ns {
            let sent = (0..self.options.count)
                .all(|id| fleet.client(id).is_none_or(|client| client.pending() == 0));
            if sent && self.unacknowledged == 0 {
                self.end.get_or_insert(Ok(()));
            } else if now_ns > by_ns {
                let line = format!("{} messages were never acknowledged", self.unacknowledged);
                self.end.get_or_insert(Err(Failure::run(line)));
            }
        }
    }
}

impl Load for Crowd {
    fn opened(&mut self, client: &mut Client, id: u32) {
        let client_id = self.client_id(id);
        let mut connect = encode::Connect {
            client_id: &client_id,
            clean_start: self.options.clean,
            keep_alive: self.options.keepalive_s,
            username: self.options.username.as_deref(),
            password: self.options.password.as_deref().map(str::as_bytes),
            ..Default::default()
        };
        if self.options.session_expiry_s > 0 {
            connect.properties.session_expiry_interval = Some(self.options.session_expiry_s);
        }
        client
            .out
            .extend_from_slice(&connect.encode_to_vec(self.options.target.version));
    }

    fn message(&mut self, client: &mut Client, id: u32, message: &Message<'_>) {
        self.counters.add(Counter::Recv, 1);
        client.answer_publish(self.options.target.version, message.qos, message.id);
        let mut rest = message.payload;
        let mut broken = None;
        for header in &self.options.headers {
            let Some((bytes, after)) = rest.split_first_chunk::<8>() else {
                break;
            };
            let value = u64::from_be_bytes(*bytes);
            rest = after;
            match header {
                Header::Ts => {
                    let ms = (clock::wall_ns() / 1_000_000).saturating_sub(value);
                    self.counters.add(Counter::PublishLatency, ms);
                }
                Header::Cnt64 => {
                    let last = self.members[id as usize].last_cnt.replace(value);
                    broken = last
                        .filter(|last| last.wrapping_add(1) != value)
                        .map(|l| (l, value));
                }
            }
        }
        if let Some((last, now)) = broken {
            self.complain(id, &format!("{{err_payload_hdr_cnt64,{last},{now}}}"));
        }
    }

    fn packet(&mut self, client: &mut Client, id: u32, packet: &Packet<'_>) {
        let version = self.options.target.version;
        match packet {
            Packet::ConnAck(ack) if !ack.reason().is_error() => self.up(client, id),
            Packet::ConnAck(ack) => {
                let reason = ack.reason();
                let target = self.dialer.target(u64::from(id));
                let advice = "check -u, -P, -V and the broker's access rules";
                let line = format!("{target} refuses the client: {}; {advice}", reason.name());
                self.refused(id, reason.name(), Failure::run(line));
            }
            Packet::SubAck(ack) if ack.codes().any(|code| code.is_error()) => {
                self.counters.add(Counter::SubFail, 1);
                self.complain(id, "subscribe error");
            }
            Packet::SubAck(_) => self.counters.add(Counter::Sub, 1),
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                let failed = ack.reason().is_error();
                let counter = if failed {
                    Counter::PubFail
                } else {
                    Counter::PubSucc
                };
                self.acknowledged(id, counter);
            }
            Packet::PubRec(ack) if ack.reason().is_error() => {
                self.acknowledged(id, Counter::PubFail);
            }
            Packet::PubRec(ack) => {
                client.acknowledge(version, PacketType::PubRel, ack.packet_id());
            }
            Packet::PubRel(ack) => {
                client.acknowledge(version, PacketType::PubComp, ack.packet_id());
            }
            Packet::PingResp => self.members[id as usize].pinging = false,
            Packet::Disconnect(disconnect) => {
                let name = disconnect.reason().name();
                self.complain(id, &format!("disconnected with reason {name}"));
            }
            _ => {}
        }
    }

    fn writable(&mut self, id: u32) {
        if self.members[id as usize].publishing {
            self.due.push_back(id);
        }
    }

    fn closed(&mut self, id: u32, why: Closed) {
        match (self.members[id as usize].state, why) {
            (State::Gone | State::New, _) => {}
            (State::Connecting, Closed::NotConnected(error)) => {
                let failure = self.dialer.explain(u64::from(id), &error);
                self.refused(id, net::error_name(&error), failure);
            }
            (State::Connecting, Closed::Layer(what)) => {
                let target = self.dialer.target(u64::from(id));
                let line = format!("{target} does not accept a client: {what}");
                self.refused(id, "closed", Failure::run(line));
            }
            (State::Connecting, why) => {
                let target = self.dialer.target(u64::from(id));
                let line = format!("{target} does not accept a client: {why}; is it MQTT, and -V?");
                self.refused(id, "closed", Failure::run(line));
            }
            (State::Up, Closed::Ended) => self.lost(id, "EXIT for {shutdown,tcp_closed}"),
            (State::Up, Closed::Broken(error)) => {
                let line = format!("EXIT for {{shutdown,{}}}", net::error_name(&error));
                self.lost(id, &line);
            }
            (State::Up, why) => self.lost(id, &format!("EXIT for {why}")),
        }
    }

    fn next_deadline(&mut self) -> Option<u64> {
        let mut next_ns = self.next_stats_ns;
        if let Some(tick) = self.wheel.next_deadline() {
            next_ns = next_ns.min(self.start_ns + tick * TICK_NS);
        }
        if self.opened < self.options.count && self.connecting < CONNECTING_MAX {
            let interval_ns = self.options.connect_interval_ns();
            next_ns = next_ns.min(self.start_ns + u64::from(self.opened) * interval_ns);
        }
        if let Some(by_ns) = self.finish_by_ns {
            next_ns = next_ns.min(by_ns);
        }
        Some(next_ns)
    }

    fn turn(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) -> bool {
        self.fire(fleet, io, now_ns);
        if self.opened < self.options.count {
            self.open_due(fleet, io, now_ns);
        }
        // A client may stand in the queue twice; the second time finds nothing due.
        for _ in 0..self.due.len() {
            let Some(id) = self.due.pop_front() else {
                break;
            };
            if self.publish_due(fleet, id, now_ns) {
                self.due.push_back(id);
            }
        }
        if now_ns >= self.next_stats_ns {
            self.next_stats_ns += SECOND_NS;
            self.show(now_ns);
            if let Some(line) = self.saturation.look(now_ns) {
                eprintln!("axmq-bench: {line}");
            }
            self.finish(fleet, now_ns);
        } else if self.finish_by_ns.is_some() {
            self.finish(fleet, now_ns);
        }
        !self.due.is_empty()
    }
}
