//! What was settled about files that were loaded before, so that a version which comes back is loaded on one engine alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::choice_policy::{EngineTime, Which};
use crate::engine::lru::Lru;

/// Files that are remembered, the least recently loaded giving way.
pub const MAX_SETTLED: usize = 128;

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey {
    path: PathBuf,
    len: u64,
    modified: Option<SystemTime>,
}

impl FileKey {
    /// `None` where the file can't be looked at.
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self { path: path.to_owned(), len: file.len(), modified: file.modified().ok() })
    }
}

/// The one engine that runs a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub which: Which,
    /// Why it is that one; empty where it was measured.
    pub notes: Vec<String>,
    /// What was measured; empty where nothing had to be.
    pub times: Vec<EngineTime>,
}

/// The outcomes of one process.
pub struct Settled(Mutex<Lru<FileKey, Outcome>>);

impl Default for Settled {
    fn default() -> Self {
        Self(Mutex::new(Lru::new(MAX_SETTLED)))
    }
}

impl Settled {
    pub fn get(&self, file: &FileKey) -> Option<Outcome> {
        self.entries().get(file).cloned()
    }

    pub fn put(&self, file: FileKey, outcome: Outcome) {
        self.entries().insert(file, outcome);
    }

    fn entries(&self) -> MutexGuard<'_, Lru<FileKey, Outcome>> {
        // Nothing under this lock can be left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
