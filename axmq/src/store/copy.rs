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
    /// Where it is going to be.
    at: PathBuf,
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
        Self::begin_at(at)
    }

    fn begin_at(at: PathBuf) -> Result<Self, CopyError> {
        let part = part_of(&at);
        remove(&part)?;
        let engine = DiskPlace::new(&part, 0).open()?;
        Ok(Self {
            at,
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
        let folder = self.at.parent().unwrap_or_else(|| Path::new("."));
        fs::rename(part_of(&self.at), &self.at)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(|error| CopyError::Io(self.at.clone(), error))
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

/// Where the copy of a store is that had this format before its upgrade.
pub(crate) fn aside(store: &Path, format: u32) -> PathBuf {
    beside(store, &format!("format-{format}"))
}

/// Copies a store, every record of it, to a place of its own, in the place of an older copy.
pub(crate) fn set_aside<E: Engine>(engine: &E, at: &Path) -> Result<(), CopyError> {
    let mut copy = Copy::begin_at(at.to_owned())?;
    for space in Space::ALL {
        for entry in engine.range(space, &[], None) {
            let (key, value) = entry?;
            copy.put(space, key, value)?;
        }
    }
    // The store itself is there whatever happens now.
    remove(at)?;
    copy.finish()
}

fn remove(path: &Path) -> Result<(), CopyError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CopyError::Io(path.to_owned(), error))
        }
        _ => Ok(()),
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.engine.take().is_some() {
            // It came to nothing; what cannot be removed now is so by the next attempt.
            let _ = fs::remove_dir_all(part_of(&self.at));
        }
    }
}

fn part_of(at: &Path) -> PathBuf {
    beside(at, "part")
}

/// A name with this behind it.
fn beside(at: &Path, extension: &str) -> PathBuf {
    let mut name = at.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}
