//! What follows from a ban: connections are closed, the kernel hears of it, and it is kept.

use std::sync::Arc;

use super::bans::{Ban, Bans, FOR_EVER};
use super::keep::{BanChange, Keep};
use super::kernel::{Kernel, Order};
use super::{Banned, Defence, Host, lock, seconds};
use crate::config::KernelBans;

impl Defence {
    /// Has `close` close what somebody has open who is banned, on the thread that bans: it must not
    /// block.
    pub(crate) fn close_by(&self, close: impl Fn(&Banned) + Send + Sync + 'static) {
        let was_free = self.state.close.set(Box::new(close)).is_ok();
        debug_assert!(was_free, "set once, at the start");
    }

    /// Has `keep` keep each change of a ban from now on, on the thread that makes it and under a
    /// lock: it must not block. Those that are there are kept already.
    pub(crate) fn keep_by(&self, keep: impl Fn(BanChange) + Send + Sync + 'static) {
        let keep = Keep::new(&self.state.kept, Box::new(keep));
        let was_free = self.state.keep.set(keep).is_ok();
        debug_assert!(was_free, "set once, at the start");
    }

    /// Has what became of a table's bans kept, and the one that was put into it, under its lock.
    pub(super) fn keep<K>(
        &self,
        bans: &mut Bans<K>,
        put: Option<&Ban<K>>,
        who: impl Fn(K) -> Banned,
    ) where
        K: Clone + Eq + std::hash::Hash,
    {
        let forgotten = bans.take_forgotten();
        let Some(keep) = self.state.keep.get() else {
            return;
        };
        for key in forgotten {
            keep.forget(who(key));
        }
        if let Some(ban) = put {
            keep.put(who(ban.key.clone()), ban);
        }
    }

    /// Starts the helper that sets bans in the kernel, where that is asked for. Without it they
    /// hold all the same.
    pub(crate) fn start_kernel(&self, ports: &[u16], now_ms: u64) -> Option<Kernel> {
        let kind = self.policy.settings.kernel;
        if kind == KernelBans::Off {
            return None;
        }
        let started = Kernel::start(kind, ports, Arc::clone(&self.state.kernel_lost));
        if let Err(error) = &started {
            tracing::warn!(
                event = "kernel.failed",
                %error,
                "cannot start the helper for bans in the kernel (defence.kernel): they hold at \
                 accept"
            );
        }
        let kernel = started.ok()?;
        let was_free = self.state.kernel.set(kernel.orders()).is_ok();
        debug_assert!(was_free, "set once, at the start");
        // After that, so that nobody is left out who is banned meanwhile; to ban one twice does no
        // harm.
        kernel.begin_with(self.orders_in_force(now_ms));
        Some(kernel)
    }

    /// What the kernel has to be told about those who are banned.
    pub(super) fn orders_in_force(&self, now_ms: u64) -> Vec<Order> {
        let now_s = seconds(now_ms);
        let mut orders = Vec::new();
        for stripe in &self.state.stripes {
            let stripe = lock(stripe);
            let in_force = stripe.hosts.in_force(now_s);
            orders.extend(in_force.map(|ban| order(ban.key, ban.until_s, now_s)));
        }
        orders
    }

    /// Somebody is banned from now on: what follows from it.
    pub(super) fn follow_ban(&self, who: &Banned, until_s: u32, now_s: u32) {
        if let Some(close) = self.state.close.get() {
            close(who);
        }
        if let (Some(kernel), Banned::Host(host)) = (self.state.kernel.get(), who) {
            kernel.give(order(*host, until_s, now_s));
        }
    }

    /// A ban is over before its time.
    pub(super) fn follow_lift(&self, who: &Banned) {
        if let (Some(kernel), Banned::Host(host)) = (self.state.kernel.get(), who) {
            kernel.give(Order::Lift(*host));
        }
    }
}

/// The kernel counts what is left of a ban.
fn order(host: Host, until_s: u32, now_s: u32) -> Order {
    let for_s = (until_s != FOR_EVER).then(|| until_s.saturating_sub(now_s));
    Order::Ban(host, for_s)
}
