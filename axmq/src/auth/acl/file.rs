//! Reading an ACL file.
//!
//! ```text
//! # Before the first user: for clients that did not log in.
//! topic read public/#
//!
//! user ann
//! topic sensors/#
//! topic deny sensors/secret
//!
//! # For everybody, with the user name and the client id in it.
//! pattern write devices/%u/%c/#
//! ```

use std::path::Path;

use sha2::{Digest, Sha256};
use topicmap::{Filter, Limits};

use super::Acl;
use super::rule::{Access, Rule};
use crate::auth::FileError;
use crate::auth::password::read;
use crate::config::{Diagnostic, Place, closest};

/// Complaints about one file that are shown.
const COMPLAINTS_MAX: usize = 20;
const WORDS: [&str; 3] = ["user", "topic", "pattern"];
/// What may stand before a filter, and whether it denies.
const ACCESSES: [(&str, Access, bool); 4] = [
    ("read", Access::Read, false),
    ("write", Access::Write, false),
    ("readwrite", Access::ReadWrite, false),
    ("deny", Access::ReadWrite, true),
];

impl Acl {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, anybody may write it, or lines are wrong.
    pub(crate) fn load(path: &Path) -> Result<Self, FileError> {
        let (text, _) = read(path)?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads the text of the file `name`.
    ///
    /// # Errors
    ///
    /// All lines that are wrong, each with line, column and what to do.
    pub fn parse(name: &str, text: &str) -> Result<Self, FileError> {
        let mut reader = Reader {
            name,
            text,
            acl: Self {
                name: name.into(),
                digest: Sha256::digest(text).into(),
                ..Self::default()
            },
            user: None,
            diagnostics: Vec::new(),
        };
        let mut at = 0;
        for (number, line) in text.split('\n').enumerate() {
            if let Err(wrong) = reader.line(number + 1, at, line) {
                reader.complain(&wrong);
            }
            at += line.len() + 1;
        }
        reader.finish()
    }
}

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
    acl: Acl,
    /// Whose lines follow.
    user: Option<&'a str>,
    diagnostics: Vec<String>,
}

/// What is wrong with some bytes of the text.
struct Wrong {
    at: usize,
    len: usize,
    message: String,
    hint: Option<String>,
}

impl Wrong {
    fn new(part: &str, at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            len: part.len(),
            message: message.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl<'a> Reader<'a> {
    fn complain(&mut self, wrong: &Wrong) {
        let span = wrong.at..wrong.at + wrong.len;
        let diagnostic = Diagnostic {
            message: wrong.message.clone(),
            place: Some(Place::of(self.name, self.text, span)),
            hint: wrong.hint.clone(),
        };
        self.diagnostics.push(diagnostic.to_string());
    }

    /// Takes a line that begins at byte `at`.
    fn line(&mut self, number: usize, at: usize, line: &'a str) -> Result<(), Wrong> {
        let line = line.trim_end();
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            return Ok(());
        }
        let (word, rest) = cut(text);
        let at = at + line.len() - text.len();
        let rest_at = at + text.len() - rest.len();
        match word {
            "user" if rest.is_empty() => Err(Wrong::new(text, at, "`user` needs a user name")),
            "user" => {
                self.user = Some(rest);
                // Also one without lines: then only the patterns are for this user.
                self.acl.users.entry(rest.into()).or_default();
                Ok(())
            }
            "topic" => {
                let rule = rule(number, rest, rest_at, false)?;
                let rules = match self.user {
                    Some(user) => self.acl.users.entry(user.into()).or_default(),
                    None => &mut self.acl.anonymous,
                };
                rules.push(rule);
                Ok(())
            }
            "pattern" => {
                let rule = rule(number, rest, rest_at, true)?;
                self.acl.asks_for_client |= rule.asks_for_client;
                self.acl.patterns.push(rule);
                Ok(())
            }
            _ => {
                let message = format!("unknown word `{}`", word.escape_debug());
                let hint = closest(word, WORDS).map_or_else(
                    || "a line begins with user, topic or pattern".to_owned(),
                    |near| format!("did you mean `{near}`?"),
                );
                Err(Wrong::new(word, at, message).hint(hint))
            }
        }
    }

    fn finish(mut self) -> Result<Acl, FileError> {
        if self.diagnostics.is_empty() {
            return Ok(self.acl);
        }
        let more = self.diagnostics.len().saturating_sub(COMPLAINTS_MAX);
        self.diagnostics.truncate(COMPLAINTS_MAX);
        if more > 0 {
            self.diagnostics.push(format!("... and {more} more"));
        }
        Err(FileError::new(self.diagnostics.join("\n")))
    }
}

/// The first word, and what comes behind it and its blanks.
fn cut(text: &str) -> (&str, &str) {
    match text.split_once([' ', '\t']) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, text.get(text.len()..).unwrap_or_default()),
    }
}

/// Reads `[read|write|readwrite|deny] FILTER`. A filter may have blanks in it.
fn rule(line: usize, text: &str, at: usize, is_pattern: bool) -> Result<Rule, Wrong> {
    let (word, rest) = cut(text);
    let known = ACCESSES.iter().find(|(name, ..)| *name == word);
    let (access, denies, filter) = match known {
        Some((_, access, denies)) => (*access, *denies, rest),
        None => (Access::ReadWrite, false, text),
    };
    let at_filter = at + text.len() - filter.len();
    if filter.is_empty() {
        return Err(Wrong::new(text, at, "there is no topic"));
    }
    if known.is_none() && !rest.is_empty() {
        let names = ACCESSES.iter().map(|(name, ..)| *name);
        if let Some(near) = closest(word, names) {
            let message = format!("unknown access `{}`", word.escape_debug());
            return Err(Wrong::new(word, at, message).hint(format!("did you mean `{near}`?")));
        }
    }
    if let Err(error) = Filter::parse(filter, &Limits::default()) {
        return Err(Wrong::new(filter, at_filter, error.to_string()));
    }
    let (asks_for_user, asks_for_client) = (filter.contains("%u"), filter.contains("%c"));
    if !is_pattern && (asks_for_user || asks_for_client) {
        let message = "%u and %c stand for names only in a pattern";
        return Err(Wrong::new(filter, at_filter, message).hint("write `pattern`"));
    }
    Ok(Rule {
        line,
        access,
        denies,
        filter: filter.into(),
        asks_for_user,
        asks_for_client,
    })
}

/// Reads `[read|write|readwrite] FILTER`, with `%u` and `%c` in it where they are wanted.
pub(super) fn rule_of_role(text: &str) -> Result<Rule, String> {
    let text = text.trim();
    let rule = rule(0, text, 0, true).map_err(|wrong| match wrong.hint {
        Some(hint) => format!("{}; {hint}", wrong.message),
        None => wrong.message,
    })?;
    if rule.denies {
        return Err("what is denied stands in the list `deny`, without that word".to_owned());
    }
    Ok(rule)
}
