//! Runs: consecutive QoS 0 publishes of one client on one route are gathered in one block, and each
//! subscriber gets one segment for all of them (DESIGN 4, step 6, and DECISIONS 19).
//!
//! A subscriber sees the order in which the shard routed: a run ends before anything else is
//! published to one of its members, and whenever the set of its members could change. The first
//! publish on a route goes message by message, so that only what really comes in a row pays for a
//! run's beginning.

use std::rc::Rc;

use mqtt_codec::{QoS, Version};
use sharedbuf::{Class, RunBuilder};
use slabmem::Key;

use super::connection::flag;
use super::{Core, mark};
use crate::publication::{SessionRef, View};
use crate::route::Route;

/// A run that has come so far is handed out; what one read brings fits.
const RUN_BYTES: usize = 16 * 1_024;
/// With fewer subscribers the copy into the block is not shared by enough of them.
const MEMBERS_MIN: usize = 2;

/// Longer frames are shared one by one: they cost no copy anyway.
const FRAME_BYTES_MAX: usize = super::images::COPY_BYTES_MAX;
/// What a frame can have beyond a publication's topic, properties and payload: the fixed header,
/// two lengths, and a message expiry interval.
const HEAD_BYTES_MAX: usize = 16;

/// The wire formats: 3.1 and 3.1.1 share one.
const WIRES: [Version; 2] = [Version::V311, Version::V5];

#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
enum State {
    /// One publish has come on the route; the next one begins the run.
    #[default]
    Possible,
    /// Too few subscribers of the route fit into a run.
    Declined,
    Open,
}

/// Subscribers that get the same bytes.
#[derive(Debug, Default)]
struct Wire {
    builder: Option<RunBuilder>,
    /// Their connections.
    members: Vec<Key>,
    /// Of the publishes gathered so far.
    payload_bytes: u64,
}

/// The run that is being gathered, or may begin. A core has one.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// What the publishes have in common; `None` when none has come.
    route: Option<Rc<Route>>,
    source: Option<SessionRef>,
    state: State,
    wires: [Wire; WIRES.len()],
    /// Targets that fit no wire, by their place in the route.
    singles: Vec<u32>,
    /// Targets that are not connected.
    offline: u64,
}

impl Run {
    fn is_of(&self, route: &Rc<Route>, source: Option<SessionRef>) -> bool {
        self.source == source
            && self
                .route
                .as_ref()
                .is_some_and(|own| Rc::ptr_eq(own, route))
    }
}

impl Run {
    fn count_payload(&mut self, wire: usize, bytes: u64) {
        if let Some(wire) = self.wires.get_mut(wire) {
            wire.payload_bytes += bytes;
        }
    }
}

impl<S> Core<S> {
    /// Adds a publication to the run, where it continues one or begins one; `false` where it goes
    /// message by message. A run of something else has ended then.
    pub(super) fn join_run(&mut self, view: &View<'_>, route: &Rc<Route>) -> bool {
        let fits = view.qos() == QoS::AtMostOnce
            && !view.retain()
            && route.groups.is_empty()
            && route.targets.len() >= MEMBERS_MIN
            && view.len() <= FRAME_BYTES_MAX - HEAD_BYTES_MAX
            // A hook is asked for each message and subscriber.
            && !self.shared.hooks.sees_deliveries();
        if !fits || !self.run.is_of(route, view.source) {
            if fits || !planted!(RunNotSealed) {
                self.end_run();
            }
            if fits {
                self.run.route = Some(Rc::clone(route));
                self.run.source = view.source;
            }
            return false;
        }
        if self.run.state == State::Possible {
            self.begin_run(view, route);
        }
        if self.run.state == State::Declined {
            return false;
        }
        self.images.begin();
        for wire in 0..WIRES.len() {
            self.append_to_run(view, wire);
        }
        let mut kept = None;
        for at in 0..self.run.singles.len() {
            let target = self
                .run
                .singles
                .get(at)
                .and_then(|target| route.targets.get(*target as usize));
            if let Some(target) = target {
                self.deliver(view, target, route.identifiers(target), &mut kept);
            }
        }
        self.counters.dropped_offline += self.run.offline;
        true
    }

    /// Parts the route's subscribers. The partition holds until the run ends, since everything
    /// that could change it ends the run first.
    fn begin_run(&mut self, view: &View<'_>, route: &Route) {
        let mut count = 0;
        for (at, target) in route.targets.iter().enumerate() {
            let hears = self.hears(view, target);
            let session_key = self.sessions.key_at(target.slot).filter(|_| hears);
            let Some((session_key, session)) =
                session_key.and_then(|key| Some((key, self.sessions.get(key)?)))
            else {
                continue;
            };
            let Some(key) = session.connection else {
                if self.is_local(session_key) {
                    self.run.singles.push(u32::try_from(at).unwrap_or(u32::MAX));
                } else {
                    self.run.offline += 1;
                }
                continue;
            };
            let Some(connection) = self.connections.get(key) else {
                continue;
            };
            let is_plain = route.identifiers(target).is_empty()
                && connection.packet_bytes_max() >= FRAME_BYTES_MAX
                && !connection.takes_aliases()
                && !self.is_traced(key)
                && connection
                    .rules()
                    .is_none_or(|rules| rules.mount_point.is_empty());
            let wire = usize::from(connection.version == Version::V5);
            match self.run.wires.get_mut(wire) {
                Some(wire) if is_plain => {
                    wire.members.push(key);
                    count += 1;
                }
                _ => self.run.singles.push(u32::try_from(at).unwrap_or(u32::MAX)),
            }
        }
        self.run.state = State::Open;
        if count < MEMBERS_MIN {
            self.forget_members();
            self.run.state = State::Declined;
        }
    }

    fn append_to_run(&mut self, view: &View<'_>, wire: usize) {
        let (
            Some(version),
            Some(Wire {
                builder, members, ..
            }),
        ) = (WIRES.get(wire), self.run.wires.get_mut(wire))
        else {
            return;
        };
        if members.is_empty() {
            return;
        }
        let builder = builder.get_or_insert_with(|| RunBuilder::new(RUN_BYTES));
        let payload_bytes = view.payload().len() as u64;
        let frame = self.images.plain_frame(view, *version, self.now_ms);
        if builder.push(frame) {
            self.run.count_payload(wire, payload_bytes);
            return;
        }
        self.hand_out(wire);
        self.run.count_payload(wire, payload_bytes);
        let frame = self.images.plain_frame(view, *version, self.now_ms);
        if let Some(builder) = self
            .run
            .wires
            .get_mut(wire)
            .and_then(|wire| wire.builder.as_mut())
        {
            let fits = builder.push(frame);
            debug_assert!(fits, "a block holds more than one frame");
        }
    }

    /// Gives what has been gathered for one wire format to its members.
    fn hand_out(&mut self, wire: usize) {
        let Some(Wire {
            builder,
            members,
            payload_bytes,
        }) = self.run.wires.get_mut(wire)
        else {
            return;
        };
        let payload_bytes = std::mem::take(payload_bytes);
        let Some(run) = builder.as_mut().and_then(RunBuilder::seal) else {
            return;
        };
        let limits = &self.shared.limits;
        let (soft, full) = (
            limits.out_queue_soft_bytes as usize,
            limits.out_queue_bytes as usize,
        );
        let len = run.bytes().len();
        let frames = run.frames() as u64;
        let mut pressing = Vec::new();
        for (key, handle) in members.iter().zip(run.bytes().retain_n(members.len())) {
            let Some(connection) = self.connections.get_mut(*key) else {
                debug_assert!(false, "a close ends the run first");
                continue;
            };
            let queued = connection.out.bytes();
            if queued >= soft && connection.has(flag::STALLED) {
                self.counters.dropped_stalled += frames;
                continue;
            }
            connection.out.prepare(&mut self.blocks);
            if queued + len <= full {
                connection.out.push_run(&run, handle, Class::Droppable);
                self.counters.publishes_sent += frames;
                self.counters.publish_bytes_sent += payload_bytes;
            } else {
                let mut at = 0;
                for len in run.lens().iter().map(|len| *len as usize) {
                    if connection.out.bytes() >= full {
                        self.counters.dropped_out_queue_full += 1;
                    } else {
                        let frame = handle.get(at..at + len).unwrap_or_default();
                        connection.out.push_copy(frame, Class::Droppable);
                        self.counters.publishes_sent += 1;
                        // Which payload it was is not kept: an even share of them.
                        self.counters.publish_bytes_sent += payload_bytes / frames;
                    }
                    at += len;
                }
            }
            mark(&mut self.dirty, connection, *key);
            if connection.out.bytes() >= soft {
                pressing.push(*key);
            }
        }
        for key in pressing {
            self.press(key);
        }
    }

    /// Hands out what has been gathered, and forgets the route.
    pub(super) fn end_run(&mut self) {
        if self.run.route.is_none() {
            return;
        }
        if self.run.state == State::Open {
            for wire in 0..WIRES.len() {
                self.hand_out(wire);
            }
            self.forget_members();
        }
        self.run.route = None;
        self.run.state = State::Possible;
    }

    fn forget_members(&mut self) {
        for wire in &mut self.run.wires {
            wire.members.clear();
        }
        self.run.singles.clear();
        self.run.offline = 0;
    }
}
