//! One command that runs all scenarios against several brokers in turn and writes what came of it.

pub mod brokers;
pub mod machine;
pub mod page;
pub mod plots;
mod record;
pub mod results;
pub mod suite;
pub mod tables;

use std::{
    fs,
    io::{IsTerminal as _, Write as _, stderr},
    path::{Path, PathBuf},
};

use self::{
    brokers::{Broker, Running},
    machine::Machine,
    page::Head,
    results::{Contender, Results},
    suite::{Run, Scale, Shown, cost_cases},
};
use crate::{
    args::{self, Opt, Parsed, flag, value},
    fail::Failure,
    net, say,
};

const OPTIONS: &[Opt] = &[
    flag('\0', "help", "this text"),
    value(
        '\0',
        "broker",
        "NAME, NAME=PROGRAM or NAME=COMMAND with {port}; may be repeated [axmq]",
    ),
    value('o', "out", "folder of the report [report]"),
    value(
        '\0',
        "runs",
        "runs of each scenario and broker [3; quick: 1]",
    ),
    value('\0', "duration", "seconds of a measurement [1; quick: 0.3]"),
    flag('\0', "quick", "few small scenarios, to see that all works"),
    value('\0', "broker-cpu", "the processor of brokers and floor"),
    value('\0', "load-cpu", "the processor of the generator"),
    value(
        '\0',
        "probe-cpu",
        "the processor of the storm's prober [that of the generator]",
    ),
];
const ABOUT: &str = "\
Runs all scenarios against brokers in turn, each run with a fresh one, and writes index.html,
report.md with its plots, and report.json with every run. Recipes: axmq, mosquitto (Debian's),
rumqttd (0.20); any other broker is a command with {port} and, if it wants a folder, {dir}.";

fn scale(parsed: &Parsed) -> Result<Scale, Failure> {
    let quick = parsed.is("quick", false);
    let pick = |small: u64, full: u64| if quick { small } else { full };
    let seconds = parsed.number("duration", if quick { 0.3 } else { 1.0 })?;
    let runs = parsed.number("runs", if quick { 1 } else { 3 })?;
    if !(0.1..=600.0).contains(&seconds) || !(1..=100).contains(&runs) {
        let line = "--duration is between 0.1 and 600 seconds, --runs between 1 and 100";
        return Err(Failure::usage(line));
    }
    Ok(Scale {
        runs,
        warmup_ns: pick(50_000_000, 300_000_000),
        duration_ns: (seconds * 1e9) as u64,
        latency_rate: if quick { 200.0 } else { 1_000.0 },
        idle: if quick { (100, 300) } else { (5_000, 15_000) },
        settle_ns: pick(200_000_000, 1_000_000_000),
        storm: if quick { 200 } else { 15_000 },
        quick,
        broker_cpu: parsed.number_if("broker-cpu")?,
        probe_cpu: parsed.number_if("probe-cpu")?,
    })
}

/// The command line without the folders of this machine.
fn command_line(arguments: &[String]) -> String {
    let bare = |word: &str| match word.rsplit_once('/') {
        Some((_, name)) => name.to_owned(),
        None => word.to_owned(),
    };
    let words = arguments.iter().map(|argument| {
        let words = argument.split(' ').map(|word| match word.split_once('=') {
            Some((name, value)) => format!("{name}={}", bare(value)),
            None => bare(word),
        });
        let text = words.collect::<Vec<_>>().join(" ");
        match text.contains(' ') {
            true => format!("\"{text}\""),
            false => text,
        }
    });
    format!("axmq-bench report {}", words.collect::<Vec<_>>().join(" "))
}

/// The command `report`.
///
/// # Errors
///
/// What is wrong with the command line, a program that is not there, or a folder that cannot be
/// written. A broker that fails is part of the report.
pub fn main(arguments: &[String]) -> Result<(), Failure> {
    let parsed = args::parse(&[OPTIONS], arguments)?;
    if parsed.is("help", false) {
        return say(&args::usage("axmq-bench report", ABOUT, &[OPTIONS]));
    }
    let scale = scale(&parsed)?;
    let mut brokers: Vec<Broker> = parsed
        .all("broker")
        .map(Broker::read)
        .collect::<Result<_, _>>()?;
    if brokers.is_empty() {
        brokers.push(Broker::read("axmq")?);
    }
    let clients = scale.storm.max(scale.idle.1).max(4_010);
    net::check_descriptors(clients.into())?;
    let contender = |broker: &Broker| -> Result<Contender, Failure> {
        Ok(Contender {
            name: broker.name.clone(),
            version: broker.version()?,
            command: broker.command(),
        })
    };
    let contenders = brokers.iter().map(contender).collect::<Result<_, _>>()?;
    let folder = PathBuf::from(parsed.last("out").unwrap_or("report"));
    // A folder that cannot be written is found before the runs, not after.
    fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, &error))?;
    // Before this thread is pinned: then it sees one processor only.
    let machine = Machine::here();
    if let Some(cpu) = parsed.number_if::<usize>("load-cpu")? {
        pollio::affinity::pin_current_thread(cpu)
            .map_err(|error| Failure::run(format!("--load-cpu {cpu}: {error}")))?;
    }
    let results = Suite::new(&scale, &brokers, contenders).run();
    let head = Head {
        machine: &machine,
        scale: &scale,
        command: &command_line(arguments),
    };
    write(&folder, &head, &results)?;
    say(&format!("{}\n", folder.join("index.html").display()))
}

fn unwritable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::run(format!("cannot write to {}: {error}", folder.display()))
}

fn write(folder: &Path, head: &Head<'_>, results: &Results) -> Result<(), Failure> {
    let sections = tables::sections(results, head.scale);
    let plots = plots::all(results).map_err(Failure::run)?;
    let mut files = vec![
        (
            "index.html".to_owned(),
            page::html(head, results, &sections, &plots),
        ),
        (
            "report.md".to_owned(),
            page::markdown(head, results, &sections),
        ),
        ("report.json".to_owned(), record::json(head, results)),
    ];
    for (name, text) in plots {
        files.push((format!("{name}.svg"), text));
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).map_err(|error| unwritable(folder, &error))?;
    }
    Ok(())
}

/// All runs, one after the other.
struct Suite<'a> {
    scale: &'a Scale,
    brokers: &'a [Broker],
    results: Results,
    done: u32,
}

impl<'a> Suite<'a> {
    fn new(scale: &'a Scale, brokers: &'a [Broker], contenders: Vec<Contender>) -> Self {
        let all = brokers.len();
        let cases = cost_cases(scale.quick).into_iter();
        Self {
            scale,
            brokers,
            results: Results {
                contenders,
                costs: cases
                    .map(|case| (case, Vec::new(), vec![Vec::new(); all]))
                    .collect(),
                latencies: vec![Vec::new(); all],
                idle: vec![Vec::new(); all],
                subscribed: vec![Vec::new(); all],
                storms: vec![Vec::new(); all],
            },
            done: 0,
        }
    }

    fn steps(&self) -> u32 {
        let costs = self.results.costs.len() * self.brokers.len();
        let floors = self.results.costs.iter();
        let floors = floors.filter(|(case, ..)| case.has_floor()).count();
        let others = self.brokers.len() * 4;
        self.scale.runs * u32::try_from(costs + floors + others).unwrap_or(0)
    }

    /// One line a step: over the last on a terminal, below it elsewhere.
    fn step(&mut self, what: &str) {
        self.done += 1;
        let line = format!("{} of {}: {what}", self.done, self.steps());
        // Nobody who reads it is no reason to end the run.
        let _ = match stderr().is_terminal() {
            true => write!(stderr(), "\r\x1b[K{line}"),
            false => writeln!(stderr(), "{line}"),
        };
    }

    fn with<T>(
        &mut self,
        at: usize,
        what: &str,
        measure: impl FnOnce(&Scale, &Running) -> Shown<T>,
    ) -> Shown<T> {
        let brokers = self.brokers;
        let broker = &brokers[at];
        self.step(&format!("{}, {what}", broker.name));
        match broker.start(self.scale.broker_cpu) {
            Ok(running) => measure(self.scale, &running),
            Err(failure) => Err(failure.message),
        }
    }

    fn run(mut self) -> Results {
        let all = 0..self.brokers.len();
        for _ in 0..self.scale.runs {
            for case_at in 0..self.results.costs.len() {
                let case = self.results.costs[case_at].0.clone();
                if case.has_floor() {
                    self.step(&format!("floor, {}", case.title));
                    let run = self.scale.cost_of_floor(&case);
                    self.results.costs[case_at].1.push(run);
                }
                for at in all.clone() {
                    let run: Shown<Run> =
                        self.with(at, &case.title, |scale, broker| scale.cost(&case, broker));
                    self.results.costs[case_at].2[at].push(run);
                }
            }
            for at in all.clone() {
                let run = self.with(at, "latency", Scale::latency);
                self.results.latencies[at].push(run);
            }
            for at in all.clone() {
                let run = self.with(at, "idle", |scale, broker| scale.idle(broker, false));
                self.results.idle[at].push(run);
            }
            for at in all.clone() {
                let run = self.with(at, "idle, subscribed", |scale, broker| {
                    scale.idle(broker, true)
                });
                self.results.subscribed[at].push(run);
            }
            for at in all.clone() {
                let run = self.with(at, "storm", Scale::storm);
                self.results.storms[at].push(run);
            }
        }
        if stderr().is_terminal() {
            let _ = writeln!(stderr());
        }
        self.results
    }
}

/// The scale that a command line asks for.
#[cfg(test)]
fn scale_of(line: &str) -> Scale {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    scale(&args::parse(&[OPTIONS], &words).unwrap()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_this_machine_stay_out_of_the_command_line() {
        let arguments = ["--quick", "--broker", "axmq=/opt/x/axmq", "--out", "/a/b"];
        assert_eq!(
            command_line(&arguments.map(str::to_owned)),
            "axmq-bench report --quick --broker axmq=axmq --out b"
        );
        let own = ["--broker".to_owned(), "x=/opt/x -p {port}".to_owned()];
        let text = command_line(&own);
        assert_eq!(text, "axmq-bench report --broker \"x=x -p {port}\"");
    }

    #[test]
    fn wrong_numbers_are_refused() {
        for line in ["--runs 0", "--duration 0", "--runs many"] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let parsed = args::parse(&[OPTIONS], &words).unwrap();
            assert_eq!(scale(&parsed).unwrap_err().code, 2, "{line}");
        }
    }
}
