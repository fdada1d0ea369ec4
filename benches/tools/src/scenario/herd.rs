//! Many clients that do nothing: what they cost while they come, stay and go.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
};

use mqtt_codec::{Packet, PacketId, QoS, Version, encode};
use pollio::{Epoll, Io, Reactor, ReactorOptions};

use super::{
    options::{COMMON, Target, seconds},
    read,
    report::{duration, latencies},
    say,
};
use crate::{
    args::{Opt, boolean, value},
    clock,
    fail::Failure,
    fleet::{Client, Closed, Fleet, Load, Message, Runner},
    json::Object,
    net::Dialer,
    probe::{self, Probed},
    process::Usage,
};

const IDLE: &[Opt] = &[
    value('\0', "from", "connections at the first reading [1000]"),
    value('\0', "to", "connections at the second reading [10000]"),
    boolean(
        '\0',
        "subscribe",
        "each client has one subscription of its own [false]",
    ),
    value('\0', "settle", "seconds before each reading [2]"),
    value(
        '\0',
        "hold",
        "seconds whose CPU is counted after the second reading [5]",
    ),
];
const STORM: &[Opt] = &[
    value('c', "count", "clients that connect and subscribe [15000]"),
    value('\0', "parallel", "connections on their way at once [512]"),
    value(
        '\0',
        "probe-cpu",
        "the processor that the prober is pinned to",
    ),
    value(
        '\0',
        "probe-interval",
        "ms between the samples of the prober [2]",
    ),
    value('\0', "settle", "seconds before, between and after [2]"),
];
const KEEP_ALIVE_S: u16 = 3_600;
const STEP_NS: u64 = 50_000_000;
/// With nobody let in for so long, the broker is not going to.
const STALL_NS: u64 = 30_000_000_000;

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
}

impl Field {
    fn new(target: &Target, count: u32, parallel: u32, subscribe: bool) -> Result<Self, Failure> {
        let herd = Herd {
            dialer: target.dialer(u64::from(count) + 1)?,
            version: target.version,
            subscribe,
            parallel,
            opened: 0,
            ready: 0,
            wanted: 0,
            progress_ns: clock::now_ns(),
            failure: None,
        };
        let epoll = Epoll::new().map_err(|error| Failure::run(format!("no epoll: {error}")))?;
        let fleet = Fleet::new(count as usize, target.version);
        let reactor = Reactor::new(epoll, ReactorOptions::default());
        Ok(Self {
            reactor,
            runner: Runner { fleet, load: herd },
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
            let turn = self.reactor.turn_within(&mut self.runner, Some(STEP_NS));
            turn.map_err(|error| Failure::run(format!("waiting for events: {error}")))?;
        }
    }

    fn grow(&mut self, wanted: u32) -> Result<(), Failure> {
        self.runner.load.wanted = wanted;
        self.runner.load.progress_ns = clock::now_ns();
        self.turn_until(|herd| herd.ready >= wanted)
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

fn needed_pid(target: &Target, name: &str) -> Result<u32, Failure> {
    let missing = || Failure::usage(format!("{name} needs the broker's process: --pid PID"));
    target.pid.ok_or_else(missing)
}

/// The memory of idle connections, as the slope between two counts.
///
/// # Errors
///
/// What is wrong with the command line, the broker or the run.
pub fn idle(arguments: &[String]) -> Result<(), Failure> {
    let about = "Memory of an idle connection: the slope of the broker's RSS between two counts.";
    let Some(parsed) = read("idle", about, &[COMMON, IDLE], arguments)? else {
        return Ok(());
    };
    let target = Target::read(&parsed)?;
    let pid = needed_pid(&target, "idle")?;
    let (from, to) = (
        parsed.number("from", 1_000_u32)?,
        parsed.number("to", 10_000_u32)?,
    );
    if to <= from {
        return Err(Failure::usage("--to is above --from"));
    }
    let settle_ns = seconds(&parsed, "settle", 2.0)?;
    let hold_ns = seconds(&parsed, "hold", 5.0)?;
    let mut field = Field::new(&target, to, 200, parsed.is("subscribe", false))?;
    field.grow(from)?;
    field.wait(settle_ns)?;
    let low = Usage::of(pid)?;
    field.grow(to)?;
    field.wait(settle_ns)?;
    let high = Usage::of(pid)?;
    let begin_ns = clock::now_ns();
    field.wait(hold_ns)?;
    let held = Usage::of(pid)?.since(&high);
    let held_ns = clock::now_ns() - begin_ns;
    let bytes = (high.rss_bytes as f64 - low.rss_bytes as f64) / f64::from(to - from);
    if target.json {
        let object = Object::default()
            .text("scenario", "idle")
            .count("from", from.into())
            .count("to", to.into())
            .truth("subscribed", parsed.is("subscribe", false))
            .number("bytes_a_connection", bytes)
            .count("rss_from_bytes", low.rss_bytes)
            .count("rss_to_bytes", high.rss_bytes)
            .number("hold_seconds", held_ns as f64 / 1e9)
            .number("hold_cores", held.cpu_ns as f64 / held_ns.max(1) as f64)
            .count("hold_switches", held.voluntary + held.involuntary);
        return say(&(object.finish() + "\n"));
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let subscribed = if parsed.is("subscribe", false) {
        ", one subscription each"
    } else {
        ""
    };
    say(&format!(
        "idle {from} -> {to} connections{subscribed}: {bytes:.0} bytes of RSS a connection\n\
         broker     RSS {:.2} MiB, then {:.2} MiB; idle for {:.1} s it used {:.3} % of a core \
         with {} context switches\n",
        mib(low.rss_bytes),
        mib(high.rss_bytes),
        held_ns as f64 / 1e9,
        held.cpu_ns as f64 * 100.0 / held_ns.max(1) as f64,
        held.voluntary + held.involuntary,
    ))
}

/// The times at which the phases of a storm begin.
#[derive(Clone, Copy, Debug)]
struct Times {
    quiet: u64,
    storm: u64,
    stand: u64,
    drop: u64,
    end: u64,
}

/// Clients that all come at once and all go at once, with a prober beside them.
///
/// # Errors
///
/// What is wrong with the command line, the broker or the run.
pub fn storm(arguments: &[String]) -> Result<(), Failure> {
    let about = "Clients that all come at once and all go at once, with a prober beside them.";
    let Some(parsed) = read("storm", about, &[COMMON, STORM], arguments)? else {
        return Ok(());
    };
    let target = Target::read(&parsed)?;
    let pid = needed_pid(&target, "storm")?;
    let count = parsed.number("count", 15_000_u32)?;
    let parallel = parsed.number("parallel", 512_u32)?;
    let interval_ms = parsed.number("probe-interval", 2.0_f64)?;
    if count == 0 || parallel == 0 || !(0.1..=1_000.0).contains(&interval_ms) {
        return Err(Failure::usage(
            "-c and --parallel are above 0, --probe-interval is 0.1 to 1000",
        ));
    }
    let settle_ns = seconds(&parsed, "settle", 2.0)?.max(STEP_NS);
    let mut field = Field::new(&target, count, parallel, true)?;
    let stop = Arc::default();
    let probe = probe::Options {
        dialer: target.dialer(1)?,
        version: target.version,
        qos: QoS::AtMostOnce,
        samples: None,
        interval_ns: (interval_ms * 1e6) as u64,
        stop: Arc::clone(&stop),
    };
    let cpu = parsed.number_if::<usize>("probe-cpu")?;
    let prober = thread::spawn(move || {
        if let Some(cpu) = cpu {
            pollio::affinity::pin_current_thread(cpu)
                .map_err(|error| Failure::run(format!("--probe-cpu {cpu}: {error}")))?;
        }
        probe::run(probe)
    });
    let result = ride(&mut field, pid, count, settle_ns);
    stop.store(true, Ordering::Relaxed);
    let probed = prober
        .join()
        .map_err(|_| Failure::run("the prober failed"))?;
    // The failure of the herd comes first: the prober's may follow from it.
    let (times, readings) = result?;
    show(&target, count, &times, &readings, &probed?)
}

type Readings = [Usage; 4];

fn ride(
    field: &mut Field,
    pid: u32,
    count: u32,
    settle_ns: u64,
) -> Result<(Times, Readings), Failure> {
    let quiet = clock::now_ns();
    field.wait(settle_ns)?;
    let before = Usage::of(pid)?;
    let storm = clock::now_ns();
    field.grow(count)?;
    let stand = clock::now_ns();
    let stormed = Usage::of(pid)?;
    field.wait(settle_ns)?;
    let full = Usage::of(pid)?;
    let drop = clock::now_ns();
    for id in 0..count {
        field.runner.fleet.close(id);
    }
    field.wait(settle_ns)?;
    let after = Usage::of(pid)?;
    let end = clock::now_ns();
    Ok((
        Times {
            quiet,
            storm,
            stand,
            drop,
            end,
        },
        [before, stormed, full, after],
    ))
}

fn show(
    target: &Target,
    count: u32,
    times: &Times,
    [before, stormed, full, after]: &Readings,
    probed: &Probed,
) -> Result<(), Failure> {
    let seconds = (times.stand - times.storm) as f64 / 1e9;
    let rate = f64::from(count) / seconds;
    let cpu_us = stormed.since(before).cpu_ns as f64 / 1e3 / f64::from(count);
    let ratio = after.rss_bytes as f64 / before.rss_bytes.max(1) as f64;
    let phases = [
        ("quiet", probed.between(times.quiet, times.storm)),
        ("storm", probed.between(times.storm, times.stand)),
        ("drop", probed.between(times.drop, times.end)),
    ];
    if target.json {
        let mut object = Object::default()
            .text("scenario", "storm")
            .count("count", count.into())
            .number("seconds", seconds)
            .number("connects_a_second", rate)
            .number("broker_cpu_us_a_connect", cpu_us)
            .count("rss_before_bytes", before.rss_bytes)
            .count("rss_full_bytes", full.rss_bytes)
            .count("rss_after_bytes", after.rss_bytes)
            .number("rss_after_to_before", ratio);
        for (name, histogram) in &phases {
            object = object.object(&format!("probe_{name}_ns"), latencies(histogram));
        }
        return say(&(object.finish() + "\n"));
    }
    let mib = |usage: &Usage| usage.rss_bytes as f64 / f64::from(1 << 20);
    let mut text = format!(
        "storm of {count} clients: all connected and subscribed in {seconds:.2} s, {rate:.0}/s\n\
         broker     {cpu_us:.2} µs of CPU a connect and subscribe; RSS {:.2} MiB before, {:.2} \
         full, {:.2} after ({ratio:.2} times before)\n",
        mib(before),
        mib(full),
        mib(after),
    );
    for (name, h) in &phases {
        text += &format!(
            "probe      {name:5} P50 {}, P99 {}, Max {} ({} samples)\n",
            duration(h.quantile(0.5)),
            duration(h.quantile(0.99)),
            duration(h.max()),
            h.total(),
        );
    }
    say(&text)
}
