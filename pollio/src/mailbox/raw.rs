//! The stack of batches under the mailbox: pushed by many, emptied by one.
//!
//! Ground rules:
//!
//! - A node is owned by exactly one place at a time: by the thread that builds it (`Owned`), by the
//!   list that `head` or `spare` points at, or by the thread that took that list. Only its owner
//!   touches its body.
//! - A node enters a list by a compare-exchange with Release and leaves it when the *whole* list is
//!   taken by a swap with Acquire; the two pair, so that the taker sees the bodies. A push onto
//!   other nodes is a read-modify-write of `head` and so continues their release sequences: one
//!   Acquire sees all of them.
//! - Nobody dereferences a node that is in a list and nobody takes a single one, so a node that
//!   comes back under the same address (ABA) does no harm: the compare-exchange then links it to
//!   the list that really is there.
//! - `head` may hold the `closed` mark instead of a list, a pointer without provenance that is
//!   never dereferenced. It never leaves again.

use std::{fmt, marker::PhantomData, mem, ptr};

use crate::sync::{AtomicPtr, Ordering, UnsafeCell};

/// Emptied nodes that a mailbox keeps for the next batches.
const SPARE_NODES_MAX: usize = 64;
/// A batch buffer larger than this is freed instead of kept.
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// One push: an item alone, or a batch.
struct Body<T> {
    next: *mut Node<T>,
    /// Nodes in the spare list from this one on.
    spares: usize,
    /// Items that take up room in the bounded lane.
    charged: usize,
    /// A push of one item needs no buffer.
    one: Option<T>,
    many: Vec<T>,
}

struct Node<T> {
    body: UnsafeCell<Body<T>>,
}

/// A node that belongs to nobody else.
pub(super) struct Owned<T> {
    node: ptr::NonNull<Node<T>>,
    marker: PhantomData<Box<Node<T>>>,
}

impl<T> Owned<T> {
    fn new() -> Self {
        let body = Body {
            next: ptr::null_mut(),
            spares: 0,
            charged: 0,
            one: None,
            many: Vec::new(),
        };
        let node = Box::into_raw(Box::new(Node {
            body: UnsafeCell::new(body),
        }));
        // SAFETY: `Box::into_raw` never answers null, and nobody else knows the address.
        let owned = unsafe { Self::from_raw(node) };
        owned.expect("a box is not null")
    }

    /// Takes over a node, `None` for null.
    ///
    /// # Safety
    ///
    /// `node` is null, or came from `into_raw` and belongs to the caller alone.
    unsafe fn from_raw(node: *mut Node<T>) -> Option<Self> {
        Some(Self {
            node: ptr::NonNull::new(node)?,
            marker: PhantomData,
        })
    }

    fn into_raw(self) -> *mut Node<T> {
        mem::ManuallyDrop::new(self).node.as_ptr()
    }

    fn body(&mut self) -> &mut Body<T> {
        // SAFETY: `self` owns the node, so it is live and no other reference to it exists.
        let node = unsafe { self.node.as_ref() };
        // SAFETY: As above: the exclusive borrow of `self` is the only way to the body, and it
        // lasts as long as the result.
        node.body.with_mut(|body| unsafe { &mut *body })
    }

    /// Detaches and takes over the rest of the list that starts here.
    fn take_next(&mut self) -> Option<Self> {
        let next = mem::replace(&mut self.body().next, ptr::null_mut());
        // SAFETY: Whoever owns the first node of a taken list owns the list; `next` was put there
        // by `into_raw` and has just been unlinked.
        unsafe { Self::from_raw(next) }
    }

    fn set_next(&mut self, next: Option<Self>) {
        debug_assert!(self.body().next.is_null(), "a list would leak");
        self.body().next = next.map_or(ptr::null_mut(), Self::into_raw);
    }

    pub(super) fn put_one(&mut self, item: T, charged: usize) {
        self.body().one = Some(item);
        self.body().charged = charged;
    }

    /// Takes all items, leaving `items` empty but with a buffer for the next batch.
    pub(super) fn put_all(&mut self, items: &mut Vec<T>, charged: usize) {
        debug_assert!(self.body().many.is_empty());
        mem::swap(&mut self.body().many, items);
        self.body().charged = charged;
    }

    /// Takes the first `count` items and leaves the others.
    pub(super) fn put_some(&mut self, items: &mut Vec<T>, count: usize) {
        let body = self.body();
        body.many.extend(items.drain(..count));
        body.charged = count;
    }

    /// Moves the items behind those of `out`. Answers how many were charged.
    pub(super) fn empty_into(&mut self, out: &mut Vec<T>) -> usize {
        let body = self.body();
        if let Some(item) = body.one.take() {
            out.push(item);
        }
        if out.is_empty() {
            mem::swap(&mut body.many, out);
        } else {
            out.append(&mut body.many);
        }
        self.take_charged()
    }

    pub(super) fn take_charged(&mut self) -> usize {
        mem::take(&mut self.body().charged)
    }

    /// What was put in and has come back from a closed mailbox.
    pub(super) fn take_one(&mut self) -> Option<T> {
        self.body().charged = 0;
        self.body().one.take()
    }
}

impl<T> Drop for Owned<T> {
    /// Frees the node, its items, and the list behind it, without recursion.
    fn drop(&mut self) {
        let mut next = self.take_next();
        // SAFETY: The node came from a box and `self`, its only owner, ends here.
        drop(unsafe { Box::from_raw(self.node.as_ptr()) });
        while let Some(mut node) = next {
            next = node.take_next();
        }
    }
}

/// Batches in the order in which they were pushed, to be taken one by one.
pub(super) struct Batches<T>(Option<Owned<T>>);

impl<T> Iterator for Batches<T> {
    type Item = Owned<T>;

    fn next(&mut self) -> Option<Owned<T>> {
        let mut first = self.0.take()?;
        self.0 = first.take_next();
        Some(first)
    }
}

/// The two lists of a mailbox: the batches under way and the emptied nodes.
pub(super) struct Stack<T> {
    head: AtomicPtr<Node<T>>,
    spare: AtomicPtr<Node<T>>,
    marker: PhantomData<Box<Node<T>>>,
}

// SAFETY: The stack owns items of `T` and moves them from the pushing threads to the taking one;
// it never hands out a reference to one that is inside.
unsafe impl<T: Send> Send for Stack<T> {}
// SAFETY: As above: sharing the stack only moves items, guarded by the atomics' ground rules.
unsafe impl<T: Send> Sync for Stack<T> {}

impl<T> Stack<T> {
    pub(super) fn new() -> Self {
        Self {
            head: AtomicPtr::new(ptr::null_mut()),
            spare: AtomicPtr::new(ptr::null_mut()),
            marker: PhantomData,
        }
    }

    /// The mark of a mailbox without receiver: an address that no node can have.
    fn closed() -> *mut Node<T> {
        ptr::without_provenance_mut(1)
    }

    /// An empty node, from the spares if there are any.
    pub(super) fn node(&self) -> Owned<T> {
        let Some(mut node) = self.take_spares() else {
            return Owned::new();
        };
        if let Some(rest) = node.take_next() {
            self.give_spares(rest);
        }
        node
    }

    fn take_spares(&self) -> Option<Owned<T>> {
        if self.spare.load(Ordering::Relaxed).is_null() {
            return None;
        }
        let list = self.spare.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: The swap took the whole list out of `spare`, where only `give_spares` puts nodes.
        unsafe { Owned::from_raw(list) }
    }

    /// Makes `list` the spares, or frees it when somebody else was quicker.
    fn give_spares(&self, list: Owned<T>) {
        let raw = list.into_raw();
        let null = ptr::null_mut();
        if self
            .spare
            .compare_exchange(null, raw, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            // SAFETY: The exchange failed, so the list still belongs to this thread alone.
            drop(unsafe { Owned::from_raw(raw) });
        }
    }

    /// Keeps an emptied node for later, within the limits.
    pub(super) fn recycle(&self, spares: &mut Spares<T>, mut node: Owned<T>) {
        let body = node.body();
        debug_assert!(body.one.is_none() && body.many.is_empty() && body.charged == 0);
        if body.many.capacity() * size_of::<T>() > SPARE_BYTES_MAX {
            body.many = Vec::new();
        }
        if spares.list.is_none() {
            spares.list = self.take_spares();
        }
        let behind = spares
            .list
            .as_mut()
            .map_or(0, |behind| behind.body().spares);
        if behind < SPARE_NODES_MAX {
            node.body().spares = behind + 1;
            node.set_next(spares.list.take());
            spares.list = Some(node);
        }
    }

    /// Puts the recycled nodes where senders find them.
    pub(super) fn publish(&self, spares: Spares<T>) {
        if let Some(list) = spares.list {
            self.give_spares(list);
        }
    }

    /// Appends a batch. Gives it back if the mailbox is closed.
    pub(super) fn push(&self, mut node: Owned<T>) -> Result<(), Owned<T>> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            if head == Self::closed() {
                node.body().next = ptr::null_mut();
                return Err(node);
            }
            node.body().next = head;
            let raw = node.into_raw();
            match self
                .head
                .compare_exchange_weak(head, raw, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => head = now,
            }
            // SAFETY: The exchange failed, so the node is in no list and still this thread's.
            node = unsafe { Owned::from_raw(raw) }.expect("it was not null");
        }
    }

    /// Whether there is nothing to take. One load.
    pub(super) fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Acquire);
        head.is_null() || head == Self::closed()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.head.load(Ordering::Relaxed) == Self::closed()
    }

    /// Takes all batches, oldest first. Only the receiver calls this, and never after `close`.
    pub(super) fn take(&self) -> Batches<T> {
        if self.head.load(Ordering::Relaxed).is_null() {
            return Batches(None);
        }
        let list = self.head.swap(ptr::null_mut(), Ordering::Acquire);
        debug_assert!(list != Self::closed(), "the receiver is gone");
        // SAFETY: The swap took the whole list out of `head`, where only `push` puts nodes, and
        // the mark is not there while the receiver lives.
        Batches(reverse(unsafe { Owned::from_raw(list) }))
    }

    /// Ends the mailbox: what is in it comes back, and later pushes fail.
    pub(super) fn close(&self) -> Batches<T> {
        let list = self.head.swap(Self::closed(), Ordering::Acquire);
        if list == Self::closed() {
            return Batches(None);
        }
        // SAFETY: As in `take`; the mark has just been excluded.
        Batches(reverse(unsafe { Owned::from_raw(list) }))
    }
}

impl<T> Drop for Stack<T> {
    fn drop(&mut self) {
        drop(self.close());
        drop(self.take_spares());
    }
}

impl<T> fmt::Debug for Stack<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("is_empty", &self.is_empty())
            .finish_non_exhaustive()
    }
}

/// Emptied nodes on their way back.
pub(super) struct Spares<T> {
    list: Option<Owned<T>>,
}

impl<T> Spares<T> {
    pub(super) const fn new() -> Self {
        Self { list: None }
    }
}

fn reverse<T>(mut list: Option<Owned<T>>) -> Option<Owned<T>> {
    let mut turned = None;
    while let Some(mut node) = list {
        list = node.take_next();
        node.set_next(turned);
        turned = Some(node);
    }
    turned
}
