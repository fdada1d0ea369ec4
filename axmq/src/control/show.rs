//! Answers of the control channel as text for people.

use std::fmt::Write as _;
use std::time::Duration;

use super::{
    BackupMade, BansPage, ClientDetail, ClientLine, ClientsPage, DisconnectLine, MemoryUse,
    Reloaded, Status, TraceLine,
};
use crate::logging::{Timestamp, now_ms};

/// Appends a line; writing to a text cannot fail.
macro_rules! line {
    ($text:ident, $($arguments:tt)*) => {
        let _ = writeln!($text, $($arguments)*);
    };
}

pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    line!(
        text,
        "axmq {}, process {}, up {}",
        status.version,
        status.pid,
        span(status.uptime_s)
    );
    line!(text, "listening on {}", status.listeners.join(", "));
    line!(
        text,
        "connections          {} of {}",
        status.connections,
        status.connections_max
    );
    line!(text, "clients connected    {}", status.clients_connected);
    line!(text, "sessions             {}", status.sessions);
    line!(text, "subscriptions        {}", status.subscriptions);
    line!(
        text,
        "retained             {} messages, {} bytes",
        status.retained_messages,
        status.retained_bytes
    );
    line!(
        text,
        "memory               {} bytes of {}, shortage: {}",
        status.memory_bytes,
        status.memory_bytes_max,
        status.memory_shortage
    );
    if let Some(memory) = &status.memory {
        text.push_str(&memory_use(memory));
    }
    if let Some(store) = &status.store {
        line!(
            text,
            "store                {}, {}{}, {} bytes, {} syncs; node {}",
            store.health,
            store.durability,
            if store.has_other_durabilities {
                " but for some"
            } else {
                ""
            },
            store.bytes,
            store.syncs,
            store.node
        );
        if store.quarantined > 0 {
            line!(text, "store quarantine     {} records", store.quarantined);
        }
    }
    for certificate in &status.certificates {
        let (file, listener) = (&certificate.file, &certificate.listener);
        let left = match certificate.days_left {
            days @ ..0 => format!("EXPIRED {} days ago", -days),
            days => format!("{days} days left"),
        };
        line!(text, "certificate          {file} on {listener}, {left}");
    }
    line!(text, "since the start, over {} shards:", status.shards);
    for (name, value) in &status.counters {
        line!(text, "  {name:<28} {value}");
    }
    text
}

/// A line a kind: bytes, and the share of what is resident.
fn memory_use(memory: &MemoryUse) -> String {
    let mut text = String::new();
    let tenths = |bytes: i64| {
        let share = i128::from(bytes) * 1_000 / i128::from(memory.resident_bytes.max(1));
        format!(
            "{}{}.{}",
            if share < 0 { "-" } else { "" },
            share.abs() / 10,
            share.abs() % 10
        )
    };
    let kinds = memory
        .kinds
        .iter()
        .map(|kind| (kind.kind.as_str(), kind.bytes.cast_signed()))
        .chain([("unexplained", memory.unexplained_bytes)]);
    for (kind, bytes) in kinds {
        let vacant = match kind {
            "pool" => format!("  of which vacant: {}", memory.pool_vacant_bytes),
            _ => String::new(),
        };
        line!(
            text,
            "  {kind:<18} {bytes:>14} {:>6} %{vacant}",
            tenths(bytes)
        );
    }
    text
}

pub(super) fn clients(page: &ClientsPage, with_heading: bool) -> String {
    let mut text = String::new();
    if with_heading {
        line!(
            text,
            "{:<28} {:<24} {:<5} {:>6} {:>7}",
            "CLIENT",
            "FROM",
            "MQTT",
            "SUBS",
            "QUEUED"
        );
    }
    for client in &page.clients {
        let ClientLine {
            id,
            peer,
            protocol,
            user: _,
            login: _,
            subscriptions,
            queued,
        } = client;
        line!(
            text,
            "{:<28} {:<24} {:<5} {subscriptions:>6} {queued:>7}",
            shown(id),
            peer.as_deref().unwrap_or("(away)"),
            protocol.as_deref().unwrap_or("-"),
        );
    }
    text
}

pub(super) fn client(client: &ClientDetail) -> String {
    let mut text = String::new();
    let line = &client.line;
    line!(text, "client          {}", shown(&line.id));
    match (&line.peer, &line.protocol) {
        (Some(peer), Some(protocol)) => {
            line!(text, "connected from  {peer}, MQTT {protocol}");
            if let Some(user) = &line.user {
                line!(text, "user            {}", shown(user));
            }
            if let Some(login) = &line.login {
                line!(text, "let in by       {login}");
            }
            line!(
                text,
                "keep alive      {} s",
                client.keep_alive_s.unwrap_or(0)
            );
            line!(
                text,
                "out-queue       {} bytes{}{}",
                client.out_queue_bytes,
                if client.is_paused {
                    ", reading is paused"
                } else {
                    ""
                },
                if client.is_stalled {
                    ", it takes nothing"
                } else {
                    ""
                }
            );
        }
        _ => {
            line!(text, "connected       no");
        }
    }
    line!(
        text,
        "session         on shard {}, {}{}",
        client.shard,
        match (client.session_expiry_s, client.session_ends_in_ms) {
            (_, Some(ms)) => format!("ends in {}", span(ms / 1_000)),
            (0, None) => "ends with the connection".to_owned(),
            (u32::MAX, None) => "never ends".to_owned(),
            (s, None) => format!("outlives the connection by {}", span(s.into())),
        },
        if client.has_will { ", with a will" } else { "" }
    );
    line!(text, "queued          {} messages", line.queued);
    line!(text, "subscriptions   {}", line.subscriptions);
    for subscription in &client.filters {
        line!(
            text,
            "  QoS {} {}",
            subscription.qos,
            shown(&subscription.filter)
        );
    }
    if let Some(last) = &client.last_disconnect {
        text.push_str("last disconnect ");
        text.push_str(&disconnect(last));
    }
    text
}

pub(super) fn bans(page: &BansPage) -> String {
    let mut text = String::new();
    line!(
        text,
        "{:<40} {:<12} {:>5} FOR",
        "BANNED",
        "ENDS IN",
        "TIMES"
    );
    for ban in &page.bans {
        let ends_in = ban
            .ends_in_s
            .map_or_else(|| "never".to_owned(), |s| span(s.into()));
        let client = match &ban.client {
            Some(client) => format!(", client {}", shown(client)),
            None => String::new(),
        };
        let who = format!("{}{client}", ban.address);
        line!(
            text,
            "{who:<40} {ends_in:<12} {:>5} {}",
            ban.times,
            ban.cause
        );
    }
    let left_out = page.total.saturating_sub(page.bans.len() as u64);
    if left_out > 0 {
        line!(text, "and {left_out} more: --limit {}", page.total);
    }
    text
}

pub(super) fn disconnects(lines: &[DisconnectLine]) -> String {
    lines.iter().map(disconnect).collect()
}

fn disconnect(line: &DisconnectLine) -> String {
    let at_ms = now_ms().saturating_sub(line.ago_ms);
    let clause = match &line.clause {
        // The words name it already, but for a fault that has its place there.
        Some(clause) if !line.why.contains(clause.as_str()) => format!(" [{clause}]"),
        _ => String::new(),
    };
    let times = match line.times {
        0 | 1 => String::new(),
        times => format!(", {times} times"),
    };
    format!(
        "{} {} from {} by {} (0x{:02X}): {}{clause}{times}\n",
        time(at_ms),
        shown(&line.client),
        line.peer,
        line.by,
        line.reason,
        line.why,
    )
}

pub(super) fn trace(line: &TraceLine) -> String {
    let lost = match line.lost {
        0 => String::new(),
        lost => format!("({lost} lines are lost)\n"),
    };
    format!(
        "{lost}{} {:<3} {}\n",
        time(line.at_ms),
        line.direction,
        line.text
    )
}

pub(super) fn backup(made: &BackupMade) -> String {
    format!(
        "{} records, {} bytes, are copied to {}\n",
        made.records, made.bytes, made.folder
    )
}

pub(super) fn reloaded(reloaded: &Reloaded) -> String {
    if reloaded.changes.is_empty() {
        return "nothing has changed\n".to_owned();
    }
    let mut text = String::new();
    for change in &reloaded.changes {
        line!(text, "{change}");
    }
    text
}

fn time(at_ms: u64) -> Timestamp {
    Timestamp {
        since_epoch: Duration::from_millis(at_ms),
    }
}

/// A text of a client, fit for a line of a terminal.
fn shown(text: &str) -> String {
    text.escape_debug().collect()
}

/// `3 d 4 h`, `5 min 6 s`.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (59, "59 s"),
            (60, "1 min 0 s"),
            (7_265, "2 h 1 min"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }

    #[test]
    fn what_a_client_chose_cannot_move_the_cursor() {
        let line = DisconnectLine {
            client: "a\u{1b}[2J\n".into(),
            peer: "192.0.2.1:7".into(),
            ago_ms: 0,
            by: "client".into(),
            reason: 0x81,
            clause: Some("MQTT-1.2.3-4".into()),
            why: "it is broken [MQTT-1.2.3-4]".into(),
            times: 2,
        };
        let text = disconnect(&line);
        assert!(text.trim_end().chars().all(|c| !c.is_control()), "{text:?}");
        assert!(
            text.ends_with("by client (0x81): it is broken [MQTT-1.2.3-4], 2 times\n"),
            "{text}"
        );
    }
}
