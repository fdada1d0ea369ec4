//! The two clocks: one that never steps, for durations, and one that other machines share.

use rustix::time::{ClockId, clock_gettime};

fn read(id: ClockId) -> u64 {
    let time = clock_gettime(id);
    // Both clocks are past zero for as long as anybody lives to read them.
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds of the monotonic clock, the one that [`pollio::Epoll`] has.
#[must_use]
pub fn now_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// Nanoseconds since 1970.
#[must_use]
pub fn wall_ns() -> u64 {
    read(ClockId::Realtime)
}

/// A time as `2025-12-31T04:06:27Z`.
#[must_use]
pub fn utc(wall_ns: u64) -> String {
    let seconds = wall_ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days, by eras of 400 years that begin on 1 March.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The inverse of [`utc`], in nanoseconds; fractions of a second are read as well.
#[must_use]
pub fn from_utc(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let hour: u64 = time.next()?.parse().ok()?;
    let minute: u64 = time.next()?.parse().ok()?;
    let second: f64 = time.next()?.parse().ok()?;
    if !(1970..10_000).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60;
    Some(seconds * 1_000_000_000 + (second * 1e9).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_767_153_987, "2025-12-31T04:06:27Z"),
            (1_772_323_199, "2026-02-28T23:59:59Z"),
        ] {
            assert_eq!(utc(seconds * 1_000_000_000), text);
            assert_eq!(from_utc(text), Some(seconds * 1_000_000_000), "{text}");
        }
        assert_eq!(
            from_utc("2025-12-31T04:06:27.250Z"),
            Some(1_767_153_987_250_000_000)
        );
        assert_eq!(from_utc("yesterday"), None);
    }
}
