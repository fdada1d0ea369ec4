//! Changes of a password file: the other lines stay as they are, and the new file takes the place
//! of the old one at once or not at all.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::file::{name_of, read};
use crate::auth::FileError;

/// Mode of a new file.
const MODE: u32 = 0o600;
/// What an existing file keeps of its mode.
const MODE_KEPT: u32 = 0o640;

/// A password file that is being changed. Until this is gone nobody else changes it.
pub(super) struct Editor {
    path: PathBuf,
    /// The new content, beside the file; its being there is the lock.
    draft: Draft,
    lines: Vec<String>,
    /// Owner, group and mode of the file, where there is one.
    before: Option<(u32, u32, u32)>,
}

struct Draft {
    path: PathBuf,
    file: File,
    is_published: bool,
}

impl Editor {
    /// Opens the file, or begins one where there is none.
    ///
    /// # Errors
    ///
    /// Where it cannot be read or written, or somebody else is changing it.
    pub(super) fn open(path: &Path) -> Result<Self, FileError> {
        // Where it is a link, the file behind it is changed.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let draft = Draft::begin(&path)?;
        let (lines, before) = match fs::metadata(&path) {
            Ok(metadata) => {
                let (text, mode) = read(&path)?;
                let lines = text.lines().map(str::to_owned).collect();
                (lines, Some((metadata.uid(), metadata.gid(), mode)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => return Err(refuse("read", &path, &error)),
        };
        Ok(Self {
            path,
            draft,
            lines,
            before,
        })
    }

    pub(super) fn is_new(&self) -> bool {
        self.before.is_none()
    }

    /// Adds a user, or changes the line of the one that there is.
    pub(super) fn set(&mut self, name: &str, hash: &str) {
        let line = format!("{name}:{hash}");
        match self
            .lines
            .iter_mut()
            .find(|line| name_of(line) == Some(name))
        {
            Some(old) => *old = line,
            None => self.lines.push(line),
        }
    }

    /// Takes a user out; whether there was one.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let before = self.lines.len();
        self.lines.retain(|line| name_of(line) != Some(name));
        self.lines.len() < before
    }

    /// Puts the new content in the place of the old one.
    ///
    /// # Errors
    ///
    /// Where it cannot be written; then the old file is what it was.
    pub(super) fn finish(mut self) -> Result<(), FileError> {
        self.write()
            .map_err(|error| refuse("write", &self.path, &error))
    }

    fn write(&mut self) -> io::Result<()> {
        let mut text = self.lines.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        let file = &mut self.draft.file;
        file.write_all(text.as_bytes())?;
        if let Some((uid, gid, mode)) = self.before {
            let now = file.metadata()?;
            if (now.uid(), now.gid()) != (uid, gid) {
                std::os::unix::fs::fchown(&*file, Some(uid), Some(gid))?;
            }
            file.set_permissions(Permissions::from_mode(mode & MODE_KEPT))?;
        }
        file.sync_all()?;
        fs::rename(&self.draft.path, &self.path)?;
        self.draft.is_published = true;
        let folder = self
            .path
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    }
}

impl Draft {
    fn begin(path: &Path) -> Result<Self, FileError> {
        let mut name = OsString::from(path);
        name.push(".new");
        let draft = PathBuf::from(name);
        let opened = File::options()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&draft);
        match opened {
            Ok(file) => Ok(Self {
                path: draft,
                file,
                is_published: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let (file, draft) = (path.display(), draft.display());
                Err(FileError::new(format!(
                    "{file} is being changed by another axmq passwd; \
                     if there is none, one was cut off: remove {draft}"
                )))
            }
            Err(error) => Err(refuse("write", &draft, &error)),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_published {
            // Where it stays, the next one says what to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse(what: &str, path: &Path, error: &io::Error) -> FileError {
    FileError::new(format!("cannot {what} {}: {error}", path.display()))
}
