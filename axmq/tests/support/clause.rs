//! Registers the normative statements that a test shows.

use std::io::Write as _;

/// Registers that the running test showed these statements of MQTT 5.0.
///
/// Call it at the end of a test: a statement counts when a run wrote its line.
pub(crate) fn v5(clauses: &[&str]) {
    register("v5", clauses);
}

/// Registers that the running test showed these statements of MQTT 3.1.1.
pub(crate) fn v311(clauses: &[&str]) {
    register("v311", clauses);
}

/// Appends lines to the file that the environment variable `MQTT_CLAUSE_LOG` names, if it is set:
/// the crate's name, the version, the statement and the test, with tabs between.
fn register(version: &str, clauses: &[&str]) {
    let Some(path) = std::env::var_os("MQTT_CLAUSE_LOG") else {
        return;
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let lines: String = clauses
        .iter()
        .map(|clause| {
            format!(
                "{}\t{version}\tMQTT-{clause}\t{test}\n",
                env!("CARGO_PKG_NAME")
            )
        })
        .collect();
    // One write to a file opened for appending is not torn apart by those of other tests.
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.and_then(|mut file| file.write_all(lines.as_bytes()))
        .expect("the clause log is writable");
}
