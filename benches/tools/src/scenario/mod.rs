//! Scenarios: loads whose cost for the broker is measured, with every message accounted for.

pub mod herd;
pub mod options;
pub mod plan;
pub mod relay;
pub mod report;
pub mod traffic;

use self::{
    options::{COMMON, FANOUT, FLOOR, PAIRS, TRAFFIC, Traffic, WILD},
    plan::Plan,
    traffic::Dialect,
};
use crate::{
    args::{self, Opt, Parsed},
    fail::Failure,
    say, target,
};

fn read(
    name: &str,
    about: &str,
    tables: &[&[Opt]],
    arguments: &[String],
) -> Result<Option<Parsed>, Failure> {
    let tables = &[&[target::OPTIONS, COMMON], tables].concat();
    let parsed = args::parse(tables, arguments)?;
    if parsed.is("help", false) {
        say(&args::usage(&format!("axmq-bench {name}"), about, tables))?;
        return Ok(None);
    }
    Ok(Some(parsed))
}

fn traffic(plan: &Plan, parsed: &Parsed) -> Result<(), Failure> {
    let options = Traffic::read(parsed, plan.usual_window())?;
    let clients = plan.subscribers.len() as u64
        + u64::from(plan.publishers)
        + u64::from(plan.idle_filters.min(100));
    let dialer = options.common.dialer(clients)?;
    let pid = options.common.pid;
    let outcome = traffic::run(plan, &options, dialer, Dialect::Mqtt, pid)?;
    report::print(&plan.title, &options, &outcome)
}

/// Publishers and subscribers on one topic.
///
/// # Errors
///
/// What is wrong with the command line, the run or the broker.
pub fn fanout(arguments: &[String]) -> Result<(), Failure> {
    let about = "Publishers and subscribers on one topic, every message accounted for.";
    let Some(parsed) = read("fanout", about, &[TRAFFIC, FANOUT], arguments)? else {
        return Ok(());
    };
    traffic(&Plan::read_fanout(&parsed)?, &parsed)
}

/// Pairs with a topic each.
///
/// # Errors
///
/// As [`fanout`].
pub fn pairs(arguments: &[String]) -> Result<(), Failure> {
    let about = "Pairs of a publisher and a subscriber with a topic each.";
    let Some(parsed) = read("pairs", about, &[TRAFFIC, PAIRS], arguments)? else {
        return Ok(());
    };
    traffic(&Plan::read_pairs(&parsed)?, &parsed)
}

/// Filters as they are in the wild.
///
/// # Errors
///
/// As [`fanout`].
pub fn wild(arguments: &[String]) -> Result<(), Failure> {
    let about = "1,000 subscribers with exact, + and # filters on 10,000 topics, mean fan-out 6.";
    let Some(parsed) = read("wild", about, &[TRAFFIC, WILD], arguments)? else {
        return Ok(());
    };
    traffic(&Plan::read_wild(&parsed)?, &parsed)
}

/// What the same bytes cost without a broker.
///
/// # Errors
///
/// As [`fanout`].
pub fn floor(arguments: &[String]) -> Result<(), Failure> {
    let about = "The same bytes through a relay that reads and writes them and nothing else.";
    let Some(parsed) = read("floor", about, &[TRAFFIC, FLOOR], arguments)? else {
        return Ok(());
    };
    let plan = match parsed.number_if::<u32>("pairs")? {
        Some(pairs @ 1..=100_000) => Plan::pairs(pairs),
        Some(_) => return Err(Failure::usage("--pairs is between 1 and 100000")),
        None => Plan::read_fanout(&parsed)?,
    };
    let options = Traffic::read(&parsed, plan.usual_window())?;
    let (cpu, program) = (parsed.number_if("relay-cpu")?, parsed.last("relay"));
    relay::run(&plan, &options, cpu, program)
}
