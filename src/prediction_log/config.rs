//! What `prediction_log` in the settings file means.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::destinations::{EventsConfig, UploadConfig};
use super::disk::RealDisk;
use super::ring::RingConfig;
use super::stream::SegmentLimits;
use crate::yaml::{Entry, Section, SettingsError};

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

/// The section's key in the settings file.
const SECTION: &str = "prediction_log";
/// Most entries that a ring may have: places are made when the process starts.
const MAX_RING_ENTRIES: u64 = 10_000_000;
const MIN_SEGMENT_BYTES: u64 = 64 << 10;
/// A sealed segment is in memory as a whole.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

impl LogConfig {
    /// What the section means, as it is written: times such as `1s`, `5m` or `30d`, sizes in bytes.
    ///
    /// # Errors
    /// `SettingsError`, naming the key, what it expects and what it got; of an unknown one the nearest.
    pub fn of(section: &Value) -> Result<Self, SettingsError> {
        let mut section = Section::under(SECTION, section)?;
        let default = Self::default();
        let config = Self {
            limits: SegmentLimits {
                max_bytes: section.take("segment_bytes").map_or(Ok(default.limits.max_bytes), segment_bytes)?,
                max_age: section.take("segment_age").map_or(Ok(default.limits.max_age), time)?,
                sync_interval: section.take("sync_interval").map_or(Ok(default.limits.sync_interval), time)?,
            },
            ring: RingConfig {
                max_entries: count(section.take("ring_entries"), MAX_RING_ENTRIES, default.ring.max_entries)?,
                max_bytes: count(section.take("ring_bytes"), u64::MAX, default.ring.max_bytes)?,
            },
            disk_share: section.take("disk_share").map_or(Ok(default.disk_share), |share| share.positive(1.0))?,
            retain: section.take("retain").map(time).transpose()?,
            max_open_segments: count(section.take("max_open_segments"), u64::MAX, default.max_open_segments)?,
            hmac_key_file: section.take("hmac_key_file").map(Entry::text).transpose()?.map(PathBuf::from),
            upload: section.take("upload").map(UploadConfig::of).transpose()?,
            events: section.take("events").map(EventsConfig::of).transpose()?,
        };
        section.finish()?;
        Ok(config)
    }

    /// The key of a destination that there is, if there is one: without a data directory nothing would ever go there.
    pub fn destination(&self) -> Option<&'static str> {
        let upload = self.upload.as_ref().map(|_| "prediction_log.upload");
        upload.or(self.events.as_ref().map(|_| "prediction_log.events"))
    }
}

fn segment_bytes(entry: Entry<'_>) -> Result<u64, SettingsError> {
    let refused = entry.bad(&format!("a number of bytes from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"));
    entry.integer(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES).map_err(|_| refused)
}

/// A time that is longer than 0.
pub(super) fn time(entry: Entry<'_>) -> Result<Duration, SettingsError> {
    let refused = entry.bad("a time longer than 0 with its unit, such as 1s, 5m or 30d");
    entry.duration(Duration::MAX).ok().filter(|time| !time.is_zero()).ok_or(refused)
}

fn count(entry: Option<Entry<'_>>, most: u64, default: usize) -> Result<usize, SettingsError> {
    let Some(entry) = entry else { return Ok(default) };
    Ok(usize::try_from(entry.integer(1, most)?).unwrap_or(usize::MAX))
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
    use serde_json::json;

    use super::*;

    fn fault(section: Value) -> String {
        LogConfig::of(&section).unwrap_err().to_string()
    }

    #[test]
    fn an_empty_section_means_the_defaults() {
        assert_eq!(LogConfig::of(&json!({})).unwrap(), LogConfig::default());
        assert_eq!(LogConfig::of(&json!({"retain": null})).unwrap(), LogConfig::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = LogConfig::of(&json!({
            "sync_interval": "200ms", "segment_bytes": 65536, "segment_age": "1m", "ring_entries": 10, "ring_bytes": 20,
            "disk_share": 1, "retain": "30d", "max_open_segments": 3, "hmac_key_file": "/etc/key",
            "upload": {"url": "s3://log"}, "events": {"url": "http://127.0.0.1:9000"},
        }))
        .unwrap();
        let time = Duration::from_secs;
        let limits = SegmentLimits { max_bytes: 65536, max_age: time(60), sync_interval: Duration::from_millis(200) };
        assert_eq!((config.limits, config.ring), (limits, RingConfig { max_entries: 10, max_bytes: 20 }));
        assert_eq!((config.disk_share, config.retain), (1.0, Some(time(30 * 24 * 3600))));
        assert_eq!((config.max_open_segments, config.hmac_key_file), (3, Some("/etc/key".into())));
        assert!(config.upload.is_some() && config.events.is_some());
    }

    #[test]
    fn a_fault_names_the_key_what_is_expected_and_what_came() {
        let times = "expected a time longer than 0 with its unit, such as 1s, 5m or 30d";
        for (section, expected) in [
            (json!("30d"), "prediction_log: expected a mapping of keys to values, got '30d'".to_owned()),
            (
                json!({"retian": "30d"}),
                "unknown key 'prediction_log.retian', did you mean 'prediction_log.retain'?".into(),
            ),
            (json!({"retain": 30}), format!("prediction_log.retain: {times}, got 30")),
            (json!({"sync_interval": "0s"}), format!("prediction_log.sync_interval: {times}, got '0s'")),
            (json!({"segment_age": "soon"}), format!("prediction_log.segment_age: {times}, got 'soon'")),
            (
                json!({"segment_bytes": "64MB"}),
                "prediction_log.segment_bytes: expected a number of bytes from 65536 to 1073741824, got '64MB'".into(),
            ),
            (
                json!({"segment_bytes": 1}),
                "prediction_log.segment_bytes: expected a number of bytes from 65536 to 1073741824, got 1".into(),
            ),
            (
                json!({"ring_entries": 0}),
                "prediction_log.ring_entries: expected a whole number from 1 to 10000000, got 0".into(),
            ),
            (
                json!({"disk_share": 1.5}),
                "prediction_log.disk_share: expected a number above 0 and at most 1, got 1.5".into(),
            ),
            (
                json!({"hmac_key_file": []}),
                "prediction_log.hmac_key_file: expected text (put it in quotes), got a list of 0".into(),
            ),
        ] {
            assert_eq!(fault(section), expected);
        }
    }

    #[test]
    fn a_destination_is_known_by_its_key() {
        let destination = |section| LogConfig::of(&section).unwrap().destination();
        assert_eq!(destination(json!({"events": {"url": "http://a"}})), Some("prediction_log.events"));
        assert_eq!(destination(json!({"upload": {"url": "s3://a"}})), Some("prediction_log.upload"));
        assert_eq!(destination(json!({"retain": "1d"})), None);
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
