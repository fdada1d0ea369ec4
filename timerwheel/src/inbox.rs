//! Messages of many threads to one, taken as a batch.
//!
//! # Ground rules
//!
//! The inbox is a stack that is only pushed to and only emptied as a whole.
//!
//! - A link is a box that was turned into a pointer. Before it is pushed it belongs to the pushing
//!   thread; once the compare-exchange in `push` has put it on the stack, it belongs to the stack;
//!   the swap in `drain` gives it, with all that hang on it, to the draining thread. No thread
//!   looks into a link that does not belong to it, so there is nothing to reclaim later and no ABA:
//!   a head that was popped and pushed again is as good as it was, because its `below` is set anew.
//! - The Release of `push` pairs with the Acquire of `drain`: the drainer sees what was written
//!   into the link. Links below the newest were pushed by earlier Releases; each compare-exchange
//!   is a read-modify-write, so the release sequence of each reaches the drainer's Acquire.
#![allow(
    unsafe_code,
    reason = "links are owned through raw pointers while they are on the stack"
)]

use std::marker::PhantomData;
use std::ptr;

use crate::sync::{AtomicPtr, Ordering};

struct Link<M> {
    message: M,
    /// The link pushed before this one; set by the pusher, used by the drainer.
    below: *mut Self,
    /// The link pushed after this one; used by the drainer alone.
    above: Option<Box<Self>>,
}

/// A stack of messages that any thread pushes to.
pub(crate) struct Inbox<M> {
    newest: AtomicPtr<Link<M>>,
    /// An inbox owns messages; the pointer takes away the automatic `Send` and `Sync`.
    owns: PhantomData<*mut M>,
}

// SAFETY: an inbox holds messages and gives them to whoever drains it, so it may go where they may.
unsafe impl<M: Send> Send for Inbox<M> {}

// SAFETY: through a shared inbox messages are only moved in and out (see the ground rules), never
// borrowed, so moving them between threads is all that must be allowed.
unsafe impl<M: Send> Sync for Inbox<M> {}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Self {
        Self {
            newest: AtomicPtr::new(ptr::null_mut()),
            owns: PhantomData,
        }
    }

    /// Adds a message, and says whether the inbox was empty, so that the owner is to be told.
    ///
    /// Lock-free: a push only fails to go on while another one goes on. Allocates a link.
    pub(crate) fn push(&self, message: M) -> bool {
        let mut below = self.newest.load(Ordering::Relaxed);
        let mut link = Box::new(Link {
            message,
            below,
            above: None,
        });
        loop {
            link.below = below;
            let raw = Box::into_raw(link);
            match self
                .newest
                .compare_exchange(below, raw, Ordering::Release, Ordering::Relaxed)
            {
                Ok(_) => return below.is_null(),
                Err(newest) => {
                    below = newest;
                    // SAFETY: `raw` was made of a box just above, and the exchange failed, so it is
                    // not on the stack and still belongs to this thread.
                    link = unsafe { Box::from_raw(raw) };
                }
            }
        }
    }

    /// Takes all messages, the oldest first.
    pub(crate) fn drain(&self) -> Batch<M> {
        let mut oldest = None;
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        while !newest.is_null() {
            // SAFETY: `push` made the pointer of a box, and the swap took it off the stack together
            // with all below it, so each belongs to this thread alone and is met once.
            let mut link = unsafe { Box::from_raw(newest) };
            newest = link.below;
            link.above = oldest;
            oldest = Some(link);
        }
        Batch { oldest }
    }
}

impl<M> Drop for Inbox<M> {
    fn drop(&mut self) {
        drop(self.drain());
    }
}

/// Messages in the order in which they were pushed.
pub(crate) struct Batch<M> {
    oldest: Option<Box<Link<M>>>,
}

impl<M> Iterator for Batch<M> {
    type Item = M;

    fn next(&mut self) -> Option<M> {
        let link = *self.oldest.take()?;
        self.oldest = link.above;
        Some(link.message)
    }
}

impl<M> Drop for Batch<M> {
    fn drop(&mut self) {
        // One by one: a long chain of boxes would be dropped by recursion.
        self.for_each(drop);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    static_assertions::assert_impl_all!(Inbox<std::cell::Cell<u8>>: Send, Sync);
    static_assertions::assert_not_impl_any!(Inbox<std::rc::Rc<u8>>: Send, Sync);

    #[test]
    fn batches_keep_the_order_and_the_first_push_of_one_says_so() {
        let inbox = Inbox::new();
        assert!(inbox.push(1));
        assert!(!inbox.push(2));
        assert!(!inbox.push(3));
        assert_eq!(inbox.drain().collect::<Vec<i32>>(), [1, 2, 3]);
        assert_eq!(inbox.drain().count(), 0);
        assert!(inbox.push(4));
    }

    #[test]
    fn what_is_not_taken_is_dropped_without_recursion() {
        let count = std::rc::Rc::new(());
        let inbox = Inbox::new();
        for _ in 0..if cfg!(miri) { 100 } else { 200_000 } {
            inbox.push(std::rc::Rc::clone(&count));
        }
        let mut batch = inbox.drain();
        assert!(batch.next().is_some());
        inbox.push(std::rc::Rc::clone(&count));
        drop(batch);
        assert_eq!(std::rc::Rc::strong_count(&count), 2);
        drop(inbox);
        assert_eq!(std::rc::Rc::strong_count(&count), 1);
    }
}
