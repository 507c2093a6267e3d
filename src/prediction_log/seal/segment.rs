//! One segment becomes one Parquet file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{Metadata, SchemaRef};

use super::file::{NewFile, times};
use crate::prediction_log::disk::Disk;
use crate::prediction_log::segment::{SegmentError, read_segment};
use crate::prediction_log::table::{
    META_MODEL, META_OPENED, META_SCHEMA_VERSION, META_TABLE, META_VERSION, SCHEMA_VERSION, SEALED_EXTENSION, Table,
    sealed_folder,
};

/// What became of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// `None`: no row was in it.
    pub file: Option<PathBuf>,
    /// 0 where the file was there already.
    pub rows: u64,
    /// Bytes of a batch that was not whole and was dropped.
    pub torn_bytes: u64,
}

/// Why a segment was not sealed. It is still there.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{} was written with version {found} of the log's format, this program knows {SCHEMA_VERSION}", path.display())]
    Newer { path: PathBuf, found: u64 },
    #[error("{} does not say whose rows it holds: {key} is missing or no value", path.display())]
    Metadata { path: PathBuf, key: &'static str },
    #[error("{} could not be sealed: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}

impl SealError {
    /// Whether nobody can read the segment.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Segment(SegmentError::Io { .. }) | Self::Io { .. } | Self::Newer { .. } => false,
            Self::Segment(_) | Self::Metadata { .. } => true,
        }
    }
}

/// Whose rows a segment or a sealed file holds, as its metadata says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub table: Table,
    pub model: Option<String>,
    pub version: Option<u64>,
    /// When the segment was begun, in Unix µs.
    pub opened_us: i64,
}

impl Origin {
    /// Reads the metadata of the file at `path`.
    ///
    /// # Errors
    /// `Newer` and `Metadata`.
    pub fn read(path: &Path, metadata: &Metadata) -> Result<Self, SealError> {
        let missing = |key| SealError::Metadata { path: path.to_owned(), key };
        let number = |key| metadata.get(key).and_then(|text| text.parse::<u64>().ok());
        let found = number(META_SCHEMA_VERSION).ok_or_else(|| missing(META_SCHEMA_VERSION))?;
        if found > u64::from(SCHEMA_VERSION) {
            return Err(SealError::Newer { path: path.to_owned(), found });
        }
        let table =
            metadata.get(META_TABLE).and_then(|name| Table::from_name(name)).ok_or_else(|| missing(META_TABLE))?;
        let model = metadata.get(META_MODEL).cloned();
        let version = number(META_VERSION);
        if table == Table::Predictions && model.is_none() {
            return Err(missing(META_MODEL));
        }
        if table == Table::Predictions && version.is_none() {
            return Err(missing(META_VERSION));
        }
        let opened_us =
            number(META_OPENED).and_then(|us| i64::try_from(us).ok()).ok_or_else(|| missing(META_OPENED))?;
        Ok(Self { table, model, version, opened_us })
    }

    /// The sealed file of the segment of this name (without ending).
    pub fn target(&self, data_dir: &Path, stem: &str) -> PathBuf {
        let whose = (self.model.as_deref(), self.version);
        sealed_folder(data_dir, self.table, whose, self.opened_us).join(format!("{stem}.{SEALED_EXTENSION}"))
    }
}

/// Rows of one write into the sealed file.
const CHUNK_ROWS: usize = 8192;

/// Writes a segment's rows as a Parquet file, sorted by time, and removes the segment. May be repeated after a crash at any
/// point: the file's name follows from the segment, and a file that has its name is whole. All rows of the segment are in
/// memory meanwhile.
///
/// # Errors
/// `SealError`; the segment is still there then.
pub fn seal(data_dir: &Path, disk: &Arc<dyn Disk>, path: &Path) -> Result<Sealed, SealError> {
    let io_fault = |cause| SealError::Io { path: path.to_owned(), cause };
    let reader = match read_segment(path) {
        Err(SegmentError::NoSchema { .. }) => {
            let torn_bytes = path.metadata().map_or(0, |found| found.len());
            remove(disk, path).map_err(io_fault)?;
            return Ok(Sealed { file: None, rows: 0, torn_bytes });
        }
        reader => reader?,
    };
    let schema = reader.schema();
    let origin = Origin::read(path, schema.metadata())?;
    let target = origin.target(data_dir, &path.file_stem().unwrap_or_default().to_string_lossy());
    let mut sealed = Sealed { file: None, rows: 0, torn_bytes: reader.extent().torn_bytes };
    if target.exists() {
        sealed.file = Some(target);
    } else {
        let mut batches = vec![];
        for batch in reader {
            let batch = batch?;
            if !is_written(&batch, origin.table) {
                sealed.torn_bytes += batch.get_array_memory_size() as u64;
                break;
            }
            batches.push(batch);
        }
        if batches.iter().any(|batch| batch.num_rows() > 0) {
            let file = Rows { schema, table: origin.table, batches };
            sealed.rows = file.write(disk, &target).map_err(io_fault)?;
            sealed.file = Some(target);
        }
    }
    remove(disk, path).map_err(io_fault)?;
    Ok(sealed)
}

/// A machine that lost its power may leave zeros where a batch was to be written: then its ids are empty.
fn is_written(batch: &RecordBatch, table: Table) -> bool {
    let ids = batch.column_by_name(table.id_column()).and_then(|ids| ids.as_any().downcast_ref::<StringArray>());
    ids.is_none_or(|ids| (0..ids.len()).all(|at| !ids.value(at).is_empty()))
}

fn remove(disk: &Arc<dyn Disk>, path: &Path) -> io::Result<()> {
    disk.remove(path)?;
    path.parent().map_or(Ok(()), |folder| disk.sync_folder(folder))
}

/// All rows of a segment, in the order in which they were written.
struct Rows {
    schema: SchemaRef,
    table: Table,
    batches: Vec<RecordBatch>,
}

impl Rows {
    fn write(&self, disk: &Arc<dyn Disk>, target: &Path) -> io::Result<u64> {
        let mut file = NewFile::create(disk, target, self.table, &self.schema)?;
        match self.order() {
            None => {
                for batch in &self.batches {
                    file.write(&self.plain(batch)?)?;
                }
            }
            Some(order) => {
                let batches: Vec<&RecordBatch> = self.batches.iter().collect();
                for places in order.chunks(CHUNK_ROWS) {
                    let batch = interleave_record_batch(&batches, places).map_err(io::Error::other)?;
                    file.write(&self.plain(&batch)?)?;
                }
            }
        }
        file.publish(&[])
    }

    /// The file has the schema's metadata itself; its batches need no second copy of it.
    fn plain(&self, batch: &RecordBatch) -> io::Result<RecordBatch> {
        RecordBatch::try_new(self.schema.clone(), batch.columns().to_vec()).map_err(io::Error::other)
    }

    /// Places of the rows by time, those of the same time as they came; `None` if they already are in order.
    fn order(&self) -> Option<Vec<(usize, usize)>> {
        let columns: Option<Vec<_>> = self.batches.iter().map(|batch| times(batch, self.table)).collect();
        let columns = columns?;
        if columns.iter().flat_map(|column| column.values()).is_sorted() {
            return None;
        }
        let mut keyed: Vec<(i64, usize, usize)> = vec![];
        for (at, column) in columns.iter().enumerate() {
            keyed.extend(column.values().iter().enumerate().map(|(row, &time)| (time, at, row)));
        }
        keyed.sort_unstable();
        Some(keyed.into_iter().map(|(_, at, row)| (at, row)).collect())
    }
}
