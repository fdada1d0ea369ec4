//! The wheel: lists of timers in slots, and the ticks at which they come up.

use std::fmt;
use std::num::NonZeroU32;

use crate::key::TimerKey;
use crate::policy::{LEVELS_MAX, Place, Policy, SLOTS};
use crate::report::{Expired, Stats};
use crate::slab::Slab;

/// The end of a list.
const NIL: u32 = u32::MAX;
/// The `place` of a timer that was put on the pending list without having been in a slot.
const NOWHERE: u16 = u16::MAX;

/// A timer: 24 bytes and the payload.
struct Entry<T> {
    deadline_tick: u64,
    next: u32,
    prev: u32,
    generation: NonZeroU32,
    /// The slot whose list this was put on. Stale once the list has come up, see `unlink`.
    place: u16,
    /// What `Policy::grain` said of the delay it was inserted with.
    grain: u8,
    value: T,
}

const _: () = assert!(size_of::<Option<Entry<()>>>() == 24);
const _: () = assert!(size_of::<Option<Entry<u64>>>() == 24 + size_of::<u64>());

/// A hierarchical timer wheel that takes ticks and knows no clock.
///
/// What a tick is, the caller decides, and counts them in a `u64` that starts anywhere. Timers
/// carry a payload `T`, which should be small (a key, an index): it lies in the wheel's own memory.
///
/// See the [crate documentation](crate) for how it works, and [`Policy`] for how late a timer may
/// be.
///
/// # Examples
///
/// ```
/// use timerwheel::{Policy, TimerWheel};
///
/// let mut wheel = TimerWheel::new(Policy::Exact, 0);
/// let key = wheel.insert(150, "keep-alive of client 7");
/// wheel.touch(key, 300); // it sent something
/// assert!(wheel.next_deadline().is_some_and(|tick| tick <= 300));
///
/// let mut due = Vec::new();
/// assert!(!wheel.expire(299, 64, &mut due));
/// assert!(due.is_empty());
/// assert!(!wheel.expire(300, 64, &mut due));
/// assert_eq!(due[0].value, "keep-alive of client 7");
/// assert!(!wheel.contains(key));
/// ```
pub struct TimerWheel<T> {
    policy: Policy,
    shifts: &'static [u8],
    /// Every slot that comes up at this tick or before has come up.
    current_tick: u64,
    /// The latest tick the caller has told, from which delays are counted.
    now_tick: u64,
    /// Which levels have an occupied slot.
    levels: u32,
    /// The levels whose slot has come up at `current_tick` and is still to be taken into `pending`.
    due: u32,
    /// The list of a slot that has come up and of timers inserted after their deadline.
    pending: u32,
    generation: NonZeroU32,
    occupied: [u64; LEVELS_MAX],
    heads: Box<[u32]>,
    slab: Slab<Entry<T>>,
    stats: Stats,
}

impl<T> TimerWheel<T> {
    /// An empty wheel whose present is `start_tick`.
    ///
    /// Allocates 2816 bytes for the slots of the exact policy, 4096 for those of the coarse one.
    #[must_use]
    pub fn new(policy: Policy, start_tick: u64) -> Self {
        let shifts = policy.shifts();
        Self {
            policy,
            shifts,
            current_tick: start_tick,
            now_tick: start_tick,
            levels: 0,
            due: 0,
            pending: NIL,
            generation: NonZeroU32::MIN,
            occupied: [0; LEVELS_MAX],
            heads: vec![NIL; shifts.len() * SLOTS].into_boxed_slice(),
            slab: Slab::new(),
            stats: Stats::default(),
        }
    }

    /// A wheel that has space for `timers` from the start and never gives that much back.
    #[must_use]
    pub fn with_capacity(policy: Policy, start_tick: u64, timers: usize) -> Self {
        let mut wheel = Self::new(policy, start_tick);
        wheel.slab.reserve(timers);
        wheel
    }

    /// Adds a timer that expires at `deadline_tick` or as little later as the [`Policy`] says.
    ///
    /// A deadline that has passed expires at the next [`expire`](Self::expire).
    ///
    /// The coarse policy counts the delay from the latest tick that it was told by
    /// [`advance`](Self::advance) or [`expire`](Self::expire): tell it the time before inserting,
    /// once a turn, or the slack is that of a longer delay.
    ///
    /// # Complexity
    ///
    /// O(1). Allocates a chunk of 64 timers if there is no free slot.
    ///
    /// # Panics
    ///
    /// If there are 2^32 − 128 timers already.
    pub fn insert(&mut self, deadline_tick: u64, value: T) -> TimerKey {
        let generation = self.generation;
        self.generation =
            NonZeroU32::new(generation.get().wrapping_add(1)).unwrap_or(NonZeroU32::MIN);
        let grain = self.grain(deadline_tick);
        let place = self.place(grain, deadline_tick);
        let next = *self.head(place);
        let index = self.slab.insert(Entry {
            deadline_tick,
            next,
            prev: NIL,
            generation,
            place,
            grain,
            value,
        });
        self.hook(place, next, index);
        self.stats.inserted = self.stats.inserted.wrapping_add(1);
        TimerKey { index, generation }
    }

    /// Takes a timer out and returns its payload; `None` if the key is stale.
    ///
    /// # Complexity
    ///
    /// O(1). May give an empty chunk of 64 timers back to the allocator.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entry(key)?;
        let links = (entry.prev, entry.next, entry.place);
        self.unlink(key.index, links);
        let entry = self.slab.remove(key.index)?;
        self.stats.cancelled = self.stats.cancelled.wrapping_add(1);
        Some(entry.value)
    }

    /// Moves the deadline of a timer to a later tick; false if the key is stale.
    ///
    /// An earlier tick than the present deadline is ignored (and the answer is true): see
    /// [`reset_sooner`](Self::reset_sooner).
    ///
    /// This only stores the tick. The timer stays where it is, is looked at when the old deadline
    /// comes up, and is then put where the new one belongs. So a timer that is touched a thousand
    /// times before its deadline is moved once. The coarse policy keeps the slack that the timer
    /// got when it was inserted.
    ///
    /// # Complexity
    ///
    /// O(1): one cache line is read and written. Never allocates.
    #[inline]
    pub fn touch(&mut self, key: TimerKey, later_tick: u64) -> bool {
        match self.entry_mut(key) {
            Some(entry) => {
                entry.deadline_tick = entry.deadline_tick.max(later_tick);
                true
            }
            None => false,
        }
    }

    /// Moves the deadline of a timer to any tick, earlier or later; false if the key is stale.
    ///
    /// The timer is moved to another slot at once, as if it had been cancelled and inserted, but
    /// the key stays good.
    ///
    /// # Complexity
    ///
    /// O(1). Never allocates.
    pub fn reset_sooner(&mut self, key: TimerKey, deadline_tick: u64) -> bool {
        let grain = self.grain(deadline_tick);
        let place = self.place(grain, deadline_tick);
        let Some(entry) = self.entry_mut(key) else {
            return false;
        };
        entry.deadline_tick = deadline_tick;
        entry.grain = grain;
        let links = (entry.prev, entry.next, entry.place);
        self.unlink(key.index, links);
        self.link(key.index, place);
        true
    }

    /// The payload of a timer; `None` if the key is stale.
    #[must_use]
    pub fn get(&self, key: TimerKey) -> Option<&T> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The payload of a timer; `None` if the key is stale.
    #[must_use]
    pub fn get_mut(&mut self, key: TimerKey) -> Option<&mut T> {
        self.entry_mut(key).map(|entry| &mut entry.value)
    }

    /// The deadline of a timer as it was given, before any rounding; `None` if the key is stale.
    #[must_use]
    pub fn deadline(&self, key: TimerKey) -> Option<u64> {
        self.entry(key).map(|entry| entry.deadline_tick)
    }

    /// Whether the key names a timer that has neither expired nor been cancelled.
    #[must_use]
    pub fn contains(&self, key: TimerKey) -> bool {
        self.entry(key).is_some()
    }

    /// The earliest tick at which [`expire`](Self::expire) has something to do; `None` if the
    /// wheel is empty.
    ///
    /// At that tick a timer may expire, or one may only have to be looked at because it was touched
    /// or is moved to a finer level. No timer expires before. If something is due already, the tick
    /// is one that has passed.
    ///
    /// # Complexity
    ///
    /// A few instructions for each level that is not empty, of eleven or sixteen.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        if self.has_due() {
            return Some(self.current_tick);
        }
        self.earliest().map(|(tick, _)| tick)
    }

    /// Tells the wheel the present tick, without expiring anything.
    ///
    /// The coarse policy counts delays from here, and both place nearer and move less if they know.
    /// A caller that does not call [`expire`](Self::expire) every turn calls this before the first
    /// [`insert`](Self::insert) of the turn. A tick that has passed is ignored.
    ///
    /// # Complexity
    ///
    /// As [`next_deadline`](Self::next_deadline), and one comparison if the tick has not changed.
    pub fn advance(&mut self, now_tick: u64) {
        if now_tick <= self.now_tick {
            return;
        }
        self.now_tick = now_tick;
        if !self.has_due() {
            let limit = self.earliest().map_or(u64::MAX, |(tick, _)| tick - 1);
            self.current_tick = self.current_tick.max(now_tick.min(limit));
        }
    }

    /// Appends the timers that are due at `now_tick` to `out`, and says whether there is more to
    /// do.
    ///
    /// Looks at no more than `budget` timers, so it appends no more. A timer that is looked at and
    /// only moved counts like one that is appended; so the answer may be true with nothing
    /// appended, and the caller comes back in its next turn, with this tick or a later one. Between
    /// two calls all other methods may be used: what is due but not yet appended can still be
    /// cancelled, touched or reset.
    ///
    /// The order among timers that come due in one call is not specified. No timer is appended
    /// before its deadline. A `now_tick` that has gone backwards counts as the latest one given.
    ///
    /// # Complexity
    ///
    /// O(timers looked at + slots that came up). Ticks at which nothing comes up cost nothing,
    /// however many have passed. Allocates only if `out` must grow; gives empty chunks of 64
    /// timers back to the allocator.
    pub fn expire(&mut self, now_tick: u64, budget: usize, out: &mut Vec<Expired<T>>) -> bool {
        let now = now_tick.max(self.now_tick);
        self.now_tick = now;
        let mut budget = budget;
        loop {
            while self.pending != NIL {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                self.look_at_pending(now, out);
            }
            if self.due != 0 {
                self.take_due();
                continue;
            }
            match self.earliest() {
                Some((tick, levels)) if tick <= now => {
                    self.current_tick = tick;
                    self.due = levels;
                }
                _ => {
                    self.current_tick = now;
                    return false;
                }
            }
        }
    }

    /// The number of timers, with those that are due and not yet handed out.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is no timer.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.slab.len() == 0
    }

    /// The latest tick that the wheel was told by [`advance`](Self::advance) or
    /// [`expire`](Self::expire), at first the one it was made with.
    #[must_use]
    pub const fn now(&self) -> u64 {
        self.now_tick
    }

    /// The policy the wheel was made with.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// What the wheel holds and has done.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            live: self.slab.len(),
            chunks: self.slab.chunks(),
            bytes: self.slab.bytes() + size_of_val(&*self.heads),
            ..self.stats
        }
    }

    #[inline]
    fn entry(&self, key: TimerKey) -> Option<&Entry<T>> {
        self.slab
            .get(key.index)
            .filter(|entry| entry.generation == key.generation)
    }

    #[inline]
    fn entry_mut(&mut self, key: TimerKey) -> Option<&mut Entry<T>> {
        self.slab
            .get_mut(key.index)
            .filter(|entry| entry.generation == key.generation)
    }

    fn grain(&self, deadline_tick: u64) -> u8 {
        self.policy
            .grain(deadline_tick.saturating_sub(self.now_tick))
    }

    /// The slot for a deadline, `NOWHERE` for one that has come.
    #[inline]
    fn place(&self, grain: u8, deadline_tick: u64) -> u16 {
        if deadline_tick <= self.current_tick {
            return NOWHERE;
        }
        let Place { level, number } = self.policy.place(self.current_tick, grain, deadline_tick);
        (level * SLOTS + number as usize % SLOTS) as u16
    }

    #[inline]
    fn head(&mut self, place: u16) -> &mut u32 {
        match self.heads.get_mut(usize::from(place)) {
            Some(head) => head,
            None => &mut self.pending,
        }
    }

    /// Puts a timer, whose links are to be set, in front of the list of a slot.
    fn link(&mut self, index: u32, place: u16) {
        let next = *self.head(place);
        if let Some(entry) = self.slab.get_mut(index) {
            entry.next = next;
            entry.prev = NIL;
            entry.place = place;
        }
        self.hook(place, next, index);
    }

    /// Makes a timer, whose own links are set, the head of the list that began with `next`.
    #[inline]
    fn hook(&mut self, place: u16, next: u32, index: u32) {
        *self.head(place) = index;
        if next != NIL {
            if let Some(entry) = self.slab.get_mut(next) {
                entry.prev = index;
            }
        } else if place != NOWHERE {
            let level = usize::from(place) / SLOTS;
            self.occupied[level] |= 1 << (usize::from(place) % SLOTS);
            self.levels |= 1 << level;
        }
    }

    /// Takes a timer off its list.
    ///
    /// A list that came up moved to `pending` as a whole, so `place` may lie; but it only counts
    /// for the first of a list, and the first of the pending list is known.
    #[inline]
    fn unlink(&mut self, index: u32, (prev, next, place): (u32, u32, u16)) {
        if next != NIL
            && let Some(entry) = self.slab.get_mut(next)
        {
            entry.prev = prev;
        }
        if prev != NIL {
            if let Some(entry) = self.slab.get_mut(prev) {
                entry.next = next;
            }
        } else if self.pending == index {
            self.pending = next;
        } else {
            debug_assert_eq!(
                self.heads[usize::from(place)],
                index,
                "the first of its list"
            );
            *self.head(place) = next;
            if next == NIL {
                self.vacate(place);
            }
        }
    }

    #[inline]
    fn vacate(&mut self, place: u16) {
        let level = usize::from(place) / SLOTS;
        self.occupied[level] &= !(1 << (usize::from(place) % SLOTS));
        self.levels &= !(u32::from(self.occupied[level] == 0) << level);
    }

    const fn has_due(&self) -> bool {
        self.pending != NIL || self.due != 0
    }

    /// The next tick at which a slot comes up, and the levels that have one then.
    #[inline]
    fn earliest(&self) -> Option<(u64, u32)> {
        let mut best: Option<(u64, u32)> = None;
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.trailing_zeros();
            levels &= levels - 1;
            let shift = self.shifts[level as usize];
            // Numbers in use are from the one after the present to 64 above it.
            let first = (self.current_tick >> shift) + 1;
            let ahead = self.occupied[level as usize].rotate_right((first % 64) as u32);
            let tick = (first + u64::from(ahead.trailing_zeros())) << shift;
            best = match best {
                Some((least, _)) if least < tick => best,
                Some((least, set)) if least == tick => Some((tick, set | 1 << level)),
                _ => Some((tick, 1 << level)),
            };
        }
        best
    }

    /// Makes the slot of a level that has come up the pending list, which is empty.
    ///
    /// A timer inserted since it came up may be there, too, if it goes 64 slots ahead. It is looked
    /// at and put there again; that cannot go on, for the level is no longer due then.
    fn take_due(&mut self) {
        debug_assert!(self.pending == NIL, "the last slot is worked off");
        let level = self.due.trailing_zeros();
        self.due &= self.due - 1;
        let slot = (self.current_tick >> self.shifts[level as usize]) as usize % SLOTS;
        let place = level as usize * SLOTS + slot;
        self.pending = std::mem::replace(&mut self.heads[place], NIL);
        self.vacate(place as u16);
    }

    /// Hands out the first of the pending list, or puts it where its deadline belongs.
    #[inline]
    fn look_at_pending(&mut self, now_tick: u64, out: &mut Vec<Expired<T>>) {
        let index = self.pending;
        let Some(entry) = self.slab.get(index) else {
            debug_assert!(false, "a list names a slot that is vacant");
            self.pending = NIL;
            return;
        };
        let (deadline_tick, grain) = (entry.deadline_tick, entry.grain);
        let links = (entry.prev, entry.next, entry.place);
        self.unlink(index, links);
        if deadline_tick > now_tick {
            let place = self.place(grain, deadline_tick);
            self.link(index, place);
            self.stats.moved = self.stats.moved.wrapping_add(1);
        } else if let Some(entry) = self.slab.remove(index) {
            let late_ticks = now_tick - deadline_tick;
            self.stats.late_ticks_max = self.stats.late_ticks_max.max(late_ticks);
            self.stats.expired = self.stats.expired.wrapping_add(1);
            let key = TimerKey {
                index,
                generation: entry.generation,
            };
            out.push(Expired {
                key,
                deadline_tick,
                value: entry.value,
            });
        }
    }
}

impl<T> fmt::Debug for TimerWheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimerWheel")
            .field("policy", &self.policy)
            .field("now_tick", &self.now_tick)
            .field("next_deadline", &self.next_deadline())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
