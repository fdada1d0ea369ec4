//! The control socket: one thread that waits for operators' commands.
//!
//! A command gets a thread of its own while it runs, because a trace may run for hours; there are
//! at most [`COMMANDS_MAX`] of them. With nobody there the one thread sleeps in `accept`.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

use super::types::{Request, Response};
use super::{Control, wire};

/// The name of the socket in the data directory.
pub const SOCKET: &str = "control.sock";
/// Commands that run at a time; the next is told so and turned away.
const COMMANDS_MAX: usize = 16;
/// A command line tool that neither asks nor takes its answer for so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// A trace looks this often whether its reader is still there.
const TRACE_LOOK: Duration = Duration::from_millis(500);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// The control socket cannot be made.
#[derive(Debug)]
pub(crate) struct StartError {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, source } = self;
        write!(
            f,
            "cannot make the control socket {}: {source}",
            path.display()
        )
    }
}

/// The thread that waits; dropping this ends it and removes the socket.
#[derive(Debug)]
pub(crate) struct ControlServer {
    listener: Arc<OwnedFd>,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl ControlServer {
    /// Listens in `data_dir`, whose lock the caller holds: a socket that is there is left over.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn start(data_dir: &Path, control: Control) -> Result<Self, StartError> {
        let path = data_dir.join(SOCKET);
        let refuse = |source: io::Error| StartError {
            path: path.clone(),
            source,
        };
        let listener = Arc::new(listen(data_dir).map_err(refuse)?);
        let theirs = UnixListener::from(listener.try_clone().map_err(refuse)?);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || wait(&theirs, &control))
            .map_err(refuse)?;
        Ok(Self {
            listener,
            path,
            thread: Some(thread),
        })
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        // This wakes the thread: its `accept` fails from now on.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A listening socket that nobody but its owner, and root, can connect to at any moment.
fn listen(data_dir: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(data_dir.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // Linux gives the file the mode of the socket, less the umask: there is no moment at which it
    // is open to others (unix_bind in net/unix/af_unix.c).
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &address(data_dir)?.0)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The socket's address. A path too long for one goes by way of its folder's descriptor, which has
/// to stay open for as long as the address is used.
pub(super) fn address(data_dir: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    if let Ok(address) = SocketAddrUnix::new(data_dir.join(SOCKET)) {
        return Ok((address, None));
    }
    let folder: OwnedFd = std::fs::File::open(data_dir)?.into();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&folder.as_fd());
    let short = format!("/proc/self/fd/{fd}/{SOCKET}");
    Ok((SocketAddrUnix::new(short)?, Some(folder)))
}

fn wait(listener: &UnixListener, control: &Control) {
    let running = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // The socket was shut down, or is beyond help.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return,
            Err(error) => {
                tracing::warn!(event = "control.failed", %error);
                // Such as no descriptor left; nothing tells when that is over.
                std::thread::park_timeout(Duration::from_millis(100));
                continue;
            }
        };
        let place = Place::take(&running);
        let control = control.clone();
        let run = move || match place {
            Some(_place) => serve(stream, &control),
            None => refuse(stream),
        };
        if let Err(error) = std::thread::Builder::new()
            .name("command".to_owned())
            .spawn(run)
        {
            tracing::warn!(event = "control.failed", %error);
        }
    }
}

/// One of the commands that may run at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(running: &Arc<AtomicUsize>) -> Option<Self> {
        // Only the waiting thread adds, so it cannot go beyond the limit between the two.
        if running.load(Ordering::Relaxed) >= COMMANDS_MAX {
            return None;
        }
        running.fetch_add(1, Ordering::Relaxed);
        Some(Self(Arc::clone(running)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn refuse(mut stream: UnixStream) {
    let message = format!("{COMMANDS_MAX} other commands are running, which is the limit");
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = wire::write(&mut stream, &Response::Error(message));
}

/// Answers one connection's questions, one after the other.
fn serve(mut stream: UnixStream, control: &Control) {
    let result = stream
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| stream.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| talk(&mut stream, control));
    if let Err(error) = result {
        // The tool was interrupted, or never was one of ours.
        tracing::debug!(event = "control.closed", %error);
        if error.kind() == io::ErrorKind::InvalidData {
            let _ = wire::write(&mut stream, &Response::Error(error.to_string()));
        }
    }
}

fn talk(stream: &mut UnixStream, control: &Control) -> io::Result<()> {
    while let Some(request) = wire::read(stream, wire::REQUEST_BYTES_MAX)? {
        let response = match request {
            Request::Trace { id } => return trace(stream, control, &id),
            request => answer(control, request)?,
        };
        wire::write(stream, &response)?;
    }
    Ok(())
}

fn answer(control: &Control, request: Request) -> io::Result<Response> {
    fn of<T: serde::Serialize>(
        result: Result<T, super::ControlError>,
    ) -> serde_json::Result<Response> {
        Ok(match result {
            Ok(value) => Response::Ok(serde_json::to_value(value)?),
            Err(error) => Response::Error(error.to_string()),
        })
    }
    Ok(match request {
        Request::Status => of(Ok(control.status())),
        Request::Memory => of(control.memory()),
        Request::Clients { from, most } => of(control.clients(from, most)),
        Request::Client { id } => of(control.client(&id)),
        Request::Kick { id } => {
            let was_connected = control.kick(&id);
            tracing::info!(
                event = "client.kicked",
                client = %id.escape_debug(),
                was_connected = was_connected.as_ref().is_ok_and(|yes| *yes)
            );
            of(was_connected)
        }
        Request::Disconnects { client, most } => of(control.disconnects(client.as_deref(), most)),
        Request::Backup { folder } => of(control.backup(Path::new(&folder))),
        Request::Bans { most } => of(Ok(control.bans(most))),
        Request::Ban { network, for_s } => of(control.ban(&network, for_s)),
        Request::Unban { network, client } => of(control.unban(&network, client.as_deref())),
        Request::Reload => of(control.reload_and_log("axmq reload")),
        // The caller has taken this one.
        Request::Trace { .. } => Ok(Response::Error("a trace has its own way".to_owned())),
    }?)
}

fn trace(stream: &mut UnixStream, control: &Control, id: &str) -> io::Result<()> {
    tracing::info!(event = "client.traced", client = %id.escape_debug());
    let trace = control.trace(id);
    loop {
        match trace.next(TRACE_LOOK) {
            Ok(Some(line)) => wire::write(stream, &Response::Ok(serde_json::to_value(line)?))?,
            Ok(None) if has_gone(stream)? => return Ok(()),
            Ok(None) => {}
            Err(ended) => return wire::write(stream, &Response::Error(ended.to_string())),
        }
    }
}

/// Whether the other side has closed; it has nothing to say during a trace.
fn has_gone(stream: &UnixStream) -> io::Result<bool> {
    let mut byte = [0; 1];
    match rustix::net::recv(
        stream,
        &mut byte,
        rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::PEEK,
    ) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}
