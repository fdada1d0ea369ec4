//! The data directory: the only place where the broker writes, and the lock that keeps a second
//! broker out of it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// A data directory that this process, and no other, uses until this is dropped.
///
/// The file `lock` in it carries an advisory lock and the id of the process. The lock ends with the
/// process, however that ends, so a file left behind by a crash does no harm.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataDirError {
    /// It does not exist and cannot be made, or is no directory.
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The lock file cannot be made, locked or written.
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process, if it has already said which it is.
        pid: Option<u32>,
    },
}

impl DataDir {
    /// Makes the directory, with mode 0700, if it is missing, and takes its lock.
    ///
    /// # Errors
    ///
    /// See [`DataDirError`]; a directory that is in use is an error at once, without waiting.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DataDirError::Create {
                path: path.to_owned(),
                source,
            })?;
        let lock_path = path.join("lock");
        let refuse = |source| DataDirError::Lock {
            path: lock_path.clone(),
            source,
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            // Until the lock is ours, the content belongs to its holder.
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(refuse)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                    pid: holder(&lock),
                });
            }
            Err(errno) => return Err(refuse(errno.into())),
        }
        lock.set_len(0).map_err(refuse)?;
        writeln!(lock, "{}", std::process::id()).map_err(refuse)?;
        Ok(Self {
            path: path.to_owned(),
            lock,
        })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Closing the file gives the lock back. Emptying it before means that whoever looks in
        // between reads no process rather than one that has ended; it does not matter if it fails.
        let _ = self.lock.set_len(0);
    }
}

/// The process that the lock file names.
fn holder(lock: &File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

impl fmt::Display for DataDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { path, source } => {
                let path = path.display();
                write!(f, "cannot make the data directory {path}: {source}; ")?;
                f.write_str("--data-dir names another")
            }
            Self::Lock { path, source } => {
                write!(f, "cannot lock {}: {source}; ", path.display())?;
                f.write_str("--data-dir names another data directory")
            }
            Self::InUse { path, pid } => {
                let path = path.display();
                write!(f, "the data directory {path} is in use by another axmq, ")?;
                match pid {
                    Some(pid) => write!(f, "process {pid}")?,
                    None => f.write_str("which has not yet named its process")?,
                }
                f.write_str("; --data-dir names another")
            }
        }
    }
}

impl std::error::Error for DataDirError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Create { source, .. } | Self::Lock { source, .. } => Some(source),
            Self::InUse { .. } => None,
        }
    }
}
