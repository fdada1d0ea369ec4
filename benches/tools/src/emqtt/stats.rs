//! The counters of `emqtt_bench` and the lines that show them.

use std::fmt::Write as _;

/// The counters, in the order of their lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each is the counter of that name in emqtt_bench"
)]
#[repr(usize)]
pub enum Counter {
    PublishLatency,
    Recv,
    Sub,
    SubFail,
    Pub,
    PubFail,
    PubOverrun,
    PubSucc,
    ConnectSucc,
    ConnectFail,
    ConnectRetried,
    ReconnectSucc,
    Unreachable,
    ConnectionRefused,
    ConnectionTimeout,
    ConnectionIdle,
}

const NAMES: [&str; 16] = [
    "publish_latency",
    "recv",
    "sub",
    "sub_fail",
    "pub",
    "pub_fail",
    "pub_overrun",
    "pub_succ",
    "connect_succ",
    "connect_fail",
    "connect_retried",
    "reconnect_succ",
    "unreachable",
    "connection_refused",
    "connection_timeout",
    "connection_idle",
];

/// What has been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    values: [u64; NAMES.len()],
}

impl Counters {
    /// Counts `by` more.
    #[inline]
    pub fn add(&mut self, counter: Counter, by: u64) {
        self.values[counter as usize] += by;
    }

    /// What has been counted.
    #[must_use]
    pub fn count(&self, counter: Counter) -> u64 {
        self.values[counter as usize]
    }

    /// Adds what another process has counted.
    pub fn add_all(&mut self, other: &Self) {
        for (value, more) in self.values.iter_mut().zip(other.values) {
            *value += more;
        }
    }

    /// The counters in a line for another process.
    #[must_use]
    pub fn to_line(&self) -> String {
        self.values.map(|value| value.to_string()).join(" ")
    }

    /// Reads [`to_line`](Self::to_line).
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let mut counters = Self::default();
        for value in &mut counters.values {
            *value = words.next()?.parse().ok()?;
        }
        words.next().is_none().then_some(counters)
    }
}

/// Writes the lines of a second.
#[derive(Debug)]
pub struct Printer {
    start_ns: u64,
    last: [(u64, u64); NAMES.len()],
}

impl Printer {
    /// Starts to count seconds.
    #[must_use]
    pub fn new(now_ns: u64) -> Self {
        Self {
            start_ns: now_ns,
            last: [(now_ns, 0); NAMES.len()],
        }
    }

    /// The lines of all counters that have changed since the last call.
    pub fn lines(&mut self, counters: &Counters, now_ns: u64) -> String {
        let mut text = String::new();
        let elapsed = elapsed((now_ns - self.start_ns) / 1_000_000_000);
        let recv = Counter::Recv as usize;
        let received = counters.values[recv] - self.last[recv].1;
        for (at, (&value, name)) in counters.values.iter().zip(NAMES).enumerate() {
            let (then_ns, before) = self.last[at];
            if value == before {
                continue;
            }
            let ms = (now_ns - then_ns) / 1_000_000;
            if at == Counter::PublishLatency as usize {
                if let Some(mean) = (value - before).checked_div(received) {
                    let _ = writeln!(text, "{elapsed} {name} avg={mean}ms");
                }
            } else if ms > 0 {
                let rate = (value - before) as f64 * 1_000.0 / ms as f64;
                let _ = writeln!(text, "{elapsed} {name} total={value} rate={rate:.2}/sec");
            }
            self.last[at] = (now_ns, value);
        }
        text
    }
}

/// Seconds as `1h2m3s`; nothing for 0, as in the original.
fn elapsed(seconds: u64) -> String {
    let (d, h) = (seconds / 86_400, seconds / 3_600 % 24);
    let (m, s) = (seconds / 60 % 60, seconds % 60);
    match seconds {
        0 => String::new(),
        1..60 => format!("{s}s"),
        60..3_600 => format!("{m}m{s}s"),
        3_600..86_400 => format!("{h}h{m}m{s}s"),
        _ => format!("{d}d{h}h{m}m{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_the_original() {
        let mut counters = Counters::default();
        let mut printer = Printer::new(0);
        counters.add(Counter::Sub, 128);
        counters.add(Counter::ConnectSucc, 128);
        let lines = printer.lines(&counters, 1_004_000_000);
        let expected =
            "1s sub total=128 rate=127.49/sec\n1s connect_succ total=128 rate=127.49/sec\n";
        assert_eq!(lines, expected);
        counters.add(Counter::Recv, 10);
        counters.add(Counter::PublishLatency, 25);
        let lines = printer.lines(&counters, 61_000_000_000);
        assert_eq!(
            lines,
            "1m1s publish_latency avg=2ms\n1m1s recv total=10 rate=0.16/sec\n"
        );
        assert_eq!(printer.lines(&counters, 62_000_000_000), "");
        assert_eq!(elapsed(90_061), "1d1h1m1s");
        assert_eq!(Counters::from_line(&counters.to_line()), Some(counters));
        assert_eq!(Counters::from_line("1 2"), None);
    }
}
