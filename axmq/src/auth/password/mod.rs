//! Passwords: the file that has their hashes, and `axmq passwd`, which writes it.

mod command;
mod edit;
mod file;
mod hash;
mod prompt;
#[cfg(test)]
mod tests;

pub use self::command::run_passwd;
pub use self::file::Passwords;
pub(crate) use self::file::{read, read_private, read_secret};
pub use self::hash::Scheme;
