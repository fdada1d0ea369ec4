//! A mailbox between loops: many senders, one receiver, batches, and at most one wake a push.
//!
//! # Two lanes, one order
//!
//! [`Sender::try_push`] and [`Sender::try_push_all`] use the *bounded* lane: they are refused when
//! `capacity` items of this lane are under way. [`Sender::push_unbounded`] and
//! [`Sender::push_all_unbounded`] are never refused and use up no capacity; they are for messages
//! whose number something else bounds, such as answers to requests. Neither ever waits for the
//! receiver, so loops that send to each other cannot block each other.
//!
//! The lanes share one queue: the receiver sees all items in the order of the pushes, those of one
//! sender in the order in which it sent them, and a batch in one piece.
//!
//! # Waking
//!
//! Each push wakes the receiver's [`Waker`] once, however many items it brings. That is an atomic
//! swap, and a system call only if the receiver's loop sleeps.
//!
//! # Cost
//!
//! A push is five atomic operations whatever the size of the batch: a batch moves by swapping
//! buffers, no item is copied. A drain is one swap; it copies items only when it collects more than
//! one batch. Buffers go back and forth between the two ends, so a steady stream of batches does
//! not allocate; up to 64 buffers of up to 64 KiB stay with an idle mailbox.
//!
//! # Drop
//!
//! When the receiver is dropped, what was under way is dropped with it; later bounded pushes answer
//! [`Full`] and later unbounded ones drop their items; [`Sender::is_closed`] tells. When all
//! senders are dropped, nothing happens: the receiver can make a new one.

#[allow(unsafe_code, reason = "the lock-free stack under the mailbox")]
mod raw;

use std::{error::Error, fmt};

use crate::{
    mailbox::raw::{Owned, Spares, Stack},
    sync::{Arc, AtomicUsize, Ordering},
    waker::Waker,
};

/// Makes a mailbox whose bounded lane holds up to `capacity` items and whose pushes wake `waker`.
///
/// Memory grows with what is under way, not with `capacity`.
///
/// # Examples
///
/// ```
/// let poller = pollio::Poller::new()?;
/// let (sender, mut receiver) = pollio::mailbox(1024, poller.waker());
///
/// std::thread::spawn(move || {
///     let mut batch = vec!["three", "fine", "mice"];
///     sender.try_push_all(&mut batch).expect("there is room for three");
/// });
///
/// let (mut inbox, mut events) = (Vec::new(), pollio::Events::with_capacity(16));
/// while inbox.is_empty() {
///     poller.wait(&mut events, None)?;
///     receiver.drain_into(&mut inbox);
/// }
/// assert_eq!(inbox, ["three", "fine", "mice"]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[must_use]
pub fn mailbox<T: Send>(capacity: usize, waker: Waker) -> (Sender<T>, Receiver<T>) {
    let shared = Shared {
        stack: Stack::new(),
        charged: AtomicUsize::new(0),
        capacity,
        waker,
    };
    let shared = Arc::new(shared);
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

/// The receiving end: the mailbox itself.
pub type Mailbox<T> = Receiver<T>;

#[derive(Debug)]
struct Shared<T> {
    stack: Stack<T>,
    /// Items of the bounded lane under way, counted before they are pushed. Only a count: it
    /// guards no memory, so Relaxed is enough.
    charged: AtomicUsize,
    capacity: usize,
    waker: Waker,
}

impl<T> Shared<T> {
    /// Takes room for up to `wanted` items and answers for how many.
    fn reserve(&self, wanted: usize) -> usize {
        let mut charged = self.charged.load(Ordering::Relaxed);
        loop {
            let count = wanted.min(self.capacity.saturating_sub(charged));
            if count == 0 {
                return 0;
            }
            let more = charged + count;
            let result = self.charged.compare_exchange_weak(
                charged,
                more,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match result {
                Ok(_) => return count,
                Err(now) => charged = now,
            }
        }
    }

    fn release(&self, count: usize) {
        if count > 0 {
            let before = self.charged.fetch_sub(count, Ordering::Relaxed);
            debug_assert!(before >= count, "more items released than reserved");
        }
    }

    fn push(&self, node: Owned<T>) -> Result<(), Owned<T>> {
        self.stack.push(node)?;
        self.waker.wake();
        Ok(())
    }
}

/// The sending end of a mailbox. Clones send to the same one.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Sends one item through the bounded lane.
    ///
    /// # Errors
    ///
    /// [`Full`] with the item, when `capacity` items are under way or the receiver is gone.
    pub fn try_push(&self, item: T) -> Result<(), Full<T>> {
        if self.shared.reserve(1) == 0 {
            return Err(Full(item));
        }
        let mut node = self.shared.stack.node();
        node.put_one(item, 1);
        self.shared.push(node).or_else(|mut node| {
            self.shared.release(1);
            node.take_one().map_or(Ok(()), |item| Err(Full(item)))
        })
    }

    /// Sends the items of `items` through the bounded lane: all, or as many of the first as fit,
    /// as one batch. The rest stays in `items`, in order.
    ///
    /// When all fit, `items` comes back empty with a recycled buffer.
    ///
    /// # Errors
    ///
    /// [`Full`] with the number of items that stay.
    ///
    /// # Complexity
    ///
    /// O(1) if all fit, else O(items).
    pub fn try_push_all(&self, items: &mut Vec<T>) -> Result<(), Full<usize>> {
        if items.is_empty() {
            return Ok(());
        }
        if self.is_closed() {
            return Err(Full(items.len()));
        }
        let count = self.shared.reserve(items.len());
        if count == 0 {
            return Err(Full(items.len()));
        }
        let mut node = self.shared.stack.node();
        if count == items.len() {
            node.put_all(items, count);
        } else {
            node.put_some(items, count);
        }
        if let Err(mut node) = self.shared.push(node) {
            // The receiver went away between the look above and the push.
            let mut back = Vec::new();
            self.shared.release(node.empty_into(&mut back));
            back.append(items);
            *items = back;
        }
        if items.is_empty() {
            Ok(())
        } else {
            Err(Full(items.len()))
        }
    }

    /// Sends one item whatever is under way. It uses up no capacity.
    ///
    /// For messages that something else bounds, such as answers. When the receiver is gone, the
    /// item is dropped.
    pub fn push_unbounded(&self, item: T) {
        let mut node = self.shared.stack.node();
        node.put_one(item, 0);
        drop(self.shared.push(node));
    }

    /// Sends all items as one batch whatever is under way. They use up no capacity.
    ///
    /// `items` comes back empty with a recycled buffer. When the receiver is gone, they are
    /// dropped.
    ///
    /// # Complexity
    ///
    /// O(1).
    pub fn push_all_unbounded(&self, items: &mut Vec<T>) {
        if items.is_empty() {
            return;
        }
        let mut node = self.shared.stack.node();
        node.put_all(items, 0);
        drop(self.shared.push(node));
    }

    /// Whether the receiver is gone. It does not come back.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.stack.is_closed()
    }

    /// Items of the bounded lane that are under way, as of a moment ago.
    #[must_use]
    pub fn len_bounded(&self) -> usize {
        self.shared.charged.load(Ordering::Relaxed)
    }

    /// How many items the bounded lane holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.capacity
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("capacity", &self.capacity())
            .field("len_bounded", &self.len_bounded())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// The receiving end of a mailbox.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// Moves all items that are there behind those of `out` and answers how many they are.
    ///
    /// Returns at once, after one load, when there are none. Give the same vector every time,
    /// emptied: its buffer then travels back to a sender in exchange for a full one.
    ///
    /// # Complexity
    ///
    /// O(1) for a single batch into an empty vector, else O(items).
    pub fn drain_into(&mut self, out: &mut Vec<T>) -> usize {
        let before = out.len();
        let mut charged = 0;
        let mut spares = Spares::new();
        for mut node in self.shared.stack.take() {
            charged += node.empty_into(out);
            self.shared.stack.recycle(&mut spares, node);
        }
        self.shared.stack.publish(spares);
        self.shared.release(charged);
        out.len() - before
    }

    /// Whether there is nothing to drain, as of this moment. One load.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.stack.is_empty()
    }

    /// A new sending end.
    #[must_use]
    pub fn sender(&self) -> Sender<T> {
        Sender {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        for mut node in self.shared.stack.close() {
            self.shared.release(node.take_charged());
        }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("is_empty", &self.is_empty())
            .finish_non_exhaustive()
    }
}

/// A push was refused: no room in the bounded lane, or no receiver.
///
/// Carries what was not sent: the item, or the number of items.
#[derive(Copy, Clone, Eq, PartialEq, Hash)]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

impl<T> fmt::Display for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the mailbox is full")
    }
}

impl<T> Error for Full<T> {}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    static_assertions::assert_impl_all!(Sender<std::cell::Cell<u8>>: Send, Sync, Clone);
    static_assertions::assert_impl_all!(Receiver<std::cell::Cell<u8>>: Send);
    static_assertions::assert_not_impl_any!(Sender<std::rc::Rc<u8>>: Send, Sync);
    static_assertions::assert_not_impl_any!(Receiver<std::rc::Rc<u8>>: Send, Sync);

    fn new<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        mailbox(capacity, Waker::with_hook(|| {}))
    }

    #[test]
    fn order_holds_across_lanes_and_batches() {
        let (tx, mut rx) = new(4);
        tx.try_push(1).unwrap();
        tx.push_unbounded(2);
        tx.push_all_unbounded(&mut vec![3, 4]);
        let mut items = vec![5, 6, 7, 8];
        assert_eq!(tx.try_push_all(&mut items), Err(Full(1)));
        assert_eq!(items, [8]);
        assert_eq!(tx.try_push(9), Err(Full(9)));
        let mut out = vec![0];
        assert_eq!(rx.drain_into(&mut out), 7);
        assert_eq!(out, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(rx.is_empty());
        assert_eq!(tx.len_bounded(), 0);
        assert_eq!(tx.try_push_all(&mut items), Ok(()));
        assert_eq!(rx.drain_into(&mut out), 1);
    }

    #[test]
    fn a_batch_moves_without_being_copied_and_buffers_come_back() {
        let (tx, mut rx) = new(1000);
        let (mut batch, mut out) = (vec![1_u64; 100], Vec::new());
        let buffer = batch.as_ptr();
        tx.try_push_all(&mut batch).unwrap();
        assert_eq!(rx.drain_into(&mut out), 100);
        assert_eq!(
            out.as_ptr(),
            buffer,
            "the batch's buffer has moved to the receiver"
        );
        out.clear();
        batch.push(2);
        tx.try_push_all(&mut batch).unwrap();
        rx.drain_into(&mut out);
        out.clear();
        batch.push(3);
        tx.try_push_all(&mut batch).unwrap();
        assert_eq!(batch.as_ptr(), buffer, "and has come back to the sender");
    }

    #[test]
    fn a_mailbox_without_receiver_refuses_and_drops() {
        let item = Arc::new(());
        let (tx, rx) = new(10);
        tx.try_push(Arc::clone(&item)).unwrap();
        drop(rx);
        assert_eq!(Arc::strong_count(&item), 1, "what was under way is dropped");
        assert!(tx.is_closed());
        assert!(tx.try_push(Arc::clone(&item)).is_err());
        tx.push_unbounded(Arc::clone(&item));
        let mut items = vec![Arc::clone(&item); 3];
        assert_eq!(tx.try_push_all(&mut items), Err(Full(3)));
        tx.push_all_unbounded(&mut items);
        assert_eq!(Arc::strong_count(&item), 1);
        assert_eq!(tx.len_bounded(), 0);
    }

    #[test]
    fn a_million_single_pushes_are_dropped_without_recursion() {
        let count = if cfg!(miri) { 1_000 } else { 1_000_000 };
        let (tx, rx) = new(0);
        for n in 0..count {
            tx.push_unbounded(n);
        }
        drop(rx);
        assert!(tx.is_closed());
    }

    #[test]
    fn senders_on_threads_lose_and_duplicate_nothing() {
        const SENDERS: usize = 4;
        let each = if cfg!(miri) { 50 } else { 20_000 };
        let rings = Arc::new(AtomicUsize::new(0));
        let parked = std::thread::current();
        let count = Arc::clone(&rings);
        let waker = Waker::with_hook(move || {
            count.fetch_add(1, Ordering::Relaxed);
            parked.unpark();
        });
        let (tx, mut rx) = mailbox(64, waker.clone());
        std::thread::scope(|scope| {
            for sender in 0..SENDERS {
                let tx = tx.clone();
                scope.spawn(move || {
                    let mut batch = Vec::new();
                    for n in 0..each {
                        match n % 3 {
                            0 => tx.push_unbounded((sender, n)),
                            1 => {
                                while tx.try_push((sender, n)).is_err() {
                                    std::thread::yield_now();
                                }
                            }
                            _ => {
                                batch.push((sender, n));
                                while tx.try_push_all(&mut batch).is_err() {
                                    std::thread::yield_now();
                                }
                            }
                        }
                    }
                });
            }
            let (mut next, mut out, mut seen) = ([0; SENDERS], Vec::new(), 0);
            while seen < SENDERS * each {
                if waker.prepare_park() {
                    // Loops on spurious returns, as `unpark` may have been called before.
                    std::thread::park();
                    waker.unpark();
                }
                seen += rx.drain_into(&mut out);
                for (sender, n) in out.drain(..) {
                    assert_eq!(next[sender], n, "items of a sender come in its order");
                    next[sender] += 1;
                }
            }
        });
        assert!(rx.is_empty());
        assert!(rings.load(Ordering::Relaxed) <= SENDERS * each);
    }
}
