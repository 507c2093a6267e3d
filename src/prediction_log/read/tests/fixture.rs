//! A log in a temporary folder, written as the writer lays it out.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Metadata, Schema};
use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::inference::PredictionId;
use crate::prediction_log::table::*;

/// 2026-03-01T07:00:00Z in µs of Unix time.
pub const SEVEN_US: i64 = 1_772_348_400_000_000;
pub const SECOND_US: i64 = 1_000_000;
pub const HOUR_US: i64 = 3600 * SECOND_US;

/// Rows of `iris`: input `x` of 4 numbers, as columns `in_width` and `in_x`, and outputs `out_label`, `out_score`.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: PredictionId,
    pub request: String,
    pub row: u32,
    pub ts_us: i64,
    pub version: u64,
    pub arm: &'static str,
    pub arm_probability: f32,
    pub error: Option<&'static str>,
    pub sample_probability: f32,
    pub flags: u32,
    pub seq: u64,
    pub width: f64,
    pub x: [f32; 4],
    pub label: &'static str,
    pub score: f32,
}

/// The `n`th row of version 1, `n` seconds after seven.
pub fn row(n: u32) -> Row {
    let ts_us = SEVEN_US + i64::from(n) * SECOND_US;
    Row {
        id: id_at(ts_us, n),
        request: format!("request-{n}"),
        row: 0,
        ts_us,
        version: 1,
        arm: "stable",
        arm_probability: 1.0,
        error: None,
        sample_probability: 1.0,
        flags: 0,
        seq: u64::from(n),
        width: f64::from(n) / 2.0,
        x: [n as f32, 0.5, -1.0, 2.0],
        label: if n.is_multiple_of(2) { "even" } else { "odd" },
        score: n as f32 / 100.0,
    }
}

pub fn id_at(ts_us: i64, n: u32) -> PredictionId {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(ts_us as u64);
    PredictionId::new(time, 3, 1, 0, u64::from(n) << 10)
}

/// Feedback about a prediction.
#[derive(Debug, Clone)]
pub struct Told {
    pub id: String,
    pub prediction: Option<PredictionId>,
    pub request: Option<(String, u32)>,
    pub name: &'static str,
    pub number: Option<f64>,
    pub label: Option<&'static str>,
    /// `None`: when it arrived.
    pub event_us: Option<i64>,
    pub received_us: i64,
    pub weight: Option<f64>,
}

pub fn told(n: u32, prediction: PredictionId, number: f64) -> Told {
    Told {
        id: format!("{n:032x}"),
        prediction: Some(prediction),
        request: None,
        name: "y",
        number: Some(number),
        label: None,
        event_us: None,
        received_us: SEVEN_US + i64::from(n) * SECOND_US,
        weight: None,
    }
}

pub fn predictions(rows: &[Row]) -> RecordBatch {
    let text = |of: &dyn Fn(&Row) -> String| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<StringArray>())
    };
    let maybe =
        |of: &dyn Fn(&Row) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let u32s = |of: &dyn Fn(&Row) -> u32| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<UInt32Array>())
    };
    let u64s = |of: &dyn Fn(&Row) -> u64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<UInt64Array>())
    };
    let f32s = |of: &dyn Fn(&Row) -> f32| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<Float32Array>())
    };
    let times = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let u16s = |value: Option<u16>| -> ArrayRef { Arc::new(rows.iter().map(|_| value).collect::<UInt16Array>()) };
    let item = Arc::new(Field::new_list_field(DataType::Float32, true));
    let values: Float32Array = rows.iter().flat_map(|row| row.x).map(Some).collect();
    let vectors = FixedSizeListArray::new(item, 4, Arc::new(values), None);
    let nothing: ArrayRef = Arc::new(rows.iter().map(|_| None::<u64>).collect::<UInt64Array>());
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("prediction_id", text(&|row| row.id.to_string()), false),
        ("request_id", text(&|row| row.request.clone()), false),
        ("row_index", u32s(&|row| row.row), false),
        ("n_rows", u32s(&|_| 1), false),
        ("ts", times(&|row| row.ts_us), false),
        ("ts_received", times(&|row| row.ts_us - 500), false),
        ("route", text(&|_| "iris".to_owned()), false),
        ("model_name", text(&|_| "iris".to_owned()), false),
        ("model_version", u64s(&|row| row.version), false),
        ("model_digest", text(&|_| "ab".repeat(32)), false),
        ("arm", text(&|row| row.arm.to_owned()), false),
        ("arm_probability", f32s(&|row| row.arm_probability), false),
        ("rollout_id", maybe(&|_| None), true),
        ("weight_bp", u16s(None), true),
        ("control_bp", u16s(None), true),
        ("key_hash", nothing, true),
        ("assigned_by", text(&|_| "none".to_owned()), false),
        ("status", text(&|row| if row.error.is_some() { "error" } else { "ok" }.to_owned()), false),
        ("error", maybe(&|row| row.error.map(str::to_owned)), true),
        ("total_us", u32s(&|_| 500), false),
        ("queue_us", u32s(&|_| 100), false),
        ("compute_us", u32s(&|_| 300), false),
        ("batch_size", u32s(&|_| 1), false),
        ("sample_probability", f32s(&|row| row.sample_probability), false),
        ("flags", u32s(&|row| row.flags), false),
        ("gateway", u16s(Some(3)), false),
        ("incarnation", u64s(&|_| 1000), false),
        ("seq", u64s(&|row| row.seq), false),
        ("in_width", Arc::new(rows.iter().map(|row| Some(row.width)).collect::<Float64Array>()), true),
        ("in_x", Arc::new(vectors), true),
        ("out_label", maybe(&|row| row.error.is_none().then(|| row.label.to_owned())), true),
        (
            "out_score",
            Arc::new(rows.iter().map(|row| row.error.is_none().then_some(row.score)).collect::<Float32Array>()),
            true,
        ),
    ];
    batch(columns)
}

pub fn feedback(rows: &[Told]) -> RecordBatch {
    let text =
        |of: &dyn Fn(&Told) -> Option<String>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<StringArray>()) };
    let numbers =
        |of: &dyn Fn(&Told) -> Option<f64>| -> ArrayRef { Arc::new(rows.iter().map(of).collect::<Float64Array>()) };
    let times = |of: &dyn Fn(&Told) -> i64| -> ArrayRef {
        Arc::new(rows.iter().map(|row| Some(of(row))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    let indices: UInt32Array = rows.iter().map(|row| row.request.as_ref().map(|(_, row)| *row)).collect();
    let versions: UInt64Array = rows.iter().map(|row| row.prediction.map(|_| 1)).collect();
    batch(vec![
        ("feedback_id", text(&|row| Some(row.id.clone())), false),
        ("prediction_id", text(&|row| row.prediction.map(|id| id.to_string())), true),
        ("request_id", text(&|row| row.request.as_ref().map(|(id, _)| id.clone())), true),
        ("row_index", Arc::new(indices), true),
        ("name", text(&|row| Some(row.name.to_owned())), false),
        ("value_number", numbers(&|row| row.number), true),
        ("value_label", text(&|row| row.label.map(str::to_owned)), true),
        ("event_time", times(&|row| row.event_us.unwrap_or(row.received_us)), false),
        ("received_time", times(&|row| row.received_us), false),
        ("source", text(&|_| None), true),
        ("weight", numbers(&|row| row.weight), true),
        ("model_name", text(&|row| row.prediction.map(|_| "iris".to_owned())), true),
        ("model_version", Arc::new(versions), true),
        ("arm", text(&|row| row.prediction.map(|_| "stable".to_owned())), true),
    ])
}

fn batch(columns: Vec<(&str, ArrayRef, bool)>) -> RecordBatch {
    let fields: Vec<Field> =
        columns.iter().map(|(name, array, null)| Field::new(*name, array.data_type().clone(), *null)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.into_iter().map(|(_, array, _)| array).collect())
        .unwrap()
}

/// The metadata that every file of the table has, as the writer gives it.
pub fn metadata(table: Table) -> Metadata {
    let mut metadata = Metadata::from([(META_SCHEMA_VERSION, "1"), (META_TABLE, table.name()), (META_MODEL, "iris")]);
    if table == Table::Predictions {
        metadata.insert(META_VERSION, "1");
    }
    metadata
}

/// Writes a sealed file under `folders` of the table; a row group for each batch, and a bloom filter on the id.
pub fn seal(data_dir: &Path, table: Table, file: &str, batches: &[RecordBatch], more: &[(&str, &str)]) -> PathBuf {
    let path = data_dir.join(table.name()).join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut metadata = metadata(table);
    metadata.extend(more.iter().copied());
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone())).collect();
    let id = match table {
        Table::Predictions => "prediction_id",
        Table::Feedback => "feedback_id",
    };
    let properties = WriterProperties::builder()
        .set_key_value_metadata(Some(pairs))
        .set_column_bloom_filter_enabled(id.into(), true)
        .build();
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batches[0].schema(), Some(properties)).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    path
}

/// Writes a segment of these batches that nobody ended.
pub fn segment(data_dir: &Path, table: Table, stem: &str, batches: &[RecordBatch]) -> PathBuf {
    segment_of(data_dir, table, stem, batches, &[])
}

/// One whose metadata says something else, or more.
pub fn segment_of(
    data_dir: &Path,
    table: Table,
    stem: &str,
    batches: &[RecordBatch],
    more: &[(&str, &str)],
) -> PathBuf {
    let path = data_dir.join(WAL_FOLDER).join(table.name()).join(format!("{stem}.{SEGMENT_EXTENSION}"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut metadata = metadata(table);
    metadata.extend(more.iter().copied());
    let schema = Arc::new(batches[0].schema().as_ref().clone().with_metadata(metadata));
    let mut writer = StreamWriter::try_new(File::create(&path).unwrap(), &schema).unwrap();
    for batch in batches {
        writer.write(&RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).unwrap()).unwrap();
    }
    path
}

/// Overwrites a column of a sealed file's first row group; its footer stays whole.
pub fn damage(path: &Path, column: &str) {
    let opened = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let chunks = opened.metadata().row_group(0).columns();
    let chunk = chunks.iter().find(|chunk| chunk.column_path().parts()[0] == column).unwrap();
    let (start, length) = chunk.byte_range();
    let mut bytes = fs::read(path).unwrap();
    bytes[start as usize..(start + length) as usize].fill(0xff);
    fs::write(path, bytes).unwrap();
}

/// The folder of version 1 of `iris` at seven o'clock.
pub const SEVEN: &str = "model=iris/version=1/date=2026-03-01/hour=07";
