//! `manifest.json` in a version's folder: the digests that its files must have before it is loaded.
//!
//! `{"files": {"model.onnx": "<sha256, 64 hexadecimal digits>", "examples/a.npz": "…"}}`. Names are relative to the
//! version's folder; model.onnx must be among them; files that are not listed may be there; other keys are left alone.
//! Whoever copies a version writes the manifest at any time: until every listed file is there and matches, the version
//! is not whole.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};

use serde::Deserialize;

use crate::inference::printable;
use crate::registry::digest::Digest;
use crate::registry::listing::{MODEL_FILE, VersionFiles};

/// The manifest's name in the version's folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Longest manifest that is read, in bytes; room for some ten thousand files.
pub const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// Which digest each file must have.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Manifest {
    pub files: BTreeMap<String, Digest>,
}

/// Why a version does not match its manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("'{file}' can't be read: {cause}")]
    Unreadable { file: String, cause: String },
    #[error("manifest.json has more than {limit} bytes")]
    TooLong { limit: u64 },
    #[error("manifest.json is not a manifest: {0}")]
    Syntax(String),
    #[error("manifest.json lists '{name}': expected a name inside the version's folder")]
    BadName { name: String },
    #[error("manifest.json does not list model.onnx")]
    NoModel,
    #[error("manifest.json lists '{file}', which is not there")]
    Missing { file: String },
    #[error("'{file}' does not match manifest.json: expected sha256 {expected}, got {got}")]
    Mismatch { file: String, expected: Digest, got: Digest },
}

impl Manifest {
    /// # Errors
    /// `Syntax`, `BadName` or `NoModel`.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|fault| ManifestError::Syntax(fault.to_string()))?;
        let inside = |name: &str| {
            !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
        };
        match manifest.files.keys().find(|name| !inside(name)) {
            Some(name) => Err(ManifestError::BadName { name: printable(name) }),
            None if !manifest.files.contains_key(MODEL_FILE) => Err(ManifestError::NoModel),
            None => Ok(manifest),
        }
    }
}

/// Reads a version's manifest and every file that it lists, and compares. Blocks for as long as that takes.
///
/// # Errors
/// The first file that is missing, unreadable or different, or what is wrong with the manifest.
pub fn verify(version: &VersionFiles) -> Result<(), ManifestError> {
    let manifest = read(version)?;
    // Names first: they cost nothing, and while a version is being copied they are what fails.
    if let Some(file) = manifest.files.keys().find(|file| !version.has(file)) {
        return Err(ManifestError::Missing { file: file.clone() });
    }
    for (file, &expected) in &manifest.files {
        let got = Digest::of_file(&version.path.join(file))
            .map_err(|cause| ManifestError::Unreadable { file: file.clone(), cause: cause.to_string() })?;
        if got != expected {
            return Err(ManifestError::Mismatch { file: file.clone(), expected, got });
        }
    }
    Ok(())
}

fn read(version: &VersionFiles) -> Result<Manifest, ManifestError> {
    let mut bytes = Vec::new();
    File::open(version.path.join(MANIFEST_FILE))
        .and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|cause| ManifestError::Unreadable { file: MANIFEST_FILE.to_owned(), cause: cause.to_string() })?;
    if bytes.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(ManifestError::TooLong { limit: MAX_MANIFEST_BYTES });
    }
    Manifest::parse(&bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::registry::directory::{DirectoryLimits, look};

    fn check(files: &[(&str, &str)]) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, contents) in files {
            let path = dir.path().join("m/1").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, contents).unwrap();
        }
        let listing = look(&[dir.path().to_owned()], &DirectoryLimits::default()).unwrap();
        verify(&listing.models["m"].versions[&1]).map_err(|fault| fault.to_string())
    }

    /// sha256 of "abc", FIPS 180-4's own example.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn all_that_is_listed_must_match() {
        let manifest = format!(r#"{{"files": {{"model.onnx": "{ABC}", "examples/a": "{ABC}"}}, "made_by": "x"}}"#);
        let with =
            |model, example| check(&[("manifest.json", &manifest), ("model.onnx", model), ("examples/a", example)]);
        assert_eq!(with("abc", "abc"), Ok(()));
        assert_eq!(
            with("ab", "abc").unwrap_err(),
            format!("'model.onnx' does not match manifest.json: expected sha256 {ABC}, got {}", Digest::of(b"ab"))
        );
        assert_eq!(
            check(&[("manifest.json", &manifest), ("model.onnx", "abc")]).unwrap_err(),
            "manifest.json lists 'examples/a', which is not there"
        );
    }

    #[test]
    fn manifests_that_are_none() {
        let fault = |text: &str| check(&[("manifest.json", text), ("model.onnx", "abc")]).unwrap_err();
        assert!(fault("{\"files\": ").starts_with("manifest.json is not a manifest: EOF"));
        assert!(fault(r#"{"files": {"model.onnx": "abc"}}"#).contains("expected 64 hexadecimal digits"));
        assert_eq!(fault(r#"{"files": {}}"#), "manifest.json does not list model.onnx");
        for name in ["../1/model.onnx", "/etc/passwd", "a/../b", ""] {
            let text = format!(r#"{{"files": {{"model.onnx": "{ABC}", "{name}": "{ABC}"}}}}"#);
            assert!(fault(&text).contains("expected a name inside the version's folder"), "{name}");
        }
        let long = format!(r#"{{"files": {{"model.onnx": "{ABC}"}}, "x": "{}"}}"#, "y".repeat(1 << 20));
        assert_eq!(fault(&long), "manifest.json has more than 1048576 bytes");
    }
}
