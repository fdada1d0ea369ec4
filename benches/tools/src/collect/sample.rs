//! One row: what the kernel has counted. Each source is a handful of lines, however many sockets
//! there are.

use std::{fmt::Write as _, fs};

use super::Role;
use crate::{clock, fail::Failure, process::Usage};

/// The columns that every role has behind the time and the interface.
const COLUMNS: &str = "rx_bytes,rx_packets,tx_bytes,tx_packets,ctxt,intr,softirq_net_rx,\
                       softirq_net_tx,tcp_insegs,tcp_outsegs,tcp_retranssegs";

/// A reading of all counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    wall_ns: u64,
    counters: [u64; 11],
    /// Established connections of the machine, resident and virtual memory of the broker in KiB.
    broker: Option<(u64, Option<(u64, u64)>)>,
}

fn read(path: &str) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure::run(format!("cannot read {path}: {error}")))
}

fn field(line: &str, at: usize) -> u64 {
    line.split_ascii_whitespace()
        .nth(at)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}

/// The received and sent bytes and packets of an interface.
fn traffic(devices: &str, interface: &str) -> Option<[u64; 4]> {
    let line = devices.lines().find_map(|line| {
        let (name, counters) = line.split_once(':')?;
        (name.trim() == interface).then_some(counters)
    })?;
    Some([
        field(line, 0),
        field(line, 1),
        field(line, 8),
        field(line, 9),
    ])
}

fn total(stat: &str, name: &str) -> u64 {
    let line = stat
        .lines()
        .find(|line| line.split_ascii_whitespace().next() == Some(name));
    line.map_or(0, |line| field(line, 1))
}

fn sum(softirqs: &str, name: &str) -> u64 {
    let line = softirqs
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name));
    let counts = line
        .into_iter()
        .flat_map(|line| line.split_ascii_whitespace());
    counts.filter_map(|count| count.parse::<u64>().ok()).sum()
}

/// A counter of the lines `Tcp:`, of which the first has the names.
fn tcp(snmp: &str, name: &str) -> u64 {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        return 0;
    };
    let at = names
        .split_ascii_whitespace()
        .position(|found| found == name);
    at.map_or(0, |at| field(values, at))
}

impl Sample {
    /// The first line of the file.
    #[must_use]
    pub fn header(role: Role) -> String {
        let more = if role == Role::Broker {
            ",tcp_estab,proc_rss_kb,proc_vsz_kb"
        } else {
            ""
        };
        format!("time_utc,iface,{COLUMNS}{more}")
    }

    /// Reads everything.
    ///
    /// # Errors
    ///
    /// If there is no such interface or process.
    pub fn read(interface: &str, role: Role, pid: Option<u32>) -> Result<Self, Failure> {
        let devices = read("/proc/net/dev")?;
        let traffic = traffic(&devices, interface).ok_or_else(|| {
            let names = devices.lines().filter_map(|line| line.split_once(':'));
            let names: Vec<_> = names.map(|(name, _)| name.trim()).collect();
            Failure::run(format!(
                "there is no interface `{interface}`: INTERFACE is one of {}",
                names.join(", ")
            ))
        })?;
        let (stat, softirqs) = (read("/proc/stat")?, read("/proc/softirqs")?);
        let snmp = read("/proc/net/snmp")?;
        let broker = if role == Role::Broker {
            let memory = |pid| Usage::of(pid).map(|u| (u.rss_bytes / 1024, u.vsz_bytes / 1024));
            Some((tcp(&snmp, "CurrEstab"), pid.map(memory).transpose()?))
        } else {
            None
        };
        let [rx_bytes, rx_packets, tx_bytes, tx_packets] = traffic;
        Ok(Self {
            wall_ns: clock::wall_ns(),
            counters: [
                rx_bytes,
                rx_packets,
                tx_bytes,
                tx_packets,
                total(&stat, "ctxt"),
                total(&stat, "intr"),
                sum(&softirqs, "NET_RX:"),
                sum(&softirqs, "NET_TX:"),
                tcp(&snmp, "InSegs"),
                tcp(&snmp, "OutSegs"),
                tcp(&snmp, "RetransSegs"),
            ],
            broker,
        })
    }

    /// The row of the file. The time has milliseconds, for rates over the true time.
    #[must_use]
    pub fn row(&self, interface: &str) -> String {
        let time = clock::utc(self.wall_ns);
        let ms = self.wall_ns / 1_000_000 % 1_000;
        let mut row = format!("{}.{ms:03}Z,{interface}", time.trim_end_matches('Z'));
        for counter in self.counters {
            let _ = write!(row, ",{counter}");
        }
        match self.broker {
            Some((established, Some((rss, vsz)))) => {
                let _ = write!(row, ",{established},{rss},{vsz}");
            }
            Some((established, None)) => {
                let _ = write!(row, ",{established},,");
            }
            None => {}
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_the_files_of_the_kernel() {
        let devices = "Inter-|   Receive\n face |bytes\n  eth0: 1 2 3 4 5 6 7 8 9 10 11\n lo:5 6\n";
        assert_eq!(traffic(devices, "eth0"), Some([1, 2, 9, 10]));
        assert_eq!(traffic(devices, "lo"), Some([5, 6, 0, 0]));
        assert_eq!(traffic(devices, "th0"), None);
        assert_eq!(total("cpu 1\nintr 77 1 2\nctxt 99\n", "ctxt"), 99);
        assert_eq!(sum("    CPU0 CPU1\n  NET_RX:  3  4\n", "NET_RX:"), 7);
        let snmp = "Tcp: RtoMin CurrEstab InSegs\nTcp: 200 12 34\n";
        assert_eq!((tcp(snmp, "CurrEstab"), tcp(snmp, "Nothing")), (12, 0));
    }

    #[test]
    fn a_row_has_the_columns_of_its_header() {
        for (role, pid) in [
            (Role::Broker, Some(std::process::id())),
            (Role::Broker, None),
            (Role::Prober, None),
        ] {
            let row = Sample::read("lo", role, pid).unwrap().row("lo");
            let columns = Sample::header(role).split(',').count();
            assert_eq!(row.split(',').count(), columns, "{row}");
        }
        let failure = Sample::read("no such interface", Role::Broker, None).unwrap_err();
        assert!(failure.message.contains("lo"), "{failure}");
    }
}
