//! What a service answers.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::super::acl::Rules;
use super::super::brought;

/// What a service says of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Allow(Allowed),
    Deny,
    /// It does not know this client.
    Ignore,
}

/// What comes with an answer that lets somebody in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Allowed {
    pub(super) is_superuser: bool,
    pub(super) rules: Option<Rules>,
    pub(super) roles: Vec<Box<str>>,
    /// When the client has to go, in seconds since 1970.
    pub(super) ends_s: Option<u64>,
}

/// The body of an answer. A word that is not known makes no sense of it: it might have been a
/// restriction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    result: Word,
    #[serde(default)]
    is_superuser: bool,
    acl: Option<Value>,
    roles: Option<Value>,
    expire_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
    Ignore,
}

impl Answer {
    /// Reads an answer.
    ///
    /// # Errors
    ///
    /// Why it makes no sense. Nothing of it is shown.
    pub(super) fn read(status: u16, body: &[u8]) -> Result<Self, String> {
        match status {
            200 => {}
            204 => return Ok(Self::Allow(Allowed::default())),
            401 | 403 => return Ok(Self::Deny),
            other => return Err(format!("it answers with status {other}")),
        }
        let body: Body = serde_json::from_slice(body)
            .map_err(|_| "it answers something that is not understood".to_owned())?;
        Ok(match body.result {
            Word::Deny => Self::Deny,
            Word::Ignore => Self::Ignore,
            Word::Allow => {
                let what = |what| format!("it answers rights that make no sense: {what}");
                let rules = body.acl.map(|acl| brought::rules("its HTTP service", &acl));
                let roles = body.roles.map(|roles| brought::roles(&roles));
                Self::Allow(Allowed {
                    is_superuser: body.is_superuser,
                    rules: rules.transpose().map_err(what)?,
                    roles: roles.transpose().map_err(what)?.unwrap_or_default(),
                    ends_s: body.expire_at,
                })
            }
        })
    }

    /// How long it may be remembered.
    pub(super) fn good_for(&self, allow: Duration, deny: Duration, now_s: u64) -> Duration {
        match self {
            Self::Allow(Allowed {
                ends_s: Some(ends_s),
                ..
            }) => allow.min(Duration::from_secs(ends_s.saturating_sub(now_s))),
            Self::Allow(_) => allow,
            Self::Deny | Self::Ignore => deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_and_what_is_not_understood_is_none() {
        let read = |status, body: &str| Answer::read(status, body.as_bytes());
        let plain = Answer::Allow(Allowed::default());
        assert_eq!(read(200, r#"{"result":"allow"}"#), Ok(plain.clone()));
        assert_eq!(read(204, "whatever"), Ok(plain));
        assert_eq!(read(200, r#"{"result":"deny"}"#), Ok(Answer::Deny));
        assert_eq!(read(403, ""), Ok(Answer::Deny));
        assert_eq!(read(401, ""), Ok(Answer::Deny));
        assert_eq!(read(200, r#"{"result":"ignore"}"#), Ok(Answer::Ignore));
        let full = r#"{"result":"allow","is_superuser":true,"acl":{"pub":["a"]},
            "roles":["r"],"expire_at":2000}"#;
        let Ok(Answer::Allow(allowed)) = read(200, full) else {
            panic!("it allows");
        };
        assert!(allowed.is_superuser && allowed.rules.is_some());
        assert_eq!(
            (allowed.roles, allowed.ends_s),
            (vec!["r".into()], Some(2_000))
        );
        for (status, body) in [
            (200, ""),
            (200, "allow"),
            (200, r#"{"result":"yes"}"#),
            (200, r#"{"result":"allow","is_supervisor":true}"#),
            (200, r#"{"result":"allow","acl":5}"#),
            (200, r#"{"result":"allow","roles":[5]}"#),
            (200, r#"{"result":"allow","expire_at":"soon"}"#),
            (301, r#"{"result":"allow"}"#),
            (500, r#"{"result":"allow"}"#),
        ] {
            assert!(read(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn no_answer_is_remembered_beyond_its_end() {
        let (allow, deny) = (Duration::from_secs(60), Duration::from_secs(5));
        let until = |ends_s| {
            let answer = Answer::Allow(Allowed {
                ends_s,
                ..Allowed::default()
            });
            answer.good_for(allow, deny, 1_000).as_secs()
        };
        assert_eq!(
            [until(None), until(Some(1_010)), until(Some(9))],
            [60, 10, 0]
        );
        assert_eq!(Answer::Deny.good_for(allow, deny, 0), deny);
    }
}
