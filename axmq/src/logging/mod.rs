//! The log: one line an event on standard error, with the time in UTC and its fields, as text for
//! people, as logfmt or as JSON.

mod format;

use std::fmt;
use std::io::{self, IsTerminal};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, LogLevel, LogSettings};

/// The log was already set up in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlreadySet;

impl fmt::Display for AlreadySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the log is already set up in this process")
    }
}

impl std::error::Error for AlreadySet {}

/// Changes the log of this process while it is written.
#[derive(Debug, Clone)]
pub struct LogHandle(reload::Handle<LevelFilter, Registry>);

impl LogHandle {
    /// Writes events from this level on.
    pub fn set_level(&self, level: LogLevel) {
        // Fails only where the subscriber is gone, and then there is no log.
        let _ = self.0.reload(filter(level));
    }
}

/// Sends the events of this process to standard error, as `settings` say.
///
/// Text is in colour on a terminal, unless `$NO_COLOR` is set. A standard error that cannot be
/// written to loses events and does no other harm. For a program; a library leaves it to its user.
///
/// # Errors
///
/// [`AlreadySet`] if this process already has a place for its events, which is kept.
pub fn init(settings: &LogSettings) -> Result<LogHandle, AlreadySet> {
    let wants_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let is_text = settings.format == LogFormat::Text;
    let (level, handle) = reload::Layer::new(filter(settings.level));
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(is_text && wants_colour && io::stderr().is_terminal())
        // The alternative reports a failed write on standard error, which has just failed.
        .log_internal_errors(false);
    let layer = match settings.format {
        LogFormat::Text => layer.with_timer(UtcTime).with_target(false).boxed(),
        LogFormat::Logfmt => layer.event_format(format::Logfmt).boxed(),
        LogFormat::Json => layer.event_format(format::Json).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(level).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadySet)?;
    Ok(LogHandle(handle))
}

/// Milliseconds since 1970-01-01 UTC; 0 for a clock that is not set.
#[must_use]
pub fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |time| {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
    })
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Writes the present time.
struct UtcTime;

impl FormatTime for UtcTime {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        // A clock before 1970 is not set; its events are dated 1970.
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        write!(w, "{}", Timestamp { since_epoch })
    }
}

/// A time as RFC 3339 has it, in UTC with milliseconds: `1970-01-01T00:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// The time since 1970-01-01, leap seconds not counted.
    pub since_epoch: Duration,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.since_epoch.as_secs();
        let (year, month, day) = civil_from_days(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let millis = self.since_epoch.subsec_millis();
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
        )
    }
}

/// Year, month and day of the proleptic Gregorian calendar for days since 1970-01-01.
///
/// Counted in years that begin on 1 March, so that the leap day is the last of its year, and in
/// eras of 400 years, which all have 146,097 days. In such a year the months' lengths follow a
/// line: month m begins on day (153 m + 2) / 5.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    // Take out the leap days so far, of which there is one in 1,460 days, but not in 36,524.
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    // Shifted month 0 is March; January and February belong to the next calendar year.
    let (month, later) = if shifted_month < 10 {
        (shifted_month + 3, 0)
    } else {
        (shifted_month - 9, 1)
    };
    (era * 400 + year_of_era + later, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_are_written_as_rfc_3339() {
        for (seconds, millis, expected) in [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (86_399, 999, "1970-01-01T23:59:59.999Z"),
            // RFC 3339, section 5.8, less the fraction.
            (482_196_050, 520, "1985-04-12T23:20:50.520Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (1_709_210_096, 7, "2024-02-29T12:34:56.007Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
        ] {
            let since_epoch = Duration::new(seconds, millis * 1_000_000);
            assert_eq!(Timestamp { since_epoch }.to_string(), expected);
        }
    }

    #[test]
    fn every_day_of_800_years_follows_the_day_before() {
        let leap =
            |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..292_194 {
            assert_eq!(civil_from_days(days), (year, month, day), "day {days}");
            let length = match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!((year, month, day), (2770, 1, 1));
    }
}
