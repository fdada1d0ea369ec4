//! Asking for a password: from a terminal without showing it, else a line of standard input.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The longest password that MQTT can carry.
pub(super) const PASSWORD_BYTES_MAX: usize = 65_535;

/// A password; wiped when it is dropped.
pub(super) type Password = Zeroizing<Vec<u8>>;

/// Asks for a password: twice where somebody types it.
///
/// # Errors
///
/// Where there is none, it is empty or too long, or the two differ.
pub(super) fn ask(user: &str) -> io::Result<Password> {
    if !io::stdin().is_terminal() {
        return read_line(&mut io::stdin().lock());
    }
    let user = user.escape_debug();
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    let first = ask_on(&terminal, &format!("password for {user}: "))?;
    let second = ask_on(&terminal, "once more: ")?;
    if first != second {
        return Err(io::Error::other("the two passwords differ"));
    }
    Ok(first)
}

fn ask_on(mut terminal: &File, question: &str) -> io::Result<Password> {
    terminal.write_all(question.as_bytes())?;
    let quiet = Quiet::begin(terminal)?;
    let line = read_line(&mut io::BufReader::with_capacity(1, terminal));
    drop(quiet);
    terminal.write_all(b"\n")?;
    line
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a>(&'a File, Termios);

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal.as_fd())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &quiet)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // Without the terminal nobody is left to see it.
        let _ = tcsetattr(self.0.as_fd(), OptionalActions::Flush, &self.1);
    }
}

/// A line without its end.
pub(super) fn read_line(from: &mut impl BufRead) -> io::Result<Password> {
    let most = PASSWORD_BYTES_MAX as u64 + 2;
    // Never moved to a larger place, which would leave a copy behind.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 2));
    from.take(most).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.is_empty() {
        return Err(io::Error::other("there is no password"));
    }
    if line.len() > PASSWORD_BYTES_MAX {
        return Err(io::Error::other(
            "the password is longer than MQTT can carry",
        ));
    }
    Ok(line)
}
