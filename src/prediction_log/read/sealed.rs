//! One sealed file.

use std::fs::File;
use std::io;
use std::path::Path;

use arrow::array::{Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Metadata;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::error::ReadError;
use super::rows::{check_version, narrow};
use super::scan::Scan;

/// Rows of a batch as it is read.
pub(super) const BATCH_ROWS: usize = 8192;

/// A sealed file whose footer is read.
pub(super) type Opened = ParquetRecordBatchReaderBuilder<File>;

/// Opens a file and checks that this program knows its schema version. `None`: it is gone.
///
/// # Errors
/// `Newer`, `Broken`, `Io`.
pub(super) fn open(path: &Path) -> Result<Option<Opened>, ReadError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(ReadError::io(path, cause)),
    };
    let opened = Opened::try_new(file).map_err(|cause| ReadError::broken(path, cause))?;
    check_version(path, &metadata(&opened))?;
    Ok(Some(opened))
}

/// The key-value metadata of a file: that of Parquet, and of the Arrow schema for what Parquet's lacks.
pub(super) fn metadata(opened: &Opened) -> Metadata {
    let mut found = opened.schema().metadata().clone();
    let written = opened.metadata().file_metadata().key_value_metadata();
    let written = written.into_iter().flatten();
    found.extend(written.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))));
    found
}

/// The rows within the scan's bounds. Row groups that the statistics of the time column rule out are not read.
pub(super) fn batches(
    path: &Path,
    opened: Opened,
    scan: &Scan,
) -> Result<impl Iterator<Item = Result<RecordBatch, ReadError>> + 'static, ReadError> {
    let groups = row_groups(&opened, scan).map_err(|cause| ReadError::broken(path, cause))?;
    let mask = projection(&opened, scan);
    let reader = opened.with_batch_size(BATCH_ROWS).with_projection(mask).with_row_groups(groups).build();
    let reader = reader.map_err(|cause| ReadError::broken(path, cause))?;
    let (path, scan) = (path.to_owned(), scan.clone());
    Ok(reader.map(move |batch| {
        let batch = batch.map_err(|cause| ReadError::broken(&path, cause))?;
        narrow(&batch, &scan).map_err(|cause| ReadError::broken(&path, cause))
    }))
}

/// The row groups that may hold rows of the scan's time.
fn row_groups(opened: &Opened, scan: &Scan) -> parquet::errors::Result<Vec<usize>> {
    let groups = opened.metadata().row_groups();
    let all = || (0..groups.len()).collect();
    let column = scan.table.time_column();
    if (scan.since_us.is_none() && scan.until_us.is_none()) || opened.schema().field_with_name(column).is_err() {
        return Ok(all());
    }
    let statistics = StatisticsConverter::try_new(column, opened.schema(), opened.parquet_schema())?;
    let least = statistics.row_group_mins(groups)?;
    let most = statistics.row_group_maxes(groups)?;
    let as_times = |array: &dyn Array| array.as_any().downcast_ref::<TimestampMicrosecondArray>().cloned();
    let (Some(least), Some(most)) = (as_times(&least), as_times(&most)) else { return Ok(all()) };
    let may_hold = |group: &usize| {
        let before = least.is_valid(*group) && scan.until_us.is_some_and(|until| least.value(*group) >= until);
        let after = most.is_valid(*group) && scan.since_us.is_some_and(|since| most.value(*group) < since);
        !before && !after
    };
    Ok((0..groups.len()).filter(may_hold).collect())
}

/// The columns asked for, and the time that rows are chosen by.
fn projection(opened: &Opened, scan: &Scan) -> ProjectionMask {
    let Some(columns) = &scan.columns else { return ProjectionMask::all() };
    let wanted = |name: &str| name == scan.table.time_column() || columns.iter().any(|column| column == name);
    let fields = opened.schema().fields().iter().enumerate();
    let roots = fields.filter(|(_, field)| wanted(field.name())).map(|(at, _)| at);
    ProjectionMask::roots(opened.parquet_schema(), roots)
}
