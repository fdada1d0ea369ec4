//! The list of roles in the TOML file: `[[auth.role]]`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Role;
use super::auth::{ROLE, ROLE_LISTS};
use super::diagnose::closest;
use super::load::Given;
use super::toml_file::{Reader, a, in_order, shown};
use crate::auth::check_role_rule;

impl Reader<'_> {
    pub(super) fn roles(&mut self, value: &Spanned<DeValue<'_>>) {
        self.tables((ROLE, "[[auth.role]]"), value, Self::role);
    }

    fn role(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut role = Role::default();
        let mut is_named = false;
        for (name, value) in in_order(table) {
            let text = name.get_ref().as_ref();
            if text == "name" {
                is_named = true;
                match value.get_ref() {
                    DeValue::String(text) => role.name = text.clone().into_owned(),
                    other => {
                        let message = format!("`name` must be text in quotes, not {}", a(other));
                        self.complain(value.span(), message, None);
                    }
                }
            } else if let Some((_, list)) = ROLE_LISTS.iter().find(|(name, _)| *name == text) {
                let texts = self.texts(text, value, |rule| match text {
                    "users" => Ok(()),
                    _ => check_role_rule(rule),
                });
                list(&mut role).extend(texts.into_iter().map(|(text, _)| text));
            } else {
                let known = ROLE_LISTS.iter().map(|(name, _)| *name).chain(["name"]);
                let hint = closest(text, known).map(|near| format!("did you mean `{near}`?"));
                let message = format!("unknown key `{}` in [[auth.role]]", shown(text));
                self.complain(name.span(), message, hint);
            }
        }
        if !is_named {
            let hint = "add name = \"...\"".to_owned();
            self.complain(span.clone(), "this role has no name", Some(hint));
        }
        let place = self.place(span);
        self.parsed.roles.push(Given {
            key: None,
            value: role,
            place,
        });
    }
}
