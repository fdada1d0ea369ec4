//! The collectors: counters of the machine and of the broker, second by second, and what follows
//! from them.

pub mod rates;
pub mod sample;

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use self::sample::Sample;
use crate::{
    args::{Opt, Parsed, flag, value},
    clock,
    fail::Failure,
};

/// Options of the three collectors. Each has the environment variable of the original beside it.
pub const OPTIONS: &[Opt] = &[
    flag('\0', "help", "this text"),
    value('\0', "tag", "name of the experiment (EXP_TAG) [run]"),
    value(
        '\0',
        "duration",
        "seconds; 0: until it is killed (DURATION_SEC) [0]",
    ),
    value(
        '\0',
        "interval",
        "seconds between the rows (INTERVAL_SEC) [1]",
    ),
    value(
        '\0',
        "interface",
        "network interface (INTERFACE) [that of the default route]",
    ),
    value(
        'p',
        "port",
        "the broker's port, for the meta data (PORT) [1883]",
    ),
    value('\0', "pid", "the broker's process (PID)"),
    value('o', "out", "folder for the runs [metrics/runs]"),
];

/// Settings of the kernel that decide about many connections.
const SYSCTLS: [&str; 12] = [
    "fs.nr_open",
    "fs.file-max",
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_mem",
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.ip_local_port_range",
];

/// Where a collector runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Beside the broker: with its memory and the count of connections.
    Broker,
    /// Beside the load generator.
    Loadgen,
    /// Beside the prober.
    Prober,
}

impl Role {
    /// The word of the command line and of the folder.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Loadgen => "loadgen",
            Self::Prober => "prober",
        }
    }
}

fn setting(parsed: &Parsed, option: &str, variable: &str) -> Option<String> {
    let given = parsed.last(option).map(str::to_owned);
    given
        .or_else(|| std::env::var(variable).ok())
        .filter(|value| !value.is_empty())
}

fn number(parsed: &Parsed, option: &str, variable: &str, default: f64) -> Result<f64, Failure> {
    let Some(text) = setting(parsed, option, variable) else {
        return Ok(default);
    };
    let value = text
        .trim()
        .parse::<f64>()
        .ok()
        .filter(|value| (0.0..=1e9).contains(value));
    value.ok_or_else(|| Failure::usage(format!("{variable} wants a number, not `{text}`")))
}

/// The interface of the default route, or the loopback one.
fn default_interface() -> String {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let mut rows = routes
        .lines()
        .skip(1)
        .map(|row| row.split_ascii_whitespace());
    let default = rows.find_map(|mut row| {
        let (name, target) = (row.next()?, row.next()?);
        (target == "00000000").then(|| name.to_owned())
    });
    default.unwrap_or_else(|| "lo".to_owned())
}

fn meta(run: &str, interface: &str, port: f64, pid: Option<u32>, interval_s: f64) -> String {
    let proc = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let cpus = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let mut text = format!(
        "time_utc={}\nrun={run}\nhostname={}\nkernel={}\ncpu_count={cpus}\ninterface={interface}\n\
         interval_sec={interval_s}\nport={port}\n",
        clock::utc(clock::wall_ns()),
        proc("/proc/sys/kernel/hostname"),
        proc("/proc/sys/kernel/osrelease"),
    );
    if let Some(pid) = pid {
        let command = proc(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
        let _ = writeln!(text, "pid={pid}\ncommand={command}");
    }
    text.push_str("\nsysctl_selected=\n");
    for name in SYSCTLS {
        let value = proc(&format!("/proc/sys/{}", name.replace('.', "/")));
        let _ = writeln!(text, "{name} = {value}");
    }
    text
}

/// Waits until a time; wakes early never.
fn wait_until(end: Instant) {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Collects until the time is over, and prints the run's folder first.
///
/// # Errors
///
/// A wrong setting, no such interface or process, or a disk that takes no more.
pub fn collect(role: Role, parsed: &Parsed) -> Result<(), Failure> {
    let tag = setting(parsed, "tag", "EXP_TAG").unwrap_or_else(|| "run".to_owned());
    if tag.contains('/') {
        return Err(Failure::usage(format!(
            "EXP_TAG is part of a folder's name, not `{tag}`"
        )));
    }
    let duration_s = number(parsed, "duration", "DURATION_SEC", 0.0)?;
    let interval_s = number(parsed, "interval", "INTERVAL_SEC", 1.0)?;
    if interval_s < 0.01 {
        return Err(Failure::usage("INTERVAL_SEC is at least 0.01"));
    }
    let interface = setting(parsed, "interface", "INTERFACE").unwrap_or_else(default_interface);
    let port = number(parsed, "port", "PORT", 1883.0)?;
    let pid = match setting(parsed, "pid", "PID").filter(|_| role == Role::Broker) {
        Some(text) => Some(text.trim().parse::<u32>().map_err(|_| {
            Failure::usage(format!("PID wants the number of one process, not `{text}`"))
        })?),
        None => None,
    };
    // What cannot be read is found before there is a folder.
    Sample::read(&interface, role, pid)?;

    let now = clock::utc(clock::wall_ns()).replace(['-', ':'], "");
    let run = format!("{}-{tag}-{now}", role.name());
    let folder = PathBuf::from(parsed.last("out").unwrap_or("metrics/runs")).join(&run);
    let failed = |error: io::Error| Failure::run(format!("{}: {error}", folder.display()));
    fs::create_dir_all(&folder).map_err(failed)?;
    let text = meta(&run, &interface, port, pid, interval_s);
    fs::write(folder.join("meta.txt"), text).map_err(failed)?;
    let mut file = File::create(folder.join("raw.csv")).map_err(failed)?;
    crate::say(&format!("{}\n", folder.display()))?;
    writeln!(file, "{}", Sample::header(role)).map_err(failed)?;

    let start = Instant::now();
    let interval = Duration::from_secs_f64(interval_s);
    let mut row = 0_u32;
    loop {
        let sample = Sample::read(&interface, role, pid)?;
        writeln!(file, "{}", sample.row(&interface)).map_err(failed)?;
        row += 1;
        let next = interval * row;
        if duration_s > 0.0 && next.as_secs_f64() > duration_s {
            return Ok(());
        }
        // By the start, not by the row before, so that delays do not add up.
        wait_until(start + next);
    }
}
