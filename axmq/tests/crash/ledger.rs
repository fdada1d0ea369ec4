//! What was published and acknowledged, and what may be missing after an end of the broker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use mqtt_codec::QoS;

/// What becomes of the messages of a stream.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// All who follow get them.
    Follow,
    /// One member of a group gets each.
    Share,
    /// The last one stays; some remove it.
    Retain,
}

/// What one publisher publishes on one topic, numbered from 0.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    pub(crate) purpose: Purpose,
    pub(crate) sent: Vec<Sent>,
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Sent {
    /// When it was said for the first time.
    pub(crate) said_first_at: Instant,
    /// When PUBACK or PUBREC came.
    pub(crate) acked_at: Option<Instant>,
    /// An empty message, which removes the retained one.
    pub(crate) is_removal: bool,
}

impl Sent {
    /// Moments of which one shortly before a kill explains that it is lost.
    fn moments(&self, qos: QoS) -> impl Iterator<Item = Instant> {
        let said_at = (qos == QoS::ExactlyOnce).then_some(self.said_first_at);
        said_at.into_iter().chain(self.acked_at)
    }
}

/// The payload of a message says which it is; now and then it is large.
fn payload(stream: usize, number: usize) -> Vec<u8> {
    let mix = (stream * 31 + number * 7) % 101;
    let filler = if mix == 0 { 20_000 } else { mix };
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(payload.len() + filler, b'x');
    payload
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) streams: Vec<Stream>,
    by_topic: HashMap<String, usize>,
}

impl Ledger {
    pub(crate) fn add(&mut self, topic: String, qos: QoS, purpose: Purpose) -> usize {
        let at = self.streams.len();
        self.by_topic.insert(topic.clone(), at);
        self.streams.push(Stream {
            topic,
            qos,
            purpose,
            sent: Vec::new(),
        });
        at
    }

    pub(crate) fn payload(&self, stream: usize, number: usize) -> Vec<u8> {
        if self.streams[stream].sent[number].is_removal {
            return Vec::new();
        }
        payload(stream, number)
    }

    /// Which message of which stream this is, if it is one that was sent, and whole.
    pub(crate) fn recognize(&self, topic: &str, bytes: &[u8]) -> Result<(usize, usize), String> {
        let what = || {
            let stream = *self.by_topic.get(topic)?;
            let words = std::str::from_utf8(bytes).ok()?;
            let number: usize = words.split(' ').next()?.parse().ok()?;
            let is_sent = number < self.streams[stream].sent.len();
            (is_sent && payload(stream, number) == bytes).then_some((stream, number))
        };
        what().ok_or_else(|| format!("a message on {topic} that nobody sent: {bytes:.40?}"))
    }
}

/// Judges what is missing.
#[derive(Debug)]
pub(crate) struct Judge {
    /// What was acknowledged so shortly before a kill may be lost. `None`: nothing may.
    pub(crate) bound: Option<Duration>,
    /// When the broker ended, in order of time, and whether it was killed.
    ends: Vec<(Instant, bool)>,
    /// The oldest acknowledgement before a kill that was not honoured.
    pub(crate) worst: Duration,
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
}

impl Judge {
    pub(crate) fn new(bound: Option<Duration>) -> Self {
        Self {
            bound,
            ends: Vec::new(),
            worst: Duration::ZERO,
            lost: 0,
            doubled: 0,
        }
    }

    pub(crate) fn ended(&mut self, was_killed: bool) {
        self.ends.push((Instant::now(), was_killed));
    }

    /// How long before the kill that followed it a moment was.
    fn age(&self, at: Instant) -> Option<Duration> {
        let next = self.ends.partition_point(|(end, _)| *end < at);
        let (end, was_killed) = self.ends.get(next)?;
        was_killed.then(|| *end - at)
    }

    /// Whether what was acknowledged then may be gone now.
    pub(crate) fn may_be_gone(&self, at: Instant) -> bool {
        let (Some(bound), Some(age)) = (self.bound, self.age(at)) else {
            return false;
        };
        age <= bound
    }

    /// Whether something may have been forgotten that was said then, or has not been answered yet.
    pub(crate) fn was_open(&self, at: Option<Instant>) -> bool {
        let last = self.ends.last();
        let is_since = |at| last.is_none_or(|(end, _)| *end < at);
        self.bound.is_some() && at.is_none_or(|at| is_since(at) || self.may_be_gone(at))
    }

    /// Whether a message may be lost: it was acknowledged shortly before a kill. At QoS 2 it is
    /// lost as well where it was said then, the publisher's packet id is on disk and the message
    /// is not: when it is said again, it is taken for a repetition.
    pub(crate) fn may_be_lost(&self, qos: QoS, sent: &Sent) -> bool {
        sent.moments(qos).any(|at| self.may_be_gone(at))
    }

    /// A message is lost.
    pub(crate) fn lose(&mut self, qos: QoS, sent: &Sent) -> Result<(), String> {
        let ages = sent.moments(qos).filter_map(|at| self.age(at));
        let Some(age) = ages.min().filter(|_| self.may_be_lost(qos, sent)) else {
            let ages: Vec<_> = sent.moments(qos).map(|at| self.age(at)).collect();
            return Err(format!(
                "said and acknowledged so long before a kill: {ages:?}"
            ));
        };
        self.lost += 1;
        self.worst = self.worst.max(age);
        Ok(())
    }
}
