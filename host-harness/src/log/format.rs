//! How one log line looks, as text and as JSON.

use std::fmt::{self, Write};

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `[INFO] acme-siem: fetched 3 events`.
    #[default]
    Text,
    /// One JSON object a line: `level`, `source`, `message`, further fields.
    Json,
}

/// The event format: an event's field `connector` becomes the source of the
/// line; other fields follow the message as `key=value`. `instance` is in the
/// JSON form, and in texts that tell of something wrong: of several tenants the
/// operator has to know whose it is, and other lines are as the guide shows them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lines {
    /// Which look.
    pub format: Format,
    /// Whether lines begin with the time (UTC).
    pub timestamps: bool,
    /// Whether the level is coloured (text only).
    pub colour: bool,
}

/// Source of lines that concern no connector.
const HOST: &str = "host-harness";

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let time = self.timestamps.then(|| stamp(OffsetDateTime::now_utc()));
        let level = event.metadata().level();
        let line = match self.format {
            Format::Text => fields.text(*level, time.as_deref(), self.colour),
            Format::Json => fields.json(*level, time),
        };
        out.write_str(&line)?;
        out.write_char('\n')
    }
}

/// A time with three digits behind the second, whatever they are: lines stand below each other, and are sorted as texts.
fn stamp(time: OffsetDateTime) -> String {
    let (hour, minute, second, millisecond) = time.to_hms_milli();
    let date = time.date();
    format!("{date}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// What an event carries.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    connector: Option<String>,
    instance: Option<String>,
    others: Vec<(&'static str, serde_json::Value)>,
}

impl Fields {
    fn text(&self, level: Level, time: Option<&str>, colour: bool) -> String {
        let (start, end) = match level {
            _ if !colour => ("", ""),
            Level::ERROR => ("\x1b[31m", "\x1b[0m"),
            Level::WARN => ("\x1b[33m", "\x1b[0m"),
            Level::INFO => ("\x1b[32m", "\x1b[0m"),
            _ => ("\x1b[2m", "\x1b[0m"),
        };
        let mut line = String::new();
        if let Some(time) = time {
            line.push_str(time);
            line.push(' ');
        }
        // Writing to a String cannot fail.
        let _ = write!(line, "[{start}{level}{end}] ");
        escape_into(&mut line, self.connector.as_deref().unwrap_or(HOST));
        line.push_str(": ");
        escape_into(&mut line, &self.message);
        for (name, value) in &self.others {
            let _ = write!(line, " {name}=");
            escape_into(&mut line, &value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
        if let Some(instance) = self.instance.as_ref().filter(|_| level <= Level::WARN) {
            line.push_str(" instance=\"");
            // A name with a quotation mark in it ends there nevertheless.
            escape_into(&mut line, &instance.replace('\\', "\\\\").replace('"', "\\\""));
            line.push('"');
        }
        line
    }

    fn json(self, level: Level, time: Option<String>) -> String {
        let mut object = serde_json::Map::new();
        if let Some(time) = time {
            object.insert("time".into(), time.into());
        }
        object.insert("level".into(), level.to_string().to_lowercase().into());
        object.insert("source".into(), self.connector.unwrap_or_else(|| HOST.to_owned()).into());
        if let Some(instance) = self.instance {
            object.insert("instance".into(), instance.into());
        }
        object.insert("message".into(), self.message.into());
        for (name, value) in self.others {
            object.entry(name).or_insert(value);
        }
        let line = serde_json::Value::Object(object).to_string();
        // Only texts in it can have such characters, and there an escape of JSON may stand for each.
        if line.contains(is_tricky) { harmless(&line) } else { line }
    }

    fn put(&mut self, field: &Field, value: serde_json::Value) {
        let text = || value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match field.name() {
            "message" => self.message = text(),
            "connector" => self.connector = Some(text()),
            "instance" => self.instance = Some(text()),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}

/// The text on one line that no terminal acts upon: control characters and
/// those that change the direction of writing are written as escapes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape_into(&mut out, text);
    out
}

/// Whether a character breaks lines, controls a terminal, changes the direction of text, or is not seen at all.
pub(crate) fn is_tricky(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

/// A line of JSON with escapes for what a terminal acts upon.
pub(crate) fn harmless(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_tricky(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn escape_into(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_tricky(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::capture::logged;
    use super::*;
    use time::format_description::well_known::Rfc3339;

    #[test]
    fn a_line_is_level_source_and_message() {
        let text = logged(Lines::default(), || {
            tracing::info!(connector = "acme-siem", instance = "us", "fetched {} events", 3);
            tracing::warn!("no connector here");
        });
        assert_eq!(text, "[INFO] acme-siem: fetched 3 events\n[WARN] host-harness: no connector here\n");
    }

    #[test]
    fn further_fields_follow_the_message() {
        let text = logged(Lines::default(), || tracing::debug!(connector = "acme", bytes = 7, path = %"/x", "read"));
        assert_eq!(text, "[DEBUG] acme: read bytes=7 path=/x\n");
    }

    #[test]
    fn what_is_wrong_says_of_which_instance() {
        let text = logged(Lines::default(), || {
            tracing::warn!(connector = "acme", instance = "us \"1\"\n", bytes = 7, "slow");
            tracing::error!(connector = "acme", instance = "eu", "failed");
            tracing::info!(connector = "acme", instance = "eu", "fetched 3 events");
        });
        assert_eq!(
            text,
            "[WARN] acme: slow bytes=7 instance=\"us \\\"1\\\"\\n\"\n\
             [ERROR] acme: failed instance=\"eu\"\n[INFO] acme: fetched 3 events\n"
        );
    }

    #[test]
    fn nothing_in_a_message_can_forge_a_line_or_drive_a_terminal() {
        let text = logged(Lines::default(), || {
            tracing::error!(connector = "acme\n", what = "a\rb", "one\n[INFO] two\u{1b}[2J\u{9b}\u{202e}\u{61c}");
        });
        assert_eq!(text, "[ERROR] acme\\n: one\\n[INFO] two\\u{1b}[2J\\u{9b}\\u{202e}\\u{61c} what=a\\rb\n");
    }

    #[test]
    fn json_lines_hold_everything_as_fields() {
        let text = logged(Lines { format: Format::Json, ..Lines::default() }, || {
            tracing::info!(connector = "acme", instance = "us\n", steps = 2, ok = true, "done \"well\"");
        });
        assert_eq!(
            text,
            "{\"instance\":\"us\\n\",\"level\":\"info\",\"message\":\"done \\\"well\\\"\",\"ok\":true,\"source\":\"acme\",\"steps\":2}\n"
        );
    }

    #[test]
    fn nothing_in_a_json_line_drives_a_terminal_and_it_says_the_same() {
        let message = "ä\u{9b}2J \u{202e}forged\u{2066}\u{7f}\u{1b}";
        let text = logged(Lines { format: Format::Json, ..Lines::default() }, || tracing::info!("{message}"));
        assert!(!text.trim_end().chars().any(is_tricky), "{text:?}");
        assert!(text.contains("ä\\u009b2J \\u202eforged\\u2066\\u007f\\u001b"), "{text}");
        let object: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(object["message"], message);
    }

    #[test]
    fn a_timestamp_comes_first_when_asked_for() {
        let text = logged(Lines { timestamps: true, ..Lines::default() }, || tracing::info!("now"));
        let (time, rest) = text.split_once(' ').expect("two parts");
        assert!(OffsetDateTime::parse(time, &Rfc3339).is_ok() && time.len() == 24, "{time}");
        assert_eq!(rest, "[INFO] host-harness: now\n");
    }

    #[test]
    fn a_timestamp_has_always_as_many_digits() {
        let at = |nanoseconds| stamp(OffsetDateTime::UNIX_EPOCH + time::Duration::nanoseconds(nanoseconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(3_723_120_999_999), "1970-01-01T01:02:03.120Z");
    }

    #[test]
    fn only_the_level_is_coloured() {
        let text = logged(Lines { colour: true, ..Lines::default() }, || tracing::error!("red"));
        assert_eq!(text, "[\u{1b}[31mERROR\u{1b}[0m] host-harness: red\n");
    }
}
