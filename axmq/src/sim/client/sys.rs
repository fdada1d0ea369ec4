//! Subscriptions of `$SYS/`: what the broker says of itself.

use mqtt_codec::Publish;

use super::Client;
use crate::sim::ledger::matches;
use crate::sim::plan::filter_text;
use crate::sim::report::Feature;
use crate::sim::{Check, World};

/// What only grows.
const GROWING: [&str; 4] = [
    "$SYS/broker/messages/received",
    "$SYS/broker/messages/sent",
    "$SYS/broker/bytes/received",
    "$SYS/broker/publish/messages/dropped",
];

impl Client {
    pub(super) fn on_sys(&mut self, w: &mut World, packet: &Publish<'_>, topic: &str) -> Check {
        self.take_id(w, packet, None)?;
        let qos = packet.qos() as u8;
        let asked: Vec<_> = self
            .subscriptions
            .iter()
            .filter(|asked| {
                matches(filter_text(asked.filter), topic) && (qos > 0 || asked.ended.is_none())
            })
            .collect();
        check!(!asked.is_empty(), "nobody has asked for {topic}");
        check!(
            asked.iter().any(|asked| asked.qos >= qos),
            "the QoS of {topic} is higher than it may be"
        );
        for identifier in packet.properties().subscription_identifiers() {
            check!(
                asked.iter().any(|asked| asked.identifier == identifier),
                "{topic} has the subscription identifier {identifier}, which no filter has"
            );
        }
        let may_be_retained = |is: bool| {
            !is || asked
                .iter()
                .any(|asked| asked.may_replay || asked.retain_as_published)
        };
        check!(
            may_be_retained(packet.retain()),
            "{topic} has the retain flag"
        );
        let text = std::str::from_utf8(packet.payload()).map_err(|_| "a value is no text")?;
        if let Some(who) = topic.strip_prefix("$SYS/broker/clients/")
            && let Some((who, what)) = who.split_once('/')
        {
            w.report.note(Feature::SysEvent);
            let is_known = text.contains(&format!("\"client\":\"{who}\""));
            let is_event = matches!(what, "connected" | "disconnected");
            check!(is_known && is_event, "{topic} says {text}");
            return Ok(());
        }
        w.report.note(Feature::SysValue);
        if GROWING.contains(&topic) {
            let value: u64 = text.parse().map_err(|_| format!("{topic} is {text}"))?;
            let before = self.sys_values.insert(topic.to_owned(), value);
            check!(
                before.is_none_or(|before| before <= value),
                "{topic} was {before:?} and is {value}"
            );
        }
        Ok(())
    }
}
