//! What becomes of a sealed file.

use std::time::Duration;

use super::ledger::Uploaded;

/// A sealed file on this disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Below the data directory, parts divided by `/`.
    pub name: String,
    pub bytes: u64,
    /// Unix time in ms.
    pub modified_ms: u64,
}

/// What is to be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Upload,
    /// It is uploaded, and objects are to be deleted that it stands for.
    Clear,
    Keep,
    /// It is uploaded, and has been here for long enough.
    Delete,
}

/// Decides by what was uploaded under the file's name. A file that is another now, by its length or its time, is uploaded
/// again; one that was merged from others is not done with before their objects are gone.
pub fn decide(file: &LocalFile, uploaded: Option<&Uploaded>, retain: Option<Duration>, now_ms: u64) -> Decision {
    match uploaded {
        None => Decision::Upload,
        Some(row) if (row.bytes, row.modified_ms) != (file.bytes, file.modified_ms) => Decision::Upload,
        Some(row) if row.is_to_clear() => Decision::Clear,
        Some(_) => {
            let age = Duration::from_millis(now_ms.saturating_sub(file.modified_ms));
            if retain.is_some_and(|retain| age >= retain) { Decision::Delete } else { Decision::Keep }
        }
    }
}

/// The name that a file has elsewhere: its own, with the gateway's number before the last part, so that gateways may share
/// a place.
pub fn remote_name(name: &str, gateway: u16) -> String {
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{gateway}-{file}"),
        None => format!("{gateway}-{name}"),
    }
}

/// The folder of a file's day, in which those lie that it was merged from.
pub fn day_of(name: &str) -> &str {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder.rsplit_once('/') {
        Some((day, last)) if last.starts_with("hour=") => day,
        _ => folder,
    }
}

/// A file's own name, without its folder and its ending.
pub fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

/// Whether these bytes are a whole Parquet file, as far as both of its ends tell.
pub fn is_whole(bytes: &[u8]) -> bool {
    const MAGIC: &[u8] = b"PAR1";
    bytes.len() >= 12 && bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_goes_once_it_is_uploaded_and_old_and_not_before() {
        let file = LocalFile { name: "predictions/a.parquet".to_owned(), bytes: 10, modified_ms: 1_000 };
        let row = Uploaded {
            name: file.name.clone(),
            bytes: 10,
            modified_ms: 1_000,
            uploaded_ms: 1_500,
            replaces: vec![],
            is_cleared: false,
        };
        let (longer, later) = (Uploaded { bytes: 11, ..row.clone() }, Uploaded { modified_ms: 1_001, ..row.clone() });
        let merged = Uploaded { replaces: vec!["b".to_owned()], ..row.clone() };
        let cleared = Uploaded { is_cleared: true, ..merged.clone() };
        let second = Some(Duration::from_secs(1));
        for (uploaded, retain, now_ms, expected) in [
            (None, second, u64::MAX, Decision::Upload),
            (Some(&row), None, u64::MAX, Decision::Keep),
            (Some(&row), second, 1_999, Decision::Keep),
            (Some(&row), second, 2_000, Decision::Delete),
            (Some(&row), Some(Duration::ZERO), 0, Decision::Delete),
            // A clock that was set back deletes nothing.
            (Some(&row), second, 0, Decision::Keep),
            (Some(&longer), second, 9_999, Decision::Upload),
            (Some(&later), second, 9_999, Decision::Upload),
            (Some(&merged), second, 9_999, Decision::Clear),
            (Some(&cleared), second, 1_999, Decision::Keep),
            (Some(&cleared), second, 9_999, Decision::Delete),
        ] {
            assert_eq!(decide(&file, uploaded, retain, now_ms), expected, "{uploaded:?} {retain:?} {now_ms}");
        }
    }

    #[test]
    fn names_elsewhere_tell_gateways_apart_and_keep_their_folders() {
        let name = "predictions/model=m/version=1/date=2026-01-02/hour=03/5-1.parquet";
        let expected = "predictions/model=m/version=1/date=2026-01-02/hour=03/7-5-1.parquet";
        assert_eq!(remote_name(name, 7), expected);
        assert_eq!(remote_name("a.parquet", 4095), "4095-a.parquet");
    }

    #[test]
    fn a_days_files_are_those_of_its_hours() {
        let day = "predictions/model=m/version=1/date=2026-01-02";
        assert_eq!(day_of(&format!("{day}/hour=03/5-1.parquet")), day);
        assert_eq!(day_of("feedback/model=m/date=2026-01-02/5-1.parquet"), "feedback/model=m/date=2026-01-02");
        assert_eq!((stem(&format!("{day}/hour=03/5-1.parquet")), stem("5-1")), ("5-1", "5-1"));
    }

    #[test]
    fn a_file_without_both_ends_is_not_whole() {
        assert!(is_whole(b"PAR1....PAR1"));
        for torn in [&b""[..], b"PAR1", b"PAR1PAR1", b"PAR1........", b"........PAR1", b"PAR1....PAR"] {
            assert!(!is_whole(torn), "{torn:?}");
        }
    }
}
