//! Certificates that change while the broker runs.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::revoked::Ending;
use super::types::CertificateStatus;
use super::{Control, ControlError, State};
use crate::broker::Stopper;
use crate::config::{Change, Config};
use crate::logging::now_ms;
use crate::message::{ToFront, ToShard};
use crate::shard::Shared;
use crate::tls::{self, Tls, days_left};

/// TLS of each listener, in the order of the configuration.
type All = Vec<Option<Arc<Tls>>>;

/// What tells that a file may have changed; `None` where there is no such file.
type Stamp = Option<(u64, u64, i64, i64)>;

impl State {
    /// TLS as this configuration wants it, and what has changed in its files. Where nothing has,
    /// what is there goes on, and with it the sessions that clients can resume.
    ///
    /// # Errors
    ///
    /// [`ControlError::Refused`].
    pub(super) fn load_tls(&self, next: &Config) -> Result<(All, Vec<Change>), ControlError> {
        let mut all = tls::load_all(&next.listeners)
            .map_err(|error| ControlError::Refused(error.to_string()))?;
        let mut changes = Vec::new();
        let before = self.shared.listeners.iter().map(|state| state.tls());
        let pairs = self.running.listeners.iter().zip(&next.listeners);
        for ((old, new), (was, is)) in before.zip(&mut all).zip(pairs) {
            let (Some(old), Some(now)) = (old, new.as_ref()) else {
                continue;
            };
            if old.digest != now.digest {
                changes.push(Change {
                    key: format!("the content of listener {}: tls files", is.address),
                    from: shown(old),
                    to: shown(now),
                    needs_restart: false,
                });
            } else if was.rules == is.rules {
                *new = Some(Arc::clone(old));
            }
        }
        Ok((all, changes))
    }
}

/// Until when the first certificate is valid.
fn shown(tls: &Tls) -> String {
    let now_s = i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX);
    let days = tls.expiries.iter().map(|(_, at_s)| days_left(*at_s, now_s));
    days.min()
        .map_or_else(String::new, |days| format!("{days} days left"))
}

impl Control {
    /// Has all threads go on by this.
    pub(super) fn go_on_by(&self, state: &mut State, shared: Shared) {
        let shared = Arc::new(shared);
        state.shared = Arc::clone(&shared);
        for shard in &self.0.shards {
            shard.push_unbounded(ToShard::Reload(Arc::clone(&shared)));
        }
        for front in &self.0.fronts {
            front.push_unbounded(ToFront::Reload(Arc::clone(&shared)));
        }
    }

    /// Takes over what has changed in the files of TLS, and nothing else.
    fn refresh_tls(&self) -> Result<Vec<Change>, ControlError> {
        let mut state = self.state();
        let (tls, changes) = state.load_tls(&state.running)?;
        if changes.is_empty() {
            return Ok(changes);
        }
        let ending = Ending {
            policy: None,
            by_certificate: state.ends_certificates(&state.running, &tls),
        };
        let shared = Shared::clone(&state.shared).with_tls(tls);
        self.go_on_by(&mut state, shared);
        drop(state);
        self.end_revoked(&ending)?;
        Ok(changes)
    }

    /// Until when certificates are valid.
    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        let state = self.state();
        let now_s = i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX);
        let pairs = state.running.listeners.iter().zip(&*state.shared.listeners);
        let mut all = Vec::new();
        for (listener, one) in pairs {
            let Some(tls) = one.tls() else { continue };
            all.extend(tls.expiries.iter().map(|(path, at_s)| CertificateStatus {
                listener: listener.address.to_string(),
                file: path.display().to_string(),
                not_after_s: *at_s,
                days_left: days_left(*at_s, now_s),
            }));
        }
        all
    }

    /// Says in the log until when certificates are valid.
    pub(crate) fn log_certificates(&self) {
        let state = self.state();
        let now_s = i64::try_from(now_ms() / 1_000).unwrap_or(i64::MAX);
        let pairs = state.running.listeners.iter().zip(&*state.shared.listeners);
        for (listener, one) in pairs {
            if let Some(tls) = one.tls() {
                tls.log(&listener.address as &dyn fmt::Display, now_s);
            }
        }
    }

    fn tls_files(&self) -> Vec<PathBuf> {
        let state = self.state();
        let listeners = state.running.listeners.iter();
        listeners
            .flat_map(|listener| tls::files(&listener.rules))
            .collect()
    }

    fn stamps(&self) -> Vec<Stamp> {
        let stamp = |path: PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
        };
        self.tls_files().into_iter().map(stamp).collect()
    }

    /// Looks every now and then whether the files of TLS have changed, until the broker stops.
    pub(crate) fn watch_certificates(&self, stopper: &Stopper) {
        let mut stamps = self.stamps();
        loop {
            let every_s = self.state().running.broker.tls_watch_s;
            // Off, it is looked whether it still is.
            let pause_s = if every_s == 0 { 3_600 } else { every_s };
            if stopper.stops_within(Duration::from_secs(pause_s.into())) {
                return;
            }
            let now = self.stamps();
            if every_s == 0 || now == stamps {
                continue;
            }
            stamps = now;
            match self.refresh_tls() {
                Ok(changes) => {
                    for change in &changes {
                        tracing::info!(event = "tls.reloaded", "{change}");
                    }
                    self.log_certificates();
                }
                // Half of a pair may have been written; the other half is a change as well.
                Err(error) => tracing::warn!(event = "tls.refused", "{error}"),
            }
        }
    }
}
