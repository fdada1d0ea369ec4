//! Registers the clauses that a test shows.

/// Registers that the running test shows a clause, by its identifier such as `MQTT-3.3.2-3`.
///
/// Appends a line to the file that the environment variable `MQTT_CLAUSE_LOG` names, if it is
/// set: the crate's name, the version of the specification, the clause and the place. A clause
/// counts as tested when a run wrote its line, not when a source names it.
#[macro_export]
macro_rules! clause {
    ($($version:ident: $clause:literal),+ $(,)?) => {
        $($crate::support::clause::register(
            stringify!($version),
            $clause,
            concat!(file!(), ":", line!()),
        );)+
    };
}

/// Writes the line. One `write` to a file opened for appending is not torn apart by others.
pub(crate) fn register(version: &str, clause: &str, place: &str) {
    use std::io::Write as _;
    let Some(path) = std::env::var_os("MQTT_CLAUSE_LOG") else {
        return;
    };
    let line = format!("{}\t{version}\t{clause}\t{place}\n", env!("CARGO_PKG_NAME"));
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("the clause log is writable");
}
