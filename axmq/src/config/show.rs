//! The effective configuration as a TOML file, with the origin of each value.

use std::fmt::{self, Write as _};

use super::auth::ROLE_LISTS;
use super::keys::{self, SECTIONS};
use super::listener::RULE_KEYS;
use super::load::{Loaded, Origin};

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
            if *section == "auth" {
                self.roles(f)?;
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

impl Loaded {
    fn roles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        for (index, role) in self.config.auth.roles.iter().enumerate() {
            writeln!(f, "\n[[auth.role]]")?;
            let line = format!("name = {}", text(&role.name));
            writeln!(f, "{line:WIDTH$} # {}", comment(self.role_origin(index)))?;
            let mut role = role.clone();
            for (name, list) in ROLE_LISTS {
                let texts: Vec<_> = list(&mut role).iter().map(|it| text(it)).collect();
                writeln!(f, "{name} = [{}]", texts.join(", "))?;
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
