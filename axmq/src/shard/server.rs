//! A shard on its reactor: reads, writes, timers and mailboxes around the protocol core.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, mpsc};

use mqtt_codec::ReasonCode;
use pollio::{
    Backend, Budget, Interest, Io, Mode, Progress, Readiness, Receiver, Sender, Server, Token,
};
use sharedbuf::ReadBlock;
use slabmem::Key;
use timerwheel::Expired;

use super::connection::flag;
use super::input::BLOCK_BYTES;
use super::layered::Scratch;
use super::reauth::AuthJob;
use super::{Core, Shared, Timer};
use crate::auth::{Answer, Busy};
use crate::control::TraceLine;
use crate::counters::Counters;
use crate::events::LogBudget;
use crate::hooks::Denied;
use crate::logging::now_ms;
use crate::memory::Shortage;
use crate::message::{Ask, Handover, Query, ToShard, TraceSink};
use crate::store::op::ToStore;

/// The timerfd's token: no slab key has generation 0.
pub(crate) const TIMER: Token = Token(0);

/// Segments of one `writev`; more is left for the next one.
pub(super) const SEGMENTS: usize = 64;
/// What one connection may write in one turn.
pub(super) const WRITE_BYTES_PER_TURN: usize = 256 * 1_024;
/// Steps of background work between two looks at the clock.
const STEPS: usize = 16;
/// Connections that are taken over in one turn: with what is written to them they are some 0.1 ms.
pub(super) const ARRIVALS: usize = 8;
/// An orderly stop waits no longer for clients to take what is queued for them.
pub(super) const STOP_MS: u64 = 5_000;

const NS_PER_MS: u64 = 1_000_000;

/// Arms the thing that wakes the shard when a timer is due: a timerfd, or nothing where the
/// reactor's own deadline does.
pub(crate) trait Alarm {
    /// `deadline_ns` is on the backend's clock; `None` where nothing is to be waited for.
    fn arm(&mut self, deadline_ns: Option<u64>, now_ns: u64) -> io::Result<()>;

    /// The deadline that the reactor has to wake for; an alarm that wakes by an event has none: a
    /// timeout beside it would only cost.
    fn deadline_ns(&self) -> Option<u64> {
        None
    }
}

impl Alarm for timerwheel::driver::TimerFd {
    fn arm(&mut self, deadline_ns: Option<u64>, now_ns: u64) -> io::Result<()> {
        self.fired(now_ns);
        // What is armed and not wanted any more costs one spurious wake-up; taking it back would
        // cost a system call.
        deadline_ns.map_or(Ok(()), |deadline_ns| Self::arm(self, deadline_ns))
    }
}

/// Whether there is nothing to be read, nor an end of the stream.
pub(super) fn is_only_writable(readiness: Readiness) -> bool {
    readiness.is_writable()
        && !readiness.is_readable()
        && !readiness.is_read_closed()
        && !readiness.is_error()
}

/// Whether a message concerns also those connections that came before it and are not open yet.
fn is_about_all_connections<S>(message: &ToShard<S>) -> bool {
    match message {
        ToShard::Ask(ask) => !matches!(ask.query, Query::Ping),
        ToShard::Banned(_) | ToShard::PublishWills(_) | ToShard::Stop => true,
        _ => false,
    }
}

/// Whether each connect and disconnect is to be logged.
fn reports_routine() -> bool {
    tracing::enabled!(tracing::Level::DEBUG)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct ShardServer<B: Backend, A> {
    pub(super) core: Core<B::Stream>,
    me: u16,
    shared: Arc<Shared>,
    receiver: Receiver<ToShard<B::Stream>>,
    shards: Vec<Sender<ToShard<B::Stream>>>,
    store: Option<Sender<ToStore>>,
    alarm: A,
    pub(super) block: ReadBlock,
    pub(super) scratch: Scratch,
    mail: Vec<ToShard<B::Stream>>,
    /// Connections that a front has handed over. Taking them over is background work: after a storm
    /// of handshakes there are many, and each costs as much as dozens of messages.
    arrivals: VecDeque<Box<Handover<B::Stream>>>,
    keys: Vec<Key>,
    silent: Vec<Expired<Key>>,
    due: Vec<Expired<Timer>>,
    /// Who waits for the wills that an orderly stop publishes.
    wills_done: Vec<mpsc::Sender<()>>,
    traces: Vec<TraceSink>,
    log: LogBudget,
    shortage: Shortage,
    /// Something came in this turn; nothing else makes memory scarce.
    has_acted: bool,
    stop_at_ns: Option<u64>,
    is_done: bool,
}

impl<B: Backend, A: Alarm> ShardServer<B, A> {
    pub(crate) fn new(
        me: u16,
        shared: Arc<Shared>,
        receiver: Receiver<ToShard<B::Stream>>,
        shards: Vec<Sender<ToShard<B::Stream>>>,
        store: Option<Sender<ToStore>>,
        alarm: A,
        now_ns: u64,
    ) -> Self {
        let mut core = Core::new(
            me,
            Arc::clone(&shared),
            now_ns / NS_PER_MS,
            reports_routine(),
        );
        let block = core.read_block(BLOCK_BYTES);
        Self {
            core,
            me,
            shared,
            receiver,
            shards,
            store,
            alarm,
            block,
            scratch: Scratch::default(),
            mail: Vec::new(),
            arrivals: VecDeque::new(),
            keys: Vec::new(),
            silent: Vec::new(),
            due: Vec::new(),
            wills_done: Vec::new(),
            traces: Vec::new(),
            log: LogBudget::default(),
            shortage: Shortage::None,
            has_acted: false,
            stop_at_ns: None,
            is_done: false,
        }
    }

    /// The shard has stopped in order, or was told to end.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    pub(crate) fn counters(&self) -> &Counters {
        self.core.counters()
    }

    /// Writes what a connection has, with as few system calls as its segments allow.
    fn write(&mut self, io: &mut Io<'_, B>, key: Key) {
        let mut left = WRITE_BYTES_PER_TURN;
        loop {
            let is_held_back = self.core.is_held_back(key);
            let Some(connection) = self.core.connection_mut(key) else {
                return;
            };
            connection.clear(flag::DIRTY);
            if is_held_back || connection.has(flag::BLOCKED) {
                return;
            }
            if connection.is_layered() {
                self.write_layered(io, key);
                return;
            }
            if connection.out.is_empty() {
                self.flushed(io, key);
                return;
            }
            if left == 0 {
                self.core.write_more(key);
                return;
            }
            let written = {
                let mut segments = [IoSlice::new(&[]); SEGMENTS];
                let count = connection.out.fill_io_slices(&mut segments);
                let segments = segments.get(..count).unwrap_or_default();
                io.write_vectored(&connection.stream, segments)
            };
            match written {
                Ok(n) => {
                    left = left.saturating_sub(n.max(1));
                    self.core.wrote(key, n);
                }
                Err(error) => {
                    if !self.tries_again(key, &error) {
                        return;
                    }
                }
            }
        }
    }

    /// All that a connection had to say is written.
    pub(super) fn flushed(&mut self, io: &mut Io<'_, B>, key: Key) {
        if self.core.flushed(key)
            && let Some(connection) = self.core.connection(key)
        {
            // The peer may be gone already; then the next read says so.
            let _ = io.shutdown_write(&connection.stream);
        }
    }

    /// A write has taken nothing; whether it is to be tried again at once.
    #[cold]
    pub(super) fn tries_again(&mut self, key: Key, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted => return true,
            io::ErrorKind::WouldBlock => {
                if let Some(connection) = self.core.connection_mut(key) {
                    connection.set(flag::BLOCKED);
                    // What waits for a slow reader must not hold large blocks for a few bytes.
                    connection.out.copy_out_small();
                }
            }
            kind => self.core.write_failed(key, kind),
        }
        false
    }

    fn open(&mut self, io: &mut Io<'_, B>, handover: Handover<B::Stream>) {
        let Ok(key) = self.core.attach(handover) else {
            // A full table: the stream was dropped, which closes it.
            self.shared.connection_closed();
            return;
        };
        let Some(connection) = self.core.connection(key) else {
            return;
        };
        let token = Token(key.to_bits());
        if let Err(error) = io.add_stream(&connection.stream, token, Interest::BOTH, Mode::Edge) {
            self.core.close(key, crate::events::Cause::Io(error.kind()));
        }
    }

    /// Takes over some of the connections that have arrived; whether there are more.
    fn open_some(&mut self, io: &mut Io<'_, B>, most: usize) -> Progress {
        for _ in 0..most {
            let Some(handover) = self.arrivals.pop_front() else {
                break;
            };
            self.open(io, *handover);
        }
        if self.arrivals.is_empty() {
            // A storm must not leave its high-water mark behind.
            self.arrivals = VecDeque::new();
            Progress::Done
        } else {
            Progress::More
        }
    }

    /// Gives the auth pool what it has to do; its answers come by this shard's mailbox.
    fn submit_auth_jobs(&mut self) {
        for AuthJob { key, request, work } in self.core.take_auth_jobs() {
            let sender = self.receiver.sender();
            let submitted = self.shared.hooks.pool.submit(work, request, move |answer| {
                // At most one for each connection (DECISIONS 2).
                sender.push_unbounded(ToShard::Authenticated(key, Box::new(answer)));
            });
            if let Err(Busy) = submitted {
                let denied = Denied::because(ReasonCode::QuotaExceeded);
                self.core.on_authenticated(key, Answer::Denied(denied));
            }
        }
    }

    /// Hands over what the program gets, and wakes who waits.
    fn settle_local(&mut self) {
        let Some(effects) = self.core.take_local_effects() else {
            return;
        };
        for (outlet, received) in effects.received {
            if !outlet.put(received) {
                self.core.count_local_drop();
            }
        }
        for (reply, session) in effects.replies {
            // Who asked waits for it.
            let _ = reply.send(session);
        }
        if effects.returned > 0
            && let Some(gate) = self.shared.gates.get(usize::from(self.me))
        {
            gate.give_back(effects.returned);
        }
    }

    /// What the store has to know goes before what other shards may conclude from it. The credit
    /// for it bounds what is under way, so the mailbox need not.
    fn send_ops(&mut self) {
        let Some(store) = &self.store else { return };
        if let Some(batch) = self.core.take_op_batch(self.is_done) {
            store.push_unbounded(ToStore::Batch(batch));
        }
    }

    fn send_batches(&mut self) {
        self.send_ops();
        let me = self.me;
        for (outbox, shard) in self.core.outboxes().iter_mut().zip(&self.shards) {
            if let Some(reply) = outbox.take_reply(me) {
                shard.push_unbounded(ToShard::Reply(reply));
            }
            if let Some(mail) = outbox.take_group_mail(me) {
                shard.push_unbounded(ToShard::Group(mail));
            }
            if let Some(batch) = outbox.take_batch(me) {
                shard.push_unbounded(ToShard::Batch(batch));
            }
        }
    }

    /// Handles timers that are due; `true` where more are.
    fn on_time(&mut self) -> bool {
        self.core.tidy_up();
        self.core.on_timers(&mut self.silent, &mut self.due)
    }

    fn untrace(&mut self, id: u64) {
        self.core.untrace(id);
        self.traces.retain(|sink| sink.id != id);
    }

    /// Carries the lines of this turn to those who watch.
    fn send_traced(&mut self) {
        let at_ms = now_ms();
        let (lines, lost) = self.core.take_traced();
        for sink in &mut self.traces {
            sink.lost += lost;
        }
        for line in lines {
            let Some(sink) = self.traces.iter_mut().find(|sink| sink.id == line.tracer) else {
                continue;
            };
            let line = TraceLine {
                at_ms,
                direction: line.direction.to_owned(),
                text: line.text,
                lost: sink.lost,
            };
            sink.lost = match sink.lines.try_send(line) {
                Ok(()) => 0,
                // A reader that has gone takes itself off the list.
                Err(_) => sink.lost + 1,
            };
        }
    }

    fn begin_stop(&mut self, now_ns: u64) {
        if self.stop_at_ns.is_none() {
            self.core.stop();
            self.stop_at_ns = Some(now_ns + STOP_MS * NS_PER_MS);
        }
    }

    fn check_stop(&mut self, now_ns: u64) {
        if let Some(stop_at_ns) = self.stop_at_ns {
            let is_empty = self.core.connection_count() == 0 && self.core.funnel_len() == 0;
            self.is_done |= is_empty || now_ns >= stop_at_ns;
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let timer = self
            .core
            .next_deadline_ms()
            .map(|ms| ms.saturating_mul(NS_PER_MS));
        // One thread sees to it that memory is looked at while all may wait for the result.
        let is_watch = self.me == 0 && self.shortage != Shortage::None;
        let look = is_watch.then(|| self.shared.memory.next_look_ms().saturating_mul(NS_PER_MS));
        [timer, self.stop_at_ns, look].into_iter().flatten().min()
    }
}

impl<B: Backend, A: Alarm> Server<B> for ShardServer<B, A> {
    fn on_turn(&mut self, now_ns: u64) {
        self.core.set_now(now_ns / NS_PER_MS);
    }

    fn on_ready(
        &mut self,
        io: &mut Io<'_, B>,
        token: Token,
        readiness: Readiness,
        budget: &Budget,
    ) -> Progress {
        self.has_acted = true;
        // The timerfd says nothing but that it is time, and `on_timers` looks every turn. A stale
        // token resolves to no connection.
        let Some(key) = Key::from_bits(token.0) else {
            return Progress::Done;
        };
        let Some(connection) = self.core.connection_mut(key) else {
            return Progress::Done;
        };
        if readiness.is_read_closed() || readiness.is_error() {
            // It may never take what is queued for it: that must not keep us from reading its end.
            connection.set(flag::HUNG_UP);
            connection.clear(flag::PAUSED);
        }
        if readiness.is_writable() && connection.has(flag::BLOCKED) {
            connection.clear(flag::BLOCKED);
            self.core.write_more(key);
        }
        let Some(connection) = self.core.connection(key) else {
            return Progress::Done;
        };
        if !connection.is_plainly_connected() {
            return self.on_other_ready(io, key, readiness, budget);
        }
        if connection.has(flag::PAUSED) {
            // What is there is read when back-pressure ends: that puts it on the ready list.
            return Progress::Done;
        }
        if is_only_writable(readiness) {
            return Progress::Done;
        }
        self.read(io, key, budget)
    }

    fn on_messages(&mut self, io: &mut Io<'_, B>) {
        let mut mail = std::mem::take(&mut self.mail);
        self.receiver.drain_into(&mut mail);
        self.has_acted |= !mail.is_empty();
        for message in mail.drain(..) {
            if is_about_all_connections(&message) {
                let _all = self.open_some(io, usize::MAX);
            }
            match message {
                ToShard::Handover(handover) => self.arrivals.push_back(handover),
                ToShard::Batch(batch) => self.core.on_batch(batch),
                ToShard::Reply(reply) => self.core.on_reply(reply),
                ToShard::Ask(Ask { query, answer_to }) => (answer_to.0)(self.core.answer(query)),
                ToShard::Trace(sink) => {
                    self.core.trace(sink.id, &sink.client_id);
                    self.traces.push(*sink);
                }
                ToShard::Untrace(id) => self.untrace(id),
                ToShard::Reload(shared) => {
                    self.core.reload(Arc::clone(&shared), reports_routine());
                    self.shared = shared;
                }
                ToShard::Memory(shortage) => {
                    self.core.on_shortage(shortage);
                    self.shortage = shortage;
                }
                ToShard::Banned(who) => self.core.on_banned(who),
                ToShard::Group(mail) => self.core.on_group_mail(mail),
                ToShard::Local(message) => self.core.on_local(message),
                ToShard::Stored(stored) => self.core.on_stored(stored),
                ToShard::Restore(sessions, _done) => {
                    for session in sessions {
                        self.core.restore(session);
                    }
                }
                ToShard::RestoreGroup(group, _done) => self.core.restore_group(*group),
                ToShard::Restored => self.core.all_are_restored(),
                ToShard::Authenticated(key, answer) => self.core.on_authenticated(key, *answer),
                ToShard::PublishWills(done) => {
                    self.core.publish_wills_at_stop();
                    self.wills_done.push(done);
                }
                ToShard::Stop => self.begin_stop(io.now_ns()),
                ToShard::Abort => self.is_done = true,
            }
        }
        self.mail = mail;
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.alarm.deadline_ns()
    }

    fn on_timers(&mut self, _io: &mut Io<'_, B>, _now_ns: u64) {}

    fn background(&mut self, io: &mut Io<'_, B>, budget_ns: u64) -> Progress {
        let begin_ns = io.now_ns();
        let arrivals = self.open_some(io, ARRIVALS);
        loop {
            let mut is_idle = true;
            for _ in 0..STEPS {
                if !self.core.work_one() {
                    break;
                }
                is_idle = false;
            }
            if is_idle {
                return arrivals;
            }
            if io.backend().now_ns().saturating_sub(begin_ns) >= budget_ns {
                return Progress::More;
            }
        }
    }

    fn flush(&mut self, io: &mut Io<'_, B>) {
        let is_more_due = self
            .core
            .next_deadline_ms()
            .is_some_and(|ms| ms <= io.now_ns() / NS_PER_MS)
            && self.on_time();
        self.submit_auth_jobs();
        let mut keys = std::mem::take(&mut self.keys);
        self.core.take_dirty(&mut keys);
        for key in keys.drain(..) {
            self.write(io, key);
        }
        self.core.take_ready(&mut keys);
        for key in keys.drain(..) {
            io.make_ready(Token(key.to_bits()));
        }
        self.keys = keys;
        self.send_batches();
        self.settle_local();
        for done in self.wills_done.drain(..) {
            // Nobody waits any more where the stop was cut short.
            let _ = done.send(());
        }
        if self.core.has_traced() {
            self.send_traced();
        }
        self.core.store_figures();
        if std::mem::take(&mut self.has_acted) || self.shortage != Shortage::None {
            self.shared.memory.look(io.now_ns() / NS_PER_MS);
        }
        let now_ms = io.now_ns() / NS_PER_MS;
        self.log.write(self.core.drain_events(), now_ms);
        for charge in self.core.drain_offences() {
            self.shared.defence.charge(&charge, now_ms);
        }
        for take_over in self.core.drain_take_overs() {
            self.shared.defence.take_over(&take_over, now_ms);
        }
        self.check_stop(io.now_ns());
        if self.is_done {
            self.send_ops();
        }
        if (is_more_due || self.core.has_work()) && !planted!(LostWakeUp) {
            // Writes, timers and closes of this flush may have left work; the next turn does it.
            io.make_ready(TIMER);
        }
        let deadline_ns = self.next_deadline_ns();
        if let Err(error) = self.alarm.arm(deadline_ns, io.now_ns()) {
            // Without its alarm a shard would sleep through every deadline.
            tracing::error!(%error, "cannot arm the shard's timer");
            self.is_done = true;
        }
    }
}
