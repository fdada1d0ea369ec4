//! What `axmq passwd` does.

use std::io::{self, BufRead, Write};
use std::path::Path;

use zeroize::Zeroizing;

use super::edit::Editor;
use super::file::{Passwords, check_name, read};
use super::hash::{PasswordHash, Scheme};
use super::prompt::{PASSWORD_BYTES_MAX, ask};
use crate::auth::FileError;
use crate::cli::PasswdCommand;

/// Carries out `axmq passwd`, with passwords from the terminal or standard input.
///
/// # Errors
///
/// What is wrong, for people; then the file is what it was.
pub fn run_passwd(command: &PasswdCommand, out: &mut impl Write) -> Result<(), FileError> {
    let said = match command {
        PasswdCommand::Create { file } => create(file)?,
        PasswdCommand::Add { file, user, hash } => add(file, user, scheme(hash))?,
        PasswdCommand::Delete { file, user } => delete(file, user)?,
        PasswdCommand::Batch { file, hash } => batch(file, scheme(hash), io::stdin().lock())?,
        PasswdCommand::Check { file, user } => check(file, user)?,
    };
    writeln!(out, "{said}").map_err(|error| FileError::new(error.to_string()))
}

fn scheme(name: &str) -> Scheme {
    Scheme::of_name(name).unwrap_or_default()
}

fn create(file: &Path) -> Result<String, FileError> {
    let editor = Editor::open(file)?;
    if !editor.is_new() {
        return Err(FileError::new(format!(
            "{} is there already",
            file.display()
        )));
    }
    editor.finish()?;
    Ok(format!("made {}, without users", file.display()))
}

fn add(file: &Path, user: &str, scheme: Scheme) -> Result<String, FileError> {
    check_name(user).map_err(FileError::new)?;
    let password = ask(user).map_err(|error| FileError::new(error.to_string()))?;
    let hash = hashed(&password, scheme)?;
    // Only now, so that nobody is kept from the file while somebody thinks.
    let mut editor = Editor::open(file)?;
    editor.set(user, &hash);
    editor.finish()?;
    Ok(format!(
        "{}: set the password of {}",
        file.display(),
        user.escape_debug()
    ))
}

fn delete(file: &Path, user: &str) -> Result<String, FileError> {
    let mut editor = Editor::open(file)?;
    if !editor.remove(user) {
        let (file, user) = (file.display(), user.escape_debug());
        return Err(FileError::new(format!("{file} has no user {user}")));
    }
    editor.finish()?;
    Ok(format!(
        "{}: deleted {}",
        file.display(),
        user.escape_debug()
    ))
}

/// Sets the passwords of many users, given as lines `USER:PASSWORD`.
fn batch(file: &Path, scheme: Scheme, mut lines: impl BufRead) -> Result<String, FileError> {
    let mut editor = Editor::open(file)?;
    let mut users = 0;
    let mut line = Zeroizing::new(Vec::with_capacity(2 * PASSWORD_BYTES_MAX));
    for number in 1_u64.. {
        line.clear();
        let wrong = |what: &str| FileError::new(format!("standard input, line {number}: {what}"));
        let read = lines
            .read_until(b'\n', &mut line)
            .map_err(|error| wrong(&error.to_string()))?;
        if read == 0 {
            break;
        }
        while line.last().is_some_and(|byte| b"\r\n".contains(byte)) {
            line.pop();
        }
        if line.is_empty() {
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (user, password) = colon
            .and_then(|at| line.split_at_checked(at))
            .ok_or_else(|| wrong("a line is USER:PASSWORD, with a colon between them"))?;
        let user = std::str::from_utf8(user).map_err(|_| wrong("the user name is not UTF-8"))?;
        check_name(user).map_err(wrong)?;
        let password = password.get(1..).filter(|password| !password.is_empty());
        let password = password.ok_or_else(|| wrong("there is no password"))?;
        editor.set(user, &hashed(password, scheme)?);
        users += 1;
    }
    editor.finish()?;
    Ok(format!(
        "{}: set the passwords of {users} users",
        file.display()
    ))
}

fn check(file: &Path, user: &str) -> Result<String, FileError> {
    let (text, _) = read(file)?;
    let passwords = Passwords::parse(&file.display().to_string(), &text)?;
    let password = ask(user).map_err(|error| FileError::new(error.to_string()))?;
    if passwords.admits(user, &password) {
        Ok("the password is right".to_owned())
    } else {
        Err(FileError::new(
            "there is no such user, or the password is wrong",
        ))
    }
}

fn hashed(password: &[u8], scheme: Scheme) -> Result<String, FileError> {
    PasswordHash::of_password(password, scheme)
        .map(|hash| hash.to_string())
        .map_err(|error| FileError::new(error.to_string()))
}
