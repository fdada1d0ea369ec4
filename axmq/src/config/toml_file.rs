//! The TOML file: every key known, every value of its type and in its range, or a diagnostic with
//! line and column.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::auth::ROLE;
use super::diagnose::{Diagnostic, Place, closest};
use super::keys::{self, Key, Kind, SECTIONS, Value};
use super::listener::{RULE_KEYS, RuleKey};
use super::store::RULE;
use super::{Address, ListenerRules, Role, StoreRule, load::Given};

/// The largest file that is read; a configuration of every key takes a few kilobytes.
const FILE_BYTES_MAX: u64 = 1_048_576;

/// The names that may stand at the top level.
fn top_level() -> impl Iterator<Item = &'static str> {
    let tables = SECTIONS.iter().copied().filter(|name| !name.contains('.'));
    tables.chain(["listener"])
}

/// The sections in a section, with their last names.
fn tables_in(section: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    SECTIONS.iter().filter_map(move |inner| {
        let name = inner.strip_prefix(section)?.strip_prefix('.')?;
        Some((*inner, name))
    })
}

/// Reads the file; the message of the error names it and the reason.
pub(super) fn read(path: &Path) -> Result<String, Box<Diagnostic>> {
    let name = path.display().to_string();
    let refuse = |reason: String| {
        Box::new(Diagnostic::new(format!(
            "cannot read the configuration file {name}: {reason}"
        )))
    };
    let file = File::open(path).map_err(|error| refuse(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(refuse(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        // Replacement comes after the valid part, so the position is the same in both.
        let place = Place::of(&name, &text, at..at + 1);
        Box::new(Diagnostic::new("this is not UTF-8").at(Some(place)))
    })
}

/// What a file gives, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Values with their places.
    pub(super) values: Vec<Given<Value>>,
    /// Listeners with their places; `None` if the file says nothing of them.
    pub(super) listeners: Option<Vec<Given<(Address, ListenerRules)>>>,
    /// Roles with their places.
    pub(super) roles: Vec<Given<Role>>,
    /// Rules of the store with their places.
    pub(super) store_rules: Vec<Given<StoreRule>>,
    /// What is wrong.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Takes the text of the file `name` apart.
pub(super) fn parse(name: &str, text: &str) -> Parsed {
    let mut reader = Reader {
        name,
        text,
        parsed: Parsed::default(),
    };
    match DeTable::parse(text) {
        Ok(table) => reader.top(table.get_ref()),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            // The parser's messages may have several lines; the first says what is wrong.
            let message = error
                .message()
                .lines()
                .next()
                .unwrap_or("not TOML")
                .to_owned();
            reader.complain(span, message, None);
        }
    }
    reader.parsed
}

pub(super) struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    pub(super) parsed: Parsed,
}

impl Reader<'_> {
    pub(super) fn complain(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let place = self.place(span);
        self.parsed
            .diagnostics
            .push(Diagnostic::new(message).at(Some(place)).hint(hint));
    }

    pub(super) fn place(&self, span: Range<usize>) -> Place {
        Place::of(self.name, self.text, span)
    }

    fn top(&mut self, table: &DeTable<'_>) {
        for (name, value) in in_order(table) {
            let text = name.get_ref().as_ref();
            if text == "listener" {
                self.listeners(value);
            } else if let Some(section) = top_level().find(|section| *section == text) {
                self.section(section, value);
            } else {
                self.unknown_at_top(name, value);
            }
        }
    }

    fn unknown_at_top(&mut self, name: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let text = name.get_ref().as_ref();
        let (message, meant) = if value.get_ref().is_table() {
            let meant = closest(text, top_level()).map(|near| format!("`[{near}]`"));
            (format!("unknown section `[{}]`", shown(text)), meant)
        } else {
            // The key of a section whose heading was forgotten, or a section misspelt.
            let known = keys::keys().find(|key| key.name == text);
            let near = || closest(text, keys::keys().map(|key| key.name));
            let key = known.or_else(|| near().and_then(|n| keys::keys().find(|k| k.name == n)));
            let meant = key.map_or_else(
                || closest(text, top_level()).map(|near| format!("`[{near}]`")),
                |key| Some(format!("`{}` under [{}]", key.name, key.section)),
            );
            (
                format!("unknown key `{}` at the top level", shown(text)),
                meant,
            )
        };
        let hint = meant.map_or_else(
            || format!("known: {}", top_level().collect::<Vec<_>>().join(", ")),
            |meant| format!("did you mean {meant}?"),
        );
        self.complain(name.span(), message, Some(hint));
    }

    fn section(&mut self, section: &'static str, value: &Spanned<DeValue<'_>>) {
        let Some(table) = value.get_ref().as_table() else {
            let message = format!("`{section}` is a section, not {}", a(value.get_ref()));
            let hint = format!("write [{section}] on a line of its own");
            self.complain(value.span(), message, Some(hint));
            return;
        };
        for (name, value) in in_order(table) {
            let text = name.get_ref().as_ref();
            if let Some(inner) = tables_in(section).find(|(_, name)| *name == text) {
                self.section(inner.0, value);
                continue;
            }
            if section == "auth" && text == ROLE {
                self.roles(value);
                continue;
            }
            if section == "store" && text == RULE {
                self.store_rules(value);
                continue;
            }
            let Some(key) = keys::find(section, text) else {
                self.unknown_key(section, name);
                continue;
            };
            match key_value(key, value.get_ref()) {
                Ok(value_) => {
                    let place = self.place(value.span());
                    self.parsed.values.push(Given {
                        key: Some(key),
                        value: value_,
                        place,
                    });
                }
                Err(message) => self.complain(value.span(), message, None),
            }
        }
    }

    fn unknown_key(&mut self, section: &'static str, name: &Spanned<impl AsRef<str>>) {
        let text = name.get_ref().as_ref();
        let here = keys::keys()
            .filter(|key| key.section == section)
            .map(|key| key.name)
            .chain(tables_in(section).map(|(_, name)| name))
            .chain((section == "auth").then_some(ROLE))
            .chain((section == "store").then_some(RULE));
        let elsewhere = || keys::keys().find(|key| key.name == text);
        let hint = closest(text, here).map_or_else(
            || elsewhere().map(|key| format!("this key belongs under [{}]", key.section)),
            |near| Some(format!("did you mean `{near}`?")),
        );
        let message = format!("unknown key `{}` in [{section}]", shown(text));
        self.complain(name.span(), message, hint);
    }

    /// The tables of a list such as `[[auth.role]]`, whose last name and heading are given.
    pub(super) fn tables(
        &mut self,
        (name, heading): (&str, &str),
        value: &Spanned<DeValue<'_>>,
        mut each: impl FnMut(&mut Self, &DeTable<'_>, Range<usize>),
    ) {
        let Some(array) = value.get_ref().as_array() else {
            let message = format!("`{name}` is a list, since there may be several");
            let hint = format!("write {heading} with two brackets");
            self.complain(value.span(), message, Some(hint));
            return;
        };
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => each(self, table, element.span()),
                None => {
                    let message = format!("a {name} is a table, not {}", a(element.get_ref()));
                    let hint = format!("write {heading} on a line of its own");
                    self.complain(element.span(), message, Some(hint));
                }
            }
        }
    }

    /// A list of texts with their places; those that `check` refuses are complained about.
    pub(super) fn texts(
        &mut self,
        name: &str,
        value: &Spanned<DeValue<'_>>,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<(String, Range<usize>)> {
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
                    if let Err(wrong) = check(text) {
                        self.complain(element.span(), wrong, None);
                    }
                    texts.push((text.clone().into_owned(), element.span()));
                }
                other => {
                    let message = format!("`{name}` must be a list of texts, not of {}", a(other));
                    self.complain(element.span(), message, None);
                }
            }
        }
        texts
    }

    fn listeners(&mut self, value: &Spanned<DeValue<'_>>) {
        let Some(array) = value.get_ref().as_array() else {
            let message = "`listener` is a list, since there may be several";
            let hint = "write [[listener]] with two brackets".to_owned();
            self.complain(value.span(), message, Some(hint));
            return;
        };
        self.parsed.listeners.get_or_insert_default();
        if array.is_empty() {
            self.complain(value.span(), "`listener` must not be empty", None);
        }
        for element in array.iter() {
            match element.get_ref().as_table() {
                Some(table) => self.listener(table, element.span()),
                None => {
                    let message = format!("a listener is a table, not {}", a(element.get_ref()));
                    let hint = "write { address = \"127.0.0.1:1883\" }".to_owned();
                    self.complain(element.span(), message, Some(hint));
                }
            }
        }
    }

    fn listener(&mut self, table: &DeTable<'_>, span: Range<usize>) {
        let mut addressed = false;
        let mut rules = ListenerRules::default();
        let mut address = None;
        for (name, value) in in_order(table) {
            let text = name.get_ref().as_ref();
            if let Some(key) = RULE_KEYS.iter().find(|key| key.name == text) {
                match rule_value(key, value.get_ref()) {
                    Ok(value) => (key.write)(&mut rules, value),
                    Err(message) => self.complain(value.span(), message, None),
                }
                continue;
            }
            if text != "address" {
                let known = RULE_KEYS.iter().map(|key| key.name).chain(["address"]);
                let near = closest(text, known);
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!("unknown key `{}` in [[listener]]", shown(text));
                // A misspelt address is not missing as well.
                addressed |= near == Some("address");
                self.complain(name.span(), message, hint);
                continue;
            }
            addressed = true;
            let parsed = match value.get_ref() {
                DeValue::String(text) => text.parse::<Address>().map_err(|e| e.to_string()),
                other => Err(format!(
                    "`address` must be text such as \"127.0.0.1:1883\", not {}",
                    a(other)
                )),
            };
            match parsed {
                Ok(parsed) => address = Some((parsed, self.place(value.span()))),
                Err(message) => self.complain(value.span(), message, None),
            }
        }
        if let Some((address, place)) = address {
            self.parsed.listeners.get_or_insert_default().push(Given {
                key: None,
                value: (address, rules),
                place,
            });
        }
        if !addressed {
            let hint = "add address = \"127.0.0.1:1883\"".to_owned();
            self.complain(span, "this listener has no address", Some(hint));
        }
    }
}

pub(super) type Entry<'t, 'i> = (
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
);

/// The entries as they stand in the file, so that complaints come in that order.
pub(super) fn in_order<'t, 'i>(table: &'t DeTable<'i>) -> Vec<Entry<'t, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

/// The value for `key`, or what is wrong with it.
fn key_value(key: &Key, value: &DeValue<'_>) -> Result<Value, String> {
    let typed = match (key.kind, value) {
        (Kind::Number { .. }, DeValue::Integer(integer)) => {
            let Some(number) = unsigned(integer) else {
                return Err(key.out_of_range(&integer.to_string()));
            };
            Value::Number(number)
        }
        (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
        (Kind::Path, DeValue::String(text)) => Value::Path(PathBuf::from(text.as_ref())),
        (Kind::Text | Kind::Networks, DeValue::String(text)) => {
            Value::Text(text.clone().into_owned())
        }
        (Kind::Choice(words), DeValue::String(text)) => {
            let word = words.iter().find(|word| **word == text.as_ref());
            Value::Word(word.ok_or_else(|| key.out_of_range(&format!("{text:?}")))?)
        }
        (Kind::Words(words), DeValue::Array(array)) => {
            let mut found = Vec::new();
            for element in array.iter() {
                let DeValue::String(text) = element.get_ref() else {
                    return Err(key.out_of_range(&format!("one of {}", a(element.get_ref()))));
                };
                let word = words.iter().find(|word| **word == text.as_ref());
                found.push(*word.ok_or_else(|| key.out_of_range(&format!("[{text:?}]")))?);
            }
            Value::Words(found)
        }
        (kind, other) => {
            return Err(format!("`{}` must be {kind}, not {}", key.path(), a(other)));
        }
    };
    key.admits(&typed)?;
    Ok(typed)
}

/// The value for a key of a listener, or what is wrong with it.
fn rule_value(key: &RuleKey, value: &DeValue<'_>) -> Result<Value, String> {
    match (key.kind, value) {
        (Kind::Number { min, max }, DeValue::Integer(integer)) => {
            let number = unsigned(integer).filter(|number| (min..=max).contains(number));
            let number = number.ok_or_else(|| {
                format!(
                    "`{}` must be from {} to {}, not {integer}",
                    key.name,
                    keys::Grouped(min),
                    keys::Grouped(max)
                )
            })?;
            Ok(Value::Number(number))
        }
        (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
        (Kind::Text, DeValue::String(text)) => Ok(Value::Text(text.clone().into_owned())),
        (kind @ Kind::Choice(words), DeValue::String(text)) => {
            let word = words.iter().find(|word| **word == text.as_ref());
            let wrong = || format!("`{}` must be {kind}, not {text:?}", key.name);
            word.map(|word| Value::Word(word)).ok_or_else(wrong)
        }
        (kind, other) => Err(format!("`{}` must be {kind}, not {}", key.name, a(other))),
    }
}

/// The number, unless it is negative or beyond 64 bits.
fn unsigned(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

/// What a value is, in words.
pub(super) fn a(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A name from the file, fit for a line of a terminal.
pub(super) fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}
