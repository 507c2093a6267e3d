//! Where the log goes beside the local disk: `prediction_log.upload` and `prediction_log.events` of the settings file.
//!
//! What is sent, and how, is outbound's part; here is only what was written and what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::Uri;
use serde_json::Value;

use super::config::time;
use crate::yaml::{Entry, Section, SettingsError};

/// Events that may wait, where the settings don't say.
pub const DEFAULT_MAX_WAITING: usize = 10_000;
/// Most events that may be asked to wait.
pub const MOST_WAITING: u64 = 1_000_000;
const DEFAULT_EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The word for files that are never deleted.
const FOREVER: &str = "forever";

/// Text, a number or a truth value, kept as text. It may be a secret, so no log shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct OptionValue(pub String);

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Upload of sealed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// Such as `s3://bucket/prefix`, `gs://bucket`, `az://container/prefix` or `file:///mnt/log`.
    pub url: String,
    /// Of the store, by the names that the `object_store` crate gives them.
    pub options: BTreeMap<String, OptionValue>,
    /// Age of a sealed file from which on it is deleted here, once it was uploaded; `None`: never.
    pub retain_local: Option<Duration>,
}

/// The form of an event in HTTP (CloudEvents 1.0, HTTP protocol binding, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventMode {
    /// Attributes and data as one JSON object.
    #[default]
    Structured,
    /// Attributes as `ce-` headers, the data as the body.
    Binary,
}

/// Rows as events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsConfig {
    pub url: Uri,
    /// Events that may wait for the receiver, two a row.
    pub max_waiting: usize,
    /// Of one attempt as a whole.
    pub timeout: Duration,
    /// What the events give as theirs.
    pub namespace: Option<String>,
    pub mode: EventMode,
}

impl UploadConfig {
    /// What is written means. Whether the store knows the URL and the options is found when it is opened.
    ///
    /// # Errors
    /// `SettingsError`, naming the key.
    pub fn of(entry: Entry<'_>) -> Result<Self, SettingsError> {
        let (mut section, url) = with_url(entry, "an address such as s3://bucket/prefix")?;
        let options = section.take("options").map(Entry::section).transpose()?;
        let option = |(name, entry): (&str, Entry<'_>)| Ok((name.to_owned(), option(entry)?));
        let config = Self {
            url: url.text()?,
            options: options.map_or_else(|| Ok(BTreeMap::new()), |all| all.entries().map(option).collect())?,
            retain_local: section.take("retain_local").map_or(Ok(None), retain_local)?,
        };
        section.finish()?;
        Ok(config)
    }
}

impl EventsConfig {
    /// What is written means.
    ///
    /// # Errors
    /// `SettingsError`, naming the key.
    pub fn of(entry: Entry<'_>) -> Result<Self, SettingsError> {
        let (mut section, url) = with_url(entry, "an address such as http://broker:8080/default")?;
        let modes = [("structured", EventMode::Structured), ("binary", EventMode::Binary)];
        let max_waiting = section.take("max_waiting").map(|most| most.integer(2, MOST_WAITING)).transpose()?;
        let config = Self {
            url: receiver(url)?,
            max_waiting: max_waiting.map_or(DEFAULT_MAX_WAITING, |most| most as usize),
            timeout: section.take("timeout").map_or(Ok(DEFAULT_EVENT_TIMEOUT), time)?,
            namespace: section.take("namespace").map(namespace).transpose()?,
            mode: section.take("mode").map_or(Ok(EventMode::default()), |mode| mode.one_of(&modes))?,
        };
        section.finish()?;
        Ok(config)
    }
}

/// A destination's section, and its URL, which it must have.
fn with_url<'a>(entry: Entry<'a>, expected: &str) -> Result<(Section<'a>, Entry<'a>), SettingsError> {
    let refused = entry.bad(&format!("a mapping whose url is {expected}"));
    let mut section = entry.section().map_err(|_| refused)?;
    match section.take("url") {
        Some(url) => Ok((section, url)),
        None => Err(SettingsError::bad_value(format!("{}.url", section.path()), expected, "nothing")),
    }
}

fn option(entry: Entry<'_>) -> Result<OptionValue, SettingsError> {
    let refused = entry.bad("a text, a number, true or false");
    Ok(OptionValue(match entry.value() {
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text,
        _ => return Err(refused),
    }))
}

/// Also 0: as soon as a file is uploaded.
fn retain_local(entry: Entry<'_>) -> Result<Option<Duration>, SettingsError> {
    let refused = entry.bad("a time with its unit such as 24h, or forever");
    match entry.one_of(&[(FOREVER, ())]) {
        Ok(()) => Ok(None),
        Err(_) => entry.duration(Duration::MAX).map(Some).map_err(|_| refused),
    }
}

fn receiver(entry: Entry<'_>) -> Result<Uri, SettingsError> {
    let refused = entry.bad("an address such as http://broker:8080/default");
    let is_one = |url: &Uri| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    };
    entry.text()?.parse().ok().filter(is_one).ok_or(refused)
}

fn namespace(entry: Entry<'_>) -> Result<String, SettingsError> {
    let refused = entry.bad("a text that is not empty");
    Some(entry.text()?).filter(|text| !text.is_empty()).ok_or(refused)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::prediction_log::config::LogConfig;

    fn upload(settings: Value) -> Result<UploadConfig, SettingsError> {
        LogConfig::of(&json!({ "upload": settings })).map(|config| config.upload.unwrap())
    }

    fn events(settings: Value) -> Result<EventsConfig, SettingsError> {
        LogConfig::of(&json!({ "events": settings })).map(|config| config.events.unwrap())
    }

    #[test]
    fn options_are_texts_whatever_they_were_written_as_and_are_not_shown() {
        let config = upload(json!({
            "url": "s3://log",
            "options": {"allow_http": true, "region": "eu-west-1", "http2_max_frame_size": 65536},
        }))
        .unwrap();
        let text = |key: &str| config.options[key].0.clone();
        assert_eq!((text("allow_http"), text("region")), ("true".to_owned(), "eu-west-1".to_owned()));
        assert_eq!(text("http2_max_frame_size"), "65536");
        assert!(!format!("{config:?}").contains("eu-west-1"));
    }

    #[test]
    fn uploaded_files_stay_unless_a_time_is_given() {
        for (text, expected) in
            [(None, None), (Some("forever"), None), (Some("24h"), Some(86_400)), (Some("0s"), Some(0))]
        {
            let config = upload(json!({"url": "s3://log", "retain_local": text})).unwrap();
            assert_eq!(config.retain_local, expected.map(Duration::from_secs), "{text:?}");
        }
    }

    #[test]
    fn a_fault_of_an_upload_names_its_key() {
        for (settings, expected) in [
            (
                json!("s3://x"),
                "prediction_log.upload: expected a mapping whose url is an address such as s3://bucket/prefix, got 's3://x'",
            ),
            (
                json!({"retain_local": "1h"}),
                "prediction_log.upload.url: expected an address such as s3://bucket/prefix, got nothing",
            ),
            (
                json!({"url": "s3://x", "retain_locally": "1h"}),
                "unknown key 'prediction_log.upload.retain_locally', did you mean 'prediction_log.upload.retain_local'?",
            ),
            (
                json!({"url": "s3://x", "retain_local": "a day"}),
                "prediction_log.upload.retain_local: expected a time with its unit such as 24h, or forever, got 'a day'",
            ),
            (
                json!({"url": "s3://x", "options": {"region": []}}),
                "prediction_log.upload.options.region: expected a text, a number, true or false, got a list of 0",
            ),
        ] {
            assert_eq!(upload(settings).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn events_have_defaults_and_bounds() {
        let read = events(json!({"url": "https://broker/default", "mode": "binary", "timeout": "500ms"})).unwrap();
        assert_eq!((read.max_waiting, read.timeout), (DEFAULT_MAX_WAITING, Duration::from_millis(500)));
        assert_eq!(read.mode, EventMode::Binary);
        for (value, expected) in [
            (json!({"url": "broker:8080"}), "events.url: expected an address"),
            (json!({"url": "/events"}), "events.url: expected an address"),
            (json!({"url": "ftp://broker"}), "events.url: expected an address"),
            (
                json!({"url": "http://a", "max_waiting": 1}),
                "events.max_waiting: expected a whole number from 2 to 1000000, got 1",
            ),
            (json!({"url": "http://a", "max_waiting": 1_000_001}), "got 1000001"),
            (json!({"url": "http://a", "timeout": "0s"}), "events.timeout: expected a time longer than 0"),
            (json!({"url": "http://a", "namespace": ""}), "events.namespace: expected a text that is not empty"),
            (json!({"url": "http://a", "mode": "text"}), "events.mode: expected one of structured, binary, got 'text'"),
            (json!({"url": "http://a", "max_wating": 5}), "did you mean 'prediction_log.events.max_waiting'?"),
        ] {
            let fault = events(value.clone()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{value}: {fault}");
        }
    }
}
