//! The measuring tools: what the programs `axmq-bench`, `axmq-probe` and `axmq-collect` are made
//! of. They drive any broker over the network and link none.

#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod args;
pub mod check;
pub mod clock;
pub mod collect;
pub mod doctor;
pub mod emqtt;
pub mod fail;
pub mod fleet;
pub mod hist;
pub mod json;
pub mod net;
pub mod probe;
pub mod process;
pub mod progress;
pub mod report;
pub mod scenario;
mod sys;
pub mod target;
pub mod wire;

use std::io::Write as _;

use fail::Failure;

/// Writes to standard output.
///
/// # Errors
///
/// If nobody reads it.
pub fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|_| Failure::run("standard output is closed"))
}
