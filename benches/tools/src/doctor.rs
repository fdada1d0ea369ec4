//! The settings of the kernel that many connections need: what they are, what is wanted, and why.

use std::{fmt::Write as _, fs, io, path::Path};

use crate::{
    args::{self, Opt, flag},
    fail::Failure,
    json::Object,
    net, say,
};

const OPTIONS: &[Opt] = &[
    flag('\0', "help", "this text"),
    flag(
        '\0',
        "apply",
        "set what is too low; needs root, and lasts until the next boot",
    ),
    flag('\0', "json", "the findings as one JSON object"),
];

/// A setting below `/proc/sys`, as the paper has it.
struct Setting {
    name: &'static str,
    wanted: &'static str,
    rule: Rule,
    why: &'static str,
}

/// When a value will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Each number is at least the one that is wanted.
    AtLeast,
    /// A range of ports: it begins at or below, and ends at or above, what is wanted.
    Covers,
    /// The first two numbers (the smallest buffer and the first one) at most, the last at least: a
    /// first buffer of megabytes is what a million connections cannot have.
    Buffers,
    /// One of the values that are on.
    On,
}

const SETTINGS: &[Setting] = &[
    Setting {
        name: "fs.nr_open",
        wanted: "2000000",
        rule: Rule::AtLeast,
        why: "a process may raise its descriptors to this; a connection is a descriptor",
    },
    Setting {
        name: "fs.file-max",
        wanted: "2000000",
        rule: Rule::AtLeast,
        why: "open files of the whole machine",
    },
    Setting {
        name: "net.core.somaxconn",
        wanted: "65535",
        rule: Rule::AtLeast,
        why: "connections that wait to be accepted; more are dropped in a storm",
    },
    Setting {
        name: "net.ipv4.tcp_max_syn_backlog",
        wanted: "65535",
        rule: Rule::AtLeast,
        why: "connections whose handshake is half done",
    },
    Setting {
        name: "net.core.netdev_max_backlog",
        wanted: "65536",
        rule: Rule::AtLeast,
        why: "packets that wait for the kernel behind the network card",
    },
    Setting {
        name: "net.core.rmem_max",
        wanted: "16777216",
        rule: Rule::AtLeast,
        why: "the largest receive buffer a program may ask for",
    },
    Setting {
        name: "net.core.wmem_max",
        wanted: "16777216",
        rule: Rule::AtLeast,
        why: "the largest send buffer a program may ask for",
    },
    Setting {
        name: "net.ipv4.tcp_rmem",
        wanted: "4096 4096 16777216",
        rule: Rule::Buffers,
        why: "smallest, first and largest receive buffer: the first is what an idle connection has",
    },
    Setting {
        name: "net.ipv4.tcp_wmem",
        wanted: "4096 4096 16777216",
        rule: Rule::Buffers,
        why: "the same for sending",
    },
    Setting {
        name: "net.ipv4.tcp_tw_reuse",
        wanted: "1",
        rule: Rule::On,
        why: "a load generator may use the ports of connections that have just ended",
    },
    Setting {
        name: "net.ipv4.ip_local_port_range",
        wanted: "1024 65535",
        rule: Rule::Covers,
        why: "ports of a load generator: 64,512 connections from each address, not 28,232",
    },
    Setting {
        name: "net.netfilter.nf_conntrack_max",
        wanted: "1048576",
        rule: Rule::AtLeast,
        why: "connections that the firewall can follow; it drops what is beyond",
    },
];

/// Descriptors for a million connections.
const DESCRIPTORS_WANTED: u64 = 1_048_576;

impl Rule {
    fn holds(self, current: &str, wanted: &str) -> bool {
        let numbers = |text: &str| -> Option<Vec<u64>> {
            let words = text.split_ascii_whitespace();
            words.map(|word| word.parse().ok()).collect()
        };
        let (Some(current), Some(wanted)) = (numbers(current), numbers(wanted)) else {
            return false;
        };
        if current.len() != wanted.len() || current.is_empty() {
            return false;
        }
        let mut both = current.iter().zip(&wanted);
        match self {
            Self::AtLeast => both.all(|(current, wanted)| current >= wanted),
            Self::Covers => current[0] <= wanted[0] && current[1] >= wanted[1],
            Self::Buffers => {
                let last = current.len() - 1;
                both.by_ref()
                    .take(last)
                    .all(|(current, wanted)| current <= wanted)
                    && current[last] >= wanted[last]
            }
            Self::On => current[0] > 0,
        }
    }
}

/// What was found for a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Finding {
    Good(String),
    /// It has another value.
    Low(String),
    /// It had the first value and has what is wanted now.
    Set(String),
    /// The kernel has no such setting.
    Absent,
}

/// Looks at all settings below `root` (`/proc/sys`), and sets what is too low if that is asked for.
fn examine(root: &Path, apply: bool) -> Result<Vec<(&'static Setting, Finding)>, Failure> {
    let mut findings = Vec::new();
    for setting in SETTINGS {
        let path = root.join(setting.name.replace('.', "/"));
        let current = match fs::read_to_string(&path) {
            Ok(text) => text.split_ascii_whitespace().collect::<Vec<_>>().join(" "),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                findings.push((setting, Finding::Absent));
                continue;
            }
            Err(error) => {
                return Err(Failure::run(format!(
                    "cannot read {}: {error}",
                    setting.name
                )));
            }
        };
        let finding = if setting.rule.holds(&current, setting.wanted) {
            Finding::Good(current)
        } else if apply {
            fs::write(&path, setting.wanted).map_err(|error| refused(setting, &error))?;
            Finding::Set(current)
        } else {
            Finding::Low(current)
        };
        findings.push((setting, finding));
    }
    Ok(findings)
}

fn refused(setting: &Setting, error: &io::Error) -> Failure {
    let (name, wanted) = (setting.name, setting.wanted);
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root: sudo axmq-bench doctor --apply",
        io::ErrorKind::ReadOnlyFilesystem => {
            "in a container, set it on the host or with --sysctl when the container is started"
        }
        _ => "the kernel does not take this value",
    };
    Failure::run(format!(
        "cannot set {name} to \"{wanted}\": {error}; {advice}"
    ))
}

/// Shows the settings, and applies them if that is asked for.
///
/// # Errors
///
/// A wrong command line, or a setting that cannot be read or set.
pub fn main(arguments: &[String]) -> Result<(), Failure> {
    let parsed = args::parse(&[OPTIONS], arguments)?;
    if parsed.is("help", false) {
        let about = "Shows the kernel settings that a million connections need.";
        return say(&args::usage("axmq-bench doctor", about, &[OPTIONS]));
    }
    let findings = examine(Path::new("/proc/sys"), parsed.is("apply", false))?;
    let descriptors = net::descriptors_max();
    say(&match parsed.is("json", false) {
        true => json(&findings, descriptors),
        false => lines(&findings, descriptors),
    })
}

fn lines(findings: &[(&Setting, Finding)], descriptors: u64) -> String {
    let mut text = String::new();
    let mut low = 0;
    for (setting, finding) in findings {
        let (mark, value) = match finding {
            Finding::Good(value) => ("ok ", value.as_str()),
            Finding::Low(value) => ("LOW", value.as_str()),
            Finding::Set(value) => ("SET", value.as_str()),
            Finding::Absent => ("-  ", "not in this kernel, or its module is not loaded"),
        };
        let (name, wanted, why) = (setting.name, setting.wanted, setting.why);
        let _ = match finding {
            Finding::Good(_) | Finding::Absent => writeln!(text, "{mark} {name} = {value}"),
            Finding::Low(_) => writeln!(text, "{mark} {name} = {value}, wanted {wanted}"),
            Finding::Set(_) => writeln!(text, "{mark} {name} = {wanted}, before {value}"),
        };
        let _ = writeln!(text, "      {why}");
        low += u32::from(matches!(finding, Finding::Low(_)));
    }
    let mark = match descriptors >= DESCRIPTORS_WANTED {
        true => "ok ",
        false => "LOW",
    };
    let _ = writeln!(
        text,
        "{mark} ulimit -n = {descriptors}, wanted {DESCRIPTORS_WANTED}\n      descriptors of a \
         process; set it in the shell that starts the program: ulimit -n {DESCRIPTORS_WANTED}",
    );
    if low > 0 {
        let _ = writeln!(
            text,
            "{low} too low for a million connections; \"axmq-bench doctor --apply\" sets them"
        );
    }
    text
}

fn json(findings: &[(&Setting, Finding)], descriptors: u64) -> String {
    let mut object = Object::default();
    for (setting, finding) in findings {
        let (state, value) = match finding {
            Finding::Good(value) => ("good", value.as_str()),
            Finding::Low(value) => ("low", value.as_str()),
            Finding::Set(value) => ("set", value.as_str()),
            Finding::Absent => ("absent", ""),
        };
        let entry = Object::default()
            .text("state", state)
            .text("found", value)
            .text("wanted", setting.wanted)
            .text("why", setting.why);
        object = object.object(setting.name, entry);
    }
    object.count("descriptors", descriptors).finish() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files of `/proc/sys`, in the temporary folder of the test.
    fn tree(name: &str, values: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("axmq-doctor-{}-{name}", std::process::id()));
        for (setting, value) in values {
            let path = root.join(setting.replace('.', "/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        }
        root
    }

    fn finding(findings: &[(&'static Setting, Finding)], name: &str) -> Finding {
        let found = findings.iter().find(|(setting, _)| setting.name == name);
        found.unwrap().1.clone()
    }

    #[test]
    fn rules_are_those_of_the_settings() {
        for (rule, current, wanted, holds) in [
            (Rule::AtLeast, "65535", "65535", true),
            (Rule::AtLeast, "4096", "65535", false),
            (Rule::AtLeast, "18446744073709551615", "2000000", true),
            (Rule::AtLeast, "plenty", "65535", false),
            (Rule::Covers, "1024\t65535", "1024 65535", true),
            (Rule::Covers, "32768 60999", "1024 65535", false),
            (
                Rule::Buffers,
                "4096 4096 33554432",
                "4096 4096 16777216",
                true,
            ),
            (
                Rule::Buffers,
                "4096 131072 33554432",
                "4096 4096 16777216",
                false,
            ),
            (
                Rule::Buffers,
                "4096 4096 6291456",
                "4096 4096 16777216",
                false,
            ),
            (Rule::On, "2", "1", true),
            (Rule::On, "0", "1", false),
        ] {
            assert_eq!(rule.holds(current, wanted), holds, "{current} {wanted}");
        }
    }

    #[test]
    fn nothing_is_changed_unless_it_is_asked_for() {
        let values = [("net.core.somaxconn", "128\n"), ("fs.nr_open", "9000000\n")];
        let root = tree("look", &values);
        let findings = examine(&root, false).unwrap();
        assert_eq!(
            finding(&findings, "net.core.somaxconn"),
            Finding::Low("128".to_owned())
        );
        assert_eq!(
            finding(&findings, "fs.nr_open"),
            Finding::Good("9000000".to_owned())
        );
        assert_eq!(finding(&findings, "net.ipv4.tcp_rmem"), Finding::Absent);
        assert_eq!(
            fs::read_to_string(root.join("net/core/somaxconn")).unwrap(),
            "128\n"
        );
        let text = lines(&findings, 1024);
        assert!(text.contains("LOW net.core.somaxconn = 128, wanted 65535"));
        assert!(text.contains("LOW ulimit -n = 1024") && text.contains("--apply"));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_is_asked_for_is_set() {
        let root = tree("apply", &[("net.ipv4.tcp_rmem", "4096 131072 6291456\n")]);
        let findings = examine(&root, true).unwrap();
        let before = "4096 131072 6291456".to_owned();
        assert_eq!(
            finding(&findings, "net.ipv4.tcp_rmem"),
            Finding::Set(before)
        );
        let again = examine(&root, true).unwrap();
        let now = "4096 4096 16777216".to_owned();
        assert_eq!(finding(&again, "net.ipv4.tcp_rmem"), Finding::Good(now));
        assert!(json(&again, 1).contains("\"state\": \"good\""));
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn without_the_right_the_line_says_what_to_do() {
        let setting = &SETTINGS[0];
        for (kind, word) in [
            (io::ErrorKind::PermissionDenied, "as root"),
            (io::ErrorKind::ReadOnlyFilesystem, "container"),
            (io::ErrorKind::InvalidInput, "does not take"),
        ] {
            let failure = refused(setting, &kind.into());
            assert!(failure.message.contains(word), "{failure}");
            assert!(failure.message.contains("fs.nr_open"), "{failure}");
            assert_eq!(failure.code, 1);
        }
    }
}
