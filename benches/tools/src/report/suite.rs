//! The scenarios of a report, and one run of each.

use mqtt_codec::QoS;

use super::brokers::Running;
use crate::{
    fail::Failure,
    hist::Histogram,
    process::Usage,
    scenario::{
        herd::{
            idle::{self, Idled},
            storm::{self, Stormed},
        },
        options::{Common, Length, Pace, Traffic},
        plan::Plan,
        relay,
        report::{DISTURBED, SATURATED, judge},
        traffic::{self, Dialect, Outcome},
    },
    target::Target,
};

/// How much of everything.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Runs of each scenario and broker.
    pub runs: u32,
    /// Time before a measurement of traffic.
    pub warmup_ns: u64,
    /// Time of a measurement of traffic.
    pub duration_ns: u64,
    /// Publishes a second while latencies are measured, to ten subscribers.
    pub latency_rate: f64,
    /// Idle connections at the two readings.
    pub idle: (u32, u32),
    /// Time that idle connections and a storm are given to settle.
    pub settle_ns: u64,
    /// Clients of a storm.
    pub storm: u32,
    /// Whether only the small scenarios are run.
    pub quick: bool,
    /// The processor of the brokers and of the floor's relay.
    pub broker_cpu: Option<usize>,
    /// The processor of the storm's prober.
    pub probe_cpu: Option<usize>,
}

/// A scenario whose result is the broker's CPU for each delivered message.
#[derive(Clone, Debug)]
pub struct CostCase {
    /// Its name in tables.
    pub title: String,
    /// Who publishes and who subscribes.
    pub plan: Plan,
    /// QoS of both.
    pub qos: QoS,
}

impl CostCase {
    /// Whether a relay without MQTT can carry it.
    #[must_use]
    pub fn has_floor(&self) -> bool {
        self.qos == QoS::AtMostOnce && !self.plan.shuffled
    }
}

/// The scenarios of the table of costs.
#[must_use]
pub fn cost_cases(quick: bool) -> Vec<CostCase> {
    let case = |title: &str, plan: Plan, qos: QoS| CostCase {
        title: format!("{title}, QoS {}", qos as u8),
        plan,
        qos,
    };
    let fanout = |pubs, subs| Plan::fanout(pubs, subs, "bench/1");
    let (zero, one, two) = (QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce);
    if quick {
        return vec![
            case("1 → 10", fanout(1, 10), zero),
            case("50 pairs", Plan::pairs(50), zero),
            case("1 → 10", fanout(1, 10), one),
        ];
    }
    vec![
        case("1 → 10", fanout(1, 10), zero),
        case("10 → 10", fanout(10, 10), zero),
        case("100 → 1", fanout(100, 1), zero),
        case("1 → 1,000", fanout(1, 1_000), zero),
        case("4,000 → 10", fanout(4_000, 10), zero),
        case("1,000 pairs", Plan::pairs(1_000), zero),
        case("mixed filters", Plan::wild(10, 0), zero),
        case("1 → 10", fanout(1, 10), one),
        case("10 → 10", fanout(10, 10), one),
        case("100 → 1", fanout(100, 1), one),
        case("1,000 pairs", Plan::pairs(1_000), one),
        case("1 → 10", fanout(1, 10), two),
        case("100 → 1", fanout(100, 1), two),
        case("1,000 pairs", Plan::pairs(1_000), two),
    ]
}

/// One run of a [`CostCase`], or of latencies.
#[derive(Clone, Debug)]
pub struct Run {
    /// The broker's CPU for each delivered message, in µs.
    pub cpu_us: f64,
    /// The generator's.
    pub generator_us: f64,
    /// Messages delivered a second.
    pub rate: f64,
    /// Whether the generator used a whole core: the rate is its own, then.
    pub generator_saturated: bool,
    /// Whether the broker used all of its cores: the rate is its own, then.
    pub broker_saturated: bool,
    /// Whether the generator waited for a core.
    pub disturbed: bool,
    /// From the time a message was sent, or should have been.
    pub latencies: Histogram,
}

/// What a run shows of a broker, or why it shows nothing.
pub type Shown<T> = Result<T, String>;

fn common(port: u16, pid: u32) -> Common {
    Common {
        target: Target::local(port),
        pid: Some(pid),
        json: false,
    }
}

impl Scale {
    fn traffic(&self, common: Common, qos: QoS, pace: Pace) -> Traffic {
        Traffic {
            common,
            qos,
            size: 256,
            pace,
            warmup_ns: self.warmup_ns,
            length: Length::Time(self.duration_ns),
        }
    }

    /// Cores that a broker may use.
    fn broker_cores(&self) -> f64 {
        match self.broker_cpu {
            Some(_) => 1.0,
            None => std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
        }
    }

    fn run_of(&self, outcome: &Outcome) -> Run {
        let per = |usage: &Usage| usage.cpu_ns as f64 / 1e3 / outcome.delivered.max(1) as f64;
        let cores = |ns: u64| ns as f64 / outcome.time_ns.max(1) as f64;
        let broker = outcome.broker.unwrap_or_default();
        Run {
            cpu_us: per(&broker),
            generator_us: per(&outcome.own),
            rate: outcome.delivered as f64 * 1e9 / outcome.time_ns.max(1) as f64,
            generator_saturated: cores(outcome.own.cpu_ns) >= SATURATED,
            broker_saturated: cores(broker.cpu_ns) >= SATURATED * self.broker_cores(),
            disturbed: cores(outcome.own.wait_ns) >= DISTURBED,
            latencies: outcome.latencies.clone(),
        }
    }

    /// A run through the relay.
    ///
    /// # Errors
    ///
    /// If there is no result.
    pub fn cost_of_floor(&self, case: &CostCase) -> Shown<Run> {
        let pace = Pace::Window(case.plan.usual_window());
        let options = self.traffic(common(0, 0), case.qos, pace);
        let outcome = relay::measure(&case.plan, &options, self.broker_cpu_u32(), None);
        let outcome = outcome.map_err(|failure| failure.message)?;
        Ok(self.run_of(&outcome))
    }

    /// A run through a broker.
    ///
    /// # Errors
    ///
    /// If there is no result, or a message did not come as it should.
    pub fn cost(&self, case: &CostCase, broker: &Running) -> Shown<Run> {
        let pace = Pace::Window(case.plan.usual_window());
        let outcome = self.drive(&case.plan, case.qos, pace, broker);
        let outcome = outcome.map_err(|failure| failure.message)?;
        Ok(self.run_of(&outcome))
    }

    /// Latencies at a rate that a broker has time for.
    ///
    /// # Errors
    ///
    /// As [`cost`](Self::cost), and if broker or generator could not keep the rate: what is
    /// measured is the length of a queue, then.
    pub fn latency(&self, broker: &Running) -> Shown<Run> {
        let plan = Plan::fanout(1, 10, "bench/1");
        let pace = Pace::Rate(self.latency_rate);
        let outcome = self.drive(&plan, QoS::AtMostOnce, pace, broker);
        let outcome = outcome.map_err(|failure| failure.message)?;
        let run = self.run_of(&outcome);
        let (rate, wanted) = (run.rate, self.latency_rate * plan.mean_fanout());
        match (run.generator_saturated, run.broker_saturated) {
            (true, _) => Err("generator saturated: no latencies of the broker".to_owned()),
            (false, true) => Err(format!("saturated at {rate:.0} deliveries a second")),
            _ if rate < 0.98 * wanted => Err(format!(
                "could not keep {wanted:.0} deliveries a second, but {rate:.0}"
            )),
            _ => Ok(run),
        }
    }

    fn drive(
        &self,
        plan: &Plan,
        qos: QoS,
        pace: Pace,
        broker: &Running,
    ) -> Result<Outcome, Failure> {
        let common = common(broker.port, broker.pid());
        let clients = plan.subscribers.len() as u64 + u64::from(plan.publishers);
        let dialer = common.dialer(clients)?;
        let options = self.traffic(common, qos, pace);
        let outcome = traffic::run(plan, &options, dialer, Dialect::Mqtt, Some(broker.pid()))?;
        judge(qos, &outcome)?;
        Ok(outcome)
    }

    /// Bytes of idle connections.
    ///
    /// # Errors
    ///
    /// If there is no result.
    pub fn idle(&self, broker: &Running, subscribe: bool) -> Shown<Idled> {
        let plan = idle::Plan {
            from: self.idle.0,
            to: self.idle.1,
            subscribe,
            settle_ns: self.settle_ns,
            hold_ns: 0,
        };
        let pid = broker.pid();
        idle::measure(&common(broker.port, pid), pid, &plan).map_err(|failure| failure.message)
    }

    /// A storm.
    ///
    /// # Errors
    ///
    /// If there is no result.
    pub fn storm(&self, broker: &Running) -> Shown<Stormed> {
        let plan = storm::Plan {
            count: self.storm,
            parallel: 512,
            probe_cpu: self.probe_cpu,
            probe_interval_ns: 2_000_000,
            settle_ns: self.settle_ns,
        };
        let pid = broker.pid();
        storm::measure(&common(broker.port, pid), pid, &plan).map_err(|failure| failure.message)
    }

    fn broker_cpu_u32(&self) -> Option<u32> {
        self.broker_cpu.and_then(|cpu| u32::try_from(cpu).ok())
    }
}
