//! Why the log can't be read.

use std::io;
use std::path::{Path, PathBuf};

/// A log that can't be read. The text is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no directory {}", path.display())]
    NoDirectory { path: PathBuf },
    #[error("{} has schema version {found}, and this program reads up to {known}: read it with a newer headgate", path.display())]
    Newer { path: PathBuf, found: String, known: u32 },
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    /// Not what its name says, or damaged.
    #[error("{} can't be read: {cause}", path.display())]
    Broken { path: PathBuf, cause: String },
    /// A sealed file was replaced by a compacted one after it was listed; rows of it would be seen twice, or never.
    #[error("{} was replaced while the log was being read: run it again", path.display())]
    Replaced { path: PathBuf },
}

impl ReadError {
    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    pub(super) fn broken(path: &Path, cause: impl ToString) -> Self {
        Self::Broken { path: path.to_owned(), cause: cause.to_string() }
    }
}
