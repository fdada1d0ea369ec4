//! More connections than a process may have: this program again, as often as needed.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command as Program, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use super::{
    options::{Command, Options},
    stats::{Counters, Printer},
};
use crate::{clock, fail::Failure};

/// Tells a child the number of its first connection.
const CHILD_VARIABLE: &str = "AXMQ_BENCH_CHILD_FIRST";

/// The number of this process's first connection among all, if it is a child.
#[must_use]
pub fn child_first() -> Option<u64> {
    let first = std::env::var(CHILD_VARIABLE).ok()?.parse().ok()?;
    // A parent that is killed takes its children along.
    let signal = rustix::process::Signal::TERM;
    let _ = rustix::process::set_parent_process_death_signal(Some(signal));
    Some(first)
}

enum Event {
    Counters(usize, Counters),
    Line(String),
    Ended(usize),
}

struct Children(Vec<Child>);

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is none to be killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `options` in several processes and prints their sum.
///
/// # Errors
///
/// If one cannot be started, or ends with an error.
pub fn run(options: &Options, arguments: &[String], processes: u64) -> Result<(), Failure> {
    if options.wait && options.command == Command::Pub {
        let line = "--wait-before-publishing needs all clients in one process: raise `ulimit -n`";
        return Err(Failure::run(line));
    }
    if options.limit > 0 && options.limit < processes {
        let line = format!("--limit is at least the number of processes, {processes}");
        return Err(Failure::usage(line));
    }
    let (sender, receiver) = mpsc::channel();
    let mut children = Children(Vec::new());
    let share = |total: u64, at: u64| total * (at + 1) / processes - total * at / processes;
    let mut first = 0;
    for at in 0..processes {
        let count = share(u64::from(options.count), at);
        let mut program = program(arguments)?;
        program
            .args(["--processes", "1", "--count", &count.to_string()])
            .args(["--startnumber", &(options.startnumber + first).to_string()])
            .env(CHILD_VARIABLE, first.to_string());
        if options.connrate > 0 {
            program.args([
                "--connrate",
                &(options.connrate / processes).max(1).to_string(),
            ]);
        } else {
            program.args(["--interval", &(options.interval_ms * processes).to_string()]);
        }
        if options.limit > 0 {
            program.args(["--limit", &share(options.limit, at).to_string()]);
        }
        let mut child = program
            .spawn()
            .map_err(|error| Failure::run(format!("cannot start another process: {error}")))?;
        let lines = child.stdout.take();
        children.0.push(child);
        first += count;
        let sender = sender.clone();
        thread::spawn(move || {
            for line in lines
                .into_iter()
                .flat_map(|lines| BufReader::new(lines).lines())
            {
                let Ok(line) = line else { break };
                let counters = line.strip_prefix('@').and_then(Counters::from_line);
                let event = match counters {
                    Some(counters) => Event::Counters(at as usize, counters),
                    None => Event::Line(line),
                };
                if sender.send(event).is_err() {
                    return;
                }
            }
            let _ = sender.send(Event::Ended(at as usize));
        });
    }
    drop(sender);
    follow(options, &mut children, &receiver)
}

fn program(arguments: &[String]) -> Result<Program, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| Failure::run(format!("cannot find this program: {error}")))?;
    let mut program = Program::new(path);
    // The first word is the command; later options replace earlier ones.
    program
        .args(std::env::args().nth(1))
        .args(arguments)
        .stdout(Stdio::piped());
    Ok(program)
}

fn follow(
    options: &Options,
    children: &mut Children,
    receiver: &mpsc::Receiver<Event>,
) -> Result<(), Failure> {
    let mut latest = vec![Counters::default(); children.0.len()];
    let mut printer = Printer::new(clock::now_ns());
    let mut next = Instant::now() + Duration::from_secs(1);
    let mut left = children.0.len();
    while left > 0 {
        match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(Event::Counters(at, counters)) => latest[at] = counters,
            Ok(Event::Line(line)) if line == "publish complete" => {}
            Ok(Event::Line(line)) => say(options, &format!("{line}\n"))?,
            Ok(Event::Ended(at)) => {
                left -= 1;
                let status = children.0[at].wait();
                if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
                    let line = format!("process {} of {} has failed", at + 1, latest.len());
                    return Err(Failure::run(line));
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                next += Duration::from_secs(1);
                say(options, &printer.lines(&sum(&latest), clock::now_ns()))?;
            }
        }
    }
    say(options, &printer.lines(&sum(&latest), clock::now_ns()))?;
    say(options, "publish complete\n")
}

fn sum(all: &[Counters]) -> Counters {
    all.iter().fold(Counters::default(), |mut sum, counters| {
        sum.add_all(counters);
        sum
    })
}

fn say(options: &Options, text: &str) -> Result<(), Failure> {
    if options.quiet {
        return Ok(());
    }
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|_| Failure::run("standard output is closed"))
}
