//! What is done with rows whatever file they come from.

use std::path::Path;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Metadata, TimestampMicrosecondType};
use arrow::error::ArrowError;

use super::error::ReadError;
use super::scan::Scan;
use super::typed::primitives;
use crate::prediction_log::table::{META_SCHEMA_VERSION, SCHEMA_VERSION};

/// Refuses a file that a newer program wrote, and one that does not say what wrote it.
pub(super) fn check_version(path: &Path, metadata: &Metadata) -> Result<(), ReadError> {
    let Some(found) = metadata.get(META_SCHEMA_VERSION) else {
        return Err(ReadError::broken(path, format!("it lacks {META_SCHEMA_VERSION}, so it is no file of the log")));
    };
    match found.parse::<u32>() {
        Ok(version) if version <= SCHEMA_VERSION => Ok(()),
        _ => Err(ReadError::Newer { path: path.to_owned(), found: found.clone(), known: SCHEMA_VERSION }),
    }
}

/// The rows within the scan's time, with the columns that it wants in the order of the file.
pub(super) fn narrow(batch: &RecordBatch, scan: &Scan) -> Result<RecordBatch, ArrowError> {
    let batch = within(batch, scan)?;
    let Some(columns) = &scan.columns else { return Ok(batch) };
    let fields = batch.schema();
    let fields = fields.fields().iter().enumerate();
    let wanted: Vec<usize> =
        fields.filter(|(_, field)| columns.iter().any(|column| column == field.name())).map(|(at, _)| at).collect();
    batch.project(&wanted)
}

fn within(batch: &RecordBatch, scan: &Scan) -> Result<RecordBatch, ArrowError> {
    let (since, until) = (scan.since_us.unwrap_or(i64::MIN), scan.until_us.unwrap_or(i64::MAX));
    if scan.since_us.is_none() && scan.until_us.is_none() {
        return Ok(batch.clone());
    }
    let column = scan.table.time_column();
    let times = primitives::<TimestampMicrosecondType>(batch, column);
    let times =
        times.ok_or_else(|| ArrowError::SchemaError(format!("column '{column}' is missing or no timestamp")))?;
    let is_within = |at: usize| times.is_valid(at) && (since..until).contains(&times.value(at));
    let kept: BooleanArray = (0..times.len()).map(|at| Some(is_within(at))).collect();
    filter_record_batch(batch, &kept)
}
