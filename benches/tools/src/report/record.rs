//! Every run of a report as JSON, for programs.

use super::{
    page::Head,
    results::{Results, Runs},
    suite::Run,
};
use crate::{
    json::Object,
    scenario::{
        herd::{idle::Idled, storm::Stormed},
        report::latencies,
    },
};

fn runs<T>(runs: &Runs<T>, show: impl Fn(&T) -> Object) -> Vec<Object> {
    let one = |run: &Result<T, String>| match run {
        Ok(run) => show(run),
        Err(why) => Object::default().text("failed", why),
    };
    runs.iter().map(one).collect()
}

fn traffic(run: &Run) -> Object {
    Object::default()
        .number("cpu_us_a_message", run.cpu_us)
        .number("generator_cpu_us_a_message", run.generator_us)
        .number("delivered_a_second", run.rate)
        .truth("generator_saturated", run.generator_saturated)
        .truth("broker_saturated", run.broker_saturated)
        .truth("disturbed", run.disturbed)
        .object("latency_ns", latencies(&run.latencies))
}

fn idle(idled: &Idled) -> Object {
    Object::default()
        .number("bytes_a_connection", idled.bytes)
        .count("rss_from_bytes", idled.low.rss_bytes)
        .count("rss_to_bytes", idled.high.rss_bytes)
}

fn storm(stormed: &Stormed) -> Object {
    let mut object = Object::default()
        .number("seconds", stormed.seconds())
        .count("rss_before_bytes", stormed.before.rss_bytes)
        .count("rss_full_bytes", stormed.full.rss_bytes)
        .count("rss_after_bytes", stormed.after.rss_bytes)
        .count("cpu_ns", stormed.stormed.since(&stormed.before).cpu_ns);
    for (name, histogram) in stormed.phases() {
        object = object.object(&format!("probe_{name}_ns"), latencies(&histogram));
    }
    object
}

/// The text of `report.json`.
pub(super) fn json(head: &Head<'_>, results: &Results) -> String {
    let machine = head.machine;
    let mut object = Object::default()
        .text("time", &machine.time)
        .text("processor", &machine.processor)
        .count("processors", machine.processors as u64)
        .count("memory_mib", machine.memory_mib)
        .text("kernel", &machine.kernel)
        .text("command", head.command);
    let floor = results.costs.iter().fold(Object::default(), |all, case| {
        all.list(&case.0.title, runs(&case.1, traffic))
    });
    object = object.object("floor", floor);
    for (at, contender) in results.contenders.iter().enumerate() {
        let mut all = Object::default()
            .text("version", &contender.version)
            .text("command", &contender.command);
        for (case, _, brokers) in &results.costs {
            all = all.list(&case.title, runs(&brokers[at], traffic));
        }
        all = all
            .list("latency", runs(&results.latencies[at], traffic))
            .list("idle", runs(&results.idle[at], idle))
            .list("idle, subscribed", runs(&results.subscribed[at], idle))
            .list("storm", runs(&results.storms[at], storm));
        object = object.object(&contender.name, all);
    }
    object.finish() + "\n"
}
