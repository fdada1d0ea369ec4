//! JSON, written only.

use std::fmt::Write as _;

/// An object that is being written.
#[derive(Clone, Debug)]
pub struct Object {
    text: String,
}

impl Default for Object {
    fn default() -> Self {
        Self {
            text: "{".to_owned(),
        }
    }
}

impl Object {
    fn key(&mut self, key: &str) {
        if self.text.len() > 1 {
            self.text.push_str(", ");
        }
        string(&mut self.text, key);
        self.text.push_str(": ");
    }

    /// Adds a text.
    #[must_use]
    pub fn text(mut self, key: &str, value: &str) -> Self {
        self.key(key);
        string(&mut self.text, value);
        self
    }

    /// Adds a whole number.
    #[must_use]
    pub fn count(mut self, key: &str, value: u64) -> Self {
        self.key(key);
        let _ = write!(self.text, "{value}");
        self
    }

    /// Adds a number; what is not finite becomes `null`.
    #[must_use]
    pub fn number(mut self, key: &str, value: f64) -> Self {
        self.key(key);
        if value.is_finite() {
            let _ = write!(self.text, "{value:.6}");
        } else {
            self.text.push_str("null");
        }
        self
    }

    /// Adds yes or no.
    #[must_use]
    pub fn truth(mut self, key: &str, value: bool) -> Self {
        self.key(key);
        let _ = write!(self.text, "{value}");
        self
    }

    /// Adds an object.
    #[must_use]
    pub fn object(mut self, key: &str, value: Self) -> Self {
        self.key(key);
        self.text.push_str(&value.finish());
        self
    }

    /// Adds a list of objects.
    #[must_use]
    pub fn list(mut self, key: &str, values: impl IntoIterator<Item = Self>) -> Self {
        self.key(key);
        let values: Vec<String> = values.into_iter().map(Self::finish).collect();
        let _ = write!(self.text, "[{}]", values.join(", "));
        self
    }

    /// The text of the object.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

fn string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_json() {
        let inner = Object::default().truth("yes", true);
        let text = Object::default()
            .text("a\"b", "line\n")
            .count("n", 7)
            .number("x", f64::NAN)
            .object("o", inner.clone())
            .list("l", [inner.clone(), inner])
            .finish();
        assert_eq!(
            text,
            "{\"a\\\"b\": \"line\\u000a\", \"n\": 7, \"x\": null, \"o\": {\"yes\": true}, \
             \"l\": [{\"yes\": true}, {\"yes\": true}]}"
        );
    }
}
