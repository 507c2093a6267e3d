//! One segment: its whole batches, up to where its writer is or died.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Seek};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;

use super::error::ReadError;
use super::rows::{check_version, narrow};
use super::scan::Scan;

/// What a segment holds.
pub struct Contents {
    pub schema: SchemaRef,
    reader: StreamReader<BufReader<File>>,
    /// Whether something follows the last whole batch.
    pub torn: bool,
}

/// Opens a segment. `None`: not even its schema is written yet.
///
/// # Errors
/// `Newer`; `Broken` for a file that is no segment.
pub fn open(path: &Path, mut file: File) -> Result<Option<Contents>, ReadError> {
    file.rewind().map_err(|cause| ReadError::io(path, cause))?;
    let reader = match StreamReader::try_new_buffered(file, None) {
        Ok(reader) => reader,
        // Whoever writes it has not come this far, or died before.
        Err(ArrowError::IoError(_, cause)) if cause.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(ArrowError::IoError(_, cause)) => return Err(ReadError::io(path, cause)),
        Err(ArrowError::IpcError(_) | ArrowError::ParseError(_)) => return Ok(None),
        Err(cause) => return Err(ReadError::broken(path, cause)),
    };
    let schema = reader.schema();
    check_version(path, schema.metadata())?;
    Ok(Some(Contents { schema, reader, torn: false }))
}

impl Iterator for Contents {
    type Item = RecordBatch;

    /// The next whole batch. What is wrong with what follows it can't be told from a write under way.
    fn next(&mut self) -> Option<RecordBatch> {
        if self.torn {
            return None;
        }
        match self.reader.next()? {
            Ok(batch) => Some(batch),
            Err(_) => {
                self.torn = true;
                None
            }
        }
    }
}

/// The rows within the scan's bounds.
pub(super) fn batches(
    path: &Path,
    contents: Contents,
    scan: &Scan,
) -> impl Iterator<Item = Result<RecordBatch, ReadError>> + 'static {
    let (path, scan) = (path.to_owned(), scan.clone());
    contents.map(move |batch| narrow(&batch, &scan).map_err(|cause| ReadError::broken(&path, cause)))
}
