//! The checker against a broker that breaks each promise in turn.

mod double;

use axmq_bench::{
    check::Verdict,
    fail::Failure,
    net::Dialer,
    probe,
    scenario::{
        options::{Common, Length, Pace, Traffic},
        plan::Plan,
        traffic::{self, Dialect, Outcome},
    },
    target::Target,
};
use double::Fault;
use mqtt_codec::{QoS, Version};

/// Publishes of a case; what is expected and what goes wrong follow from it.
const MESSAGES: u64 = 600;

fn run(plan: &Plan, fault: Fault, qos: QoS, version: Version) -> Result<Outcome, Failure> {
    let addr = double::start(fault);
    let mut target = Target::local(addr.port());
    target.version = version;
    let common = Common {
        target,
        pid: None,
        json: false,
    };
    let options = Traffic {
        common,
        qos,
        size: 64,
        pace: Pace::Window(16),
        warmup_ns: 0,
        length: Length::Messages(MESSAGES),
    };
    let dialer = Dialer::new(vec![addr], None, 100, 0)?;
    traffic::run(plan, &options, dialer, Dialect::Mqtt, None)
}

fn verdict(plan: &Plan, fault: Fault, qos: QoS) -> Verdict {
    let verdict = run(plan, fault, qos, Version::V311).unwrap().verdict;
    assert!(verdict.delivered > 0);
    assert_eq!(verdict.delivered + verdict.lost, verdict.expected);
    verdict
}

#[test]
fn an_honest_broker_is_cleared_at_every_qos_and_version() {
    for (qos, version) in [
        (QoS::AtMostOnce, Version::V31),
        (QoS::AtMostOnce, Version::V5),
        (QoS::AtLeastOnce, Version::V311),
        (QoS::ExactlyOnce, Version::V5),
    ] {
        for plan in [Plan::fanout(3, 2, "a/b"), Plan::pairs(5)] {
            let outcome = run(&plan, Fault::None, qos, version).unwrap();
            let verdict = outcome.verdict;
            assert_eq!(
                verdict.complaint(),
                None,
                "{qos:?} {version} {}",
                plan.title
            );
            let fanout = u64::from(plan.streams[0].fanout);
            assert_eq!(verdict.expected, MESSAGES * fanout, "{}", plan.title);
            assert_eq!(verdict.delivered, verdict.expected);
            assert_eq!(
                outcome.delivered, verdict.expected,
                "all in the measurement"
            );
            assert_eq!(outcome.latencies.total(), outcome.delivered);
        }
    }
}

#[test]
fn each_lost_message_is_counted() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let verdict = verdict(&Plan::fanout(2, 3, "t"), Fault::Drop, qos);
        assert_eq!(verdict.lost, verdict.expected / double::EVERY);
        assert_eq!(
            (verdict.duplicated, verdict.reordered, verdict.misdelivered),
            (0, 0, 0)
        );
    }
}

#[test]
fn each_repeated_message_is_counted() {
    let verdict = verdict(&Plan::fanout(2, 3, "t"), Fault::Duplicate, QoS::ExactlyOnce);
    assert_eq!(verdict.duplicated, verdict.expected / double::EVERY);
    assert_eq!((verdict.lost, verdict.reordered), (0, 0));
}

#[test]
fn each_late_message_is_counted() {
    let verdict = verdict(&Plan::fanout(1, 1, "t"), Fault::Reorder, QoS::AtMostOnce);
    // The last one may be held for good.
    assert!(verdict.reordered > 0 && verdict.lost <= 1, "{verdict:?}");
    assert!(
        verdict.reordered + verdict.lost >= verdict.expected / double::EVERY,
        "{verdict:?}"
    );
    assert_eq!(verdict.duplicated, 0);
}

#[test]
fn messages_for_somebody_else_are_counted() {
    let verdict = verdict(&Plan::pairs(4), Fault::Misdeliver, QoS::AtMostOnce);
    assert!(verdict.misdelivered > 0, "{verdict:?}");
    assert_eq!(
        verdict.misdelivered, verdict.lost,
        "what goes astray is lost where it should be"
    );
}

#[test]
fn messages_under_a_wrong_topic_are_counted() {
    let verdict = verdict(&Plan::fanout(1, 2, "t"), Fault::WrongTopic, QoS::AtMostOnce);
    assert_eq!(verdict.misdelivered, verdict.expected / double::EVERY);
}

#[test]
fn torn_payloads_are_counted() {
    for fault in [Fault::Corrupt, Fault::Truncate] {
        let verdict = verdict(&Plan::fanout(1, 2, "t"), fault, QoS::AtMostOnce);
        assert!(verdict.corrupted > 0, "{fault:?} {verdict:?}");
    }
}

#[test]
fn a_wrong_qos_is_counted() {
    let verdict = verdict(&Plan::fanout(1, 2, "t"), Fault::WrongQos, QoS::AtLeastOnce);
    assert_eq!(verdict.wrong_qos, verdict.expected / double::EVERY);
}

#[test]
fn a_lost_connection_is_no_result() {
    let plan = Plan::fanout(1, 2, "t");
    let failure = run(&plan, Fault::Disconnect, QoS::AtMostOnce, Version::V311).unwrap_err();
    assert!(failure.message.contains("no result"), "{failure}");
}

#[test]
fn the_prober_counts_its_samples() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let addr = double::start(Fault::None);
        let options = probe::Options {
            dialer: Dialer::new(vec![addr], None, 1, 0).unwrap(),
            version: Version::V311,
            qos,
            samples: Some(50),
            interval_ns: 200_000,
            stop: std::sync::Arc::default(),
        };
        let probed = probe::run(options).unwrap();
        assert_eq!((probed.sent, probed.samples.len()), (50, 50));
    }
}
