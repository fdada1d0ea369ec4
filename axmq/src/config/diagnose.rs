//! Saying what is wrong with a configuration: where, the line itself, and what was probably meant.

use std::fmt;
use std::ops::Range;

/// Why a configuration is refused: at least one [`Diagnostic`], in the order in which they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    diagnostics: Vec<Diagnostic>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong.
    pub message: String,
    /// Where, if it is in a file.
    pub place: Option<Place>,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// How many characters are meant, at least 1.
    pub width: usize,
    /// The line's text, fit for a terminal.
    pub text: String,
    /// Where in `text` the place is, in characters from 0; long lines are cut on both sides.
    pub offset: usize,
}

/// The most characters of a line that are shown before the place.
const BEFORE_MAX: usize = 80;
/// The most characters of a line that are shown from the place on.
const AFTER_MAX: usize = 80;
/// The most diagnostics that are shown; the rest is only counted.
const SHOWN_MAX: usize = 20;

impl ConfigError {
    /// Wraps the only one that was found.
    pub(super) fn of(diagnostic: Diagnostic) -> Self {
        Self {
            diagnostics: vec![diagnostic],
        }
    }

    /// Wraps what was found.
    ///
    /// # Errors
    ///
    /// Itself, if there is at least one diagnostic.
    pub(super) fn unless_empty(diagnostics: Vec<Diagnostic>) -> Result<(), Self> {
        if diagnostics.is_empty() {
            Ok(())
        } else {
            Err(Self { diagnostics })
        }
    }

    /// Everything that was found.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().take(SHOWN_MAX).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            diagnostic.fmt(f)?;
        }
        match self.diagnostics.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl Diagnostic {
    /// A diagnostic that has no place in a file.
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            hint: None,
        }
    }

    /// The same with a place.
    pub(super) fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    /// The same with a hint.
    pub(super) fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            f.write_str(&self.message)?;
            return self
                .hint
                .as_ref()
                .map_or(Ok(()), |hint| write!(f, "; {hint}"));
        };
        let Place {
            file, line, column, ..
        } = place;
        // What more there is to say, such as ways to proceed, reads better after the line.
        let (message, more) = match self.message.split_once('\n') {
            Some((message, more)) => (message, Some(more)),
            None => (self.message.as_str(), None),
        };
        writeln!(f, "{file}:{line}:{column}: {message}")?;
        let number = line.to_string();
        writeln!(f, "  {number} | {}", place.text)?;
        let (digits, offset) = (number.len(), place.offset);
        write!(f, "  {:digits$} | {:offset$}", "", "")?;
        for _ in 0..place.width {
            f.write_str("^")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " {hint}")?;
        }
        more.map_or(Ok(()), |more| write!(f, "\n{more}"))
    }
}

impl Place {
    /// The place of the bytes `span` of `text`, the content of `file`.
    ///
    /// A span that goes over the end of its line, or of the text, is cut there.
    #[must_use]
    pub fn of(file: &str, text: &str, span: Range<usize>) -> Self {
        let start = floor_boundary(text, span.start);
        let end = floor_boundary(text, span.end).max(start);
        let (before, after) = text.split_at(start);
        let line = before.matches('\n').count() + 1;
        let left = before.rsplit('\n').next().unwrap_or_default();
        let right = after.lines().next().unwrap_or_default();
        let column = left.chars().count() + 1;
        let meant = text.get(start..end).unwrap_or_default();
        let meant = meant.lines().next().unwrap_or_default().chars().count();

        let skipped = (column - 1).saturating_sub(BEFORE_MAX);
        let mut shown = String::new();
        if skipped > 0 {
            shown.push_str("...");
        }
        let shown_left = left.chars().skip(skipped).map(printable);
        shown.extend(shown_left);
        let offset = shown.chars().count();
        shown.extend(right.chars().take(AFTER_MAX).map(printable));
        if right.chars().nth(AFTER_MAX).is_some() {
            shown.push_str("...");
        }
        Self {
            file: file.to_owned(),
            line,
            column,
            width: meant.clamp(1, AFTER_MAX),
            text: shown.trim_end().to_owned(),
            offset,
        }
    }
}

/// The greatest character boundary of `text` that is not above `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A character that takes one column and moves no cursor in place of one that might not.
fn printable(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        c => c,
    }
}

/// The candidate that `word` was probably meant to be, if one is near enough.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let tolerance = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The most characters of a word that are compared; no key is longer.
const COMPARED_MAX: usize = 64;

/// The insertions, deletions, replacements and swaps of neighbours (optimal string alignment) that
/// make one word of the other, letter case ignored.
///
/// # Complexity
///
/// The product of the lengths, of which at most 64 characters count each.
fn distance(a: &str, b: &str) -> usize {
    let letters = |word: &str| -> Vec<char> {
        word.chars()
            .take(COMPARED_MAX)
            .map(|c| c.to_ascii_lowercase())
            .collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && y == a[i - 1] {
                best = best.min(before_last[j - 1] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn distances_count_edits_and_swaps() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("ABC", "abc", 0),
            ("packet_byte", "packet_bytes", 1),
            ("pakcet_bytes", "packet_bytes", 1),
            ("packet-bytes", "packet_bytes", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_closest_is_near_or_none() {
        let names = ["limits", "broker", "log", "budgets"];
        assert_eq!(closest("limit", names), Some("limits"));
        assert_eq!(closest("Broker", names), Some("broker"));
        assert_eq!(closest("colour", names), None);
    }

    #[test]
    fn a_place_is_counted_in_characters() {
        let text = "a = 1\n\u{e9}\tb = true\n";
        let start = text.find('b').unwrap_or_default();
        let place = Place::of("f.toml", text, start..start + 1);
        assert_eq!((place.line, place.column, place.width), (2, 3, 1));
        assert_eq!(place.text, "\u{e9} b = true");
        let shown = Diagnostic::new("bad")
            .at(Some(place))
            .hint(Some("good".into()))
            .to_string();
        assert_eq!(
            shown,
            "f.toml:2:3: bad\n  2 | \u{e9} b = true\n    |   ^ good"
        );
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let place = Place::of("f", &text, 500..501);
        assert_eq!(place.column, 501);
        assert_eq!(place.text.chars().nth(place.offset), Some('X'));
        assert!(place.text.len() < 200);
    }

    proptest! {
        #[test]
        fn no_span_of_any_text_panics(
            text in "[ -~\n\t\r\u{e9}\u{4e16}\u{1f600}]{0,60}",
            start in 0_usize..300,
            length in 0_usize..300,
        ) {
            let place = Place::of("f", &text, start..start.saturating_add(length));
            prop_assert!(place.line >= 1 && place.column >= 1 && place.width >= 1);
            prop_assert!(!Diagnostic::new("m").at(Some(place)).to_string().is_empty());
        }

        #[test]
        fn distance_is_symmetric_and_bounded(a in ".{0,70}", b in ".{0,70}") {
            let found = distance(&a, &b);
            prop_assert_eq!(found, distance(&b, &a));
            let longer = a.chars().count().max(b.chars().count());
            prop_assert!(found <= longer.min(COMPARED_MAX));
        }
    }
}
