//! A mailbox against two plain queues. A fuzz target can take the same operations.

use std::collections::VecDeque;

use pollio::{Full, Receiver, Sender, Waker, mailbox};

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    TryPush,
    TryPushAll(usize),
    Push,
    PushAll(usize),
    /// Drain into an empty vector, or behind what the last drain left.
    Drain(bool),
    CloneSender,
    DropReceiver,
}

/// Makes the steps and compares after each.
pub(crate) fn run(capacity: usize, ops: &[Op]) {
    let waker = Waker::with_hook(|| {});
    let (sender, receiver) = mailbox::<String>(capacity, waker.clone());
    let mut state = State {
        capacity,
        waker,
        sender,
        receiver: Some(receiver),
        model: VecDeque::new(),
        next: 0,
        out: Vec::new(),
        items: Vec::new(),
    };
    for op in ops {
        state.apply(op);
        state.compare();
    }
}

struct State {
    capacity: usize,
    waker: Waker,
    sender: Sender<String>,
    receiver: Option<Receiver<String>>,
    /// Items under way, and whether they are of the bounded lane.
    model: VecDeque<(String, bool)>,
    next: u32,
    out: Vec<String>,
    items: Vec<String>,
}

impl State {
    /// Items own memory, so that a leak or a double drop shows under a checker.
    fn item(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    fn room(&self) -> usize {
        let bounded = self.model.iter().filter(|(_, bounded)| *bounded).count();
        if self.receiver.is_some() {
            self.capacity - bounded
        } else {
            0
        }
    }

    fn apply(&mut self, op: &Op) {
        let room = self.room();
        let open = self.receiver.is_some();
        self.waker.acknowledge();
        match op {
            Op::TryPush => {
                let item = self.item();
                let result = self.sender.try_push(item.clone());
                assert_eq!(
                    result,
                    if room > 0 {
                        Ok(())
                    } else {
                        Err(Full(item.clone()))
                    }
                );
                if room > 0 {
                    self.model.push_back((item, true));
                }
                assert_eq!(self.waker.is_notified(), room > 0);
            }
            Op::TryPushAll(count) => {
                let batch: Vec<_> = (0..*count).map(|_| self.item()).collect();
                self.items.extend_from_slice(&batch);
                let result = self.sender.try_push_all(&mut self.items);
                let sent = room.min(*count);
                self.model
                    .extend(batch[..sent].iter().map(|item| (item.clone(), true)));
                assert_eq!(self.items, batch[sent..]);
                assert_eq!(
                    result,
                    if sent == *count {
                        Ok(())
                    } else {
                        Err(Full(count - sent))
                    }
                );
                assert_eq!(self.waker.is_notified(), sent > 0);
                self.items.clear();
            }
            Op::Push => {
                let item = self.item();
                self.sender.push_unbounded(item.clone());
                if open {
                    self.model.push_back((item, false));
                }
                assert_eq!(self.waker.is_notified(), open);
            }
            Op::PushAll(count) => {
                let batch: Vec<_> = (0..*count).map(|_| self.item()).collect();
                self.items.extend_from_slice(&batch);
                self.sender.push_all_unbounded(&mut self.items);
                assert!(self.items.is_empty());
                if open {
                    self.model
                        .extend(batch.into_iter().map(|item| (item, false)));
                }
            }
            Op::Drain(clear) => {
                let Some(receiver) = &mut self.receiver else {
                    return;
                };
                if *clear {
                    self.out.clear();
                }
                let before = self.out.clone();
                let count = receiver.drain_into(&mut self.out);
                assert_eq!(count, self.model.len());
                assert_eq!(self.out[..before.len()], before);
                let model: Vec<_> = self.model.drain(..).map(|(item, _)| item).collect();
                assert_eq!(self.out[before.len()..], model);
            }
            Op::CloneSender => self.sender = self.sender.clone(),
            Op::DropReceiver => {
                self.receiver = None;
                self.model.clear();
            }
        }
    }

    fn compare(&self) {
        let bounded = self.model.iter().filter(|(_, bounded)| *bounded).count();
        assert_eq!(self.sender.len_bounded(), bounded);
        assert_eq!(self.sender.is_closed(), self.receiver.is_none());
        if let Some(receiver) = &self.receiver {
            assert_eq!(receiver.is_empty(), self.model.is_empty());
        }
    }
}
