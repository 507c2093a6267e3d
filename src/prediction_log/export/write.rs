//! The training set's file: hour by hour, sorted by time and prediction id.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray};
use arrow::compute::{SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{Float32Type, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use sha2::{Digest, Sha256};

use super::columns::{Columns, column, primitive, text};
use super::join::{HOUR_US, Joined};
use super::labels::Label;
use super::standing::RowLabel;
use super::{Export, ExportError, Weights};
use crate::inference::PredictionId;
use crate::prediction_log::read::Scan;

/// The label of a prediction of which nothing was told in time.
const NEGATIVE: Label = Label::Number(0.0);

/// A file that is whole, under a name of its own until it is published.
#[derive(Debug)]
pub struct Written {
    temporary: PathBuf,
    pub rows: u64,
    /// Hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub schema: SchemaRef,
}

/// Writes the rows that the first pass chose.
pub fn write(export: &Export, joined: &Joined<'_>, columns: &Columns, output: &Path) -> Result<Written, ExportError> {
    let schema = columns.schema(export, joined.is_number);
    let temporary = temporary(output);
    let mut written = Written { temporary, rows: 0, sha256: String::new(), bytes: 0, schema: schema.clone() };
    let file = File::create(&written.temporary).map_err(|cause| ExportError::io(output, cause))?;
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties(&schema)))?;
    for hour in &joined.hours {
        let batch = hour_rows(export, joined, columns, (*hour, &schema))?;
        written.rows += batch.num_rows() as u64;
        writer.write(&batch)?;
    }
    writer.into_inner()?.sync_all().map_err(|cause| ExportError::io(output, cause))?;
    let expected = joined.rows.len() as u64;
    if written.rows != expected {
        return Err(ExportError::Changed { expected, got: written.rows });
    }
    (written.sha256, written.bytes) = sha256(&written.temporary)?;
    Ok(written)
}

impl Written {
    /// Gives the file its name.
    pub fn publish(self, output: &Path) -> Result<(), ExportError> {
        fs::rename(&self.temporary, output).map_err(|cause| ExportError::io(output, cause))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // Published, nothing has this name any more.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn temporary(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// Nothing here depends on the machine or the time: the same rows give the same bytes.
fn properties(schema: &SchemaRef) -> WriterProperties {
    let facts = schema.metadata().iter();
    let facts = facts.map(|(key, value)| KeyValue { key: key.clone(), value: Some(value.clone()) }).collect();
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(format!("headgate {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(facts))
        .build()
}

/// The rows of the training set whose predictions ended in this hour since 1970, in their order.
fn hour_rows(
    export: &Export,
    joined: &Joined<'_>,
    columns: &Columns,
    (hour, schema): (i64, &SchemaRef),
) -> Result<RecordBatch, ExportError> {
    let all = export.mature();
    let (start, end) = (hour.saturating_mul(HOUR_US), (hour + 1).saturating_mul(HOUR_US));
    let scan = Scan {
        since_us: Some(all.since_us.map_or(start, |since| since.max(start))),
        until_us: Some(all.until_us.map_or(end, |until| until.min(end))),
        columns: Some(columns.names()),
        ..all
    };
    let mut batches = vec![];
    for batch in scan.batches()? {
        let batch = labelled(export, joined, columns, (&batch?, schema))?;
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
    }
    let rows = concat_batches(schema, &batches)?;
    let by = ["ts", "prediction_id"];
    let by = by.into_iter().filter_map(|name| rows.column_by_name(name));
    let by: Vec<SortColumn> = by.map(|values| SortColumn { values: values.clone(), options: None }).collect();
    Ok(take_record_batch(&rows, &lexsort_to_indices(&by, None)?)?)
}

/// The rows of a batch that are in the training set, as its schema has them.
fn labelled(
    export: &Export,
    joined: &Joined<'_>,
    columns: &Columns,
    (batch, schema): (&RecordBatch, &SchemaRef),
) -> Result<RecordBatch, ExportError> {
    let label_of = |id: Option<&str>| joined.rows.get(&id?.parse::<PredictionId>().ok()?).copied();
    let kept: BooleanArray = text(batch, "prediction_id")?.iter().map(|id| Some(label_of(id).is_some())).collect();
    let batch = filter_record_batch(batch, &kept)?;
    let ids = text(&batch, "prediction_id")?;
    let labels: Vec<RowLabel<'_>> = ids.iter().filter_map(label_of).collect();
    let label: ArrayRef = if joined.is_number {
        let number = |label: &RowLabel<'_>| match label.map_or(&NEGATIVE, |told| &told.label) {
            Label::Number(number) => Some(*number),
            Label::Text(_) => None,
        };
        Arc::new(labels.iter().map(number).collect::<Float64Array>())
    } else {
        let text = |label: &RowLabel<'_>| match label.map_or(&NEGATIVE, |told| &told.label) {
            Label::Text(text) => Some(text.clone()),
            Label::Number(number) => Some(number.to_string()),
        };
        Arc::new(labels.iter().map(text).collect::<StringArray>())
    };
    let weight = weights(export, &batch, &labels)?;
    let own = |column: &'static str| {
        batch.column_by_name(column).cloned().ok_or(ExportError::Column { column, expected: "there" })
    };
    let mut arrays: Vec<ArrayRef> = columns.features.iter().map(|field| column(&batch, field)).collect();
    arrays.push(label);
    if export.negatives.is_some() {
        let source = |label: &RowLabel<'_>| Some(if label.is_some() { "feedback" } else { "implicit" });
        arrays.push(Arc::new(labels.iter().map(source).collect::<StringArray>()));
    }
    arrays.extend([Arc::new(weight), own("prediction_id")?, own("ts")?, own("model_version")?]);
    arrays.extend(columns.outputs.iter().map(|field| column(&batch, field)));
    Ok(RecordBatch::try_new(schema.clone(), arrays)?)
}

fn weights(export: &Export, batch: &RecordBatch, labels: &[RowLabel<'_>]) -> Result<Float64Array, ExportError> {
    let sampled = primitive::<Float32Type>(batch, "sample_probability")?;
    let arm = primitive::<Float32Type>(batch, "arm_probability")?;
    let weight = |(row, label): (usize, &RowLabel<'_>)| {
        let by_chance = match export.weights {
            Weights::Equal => 1.0,
            Weights::Ips => 1.0 / (f64::from(sampled.value(row)) * f64::from(arm.value(row))),
        };
        Some(by_chance * label.and_then(|told| told.weight).unwrap_or(1.0))
    };
    Ok(labels.iter().enumerate().map(weight).collect())
}

/// The digest of a file, hexadecimal, and its length in bytes.
pub fn sha256(path: &Path) -> Result<(String, u64), ExportError> {
    let read = || -> io::Result<(String, u64)> {
        let (mut file, mut hash, mut bytes) = (File::open(path)?, Sha256::new(), 0);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                return Ok((hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), bytes));
            }
            hash.update(&buffer[..got]);
            bytes += got as u64;
        }
    };
    read().map_err(|cause| ExportError::io(path, cause))
}
