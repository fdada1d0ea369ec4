//! Where a report was made.

use std::fs;

use crate::clock;

/// The machine, as far as it decides about figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The day and time, UTC.
    pub time: String,
    /// The model of the processors.
    pub processor: String,
    /// How many of them this process may use.
    pub processors: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Name and release of the kernel.
    pub kernel: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The value behind a key and a colon in a file of `/proc`.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then_some(value.trim())
    })
}

impl Machine {
    /// This machine, now.
    #[must_use]
    pub fn here() -> Self {
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib = value(&meminfo, "MemTotal").and_then(|text| text.split(' ').next());
        let (kind, release) = (
            read("/proc/sys/kernel/ostype"),
            read("/proc/sys/kernel/osrelease"),
        );
        Self {
            time: clock::utc(clock::wall_ns()),
            processor: value(&cpuinfo, "model name")
                .unwrap_or("unknown")
                .to_owned(),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024,
            kernel: format!("{} {}", kind.trim(), release.trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_keys() {
        let text = "processor\t: 0\nmodel name\t: A: B\n";
        assert_eq!(value(text, "model name"), Some("A: B"));
        assert_eq!(value(text, "model"), None);
        let here = Machine::here();
        assert!(here.processors > 0 && here.memory_mib > 0, "{here:?}");
        assert!(here.kernel.starts_with("Linux "), "{here:?}");
    }
}
