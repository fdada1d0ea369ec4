//! A listening socket in the file system: made with its rights from the first moment on, in the
//! place of one that nobody listens at any more, and removed at the end.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

const GROUPS: &str = "/etc/group";

/// The file of a socket; removed with this, unless another one has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id(&self.path).is_ok_and(|id| id == self.id) {
            // Whoever starts next finds out that nobody listens.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds a socket there and listens.
///
/// # Errors
///
/// `AddrInUse` where somebody listens there; `AlreadyExists` where something else than a socket is
/// there; `NotFound` for a group that there is not; what the system says.
pub(crate) fn listen(
    path: &Path,
    mode: u32,
    group: &str,
    backlog: i32,
) -> io::Result<(OwnedFd, SocketFile)> {
    let group = if group.is_empty() {
        None
    } else {
        Some(group_id(group, &std::fs::read_to_string(GROUPS)?)?)
    };
    remove_stale(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Linux gives the file the mode of the socket, less the umask: at no moment is it open to
    // others (unix_bind in net/unix/af_unix.c). A group has to wait until it is theirs.
    let at_first = if group.is_some() { mode & 0o700 } else { mode };
    rustix::fs::fchmod(&socket, Mode::from_raw_mode(at_first))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile {
        path: path.to_owned(),
        id: id(path)?,
    };
    if group.is_some() {
        chown(path, None, group)?;
    }
    // Also what the umask took away.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))?;
    rustix::net::listen(&socket, backlog)?;
    Ok((socket, file))
}

/// Removes a socket that nobody listens at: one that a broker left behind that was killed.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        let what = "there is something else than a socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &SocketAddrUnix::new(path)?) {
        Err(rustix::io::Errno::CONNREFUSED) => std::fs::remove_file(path),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        // Somebody listens, even if the queue is full.
        Ok(()) | Err(rustix::io::Errno::AGAIN) => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

/// The id of a group, which may stand for itself, in the text of group(5).
fn group_id(group: &str, text: &str) -> io::Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let mut lines = text.lines().map(|line| line.split(':'));
    let found = lines.find_map(|mut fields| {
        let is_it = fields.next() == Some(group);
        is_it.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("there is no group {group:?}"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name_and_number() {
        let text = "root:x:0:\nmqtt:x:988:ann,bob\nbad\n";
        assert_eq!(group_id("mqtt", text).unwrap(), 988);
        assert_eq!(group_id("1000", text).unwrap(), 1_000);
        for none in ["mqt", "bad", "x"] {
            assert_eq!(
                group_id(none, text).unwrap_err().kind(),
                io::ErrorKind::NotFound
            );
        }
    }
}
