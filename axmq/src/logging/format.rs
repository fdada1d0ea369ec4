//! The formats for machines: logfmt (`key=value`) and JSON, a line an event.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, time::FormatTime};
use tracing_subscriber::registry::LookupSpan;

use super::UtcTime;

/// `time=... level=warn event=... message="..."`.
pub(super) struct Logfmt;

/// `{"time":"...","level":"warn","event":"...","message":"..."}`.
pub(super) struct Json;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("time=")?;
        UtcTime.format_time(&mut writer)?;
        write!(writer, " level={}", level(event))?;
        let mut fields = Fields::new(|name: &str, value: Value<'_>| {
            write!(writer, " {name}=")?;
            match value {
                Value::Number(number) => write!(writer, "{number}"),
                Value::Text(text) if is_plain(text) => writer.write_str(text),
                Value::Text(text) => quoted(&mut writer, text),
            }
        });
        event.record(&mut fields);
        fields.result?;
        writeln!(writer)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("{\"time\":\"")?;
        UtcTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", level(event))?;
        let mut fields = Fields::new(|name: &str, value: Value<'_>| {
            writer.write_str(",")?;
            quoted(&mut writer, name)?;
            writer.write_str(":")?;
            match value {
                Value::Number(number) => write!(writer, "{number}"),
                Value::Text(text) => quoted(&mut writer, text),
            }
        });
        event.record(&mut fields);
        fields.result?;
        writer.write_str("}\n")
    }
}

/// The level in lower case, as it is configured.
fn level(event: &Event<'_>) -> &'static str {
    match *event.metadata().level() {
        tracing::Level::ERROR => "error",
        tracing::Level::WARN => "warn",
        tracing::Level::INFO => "info",
        tracing::Level::DEBUG => "debug",
        tracing::Level::TRACE => "trace",
    }
}

/// A field's value: numbers, true and false stand as they are.
enum Value<'a> {
    Number(&'a dyn fmt::Display),
    Text(&'a str),
}

/// Hands each field to a function and keeps its first failure.
struct Fields<F> {
    write: F,
    text: String,
    result: fmt::Result,
}

impl<F: FnMut(&str, Value<'_>) -> fmt::Result> Fields<F> {
    fn new(write: F) -> Self {
        Self {
            write,
            text: String::new(),
            result: Ok(()),
        }
    }

    fn field(&mut self, field: &Field, value: Value<'_>) {
        if self.result.is_ok() {
            self.result = (self.write)(field.name(), value);
        }
    }
}

impl<F: FnMut(&str, Value<'_>) -> fmt::Result> Visit for Fields<F> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, Value::Number(&value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, Value::Number(&value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, Value::Number(&value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, Value::Text(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if write!(text, "{value:?}").is_err() {
            self.result = Err(fmt::Error);
        }
        self.field(field, Value::Text(&text));
        self.text = text;
    }
}

/// Whether logfmt needs no quotes around it.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'=' | b'\\'))
}

/// A JSON string, which logfmt reads as well.
fn quoted(writer: &mut impl Write, text: &str) -> fmt::Result {
    writer.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => writer.write_str("\\\"")?,
            '\\' => writer.write_str("\\\\")?,
            '\n' => writer.write_str("\\n")?,
            '\t' => writer.write_str("\\t")?,
            c if c.is_control() => write!(writer, "\\u{:04x}", u32::from(c))?,
            c => writer.write_char(c)?,
        }
    }
    writer.write_str("\"")
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// What a hostile client's disconnect looks like, less the time.
    fn line<E>(format: E) -> String
    where
        E: FormatEvent<
                tracing_subscriber::Registry,
                tracing_subscriber::fmt::format::DefaultFields,
            > + Send
            + Sync
            + 'static,
    {
        let sink = Sink::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(sink.clone())
            .event_format(format);
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                event = "client.disconnected",
                client = %"a \"b\"\u{1b}\n=",
                count = 3,
                yes = true,
                "it is over"
            );
        });
        let bytes = sink.0.lock().expect("no panic");
        String::from_utf8(bytes.clone()).expect("UTF-8")
    }

    #[test]
    fn json_is_read_by_a_json_parser() {
        let text = line(Json);
        let value: serde_json::Value = serde_json::from_str(&text).expect(&text);
        assert_eq!(value["level"], "warn");
        assert_eq!(value["event"], "client.disconnected");
        assert_eq!(value["client"], "a \"b\"\u{1b}\n=");
        assert_eq!(value["count"], 3);
        assert_eq!(value["yes"], true);
        assert_eq!(value["message"], "it is over");
        assert!(
            value["time"]
                .as_str()
                .is_some_and(|time| time.ends_with('Z'))
        );
        assert_eq!(text.matches('\n').count(), 1, "one line");
    }

    #[test]
    fn logfmt_quotes_what_needs_it() {
        let text = line(Logfmt);
        let (time, rest) = text.split_once(' ').expect("there are fields");
        assert!(time.starts_with("time=") && time.ends_with('Z'), "{time}");
        assert_eq!(
            rest,
            "level=warn message=\"it is over\" event=client.disconnected \
             client=\"a \\\"b\\\"\\u001b\\n=\" count=3 yes=true\n"
        );
    }
}
