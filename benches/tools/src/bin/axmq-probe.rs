//! The latency prober.

#![forbid(unsafe_code)]

use std::{process::ExitCode, sync::Arc};

use axmq_bench::{
    args::{self, Opt, flag, value},
    fail::{self, Failure},
    probe, say,
    scenario::report::{duration, latencies},
    target::{self, Target},
};

const OPTIONS: &[Opt] = &[
    value('n', "samples", "round trips [2000]"),
    value('i', "interval", "ms between their beginnings [10]"),
    value('q', "qos", "QoS of both directions [0]"),
    flag(
        '\0',
        "json",
        "the result as one JSON object, in nanoseconds",
    ),
];
const TABLES: &[&[Opt]] = &[target::OPTIONS, OPTIONS];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    fail::exit("axmq-probe", run(&arguments))
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let parsed = args::parse(TABLES, arguments)?;
    if parsed.is("help", false) {
        let about = "Measures publish → deliver round trips of one client.";
        return say(&args::usage("axmq-probe", about, TABLES));
    }
    let samples = parsed.number("samples", 2_000_u64)?;
    let interval_ms = parsed.number("interval", 10.0_f64)?;
    if samples == 0 || !(0.0..=3_600_000.0).contains(&interval_ms) {
        return Err(Failure::usage(
            "-n is at least 1 and -i between 0 and 3600000 ms",
        ));
    }
    let target = Target::read(&parsed, 4)?;
    let probed = probe::run(probe::Options {
        dialer: target.dialer(1, 0)?,
        version: target.version,
        qos: parsed.qos()?,
        samples: Some(samples),
        interval_ns: (interval_ms * 1e6) as u64,
        stop: Arc::default(),
    })?;
    let histogram = probed.between(0, u64::MAX);
    if parsed.is("json", false) {
        return say(&(latencies(&histogram).finish() + "\n"));
    }
    let mut sorted: Vec<u64> = probed
        .samples
        .iter()
        .map(|sample| sample.latency_ns)
        .collect();
    sorted.sort_unstable();
    let point = |percent: usize| {
        let at = (sorted.len() * percent / 100).min(sorted.len() - 1);
        duration(sorted[at])
    };
    say(&format!(
        "P50: {}\nP95: {}\nP99: {}\nMax: {}\n",
        point(50),
        point(95),
        point(99),
        point(100)
    ))
}
