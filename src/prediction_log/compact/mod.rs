//! Makes few large files of many small ones: those of one day, of one version, that have the same columns.
//!
//! Safe to be killed at any moment. The merged file names those that it stands for ([`META_REPLACES`]) and takes the place
//! of the last of them in one step; the others are removed after that. What a crash left in between is put right by the
//! next compaction, or at the next start by way of a note beside the segments, and until then a reader that heeds the names
//! counts no row twice.

mod day;
mod merge;

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::day::Day;
use super::disk::Disk;
use super::recovery::{RecoveryError, check_version};
use super::table::{Table, WAL_FOLDER, partition_value};

/// Bytes that a merged file has at most, counted by the files that go into it.
pub const MAX_FILE_BYTES: u64 = 256 << 20;

/// In [`WAL_FOLDER`]: held while files are merged.
const LOCK_FILE: &str = "compact.lock";
/// In [`WAL_FOLDER`]: the folder of the day whose files are being merged.
const NOTE_FILE: &str = "compacting";

/// What a compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were merged, and their bytes.
    pub merged_files: u64,
    pub merged_bytes: u64,
    /// Files that they became, and their bytes.
    pub new_files: u64,
    pub new_bytes: u64,
    pub rows: u64,
    /// Files that could not be merged, with the reason; they are as they were.
    pub failed: Vec<(PathBuf, String)>,
}

/// Why nothing, or nothing more, was merged.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    #[error("another process is merging the files of {}", .0.display())]
    Busy(PathBuf),
    #[error(transparent)]
    Log(#[from] RecoveryError),
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

/// Merges the files of all models, or of one. May run beside a server. Blocks for as long as it takes; in memory are parts
/// of the files that overlap in time.
///
/// # Errors
/// `CompactError`. A file that can't be merged is in the report instead.
pub fn compact(
    data_dir: &Path,
    model: Option<&str>,
    disk: &Arc<dyn Disk>,
    max_file_bytes: u64,
) -> Result<Report, CompactError> {
    check_version(data_dir)?;
    let _lock = lock(data_dir)?.ok_or_else(|| CompactError::Busy(data_dir.to_owned()))?;
    let mut report = Report::default();
    for folder in days(data_dir, model) {
        let day = Day { data_dir, folder: &folder, disk };
        let io_fault = |cause| CompactError::Io { path: folder.clone(), cause };
        day.finish_interrupted().map_err(io_fault)?;
        let plans = day.plans(max_file_bytes, &mut report).map_err(io_fault)?;
        if plans.is_empty() {
            continue;
        }
        write_note(data_dir, disk, &folder).map_err(io_fault)?;
        for plan in plans {
            let target = plan.target().to_owned();
            if let Err(cause) = day.merge(plan, &mut report) {
                report.failed.push((target, cause.to_string()));
            }
        }
        disk.remove(&wal_file(data_dir, NOTE_FILE)).map_err(io_fault)?;
    }
    Ok(report)
}

/// Puts right what a compaction left that did not come to its end; reads nothing if there was none. For the start of a
/// server. Does nothing while another process is merging.
///
/// # Errors
/// `CompactError::Io`.
pub fn finish_interrupted(data_dir: &Path, disk: &Arc<dyn Disk>) -> Result<(), CompactError> {
    let note = wal_file(data_dir, NOTE_FILE);
    let io_fault = |cause| CompactError::Io { path: note.clone(), cause };
    let Ok(text) = fs::read_to_string(&note) else { return Ok(()) };
    let Some(_lock) = lock(data_dir)? else { return Ok(()) };
    let folder = data_dir.join(text.trim_end());
    Day { data_dir, folder: &folder, disk }.finish_interrupted().map_err(io_fault)?;
    disk.remove(&note).map_err(io_fault)
}

fn wal_file(data_dir: &Path, name: &str) -> PathBuf {
    data_dir.join(WAL_FOLDER).join(name)
}

/// The right to merge files, for as long as it is held; `None` if another process has it.
fn lock(data_dir: &Path) -> Result<Option<File>, CompactError> {
    let path = wal_file(data_dir, LOCK_FILE);
    let io_fault = |cause| CompactError::Io { path: path.clone(), cause };
    fs::create_dir_all(data_dir.join(WAL_FOLDER)).map_err(io_fault)?;
    let file = File::options().create(true).append(true).open(&path).map_err(io_fault)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(io_fault(cause)),
    }
}

/// Says which day is being worked at, before anything of it changes.
fn write_note(data_dir: &Path, disk: &Arc<dyn Disk>, folder: &Path) -> io::Result<()> {
    let relative = folder.strip_prefix(data_dir).map_err(io::Error::other)?;
    let text = relative.to_str().ok_or_else(|| io::Error::other("a folder whose name is no text"))?;
    let note = wal_file(data_dir, NOTE_FILE);
    disk.remove(&note)?;
    let mut file = disk.create(&note)?;
    file.write_all(text.as_bytes())?;
    file.sync()?;
    disk.sync_folder(&data_dir.join(WAL_FOLDER))
}

/// The folders of all days, sorted.
fn days(data_dir: &Path, model: Option<&str>) -> Vec<PathBuf> {
    let wanted = model.map(|model| format!("model={}", partition_value(model)));
    let mut found = vec![];
    for table in Table::ALL {
        for folder in folders(&data_dir.join(table.name()), "model=") {
            if wanted.as_ref().is_some_and(|wanted| !folder.ends_with(wanted)) {
                continue;
            }
            match table {
                Table::Predictions => {
                    found.extend(folders(&folder, "version=").iter().flat_map(|version| folders(version, "date=")));
                }
                Table::Feedback => found.extend(folders(&folder, "date=")),
            }
        }
    }
    found
}

/// Folders whose names begin so, sorted.
fn folders(above: &Path, prefix: &str) -> Vec<PathBuf> {
    let is_wanted = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) && path.is_dir()
    };
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_wanted).collect();
    found.sort();
    found
}
