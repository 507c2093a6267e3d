//! What `prediction_log` in the settings file means.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::destinations::{EventsConfig, EventsSettings, UploadConfig, UploadSettings};
use super::disk::RealDisk;
use super::ring::RingConfig;
use super::stream::SegmentLimits;

/// The section as it is written. Times such as `1s`, `5m` or `30d`; sizes in bytes.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSection {
    pub sync_interval: Option<String>,
    pub segment_bytes: Option<u64>,
    pub segment_age: Option<String>,
    pub ring_entries: Option<usize>,
    pub ring_bytes: Option<usize>,
    pub disk_share: Option<f64>,
    pub retain: Option<String>,
    pub max_open_segments: Option<usize>,
    pub hmac_key_file: Option<PathBuf>,
    pub upload: Option<UploadSettings>,
    pub events: Option<EventsSettings>,
}

/// How the log is written, for all models.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    pub limits: SegmentLimits,
    pub ring: RingConfig,
    /// Share of the file system in use, 0 to 1, beyond which payloads are not written; halfway from there to 1 nothing is.
    pub disk_share: f64,
    /// How long rows are kept of models that say nothing of it; `None`: for ever.
    pub retain: Option<Duration>,
    /// Versions whose rows are collected at one time; one more ends the segment that was used least recently.
    pub max_open_segments: usize,
    /// Where the key of redaction by HMAC lies; `None`: one is made and kept in the data directory.
    pub hmac_key_file: Option<PathBuf>,
    /// Where sealed files are uploaded to.
    pub upload: Option<UploadConfig>,
    /// Who is told of rows.
    pub events: Option<EventsConfig>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            limits: SegmentLimits::default(),
            ring: RingConfig::default(),
            disk_share: 0.8,
            retain: None,
            max_open_segments: 64,
            hmac_key_file: None,
            upload: None,
            events: None,
        }
    }
}

/// Why the section is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("prediction_log.{key} expects {expected}, got {got}")]
pub struct LogSectionError {
    pub key: &'static str,
    pub expected: &'static str,
    pub got: String,
}

/// Most entries that a ring may have.
const MAX_RING_ENTRIES: usize = 10_000_000;
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// A sealed segment is in memory as a whole.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

impl LogSection {
    /// What the section means for a process with or without a data directory.
    ///
    /// # Errors
    /// `LogSectionError`, also for destinations of a log that is not written.
    pub fn read_for(&self, has_data_dir: bool) -> Result<LogConfig, LogSectionError> {
        let config = self.read()?;
        let asked = [("upload", config.upload.is_some()), ("events", config.events.is_some())];
        match asked.into_iter().find(|(_, is_asked)| *is_asked && !has_data_dir) {
            Some((key, _)) => {
                Err(LogSectionError { key, expected: "a data_dir to write the log in", got: "none".to_owned() })
            }
            None => Ok(config),
        }
    }

    /// What the section means.
    ///
    /// # Errors
    /// `LogSectionError`, naming the key, what it expects and what it got.
    pub fn read(&self) -> Result<LogConfig, LogSectionError> {
        let default = LogConfig::default();
        let segment_bytes = self.segment_bytes.unwrap_or(default.limits.max_bytes);
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&segment_bytes) {
            let expected = "65536 to 1073741824 bytes";
            return Err(LogSectionError { key: "segment_bytes", expected, got: segment_bytes.to_string() });
        }
        let disk_share = self.disk_share.unwrap_or(default.disk_share);
        if !(disk_share > 0.0 && disk_share <= 1.0) {
            let expected = "a number above 0 and up to 1";
            return Err(LogSectionError { key: "disk_share", expected, got: disk_share.to_string() });
        }
        Ok(LogConfig {
            limits: SegmentLimits {
                max_bytes: segment_bytes,
                max_age: time("segment_age", self.segment_age.as_deref())?.unwrap_or(default.limits.max_age),
                sync_interval: time("sync_interval", self.sync_interval.as_deref())?
                    .unwrap_or(default.limits.sync_interval),
            },
            ring: RingConfig {
                max_entries: count("ring_entries", self.ring_entries, default.ring.max_entries)?,
                max_bytes: count("ring_bytes", self.ring_bytes, default.ring.max_bytes)?,
            },
            disk_share,
            retain: time("retain", self.retain.as_deref())?,
            max_open_segments: count("max_open_segments", self.max_open_segments, default.max_open_segments)?,
            hmac_key_file: self.hmac_key_file.clone(),
            upload: self.upload.as_ref().map(UploadSettings::read).transpose()?,
            events: self.events.as_ref().map(EventsSettings::read).transpose()?,
        })
    }
}

fn time(key: &'static str, text: Option<&str>) -> Result<Option<Duration>, LogSectionError> {
    let Some(text) = text else { return Ok(None) };
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() => Ok(Some(time)),
        _ => {
            let expected = "a time longer than 0, such as 1s, 5m or 30d";
            Err(LogSectionError { key, expected, got: format!("'{text}'") })
        }
    }
}

fn count(key: &'static str, value: Option<usize>, default: usize) -> Result<usize, LogSectionError> {
    match value {
        Some(0) => Err(LogSectionError { key, expected: "1 or more", got: "0".to_owned() }),
        // Places are made when the process starts.
        Some(many) if key == "ring_entries" && many > MAX_RING_ENTRIES => {
            Err(LogSectionError { key, expected: "at most 10000000", got: many.to_string() })
        }
        value => Ok(value.unwrap_or(default)),
    }
}

/// The key that was made here, in the data directory.
pub const KEPT_KEY_FILE: &str = "log-hmac.key";
/// Bytes of the key that is made here, as many as SHA-256 has.
const KEY_BYTES: usize = 32;
/// Fewest and most bytes that a key of an operator's own may have.
const GIVEN_KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

/// Why there is no key. No text shows any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the log's HMAC key {}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("the log's HMAC key {} expects 16 to 4096 bytes, got {got}", path.display())]
    Length { path: PathBuf, got: usize },
}

/// The key under which redacted values are hashed: the bytes of the operator's file, without a line break at their end; or
/// one that is made once and kept, readable by its owner alone. Equal values stay equal for as long as the key does.
///
/// # Errors
/// `KeyError`.
pub fn hmac_key(config: &LogConfig, data_dir: &Path) -> Result<Vec<u8>, KeyError> {
    let path = config.hmac_key_file.clone().unwrap_or_else(|| data_dir.join(KEPT_KEY_FILE));
    let io_fault = |cause| KeyError::Io { path: path.clone(), cause };
    let bytes = match fs::read(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && config.hmac_key_file.is_none() => {
            make_key(data_dir).map_err(io_fault)?
        }
        bytes => bytes.map_err(io_fault)?,
    };
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    let key = bytes.get(..end).unwrap_or_default().to_vec();
    if !GIVEN_KEY_BYTES.contains(&key.len()) {
        return Err(KeyError::Length { path, got: key.len() });
    }
    Ok(key)
}

/// A new key in hexadecimal, under its name only when it is whole.
fn make_key(data_dir: &Path) -> io::Result<Vec<u8>> {
    use super::disk::Disk;
    let mut random = [0; KEY_BYTES];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let temporary = data_dir.join(format!("{KEPT_KEY_FILE}.tmp"));
    RealDisk.remove(&temporary)?;
    let mut file = RealDisk.create(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync()?;
    RealDisk.rename(&temporary, &data_dir.join(KEPT_KEY_FILE))?;
    RealDisk.sync_folder(data_dir)?;
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_section_means_the_defaults() {
        assert_eq!(LogSection::default().read().unwrap(), LogConfig::default());
    }

    #[test]
    fn values_that_make_no_sense_are_refused_by_key() {
        let bad = |section: LogSection| section.read().unwrap_err().to_string();
        assert_eq!(
            bad(LogSection { segment_bytes: Some(1), ..LogSection::default() }),
            "prediction_log.segment_bytes expects 65536 to 1073741824 bytes, got 1"
        );
        assert!(bad(LogSection { disk_share: Some(f64::NAN), ..LogSection::default() }).ends_with("got NaN"));
        assert!(bad(LogSection { retain: Some("0s".to_owned()), ..LogSection::default() }).contains("retain"));
        assert!(bad(LogSection { ring_entries: Some(0), ..LogSection::default() }).contains("1 or more"));
    }

    #[test]
    fn destinations_need_a_log() {
        let told: LogSection = serde_json::from_str(r#"{"events": {"url": "http://127.0.0.1:9000"}}"#).unwrap();
        assert!(told.read_for(true).unwrap().events.is_some());
        let fault = told.read_for(false).unwrap_err().to_string();
        assert_eq!(fault, "prediction_log.events expects a data_dir to write the log in, got none");
        assert!(LogSection::default().read_for(false).is_ok());
    }

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let key = hmac_key(&LogConfig::default(), dir.path()).unwrap();
        assert_eq!(key.len(), 2 * KEY_BYTES);
        assert_eq!(hmac_key(&LogConfig::default(), dir.path()).unwrap(), key);
        let mode = dir.path().join(KEPT_KEY_FILE).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(hmac_key(&LogConfig::default(), other.path()).unwrap(), key);
    }

    #[test]
    fn a_given_key_is_read_without_its_line_break_and_never_made_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let config = LogConfig { hmac_key_file: Some(path.clone()), ..LogConfig::default() };
        assert!(matches!(hmac_key(&config, dir.path()), Err(KeyError::Io { .. })));
        fs::write(&path, b"0123456789abcdef\r\n").unwrap();
        assert_eq!(hmac_key(&config, dir.path()).unwrap(), b"0123456789abcdef");
        fs::write(&path, b"short\n").unwrap();
        assert!(matches!(hmac_key(&config, dir.path()), Err(KeyError::Length { got: 5, .. })));
    }
}
