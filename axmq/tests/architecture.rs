//! The code map of ARCHITECTURE.md names files that exist.

use std::path::Path;

/// The files that the table from question to file names, with their questions.
fn rows(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
            let question = cells.next()?;
            let file = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
            Some((question, file))
        })
        .collect()
}

#[test]
fn every_question_has_a_file_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).expect("it is there");
    let rows = rows(&text);
    for must in ["parsed", "routed", "written", "time out", "handed over"] {
        assert!(
            rows.iter().any(|(question, _)| question.contains(must)),
            "no question about where something is {must}"
        );
    }
    let missing: Vec<_> = rows
        .iter()
        .filter(|(_, file)| !root.join(file).is_file())
        .collect();
    assert!(missing.is_empty(), "these files do not exist: {missing:?}");
}
