//! From counters to rates, and from rates to one figure for a steady state.

use std::fmt::Write as _;

use crate::{clock, fail::Failure, json::Object};

/// Columns that are no counters.
const GAUGES: [&str; 3] = ["tcp_estab", "proc_rss_kb", "proc_vsz_kb"];
/// The time at the end of a run over which medians are taken, in nanoseconds.
const STEADY_NS: u64 = 60_000_000_000;

/// The rows of a rates file.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// Names of the columns behind time and interface.
    pub columns: Vec<String>,
    /// Time as it stands in the file, the same in nanoseconds, interface, values.
    pub rows: Vec<(String, u64, String, Vec<Option<f64>>)>,
}

impl Rates {
    /// Differences of the rows of a `raw.csv`, over the time that was between them.
    ///
    /// # Errors
    ///
    /// If it is no such file; the line is named.
    pub fn from_raw(text: &str) -> Result<Self, Failure> {
        let mut lines = text.lines().enumerate();
        let header = lines.next().map_or("", |(_, line)| line);
        let names: Vec<&str> = header.split(',').collect();
        if names.get(..2) != Some(&["time_utc", "iface"]) {
            return Err(Failure::run(
                "this is no raw.csv: its first line begins otherwise",
            ));
        }
        let gauge: Vec<bool> = names[2..]
            .iter()
            .map(|name| GAUGES.contains(name))
            .collect();
        let column = |(name, gauge): (&&str, &bool)| match gauge {
            true => (*name).to_owned(),
            false => format!("{name}_per_s"),
        };
        let columns = names[2..].iter().zip(&gauge).map(column).collect();
        let mut rows = Vec::new();
        let mut last: Option<(u64, Vec<Option<f64>>)> = None;
        for (at, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let bad = || Failure::run(format!("line {} is no row: `{line}`", at + 1));
            let fields: Vec<&str> = line.split(',').collect();
            let time_ns = clock::from_utc(fields[0]).ok_or_else(bad)?;
            if fields.len() != names.len() {
                return Err(bad());
            }
            let values: Vec<Option<f64>> =
                fields[2..].iter().map(|field| field.parse().ok()).collect();
            if let Some((then_ns, before)) = &last
                && time_ns > *then_ns
            {
                let seconds = (time_ns - then_ns) as f64 / 1e9;
                let rate = |((now, before), gauge): ((&Option<f64>, &Option<f64>), &bool)| {
                    if *gauge {
                        *now
                    } else {
                        Some((((*now)? - (*before)?) / seconds).max(0.0))
                    }
                };
                let row = values.iter().zip(before).zip(&gauge).map(rate).collect();
                rows.push((fields[0].to_owned(), time_ns, fields[1].to_owned(), row));
            }
            last = Some((time_ns, values));
        }
        Ok(Self { columns, rows })
    }

    /// The text of `rates.csv`.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut text = format!("time_utc,iface,{}\n", self.columns.join(","));
        for (time, _, interface, values) in &self.rows {
            let _ = write!(text, "{time},{interface}");
            for (value, column) in values.iter().zip(&self.columns) {
                let _ = match value {
                    None => write!(text, ","),
                    Some(value) if GAUGES.contains(&column.as_str()) => write!(text, ",{value:.0}"),
                    Some(value) => write!(text, ",{value:.2}"),
                };
            }
            text.push('\n');
        }
        text
    }

    /// The median of each column over the last 60 seconds, `None` where there are no values.
    #[must_use]
    pub fn steady(&self) -> Vec<(String, Option<f64>)> {
        let end_ns = self.rows.last().map_or(0, |row| row.1);
        let steady: Vec<_> = self
            .rows
            .iter()
            .filter(|row| row.1 + STEADY_NS > end_ns)
            .collect();
        let median = |at: usize| {
            let mut values: Vec<f64> = steady.iter().filter_map(|row| row.3[at]).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            match values.len() {
                0 => None,
                n if n % 2 == 1 => Some(values[middle]),
                _ => Some((values[middle - 1] + values[middle]) / 2.0),
            }
        };
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(at, name)| (name.clone(), median(at)))
            .collect()
    }
}

/// The steady state as lines, with MiB/s and MiB where that is how people read it.
#[must_use]
pub fn summary(rates: &Rates, json: bool) -> String {
    let steady = rates.steady();
    if json {
        let object = steady
            .iter()
            .fold(Object::default(), |object, (name, value)| {
                object.number(name, value.unwrap_or(f64::NAN))
            });
        return object.finish() + "\n";
    }
    let mut text = String::new();
    for (name, value) in &steady {
        let _ = match value {
            None => writeln!(text, "{name:24} -"),
            Some(value) if name.ends_with("bytes_per_s") => {
                writeln!(
                    text,
                    "{name:24} {value:.0} ({:.1} MiB/s)",
                    value / f64::from(1 << 20)
                )
            }
            Some(value) if name.ends_with("_kb") => {
                writeln!(text, "{name:24} {value:.0} ({:.1} MiB)", value / 1024.0)
            }
            Some(value) => writeln!(text, "{name:24} {value:.2}"),
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "time_utc,iface,rx_bytes,tcp_estab,proc_rss_kb\n\
                       2025-12-31T04:06:27Z,eth0,1000,5,100\n\
                       2025-12-31T04:06:29Z,eth0,3000,6,\n\
                       2025-12-31T04:06:29.500Z,eth0,3600,7,300\n";

    #[test]
    fn rates_are_over_the_true_time() {
        let rates = Rates::from_raw(RAW).unwrap();
        assert_eq!(
            rates.to_csv(),
            "time_utc,iface,rx_bytes_per_s,tcp_estab,proc_rss_kb\n\
             2025-12-31T04:06:29Z,eth0,1000.00,6,\n\
             2025-12-31T04:06:29.500Z,eth0,1200.00,7,300\n"
        );
        let steady = rates.steady();
        assert_eq!(steady[0], ("rx_bytes_per_s".to_owned(), Some(1_100.0)));
        assert_eq!(steady[2].1, Some(300.0));
        assert!(summary(&rates, false).contains("MiB/s"));
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut raw = String::from("time_utc,iface,ctxt\n");
        for minute in 0..3_u32 {
            let _ = writeln!(
                raw,
                "2025-12-31T04:0{minute}:00Z,eth0,{}",
                minute * minute * 60
            );
        }
        assert_eq!(Rates::from_raw(&raw).unwrap().steady()[0].1, Some(3.0));
    }

    #[test]
    fn what_is_no_raw_file_is_refused() {
        for raw in [
            "",
            "a,b,c\n",
            "time_utc,iface,ctxt\nnow,eth0,3\n",
            "time_utc,iface,ctxt\n\
                    2025-12-31T04:06:27Z,eth0\n",
        ] {
            assert!(Rates::from_raw(raw).is_err(), "{raw}");
        }
    }
}
