//! One line on a terminal that says how far a run is; nothing where nobody looks.

use std::io::{IsTerminal as _, Write as _, stderr};

/// Time between two lines.
const STEP_NS: u64 = 500_000_000;

/// The line. It is wiped when this is dropped.
#[derive(Debug)]
pub struct Progress {
    on: bool,
    shown: bool,
    next_ns: u64,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            on: stderr().is_terminal(),
            shown: false,
            next_ns: 0,
        }
    }
}

impl Progress {
    /// Shows what `text` says, if there is a terminal and the last line is old enough.
    pub fn show(&mut self, now_ns: u64, text: impl FnOnce() -> String) {
        if self.on && now_ns >= self.next_ns {
            self.next_ns = now_ns + STEP_NS;
            self.shown = true;
            // A terminal that is gone is no reason to end a measurement.
            let _ = write!(stderr(), "\r\x1b[K{}", text());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
