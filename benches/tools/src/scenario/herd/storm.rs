//! Clients that all come at once and all go at once, with a prober beside them.

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
};

use mqtt_codec::QoS;

use super::{Field, Moment, STEP_NS, Watch, needed_pid};
use crate::{
    args::{Opt, value},
    clock,
    fail::Failure,
    hist::Histogram,
    json::Object,
    probe::{self, Probed},
    process::Usage,
    say,
    scenario::{
        options::{Common, seconds},
        read,
        report::{duration, latencies},
    },
};

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

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Clients that connect and subscribe.
    pub count: u32,
    /// Connections on their way at once.
    pub parallel: u32,
    /// The processor that the prober is pinned to.
    pub probe_cpu: Option<usize>,
    /// Time between the samples of the prober.
    pub probe_interval_ns: u64,
    /// Time before, between and after.
    pub settle_ns: u64,
}

/// The times at which the phases of a storm begin, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Only the prober is there.
    pub quiet: u64,
    /// Clients come.
    pub storm: u64,
    /// All are there.
    pub stand: u64,
    /// They go.
    pub drop: u64,
    /// It is over.
    pub end: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Stormed {
    /// When it was.
    pub times: Times,
    /// The broker before the storm.
    pub before: Usage,
    /// The broker when the last client was let in.
    pub stormed: Usage,
    /// The broker with all of them.
    pub full: Usage,
    /// The broker without them.
    pub after: Usage,
    /// The round trips of the prober.
    pub probed: Probed,
    /// The broker and the clients over time.
    pub moments: Vec<Moment>,
}

impl Stormed {
    /// How long it took until all were connected and subscribed.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        (self.times.stand - self.times.storm) as f64 / 1e9
    }

    /// The broker's CPU for a connect and subscribe, in microseconds.
    #[must_use]
    pub fn cpu_us(&self, count: u32) -> f64 {
        self.stormed.since(&self.before).cpu_ns as f64 / 1e3 / f64::from(count)
    }

    /// Memory after the storm in terms of memory before.
    #[must_use]
    pub fn memory_ratio(&self) -> f64 {
        self.after.rss_bytes as f64 / self.before.rss_bytes.max(1) as f64
    }

    /// The prober's latencies in the phases.
    #[must_use]
    pub fn phases(&self) -> [(&'static str, Histogram); 3] {
        let times = &self.times;
        [
            ("quiet", self.probed.between(times.quiet, times.storm)),
            ("storm", self.probed.between(times.storm, times.stand)),
            ("drop", self.probed.between(times.drop, times.end)),
        ]
    }
}

/// Lets the clients come and go.
///
/// # Errors
///
/// If a client or the prober is not let in or lost, or there is no such process.
pub fn measure(common: &Common, pid: u32, plan: &Plan) -> Result<Stormed, Failure> {
    let mut field = Field::new(common, plan.count, plan.parallel, true)?;
    field.watch = Some(Watch {
        pid,
        next_ns: 0,
        moments: Vec::new(),
    });
    let stop = Arc::default();
    let probe = probe::Options {
        dialer: common.dialer(1)?,
        version: common.target.version,
        qos: QoS::AtMostOnce,
        samples: None,
        interval_ns: plan.probe_interval_ns,
        stop: Arc::clone(&stop),
    };
    let cpu = plan.probe_cpu;
    let prober = thread::spawn(move || {
        if let Some(cpu) = cpu {
            pollio::affinity::pin_current_thread(cpu)
                .map_err(|error| Failure::run(format!("--probe-cpu {cpu}: {error}")))?;
        }
        probe::run(probe)
    });
    let result = ride(&mut field, pid, plan);
    stop.store(true, Ordering::Relaxed);
    let probed = prober
        .join()
        .map_err(|_| Failure::run("the prober failed"))?;
    // The failure of the herd comes first: the prober's may follow from it.
    let (times, [before, stormed, full, after]) = result?;
    Ok(Stormed {
        times,
        before,
        stormed,
        full,
        after,
        probed: probed?,
        moments: field.watch.map_or_else(Vec::new, |watch| watch.moments),
    })
}

fn ride(field: &mut Field, pid: u32, plan: &Plan) -> Result<(Times, [Usage; 4]), Failure> {
    let quiet = clock::now_ns();
    field.wait(plan.settle_ns)?;
    let before = Usage::of(pid)?;
    let storm = clock::now_ns();
    field.grow(plan.count)?;
    let stand = clock::now_ns();
    let stormed = Usage::of(pid)?;
    field.wait(plan.settle_ns)?;
    let full = Usage::of(pid)?;
    let drop = clock::now_ns();
    field.drop_all();
    field.wait(plan.settle_ns)?;
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

/// The command `storm`.
///
/// # Errors
///
/// What is wrong with the command line, the broker or the run.
pub fn main(arguments: &[String]) -> Result<(), Failure> {
    let about = "Clients that all come at once and all go at once, with a prober beside them.";
    let Some(parsed) = read("storm", about, &[STORM], arguments)? else {
        return Ok(());
    };
    let common = Common::read(&parsed)?;
    let pid = needed_pid(&common, "storm")?;
    let interval_ms = parsed.number("probe-interval", 2.0_f64)?;
    let plan = Plan {
        count: parsed.number("count", 15_000)?,
        parallel: parsed.number("parallel", 512)?,
        probe_cpu: parsed.number_if("probe-cpu")?,
        probe_interval_ns: (interval_ms * 1e6) as u64,
        settle_ns: seconds(&parsed, "settle", 2.0)?.max(STEP_NS),
    };
    if plan.count == 0 || plan.parallel == 0 || !(0.1..=1_000.0).contains(&interval_ms) {
        return Err(Failure::usage(
            "-c and --parallel are above 0, --probe-interval is 0.1 to 1000",
        ));
    }
    let stormed = measure(&common, pid, &plan)?;
    say(&match common.json {
        true => json(plan.count, &stormed).finish() + "\n",
        false => lines(plan.count, &stormed),
    })
}

fn json(count: u32, stormed: &Stormed) -> Object {
    let mut object = Object::default()
        .text("scenario", "storm")
        .count("count", count.into())
        .number("seconds", stormed.seconds())
        .number("connects_a_second", f64::from(count) / stormed.seconds())
        .number("broker_cpu_us_a_connect", stormed.cpu_us(count))
        .count("rss_before_bytes", stormed.before.rss_bytes)
        .count("rss_full_bytes", stormed.full.rss_bytes)
        .count("rss_after_bytes", stormed.after.rss_bytes)
        .number("rss_after_to_before", stormed.memory_ratio());
    for (name, histogram) in stormed.phases() {
        object = object.object(&format!("probe_{name}_ns"), latencies(&histogram));
    }
    object
}

fn lines(count: u32, stormed: &Stormed) -> String {
    let mib = |usage: &Usage| usage.rss_bytes as f64 / f64::from(1 << 20);
    let seconds = stormed.seconds();
    let mut text = format!(
        "storm of {count} clients: all connected and subscribed in {seconds:.2} s, {:.0}/s\n\
         broker     {:.2} µs of CPU a connect and subscribe; RSS {:.2} MiB before, {:.2} full, \
         {:.2} after ({:.2} times before)\n",
        f64::from(count) / seconds,
        stormed.cpu_us(count),
        mib(&stormed.before),
        mib(&stormed.full),
        mib(&stormed.after),
        stormed.memory_ratio(),
    );
    for (name, h) in stormed.phases() {
        text += &format!(
            "probe      {name:5} P50 {}, P99 {}, Max {} ({} samples)\n",
            duration(h.quantile(0.5)),
            duration(h.quantile(0.99)),
            duration(h.max()),
            h.total(),
        );
    }
    text
}
