//! Sets of filters and the topics that are matched against them.

use topicmap::Limits;

/// The limits and the seed of all benches.
pub const LIMITS: Limits = Limits {
    levels_max: 128,
    bytes_max: u16::MAX,
    seed: 0xFEED_5EED_0BAD_F00D,
};

/// Topics of a workload.
pub const TOPICS: usize = 1 << 14;

/// A repeatable generator; not a good one, but good enough to draw names with.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) as usize % bound
    }
}

/// Filters, and topics to match with them.
#[derive(Debug)]
pub struct Workload {
    /// What it is called in the groups' names.
    pub name: &'static str,
    /// The filters, one subscription each.
    pub filters: Vec<String>,
    /// The topics, in random order.
    pub topics: Vec<String>,
}

/// Devices with a filter each, 1 in 20 of them with wildcards of seven shapes.
#[must_use]
pub fn fleet(name: &'static str, devices: usize) -> Workload {
    let mut random = Random(7);
    let commands = ["cmd", "config", "firmware", "ping"];
    let filters = (0..devices).map(|n| {
        let (region, device) = (n % 50, n / 4);
        match (n % 20, n % 7) {
            (0, 0) => format!("fleet/{region}/+/{device}/state"),
            (0, 1) => format!("fleet/{region}/dev/{device}/#"),
            (0, 2) => format!("fleet/+/dev/{device}/event/+"),
            (0, 3) => format!("alerts/{device}/+"),
            (0, 4) => format!("fleet/{region}/dev/+/{device}"),
            (0, 5) => format!("+/{region}/dev/{device}/log"),
            (0, _) => format!("site/+/+/{device}/#"),
            _ => format!("fleet/{region}/dev/{device}/{}", commands[n % 4]),
        }
    });
    let filters = filters.collect();
    let topics = (0..TOPICS).map(|_| {
        let n = random.below(devices);
        let what = ["cmd", "state", "event/open", "log", "telemetry"][random.below(5)];
        format!("fleet/{}/dev/{}/{what}", n % 50, n / 4)
    });
    let topics = topics.collect();
    Workload {
        name,
        filters,
        topics,
    }
}

/// Two wildcard filters for each device; each topic meets one of them.
#[must_use]
pub fn per_device(name: &'static str, count: usize) -> Workload {
    let mut random = Random(13);
    let filters = (0..count).map(|n| match n % 2 {
        0 => format!("devices/{n}/#"),
        _ => format!("devices/{n}/+/set"),
    });
    let filters = filters.collect();
    let topics = (0..TOPICS).map(|_| format!("devices/{}/heat/set", random.below(count)));
    let topics = topics.collect();
    Workload {
        name,
        filters,
        topics,
    }
}

/// Four levels of five names or `+`: topics match about every eighth filter.
#[must_use]
pub fn dense(name: &'static str, count: usize) -> Workload {
    let mut random = Random(9);
    let names = ["alpha", "beta", "gamma", "delta", "epsilon"];
    let mut name_of = |wild: bool| {
        let mut level = || {
            if wild && random.below(2) == 0 {
                "+"
            } else {
                names[random.below(5)]
            }
        };
        [level(), level(), level(), level()].join("/")
    };
    let filters = (0..count).map(|_| name_of(true)).collect();
    let topics = (0..256).map(|_| name_of(false)).collect();
    Workload {
        name,
        filters,
        topics,
    }
}

/// Filters of 18 levels whose shapes differ, and topics that lead along all of them but the end.
#[must_use]
pub fn hostile(name: &'static str, count: usize) -> Workload {
    let mut random = Random(17);
    let filters = (0..count).map(|n| {
        let levels = (0..17).map(|_| if random.below(2) == 0 { "+" } else { "a" });
        levels.collect::<Vec<_>>().join("/") + &format!("/z{n}")
    });
    let filters = filters.collect();
    let topics = (0..16)
        .map(|n| format!("{}y{n}", "a/".repeat(17)))
        .collect();
    Workload {
        name,
        filters,
        topics,
    }
}

/// Indices below `count`, the low ones far more often: about 1/rank, by inversion.
#[must_use]
pub fn zipf(count: usize, draws: usize) -> Vec<usize> {
    let mut random = Random(23);
    let draw = |_| {
        let unit = (random.below(1 << 24) as f64 + 0.5) / f64::from(1 << 24);
        ((count as f64).powf(unit) as usize).min(count) - 1
    };
    (0..draws).map(draw).collect()
}
