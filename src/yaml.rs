//! Settings files: YAML read key by key, so that every fault names its key.
//!
//! A reader takes the keys it knows from a [`Section`] and closes it with [`Section::finish`], which refuses the rest.
//! That keeps the list of known keys in one place, the code that reads them.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::nearest;
use crate::inference::printable;

/// Longest settings file that is read, in bytes.
pub const MAX_SETTINGS_BYTES: usize = 1 << 20;

/// What is wrong with a settings file. Keys are paths, such as `workers.max`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("not valid YAML{}: {text}", line_text(line))]
    Syntax { line: Option<u64>, text: String },
    #[error("file of {got} bytes, expected at most {limit}")]
    TooLong { got: usize, limit: usize },
    #[error("unknown key '{key}'{}", nearest_text(nearest))]
    UnknownKey { key: String, nearest: Option<String> },
    #[error("{key}: expected {expected}, got {got}")]
    BadValue { key: String, expected: String, got: String },
}

impl SettingsError {
    pub fn bad_value(key: impl Into<String>, expected: impl Into<String>, got: impl fmt::Display) -> Self {
        Self::BadValue { key: key.into(), expected: expected.into(), got: got.to_string() }
    }
}

/// Parses one YAML document; an empty one is an empty mapping. `yes` and `no` are text, as in YAML 1.2.
///
/// # Errors
/// `TooLong`, or `Syntax` with the line where parsing stopped.
pub fn parse(bytes: &[u8]) -> Result<Value, SettingsError> {
    if bytes.len() > MAX_SETTINGS_BYTES {
        return Err(SettingsError::TooLong { got: bytes.len(), limit: MAX_SETTINGS_BYTES });
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| SettingsError::Syntax { line: None, text: "the file is not UTF-8".to_owned() })?;
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|fault| {
        let fault = fault.without_snippet();
        SettingsError::Syntax { line: fault.location().map(|at| at.line()), text: fault.to_string() }
    })?;
    Ok(if value.is_null() { Value::Object(Map::new()) } else { value })
}

/// A mapping whose keys are taken one by one.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    map: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// The document itself.
    ///
    /// # Errors
    /// `BadValue` where it is no mapping.
    pub fn root(document: &'a Value) -> Result<Self, SettingsError> {
        Entry { path: String::new(), value: document }.section()
    }

    /// A part of a document, with the key under which it stands.
    ///
    /// # Errors
    /// `BadValue` where it is no mapping.
    pub fn under(key: &str, value: &'a Value) -> Result<Self, SettingsError> {
        Entry { path: key.to_owned(), value }.section()
    }

    /// The value of a known key, `None` where it is absent or null.
    pub fn take(&mut self, key: &'static str) -> Option<Entry<'a>> {
        self.known.push(key);
        let value = self.map.get(key).filter(|value| !value.is_null())?;
        Some(Entry { path: join(&self.path, key), value })
    }

    /// All entries of a mapping whose keys are names, not settings.
    pub fn entries(self) -> impl Iterator<Item = (&'a str, Entry<'a>)> {
        self.map.iter().map(move |(key, value)| (key.as_str(), Entry { path: join(&self.path, key), value }))
    }

    /// The section's own key.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Refuses the first key that nobody took.
    ///
    /// # Errors
    /// `UnknownKey` with the nearest known one.
    pub fn finish(self) -> Result<(), SettingsError> {
        match self.map.keys().find(|key| !self.known.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(SettingsError::UnknownKey {
                key: join(&self.path, &printable(key)),
                nearest: nearest(key, self.known.iter().copied()).map(|near| join(&self.path, &near)),
            }),
        }
    }
}

/// A value and the key it stands under.
#[derive(Debug)]
pub struct Entry<'a> {
    path: String,
    value: &'a Value,
}

impl<'a> Entry<'a> {
    pub fn path(&self) -> &str {
        &self.path
    }

    pub fn is_number(&self) -> bool {
        self.value.is_number()
    }

    pub fn is_text(&self) -> bool {
        self.value.is_string()
    }

    /// The value as it is, for a reader elsewhere.
    pub fn value(self) -> Value {
        self.value.clone()
    }

    pub fn section(self) -> Result<Section<'a>, SettingsError> {
        match self.value {
            Value::Object(map) => Ok(Section { path: self.path, map, known: Vec::new() }),
            _ => Err(self.bad("a mapping of keys to values")),
        }
    }

    pub fn list(self) -> Result<Vec<Entry<'a>>, SettingsError> {
        match self.value {
            Value::Array(items) => {
                let entry = |(i, value)| Entry { path: format!("{}[{i}]", self.path), value };
                Ok(items.iter().enumerate().map(entry).collect())
            }
            _ => Err(self.bad("a list")),
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer(self, least: u64, most: u64) -> Result<u64, SettingsError> {
        match self.value.as_u64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ if most == u64::MAX => Err(self.bad(&format!("a whole number of at least {least}"))),
            _ => Err(self.bad(&format!("a whole number from {least} to {most}"))),
        }
    }

    /// A whole number from `least` to `most`, either of which may be negative.
    pub fn signed(self, least: i64, most: i64) -> Result<i64, SettingsError> {
        let number = self.value.as_i64().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| self.bad(&format!("a whole number from {least} to {most}")))
    }

    /// A finite number.
    pub fn number(self) -> Result<f64, SettingsError> {
        self.value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| self.bad("a number"))
    }

    /// A finite number of at least 0.
    pub fn non_negative(self) -> Result<f64, SettingsError> {
        match self.value.as_f64() {
            Some(number) if number.is_finite() && number >= 0.0 => Ok(number),
            _ => Err(self.bad("a number of at least 0")),
        }
    }

    /// A finite number from `least` to `most`.
    pub fn number_within(self, least: f64, most: f64) -> Result<f64, SettingsError> {
        match self.value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(self.bad(&format!("a number from {least} to {most}"))),
        }
    }

    /// A finite number above 0 and of at most `most`.
    pub fn positive(self, most: f64) -> Result<f64, SettingsError> {
        match self.value.as_f64() {
            Some(number) if number > 0.0 && number <= most => Ok(number),
            _ => Err(self.bad(&format!("a number above 0 and at most {most}"))),
        }
    }

    pub fn boolean(&self) -> Result<bool, SettingsError> {
        self.value.as_bool().ok_or_else(|| self.bad("true or false"))
    }

    /// A time with its unit, of at most `most`.
    pub fn duration(self, most: Duration) -> Result<Duration, SettingsError> {
        let text = match self.value {
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        match humantime::parse_duration(&text) {
            Ok(time) if time <= most => Ok(time),
            Ok(_) => Err(self.bad(&format!("a time of at most {}", humantime::format_duration(most)))),
            Err(_) => Err(self.bad("a time with its unit, such as 5m or 2h")),
        }
    }

    /// Text. A whole number is taken as its digits, so that class names 0, 1, 2 need no quotes.
    pub fn text(self) -> Result<String, SettingsError> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) if number.is_i64() || number.is_u64() => Ok(number.to_string()),
            _ => Err(self.bad("text (put it in quotes)")),
        }
    }

    /// One of the given words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Result<T, SettingsError> {
        let found = words.iter().find(|(word, _)| self.value.as_str() == Some(word));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.bad(&format!("one of {}", known.join(", ")))
        })
    }

    /// The error that says what this value should have been.
    pub fn bad(&self, expected: &str) -> SettingsError {
        let key = if self.path.is_empty() { "the file" } else { &self.path };
        SettingsError::bad_value(key, expected, shown(self.value))
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("'{}'", printable(text)),
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn line_text(line: &Option<u64>) -> String {
    line.map(|line| format!(" (line {line})")).unwrap_or_default()
}

fn nearest_text(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Option<u64>, Option<u64>), SettingsError> {
        let document = parse(text.as_bytes())?;
        let mut root = Section::root(&document)?;
        let size = root.take("max_batch_size").map(|entry| entry.integer(1, 64)).transpose()?;
        let mut least = None;
        if let Some(entry) = root.take("workers") {
            let mut workers = entry.section()?;
            least = workers.take("min").map(|entry| entry.integer(0, u64::MAX)).transpose()?;
            workers.finish()?;
        }
        root.finish()?;
        Ok((size, least))
    }

    #[test]
    fn known_keys_are_read_and_absent_ones_are_none() {
        assert_eq!(read("max_batch_size: 8\nworkers: {min: 2}").unwrap(), (Some(8), Some(2)));
        assert_eq!(read("").unwrap(), (None, None));
        assert_eq!(read("max_batch_size:").unwrap(), (None, None));
    }

    #[test]
    fn each_fault_names_its_key() {
        let text = |yaml| read(yaml).unwrap_err().to_string();
        assert_eq!(text("max_batchsize: 1"), "unknown key 'max_batchsize', did you mean 'max_batch_size'?");
        assert_eq!(text("workers: {mim: 1}"), "unknown key 'workers.mim', did you mean 'workers.min'?");
        assert_eq!(text("zebra: 1"), "unknown key 'zebra'");
        assert_eq!(text("max_batch_size: 65"), "max_batch_size: expected a whole number from 1 to 64, got 65");
        assert_eq!(text("workers: {min: -1}"), "workers.min: expected a whole number of at least 0, got -1");
        assert_eq!(text("workers: 3"), "workers: expected a mapping of keys to values, got 3");
        assert_eq!(text("[1]"), "the file: expected a mapping of keys to values, got a list of 1");
        assert!(text("a: [").starts_with("not valid YAML (line"), "{}", text("a: ["));
        assert!(text("a: 1\na: 2").contains("a"), "a key given twice is an error");
        assert_eq!(
            read(&" ".repeat(MAX_SETTINGS_BYTES + 1)).unwrap_err().to_string(),
            "file of 1048577 bytes, expected at most 1048576"
        );
    }

    #[test]
    fn times_switches_and_ranges_name_their_key_too() {
        let document =
            parse(b"{t: 90s, zero: 0, bare: 5, long: 2days, flag: true, word: yes, half: 0.5, big: 2}").unwrap();
        let entry = |key: &'static str| Section::root(&document).unwrap().take(key).unwrap();
        let day = Duration::from_secs(86_400);
        assert_eq!(entry("t").duration(day), Ok(Duration::from_secs(90)));
        assert_eq!(entry("zero").duration(day), Ok(Duration::ZERO));
        assert!(entry("flag").boolean().unwrap());
        assert_eq!(entry("half").number_within(0.0, 1.0), Ok(0.5));
        assert_eq!(entry("half").positive(1.0), Ok(0.5));
        let faults = [
            entry("bare").duration(day).map(drop),
            entry("long").duration(day).map(drop),
            entry("word").boolean().map(drop),
            entry("big").number_within(0.0, 1.0).map(drop),
            entry("zero").positive(1.0).map(drop),
        ]
        .map(|fault| fault.unwrap_err().to_string());
        assert_eq!(
            faults,
            [
                "bare: expected a time with its unit, such as 5m or 2h, got 5",
                "long: expected a time of at most 1day, got '2days'",
                "word: expected true or false, got 'yes'",
                "big: expected a number from 0 to 1, got 2",
                "zero: expected a number above 0 and at most 1, got 0",
            ]
        );
    }

    #[test]
    fn text_is_what_was_written() {
        let document = parse(b"[no, 0, 1.0, true]").unwrap();
        let texts: Vec<_> =
            Entry { path: "c".into(), value: &document }.list().unwrap().into_iter().map(Entry::text).collect();
        assert_eq!(texts[0].as_deref(), Ok("no"));
        assert_eq!(texts[1].as_deref(), Ok("0"));
        assert_eq!(texts[2].as_ref().unwrap_err().to_string(), "c[2]: expected text (put it in quotes), got 1.0");
        assert!(texts[3].is_err());
    }
}
