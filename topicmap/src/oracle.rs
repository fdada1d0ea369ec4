//! What MQTT 4.7 says, written as plainly as it goes: the judge of every fast path, in tests, fuzz
//! targets and benches.
//!
//! Slow and allocating; not for production.

/// Whether `text` is a topic name: at least one character, no wildcard, no NUL, at most 65,535
/// bytes.
#[must_use]
pub fn valid_topic(text: &str) -> bool {
    !text.is_empty() && text.len() <= 65_535 && !text.contains(['+', '#', '\0'])
}

/// Whether `text` is a topic filter: `#` only as the whole last level, `+` only as a whole level.
#[must_use]
pub fn valid_filter(text: &str) -> bool {
    let levels: Vec<&str> = text.split('/').collect();
    let level_ok = |(at, level): (usize, &&str)| match *level {
        "#" => at + 1 == levels.len(),
        "+" => true,
        other => !other.contains(['+', '#']),
    };
    let length_ok = !text.is_empty() && text.len() <= 65_535 && !text.contains('\0');
    length_ok && levels.iter().enumerate().all(level_ok)
}

/// Whether the valid filter `filter` matches the valid topic `topic`.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels_match(&filter, &topic)
}

fn levels_match(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) | ([], []) => true,
        ([f, filter @ ..], [t, topic @ ..]) => (*f == "+" || f == t) && levels_match(filter, topic),
        _ => false,
    }
}
