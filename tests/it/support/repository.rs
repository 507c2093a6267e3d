//! Model repositories in a directory of their own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that is removed when it is dropped.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("headgate-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a model of the zoo into this repository as a version, appearing all at once.
    pub fn add(&self, zoo_model: &str, model: &str, version: u64) {
        let staged = self.0.join(format!(".staged-{model}-{version}"));
        std::fs::create_dir_all(&staged).unwrap();
        for file in ["model.onnx", "model.onnx.data"] {
            let source = zoo().join(zoo_model).join(file);
            if source.exists() {
                std::fs::copy(source, staged.join(file)).unwrap();
            }
        }
        let target = self.0.join(model);
        std::fs::create_dir_all(&target).unwrap();
        std::fs::rename(staged, target.join(version.to_string())).unwrap();
    }

    /// Writes a file below the directory, making its folders; the file appears all at once.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.0.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let staged = path.with_extension("tmp");
        std::fs::write(&staged, content).unwrap();
        std::fs::rename(staged, path).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The models with recorded outputs.
pub fn zoo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo")
}
