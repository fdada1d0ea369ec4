//! What the clients of a run have published, and what follows from it: the book that every
//! delivery is compared with.

use std::collections::BTreeMap;

use super::Check;
use super::plan::{FILTERS, GROUPS, Plan, SYS, TOPICS_PLAIN, TOPICS_SHARED};
use super::report::{Feature, Report};

pub(super) const NS_PER_S: u64 = 1_000_000_000;
const NS_PER_MS: u64 = 1_000_000;

/// A will's part of a message.
#[derive(Clone, Debug)]
pub(super) struct WillState {
    /// From the end of the connection to the publication; the session's end may come first.
    pub(super) delay_s: u32,
    pub(super) session_expiry_s: u32,
    pub(super) keep_alive_s: u16,
    /// The client was alive then: when it sent the last thing that was answered.
    pub(super) alive_ns: u64,
    /// The connection ended, or may have ended, from then on without DISCONNECT.
    pub(super) cut_ns: Option<u64>,
    /// A clean start may have ended the session then, and the delay with it.
    pub(super) cleared_ns: Option<u64>,
    /// The client said DISCONNECT, and nothing else can have ended the connection before.
    pub(super) is_dropped: bool,
    /// The client came back in time.
    pub(super) is_cancelled: bool,
    /// The broker has to publish it when it stops.
    pub(super) is_cut_by_stop: bool,
    /// CONNACK came: the will counts.
    pub(super) is_accepted: bool,
}

/// What the hooks of the broker make of a message, which its topic says.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Path {
    Plain,
    /// It goes on under another topic.
    Edited,
    Denied,
    Discarded,
    Refused,
}

impl Path {
    /// What stands before the topic that the message is to have.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Edited => "edit/",
            Self::Denied => "deny/",
            Self::Discarded => "void/",
            Self::Refused => "refuse/",
        }
    }

    /// Whether it goes nowhere.
    pub(super) fn is_void(self) -> bool {
        !matches!(self, Self::Plain | Self::Edited)
    }
}

/// A message, however often it was sent.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) publisher: usize,
    pub(super) topic: usize,
    pub(super) qos: u8,
    pub(super) retain: bool,
    pub(super) expiry_s: Option<u32>,
    pub(super) payload_len: usize,
    pub(super) has_properties: bool,
    pub(super) path: Path,
    pub(super) sent: u64,
    pub(super) sent_ns: u64,
    /// When it was known that the broker has routed it.
    pub(super) routed: Option<u64>,
    pub(super) routed_ns: u64,
    pub(super) attempts: u32,
    pub(super) will: Option<WillState>,
}

impl Message {
    /// Whether its lifetime may have ended. The broker's clock shows whole milliseconds: what it
    /// gets in one of them has its seconds behind it when the clock shows so many more.
    fn may_be_over(&self, now_ns: u64) -> bool {
        let (sent_ms, now_ms) = (self.sent_ns / NS_PER_MS, now_ns / NS_PER_MS);
        self.expiry_s
            .is_some_and(|seconds| sent_ms + u64::from(seconds) * 1_000 <= now_ms)
    }
}

/// One transmission of a message to a retained topic; `None` clears the topic.
#[derive(Clone, Debug)]
pub(super) struct Store {
    pub(super) message: Option<u32>,
    pub(super) qos: u8,
    /// Of its publisher, the connection that it was sent on.
    pub(super) connection: u64,
    pub(super) sent: u64,
    /// The broker may know it already and not store it again.
    pub(super) is_repeated: bool,
    pub(super) done: Option<u64>,
}

/// When and how something is sent.
#[derive(Copy, Clone, Debug)]
pub(super) struct Sending {
    pub(super) qos: u8,
    pub(super) connection: u64,
    pub(super) tick: u64,
    pub(super) is_repeated: bool,
}

impl Store {
    fn new(message: Option<u32>, sending: Sending) -> Self {
        let Sending {
            qos,
            connection,
            tick,
            is_repeated,
        } = sending;
        Self {
            message,
            qos,
            connection,
            sent: tick,
            is_repeated,
            done: None,
        }
    }

    /// Whether a repetition is not what the store holds in the end, because this one was sent
    /// again behind it: what is routed again is routed again in order.
    fn overtakes(&self, older: &Self, tick: u64) -> bool {
        let is_done = self.done.is_some_and(|at| at < tick);
        is_done
            && older.is_repeated
            && self.connection == older.connection
            && self.qos == 1
            && older.qos == 1
    }
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) topics: Vec<String>,
    pub(super) matches: Vec<Vec<bool>>,
    pub(super) messages: Vec<Message>,
    /// Transmissions in order, by publisher and topic: what subscribers see is a part of this.
    pub(super) sent: BTreeMap<(usize, usize), Vec<u32>>,
    /// Transmissions to each retained topic, all of one client.
    pub(super) stores: BTreeMap<usize, Vec<Store>>,
    /// How often members of groups have got each message at QoS 2.
    pub(super) dealt: BTreeMap<u32, usize>,
    /// When a member last lost its session, and with it what it had been sent.
    pub(super) members_lost: u64,
}

/// MQTT 4.7, in the plainest way: the broker's own matching is not to be trusted here.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    let (mut filters, mut levels) = (filter.split('/'), topic.split('/'));
    loop {
        match (filters.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(filter), Some(level)) if filter == level => {}
            _ => return false,
        }
    }
}

pub(super) fn user_property(message: u32) -> String {
    format!("p{message}")
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut topics: Vec<String> = TOPICS_PLAIN.iter().map(|&topic| topic.into()).collect();
        topics.extend((0..plan.clients).map(|client| format!("w/{client}")));
        for client in 0..plan.clients {
            topics.extend((0..plan.retained_topics).map(|n| format!("r/{client}/{n}")));
        }
        topics.extend(TOPICS_SHARED.iter().map(|&topic| topic.into()));
        let matches = FILTERS
            .iter()
            .copied()
            .chain(GROUPS.iter().map(|(_, filter)| *filter))
            .chain(SYS)
            .map(|filter| topics.iter().map(|topic| matches(filter, topic)).collect())
            .collect();
        Self {
            topics,
            matches,
            ..Self::default()
        }
    }

    pub(super) fn will_topic(client: usize) -> usize {
        TOPICS_PLAIN.len() + client
    }

    pub(super) fn retained_topic(plan: &Plan, client: usize, n: usize) -> usize {
        TOPICS_PLAIN.len() + plan.clients + client * plan.retained_topics + n
    }

    pub(super) fn is_shared_topic(&self, topic: usize) -> bool {
        topic + TOPICS_SHARED.len() >= self.topics.len()
    }

    pub(super) fn add(&mut self, message: Message) -> u32 {
        self.messages.push(message);
        (self.messages.len() - 1) as u32
    }

    pub(super) fn message(&mut self, at: u32) -> &mut Message {
        &mut self.messages[at as usize]
    }

    /// Takes note of a transmission; returns its place among those to a retained topic.
    pub(super) fn transmit(&mut self, at: u32, connection: u64, tick: u64) -> Option<usize> {
        let message = &mut self.messages[at as usize];
        message.attempts += 1;
        let (publisher, topic) = (message.publisher, message.topic);
        let sending = Sending {
            qos: message.qos,
            connection,
            tick,
            is_repeated: message.attempts > 1,
        };
        let retain = message.retain;
        self.sent.entry((publisher, topic)).or_default().push(at);
        if !retain {
            return None;
        }
        let stores = self.stores.entry(topic).or_default();
        stores.push(Store::new(Some(at), sending));
        Some(stores.len() - 1)
    }

    /// The same for an empty message, which has no place in the book but this.
    pub(super) fn clear(&mut self, topic: usize, sending: Sending) -> usize {
        let stores = self.stores.entry(topic).or_default();
        stores.push(Store::new(None, sending));
        stores.len() - 1
    }

    pub(super) fn stored(&mut self, topic: usize, at: usize, tick: u64) {
        if let Some(store) = self.stores.get_mut(&topic).and_then(|all| all.get_mut(at)) {
            store.done.get_or_insert(tick);
        }
    }

    /// What the store may hold of a topic, from what was surely stored before `tick` on.
    pub(super) fn candidates(&self, topic: usize, tick: u64) -> Vec<Option<u32>> {
        let Some(stores) = self.stores.get(&topic) else {
            return vec![None];
        };
        let is_sure = |store: &Store| !store.is_repeated && store.done.is_some_and(|at| at < tick);
        let last = stores.iter().rposition(is_sure);
        let mut all: Vec<_> = last.map_or_else(|| vec![None], |_| Vec::new());
        let since = &stores[last.unwrap_or(0)..];
        for (at, store) in since.iter().enumerate() {
            let mut later = since[at + 1..].iter();
            if !later.any(|later| later.overtakes(store, tick)) {
                all.push(store.message);
            }
        }
        all
    }

    /// Any connection may end now.
    pub(super) fn wills_may_come(&mut self, now_ns: u64) {
        for message in &mut self.messages {
            if let Some(will) = &mut message.will {
                will.cut_ns.get_or_insert(now_ns);
            }
        }
    }

    /// A will has come to a subscriber: is it time?
    pub(super) fn check_will(&self, at: u32, now_ns: u64) -> Check {
        let message = &self.messages[at as usize];
        let Some(will) = &message.will else {
            return Ok(());
        };
        let silence_ns = u64::from(will.keep_alive_s) * 3 * NS_PER_S / 2;
        let silent_ns = (silence_ns > 0).then(|| will.alive_ns + silence_ns);
        let was_silent = silent_ns.is_some_and(|at| at <= now_ns);
        let who = self.topics[message.topic].as_str();
        check!(
            !will.is_dropped || was_silent,
            "the will on {who} came although its client had said DISCONNECT"
        );
        check!(
            !will.is_cancelled,
            "the will on {who} came although its client was back in time"
        );
        let end_ns = match (will.cut_ns, silent_ns) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        check!(
            end_ns.is_some(),
            "the will on {who} came although its client is connected"
        );
        let delay_ns = u64::from(will.delay_s.min(will.session_expiry_s)) * NS_PER_S;
        let due_ns = end_ns.map_or(0, |end_ns| end_ns + delay_ns);
        let due_ns = will.cleared_ns.map_or(due_ns, |at| at.min(due_ns));
        // The broker counts in whole milliseconds.
        check!(
            now_ns + 1_000_000 > due_ns,
            "the will on {who} came {} ns early",
            due_ns - now_ns
        );
        Ok(())
    }

    /// At the end: the store holds what was published last.
    pub(super) fn check_retained(
        &self,
        stored: &BTreeMap<String, u32>,
        not_kept: u64,
        now_ns: u64,
        report: &mut Report,
    ) -> Check {
        let mut missing = Vec::new();
        for &topic in self.stores.keys() {
            let name = &self.topics[topic];
            let candidates = self.candidates(topic, u64::MAX);
            match stored.get(name) {
                Some(at) => {
                    check!(
                        candidates.contains(&Some(*at)),
                        "the store holds message {at} on {name}, which is not the last one"
                    );
                    report.note(Feature::RetainedSet);
                }
                None => {
                    let may_be_gone = candidates.iter().any(|candidate| {
                        candidate.is_none_or(|at| self.messages[at as usize].may_be_over(now_ns))
                    });
                    if !may_be_gone {
                        missing.push((name, candidates));
                    }
                }
            }
        }
        check!(
            missing.len() as u64 <= not_kept,
            "retained messages are missing, {not_kept} were not kept: {missing:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn filters_match_as_the_specification_has_it() {
        for (filter, topic, is_match) in [
            ("t/+", "t/0", true),
            ("t/+", "t/a/b", false),
            ("t/#", "t", true),
            ("#", "a/b/c", true),
            ("+", "u", true),
            ("+", "t/0", false),
            ("+/a/b", "t/a/b", true),
            ("t/0", "t/1", false),
        ] {
            assert_eq!(matches(filter, topic), is_match, "{filter} {topic}");
        }
    }
}
