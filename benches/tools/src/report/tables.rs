//! The tables of a report, before they are Markdown or HTML.

use super::{
    results::{Contender, Figure, Results, Runs, all_latencies, any, figure},
    suite::{Run, Scale},
};
use crate::scenario::{herd::storm::Stormed, report::duration};

/// The mark of a rate that the generator set.
const GENERATOR: &str = "\u{a0}ᴳ";
/// The mark of a rate that the broker set.
const BROKER: &str = "\u{a0}ᴮ";
/// The mark of runs in which the generator had to wait for a core.
const DISTURBED: &str = "\u{a0}ᴰ";

/// A part of the report: a plot and a table.
#[derive(Clone, Debug, Default)]
pub struct Section {
    /// The name of its plot, without an ending.
    pub plot: &'static str,
    /// Its heading.
    pub title: String,
    /// What the figures are.
    pub lead: String,
    /// The heads of the columns.
    pub head: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// What cells refer to.
    pub notes: Vec<String>,
}

impl Section {
    fn head(&mut self, first: &str, contenders: &[Contender]) {
        self.head.push(first.to_owned());
        let names = contenders.iter().map(|contender| contender.name.clone());
        self.head.extend(names);
    }

    /// The text of a cell; why there is no figure goes to the notes.
    fn cell(&mut self, figure: &Figure, who: &str, what: &str, digits: usize) -> String {
        match figure {
            Figure::None => "–".to_owned(),
            Figure::Median { median, .. } => number(*median, digits),
            Figure::Failed(why) => self.failed(who, what, why),
        }
    }

    fn failed(&mut self, who: &str, what: &str, why: &str) -> String {
        let note = format!("{who}, {what}: {why}");
        let known = self.notes.iter().position(|known| *known == note);
        let at = known.unwrap_or_else(|| {
            self.notes.push(note);
            self.notes.len() - 1
        });
        format!("failed ({})", at + 1)
    }
}

/// A number with groups of three digits before the point.
#[must_use]
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, c) in whole.chars().enumerate() {
        let behind = whole.len() - at;
        if at > 0 && behind.is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped + rest
}

/// All sections.
#[must_use]
pub fn sections(results: &Results, scale: &Scale) -> Vec<Section> {
    vec![
        costs(results),
        rates(results, scale),
        memory(results, scale),
        latencies(results, scale),
        storms(results, scale),
    ]
}

fn costs(results: &Results) -> Section {
    let mut section = Section {
        plot: "cpu",
        title: "CPU a message".to_owned(),
        lead: "The broker's CPU (user and system, all threads) for each delivered message of 256 \
               bytes, in µs: the median of the runs, and the least and the most behind it. The \
               floor is a relay that moves the same bytes and knows nothing of MQTT."
            .to_owned(),
        ..Section::default()
    };
    section.head("scenario", &results.contenders);
    section.head.insert(1, "floor".to_owned());
    for (case, floor, brokers) in &results.costs {
        let mut row = vec![case.title.clone()];
        let names = results.contenders.iter().map(|c| c.name.as_str());
        let columns = std::iter::once(("floor", floor)).chain(names.zip(brokers));
        for (name, runs) in columns {
            let figure = figure(runs, |run| run.cpu_us);
            let mut cell = section.cell(&figure, name, &case.title, 3);
            if let Figure::Median { least, most, .. } = figure
                && runs.len() > 1
            {
                cell += &format!(" ({} – {})", number(least, 3), number(most, 3));
            }
            if figure.median().is_some() && any(runs, |run| run.disturbed) {
                cell += DISTURBED;
            }
            row.push(cell);
        }
        section.rows.push(row);
    }
    section
}

fn rates(results: &Results, scale: &Scale) -> Section {
    let pinned = match scale.broker_cpu {
        Some(_) => ", with the broker on a core of its own",
        None => "",
    };
    let mut section = Section {
        title: "Deliveries a second, and whose limit that is".to_owned(),
        lead: format!(
            "Messages delivered a second{pinned}, and the generator's own CPU for each of them. \
             It sends the next message when the one before is there, so it asks a slow broker for \
             less. What failed is explained above.{BROKER}: the broker used all of its cores, the \
             rate is its own.{GENERATOR}: generator saturated, the rate is the \
             generator's and the broker can do more.{DISTURBED}: the generator had to wait for \
             its core."
        ),
        ..Section::default()
    };
    section.head("scenario", &results.contenders);
    let names = results.contenders.iter();
    let own = names.map(|contender| format!("generator's µs, {}", contender.name));
    section.head.extend(own);
    for (case, _, brokers) in &results.costs {
        let mut row = vec![case.title.clone()];
        for runs in brokers {
            let figure = figure(runs, |run| run.rate);
            row.push(bare(&figure, 0) + marks(&figure, runs).as_str());
        }
        for runs in brokers {
            row.push(bare(&figure(runs, |run| run.generator_us), 3));
        }
        section.rows.push(row);
    }
    section
}

/// A cell that does not say why there is no figure.
fn bare(figure: &Figure, digits: usize) -> String {
    match figure {
        Figure::None => "–".to_owned(),
        Figure::Median { median, .. } => number(*median, digits),
        Figure::Failed(_) => "failed".to_owned(),
    }
}

fn marks(figure: &Figure, runs: &Runs<Run>) -> String {
    let mut marks = String::new();
    if figure.median().is_some() {
        for (mark, holds) in [
            (GENERATOR, any(runs, |run| run.generator_saturated)),
            (BROKER, any(runs, |run| run.broker_saturated)),
            (DISTURBED, any(runs, |run| run.disturbed)),
        ] {
            if holds {
                marks += mark;
            }
        }
    }
    marks
}

fn memory(results: &Results, scale: &Scale) -> Section {
    let (from, to) = (
        number(scale.idle.0.into(), 0),
        number(scale.idle.1.into(), 0),
    );
    let mut section = Section {
        plot: "memory",
        title: "Bytes a connection".to_owned(),
        lead: format!(
            "The broker's resident memory for an idle connection, in bytes: the slope between \
             {from} and {to} connections of a fresh broker. The kernel's own memory for a socket \
             is not in it."
        ),
        ..Section::default()
    };
    section.head("connection", &results.contenders);
    for (title, all) in [
        ("idle", &results.idle),
        ("idle, one subscription each", &results.subscribed),
    ] {
        let mut row = vec![title.to_owned()];
        for (contender, runs) in results.contenders.iter().zip(all) {
            let figure = figure(runs, |idled| idled.bytes);
            row.push(section.cell(&figure, &contender.name, title, 0));
        }
        section.rows.push(row);
    }
    section
}

fn latencies(results: &Results, scale: &Scale) -> Section {
    let rate = number(scale.latency_rate, 0);
    let mut section = Section {
        plot: "latency",
        title: "Latency".to_owned(),
        lead: format!(
            "From the time a message should have been sent to the time it was read, all runs \
             together: {rate} publishes a second to ten subscribers, 256 bytes, QoS 0. A stall \
             counts against every message that it delays. No figure where broker or generator \
             could not keep the rate."
        ),
        ..Section::default()
    };
    let heads = ["broker", "P50", "P95", "P99", "P99.9", "max", "messages"];
    section.head = heads.map(str::to_owned).to_vec();
    for (contender, runs) in results.contenders.iter().zip(&results.latencies) {
        let mut row = vec![contender.name.clone()];
        match all_latencies(runs) {
            Some(all) => {
                let points = [0.5, 0.95, 0.99, 0.999].map(|q| duration(all.quantile(q)));
                row.extend(points);
                row.push(duration(all.max()));
                row.push(number(all.total() as f64, 0));
            }
            None => {
                let why = runs.iter().find_map(|run| run.as_ref().err());
                let why = why.map_or("not run", String::as_str);
                row.push(section.failed(&contender.name, "latency", why));
                row.resize(section.head.len(), "–".to_owned());
            }
        }
        section.rows.push(row);
    }
    section
}

/// A column of the table of storms: its head, its digits, its value.
type Column = (&'static str, usize, fn(&Stormed, u32) -> f64);

const STORM_COLUMNS: [Column; 8] = [
    ("connects a second", 0, |s, n| f64::from(n) / s.seconds()),
    ("µs of CPU a connect", 1, |s, n| s.cpu_us(n)),
    ("MiB before", 2, |s, _| mib(s.before.rss_bytes)),
    ("MiB with all", 2, |s, _| mib(s.full.rss_bytes)),
    ("after ÷ before", 2, |s, _| s.memory_ratio()),
    ("quiet P99, ms", 3, |s, _| probe(s, 0, 0.99)),
    ("storm P99, ms", 3, |s, _| probe(s, 1, 0.99)),
    ("drop, worst, ms", 3, |s, _| probe(s, 2, 1.0)),
];

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn probe(stormed: &Stormed, phase: usize, q: f64) -> f64 {
    stormed.phases()[phase].1.quantile(q) as f64 / 1e6
}

fn storms(results: &Results, scale: &Scale) -> Section {
    let count = number(scale.storm.into(), 0);
    let mut section = Section {
        plot: "storm",
        title: "Storm".to_owned(),
        lead: format!(
            "{count} clients connect and subscribe as fast as the broker lets them in (512 on \
             their way at once), stay, and all close at once, while a prober publishes to itself \
             every 2 ms. The plot shows the first run."
        ),
        ..Section::default()
    };
    section.head.push("broker".to_owned());
    let heads = STORM_COLUMNS.iter().map(|(head, ..)| (*head).to_owned());
    section.head.extend(heads);
    for (contender, runs) in results.contenders.iter().zip(&results.storms) {
        let mut row = vec![contender.name.clone()];
        for (_, digits, value) in STORM_COLUMNS {
            let figure = figure(runs, |stormed| value(stormed, scale.storm));
            row.push(section.cell(&figure, &contender.name, "storm", digits));
        }
        section.rows.push(row);
    }
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (value, digits, text) in [
            (0.0357, 3, "0.036"),
            (999.6, 0, "1,000"),
            (1_234_567.0, 0, "1,234,567"),
            (-1_234.5, 1, "-1,234.5"),
            (-123.0, 0, "-123"),
        ] {
            assert_eq!(number(value, digits), text);
        }
    }
}
