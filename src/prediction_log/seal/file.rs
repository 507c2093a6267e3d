//! A Parquet file on its way to its place: written under a name that no reader takes for a part of the log, then renamed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray, UInt64Array};
use arrow::compute;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::schema::types::ColumnPath;

use crate::prediction_log::disk::{Disk, DiskFile};
use crate::prediction_log::table::{
    META_REPLACES, META_ROWS, META_SEQ_FIRST, META_SEQ_LAST, META_TS_FIRST, META_TS_LAST, TEMPORARY_EXTENSION, Table,
};

/// Most rows of a row group: small enough that a reader skips most of a day by its statistics.
pub const MAX_GROUP_ROWS: usize = 128 << 10;
/// Bytes of one row group before compression, as near as the writer can tell; what is written waits in memory for so long.
const MAX_GROUP_BYTES: usize = 64 << 20;
/// Share of ids that a row group's filter takes for its own though they are not.
const FILTER_ERROR: f64 = 0.01;
const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Columns whose values are all or nearly all different: a dictionary would only be tried and given up.
const DIFFERENT: [&str; 9] = [
    "prediction_id",
    "feedback_id",
    "request_id",
    "ts",
    "ts_received",
    "event_time",
    "received_time",
    "key_hash",
    "seq",
];

/// A file that is being written. Dropped before it is published, it is gone.
pub struct NewFile {
    disk: Arc<dyn Disk>,
    target: PathBuf,
    temporary: PathBuf,
    writer: Option<ArrowWriter<BufWriter<Box<dyn DiskFile>>>>,
    table: Table,
    facts: Facts,
}

/// What the rows of a file have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Facts {
    rows: u64,
    seq: Option<(u64, u64)>,
    /// Unix µs.
    ts: Option<(i64, i64)>,
}

impl NewFile {
    /// Begins a file that will have the name `target`, for rows of this schema, which come sorted.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(disk: &Arc<dyn Disk>, target: &Path, table: Table, schema: &SchemaRef) -> io::Result<Self> {
        let temporary = temporary_path(target);
        // What an earlier try left.
        disk.remove(&temporary)?;
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, disk.create(&temporary)?);
        let options = ArrowWriterOptions::new().with_properties(properties(schema, table));
        let writer = ArrowWriter::try_new_with_options(file, schema.clone(), options);
        let mut new = Self {
            disk: disk.clone(),
            target: target.to_owned(),
            temporary,
            writer: None,
            table,
            facts: Facts::default(),
        };
        new.writer = Some(writer.map_err(io_error)?);
        Ok(new)
    }

    /// Adds rows, which are not earlier than those before.
    ///
    /// # Errors
    /// What the disk says; the file is of no use then.
    pub fn write(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.facts.add(batch, self.table);
        let Some(writer) = &mut self.writer else { return Ok(()) };
        writer.write(batch).map_err(io_error)
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.facts.rows
    }

    /// Ends the file, makes it durable and gives it its name. What had that name is replaced. `replaces` are names, without
    /// ending, of files that this one stands for.
    ///
    /// # Errors
    /// What the disk says. If the file has its name by then, it is whole.
    pub fn publish(mut self, replaces: &[String]) -> io::Result<u64> {
        let done = self.finish(replaces);
        if done.is_err() {
            // On a full disk its room is needed.
            let _ = self.disk.remove(&self.temporary);
        }
        done.map(|()| self.facts.rows)
    }

    fn finish(&mut self, replaces: &[String]) -> io::Result<()> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        for (key, value) in self.facts.metadata(replaces) {
            writer.append_key_value_metadata(KeyValue { key: key.to_owned(), value: Some(value) });
        }
        let mut file = writer.into_inner().map_err(io_error)?;
        file.flush()?;
        file.get_mut().sync()?;
        // No buffer is left to be flushed by force when it goes.
        drop(file.into_parts());
        self.disk.rename(&self.temporary, &self.target)?;
        if let Some(folder) = self.target.parent() {
            self.disk.sync_folder(folder)?;
        }
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        // After its publication nothing has this name any more.
        if let Some(writer) = self.writer.take() {
            drop(writer);
            let _ = self.disk.remove(&self.temporary);
        }
    }
}

/// In the same folder, so that it can be renamed; with a dot before it, since some readers take every other file.
pub fn temporary_path(target: &Path) -> PathBuf {
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{stem}.{TEMPORARY_EXTENSION}"))
}

impl Facts {
    fn add(&mut self, batch: &RecordBatch, table: Table) {
        self.rows += batch.num_rows() as u64;
        if let Some(times) = times(batch, table)
            && let (Some(first), Some(last)) = (compute::min(times), compute::max(times))
        {
            let before = self.ts.unwrap_or((first, last));
            self.ts = Some((before.0.min(first), before.1.max(last)));
        }
        let numbers = batch.column_by_name("seq").and_then(|column| column.as_any().downcast_ref::<UInt64Array>());
        if let Some(numbers) = numbers
            && let (Some(first), Some(last)) = (compute::min(numbers), compute::max(numbers))
        {
            let before = self.seq.unwrap_or((first, last));
            self.seq = Some((before.0.min(first), before.1.max(last)));
        }
    }

    fn metadata(&self, replaces: &[String]) -> Vec<(&'static str, String)> {
        let mut list = vec![(META_ROWS, self.rows.to_string())];
        if let Some((first, last)) = self.seq {
            list.extend([(META_SEQ_FIRST, first.to_string()), (META_SEQ_LAST, last.to_string())]);
        }
        if let Some((first, last)) = self.ts {
            list.extend([(META_TS_FIRST, first.to_string()), (META_TS_LAST, last.to_string())]);
        }
        if !replaces.is_empty() {
            list.push((META_REPLACES, replaces.join(",")));
        }
        list
    }
}

/// The column that the rows are sorted by.
pub fn times(batch: &RecordBatch, table: Table) -> Option<&TimestampMicrosecondArray> {
    batch.column_by_name(table.time_column()).and_then(|column: &ArrayRef| column.as_any().downcast_ref())
}

fn properties(schema: &Schema, table: Table) -> WriterProperties {
    let metadata =
        schema.metadata().iter().map(|(key, value)| KeyValue { key: key.clone(), value: Some(value.clone()) });
    let sorted = schema
        .index_of(table.time_column())
        .ok()
        .and_then(|at| first_leaf(schema, at))
        .map(|column_idx| vec![SortingColumn { column_idx, descending: false, nulls_first: false }]);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).unwrap_or_default();
    let mut builder: WriterPropertiesBuilder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(MAX_GROUP_ROWS))
        .set_max_row_group_bytes(Some(MAX_GROUP_BYTES))
        .set_created_by(format!("headgate {}", env!("CARGO_PKG_VERSION")))
        .set_key_value_metadata(Some(metadata.collect()))
        .set_sorting_columns(sorted);
    for column in DIFFERENT {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    for column in ["ts", "ts_received", "event_time", "received_time", "seq"] {
        builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::DELTA_BINARY_PACKED);
    }
    let ids: &[&str] = match table {
        Table::Predictions => &["prediction_id"],
        Table::Feedback => &["feedback_id", "prediction_id"],
    };
    for id in ids {
        let column = ColumnPath::from(*id);
        builder = builder
            .set_column_bloom_filter_enabled(column.clone(), true)
            .set_column_bloom_filter_fpp(column.clone(), FILTER_ERROR)
            .set_column_bloom_filter_max_ndv(column, MAX_GROUP_ROWS as u64);
    }
    builder.build()
}

/// Level 3 is zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// Which of the file's leaf columns a plain column is, counted over the nested ones before it.
fn first_leaf(schema: &Schema, at: usize) -> Option<i32> {
    let leaves: usize = schema.fields().iter().take(at).map(|field| leaves(field.data_type())).sum();
    i32::try_from(leaves).ok()
}

fn leaves(of: &DataType) -> usize {
    match of {
        DataType::Struct(fields) => fields.iter().map(|field| leaves(field.data_type())).sum(),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => leaves(item.data_type()),
        _ => 1,
    }
}

/// What the disk said, if it was the disk.
fn io_error(cause: ParquetError) -> io::Error {
    match cause {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        cause => io::Error::other(cause),
    }
}

/// The key-value metadata of a sealed file. Reads no more than its end.
///
/// # Errors
/// What the disk says, or that it is no Parquet file.
pub fn metadata_of(path: &Path) -> io::Result<BTreeMap<String, String>> {
    metadata_in(File::open(path)?)
}

/// The names, without ending, of the files that a sealed file of these bytes stands for.
///
/// # Errors
/// That it is no Parquet file.
pub fn replaced_by(bytes: Bytes) -> io::Result<Vec<String>> {
    let metadata = metadata_in(bytes)?;
    let names = metadata.get(META_REPLACES).map(String::as_str).unwrap_or_default();
    Ok(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

fn metadata_in(file: impl ChunkReader + 'static) -> io::Result<BTreeMap<String, String>> {
    let file = SerializedFileReader::new(file).map_err(io_error)?;
    let list = file.metadata().file_metadata().key_value_metadata().into_iter().flatten();
    Ok(list.filter_map(|pair| Some((pair.key.clone(), pair.value.clone()?))).collect())
}
