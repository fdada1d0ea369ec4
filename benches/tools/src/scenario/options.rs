//! What the scenario commands take.

use mqtt_codec::QoS;

use crate::{
    args::{Opt, Parsed, flag, value},
    check::STAMP_BYTES,
    fail::Failure,
    net::{self, Dialer},
    target::Target,
};

/// Options of all scenarios, beside [`target::OPTIONS`].
pub const COMMON: &[Opt] = &[
    value(
        '\0',
        "pid",
        "the broker's process, for CPU, memory and context switches",
    ),
    flag('\0', "json", "the result as one JSON object"),
];

/// Options of those that move messages.
pub const TRAFFIC: &[Opt] = &[
    value('q', "qos", "QoS of publishers and subscribers [0]"),
    value('s', "size", "bytes of payload, at least 32 [256]"),
    value('\0', "window", "publishes in flight end to end"),
    value(
        '\0',
        "rate",
        "publishes a second in all, instead of the window",
    ),
    value('\0', "warmup", "seconds before the measurement [1]"),
    value('\0', "duration", "seconds of the measurement [5]"),
    value(
        '\0',
        "messages",
        "publishes of the measurement, instead of the seconds; there is no warm-up then",
    ),
];

/// Options of `fanout`.
pub const FANOUT: &[Opt] = &[
    value('\0', "pubs", "publishers [1]"),
    value('\0', "subs", "subscribers [10]"),
    value('t', "topic", "topic [bench/1]"),
];

/// Options of `pairs`.
pub const PAIRS: &[Opt] = &[value('c', "count", "pairs, a topic each [1000]")];

/// Options of `wild`.
pub const WILD: &[Opt] = &[
    value('\0', "pubs", "publishers [10]"),
    value(
        '\0',
        "idle-subs",
        "subscriptions beside that nothing matches [0]",
    ),
];

/// Options of `floor`.
pub const FLOOR: &[Opt] = &[
    value('\0', "pubs", "publishers [1]"),
    value('\0', "subs", "subscribers [10]"),
    value('c', "pairs", "pairs, instead of publishers and subscribers"),
    value(
        '\0',
        "relay-cpu",
        "the processor that the relay is pinned to",
    ),
    value(
        '\0',
        "relay",
        "another program as the relay, with its arguments",
    ),
];

/// How publishers are paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// So many publishes in flight end to end.
    Window(u64),
    /// So many publishes a second, whatever the broker does.
    Rate(f64),
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// After so many nanoseconds.
    Time(u64),
    /// After so many publishes.
    Messages(u64),
}

/// The options of a scenario that moves messages.
#[derive(Clone, Debug)]
pub struct Traffic {
    /// The options of all scenarios.
    pub common: Common,
    /// QoS of publishers and subscribers.
    pub qos: QoS,
    /// Bytes of payload.
    pub size: usize,
    /// How publishers are paced.
    pub pace: Pace,
    /// Time before the measurement.
    pub warmup_ns: u64,
    /// When the measurement ends.
    pub length: Length,
}

/// The options of all scenarios.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where the broker is.
    pub target: Target,
    /// The broker's process.
    pub pid: Option<u32>,
    /// Whether the result is JSON.
    pub json: bool,
}

impl Common {
    /// Reads the options.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn read(parsed: &Parsed) -> Result<Self, Failure> {
        Ok(Self {
            target: Target::read(parsed, 4)?,
            pid: parsed.number_if("pid")?,
            json: parsed.is("json", false),
        })
    }

    /// A way to open so many connections in this process.
    ///
    /// # Errors
    ///
    /// If the host is unknown, or descriptors or ports do not suffice.
    pub fn dialer(&self, connections: u64) -> Result<Dialer, Failure> {
        net::check_descriptors(connections)?;
        self.target.dialer(connections, 0)
    }
}

/// Seconds of an option, in nanoseconds.
///
/// # Errors
///
/// If it is not a time between 0 and a day.
pub fn seconds(parsed: &Parsed, name: &str, default: f64) -> Result<u64, Failure> {
    let seconds = parsed.number(name, default)?;
    if !(0.0..=86_400.0).contains(&seconds) {
        return Err(Failure::usage(format!(
            "--{name} is between 0 and 86400 seconds"
        )));
    }
    Ok((seconds * 1e9) as u64)
}

impl Traffic {
    /// Reads the options; `window` is how many publishes are in flight without an option.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub fn read(parsed: &Parsed, window: u64) -> Result<Self, Failure> {
        let size = parsed.number("size", 256)?;
        if !(STAMP_BYTES..=(1 << 20)).contains(&size) {
            let line = format!("--size is between {STAMP_BYTES} (number, time, check) and 1048576");
            return Err(Failure::usage(line));
        }
        let pace = match (parsed.number_if("rate")?, parsed.number_if("window")?) {
            (Some(_), Some(_)) => return Err(Failure::usage("either --rate or --window")),
            (Some(rate), None) if (0.01..=1e8).contains(&rate) => Pace::Rate(rate),
            (Some(_), None) => return Err(Failure::usage("--rate is between 0.01 and 1e8")),
            (None, given) => Pace::Window(given.unwrap_or(window).max(1)),
        };
        let duration_ns = seconds(parsed, "duration", 5.0)?;
        if duration_ns < 100_000_000 {
            return Err(Failure::usage("--duration is at least 0.1 s"));
        }
        let length = match parsed.number_if("messages")? {
            Some(0) => return Err(Failure::usage("--messages is at least 1")),
            Some(messages) => Length::Messages(messages),
            None => Length::Time(duration_ns),
        };
        let warmup_ns = match length {
            Length::Time(_) => seconds(parsed, "warmup", 1.0)?,
            Length::Messages(_) => 0,
        };
        Ok(Self {
            common: Common::read(parsed)?,
            qos: parsed.qos()?,
            size,
            pace,
            warmup_ns,
            length,
        })
    }
}
