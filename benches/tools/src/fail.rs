//! Why a program ends without a result: one line that says what and what to do.

use std::{fmt, process::ExitCode};

/// A failure: its line, and the exit code of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is wrong and what to do, in one line.
    pub message: String,
    /// 1: the run failed; 2: the command line is wrong; 3: the broker broke a promise.
    pub code: u8,
}

impl Failure {
    /// The run cannot begin or go on.
    #[must_use]
    pub fn run(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 1,
        }
    }

    /// The command line is wrong.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 2,
        }
    }

    /// The run is complete, and what was delivered is not what was promised.
    #[must_use]
    pub fn verdict(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Ends a program: the failure goes to standard error in one line, behind the program's name.
#[must_use]
pub fn exit(program: &str, result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{program}: {}", failure.message.replace('\n', " "));
            ExitCode::from(failure.code)
        }
    }
}
