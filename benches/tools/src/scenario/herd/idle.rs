//! The memory of idle connections, as the slope between two counts.

use super::{Field, needed_pid};
use crate::{
    args::{Opt, boolean, value},
    clock,
    fail::Failure,
    json::Object,
    process::Usage,
    say,
    scenario::{
        options::{Common, seconds},
        read,
    },
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
/// Connections on their way at once.
const PARALLEL: u32 = 200;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Connections at the first reading.
    pub from: u32,
    /// Connections at the second reading.
    pub to: u32,
    /// Whether each has a subscription of its own.
    pub subscribe: bool,
    /// Time before each reading.
    pub settle_ns: u64,
    /// Time after the second reading whose CPU is counted.
    pub hold_ns: u64,
}

/// What was read.
#[derive(Clone, Copy, Debug)]
pub struct Idled {
    /// At the first reading.
    pub low: Usage,
    /// At the second reading.
    pub high: Usage,
    /// What was used while all connections were idle.
    pub held: Usage,
    /// How long that was.
    pub held_ns: u64,
    /// Bytes of RSS a connection.
    pub bytes: f64,
}

/// Connects and reads.
///
/// # Errors
///
/// If a client is not let in or lost, or there is no such process.
pub fn measure(common: &Common, pid: u32, plan: &Plan) -> Result<Idled, Failure> {
    let mut field = Field::new(common, plan.to, PARALLEL, plan.subscribe)?;
    field.grow(plan.from)?;
    field.wait(plan.settle_ns)?;
    let low = Usage::of(pid)?;
    field.grow(plan.to)?;
    field.wait(plan.settle_ns)?;
    let high = Usage::of(pid)?;
    let begin_ns = clock::now_ns();
    field.wait(plan.hold_ns)?;
    let held = Usage::of(pid)?.since(&high);
    Ok(Idled {
        low,
        high,
        held,
        held_ns: clock::now_ns() - begin_ns,
        bytes: (high.rss_bytes as f64 - low.rss_bytes as f64) / f64::from(plan.to - plan.from),
    })
}

/// The command `idle`.
///
/// # Errors
///
/// What is wrong with the command line, the broker or the run.
pub fn main(arguments: &[String]) -> Result<(), Failure> {
    let about = "Memory of an idle connection: the slope of the broker's RSS between two counts.";
    let Some(parsed) = read("idle", about, &[IDLE], arguments)? else {
        return Ok(());
    };
    let common = Common::read(&parsed)?;
    let pid = needed_pid(&common, "idle")?;
    let plan = Plan {
        from: parsed.number("from", 1_000)?,
        to: parsed.number("to", 10_000)?,
        subscribe: parsed.is("subscribe", false),
        settle_ns: seconds(&parsed, "settle", 2.0)?,
        hold_ns: seconds(&parsed, "hold", 5.0)?,
    };
    if plan.to <= plan.from {
        return Err(Failure::usage("--to is above --from"));
    }
    let idled = measure(&common, pid, &plan)?;
    say(&match common.json {
        true => json(&plan, &idled).finish() + "\n",
        false => lines(&plan, &idled),
    })
}

fn json(plan: &Plan, idled: &Idled) -> Object {
    let held_ns = idled.held_ns.max(1) as f64;
    Object::default()
        .text("scenario", "idle")
        .count("from", plan.from.into())
        .count("to", plan.to.into())
        .truth("subscribed", plan.subscribe)
        .number("bytes_a_connection", idled.bytes)
        .count("rss_from_bytes", idled.low.rss_bytes)
        .count("rss_to_bytes", idled.high.rss_bytes)
        .number("hold_seconds", held_ns / 1e9)
        .number("hold_cores", idled.held.cpu_ns as f64 / held_ns)
        .count(
            "hold_switches",
            idled.held.voluntary + idled.held.involuntary,
        )
}

fn lines(plan: &Plan, idled: &Idled) -> String {
    let mib = |usage: &Usage| usage.rss_bytes as f64 / f64::from(1 << 20);
    let subscribed = if plan.subscribe {
        ", one subscription each"
    } else {
        ""
    };
    format!(
        "idle {} -> {} connections{subscribed}: {:.0} bytes of RSS a connection\n\
         broker     RSS {:.2} MiB, then {:.2} MiB; idle for {:.1} s it used {:.3} % of a core \
         with {} context switches\n",
        plan.from,
        plan.to,
        idled.bytes,
        mib(&idled.low),
        mib(&idled.high),
        idled.held_ns as f64 / 1e9,
        idled.held.cpu_ns as f64 * 100.0 / idled.held_ns.max(1) as f64,
        idled.held.voluntary + idled.held.involuntary,
    )
}
