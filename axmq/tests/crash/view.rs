//! What a subscriber, or a group as a whole, has got of each stream.

use std::time::Instant;

use mqtt_codec::QoS;

use crate::Check;
use crate::ledger::{Judge, Ledger, Purpose};
use crate::subscriber::Arrival;

#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
enum Fate {
    #[default]
    Due,
    /// It came, or PUBREL for it, last at this moment.
    Came(Instant),
    /// It was lost within the bound.
    Lost,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    fates: Vec<Fate>,
    /// All before it came or are lost.
    next: usize,
}

#[derive(Debug)]
pub(crate) struct View {
    name: String,
    purpose: Purpose,
    streams: Vec<Seen>,
}

impl View {
    pub(crate) fn new(name: &str, purpose: Purpose, ledger: &Ledger) -> Self {
        Self {
            name: name.to_owned(),
            purpose,
            streams: vec![Seen::default(); ledger.streams.len()],
        }
    }

    /// A message has come that its receiver takes for a new one.
    pub(crate) fn came(
        &mut self,
        ledger: &Ledger,
        judge: &mut Judge,
        arrival: Arrival,
        at: Instant,
    ) -> Check<()> {
        let Arrival {
            stream,
            number,
            qos,
        } = arrival;
        let of_ledger = &ledger.streams[stream];
        let seen = &mut self.streams[stream];
        seen.fates.resize(of_ledger.sent.len(), Fate::Due);
        let before = std::mem::replace(&mut seen.fates[number], Fate::Came(at));
        if let (Fate::Came(before), QoS::ExactlyOnce) = (before, qos) {
            let acked_at = of_ledger.sent[number].acked_at;
            if !judge.was_open(Some(before)) && !judge.was_open(acked_at) {
                let topic = &of_ledger.topic;
                return Err(format!("{}: {topic} {number} comes twice", self.name));
            }
            judge.doubled += 1;
        }
        if self.purpose == Purpose::Follow {
            self.lose(ledger, judge, stream, number)?;
            let seen = &mut self.streams[stream];
            seen.next = seen.next.max(number + 1);
        }
        Ok(())
    }

    /// What is still due of the messages before this one will not come any more.
    fn lose(&mut self, ledger: &Ledger, judge: &mut Judge, stream: usize, end: usize) -> Check<()> {
        let of_ledger = &ledger.streams[stream];
        let seen = &mut self.streams[stream];
        for number in seen.next..end {
            if seen.fates[number] == Fate::Due {
                judge
                    .lose(of_ledger.qos, &of_ledger.sent[number])
                    .map_err(|why| {
                        format!(
                            "{}: {} {number} is missing: {why}",
                            self.name, of_ledger.topic
                        )
                    })?;
                seen.fates[number] = Fate::Lost;
            }
        }
        Ok(())
    }

    /// PUBREL for a message has come.
    pub(crate) fn released(&mut self, (stream, number): (usize, usize), at: Instant) {
        if let Some(fate) = self.streams[stream].fates.get_mut(number) {
            *fate = Fate::Came(at);
        }
    }

    /// A message of a stream that concerns this view and is still waited for.
    pub(crate) fn is_due(
        &self,
        ledger: &Ledger,
        judge: &Judge,
        concerns: impl Fn(usize) -> bool,
    ) -> Option<String> {
        for (at, stream) in ledger.streams.iter().enumerate() {
            let seen = &self.streams[at];
            if stream.purpose != self.purpose || !concerns(at) {
                continue;
            }
            for number in seen.next..stream.sent.len() {
                let fate = seen.fates.get(number).unwrap_or(&Fate::Due);
                // The order says what a follower will not get. A group has none: what may be lost
                // is not waited for.
                let is_over = self.purpose == Purpose::Share
                    && judge.may_be_lost(stream.qos, &stream.sent[number]);
                if *fate == Fate::Due && !is_over {
                    return Some(format!("{}: {} {number}", self.name, stream.topic));
                }
            }
        }
        None
    }

    /// What nobody of a group has got by now is lost.
    pub(crate) fn settle(&mut self, ledger: &Ledger, judge: &mut Judge) -> Check<()> {
        for (at, stream) in ledger.streams.iter().enumerate() {
            if self.purpose == Purpose::Share && stream.purpose == Purpose::Share {
                let end = stream.sent.len();
                self.streams[at].fates.resize(end, Fate::Due);
                self.lose(ledger, judge, at, end)?;
                self.streams[at].next = end;
            }
        }
        Ok(())
    }
}
