//! Where the log goes beside the local disk: `prediction_log.upload` and `prediction_log.events` of the settings file.
//!
//! What is sent, and how, is outbound's part; here is only what was written and what it means.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::Uri;
use serde::Deserialize;

use super::config::LogSectionError;

/// Events that may wait, where the settings don't say.
pub const DEFAULT_MAX_WAITING: usize = 10_000;
/// Most events that may be asked to wait.
pub const MOST_WAITING: usize = 1_000_000;
const DEFAULT_EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// The word for files that are never deleted.
const FOREVER: &str = "forever";

/// Upload of sealed files, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadSettings {
    /// Such as `s3://bucket/prefix`, `gs://bucket`, `az://container/prefix` or `file:///mnt/log`.
    pub url: String,
    /// Of the store, by the names that the `object_store` crate gives them.
    #[serde(default)]
    pub options: BTreeMap<String, OptionValue>,
    /// How long a file that was uploaded stays here, such as `24h`; `forever`, and the default, is always.
    pub retain_local: Option<String>,
}

/// Text, a number or a truth value, kept as text. It may be a secret, so no log shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Scalar")]
pub struct OptionValue(pub String);

impl fmt::Debug for OptionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, true or false")]
enum Scalar {
    Truth(bool),
    Number(serde_json::Number),
    Text(String),
}

impl From<Scalar> for OptionValue {
    fn from(scalar: Scalar) -> Self {
        Self(match scalar {
            Scalar::Truth(truth) => truth.to_string(),
            Scalar::Number(number) => number.to_string(),
            Scalar::Text(text) => text,
        })
    }
}

/// Upload of sealed files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    pub url: String,
    pub options: BTreeMap<String, OptionValue>,
    /// Age of a sealed file from which on it is deleted here, once it was uploaded; `None`: never.
    pub retain_local: Option<Duration>,
}

/// Rows as events, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsSettings {
    /// Such as `http://broker:8080/default`.
    pub url: String,
    /// Events that may wait for the receiver, two a row.
    pub max_waiting: Option<usize>,
    /// Of one attempt, such as `10s`.
    pub timeout: Option<String>,
    /// What the events give as their namespace.
    pub namespace: Option<String>,
    #[serde(default)]
    pub mode: EventMode,
}

/// The form of an event in HTTP (CloudEvents 1.0, HTTP protocol binding, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
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
    pub max_waiting: usize,
    /// Of one attempt as a whole.
    pub timeout: Duration,
    pub namespace: Option<String>,
    pub mode: EventMode,
}

impl UploadSettings {
    /// What it means. Whether the store knows the URL and the options is found when it is opened.
    ///
    /// # Errors
    /// `LogSectionError` for `retain_local`.
    pub fn read(&self) -> Result<UploadConfig, LogSectionError> {
        let retain_local = match self.retain_local.as_deref() {
            None | Some(FOREVER) => None,
            Some(text) => {
                let refused = |_| fault("upload.retain_local", "a time such as 24h, or forever", quoted(text));
                Some(humantime::parse_duration(text).map_err(refused)?)
            }
        };
        Ok(UploadConfig { url: self.url.clone(), options: self.options.clone(), retain_local })
    }
}

impl EventsSettings {
    /// What it means.
    ///
    /// # Errors
    /// `LogSectionError`, naming the key.
    pub fn read(&self) -> Result<EventsConfig, LogSectionError> {
        let bad_url = || fault("events.url", "an address such as http://broker:8080/default", quoted(&self.url));
        let url: Uri = self.url.parse().map_err(|_| bad_url())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none_or(str::is_empty) {
            return Err(bad_url());
        }
        let max_waiting = self.max_waiting.unwrap_or(DEFAULT_MAX_WAITING);
        if !(2..=MOST_WAITING).contains(&max_waiting) {
            return Err(fault("events.max_waiting", "2 to 1000000", max_waiting.to_string()));
        }
        let timeout = match &self.timeout {
            None => DEFAULT_EVENT_TIMEOUT,
            Some(text) => match humantime::parse_duration(text) {
                Ok(timeout) if !timeout.is_zero() => timeout,
                _ => return Err(fault("events.timeout", "a time longer than 0, such as 10s or 500ms", quoted(text))),
            },
        };
        if self.namespace.as_deref() == Some("") {
            return Err(fault("events.namespace", "a text that is not empty", quoted("")));
        }
        Ok(EventsConfig { url, max_waiting, timeout, namespace: self.namespace.clone(), mode: self.mode })
    }
}

fn fault(key: &'static str, expected: &'static str, got: String) -> LogSectionError {
    LogSectionError { key, expected, got }
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn upload(value: serde_json::Value) -> UploadSettings {
        serde_json::from_value(value).unwrap()
    }

    fn events(value: serde_json::Value) -> Result<EventsConfig, LogSectionError> {
        serde_json::from_value::<EventsSettings>(value).unwrap().read()
    }

    #[test]
    fn options_are_texts_whatever_they_were_written_as_and_are_not_shown() {
        let settings = upload(json!({
            "url": "s3://log",
            "options": {"allow_http": true, "region": "eu-west-1", "http2_max_frame_size": 65536},
        }));
        let text = |key: &str| settings.options[key].0.clone();
        assert_eq!((text("allow_http"), text("region")), ("true".to_owned(), "eu-west-1".to_owned()));
        assert_eq!(text("http2_max_frame_size"), "65536");
        assert!(!format!("{:?}", settings.read().unwrap()).contains("eu-west-1"));
        let list = serde_json::from_value::<UploadSettings>(json!({"url": "s3://log", "options": {"region": []}}));
        assert!(list.unwrap_err().to_string().contains("expected a text, a number, true or false"));
    }

    #[test]
    fn uploaded_files_stay_unless_a_time_is_given() {
        for (text, expected) in
            [(None, None), (Some("forever"), None), (Some("24h"), Some(86_400)), (Some("0s"), Some(0))]
        {
            let settings =
                UploadSettings { retain_local: text.map(str::to_owned), ..upload(json!({"url": "s3://log"})) };
            assert_eq!(settings.read().unwrap().retain_local, expected.map(Duration::from_secs), "{text:?}");
        }
        let settings = upload(json!({"url": "s3://log", "retain_local": "a day"}));
        let fault = settings.read().unwrap_err().to_string();
        assert_eq!(fault, "prediction_log.upload.retain_local expects a time such as 24h, or forever, got 'a day'");
    }

    #[test]
    fn events_have_defaults_and_bounds() {
        let read = events(json!({"url": "https://broker/default", "mode": "binary", "timeout": "500ms"})).unwrap();
        assert_eq!((read.max_waiting, read.timeout), (DEFAULT_MAX_WAITING, Duration::from_millis(500)));
        assert_eq!(read.mode, EventMode::Binary);
        for (value, expected) in [
            (json!({"url": "broker:8080"}), "events.url expects"),
            (json!({"url": "/events"}), "events.url expects"),
            (json!({"url": "ftp://broker"}), "events.url expects"),
            (json!({"url": "http://a", "max_waiting": 1}), "events.max_waiting expects 2 to 1000000, got 1"),
            (json!({"url": "http://a", "max_waiting": 1_000_001}), "got 1000001"),
            (json!({"url": "http://a", "timeout": "0s"}), "events.timeout expects"),
            (json!({"url": "http://a", "namespace": ""}), "events.namespace expects"),
        ] {
            let fault = events(value.clone()).unwrap_err().to_string();
            assert!(fault.contains(expected), "{value}: {fault}");
        }
        let unknown = serde_json::from_value::<EventsSettings>(json!({"url": "http://a", "max_wating": 5}));
        assert!(unknown.unwrap_err().to_string().contains("unknown field `max_wating`"));
    }
}
