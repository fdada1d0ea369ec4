//! The broker's clock and the one on the wall.
//!
//! A shard counts milliseconds of a clock that begins at no particular point and never steps.
//! Records hold milliseconds since 1970, so that what expires goes on expiring while the broker is
//! down. The two are compared once, at start: a wall clock that is set later moves nothing.

/// 0 and `u64::MAX` are never, on both clocks, and stay what they are.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct WallClock {
    /// Time of the wall when the broker's clock was 0. May lie before 1970 in a test.
    zero_ms: i64,
}

impl WallClock {
    /// The clocks show this at the same moment.
    pub(crate) fn new(wall_ms: u64, now_ms: u64) -> Self {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        Self {
            zero_ms: signed(wall_ms) - signed(now_ms),
        }
    }

    pub(crate) fn to_wall(self, ms: u64) -> u64 {
        match ms {
            0 | u64::MAX => ms,
            _ => ms
                .saturating_add_signed(self.zero_ms)
                .clamp(1, u64::MAX - 1),
        }
    }

    /// A point before the start of the broker's clock becomes its start.
    pub(crate) fn of_wall(self, ms: u64) -> u64 {
        match ms {
            0 | u64::MAX => ms,
            _ => ms
                .saturating_add_signed(self.zero_ms.saturating_neg())
                .clamp(1, u64::MAX - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time_come_back_and_never_stays_never() {
        let clock = WallClock::new(1_700_000_000_000, 5_000);
        assert_eq!(clock.to_wall(6_000), 1_700_000_001_000);
        assert_eq!(clock.of_wall(1_700_000_001_000), 6_000);
        for never in [0, u64::MAX] {
            assert_eq!(clock.to_wall(never), never);
            assert_eq!(clock.of_wall(never), never);
        }
        assert_eq!(clock.of_wall(1_000), 1, "long ago is not never");
        let early = WallClock::new(10, 1_000);
        assert_eq!(early.to_wall(5), 1);
    }
}
