//! The digest that tells one version's files from another's.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::registry::listing::VersionFiles;

/// What is read at a time; a file is never held whole.
const CHUNK_BYTES: usize = 1 << 16;

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest of a file's contents. Blocks while it reads the file.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        let mut hasher = Sha256::new();
        hash_contents(path, &mut hasher)?;
        Ok(Self(hasher.finalize().into()))
    }

    /// The digest of a version: what known-good models, quarantine and version slots are told apart by.
    ///
    /// SHA-256 over, for each file in the byte order of its name: the length of the name and the name (relative to the
    /// version's folder, `/` between parts), then the length of the contents and the contents. Lengths are 64-bit
    /// little-endian. Files that the repository ignores, such as `*.tmp`, are left out; `manifest.json` is not. Blocks
    /// while it reads every file of the version.
    ///
    /// # Errors
    /// Any that reading gives, and `InvalidData` for a file that has another length than at the last look.
    pub fn of_version(version: &VersionFiles) -> io::Result<Self> {
        let mut files: Vec<_> = version.files.iter().collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        let mut hasher = Sha256::new();
        for file in files {
            hasher.update((file.name.len() as u64).to_le_bytes());
            hasher.update(&file.name);
            hasher.update(file.len.to_le_bytes());
            let got = hash_contents(&version.path.join(&file.name), &mut hasher)?;
            if got != file.len {
                let text = format!("'{}' changed while it was read: {} bytes, then {got}", file.name, file.len);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
        }
        Ok(Self(hasher.finalize().into()))
    }
}

/// Feeds a file to the hasher and says how many bytes it had.
fn hash_contents(path: &Path, hasher: &mut Sha256) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                hasher.update(&chunk[..count]);
                total += count as u64;
            }
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 hexadecimal digits")]
pub struct NotADigest;

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(NotADigest);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(NotADigest);
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = NotADigest;

    fn try_from(text: String) -> Result<Self, NotADigest> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::registry::directory::{DirectoryLimits, look};

    fn version_in(root: &Path) -> VersionFiles {
        look(&[root.to_owned()], &DirectoryLimits::default()).unwrap().models["m"].versions[&1].clone()
    }

    #[test]
    fn digests_are_hexadecimal_text() {
        let empty = Digest::of(b"");
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(empty.to_string().to_uppercase().parse(), Ok(empty));
        for bad in ["", "e3", &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Digest>(), Err(NotADigest));
        }
        assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&empty).unwrap()).unwrap(), empty);
    }

    #[test]
    fn a_versions_digest_depends_on_names_lengths_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let digest_of = |files: &[(&str, &str)]| {
            let version = dir.path().join("m/1");
            _ = fs::remove_dir_all(&version);
            for (name, contents) in files {
                let path = version.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, contents).unwrap();
            }
            Digest::of_version(&version_in(dir.path())).unwrap()
        };
        let one = digest_of(&[("model.onnx", "abc"), ("examples/a.npz", "d")]);
        assert_eq!(digest_of(&[("examples/a.npz", "d"), ("model.onnx", "abc")]), one);
        assert_eq!(digest_of(&[("model.onnx", "abc"), ("examples/a.npz", "d"), ("x.tmp", "y"), (".x", "y")]), one);
        assert_ne!(digest_of(&[("model.onnx", "abcd"), ("examples/a.npz", "")]), one);
        assert_ne!(digest_of(&[("model.onnx", "abc"), ("examples/b.npz", "d")]), one);
        assert_ne!(digest_of(&[("model.onnx", "abd"), ("examples/a.npz", "d")]), one);

        // The exact bytes, so that other programs can compute it.
        let mut bytes = Vec::new();
        for (name, contents) in [("examples/a.npz", "d"), ("model.onnx", "abc")] {
            for part in [name, contents] {
                bytes.extend((part.len() as u64).to_le_bytes());
                bytes.extend(part.as_bytes());
            }
        }
        assert_eq!(one, Digest::of(&bytes));
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("m/1");
        fs::create_dir_all(&version).unwrap();
        fs::write(version.join("model.onnx"), "abc").unwrap();
        let look = version_in(dir.path());
        fs::write(version.join("model.onnx"), "abcd").unwrap();
        let fault = Digest::of_version(&look).unwrap_err().to_string();
        assert_eq!(fault, "'model.onnx' changed while it was read: 3 bytes, then 4");
    }
}
