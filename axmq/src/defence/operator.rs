//! Bans as operators see, set and lift them.

use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::Ordering;

use super::bans::{Ban, Bans, Cause, FOR_EVER, Full};
use super::host::IPV6_BITS;
use super::keep::KeptBan;
use super::{Banned, ClientOf, Defence, Host, Ranges, lock, seconds};
use crate::network::Network;

/// Why a ban was not set.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum BanError {
    /// It would hit one that is never banned.
    Exempt(Network),
    /// A part of what is one host here.
    Narrow,
    Full,
}

impl fmt::Display for BanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exempt(network) => write!(
                f,
                "{network} is never banned: it is loopback, a proxy, or in defence.allow"
            ),
            Self::Narrow => write!(
                f,
                "IPv6 addresses are banned by their first {IPV6_BITS} bits, or by fewer"
            ),
            Self::Full => f.write_str("as many are banned as may be (defence.bans)"),
        }
    }
}

/// A ban in force.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) who: Banned,
    pub(crate) cause: Cause,
    pub(crate) times: u8,
    /// `None` for one that never ends.
    pub(crate) ends_in_s: Option<u32>,
}

/// What became of a ban of an earlier run.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Resumed {
    /// It holds on, or is remembered.
    Known,
    /// It has been over for so long that it counts no more.
    Over,
    NoRoom,
}

/// What an address or range stands for.
impl TryFrom<Network> for Banned {
    type Error = BanError;

    fn try_from(network: Network) -> Result<Self, BanError> {
        let (ip, bits) = network.parts();
        match ip {
            IpAddr::V4(_) if bits == 32 => Ok(Self::Host(ip.into())),
            IpAddr::V6(_) if bits == 128 || bits == IPV6_BITS => Ok(Self::Host(ip.into())),
            IpAddr::V6(_) if bits > IPV6_BITS => Err(BanError::Narrow),
            _ => Ok(Self::Network(network)),
        }
    }
}

impl Defence {
    /// Bans an address, or a range, for so many seconds; `None` is for ever. Who that is.
    pub(crate) fn ban(
        &self,
        network: Network,
        for_s: Option<u32>,
        now_ms: u64,
    ) -> Result<Banned, BanError> {
        let who = Banned::try_from(network)?;
        let (ip, _) = network.parts();
        let is_one = matches!(who, Banned::Host(_));
        if ip.is_loopback() || (is_one && self.is_exempt(ip)) {
            return Err(BanError::Exempt(network));
        }
        let now_s = seconds(now_ms);
        let until_s = for_s.map_or(FOR_EVER, |for_s| {
            now_s.saturating_add(for_s).min(FOR_EVER - 1)
        });
        self.place(who.clone(), until_s, 0, Cause::Operator, now_ms)
            .map_err(|Full| BanError::Full)?;
        tracing::warn!(event = "ban.set", %who, seconds = for_s, "by an operator");
        self.state.bans_set.fetch_add(1, Ordering::Relaxed);
        self.follow_ban(&who, until_s, now_s);
        Ok(who)
    }

    /// Puts a ban in its place.
    pub(super) fn place(
        &self,
        who: Banned,
        until_s: u32,
        times: u8,
        cause: Cause,
        now_ms: u64,
    ) -> Result<(), Full> {
        match who {
            Banned::Host(key) => self.change(key, |stripe, _| {
                let ban = Ban::new(key, until_s, times, cause);
                self.put(&mut stripe.hosts, ban, Banned::Host, now_ms)
            }),
            Banned::Client(key) => self.change(key.host, |stripe, _| {
                let ban = Ban::new(key, until_s, times, cause);
                self.put(&mut stripe.clients, ban, Banned::Client, now_ms)
            }),
            Banned::Network(key) => self.change_ranges(|ranges| {
                let ban = Ban::new(key, until_s, times, cause);
                self.put(&mut ranges.bans, ban, Banned::Network, now_ms)
            }),
        }
    }

    fn put<K: Clone + Eq + std::hash::Hash>(
        &self,
        bans: &mut Bans<K>,
        ban: Ban<K>,
        who: impl Fn(K) -> Banned,
        now_ms: u64,
    ) -> Result<(), Full> {
        let result = bans.put(ban.clone(), seconds(now_ms), self.terms());
        self.keep(bans, result.is_ok().then_some(&ban), who);
        result
    }

    /// Goes on with a ban of an earlier run, which has been over for so long, or 0. No connection
    /// of whom it concerns is there yet, and the kernel hears of it when its helper starts.
    pub(crate) fn resume(
        &self,
        who: Banned,
        ban: &KeptBan,
        over_for_ms: u64,
        now_ms: u64,
    ) -> Resumed {
        if over_for_ms / 1_000 >= u64::from(self.terms().length_s(ban.times)) {
            return Resumed::Over;
        }
        match self.place(who, ban.until_s(), ban.times, ban.cause, now_ms) {
            Ok(()) => Resumed::Known,
            Err(Full) => Resumed::NoRoom,
        }
    }

    /// Lifts the ban of an address or a range; whether there was one.
    pub(crate) fn lift(&self, network: Network, now_ms: u64) -> Result<bool, BanError> {
        let who = Banned::try_from(network)?;
        Ok(self.lift_one(who, now_ms))
    }

    /// Lifts the ban of a client of an address; whether there was one.
    pub(crate) fn lift_client(&self, network: Network, id: &str, now_ms: u64) -> bool {
        let (ip, _) = network.parts();
        let host = Host::from(ip);
        let client = ClientOf {
            host,
            id: id.into(),
        };
        self.lift_one(Banned::Client(client), now_ms)
    }

    fn lift_one(&self, who: Banned, now_ms: u64) -> bool {
        let now_s = seconds(now_ms);
        let was = match &who {
            Banned::Host(host) => self.change(*host, |stripe, hash| {
                self.keep_lift(&who);
                stripe.host_scores.empty(hash, host.to_bits());
                stripe.hosts.lift(host, now_s)
            }),
            Banned::Client(client) => self.change(client.host, |stripe, _| {
                self.keep_lift(&who);
                stripe.clients.lift(client, now_s)
            }),
            Banned::Network(network) => self.change_ranges(|ranges| {
                self.keep_lift(&who);
                ranges.bans.lift(network, now_s)
            }),
        };
        if was {
            tracing::warn!(event = "ban.lifted", %who);
            self.follow_lift(&who);
        }
        was
    }

    /// Also where there was none in force: one may be remembered, or have found no room at start.
    fn keep_lift(&self, who: &Banned) {
        if let Some(keep) = self.state.keep.get() {
            keep.lift(who.clone());
        }
    }

    fn change_ranges<T>(&self, change: impl FnOnce(&mut Ranges) -> T) -> T {
        let mut ranges = lock(&self.state.ranges);
        let result = change(&mut ranges);
        let count = ranges.bans.len();
        let mut lengths: Vec<u32> = ranges.bans.iter().map(|ban| ban.key.bits()).collect();
        lengths.sort_unstable();
        lengths.dedup();
        ranges.lengths = lengths;
        // While the lock is held: two changes are counted in their order.
        self.state.networks.store(count, Ordering::Relaxed);
        result
    }

    /// At most so many bans in force, those that end last first, and how many there are. Goes
    /// through all of them, a stripe at a time.
    pub(crate) fn list(&self, most: usize, now_ms: u64) -> (Vec<Listed>, usize) {
        let now_s = seconds(now_ms);
        let mut all: Vec<(u32, Listed)> = Vec::new();
        let mut count = 0;
        let mut take = |until_s: u32, who: Banned, times: u8, cause: Cause| {
            count += 1;
            let ends_in_s = (until_s != FOR_EVER).then(|| until_s - now_s);
            let listed = Listed {
                who,
                cause,
                times,
                ends_in_s,
            };
            all.push((until_s, listed));
            if all.len() >= 2 * most.max(1_024) {
                keep_last(&mut all, most);
            }
        };
        for ban in lock(&self.state.ranges).bans.in_force(now_s) {
            take(ban.until_s, Banned::Network(ban.key), ban.times, ban.cause);
        }
        for stripe in &self.state.stripes {
            let stripe = lock(stripe);
            for ban in stripe.hosts.in_force(now_s) {
                take(ban.until_s, Banned::Host(ban.key), ban.times, ban.cause);
            }
            for ban in stripe.clients.in_force(now_s) {
                let who = Banned::Client(ban.key.clone());
                take(ban.until_s, who, ban.times, ban.cause);
            }
        }
        keep_last(&mut all, most);
        (all.into_iter().map(|(_, listed)| listed).collect(), count)
    }
}

/// The `most` that end last, in that order.
fn keep_last(all: &mut Vec<(u32, Listed)>, most: usize) {
    all.sort_by_key(|(until_s, _)| std::cmp::Reverse(*until_s));
    all.truncate(most);
}
