//! What can be done with a store while no broker uses it: `axmq store`.

mod line;
mod survey;
#[cfg(test)]
mod tests;
mod transfer;

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use super::copy::CopyError;
use super::engine::{Engine, EngineError, Space};
use super::record::unseal;
use super::server::Disk;
use super::upgrade::{FormatError, format_of};
use super::{DiskEngine, DiskPlace};
use crate::cli::StoreCommand;
use crate::data_dir::{DataDir, DataDirError};

/// Why a command for a store came to nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum ToolError {
    /// The data directory cannot be used; a broker may be running.
    DataDir(DataDirError),
    /// There is none.
    NoStore(PathBuf),
    /// The store cannot be read or written.
    Store(String),
    /// It was looked through, and this many things in it make no sense.
    Faults(u64),
    /// A line of an import is none.
    Line {
        /// Which, from 1.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// A file cannot be read or written.
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The answer cannot be printed.
    Output(io::Error),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(error) => error.fmt(f),
            Self::NoStore(path) => write!(
                f,
                "there is no store at {}; --data-dir names another data directory",
                path.display()
            ),
            Self::Store(why) => f.write_str(why),
            Self::Faults(1) => f.write_str("1 record makes no sense"),
            Self::Faults(count) => write!(f, "{count} records make no sense"),
            Self::Line { number, why } => write!(f, "line {number}: {why}; nothing is imported"),
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

impl std::error::Error for ToolError {}

impl From<EngineError> for ToolError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<FormatError> for ToolError {
    fn from(error: FormatError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<CopyError> for ToolError {
    fn from(error: CopyError) -> Self {
        Self::Store(error.to_string())
    }
}

/// Carries out a command with the store of a data directory that no broker uses, and prints what
/// came of it.
///
/// # Errors
///
/// See [`ToolError`].
pub fn run_tool(
    command: &StoreCommand,
    data_dir: &Path,
    out: &mut impl Write,
) -> Result<(), ToolError> {
    if let StoreCommand::Import { file } = command {
        let _lock = DataDir::open(data_dir).map_err(ToolError::DataDir)?;
        let mut input = BufReader::new(open(file)?);
        let count = transfer::import(data_dir, &mut input)?;
        return print(out, &format!("{count} records are imported\n"));
    }
    let path = data_dir.join("store");
    if !path.is_dir() {
        return Err(ToolError::NoStore(path));
    }
    let _lock = DataDir::open(data_dir).map_err(ToolError::DataDir)?;
    let mut engine = DiskPlace::new(&path, 0).open()?;
    // An older one is read as it is: the broker upgrades it.
    format_of(&engine)?;
    match command {
        StoreCommand::Check => {
            let survey = survey::survey(&engine, |line| print(out, line))?;
            print(out, &survey.to_string())?;
            match survey.faults() {
                0 => Ok(()),
                faults => Err(ToolError::Faults(faults)),
            }
        }
        StoreCommand::Stats => {
            let survey = survey::survey(&engine, |_| Ok(()))?;
            print(out, &survey.to_string())
        }
        StoreCommand::Export => match transfer::export(&engine, out)? {
            0 => Ok(()),
            faults => Err(ToolError::Faults(faults)),
        },
        StoreCommand::Compact => {
            let before = engine.bytes();
            engine.compact()?;
            let after = engine.bytes();
            print(out, &format!("{before} bytes before, {after} now\n"))
        }
        // These were done above, or are the running broker's to do.
        StoreCommand::Import { .. } | StoreCommand::Backup { .. } => Ok(()),
    }
}

fn print(out: &mut impl Write, text: &str) -> Result<(), ToolError> {
    out.write_all(text.as_bytes()).map_err(ToolError::Output)
}

fn open(path: &Path) -> Result<File, ToolError> {
    File::open(path).map_err(|source| ToolError::File {
        path: path.to_owned(),
        source,
    })
}

fn meta<const N: usize>(engine: &DiskEngine, key: &[u8]) -> Result<Option<[u8; N]>, EngineError> {
    let value = engine.get(Space::Meta, key)?;
    let body = value
        .as_deref()
        .and_then(|value| unseal(Space::Meta, key, value).ok());
    Ok(body.and_then(|body| body.try_into().ok()))
}
