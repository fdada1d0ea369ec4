//! The result of a run, for people and for programs.

use std::fmt::Write as _;

use mqtt_codec::QoS;

use super::{
    options::{Pace, Traffic},
    traffic::Outcome,
};
use crate::{fail::Failure, hist::Histogram, json::Object, process::Usage};

/// Share of a core from which on the generator, not the broker, sets the pace.
pub const SATURATED: f64 = 0.95;
/// Share of the time waiting for a core from which on the figures are doubtful.
pub const DISTURBED: f64 = 0.05;

/// A time in the unit that suits it, as Go prints it.
#[must_use]
pub fn duration(ns: u64) -> String {
    let trimmed = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", trimmed(format!("{:.3}", ns as f64 / 1e3))),
        1_000_000..1_000_000_000 => format!("{}ms", trimmed(format!("{:.3}", ns as f64 / 1e6))),
        _ => format!("{}s", trimmed(format!("{:.3}", ns as f64 / 1e9))),
    }
}

/// The four points of a distribution that every tool here prints.
#[must_use]
pub fn latencies(histogram: &Histogram) -> Object {
    Object::default()
        .count("samples", histogram.total())
        .count("p50", histogram.quantile(0.5))
        .count("p95", histogram.quantile(0.95))
        .count("p99", histogram.quantile(0.99))
        .count("max", histogram.max())
}

fn per(total: u64, count: u64) -> f64 {
    total as f64 / count as f64
}

fn share(ns: u64, of_ns: u64) -> f64 {
    ns as f64 / of_ns.max(1) as f64
}

/// What a process used for each of `messages`, as JSON.
fn usage(usage: &Usage, messages: u64, time_ns: u64) -> Object {
    Object::default()
        .number("cpu_us_a_message", per(usage.cpu_ns, messages) / 1e3)
        .number("cores", share(usage.cpu_ns, time_ns))
        .number("waiting_for_a_core", share(usage.wait_ns, time_ns))
        .count("switches_voluntary", usage.voluntary)
        .count("switches_involuntary", usage.involuntary)
        .count("rss_bytes", usage.rss_bytes)
}

/// Prints a result and judges it. Duplicates are allowed at QoS 1.
///
/// # Errors
///
/// If the broker lost, repeated, reordered or misdelivered a message.
pub fn print(title: &str, options: &Traffic, outcome: &Outcome) -> Result<(), Failure> {
    let text = if options.common.json {
        json(title, options, outcome).finish() + "\n"
    } else {
        lines(title, options, outcome)
    };
    crate::say(&text)?;
    judge(options.qos, outcome)
}

/// Whether what was delivered is what was promised. Duplicates are allowed at QoS 1.
///
/// # Errors
///
/// If the broker lost, repeated, reordered or misdelivered a message, or delivered none.
pub fn judge(qos: QoS, outcome: &Outcome) -> Result<(), Failure> {
    let mut verdict = outcome.verdict;
    if qos == QoS::AtLeastOnce {
        verdict.duplicated = 0;
    }
    match verdict.complaint() {
        Some(what) => Err(Failure::verdict(format!(
            "the broker broke its promise: {what}"
        ))),
        None if outcome.delivered == 0 => Err(Failure::verdict("nothing was delivered")),
        None => Ok(()),
    }
}

fn json(title: &str, options: &Traffic, outcome: &Outcome) -> Object {
    let v = &outcome.verdict;
    let verdict = Object::default()
        .count("expected", v.expected)
        .count("delivered", v.delivered)
        .count("lost", v.lost)
        .count("duplicated", v.duplicated)
        .count("reordered", v.reordered)
        .count("misdelivered", v.misdelivered)
        .count("corrupted", v.corrupted)
        .count("wrong_qos", v.wrong_qos);
    let generator = usage(&outcome.own, outcome.delivered, outcome.time_ns);
    let mut object = Object::default()
        .text("scenario", title)
        .count("qos", options.qos as u64)
        .count("version", u64::from(options.common.target.version.level()))
        .count("size", options.size as u64);
    object = match options.pace {
        Pace::Window(window) => object.count("window", window),
        Pace::Rate(rate) => object.number("rate", rate),
    };
    object = object
        .number("seconds", outcome.time_ns as f64 / 1e9)
        .count("published", outcome.published)
        .count("delivered", outcome.delivered)
        .number(
            "delivered_a_second",
            per(outcome.delivered, outcome.time_ns) * 1e9,
        )
        .object("whole_run", verdict)
        .object("latency_ns", latencies(&outcome.latencies))
        .object("generator", generator)
        .truth("generator_saturated", saturated(outcome));
    if let Some(broker) = &outcome.broker {
        object = object.object("broker", usage(broker, outcome.delivered, outcome.time_ns));
    }
    object
}

fn saturated(outcome: &Outcome) -> bool {
    share(outcome.own.cpu_ns, outcome.time_ns) >= SATURATED
}

fn lines(title: &str, options: &Traffic, outcome: &Outcome) -> String {
    let (time_ns, delivered) = (outcome.time_ns, outcome.delivered);
    let pace = match options.pace {
        Pace::Window(window) => format!("window {window}"),
        Pace::Rate(rate) => format!("{rate} publishes a second"),
    };
    let mut text = format!(
        "{title}, QoS {}, {} bytes, {pace}, {}, {:.2} s\n",
        options.qos as u8,
        options.size,
        options.common.target.version,
        time_ns as f64 / 1e9,
    );
    let v = &outcome.verdict;
    let wrong = v
        .complaint()
        .unwrap_or_else(|| "nothing lost, repeated or out of order".into());
    let rate = per(delivered, time_ns) * 1e9;
    let _ = writeln!(
        text,
        "delivered  {delivered} ({rate:.0}/s); in the whole run {} of {}: {wrong}",
        v.delivered, v.expected,
    );
    if let Some(broker) = &outcome.broker {
        let switches = (broker.voluntary + broker.involuntary) as f64 * 1e9 / time_ns as f64;
        let _ = writeln!(
            text,
            "broker     {:.3} µs of CPU a message, {:.1} % of a core, {switches:.0} switches/s, \
             RSS {:.2} MiB",
            per(broker.cpu_ns, delivered) / 1e3,
            share(broker.cpu_ns, time_ns) * 100.0,
            broker.rss_bytes as f64 / f64::from(1 << 20),
        );
    }
    let own = &outcome.own;
    let _ = write!(
        text,
        "generator  {:.3} µs of CPU a message, {:.1} % of a core",
        per(own.cpu_ns, delivered) / 1e3,
        share(own.cpu_ns, time_ns) * 100.0,
    );
    if saturated(outcome) {
        text.push_str(", generator saturated");
    }
    if share(own.wait_ns, time_ns) >= DISTURBED {
        let percent = share(own.wait_ns, time_ns) * 100.0;
        let _ = write!(
            text,
            ", disturbed: waited {percent:.0} % of the time for a core"
        );
    }
    let h = &outcome.latencies;
    let _ = writeln!(
        text,
        "\nlatency    P50 {}, P95 {}, P99 {}, Max {}",
        duration(h.quantile(0.5)),
        duration(h.quantile(0.95)),
        duration(h.quantile(0.99)),
        duration(h.max()),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_that_suits_them() {
        for (ns, text) in [
            (999, "999ns"),
            (223_692, "223.692µs"),
            (301_080, "301.08µs"),
            (33_981_000, "33.981ms"),
            (2_000_000_000, "2s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}
