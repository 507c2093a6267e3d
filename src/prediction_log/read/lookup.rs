//! One row by its name.

use std::path::Path;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowPredicateFn, RowFilter};

use super::error::ReadError;
use super::listing::{Source, list};
use super::scan::Scan;
use super::sealed;
use super::typed::texts;
use crate::inference::PredictionId;

/// How long after its id was given a prediction may have ended, beside the slack of folders, in µs.
const LONGEST_REQUEST_US: i64 = 3_600_000_000;

const ID_COLUMN: &str = "prediction_id";

/// The row of a prediction in a table of them, by the time in its id and the bloom filters of the files of that time; a
/// batch of one row. `None` where the log doesn't have it.
///
/// # Errors
/// As [`Scan::batches`].
pub fn lookup(everything: &Scan, id: PredictionId) -> Result<Option<RecordBatch>, ReadError> {
    let time_us = i64::try_from(id.time_ms()).unwrap_or(i64::MAX / 1000).saturating_mul(1000);
    let until = time_us.saturating_add(LONGEST_REQUEST_US);
    let scan = Scan { since_us: Some(time_us), until_us: Some(until), ..everything.clone() };
    let wanted = id.to_string();
    for source in list(&scan)? {
        let found = match source {
            Source::Sealed { path, .. } => everything.tolerate(in_file(&path, &wanted))?.flatten(),
            source => in_batches(source, everything, &wanted)?,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn in_batches(source: Source, scan: &Scan, wanted: &str) -> Result<Option<RecordBatch>, ReadError> {
    let path = source.path().to_owned();
    for batch in source.batches(scan)? {
        let batch = batch?;
        let found = is_wanted(&batch, wanted).and_then(|kept| filter_record_batch(&batch, &kept));
        let found = found.map_err(|cause| ReadError::broken(&path, cause))?;
        if found.num_rows() > 0 {
            return Ok(Some(found.slice(0, 1)));
        }
    }
    Ok(None)
}

fn in_file(path: &Path, wanted: &str) -> Result<Option<RecordBatch>, ReadError> {
    let Some(opened) = sealed::open(path)? else { return Ok(None) };
    in_sealed(opened, wanted).map_err(|cause| ReadError::broken(path, cause))
}

/// Reads the other columns of no row but the one that is wanted.
fn in_sealed(opened: sealed::Opened, wanted: &str) -> Result<Option<RecordBatch>, Box<dyn std::error::Error>> {
    let leaves = opened.parquet_schema().columns().iter();
    let Some(column) = leaves.clone().position(|leaf| leaf.path().string() == ID_COLUMN) else { return Ok(None) };
    let mut groups = vec![];
    for group in 0..opened.metadata().num_row_groups() {
        let filter = opened.get_row_group_column_bloom_filter(group, column)?;
        if filter.is_none_or(|filter| filter.check(wanted)) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let mask = ProjectionMask::leaves(opened.parquet_schema(), [column]);
    let name = wanted.to_owned();
    let filter = ArrowPredicateFn::new(mask, move |batch| is_wanted(&batch, &name));
    let filter = RowFilter::new(vec![Box::new(filter)]);
    let reader = opened.with_row_groups(groups).with_row_filter(filter).build()?;
    for batch in reader {
        let batch = batch?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch.slice(0, 1)));
        }
    }
    Ok(None)
}

fn is_wanted(batch: &RecordBatch, wanted: &str) -> Result<BooleanArray, ArrowError> {
    let ids = texts(batch, ID_COLUMN);
    let ids = ids.ok_or_else(|| ArrowError::SchemaError(format!("column '{ID_COLUMN}' is missing or no text")))?;
    Ok(ids.iter().map(|id| Some(id == Some(wanted))).collect())
}
