//! Clients that publish faster than they, or their user, may: not read until they have waited, or
//! disconnected.

use std::hash::BuildHasher;
use std::sync::Arc;

use mqtt_codec::ReasonCode;
use slabmem::Key;
use timerwheel::TimerKey;

use super::connection::{State, flag};
use super::{Core, Timer};
use crate::config::Exceeded;
use crate::events::Cause;
use crate::hooks::Grant;
use crate::rates::{Exceeding, Rates, Taken, TakenByUser};

/// Clients of one shard that are remembered for having gone while they owed something.
const OWING_MAX: usize = 16 * 1_024;

/// What a client that publishes has taken; only where rates are bounded.
#[derive(Debug)]
pub(crate) struct Meter {
    taken: Taken,
    user: Option<Arc<TakenByUser>>,
    /// While it waits.
    timer: Option<TimerKey>,
}

impl<S> Core<S> {
    /// Something is to be done about each publish: memory is short, or rates are bounded. One flag,
    /// so that a publish for which there is nothing to do looks at one.
    pub(super) fn set_gate(&mut self) {
        self.is_gated = self.holds_publishers() || self.shared.rates.bounds_publishes();
    }

    /// A client has published so many bytes; whether they go any further.
    pub(super) fn gate(&mut self, key: Key, bytes: usize) -> bool {
        if self.holds_publishers() {
            // This one has been read; it is the last for now.
            self.hold(key);
        }
        if self.shared.rates.bounds_publishes() {
            self.count_publish(key, bytes);
        }
        self.connections
            .get(key)
            .is_some_and(|connection| connection.state() == State::Connected)
    }

    fn count_publish(&mut self, key: Key, bytes: usize) {
        let (shared, now_ms) = (&self.shared, self.now_ms);
        let (sessions, owing) = (&self.sessions, &mut self.owing);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let extras = connection.extras.get_or_insert_default();
        let meter = extras.meter.get_or_insert_with(|| {
            let user = extras.grant.as_deref().and_then(Grant::identity);
            let user = user.filter(|_| shared.rates.bounds_users());
            let users_max = shared.rates.users as usize;
            let client_id = sessions.get(connection.session).map(|it| &*it.client_id);
            let taken = client_id.and_then(|id| owing.remove(&shared.hasher.hash_one(id)));
            Box::new(Meter {
                taken: taken.unwrap_or_default(),
                user: user.map(|user| shared.users.of(user, users_max, now_ms)),
                timer: None,
            })
        });
        meter
            .taken
            .take(Rates::of_client(&shared.rates), bytes, now_ms);
        if let Some(user) = &meter.user {
            user.take(Rates::of_user(&shared.rates), bytes, now_ms);
        }
        self.judge_rate(key);
    }

    /// What a client, or its user, has exceeded, and milliseconds to wait.
    fn excess(&self, key: Key) -> Option<(Exceeding, u64)> {
        let extras = self.connections.get(key)?.extras.as_deref()?;
        let meter = extras.meter.as_deref()?;
        let rates = &self.shared.rates;
        let own = meter.taken.exceeds(Rates::of_client(rates), self.now_ms);
        let user = meter.user.as_ref();
        let of_user = user.and_then(|user| user.exceeds(Rates::of_user(rates), self.now_ms));
        own.into_iter().chain(of_user).max_by_key(|(_, ms)| *ms)
    }

    /// A client has published: stops reading from it where it has to wait, or disconnects it.
    fn judge_rate(&mut self, key: Key) {
        if self.shared.rates.exceeded == Exceeded::Slow {
            self.hold_owing(key);
        } else if let Some((exceeding, _)) = self.excess(key) {
            self.counters.clients_too_fast += 1;
            self.close(key, too_fast(exceeding));
        }
    }

    /// Stops reading from a client that has to wait. One that has hung up is read to its end: that
    /// is no more than the kernel holds. Where too much disconnects, whoever else is of the same
    /// user does not wait for it.
    pub(super) fn hold_owing(&mut self, key: Key) {
        if self.shared.rates.exceeded == Exceeded::Disconnect {
            return;
        }
        let Some((_, wait_ms)) = self.excess(key) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.has(flag::HUNG_UP) {
            return;
        }
        if let Some(meter) = meter_of(connection.extras.as_deref_mut())
            && meter.timer.is_none()
        {
            let timer = Timer::Rate(key);
            meter.timer = Some(self.timers.insert(self.now_ms + wait_ms, timer));
            self.counters.publishers_slowed += 1;
        }
        self.pause(key);
    }

    /// There are other rates: nobody waits for what the old ones wanted.
    pub(super) fn forget_waits(&mut self) {
        for (_, connection) in self.connections.iter_mut() {
            let meter = meter_of(connection.extras.as_deref_mut());
            if let Some(timer) = meter.and_then(|meter| meter.timer.take()) {
                self.timers.cancel(timer);
            }
        }
        self.resume_paused();
    }

    /// A client has waited.
    pub(super) fn rate_due(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(meter) = meter_of(connection.extras.as_deref_mut())
        {
            meter.timer = None;
            // Its user may have published elsewhere in the meantime: reading finds out.
            self.resume_reading(key);
        }
    }

    /// A connection ends: nobody waits for it any more, but what its client owes is remembered, so
    /// that it is not forgiven by coming back.
    pub(super) fn end_meter(&mut self, key: Key) {
        let (rates, now_ms) = (Rates::of_client(&self.shared.rates), self.now_ms);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let session = connection.session;
        let Some(meter) = meter_of(connection.extras.as_deref_mut()) else {
            return;
        };
        if let Some(timer) = meter.timer.take() {
            self.timers.cancel(timer);
        }
        let taken = meter.taken;
        let owes = |taken: &Taken| taken.exceeds(rates, now_ms).is_some();
        if self.owing.len() >= OWING_MAX {
            self.owing.retain(|_, taken| owes(taken));
        }
        if let Some(session) = self.sessions.get(session)
            && owes(&taken)
            && self.owing.len() < OWING_MAX
        {
            let hash = self.shared.hasher.hash_one(&*session.client_id);
            self.owing.insert(hash, taken);
        }
    }
}

fn meter_of(extras: Option<&mut super::connection::Extras>) -> Option<&mut Meter> {
    extras?.meter.as_deref_mut()
}

fn too_fast(exceeding: Exceeding) -> Cause {
    let (reason, what) = match exceeding {
        Exceeding::Publishes => (
            ReasonCode::MessageRateTooHigh,
            "more publishes a second than allowed (rates)",
        ),
        Exceeding::Bytes => (
            ReasonCode::QuotaExceeded,
            "more bytes a second than allowed (rates)",
        ),
    };
    Cause::Violation {
        reason,
        clause: "MQTT 5.0 section 4.13.2",
        what,
    }
}
