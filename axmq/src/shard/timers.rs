//! What happens when time has passed.

use slabmem::Key;
use timerwheel::Expired;

use super::Core;
use super::connection::flag;
use crate::events::Cause;

/// Timers that are never early and at most a tick and a turn late; keep-alives have a wheel of
/// their own.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Timer {
    /// A will's delay or a session's end.
    Session(Key),
    /// The last moment of a connection that is being closed.
    Linger(Key),
    /// Time to look whether a connection with a long queue has made progress.
    Stall(Key),
    /// Time to tell subscribers of `$SYS/` what has changed.
    SysTopics,
    /// Time to read a little from publishers that are held for want of memory.
    Breath,
    /// What a client came in by holds no longer.
    Grant(Key),
    /// Time for the store to get what has been said.
    Journal,
    /// A client that published too fast has waited.
    Rate(Key),
    /// Time to look for connections of banned addresses.
    Evict,
    /// Many have gone, and time to come again was given.
    Calm,
}

/// Expired timers that one turn handles; more wait for the next.
const TIMERS_PER_TURN: usize = 256;

impl<S> Core<S> {
    /// The next tick at which [`Core::on_timers`] has something to do.
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        match (self.keep_alive.next_deadline(), self.timers.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Handles what is due; `true` where more is.
    pub(crate) fn on_timers(
        &mut self,
        silent: &mut Vec<Expired<Key>>,
        due: &mut Vec<Expired<Timer>>,
    ) -> bool {
        let more_silent = self.keep_alive.expire(self.now_ms, TIMERS_PER_TURN, silent);
        for expired in silent.drain(..) {
            self.on_silence(expired.value);
        }
        let more_due = self.timers.expire(self.now_ms, TIMERS_PER_TURN, due);
        for expired in due.drain(..) {
            match expired.value {
                Timer::Session(key) => self.session_due(key),
                Timer::Linger(key) => {
                    if let Some(connection) = self.connections.get_mut(key) {
                        connection.timer = None;
                    }
                    self.finish_closing(key);
                }
                Timer::Stall(key) => self.check_progress(key),
                Timer::SysTopics => self.sys_due(),
                Timer::Breath => self.breathe(),
                Timer::Grant(key) => self.grant_due(key),
                Timer::Journal => self.journal_due(),
                Timer::Rate(key) => self.rate_due(key),
                Timer::Evict => self.begin_eviction(),
                Timer::Calm => self.calm_down(),
            }
        }
        more_silent || more_due
    }

    fn on_silence(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.timer = None;
        if !connection.is_connected() {
            return;
        }
        // While we are the ones who do not read, silence says nothing (DECISIONS 22).
        if connection.has(flag::PAUSED) {
            if let Some(silence_ms) = connection.silence_max_ms() {
                connection.timer = Some(self.keep_alive.insert(self.now_ms + silence_ms, key));
            }
            return;
        }
        self.close(key, Cause::KeepAlive);
    }

    /// Something came: the client is alive for another one and a half keep-alives. One store; the
    /// wheel looks at it when the old deadline comes up.
    pub(crate) fn heard(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        if !connection.is_connected() {
            return;
        }
        if let (Some(timer), Some(silence_ms)) = (connection.timer, connection.silence_max_ms()) {
            self.keep_alive.touch(timer, self.now_ms + silence_ms);
        }
    }
}
