//! What one shard has for another, and the credit between them (DECISIONS 2).

use crate::group::{Call, Dealt, GroupMail};
use crate::message::{AcceptTag, Batch, Forwarded, Reply};

/// What is on its way to another shard, and how much of it has not been taken yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) items: Vec<Forwarded>,
    pub(crate) spare: Vec<Forwarded>,
    pub(crate) cost: u64,
    /// Credit in use: what was sent and has not been answered.
    pub(crate) unanswered: u64,
    /// Answers to this shard's batches.
    pub(crate) accepted: Vec<AcceptTag>,
    pub(crate) returned: Vec<Forwarded>,
    pub(crate) returned_cost: u64,
    pub(crate) has_answer: bool,
    /// Credit that is kept back while a subscriber's queue is above the soft mark.
    pub(crate) held_cost: u64,
    /// What is to be said about shared subscriptions.
    pub(crate) calls: Vec<Call>,
    /// Messages for members of groups. Their credit is counted apart: the other shard gives it
    /// back without waiting for any third one.
    pub(crate) dealt: Vec<Dealt>,
    pub(crate) dealt_cost: u64,
    pub(crate) dealt_unanswered: u64,
    pub(crate) returned_dealt_cost: u64,
    pub(crate) held_dealt_cost: u64,
}

impl Outbox {
    /// The publications of this turn, to be sent; their credit is in use from now on.
    pub(crate) fn take_batch(&mut self, from: u16) -> Option<Batch> {
        if self.items.is_empty() {
            return None;
        }
        let spare = std::mem::take(&mut self.spare);
        let items = std::mem::replace(&mut self.items, spare);
        let cost = std::mem::take(&mut self.cost);
        self.unanswered += cost;
        Some(Batch { from, cost, items })
    }

    /// The answer to the other shard's batches, to be sent.
    pub(crate) fn take_reply(&mut self, from: u16) -> Option<Reply> {
        if !self.has_answer {
            return None;
        }
        self.has_answer = false;
        Some(Reply {
            from,
            cost: std::mem::take(&mut self.returned_cost),
            dealt_cost: std::mem::take(&mut self.returned_dealt_cost),
            accepted: std::mem::take(&mut self.accepted),
            spare: std::mem::take(&mut self.returned),
        })
    }

    /// What is to be said about groups, to be sent.
    pub(crate) fn take_group_mail(&mut self, from: u16) -> Option<GroupMail> {
        if self.calls.is_empty() && self.dealt.is_empty() {
            return None;
        }
        let dealt_cost = std::mem::take(&mut self.dealt_cost);
        self.dealt_unanswered += dealt_cost;
        Some(GroupMail {
            from,
            calls: std::mem::take(&mut self.calls),
            dealt: std::mem::take(&mut self.dealt),
            dealt_cost,
        })
    }
}
