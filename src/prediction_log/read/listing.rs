//! Which files of a table there are.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Metadata, SchemaRef};

use super::error::ReadError;
use super::place::Place;
use super::scan::Scan;
use super::{sealed, segment};
use crate::prediction_log::segment::SegmentReader;
use crate::prediction_log::stream::wal_folder;
use crate::prediction_log::table::{META_MODEL, META_REPLACES, META_VERSION, SEALED_EXTENSION, SEGMENT_EXTENSION};

/// The batches of one file.
pub type SourceBatches = Box<dyn Iterator<Item = Result<RecordBatch, ReadError>>>;

/// One file of a table.
#[derive(Debug)]
pub enum Source {
    /// Published whole, as Parquet. `replaces`: the files that it stood for when it was listed.
    Sealed { path: PathBuf, place: Place, replaces: Vec<String> },
    /// Still being written, or left by a process that died. Open since it was listed, so that its removal does no harm.
    Segment { path: PathBuf, file: File },
}

/// The files that may hold rows of a scan: sealed ones by their paths' order, then segments by theirs.
///
/// # Errors
/// `NoDirectory`, and whatever keeps a folder from being read; `Io` for a segment that can't be opened.
pub fn list(scan: &Scan) -> Result<Vec<Source>, ReadError> {
    if !scan.data_dir.is_dir() {
        return Err(ReadError::NoDirectory { path: scan.data_dir.clone() });
    }
    let mut segments = segments(scan)?;
    let mut found = Found::default();
    found.walk(&scan.data_dir.join(scan.table.name()), Place::default(), scan)?;
    segments.retain(|source| !found.stems.contains(&stem(source.path())));
    found.sources.sort_by(|a, b| a.path().cmp(b.path()));
    found.sources.extend(segments);
    found.sources.retain(|source| !scan.left_out.as_ref().is_some_and(|left_out| left_out.has(source.path())));
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

    /// Its schema; `None` for a file that is gone or left out, and for a segment of another model or version.
    ///
    /// # Errors
    /// As [`Source::batches`].
    pub fn schema(&self, scan: &Scan) -> Result<Option<SchemaRef>, ReadError> {
        Ok(scan.tolerate(self.read_schema(scan))?.flatten())
    }

    fn read_schema(&self, scan: &Scan) -> Result<Option<SchemaRef>, ReadError> {
        match self {
            Self::Sealed { path, .. } => Ok(sealed::open(path)?.map(|opened| {
                let schema = opened.schema().as_ref().clone();
                Arc::new(schema.with_metadata(sealed::metadata(&opened)))
            })),
            Self::Segment { path, file } => {
                let contents = segment::open(path, file.try_clone().map_err(|cause| ReadError::io(path, cause))?)?;
                Ok(contents.filter(|contents| concerns(contents, scan)).map(|contents| contents.schema()))
            }
        }
    }

    /// Its rows within the scan's bounds. What follows the last whole batch of a segment is passed over. A sealed file
    /// that is gone because it was too old has no rows. One that is left out ends where it can't be read any more:
    /// [`settled`](super::settled) reads again without it.
    ///
    /// # Errors
    /// `Newer`, `Broken`, `Io` and `Replaced` for a file that can't be opened; the iterator gives what goes wrong later.
    pub fn batches(self, scan: &Scan) -> Result<SourceBatches, ReadError> {
        let Some(batches) = scan.tolerate(self.read_batches(scan))? else { return Ok(Box::new(std::iter::empty())) };
        if scan.left_out.is_none() {
            return Ok(batches);
        }
        let scan = scan.clone();
        Ok(Box::new(batches.map_while(move |batch| scan.tolerate(batch).transpose())))
    }

    fn read_batches(self, scan: &Scan) -> Result<SourceBatches, ReadError> {
        match self {
            Self::Sealed { path, replaces: listed, .. } => match sealed::open(&path)? {
                // A merged file has taken this one's place: it has rows of other files that were listed as well.
                Some(opened) if listed != replaces(&sealed::metadata(&opened)) => Err(ReadError::Replaced { path }),
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
fn concerns(contents: &SegmentReader, scan: &Scan) -> bool {
    let schema = contents.schema();
    let metadata = schema.metadata();
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
        for path in entries(folder)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            match path.is_dir() {
                true if name.starts_with(DAY) => self.add_day(&path, place.below(&name), scan)?,
                true => self.walk(&path, place.below(&name), scan)?,
                false => {}
            }
        }
        Ok(())
    }

    /// The files of a day and its hours. One that others were merged into lies in the hour of the last of them.
    fn add_day(&mut self, folder: &Path, day: Place, scan: &Scan) -> Result<(), ReadError> {
        let mut files = vec![];
        sealed_files(folder, &day, &mut files)?;
        self.stems.extend(files.iter().map(|(path, _)| stem(path)));
        if day.is_beyond(scan) {
            return Ok(());
        }
        let (mut replaced, mut listed) = (BTreeSet::new(), vec![]);
        for (path, place) in files {
            // One that can't be read says so when it is opened for its rows, and may be a merged one.
            let (names, is_merged) = match sealed::open(&path) {
                Ok(Some(opened)) => {
                    let names = replaces(&sealed::metadata(&opened));
                    let is_merged = !names.is_empty();
                    (names, is_merged)
                }
                Ok(None) => continue,
                Err(_) => (vec![], true),
            };
            replaced.extend(names.iter().filter(|name| **name != stem(&path)).cloned());
            // Rows of earlier hours of the day.
            let period = |(_, end)| Some((day.period_us?.0, end));
            let place = if is_merged { Place { period_us: place.period_us.and_then(period), ..place } } else { place };
            listed.push((path, place, names));
        }
        listed.retain(|(path, place, _)| !replaced.contains(&stem(path)) && !place.is_beyond(scan));
        self.stems.extend(replaced);
        let source = |(path, place, names)| Source::Sealed { path, place, replaces: names };
        self.sources.extend(listed.into_iter().map(source));
        Ok(())
    }
}

/// What the name of a day's folder begins with.
const DAY: &str = "date=";

/// The sealed files in a folder and those below it.
fn sealed_files(folder: &Path, place: &Place, found: &mut Vec<(PathBuf, Place)>) -> Result<(), ReadError> {
    for path in entries(folder)? {
        if path.is_dir() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            sealed_files(&path, &place.below(&name), found)?;
        } else if path.extension() == Some(OsStr::new(SEALED_EXTENSION)) {
            found.push((path, place.clone()));
        }
    }
    Ok(())
}

/// What is in a folder; nothing if there is none.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(cause) => return Err(ReadError::io(folder, cause)),
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    paths.map_err(|cause| ReadError::io(folder, cause))
}

/// The names that a file's metadata says it replaces.
pub fn replaces(metadata: &Metadata) -> Vec<String> {
    let names = metadata.get(META_REPLACES).map(String::as_str).unwrap_or_default();
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether another file of the same day took over the rows of one that is gone.
fn refuse_replaced(path: &Path) -> Result<(), ReadError> {
    let is_day = |folder: &&Path| folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(DAY));
    let Some(day) = path.ancestors().find(is_day) else { return Ok(()) };
    let mut files = vec![];
    sealed_files(day, &Place::default(), &mut files)?;
    for (file, _) in &files {
        let Ok(Some(opened)) = sealed::open(file) else { continue };
        if replaces(&sealed::metadata(&opened)).contains(&stem(path)) {
            return Err(ReadError::Replaced { path: path.to_owned() });
        }
    }
    Ok(())
}

/// The segments of a table, opened; one that goes away meanwhile is sealed.
pub(super) fn segments(scan: &Scan) -> Result<Vec<Source>, ReadError> {
    let mut paths = entries(&wal_folder(&scan.data_dir, scan.table))?;
    paths.retain(|path| path.extension() == Some(OsStr::new(SEGMENT_EXTENSION)));
    paths.sort();
    let mut found = vec![];
    for path in paths {
        let file = match File::open(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            opened => scan.tolerate(opened.map_err(|cause| ReadError::io(&path, cause)))?,
        };
        found.extend(file.map(|file| Source::Segment { path, file }));
    }
    Ok(found)
}
