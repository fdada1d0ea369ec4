//! The values under `$SYS/broker/`: what they are, and when they are computed.
//!
//! Nothing here ticks. A shard that has a subscriber asks for the [`Tree`] when the subscriber
//! comes and once an interval while one is connected (`shard/sys.rs`); the first to ask computes it
//! for all. The names and units are those of mosquitto(8), because tools know them.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::counters::{self, Counters, Figures, Gauges};

/// What everything under this belongs to the broker; clients cannot publish here.
pub(crate) const PREFIX: &str = "$SYS/";

/// A tree that is younger than this is good enough for whoever asks.
const FRESH_MS: u64 = 1_000;
/// The default time between two updates, that of mosquitto.
const INTERVAL_MS: u64 = 10_000;

/// The averages are over so many minutes.
const MINUTES: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];
const LOADS: usize = 9;

/// Whether a topic or filter lies under `$SYS/`.
pub(crate) fn is_sys(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// All values at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree(Vec<(String, String)>);

impl Tree {
    /// Topics with their values, always in the same order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(topic, value)| (&**topic, &**value))
    }

    /// What differs from an older tree.
    pub(crate) fn changes<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut olds = old.iter();
        self.iter().filter(move |new| olds.next() != Some(*new))
    }

    fn add(&mut self, name: &str, value: impl ToString) {
        let topic = format!("{PREFIX}broker/{name}");
        self.0.push((topic, value.to_string()));
    }
}

/// A counter's rate a minute, averaged over some minutes.
#[derive(Copy, Clone, Debug, Default)]
struct Load {
    total: u64,
    averages: [f64; MINUTES.len()],
}

impl Load {
    /// Exponential averages, as uptime's are. After a time in which nobody looked the average is
    /// that of the whole time, which is the best that two readings of a counter tell.
    fn update(&mut self, total: u64, passed_ms: u64) {
        let minutes = passed_ms as f64 / 60_000.0;
        let rate = total.saturating_sub(self.total) as f64 / minutes;
        for (average, (_, over)) in self.averages.iter_mut().zip(MINUTES) {
            let keeps = (-minutes / over).exp();
            *average = rate + keeps * (*average - rate);
        }
        self.total = total;
    }
}

#[derive(Debug, Default)]
struct State {
    tree: Arc<Tree>,
    computed_ms: u64,
    heap_max: u64,
    loads: [Load; LOADS],
}

/// What all shards share of `$SYS`.
#[derive(Debug)]
pub(crate) struct SysTopics {
    /// When the first shard began; `u64::MAX` before.
    started_ms: AtomicU64,
    interval_ms: AtomicU64,
    /// Shards that have a subscription under `$SYS/`.
    watchers: AtomicU32,
    /// Bytes of memory in use. The core makes no system call, so it is given.
    memory: fn() -> u64,
    state: Mutex<State>,
}

/// Numbers that no shard counts.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Globals {
    pub(crate) retained: u64,
    pub(crate) retained_bytes: u64,
    pub(crate) connections_peak: u64,
}

impl SysTopics {
    pub(crate) fn new(memory: fn() -> u64) -> Self {
        Self {
            started_ms: AtomicU64::new(u64::MAX),
            interval_ms: AtomicU64::new(INTERVAL_MS),
            watchers: AtomicU32::new(0),
            memory,
            state: Mutex::default(),
        }
    }

    /// A shard begins; uptime counts from the first one.
    pub(crate) fn begin(&self, now_ms: u64) {
        self.started_ms.fetch_min(now_ms, Ordering::Relaxed);
    }

    /// Milliseconds between two updates; `None` where subscribers get values only once.
    pub(crate) fn interval_ms(&self) -> Option<u64> {
        Some(self.interval_ms.load(Ordering::Relaxed)).filter(|ms| *ms != 0)
    }

    pub(crate) fn set_interval_s(&self, seconds: u32) {
        self.interval_ms
            .store(u64::from(seconds) * 1_000, Ordering::Relaxed);
    }

    /// A shard has got its first subscription under `$SYS/`, or lost its last.
    pub(crate) fn watch(&self, is_watching: bool) {
        if is_watching {
            self.watchers.fetch_add(1, Ordering::Relaxed);
        } else {
            self.watchers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Whether anybody may want to know of connects and disconnects. A subscriber's SUBACK is a
    /// message later than its shard's count, so who acts after it is counted in.
    pub(crate) fn is_watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0
    }

    /// All values, at most a second old.
    pub(crate) fn tree(&self, figures: &[Figures], globals: Globals, now_ms: u64) -> Arc<Tree> {
        // A panic leaves at worst old averages.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started_ms = self.started_ms.load(Ordering::Relaxed).min(now_ms);
        let since_ms = state.computed_ms.max(started_ms);
        let passed_ms = now_ms.saturating_sub(since_ms);
        if state.computed_ms == 0 || passed_ms >= FRESH_MS {
            let (counters, gauges) = counters::sum(figures);
            let heap = (self.memory)();
            state.heap_max = state.heap_max.max(heap);
            for (load, (_, total)) in state.loads.iter_mut().zip(loads(&counters)) {
                load.update(total, passed_ms.max(1));
            }
            state.computed_ms = now_ms;
            let uptime_s = now_ms.saturating_sub(started_ms) / 1_000;
            let tree = compute(&state, &counters, &gauges, globals, uptime_s, heap);
            state.tree = Arc::new(tree);
        }
        Arc::clone(&state.tree)
    }
}

/// The counters whose rates are averaged.
fn loads(counters: &Counters) -> [(&'static str, u64); LOADS] {
    [
        ("load/connections", counters.connects),
        ("load/bytes/received", counters.bytes_received),
        ("load/bytes/sent", counters.bytes_sent),
        ("load/messages/received", counters.packets_received),
        ("load/messages/sent", packets_sent(counters)),
        ("load/publish/dropped", counters.dropped()),
        ("load/publish/received", counters.publishes_received),
        ("load/publish/sent", counters.publishes_sent),
        ("load/sockets", counters.connects),
    ]
}

/// Packets of all types: the shard counts control packets and publishes apart.
fn packets_sent(counters: &Counters) -> u64 {
    counters.packets_sent + counters.publishes_sent
}

fn compute(
    state: &State,
    counters: &Counters,
    gauges: &Gauges,
    globals: Globals,
    uptime_s: u64,
    heap: u64,
) -> Tree {
    let mut tree = Tree::default();
    let away = gauges.sessions.saturating_sub(gauges.clients_connected);
    tree.add(
        "version",
        concat!("axmq version ", env!("CARGO_PKG_VERSION")),
    );
    tree.add("uptime", format_args!("{uptime_s} seconds"));
    for (name, value) in [
        ("clients/total", gauges.sessions),
        ("clients/connected", gauges.clients_connected),
        ("clients/active", gauges.clients_connected),
        ("clients/disconnected", away),
        ("clients/inactive", away),
        ("clients/maximum", globals.connections_peak),
        ("clients/expired", counters.sessions_expired),
        ("bytes/received", counters.bytes_received),
        ("bytes/sent", counters.bytes_sent),
        ("messages/received", counters.packets_received),
        ("messages/sent", packets_sent(counters)),
        ("messages/stored", gauges.messages + globals.retained),
        ("publish/messages/received", counters.publishes_received),
        ("publish/messages/sent", counters.publishes_sent),
        ("publish/messages/dropped", counters.dropped()),
        ("publish/bytes/received", counters.publish_bytes_received),
        ("publish/bytes/sent", counters.publish_bytes_sent),
        ("retained messages/count", globals.retained),
        ("store/messages/count", gauges.messages + globals.retained),
        (
            "store/messages/bytes",
            gauges.message_bytes + globals.retained_bytes,
        ),
        ("subscriptions/count", gauges.subscriptions),
        ("shared_subscriptions/count", gauges.shared_subscriptions),
        ("heap/current", heap),
        ("heap/maximum", state.heap_max),
    ] {
        tree.add(name, value);
    }
    for (load, (name, _)) in state.loads.iter().zip(loads(counters)) {
        for (average, (minutes, _)) in load.averages.iter().zip(MINUTES) {
            tree.add(&format!("{name}/{minutes}"), format_args!("{average:.2}"));
        }
    }
    tree
}

/// A client id as one level of a topic: what would end or widen the level is written as in a URL.
pub(crate) fn level_of(client_id: &str) -> String {
    let mut level = String::with_capacity(client_id.len());
    for c in client_id.chars() {
        match c {
            '/' => level.push_str("%2F"),
            '+' => level.push_str("%2B"),
            '#' => level.push_str("%23"),
            '%' => level.push_str("%25"),
            c => level.push(c),
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBALS: Globals = Globals {
        retained: 3,
        retained_bytes: 30,
        connections_peak: 9,
    };

    fn value<'a>(tree: &'a Tree, name: &str) -> Option<&'a str> {
        let topic = format!("$SYS/broker/{name}");
        tree.iter()
            .find(|(t, _)| *t == topic)
            .map(|(_, value)| value)
    }

    #[test]
    fn loads_are_rates_a_minute_that_fade_in_their_time() {
        let sys = SysTopics::new(|| 77);
        sys.begin(5_000);
        let figures = [Figures::default()];
        let mut counters = Counters::default();
        let gauges = Gauges::default();
        // 600 a minute for an hour.
        let mut now_ms = 5_000;
        for _ in 0..360 {
            now_ms += 10_000;
            counters.publishes_received += 100;
            figures[0].store(&counters, &gauges);
            sys.tree(&figures, GLOBALS, now_ms);
        }
        let tree = sys.tree(&figures, GLOBALS, now_ms);
        assert_eq!(value(&tree, "load/publish/received/1min"), Some("600.00"));
        let slow: f64 = value(&tree, "load/publish/received/15min")
            .and_then(|text| text.parse().ok())
            .expect("a number");
        assert!((580.0..600.0).contains(&slow), "{slow}");
        assert_eq!(value(&tree, "uptime"), Some("3600 seconds"));
        // A minute of silence: one time constant.
        let tree = sys.tree(&figures, GLOBALS, now_ms + 60_000);
        assert_eq!(value(&tree, "load/publish/received/1min"), Some("220.73"));
        assert_eq!(value(&tree, "heap/current"), Some("77"));
        assert_eq!(value(&tree, "clients/maximum"), Some("9"));
    }

    #[test]
    fn a_tree_is_computed_at_once_and_then_at_most_once_a_second() {
        let sys = SysTopics::new(|| 0);
        sys.begin(1_000);
        let figures = [Figures::default()];
        let first = sys.tree(&figures, GLOBALS, 1_000);
        assert_eq!(value(&first, "messages/received"), Some("0"));
        let counters = Counters {
            packets_received: 5,
            ..Counters::default()
        };
        figures[0].store(&counters, &Gauges::default());
        let same = sys.tree(&figures, GLOBALS, 1_999);
        assert!(Arc::ptr_eq(&first, &same));
        let next = sys.tree(&figures, GLOBALS, 2_000);
        let changed: Vec<_> = next.changes(&first).map(|(topic, _)| topic).collect();
        assert!(
            changed.contains(&"$SYS/broker/messages/received"),
            "{changed:?}"
        );
        assert!(
            !changed.contains(&"$SYS/broker/messages/sent"),
            "{changed:?}"
        );
        assert_eq!(value(&next, "messages/received"), Some("5"));
    }

    #[test]
    fn a_client_id_is_one_level_whatever_is_in_it() {
        assert_eq!(level_of("plain-1"), "plain-1");
        assert_eq!(level_of("a/b+c#d%"), "a%2Fb%2Bc%23d%25");
    }
}
