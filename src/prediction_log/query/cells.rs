//! Cells of a batch as JSON, for people and programs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Number, Value};

/// A row as an object in the order of its columns.
pub fn object(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    cells.map(|(field, column)| (field.name().clone(), cell(column, row))).collect()
}

/// One cell. NaN and infinities, which JSON lacks, are strings; times are RFC 3339 to the µs.
pub fn cell(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row)),
        DataType::Float64 => double(array.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            moment(array.as_primitive::<TimestampMicrosecondType>().value(row)).into()
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row)),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), cell(column, row))).collect()
        }
        _ => array_value_to_string(array, row).unwrap_or_default().into(),
    }
}

/// A cell for people: text as it is, nothing as `-`.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// Unix time in µs as RFC 3339.
pub fn moment(us: i64) -> String {
    let since = Duration::from_micros(us.unsigned_abs());
    let at = if us < 0 { UNIX_EPOCH.checked_sub(since) } else { UNIX_EPOCH.checked_add(since) };
    // What lies before 1970 or after 9999 can't be written so.
    let is_written =
        |at: &SystemTime| at.duration_since(UNIX_EPOCH).is_ok_and(|since| since.as_secs() < 253_402_300_800);
    at.filter(is_written).map_or_else(|| format!("{us} µs"), |at| humantime::format_rfc3339_micros(at).to_string())
}

fn list(items: &ArrayRef) -> Value {
    (0..items.len()).map(|at| cell(items, at)).collect()
}

/// The shortest decimal that reads as this number: the FP64 of the same value would show digits that it doesn't have.
fn float(value: f32) -> Value {
    if value.is_finite() { double(value.to_string().parse().unwrap_or(f64::from(value))) } else { double(value.into()) }
}

/// A number, or the name of what JSON has no number for.
pub fn double(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::read::tests::fixture::{SEVEN_US, predictions, row};

    #[test]
    fn a_row_reads_as_it_was_written() {
        let mut failed = row(1);
        (failed.error, failed.x[1]) = (Some("no"), f32::NAN);
        let found = object(&predictions(&[row(0), failed]), 1);
        assert_eq!(found["ts"], "2026-03-01T07:00:01.000000Z");
        assert_eq!((&found["model_version"], &found["in_width"]), (&Value::from(1), &Value::from(0.5)));
        assert_eq!(found["in_x"], serde_json::json!([1.0, "NaN", -1.0, 2.0]));
        assert_eq!((text(&found["out_label"]), text(&found["error"])), ("-".to_owned(), "no".to_owned()));
        assert_eq!(object(&predictions(&[row(10)]), 0)["out_score"], Value::from(0.1));
    }

    #[test]
    fn moments_outside_the_calendar_stay_numbers() {
        assert_eq!(moment(SEVEN_US + 1), "2026-03-01T07:00:00.000001Z");
        assert_eq!((moment(-1), moment(i64::MAX)), ("-1 µs".to_owned(), "9223372036854775807 µs".to_owned()));
    }
}
