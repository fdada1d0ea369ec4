//! How often each feature and each fault was met: what never happened has not been tested.

use std::fmt::Write as _;

use pollio::sim::{Fault, SimNet};

macro_rules! features {
    ($($name:ident = $text:literal,)*) => {
        /// Something that a campaign has to meet at least once.
        #[derive(Copy, Clone, Eq, PartialEq, Debug)]
        pub(super) enum Feature { $($name,)* }

        impl Feature {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $text),)*];
        }
    };
}

features! {
    ConnectV31 = "connections with MQTT 3.1",
    ConnectV311 = "connections with MQTT 3.1.1",
    ConnectV5 = "connections with MQTT 5.0",
    CleanStart = "clean starts",
    AssignedId = "client ids assigned",
    SessionResumed = "sessions resumed",
    SessionExpired = "sessions found expired in time",
    SessionForEver = "connections whose session never expires",
    ConnectsHeld = "times that accepting was held for the rate of connections",
    TakeOver = "take-overs",
    Disconnect = "clean disconnects",
    DisconnectWithWill = "disconnects that ask for the will",
    ExpiryAtDisconnect = "sessions ended by DISCONNECT",
    Reset = "connections reset",
    HalfOpen = "peers gone silent",
    SlowReader = "reads of a slow reader",
    SplitWrite = "packets sent in pieces",
    Refused = "connections refused or lost before CONNACK",
    KeepAlive = "keep-alive timeouts told",
    Qos0 = "messages published at QoS 0",
    Qos1 = "messages published at QoS 1",
    Qos2 = "messages published at QoS 2",
    Burst = "bursts of QoS 0 messages on one topic",
    ResentByClient = "publishes and releases sent again by clients",
    Redelivered = "messages sent again by the broker",
    RetainedSet = "retained messages published",
    RetainedCleared = "retained messages cleared",
    RetainedReceived = "retained messages received",
    RetainedOwed = "retained messages owed to a subscription",
    ReplaySlices = "replays that needed another slice",
    Will = "wills given",
    WillDelayed = "wills given with a delay",
    WillReceived = "wills received",
    WillOwed = "wills that had to be published",
    WillCancelled = "wills cancelled by a return in time",
    MessageExpiry = "messages with an expiry",
    ExpiryReceived = "remaining lifetimes checked",
    Subscribe = "subscriptions granted",
    Resubscribe = "subscriptions replaced",
    SubscribeRefused = "subscriptions refused at the limit",
    Unsubscribe = "subscriptions withdrawn",
    Shared = "shared subscriptions asked for",
    SharedPublished = "messages published for groups",
    Dealt = "deliveries to members of groups",
    DealtChecked = "messages that a group had to get, and did",
    Overlap = "deliveries that several filters match",
    NoLocal = "subscriptions with no-local",
    RetainAsPublished = "subscriptions with retain-as-published",
    SubscriptionId = "deliveries with subscription identifiers",
    UserProperties = "deliveries with user properties",
    TopicAlias = "publishes by topic alias",
    AliasIntroduced = "deliveries that introduce a topic alias",
    AliasReceived = "deliveries by topic alias",
    WindowFull = "deliveries that filled the receive maximum",
    RefusedByClient = "deliveries refused by clients",
    ClockJump = "clock jumps",
    ClockLeap = "clock jumps by hours",
    SpuriousTurn = "turns for nothing",
    LoginByPassword = "connections that have shown a password",
    LoginByScram = "connections that have authenticated by SCRAM",
    LoginDenied = "connections denied",
    AuthAnew = "authentications anew begun",
    AuthenticatedAnew = "authentications anew that have come to their end",
    AuthAnewDenied = "clients that could not authenticate anew",
    HooksHeard = "connects that a hook has heard of, with their ends",
    EditedByHook = "messages whose topic a hook edits",
    VoidByHook = "messages that a hook denies, discards or refuses",
    SubscribeDenied = "subscriptions that a hook denies",
    SysValue = "values of $SYS received",
    SysEvent = "connects and disconnects told under $SYS",
    Shortage = "changes of how short memory is",
    PublishersHeld = "publishers held because memory is short",
    ClientShed = "clients disconnected because memory is short",
    Paused = "publishers found paused",
    Congested = "shards found out of credit",
    Funnel = "turns that left work in the funnel",
    TableFull = "runs with tables that refuse",
    StoredInterval = "runs with a store and durability = interval",
    StoredAlways = "runs with a store and durability = always",
    StoredRules = "runs with a store and rules for topics and users",
    StoredGroup = "runs about a group whose messages are on disk at every moment",
    DiskWeather = "changes of what the disk takes",
    FoundOnDisk = "messages of a group that a kill would leave on the disk",
    StoreHeld = "publishers held because the store had not caught up",
    DroppedSessionQueue = "drops: session queue full",
    DroppedOutQueue = "drops: out-queue full",
    DroppedStalled = "drops: no progress",
    DroppedOffline = "drops: not connected",
    DroppedTooLarge = "drops: too large",
    DroppedExpired = "drops: expired",
    DroppedNoMemory = "drops: table full",
    DroppedShort = "drops: memory short",
    DroppedNotAuthorized = "drops: not authorized",
    DropsBounded = "drops that clients may have missed, and no more",
    DropsExact = "drops that clients have missed, exactly",
    DroppedGroupQueue = "drops: queue of a group full",
    DroppedGroupEnded = "drops: the last member of a group left",
    RetainedNotKept = "retained messages not kept",
    Stop = "stops of the broker in the middle of traffic",
    StopTold = "clients told that the broker stops",
    StopSilent = "clients that take nothing while the broker stops",
    StopKept = "QoS 0 deliveries that a stop had to make, and did",
    StopWill = "deliveries of wills that a stop had to make, and did",
    OwedChecked = "deliveries that had to happen, and did",
    OwedOnce = "QoS 0 deliveries that had to happen, and did",
}

#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) seeds: u64,
    pub(super) events: u64,
    pub(super) packets: u64,
    features: Vec<u64>,
    faults: Vec<u64>,
}

impl Report {
    pub(super) fn note(&mut self, feature: Feature) {
        self.add(feature, 1);
    }

    pub(super) fn add(&mut self, feature: Feature, count: u64) {
        self.features.resize(Feature::ALL.len(), 0);
        self.features[feature as usize] += count;
    }

    pub(super) fn add_faults(&mut self, net: &SimNet) {
        self.faults.resize(Fault::ALL.len(), 0);
        for (count, fault) in self.faults.iter_mut().zip(Fault::ALL) {
            *count += net.fault_count(fault);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.packets += other.packets;
        for (mine, others) in [
            (&mut self.features, &other.features),
            (&mut self.faults, &other.faults),
        ] {
            mine.resize(mine.len().max(others.len()), 0);
            for (mine, other) in mine.iter_mut().zip(others) {
                *mine += other;
            }
        }
    }

    fn lines(&self) -> impl Iterator<Item = (String, u64)> {
        let count = |from: &[u64], at: usize| from.get(at).copied().unwrap_or(0);
        let features = Feature::ALL.iter().map(move |(feature, text)| {
            ((*text).to_owned(), count(&self.features, *feature as usize))
        });
        let faults = Fault::ALL
            .iter()
            .enumerate()
            .map(move |(at, fault)| (format!("fault: {fault:?}"), count(&self.faults, at)));
        features.chain(faults)
    }

    /// What was never met.
    pub(super) fn missing(&self) -> Vec<String> {
        self.lines()
            .filter(|(_, count)| *count == 0)
            .map(|(text, _)| text)
            .collect()
    }

    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} seeds, {} events, {} packets received by clients\n",
            self.seeds, self.events, self.packets
        );
        for (name, count) in self.lines() {
            let _ = writeln!(text, "{count:>12}  {name}");
        }
        text
    }
}
