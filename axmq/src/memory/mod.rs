//! When memory runs short: how that is found out, and what gives way in which order (DESIGN 8).
//!
//! Nothing here ticks. Every shard and front asks the [`Guard`] at the end of each turn whether it
//! is time to look, which is one load; the first to ask when it is reads the resident set, and
//! tells all of them by message when the [`Shortage`] has changed. So a broker that does nothing
//! does not look either. While memory is short the first shard's alarm sees to the next look, since
//! what would be the next turn may wait for its result.
//!
//! Fronts and shards do the rest; neither asks for memory itself, so that a test or a simulation
//! can tell them anything.

mod held;
mod system;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use self::held::{Held, allocated};
pub(crate) use self::system::{limit_bytes, release, resident, resident_bytes};

/// Time between two looks while there is anything to do. At a gigabyte a second that come in, what
/// is missed between two of them are 50 MB.
const LOOK_MS: u64 = 50;
/// While memory is short the allocator is asked this often to give back what nobody uses: without,
/// a process stays as large as it was, however much is shed.
const RELEASE_MS: u64 = 1_000;
/// Time between two steps of shedding. In between the allocator is asked, after
/// [`RELEASE_SHED_MS`]: what has been shed must be seen before more is.
const SHED_MS: u64 = 250;
const RELEASE_SHED_MS: u64 = 100;
/// While publishers are not read, the next step follows after so long: a subscriber that takes
/// what is queued for it has done so by then, and what is left will not go away by itself.
const PATIENCE_MS: u64 = 1_000;

/// How short memory is, and with it what gives way. Each step includes those before it.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug, Default)]
pub(crate) enum Shortage {
    #[default]
    None,
    /// Fronts accept next to no connections.
    FewConnections,
    /// Publishers are not read; subscribers go on.
    NoPublishers,
    /// QoS 0 messages of the longest out-queues are dropped.
    ShedMessages,
    /// Clients with the longest queues are disconnected.
    ShedClients,
}

impl Shortage {
    /// The steps, the worst first, and the percentage of the limit from which each holds.
    const STEPS: [(Self, u64); 4] = [
        (Self::ShedClients, 115),
        (Self::ShedMessages, 110),
        (Self::NoPublishers, 105),
        (Self::FewConnections, 100),
    ];
    /// A step ends so far below where it begins, so that it does not come and go with every look.
    const HYSTERESIS: u64 = 5;

    /// As operators see it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FewConnections => "few-connections",
            Self::NoPublishers => "no-publishers",
            Self::ShedMessages => "shed-messages",
            Self::ShedClients => "shed-clients",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::None => Self::FewConnections,
            Self::FewConnections => Self::NoPublishers,
            Self::NoPublishers => Self::ShedMessages,
            Self::ShedMessages | Self::ShedClients => Self::ShedClients,
        }
    }
}

/// Judges what is in use against the limit.
#[derive(Debug, Default)]
struct Judge {
    /// By the figure alone.
    by_figure: Shortage,
    /// What holds: steps follow by time too.
    shortage: Shortage,
    since_ms: u64,
    shed_at_ms: u64,
    release_at_ms: u64,
}

impl Judge {
    /// Whether the allocator is to be asked for what nobody uses.
    fn releases(&mut self, now_ms: u64) -> bool {
        let is_due = self.shortage > Shortage::None && now_ms >= self.release_at_ms;
        if is_due {
            self.release_at_ms = now_ms + RELEASE_MS;
        }
        is_due
    }

    /// Returns what has to be told: a change; and while anything is to be shed, that again.
    fn judge(&mut self, used_bytes: u64, limit_bytes: u64, now_ms: u64) -> Option<Shortage> {
        let percent = u128::from(used_bytes) * 100 / u128::from(limit_bytes.max(1));
        let holds = |(step, from): &&(Shortage, u64)| {
            let is_in_it = self.by_figure >= *step;
            let from = from - if is_in_it { Shortage::HYSTERESIS } else { 0 };
            percent >= u128::from(from)
        };
        let found = Shortage::STEPS.iter().find(holds);
        self.by_figure = found.map_or(Shortage::None, |(step, _)| *step);
        let old = self.shortage;
        let has_to_fall = self.by_figure < Shortage::NoPublishers;
        if has_to_fall || self.by_figure > old {
            self.shortage = self.by_figure;
        } else if now_ms.saturating_sub(self.since_ms) >= PATIENCE_MS {
            self.shortage = old.next();
        }
        if self.shortage != old {
            self.since_ms = now_ms;
        }
        let sheds = self.shortage >= Shortage::ShedMessages;
        let is_news = self.shortage != old || (sheds && now_ms >= self.shed_at_ms);
        if is_news && sheds {
            self.shed_at_ms = now_ms + SHED_MS;
            self.release_at_ms = now_ms + RELEASE_SHED_MS;
        }
        is_news.then_some(self.shortage)
    }
}

type Measure = Box<dyn Fn() -> u64 + Send + Sync>;
type Tell = Box<dyn Fn(Shortage) + Send + Sync>;
type Release = Box<dyn Fn() + Send + Sync>;

/// See the module. One for all threads of a broker.
pub(crate) struct Guard {
    /// 0 where there is none.
    limit_bytes: AtomicU64,
    next_look_ms: AtomicU64,
    judge: Mutex<Judge>,
    measure: Measure,
    tell: OnceLock<(Tell, Release)>,
    /// How often a front has stopped accepting because of a shortage.
    accepting_held: AtomicU64,
}

impl Default for Guard {
    /// One that never looks.
    fn default() -> Self {
        Self::new(0, || 0)
    }
}

impl Guard {
    /// One that holds what `measure` says against `limit_bytes`; 0 is no limit.
    pub(crate) fn new(limit_bytes: u64, measure: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        let guard = Self {
            limit_bytes: AtomicU64::new(0),
            next_look_ms: AtomicU64::new(u64::MAX),
            judge: Mutex::default(),
            measure: Box::new(measure),
            tell: OnceLock::new(),
            accepting_held: AtomicU64::new(0),
        };
        if limit_bytes > 0 {
            guard.set_limit(limit_bytes);
        }
        guard
    }

    /// Sets who is told of a shortage, which is all threads, and what has the allocator give back
    /// memory; neither blocks. Once.
    pub(crate) fn tell_by(
        &self,
        tell: impl Fn(Shortage) + Send + Sync + 'static,
        release: impl Fn() + Send + Sync + 'static,
    ) {
        let both: (Tell, Release) = (Box::new(tell), Box::new(release));
        let is_first = self.tell.set(both).is_ok();
        debug_assert!(is_first, "the threads of a broker are started once");
    }

    /// Another limit; the next turn of any thread looks.
    pub(crate) fn set_limit(&self, limit_bytes: u64) {
        self.limit_bytes.store(limit_bytes, Ordering::Relaxed);
        self.next_look_ms.store(0, Ordering::Relaxed);
    }

    /// 0 where there is none.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        (self.measure)()
    }

    pub(crate) fn shortage(&self) -> Shortage {
        self.lock().shortage
    }

    /// When the next look is due, on the clock of the shards.
    pub(crate) fn next_look_ms(&self) -> u64 {
        self.next_look_ms.load(Ordering::Relaxed)
    }

    /// Looks, if it is time. Asked at the end of every turn: a load where it is not.
    pub(crate) fn look(&self, now_ms: u64) {
        let due_ms = self.next_look_ms();
        if now_ms < due_ms {
            return;
        }
        // One of those who ask at the same time looks. Without a limit this look is the last: it
        // ends what a limit before has begun.
        let next_ms = match self.limit_bytes() {
            0 => u64::MAX,
            _ => now_ms + LOOK_MS,
        };
        let order = Ordering::Relaxed;
        let taken = self
            .next_look_ms
            .compare_exchange(due_ms, next_ms, order, order);
        if taken.is_ok() {
            self.look_now(now_ms);
        }
    }

    fn look_now(&self, now_ms: u64) {
        let limit_bytes = match self.limit_bytes() {
            0 => u64::MAX,
            limit_bytes => limit_bytes,
        };
        let used_bytes = self.used_bytes();
        // Told under the lock: of two looks the later one is told later.
        let mut judge = self.lock();
        let before = judge.shortage;
        let news = judge.judge(used_bytes, limit_bytes, now_ms);
        if judge.releases(now_ms)
            && let Some((_, release)) = self.tell.get()
        {
            release();
        }
        let Some(shortage) = news else {
            return;
        };
        if shortage > before {
            tracing::warn!(
                event = "memory.short",
                shortage = shortage.name(),
                used_bytes,
                limit_bytes,
                "memory is short (limits.memory_bytes)"
            );
        } else if shortage < before {
            tracing::info!(
                event = "memory.eased",
                shortage = shortage.name(),
                used_bytes,
                limit_bytes
            );
        }
        if let Some((tell, _)) = self.tell.get() {
            tell(shortage);
        }
    }

    /// Has the allocator give back what nobody uses, at most once a second: much has been freed.
    pub(crate) fn release(&self, now_ms: u64) {
        let mut judge = self.lock();
        if now_ms < judge.release_at_ms {
            return;
        }
        judge.release_at_ms = now_ms + RELEASE_MS;
        if let Some((_, release)) = self.tell.get() {
            release();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Judge> {
        // A panic leaves a judgement, the old one or the new one.
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A front stops accepting for a moment.
    pub(crate) fn accepting_held(&self) {
        self.accepting_held.fetch_add(1, Ordering::Relaxed);
    }

    /// How often a front has.
    pub(crate) fn times_accepting_held(&self) -> u64 {
        self.accepting_held.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard")
            .field("limit_bytes", &self.limit_bytes())
            .field("shortage", &self.shortage())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Shortage::{FewConnections, NoPublishers, ShedClients, ShedMessages};
    use super::*;

    /// What is told when the figures come so fast that no step follows by time.
    fn told(figures: &[u64]) -> Vec<Option<Shortage>> {
        let mut judge = Judge::default();
        let judge = |(at, used): (u64, &u64)| judge.judge(*used, 1_000, at);
        (0..).zip(figures).map(judge).collect()
    }

    #[test]
    fn the_steps_come_and_go_in_order_and_not_with_every_look() {
        let rising = told(&[999, 1_000, 1_049, 1_050, 1_099, 1_100, 1_149, 1_150]);
        let wanted = [
            None,
            Some(FewConnections),
            None,
            Some(NoPublishers),
            None,
            Some(ShedMessages),
            None,
            Some(ShedClients),
        ];
        assert_eq!(rising, wanted);
        let around = told(&[1_000, 951, 1_000, 950, 949, 999, 1_050, 1_001, 1_000, 999]);
        let wanted = [
            Some(FewConnections),
            None,
            None,
            None,
            Some(Shortage::None),
            None,
            Some(NoPublishers),
            None,
            None,
            Some(FewConnections),
        ];
        assert_eq!(around, wanted);
    }

    #[test]
    fn each_step_has_a_name_of_its_own() {
        let mut names: Vec<_> = Shortage::STEPS
            .iter()
            .map(|(step, _)| step.name())
            .collect();
        names.push(Shortage::None.name());
        let wanted = [
            "shed-clients",
            "shed-messages",
            "no-publishers",
            "few-connections",
            "none",
        ];
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_leap_tells_the_last_step_and_the_first_at_once() {
        assert_eq!(
            told(&[5_000, 0, u64::MAX]),
            [Some(ShedClients), Some(Shortage::None), Some(ShedClients)]
        );
    }

    #[test]
    fn what_does_not_ease_gets_worse_but_for_few_connections() {
        let mut judge = Judge::default();
        assert_eq!(judge.judge(1_010, 1_000, 0), Some(FewConnections));
        assert_eq!(judge.judge(1_010, 1_000, 100_000), None, "that may last");
        assert_eq!(judge.judge(1_050, 1_000, 100_000), Some(NoPublishers));
        assert_eq!(judge.judge(1_020, 1_000, 100_999), None);
        assert_eq!(judge.judge(1_020, 1_000, 101_000), Some(ShedMessages));
        assert_eq!(judge.judge(1_020, 1_000, 101_249), None);
        let again = judge.judge(1_020, 1_000, 101_250);
        assert_eq!(again, Some(ShedMessages), "more is to be shed");
        assert_eq!(judge.judge(1_020, 1_000, 101_300), None);
        assert_eq!(judge.judge(1_000, 1_000, 102_000), Some(ShedClients));
        assert_eq!(judge.judge(1_000, 1_000, 900_000), Some(ShedClients));
        assert_eq!(judge.judge(999, 1_000, 900_000), Some(FewConnections));
        assert_eq!(
            judge.judge(999, 1_000, 999_000),
            None,
            "and time counts no more"
        );
    }

    #[test]
    fn memory_is_given_back_while_it_is_short_and_after_each_step_of_shedding() {
        let mut judge = Judge::default();
        let released: Vec<_> = [
            (900, 0),
            (1_000, 50),
            (1_000, 100),
            (1_000, 1_049),
            (1_000, 1_050),
            (900, 3_000),
            (1_000, 3_050),
            // Shed: soon after each step.
            (2_000, 3_100),
            (2_000, 3_199),
            (2_000, 3_200),
            (2_000, 3_350),
            (2_000, 3_449),
            (2_000, 3_450),
        ]
        .into_iter()
        .map(|(used, now_ms)| {
            judge.judge(used, 1_000, now_ms);
            judge.releases(now_ms)
        })
        .collect();
        let wanted = [
            false, true, false, false, true, false, true, false, false, true, false, false, true,
        ];
        assert_eq!(released, wanted);
    }

    /// A guard whose figure the test feeds, and what it has told.
    fn fed(limit_bytes: u64) -> (Guard, Arc<AtomicU64>, Arc<Mutex<Vec<Shortage>>>) {
        let figure = Arc::new(AtomicU64::new(0));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (measured, hears) = (Arc::clone(&figure), Arc::clone(&heard));
        let guard = Guard::new(limit_bytes, move || measured.load(Ordering::Relaxed));
        let tell = move |shortage| hears.lock().expect("no panic").push(shortage);
        guard.tell_by(tell, || {});
        (guard, figure, heard)
    }

    #[test]
    fn a_look_is_taken_when_it_is_due_and_no_sooner() {
        let (guard, figure, heard) = fed(1_000);
        guard.look(7);
        figure.store(1_000, Ordering::Relaxed);
        guard.look(7 + LOOK_MS - 1);
        assert!(heard.lock().expect("no panic").is_empty(), "not due");
        assert_eq!(guard.next_look_ms(), 7 + LOOK_MS);
        guard.look(7 + LOOK_MS);
        assert_eq!(*heard.lock().expect("no panic"), [FewConnections]);
        assert_eq!(guard.shortage(), FewConnections);
    }

    #[test]
    fn another_limit_holds_from_the_next_turn_on_and_none_ends_the_shortage() {
        let (guard, figure, heard) = fed(0);
        figure.store(2_000, Ordering::Relaxed);
        guard.look(u64::MAX - 1);
        assert!(heard.lock().expect("no panic").is_empty(), "no limit");
        guard.set_limit(1_000);
        guard.look(5);
        guard.set_limit(0);
        guard.look(6);
        assert_eq!(guard.next_look_ms(), u64::MAX, "nobody looks any more");
        assert_eq!(
            *heard.lock().expect("no panic"),
            [ShedClients, Shortage::None]
        );
    }
}
