//! The latency prober: publish → deliver round trips of one client, at a fixed rate.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use mqtt_codec::{Packet, PacketId, PacketType, PublishHead, QoS, Version, encode};
use pollio::{Epoll, Io, Reactor, ReactorOptions};

use crate::{
    check::{STAMP_BYTES, Stamp},
    clock,
    fail::Failure,
    fleet::{Client, Closed, Fleet, Load, Message, Runner},
    net::Dialer,
    scenario::traffic::KEEP_ALIVE_S,
};

/// How long the last samples are waited for.
const PATIENCE_NS: u64 = 5_000_000_000;
/// How long a broker may take to let the prober in.
const CONNECT_NS: u64 = 30_000_000_000;
/// How often the flag of another thread is looked at when nothing happens.
const LOOK_NS: u64 = 20_000_000;

/// What is probed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The broker.
    pub dialer: Dialer,
    /// The protocol.
    pub version: Version,
    /// QoS of both directions.
    pub qos: QoS,
    /// Samples; `None` until [`stop`](Self::stop) is set.
    pub samples: Option<u64>,
    /// Time between samples.
    pub interval_ns: u64,
    /// Ends the probing early, set by another thread.
    pub stop: Arc<AtomicBool>,
}

/// A round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it should have begun, on the monotonic clock.
    pub due_ns: u64,
    /// How long it took from then.
    pub latency_ns: u64,
}

/// What came of a probing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// The round trips, in the order of their ends.
    pub samples: Vec<Sample>,
    /// How many were sent.
    pub sent: u64,
}

impl Probed {
    /// The latencies of the samples that were due between two times.
    #[must_use]
    pub fn between(&self, begin_ns: u64, end_ns: u64) -> crate::hist::Histogram {
        let mut histogram = crate::hist::Histogram::default();
        for sample in &self.samples {
            if (begin_ns..end_ns).contains(&sample.due_ns) {
                histogram.record(sample.latency_ns);
            }
        }
        histogram
    }
}

#[derive(Debug)]
struct Prober {
    options: Options,
    topic: String,
    opened: bool,
    begin_ns: Option<u64>,
    deadline_ns: u64,
    probed: Probed,
    /// Between PUBREL and PUBCOMP nothing is timed, so these need no state but their number.
    packet_id: PacketId,
    payload: [u8; STAMP_BYTES],
    end: Option<Result<(), Failure>>,
}

/// Probes until the samples are complete.
///
/// # Errors
///
/// If the broker does not let the prober in, or loses it, or if samples did not come.
pub fn run(options: Options) -> Result<Probed, Failure> {
    let now_ns = clock::now_ns();
    let unique = format!("{}-{:x}", std::process::id(), now_ns & 0xffff_ffff);
    let version = options.version;
    let load = Prober {
        options,
        topic: format!("latency/probe/{unique}"),
        opened: false,
        begin_ns: None,
        deadline_ns: now_ns + CONNECT_NS,
        probed: Probed::default(),
        packet_id: PacketId::MIN,
        payload: [b'p'; STAMP_BYTES],
        end: None,
    };
    let epoll = Epoll::new().map_err(|error| Failure::run(format!("no epoll: {error}")))?;
    let mut reactor = Reactor::new(epoll, ReactorOptions::default());
    let mut runner = Runner {
        fleet: Fleet::new(1, version),
        load,
    };
    reactor
        .run(&mut runner, |runner| runner.load.end.is_some())
        .map_err(|error| Failure::run(format!("waiting for events: {error}")))?;
    runner.load.end.take().unwrap_or(Ok(()))?;
    Ok(runner.load.probed)
}

impl Prober {
    fn is_last(&self) -> bool {
        self.options.samples == Some(self.probed.sent) || self.options.stop.load(Ordering::Relaxed)
    }

    fn due_ns(&self, begin_ns: u64) -> u64 {
        begin_ns + self.probed.sent * self.options.interval_ns
    }

    fn send(&mut self, client: &mut Client, due_ns: u64) {
        let stamp = Stamp {
            stream: 0,
            number: self.probed.sent,
            sent_ns: due_ns,
        };
        stamp.write(&mut self.payload);
        let head = PublishHead {
            qos: self.options.qos,
            topic: &self.topic,
            packet_id: Some(self.packet_id),
            payload_len: self.payload.len(),
            ..Default::default()
        };
        client
            .out
            .extend_from_slice(&head.encode_to_vec(self.options.version, &self.payload));
        self.packet_id = self.packet_id.next();
        self.probed.sent += 1;
    }

    fn fail(&mut self, line: String) {
        self.end.get_or_insert(Err(Failure::run(line)));
    }
}

impl Load for Prober {
    fn opened(&mut self, client: &mut Client, _: u32) {
        let client_id = format!(
            "axmq-probe-{}",
            self.topic.rsplit('/').next().unwrap_or("0")
        );
        let connect = encode::Connect {
            client_id: &client_id,
            clean_start: true,
            keep_alive: KEEP_ALIVE_S,
            ..Default::default()
        };
        client
            .out
            .extend_from_slice(&connect.encode_to_vec(self.options.version));
    }

    fn message(&mut self, client: &mut Client, _: u32, message: &Message<'_>) {
        client.answer_publish(self.options.version, message.qos, message.id);
        let Some(stamp) = Stamp::read(message.payload) else {
            return;
        };
        let latency_ns = message.read_ns.saturating_sub(stamp.sent_ns);
        self.probed.samples.push(Sample {
            due_ns: stamp.sent_ns,
            latency_ns,
        });
    }

    fn packet(&mut self, client: &mut Client, _: u32, packet: &Packet<'_>) {
        let version = self.options.version;
        match packet {
            Packet::ConnAck(ack) if ack.reason().is_error() => {
                self.fail(format!(
                    "the broker refuses the prober: {}",
                    ack.reason().name()
                ));
            }
            Packet::ConnAck(_) => {
                let topic = self.topic.clone();
                client.subscribe(version, PacketId::MIN, &[&topic], self.options.qos);
            }
            Packet::SubAck(ack) => match ack.codes().find(|code| code.is_error()) {
                Some(code) => self.fail(format!(
                    "the broker refuses {}: {}",
                    self.topic,
                    code.name()
                )),
                None => self.begin_ns = Some(clock::now_ns() + self.options.interval_ns),
            },
            Packet::PubRec(ack) if !ack.reason().is_error() => {
                client.acknowledge(version, PacketType::PubRel, ack.packet_id());
            }
            Packet::PubRel(ack) => {
                client.acknowledge(version, PacketType::PubComp, ack.packet_id());
            }
            _ => {}
        }
    }

    fn closed(&mut self, _: u32, why: Closed) {
        let failure = match why {
            Closed::NotConnected(error) => self.options.dialer.explain(0, &error),
            why => Failure::run(format!("the prober lost its connection: {why}")),
        };
        self.end.get_or_insert(Err(failure));
    }

    fn next_deadline(&mut self) -> Option<u64> {
        match self.begin_ns {
            _ if !self.opened => Some(0),
            Some(begin_ns) if !self.is_last() => {
                let look_ns = clock::now_ns() + LOOK_NS;
                Some(self.due_ns(begin_ns).min(look_ns))
            }
            _ => Some(self.deadline_ns),
        }
    }

    fn turn(&mut self, fleet: &mut Fleet, io: &mut Io<'_, Epoll>, now_ns: u64) -> bool {
        if !self.opened {
            self.opened = true;
            if let Err(error) = fleet.open(io, &self.options.dialer, 0, 0) {
                self.end = Some(Err(self.options.dialer.explain(0, &error)));
            }
            return false;
        }
        if let Some(begin_ns) = self.begin_ns
            && let Some(client) = fleet.client(0)
        {
            while !self.is_last() && self.due_ns(begin_ns) <= now_ns {
                self.send(client, self.due_ns(begin_ns));
                self.deadline_ns = now_ns + PATIENCE_NS;
            }
            fleet.touch(0);
            if self.is_last() && self.probed.samples.len() as u64 >= self.probed.sent {
                self.end.get_or_insert(Ok(()));
            }
        }
        if now_ns >= self.deadline_ns {
            let (came, sent) = (self.probed.samples.len(), self.probed.sent);
            self.fail(match self.begin_ns {
                Some(_) => format!("only {came} of {sent} samples came back"),
                None => "the broker accepts the connection but not the client: is it MQTT?".into(),
            });
        }
        false
    }
}
