//! The whole broker under simulation: fronts and shards on their reactors, and strict clients, in
//! one thread, on a simulated clock and network. One seed decides everything.
//!
//! A run has three parts. While there are faults, clients connect, publish, subscribe, vanish and
//! come back, loops take turns in any order, bytes come in pieces, and the clock jumps. Then the
//! network is whole, nobody leaves any more, and everything that is under way has to arrive. At the
//! end the books are compared, everybody goes, and nothing may be left. `docs/simulation.md` says
//! what is checked and how to repeat a failure.

/// Ends a check with a text where something does not hold.
macro_rules! check {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}

mod client;
mod disk;
mod hooks;
mod ledger;
mod network;
mod plan;
pub(crate) mod planted;
pub(crate) mod random;
mod report;
mod stop;
mod tests;
mod verdict;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::client::Client;
use self::disk::DiskWatch;
use self::ledger::{Ledger, NS_PER_S};
use self::network::Site;
use self::plan::Plan;
use self::random::Random;
use self::report::{Feature, Report};
use crate::config::Durability;
use crate::memory::Shortage;
use crate::store::memory::Weather;

/// `Err` says what does not hold.
type Check = Result<(), String>;

/// A number that follows from everything that happened.
#[derive(Debug)]
struct Trace(u64);

impl Trace {
    fn byte(&mut self, byte: u8) {
        // FNV-1a.
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }

    fn number(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.byte(byte);
        }
    }

    fn packet(&mut self, client: usize, bytes: &[u8]) {
        self.number(client as u64);
        for &byte in bytes {
            self.byte(byte);
        }
    }
}

/// What clients and checkers share in a run.
pub(crate) struct World {
    site: Site,
    plan: Plan,
    random: Random,
    ledger: Ledger,
    report: Report,
    trace: Trace,
    /// Events so far: the clock of the checkers.
    tick: u64,
    is_healing: bool,
    /// When the network was whole again.
    healed_ns: u64,
    /// The event at which the broker was told to stop.
    stop_began: Option<u64>,
    /// Where it is known what the disk has to have.
    disk_watch: Option<DiskWatch>,
    is_loud: bool,
}

impl World {
    fn new(seed: u64, events: u64) -> Self {
        let (plan, mut random) = Plan::new(seed, events);
        let site = Site::new(&plan, &mut random);
        let ledger = Ledger::new(&plan);
        let mut report = Report::default();
        report.seeds = 1;
        if plan.tables.is_some() {
            report.note(Feature::TableFull);
        }
        if plan.keeps_sessions {
            report.note(Feature::StoredGroup);
        }
        let settings = plan.store.as_ref().map(|store| &store.settings);
        match settings.map(|settings| (settings.rules.is_empty(), settings.durability)) {
            Some((false, _)) => report.note(Feature::StoredRules),
            Some((true, Durability::Always)) => report.note(Feature::StoredAlways),
            Some((true, _)) => report.note(Feature::StoredInterval),
            None => {}
        }
        Self {
            site,
            disk_watch: DiskWatch::new(&plan),
            plan,
            random,
            ledger,
            report,
            trace: Trace(0xcbf2_9ce4_8422_2325),
            tick: 1,
            is_healing: false,
            healed_ns: u64::MAX,
            stop_began: None,
            is_loud: std::env::var_os("AXMQ_SIM_LOUD").is_some(),
        }
    }

    /// The broker is known to have routed a message, and to have stored what was to be stored.
    fn routed(&mut self, message: Option<u32>, store: Option<(usize, usize)>) {
        let (tick, now_ns) = (self.tick, self.site.now_ns());
        if let Some(at) = message {
            let message = self.ledger.message(at);
            if message.routed.is_none() {
                message.routed = Some(tick);
                message.routed_ns = now_ns;
            }
        }
        if let Some((topic, place)) = store {
            self.ledger.stored(topic, place, tick);
        }
    }

    /// Tells what happens, where a repeated run is to be looked at.
    fn say(&self, client: usize, text: impl FnOnce() -> String) {
        if self.is_loud {
            let ms = self.site.now_ns() / 1_000_000;
            eprintln!("{:>6} {ms} ms  client {client} {}", self.tick, text());
        }
    }

    fn turn(&mut self, at: usize, is_forced: bool) -> Result<bool, String> {
        let turned = self.site.turn(at, is_forced)?;
        if turned.is_some() {
            self.say(at, || {
                format!("(no client, loop {at}) turned, worked: {turned:?}")
            });
        }
        self.trace
            .number(at as u64 * 4 + u64::from(turned == Some(true)));
        Ok(turned == Some(true))
    }

    /// One event that is not a client's.
    fn event(&mut self) -> Check {
        if self.plan.hooks.is_some() && self.random.one_in(6) {
            self.site.authenticate_one();
            return Ok(());
        }
        let weather = self.plan.store.as_ref().map_or(0, |store| store.weather);
        if weather > 0 && self.random.below(10_000) < weather as usize {
            self.report.note(Feature::DiskWeather);
            let weather = [Weather::Fine, Weather::Full, Weather::WriteFails];
            self.site.set_weather(self.random.pick(&weather));
            return Ok(());
        }
        if self.random.below(10_000) < self.plan.shortages as usize {
            self.report.note(Feature::Shortage);
            let levels = [
                Shortage::None,
                Shortage::None,
                Shortage::FewConnections,
                Shortage::NoPublishers,
                Shortage::ShedMessages,
                Shortage::ShedClients,
            ];
            let level = self.random.pick(&levels);
            self.site.tell(level);
            if level == Shortage::ShedClients {
                self.ledger.wills_may_come(self.site.now_ns());
            }
        }
        let dice = self.random.below(1_000) as u64;
        if dice < self.plan.ticks {
            self.site.net.advance(self.random.next() % 20_000_000);
        } else if dice < self.plan.ticks + self.plan.jumps {
            self.report.note(Feature::ClockJump);
            let mut most_ns = 8_000_000_000;
            // In all no more than the lifetimes that no run is to see the end of.
            if self.random.one_in(20) && self.site.now_ns() < 300_000 * NS_PER_S {
                self.report.note(Feature::ClockLeap);
                most_ns = 40_000 * NS_PER_S;
            }
            self.site.net.advance(self.random.next() % most_ns);
        } else {
            let at = self.random.below(self.site.loops());
            if at == self.plan.lazy_loop && !self.random.one_in(10) {
                return Ok(());
            }
            let is_forced = self.random.one_in(50);
            if is_forced {
                self.report.note(Feature::SpuriousTurn);
            }
            self.turn(at, is_forced)?;
        }
        Ok(())
    }
}

/// What came out of one seed.
struct Outcome {
    result: Check,
    report: Report,
    trace: u64,
}

fn play(w: &mut World) -> Check {
    let mut clients: Vec<_> = (0..w.plan.clients).map(|me| Client::new(me, w)).collect();
    w.site.net.set_faults(w.plan.faults);
    while w.tick < w.plan.events {
        w.tick += 1;
        if w.random.below(100) < w.plan.client_share as usize {
            let at = w.random.below(clients.len());
            clients[at].step(w)?;
        } else {
            w.event()?;
            disk::check(w, &clients)?;
        }
    }
    heal(w, &mut clients)?;
    verdict::check(w, &clients)?;
    if w.plan.stops {
        stop::check(w, clients)
    } else {
        verdict::finish(w, clients)
    }
}

/// The faults are over: everything that is under way arrives, in bounded time.
fn heal(w: &mut World, clients: &mut [Client]) -> Check {
    w.is_healing = true;
    w.healed_ns = w.site.now_ns();
    w.site.heal();
    for client in clients.iter_mut() {
        client.wish(2);
    }
    let mut quiet = 0;
    for _ in 0..30_000 {
        let mut is_at_rest = true;
        for client in clients.iter_mut() {
            w.tick += 1;
            client.step(w)?;
            is_at_rest &= client.is_at_rest();
        }
        while w.site.authenticate_one() {}
        for at in 0..w.site.loops() {
            w.tick += 1;
            w.turn(at, false)?;
            disk::check(w, clients)?;
        }
        is_at_rest &= clients.iter().all(Client::is_read);
        is_at_rest &= w.site.store_is_well();
        quiet = if is_at_rest { quiet + 1 } else { 0 };
        if quiet == 12 {
            return Ok(());
        }
        // Longer than a subscriber may be without progress before it stops its publishers no more.
        let step_ns = if is_at_rest { 30_000_000 } else { 2_000_000 };
        w.site.net.advance(step_ns);
    }
    let waits: Vec<_> = clients
        .iter()
        .filter(|client| !client.is_at_rest() || !client.is_read())
        .map(Client::describe)
        .collect();
    let cores: Vec<_> = w
        .site
        .shards
        .iter()
        .map(|shard| shard.server.core().describe())
        .collect();
    Err(format!(
        "the broker does not come to rest (its store is well: {}): {}\n{}",
        w.site.store_is_well(),
        waits.join("; "),
        cores.join("\n")
    ))
}

fn run(seed: u64, events: u64) -> Outcome {
    let mut world = World::new(seed, events);
    let played = catch_unwind(AssertUnwindSafe(|| play(&mut world)));
    let result = played.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    let World {
        mut report,
        trace,
        tick,
        site,
        ..
    } = world;
    report.events = tick;
    report.add_faults(&site.net);
    Outcome {
        result: result.map_err(|text| format!("event {tick}: {text}")),
        report,
        trace: trace.0,
    }
}
