//! Who publishes what, and who must get it.

use crate::fail::Failure;

/// All messages of one publisher on one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The topic.
    pub topic: String,
    /// The publisher.
    pub publisher: u32,
    /// How many subscribers must get each message.
    pub fanout: u32,
}

/// A subscriber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// What it asks for.
    pub filter: String,
    /// The streams it must get, in order.
    pub streams: Vec<u32>,
}

/// A scenario before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The name of the scenario and its numbers, for people.
    pub title: String,
    /// The number of publishers.
    pub publishers: u32,
    /// The streams; the number of a stream is its place.
    pub streams: Vec<Stream>,
    /// The subscribers.
    pub subscribers: Vec<Subscriber>,
    /// Filters that nothing matches.
    pub idle_filters: u32,
    /// Whether streams take turns in a random order.
    pub shuffled: bool,
}

fn count(parsed: &crate::args::Parsed, name: &str, default: u32) -> Result<u32, Failure> {
    match parsed.number(name, default)? {
        count @ 1..=1_000_000 => Ok(count),
        _ => Err(Failure::usage(format!("--{name} is between 1 and 1000000"))),
    }
}

impl Plan {
    /// `publishers` on one topic that all `subscribers` get.
    #[must_use]
    pub fn fanout(publishers: u32, subscribers: u32, topic: &str) -> Self {
        let stream = |publisher| Stream {
            topic: topic.to_owned(),
            publisher,
            fanout: subscribers,
        };
        let all = Subscriber {
            filter: topic.to_owned(),
            streams: (0..publishers).collect(),
        };
        Self {
            title: format!("fanout {publishers} -> {subscribers}"),
            publishers,
            streams: (0..publishers).map(stream).collect(),
            subscribers: vec![all; subscribers as usize],
            idle_filters: 0,
            shuffled: false,
        }
    }

    /// Pairs of a publisher and a subscriber, with a topic each.
    #[must_use]
    pub fn pairs(count: u32) -> Self {
        let topic = |at| format!("bench/nn/{at}");
        let subscriber = |at| Subscriber {
            filter: topic(at),
            streams: vec![at],
        };
        Self {
            title: format!("pairs {count}"),
            publishers: count,
            streams: (0..count)
                .map(|at| Stream {
                    topic: topic(at),
                    publisher: at,
                    fanout: 1,
                })
                .collect(),
            subscribers: (0..count).map(subscriber).collect(),
            idle_filters: 0,
            shuffled: false,
        }
    }

    /// 10,000 topics and 1,000 subscribers with exact, `+` and `#` filters, mean fan-out 6.
    #[must_use]
    pub fn wild(publishers: u32, idle_filters: u32) -> Self {
        let topic = |n: u32| {
            let (site, line, cell, value) = (n / 1_000, n / 100 % 10, n / 10 % 10, n % 10);
            format!("plant/{site}/line/{line}/cell/{cell}/value/{value}")
        };
        // Spread over the plant by a step that has no factor in common with 10,000.
        let place = |n: u32| n * 7_919 % 10_000;
        let filter = |n: u32| {
            let at = place(n);
            let (site, line, cell, value) = (at / 1_000, at / 100 % 10, at / 10 % 10, at % 10);
            match n {
                0..502 => topic(at),
                502..652 => format!("plant/{site}/line/{line}/cell/{cell}/value/+"),
                652..752 => format!("plant/{site}/line/+/cell/{cell}/value/{value}"),
                752..964 => format!("plant/{site}/line/{line}/#"),
                964..980 => format!("plant/{site}/#"),
                _ => format!("plant/+/line/+/cell/+/value/{value}"),
            }
        };
        let mut streams: Vec<Stream> = (0..10_000)
            .map(|n| Stream {
                topic: topic(n),
                publisher: n % publishers,
                fanout: 0,
            })
            .collect();
        let mut subscribers = Vec::new();
        for n in 0..1_000 {
            let filter = filter(n);
            let mut wanted = Vec::new();
            for (at, stream) in streams.iter_mut().enumerate() {
                if matches(&filter, &stream.topic) {
                    stream.fanout += 1;
                    wanted.push(at as u32);
                }
            }
            subscribers.push(Subscriber {
                filter,
                streams: wanted,
            });
        }
        Self {
            title: format!("wild {publishers} -> 1000, {idle_filters} idle subscriptions"),
            publishers,
            streams,
            subscribers,
            idle_filters,
            shuffled: true,
        }
    }

    /// Reads the options of `fanout`.
    ///
    /// # Errors
    ///
    /// If a number makes no sense.
    pub fn read_fanout(parsed: &crate::args::Parsed) -> Result<Self, Failure> {
        let topic = parsed.last("topic").unwrap_or("bench/1");
        Ok(Self::fanout(
            count(parsed, "pubs", 1)?,
            count(parsed, "subs", 10)?,
            topic,
        ))
    }

    /// Reads the options of `pairs`.
    ///
    /// # Errors
    ///
    /// If a number makes no sense.
    pub fn read_pairs(parsed: &crate::args::Parsed) -> Result<Self, Failure> {
        Ok(Self::pairs(count(parsed, "count", 1_000)?))
    }

    /// Reads the options of `wild`.
    ///
    /// # Errors
    ///
    /// If a number makes no sense.
    pub fn read_wild(parsed: &crate::args::Parsed) -> Result<Self, Failure> {
        let idle = parsed.number("idle-subs", 0_u32)?;
        if idle > 10_000_000 {
            return Err(Failure::usage("--idle-subs is at most 10000000"));
        }
        Ok(Self::wild(count(parsed, "pubs", 10)?.min(10_000), idle))
    }

    /// The mean of the streams' fan-outs, at least 1.
    #[must_use]
    pub fn mean_fanout(&self) -> f64 {
        let sum: u64 = self
            .streams
            .iter()
            .map(|stream| u64::from(stream.fanout))
            .sum();
        (sum as f64 / self.streams.len().max(1) as f64).max(1.0)
    }

    /// Publishes in flight end to end, if the command line does not say.
    #[must_use]
    pub fn usual_window(&self) -> u64 {
        match (self.publishers, self.subscribers.len()) {
            (pubs, subs) if self.streams.len() > 1 && pubs as usize == subs && pubs > 10 => {
                u64::from(pubs)
            }
            (_, 500..) if !self.shuffled => 64,
            (1_000.., _) => u64::from(self.publishers),
            (50.., 1) => 2_048,
            _ => 512,
        }
    }
}

/// Whether a filter matches a topic that has no `$`, level by level.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_fan_out_of_wild_is_six() {
        let plan = Plan::wild(10, 0);
        assert!(
            (5.9..6.1).contains(&plan.mean_fanout()),
            "{}",
            plan.mean_fanout()
        );
        assert_eq!(plan.subscribers.len(), 1_000);
        assert!(
            plan.subscribers
                .iter()
                .all(|subscriber| !subscriber.streams.is_empty())
        );
        assert!(
            plan.subscribers
                .iter()
                .all(|subscriber| subscriber.streams.is_sorted())
        );
    }

    #[test]
    fn filters_match_by_levels() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/+", "a/b", true),
            ("a/+", "a/b/c", false),
            ("a/+", "a", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("#", "a", true),
            ("+/b", "a/b", true),
            ("a", "a/b", false),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn windows_are_those_of_the_targets() {
        for (plan, window) in [
            (Plan::fanout(1, 10, "t"), 512),
            (Plan::fanout(10, 10, "t"), 512),
            (Plan::fanout(100, 1, "t"), 2_048),
            (Plan::fanout(1, 1_000, "t"), 64),
            (Plan::fanout(4_000, 10, "t"), 4_000),
            (Plan::pairs(1_000), 1_000),
            (Plan::wild(10, 0), 512),
        ] {
            assert_eq!(plan.usual_window(), window, "{}", plan.title);
        }
    }
}
