//! The list of rules of the store in the TOML file: `[[store.rule]]`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnose::closest;
use super::keys::Kind;
use super::load::Given;
use super::store::{RULE, RULE_LISTS, RuleList};
use super::toml_file::{Reader, a, in_order, shown};
use super::{Durability, StoreRule};

impl Reader<'_> {
    pub(super) fn store_rules(&mut self, value: &Spanned<DeValue<'_>>) {
        self.tables((RULE, "[[store.rule]]"), value, Self::store_rule);
    }

    fn store_rule(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut rule = StoreRule::default();
        let mut is_said = false;
        for (name, value) in in_order(table) {
            let text = name.get_ref().as_ref();
            if text == "durability" {
                is_said = true;
                match durability(value.get_ref()) {
                    Ok(durability) => rule.durability = durability,
                    Err(message) => self.complain(value.span(), message, None),
                }
            } else if let Some(list) = RULE_LISTS.iter().find(|list| list.name == text) {
                for (text, span) in self.texts(text, value, list.check) {
                    if self.has_store_rule(list, &rule, &text) {
                        self.complain(span, StoreRule::twice(&text), None);
                    }
                    (list.of)(&mut rule).push(text);
                }
            } else {
                let known = RULE_LISTS
                    .iter()
                    .map(|list| list.name)
                    .chain(["durability"]);
                let hint = closest(text, known).map(|near| format!("did you mean `{near}`?"));
                let message = format!("unknown key `{}` in [[store.rule]]", shown(text));
                self.complain(name.span(), message, hint);
            }
        }
        if !is_said {
            let hint = format!(
                "add durability = \"...\", {}",
                Kind::Choice(Durability::NAMES)
            );
            self.complain(span.clone(), "this rule says no durability", Some(hint));
        }
        if let Err(wrong) = rule.check_aim() {
            self.complain(span.clone(), wrong, None);
        }
        let place = self.place(span);
        self.parsed.store_rules.push(Given {
            key: None,
            value: rule,
            place,
        });
    }

    /// Whether a text stands in this list of a rule before, or of this one.
    fn has_store_rule(&self, list: &RuleList, this: &StoreRule, text: &str) -> bool {
        let before = self.parsed.store_rules.iter().map(|given| &given.value);
        before
            .chain([this])
            .any(|rule| (list.of)(&mut rule.clone()).iter().any(|it| it == text))
    }
}

fn durability(value: &DeValue<'_>) -> Result<Durability, String> {
    let wanted = Kind::Choice(Durability::NAMES);
    match value {
        DeValue::String(text) => Durability::of_name(text)
            .ok_or_else(|| format!("`durability` must be {wanted}, not {text:?}")),
        other => Err(format!("`durability` must be {wanted}, not {}", a(other))),
    }
}
