//! The sealed files of the log on this disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::upload_policy::LocalFile;
use crate::prediction_log::table::{SEALED_EXTENSION, Table};

/// Folders below a table's own that are looked into: more than the layout has.
const MAX_DEPTH: usize = 8;

/// The data directory, as far as sealed files lie in it.
#[derive(Debug, Clone)]
pub struct LocalFiles {
    root: PathBuf,
}

impl LocalFiles {
    pub fn new(data_dir: &Path) -> Self {
        Self { root: data_dir.to_owned() }
    }

    /// Every sealed file of both tables. A folder that is gone meanwhile has none. Links are not followed.
    ///
    /// # Errors
    /// The operating system's.
    pub fn list(&self) -> io::Result<Vec<LocalFile>> {
        let mut found = vec![];
        for table in Table::ALL {
            walk(&self.root.join(table.name()), table.name(), MAX_DEPTH, &mut found)?;
        }
        Ok(found)
    }

    /// The name of a sealed file by its path; `None` for what is none.
    pub fn name_of(&self, path: &Path) -> Option<String> {
        let name = path.strip_prefix(&self.root).ok()?.to_str()?;
        let in_a_table = Table::ALL.iter().any(|table| name.split('/').next() == Some(table.name()));
        (in_a_table && is_sealed(name)).then(|| name.to_owned())
    }

    /// What the file is like now; `None` if it is gone.
    ///
    /// # Errors
    /// The operating system's.
    pub fn look_at(&self, name: &str) -> io::Result<Option<LocalFile>> {
        match fs::metadata(self.root.join(name)) {
            Ok(metadata) => Ok(Some(local_file(name.to_owned(), &metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The file as it is now; `None` if it is gone.
    ///
    /// # Errors
    /// The operating system's.
    pub fn read(&self, name: &str) -> io::Result<Option<(LocalFile, Bytes)>> {
        let path = self.root.join(name);
        let read = fs::metadata(&path).and_then(|metadata| Ok((metadata, fs::read(&path)?)));
        match read {
            Ok((metadata, bytes)) => Ok(Some((local_file(name.to_owned(), &metadata), bytes.into()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a file.
    ///
    /// # Errors
    /// The operating system's; none for a file that is gone.
    pub fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.root.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn walk(folder: &Path, name: &str, depth: usize, found: &mut Vec<LocalFile>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (Ok(kind), Some(part)) = (entry.file_type(), entry.file_name().to_str().map(str::to_owned)) else {
            continue;
        };
        let name = format!("{name}/{part}");
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), &name, depth - 1, found)?;
        } else if kind.is_file() && is_sealed(&part) {
            // One that is gone since the listing is no fault.
            found.extend(entry.metadata().ok().map(|metadata| local_file(name, &metadata)));
        }
    }
    Ok(())
}

fn is_sealed(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let ending = file.rsplit_once('.').map(|(_, ending)| ending);
    ending == Some(SEALED_EXTENSION) && !file.starts_with('.')
}

fn local_file(name: String, metadata: &fs::Metadata) -> LocalFile {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let modified_ms = u64::try_from(modified.as_millis()).unwrap_or(u64::MAX);
    LocalFile { name, bytes: metadata.len(), modified_ms }
}
