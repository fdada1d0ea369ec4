//! Where in the wheel a deadline goes. Pure arithmetic, no state.

/// Slots of a level, one bit of a word each.
pub(crate) const SLOTS: usize = 64;
/// Levels that a wheel has at most.
pub(crate) const LEVELS_MAX: usize = COARSE_SHIFTS.len();

/// The slots of level `n` are 2 to the power of the `n`th number ticks long. A level must reach the
/// beginning of the next one (so steps are at most six bits) and the last the end of time.
type Shifts = [u8];
const EXACT_SHIFTS: [u8; 11] = [0, 6, 12, 18, 24, 30, 36, 42, 48, 54, 60];
/// Steps of two bits where deadlines are rounded up, then of six for those that are moved anyway.
const COARSE_SHIFTS: [u8; 16] = [0, 2, 4, 6, 8, 10, 12, 14, 20, 26, 32, 38, 44, 50, 56, 62];
const EXACT_STEP: u32 = 6;
const FINE_STEP: u32 = 2;
/// The last level to which deadlines are rounded up.
const GRAIN_MAX: u32 = 7;

/// The slack of the coarse policy is this part of the delay.
const SLACK_PART: u64 = 16;

/// How much a timer may be late, and what that buys.
///
/// No policy ever lets a timer expire early. What is said here about lateness holds for a caller
/// that calls [`expire`](crate::TimerWheel::expire) on every tick; one that calls less often adds
/// its own cadence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Expires at the tick of the deadline.
    ///
    /// Level `n` has slots of 64^n ticks. A timer that is far away is moved down a level whenever
    /// its slot comes up, so at most ten times between two calls of
    /// [`touch`](crate::TimerWheel::touch).
    Exact,
    /// Rounds deadlines up so that timers of about the same length come due together and nothing
    /// is moved down.
    ///
    /// The slack is at most 1/16 of the delay, counted from
    /// [`insert`](crate::TimerWheel::insert) or
    /// [`reset_sooner`](crate::TimerWheel::reset_sooner) to the deadline given there, and at most
    /// `max_slack_ticks`, and at most 16,383 ticks. Delays below 48 ticks, and all delays if
    /// `max_slack_ticks` is below 3, have none.
    ///
    /// Level `n` has slots of 4^n ticks. A timer waits in the slot of its rounded deadline, unless
    /// that is more than 64 slots away: `max_slack_ticks` forbids the coarser slots that would
    /// reach it (or, for a few delays just below the next level, the 1/16 does). Then it waits on a
    /// coarser level, is moved when that slot comes up shortly before the deadline, and keeps the
    /// slack it was inserted with. That is one move for delays below 2^20 ticks, and one more for
    /// each 64 times that.
    Coarse {
        /// No timer is later than this many ticks, whatever its delay.
        max_slack_ticks: u64,
    },
}

/// A slot that a timer waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The level.
    pub(crate) level: usize,
    /// The number of the slot counted from tick 0; the low six bits say where it is in the level.
    pub(crate) number: u64,
}

impl Policy {
    /// The lengths of the slots of each level.
    pub(crate) const fn shifts(self) -> &'static Shifts {
        match self {
            Self::Exact => &EXACT_SHIFTS,
            Self::Coarse { .. } => &COARSE_SHIFTS,
        }
    }

    /// The level whose slot length a deadline after this delay may be rounded up to.
    pub(crate) fn grain(self, delay_ticks: u64) -> u8 {
        match self {
            Self::Exact => 0,
            Self::Coarse { max_slack_ticks } => {
                // Rounding up to a multiple of g is late by at most g − 1.
                let slack = (delay_ticks / SLACK_PART).min(max_slack_ticks);
                let bits = slack.saturating_add(1).ilog2();
                (bits / FINE_STEP).min(GRAIN_MAX) as u8
            }
        }
    }

    /// The slot for a deadline after `current_tick`.
    ///
    /// The slot comes up after `current_tick`, and its number is at most 64 above the present one
    /// of its level, so that no two numbers in use share a slot.
    pub(crate) fn place(self, current_tick: u64, grain: u8, deadline_tick: u64) -> Place {
        debug_assert!(
            deadline_tick > current_tick,
            "a deadline that has come has no slot"
        );
        let delta_bits = (deadline_tick - current_tick).ilog2();
        match self {
            Self::Exact => {
                let level = delta_bits / EXACT_STEP;
                Place {
                    level: level as usize,
                    number: deadline_tick >> (level * EXACT_STEP),
                }
            }
            Self::Coarse { .. } => coarse(current_tick, grain, deadline_tick, delta_bits),
        }
    }
}

fn coarse(current_tick: u64, grain: u8, deadline_tick: u64, delta_bits: u32) -> Place {
    let shift = u32::from(grain) * FINE_STEP;
    let number = (deadline_tick >> shift) + u64::from(deadline_tick.trailing_zeros() < shift);
    // A number past the last tick there is could never come up.
    if number - (current_tick >> shift) <= SLOTS as u64 && number <= u64::MAX >> shift {
        return Place {
            level: usize::from(grain),
            number,
        };
    }
    // Rounded down, to be placed again when little is left. The finest level whose slots are longer
    // than a 64th of what is left reaches: its shift is `delta_bits` − 5 or a little more.
    let fine = delta_bits.saturating_sub(5).div_ceil(FINE_STEP);
    let far = delta_bits.saturating_sub(19).div_ceil(6);
    let level = (fine.min(GRAIN_MAX) + far) as usize;
    Place {
        level,
        number: deadline_tick >> COARSE_SHIFTS[level],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: Policy, current: u64, deadline: u64, grain: u8) {
        let place = policy.place(current, grain, deadline);
        let shift = u32::from(policy.shifts()[place.level]);
        let present = current >> shift;
        let context = (policy, current, deadline, grain, place);
        assert!(place.number > present, "comes up later: {context:?}");
        assert!(place.number - present <= 64, "is within reach: {context:?}");
        assert!(
            place.number <= u64::MAX >> shift,
            "comes up at all: {context:?}"
        );
        let tick = place.number << shift;
        match policy {
            Policy::Exact => assert!(tick <= deadline, "{context:?}"),
            Policy::Coarse { .. } => {
                assert!(
                    tick <= deadline || tick - deadline < 1 << (2 * u32::from(grain)),
                    "{context:?}"
                );
            }
        }
    }

    #[test]
    fn places_are_ahead_and_within_reach() {
        let coarse = Policy::Coarse {
            max_slack_ticks: u64::MAX,
        };
        let capped = Policy::Coarse {
            max_slack_ticks: 100,
        };
        let mut currents = vec![0, 1, 63, 64, 1000, u64::MAX - 1, u64::MAX - 70, 1 << 63];
        currents.extend((1..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit]));
        let mut deltas: Vec<u64> = (1..5000).collect();
        deltas.extend((1..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        deltas.push(u64::MAX);
        for &current in &currents {
            for &delta in &deltas {
                let Some(deadline) = current.checked_add(delta) else {
                    continue;
                };
                for policy in [Policy::Exact, coarse, capped] {
                    check(policy, current, deadline, policy.grain(delta));
                }
            }
        }
    }

    #[test]
    fn the_grain_keeps_the_slack() {
        let coarse = Policy::Coarse {
            max_slack_ticks: u64::MAX,
        };
        for delay in (0..100_000).chain((17..64).map(|bit| 1 << bit)) {
            let slack = (1_u64 << (2 * u32::from(coarse.grain(delay)))) - 1;
            assert!(slack <= delay / 16, "delay {delay} slack {slack}");
        }
        assert_eq!(coarse.grain(15), 0);
        assert_eq!(coarse.grain(48), 1);
        assert_eq!(Policy::Coarse { max_slack_ticks: 0 }.grain(u64::MAX), 0);
        assert_eq!(
            Policy::Coarse {
                max_slack_ticks: 63
            }
            .grain(u64::MAX),
            3
        );
        assert_eq!(
            Policy::Coarse {
                max_slack_ticks: 62
            }
            .grain(u64::MAX),
            2
        );
    }

    #[test]
    fn most_coarse_delays_are_placed_once() {
        let policy = Policy::Coarse {
            max_slack_ticks: u64::MAX,
        };
        let once = (1..=1_000_000_u64)
            .filter(|&delay| {
                let place = policy.place(12_345, policy.grain(delay), 12_345 + delay);
                place.number << COARSE_SHIFTS[place.level] >= 12_345 + delay
            })
            .count();
        assert!(once > 980_000, "{once}");
        // The far levels round down, but just once each.
        let place = policy.place(0, policy.grain(u64::MAX), u64::MAX);
        assert_eq!(
            place,
            Place {
                level: 15,
                number: 3
            }
        );
    }
}
