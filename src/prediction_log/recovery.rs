//! What an earlier process left: its segments are sealed, and a log that a newer program wrote is not touched.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::compact::finish_interrupted;
use super::seal::{Origin, SealError, Sealer};
use super::segment::read_schema;
use super::stream::{Wal, wal_folder};
use super::table::{SCHEMA_VERSION, SEGMENT_EXTENSION, Table, WAL_FOLDER};

/// File in [`WAL_FOLDER`] that says in decimal which version of the format the folder has.
pub const VERSION_FILE: &str = "schema_version";

/// Why the log can't be begun.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(
        "{} was written with version {found} of the prediction log's format, and this program knows {known}: start the \
         newer program, or give this one another data directory",
        path.display()
    )]
    Newer { path: PathBuf, found: u64, known: u32 },
    #[error("{} expects the version of the prediction log's format, got '{got}'", path.display())]
    NoVersion { path: PathBuf, got: String },
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// Hands the segments of dead processes to the sealer, and does not wait for it; brings a merge of files to its end that
/// was broken off. To be called before this process opens a segment. Gives the number of segments.
///
/// # Errors
/// `RecoveryError`; nothing is changed then.
pub fn recover(wal: &Wal, sealer: &Sealer) -> Result<usize, RecoveryError> {
    check_version(&wal.data_dir)?;
    let mut left = vec![];
    for table in Table::ALL {
        left.extend(segments(&wal.data_dir, table)?);
    }
    for path in &left {
        if let Ok(schema) = read_schema(path)
            && let Err(SealError::Newer { path, found }) = Origin::read(path, schema.metadata())
        {
            return Err(RecoveryError::Newer { path, found, known: SCHEMA_VERSION });
        }
    }
    write_version(wal)?;
    if let Err(cause) = finish_interrupted(&wal.data_dir, &wal.disk) {
        // Readers leave out what is there twice, and the next compaction tries again.
        tracing::warn!(%cause, "an interrupted compaction of the prediction log could not be finished");
    }
    for path in &left {
        sealer.seal(path.clone());
    }
    Ok(left.len())
}

/// The segments of a table, those of this process too, by name. None if there is no such folder.
///
/// # Errors
/// `RecoveryError::Io`.
pub fn segments(data_dir: &Path, table: Table) -> Result<Vec<PathBuf>, RecoveryError> {
    let folder = wal_folder(data_dir, table);
    let io_fault = |cause| RecoveryError::Io { path: folder.clone(), cause };
    let entries = match fs::read_dir(&folder) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(io_fault)?,
    };
    let mut found = vec![];
    for entry in entries {
        let path = entry.map_err(io_fault)?.path();
        if path.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Refuses a log that a newer program wrote. For everybody who is about to change the log of a data directory.
///
/// # Errors
/// `RecoveryError`.
pub fn check_version(data_dir: &Path) -> Result<(), RecoveryError> {
    let path = version_path(data_dir);
    let text = match fs::read_to_string(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(cause) => return Err(RecoveryError::Io { path, cause }),
        Ok(text) => text,
    };
    match text.trim().parse::<u64>() {
        Ok(found) if found <= u64::from(SCHEMA_VERSION) => Ok(()),
        Ok(found) => Err(RecoveryError::Newer { path, found, known: SCHEMA_VERSION }),
        // The machine died while the file was made.
        Err(_) if text.trim_matches(['\0', '\n']).is_empty() => Ok(()),
        Err(_) => Err(RecoveryError::NoVersion { path, got: text.trim().chars().take(64).collect() }),
    }
}

fn version_path(data_dir: &Path) -> PathBuf {
    data_dir.join(WAL_FOLDER).join(VERSION_FILE)
}

fn write_version(wal: &Wal) -> Result<(), RecoveryError> {
    let path = version_path(&wal.data_dir);
    let text = format!("{SCHEMA_VERSION}\n");
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let temporary = path.with_extension("tmp");
    let write = || {
        wal.disk.remove(&temporary)?;
        let mut file = wal.disk.create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync()?;
        wal.disk.rename(&temporary, &path)?;
        wal.disk.sync_folder(&wal.data_dir.join(WAL_FOLDER))
    };
    write().map_err(|cause| RecoveryError::Io { path: path.clone(), cause })
}
