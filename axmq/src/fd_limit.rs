//! The limit on open files, and how many connections it permits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Config;

/// Descriptors for what is neither a thread's nor a connection's: standard streams, the lock, the
/// store, look-ups, and some room.
const RESERVE: u64 = 64;
/// Descriptors of one thread: poller, waker, timer, and one in hand while accepting.
const PER_THREAD: u64 = 4;

/// Raises this process's limit on open files to the hard limit, and gives the limit that holds.
///
/// A system that refuses leaves the limit as it was. It concerns the whole process, children
/// included, so it is for a program to call, not for a library.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let holds = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => wanted.current,
        Err(_) => limit.current,
    };
    // No limit at all is more than there can be descriptors.
    holds.unwrap_or(u64::MAX)
}

/// The most connections at a time with `files` open files: the configured limit, or what is left of
/// the files after what the broker itself needs.
///
/// 0 if the files do not even suffice for that.
#[must_use]
pub fn connections_max(files: u64, config: &Config) -> u64 {
    let shards = config.broker.shard_count() as u64;
    let fronts = config.broker.front_count() as u64;
    // Every front has a socket of its own for each listener.
    let listeners = (config.listeners.len() as u64).saturating_mul(fronts);
    let own = RESERVE + PER_THREAD * (shards + fronts) + listeners;
    config.limits.connections.min(files.saturating_sub(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(connections: u64) -> Config {
        let mut config = Config::default();
        config.broker.shards = 2;
        config.broker.fronts = 1;
        config.limits.connections = connections;
        config
    }

    #[test]
    fn the_smaller_of_limit_and_files_holds() {
        let unlimited = config(u64::from(u32::MAX));
        // 64, 3 threads of 4, 2 listeners.
        assert_eq!(connections_max(1_024, &unlimited), 1_024 - 78);
        assert_eq!(connections_max(u64::MAX, &unlimited), u64::from(u32::MAX));
        assert_eq!(connections_max(1_024, &config(10)), 10);
        assert_eq!(connections_max(78, &unlimited), 0);
        assert_eq!(connections_max(0, &unlimited), 0);
    }
}
