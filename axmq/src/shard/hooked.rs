//! Where the hooks of the embedding program are asked.
//!
//! They are called through [`Hooks`](crate::hooks::Hooks), which catches their panics and takes
//! their time: the core itself asks no clock.

use std::sync::Arc;

use mqtt_codec::{PacketId, QoS, ReasonCode, SubscribeFilter, Version};
use slabmem::Key;
use topicmap::{Topic, parse_subscription};

use super::Core;
use crate::events::Cause;
use crate::hooks::{Action, Author, Client, Ending, Judged};
use crate::message::Will;
use crate::publication::{Publication, View};

/// A publish that waits for an acknowledgement: its session, and the quality of service and packet
/// id that its publisher used.
#[derive(Copy, Clone, Debug)]
pub(super) struct Unacknowledged {
    pub(super) session: Key,
    pub(super) qos: QoS,
    pub(super) packet_id: PacketId,
    /// By which the store tells a QoS 2 message of a kept session from another one.
    pub(super) digest: u32,
}

impl<S> Core<S> {
    /// The client of a connection, as hooks see it.
    pub(super) fn client(&self, key: Key) -> Option<Client<'_>> {
        let connection = self.connections.get(key)?;
        let session = self.sessions.get(connection.session)?;
        Some(Client {
            id: &session.client_id,
            peer: connection.peer,
            version: connection.version,
            grant: connection.grant(),
        })
    }

    /// Ends a connection at a moment when that is not possible at once: in the middle of a
    /// delivery, whose scratch space a will would use too.
    fn condemn(&mut self, key: Key, (reason, what): (ReasonCode, &'static str)) {
        self.condemned.push((key, Cause::Policy { reason, what }));
    }

    /// Ends the next condemned connection; `false` where there is none.
    pub(super) fn execute_one(&mut self) -> bool {
        let Some((key, cause)) = self.condemned.pop() else {
            return false;
        };
        self.close(key, cause);
        true
    }

    /// Shows a publish to the hooks and does what they say.
    pub(super) fn accept_judged(
        &mut self,
        key: Key,
        view: &View<'_>,
        topic: &Topic<'_>,
        waits: Option<Unacknowledged>,
    ) {
        let shared = Arc::clone(&self.shared);
        let judged = match self.client(key) {
            Some(client) => {
                let limits = &shared.topic_limits;
                shared
                    .hooks
                    .judge_publish(&client, view, limits, self.now_ms, false)
            }
            None => return,
        };
        match judged {
            Judged::Pass(None) => self.accept(key, view, topic, waits),
            Judged::Pass(Some(edited)) => {
                self.with_topic_of(&edited, |core, topic| {
                    core.accept(key, &edited.view(), topic, waits);
                });
            }
            Judged::Discard => self.refuse_publish(key, waits, ReasonCode::Success),
            Judged::Refuse(reason) => self.refuse_publish(key, waits, reason),
            Judged::Disconnect(reason, what) => {
                self.counters.publishes_refused += 1;
                self.close(key, Cause::Policy { reason, what });
            }
        }
    }

    fn with_topic_of(&mut self, edited: &Publication, then: impl FnOnce(&mut Self, &Topic<'_>)) {
        let shared = Arc::clone(&self.shared);
        let view = edited.view();
        match Topic::parse(view.topic(), &shared.topic_limits) {
            Ok(topic) => then(self, &topic),
            Err(_) => debug_assert!(false, "a draft takes only legal topics"),
        }
    }

    /// Acknowledges a message that goes nowhere. MQTT 3.x knows no refusal: either the message is
    /// acknowledged or the connection ends [MQTT-3.3.5-2].
    pub(super) fn refuse_publish(
        &mut self,
        key: Key,
        waits: Option<Unacknowledged>,
        reason: ReasonCode,
    ) {
        self.counters.publishes_refused += 1;
        let Some(waits) = waits else {
            return;
        };
        let is_v5 = self
            .connections
            .get(key)
            .is_some_and(|connection| connection.version == Version::V5);
        let Some(session) = self.sessions.get_mut(waits.session) else {
            return;
        };
        let incoming = &mut session.flow().incoming;
        if is_v5 && reason.is_error() {
            incoming.refuse(waits.qos, waits.packet_id, reason);
        } else {
            incoming.begin(waits.qos, waits.packet_id, 0);
        }
        self.settle_incoming(waits.session);
    }

    /// What the hooks make of a will that is to be published; `None` where nothing is left.
    pub(super) fn judge_will(&self, session: Key, will: &Will) -> Option<Option<Publication>> {
        let hooks = &self.shared.hooks;
        if !hooks.sees_publishes() {
            return Some(None);
        }
        // Of a will from an earlier run it may not be known who wrote it: then nobody may.
        let (session, author) = (self.sessions.get(session)?, will.author.as_deref()?);
        let client = author.client(&session.client_id);
        let view = will.publication.view();
        match hooks.judge_publish(&client, &view, &self.shared.topic_limits, self.now_ms, true) {
            Judged::Pass(edited) => Some(edited),
            Judged::Discard | Judged::Refuse(_) | Judged::Disconnect(..) => None,
        }
    }

    /// Whether a message may go out on a connection.
    pub(super) fn may_deliver(
        &mut self,
        key: Key,
        view: &View<'_>,
        qos: QoS,
        retain: bool,
    ) -> bool {
        let judged = match self.client(key) {
            Some(client) => self
                .shared
                .hooks
                .judge_delivery(&client, view.topic(), qos, retain),
            None => return false,
        };
        let may = match judged {
            Ok(may) => may,
            Err(end) => {
                self.condemn(key, end);
                false
            }
        };
        if !may {
            self.counters.dropped_not_authorized += 1;
        }
        may
    }

    /// Whether a subscription may be made; the error is for SUBACK. `None` where the connection has
    /// been closed.
    pub(super) fn may_subscribe(
        &mut self,
        key: Key,
        wanted: &SubscribeFilter<'_>,
    ) -> Option<Result<(), ReasonCode>> {
        if !self.shared.hooks.sees_subscriptions() {
            return Some(Ok(()));
        }
        let Ok(subscription) = parse_subscription(wanted.filter, &self.shared.topic_limits) else {
            // It is refused for what it is.
            return Some(Ok(()));
        };
        let action = Action::Subscribe {
            filter: subscription.filter().as_str(),
            group: subscription.group(),
            qos: wanted.qos,
        };
        match self
            .shared
            .hooks
            .judge_subscribe(&self.client(key)?, &action)
        {
            Ok(may) => Some(may),
            Err((reason, what)) => {
                self.close(key, Cause::Policy { reason, what });
                None
            }
        }
    }

    /// Tells of a new connection.
    pub(super) fn tell_connected(&mut self, key: Key, session_present: bool) {
        if !self.shared.hooks.sees_connections() {
            return;
        }
        let told = match self.client(key) {
            Some(client) => self.shared.hooks.connected(&client, session_present),
            None => return,
        };
        if let Err(end) = told {
            self.condemn(key, end);
        }
    }

    /// Tells of the end of a connection.
    pub(super) fn tell_disconnected(&self, key: Key, cause: &Cause) {
        let hooks = &self.shared.hooks;
        if hooks.sees_connections()
            && let Some(client) = self.client(key)
        {
            hooks.disconnected(&client, &Ending::new(cause));
        }
    }

    /// What a will's publication needs to know of its connection, where a hook asks for it, in this
    /// run or after a restart.
    pub(super) fn author(&self, key: Key) -> Option<Box<Author>> {
        if !self.shared.hooks.sees_publishes() && !self.journal.is_on() {
            return None;
        }
        let connection = self.connections.get(key)?;
        Some(Box::new(Author {
            peer: connection.peer,
            version: connection.version,
            grant: connection
                .extras
                .as_deref()
                .and_then(|extras| extras.grant.clone()),
        }))
    }
}
