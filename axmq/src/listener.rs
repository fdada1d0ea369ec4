//! A listener as the threads see it: what its clients may do, and how many of them there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pollio::PeerAddr;
use topicmap::{Subscription, parse_subscription};

use crate::config::{Listener, ListenerRules, list};
use crate::network::Network;
use crate::tls::Tls;
use crate::transport::{Door, Layers, WebRules};

/// The value of `connections` that bounds nothing.
const UNBOUNDED: u64 = u32::MAX as u64;

/// A listener's rules; a reload makes a new one with the same seats.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerState {
    /// `None` where they take nothing away, which then costs nothing.
    rules: Option<Arc<ListenerRules>>,
    /// Who connects for others, saying so by a PROXY header; empty where everybody comes himself.
    proxies: Arc<[Network]>,
    /// What lies between its sockets and MQTT, where anything does.
    door: Option<Arc<Door>>,
    tls: Option<Arc<Tls>>,
    taken: Arc<AtomicU64>,
    connections_max: u64,
}

/// A connection's place among those of its listener; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat(Arc<AtomicU64>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All seats are taken.
#[derive(Copy, Clone, Debug)]
pub(crate) struct NoSeat;

/// A connection that is not from a proxy, where only those connect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoProxy;

impl ListenerState {
    pub(crate) fn new(listener: &Listener) -> Self {
        Self::default().with_rules(&listener.rules)
    }

    /// The same listener under other rules.
    pub(crate) fn with_rules(&self, rules: &ListenerRules) -> Self {
        let is_default = *rules == ListenerRules::default();
        Self {
            rules: (!is_default).then(|| Arc::new(rules.clone())),
            // Checked with the configuration; what an embedding program sets may be anything.
            proxies: Network::parse_list(&rules.proxy_protocol_from)
                .unwrap_or_default()
                .into(),
            door: door(rules, self.tls.as_deref()).map(Arc::new),
            tls: self.tls.clone(),
            taken: Arc::clone(&self.taken),
            connections_max: rules.connections,
        }
    }

    /// The same listener with TLS as this is ready.
    pub(crate) fn with_tls(self, tls: Option<Arc<Tls>>) -> Self {
        let default = ListenerRules::default();
        let rules = self.rules.as_deref().unwrap_or(&default);
        Self {
            door: door(rules, tls.as_deref()).map(Arc::new),
            tls,
            ..self
        }
    }

    /// Its TLS, where it has any.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// The rules, where they are not the default ones.
    pub(crate) fn rules(&self) -> Option<&Arc<ListenerRules>> {
        self.rules.as_ref()
    }

    /// What lies between a new socket from there and MQTT, where anything does; `place` is this
    /// listener's in the configuration.
    pub(crate) fn layers(&self, peer: &PeerAddr, place: usize) -> Option<Box<Layers>> {
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        Layers::new(self.door.as_deref()?, peer.ip(), place)
    }

    /// Whether a connection from there begins with a PROXY header.
    ///
    /// # Errors
    ///
    /// [`NoProxy`] where one has to, and this is nobody who may write one.
    pub(crate) fn expects_proxy_header(&self, peer: &PeerAddr) -> Result<bool, NoProxy> {
        if self.proxies.is_empty() {
            return Ok(false);
        }
        let is_proxy = |ip| self.proxies.iter().any(|network| network.contains(ip));
        match peer.ip() {
            Some(ip) if is_proxy(ip) => Ok(true),
            _ => Err(NoProxy),
        }
    }

    /// A place for one more connection; `None` where they are not counted. Those that came while
    /// there was no limit do not count under one that a reload brings.
    ///
    /// # Errors
    ///
    /// [`NoSeat`].
    pub(crate) fn take_seat(&self) -> Result<Option<Seat>, NoSeat> {
        if self.connections_max >= UNBOUNDED {
            return Ok(None);
        }
        // Several fronts may take the last one at once; whoever is beyond it gives it back.
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(&self.taken));
        if taken < self.connections_max {
            Ok(Some(seat))
        } else {
            Err(NoSeat)
        }
    }
}

fn door(rules: &ListenerRules, tls: Option<&Tls>) -> Option<Door> {
    let web = rules.websocket.then(|| {
        Arc::new(WebRules {
            path: rules.websocket_path.as_str().into(),
            origins: list(&rules.websocket_origins).map(Into::into).collect(),
            // As for the proxies above.
            proxies: Network::parse_list(&rules.forwarded_for_from).unwrap_or_default(),
            frame_bytes_max: rules.websocket_frame_bytes,
        })
    });
    let tls = tls.map(|tls| Arc::clone(&tls.config));
    (web.is_some() || tls.is_some()).then_some(Door { tls, web })
}

/// The filter that a client means under a mount point; of a shared subscription the part behind the
/// name of the group. A filter that is none comes back as it is, to be refused as that.
pub(crate) fn mounted_filter(mount: &str, filter: &str, limits: &topicmap::Limits) -> String {
    match parse_subscription(filter, limits) {
        Ok(Subscription::Plain(_)) => format!("{mount}{filter}"),
        Ok(Subscription::Shared(shared)) => {
            let inner = shared.filter.as_str();
            let head = filter.strip_suffix(inner).unwrap_or_default();
            format!("{head}{mount}{inner}")
        }
        Err(_) => filter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(connections: u64) -> ListenerState {
        let rules = ListenerRules {
            connections,
            ..ListenerRules::default()
        };
        ListenerState::default().with_rules(&rules)
    }

    #[test]
    fn seats_are_counted_and_given_back_also_over_a_reload() {
        let before = listener(2);
        let first = before.take_seat().expect("there are two");
        assert!(first.is_some());
        let after = before.with_rules(&ListenerRules {
            connections: 1,
            ..ListenerRules::default()
        });
        assert!(after.take_seat().is_err(), "the one is taken");
        drop(first);
        assert!(after.take_seat().is_ok_and(|seat| seat.is_some()));
        assert!(after.take_seat().is_ok(), "it was given back at once");
    }

    #[test]
    fn default_rules_cost_nothing() {
        let state = ListenerState::default().with_rules(&ListenerRules::default());
        assert!(state.rules().is_none());
        assert!(state.take_seat().is_ok_and(|seat| seat.is_none()));
    }

    #[test]
    fn a_mount_point_comes_before_the_filter_of_a_group() {
        let limits = topicmap::Limits::default();
        for (filter, mounted) in [
            ("a/+", "site/a/+"),
            ("$SYS/#", "site/$SYS/#"),
            ("$share/g/a/#", "$share/g/site/a/#"),
            ("a/#/b", "a/#/b"),
        ] {
            assert_eq!(mounted_filter("site/", filter, &limits), mounted);
        }
    }
}
