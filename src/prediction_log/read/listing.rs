//! Which files of a table there are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::{Metadata, SchemaRef};

use super::error::ReadError;
use super::place::Place;
use super::scan::Scan;
use super::{sealed, segment};
use crate::prediction_log::table::{META_MODEL, META_VERSION, SEGMENT_EXTENSION, Table, WAL_FOLDER};

/// Key of a compacted file's metadata: a JSON list of the names, without ending, of the files whose rows it took over.
pub const META_REPLACES: &str = "headgate.replaces";
/// Ending of a sealed file.
pub const SEALED_EXTENSION: &str = "parquet";

/// The batches of one file.
pub type SourceBatches = Box<dyn Iterator<Item = Result<RecordBatch, ReadError>>>;

/// One file of a table.
#[derive(Debug)]
pub enum Source {
    /// Published whole, as Parquet.
    Sealed { path: PathBuf, place: Place },
    /// Still being written, or left by a process that died. Open since it was listed, so that its removal does no harm.
    Segment { path: PathBuf, file: File },
}

/// The files that may hold rows of a scan: sealed ones by their paths' order, then segments by theirs.
///
/// # Errors
/// `NoDirectory`, and whatever keeps a folder, or the footer of a file that may replace others, from being read.
pub fn list(scan: &Scan) -> Result<Vec<Source>, ReadError> {
    if !scan.data_dir.is_dir() {
        return Err(ReadError::NoDirectory { path: scan.data_dir.clone() });
    }
    let mut segments = segments(&scan.data_dir, scan.table)?;
    let mut found = Found::default();
    found.walk(&scan.data_dir.join(scan.table.name()), Place::default(), scan)?;
    segments.retain(|source| !found.stems.contains(&stem(source.path())));
    found.sources.sort_by(|a, b| a.path().cmp(b.path()));
    found.sources.extend(segments);
    Ok(found.sources)
}

impl Source {
    pub fn path(&self) -> &Path {
        match self {
            Self::Sealed { path, .. } | Self::Segment { path, .. } => path,
        }
    }

    /// The names of its columns; none for a file that is gone, and for a segment of another model or version.
    ///
    /// # Errors
    /// As [`Source::batches`].
    pub fn columns(&self, scan: &Scan) -> Result<Vec<String>, ReadError> {
        let schema = self.schema(scan)?;
        Ok(schema.iter().flat_map(|schema| schema.fields().iter().map(|field| field.name().clone())).collect())
    }

    /// Its schema; `None` for a file that is gone, and for a segment of another model or version.
    ///
    /// # Errors
    /// As [`Source::batches`].
    pub fn schema(&self, scan: &Scan) -> Result<Option<SchemaRef>, ReadError> {
        match self {
            Self::Sealed { path, .. } => Ok(sealed::open(path)?.map(|opened| opened.schema().clone())),
            Self::Segment { path, file } => {
                let contents = segment::open(path, file.try_clone().map_err(|cause| ReadError::io(path, cause))?)?;
                Ok(contents.filter(|contents| concerns(contents, scan)).map(|contents| contents.schema))
            }
        }
    }

    /// Its rows within the scan's bounds. What follows the last whole batch of a segment is passed over. A sealed file
    /// that is gone because it was too old has no rows.
    ///
    /// # Errors
    /// `Newer`, `Broken`, `Io` and `Replaced` for a file that can't be opened; the iterator gives what goes wrong later.
    pub fn batches(self, scan: &Scan) -> Result<SourceBatches, ReadError> {
        match self {
            Self::Sealed { path, .. } => match sealed::open(&path)? {
                Some(opened) => Ok(Box::new(sealed::batches(&path, opened, scan)?)),
                None => {
                    refuse_replaced(&path)?;
                    Ok(Box::new(std::iter::empty()))
                }
            },
            Self::Segment { path, file } => match segment::open(&path, file)? {
                Some(contents) if concerns(&contents, scan) => Ok(Box::new(segment::batches(&path, contents, scan))),
                _ => Ok(Box::new(std::iter::empty())),
            },
        }
    }
}

/// Whether a segment may hold rows of the scan's model and version.
fn concerns(contents: &segment::Contents, scan: &Scan) -> bool {
    let metadata = contents.schema.metadata();
    let differs = |key: &str, wanted: Option<String>| matches!((metadata.get(key), wanted), (Some(here), Some(wanted)) if *here != wanted);
    !differs(META_MODEL, scan.model.clone()) && !differs(META_VERSION, scan.version.map(|version| version.to_string()))
}

/// A file's name without its ending: what a segment and the sealed file that it becomes share.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// What lies under a table's folder.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    /// Of every sealed file, whatever its time, and of every file that one replaces: segments of these names are sealed.
    stems: BTreeSet<String>,
}

impl Found {
    fn walk(&mut self, folder: &Path, place: Place, scan: &Scan) -> Result<(), ReadError> {
        let mut files = vec![];
        for path in entries(folder)? {
            if path.is_dir() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.walk(&path, place.below(&name), scan)?;
            } else if path.extension() == Some(OsStr::new(SEALED_EXTENSION)) {
                files.push(path);
            }
        }
        self.stems.extend(files.iter().map(|path| stem(path)));
        if place.is_beyond(scan) {
            return Ok(());
        }
        let replaced = replaced(&files)?;
        self.stems.extend(replaced.iter().cloned());
        files.retain(|path| !replaced.contains(&stem(path)));
        self.sources.extend(files.into_iter().map(|path| Source::Sealed { path, place: place.clone() }));
        Ok(())
    }
}

/// What is in a folder; nothing if there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(cause) => return Err(ReadError::io(folder, cause)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(|cause| ReadError::io(folder, cause))
}

/// The names of files of one folder whose rows another file there took over.
fn replaced(files: &[PathBuf]) -> Result<BTreeSet<String>, ReadError> {
    let mut names = BTreeSet::new();
    // A file that is alone replaces nothing that is there.
    for path in files.iter().filter(|_| files.len() > 1) {
        let Some(opened) = sealed::open(path)? else { continue };
        names.extend(replaces(&sealed::metadata(&opened)).into_iter().filter(|name| *name != stem(path)));
    }
    Ok(names)
}

/// The names that a file's metadata says it replaces.
pub fn replaces(metadata: &Metadata) -> Vec<String> {
    metadata.get(META_REPLACES).and_then(|names| serde_json::from_str(names).ok()).unwrap_or_default()
}

/// Whether another file of the same folder took over the rows of one that is gone.
fn refuse_replaced(path: &Path) -> Result<(), ReadError> {
    let folder = path.parent().unwrap_or(path);
    let mut files = entries(folder)?;
    files.retain(|path| path.extension() == Some(OsStr::new(SEALED_EXTENSION)));
    for file in &files {
        let Some(opened) = sealed::open(file)? else { continue };
        if replaces(&sealed::metadata(&opened)).contains(&stem(path)) {
            return Err(ReadError::Replaced { path: path.to_owned() });
        }
    }
    Ok(())
}

/// The segments of a table, opened; one that goes away meanwhile is sealed.
pub fn segments(data_dir: &Path, table: Table) -> Result<Vec<Source>, ReadError> {
    let mut paths = entries(&data_dir.join(WAL_FOLDER).join(table.name()))?;
    paths.retain(|path| path.extension() == Some(OsStr::new(SEGMENT_EXTENSION)));
    paths.sort();
    let mut found = vec![];
    for path in paths {
        match File::open(&path) {
            Ok(file) => found.push(Source::Segment { path, file }),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(ReadError::io(&path, cause)),
        }
    }
    Ok(found)
}
