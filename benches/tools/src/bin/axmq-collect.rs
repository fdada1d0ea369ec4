//! The collectors.

#![forbid(unsafe_code)]

use std::{fs, path::Path, process::ExitCode};

use axmq_bench::{
    args,
    collect::{
        self, OPTIONS, Role,
        rates::{Rates, summary},
    },
    fail::{self, Failure},
    say,
};

const USAGE: &str = "\
Usage: axmq-collect broker|loadgen|prober [options]   collect into a new folder
       axmq-collect rates RAW.CSV...                  write rates.csv beside each
       axmq-collect summary [--json] RAW.CSV...       medians of the last 60 s
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    fail::exit("axmq-collect", run(&arguments))
}

fn run(arguments: &[String]) -> Result<(), Failure> {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => {
            return Err(Failure::usage(
                "broker, loadgen, prober, rates or summary? see --help",
            ));
        }
    };
    let role = match command {
        "broker" => Role::Broker,
        "loadgen" => Role::Loadgen,
        "prober" => Role::Prober,
        "rates" => return each(rest, &rates),
        "summary" => return each(rest, &show),
        "help" | "--help" => return say(USAGE),
        other => {
            return Err(Failure::usage(format!(
                "unknown command `{other}`; see --help"
            )));
        }
    };
    let parsed = args::parse(&[OPTIONS], rest)?;
    if parsed.is("help", false) {
        let name = format!("axmq-collect {command}");
        return say(&args::usage(
            &name,
            "Writes meta.txt and raw.csv to a new folder.",
            &[OPTIONS],
        ));
    }
    collect::collect(role, &parsed)
}

type Act = dyn Fn(&Path, &Rates, bool) -> Result<(), Failure>;

fn each(rest: &[String], act: &Act) -> Result<(), Failure> {
    let json = rest.iter().any(|word| word == "--json");
    let files: Vec<&String> = rest.iter().filter(|word| *word != "--json").collect();
    if files.is_empty() {
        return Err(Failure::usage("which raw.csv? see --help"));
    }
    for file in files {
        let named = |message: String| Failure::run(format!("{file}: {message}"));
        let text = fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
        let rates = Rates::from_raw(&text).map_err(|failure| named(failure.message))?;
        if rates.rows.is_empty() {
            return Err(named("there are fewer than two rows".to_owned()));
        }
        act(Path::new(file), &rates, json)?;
    }
    Ok(())
}

fn rates(file: &Path, rates: &Rates, _: bool) -> Result<(), Failure> {
    let path = file.with_file_name("rates.csv");
    let failed = |error| Failure::run(format!("{}: {error}", path.display()));
    fs::write(&path, rates.to_csv()).map_err(failed)?;
    say(&format!("{}\n", path.display()))
}

fn show(file: &Path, rates: &Rates, json: bool) -> Result<(), Failure> {
    if !json {
        say(&format!("{}\n", file.display()))?;
    }
    say(&summary(rates, json))
}
