//! The section `[defence]`: who is kept out for what he did.

use super::keys::{Key, Kind, Value};

/// Who is kept out for what he did: the section `[defence]`. `docs/security.md` has the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefenceSettings {
    /// Whether offences are counted, and lead to bans. Bans that an operator has set hold anyway.
    pub enabled: bool,
    /// Addresses and ranges that are never banned, with commas between them. Loopback addresses and
    /// the proxies of `listener.proxy_protocol_from` and `listener.forwarded_for_from` are not
    /// either.
    pub allow: String,
    /// Strikes that lead to a ban.
    pub strikes: u32,
    /// Seconds in which one strike is forgiven.
    pub strike_s: u32,
    /// Seconds that a first ban lasts; each further one twice as long as the one before.
    pub ban_s: u32,
    /// Seconds that a ban lasts at most.
    pub ban_max_s: u32,
    /// A connection that has not sent a byte by then is closed, and that is a strike; 0 leaves it
    /// to `limits.connect_timeout_ms`.
    pub silence_ms: u32,
    /// Whether connections that an address has open are closed when it is banned.
    pub close_connections: bool,
    /// So many take-overs of one client id within `takeover_s` are a fight; 0 notices none.
    pub takeovers: u32,
    /// See `takeovers`; seconds.
    pub takeover_s: u32,
    /// How long a newcomer waits for its CONNACK while its client id is fought for.
    pub takeover_delay_ms: u32,
    /// Whether bans are set in the kernel as well, and how.
    pub kernel: KernelBans,
    /// Addresses, and as many clients, that are banned or remembered for a ban that is over.
    pub bans: u32,
    /// Addresses, and as many clients, whose strikes are counted at a time.
    pub scores: u32,
}

impl Default for DefenceSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allow: String::new(),
            strikes: 5,
            strike_s: 60,
            ban_s: 1_800,
            ban_max_s: 86_400,
            silence_ms: 2_000,
            close_connections: true,
            takeovers: 5,
            takeover_s: 60,
            takeover_delay_ms: 2_000,
            kernel: KernelBans::Off,
            bans: 1_000_000,
            scores: 65_536,
        }
    }
}

/// Whether bans are set in the kernel as well, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KernelBans {
    /// Only at accept.
    #[default]
    Off,
    /// In a table of nftables that is the broker's own, and gone with it.
    Nft,
    /// In the sets `axmq_blacklist` and `axmq_blacklist6` of ipset, for rules of others.
    Ipset,
}

impl KernelBans {
    const ALL: [(&str, Self); 3] = [
        ("off", Self::Off),
        ("nft", Self::Nft),
        ("ipset", Self::Ipset),
    ];
}

const KERNEL_BANS: &[&str] = &["off", "nft", "ipset"];

impl DefenceSettings {
    pub(super) const KEYS: &'static [Key] = &[
        key!(flag, "defence", enabled, defence),
        Key {
            section: "defence",
            name: "allow",
            unit: "",
            kind: Kind::Networks,
            read: |config| Some(Value::Text(config.defence.allow.clone())),
            write: |config, value| {
                if let Value::Text(text) = value {
                    config.defence.allow = text;
                }
            },
        },
        key!(number, "defence", strikes, defence, 2..=1_000, "strikes"),
        key!(number, "defence", strike_s, defence, 1..=86_400, "seconds"),
        key!(number, "defence", ban_s, defence, 1..=31_536_000, "seconds"),
        key!(
            number,
            "defence",
            ban_max_s,
            defence,
            1..=31_536_000,
            "seconds"
        ),
        key!(
            number,
            "defence",
            silence_ms,
            defence,
            0..=600_000,
            "milliseconds"
        ),
        key!(flag, "defence", close_connections, defence),
        key!(
            number,
            "defence",
            takeovers,
            defence,
            0..=1_000,
            "take-overs"
        ),
        key!(
            number,
            "defence",
            takeover_s,
            defence,
            1..=86_400,
            "seconds"
        ),
        key!(
            number,
            "defence",
            takeover_delay_ms,
            defence,
            0..=30_000,
            "milliseconds"
        ),
        Key {
            section: "defence",
            name: "kernel",
            unit: "",
            kind: Kind::Choice(KERNEL_BANS),
            read: |config| {
                let is_it = |(_, kernel): &&(_, _)| *kernel == config.defence.kernel;
                let found = KernelBans::ALL.iter().find(is_it);
                found.map(|(name, _)| Value::Word(name))
            },
            write: |config, value| {
                if let Value::Word(word) = value
                    && let Some((_, kernel)) =
                        KernelBans::ALL.iter().find(|(name, _)| *name == word)
                {
                    config.defence.kernel = *kernel;
                }
            },
        },
        key!(
            number,
            "defence",
            bans,
            defence,
            1_024..=100_000_000,
            "bans"
        ),
        key!(
            number,
            "defence",
            scores,
            defence,
            1_024..=100_000_000,
            "scores"
        ),
    ];
}
