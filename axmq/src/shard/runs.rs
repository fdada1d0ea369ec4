//! Runs: consecutive publishes of one client on one route are gathered in one block, and each
//! subscriber gets one segment for all of them (DESIGN 4, step 6). DECISIONS 19 has them for QoS 0
//! only; `docs/performance.md` says what they are worth above it.
//!
//! A subscriber sees the order in which the shard routed: a run ends before anything else is
//! published to one of its members, and whenever the set of its members could change. The first
//! publish on a route goes message by message, so that only what really comes in a row pays for a
//! run's beginning.
//!
//! Above QoS 0 the bytes of subscribers differ in the packet id, which is the broker's to choose:
//! each publication has a number, which all sessions take that can, so that the ids are the same.
//! Whether a session can, and has room, is seen when the run is handed out. One that cannot take
//! the whole gets a copy of each frame with an id of its own, or has the message wait.

use std::rc::Rc;

use mqtt_codec::{QoS, Version};
use sharedbuf::{Class, RunBuilder, SharedSlice};
use slabmem::Key;

use super::connection::{Connection, flag};
use super::deliver::Course;
use super::{Core, mark};
use crate::config::Limits;
use crate::publication::{SessionRef, View};
use crate::route::{MEMBERS_MIN, Route};
use crate::session::{Queued, packet_id};

/// A run that has come so far is handed out; what one read brings fits.
const RUN_BYTES: usize = 16 * 1_024;
/// Longer frames are shared one by one: they cost no copy anyway.
const FRAME_BYTES_MAX: usize = super::images::COPY_BYTES_MAX;
/// What a frame can have beyond a publication's topic, properties and payload: the fixed header,
/// two lengths, and a message expiry interval.
const HEAD_BYTES_MAX: usize = 16;

/// The wire formats: 3.1 and 3.1.1 share one.
const WIRES: [(QoS, Version); 6] = [
    (QoS::AtMostOnce, Version::V311),
    (QoS::AtMostOnce, Version::V5),
    (QoS::AtLeastOnce, Version::V311),
    (QoS::AtLeastOnce, Version::V5),
    (QoS::ExactlyOnce, Version::V311),
    (QoS::ExactlyOnce, Version::V5),
];

fn wire_of(qos: QoS, version: Version) -> usize {
    2 * qos as usize + usize::from(version == Version::V5)
}

/// A publication of a run above QoS 0.
#[derive(Copy, Clone, Debug)]
struct Gathered {
    /// In the table of messages, where the run counts as a session.
    message: Key,
    number: u64,
    cost: usize,
    payload_bytes: u64,
    packet_id_at: usize,
}

impl Gathered {
    fn queued(&self, qos: QoS) -> Queued {
        Queued::new(self.message, self.cost, qos, false)
    }
}

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
    /// Those publishes, above QoS 0.
    gathered: Vec<Gathered>,
}

/// The run that is being gathered, or may begin. A core has one.
#[derive(Debug, Default)]
pub(super) struct Run {
    /// What the publishes have in common; `None` when none has come.
    route: Option<Rc<Route>>,
    source: Option<SessionRef>,
    qos: QoS,
    state: State,
    wires: [Wire; WIRES.len()],
    /// Targets that fit no wire, by their place in the route.
    singles: Vec<u32>,
    /// Targets that are not connected.
    offline: u64,
}

impl Run {
    fn is_of(&self, view: &View<'_>, route: &Rc<Route>) -> bool {
        self.source == view.source
            && self.qos == view.qos()
            && self
                .route
                .as_ref()
                .is_some_and(|own| Rc::ptr_eq(own, route))
    }
}

/// What a member was given is to be written. Whether so much is queued that it presses.
fn is_given<S>(
    dirty: &mut Vec<Key>,
    connection: &mut Connection<S>,
    key: Key,
    limits: &Limits,
) -> bool {
    mark(dirty, connection, key);
    connection.out.bytes() >= limits.out_queue_soft_bytes as usize
}

impl<S> Core<S> {
    /// Adds a publication to the run, where it continues one or begins one; `false` where it goes
    /// message by message. A run of something else has ended then.
    pub(super) fn join_run(&mut self, view: &View<'_>, route: &Rc<Route>) -> bool {
        let fits = !view.retain()
            && route.groups.is_empty()
            && route.is_wide()
            && view.len() <= FRAME_BYTES_MAX - HEAD_BYTES_MAX
            // A hook is asked for each message and subscriber.
            && !self.shared.hooks.sees_deliveries();
        if !fits || !self.run.is_of(view, route) {
            if fits || !planted!(RunNotSealed) {
                self.end_run();
            }
            if fits {
                self.run.route = Some(Rc::clone(route));
                self.run.source = view.source;
                self.run.qos = view.qos();
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
        let mut kept = None;
        // None gets it at a higher QoS than its own.
        let wires = wire_of(view.qos(), Version::V5) + 1;
        for (wire, (qos, version)) in WIRES.into_iter().enumerate().take(wires) {
            self.append_to_run(view, wire, qos, version, &mut kept);
        }
        for at in 0..self.run.singles.len() {
            let target = self
                .run
                .singles
                .get(at)
                .and_then(|target| route.targets.get(*target as usize));
            if let Some(target) = target {
                self.deliver(view, target, route, &mut kept);
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
            let single = u32::try_from(at).unwrap_or(u32::MAX);
            let qos = view
                .qos()
                .min(QoS::from_u8(target.qos).unwrap_or(QoS::AtMostOnce));
            let hears = self.hears(view, target);
            let session_key = self.sessions.key_at(target.slot).filter(|_| hears);
            let Some((session_key, session)) =
                session_key.and_then(|key| Some((key, self.sessions.get(key)?)))
            else {
                continue;
            };
            let Some(key) = session.connection else {
                if qos != QoS::AtMostOnce || self.is_local(session_key) {
                    self.run.singles.push(single);
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
                && (qos == QoS::AtMostOnce || session.holder == 0)
                && connection
                    .rules()
                    .is_none_or(|rules| rules.mount_point.is_empty());
            match self.run.wires.get_mut(wire_of(qos, connection.version)) {
                Some(wire) if is_plain => {
                    wire.members.push(key);
                    count += 1;
                }
                _ => self.run.singles.push(single),
            }
        }
        self.run.state = State::Open;
        if count < MEMBERS_MIN {
            self.forget_members();
            self.run.state = State::Declined;
        }
    }

    fn append_to_run(
        &mut self,
        view: &View<'_>,
        wire: usize,
        qos: QoS,
        version: Version,
        kept: &mut Option<Key>,
    ) {
        let members = self.run.wires.get(wire).map_or(0, |it| it.members.len());
        if members == 0 {
            return;
        }
        let payload_bytes = view.payload().len() as u64;
        let mut gathered = None;
        if qos != QoS::AtMostOnce {
            let Some(message) = self.keep(view, kept) else {
                self.counters.dropped_no_memory += members as u64;
                return;
            };
            gathered = Some(Gathered {
                message,
                number: 0,
                cost: view.len(),
                payload_bytes,
                packet_id_at: 0,
            });
        }
        if !self.push_to_run(view, wire, qos, version, &mut gathered) {
            self.hand_out(wire);
            let fits = self.push_to_run(view, wire, qos, version, &mut gathered);
            debug_assert!(fits, "a block holds more than one frame");
        }
        if let Some(wire) = self.run.wires.get_mut(wire) {
            wire.payload_bytes += payload_bytes;
            wire.gathered.extend(gathered);
        }
    }

    /// Adds the frame to the block of a wire format; `false` where that is full.
    fn push_to_run(
        &mut self,
        view: &View<'_>,
        wire: usize,
        qos: QoS,
        version: Version,
        gathered: &mut Option<Gathered>,
    ) -> bool {
        let id = gathered.as_ref().map(|_| packet_id(self.numbered));
        let (frame, packet_id_at) = self.images.plain_frame(view, version, qos, id, self.now_ms);
        if let Some(gathered) = gathered {
            gathered.number = self.numbered;
            gathered.packet_id_at = packet_id_at;
        }
        let Some(wire) = self.run.wires.get_mut(wire) else {
            return false;
        };
        let builder = wire
            .builder
            .get_or_insert_with(|| RunBuilder::new(RUN_BYTES));
        builder.push(frame)
    }

    /// Gives what has been gathered for one wire format to its members.
    fn hand_out(&mut self, wire: usize) {
        let (Some((qos, _)), Some(place)) = (WIRES.get(wire), self.run.wires.get_mut(wire)) else {
            return;
        };
        let mut own = std::mem::take(place);
        let payload_bytes = std::mem::take(&mut own.payload_bytes);
        // Members that have all of it in flight.
        let mut whole = 0;
        if let Some(run) = own.builder.as_mut().and_then(RunBuilder::seal) {
            let handles = run.bytes().retain_n(own.members.len());
            for (key, handle) in own.members.iter().zip(handles) {
                if *qos == QoS::AtMostOnce {
                    self.give_once_at_most(*key, &run, handle, payload_bytes);
                } else if self.give_acknowledged(*key, *qos, &run, handle, &own.gathered) {
                    whole += 1;
                    self.counters.publish_bytes_sent += payload_bytes;
                }
            }
        }
        for one in own.gathered.drain(..) {
            if let Some(kept) = self.messages.get_mut(one.message) {
                kept.sessions += whole;
            }
            // The run's own share.
            self.release(Some(one.message));
        }
        if let Some(place) = self.run.wires.get_mut(wire) {
            *place = own;
        }
    }

    /// Gives one member a run above QoS 0. Whether it has all of it in flight: then the caller
    /// counts it at the messages, and the bytes of their payloads.
    fn give_acknowledged(
        &mut self,
        key: Key,
        qos: QoS,
        sealed: &sharedbuf::Run<'_>,
        handle: SharedSlice,
        gathered: &[Gathered],
    ) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "a close ends the run first");
            return false;
        };
        let (Some(session), Some(first), Some(last)) = (
            self.sessions.get_mut(connection.session),
            gathered.first(),
            gathered.last(),
        ) else {
            debug_assert!(false, "a connected one has a session, and a run a frame");
            return false;
        };
        let outgoing = &mut session.flow().outgoing;
        self.numbered = self.numbered.max(outgoing.align(first.number));
        let limits = &self.shared.limits;
        let frames = gathered.len() as u64;
        // A single that was ahead in between has moved the others on.
        let is_row = last.number - first.number + 1 == frames;
        let is_whole = is_row
            && connection.out.bytes() + handle.len() <= limits.out_queue_bytes as usize
            && outgoing.takes_run(first.number, frames, connection.receive_maximum);
        let mut presses = false;
        if is_whole {
            for one in gathered {
                outgoing.send(one.queued(qos));
            }
            self.counters.publishes_sent += frames;
            connection.out.prepare(&mut self.blocks);
            connection.out.push_run(sealed, handle, Class::Message);
            presses = is_given(&mut self.dirty, connection, key, limits);
        } else {
            let mut scratch = Vec::new();
            let mut at = 0;
            for (one, len) in gathered.iter().zip(sealed.lens()) {
                let frame = handle.get(at..at + *len as usize).unwrap_or_default();
                at += frame.len();
                match Course::of(outgoing, Some(key), &self.connections, limits) {
                    Course::Send(_) => {
                        outgoing.align(one.number);
                        let id = outgoing.send(one.queued(qos));
                        scratch.clear();
                        scratch.extend_from_slice(frame);
                        mqtt_codec::patch_packet_id(&mut scratch, one.packet_id_at, id);
                        if let Some(connection) = self.connections.get_mut(key) {
                            connection.out.prepare(&mut self.blocks);
                            connection.out.push_copy(&scratch, Class::Message);
                            presses = is_given(&mut self.dirty, connection, key, limits);
                        }
                        self.counters.publishes_sent += 1;
                        self.counters.publish_bytes_sent += one.payload_bytes;
                    }
                    Course::Wait => outgoing.wait(one.queued(qos)),
                    Course::Drop => {
                        self.counters.dropped_session_queue_full +=
                            1 + u64::from(planted!(DropCountedTwice));
                        continue;
                    }
                }
                if let Some(kept) = self.messages.get_mut(one.message) {
                    kept.sessions += 1;
                }
            }
        }
        if presses {
            self.press(key);
        }
        is_whole
    }

    /// Gives one member a run at QoS 0.
    fn give_once_at_most(
        &mut self,
        key: Key,
        sealed: &sharedbuf::Run<'_>,
        handle: SharedSlice,
        payload_bytes: u64,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            debug_assert!(false, "a close ends the run first");
            return;
        };
        let limits = &self.shared.limits;
        let full = limits.out_queue_bytes as usize;
        let frames = sealed.frames() as u64;
        let queued = connection.out.bytes();
        if queued >= limits.out_queue_soft_bytes as usize && connection.has(flag::STALLED) {
            self.counters.dropped_stalled += frames;
            return;
        }
        connection.out.prepare(&mut self.blocks);
        if queued + handle.len() <= full {
            connection.out.push_run(sealed, handle, Class::Droppable);
            self.counters.publishes_sent += frames;
            self.counters.publish_bytes_sent += payload_bytes;
        } else {
            let mut at = 0;
            for len in sealed.lens().iter().map(|len| *len as usize) {
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
        if is_given(&mut self.dirty, connection, key, limits) {
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
