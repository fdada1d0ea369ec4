//! What an authenticator says beside who a client is: rules in JSON, and names of roles.
//!
//! Rules come in the two forms that EMQX has for the claim `acl`, so that its tokens and its HTTP
//! services can be used: an object of lists, or a list of rules.

use serde_json::{Map, Value};

use super::acl::Rules;

/// The most rules of one login.
const RULES_MAX: usize = 256;
/// The most roles of one login.
const ROLES_MAX: usize = 64;
/// Lists of filters by action, with the access that they give.
const LISTS: [(&str, &str); 3] = [("pub", "write"), ("sub", "read"), ("all", "readwrite")];
/// Actions of single rules.
const ACTIONS: [(&str, &str); 3] = [
    ("publish", "write"),
    ("subscribe", "read"),
    ("all", "readwrite"),
];

/// Reads rules; `of` says whose they are.
///
/// # Errors
///
/// What is wrong with them. Nothing that is not understood is passed over: it might have been a
/// restriction.
pub(super) fn rules(of: &str, value: &Value) -> Result<Rules, String> {
    let mut rules = Rules::new(of);
    match value {
        Value::Object(lists) => {
            for (name, filters) in lists {
                let known = LISTS.iter().find(|(list, _)| list == name);
                let (_, access) = known.ok_or_else(|| unknown(name))?;
                for filter in filters.as_array().ok_or("not a list of filters")? {
                    add(&mut rules, false, access, filter)?;
                }
            }
        }
        Value::Array(list) => {
            for rule in list {
                let rule = rule.as_object().ok_or("a rule that is no object")?;
                let (denies, access) = permission(rule)?;
                let filter = rule.get("topic").ok_or("a rule without topic")?;
                add(&mut rules, denies, access, filter)?;
            }
        }
        _ => return Err("neither lists of filters nor a list of rules".to_owned()),
    }
    Ok(rules)
}

fn permission(rule: &Map<String, Value>) -> Result<(bool, &'static str), String> {
    let known = ["permission", "action", "topic"];
    if let Some(other) = rule.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(unknown(other));
    }
    let denies = match rule.get("permission").and_then(Value::as_str) {
        Some("allow") => false,
        Some("deny") => true,
        _ => return Err("a permission that is neither allow nor deny".to_owned()),
    };
    let action = rule.get("action").and_then(Value::as_str);
    let known = ACTIONS.iter().find(|(name, _)| Some(*name) == action);
    let (_, access) = known.ok_or("an action that is none of publish, subscribe and all")?;
    Ok((denies, access))
}

fn add(rules: &mut Rules, denies: bool, access: &str, filter: &Value) -> Result<(), String> {
    let filter = filter.as_str().ok_or("a filter that is no text")?;
    let filter = filter
        .replace("${username}", "%u")
        .replace("${clientid}", "%c");
    if rules.len() >= RULES_MAX {
        return Err(format!("more than {RULES_MAX} rules"));
    }
    rules.add(denies, &format!("{access} {filter}"))
}

fn unknown(name: &str) -> String {
    format!("`{}` is not known", name.escape_debug())
}

/// Reads names of roles.
///
/// # Errors
///
/// Where it is no list of texts, or there are too many.
pub(super) fn roles(value: &Value) -> Result<Vec<Box<str>>, String> {
    let list = value.as_array().ok_or("roles that are no list")?;
    if list.len() > ROLES_MAX {
        return Err(format!("more than {ROLES_MAX} roles"));
    }
    let names = list.iter().map(|name| name.as_str().map(Into::into));
    let names: Option<_> = names.collect();
    names.ok_or_else(|| "a role that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::acl::{Subscribing, Want, Who};

    #[track_caller]
    fn says(text: &str, want: Want<'_>) -> Option<bool> {
        let value = serde_json::from_str(text).expect("it is JSON");
        let rules = rules("the token", &value).expect("they are rules");
        let who = Who {
            user: Some("ann"),
            client: "c",
        };
        Rules::rule_on([&rules].into_iter(), who, want).map(|ruling| ruling.is_allowed())
    }

    #[test]
    fn both_forms_are_read() {
        let lists = r#"{"pub": ["dev/${username}/#"], "sub": ["news/+"], "all": ["%c"]}"#;
        assert_eq!(says(lists, Want::Publish("dev/ann/x")), Some(true));
        assert_eq!(says(lists, Want::Receive("dev/ann/x")), None);
        let news = Want::Subscribe("news/a", Subscribing::Covered);
        assert_eq!(says(lists, news), Some(true));
        assert_eq!(says(lists, Want::Publish("news/a")), None);
        assert_eq!(says(lists, Want::Publish("c")), Some(true));
        let rules = r#"[
            {"permission": "allow", "action": "all", "topic": "a/#"},
            {"permission": "deny", "action": "publish", "topic": "a/${clientid}"}
        ]"#;
        assert_eq!(says(rules, Want::Publish("a/b")), Some(true));
        assert_eq!(says(rules, Want::Publish("a/c")), Some(false));
        assert_eq!(says(rules, Want::Receive("a/c")), Some(true));
        assert_eq!(says("{}", Want::Receive("a")), None);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [
            "5",
            r#"{"publ": []}"#,
            r#"{"pub": "a"}"#,
            r#"{"pub": [5]}"#,
            r#"{"pub": ["a#"]}"#,
            "[5]",
            r#"[{"permission": "allow", "action": "all"}]"#,
            r#"[{"permission": "maybe", "action": "all", "topic": "a"}]"#,
            r#"[{"permission": "allow", "action": "read", "topic": "a"}]"#,
            r#"[{"permission": "allow", "action": "all", "topic": "a", "qos": [0]}]"#,
        ] {
            let value = serde_json::from_str(wrong).expect("it is JSON");
            assert!(rules("the token", &value).is_err(), "{wrong}");
        }
        let many = Value::from(vec!["a"; RULES_MAX + 1]);
        let many = Value::Object(Map::from_iter([("pub".to_owned(), many)]));
        assert!(rules("the token", &many).is_err());
        for wrong in ["5", "[5]", "{}"] {
            let value = serde_json::from_str(wrong).expect("it is JSON");
            assert!(roles(&value).is_err(), "{wrong}");
        }
    }
}
