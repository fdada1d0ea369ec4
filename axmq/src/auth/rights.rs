//! What a client may do, by all that says so.
//!
//! The first of these that has a rule for it decides, from the nearest to the farthest:
//!
//! 1. the rules that the client's own login brought, such as those of a token;
//! 2. the ACL file: the rules of the user, then the patterns;
//! 3. the roles: those of the user, those of everybody who has logged in, those that the login
//!    brought.
//!
//! In each of them a rule that denies comes before one that allows. Whom no rule allows anything is
//! refused; where there are no rules at all, nobody asks.

use std::collections::HashMap;

use super::FileError;
use super::acl::{Acl, Rules, Ruling, Subscribing, Want, Who};
use super::login::Login;
use crate::config::{AuthSettings, Role};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rights {
    acl: Option<Acl>,
    roles: Vec<Rules>,
    /// Places in `roles`.
    by_name: HashMap<Box<str>, usize>,
    by_user: HashMap<Box<str>, Vec<usize>>,
    of_everybody: Vec<usize>,
    subscribing: Subscribing,
    asks_for_client: bool,
}

/// Stands for every user in the list of a role.
const EVERYBODY: &str = "*";

impl Rights {
    /// Reads the ACL and takes the roles.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    pub(super) fn load(settings: &AuthSettings) -> Result<Self, FileError> {
        let acl = settings.acl_file.as_deref().map(Acl::load).transpose()?;
        let mut rights = Self {
            asks_for_client: acl.as_ref().is_some_and(Acl::asks_for_client),
            acl,
            subscribing: settings.acl_subscribe,
            ..Self::default()
        };
        for role in &settings.roles {
            rights.add(role).map_err(FileError::new)?;
        }
        Ok(rights)
    }

    fn add(&mut self, role: &Role) -> Result<(), String> {
        let at = self.roles.len();
        let mut rules = Rules::new(format!("role {}", role.name));
        for (denies, texts) in [(false, &role.allow), (true, &role.deny)] {
            for text in texts {
                rules.add(denies, text)?;
            }
        }
        self.asks_for_client |= rules.asks_for_client();
        self.roles.push(rules);
        self.by_name.insert(role.name.as_str().into(), at);
        for user in &role.users {
            if user == EVERYBODY {
                self.of_everybody.push(at);
            } else {
                let of_user = self.by_user.entry(user.as_str().into()).or_default();
                of_user.push(at);
            }
        }
        Ok(())
    }

    pub(super) fn acl(&self) -> Option<&Acl> {
        self.acl.as_ref()
    }

    pub(super) fn subscribing(&self) -> Subscribing {
        self.subscribing
    }

    /// Whether nothing says what this client may do, so that it may do everything.
    pub(super) fn are_open_to(&self, login: Option<&Login>) -> bool {
        let brings_none = login.is_none_or(|login| login.rules.is_none());
        self.acl.is_none() && self.roles.is_empty() && brings_none
    }

    /// Whether the client id may make a difference for this login.
    pub(super) fn ask_for_client(&self, login: Option<&Login>) -> bool {
        let own = login.and_then(|login| login.rules.as_ref());
        self.asks_for_client || own.is_some_and(Rules::asks_for_client)
    }

    /// See the module.
    pub(super) fn decide<'a>(
        &'a self,
        who: Who<'_>,
        login: Option<&'a Login>,
        want: Want<'_>,
    ) -> Ruling<'a> {
        if login.is_some_and(|login| login.is_superuser) {
            return Ruling::everything("its authenticator, as a superuser");
        }
        let own = login.and_then(|login| login.rules.as_ref());
        let by_own = || Rules::rule_on(own.into_iter(), who, want);
        let by_acl = || self.acl.as_ref()?.rule_on(who, want);
        let only = match (&self.acl, self.roles.is_empty(), own) {
            (Some(acl), true, None) => Some(acl.name()),
            _ => None,
        };
        by_own()
            .or_else(by_acl)
            .or_else(|| Rules::rule_on(self.roles_of(who.user, login), who, want))
            .unwrap_or_else(|| Ruling::none(only))
    }

    fn roles_of<'a>(
        &'a self,
        user: Option<&str>,
        login: Option<&'a Login>,
    ) -> impl Iterator<Item = &'a Rules> + Clone {
        let of_user = user.and_then(|user| self.by_user.get(user));
        let of_everybody = user.map(|_| &self.of_everybody);
        let brought = login.map(|login| login.roles.iter());
        let brought = brought.into_iter().flatten();
        let brought = brought.filter_map(|name| self.by_name.get(name));
        let listed = of_user.into_iter().chain(of_everybody).flatten();
        let all = listed.chain(brought);
        all.filter_map(|at| self.roles.get(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::login::Tag;
    use crate::config::Authenticator;

    fn role(name: &str, users: &[&str], allow: &[&str], deny: &[&str]) -> Role {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        Role {
            name: name.to_owned(),
            users: owned(users),
            allow: owned(allow),
            deny: owned(deny),
        }
    }

    fn rights(acl: Option<&str>, roles: &[Role]) -> Rights {
        let settings = AuthSettings {
            roles: roles.to_vec(),
            ..AuthSettings::default()
        };
        let mut rights = Rights::load(&settings).expect("the roles are well");
        rights.acl = acl.map(|text| Acl::parse("acl", text).expect("it is well"));
        rights
    }

    #[track_caller]
    fn says(rights: &Rights, user: &str, login: Option<&Login>, want: Want<'_>) -> String {
        let user = (user != "-").then_some(user);
        let who = Who { user, client: "c" };
        rights.decide(who, login, want).to_string()
    }

    #[test]
    fn what_is_nearer_decides_and_in_it_what_denies() {
        let acl = "user ann\ntopic write a\ntopic deny b\npattern write %u/p";
        let roles = [
            role(
                "one",
                &["ann"],
                &["write a", "write b", "write c/#"],
                &["read c/x"],
            ),
            role("two", &["ann", "bob"], &["read c/#"], &["write c/secret"]),
            role("all", &["*"], &["write %u/%c", "read public/#"], &[]),
        ];
        let rights = rights(Some(acl), &roles);
        for (user, want, expected) in [
            ("ann", Want::Publish("a"), "allowed by acl:2: topic write a"),
            ("ann", Want::Publish("b"), "denied by acl:3: topic deny b"),
            (
                "ann",
                Want::Publish("ann/p"),
                "allowed by acl:4: pattern write %u/p",
            ),
            (
                "ann",
                Want::Publish("c/d"),
                "allowed by role one: allow write c/#",
            ),
            // Another role denies it.
            (
                "ann",
                Want::Publish("c/secret"),
                "denied by role two: deny write c/secret",
            ),
            (
                "ann",
                Want::Receive("c/secret"),
                "allowed by role two: allow read c/#",
            ),
            (
                "ann",
                Want::Receive("c/x"),
                "denied by role one: deny read c/x",
            ),
            (
                "ann",
                Want::Subscribe("c/#", Subscribing::Covered),
                "denied by role one: deny read c/x",
            ),
            (
                "bob",
                Want::Subscribe("c/#", Subscribing::Covered),
                "allowed by role two: allow read c/#",
            ),
            (
                "eve",
                Want::Publish("eve/c"),
                "allowed by role all: allow write %u/%c",
            ),
            ("eve", Want::Publish("ann/c"), "denied: no rule allows it"),
            ("-", Want::Receive("public/x"), "denied: no rule allows it"),
        ] {
            assert_eq!(says(&rights, user, None, want), expected, "{user} {want:?}");
        }
    }

    #[test]
    fn a_login_brings_rules_and_roles_of_its_own() {
        let mut login = Login::new(Authenticator::Password, Tag::default());
        assert_eq!(login.rights_number(), 0);
        assert!(rights(None, &[]).are_open_to(Some(&login)));
        let named = rights(
            Some("topic read x"),
            &[role("named", &[], &["write r"], &[])],
        );
        assert_eq!(
            says(&named, "ann", Some(&login), Want::Publish("r")),
            "denied: no rule allows it"
        );
        login.roles = vec!["unknown".into(), "named".into()];
        assert_ne!(login.rights_number(), 0);
        assert_eq!(
            says(&named, "ann", Some(&login), Want::Publish("r")),
            "allowed by role named: allow write r"
        );
        let mut own = Rules::new("its token");
        own.add(true, "write r").expect("it is well");
        login.rules = Some(own);
        assert_eq!(
            says(&named, "ann", Some(&login), Want::Publish("r")),
            "denied by its token: deny write r"
        );
        assert!(!rights(None, &[]).are_open_to(Some(&login)));
        login.is_superuser = true;
        assert_eq!(
            says(&named, "ann", Some(&login), Want::Publish("r")),
            "allowed by its authenticator, as a superuser"
        );
    }
}
