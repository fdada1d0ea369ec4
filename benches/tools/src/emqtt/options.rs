//! The options of `emqtt_bench` 0.6.1.

use mqtt_codec::QoS;

use crate::{
    args::{Opt, Parsed, boolean, flag, value},
    fail::Failure,
    target::{self, Target},
};

const NO_QOE: &str = "!use --json, or axmq-probe for latencies";
const NO_ERLANG: &str = "!there is no garbage collector and no Erlang node here; leave it out";

/// Options of all three commands, beside [`target::OPTIONS`].
pub const COMMON: &[Opt] = &[
    value('c', "count", "clients [200]"),
    value(
        'R',
        "connrate",
        "connections a second; 0: by --interval [0]",
    ),
    value(
        'i',
        "interval",
        "ms between connections; 0: as fast as possible [10]",
    ),
    value('\0', "prefix", "prefix of the client identifiers"),
    boolean(
        '\0',
        "shortids",
        "client identifiers are prefix and number alone",
    ),
    value(
        'n',
        "startnumber",
        "number before that of the first client [0]",
    ),
    value(
        '\0',
        "num-retry-connect",
        "attempts after a failed one, for each client [0]",
    ),
    value(
        '\0',
        "reconnect",
        "attempts after a lost connection, for each client [0]",
    ),
    value('u', "username", "user name"),
    value('P', "password", "password"),
    value('k', "keepalive", "keep-alive in seconds [300]"),
    boolean('C', "clean", "clean session [true]"),
    value(
        'x',
        "session-expiry",
        "seconds a session outlives its connection, MQTT 5 [0]",
    ),
    flag('l', "lowmem", "smallest socket buffers"),
    value('\0', "log_to", "console or null [console]"),
    value(
        '\0',
        "processes",
        "processes to spread the clients over [as many as needed]",
    ),
    value(
        '\0',
        "quic",
        "!there is no QUIC here; TCP, --ssl and --ws are",
    ),
    value(
        '\0',
        "load-qst",
        "!there is no QUIC here; TCP, --ssl and --ws are",
    ),
    boolean('d', "dist", NO_ERLANG),
    value('\0', "force-major-gc-interval", NO_ERLANG),
    value('Q', "qoe", NO_QOE),
    value('\0', "qoelog", NO_QOE),
    flag(
        '\0',
        "prometheus",
        "!scrape the lines of standard output, or the broker",
    ),
    value(
        '\0',
        "restapi",
        "!scrape the lines of standard output, or the broker",
    ),
];

/// Options of `sub`.
pub const SUB: &[Opt] = &[
    value(
        't',
        "topic",
        "filter, may be repeated; levels %i, %c and %u are replaced",
    ),
    value('q', "qos", "QoS to subscribe with [0]"),
    value('\0', "payload-hdrs", "headers to read: cnt64, ts"),
];

/// Options of `pub`.
pub const PUB: &[Opt] = &[
    value('t', "topic", "topic; levels %i, %c, %u and %s are replaced"),
    value('q', "qos", "QoS to publish with [0]"),
    value(
        '\0',
        "payload-hdrs",
        "headers to write before the payload: cnt64, ts",
    ),
    value(
        'I',
        "interval_of_msg",
        "ms between the messages of a client [1000]",
    ),
    value('s', "size", "bytes of payload [256]"),
    value('m', "message", "the payload itself"),
    boolean('r', "retain", "retain the messages"),
    value('L', "limit", "messages in all; 0: no limit [0]"),
    value(
        'F',
        "inflight",
        "unacknowledged messages of a client; 0: no limit [1]",
    ),
    boolean(
        'w',
        "wait-before-publishing",
        "publish when all clients have tried to connect",
    ),
    value(
        '\0',
        "min-random-wait",
        "ms before the first message, at least [0]",
    ),
    value(
        '\0',
        "max-random-wait",
        "ms before the first message, at most [0]",
    ),
    value(
        '\0',
        "retry-interval",
        "!TCP loses nothing; a lost connection is seen at once",
    ),
    value(
        '\0',
        "topics-payload",
        "!one -t and -s or -m; start several for several topics",
    ),
];

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Connect and keep alive.
    Conn,
    /// Connect and subscribe.
    Sub,
    /// Connect and publish.
    Pub,
}

impl Command {
    /// The word of the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conn => "conn",
            Self::Sub => "sub",
            Self::Pub => "pub",
        }
    }

    /// The tables of its options.
    #[must_use]
    pub const fn tables(self) -> &'static [&'static [Opt]] {
        match self {
            Self::Conn => &[target::OPTIONS, COMMON],
            Self::Sub => &[target::OPTIONS, COMMON, SUB],
            Self::Pub => &[target::OPTIONS, COMMON, PUB],
        }
    }
}

/// A header of eight bytes before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A number that counts up, for each publisher.
    Cnt64,
    /// Milliseconds since 1970.
    Ts,
}

/// The options, read.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is the option of that name")]
pub struct Options {
    pub command: Command,
    pub target: Target,
    pub count: u32,
    pub connrate: u64,
    pub interval_ms: u64,
    pub prefix: Option<String>,
    pub shortids: bool,
    pub startnumber: u64,
    pub retries: u32,
    pub reconnects: u32,
    pub username: Option<String>,
    pub password: Option<String>,
    pub keepalive_s: u16,
    pub clean: bool,
    pub session_expiry_s: u32,
    pub lowmem: bool,
    pub quiet: bool,
    pub processes: Option<u32>,
    pub topics: Vec<String>,
    pub qos: QoS,
    pub headers: Vec<Header>,
    pub message_interval_ms: u64,
    pub size: usize,
    pub message: Option<String>,
    pub retain: bool,
    pub limit: u64,
    pub inflight: u16,
    pub wait: bool,
    pub random_wait_ms: (u64, u64),
}

/// Packet identifiers of a client that may be in use at once.
const INFLIGHT_MAX: u16 = 65_000;

impl Options {
    /// Reads the options of a command.
    ///
    /// # Errors
    ///
    /// What is wrong, missing or contradictory.
    pub fn read(command: Command, parsed: &Parsed) -> Result<Self, Failure> {
        let text = |name| parsed.last(name).map(str::to_owned);
        let topics: Vec<String> = parsed.all("topic").map(str::to_owned).collect();
        if command != Command::Conn && topics.is_empty() {
            return Err(Failure::usage(format!(
                "{} needs a topic: -t TOPIC",
                command.name()
            )));
        }
        let header = |name: &str| match name {
            "cnt64" => Ok(Header::Cnt64),
            "ts" => Ok(Header::Ts),
            _ => Err(Failure::usage(format!(
                "--payload-hdrs knows cnt64 and ts, not `{name}`"
            ))),
        };
        let headers = parsed.last("payload-hdrs").unwrap_or_default();
        let headers = headers
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        if text("message").is_some_and(|message| message.starts_with("template://")) {
            return Err(Failure::usage(
                "--message template://.. is not supported: give the text",
            ));
        }
        let quiet = match parsed.last("log_to").unwrap_or("console") {
            "console" => false,
            "null" => true,
            other => {
                return Err(Failure::usage(format!(
                    "--log_to is console or null, not `{other}`"
                )));
            }
        };
        let options = Self {
            command,
            target: Target::read(parsed, 5)?,
            count: parsed.number("count", 200)?,
            connrate: parsed.number("connrate", 0)?,
            interval_ms: parsed.number("interval", 10)?,
            prefix: text("prefix").filter(|prefix| !prefix.is_empty()),
            shortids: parsed.is("shortids", false),
            startnumber: parsed.number("startnumber", 0)?,
            retries: parsed.number("num-retry-connect", 0)?,
            reconnects: parsed.number("reconnect", 0)?,
            username: text("username"),
            password: text("password"),
            keepalive_s: parsed.number("keepalive", 300)?,
            clean: parsed.is("clean", true),
            session_expiry_s: parsed.number("session-expiry", 0)?,
            lowmem: parsed.is("lowmem", false),
            quiet,
            processes: parsed.number_if("processes")?,
            topics,
            qos: parsed.qos()?,
            headers: headers.map(header).collect::<Result<_, _>>()?,
            message_interval_ms: parsed.number("interval_of_msg", 1_000)?,
            size: parsed.number("size", 256)?,
            message: text("message"),
            retain: parsed.is("retain", false),
            limit: parsed.number("limit", 0)?,
            inflight: match parsed.number("inflight", 1)? {
                0 => INFLIGHT_MAX,
                inflight => std::cmp::min(inflight, INFLIGHT_MAX),
            },
            wait: parsed.is("wait-before-publishing", false),
            random_wait_ms: (
                parsed.number("min-random-wait", 0)?,
                parsed.number("max-random-wait", 0)?,
            ),
        };
        options.check()?;
        Ok(options)
    }

    fn check(&self) -> Result<(), Failure> {
        if self.count == 0 {
            return Err(Failure::usage("--count is at least 1"));
        }
        if self.processes == Some(0) {
            return Err(Failure::usage("--processes is at least 1"));
        }
        if self.password.is_some()
            && self.username.is_none()
            && !self.target.version.has_properties()
        {
            return Err(Failure::usage("-P needs -u before MQTT 5 (-V 5)"));
        }
        if self.command == Command::Pub && self.topics.len() > 1 {
            return Err(Failure::usage(
                "pub takes one -t; start several for several topics",
            ));
        }
        if self.size > 16 << 20 {
            return Err(Failure::usage("--size is at most 16777216"));
        }
        Ok(())
    }

    /// Time between connections, in nanoseconds.
    #[must_use]
    pub fn connect_interval_ns(&self) -> u64 {
        match self.connrate {
            0 => self.interval_ms * 1_000_000,
            rate => 1_000_000_000 / rate,
        }
    }
}

/// Replaces the levels `%i`, `%c`, `%u` and `%s` of a topic or filter.
#[must_use]
pub fn feed(topic: &str, number: u64, id: &str, user: Option<&str>, published: u64) -> String {
    let level = |level: &str| match level {
        "%i" => number.to_string(),
        "%c" => id.to_owned(),
        "%s" => published.to_string(),
        "%u" => user.unwrap_or("%u").to_owned(),
        other => other.to_owned(),
    };
    topic.split('/').map(level).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args;

    fn read(command: Command, line: &str) -> Result<Options, Failure> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::read(command, &args::parse(command.tables(), &args)?)
    }

    #[test]
    fn command_lines_of_the_paper_are_understood() {
        let conn = "-c 25000 -i 4 -k 1500 -V 4 -h 172.28.130.87 -p 1883 --ifaddr 10.0.0.1,10.0.0.2";
        let options = read(Command::Conn, conn).unwrap();
        assert_eq!((options.count, options.keepalive_s), (25_000, 1_500));
        assert_eq!(options.connect_interval_ns(), 4_000_000);
        assert_eq!(options.target.version, mqtt_codec::Version::V311);
        let publish = "-V 4 -h 172.28.130.87 -c 4000 -t bench/nn/%i -q 2 -s 256 -I 16";
        let options = read(Command::Pub, publish).unwrap();
        assert_eq!((options.message_interval_ms, options.inflight), (16, 1));
        assert_eq!(options.qos, QoS::ExactlyOnce);
        assert!(read(Command::Sub, "-V 4 -h 172.28.130.87 -c 10 -t bench/1 -q 0").is_ok());
    }

    #[test]
    fn what_is_not_built_or_makes_no_sense_is_refused() {
        for (command, line) in [
            (Command::Conn, "-S --certfile a"),
            (Command::Conn, "--quic true"),
            (Command::Conn, "--prometheus"),
            (Command::Conn, "-V 6"),
            (Command::Conn, "-c 0"),
            (Command::Conn, "-V 4 -P secret"),
            (Command::Conn, "-t topic"),
            (Command::Sub, "-c 1"),
            (Command::Sub, "-t a -q 3"),
            (Command::Pub, "-t a -t b"),
            (Command::Pub, "-t a --payload-hdrs cnt32"),
            (Command::Pub, "-t a -m template://x"),
            (Command::Pub, "-t a --log_to file"),
        ] {
            assert_eq!(read(command, line).unwrap_err().code, 2, "{line}");
        }
        assert!(read(Command::Conn, "--quic false --ws=false").is_ok());
    }

    #[test]
    fn levels_are_replaced_whole() {
        assert_eq!(feed("a/%i/%c/%u/%s", 7, "id", Some("me"), 3), "a/7/id/me/3");
        assert_eq!(feed("%i%i/x%c//%u", 7, "id", None, 3), "%i%i/x%c//%u");
    }
}
