//! Filters against filters.
//!
//! A topic is a filter without wildcards, so that both functions answer for topics too: there they
//! say the same. A wildcard at the first level does not stand for a level that begins with `$`
//! [MQTT-4.7.2-1].

/// Whether `rule` matches every topic that `filter` matches.
///
/// `same` compares two levels without wildcards, the rule's first. One case is not seen: a filter
/// of which several rules together match everything.
pub(super) fn covers(rule: &str, filter: &str, same: impl Fn(&str, &str) -> bool) -> bool {
    if begins_wild(rule) && filter.starts_with('$') {
        return false;
    }
    let (mut rules, mut filters) = (rule.split('/'), filter.split('/'));
    let mut is_first = true;
    loop {
        match (rules.next(), filters.next()) {
            // `a/#` matches `a` as well.
            (Some("#"), _) => return true,
            // There is no topic without a level: at the start, `#` is the same as `+/#`.
            (Some("+"), Some("#")) => return is_first && rules.eq(["#"]),
            (Some("+"), Some(_)) => {}
            (Some(_), Some("+" | "#")) => return false,
            (Some(rule), Some(level)) if same(rule, level) => {}
            (None, None) => return true,
            _ => return false,
        }
        is_first = false;
    }
}

/// Whether there is a topic that both match.
pub(super) fn overlaps(rule: &str, filter: &str, same: impl Fn(&str, &str) -> bool) -> bool {
    let is_apart = |wild: &str, other: &str| begins_wild(wild) && other.starts_with('$');
    if is_apart(rule, filter) || is_apart(filter, rule) {
        return false;
    }
    let (mut rules, mut filters) = (rule.split('/'), filter.split('/'));
    loop {
        match (rules.next(), filters.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(rule), Some(level)) if same(rule, level) => {}
            _ => return false,
        }
    }
}

fn begins_wild(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}
