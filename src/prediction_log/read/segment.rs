//! One segment: its whole batches, up to where its writer is or died.

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;

use super::error::ReadError;
use super::rows::{check_version, narrow};
use super::scan::Scan;
use crate::prediction_log::segment::{SegmentError, SegmentReader, read_opened};

/// Opens a segment. `None`: not even its schema is written yet, so it has no rows.
///
/// # Errors
/// `Newer`, `Io`, and `Broken` for a file that is no segment.
pub(super) fn open(path: &Path, file: File) -> Result<Option<SegmentReader>, ReadError> {
    let reader = match read_opened(path, file) {
        Ok(reader) => reader,
        Err(SegmentError::NoSchema { .. }) => return Ok(None),
        Err(fault) => return Err(error(fault)),
    };
    check_version(path, reader.schema().metadata())?;
    Ok(Some(reader))
}

/// The rows within the scan's bounds.
pub(super) fn batches(
    path: &Path,
    reader: SegmentReader,
    scan: &Scan,
) -> impl Iterator<Item = Result<RecordBatch, ReadError>> + 'static {
    let (path, scan) = (path.to_owned(), scan.clone());
    reader.map(move |batch| narrow(&batch.map_err(error)?, &scan).map_err(|cause| ReadError::broken(&path, cause)))
}

fn error(fault: SegmentError) -> ReadError {
    match fault {
        SegmentError::Io { path, cause } => ReadError::Io { path, cause },
        SegmentError::NoSchema { path } => ReadError::broken(&path, "it ends within its schema"),
        SegmentError::Damaged { path, cause } => ReadError::Broken { path, cause: cause.to_string() },
    }
}
