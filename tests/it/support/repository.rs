//! Model repositories in a directory of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;
use sha2::{Digest, Sha256};

pub use super::zoo::zoo;

/// A directory that is removed when it is dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("headgate-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        // As the server sees it, should the system's temporary directory be a link.
        Self(path.canonicalize().unwrap())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a model of the zoo into this repository as a version, appearing all at once and long since quiet, so that
    /// nothing waits for its files to stop changing.
    pub fn add(&self, zoo_model: &str, model: &str, version: u64) {
        self.add_files(model, version, &model_files(zoo_model), Manifest::None);
    }

    /// The same with a manifest, by which the version is known to be whole.
    pub fn add_with_manifest(&self, zoo_model: &str, model: &str, version: u64) {
        self.add_files(model, version, &model_files(zoo_model), Manifest::Right);
    }

    /// Puts files into this repository as a version, appearing all at once.
    pub fn add_files(&self, model: &str, version: u64, files: &[(String, Vec<u8>)], manifest: Manifest) {
        let staged = self.0.join(format!(".staged-{model}-{version}"));
        for (name, content) in files {
            put(&staged, name, content);
        }
        if manifest == Manifest::Right {
            put(&staged, "manifest.json", manifest_of(files).as_bytes());
        }
        fs::create_dir_all(self.0.join(model)).unwrap();
        fs::rename(staged, self.version(model, version)).unwrap();
    }

    pub fn version(&self, model: &str, version: u64) -> PathBuf {
        self.0.join(model).join(version.to_string())
    }

    pub fn remove_version(&self, model: &str, version: u64) {
        fs::remove_dir_all(self.version(model, version)).unwrap();
    }

    /// Writes a file below the directory, making its folders; the file appears all at once.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(file);
        let staged = file.rsplit('/').next().map(|name| format!("{name}.tmp")).unwrap();
        put(path.parent().unwrap(), &staged, content.as_ref());
        fs::rename(path.with_file_name(staged), path).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manifest {
    None,
    Right,
}

/// The files of a zoo model that make a version.
pub fn model_files(zoo_model: &str) -> Vec<(String, Vec<u8>)> {
    let folder = zoo().join(zoo_model);
    let there = ["model.onnx", "model.onnx.data"].into_iter().filter(|file| folder.join(file).exists());
    there.map(|file| (file.to_owned(), fs::read(folder.join(file)).unwrap())).collect()
}

/// manifest.json: the sha256 of every file.
pub fn manifest_of(files: &[(String, Vec<u8>)]) -> String {
    let digest = |content: &[u8]| Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let files: serde_json::Map<String, serde_json::Value> =
        files.iter().map(|(name, content)| (name.clone(), digest(content).into())).collect();
    json!({ "files": files }).to_string()
}

/// Writes a file whose time lies an hour back.
fn put(folder: &Path, name: &str, content: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
}
