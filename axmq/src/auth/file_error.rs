//! What is wrong with a file that identity or permission come from.

use std::fmt;

/// Why a file that says who may come in, or what they may do, cannot be used: a line for each thing
/// that is wrong with it, with the place and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError(Box<str>);

impl FileError {
    pub(crate) fn new(what: impl Into<Box<str>>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FileError {}
