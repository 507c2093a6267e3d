//! Files that can't be read and that a pass goes on without.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::ReadError;

/// The files that were left out so far, and why. Clones share them, so that several passes leave out the same ones.
#[derive(Debug, Clone, Default)]
pub struct LeftOut(Arc<Mutex<BTreeMap<PathBuf, String>>>);

impl LeftOut {
    /// Each file with the reason, by its path.
    pub fn files(&self) -> Vec<(PathBuf, String)> {
        self.lock().iter().map(|(path, reason)| (path.clone(), reason.clone())).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        self.lock().contains_key(path)
    }

    pub(super) fn add(&self, path: &Path, fault: &ReadError) {
        self.lock().entry(path.to_owned()).or_insert_with(|| fault.to_string());
    }

    fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, String>> {
        // One that panicked within leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads again for as long as further files turned out to be damaged, so that each of them is left out as a whole and not
/// from the damaged place on. `None`: nothing is left out, and one reading is all.
///
/// # Errors
/// The last reading's.
pub fn settled<T, E>(left_out: Option<&LeftOut>, mut read: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    loop {
        let before = left_out.map(LeftOut::count);
        let outcome = read();
        if left_out.map(LeftOut::count) == before {
            return outcome;
        }
    }
}
