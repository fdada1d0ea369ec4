//! The control plane: listeners, and connections up to their CONNECT.
//!
//! A front accepts, reads CONNECT and nothing that it can avoid reading behind it, checks it, and
//! hands the connection to the shard that the client id hashes to. So a connect storm costs the
//! data plane only the finished connects.

mod admit;
mod authenticate;
mod doors;
mod leave;
mod pace;
mod proxy;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use mqtt_codec::Scan;
use pollio::net::Accepted;
use pollio::{
    Backend, Budget, Interest, Io, Mode, PeerAddr, Progress, Readiness, Receiver, Sender, Server,
    Token,
};
use slabmem::{Key, Slab};
use timerwheel::{Expired, Policy, TimerKey, TimerWheel};
use zeroize::Zeroize;

use self::admit::{Admitted, ByDoor, Refusal};
use self::authenticate::Pending;
use self::leave::host;
use self::pace::Pace;
use self::proxy::ProxyError;
use crate::events::LogBudget;
use crate::listener::{ListenerState, Seat};
use crate::memory::Shortage;
use crate::message::{ConnectInfo, Handover, ToFront, ToShard};
use crate::shard::{Shared, read};
use crate::transport::Layers;

const NS_PER_MS: u64 = 1_000_000;
/// While a shard's mailbox is full the front tries again this often.
const RETRY_MS: u64 = 5;
/// A line about descriptors at most this often.
const SHED_SAID_EVERY_MS: u64 = 1_000;
/// While memory is short a front accepts so many in a second. Not none: an absent subscriber has to
/// come to take what is kept for it, and that may be what memory is short of.
const CONNECTS_PER_S_SHORT: u32 = 1;
/// One read before CONNECT is complete.
const READ_BYTES: usize = 2_048;

/// A connection that has not been handed over.
#[derive(Debug)]
struct Greeting<S> {
    stream: S,
    peer: PeerAddr,
    /// Which of the configured listeners it came by.
    listener: usize,
    seat: Option<Seat>,
    /// A proxy that has not said yet for whom it connects.
    awaits_proxy_header: bool,
    /// A byte has come.
    has_spoken: bool,
    opened_ms: u64,
    /// What lies between its socket and MQTT, where anything does.
    layers: Option<Box<Layers>>,
    bytes: Vec<u8>,
    timer: TimerKey,
    /// Its CONNECT is there and has not been answered.
    pending: Option<Box<Pending>>,
    /// Bytes of that CONNECT, which count as long as it is kept.
    connect_bytes: u64,
    /// Let in, but it has to wait until it is handed over.
    held: Option<Box<ConnectInfo>>,
    /// Refused: what still comes is thrown away, up to so many bytes.
    discard_left: Option<u32>,
}

impl<S> Greeting<S> {
    /// Bytes that are kept for it.
    fn held_bytes(&self) -> u64 {
        let layers = self.layers.as_deref().map_or(0, Layers::held_bytes);
        (self.bytes.len() + layers) as u64 + self.connect_bytes
    }
}

/// What a front is made of.
pub(crate) struct FrontParts<B: Backend> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) listeners: Vec<B::Listener>,
    /// Which of the configured listeners each is.
    pub(crate) configured: Vec<usize>,
    pub(crate) receiver: Receiver<ToFront>,
    pub(crate) shards: Vec<Sender<ToShard<B::Stream>>>,
    pub(crate) accepts_per_turn: usize,
    pub(crate) connections_max: u64,
    /// How many fronts there are.
    pub(crate) fronts: u64,
    /// Bytes of unfinished connects that this front may hold.
    pub(crate) pre_connect_bytes_max: u64,
}

impl<B: Backend> FrontParts<B> {
    /// Connections that this front may accept in a second; 0 is no bound.
    fn connects_per_s(&self, shortage: Shortage) -> u32 {
        let fronts = u32::try_from(self.fronts.max(1)).unwrap_or(u32::MAX);
        // Rounded up: a share of nothing would be no bound at all.
        let share = self.shared.limits.connects_per_s.div_ceil(fronts);
        match shortage {
            Shortage::None => share,
            _ => CONNECTS_PER_S_SHORT,
        }
    }
}

/// See the module.
pub(crate) struct FrontServer<B: Backend> {
    parts: FrontParts<B>,
    greetings: Slab<Greeting<B::Stream>>,
    greeting_bytes: u64,
    timers: TimerWheel<Key>,
    expired: Vec<Expired<Key>>,
    mail: Vec<ToFront>,
    /// Checked connections whose shard's mailbox was full.
    waiting: VecDeque<(u16, Box<Handover<B::Stream>>)>,
    /// Not while a shard's mailbox is full, or unfinished connects hold too much.
    is_accepting: bool,
    /// This front's share of the connection rate.
    pace: Pace,
    shortage: Shortage,
    /// Something came in this turn; nothing else makes memory scarce.
    has_acted: bool,
    /// Connections closed at once for want of a descriptor, since the last line about it.
    shed: u64,
    shed_said_ms: u64,
    buffer: Box<[u8]>,
    log: LogBudget,
    now_ms: u64,
    is_done: bool,
}

impl<B: Backend> FrontServer<B> {
    pub(crate) fn new(parts: FrontParts<B>, now_ns: u64) -> Self {
        let now_ms = now_ns / NS_PER_MS;
        let pace = Pace::new(parts.connects_per_s(Shortage::None), now_ms);
        Self {
            parts,
            pace,
            shortage: Shortage::None,
            has_acted: false,
            greetings: Slab::new(),
            greeting_bytes: 0,
            timers: TimerWheel::new(Policy::Exact, now_ms),
            expired: Vec::new(),
            mail: Vec::new(),
            waiting: VecDeque::new(),
            is_accepting: true,
            shed: 0,
            shed_said_ms: 0,
            buffer: vec![0; READ_BYTES].into(),
            log: LogBudget::default(),
            now_ms,
            is_done: false,
        }
    }

    /// Registers the listeners.
    pub(crate) fn start(&mut self, backend: &mut B) -> io::Result<()> {
        for (at, listener) in self.parts.listeners.iter().enumerate() {
            backend.add_listener(listener, Token(at as u64))?;
        }
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    fn accept(&mut self, io: &mut Io<'_, B>, at: usize) -> Progress {
        // Who comes after a reload is let in by what it has said, though both are seen at once.
        if !self.parts.receiver.is_empty() {
            self.on_messages(io);
        }
        if !self.is_accepting {
            return Progress::Done;
        }
        for _ in 0..self.parts.accepts_per_turn {
            let Some(listener) = self.parts.listeners.get(at) else {
                return Progress::Done;
            };
            let was_held = self.pace.is_held();
            if !self.pace.allows(self.now_ms) {
                // Whoever comes now waits in the kernel's queue.
                if !was_held && self.shortage == Shortage::None {
                    self.parts.shared.accepting_held();
                } else if !was_held {
                    self.parts.shared.memory.accepting_held();
                }
                return Progress::Done;
            }
            match io.accept_next(listener) {
                Ok(Accepted::Stream(stream, peer)) => {
                    self.pace.spend();
                    self.greet(io, at, stream, peer);
                }
                Ok(Accepted::Empty) => return Progress::Done,
                Ok(Accepted::Shed) => self.shed += 1,
                Ok(Accepted::Exhausted) => return Progress::More,
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(event = "accept.failed", %error);
                    return Progress::Done;
                }
            }
        }
        Progress::More
    }

    fn greet(&mut self, io: &mut Io<'_, B>, at: usize, stream: B::Stream, peer: PeerAddr) {
        if self.is_unwanted(&peer) {
            return;
        }
        let open = self.parts.shared.connections();
        if open >= self.parts.connections_max {
            if self.log.allows(self.now_ms, "limits.connections", "") {
                tracing::warn!(
                    event = "connection.refused",
                    %peer,
                    "{open} connections are open, which is the limit (limits.connections)"
                );
            }
            return;
        }
        let listener = self.parts.configured.get(at).copied().unwrap_or(at);
        let state = self.parts.shared.listeners.get(listener);
        let expected = state.map_or(Ok(false), |state| state.expects_proxy_header(&peer));
        let Ok(awaits_proxy_header) = expected else {
            if self
                .log
                .allows(self.now_ms, "listener.no_proxy", &host(&peer))
            {
                tracing::warn!(
                    event = "connection.refused",
                    %peer,
                    "it is none of the proxies that may connect here (listener.proxy_protocol_from)"
                );
            }
            return;
        };
        let Ok(seat) = state.map_or(Ok(None), ListenerState::take_seat) else {
            if self.log.allows(self.now_ms, "listener.connections", "") {
                tracing::warn!(
                    event = "connection.refused",
                    %peer,
                    "the listener has as many connections as it may (listener.connections)"
                );
            }
            return;
        };
        let look_ms = self.now_ms + self.first_look_ms(&peer, awaits_proxy_header);
        let layers = state.and_then(|state| state.layers(&peer, listener));
        let Some(entry) = self.greetings.vacant_entry() else {
            return;
        };
        let key = entry.key();
        let token = Token(key.to_bits());
        if let Err(error) = io.add_stream(&stream, token, Interest::READABLE, Mode::Edge) {
            tracing::warn!(event = "connection.refused", %peer, %error);
            return;
        }
        let timer = self.timers.insert(look_ms, key);
        entry.insert(Greeting {
            stream,
            peer,
            listener,
            seat,
            awaits_proxy_header,
            has_spoken: false,
            opened_ms: self.now_ms,
            layers,
            bytes: Vec::new(),
            timer,
            pending: None,
            connect_bytes: 0,
            held: None,
            discard_left: None,
        });
        self.parts.shared.connection_opened();
    }

    fn read(&mut self, io: &mut Io<'_, B>, key: Key) -> Progress {
        loop {
            let Some(greeting) = self.greetings.get_mut(key) else {
                return Progress::Done;
            };
            if greeting.held.is_some() {
                return Progress::Done;
            }
            if greeting
                .pending
                .as_ref()
                .is_some_and(|pending| pending.is_in_pool())
            {
                // What it sends now stays in the kernel: the shard, or the next step, finds it.
                return Progress::Done;
            }
            let read = match read(io, &greeting.stream, &mut self.buffer) {
                Ok(0) => {
                    self.left(key, "the client closed the connection");
                    return Progress::Done;
                }
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Done,
                Err(error) => {
                    self.left(key, &format!("the connection failed ({})", error.kind()));
                    return Progress::Done;
                }
            };
            greeting.has_spoken = true;
            if let Some(left) = &mut greeting.discard_left {
                *left = left.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
                if *left == 0 {
                    self.drop_greeting(key);
                    return Progress::Done;
                }
                continue;
            }
            if !self.take_in(io, key, read) {
                return Progress::More;
            }
            if self.greeting_bytes > self.parts.pre_connect_bytes_max {
                // Those that are in may finish; each is bounded by a limit of its own.
                self.is_accepting = false;
            }
            if let Some(progress) = self.examine(io, key) {
                return progress;
            }
        }
    }

    /// Looks whether CONNECT is complete; `None` where more has to be read.
    fn examine(&mut self, io: &mut Io<'_, B>, key: Key) -> Option<Progress> {
        let greeting = self.greetings.get_mut(key)?;
        if greeting.pending.is_some() {
            return self.examine_exchange(io, key);
        }
        if greeting.awaits_proxy_header {
            if let Err(error) = self.read_proxy_header(key)? {
                self.refuse_proxy(key, error);
                return Some(Progress::Done);
            }
            let peer = self.greetings.get(key)?.peer;
            if self.is_unwanted(&peer) {
                self.drop_greeting(key);
                return Some(Progress::Done);
            }
            if !self.enter(io, key) {
                return Some(Progress::More);
            }
        }
        let greeting = self.greetings.get_mut(key)?;
        let limits = &self.parts.shared.limits;
        let limit = limits.pre_connect_bytes.min(limits.packet_bytes);
        let result = match mqtt_codec::scan(&greeting.bytes, limit) {
            Ok(Scan::Incomplete { .. }) => admit::first_bytes(&greeting.bytes).err().map(Err)?,
            Err(error) => Err(admit::first_bytes(&greeting.bytes)
                .err()
                .unwrap_or_else(|| Refusal::silent(error))),
            Ok(Scan::Frame(frame)) => {
                let shared = &self.parts.shared;
                let state = shared.listeners.get(greeting.listener);
                let door = ByDoor {
                    rules: state.and_then(ListenerState::rules),
                    user: greeting.certified_user(state),
                };
                admit::check(&greeting.bytes, &frame, greeting.peer, shared, &door)
                    .map(|admitted| (admitted, frame.total_len))
            }
        };
        match result {
            Ok((Admitted { connect, begin }, used)) => {
                // There may be a password in it.
                if let Some(packet) = greeting.bytes.get_mut(..used) {
                    packet.zeroize();
                }
                greeting.bytes.drain(..used);
                greeting.connect_bytes = used as u64;
                match begin {
                    _ if self.refuses_banned(io, key, &connect) => {}
                    Some(begin) => self.begin_authentication(io, key, connect, begin),
                    None => self.let_in(io, key, connect),
                }
            }
            Err(refusal) => self.refuse(io, key, &refusal),
        }
        Some(Progress::More)
    }

    /// Learns from a proxy who its client is; `None` where more has to be read.
    fn read_proxy_header(&mut self, key: Key) -> Option<Result<(), ProxyError>> {
        let greeting = self.greetings.get_mut(key)?;
        let header = match proxy::read(&greeting.bytes) {
            Ok(header) => header?,
            Err(error) => return Some(Err(error)),
        };
        greeting.bytes.drain(..header.len);
        self.greeting_bytes -= header.len as u64;
        greeting.awaits_proxy_header = false;
        if let Some(source) = header.source {
            greeting.peer = PeerAddr::new(source.ip(), source.port());
        }
        Some(Ok(()))
    }

    fn hand_over(&mut self, io: &mut Io<'_, B>, key: Key, connect: ConnectInfo) {
        let Some(greeting) = self.take(key) else {
            return;
        };
        // From here on the shard's epoll reports what comes.
        if let Err(error) = io.remove_stream(&greeting.stream) {
            tracing::warn!(event = "handover.failed", peer = %greeting.peer, %error);
            self.parts.shared.connection_closed();
            return;
        }
        let shard = self.parts.shared.shard_of(&connect.client_id);
        let Greeting {
            stream,
            peer,
            seat,
            layers,
            bytes: surplus,
            ..
        } = greeting;
        self.waiting.push_back((
            shard,
            Box::new(Handover {
                stream,
                peer,
                connect,
                seat,
                layers,
                surplus,
            }),
        ));
    }

    /// Gives the checked connections to their shards. Where one has no room the front keeps them
    /// and stops accepting (DECISIONS 1).
    fn push_waiting(&mut self, io: &mut Io<'_, B>) {
        while let Some((shard, handover)) = self.waiting.pop_front() {
            let Some(sender) = self.parts.shards.get(usize::from(shard)) else {
                continue;
            };
            if let Err(full) = sender.try_push(ToShard::Handover(handover)) {
                if let ToShard::Handover(handover) = full.0 {
                    self.waiting.push_front((shard, handover));
                }
                self.is_accepting = false;
                return;
            }
        }
        if !self.is_accepting && self.greeting_bytes <= self.parts.pre_connect_bytes_max / 2 {
            self.is_accepting = true;
            self.accept_again(io);
        }
    }

    /// Looks at every listener: no event says that somebody still waits in its queue.
    fn accept_again(&self, io: &mut Io<'_, B>) {
        for at in 0..self.parts.listeners.len() {
            io.make_ready(Token(at as u64));
        }
    }

    /// Says at most once a second how many connections had to be closed at once.
    fn report_shed(&mut self) {
        if self.shed > 0 && self.now_ms >= self.shed_said_ms + SHED_SAID_EVERY_MS {
            tracing::warn!(
                event = "connection.refused",
                count = self.shed,
                "no file descriptor left; raise the limit on open files or lower limits.connections"
            );
            self.shed = 0;
            self.shed_said_ms = self.now_ms;
        }
    }
}

impl<B: Backend> Server<B> for FrontServer<B> {
    fn on_turn(&mut self, now_ns: u64) {
        self.now_ms = self.now_ms.max(now_ns / NS_PER_MS);
    }

    fn on_ready(
        &mut self,
        io: &mut Io<'_, B>,
        token: Token,
        readiness: Readiness,
        _budget: &Budget,
    ) -> Progress {
        self.has_acted = true;
        match Key::from_bits(token.0) {
            Some(key) if self.gave_up(key, readiness) => Progress::Done,
            Some(key) => self.read(io, key),
            // Slab keys have a generation above the lowest 32 bits; listeners have none.
            None => self.accept(io, usize::try_from(token.0).unwrap_or(usize::MAX)),
        }
    }

    fn on_messages(&mut self, io: &mut Io<'_, B>) {
        let mut mail = std::mem::take(&mut self.mail);
        self.parts.receiver.drain_into(&mut mail);
        self.has_acted |= !mail.is_empty();
        for message in mail.drain(..) {
            match message {
                ToFront::Reload(shared) => {
                    let limits = &shared.limits;
                    self.parts.connections_max = limits.connections;
                    self.parts.pre_connect_bytes_max =
                        limits.pre_connect_bytes_total / self.parts.fronts.max(1);
                    self.parts.shared = shared;
                    self.pace.set_rate(self.parts.connects_per_s(self.shortage));
                }
                ToFront::Memory(shortage) => {
                    self.shortage = shortage;
                    self.pace.set_rate(self.parts.connects_per_s(shortage));
                }
                ToFront::Authenticated(key, answer) => self.on_authenticated(io, key, *answer),
                ToFront::Stop => {
                    for listener in self.parts.listeners.drain(..) {
                        let _ = io.backend().remove_listener(&listener);
                    }
                    self.is_done = true;
                }
            }
        }
        self.mail = mail;
    }

    fn next_deadline(&mut self) -> Option<u64> {
        let timer = self.timers.next_deadline();
        let retry = (!self.waiting.is_empty()).then_some(self.now_ms + RETRY_MS);
        let next = [timer, retry, self.pace.next_ms()];
        next.into_iter()
            .flatten()
            .min()
            .map(|ms| ms.saturating_mul(NS_PER_MS))
    }

    fn on_timers(&mut self, io: &mut Io<'_, B>, now_ns: u64) {
        let mut expired = std::mem::take(&mut self.expired);
        // What is more than the budget is due still, and comes in the next turn.
        self.timers.expire(now_ns / NS_PER_MS, 1_024, &mut expired);
        for timer in expired.drain(..) {
            self.time_out(io, timer.value);
        }
        self.expired = expired;
    }

    fn background(&mut self, _io: &mut Io<'_, B>, _budget_ns: u64) -> Progress {
        Progress::Done
    }

    fn flush(&mut self, io: &mut Io<'_, B>) {
        if self.pace.resumes(self.now_ms) {
            self.accept_again(io);
        }
        self.push_waiting(io);
        self.report_shed();
        if std::mem::take(&mut self.has_acted) {
            self.parts.shared.memory.look(self.now_ms);
        }
    }
}
