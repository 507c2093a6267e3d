//! A folder of one model's own among the system's temporary files, gone with the model.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Holds a graph without its weights, a few hundred kilobytes; the weights too while a model is loaded.
pub struct Folder(PathBuf);

impl Folder {
    /// # Errors
    /// The operating system's.
    pub fn new() -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("{}{number}-{:016x}", prefix(std::process::id()), fastrand::u64(..)));
        // Nobody else may read it, and one that is there already is not ours.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The graph's file.
    pub fn graph(&self) -> PathBuf {
        self.0.join("graph.onnx")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %cause, "a temporary folder stays");
        }
    }
}

/// Removes what a process that was killed has left.
pub fn remove_left_by(process: u32) {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix(process)) {
            _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn prefix(process: u32) -> String {
    format!("headgate-{process}-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_ours_alone_and_goes_with_its_owner() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(folder.graph(), b"graph").unwrap();
        drop(folder);
        assert!(!path.exists());
        let left = std::mem::ManuallyDrop::new(Folder::new().unwrap());
        remove_left_by(u32::MAX);
        assert!(left.path().exists(), "another process's");
        std::fs::remove_dir_all(left.path()).unwrap();
    }
}
