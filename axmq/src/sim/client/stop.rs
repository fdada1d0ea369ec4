//! A client whose broker stops.

use mqtt_codec::Version;

use super::Client;
use super::subscribe::Subscription;
use crate::sim::report::Feature;
use crate::sim::{Check, World};

impl Client {
    /// From now on the broker may end the connection. `is_silent`: the client takes nothing more.
    pub(in crate::sim) fn stop_begins(&mut self, w: &mut World, is_silent: bool) {
        // Sessions that end with the connection publish their wills, others keep theirs.
        let ends = self.conn.as_ref().is_some_and(|conn| conn.expiry_s == 0);
        if ends {
            self.will_may_come(w);
            let will = self.conn.as_ref().and_then(|conn| conn.will);
            if let Some(state) = will.and_then(|at| w.ledger.message(at).will.as_mut()) {
                state.is_cut_by_stop = true;
            }
        }
        if let Some(conn) = &mut self.conn {
            conn.is_silent = is_silent;
            w.report.add(Feature::StopSilent, u64::from(is_silent));
        }
    }

    /// Reads what still comes.
    pub(in crate::sim) fn step_at_stop(&mut self, w: &mut World) -> Check {
        let Some(conn) = self.conn.as_mut().filter(|conn| !conn.is_silent) else {
            return Ok(());
        };
        conn.receive(w, self.pace);
        self.take_packets(w)?;
        self.answer(w);
        if let Some(conn) = &mut self.conn {
            if conn.peer.end().is_some() {
                conn.is_over = true;
                conn.peer.shutdown_write();
            } else {
                conn.push(w);
            }
        }
        Ok(())
    }

    /// A 5.0 client has been told, and every client has met the end, but for one that had not taken
    /// all when the time was over.
    pub(in crate::sim) fn check_good_bye(&self, w: &mut World, is_in_time: bool) -> Check {
        let Some(conn) = self.conn.as_ref().filter(|conn| !conn.is_silent) else {
            return Ok(());
        };
        if !conn.has_all() && !is_in_time {
            return Ok(());
        }
        check!(
            conn.has_all(),
            "{} has not met the end of its connection: {} bytes of a packet",
            self.name,
            conn.received.len()
        );
        check!(
            conn.is_told == (self.version == Version::V5),
            "{} ({:?}) is told that the broker stops: {}",
            self.name,
            self.version,
            conn.is_told
        );
        w.report.add(Feature::StopTold, u64::from(conn.is_told));
        Ok(())
    }

    /// Counts the QoS 0 messages and the wills that had to come and did; the others it lists.
    pub(in crate::sim) fn arrived_at_stop(
        &self,
        w: &World,
        rest: u64,
        missing: &mut Vec<(String, u32)>,
    ) -> (u64, u64) {
        let (mut kept, mut wills) = (0, 0);
        let Some(conn) = self.conn.as_ref().filter(|conn| conn.has_all()) else {
            return (0, 0);
        };
        let began = w.stop_began.unwrap_or(u64::MAX);
        for (at, message) in w.ledger.messages.iter().enumerate() {
            let is_due_will = message.will.as_ref().is_some_and(|will| {
                will.is_accepted && will.is_cut_by_stop && message.publisher != self.me
            });
            let was_routed = message.sent > rest
                && message.qos == 0
                && message.routed.is_some_and(|routed| routed < began);
            let goes_nowhere = message.path.is_void() || self.is_denied(w, message.topic);
            let is_left_out = message.expiry_s.is_some()
                || goes_nowhere
                || self.is_too_large(w, at as u32)
                || self.is_dealt(w, message.topic);
            if is_left_out || !(is_due_will || was_routed) {
                continue;
            }
            // What is acknowledged may wait for room in the client's window, and stay there.
            let from = if is_due_will { began } else { message.sent };
            let is_sure = |asked: &&Subscription| {
                let is_mine = asked.no_local && message.publisher == self.me;
                w.ledger.matches[asked.filter][message.topic]
                    && !is_mine
                    && asked.holds(from, u64::MAX)
            };
            let qos = self
                .subscriptions
                .iter()
                .filter(is_sure)
                .map(|asked| asked.qos)
                .max();
            let comes_once = qos.is_some_and(|qos| qos.min(message.qos) == 0)
                && !self.may_get_acknowledged(w, message)
                && conn.since < from;
            if !comes_once {
                continue;
            }
            if !self.got.contains(&(at as u32)) {
                missing.push((self.name.clone(), at as u32));
            } else if is_due_will {
                wills += 1;
            } else {
                kept += 1;
            }
        }
        (kept, wills)
    }
}
