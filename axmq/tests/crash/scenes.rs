//! A round: the broker starts, everything is looked at, everybody is busy, the broker ends.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::broker::Broker;
use crate::ledger::Purpose;
use crate::stage::{Presence, SUBSCRIBERS, Stage};
use crate::{Check, PATIENCE};

impl Stage {
    fn next(&mut self, what: impl Fn(&Self) -> String) -> Check<()> {
        match self.news.recv_timeout(PATIENCE) {
            Ok(news) => self.hear(news),
            Err(_) => Err(format!("nothing comes any more; missing: {}", what(self))),
        }
    }

    fn connect(&mut self, who: usize, address: SocketAddr, clean_start: bool) -> Check<()> {
        self.client(who).connect(address, clean_start)
    }

    /// Looks at everything after a start: each client goes on with what it had, publishers add a
    /// message to each stream, and when that has come, all before it has.
    pub(crate) fn settle(&mut self, address: SocketAddr) -> Check<()> {
        self.settled += 1;
        self.is_settling = true;
        self.observer.begin(&self.ledger, &self.judge);
        for n in 0..self.subscribers.len() {
            self.come(n, address)?;
        }
        for n in 0..self.wanderers.len() {
            self.wanderers[n].begin();
            self.connect(self.wanderers[n].client.who, address, false)?;
        }
        self.connect(self.observer.client.who, address, true)?;
        // First all who receive, so that nothing is published that a new one would not get.
        while let Some(name) = self.not_ready() {
            self.next(|_| name.clone())?;
        }
        for n in 0..self.publishers.len() {
            self.connect(self.publishers[n].client.who, address, false)?;
        }
        while let Some(name) = self.not_accepted() {
            self.next(|_| name.clone())?;
        }
        self.connect(self.prober.who, address, true)?;
        for publisher in &mut self.publishers {
            for stream in publisher.streams.clone() {
                if self.ledger.streams[stream].purpose != Purpose::Retain {
                    publisher.publish(&mut self.ledger, stream, false);
                }
            }
        }
        while self.is_due().is_some() {
            self.next(|stage| stage.is_due().unwrap_or_default())?;
        }
        self.settle_views()?;
        self.is_settling = false;
        Ok(())
    }

    fn come(&mut self, subscriber: usize, address: SocketAddr) -> Check<()> {
        let subscriber = &mut self.subscribers[subscriber];
        subscriber.forget_owed();
        subscriber.client.connect(address, false)
    }

    fn not_ready(&self) -> Option<String> {
        let subscribers = self.subscribers.iter().map(|subscriber| &subscriber.client);
        let wanderers = self.wanderers.iter().map(|wanderer| &wanderer.client);
        let observer = &self.observer;
        let mut of_sessions = subscribers.chain(wanderers);
        let found = of_sessions.find(|client| !client.is_up || !client.has_session);
        let found = found.or_else(|| (!observer.is_ready).then_some(&observer.client));
        found.map(|client| format!("the subscription of {}", client.name))
    }

    fn not_accepted(&self) -> Option<String> {
        let mut clients = self.publishers.iter().map(|publisher| &publisher.client);
        let found = clients.find(|client| !client.is_up || !client.has_session);
        found.map(|client| format!("the session of {}", client.name))
    }

    /// Everybody is busy until so many publishes were acknowledged, and a moment longer.
    pub(crate) fn work(&mut self, address: SocketAddr) -> Check<()> {
        for (n, (.., presence)) in SUBSCRIBERS.iter().enumerate() {
            if *presence == Presence::Away {
                self.go(n);
            }
        }
        let end = self.acks + 20 + self.dice.below(300);
        while self.acks < end {
            if let Ok(news) = self.news.try_recv() {
                self.hear(news)?;
                continue;
            }
            let has_room = self.publishers.iter().any(|publisher| publisher.has_room());
            if has_room {
                self.act(address)?;
            } else {
                self.next(|_| "any acknowledgement".to_owned())?;
            }
        }
        let moment = Duration::from_micros(self.dice.below(5_000) as u64);
        let until = Instant::now() + moment;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.news.recv_timeout(left) {
                Ok(news) => self.hear(news)?,
                Err(_) => return Ok(()),
            }
        }
    }

    fn go(&mut self, subscriber: usize) {
        let in_order = self.dice.is_one_in(2);
        let client = &mut self.subscribers[subscriber].client;
        if in_order {
            client.leave();
        } else {
            client.cut();
        }
    }

    fn act(&mut self, address: SocketAddr) -> Check<()> {
        match self.dice.below(100) {
            0..=1 => {
                let n = self.dice.below(self.publishers.len());
                self.connect(self.publishers[n].client.who, address, false)
            }
            2..=4 => {
                let n = self.dice.below(self.subscribers.len());
                if SUBSCRIBERS[n].4 == Presence::Stays {
                    return Ok(());
                }
                if self.subscribers[n].client.is_connected() {
                    self.go(n);
                    return Ok(());
                }
                self.come(n, address)
            }
            5..=9 => {
                let n = self.dice.below(self.wanderers.len());
                self.wanderers[n].wander(&mut self.dice);
                Ok(())
            }
            10..=29 => {
                let n = self.dice.below(self.subscribers.len());
                self.subscribers[n].acknowledge_some(&mut self.dice);
                Ok(())
            }
            _ => {
                let n = self.dice.below(self.publishers.len());
                let publisher = &mut self.publishers[n];
                if publisher.has_room() {
                    let stream = publisher.streams[self.dice.below(publisher.streams.len())];
                    let of_ledger = &self.ledger.streams[stream];
                    let may_remove = of_ledger.purpose == Purpose::Retain;
                    let is_removal = may_remove && self.dice.is_one_in(4);
                    publisher.publish(&mut self.ledger, stream, is_removal);
                }
                Ok(())
            }
        }
    }

    /// Ends the broker; what it said before is heard.
    pub(crate) fn end(&mut self, broker: Broker, signal: Signal) -> Check<()> {
        self.is_ending = true;
        broker.signal(signal);
        let connected =
            |stage: &mut Self| (0..stage.clients()).any(|who| stage.client(who).is_connected());
        while connected(self) {
            self.next(|_| "the ends of connections".to_owned())?;
        }
        broker.end()?;
        self.judge.ended(signal == Signal::KILL);
        self.is_ending = false;
        Ok(())
    }
}
