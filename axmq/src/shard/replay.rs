//! Retained messages for a new subscription, in slices, so that one that matches a million of them
//! holds up nobody.

use std::collections::HashSet;
use std::sync::Arc;

use slabmem::Key;
use topicmap::Filter;

use super::Core;
use super::deliver::Wanted;
use crate::retained::Position;
use crate::route::SubscriptionOptions;

/// Stored topics that are looked at in one slice.
const NODES_PER_SLICE: usize = 64;

/// A subscription that is still getting its retained messages.
#[derive(Debug)]
pub(super) struct Replay {
    session: Key,
    filter: Box<str>,
    options: SubscriptionOptions,
    position: Position,
    /// Topics whose newer message has gone out live in the meantime: the stored one would be older.
    live: HashSet<Box<str>>,
    /// Waits for the subscriber to take what it has.
    is_blocked: bool,
}

impl<S> Core<S> {
    /// Begins the replay for a subscription; where little matches it is over at once.
    pub(super) fn replay(
        &mut self,
        session: Key,
        filter: &Filter<'_>,
        options: SubscriptionOptions,
    ) {
        if self.shared.retained.len() == 0 {
            return;
        }
        let replay = Replay {
            session,
            filter: filter.as_str().into(),
            options,
            position: Position::default(),
            live: HashSet::new(),
            is_blocked: false,
        };
        self.step(replay);
    }

    fn step(&mut self, mut replay: Replay) {
        let shared = Arc::clone(&self.shared);
        let Ok(filter) = Filter::parse(&replay.filter, &shared.topic_limits) else {
            return;
        };
        let Replay {
            session,
            options,
            ref live,
            ..
        } = replay;
        let is_over = shared.retained.scan(
            &filter,
            &mut replay.position,
            NODES_PER_SLICE,
            self.now_ms,
            &shared.topic_limits,
            |publication| {
                let view = publication.view();
                if live.contains(view.topic()) {
                    return;
                }
                let identifier = [options.identifier];
                let wanted = Wanted {
                    qos: view.qos().min(options.qos),
                    // [MQTT-3.3.1-8]
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
                self.images.begin();
                self.deliver_to(session, &view, &wanted, &mut None);
            },
        );
        if is_over || planted!(RetainedLost) {
            self.finish_replay(session);
            return;
        }
        replay.is_blocked = self.is_backed_up(session);
        if let Some(session) = self.sessions.get_mut(session) {
            session.is_replaying = true;
            self.replays.push_back(replay);
        }
    }

    /// Whether the subscriber has to take what it has before it gets more.
    fn is_backed_up(&self, session: Key) -> bool {
        let soft = self.shared.limits.out_queue_soft_bytes as usize;
        let Some(session) = self.sessions.get(session) else {
            return false;
        };
        session
            .connection
            .and_then(|key| self.connections.get(key))
            .is_some_and(|connection| connection.out.bytes() >= soft)
    }

    fn finish_replay(&mut self, session: Key) {
        let goes_on = self.replays.iter().any(|replay| replay.session == session);
        if let Some(session) = self.sessions.get_mut(session) {
            session.is_replaying = goes_on;
        }
    }

    /// The subscription is withdrawn, or replaced by one that has a replay of its own: nothing more
    /// is sent for it [MQTT-3.10.4-2].
    pub(super) fn end_replays(&mut self, session: Key, filter: &Filter<'_>) {
        let before = self.replays.len();
        self.replays
            .retain(|replay| replay.session != session || *replay.filter != *filter.as_str());
        if self.replays.len() < before {
            self.finish_replay(session);
        }
    }

    /// The subscription is replaced by one that asks for no stored messages: what is under way for
    /// the old one is not lost [MQTT-3.8.4-4], and goes on as the new one has it.
    pub(super) fn change_replays(
        &mut self,
        session: Key,
        filter: &Filter<'_>,
        options: SubscriptionOptions,
    ) {
        for replay in &mut self.replays {
            if replay.session == session && *replay.filter == *filter.as_str() {
                replay.options = options;
            }
        }
    }

    /// Whether a replay can go on.
    pub(super) fn has_replay(&self) -> bool {
        self.replays.iter().any(|replay| !replay.is_blocked)
    }

    /// A slice of one replay; `false` where none can go on.
    pub(crate) fn replay_one(&mut self) -> bool {
        let Some(at) = self.replays.iter().position(|replay| !replay.is_blocked) else {
            return false;
        };
        if let Some(replay) = self.replays.remove(at)
            && self.sessions.contains(replay.session)
        {
            self.step(replay);
        }
        true
    }

    /// A message with the RETAIN flag was published to a session that is being replayed to. Where
    /// it was dropped, the stored one is what brings the subscriber up to date.
    pub(super) fn note_live(&mut self, session: Key, topic: &str, is_queued: bool) {
        for replay in self
            .replays
            .iter_mut()
            .filter(|replay| replay.session == session)
        {
            if !is_queued {
                replay.live.remove(topic);
            } else if !replay.live.contains(topic) {
                replay.live.insert(topic.into());
            }
        }
    }

    /// The subscriber has taken what it had.
    pub(super) fn unblock_replay(&mut self, session: Key) {
        if self
            .sessions
            .get(session)
            .is_some_and(|session| session.is_replaying)
        {
            for replay in self
                .replays
                .iter_mut()
                .filter(|replay| replay.session == session)
            {
                replay.is_blocked = false;
            }
        }
    }
}
