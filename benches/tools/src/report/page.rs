//! A report as Markdown, and as one HTML page that needs nothing beside itself.

use std::fmt::Write as _;

use super::{machine::Machine, results::Results, suite::Scale, tables::Section};

/// What stands above the sections.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Where it was made.
    pub machine: &'a Machine,
    /// How much of everything.
    pub scale: &'a Scale,
    /// The command line, with the names of programs alone.
    pub command: &'a str,
}

impl Head<'_> {
    fn facts(&self) -> Vec<(&'static str, String)> {
        let (machine, scale) = (self.machine, self.scale);
        let pinned = match scale.broker_cpu {
            Some(cpu) => format!("brokers and relay pinned to processor {cpu}"),
            None => "nothing pinned".to_owned(),
        };
        vec![
            ("when", machine.time.clone()),
            (
                "machine",
                format!(
                    "{}, {} processors, {} MiB",
                    machine.processor, machine.processors, machine.memory_mib
                ),
            ),
            ("kernel", machine.kernel.clone()),
            (
                "runs",
                format!(
                    "{}, brokers in turn, each run with a fresh broker; {:.1} s of warm-up and \
                     {:.1} s of measurement; {pinned}; MQTT 3.1.1 over loopback",
                    scale.runs,
                    scale.warmup_ns as f64 / 1e9,
                    scale.duration_ns as f64 / 1e9,
                ),
            ),
            ("command", self.command.to_owned()),
        ]
    }
}

const TITLE: &str = "Brokers side by side";

/// The report as Markdown; the plots lie beside it as `NAME.svg`.
#[must_use]
pub fn markdown(head: &Head<'_>, results: &Results, sections: &[Section]) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut text = format!("# {TITLE}\n\n| | |\n| --- | --- |\n");
    for (name, value) in head.facts() {
        let value = match name {
            "command" => format!("`{value}`"),
            _ => value,
        };
        text += &row(&[name.to_owned(), value]);
    }
    for contender in &results.contenders {
        let started = format!("{}: `{}`", contender.version, contender.command);
        text += &row(&[contender.name.clone(), started]);
    }
    for section in sections {
        let _ = write!(text, "\n## {}\n\n{}\n\n", section.title, section.lead);
        if !section.plot.is_empty() {
            let _ = write!(text, "![{}]({}.svg)\n\n", section.title, section.plot);
        }
        text += &row(&section.head);
        let lines = std::iter::repeat_n("---:".to_owned(), section.head.len() - 1);
        let lines: Vec<_> = std::iter::once("---".to_owned()).chain(lines).collect();
        text += &row(&lines);
        for cells in &section.rows {
            text += &row(cells);
        }
        if !section.notes.is_empty() {
            text.push('\n');
        }
        for (at, note) in section.notes.iter().enumerate() {
            let _ = writeln!(text, "- ({}) {note}", at + 1);
        }
    }
    text
}

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;color:#1c2430;background:#fff;max-width:62rem;\
margin:2rem auto;padding:0 1rem}
h1,h2{line-height:1.2}h2{margin-top:2.5rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.85rem;width:100%}
th,td{padding:.3rem .6rem;border-bottom:1px solid #d8dee6;text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left}
.facts th{width:6rem;text-align:left}.facts td{text-align:left}
.wide{overflow-x:auto}svg{width:100%;height:auto}code{font-size:.85em;overflow-wrap:anywhere}
";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The report as a page; `plots` are names and SVG texts.
#[must_use]
pub fn html(
    head: &Head<'_>,
    results: &Results,
    sections: &[Section],
    plots: &[(&'static str, String)],
) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<title>{TITLE}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<h1>{TITLE}</h1>\n<table class=\"facts\">\n"
    );
    for (name, value) in head.facts() {
        let value = match name {
            "command" => format!("<code>{}</code>", escape(&value)),
            _ => escape(&value),
        };
        let _ = writeln!(text, "<tr><th>{name}</th><td>{value}</td></tr>");
    }
    for contender in &results.contenders {
        let _ = writeln!(
            text,
            "<tr><th>{}</th><td>{}: <code>{}</code></td></tr>",
            escape(&contender.name),
            escape(&contender.version),
            escape(&contender.command),
        );
    }
    text += "</table>\n";
    for section in sections {
        let _ = writeln!(
            text,
            "<h2>{}</h2>\n<p>{}</p>",
            escape(&section.title),
            escape(&section.lead)
        );
        if let Some((_, svg)) = plots.iter().find(|(name, _)| *name == section.plot) {
            let _ = writeln!(text, "<figure>{svg}</figure>");
        }
        let row = |tag: &str, cells: &[String]| {
            let cells: String = cells
                .iter()
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                .collect();
            format!("<tr>{cells}</tr>\n")
        };
        text += "<div class=\"wide\"><table>\n";
        text += &row("th", &section.head);
        for cells in &section.rows {
            text += &row("td", cells);
        }
        text += "</table></div>\n";
        for (at, note) in section.notes.iter().enumerate() {
            let _ = writeln!(text, "<p>({}) {}</p>", at + 1, escape(note));
        }
    }
    text += "</body>\n</html>\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{results::Contender, scale_of};

    #[test]
    fn what_brokers_say_stays_text() {
        let machine = Machine::here();
        let head = Head {
            machine: &machine,
            scale: &scale_of("--quick"),
            command: "axmq-bench report",
        };
        let results = Results {
            contenders: vec![Contender {
                name: "a|b".to_owned(),
                version: "<script>1</script>".to_owned(),
                command: "x & y".to_owned(),
            }],
            ..Results::default()
        };
        let section = Section {
            title: "T".to_owned(),
            head: vec!["h".to_owned(), "i".to_owned()],
            rows: vec![vec!["p|q".to_owned(), "<b>".to_owned()]],
            notes: vec!["\"note\"".to_owned()],
            ..Section::default()
        };
        let page = html(&head, &results, std::slice::from_ref(&section), &[]);
        assert!(page.contains("&lt;script&gt;1&lt;/script&gt;: <code>x &amp; y</code>"));
        assert!(page.contains("<td>&lt;b&gt;</td>") && page.contains("(1) &quot;note&quot;"));
        let text = markdown(&head, &results, &[section]);
        assert!(text.contains("| a\\|b |") && text.contains("| p\\|q | <b> |"));
        assert!(text.contains("| --- | ---: |\n") && text.ends_with("- (1) \"note\"\n"));
    }
}
