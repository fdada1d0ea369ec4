//! Roles: `[[auth.role]]`.

use crate::auth::check_role_rule;

/// The name of the list of roles in `[auth]`.
pub(in crate::config) const ROLE: &str = "role";

/// What some users may do: an element of `[[auth.role]]`.
///
/// A rule is `read`, `write` or `readwrite` (also where nothing stands there) and a filter, in
/// which `%u` stands for the user name and `%c` for the client id.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Role {
    /// What it is called.
    pub name: String,
    /// Who has it, by user name; `*` stands for every client that has logged in.
    pub users: Vec<String>,
    /// What they may do.
    pub allow: Vec<String>,
    /// What they may not do, whatever a role allows.
    pub deny: Vec<String>,
}

/// Finds a list in a role.
type RoleList = fn(&mut Role) -> &mut Vec<String>;

/// The lists of a role by name.
pub(in crate::config) const ROLE_LISTS: [(&str, RoleList); 3] = [
    ("users", |role| &mut role.users),
    ("allow", |role| &mut role.allow),
    ("deny", |role| &mut role.deny),
];

impl Role {
    /// What is wrong with these roles, if anything is.
    pub(super) fn check_all(roles: &[Self]) -> Vec<String> {
        let mut found = Vec::new();
        for (at, role) in roles.iter().enumerate() {
            let name = &role.name;
            if name.is_empty() {
                found.push("a role has no name".to_owned());
            }
            if roles.iter().take(at).any(|other| other.name == *name) {
                found.push(format!("there are two roles {name:?}"));
            }
            for rule in role.allow.iter().chain(&role.deny) {
                if let Err(wrong) = check_role_rule(rule) {
                    found.push(format!("role {name:?}: {rule:?}: {wrong}"));
                }
            }
        }
        found
    }

    /// In a line, for the list of what a reload changed.
    pub(in crate::config) fn summary(&self) -> String {
        format!(
            "{} users, {} rules",
            self.users.len(),
            self.allow.len() + self.deny.len()
        )
    }
}
