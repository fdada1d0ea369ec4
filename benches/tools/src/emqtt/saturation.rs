//! Whether this process is at its own limit, so that its rates say nothing about the broker.

use crate::{process::Usage, scenario::report::SATURATED};

/// Seconds at the limit after which it is said: a burst of connects alone is not worth a line.
const SECONDS: u32 = 3;

/// Watches the CPU of this process, which has one thread that works.
#[derive(Debug, Default)]
pub struct Saturation {
    last: Option<(u64, u64)>,
    seconds: u32,
}

impl Saturation {
    /// Looks, once a second. The line to say, which comes once.
    pub fn look(&mut self, now_ns: u64) -> Option<String> {
        // Without the counters there is nothing to say.
        let cpu_ns = Usage::own().ok()?.cpu_ns;
        self.see(now_ns, cpu_ns).then(|| {
            format!(
                "generator saturated: this process has used a whole core for {SECONDS} s, so its \
                 rates are its own and not the broker's; spread the clients with --processes"
            )
        })
    }

    fn see(&mut self, now_ns: u64, cpu_ns: u64) -> bool {
        let Some((then_ns, before_ns)) = self.last.replace((now_ns, cpu_ns)) else {
            return false;
        };
        let used = cpu_ns.saturating_sub(before_ns) as f64;
        if self.seconds == SECONDS {
            return false;
        }
        let full = used >= SATURATED * now_ns.saturating_sub(then_ns) as f64;
        self.seconds = if full { self.seconds + 1 } else { 0 };
        self.seconds == SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_full_seconds_are_said_once() {
        const SECOND: u64 = 1_000_000_000;
        let run = |percents: &[u64]| {
            let (mut saturation, mut cpu_ns) = (Saturation::default(), 0);
            let mut said = Vec::new();
            saturation.see(0, 0);
            for (at, percent) in (1..).zip(percents) {
                cpu_ns += percent * SECOND / 100;
                if saturation.see(at * SECOND, cpu_ns) {
                    said.push(at);
                }
            }
            said
        };
        assert_eq!(run(&[99, 96, 100, 100, 100, 100, 100]), [3]);
        assert_eq!(run(&[99, 99, 90, 99, 99]), [0; 0]);
        assert_eq!(run(&[20, 100, 97, 95, 10]), [4]);
        let mut real = Saturation::default();
        assert_eq!(real.look(0), None);
    }
}
