//! Registers the clauses that a test shows.

/// Registers that the running test shows a clause: `clause!("MQTT-3.3.2-3")` of MQTT 5.0, or
/// `clause!(v311 "MQTT-3.3.2-2")` of MQTT 3.1.1.
///
/// A clause counts as tested when a run wrote its line, not when a source names it.
#[macro_export]
macro_rules! clause {
    ($($clause:literal),+ $(,)?) => {
        $($crate::support::clause::register("v5", $clause);)+
    };
    (v311 $($clause:literal),+ $(,)?) => {
        $($crate::support::clause::register("v311", $clause);)+
    };
}

/// Appends a line to the file that the environment variable `MQTT_CLAUSE_LOG` names, if it is
/// set: the crate's name, the version, the clause and the test, with tabs between.
pub(crate) fn register(version: &str, clause: &str) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("MQTT_CLAUSE_LOG") else {
        return;
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("?");
    let line = format!("{}\t{version}\t{clause}\t{test}\n", env!("CARGO_PKG_NAME"));
    // One write to a file opened for appending is not torn apart by those of other tests.
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the clause log is writable");
}
