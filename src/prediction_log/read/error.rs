//! Why the log can't be read.

use std::io;
use std::path::{Path, PathBuf};

/// A log that can't be read. The text is what an operator reads.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no directory {}", path.display())]
    NoDirectory { path: PathBuf },
    #[error("there are no predictions of model '{model}' in {}: {}", data_dir.display(), known_text(known))]
    NoModel { model: String, data_dir: PathBuf, known: Vec<String> },
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
    /// The file that is at fault, where the others can be read without it.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Newer { path, .. } | Self::Io { path, .. } | Self::Broken { path, .. } => Some(path),
            Self::NoDirectory { .. } | Self::NoModel { .. } | Self::Replaced { .. } => None,
        }
    }

    pub(super) fn io(path: &Path, cause: io::Error) -> Self {
        Self::Io { path: path.to_owned(), cause }
    }

    pub(super) fn broken(path: &Path, cause: impl ToString) -> Self {
        Self::Broken { path: path.to_owned(), cause: cause.to_string() }
    }
}

fn known_text(known: &[String]) -> String {
    if known.is_empty() {
        "there are none at all".to_owned()
    } else {
        format!("there are those of {}", known.join(", "))
    }
}
