//! Bans, as operators see, set and lift them.

use rustix::time::{ClockId, clock_gettime};

use super::{BanLine, BansPage, Control, ControlError};
use crate::defence::{Banned, Listed};
use crate::network::Network;
use crate::shard::RECORDS_AN_ANSWER;

/// The clock of fronts and shards, in milliseconds.
pub(crate) fn clock_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock begins at 0.
    let (s, ns) = (
        u64::try_from(now.tv_sec).unwrap_or(0),
        u64::try_from(now.tv_nsec).unwrap_or(0),
    );
    s * 1_000 + ns / 1_000_000
}

fn network(text: &str) -> Result<Network, ControlError> {
    text.parse()
        .map_err(|error: crate::network::NetworkError| ControlError::Ban(error.to_string()))
}

impl Control {
    /// The bans in force, at most so many and at most 100,000, those that end last first. Goes
    /// through all of them.
    #[must_use]
    pub fn bans(&self, most: u32) -> BansPage {
        let most = most.min(RECORDS_AN_ANSWER) as usize;
        let (bans, total) = self.shared().defence.list(most, clock_ms());
        BansPage {
            bans: bans.into_iter().map(line).collect(),
            total: total as u64,
        }
    }

    /// Bans an address, or a range such as `203.0.113.0/24`, for so many seconds; `None` is for
    /// ever. Who is banned now: of an IPv6 address its first 64 bits.
    ///
    /// Where `defence.close_connections` says so, connections from there are closed.
    ///
    /// # Errors
    ///
    /// [`ControlError::Ban`]: no address, or one that is never banned, or the table is full.
    pub fn ban(&self, address: &str, for_s: Option<u32>) -> Result<String, ControlError> {
        let banned = self
            .shared()
            .defence
            .ban(network(address)?, for_s, clock_ms())
            .map_err(|error| ControlError::Ban(error.to_string()))?;
        Ok(banned.to_string())
    }

    /// Lifts the ban of an address or a range, or of one client of an address; whether there was
    /// one. An address within a range that is banned stays banned.
    ///
    /// # Errors
    ///
    /// [`ControlError::Ban`]: this is no address.
    pub fn unban(&self, address: &str, client: Option<&str>) -> Result<bool, ControlError> {
        let network = network(address)?;
        let defence = &self.shared().defence;
        match client {
            Some(id) => Ok(defence.lift_client(network, id, clock_ms())),
            None => defence
                .lift(network, clock_ms())
                .map_err(|error| ControlError::Ban(error.to_string())),
        }
    }
}

fn line(ban: Listed) -> BanLine {
    let (address, client) = match ban.who {
        Banned::Client(client) => (client.host.to_string(), Some(client.id.into())),
        other => (other.to_string(), None),
    };
    BanLine {
        address,
        client,
        cause: ban.cause.name().to_owned(),
        times: ban.times,
        ends_in_s: ban.ends_in_s,
    }
}
