//! What a look at the model repository gives: names, stamps and faults. [`crate::registry::directory`] makes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use crate::registry::version_policy::MAX_VERSION;

/// The file that a version must have.
pub const MODEL_FILE: &str = "model.onnx";

/// The names of recorded examples begin with it.
const EXAMPLES_PREFIX: &str = "examples/";

/// What lay in the repository.
#[derive(Debug, Clone)]
pub struct Listing {
    pub models: BTreeMap<String, ListedModel>,
    /// What was passed over and belongs to no model.
    pub faults: Vec<Fault>,
    /// When the look began, on both clocks: file times are wall-clock times, waiting is not.
    pub taken: Instant,
    pub taken_wall: SystemTime,
}

/// One model's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedModel {
    pub name: String,
    /// Free of symbolic links below the root.
    pub path: PathBuf,
    pub model_yaml: Option<Vec<u8>>,
    pub config_pbtxt: Option<Vec<u8>>,
    /// Stamps of the two files above, as far as they are there.
    pub config_files: Vec<FileStamp>,
    pub versions: BTreeMap<u64, VersionFiles>,
    pub faults: Vec<Fault>,
    /// False where part of the folder could not be read, or where it is not clear whose it is: then what is missing
    /// here is not known to be gone, and what is loaded stays.
    pub certain: bool,
}

/// One version's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFiles {
    /// Free of symbolic links below the root.
    pub path: PathBuf,
    /// In the order of their names.
    pub files: Vec<FileStamp>,
    /// What in it is not taken; a version with a fault is not loaded.
    pub faults: Vec<Fault>,
}

/// A file as far as it can be told apart without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileStamp {
    /// Relative to the version's (or the model's) folder, `/` between parts.
    pub name: String,
    pub len: u64,
    pub mtime: SystemTime,
    /// When its inode changed last. Copies that preserve times preserve `mtime`, but nothing can set this one.
    pub ctime: SystemTime,
}

/// Something in the repository that is not served, and why. Texts hold names below the root, never a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("folder '{name}' can't be a model: {reason}")]
    BadModelName { name: String, reason: &'static str },
    #[error("folder '{name}' is not a version: expected a whole number above 0 without leading zeros")]
    BadVersionName { name: String },
    #[error("'{name}' lies in no version's folder: expected <root>/<model>/<version>/model.onnx, such as {example}")]
    NoVersion { name: String, example: String },
    #[error("'{name}' is a symbolic link that leads out of the model repository or nowhere")]
    BadLink { name: String },
    #[error("'{name}' is neither a file nor a folder")]
    Special { name: String },
    #[error("'{name}' has {got} bytes, expected at most {limit}")]
    TooLong { name: String, got: u64, limit: u64 },
    #[error("more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("'{name}' can't be read: {cause}")]
    Unreadable { name: String, cause: String },
    #[error("the model is in two repositories, '{first}' and '{second}': expected one")]
    InTwoRoots { first: String, second: String },
}

impl ListedModel {
    /// A folder of which nothing is known yet.
    pub fn empty(name: String, path: PathBuf) -> Self {
        Self {
            name,
            path,
            model_yaml: None,
            config_pbtxt: None,
            config_files: Vec::new(),
            versions: BTreeMap::new(),
            faults: Vec::new(),
            certain: true,
        }
    }
}

impl VersionFiles {
    pub fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file.name == name)
    }

    /// Bytes of what is loaded: all files but the recorded examples.
    pub fn model_bytes(&self) -> u64 {
        self.files.iter().filter(|file| !file.name.starts_with(EXAMPLES_PREFIX)).map(|file| file.len).sum()
    }
}

/// The version number that a folder's name is; `None` for any other text.
pub fn version_number(name: &str) -> Option<u64> {
    let digits = !name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit());
    name.parse().ok().filter(|&number: &u64| digits && number <= MAX_VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_numbers_are_plain() {
        for (name, number) in [("1", Some(1)), ("9223372036854775807", Some(MAX_VERSION))] {
            assert_eq!(version_number(name), number);
        }
        for name in ["0", "01", "+1", "-1", "1.0", "", "one", "1 ", "9223372036854775808", "١"] {
            assert_eq!(version_number(name), None, "{name}");
        }
    }
}
