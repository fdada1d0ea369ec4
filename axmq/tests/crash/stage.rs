//! All who take part, and what they do between two ends of the broker.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use mqtt_codec::{PacketId, PacketType, QoS, Version};

use crate::Check;
use crate::dice::Dice;
use crate::extras::{ALL_RETAINED, FILTERS, Observer, Wanderer, id, probe};
use crate::ledger::{Judge, Ledger, Purpose};
use crate::link::{Client, Heard, Message, News};
use crate::publisher::Publisher;
use crate::subscriber::Subscriber;
use crate::view::View;

const PUBLISHERS: usize = 4;

/// Subscribers: version, filter, QoS, receive maximum, and whether they are there while others
/// publish.
pub(crate) const SUBSCRIBERS: &[(Version, &str, QoS, Option<u16>, Presence)] = &[
    (Version::V5, "s/#", QoS::ExactlyOnce, None, Presence::Stays),
    (
        Version::V311,
        "s/#",
        QoS::ExactlyOnce,
        None,
        Presence::Varies,
    ),
    (
        Version::V5,
        "s/+/2",
        QoS::ExactlyOnce,
        Some(8),
        Presence::Away,
    ),
    (
        Version::V311,
        "s/+/1",
        QoS::AtLeastOnce,
        None,
        Presence::Varies,
    ),
    (
        Version::V5,
        "s/#",
        QoS::AtLeastOnce,
        Some(20),
        Presence::Away,
    ),
    (
        Version::V5,
        "$share/g/x/#",
        QoS::ExactlyOnce,
        None,
        Presence::Stays,
    ),
    (
        Version::V311,
        "$share/g/x/#",
        QoS::ExactlyOnce,
        None,
        Presence::Varies,
    ),
];

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Presence {
    Stays,
    Varies,
    Away,
}

/// What a number of a client stands for.
#[derive(Copy, Clone, Debug)]
enum Role {
    Publisher(usize),
    Subscriber(usize),
    Wanderer(usize),
    Observer,
    Prober,
}

pub(crate) struct Stage {
    pub(crate) dice: Dice,
    pub(crate) news: Receiver<News>,
    pub(crate) ledger: Ledger,
    pub(crate) judge: Judge,
    roles: Vec<Role>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    /// One for each follower, and one for the group.
    views: Vec<View>,
    pub(crate) wanderers: Vec<Wanderer>,
    pub(crate) observer: Observer,
    pub(crate) prober: Client,
    /// How often all has been looked at.
    pub(crate) settled: usize,
    /// Everybody acknowledges at once.
    pub(crate) is_settling: bool,
    pub(crate) is_ending: bool,
    /// Acknowledgements that publishers have got.
    pub(crate) acks: usize,
    pub(crate) arrivals: usize,
}

fn version(n: usize) -> Version {
    [Version::V5, Version::V311][n % 2]
}

impl Stage {
    pub(crate) fn new(seed: u64, bound: Option<Duration>) -> Self {
        let (sender, news) = channel();
        let mut ledger = Ledger::default();
        let mut roles = Vec::new();
        let mut client = |role, name: &str, version| {
            roles.push(role);
            Client::new(roles.len() - 1, name, version, &sender)
        };
        let publishers = (0..PUBLISHERS).map(|p| {
            let mut add = |letter, qos, purpose| {
                ledger.add(format!("{letter}/{p}/{}", qos as u8), qos, purpose)
            };
            let mut streams = Vec::new();
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                streams.push(add("s", qos, Purpose::Follow));
                streams.push(add("x", qos, Purpose::Share));
                streams.push(add("r", qos, Purpose::Retain));
            }
            let client = client(Role::Publisher(p), &format!("publisher-{p}"), version(p));
            Publisher::new(client, streams, p < PUBLISHERS / 2)
        });
        let publishers: Vec<_> = publishers.collect();
        let subscribers = SUBSCRIBERS.iter().enumerate();
        let subscribers = subscribers.map(|(n, &(version, filter, qos, receive_maximum, _))| {
            let name = format!("subscriber-{n}");
            let mut client = client(Role::Subscriber(n), &name, version);
            client.receive_maximum = receive_maximum;
            Subscriber::new(client, filter, qos)
        });
        let subscribers: Vec<_> = subscribers.collect();
        let wanderers = (0..2).map(|n| {
            let name = format!("wanderer-{n}");
            Wanderer::new(client(Role::Wanderer(n), &name, version(n)))
        });
        let wanderers = wanderers.collect();
        let observer = client(Role::Observer, "observer", Version::V5);
        let prober = client(Role::Prober, "prober", Version::V5);
        let view = |subscriber: &Subscriber| {
            let is_member = subscriber.filter.starts_with('$');
            let purpose = if is_member {
                Purpose::Share
            } else {
                Purpose::Follow
            };
            View::new(&subscriber.client.name, purpose, &ledger)
        };
        Self {
            dice: Dice::new(seed),
            news,
            judge: Judge::new(bound),
            views: subscribers.iter().map(view).collect(),
            observer: Observer::new(observer, &ledger),
            ledger,
            roles,
            publishers,
            subscribers,
            wanderers,
            prober,
            settled: 0,
            is_settling: false,
            is_ending: false,
            acks: 0,
            arrivals: 0,
        }
    }

    pub(crate) fn client(&mut self, who: usize) -> &mut Client {
        match self.roles[who] {
            Role::Publisher(n) => &mut self.publishers[n].client,
            Role::Subscriber(n) => &mut self.subscribers[n].client,
            Role::Wanderer(n) => &mut self.wanderers[n].client,
            Role::Observer => &mut self.observer.client,
            Role::Prober => &mut self.prober,
        }
    }

    pub(crate) fn clients(&self) -> usize {
        self.roles.len()
    }

    /// Members of the group share the view of the first.
    fn view_of(&self, subscriber: usize) -> usize {
        let filter = &self.subscribers[subscriber].filter;
        let mut same = self.subscribers.iter();
        let first = same.position(|other| other.filter.starts_with('$') && other.filter == *filter);
        first.unwrap_or(subscriber)
    }

    pub(crate) fn hear(&mut self, news: News) -> Check<()> {
        let News {
            who,
            link,
            at,
            heard,
        } = news;
        let is_ending = self.is_ending;
        let client = self.client(who);
        if link != client.link || !client.is_connected() {
            return Ok(());
        }
        match heard {
            Heard::End(why) => {
                client.ended();
                if is_ending {
                    return Ok(());
                }
                Err(format!("{} is disconnected: {why}", client.name))
            }
            Heard::Accepted { session_present } => {
                client.accepted(session_present)?;
                self.accepted(who);
                Ok(())
            }
            Heard::Message(message) => self.message(who, &message, at),
            Heard::Ack { kind, id, reason } => self.ack(who, (kind, id, reason), at),
        }
    }

    fn accepted(&mut self, who: usize) {
        let role = self.roles[who];
        let filter = match role {
            Role::Publisher(n) => format!("own/{n}"),
            Role::Subscriber(n) => self.subscribers[n].filter.clone(),
            Role::Wanderer(n) => self.wanderers[n].last_topic(),
            Role::Observer => ALL_RETAINED.to_owned(),
            Role::Prober => String::new(),
        };
        let qos = match role {
            Role::Subscriber(n) => self.subscribers[n].qos,
            _ => QoS::AtLeastOnce,
        };
        let client = self.client(who);
        if !client.has_session && !filter.is_empty() {
            client.subscribe(&filter, qos, id(1));
        } else if let Role::Publisher(n) = role {
            self.publishers[n].accepted(&self.ledger);
        } else if let Role::Prober = role {
            self.probe();
        }
    }

    fn probe(&mut self) {
        let mut topics = Vec::new();
        for wanderer in &self.wanderers {
            topics.extend((0..=FILTERS).map(|filter| wanderer.topic(filter)));
        }
        for (n, topic) in topics.iter().enumerate() {
            probe(&mut self.prober, topic, self.settled, n + 1);
        }
    }

    fn message(&mut self, who: usize, message: &Message, at: Instant) -> Check<()> {
        match self.roles[who] {
            Role::Subscriber(n) => {
                let view = self.view_of(n);
                let subscriber = &mut self.subscribers[n];
                if let Some(arrival) = subscriber.hears(&self.ledger, message)? {
                    self.arrivals += 1;
                    self.views[view].came(&self.ledger, &mut self.judge, arrival, at)?;
                }
                self.acknowledge(n);
                Ok(())
            }
            Role::Wanderer(n) => self.wanderers[n].hears(&self.judge, message, self.settled),
            Role::Observer => self.observer.hears(&self.ledger, message),
            Role::Publisher(_) | Role::Prober => Err(format!(
                "{} gets a message on {}, without a subscription",
                self.client(who).name,
                message.topic
            )),
        }
    }

    /// At once, or when the dice say so.
    fn acknowledge(&mut self, subscriber: usize) {
        let subscriber = &mut self.subscribers[subscriber];
        if self.is_settling {
            subscriber.acknowledge_all();
        } else if self.dice.is_one_in(4) {
            subscriber.acknowledge_some(&mut self.dice);
        }
    }

    fn ack(&mut self, who: usize, ack: (PacketType, PacketId, u8), at: Instant) -> Check<()> {
        let (kind, id, reason) = ack;
        if matches!(kind, PacketType::SubAck | PacketType::UnsubAck) {
            let client = self.client(who);
            if reason >= 0x80 {
                return Err(format!(
                    "{}: subscription refused: {reason:#x}",
                    client.name
                ));
            }
            let is_first = id == crate::extras::id(1);
            match self.roles[who] {
                Role::Observer => self.observer.is_ready = true,
                Role::Wanderer(n) if !is_first => self.wanderers[n].acknowledged(id, at),
                _ => self.client(who).has_session = true,
            }
            return Ok(());
        }
        match self.roles[who] {
            Role::Publisher(n) => {
                self.acks += usize::from(kind != PacketType::PubComp);
                self.publishers[n].acknowledged(&mut self.ledger, ack, at)
            }
            Role::Subscriber(n) if kind == PacketType::PubRel => {
                if let Some(released) = self.subscribers[n].released(id) {
                    let view = self.view_of(n);
                    self.views[view].released(released, at);
                }
                self.acknowledge(n);
                Ok(())
            }
            Role::Prober if kind == PacketType::PubAck => Ok(()),
            _ => Err(format!("{}: {kind:?} for {id}", self.client(who).name)),
        }
    }

    /// Something that is still to come before all is as it should be.
    pub(crate) fn is_due(&self) -> Option<String> {
        if let Some(publisher) = self
            .publishers
            .iter()
            .find(|publisher| !publisher.is_idle())
        {
            return Some(format!("acknowledgements for {}", publisher.client.name));
        }
        let lags = |wanderer: &&Wanderer| wanderer.probed < self.settled;
        if let Some(wanderer) = self.wanderers.iter().find(lags) {
            return Some(format!("the last probe for {}", wanderer.client.name));
        }
        let views = self.views.iter().enumerate().find_map(|(n, view)| {
            let filter = &self.subscribers[n].filter;
            let is_of_filter = |stream: usize| {
                let last = filter.chars().last();
                last == Some('#') || self.ledger.streams[stream].topic.chars().last() == last
            };
            let is_shown = self.view_of(n) == n;
            is_shown
                .then(|| view.is_due(&self.ledger, &self.judge, is_of_filter))
                .flatten()
        });
        views.or_else(|| self.observer.is_due(&self.ledger))
    }

    /// What of a group has not come will not come any more.
    pub(crate) fn settle_views(&mut self) -> Check<()> {
        for n in 0..self.views.len() {
            if self.view_of(n) == n {
                self.views[n].settle(&self.ledger, &mut self.judge)?;
            }
        }
        Ok(())
    }
}
