//! The list of roles in the TOML file: `[[auth.role]]`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Role;
use super::auth::ROLE_LISTS;
use super::diagnose::closest;
use super::load::Given;
use super::toml_file::{Reader, a, in_order, shown};
use crate::auth::check_role_rule;

impl Reader<'_> {
    pub(super) fn roles(&mut self, value: &Spanned<DeValue<'_>>) {
        let tables = value.get_ref().as_array().map(|array| array.iter());
        let Some(elements) = tables else {
            let message = "`role` is a list, since there may be several";
            let hint = "write [[auth.role]] with two brackets".to_owned();
            self.complain(value.span(), message, Some(hint));
            return;
        };
        for element in elements {
            match element.get_ref().as_table() {
                Some(table) => self.role(table, element.span()),
                None => {
                    let message = format!("a role is a table, not {}", a(element.get_ref()));
                    let hint = "write [[auth.role]] on a line of its own".to_owned();
                    self.complain(element.span(), message, Some(hint));
                }
            }
        }
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
                let texts = self.texts(text, value);
                list(&mut role).extend(texts);
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

    /// A list of texts; those of `allow` and `deny` have to be rules.
    fn texts(&mut self, name: &str, value: &Spanned<DeValue<'_>>) -> Vec<String> {
        let mut texts = Vec::new();
        let Some(array) = value.get_ref().as_array() else {
            let found = a(value.get_ref());
            let message = format!("`{name}` must be a list of texts, not {found}");
            self.complain(value.span(), message, None);
            return texts;
        };
        for element in array.iter() {
            match element.get_ref() {
                DeValue::String(text) => {
                    if name != "users"
                        && let Err(wrong) = check_role_rule(text)
                    {
                        self.complain(element.span(), wrong, None);
                    }
                    texts.push(text.clone().into_owned());
                }
                other => {
                    let message = format!("`{name}` must be a list of texts, not of {}", a(other));
                    self.complain(element.span(), message, None);
                }
            }
        }
        texts
    }
}
