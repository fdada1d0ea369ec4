//! The users whose rates are counted: one table for all shards, looked into once a connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::TakenByUser;

/// With so many, the table is looked through for users that nobody misses.
const SWEEP_MIN: usize = 1_024;

#[derive(Debug)]
struct Table {
    users: HashMap<Box<str>, Arc<TakenByUser>>,
    sweep_at: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Users {
    table: Mutex<Table>,
    /// Connections that count for themselves: there was no room for their user.
    alone: AtomicU64,
}

impl Default for Users {
    fn default() -> Self {
        Self {
            table: Mutex::new(Table {
                users: HashMap::new(),
                sweep_at: SWEEP_MIN,
            }),
            alone: AtomicU64::new(0),
        }
    }
}

impl Users {
    /// What this user has taken. Where there are `users_max` others, each with a connection or
    /// something to wait for, the connection counts for itself, and that is counted.
    pub(crate) fn of(&self, user: &str, users_max: usize, now_ms: u64) -> Arc<TakenByUser> {
        // Whole between any two of its operations.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.users.get(user) {
            return Arc::clone(found);
        }
        if table.users.len() >= table.sweep_at.min(users_max) {
            // Who is connected nowhere, and has waited for all that was taken, is as good as new.
            let is_missed = |it: &Arc<_>| Arc::strong_count(it) > 1;
            table
                .users
                .retain(|_, it: &mut Arc<TakenByUser>| is_missed(it) || !it.is_even(now_ms));
            table.sweep_at = (table.users.len() * 2).max(SWEEP_MIN);
            let room = table.sweep_at;
            table.users.shrink_to(room);
        }
        let found = Arc::<TakenByUser>::default();
        if table.users.len() < users_max {
            table.users.insert(user.into(), Arc::clone(&found));
        } else {
            self.alone.fetch_add(1, Ordering::Relaxed);
        }
        found
    }

    /// How often there was no room for a user.
    pub(crate) fn times_alone(&self) -> u64 {
        self.alone.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateSettings;
    use crate::rates::Rates;

    #[test]
    fn a_user_is_one_whatever_the_connection_and_is_forgotten_only_when_even() {
        let rates = Rates::of_user(&RateSettings {
            user_publishes_per_s: 1,
            ..RateSettings::default()
        });
        let users = Users::default();
        let first = users.of("ann", 2, 1_000);
        assert!(Arc::ptr_eq(&first, &users.of("ann", 2, 1_000)));
        first.take(rates, 1, 1_000);
        drop(first);
        drop(users.of("bob", 2, 1_000));
        // Ann owes a second, Bob nothing.
        let _eve = users.of("eve", 2, 1_500);
        assert!(
            !users.of("ann", 2, 1_500).is_even(1_500),
            "she is remembered"
        );
        assert_eq!(users.times_alone(), 0);
        let fay = users.of("fay", 2, 1_500);
        assert_eq!(users.times_alone(), 1);
        assert!(!Arc::ptr_eq(&fay, &users.of("fay", 2, 1_500)));
        let fay = users.of("fay", 2, 2_000);
        assert!(
            Arc::ptr_eq(&fay, &users.of("fay", 2, 2_000)),
            "in Ann's place"
        );
    }

    #[test]
    fn a_crowd_that_comes_and_goes_leaves_little() {
        let users = Users::default();
        for n in 0..100_000 {
            drop(users.of(&n.to_string(), 65_536, 5));
        }
        let table = users.table.lock().expect("no panic");
        assert!(table.users.len() <= 2 * SWEEP_MIN, "{}", table.users.len());
    }
}
