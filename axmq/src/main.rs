//! The program `axmq`: configuration, start, signals, exit code.

#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use axmq::cli::{Cli, Command, ConfigCommand, Started};
use axmq::config::{self, Loaded, Origin};
use axmq::{Broker, Running, Stopper, fd_limit, logging};

/// The broker failed, at its start or later. Usage errors have code 2, which clap gives them.
const FAILURE: u8 = 1;
/// The configuration is refused.
const CONFIGURATION: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let loaded = match config::load(&cli.options.sources(std::env::vars_os())) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&format!("axmq: the configuration is refused\n{error}\n"));
            return ExitCode::from(CONFIGURATION);
        }
    };
    match cli.command {
        Some(Command::Config(ConfigCommand::Check)) => say(&match cli.options.config {
            Some(file) => format!("{} is accepted\n", file.display()),
            None => "the configuration is accepted; no file was given\n".to_owned(),
        }),
        Some(Command::Config(ConfigCommand::Show)) => say(&loaded.to_string()),
        None => match serve(loaded) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                complain(&format!("axmq: {message}\n"));
                ExitCode::from(FAILURE)
            }
        },
    }
}

/// Runs the broker until a signal ends it; the error is a line for the user.
fn serve(mut loaded: Loaded) -> Result<(), String> {
    logging::init(loaded.config.log.level).map_err(|error| error.to_string())?;
    limit_connections(&mut loaded)?;
    let config = loaded.config;
    let data_dir = config.broker.data_dir.clone();
    let fronts = config.broker.front_count();

    // From here on a signal is kept for the thread that is started below.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let running = Broker::start(config).map_err(|error| error.to_string())?;
    let stopper = running.stopper();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || follow_signals(signals, &stopper))
        .map_err(|error| format!("cannot start a thread: {error}"))?;

    let started = Started {
        listeners: running.listeners(),
        shards: running.shards(),
        fronts,
        connections_max: running.connections_max(),
        data_dir: data_dir.as_deref(),
        pid: std::process::id(),
    };
    if let Err(error) = write_out(&started.to_string()) {
        warn!(%error, "cannot write to standard output");
    }
    finish(running)
}

/// Waits for the end, and ends in good order also after a failure.
fn finish(running: Running) -> Result<(), String> {
    let waited = running.wait();
    if let Err(error) = &waited {
        error!(%error, "the broker cannot go on");
    }
    let ended = running.shutdown();
    waited.and(ended).map_err(|error| error.to_string())?;
    info!("stopped");
    Ok(())
}

/// Raises the limit on open files and lowers the limit on connections to what it permits.
fn limit_connections(loaded: &mut Loaded) -> Result<(), String> {
    let files = fd_limit::raise();
    let wanted = loaded.config.limits.connections;
    let possible = fd_limit::connections_max(files, &loaded.config);
    if possible == 0 {
        return Err(format!(
            "{files} open files are too few to serve a single connection; raise the hard limit \
             (`ulimit -Hn`, or LimitNOFILE= in a systemd unit) or start fewer shards"
        ));
    }
    let asked_for = config::keys()
        .any(|key| key.name == "connections" && *loaded.origin(key) != Origin::Default);
    if asked_for && possible < wanted {
        warn!(
            wanted,
            possible,
            files,
            "fewer connections than configured; raise the hard limit on open files"
        );
    }
    loaded.config.limits.connections = possible;
    Ok(())
}

/// What a signal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Stop,
    ExitNow,
    RefuseReload,
}

fn react(signal: i32, stopping: bool) -> Reaction {
    match (signal, stopping) {
        (SIGHUP, _) => Reaction::RefuseReload,
        (_, false) => Reaction::Stop,
        (_, true) => Reaction::ExitNow,
    }
}

/// Handles signals as long as the process lives.
fn follow_signals(mut signals: Signals, stopper: &Stopper) {
    let mut stopping = false;
    for signal in signals.forever() {
        let name = signal_hook::low_level::signal_name(signal).unwrap_or("unknown");
        match react(signal, stopping) {
            Reaction::RefuseReload => {
                warn!(
                    signal = name,
                    "the configuration is not reloaded; restart to apply changes"
                );
            }
            Reaction::Stop => {
                info!(
                    signal = name,
                    "stopping; a second signal ends the process at once"
                );
                stopping = true;
                stopper.stop();
            }
            Reaction::ExitNow => {
                complain("axmq: second signal, exiting at once\n");
                std::process::exit(FAILURE.into());
            }
        }
    }
}

/// Writes what a command was run for. A reader that has gone away is no failure.
fn say(text: &str) -> ExitCode {
    match write_out(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("axmq: cannot write to standard output: {error}\n"));
            ExitCode::from(FAILURE)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes to standard error; if that fails too, nobody is left to be told.
fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_ends_and_a_hangup_never_does() {
        for signal in [SIGINT, SIGTERM] {
            assert_eq!(react(signal, false), Reaction::Stop);
            assert_eq!(react(signal, true), Reaction::ExitNow);
        }
        assert_eq!(react(SIGHUP, false), Reaction::RefuseReload);
        assert_eq!(react(SIGHUP, true), Reaction::RefuseReload);
    }
}
