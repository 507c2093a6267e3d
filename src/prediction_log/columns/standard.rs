//! The columns that every row has, whatever its model.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{
    ArrayRef, Float32Array, NullBufferBuilder, PrimitiveArray, StringArray, TimestampMicrosecondArray, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, TimeUnit, UInt16Type, UInt64Type};

use super::elements::Texts;
use super::rows::RowContext;
use crate::inference::PredictionId;
use crate::prediction_log::entry::{Entry, Outcome, RolloutPart};
use crate::prediction_log::redaction::{hmac_text, mask};
use crate::prediction_log::settings::Redaction;

/// Standard columns that hold what a caller may have put there, and can be redacted.
pub const REDACTABLE: [&str; 3] = [REQUEST_ID, KEY_HASH, ERROR];
pub const REQUEST_ID: &str = "request_id";
pub const KEY_HASH: &str = "key_hash";
pub const ERROR: &str = "error";
pub const FLAGS: &str = "flags";
pub const N_ROWS: &str = "n_rows";

/// Longest id of a client and longest text of an error in a row, in bytes; what is longer is cut.
pub const MAX_TEXT_BYTES: usize = 1024;

/// The standard columns, in a row's order.
pub fn fields() -> Vec<Field> {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false);
    let number = |name: &str, data_type| Field::new(name, data_type, false);
    let maybe = |name: &str, data_type| Field::new(name, data_type, true);
    vec![
        text("prediction_id"),
        text(REQUEST_ID),
        number("row_index", DataType::UInt32),
        number(N_ROWS, DataType::UInt32),
        time("ts"),
        time("ts_received"),
        text("route"),
        text("model_name"),
        number("model_version", DataType::UInt64),
        text("model_digest"),
        text("arm"),
        number("arm_probability", DataType::Float32),
        maybe("rollout_id", DataType::Utf8),
        maybe("weight_bp", DataType::UInt16),
        maybe("control_bp", DataType::UInt16),
        maybe(KEY_HASH, DataType::UInt64),
        text("assigned_by"),
        text("status"),
        maybe(ERROR, DataType::Utf8),
        number("total_us", DataType::UInt32),
        number("queue_us", DataType::UInt32),
        number("compute_us", DataType::UInt32),
        number("batch_size", DataType::UInt32),
        number("sample_probability", DataType::Float32),
        number(FLAGS, DataType::UInt32),
        number("gateway", DataType::UInt16),
        number("incarnation", DataType::UInt64),
        number("seq", DataType::UInt64),
    ]
}

/// The rules that redact standard columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StandardRules {
    pub request_id: Option<Redaction>,
    pub drop_key_hash: bool,
    pub drop_error: bool,
}

/// What a row has beside its entry.
#[derive(Debug, Clone, Copy)]
pub struct RowFacts {
    pub index: usize,
    pub seq: u64,
    pub sample_probability: f32,
    pub flags: u32,
}

/// The standard columns of a batch, kept as rows until they are turned into arrays.
#[derive(Debug, Default)]
pub struct StandardBuilder {
    rules: StandardRules,
    request_ids: Texts,
    rows: Vec<Row>,
    text_bytes: usize,
}

#[derive(Debug)]
struct Row {
    id: PredictionId,
    facts: RowFacts,
    n_rows: u32,
    ts_us: i64,
    ts_received_us: i64,
    route: Option<Arc<str>>,
    arm: &'static str,
    arm_probability: f32,
    rollout: Option<RolloutPart>,
    error: Option<Box<str>>,
    is_error: bool,
    total_us: u32,
    queue_us: u32,
    compute_us: u32,
    batch_size: u32,
    gateway: u16,
    incarnation: u64,
}

/// The version that rows are of, as columns name it.
pub struct VersionNames<'a> {
    pub model: &'a str,
    pub version: u64,
    pub digest: &'a str,
}

impl StandardBuilder {
    pub fn new(rules: StandardRules) -> Self {
        Self { rules, ..Self::default() }
    }

    pub fn push(&mut self, entry: &Entry, facts: RowFacts, context: &RowContext<'_>) {
        let id = if entry.client_id.is_empty() { entry.request_id.as_str() } else { &entry.client_id };
        self.push_request_id(cut(id), context.hmac_key);
        let error = match &entry.outcome {
            Outcome::Failed(text) if !self.rules.drop_error => Some(cut(text).into()),
            _ => None,
        };
        self.text_bytes += error.as_deref().map_or(0, str::len) + entry.route.as_deref().map_or(0, str::len);
        self.rows.push(Row {
            id: entry.id.row(facts.index as u64),
            facts,
            n_rows: u32::try_from(entry.rows).unwrap_or(u32::MAX),
            ts_us: unix_us(entry.ended),
            ts_received_us: unix_us(entry.ended.checked_sub(entry.total).unwrap_or(UNIX_EPOCH)),
            route: entry.route.clone(),
            arm: entry.arm.name(),
            arm_probability: entry.arm_probability,
            rollout: entry.rollout.clone(),
            error,
            is_error: entry.outcome != Outcome::Answered,
            total_us: whole_us(entry.total),
            queue_us: whole_us(entry.queue),
            compute_us: whole_us(entry.compute),
            batch_size: entry.batch_size,
            gateway: context.gateway,
            incarnation: context.incarnation,
        });
    }

    fn push_request_id(&mut self, id: &str, hmac_key: &[u8]) {
        match self.rules.request_id {
            Some(Redaction::Drop) => self.request_ids.push(""),
            Some(Redaction::Hmac) => self.request_ids.push(&hmac_text(hmac_key, id.as_bytes())),
            Some(Redaction::Mask { keep_last }) => {
                let mut masked = String::new();
                mask(id, keep_last, &mut masked);
                self.request_ids.push(&masked);
            }
            Some(Redaction::Round(_)) | None => self.request_ids.push(id),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of the arrays, less the names that all rows share.
    pub fn bytes(&self) -> usize {
        // An id, some 100 bytes of numbers and the ends of the texts.
        const ROW_BYTES: usize = 36 + 100 + 9 * size_of::<i32>();
        self.rows.len() * ROW_BYTES + self.request_ids.bytes() + self.text_bytes
    }

    /// The arrays, in the order of [`fields`]. Begins anew.
    pub fn finish(&mut self, names: &VersionNames<'_>) -> Vec<ArrayRef> {
        let rows = &self.rows;
        let drop_key = self.rules.drop_key_hash;
        let weights = |row: &Row| row.rollout.as_ref().map(|part| part.weights);
        let key = |row: &Row| row.rollout.as_ref().and_then(|part| part.key).filter(|_| !drop_key);
        let u32s = |of: fn(&Row) -> u32| -> ArrayRef { Arc::new(UInt32Array::from_iter_values(rows.iter().map(of))) };
        let f32s = |of: fn(&Row) -> f32| -> ArrayRef { Arc::new(Float32Array::from_iter_values(rows.iter().map(of))) };
        let u64s = |of: fn(&Row) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(of))) };
        let times = |of: fn(&Row) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(rows.iter().map(of)).with_timezone("UTC"))
        };
        let version = UInt64Array::from_iter_values(rows.iter().map(|_| names.version));
        let arrays = vec![
            ids(rows),
            Arc::new(self.request_ids.finish(None)),
            u32s(|row| row.facts.index as u32),
            u32s(|row| row.n_rows),
            times(|row| row.ts_us),
            times(|row| row.ts_received_us),
            texts(rows, |row| row.route.as_deref().unwrap_or(names.model)),
            texts(rows, |_| names.model),
            Arc::new(version),
            texts(rows, |_| names.digest),
            texts(rows, |row| row.arm),
            f32s(|row| row.arm_probability),
            maybe_texts(rows, |row| row.rollout.as_ref().map(|part| &*part.id)),
            maybe_numbers::<UInt16Type>(rows, |row| weights(row).map(|weights| weights.candidate())),
            maybe_numbers::<UInt16Type>(rows, |row| weights(row).map(|weights| weights.control())),
            maybe_numbers::<UInt64Type>(rows, key),
            texts(rows, |row| assigned_by(row.rollout.as_ref())),
            texts(rows, |row| if row.is_error { "error" } else { "ok" }),
            maybe_texts(rows, |row| row.error.as_deref()),
            u32s(|row| row.total_us),
            u32s(|row| row.queue_us),
            u32s(|row| row.compute_us),
            u32s(|row| row.batch_size),
            f32s(|row| row.facts.sample_probability),
            u32s(|row| row.facts.flags),
            Arc::new(UInt16Array::from_iter_values(rows.iter().map(|row| row.gateway))),
            u64s(|row| row.incarnation),
            u64s(|row| row.facts.seq),
        ];
        // The next batch takes the same memory.
        self.rows.clear();
        self.text_bytes = 0;
        arrays
    }
}

/// What decided the arm.
fn assigned_by(part: Option<&RolloutPart>) -> &'static str {
    match part {
        None => "none",
        Some(part) if part.forced => "forced",
        Some(part) if part.key.is_some() => "key",
        Some(_) => "random",
    }
}

fn ids(rows: &[Row]) -> ArrayRef {
    let mut texts = Texts::with_capacity(rows.len(), rows.len() * 36);
    let mut buffer = [0; 36];
    rows.iter().for_each(|row| texts.push(row.id.text(&mut buffer)));
    Arc::new(texts.finish(None))
}

fn texts<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> &'a str) -> ArrayRef {
    let mut texts = Texts::with_capacity(rows.len(), rows.iter().map(|row| of(row).len()).sum());
    rows.iter().for_each(|row| texts.push(of(row)));
    Arc::new(texts.finish(None))
}

fn maybe_texts<'a>(rows: &'a [Row], of: impl Fn(&'a Row) -> Option<&'a str>) -> ArrayRef {
    let (mut texts, mut nulls) = (Texts::default(), NullBufferBuilder::new(rows.len()));
    for text in rows.iter().map(of) {
        texts.push(text.unwrap_or_default());
        nulls.append(text.is_some());
    }
    let array: StringArray = texts.finish(nulls.finish());
    Arc::new(array)
}

fn maybe_numbers<T: ArrowPrimitiveType>(rows: &[Row], of: impl Fn(&Row) -> Option<T::Native>) -> ArrayRef {
    Arc::new(rows.iter().map(of).collect::<PrimitiveArray<T>>())
}

/// A text's beginning, of at most [`MAX_TEXT_BYTES`].
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

fn unix_us(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

fn whole_us(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}
