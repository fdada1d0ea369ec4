//! Wheels of several threads, whose timers any thread may reset and cancel.
//!
//! ```text
//!  any thread                              the thread of shard 0
//!  ----------                              ---------------------
//!  ShardedWheel --insert---> inbox 0 -----> WheelOwner: TimerWheel
//!  RemoteTimer ---cancel---> inbox 0 -----+      |
//!      |                                         | a slot comes up
//!      +--touch--> [ deadline ] <----looks at----+
//! ```
//!
//! What threads share about a timer is one word: its deadline, or `DEAD`. Whoever turns it into
//! `DEAD` ends the timer: the owner by expiring it, or anyone by cancelling it. A touch is a
//! `fetch_max`, which a `DEAD` word, being the greatest, survives; so it either counts or is told
//! that it is too late, without a lock or a loop. Payloads stay in the owner's wheel.

use std::fmt;

use crate::inbox::Inbox;
use crate::key::TimerKey;
use crate::policy::Policy;
use crate::report::Expired;
use crate::sync::{Arc, AtomicU64, Ordering};
use crate::wheel::TimerWheel;

/// The deadline of a timer that has expired or been cancelled.
const DEAD: u64 = u64::MAX;

/// Called by a thread that puts the first message into an empty inbox: wakes the owner.
pub type Notify = Box<dyn Fn() + Send + Sync>;

/// What is shared about a timer.
struct Node {
    /// The deadline, which only grows, and ends as `DEAD`.
    ///
    /// All accesses that change it are AcqRel, so that what a thread did before a touch is seen by
    /// the owner that honours it, and what the owner did before expiring is seen by a touch that is
    /// late.
    deadline_tick: AtomicU64,
    /// The key in the owner's wheel, zero before it is there. Only the owner uses it.
    key: AtomicU64,
}

impl Node {
    fn new(deadline_tick: u64) -> Arc<Self> {
        // The greatest tick means something else; a timer for one tick before never comes either.
        let deadline_tick = AtomicU64::new(deadline_tick.min(DEAD - 1));
        Arc::new(Self {
            deadline_tick,
            key: AtomicU64::new(0),
        })
    }

    /// Ends the timer if its deadline has come, else says when that will be.
    fn try_expire(&self, now_tick: u64) -> Fate {
        let mut deadline_tick = self.deadline_tick.load(Ordering::Acquire);
        loop {
            if deadline_tick == DEAD {
                return Fate::Cancelled;
            }
            if deadline_tick > now_tick {
                return Fate::Later(deadline_tick);
            }
            match self.deadline_tick.compare_exchange(
                deadline_tick,
                DEAD,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Fate::Expired(deadline_tick),
                // A touch came in between. It only adds, so this ends.
                Err(touched) => deadline_tick = touched,
            }
        }
    }
}

enum Fate {
    Cancelled,
    Later(u64),
    Expired(u64),
}

struct Pending<T> {
    node: Arc<Node>,
    value: T,
}

enum Message<T> {
    Insert(Pending<T>),
    Cancel(Arc<Node>),
}

struct Shard<T> {
    inbox: Inbox<Message<T>>,
    notify: Notify,
}

impl<T> Shard<T> {
    fn send(&self, message: Message<T>) {
        if self.inbox.push(message) {
            (self.notify)();
        }
    }
}

/// A handle through which any thread inserts timers into the wheels of others.
///
/// For servers in which a connection may be worked on by any thread. With one thread a connection a
/// plain [`TimerWheel`] a thread is all that is needed, and cheaper.
///
/// # Notification
///
/// A shard's [`Notify`] is called by the thread that puts a message into its empty inbox; the owner
/// then has to call [`expire`](WheelOwner::expire) or
/// [`next_deadline`](WheelOwner::next_deadline), which empty it. A message that comes after the
/// inbox was emptied notifies again, so none is overlooked by an owner that empties it after each
/// wake-up. A touch never notifies: it only makes things later.
///
/// # Ordering
///
/// Messages of one thread, and of threads that have synchronised, are taken in the order in which
/// they were sent.
///
/// # Drop
///
/// An owner that is dropped takes its timers with it; what is sent to it afterwards stays in its
/// inbox until the last handle is dropped.
///
/// # Examples
///
/// ```
/// use timerwheel::{Policy, ShardedWheel};
///
/// let wake: Vec<timerwheel::Notify> = vec![Box::new(|| { /* write to an eventfd */ })];
/// let (wheel, mut owners) = ShardedWheel::new(Policy::Exact, 0, wake);
///
/// let timer = wheel.insert(0, 100, "client 7").expect("there is a shard 0");
/// assert!(timer.touch(200)); // from whichever thread
///
/// let mut due = Vec::new();
/// owners[0].expire(199, 64, &mut due);
/// assert!(due.is_empty());
/// owners[0].expire(200, 64, &mut due);
/// assert_eq!(due[0].value, "client 7");
/// assert!(!timer.touch(300)); // too late
/// ```
pub struct ShardedWheel<T> {
    shards: Vec<Arc<Shard<T>>>,
}

impl<T> ShardedWheel<T> {
    /// A wheel for each of `notifiers`, to be given to the threads that are to own them.
    #[must_use]
    pub fn new(
        policy: Policy,
        start_tick: u64,
        notifiers: Vec<Notify>,
    ) -> (Self, Vec<WheelOwner<T>>) {
        let shard = |notify| {
            Arc::new(Shard {
                inbox: Inbox::new(),
                notify,
            })
        };
        let shards: Vec<_> = notifiers.into_iter().map(shard).collect();
        let owner = |shard: &Arc<Shard<T>>| WheelOwner {
            shard: Arc::clone(shard),
            wheel: TimerWheel::new(policy, start_tick),
            expired: Vec::new(),
        };
        let owners = shards.iter().map(owner).collect();
        (Self { shards }, owners)
    }

    /// The number of wheels.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Sends a timer to the wheel of a shard; `None` if there is no such shard.
    ///
    /// Deadlines of `u64::MAX` count as one tick earlier. The owner should be awake by the
    /// deadline: see the section on notification.
    ///
    /// # Complexity
    ///
    /// Two allocations and an atomic push.
    pub fn insert(&self, shard: usize, deadline_tick: u64, value: T) -> Option<RemoteTimer<T>> {
        let shard = self.shards.get(shard)?;
        let node = Node::new(deadline_tick);
        shard.send(Message::Insert(Pending {
            node: Arc::clone(&node),
            value,
        }));
        Some(RemoteTimer {
            node,
            shard: Arc::clone(shard),
        })
    }
}

impl<T> Clone for ShardedWheel<T> {
    fn clone(&self) -> Self {
        Self {
            shards: self.shards.clone(),
        }
    }
}

impl<T> fmt::Debug for ShardedWheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedWheel")
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// A timer in the wheel of some thread, to be touched and cancelled by any.
///
/// Dropping it does not cancel the timer.
pub struct RemoteTimer<T> {
    node: Arc<Node>,
    shard: Arc<Shard<T>>,
}

impl<T> RemoteTimer<T> {
    /// Moves the deadline to a later tick; false if the timer has expired or been cancelled.
    ///
    /// If it is true, the timer does not expire before that tick. An earlier tick than the present
    /// deadline changes nothing.
    ///
    /// # Complexity
    ///
    /// One atomic instruction, wait-free. Never allocates and never wakes the owner.
    pub fn touch(&self, later_tick: u64) -> bool {
        self.node
            .deadline_tick
            .fetch_max(later_tick.min(DEAD - 1), Ordering::AcqRel)
            != DEAD
    }

    /// Ends the timer; false if it has expired or been cancelled before.
    ///
    /// If it is true, the timer does not expire. The payload is dropped by the owner when it next
    /// looks into its inbox.
    ///
    /// # Complexity
    ///
    /// One atomic exchange; if it is the one that ends the timer, an allocation and an atomic push.
    pub fn cancel(&self) -> bool {
        let ended = self.node.deadline_tick.swap(DEAD, Ordering::AcqRel) != DEAD;
        if ended {
            self.shard.send(Message::Cancel(Arc::clone(&self.node)));
        }
        ended
    }

    /// The deadline; `None` if the timer has expired or been cancelled.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        Some(self.node.deadline_tick.load(Ordering::Acquire)).filter(|tick| *tick != DEAD)
    }
}

impl<T> Clone for RemoteTimer<T> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            shard: Arc::clone(&self.shard),
        }
    }
}

impl<T> fmt::Debug for RemoteTimer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTimer")
            .field("deadline", &self.deadline())
            .finish_non_exhaustive()
    }
}

/// A timer that has expired, as [`WheelOwner::expire`] hands it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteExpired<T> {
    /// The deadline that has come, after all touches.
    pub deadline_tick: u64,
    /// The payload.
    pub value: T,
}

/// One wheel of a [`ShardedWheel`], used by one thread.
pub struct WheelOwner<T> {
    shard: Arc<Shard<T>>,
    wheel: TimerWheel<Pending<T>>,
    /// Empty between calls; kept for its memory.
    expired: Vec<Expired<Pending<T>>>,
}

impl<T> WheelOwner<T> {
    /// Adds a timer to this wheel, without a message.
    ///
    /// # Complexity
    ///
    /// As [`TimerWheel::insert`], and one allocation for what is shared.
    pub fn insert(&mut self, deadline_tick: u64, value: T) -> RemoteTimer<T> {
        let node = Node::new(deadline_tick);
        self.place(
            deadline_tick.min(DEAD - 1),
            Pending {
                node: Arc::clone(&node),
                value,
            },
        );
        RemoteTimer {
            node,
            shard: Arc::clone(&self.shard),
        }
    }

    /// Takes in what other threads have sent, then appends the timers that are due to `out`; says
    /// whether there is more to do.
    ///
    /// Looks at no more than `budget` timers of the wheel, as [`TimerWheel::expire`] does. The
    /// inbox is emptied whatever the budget.
    pub fn expire(
        &mut self,
        now_tick: u64,
        budget: usize,
        out: &mut Vec<RemoteExpired<T>>,
    ) -> bool {
        self.wheel.advance(now_tick);
        // Time that has gone backwards must not keep due timers going round.
        let now_tick = self.wheel.now();
        self.take_in();
        let mut expired = std::mem::take(&mut self.expired);
        let more = self.wheel.expire(now_tick, budget, &mut expired);
        for Expired { value: pending, .. } in expired.drain(..) {
            match pending.node.try_expire(now_tick) {
                Fate::Cancelled => {}
                Fate::Later(deadline_tick) => self.place(deadline_tick, pending),
                Fate::Expired(deadline_tick) => {
                    out.push(RemoteExpired {
                        deadline_tick,
                        value: pending.value,
                    });
                }
            }
        }
        self.expired = expired;
        more
    }

    /// Takes in what other threads have sent, then says when the wheel is to be looked at, as
    /// [`TimerWheel::next_deadline`] does.
    pub fn next_deadline(&mut self) -> Option<u64> {
        self.take_in();
        self.wheel.next_deadline()
    }

    /// The number of timers that the wheel holds, with those that were cancelled while their
    /// message is on its way, and without those that are still in the inbox.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.wheel.len()
    }

    /// Whether the wheel holds no timer.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    fn take_in(&mut self) {
        let shard = Arc::clone(&self.shard);
        for message in shard.inbox.drain() {
            match message {
                Message::Insert(pending) => {
                    let deadline_tick = pending.node.deadline_tick.load(Ordering::Acquire);
                    // What was cancelled on the way is dropped here.
                    if deadline_tick != DEAD {
                        self.place(deadline_tick, pending);
                    }
                }
                Message::Cancel(node) => {
                    // Zero if it never got into the wheel, stale if it was dropped when due.
                    let key = TimerKey::from_bits(node.key.load(Ordering::Relaxed));
                    key.and_then(|key| self.wheel.cancel(key));
                }
            }
        }
    }

    fn place(&mut self, deadline_tick: u64, pending: Pending<T>) {
        let node = Arc::clone(&pending.node);
        let key = self.wheel.insert(deadline_tick, pending);
        node.key.store(key.to_bits(), Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for WheelOwner<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WheelOwner")
            .field("wheel", &self.wheel)
            .finish_non_exhaustive()
    }
}
