//! A loop that looks for more before it sleeps: in simulation, where its time can be foretold, and
//! on a real one.

#![cfg(not(loom))]

use std::{sync::mpsc, thread};

use pollio::{
    Backend, Budget, Epoll, Io, Metrics, Progress, Reactor, ReactorOptions, Readiness, Receiver,
    Sender, Server, Token, mailbox,
    sim::{SimBackend, SimNet},
};
use proptest::prelude::*;

const FIRST_NS: u64 = 10_000;
const LOOK_NS: u64 = SimNet::LOOK_NS;

/// Sets itself deadlines, so long apart, and takes messages.
#[derive(Default)]
struct Clockwork {
    gaps_ns: Vec<u64>,
    deadline_ns: Option<u64>,
    inbox: Option<Receiver<u32>>,
    messages: Vec<u32>,
    /// At the end of a turn that begins then or later, this is sent, once.
    mail: Option<(u64, Sender<u32>)>,
    background: usize,
    /// How long each turn takes, in simulation.
    turn: Option<(SimNet, u64)>,
}

impl Clockwork {
    fn new(gaps_ns: &[u64], now_ns: u64) -> Self {
        let mut server = Self {
            gaps_ns: gaps_ns.iter().rev().copied().collect(),
            ..Self::default()
        };
        server.wind(now_ns);
        server
    }

    fn wind(&mut self, now_ns: u64) {
        self.deadline_ns = self.gaps_ns.pop().map(|gap_ns| now_ns + gap_ns);
    }

    fn has_run_down(&self) -> bool {
        self.deadline_ns.is_none()
    }
}

impl<B: Backend> Server<B> for Clockwork {
    fn on_ready(&mut self, _: &mut Io<'_, B>, _: Token, _: Readiness, _: &Budget) -> Progress {
        Progress::Done
    }

    fn on_messages(&mut self, _: &mut Io<'_, B>) {
        if let Some(inbox) = &mut self.inbox {
            inbox.drain_into(&mut self.messages);
        }
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.deadline_ns
    }

    fn on_timers(&mut self, io: &mut Io<'_, B>, now_ns: u64) {
        assert!(
            self.deadline_ns
                .is_some_and(|deadline_ns| deadline_ns <= now_ns)
        );
        // The time of the turn is too old to measure a real gap by.
        let now_ns = io.backend().now_ns();
        self.wind(now_ns);
    }

    fn background(&mut self, _: &mut Io<'_, B>, _: u64) -> Progress {
        if self.background == 0 {
            return Progress::Done;
        }
        self.background -= 1;
        Progress::More
    }

    fn flush(&mut self, io: &mut Io<'_, B>) {
        if let Some((net, turn_ns)) = &self.turn {
            net.advance(*turn_ns);
        }
        if let Some((_, sender)) = self.mail.take_if(|(at_ns, _)| *at_ns <= io.now_ns()) {
            sender.push_unbounded(1);
        }
    }
}

fn options(spin_ns_max: u64) -> ReactorOptions {
    ReactorOptions {
        spin_ns_max,
        ..ReactorOptions::default()
    }
}

fn simulated(spin_ns_max: u64, gaps_ns: &[u64]) -> (SimNet, Reactor<SimBackend>, Clockwork) {
    let net = SimNet::new(1);
    let reactor = Reactor::new(net.backend(), options(spin_ns_max));
    let server = Clockwork::new(gaps_ns, net.now_ns());
    (net, reactor, server)
}

/// As [`simulated`], with a window of 10 µs that a first sleep has opened.
fn with_window(background: usize) -> (SimNet, Reactor<SimBackend>, Clockwork) {
    let (net, mut reactor, mut server) = simulated(50_000, &[5_000]);
    server.background = background;
    reactor
        .run(&mut server, |server| server.has_run_down())
        .unwrap();
    (net, reactor, server)
}

/// Turns until the loop goes to sleep with nothing to wake it, which a simulated one refuses.
fn run_to_sleep(reactor: &mut Reactor<SimBackend>, server: &mut Clockwork) {
    let error = reactor.run(server, |_| false).unwrap_err();
    assert!(error.to_string().contains("sleeps for ever"), "{error}");
}

/// What a loop does whose deadlines are so far apart: looks in vain, time of looking, sleeps, and
/// time asleep.
fn model(spin_ns_max: u64, gaps_ns: &[u64]) -> [u64; 4] {
    let [mut spins, mut spin_ns, mut sleeps, mut idle_ns] = [0; 4];
    let mut window_ns = 0_u64;
    for &gap_ns in gaps_ns {
        let looks_max = window_ns.div_ceil(LOOK_NS);
        let looks_needed = gap_ns.div_ceil(LOOK_NS).max(1);
        if looks_needed <= looks_max {
            spins += looks_needed - 1;
            spin_ns += looks_needed * LOOK_NS;
            continue;
        }
        if gap_ns == 0 {
            // Due before it could look or sleep.
            continue;
        }
        spins += looks_max;
        spin_ns += looks_max * LOOK_NS;
        sleeps += 1;
        idle_ns += gap_ns - looks_max * LOOK_NS;
        if gap_ns > spin_ns_max {
            window_ns /= 2;
            if window_ns < FIRST_NS.min(spin_ns_max) {
                window_ns = 0;
            }
        } else if gap_ns > window_ns {
            window_ns = (window_ns * 2).max(FIRST_NS).min(spin_ns_max);
        }
    }
    [spins, spin_ns, sleeps, idle_ns]
}

fn figures(metrics: &Metrics) -> [u64; 4] {
    [
        metrics.spins,
        metrics.spin_ns,
        metrics.waits_blocking,
        metrics.idle_ns,
    ]
}

fn gap_ns() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0), 4 => 0..15_000_u64, 4 => 0..600_000_u64]
}

proptest! {
    #[test]
    fn looks_and_sleeps_as_the_naive_model(
        spin_ns_max in prop_oneof![Just(0), 1..20_000_u64, 0..300_000_u64],
        gaps_ns in prop::collection::vec(gap_ns(), 1..40),
    ) {
        let (net, mut reactor, mut server) = simulated(spin_ns_max, &gaps_ns);
        let begin_ns = net.now_ns();
        reactor.run(&mut server, |server| server.has_run_down()).unwrap();
        let metrics = reactor.metrics();
        prop_assert_eq!(figures(metrics), model(spin_ns_max, &gaps_ns));
        prop_assert_eq!(metrics.timers, gaps_ns.len() as u64);
        // Nothing takes time here but waiting.
        prop_assert_eq!(metrics.busy_ns, 0);
        prop_assert_eq!(metrics.spin_ns + metrics.idle_ns, net.now_ns() - begin_ns);
        // A look in vain, a sleep or a deadline: a turn is one of them.
        let found = metrics.timers - metrics.waits_blocking;
        prop_assert_eq!(metrics.turns, metrics.spins + metrics.waits_blocking + found);
    }
}

#[test]
fn an_idle_loop_looks_for_one_window_and_sleeps() {
    let (net, mut reactor, mut server) = with_window(0);
    let begin_ns = net.now_ns();
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(reactor.metrics().spins, 10);
    assert_eq!(net.now_ns() - begin_ns, 10_000);
}

#[test]
fn turns_that_find_nothing_are_time_of_spinning_and_not_of_work() {
    let (net, mut reactor, mut server) = with_window(0);
    server.turn = Some((net.clone(), 700));
    server.deadline_ns = Some(net.now_ns() + 1_000_000);
    let before = *reactor.metrics();
    reactor
        .run(&mut server, |server| server.has_run_down())
        .unwrap();
    let metrics = reactor.metrics();
    // The sixth look ends after 9.5 µs, so there is a seventh.
    assert_eq!(metrics.spins, 7);
    assert_eq!(metrics.spin_ns, 7 * 1_700);
    assert_eq!(metrics.busy_ns, 0);
    assert_eq!(metrics.idle_ns - before.idle_ns, 1_000_000 - 7 * 1_700);
    // The turn that met the deadline is work, up to the wait after it.
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(reactor.metrics().busy_ns, 700);
    assert_eq!(
        reactor.metrics().busy_ratio(),
        700.0 / (net.now_ns() - 1_000_000_000) as f64
    );
}

#[test]
fn a_loop_whose_events_are_rare_does_not_look() {
    let (_, mut reactor, mut server) = simulated(50_000, &[4_000_000; 100]);
    reactor
        .run(&mut server, |server| server.has_run_down())
        .unwrap();
    assert_eq!(figures(reactor.metrics()), [0, 0, 100, 400_000_000]);
}

#[test]
fn a_wake_during_the_looks_is_found_by_the_next_one_and_begins_them_anew() {
    let (net, mut reactor, mut server) = with_window(0);
    let (sender, inbox) = mailbox(1, reactor.waker());
    server.inbox = Some(inbox);
    let begin_ns = net.now_ns();
    // Sent at the end of the fourth look.
    server.mail = Some((begin_ns + 4_000, sender));
    reactor
        .run(&mut server, |server| !server.messages.is_empty())
        .unwrap();
    assert_eq!(net.now_ns() - begin_ns, 5_000);
    assert_eq!(
        (reactor.metrics().spins, reactor.metrics().waits_blocking),
        (4, 1)
    );
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(
        net.now_ns() - begin_ns,
        15_000,
        "a whole window after the message"
    );
    assert_eq!(reactor.metrics().spins, 14);
}

#[test]
fn a_wake_at_the_end_of_the_window_keeps_the_loop_from_sleeping() {
    let (net, mut reactor, mut server) = with_window(0);
    let (sender, inbox) = mailbox(1, reactor.waker());
    server.inbox = Some(inbox);
    // Sent at the end of the tenth look, which is the last.
    server.mail = Some((net.now_ns() + 10_000, sender));
    reactor
        .run(&mut server, |server| !server.messages.is_empty())
        .unwrap();
    assert_eq!(
        (reactor.metrics().spins, reactor.metrics().waits_blocking),
        (10, 2)
    );
}

#[test]
fn an_event_during_the_looks_is_served_without_a_sleep() {
    let (net, mut reactor, mut server) = with_window(0);
    let addr = "192.0.2.1:1883".parse().unwrap();
    let listener = net.listen(addr).unwrap();
    reactor.backend().add_listener(&listener, Token(1)).unwrap();
    for _ in 0..3 {
        reactor.turn(&mut server).unwrap();
    }
    let _peer = net.connect(addr).unwrap();
    assert_eq!(reactor.turn(&mut server).unwrap().served, 1);
    assert_eq!(
        (reactor.metrics().spins, reactor.metrics().waits_blocking),
        (3, 1)
    );
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(reactor.metrics().spins, 13);
}

#[test]
fn background_work_is_work() {
    let (net, mut reactor, mut server) = with_window(3);
    let begin_ns = net.now_ns();
    // The first turn has answered `More`: two more do and one is done, none of them looks.
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(server.background, 0);
    assert_eq!(reactor.metrics().turns, 1 + 3 + 10);
    assert_eq!(net.now_ns() - begin_ns, 10_000);
    // And where it comes in the middle of the looks.
    let (net, mut reactor, mut server) = with_window(0);
    let begin_ns = net.now_ns();
    for _ in 0..4 {
        reactor.turn(&mut server).unwrap();
    }
    server.background = 1;
    run_to_sleep(&mut reactor, &mut server);
    assert_eq!(net.now_ns() - begin_ns, 15_000);
}

#[test]
fn stepped_from_outside_it_does_not_look() {
    let (net, mut reactor, mut server) = with_window(0);
    for _ in 0..20 {
        reactor.turn_within(&mut server, Some(0)).unwrap();
    }
    let before_ns = net.now_ns();
    assert_eq!(
        (reactor.metrics().spins, reactor.metrics().waits_blocking),
        (0, 1)
    );
    // A limit on the wait is a sleep like any other, after the looks.
    while reactor.metrics().waits_blocking == 1 {
        reactor.turn_within(&mut server, Some(70_000)).unwrap();
    }
    assert_eq!(reactor.metrics().spins, 10);
    assert_eq!(net.now_ns() - before_ns, 80_000);
}

#[test]
fn messages_of_another_thread_come_through_looks_and_sleeps() {
    // The limit is far away: the first sleep opens the window and none closes it.
    let mut reactor = Reactor::new(Epoll::new().unwrap(), options(10_000_000_000));
    let (sender, inbox) = mailbox(1, reactor.waker());
    let mut server = Clockwork {
        inbox: Some(inbox),
        ..Clockwork::default()
    };
    let (ask, asked) = mpsc::channel();
    let thread = thread::spawn(move || {
        for n in asked {
            sender.push_unbounded(n);
        }
    });
    for n in 0..1_000 {
        ask.send(n).unwrap();
        let count = n as usize + 1;
        reactor
            .run(&mut server, |server| server.messages.len() == count)
            .unwrap();
    }
    drop(ask);
    thread.join().unwrap();
    assert_eq!(server.messages, (0..1_000).collect::<Vec<_>>());
    let metrics = reactor.metrics();
    assert!(metrics.spin_ns > 0);
    assert!(metrics.busy_ratio() < 1.0);
}

#[test]
fn deadlines_on_a_real_clock_are_met_by_looks_and_not_before_their_time() {
    let mut reactor = Reactor::new(Epoll::new().unwrap(), options(10_000_000_000));
    let now_ns = reactor.backend().now_ns();
    let mut server = Clockwork::new(&[100_000; 30], now_ns);
    let mut sleeps = 0;
    while !server.has_run_down() {
        sleeps = reactor.metrics().waits_blocking;
        let left = server.gaps_ns.len();
        reactor
            .run(&mut server, |server| {
                server.has_run_down() || server.gaps_ns.len() < left
            })
            .unwrap();
    }
    assert_eq!(reactor.metrics().timers, 30);
    // Each sleep has doubled the window, so it has long been larger than the gaps.
    assert_eq!(
        reactor.metrics().waits_blocking,
        sleeps,
        "the last one was met by a look"
    );
    assert!(reactor.metrics().spins > 0);
}

#[test]
fn a_real_loop_with_nothing_to_do_goes_to_sleep() {
    let mut reactor = Reactor::new(Epoll::new().unwrap(), options(50_000));
    let waker = reactor.waker();
    let mut server = Clockwork::default();
    waker.wake();
    // The wake keeps it from sleeping, which opens the window.
    reactor.turn(&mut server).unwrap();
    assert_eq!(reactor.metrics().waits_blocking, 1);
    while reactor.metrics().waits_blocking == 1 {
        reactor.turn_within(&mut server, Some(1)).unwrap();
    }
    assert!(reactor.metrics().idle_ns > 0);
}
