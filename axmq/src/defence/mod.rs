//! Keeping out who does harm: strikes by address and by client, and bans.
//!
//! All threads share one [`Defence`]. Fronts ask it about each connection that they accept, which
//! costs an atomic load while nobody is banned, and else a hash and a look-up behind a lock that is
//! one of [`STRIPES`]. Messages never come here. The tables ([`Bans`], [`Buckets`]) know neither
//! lock nor clock.

mod bans;
mod buckets;
mod fights;
mod follow;
mod host;
mod keep;
mod kernel;
mod offence;
mod operator;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use pollio::PeerAddr;

pub(crate) use self::bans::Cause as BanCause;
use self::bans::{Ban, Bans, Full, Terms};
use self::buckets::Buckets;
use self::fights::Fights;
pub(crate) use self::fights::TakeOver;
pub(crate) use self::host::Host;
pub(crate) use self::keep::{BanChange, KeptBan};
use self::keep::{Counts, Keep};
pub(crate) use self::kernel::Kernel;
use self::kernel::Orders;
pub(crate) use self::offence::Offence;
#[cfg(test)]
use self::operator::BanError;
pub(crate) use self::operator::{Listed, Resumed};
use crate::config::{Config, DefenceSettings};
use crate::events::LogBudget;
use crate::keyed_hash::KeyedHash;
use crate::network::Network;

/// Locks, so that fronts do not wait for each other.
const STRIPES: usize = 16;
/// Ranges that operators may ban at a time.
const NETWORKS_MAX: usize = 10_000;

/// A client behind an address. What another address does under the same client id is not its fault.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub(crate) struct ClientOf {
    pub(crate) host: Host,
    pub(crate) id: Box<str>,
}

/// Who is banned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Banned {
    Host(Host),
    Network(Network),
    Client(ClientOf),
}

impl fmt::Display for Banned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Network(network) => network.fmt(f),
            Self::Client(client) => write!(f, "{:?} at {}", client.id, client.host),
        }
    }
}

/// An offence of a client that has been let in.
#[derive(Clone, Debug)]
pub(crate) struct Charge {
    pub(crate) peer: PeerAddr,
    pub(crate) client_id: Box<str>,
    pub(crate) offence: Offence,
}

/// What follows from the configuration.
#[derive(Debug, Default)]
struct Policy {
    settings: DefenceSettings,
    /// Who is never banned.
    exempt: Vec<Network>,
    /// Connections that one address may open in a second, 0 for any number, and how many at once.
    connects_per_s: u32,
    burst_ms: u32,
}

#[derive(Debug)]
struct Stripe {
    hosts: Bans<Host>,
    clients: Bans<ClientOf>,
    host_scores: Buckets,
    client_scores: Buckets,
    connects: Buckets,
}

/// Ranges, and which lengths of prefixes they have.
#[derive(Debug)]
struct Ranges {
    bans: Bans<Network>,
    lengths: Vec<u32>,
}

type Close = Box<dyn Fn(&Banned) + Send + Sync>;

struct State {
    hasher: KeyedHash,
    stripes: [Mutex<Stripe>; STRIPES],
    ranges: Mutex<Ranges>,
    /// What is in the tables, so that nobody takes a lock for an empty one.
    hosts: AtomicUsize,
    clients: AtomicUsize,
    networks: AtomicUsize,
    offences: [AtomicU64; Offence::ALL.len()],
    bans_set: AtomicU64,
    bans_refused: AtomicU64,
    turned_away: AtomicU64,
    too_fast: AtomicU64,
    /// Bans that did not reach the kernel.
    kernel_lost: Arc<AtomicU64>,
    clients_turned_away: AtomicU64,
    log: Mutex<LogBudget>,
    fights: Fights,
    close: OnceLock<Close>,
    kernel: OnceLock<Orders>,
    kept: Arc<Counts>,
    keep: OnceLock<Keep>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("hosts", &self.hosts)
            .field("clients", &self.clients)
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

/// See the module. Clones share what is known; a reload makes one with another policy.
#[derive(Clone, Debug)]
pub(crate) struct Defence {
    policy: Arc<Policy>,
    state: Arc<State>,
}

fn seconds(now_ms: u64) -> u32 {
    u32::try_from(now_ms / 1_000).unwrap_or(u32::MAX - 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A table is whole between any two of its operations.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Defence {
    /// One that keeps nobody out by itself.
    pub(crate) fn off(hasher: &KeyedHash) -> Self {
        let settings = DefenceSettings {
            enabled: false,
            ..DefenceSettings::default()
        };
        let stripe = |_| {
            Mutex::new(Stripe {
                hosts: Bans::new(hasher.clone(), 0),
                clients: Bans::new(hasher.clone(), 0),
                host_scores: Buckets::new(0),
                client_scores: Buckets::new(0),
                connects: Buckets::new(0),
            })
        };
        let state = State {
            hasher: hasher.clone(),
            stripes: std::array::from_fn(stripe),
            ranges: Mutex::new(Ranges {
                bans: Bans::new(hasher.clone(), NETWORKS_MAX),
                lengths: Vec::new(),
            }),
            hosts: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            networks: AtomicUsize::new(0),
            offences: [const { AtomicU64::new(0) }; Offence::ALL.len()],
            bans_set: AtomicU64::new(0),
            bans_refused: AtomicU64::new(0),
            turned_away: AtomicU64::new(0),
            too_fast: AtomicU64::new(0),
            kernel_lost: Arc::default(),
            clients_turned_away: AtomicU64::new(0),
            log: Mutex::default(),
            fights: Fights::default(),
            close: OnceLock::new(),
            kernel: OnceLock::new(),
            kept: Arc::default(),
            keep: OnceLock::new(),
        };
        let defence = Self {
            policy: Arc::default(),
            state: Arc::new(state),
        };
        defence.with_policy(Policy {
            settings,
            ..Policy::default()
        })
    }

    /// The same under the policy of a configuration.
    pub(crate) fn with_config(&self, config: &Config) -> Self {
        let proxies = config.listeners.iter().flat_map(|listener| {
            let rules = &listener.rules;
            [&rules.proxy_protocol_from, &rules.forwarded_for_from]
        });
        // Checked with the configuration; what an embedding program sets may be anything.
        let exempt = proxies
            .chain([&config.defence.allow])
            .flat_map(|list| Network::parse_list(list).unwrap_or_default())
            .collect();
        self.with_policy(Policy {
            settings: config.defence.clone(),
            exempt,
            connects_per_s: config.rates.address_connects_per_s,
            burst_ms: config.rates.burst_ms,
        })
    }

    fn with_policy(&self, policy: Policy) -> Self {
        let settings = &policy.settings;
        let share = |all: u32| all.div_ceil(STRIPES as u32) as usize;
        for stripe in &self.state.stripes {
            let mut stripe = lock(stripe);
            stripe.hosts.set_max(share(settings.bans));
            stripe.clients.set_max(share(settings.bans));
            stripe.host_scores.set_max(share(settings.scores));
            stripe.client_scores.set_max(share(settings.scores));
            stripe.connects.set_max(share(settings.scores));
        }
        Self {
            policy: Arc::new(policy),
            state: Arc::clone(&self.state),
        }
    }

    pub(crate) fn settings(&self) -> &DefenceSettings {
        &self.policy.settings
    }

    fn terms(&self) -> Terms {
        Terms {
            first_s: self.policy.settings.ban_s,
            most_s: self.policy.settings.ban_max_s,
        }
    }

    fn stripe(&self, host: Host) -> (u64, MutexGuard<'_, Stripe>) {
        let hash = self.state.hasher.hash_one(host);
        // The tables take the lowest bits.
        let at = (hash >> 60) as usize % STRIPES;
        (hash, lock(&self.state.stripes[at]))
    }

    /// Whether nothing that comes from there is ever held against it.
    pub(crate) fn is_exempt(&self, ip: IpAddr) -> bool {
        let exempt = &self.policy.exempt;
        ip.is_loopback() || exempt.iter().any(|network| network.contains(ip))
    }

    /// Whether a peer is looked at at all.
    pub(crate) fn watches(&self, peer: &PeerAddr) -> bool {
        self.policy.settings.enabled && peer.ip().is_some_and(|ip| !self.is_exempt(ip))
    }

    /// Whether connections from there are not wanted now; counts those.
    pub(crate) fn turns_away(&self, peer: &PeerAddr, now_ms: u64) -> bool {
        let state = &*self.state;
        let has_hosts = state.hosts.load(Ordering::Relaxed) > 0;
        let has_networks = state.networks.load(Ordering::Relaxed) > 0;
        if !has_hosts && !has_networks {
            return false;
        }
        let Some(ip) = peer.ip() else { return false };
        let now_s = seconds(now_ms);
        let host = Host::from(ip);
        let is_banned = (has_hosts && self.stripe(host).1.hosts.of(&host, now_s).is_some())
            || (has_networks && self.is_in_banned_range(ip, now_s));
        // Looked at last: hardly anybody comes so far.
        let turns_away = is_banned && !self.is_exempt(ip);
        if turns_away {
            state.turned_away.fetch_add(1, Ordering::Relaxed);
        }
        turns_away
    }

    fn is_in_banned_range(&self, ip: IpAddr, now_s: u32) -> bool {
        let ranges = lock(&self.state.ranges);
        let mut lengths = ranges.lengths.iter();
        lengths.any(|bits| ranges.bans.of(&Network::around(ip, *bits), now_s).is_some())
    }

    /// Whether one more connection from there is too many for this second; counts it if so.
    pub(crate) fn comes_too_fast(&self, peer: &PeerAddr, now_ms: u64) -> bool {
        let Policy {
            connects_per_s: rate,
            burst_ms,
            ..
        } = *self.policy;
        if rate == 0 {
            return false;
        }
        let Some(ip) = peer.ip().filter(|ip| !self.is_exempt(*ip)) else {
            return false;
        };
        let host = Host::from(ip);
        let amount_us = (1_000_000 / u64::from(rate)).max(1);
        // One at a time has to be possible, whatever the burst.
        let most_us = (u64::from(burst_ms) * 1_000).max(amount_us);
        let (hash, mut stripe) = self.stripe(host);
        let key = host.to_bits();
        let connects = &mut stripe.connects;
        let is_too_fast = !connects.pour_within(hash, key, now_ms * 1_000, amount_us, most_us);
        drop(stripe);
        if is_too_fast {
            let count = &self.state.too_fast;
            count.fetch_add(1, Ordering::Relaxed);
            self.offend(peer, None, Offence::Fruitless, now_ms);
        }
        is_too_fast
    }

    /// Whether this client of that address is banned; counts it if so.
    pub(crate) fn turns_away_client(&self, peer: &PeerAddr, id: &str, now_ms: u64) -> bool {
        if self.state.clients.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let Some(ip) = peer.ip() else { return false };
        let host = Host::from(ip);
        let client = ClientOf {
            host,
            id: id.into(),
        };
        let (_, stripe) = self.stripe(host);
        let is_banned = stripe.clients.of(&client, seconds(now_ms)).is_some();
        drop(stripe);
        let turns_away = is_banned && !self.is_exempt(ip);
        if turns_away {
            let count = &self.state.clients_turned_away;
            count.fetch_add(1, Ordering::Relaxed);
        }
        turns_away
    }

    /// Holds against a client, and its address, what it did.
    pub(crate) fn charge(&self, charge: &Charge, now_ms: u64) {
        let client = Some(&*charge.client_id);
        self.offend(&charge.peer, client, charge.offence, now_ms);
    }

    /// Holds an offence against an address, and against the client where it is known which; bans
    /// whoever it was once too often.
    pub(crate) fn offend(
        &self,
        peer: &PeerAddr,
        client: Option<&str>,
        offence: Offence,
        now_ms: u64,
    ) {
        let (Some(ip), true) = (peer.ip(), self.watches(peer)) else {
            return;
        };
        if let Some(count) = self.state.offences.get(offence as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let host = Host::from(ip);
        let client = client.filter(|id| !id.is_empty());
        let settings = &self.policy.settings;
        let strike_us = u64::from(settings.strike_s) * 1_000_000;
        // The strike that makes them too many need not have waited for an older one to be forgiven.
        let limit_us = strike_us * u64::from(settings.strikes.saturating_sub(1));
        let (now_us, now_s) = (now_ms * 1_000, seconds(now_ms));
        let weight = offence.weight(client.is_some());
        let (of_client, of_host) = self.change(host, |stripe, hash| {
            let of_client = client.filter(|_| weight.client > 0).and_then(|id| {
                let key = self.state.hasher.hash_one((host, id));
                let amount_us = strike_us * weight.client / 100;
                let scores = &mut stripe.client_scores;
                is_too_much(scores, key, key, now_us, amount_us, limit_us).then(|| {
                    let id = id.into();
                    let client = ClientOf { host, id };
                    let clients = &mut stripe.clients;
                    let banned = clients.punish(client, now_s, self.terms(), offence);
                    self.keep(clients, banned.as_ref().ok(), Banned::Client);
                    banned
                })
            });
            let key = host.to_bits();
            let amount_us = strike_us * weight.host / 100;
            let scores = &mut stripe.host_scores;
            let of_host = is_too_much(scores, hash, key, now_us, amount_us, limit_us).then(|| {
                let hosts = &mut stripe.hosts;
                let banned = hosts.punish(host, now_s, self.terms(), offence);
                self.keep(hosts, banned.as_ref().ok(), Banned::Host);
                banned
            });
            (of_client, of_host)
        });
        if let Some(result) = of_client {
            self.announce(result, Banned::Client, offence, now_ms);
        }
        if let Some(result) = of_host {
            self.announce(result, Banned::Host, offence, now_ms);
        }
    }

    /// Changes what is known about a host; with its hash.
    fn change<T>(&self, host: Host, change: impl FnOnce(&mut Stripe, u64) -> T) -> T {
        let (hash, mut stripe) = self.stripe(host);
        let before = (stripe.hosts.len(), stripe.clients.len());
        let result = change(&mut stripe, hash);
        let after = (stripe.hosts.len(), stripe.clients.len());
        // Wrapping, so that a difference may be negative. While the lock is held: who finds nobody
        // counted comes before whoever is put in here.
        let add = |count: &AtomicUsize, before: usize, after: usize| {
            if before != after {
                count.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            }
        };
        add(&self.state.hosts, before.0, after.0);
        add(&self.state.clients, before.1, after.1);
        result
    }

    /// Says what became of somebody who went too far, and has it acted on.
    fn announce<K>(
        &self,
        result: Result<Ban<K>, Full>,
        who: impl FnOnce(K) -> Banned,
        offence: Offence,
        now_ms: u64,
    ) {
        let mut log = lock(&self.state.log);
        match result {
            Ok(ban) => {
                self.state.bans_set.fetch_add(1, Ordering::Relaxed);
                let who = who(ban.key);
                if log.allows(now_ms, "ban.set", "") {
                    tracing::warn!(
                        event = "ban.set",
                        %who,
                        seconds = ban.until_s.saturating_sub(seconds(now_ms)),
                        times = ban.times,
                        "for {}",
                        offence.name()
                    );
                }
                drop(log);
                self.follow_ban(&who, ban.until_s, seconds(now_ms));
            }
            Err(Full) => {
                self.state.bans_refused.fetch_add(1, Ordering::Relaxed);
                if log.allows(now_ms, "ban.refused", "") {
                    tracing::warn!(
                        event = "ban.refused",
                        "as many are banned as may be (defence.bans)"
                    );
                }
            }
        }
    }

    /// What the tables take of memory.
    pub(crate) fn heap_bytes(&self) -> u64 {
        let state = &*self.state;
        let stripes = state.stripes.iter().map(|stripe| {
            let stripe = lock(stripe);
            let scores = [&stripe.host_scores, &stripe.client_scores, &stripe.connects];
            stripe.hosts.heap_bytes()
                + stripe.clients.heap_bytes()
                + scores.map(Buckets::heap_bytes).iter().sum::<u64>()
        });
        let ranges = lock(&state.ranges).bans.heap_bytes();
        stripes.sum::<u64>() + ranges + state.fights.heap_bytes()
    }

    /// Counters and gauges by name.
    pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let state = &*self.state;
        let offences = Offence::ALL.iter().zip(&state.offences);
        let offences = offences.map(|(offence, count)| (offence.counter(), count));
        let others = [
            ("bans_set", &state.bans_set),
            ("bans_refused", &state.bans_refused),
            ("banned_connections", &state.turned_away),
            ("connects_too_fast", &state.too_fast),
            ("kernel_bans_lost", &*state.kernel_lost),
            ("bans_not_kept", &state.kept.lost),
            ("takeover_fights", &state.fights.noticed),
            ("connects_delayed", &state.fights.delayed),
            ("banned_clients_refused", &state.clients_turned_away),
        ];
        offences
            .chain(others)
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

/// Pours into a bucket, and empties it if that was too much.
fn is_too_much(
    scores: &mut Buckets,
    hash: u64,
    key: u64,
    now_us: u64,
    amount_us: u64,
    limit_us: u64,
) -> bool {
    let is_too_much = scores.pour(hash, key, now_us, amount_us) > limit_us;
    if is_too_much {
        scores.empty(hash, key);
    }
    is_too_much
}
