//! Bugs, each planted by one condition at the place where it could be made.

use std::cell::Cell;

/// What can be planted, one at a time.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Bug {
    /// A new subscription leaves the cached routes as they are.
    StaleRouteCache,
    /// The first of several subscriptions that goes takes the shard's interest with it.
    InterestClearedEarly,
    /// An acknowledgement overtakes an older one whose shards have not all answered.
    AckOutOfOrder,
    /// A QoS 2 message that comes again is taken for a new one.
    DuplicateRoutedAgain,
    /// What a take-over has done already stays in the cleanup funnel.
    FunnelHitsNewSession,
    /// DISCONNECT does not drop the will.
    WillAfterDisconnect,
    /// A replay that needs another slice is forgotten.
    RetainedLost,
    /// A message for which the store has no room leaves the older one in it.
    RetainedStale,
    /// What was sent at QoS 2 goes to another member of the group when its member goes.
    Qos2ToAnotherMember,
    /// Ids are counted from what is in flight, without those that are settled before their elders.
    PacketIdReusedEarly,
    /// A publish that fits no run does not end the one that is being gathered.
    RunNotSealed,
    /// The loop sleeps although work is left.
    LostWakeUp,
    /// An answer does not give back all of the credit.
    CreditLeak,
    /// A message that comes again joins the acknowledgement that is due although one before it was
    /// routed again.
    JoinsBehindRouted,
    /// A message for which a session has no room is counted twice.
    DropCountedTwice,
    /// The end of a replay is not brought about by UNSUBSCRIBE.
    ReplayAfterUnsubscribe,
    /// What is put back into a group's queue may be taken back before it was written, although
    /// somebody else's record of it is removed in the same write.
    GivenBackUnpinned,
    /// A session with nothing in flight goes back to the number of a publication that is below its
    /// own.
    NumberStepsBack,
}

impl Bug {
    pub(crate) const ALL: [Self; 18] = [
        Self::StaleRouteCache,
        Self::InterestClearedEarly,
        Self::AckOutOfOrder,
        Self::DuplicateRoutedAgain,
        Self::FunnelHitsNewSession,
        Self::WillAfterDisconnect,
        Self::RetainedLost,
        Self::RetainedStale,
        Self::Qos2ToAnotherMember,
        Self::PacketIdReusedEarly,
        Self::RunNotSealed,
        Self::LostWakeUp,
        Self::CreditLeak,
        Self::JoinsBehindRouted,
        Self::DropCountedTwice,
        Self::ReplayAfterUnsubscribe,
        Self::GivenBackUnpinned,
        Self::NumberStepsBack,
    ];
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this thread's broker has the bug.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Plants a bug, or none, in the brokers of this thread; gives back what was planted before.
pub(crate) fn plant(bug: Option<Bug>) -> Option<Bug> {
    PLANTED.replace(bug)
}
