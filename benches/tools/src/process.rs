//! What a process uses, read from `/proc`.

use std::{fs, io};

use crate::fail::Failure;

/// What the kernel has counted for a process up to now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor, user and system, all threads, in nanoseconds.
    pub cpu_ns: u64,
    /// Time ready to run and waiting for a processor, all threads, in nanoseconds.
    pub wait_ns: u64,
    /// Context switches that a thread asked for by blocking.
    pub voluntary: u64,
    /// Context switches that the scheduler forced.
    pub involuntary: u64,
    /// Memory in RAM, in bytes.
    pub rss_bytes: u64,
    /// Address space, in bytes.
    pub vsz_bytes: u64,
}

impl Usage {
    /// Reads the counters of a process.
    ///
    /// Threads that have ended no longer count, so take both ends of a difference while the
    /// process has the same threads.
    ///
    /// # Errors
    ///
    /// If there is no such process, or the kernel has no `schedstat`.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let read = || -> io::Result<Self> {
            let mut usage = Self::default();
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end between the listing and the reading.
                usage
                    .add_task(&task?.path())
                    .or_else(|error| match error.kind() {
                        io::ErrorKind::NotFound => Ok(()),
                        _ => Err(error),
                    })?;
            }
            let statm = fs::read_to_string(format!("/proc/{pid}/statm"))?;
            let page = rustix::param::page_size() as u64;
            let mut pages = statm
                .split_ascii_whitespace()
                .map(|n| n.parse().unwrap_or(0_u64));
            usage.vsz_bytes = pages.next().unwrap_or(0) * page;
            usage.rss_bytes = pages.next().unwrap_or(0) * page;
            Ok(usage)
        };
        read().map_err(|error| {
            Failure::run(format!(
                "cannot read /proc/{pid}: {error}; is --pid the broker's?"
            ))
        })
    }

    /// Reads the counters of this process.
    ///
    /// # Errors
    ///
    /// As [`of`](Self::of).
    pub fn own() -> Result<Self, Failure> {
        Self::of(std::process::id())
    }

    fn add_task(&mut self, task: &std::path::Path) -> io::Result<()> {
        let schedstat = fs::read_to_string(task.join("schedstat"))?;
        let mut fields = schedstat
            .split_ascii_whitespace()
            .map(|n| n.parse().unwrap_or(0_u64));
        self.cpu_ns += fields.next().unwrap_or(0);
        self.wait_ns += fields.next().unwrap_or(0);
        for line in fs::read_to_string(task.join("status"))?.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let counter = match key {
                "voluntary_ctxt_switches" => &mut self.voluntary,
                "nonvoluntary_ctxt_switches" => &mut self.involuntary,
                _ => continue,
            };
            *counter += value.trim().parse().unwrap_or(0);
        }
        Ok(())
    }

    /// What was used between `earlier` and this; memory as it is now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(earlier.cpu_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted() {
        let before = Usage::own().unwrap();
        assert!(before.rss_bytes > 0 && before.vsz_bytes >= before.rss_bytes);
        let mut after = before;
        while after.cpu_ns < before.cpu_ns + 1_000_000 {
            after = Usage::own().unwrap();
        }
        assert!(after.since(&before).cpu_ns >= 1_000_000);
    }

    #[test]
    fn a_process_that_is_not_there_is_a_line() {
        assert!(Usage::of(u32::MAX).unwrap_err().message.contains("--pid"));
    }
}
