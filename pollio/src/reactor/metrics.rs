//! What a loop counts about itself.

#![forbid(unsafe_code)]

/// Counts and times of a [`Reactor`](crate::Reactor) since it was made.
///
/// Plain numbers of the loop's thread. A server that shows them elsewhere copies them when it is
/// asked to.
#[derive(Copy, Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Turns made.
    pub turns: u64,
    /// Turns whose wait was allowed to block.
    pub waits_blocking: u64,
    /// Turns that looked for work instead of sleeping and found none: see
    /// [`ReactorOptions::spin_ns_max`](crate::ReactorOptions::spin_ns_max). They are neither busy
    /// nor a wait that may block.
    pub spins: u64,
    /// Events reported by waits.
    pub events: u64,
    /// The most events that one wait reported.
    pub events_max: u64,
    /// Calls of [`Server::on_ready`](crate::Server::on_ready).
    pub served: u64,
    /// How many of these answered `More`.
    pub more: u64,
    /// Calls of [`Server::on_timers`](crate::Server::on_timers).
    pub timers: u64,
    /// Time with work, in nanoseconds: neither in waits that may block nor spinning. Of no use
    /// without [`ReactorOptions::measure_busy`](crate::ReactorOptions::measure_busy) or spinning,
    /// as then some turns are not measured.
    pub busy_ns: u64,
    /// Time in waits that may block, in nanoseconds. As `busy_ns`.
    pub idle_ns: u64,
    /// Time from the end of the work to the look that found more, or to the wait that may block, in
    /// nanoseconds. The loop keeps its processor for this time, but would be free to work.
    pub spin_ns: u64,
    /// The longest turn, from the end of one wait to the end of the next one that did not block or
    /// to the beginning of one that may. Nothing waits longer for the loop than this and its own
    /// turn. As `busy_ns`.
    pub turn_ns_max: u64,
    /// The last reading of the clock.
    mark_ns: u64,
    /// Whether busy time is measured up to the mark.
    measured: bool,
}

impl Metrics {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            mark_ns: now_ns,
            ..Self::default()
        }
    }

    /// The part of its time that the loop had work, 0 to 1.
    ///
    /// Spinning counts as idle: at 1 the loop can do no more. What it takes of its processor is
    /// `(busy_ns + spin_ns) / (busy_ns + spin_ns + idle_ns)`.
    #[must_use]
    pub fn busy_ratio(&self) -> f64 {
        let all_ns = self.busy_ns + self.spin_ns + self.idle_ns;
        if all_ns == 0 {
            0.0
        } else {
            self.busy_ns as f64 / all_ns as f64
        }
    }

    pub(super) fn count_turn(&mut self, events: usize, served: usize, more: usize, timers: bool) {
        self.turns += 1;
        self.events += events as u64;
        self.events_max = self.events_max.max(events as u64);
        self.served += served as u64;
        self.more += more as u64;
        self.timers += u64::from(timers);
    }

    /// The loop was at work from the last reading until now, and goes to rest.
    pub(super) fn measure_rest(&mut self, now_ns: u64) {
        self.measure_poll(now_ns);
        self.measured = true;
    }

    /// A look of a loop without work has ended.
    pub(super) fn measure_look(&mut self, now_ns: u64) {
        self.spin_ns += now_ns.saturating_sub(self.mark_ns);
        self.mark_ns = now_ns;
    }

    /// A wait has ended that may block.
    pub(super) fn measure_sleep(&mut self, now_ns: u64) {
        self.waits_blocking += 1;
        // Without a reading before the wait its two parts cannot be told apart.
        if std::mem::take(&mut self.measured) {
            self.idle_ns += now_ns.saturating_sub(self.mark_ns);
        }
        self.mark_ns = now_ns;
    }

    /// A wait of a loop with work has ended, or the work.
    pub(super) fn measure_poll(&mut self, now_ns: u64) {
        let busy_ns = now_ns.saturating_sub(self.mark_ns);
        self.busy_ns += busy_ns;
        self.turn_ns_max = self.turn_ns_max.max(busy_ns);
        self.mark_ns = now_ns;
    }
}
