//! `lineage.json` in a version's folder: where that version comes from.
//!
//! `{"dataset": "sha256:…", "git": "…", "run_id": "…"}`, every key optional. It is said of one version, where the key
//! `lineage` of model.yaml is said of all that have none of their own.

use std::fs::File;
use std::io::Read;

use crate::registry::listing::VersionFiles;
use crate::servable::Lineage;

/// The file's name in the version's folder.
pub const LINEAGE_FILE: &str = "lineage.json";
/// Longest that is read, in bytes.
const MAX_BYTES: u64 = 64 << 10;

/// The lineage that the version has of its own; `None` without a file.
///
/// # Errors
/// A text for the operator, when the file can't be read or is not a lineage.
pub fn read(version: &VersionFiles) -> Result<Option<Lineage>, String> {
    if !version.has(LINEAGE_FILE) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    let file = File::open(version.path.join(LINEAGE_FILE));
    file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(|cause| cause.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| cause.to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::registry::directory::{DirectoryLimits, look};

    fn read_text(text: Option<&str>) -> Result<Option<Lineage>, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("m/1")).unwrap();
        fs::write(dir.path().join("m/1/model.onnx"), "").unwrap();
        if let Some(text) = text {
            fs::write(dir.path().join("m/1").join(LINEAGE_FILE), text).unwrap();
        }
        let listing = look(&[dir.path().to_owned()], &DirectoryLimits::default()).unwrap();
        read(&listing.models["m"].versions[&1])
    }

    #[test]
    fn a_version_says_where_it_comes_from() {
        assert_eq!(read_text(None), Ok(None));
        let lineage = read_text(Some(r#"{"dataset": "sha256:00", "run_id": "7"}"#)).unwrap().unwrap();
        assert_eq!(
            (lineage.dataset.as_deref(), lineage.git, lineage.run_id.as_deref()),
            (Some("sha256:00"), None, Some("7"))
        );
    }

    #[test]
    fn what_is_no_lineage_is_named() {
        assert!(read_text(Some("{")).unwrap_err().contains("EOF"));
        assert!(read_text(Some(r#"{"datset": "x"}"#)).unwrap_err().contains("unknown field `datset`, expected one of"));
        assert!(read_text(Some(&" ".repeat(70_000))).unwrap_err().contains("more than 65536 bytes"));
    }
}
