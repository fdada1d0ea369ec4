//! Publishers and subscribers of a [`Plan`], in a loop that is closed by what arrives.

mod produce;

use mqtt_codec::{Packet, PacketId, PacketType, encode};
use pollio::{Epoll, Io, Reactor, ReactorOptions};

use super::{
    options::{Length, Pace, Traffic},
    plan::Plan,
};
use crate::{
    check::{Seen, Stamp, Tracker, Verdict},
    clock,
    fail::Failure,
    fleet::{Client, Closed, Fleet, Load, Message, Runner},
    hist::Histogram,
    net::Dialer,
    process::Usage,
    progress::Progress,
};

/// Longer than a run may be, so that nobody has to ping. There are brokers that refuse 0.
pub(crate) const KEEP_ALIVE_S: u16 = u16::MAX;
const CONNECTING_MAX: u32 = 200;
const CONNECT_NS: u64 = 30_000_000_000;
/// Quiet time between the last subscription and the first message.
const SETTLE_NS: u64 = 300_000_000;
/// With messages outstanding and none coming for so long, they are taken for lost.
const STALL_NS: u64 = 2_000_000_000;
/// What comes too often comes within this time after the last that was expected.
const LINGER_NS: u64 = 300_000_000;
const PENDING_BYTES_MAX: usize = 256 * 1024;
const INFLIGHT_MAX: u16 = 60_000;
/// Messages a turn at most at a fixed rate, so that reading gets its turn.
const RATE_BURST: u64 = 4_096;
const IDLE_CLIENTS_MAX: u32 = 100;
const FILTERS_A_PACKET: usize = 200;

/// How a client says hello: as MQTT asks, or to a relay, with its number alone.
#[derive(Clone, Debug)]
pub enum Dialect {
    /// CONNECT and SUBSCRIBE.
    Mqtt,
    /// Four bytes; publishers use the first dialer and subscribers this one.
    Relay(Dialer),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Connect,
    Settle,
    Warmup,
    Measure,
    Drain,
    Linger,
    Done,
}

#[derive(Debug, Default)]
struct Publisher {
    inflight: u16,
    last_id: u16,
}

#[derive(Debug)]
struct Listener {
    streams: Vec<u32>,
    trackers: Vec<Tracker>,
}

/// What a run has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was delivered, in the whole run.
    pub verdict: Verdict,
    /// Messages delivered in the measurement.
    pub delivered: u64,
    /// Messages published in the measurement.
    pub published: u64,
    /// The time of the measurement.
    pub time_ns: u64,
    /// What the broker used in it.
    pub broker: Option<Usage>,
    /// What this process used in it.
    pub own: Usage,
    /// Latencies in it, from the time a message was, or should have been, sent.
    pub latencies: Histogram,
}

#[derive(Debug)]
struct Bench<'a> {
    plan: &'a Plan,
    options: &'a Traffic,
    dialer: Dialer,
    dialect: Dialect,
    broker: Option<u32>,
    phase: Phase,
    phase_end_ns: u64,
    opened: u32,
    connecting: u32,
    ready: u32,
    clients: u32,
    idle_clients: u32,
    acks_missing: u32,
    listeners: Vec<Listener>,
    publishers: Vec<Publisher>,
    sent: Vec<u64>,
    cursor: u64,
    outstanding: u64,
    /// The same for each stream, which has an even share of the window.
    outstanding_of: Vec<u64>,
    /// Streams that may publish again; a stream stands here once.
    refill: Vec<u32>,
    queued: Vec<bool>,
    window: u64,
    unacknowledged: u64,
    published: u64,
    /// Publishes that may still be made, if they are counted.
    left: Option<u64>,
    rate_begin_ns: u64,
    rate_sent: u64,
    delivered: u64,
    last_delivery_ns: u64,
    verdict: Verdict,
    latencies: Histogram,
    payload: Vec<u8>,
    begin: Option<Mark>,
    finished: Option<Outcome>,
    outcome: Option<Result<Outcome, Failure>>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    time_ns: u64,
    broker: Option<Usage>,
    own: Usage,
    delivered: u64,
    published: u64,
}

/// Runs a plan. `broker` is the process whose use of CPU and memory is read.
///
/// # Errors
///
/// If a client cannot connect or subscribe, or loses its connection: no figure is given then.
pub fn run(
    plan: &Plan,
    options: &Traffic,
    dialer: Dialer,
    dialect: Dialect,
    broker: Option<u32>,
) -> Result<Outcome, Failure> {
    let now_ns = clock::now_ns();
    let idle_clients = plan.idle_filters.min(IDLE_CLIENTS_MAX);
    let clients = plan.subscribers.len() as u32 + plan.publishers + idle_clients;
    let listener = |subscriber: &super::plan::Subscriber| Listener {
        trackers: vec![Tracker::default(); subscriber.streams.len()],
        streams: subscriber.streams.clone(),
    };
    let mut publishers = Vec::new();
    publishers.resize_with(plan.publishers as usize, Publisher::default);
    let window = match options.pace {
        Pace::Window(window) => (window as f64 * plan.mean_fanout()).ceil() as u64,
        Pace::Rate(_) => u64::MAX,
    };
    let load = Bench {
        listeners: plan.subscribers.iter().map(listener).collect(),
        publishers,
        sent: vec![0; plan.streams.len()],
        payload: vec![b'a'; options.size],
        plan,
        options,
        dialer,
        dialect,
        broker,
        phase: Phase::Connect,
        phase_end_ns: now_ns + CONNECT_NS,
        opened: 0,
        connecting: 0,
        ready: 0,
        clients,
        idle_clients,
        acks_missing: 0,
        cursor: 0,
        outstanding: 0,
        outstanding_of: vec![0; plan.streams.len()],
        refill: Vec::new(),
        queued: vec![false; plan.streams.len()],
        window,
        unacknowledged: 0,
        published: 0,
        left: None,
        rate_begin_ns: 0,
        rate_sent: 0,
        delivered: 0,
        last_delivery_ns: now_ns,
        verdict: Verdict::default(),
        latencies: Histogram::default(),
        begin: None,
        finished: None,
        outcome: None,
        progress: Progress::default(),
    };
    let epoll = Epoll::new().map_err(|error| Failure::run(format!("no epoll: {error}")))?;
    let mut reactor = Reactor::new(epoll, ReactorOptions::default());
    let fleet = Fleet::new(clients as usize, options.common.target.version);
    let mut runner = Runner { fleet, load };
    reactor
        .run(&mut runner, |runner| runner.load.outcome.is_some())
        .map_err(|error| Failure::run(format!("waiting for events: {error}")))?;
    let nothing = || Err(Failure::run("the run ended without a result"));
    runner.load.outcome.take().unwrap_or_else(nothing)
}

impl Bench<'_> {
    fn fail(&mut self, failure: Failure) {
        self.outcome.get_or_insert(Err(failure));
    }

    fn subscribers(&self) -> u32 {
        self.plan.subscribers.len() as u32
    }

    fn role(&self, id: u32) -> String {
        let subscribers = self.subscribers();
        match id {
            id if id < subscribers => format!("subscriber {id}"),
            id if id < subscribers + self.plan.publishers => {
                format!("publisher {}", id - subscribers)
            }
            id => format!("idle subscriber {id}"),
        }
    }

    fn idle_filters(&self, id: u32) -> Vec<String> {
        let at = u64::from(id - self.subscribers() - self.plan.publishers);
        let (all, of) = (
            u64::from(self.plan.idle_filters),
            u64::from(self.idle_clients),
        );
        (all * at / of..all * (at + 1) / of)
            .map(|n| format!("idle/{}/of/{n}", n % 97))
            .collect()
    }

    /// The client is connected: subscribe, or be ready.
    fn connected(&mut self, client: &mut Client, id: u32) {
        let (version, qos) = (self.options.common.target.version, self.options.qos);
        self.connecting -= 1;
        let filters = match id {
            id if id < self.subscribers() => {
                vec![self.plan.subscribers[id as usize].filter.clone()]
            }
            id if id < self.subscribers() + self.plan.publishers => Vec::new(),
            id => self.idle_filters(id),
        };
        let mut packet_id = PacketId::MIN;
        for filters in filters.chunks(FILTERS_A_PACKET) {
            let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
            client.subscribe(version, packet_id, &filters, qos);
            packet_id = packet_id.next();
            self.acks_missing += 1;
        }
        self.ready += 1;
    }

    fn enter(&mut self, phase: Phase, end_ns: u64) {
        self.phase = phase;
        self.phase_end_ns = end_ns;
    }

    fn mark(&self) -> Result<Mark, Failure> {
        Ok(Mark {
            broker: self.broker.map(Usage::of).transpose()?,
            own: Usage::own()?,
            time_ns: clock::now_ns(),
            delivered: self.delivered,
            published: self.published,
        })
    }

    fn measured(&mut self, begin: &Mark, end: &Mark) -> Outcome {
        Outcome {
            verdict: Verdict::default(),
            delivered: end.delivered - begin.delivered,
            published: end.published - begin.published,
            time_ns: end.time_ns - begin.time_ns,
            broker: end
                .broker
                .zip(begin.broker)
                .map(|(end, begin)| end.since(&begin)),
            own: end.own.since(&begin.own),
            latencies: self.latencies.clone(),
        }
    }

    fn advance(&mut self, now_ns: u64) -> Result<(), Failure> {
        let due = now_ns >= self.phase_end_ns;
        match self.phase {
            Phase::Connect if self.ready == self.clients && self.acks_missing == 0 => {
                self.enter(Phase::Settle, now_ns + SETTLE_NS);
            }
            Phase::Connect if due => {
                return Err(Failure::run(format!(
                    "only {} of {} clients are connected and {} subscriptions are unanswered \
                     after {} s: see the broker's log",
                    self.ready,
                    self.clients,
                    self.acks_missing,
                    CONNECT_NS / 1_000_000_000,
                )));
            }
            Phase::Settle if due => {
                self.rate_begin_ns = now_ns;
                self.last_delivery_ns = now_ns;
                self.refill_all();
                self.enter(Phase::Warmup, now_ns + self.options.warmup_ns);
                if let Length::Messages(_) = self.options.length {
                    self.begin_to_measure()?;
                }
            }
            Phase::Warmup if due => self.begin_to_measure()?,
            Phase::Measure if due || self.all_came(now_ns) => {
                let end = self.mark()?;
                if let Some(begin) = self.begin {
                    let outcome = self.measured(&begin, &end);
                    self.finished = Some(outcome);
                }
                self.enter(Phase::Drain, now_ns + STALL_NS);
            }
            Phase::Drain => {
                let quiet = now_ns >= self.last_delivery_ns + STALL_NS && due;
                if quiet || (self.outstanding == 0 && self.unacknowledged == 0) {
                    self.enter(Phase::Linger, now_ns + LINGER_NS);
                }
            }
            Phase::Linger if due => self.conclude(),
            _ => {}
        }
        Ok(())
    }

    /// Whether a counted run has got what it will get.
    fn all_came(&self, now_ns: u64) -> bool {
        let stalled = now_ns >= self.last_delivery_ns + STALL_NS;
        self.left == Some(0) && (stalled || (self.outstanding == 0 && self.unacknowledged == 0))
    }

    fn begin_to_measure(&mut self) -> Result<(), Failure> {
        self.latencies.clear();
        let mark = self.mark()?;
        self.begin = Some(mark);
        let end_ns = match self.options.length {
            Length::Time(ns) => mark.time_ns + ns,
            Length::Messages(count) => {
                self.left = Some(count);
                u64::MAX
            }
        };
        self.enter(Phase::Measure, end_ns);
        Ok(())
    }

    fn show(&mut self, now_ns: u64) {
        let (phase, ready, clients) = (self.phase, self.ready, self.clients);
        let left_s = self.phase_end_ns.saturating_sub(now_ns) as f64 / 1e9;
        let delivered = self.delivered;
        self.progress.show(now_ns, || match phase {
            Phase::Connect => format!("{ready} of {clients} clients are connected"),
            Phase::Settle | Phase::Warmup => format!("warming up, {delivered} delivered"),
            Phase::Measure => format!("measuring, {left_s:.1} s left, {delivered} delivered"),
            _ => format!("waiting for what is on its way, {delivered} delivered"),
        });
    }

    fn conclude(&mut self) {
        self.phase = Phase::Done;
        let mut verdict = self.verdict;
        for listener in &self.listeners {
            for (&stream, tracker) in listener.streams.iter().zip(&listener.trackers) {
                let sent = self.sent[stream as usize];
                verdict.expected += sent;
                verdict.lost += tracker.lost(sent);
            }
        }
        verdict.delivered = self.delivered;
        if let Some(mut outcome) = self.finished.take() {
            outcome.verdict = verdict;
            self.outcome.get_or_insert(Ok(outcome));
        }
    }
}

impl Load for Bench<'_> {
    fn opened(&mut self, client: &mut Client, id: u32) {
        if let Dialect::Relay(_) = self.dialect {
            let subscribers = self.subscribers();
            let number = if id < subscribers {
                id
            } else {
                id - subscribers
            };
            client.out.extend_from_slice(&number.to_be_bytes());
            self.connecting -= 1;
            self.ready += 1;
            return;
        }
        // MQTT 3.1 allows 23 bytes.
        let client_id = format!("ab-{}-{id}", std::process::id());
        let connect = encode::Connect {
            client_id: &client_id,
            clean_start: true,
            keep_alive: KEEP_ALIVE_S,
            ..Default::default()
        };
        client
            .out
            .extend_from_slice(&connect.encode_to_vec(self.options.common.target.version));
    }

    fn message(&mut self, client: &mut Client, id: u32, message: &Message<'_>) {
        client.answer_publish(self.options.common.target.version, message.qos, message.id);
        let Some(stamp) = Stamp::read(message.payload) else {
            self.verdict.corrupted += 1;
            return;
        };
        let number = stamp.stream as usize;
        let known = self
            .plan
            .streams
            .get(number)
            .filter(|_| stamp.number < self.sent[number]);
        let Some(stream) = known.filter(|_| message.payload.len() == self.options.size) else {
            self.verdict.corrupted += 1;
            return;
        };
        let all = self.plan.streams.len();
        let place = self.listeners.get_mut(id as usize).and_then(|listener| {
            let at = if listener.streams.len() == all {
                number
            } else {
                listener.streams.binary_search(&stamp.stream).ok()?
            };
            listener.trackers.get_mut(at)
        });
        let Some(tracker) = place.filter(|_| message.topic == stream.topic) else {
            self.verdict.misdelivered += 1;
            return;
        };
        self.verdict.wrong_qos += u64::from(message.qos != self.options.qos);
        match tracker.see(stamp.number) {
            Seen::InOrder => {}
            Seen::Late => self.verdict.reordered += 1,
            Seen::Again => {
                self.verdict.duplicated += 1;
                return;
            }
        }
        self.delivered += 1;
        self.outstanding = self.outstanding.saturating_sub(1);
        self.outstanding_of[number] = self.outstanding_of[number].saturating_sub(1);
        self.queue(stamp.stream);
        self.last_delivery_ns = message.read_ns;
        self.latencies
            .record(message.read_ns.saturating_sub(stamp.sent_ns));
    }

    fn packet(&mut self, client: &mut Client, id: u32, packet: &Packet<'_>) {
        let version = self.options.common.target.version;
        match packet {
            Packet::ConnAck(ack) if ack.reason().is_error() => {
                let reason = ack.reason().name();
                let line = format!("the broker refuses {}: {reason}", self.role(id));
                self.fail(Failure::run(line));
            }
            Packet::ConnAck(_) => self.connected(client, id),
            Packet::SubAck(ack) => {
                if let Some(code) = ack.codes().find(|code| code.is_error()) {
                    let role = self.role(id);
                    let line = format!("the broker refuses {role} a filter: {}", code.name());
                    self.fail(Failure::run(line));
                }
                self.acks_missing -= 1;
            }
            Packet::PubAck(_) | Packet::PubComp(_) => self.acknowledged(id),
            Packet::PubRec(ack) if ack.reason().is_error() => self.acknowledged(id),
            Packet::PubRec(ack) => {
                client.acknowledge(version, PacketType::PubRel, ack.packet_id());
            }
            Packet::PubRel(ack) => {
                client.acknowledge(version, PacketType::PubComp, ack.packet_id());
            }
            Packet::Disconnect(disconnect) => {
                let reason = disconnect.reason().name();
                let line = format!("the broker disconnects {}: {reason}", self.role(id));
                self.fail(Failure::run(line));
            }
            _ => {}
        }
    }

    fn closed(&mut self, id: u32, why: Closed) {
        let failure = match why {
            Closed::NotConnected(error) => self.dialer.explain(u64::from(id), &error),
            why => Failure::run(format!("{}: {why}; no result", self.role(id))),
        };
        self.fail(failure);
    }

    fn next_deadline(&mut self) -> Option<u64> {
        if self.opened < self.clients && self.connecting < CONNECTING_MAX {
            return Some(0);
        }
        let mut next_ns = self.phase_end_ns;
        if matches!(self.phase, Phase::Warmup | Phase::Measure | Phase::Drain) {
            next_ns = next_ns.min(self.last_delivery_ns + STALL_NS);
            if let Pace::Rate(rate) = self.options.pace
                && self.phase != Phase::Drain
            {
                let offset = (self.rate_sent + 1) as f64 * 1e9 / rate;
                next_ns = next_ns.min(self.rate_begin_ns + offset as u64);
            }
        }
        Some(next_ns)
    }

    fn turn(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) -> bool {
        while self.opened < self.clients && self.connecting < CONNECTING_MAX {
            let id = self.opened;
            let dialer = match &self.dialect {
                Dialect::Relay(subscribers) if id < self.subscribers() => subscribers,
                _ => &self.dialer,
            };
            if let Err(error) = fleet.open(io, dialer, id, u64::from(id)) {
                let failure = dialer.explain(u64::from(id), &error);
                self.fail(failure);
                return false;
            }
            self.opened += 1;
            self.connecting += 1;
        }
        if let Err(failure) = self.advance(now_ns) {
            self.fail(failure);
        }
        self.show(now_ns);
        if !matches!(self.phase, Phase::Warmup | Phase::Measure) {
            return false;
        }
        if now_ns > self.last_delivery_ns + STALL_NS {
            // What is outstanding is lost, or very late; the count at the end will tell.
            self.outstanding = 0;
            self.refill_all();
            self.last_delivery_ns = now_ns;
        }
        self.produce(fleet, now_ns)
    }
}
