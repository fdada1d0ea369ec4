//! `axmq-bench report` with three doubles: an honest one, one that loses messages, and one that is
//! not there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The example `double`, which lies in a folder beside the programs.
fn double() -> PathBuf {
    let programs = Path::new(env!("CARGO_BIN_EXE_axmq-bench"))
        .parent()
        .unwrap();
    let path = programs.join("examples/double");
    assert!(path.exists(), "cargo test builds examples");
    path
}

#[test]
fn a_report_has_figures_of_those_who_keep_their_promises_alone() {
    let folder = std::env::temp_dir().join(format!("axmq-report-test-{}", std::process::id()));
    let double = double().display().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_axmq-bench"))
        .args(["report", "--quick", "--duration", "0.1", "--out"])
        .arg(&folder)
        .args(["--broker", &format!("honest={double} {{port}} none")])
        .args(["--broker", &format!("lossy={double} {{port}} drop")])
        .args(["--broker", "absent=false {port}"])
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("1 of "), "a line a step: {errors}");

    let page = fs::read_to_string(folder.join("index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 4, "all plots are in the page");
    for word in ["<script", "src=", "url(", "@import"] {
        assert!(
            !page.contains(word),
            "a page that needs nothing has no {word}"
        );
    }
    let text = fs::read_to_string(folder.join("report.md")).unwrap();
    let section = |title: &str| {
        let begin = text.find(&format!("\n## {title}\n")).unwrap();
        let end = text[begin + 1..]
            .find("\n## ")
            .map_or(text.len(), |at| begin + 1 + at);
        text[begin..end].to_owned()
    };
    let row = |section: &str, name: &str| -> Vec<String> {
        let line = section
            .lines()
            .find(|line| line.starts_with(&format!("| {name} |")));
        let line = line.unwrap_or_else(|| panic!("no {name} in {section}"));
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let is_number = |cell: &str| cell.starts_with(|c: char| c.is_ascii_digit());
    let costs = section("CPU a message");
    let [_, _, floor, honest, lossy, absent, _] = &row(&costs, "1 → 10, QoS 0")[..] else {
        panic!("{costs}");
    };
    assert!(is_number(floor) && is_number(honest), "{costs}");
    assert!(
        lossy.starts_with("failed (") && absent.starts_with("failed ("),
        "{costs}"
    );
    assert!(
        costs.contains("lossy, 1 → 10, QoS 0: the broker broke its promise"),
        "{costs}"
    );
    assert!(
        costs.contains("absent, 1 → 10, QoS 0: absent ended at once"),
        "{costs}"
    );
    let memory = row(&section("Bytes a connection"), "idle");
    assert!(memory[4].starts_with("failed ("), "{memory:?}");
    let storm = row(&section("Storm"), "honest");
    assert!(is_number(&storm[2]), "{storm:?}");
    assert!(row(&section("Storm"), "absent")[2].starts_with("failed ("));
    assert!(row(&section("Latency"), "lossy")[2].starts_with("failed ("));
    assert!(
        text.contains("Linux") && text.contains("double {port} none"),
        "{text}"
    );
    assert!(!text.contains(&double), "no folder of this machine");

    let record = fs::read_to_string(folder.join("report.json")).unwrap();
    assert!(
        record.contains("\"failed\": \"absent ended at once"),
        "{record}"
    );
    for name in ["cpu", "memory", "latency", "storm"] {
        let plot = fs::read_to_string(folder.join(format!("{name}.svg"))).unwrap();
        assert!(
            plot.starts_with("<svg") && plot.ends_with("</svg>\n"),
            "{name}"
        );
    }
    fs::remove_dir_all(&folder).unwrap();
}
