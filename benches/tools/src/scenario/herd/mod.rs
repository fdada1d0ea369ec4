//! Many clients that do nothing: what they cost while they come, stay and go.

pub mod idle;
pub mod storm;

use mqtt_codec::{Packet, PacketId, QoS, Version, encode};
use pollio::{Epoll, Io, Reactor, ReactorOptions};

use super::options::Common;
use crate::{
    clock,
    fail::Failure,
    fleet::{Client, Closed, Fleet, Load, Message, Runner},
    net::Dialer,
    process::Usage,
    progress::Progress,
};

const KEEP_ALIVE_S: u16 = 3_600;
const STEP_NS: u64 = 50_000_000;
/// With nobody let in for so long, the broker is not going to.
const STALL_NS: u64 = 30_000_000_000;

/// The herd and the broker at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The time, on the monotonic clock.
    pub at_ns: u64,
    /// Clients that are connected.
    pub connected: u32,
    /// The broker's memory in RAM.
    pub rss_bytes: u64,
}

/// Takes down moments of a broker's process.
#[derive(Debug)]
struct Watch {
    pid: u32,
    next_ns: u64,
    moments: Vec<Moment>,
}

#[derive(Debug)]
struct Herd {
    dialer: Dialer,
    version: Version,
    subscribe: bool,
    parallel: u32,
    opened: u32,
    ready: u32,
    wanted: u32,
    progress_ns: u64,
    failure: Option<Failure>,
}

struct Field {
    reactor: Reactor<Epoll>,
    runner: Runner<Herd>,
    watch: Option<Watch>,
    progress: Progress,
}

impl Field {
    fn new(common: &Common, count: u32, parallel: u32, subscribe: bool) -> Result<Self, Failure> {
        let herd = Herd {
            dialer: common.dialer(u64::from(count) + 1)?,
            version: common.target.version,
            subscribe,
            parallel,
            opened: 0,
            ready: 0,
            wanted: 0,
            progress_ns: clock::now_ns(),
            failure: None,
        };
        let epoll = Epoll::new().map_err(|error| Failure::run(format!("no epoll: {error}")))?;
        let fleet = Fleet::new(count as usize, common.target.version);
        let reactor = Reactor::new(epoll, ReactorOptions::default());
        Ok(Self {
            reactor,
            runner: Runner { fleet, load: herd },
            watch: None,
            progress: Progress::default(),
        })
    }

    /// Turns until `end` answers yes or something fails.
    fn turn_until(&mut self, mut end: impl FnMut(&Herd) -> bool) -> Result<(), Failure> {
        loop {
            if let Some(failure) = self.runner.load.failure.take() {
                return Err(failure);
            }
            if end(&self.runner.load) {
                return Ok(());
            }
            self.look()?;
            let turn = self.reactor.turn_within(&mut self.runner, Some(STEP_NS));
            turn.map_err(|error| Failure::run(format!("waiting for events: {error}")))?;
        }
    }

    /// Takes down a moment if it is time, and shows it.
    fn look(&mut self) -> Result<(), Failure> {
        let now_ns = clock::now_ns();
        let (ready, wanted) = (self.runner.load.ready, self.runner.load.wanted);
        self.progress.show(now_ns, || {
            format!("{ready} of {wanted} clients are connected")
        });
        if let Some(watch) = self.watch.as_mut().filter(|watch| now_ns >= watch.next_ns) {
            watch.next_ns = now_ns + STEP_NS;
            watch.moments.push(Moment {
                at_ns: now_ns,
                connected: ready,
                rss_bytes: Usage::of(watch.pid)?.rss_bytes,
            });
        }
        Ok(())
    }

    fn grow(&mut self, wanted: u32) -> Result<(), Failure> {
        self.runner.load.wanted = wanted;
        self.runner.load.progress_ns = clock::now_ns();
        self.turn_until(|herd| herd.ready >= wanted)
    }

    /// Closes all connections at once.
    fn drop_all(&mut self) {
        for id in 0..self.runner.load.opened {
            self.runner.fleet.close(id);
        }
        self.runner.load.ready = 0;
        self.runner.load.wanted = 0;
    }

    fn wait(&mut self, ns: u64) -> Result<(), Failure> {
        let end_ns = clock::now_ns() + ns;
        self.turn_until(|_| clock::now_ns() >= end_ns)
    }
}

impl Herd {
    fn is_ready(&mut self) {
        self.ready += 1;
        self.progress_ns = clock::now_ns();
    }
}

impl Load for Herd {
    fn opened(&mut self, client: &mut Client, id: u32) {
        let client_id = format!("axmq-bench-{id:09}");
        let connect = encode::Connect {
            client_id: &client_id,
            clean_start: true,
            keep_alive: KEEP_ALIVE_S,
            ..Default::default()
        };
        client
            .out
            .extend_from_slice(&connect.encode_to_vec(self.version));
    }

    fn message(&mut self, client: &mut Client, _: u32, message: &Message<'_>) {
        client.answer_publish(self.version, message.qos, message.id);
    }

    fn packet(&mut self, client: &mut Client, id: u32, packet: &Packet<'_>) {
        match packet {
            Packet::ConnAck(ack) if ack.reason().is_error() => {
                let line = format!("the broker refuses client {id}: {}", ack.reason().name());
                self.failure.get_or_insert(Failure::run(line));
            }
            Packet::ConnAck(_) if self.subscribe => {
                let filter = format!("herd/{id:07}");
                client.subscribe(self.version, PacketId::MIN, &[&filter], QoS::AtMostOnce);
            }
            Packet::ConnAck(_) => self.is_ready(),
            Packet::SubAck(ack) if ack.codes().any(|code| code.is_error()) => {
                let line = format!("the broker refuses client {id} its subscription");
                self.failure.get_or_insert(Failure::run(line));
            }
            Packet::SubAck(_) => self.is_ready(),
            _ => {}
        }
    }

    fn closed(&mut self, id: u32, why: Closed) {
        let failure = match why {
            Closed::NotConnected(error) => self.dialer.explain(u64::from(id), &error),
            why => Failure::run(format!("client {id} of {}: {why}; no result", self.wanted)),
        };
        self.failure.get_or_insert(failure);
    }

    fn next_deadline(&mut self) -> Option<u64> {
        None
    }

    fn turn(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) -> bool {
        while self.opened < self.wanted && self.opened - self.ready < self.parallel {
            let id = self.opened;
            if let Err(error) = fleet.open(io, &self.dialer, id, u64::from(id)) {
                let failure = self.dialer.explain(u64::from(id), &error);
                self.failure.get_or_insert(failure);
                return false;
            }
            self.opened += 1;
        }
        if self.ready < self.wanted && now_ns > self.progress_ns + STALL_NS {
            let line = format!("only {} of {} clients were let in", self.ready, self.wanted);
            self.failure.get_or_insert(Failure::run(line));
        }
        false
    }
}

fn needed_pid(common: &Common, name: &str) -> Result<u32, Failure> {
    let missing = || Failure::usage(format!("{name} needs the broker's process: --pid PID"));
    common.pid.ok_or_else(missing)
}
