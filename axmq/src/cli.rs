//! The command line, and what the program says when it has started.

use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auth::Scheme;
use crate::config::{
    Address, BrokerSettings, CommandLine, Endpoint, LogLevel, Sources, UnknownLogLevel,
};
use crate::control::{Cursor, Format};

/// The arguments of `axmq`.
///
/// Parsing ends the process with exit code 2 and a line on standard error for an argument that is
/// wrong, and with 0 for `--help` and `--version`.
#[derive(Debug, Clone, Parser)]
#[command(name = "axmq", version, about, long_about = None, after_help = AFTER_HELP)]
pub struct Cli {
    /// The options, which are the same for every sub-command.
    #[command(flatten)]
    pub options: Options,
    /// What to do; without one, the broker runs.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const AFTER_HELP: &str = "\
Without arguments, axmq listens on port 1883 of this machine's loopback addresses.
status, clients, ban, reload, trace, disconnects and store backup talk to the broker that has the
same --data-dir.
Every key of the configuration file can be set in the environment as AXMQ_SECTION__KEY.
Exit codes: 0 orderly end, 1 failure while running, 2 usage, 3 configuration.";

/// The options of `axmq`.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Listen here, instead of where the configuration says; may be repeated; port 0 takes a free
    /// one
    #[arg(long, value_name = "ADDR:PORT", global = true)]
    pub listen: Vec<Address>,
    /// Read this TOML file
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Keep everything that is written in this folder
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Number of threads that move messages; 0 for one a core
    #[arg(long, value_name = "N", global = true, value_parser = shards())]
    pub shards: Option<u32>,
    /// The least severe events to log
    #[arg(long, value_name = "LEVEL", global = true, value_parser = log_level())]
    pub log: Option<LogLevel>,
    /// Let anybody connect without logging in, also from other machines
    #[arg(long, global = true)]
    pub allow_anonymous: bool,
}

/// What `axmq` can do besides running the broker.
///
/// Not `non_exhaustive`, so that a command that the program does not carry out fails to compile.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Look at the configuration without running the broker
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look at what clients may do
    #[command(subcommand)]
    Acl(AclCommand),
    /// Make or change a file of users and their passwords
    #[command(subcommand)]
    Passwd(PasswdCommand),
    /// Look at what is kept on disk, copy it, or put it there
    #[command(subcommand)]
    Store(StoreCommand),
    /// A command to the broker that runs with the same data directory
    #[command(flatten)]
    Control(ControlCommand),
}

/// What `axmq store` can do. All but `backup` want that no broker uses the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum StoreCommand {
    /// Look at every record; exit code 1 if one makes no sense
    Check,
    /// Say how much of what there is
    Stats,
    /// Print everything, one JSON object a line
    Export,
    /// Make the store of an empty data directory from what `export` has printed
    Import {
        /// The file
        file: PathBuf,
    },
    /// Give back the room of what was removed
    Compact,
    /// Copy the store of the running broker
    Backup {
        /// A folder of the machine that the broker runs on; it becomes a data directory to start
        /// from
        folder: PathBuf,
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
}

/// What a running broker can be asked and told, by way of the socket in its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ControlCommand {
    /// Show how the running broker is
    Status {
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
    /// List, show or disconnect the clients of the running broker
    Clients {
        /// What to do.
        #[command(subcommand)]
        command: ClientsCommand,
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
    /// List, set or lift the bans of the running broker
    Ban {
        /// What to do.
        #[command(subcommand)]
        command: BanCommand,
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
    /// `axmq store backup`
    #[command(skip)]
    Backup {
        /// Where the copy is made.
        folder: PathBuf,
        /// How to print the answer.
        output: Output,
    },
    /// Make the running broker read its configuration anew
    Reload {
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
    /// Print each packet of a client until interrupted
    Trace {
        /// The client id; it need not be connected
        client: String,
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
    /// Show how the last connection of each client ended, the latest first
    Disconnects {
        /// Only this client id
        client: Option<String>,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
        /// How to print the answer.
        #[command(flatten)]
        output: Output,
    },
}

/// What `axmq acl` can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AclCommand {
    /// Say whether a client may do something, and by which rule of the ACL; exit code 1 if not
    Test {
        /// The user name; `-` for a client that did not log in
        user: String,
        /// The client id
        client: String,
        /// What it wants to do
        action: AclAction,
        /// The topic, or the filter of a subscription
        topic: String,
    },
}

/// What a client may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AclAction {
    /// Publish to a topic
    Publish,
    /// Subscribe by a filter
    Subscribe,
    /// Get a message of a topic
    Receive,
}

/// What `axmq passwd` can do. A running broker takes the file over with `axmq reload`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum PasswdCommand {
    /// Make a file without users
    Create {
        /// The file, which must not be there yet
        file: PathBuf,
    },
    /// Add a user or change the password, which is asked for or read from standard input
    Add {
        /// The file; made where there is none
        file: PathBuf,
        /// The user name
        user: String,
        /// How the password is hashed
        #[arg(long, default_value = Scheme::NAMES[0], value_parser = schemes())]
        hash: String,
    },
    /// Take a user out
    Delete {
        /// The file
        file: PathBuf,
        /// The user name
        user: String,
    },
    /// Set the passwords of many users: lines USER:PASSWORD on standard input
    Batch {
        /// The file; made where there is none
        file: PathBuf,
        /// How the passwords are hashed
        #[arg(long, default_value = Scheme::NAMES[0], value_parser = schemes())]
        hash: String,
    },
    /// Say whether a password is right
    Check {
        /// The file
        file: PathBuf,
        /// The user name
        user: String,
    },
}

/// How the answer of a running broker is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Output {
    /// Print JSON, one value a line
    #[arg(long, global = true)]
    pub json: bool,
}

/// What `axmq clients` can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ClientsCommand {
    /// List sessions, connected or away
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one())]
        limit: u32,
        /// Go on where the last list ended
        #[arg(long, value_name = "PAGE", default_value_t)]
        from: Cursor,
        /// All of them
        #[arg(long, conflicts_with = "limit")]
        all: bool,
    },
    /// Show one client
    Show {
        /// The client id
        id: String,
    },
    /// End a client's connection; its session stays
    Kick {
        /// The client id
        id: String,
    },
}

/// What `axmq ban` can do.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum BanCommand {
    /// List the bans in force, those that end last first
    List {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,
    },
    /// Ban an address, or a range such as 203.0.113.0/24; what it has open is closed
    Add {
        /// The address or range; an IPv6 address stands for its first 64 bits
        network: String,
        /// How long: seconds, or 30m, 12h, 7d, ever
        #[arg(long = "for", value_name = "TIME", default_value = "1d")]
        duration: BanTime,
    },
    /// Lift a ban
    Remove {
        /// The address or range, as `axmq ban list` shows it
        network: String,
        /// Only that of this client
        #[arg(long, value_name = "ID")]
        client: Option<String>,
    },
}

/// How long a ban lasts: so many seconds, or for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanTime(pub Option<u32>);

impl FromStr for BanTime {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "ever" {
            return Ok(Self(None));
        }
        let wrong = "not a time: a number of seconds, or such as 30m, 12h, 7d, or `ever`";
        let (digits, unit_s) = match text.split_at_checked(text.len().saturating_sub(1)) {
            Some((digits, "m")) => (digits, 60),
            Some((digits, "h")) => (digits, 3_600),
            Some((digits, "d")) => (digits, 86_400),
            _ => (text, 1),
        };
        let number: Option<u32> = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| digits.parse().ok())
            .flatten();
        let seconds = number.and_then(|number| number.checked_mul(unit_s));
        match seconds {
            Some(seconds) if seconds > 0 => Ok(Self(Some(seconds))),
            _ => Err(wrong),
        }
    }
}

impl fmt::Display for BanTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, "for {seconds} s"),
            None => f.write_str("for ever"),
        }
    }
}

impl ControlCommand {
    /// How the answer is to be printed.
    #[must_use]
    pub fn format(&self) -> Format {
        let (Self::Status { output }
        | Self::Clients { output, .. }
        | Self::Ban { output, .. }
        | Self::Backup { output, .. }
        | Self::Reload { output }
        | Self::Trace { output, .. }
        | Self::Disconnects { output, .. }) = self;
        if output.json {
            Format::Json
        } else {
            Format::Text
        }
    }
}

/// What `axmq config` can do; not `non_exhaustive` for the reason given at [`Command`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is accepted
    Check,
    /// Print every value that would hold, and where it comes from
    Show,
}

fn shards() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(0..=i64::from(BrokerSettings::SHARDS_MAX))
}

fn at_least_one() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..)
}

fn schemes() -> impl TypedValueParser<Value = String> {
    PossibleValuesParser::new(Scheme::NAMES)
}

fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    PossibleValuesParser::new(LogLevel::NAMES)
        .try_map(|name| -> Result<LogLevel, UnknownLogLevel> { name.parse() })
}

impl Options {
    /// What the configuration is to be made from.
    #[must_use]
    pub fn sources(&self, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Sources {
        Sources {
            file: self.config.clone(),
            environment: environment.into_iter().collect(),
            command_line: CommandLine {
                listen: self.listen.clone(),
                data_dir: self.data_dir.clone(),
                shards: self.shards,
                log: self.log,
                allow_anonymous: self.allow_anonymous,
            },
        }
    }
}

/// What a broker that has started says about itself, in a few lines.
///
/// Each line `listening on ADDR:PORT` names a real port, for scripts to read.
#[derive(Debug, Clone, Copy)]
pub struct Started<'a> {
    /// What is listened on, with real ports.
    pub listeners: &'a [Endpoint],
    /// The number of shards.
    pub shards: usize,
    /// The number of fronts.
    pub fronts: usize,
    /// The most connections at a time.
    pub connections_max: u64,
    /// The data directory.
    pub data_dir: Option<&'a Path>,
    /// The id of this process.
    pub pid: u32,
}

impl fmt::Display for Started<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "axmq {}", env!("CARGO_PKG_VERSION"))?;
        for address in self.listeners {
            writeln!(f, "listening on {address}")?;
        }
        writeln!(
            f,
            "{}, {}, at most {}",
            counted(self.shards as u64, "shard"),
            counted(self.fronts as u64, "front"),
            counted(self.connections_max, "connection"),
        )?;
        if let Some(data_dir) = self.data_dir {
            writeln!(f, "data in {}", data_dir.display())?;
        }
        let address = self.listeners.iter().find_map(|endpoint| match endpoint {
            Endpoint::Internet(address) => Some(address),
            _ => None,
        });
        if let Some(address) = address {
            let (host, port) = (reachable(address.ip()), address.port());
            f.write_str("to try it, in two other terminals:\n")?;
            writeln!(f, "  mosquitto_sub -h {host} -p {port} -t 'hello/#' -v")?;
            writeln!(
                f,
                "  mosquitto_pub -h {host} -p {port} -t hello/world -m 'it works'"
            )?;
        }
        write!(f, "to stop: Ctrl-C, or kill {}", self.pid)?;
        f.write_char('\n')
    }
}

/// `1 shard`, `2 shards`.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// An address under which a listener on `host` can be reached from this machine.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_are_taken_before_and_after_a_sub_command() {
        for arguments in [
            ["axmq", "--config", "f", "config", "check"],
            ["axmq", "config", "check", "--config", "f"],
        ] {
            let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string());
            let Ok(cli) = cli else {
                panic!("{arguments:?}: {cli:?}")
            };
            assert_eq!(cli.options.config.as_deref(), Some(Path::new("f")));
            assert_eq!(cli.command, Some(Command::Config(ConfigCommand::Check)));
        }
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for (arguments, kind) in [
            (vec!["--lisen", "127.0.0.1:0"], ErrorKind::UnknownArgument),
            (vec!["--listen", ":1883"], ErrorKind::ValueValidation),
            (vec!["--shards", "65"], ErrorKind::ValueValidation),
            (vec!["--shards", "two"], ErrorKind::ValueValidation),
            (vec!["--log", "loud"], ErrorKind::InvalidValue),
            (vec!["sing"], ErrorKind::InvalidSubcommand),
        ] {
            let parsed = Cli::try_parse_from([&["axmq"], arguments.as_slice()].concat());
            assert_eq!(parsed.map(|_| ()).map_err(|error| error.kind()), Err(kind));
        }
    }

    #[test]
    fn the_commands_to_try_name_an_address_that_can_be_reached() {
        for (listener, host) in [
            ("0.0.0.0:7", "127.0.0.1"),
            ("[::]:7", "::1"),
            ("192.0.2.1:7", "192.0.2.1"),
        ] {
            let Ok(address) = listener.parse::<std::net::SocketAddr>() else {
                panic!("{listener} is an address")
            };
            let text = Started {
                listeners: &[address.into()],
                shards: 1,
                fronts: 1,
                connections_max: 2,
                data_dir: None,
                pid: 5,
            }
            .to_string();
            assert!(
                text.contains(&format!("listening on {listener}\n")),
                "{text}"
            );
            assert!(
                text.contains(&format!("mosquitto_sub -h {host} -p 7 ")),
                "{text}"
            );
            assert!(
                text.contains("1 shard, 1 front, at most 2 connections\n"),
                "{text}"
            );
        }
    }
}
