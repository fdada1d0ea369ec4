//! The other end of the control socket: what `axmq`'s sub-commands do.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::de::DeserializeOwned;

use super::server::{SOCKET, address};
use super::types::{Request, Response};
use super::{
    BackupMade, BansPage, ClientDetail, ClientsPage, Cursor, DisconnectLine, Reloaded, Status,
    TraceEnded, TraceLine, show, wire,
};
use crate::cli::{BanCommand, ClientsCommand, ControlCommand};

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON value a line.
    Json,
}

/// Why a command failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum CommandError {
    /// No broker listens in the data directory.
    NoBroker {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The socket cannot be used.
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The broker refuses, or the client does not exist.
    Refused(String),
    /// The answer cannot be printed.
    Output(io::Error),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBroker { data_dir } => write!(
                f,
                "no broker is running with the data directory {}; --data-dir names another",
                data_dir.display()
            ),
            Self::Socket { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "no permission for {}: only the user that runs the broker, and root, may",
                    path.display()
                )
            }
            Self::Socket { path, source } => {
                write!(
                    f,
                    "cannot talk to the broker by {}: {source}",
                    path.display()
                )
            }
            Self::Refused(message) => f.write_str(message),
            Self::Output(error) => write!(f, "cannot write to standard output: {error}"),
        }
    }
}

impl std::error::Error for CommandError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Socket { source, .. } | Self::Output(source) => Some(source),
            Self::NoBroker { .. } | Self::Refused(_) => None,
        }
    }
}

/// Carries out a command with the broker that has this data directory, and prints the answer.
///
/// # Errors
///
/// See [`CommandError`].
pub fn run_command(
    command: &ControlCommand,
    data_dir: &Path,
    out: &mut impl Write,
) -> Result<(), CommandError> {
    let mut connection = Connection::open(data_dir)?;
    let mut printer = Printer {
        out,
        format: command.format(),
    };
    match command {
        ControlCommand::Status { .. } => {
            let mut status: Status = connection.ask(&Request::Status)?;
            status.memory = match connection.ask(&Request::Memory) {
                Ok(memory) => Some(memory),
                // What else there is to say is worth more than nothing.
                Err(CommandError::Refused(_)) => None,
                Err(error) => return Err(error),
            };
            printer.print(&status, || show::status(&status))
        }
        ControlCommand::Clients { command, .. } => clients(&mut connection, &mut printer, command),
        ControlCommand::Ban { command, .. } => ban(&mut connection, &mut printer, command),
        ControlCommand::Backup { folder, .. } => {
            // The broker may run in another folder.
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.clone());
            let folder = folder.to_str().ok_or_else(|| {
                CommandError::Refused("the name of the folder is no UTF-8".to_owned())
            })?;
            let folder = folder.to_owned();
            let made: BackupMade = connection.ask(&Request::Backup { folder })?;
            printer.print(&made, || show::backup(&made))
        }
        ControlCommand::Reload { .. } => {
            let reloaded: Reloaded = connection.ask(&Request::Reload)?;
            printer.print(&reloaded, || show::reloaded(&reloaded))
        }
        ControlCommand::Disconnects { client, limit, .. } => {
            let request = Request::Disconnects {
                client: client.clone(),
                most: *limit,
            };
            let lines: Vec<DisconnectLine> = connection.ask(&request)?;
            if let (Some(client), true) = (client, lines.is_empty()) {
                let message = format!("no disconnect of {client:?} is remembered");
                return Err(CommandError::Refused(message));
            }
            printer.print(&lines, || show::disconnects(&lines))
        }
        ControlCommand::Trace { client, .. } => {
            connection.send(&Request::Trace { id: client.clone() })?;
            while let Some(line) = connection.receive::<TraceLine>()? {
                printer.print(&line, || show::trace(&line))?;
            }
            // A broker that ends may close before it can say so.
            Err(CommandError::Refused(TraceEnded.to_string()))
        }
    }
}

fn clients(
    connection: &mut Connection,
    printer: &mut Printer<'_, impl Write>,
    command: &ClientsCommand,
) -> Result<(), CommandError> {
    match command {
        ClientsCommand::List { limit, from, all } => {
            let mut cursor = *from;
            let mut left = if *all { u32::MAX } else { *limit };
            let mut is_first = true;
            loop {
                let request = Request::Clients {
                    from: cursor,
                    most: left,
                };
                let page: ClientsPage = connection.ask(&request)?;
                printer.print(&page, || show::clients(&page, is_first))?;
                is_first = false;
                if !*all {
                    left -= u32::try_from(page.clients.len()).unwrap_or(left).min(left);
                }
                match page.next {
                    Some(next) if left > 0 => cursor = next,
                    Some(next) => return printer.hint(&more(next)),
                    None => return Ok(()),
                }
            }
        }
        ClientsCommand::Show { id } => {
            let client: Option<ClientDetail> =
                connection.ask(&Request::Client { id: id.clone() })?;
            match client {
                Some(client) => printer.print(&client, || show::client(&client)),
                None => Err(CommandError::Refused(format!("{id:?} has no session here"))),
            }
        }
        ClientsCommand::Kick { id } => {
            let was_connected: bool = connection.ask(&Request::Kick { id: id.clone() })?;
            if was_connected {
                printer.print(&true, || format!("{id:?} is disconnected\n"))
            } else {
                Err(CommandError::Refused(format!("{id:?} is not connected")))
            }
        }
    }
}

fn ban(
    connection: &mut Connection,
    printer: &mut Printer<'_, impl Write>,
    command: &BanCommand,
) -> Result<(), CommandError> {
    match command {
        BanCommand::List { limit } => {
            let page: BansPage = connection.ask(&Request::Bans { most: *limit })?;
            printer.print(&page, || show::bans(&page))
        }
        BanCommand::Add { network, duration } => {
            let banned: String = connection.ask(&Request::Ban {
                network: network.clone(),
                for_s: duration.0,
            })?;
            printer.print(&banned, || format!("{banned} is banned {duration}\n"))
        }
        BanCommand::Remove { network, client } => {
            let was_banned: bool = connection.ask(&Request::Unban {
                network: network.clone(),
                client: client.clone(),
            })?;
            if was_banned {
                printer.print(&true, || format!("{network} is not banned any more\n"))
            } else {
                Err(CommandError::Refused(format!("{network} is not banned")))
            }
        }
    }
}

fn more(next: Cursor) -> String {
    format!("there are more: axmq clients list --from {next}, or --all\n")
}

struct Printer<'a, W> {
    out: &'a mut W,
    format: Format,
}

impl<W: Write> Printer<'_, W> {
    fn print<T: serde::Serialize>(
        &mut self,
        value: &T,
        text: impl FnOnce() -> String,
    ) -> Result<(), CommandError> {
        let text = match self.format {
            Format::Text => text(),
            Format::Json => {
                let mut line = serde_json::to_string(value)
                    .map_err(|error| CommandError::Output(error.into()))?;
                line.write_char('\n').unwrap_or_default();
                line
            }
        };
        self.write(&text)
    }

    /// Says something beside the answer, to people only.
    fn hint(&mut self, text: &str) -> Result<(), CommandError> {
        match self.format {
            Format::Text => self.write(text),
            Format::Json => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), CommandError> {
        self.out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush())
            .map_err(CommandError::Output)
    }
}

struct Connection {
    stream: UnixStream,
    path: PathBuf,
}

impl Connection {
    fn open(data_dir: &Path) -> Result<Self, CommandError> {
        let path = data_dir.join(SOCKET);
        match connect(data_dir) {
            Ok(socket) => Ok(Self {
                stream: socket.into(),
                path,
            }),
            // A socket without a listener is left over from a broker that was killed.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Err(CommandError::NoBroker {
                    data_dir: data_dir.to_owned(),
                })
            }
            Err(source) => Err(CommandError::Socket { path, source }),
        }
    }

    fn failed(&self, source: io::Error) -> CommandError {
        CommandError::Socket {
            path: self.path.clone(),
            source,
        }
    }

    fn send(&mut self, request: &Request) -> Result<(), CommandError> {
        wire::write(&mut self.stream, request).map_err(|error| self.failed(error))
    }

    /// The next frame; `None` where the broker has closed.
    fn receive<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CommandError> {
        let response = wire::read(&mut self.stream, wire::RESPONSE_BYTES_MAX)
            .map_err(|error| self.failed(error))?;
        match response {
            Some(Response::Ok(value)) => serde_json::from_value(value)
                .map(Some)
                .map_err(|error| self.failed(error.into())),
            Some(Response::Error(message)) => Err(CommandError::Refused(message)),
            None => Ok(None),
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, CommandError> {
        self.send(request)?;
        self.receive()?
            .ok_or_else(|| self.failed(io::ErrorKind::UnexpectedEof.into()))
    }
}

fn connect(data_dir: &Path) -> io::Result<OwnedFd> {
    let (address, _folder) = address(data_dir)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
