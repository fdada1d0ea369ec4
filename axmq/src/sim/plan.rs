//! What one run is like: everything that the seed decides before the first event.

use pollio::ReactorOptions;
use pollio::sim::{Fault, Faults};

use super::hooks::{HookPlan, user};
use super::random::Random;
use crate::config::{Durability, Limits, StoreRule, StoreSettings};

/// What a client does next.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Act {
    Publish,
    /// Several QoS 0 messages on one topic.
    Burst,
    PublishRetained,
    Subscribe,
    Unsubscribe,
    Ping,
    Disconnect,
    Reset,
    FallSilent,
    TakeOver,
    AuthenticateAnew,
    Nothing,
}

pub(super) const ACTS: [Act; 12] = [
    Act::Publish,
    Act::Burst,
    Act::PublishRetained,
    Act::Subscribe,
    Act::Unsubscribe,
    Act::Ping,
    Act::Disconnect,
    Act::Reset,
    Act::FallSilent,
    Act::TakeOver,
    Act::AuthenticateAnew,
    Act::Nothing,
];

pub(super) const TOPICS_PLAIN: [&str; 6] = ["t/0", "t/1", "t/2", "t/a/b", "t/a/c", "u"];

pub(super) const FILTERS: [&str; 17] = [
    "t/+",
    "t/0",
    "t/1",
    "t/#",
    "#",
    "+/0",
    "t/a/+",
    "u",
    "+",
    "+/a/b",
    "r/#",
    "r/+/0",
    "r/0/#",
    "r/1/+",
    "w/#",
    "w/+",
    FILTER_DENIED,
];

/// Hooks let nobody subscribe to this. It matches nothing.
pub(super) const FILTER_DENIED: &str = "no/#";

/// Topics that clients with shared subscriptions get as members of groups only.
pub(super) const TOPICS_SHARED: [&str; 2] = ["s/0", "s/1"];

/// Shared subscriptions: what is subscribed to, and the filter in it. Their numbers go on from
/// those of `FILTERS`.
pub(super) const GROUPS: [(&str, &str); 3] = [
    ("$share/g/s/+", "s/+"),
    ("$share/h/s/#", "s/#"),
    ("$share/g/s/0", "s/0"),
];

/// What the broker says of itself. Their numbers go on from those of `GROUPS`.
pub(super) const SYS: [&str; 3] = [
    "$SYS/#",
    "$SYS/broker/clients/+/connected",
    "$SYS/broker/messages/+",
];

/// What a subscription with this number asks for.
pub(super) fn filter_text(filter: usize) -> &'static str {
    match filter.checked_sub(FILTERS.len()) {
        Some(group) => GROUPS
            .get(group)
            .map_or_else(|| SYS[group - GROUPS.len()], |(text, _)| text),
        None => FILTERS[filter],
    }
}

/// Whether the subscription with this number is a shared one.
pub(super) fn is_shared(filter: usize) -> bool {
    (FILTERS.len()..FILTERS.len() + GROUPS.len()).contains(&filter)
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) events: u64,
    pub(super) shards: u16,
    pub(super) clients: usize,
    pub(super) limits: Limits,
    pub(super) connections_max: u64,
    /// Room in a shard's mailbox for hand-overs.
    pub(super) mailbox: usize,
    /// Sessions, connections and messages that a shard has room for.
    pub(super) tables: Option<(u32, u32, u32)>,
    pub(super) reactor: ReactorOptions,
    pub(super) faults: Faults,
    /// Of the network, for each direction of a connection.
    pub(super) buffer_bytes: usize,
    pub(super) acts: [u32; ACTS.len()],
    pub(super) qos: [u32; 3],
    /// Retained topics that each client writes.
    pub(super) retained_topics: usize,
    pub(super) payload_max: usize,
    /// Of 100: what chance the clients take on connecting.
    pub(super) clean_starts: u64,
    pub(super) wills: u64,
    pub(super) expiries: u64,
    /// Of 1,000 events, those that move the clock, and those that make it jump.
    pub(super) ticks: u64,
    pub(super) jumps: u64,
    /// Of 100 clients, those that read slowly.
    pub(super) slow: u64,
    /// Shared subscriptions in use, from the first on.
    pub(super) groups: usize,
    /// Of 100 events, those that are a client's.
    pub(super) client_share: u64,
    /// It ends by a stop of the broker, not with everybody leaving.
    pub(super) stops: bool,
    /// Of 10,000 events, those that change how short memory is.
    pub(super) shortages: u64,
    /// Whether some clients subscribe to `$SYS/`, and how often it tells of changes.
    pub(super) sys_interval_s: Option<u32>,
    pub(super) store: Option<StorePlan>,
    /// All clients have sessions that stay, and may be members of the group.
    pub(super) keeps_sessions: bool,
    pub(super) hooks: Option<HookPlan>,
    /// Of 100 deliveries at QoS 1 and 2 to a 5.0 client, those that it refuses.
    pub(super) refusals: u64,
    /// A loop that has one in ten of the turns that the others have; there may be no such loop.
    pub(super) lazy_loop: usize,
    /// Where it is not 0, clients only subscribe before this event, and not after it.
    pub(super) calm_from: u64,
}

/// How a run keeps things.
#[derive(Clone, Debug)]
pub(super) struct StorePlan {
    pub(super) settings: StoreSettings,
    /// Of 10,000 events, those that change the weather of the disk.
    pub(super) weather: u64,
    /// It is about a group.
    is_for_group: bool,
}

const DURABILITIES: [Durability; 3] = [Durability::None, Durability::Interval, Durability::Always];

impl StorePlan {
    /// From dice of its own: a run without a store is the one that its seed has always been.
    fn new(seed: u64, limits: &mut Limits) -> Option<Self> {
        let mut random = Random(seed ^ 0x5349_4d53_544f_5245);
        random.0 = random.next();
        let r = &mut random;
        if !r.one_in(3) {
            return None;
        }
        if r.one_in(2) {
            limits.store_queue_bytes = r.between(100, 4_000);
        }
        let mut settings = StoreSettings {
            durability: r.pick(&[Durability::Interval, Durability::Always]),
            interval_ms: r.pick(&[5, 50, 1_000]),
            reserve_bytes: 0,
            rules: Vec::new(),
        };
        let weather = r.pick(&[0, 0, 20]);
        if r.one_in(2) {
            settings.durability = r.pick(&DURABILITIES);
            settings.rules = Self::rules(r);
        }
        Some(Self {
            settings,
            weather,
            is_for_group: r.one_in(3),
        })
    }

    /// Another durability for some topics, and for some of those who have logged in.
    fn rules(r: &mut Random) -> Vec<StoreRule> {
        let topics = ["t/+", "t/a/#", "s/0", "w/#", "r/0/#", "r/+/1"].map(|topic| (topic, true));
        let users: Vec<_> = (0..4).map(user).collect();
        let users = users.iter().map(|user| (&**user, false));
        let mut rules = Vec::new();
        for (text, is_topic) in topics.into_iter().chain(users) {
            let (mut rule, text) = (StoreRule::default(), vec![text.to_owned()]);
            rule.durability = r.pick(&DURABILITIES);
            *(if is_topic {
                &mut rule.topics
            } else {
                &mut rule.users
            }) = text;
            if r.one_in(2) {
                rules.push(rule);
            }
        }
        rules
    }
}

/// A number that is often small, now and then large, and sometimes in between.
fn size(random: &mut Random, small: u64, large: u64) -> u64 {
    match random.below(3) {
        0 => random.between(small, small * 2),
        1 => random.between(small, large),
        _ => large,
    }
}

fn limits(random: &mut Random) -> Limits {
    let wide = Limits::default();
    let mut limits = Limits {
        connect_timeout_ms: random.pick(&[100, 10_000]),
        packet_bytes: 65_536,
        session_expiry_v3_s: random.pick(&[2, 1_000_000]),
        inflight: size(random, 1, 20) as u32,
        receive_maximum: size(random, 2, 20) as u32,
        topic_aliases: random.pick(&[0, 1, 4]),
        topic_aliases_out: random.pick(&[0, 0, 2, 10]),
        connects_per_s: random.pick(&[0, 0, 0, 0, 3, 20]),
        cleanup_funnel: random.pick(&[1, 2, 1_000]),
        ..wide
    };
    if random.one_in(2) {
        limits.session_queue_messages = size(random, 3, 100) as u32;
        limits.session_queue_bytes = size(random, 1_000, 20_000);
    }
    if random.one_in(2) {
        limits.out_queue_bytes = size(random, 600, 20_000);
        limits.out_queue_soft_bytes = limits.out_queue_bytes / random.between(2, 4);
        limits.mailbox_bytes = size(random, 300, 5_000);
    }
    if random.one_in(4) {
        limits.subscriptions_per_client = random.between(1, 4) as u32;
    }
    if random.one_in(3) {
        limits.shared_queue_messages = size(random, 2, 50) as u32;
        limits.shared_queue_bytes = size(random, 1_000, 20_000);
    }
    if random.one_in(4) {
        limits.retained_messages = random.between(2, 20);
        limits.retained_bytes = size(random, 200, 20_000);
    }
    limits
}

/// From dice of its own: a run whose shards do not spin is the one that its seed has always been.
fn spin_ns_max(seed: u64) -> u64 {
    let mut random = Random(seed ^ 0x7370_696e_6e69_6e67);
    random.0 = random.next();
    random.pick(&[0, 0, 0, 3_000, 50_000, 1_000_000])
}

fn faults(random: &mut Random) -> Faults {
    let mut faults = Faults::NONE;
    for fault in Fault::ALL {
        if random.one_in(2) {
            faults = faults.with(fault, random.pick(&[5, 50, 200]));
        }
    }
    faults
}

impl Plan {
    pub(super) fn new(seed: u64, events: u64) -> (Self, Random) {
        let mut random = Random(seed);
        // Neighbouring seeds must not be neighbouring runs.
        random.0 = random.next();
        let r = &mut random;
        let clients = r.between(4, 14) as usize;
        let is_many = r.one_in(3);
        let is_calm = r.one_in(8);
        let tables = r.one_in(8).then(|| {
            (
                r.between(2, clients as u64) as u32,
                r.between(2, clients as u64) as u32,
                r.between(5, 60) as u32,
            )
        });
        let acts = [
            r.between(10, 60) as u32,
            r.pick(&[0, 2, 10]),
            if is_many { 20 } else { r.pick(&[0, 3, 20]) },
            r.between(2, 12) as u32,
            r.pick(&[0, 2, 10]),
            r.between(0, 5) as u32,
            r.pick(&[0, 1, 4]),
            r.pick(&[0, 1, 4]),
            r.pick(&[0, 1, 3]),
            r.pick(&[0, 1, 4]),
            r.pick(&[0, 2]),
            r.between(5, 60) as u32,
        ];
        let mut plan = Self {
            events,
            shards: r.pick(&[1, 2, 2, 3, 4]),
            clients,
            limits: limits(r),
            connections_max: if r.one_in(4) { clients as u64 } else { 1_000 },
            mailbox: r.pick(&[1, 2, 64]),
            tables,
            reactor: ReactorOptions {
                events_max: r.pick(&[1, 4, 256]),
                read_bytes_max: r.pick(&[512, 2_048, 65_536]),
                read_packets_max: r.pick(&[1, 3, 64]),
                background_ns: r.pick(&[0, 200_000]),
                spin_ns_max: spin_ns_max(seed),
                ..ReactorOptions::default()
            },
            faults: if r.one_in(4) { Faults::NONE } else { faults(r) },
            buffer_bytes: r.pick(&[150, 1_000, 65_536]),
            acts,
            qos: [
                r.between(1, 10) as u32,
                r.between(0, 10) as u32,
                r.between(0, 10) as u32,
            ],
            retained_topics: if is_many {
                r.between(20, 60) as usize
            } else {
                2
            },
            payload_max: r.pick(&[16, 300, 4_000]),
            clean_starts: r.pick(&[0, 5, 30]),
            wills: r.pick(&[0, 30, 80]),
            expiries: r.pick(&[0, 10, 50]),
            ticks: r.between(5, 60),
            jumps: r.pick(&[0, 0, 2, 6]),
            slow: r.pick(&[0, 20, 60]),
            groups: r.pick(&[0, 1, 1, 3]),
            client_share: r.between(30, 60),
            refusals: r.pick(&[0, 0, 5, 30]),
            lazy_loop: r.below(12),
            stops: r.one_in(3),
            shortages: r.pick(&[0, 0, 0, 20]),
            sys_interval_s: r.pick(&[None, None, None, Some(0), Some(1), Some(10)]),
            store: None,
            keeps_sessions: false,
            hooks: r.one_in(3).then(|| HookPlan {
                jobs_max: r.pick(&[2, 100]),
                sees_deliveries: r.one_in(3),
            }),
            calm_from: 0,
        };
        if plan.shortages > 0 {
            // Only long queues are worth a client.
            let wide = Limits::default();
            plan.limits.out_queue_bytes = wide.out_queue_bytes;
            plan.limits.out_queue_soft_bytes = wide.out_queue_soft_bytes;
            plan.limits.mailbox_bytes = wide.mailbox_bytes;
            plan.payload_max = plan.payload_max.max(20_000);
            plan.slow = 60;
        }
        if is_calm {
            plan.calm_down();
        }
        if !plan.stops {
            plan.store = StorePlan::new(seed, &mut plan.limits);
        }
        if !is_calm && let Some(store) = plan.store.take_if(|store| store.is_for_group) {
            plan.entrust(store);
        }
        (plan, random)
    }

    /// Nobody leaves, nothing fails, and all subscriptions are there before the first message: what
    /// each client has to get is known, and with it how much was dropped.
    fn calm_down(&mut self) {
        for (act, weight) in ACTS.iter().zip(&mut self.acts) {
            let leaves = matches!(
                act,
                Act::Disconnect | Act::Reset | Act::FallSilent | Act::TakeOver | Act::Unsubscribe
            );
            if leaves {
                *weight = 0;
            }
        }
        self.faults = Faults::NONE;
        self.tables = None;
        self.jumps = 0;
        self.expiries = 0;
        self.wills = 0;
        self.groups = 0;
        self.hooks = None;
        self.sys_interval_s = None;
        self.payload_max = 16;
        self.calm_from = self.events / 5;
    }

    /// One group, whose members come and go with sessions that stay, and give back what they have
    /// not acknowledged: all of its messages have to be on disk at every moment.
    fn entrust(&mut self, mut store: StorePlan) {
        store.settings.durability = Durability::Always;
        store.settings.rules.clear();
        store.weather = 0;
        self.store = Some(store);
        self.keeps_sessions = true;
        self.clean_starts = 0;
        self.expiries = 0;
        self.groups = 1;
        self.shards = self.shards.max(2);
        // What is on its way to one of the shards is so for long.
        self.lazy_loop = 1 + self.lazy_loop % usize::from(self.shards);
        self.tables = None;
        self.shortages = 0;
        // What is dropped may be what is missing.
        let (limits, wide) = (&mut self.limits, Limits::default());
        limits.session_expiry_v3_s = 1_000_000;
        limits.session_queue_messages = wide.session_queue_messages;
        limits.session_queue_bytes = wide.session_queue_bytes;
        limits.shared_queue_messages = wide.shared_queue_messages;
        limits.shared_queue_bytes = wide.shared_queue_bytes;
        self.payload_max = 16;
        self.qos = [1, 8, 3];
        // So that members go with what they have not read.
        self.slow = 80;
        for (act, weight) in ACTS.iter().zip(&mut self.acts) {
            *weight = match act {
                Act::Publish => 60,
                Act::Burst | Act::PublishRetained => 0,
                Act::Disconnect | Act::Reset | Act::FallSilent | Act::TakeOver => 3,
                Act::Unsubscribe => (*weight).min(1),
                _ => *weight,
            };
        }
    }

    /// Whether a client may do this now.
    pub(super) fn allows(&self, act: Act, tick: u64) -> bool {
        let publishes = matches!(act, Act::Publish | Act::Burst | Act::PublishRetained);
        let is_early = tick < self.calm_from;
        match act {
            Act::Subscribe => self.calm_from == 0 || is_early,
            _ => !(publishes && is_early),
        }
    }

    /// What one turn of a shard may queue beyond a limit: everything it can read.
    pub(super) fn slack_bytes(&self) -> u64 {
        let clients = self.clients as u64 + 1;
        let frame = self.payload_max as u64 + 200;
        // Acknowledgements and retained messages of a slice come on top.
        clients * 64 * frame + 64 * frame + 4_096
    }
}
