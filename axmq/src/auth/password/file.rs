//! A password file: a line `USER:HASH` for each user.

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::hash::PasswordHash;
use crate::auth::FileError;

/// The largest file that is read: more than two million users.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Complaints about one file that are shown.
const COMPLAINTS_MAX: usize = 20;
/// The longest user name of MQTT.
const NAME_BYTES_MAX: usize = 65_535;
/// Anybody may write it.
const WRITABLE_BY_ALL: u32 = 0o002;
/// Anybody may read it.
const READABLE_BY_ALL: u32 = 0o004;

/// Users and the hashes of their passwords, read from a file.
#[derive(Clone, Default)]
pub struct Passwords {
    /// In the order of their names.
    users: Vec<User>,
    /// Of the text, to tell whether it has changed.
    digest: [u8; 32],
    /// Chooses whose hash is checked in vain for a user that there is not.
    chooser: RandomState,
}

#[derive(Clone)]
struct User {
    name: Box<str>,
    hash: PasswordHash,
}

impl Passwords {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, anybody may write it, or lines are wrong: all of them at once, by
    /// number. What stands in them is not shown.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let (text, mode) = read(path)?;
        if mode & READABLE_BY_ALL != 0 {
            tracing::warn!(
                event = "auth.file_open",
                file = %path.display(),
                "everybody on this machine can read the hashes of the passwords; chmod o-r"
            );
        }
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of the file `name`: a line `USER:HASH` for each user.
    ///
    /// # Errors
    ///
    /// Where lines are wrong: all of them at once, by number. What stands in them is not shown.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let mut found: Vec<(User, usize)> = Vec::new();
        let mut complaints = Vec::new();
        for (at, line) in text.lines().enumerate() {
            match parse_line(line) {
                Ok(Some(user)) => found.push((user, at + 1)),
                Ok(None) => {}
                Err(what) => complaints.push((at + 1, what)),
            }
        }
        found.sort_by(|(a, first), (b, second)| (&a.name, first).cmp(&(&b.name, second)));
        for pair in found.windows(2) {
            if let [(first, line), (second, again)] = pair
                && first.name == second.name
            {
                let what = format!("this user stands in line {line} already; take one of them out");
                complaints.push((*again, what));
            }
        }
        if complaints.is_empty() {
            return Ok(Self {
                users: found.into_iter().map(|(user, _)| user).collect(),
                digest: Sha256::digest(text).into(),
                chooser: RandomState::new(),
            });
        }
        complaints.sort();
        let shown = complaints.iter().take(COMPLAINTS_MAX);
        let mut all: Vec<_> = shown
            .map(|(at, what)| format!("{name}:{at}: {what}"))
            .collect();
        if complaints.len() > COMPLAINTS_MAX {
            all.push(format!(
                "... and {} more",
                complaints.len() - COMPLAINTS_MAX
            ));
        }
        Err(FileError::new(all.join("\n")))
    }

    /// Whether there is this user and this is the password. For a user that there is not, the
    /// same work is done: that of some user, always the same one for a name, so that the time
    /// tells nobody which users there are. Takes as long as the hash was made to take: some tens of
    /// milliseconds.
    #[must_use]
    pub fn admits(&self, name: &str, password: &[u8]) -> bool {
        match self.find(name) {
            Some(hash) => hash.admits(password),
            None => {
                if let Some(other) = self.somebody_instead_of(name) {
                    // The work counts, not what comes of it.
                    std::hint::black_box(other.admits(password));
                }
                false
            }
        }
    }

    /// Whether there is this user.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&PasswordHash> {
        let at = self
            .users
            .binary_search_by(|user| (*user.name).cmp(name))
            .ok()?;
        self.users.get(at).map(|user| &user.hash)
    }

    fn somebody_instead_of(&self, name: &str) -> Option<&PasswordHash> {
        let count = u64::try_from(self.users.len())
            .ok()
            .filter(|count| *count > 0)?;
        let at = self.chooser.hash_one(name) % count;
        self.users
            .get(usize::try_from(at).ok()?)
            .map(|user| &user.hash)
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub(crate) fn len(&self) -> usize {
        self.users.len()
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords")
            .field("users", &self.users.len())
            .finish_non_exhaustive()
    }
}

/// The user of a line, none in an empty one or a comment.
fn parse_line(line: &str) -> Result<Option<User>, String> {
    let line = line.trim_end();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (name, hash) = line
        .split_once(':')
        .ok_or("a line is USER:HASH, with a colon between them")?;
    check_name(name)?;
    let hash = PasswordHash::parse(hash).map_err(|error| error.to_string())?;
    Ok(Some(User {
        name: name.into(),
        hash,
    }))
}

/// The user name of a line, whatever its hash is.
pub(super) fn name_of(line: &str) -> Option<&str> {
    let name = line.split_once(':')?.0;
    (!name.starts_with('#')).then_some(name)
}

/// Whether a user may be called so in a password file.
pub(super) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("the user name is empty");
    }
    if name.starts_with('#') {
        return Err("a user name must not begin with #, which begins a comment");
    }
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err("a user name must have neither a colon nor control characters in it");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("the user name is longer than MQTT can carry");
    }
    Ok(())
}

/// The text of a file that only its owner and group may write, and its mode.
pub(crate) fn read(path: &Path) -> Result<(String, u32), FileError> {
    let (bytes, mode) = read_bytes(path)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        let name = path.display();
        FileError::new(format!("cannot read {name}: this is not UTF-8"))
    })?;
    Ok((text, mode))
}

/// The text of a file that others may neither write nor read. Wiped when it is dropped.
pub(crate) fn read_private(path: &Path) -> Result<Zeroizing<String>, FileError> {
    let (text, mode) = read(path)?;
    let text = Zeroizing::new(text);
    if mode & READABLE_BY_ALL != 0 {
        let name = path.display();
        return Err(FileError::new(format!(
            "{name}: everybody on this machine can read this secret; chmod o-r {name}"
        )));
    }
    Ok(text)
}

/// A secret in a file: its bytes without the end of the last line. Wiped when it is dropped.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, FileError> {
    let (bytes, mode) = read_bytes(path)?;
    let mut bytes = Zeroizing::new(bytes);
    if mode & READABLE_BY_ALL != 0 {
        tracing::warn!(
            event = "auth.file_open",
            file = %path.display(),
            "everybody on this machine can read this secret; chmod o-r"
        );
    }
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn read_bytes(path: &Path) -> Result<(Vec<u8>, u32), FileError> {
    let name = path.display();
    let refuse = |error: io::Error| FileError::new(format!("cannot read {name}: {error}"));
    let file = File::options()
        .read(true)
        // A pipe without a writer would hold up the start.
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(refuse)?;
    let metadata = file.metadata().map_err(refuse)?;
    if !metadata.is_file() {
        return Err(FileError::new(format!("{name} is not a file")));
    }
    let mode = metadata.mode();
    if mode & WRITABLE_BY_ALL != 0 {
        return Err(FileError::new(format!(
            "{name}: anybody on this machine may write this file, and so let themselves in; \
             chmod o-w {name}"
        )));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(FileError::new(format!(
            "{name}: the file is larger than {FILE_BYTES_MAX} bytes"
        )));
    }
    // As much as there is, so that no copy is left behind by growth.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(refuse)?;
    Ok((bytes, mode))
}
