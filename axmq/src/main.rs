//! The program `axmq`: configuration, start, signals, exit code.

#![forbid(unsafe_code)]

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use axmq::auth;
use axmq::cli::{
    AclCommand, Cli, Command, ConfigCommand, ControlCommand, Options, PasswdCommand, Started,
    StoreCommand,
};
use axmq::config::{self, Config, Loaded, Origin, Sources};
use axmq::control::{CommandError, Control, Reload, run_command};
use axmq::logging::{self, LogHandle};
use axmq::notify::{self, Manager};
use axmq::privileges;
use axmq::store::{ToolError, run_tool};
use axmq::{Broker, Running, Stopper, fd_limit};

/// The broker failed, at its start or later. Usage errors have code 2, which clap gives them.
const FAILURE: u8 = 1;
/// The configuration is refused.
const CONFIGURATION: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Passwd(command)) = &cli.command {
        // The file is given by name: the configuration does not matter.
        return passwd(command);
    }
    let sources = cli.options.sources(std::env::vars_os());
    let loaded = match config::load(&sources) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&format!("axmq: the configuration is refused\n{error}\n"));
            return ExitCode::from(CONFIGURATION);
        }
    };
    match cli.command {
        Some(Command::Config(ConfigCommand::Check)) => check(&cli.options, &loaded.config),
        Some(Command::Config(ConfigCommand::Show)) => say(&loaded.to_string()),
        Some(Command::Passwd(command)) => passwd(&command),
        Some(Command::Acl(command)) => acl(&command, &loaded.config),
        Some(Command::Store(StoreCommand::Backup { folder, output })) => {
            control(&ControlCommand::Backup { folder, output }, &loaded.config)
        }
        Some(Command::Store(command)) => store(&command, &loaded.config),
        Some(Command::Control(command)) => control(&command, &loaded.config),
        None => match serve(loaded, sources) {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                complain(&format!("axmq: {message}\n"));
                ExitCode::from(FAILURE)
            }
        },
    }
}

/// Says that the configuration is accepted, if the files that it names are so too.
fn check(options: &Options, config: &Config) -> ExitCode {
    let checked = auth::check_files(config).and_then(|()| axmq::check_tls_files(config));
    if let Err(error) = checked {
        complain(&format!("axmq: the configuration is refused\n{error}\n"));
        return ExitCode::from(CONFIGURATION);
    }
    say(&match &options.config {
        Some(file) => format!("{} is accepted\n", file.display()),
        None => "the configuration is accepted; no file was given\n".to_owned(),
    })
}

fn acl(command: &AclCommand, config: &Config) -> ExitCode {
    match auth::test_acl(command, config) {
        Ok((is_allowed, why)) => {
            let said = say(&format!("{why}\n"));
            if is_allowed {
                said
            } else {
                ExitCode::from(FAILURE)
            }
        }
        Err(error) => {
            complain(&format!("axmq: {error}\n"));
            ExitCode::from(CONFIGURATION)
        }
    }
}

fn passwd(command: &PasswdCommand) -> ExitCode {
    match auth::run_passwd(command, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("axmq: {error}\n"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Carries out a command with a store that no broker uses.
fn store(command: &StoreCommand, config: &Config) -> ExitCode {
    let data_dir = config.broker.data_dir.clone().unwrap_or_default();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = run_tool(command, &data_dir, &mut out);
    let flushed = out.flush().map_err(ToolError::Output);
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has gone away is no failure.
        Err(ToolError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("axmq: {error}\n"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Carries out a command with a running broker.
fn control(command: &ControlCommand, config: &Config) -> ExitCode {
    let data_dir = config.broker.data_dir.clone().unwrap_or_default();
    match run_command(command, &data_dir, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that has gone away is no failure.
        Err(CommandError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&format!("axmq: {error}\n"));
            ExitCode::from(FAILURE)
        }
    }
}

/// Runs the broker until a signal ends it; the error is a line for the user.
fn serve(mut loaded: Loaded, sources: Sources) -> Result<(), String> {
    let log = logging::init(&loaded.config.log).map_err(|error| error.to_string())?;
    limit_connections(&mut loaded)?;
    let config = loaded.config;
    // Before there is a second thread, and before anything is opened.
    if privileges::drop_to_user(&config).map_err(|error| error.to_string())? {
        let user = config.broker.user.as_deref().unwrap_or_default();
        info!(event = "privileges.dropped", user);
    }
    let data_dir = config.broker.data_dir.clone();
    let fronts = config.broker.front_count();
    let manager = Manager::new(std::env::var_os("NOTIFY_SOCKET"))
        .map_err(|error| format!("cannot use $NOTIFY_SOCKET: {error}"))?
        .map(Arc::new);

    // From here on a signal is kept for the thread that is started below.
    let signals = Signals::new([SIGINT, SIGTERM, SIGHUP])
        .map_err(|error| format!("cannot handle signals: {error}"))?;
    let running = Broker::start(config).map_err(|error| error.to_string())?;
    let control = running.control();
    control.set_source(Box::new(Source { sources, log }));
    let follower = Follower {
        stopper: running.stopper(),
        control: control.clone(),
        manager: manager.clone(),
    };
    thread("signals", move || follower.follow(signals))?;

    let started = Started {
        listeners: running.endpoints(),
        shards: running.shards(),
        fronts,
        connections_max: running.connections_max(),
        data_dir: data_dir.as_deref(),
        pid: std::process::id(),
    };
    if let Err(error) = write_out(&started.to_string()) {
        warn!(%error, "cannot write to standard output");
    }
    if let Some(manager) = manager {
        tell(manager.ready());
        let interval = notify::watchdog(
            std::env::var_os("WATCHDOG_USEC"),
            std::env::var_os("WATCHDOG_PID"),
        );
        if let Some(interval) = interval {
            thread("watchdog", move || watch(&manager, &control, interval))?;
        }
    }
    finish(running)
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// A service manager that does not listen changes nothing for the clients.
fn tell(result: io::Result<()>) {
    if let Err(error) = result {
        warn!(%error, "cannot tell the service manager");
    }
}

/// Tells the service manager that all shards are alive, twice in the interval that it wants, for as
/// long as it is so.
fn watch(manager: &Manager, control: &Control, interval: Duration) {
    loop {
        let begin = Instant::now();
        if control.is_alive(interval / 2) {
            tell(manager.alive());
        } else {
            error!("a shard does not answer; the service manager will end this process");
        }
        // Nobody unparks this thread: it is a pause.
        std::thread::park_timeout((interval / 2).saturating_sub(begin.elapsed()));
    }
}

/// Where this program's configuration comes from, and what follows a change of it.
struct Source {
    sources: Sources,
    log: LogHandle,
}

impl Reload for Source {
    fn load(&mut self) -> Result<Config, String> {
        let mut loaded = config::load(&self.sources).map_err(|error| error.to_string())?;
        limit_connections(&mut loaded)?;
        Ok(loaded.config)
    }

    fn applied(&mut self, config: &Config) {
        self.log.set_level(config.log.level);
    }
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
    Reload,
}

fn react(signal: i32, stopping: bool) -> Reaction {
    match (signal, stopping) {
        (SIGHUP, _) => Reaction::Reload,
        (_, false) => Reaction::Stop,
        (_, true) => Reaction::ExitNow,
    }
}

/// Handles signals as long as the process lives.
struct Follower {
    stopper: Stopper,
    control: Control,
    manager: Option<Arc<Manager>>,
}

impl Follower {
    fn follow(self, mut signals: Signals) {
        let mut stopping = false;
        for signal in signals.forever() {
            let name = signal_hook::low_level::signal_name(signal).unwrap_or("unknown");
            match react(signal, stopping) {
                Reaction::Reload => self.reload(name),
                Reaction::Stop => {
                    info!(
                        signal = name,
                        "stopping; a second signal ends the process at once"
                    );
                    stopping = true;
                    if let Some(manager) = &self.manager {
                        tell(manager.stopping());
                    }
                    self.stopper.stop();
                }
                Reaction::ExitNow => {
                    complain("axmq: second signal, exiting at once\n");
                    std::process::exit(FAILURE.into());
                }
            }
        }
    }

    fn reload(&self, signal: &str) {
        if let Some(manager) = &self.manager {
            tell(manager.reloading());
        }
        // What came of it stands in the log.
        let _ = self.control.reload_and_log(signal);
        if let Some(manager) = &self.manager {
            tell(manager.ready());
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
        assert_eq!(react(SIGHUP, false), Reaction::Reload);
        assert_eq!(react(SIGHUP, true), Reaction::Reload);
    }
}
