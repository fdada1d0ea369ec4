//! The command line, read as `emqtt_bench` reads its own: `-c 10`, `-c10`, `--count 10` and
//! `--count=10` are the same, and the value of a yes-or-no option may be left out.

use std::{fmt::Write as _, str::FromStr};

use crate::fail::Failure;

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Never.
    Nothing,
    /// `true` or `false`; `true` if left out.
    Bool,
    /// Always.
    Value,
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// The letter behind one dash, or NUL.
    pub short: char,
    /// The name behind two dashes.
    pub long: &'static str,
    /// Whether it has a value.
    pub takes: Takes,
    /// What it does; a text that begins with `!` says why it is refused.
    pub help: &'static str,
}

/// An option with a value.
#[must_use]
pub const fn value(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt {
        short,
        long,
        takes: Takes::Value,
        help,
    }
}

/// An option that is yes or no.
#[must_use]
pub const fn boolean(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt {
        short,
        long,
        takes: Takes::Bool,
        help,
    }
}

/// An option without a value.
#[must_use]
pub const fn flag(short: char, long: &'static str, help: &'static str) -> Opt {
    Opt {
        short,
        long,
        takes: Takes::Nothing,
        help,
    }
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    values: Vec<(&'static str, String)>,
}

impl Parsed {
    /// The last value of an option.
    #[must_use]
    pub fn last(&self, long: &str) -> Option<&str> {
        let mut values = self.values.iter().rev();
        values
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// All values of an option, in their order.
    pub fn all<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> {
        self.values
            .iter()
            .filter(move |(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a yes-or-no option is on; `default` if it is not there.
    #[must_use]
    pub fn is(&self, long: &str, default: bool) -> bool {
        self.last(long).map_or(default, |value| value == "true")
    }

    /// The number an option has, or `default`.
    ///
    /// # Errors
    ///
    /// If it is not a number of that type.
    pub fn number<T: FromStr>(&self, long: &str, default: T) -> Result<T, Failure> {
        self.last(long).map_or(Ok(default), |text| {
            let wrong = || Failure::usage(format!("--{long} wants a number, not `{text}`"));
            text.parse().map_err(|_| wrong())
        })
    }

    /// As [`number`](Self::number), without a default.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn number_if<T: FromStr>(&self, long: &str) -> Result<Option<T>, Failure> {
        self.last(long).map_or(Ok(None), |text| {
            let wrong = || Failure::usage(format!("--{long} wants a number, not `{text}`"));
            text.parse().map(Some).map_err(|_| wrong())
        })
    }

    /// A QoS, 0 if it is not there.
    ///
    /// # Errors
    ///
    /// If it is none of 0, 1 and 2.
    pub fn qos(&self) -> Result<mqtt_codec::QoS, Failure> {
        let number = self.number("qos", 0_u8)?;
        mqtt_codec::QoS::from_u8(number)
            .ok_or_else(|| Failure::usage(format!("--qos is 0, 1 or 2, not {number}")))
    }

    /// A protocol version, `default` if it is not there.
    ///
    /// # Errors
    ///
    /// If it is none of 3, 4 and 5.
    pub fn version(&self, default: u8) -> Result<mqtt_codec::Version, Failure> {
        let number = self.number("version", default)?;
        mqtt_codec::Version::from_level(number).ok_or_else(|| {
            Failure::usage(format!(
                "--version is 3 (MQTT 3.1), 4 (3.1.1) or 5, not {number}"
            ))
        })
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "enabled" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "disabled" | "0" => Some(false),
        _ => None,
    }
}

/// Reads a command line by the tables of its options.
///
/// # Errors
///
/// An unknown option, a missing or a wrong value, an option that is refused.
pub fn parse(tables: &[&[Opt]], args: &[String]) -> Result<Parsed, Failure> {
    let find = |pick: &dyn Fn(&Opt) -> bool| {
        tables
            .iter()
            .flat_map(|table| table.iter())
            .find(|opt| pick(opt))
            .copied()
    };
    let mut parsed = Parsed::default();
    let mut args = args.iter().peekable();
    while let Some(arg) = args.next() {
        let (opt, attached) = if let Some(long) = arg.strip_prefix("--") {
            let (name, attached) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            (find(&|opt| opt.long == name), attached)
        } else if let Some(short) = arg.strip_prefix('-') {
            let mut letters = short.chars();
            let letter = letters.next().filter(|&letter| letter != '\0');
            let rest = letters.as_str();
            let rest = rest.strip_prefix('=').unwrap_or(rest);
            let attached = Some(rest.to_owned()).filter(|rest| !rest.is_empty());
            (
                letter.and_then(|letter| find(&|opt| opt.short == letter)),
                attached,
            )
        } else {
            return Err(Failure::usage(format!(
                "`{arg}` is not an option; see --help"
            )));
        };
        let Some(opt) = opt else {
            return Err(Failure::usage(format!(
                "unknown option `{arg}`; see --help"
            )));
        };
        let value = match (opt.takes, attached) {
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Nothing, Some(_)) => {
                return Err(Failure::usage(format!("--{} takes no value", opt.long)));
            }
            (Takes::Bool, attached) => {
                let next = || args.next_if(|next| truth(next).is_some()).cloned();
                let text = attached.or_else(next).unwrap_or_else(|| "true".to_owned());
                let wrong = || format!("--{} is true or false, not `{text}`", opt.long);
                truth(&text)
                    .ok_or_else(|| Failure::usage(wrong()))?
                    .to_string()
            }
            (Takes::Value, Some(text)) => text,
            (Takes::Value, None) => {
                let missing = || Failure::usage(format!("--{} needs a value", opt.long));
                args.next().cloned().ok_or_else(missing)?
            }
        };
        if let Some(why) = opt.help.strip_prefix('!') {
            // `--ssl false` asks for nothing, so there is nothing to refuse.
            if value != "false" && value != "0" {
                return Err(Failure::usage(format!(
                    "--{} is not supported: {why}",
                    opt.long
                )));
            }
            continue;
        }
        parsed.values.push((opt.long, value));
    }
    Ok(parsed)
}

/// The help text of a command.
#[must_use]
pub fn usage(command: &str, about: &str, tables: &[&[Opt]]) -> String {
    let mut text = format!("Usage: {command} [options]\n\n{about}\n\n");
    for opt in tables.iter().flat_map(|table| table.iter()) {
        if opt.help.starts_with('!') {
            continue;
        }
        let short = if opt.short == '\0' {
            "   ".to_owned()
        } else {
            format!("-{},", opt.short)
        };
        let _ = writeln!(text, "  {short} --{:<22} {}", opt.long, opt.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Opt] = &[
        value('c', "count", "how many"),
        boolean('C', "clean", "clean session"),
        flag('l', "lowmem", "less memory"),
        boolean('S', "ssl", "!there is no TLS yet"),
        value('t', "topic", "topic"),
    ];

    fn read(line: &str) -> Result<Parsed, Failure> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse(&[TABLE], &args)
    }

    #[test]
    fn a_value_is_found_in_all_four_forms() {
        for line in ["-c 7", "-c7", "--count 7", "--count=7", "-c 3 -c 7"] {
            assert_eq!(read(line).unwrap().number("count", 1).unwrap(), 7, "{line}");
        }
        assert_eq!(read("").unwrap().number("count", 1).unwrap(), 1);
    }

    #[test]
    fn the_value_of_a_boolean_may_be_left_out() {
        assert!(read("-C").unwrap().is("clean", false));
        assert!(!read("-C false").unwrap().is("clean", true));
        assert!(!read("--clean=0").unwrap().is("clean", true));
        let parsed = read("-C -c 9 -l").unwrap();
        assert!(parsed.is("clean", false) && parsed.is("lowmem", false));
        assert_eq!(parsed.number("count", 0).unwrap(), 9);
    }

    #[test]
    fn all_values_of_a_repeated_option_are_kept() {
        let parsed = read("-t a/b -t c").unwrap();
        assert_eq!(parsed.all("topic").collect::<Vec<_>>(), ["a/b", "c"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for line in [
            "--nothing",
            "-z",
            "word",
            "-c",
            "-S",
            "--ssl=true",
            "-l=1",
            "-C=perhaps",
        ] {
            assert_eq!(read(line).unwrap_err().code, 2, "{line}");
        }
        assert!(read("-c many").unwrap().number("count", 1).is_err());
        assert!(read("--ssl false").is_ok(), "what is off need not exist");
    }
}
