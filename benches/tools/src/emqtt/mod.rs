//! `conn`, `sub` and `pub`: what `emqtt_bench` does, with its options and its lines.

pub mod many;
pub mod options;
pub mod run;
mod saturation;
pub mod stats;

use std::io::Write as _;

use self::options::{Command, Options};
use crate::{args, fail::Failure, net};

/// Runs a command.
///
/// # Errors
///
/// What is wrong with the command line, or keeps the run from going on.
pub fn main(command: Command, arguments: &[String]) -> Result<(), Failure> {
    let parsed = args::parse(command.tables(), arguments)?;
    if parsed.is("help", false) {
        let about = "Takes the options of emqtt_bench 0.6.1.";
        let name = format!("axmq-bench {}", command.name());
        let _ = std::io::stdout().write_all(args::usage(&name, about, command.tables()).as_bytes());
        return Ok(());
    }
    let options = Options::read(command, &parsed)?;
    let child = many::child_first();
    let count = u64::from(options.count);
    let max = net::connections_max();
    let processes = match options.processes {
        Some(processes) => u64::from(processes),
        None => count.div_ceil(max.max(1)),
    };
    net::check_descriptors(count.div_ceil(processes))?;
    let dialer = options.target.dialer(count, child.unwrap_or(0))?;
    let dialer = dialer.with_small_buffers(options.lowmem);
    if child.is_none() && !options.quiet {
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let workers = workers.max(options.connrate.div_ceil(1_000)).min(count);
        let interval_ms = options.connect_interval_ns() * workers / 1_000_000;
        println!(
            "Start with {workers} workers, addrs pool size: {} and req interval: \
             {interval_ms} ms \n",
            dialer.pool(),
        );
    }
    if processes > 1 {
        return many::run(&options, arguments, processes);
    }
    run::run(options, dialer, child.is_some())
}
