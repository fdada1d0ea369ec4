//! Subscribers of `$SYS/`: the values of the broker, and who comes and goes.
//!
//! A subscriber gets all that match at once, with the RETAIN flag, as if they were stored; then
//! what changes, once an interval, while one of this shard's subscribers is connected. With none
//! there is no timer.

use std::sync::Arc;

use mqtt_codec::QoS;
use slabmem::Key;
use timerwheel::TimerKey;
use topicmap::{Filter, Topic};

use super::deliver::Wanted;
use super::{Core, Timer};
use crate::events::{Cause, ProtocolName};
use crate::message::ConnectInfo;
use crate::publication::{Parts, Publication};
use crate::route::SubscriptionOptions;
use crate::sys_topics::{Globals, Tree, is_sys, level_of};

/// What a shard knows of its subscribers.
#[derive(Debug, Default)]
pub(super) struct Sys {
    /// Sessions with a filter under `$SYS/`.
    subscribers: Vec<Key>,
    timer: Option<TimerKey>,
    /// What they were told last.
    told: Option<Arc<Tree>>,
}

impl<S> Core<S> {
    /// A subscription was made; before its SUBACK, so that nothing after that is missed.
    pub(super) fn sys_watch(&mut self, session: Key, filter: &Filter<'_>) {
        if !is_sys(filter.as_str()) || self.sys.subscribers.contains(&session) {
            return;
        }
        if self.sys.subscribers.is_empty() {
            self.shared.sys.watch(true);
        }
        self.sys.subscribers.push(session);
        self.sys_arm();
    }

    /// A session has a filter less, or has ended.
    pub(super) fn sys_unwatch(&mut self, session: Key) {
        if !self.sys.subscribers.contains(&session) || self.has_sys_filter(session) {
            return;
        }
        self.sys.subscribers.retain(|other| *other != session);
        if self.sys.subscribers.is_empty() {
            self.sys_rest();
        }
    }

    /// Nobody is left to be told.
    fn sys_rest(&mut self) {
        self.shared.sys.watch(false);
        self.sys.told = None;
        if let Some(timer) = self.sys.timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// A session has got a connection.
    pub(super) fn sys_attached(&mut self, session: Key) {
        if self.sys.subscribers.contains(&session) {
            self.sys_arm();
        }
    }

    fn sys_arm(&mut self) {
        if self.sys.timer.is_none()
            && let Some(interval_ms) = self.shared.sys.interval_ms()
        {
            let timer = self
                .timers
                .insert(self.now_ms + interval_ms, Timer::SysTopics);
            self.sys.timer = Some(timer);
        }
    }

    fn sys_tree(&mut self) -> Arc<Tree> {
        self.store_figures();
        let shared = &self.shared;
        let globals = Globals {
            retained: shared.retained.len(),
            retained_bytes: shared.retained.bytes(),
            connections_peak: shared.connections_peak(),
        };
        shared.sys.tree(&shared.figures, globals, self.now_ms)
    }

    /// The values for a new subscription, after its SUBACK.
    pub(super) fn sys_replay(
        &mut self,
        session: Key,
        filter: &Filter<'_>,
        options: SubscriptionOptions,
    ) {
        if !is_sys(filter.as_str()) {
            return;
        }
        let tree = self.sys_tree();
        let limits = self.shared.topic_limits;
        let identifier = [options.identifier];
        let wanted = Wanted {
            qos: QoS::AtMostOnce,
            retain: true,
            dup: false,
            packet_id: None,
            identifiers: if options.identifier == 0 {
                &[]
            } else {
                &identifier
            },
            dealing: None,
            number: None,
        };
        for (name, value) in tree.iter() {
            if Topic::parse(name, &limits).is_ok_and(|topic| filter.matches(&topic)) {
                let publication = value_of(name, value);
                self.images.begin();
                self.deliver_to(session, &publication.view(), &wanted, &mut None);
            }
        }
        self.sys.told.get_or_insert(tree);
    }

    #[cfg(test)]
    pub(crate) fn sys_subscribers(&self) -> usize {
        self.sys.subscribers.len()
    }

    /// The interval is over.
    pub(super) fn sys_due(&mut self) {
        self.sys.timer = None;
        let is_connected = |key: &Key| {
            self.sessions
                .get(*key)
                .is_some_and(|session| session.connection.is_some())
        };
        if self.sys.subscribers.iter().any(is_connected) {
            self.sys_tell();
            self.sys_arm();
        }
    }

    fn has_sys_filter(&self, session: Key) -> bool {
        self.sessions.get(session).is_some_and(|session| {
            let mut texts = session
                .filters
                .iter()
                .filter_map(|id| self.topics.filter_text(id));
            texts.any(is_sys)
        })
    }

    /// Tells this shard's subscribers what has changed. Every shard tells its own.
    fn sys_tell(&mut self) {
        self.end_run();
        let tree = self.sys_tree();
        let told = self.sys.told.replace(Arc::clone(&tree)).unwrap_or_default();
        for (name, value) in tree.changes(&told) {
            let publication = value_of(name, value);
            let limits = self.shared.topic_limits;
            if let Ok(topic) = Topic::parse(name, &limits) {
                let route = self.look_up(&topic);
                self.deliver_route(&publication.view(), &route);
            }
        }
    }

    pub(super) fn sys_connected(
        &mut self,
        connect: &ConnectInfo,
        peer: pollio::PeerAddr,
        session_present: bool,
    ) {
        let payload = serde_json::json!({
            "client": &*connect.client_id,
            "peer": peer.to_string(),
            "protocol": ProtocolName(connect.version).to_string(),
            "clean_start": connect.clean_start,
            "keep_alive_s": connect.keep_alive_s,
            "session_expiry_s": connect.session_expiry_s,
            "session_present": session_present,
        });
        self.sys_announce(&connect.client_id, "connected", &payload.to_string());
    }

    pub(super) fn sys_disconnected(
        &mut self,
        client_id: &str,
        peer: pollio::PeerAddr,
        cause: &Cause,
    ) {
        let payload = serde_json::json!({
            "client": client_id,
            "peer": peer.to_string(),
            "by": cause.ended_by().name(),
            "reason": cause.reason() as u8,
            "clause": cause.clause(),
            "why": cause.to_string(),
        });
        self.sys_announce(client_id, "disconnected", &payload.to_string());
    }

    fn sys_announce(&mut self, client_id: &str, what: &str, payload: &str) {
        let name = format!("$SYS/broker/clients/{}/{what}", level_of(client_id));
        let parts = Parts {
            topic: &name,
            properties: std::iter::empty(),
            payload: payload.as_bytes(),
            // What a subscriber was granted decides.
            qos: QoS::ExactlyOnce,
            retain: false,
            expires_at_ms: 0,
        };
        let limits = self.shared.topic_limits;
        // A client id with nearly 65,535 bytes makes no topic.
        if let Ok(topic) = Topic::parse(&name, &limits) {
            let publication = Publication::from_parts(parts, None);
            self.route(&publication.view(), &topic, None);
        }
    }
}

/// A value as a publication. At QoS 0: what is out of date in an interval waits for nobody.
fn value_of(topic: &str, value: &str) -> Publication {
    let parts = Parts {
        topic,
        properties: std::iter::empty(),
        payload: value.as_bytes(),
        qos: QoS::AtMostOnce,
        retain: true,
        expires_at_ms: 0,
    };
    Publication::from_parts(parts, None)
}
