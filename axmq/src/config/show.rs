//! The effective configuration as a TOML file, with the origin of each value.

use std::fmt::{self, Write as _};

use super::auth::{ROLE, ROLE_LISTS};
use super::keys::{self, SECTIONS};
use super::listener::RULE_KEYS;
use super::load::{Loaded, Origin};
use super::store::{RULE, RULE_LISTS, RuleList};

/// As TOML that can be given to `--config` again; comments say where each value comes from.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, listener) in self.config.listeners.iter().enumerate() {
            let origin = comment(self.listener_origin(index));
            writeln!(f, "[[listener]]")?;
            let line = format!("address = \"{}\"", listener.address);
            writeln!(f, "{line:WIDTH$} # {origin}")?;
            for key in RULE_KEYS {
                writeln!(f, "{} = {}", key.name, (key.read)(&listener.rules))?;
            }
            f.write_char('\n')?;
        }
        for (index, section) in SECTIONS.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            writeln!(f, "[{section}]")?;
            for key in keys::keys().filter(|key| key.section == *section) {
                let Some(value) = key.value(&self.config) else {
                    continue;
                };
                let line = format!("{} = {value}", key.name);
                write!(f, "{line:WIDTH$} # {}", comment(self.origin(key)))?;
                f.write_str(&self.meaning(key.name))?;
                f.write_char('\n')?;
            }
            match *section {
                "auth" => self.roles(f)?,
                "store" => self.store_rules(f)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Where the comments begin.
const WIDTH: usize = 40;

/// An origin, fit for the rest of a line: the name of a file may have any character in it.
fn comment(origin: &Origin) -> String {
    origin.to_string().replace(char::is_control, "?")
}

/// A text as TOML.
fn text(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A list of texts as TOML.
fn texts(texts: &[String]) -> String {
    let texts: Vec<_> = texts.iter().map(|it| text(it)).collect();
    format!("[{}]", texts.join(", "))
}

impl Loaded {
    fn roles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.config.auth.roles.iter().enumerate() {
            writeln!(f, "\n[[auth.role]]")?;
            let line = format!("name = {}", text(&role.name));
            let origin = self.element_origin(ROLE, index);
            writeln!(f, "{line:WIDTH$} # {}", comment(origin))?;
            let mut role = role.clone();
            for (name, list) in ROLE_LISTS {
                writeln!(f, "{name} = {}", texts(list(&mut role)))?;
            }
        }
        Ok(())
    }

    fn store_rules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, rule) in self.config.store.rules.iter().enumerate() {
            writeln!(f, "\n[[store.rule]]")?;
            let line = format!("durability = {}", text(rule.durability.name()));
            let origin = self.element_origin(RULE, index);
            writeln!(f, "{line:WIDTH$} # {}", comment(origin))?;
            let mut rule = rule.clone();
            for RuleList { name, of, .. } in RULE_LISTS {
                writeln!(f, "{name} = {}", texts(of(&mut rule)))?;
            }
        }
        Ok(())
    }

    /// What a value that stands for another comes to on this machine.
    fn meaning(&self, name: &str) -> String {
        let broker = &self.config.broker;
        match name {
            "shards" if broker.shards == 0 => {
                format!(": one a core, here {}", broker.shard_count())
            }
            "fronts" if broker.fronts == 0 => {
                format!(": one for four cores, here {}", broker.front_count())
            }
            "connections" if self.config.limits.connections == u64::from(u32::MAX) => {
                ": as many as open files permit".to_owned()
            }
            _ => String::new(),
        }
    }
}
