//! Making a store out of records that come from elsewhere: a backup, an import. It is written
//! beside its place and moved there when it is whole and durable, so that what is in its place can
//! be started from, whatever happens meanwhile.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::engine::{Engine, EngineError, Snapshot, Space, WriteBatch};
use super::record::key;
use super::server::Disk;
use super::{DiskEngine, DiskPlace};

/// Bytes of keys and values that are written at a time.
const BATCH_BYTES: usize = 1 << 20;

/// Why there is no copy.
#[derive(Debug)]
pub(crate) enum CopyError {
    /// There is a store in its place.
    Exists(PathBuf),
    Io(PathBuf, io::Error),
    Engine(EngineError),
}

impl From<EngineError> for CopyError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists(path) => write!(
                f,
                "there is a store at {}; move it away, or name another folder",
                path.display()
            ),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

/// A store that is being made.
#[derive(Debug)]
pub(crate) struct Copy {
    folder: PathBuf,
    engine: Option<DiskEngine>,
    batch: WriteBatch,
    batch_bytes: usize,
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Copy {
    /// Begins a store in a folder, which is made where it is missing. What an earlier attempt has
    /// left is removed.
    pub(crate) fn begin(folder: &Path) -> Result<Self, CopyError> {
        let at = folder.join("store");
        if at.exists() {
            return Err(CopyError::Exists(at));
        }
        fs::create_dir_all(folder).map_err(|error| CopyError::Io(folder.to_owned(), error))?;
        let part = part_of(folder);
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(CopyError::Io(part, error));
            }
            _ => {}
        }
        let engine = DiskPlace::new(&part, 0).open()?;
        Ok(Self {
            folder: folder.to_owned(),
            engine: Some(engine),
            batch: WriteBatch::default(),
            batch_bytes: 0,
            records: 0,
            bytes: 0,
        })
    }

    pub(crate) fn put(
        &mut self,
        space: Space,
        key: Vec<u8>,
        value: Vec<u8>,
    ) -> Result<(), CopyError> {
        let bytes = key.len() + value.len();
        self.records += 1;
        self.bytes += bytes as u64;
        self.batch_bytes += bytes;
        self.batch.put(space, key, value);
        if self.batch_bytes >= BATCH_BYTES {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), CopyError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if let Some(engine) = &mut self.engine {
            engine.write(&batch)?;
        }
        Ok(())
    }

    /// Makes it durable, and moves it to its place.
    pub(crate) fn finish(mut self) -> Result<(), CopyError> {
        self.write()?;
        if let Some(mut engine) = self.engine.take() {
            engine.sync()?;
        }
        let (part, at) = (part_of(&self.folder), self.folder.join("store"));
        fs::rename(&part, &at)
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|error| CopyError::Io(at, error))
    }
}

/// Copies a store, as it was at one moment, into a folder. What is started from the copy goes on as
/// after a crash at that moment: clients may know more. Returns records and bytes.
pub(crate) fn backup(snapshot: &dyn Snapshot, folder: &Path) -> Result<(u64, u64), CopyError> {
    let mut copy = Copy::begin(folder)?;
    for space in Space::ALL {
        for entry in snapshot.entries(space) {
            let (key, value) = entry?;
            if (space, &*key) != (Space::Meta, key::STOPPED) {
                copy.put(space, key, value)?;
            }
        }
    }
    let sums = (copy.records, copy.bytes);
    copy.finish()?;
    Ok(sums)
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.engine.take().is_some() {
            // It came to nothing; what cannot be removed now is so by the next attempt.
            let _ = fs::remove_dir_all(part_of(&self.folder));
        }
    }
}

fn part_of(folder: &Path) -> PathBuf {
    folder.join("store.part")
}
