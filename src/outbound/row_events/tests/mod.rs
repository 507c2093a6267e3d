//! Rows as events, to a receiver on a real socket.

mod encoding;
mod pressure;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Float32Array, ListArray, StringArray, StructArray, TimestampMicrosecondArray,
    UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, Field, Int64Type, Schema, TimeUnit};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use super::super::testing::{Answer, Received, Receiver};
use super::*;
use crate::prediction_log::LogConfig;

fn config(url: &str, more: Value) -> EventsConfig {
    let mut settings = json!({ "url": url });
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    LogConfig::of(&json!({ "events": settings })).unwrap().events.unwrap()
}

/// Tries again at once, so that no test waits.
fn impatient() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(1), most: Duration::from_millis(1), ..RetryPolicy::default() }
}

fn start(config: &EventsConfig) -> (RowEvents, CancellationToken) {
    let stop = CancellationToken::new();
    (RowEvents::start_with(config, "/headgate/gateway/7".to_owned(), impatient(), stop.clone()).unwrap(), stop)
}

/// Answers with the first statuses in turn, then as `answer` says.
async fn receiver(first: &[u16], answer: Answer) -> Receiver {
    Receiver::start("/events", first, answer).await
}

/// The event that came next.
async fn next_event(receiver: &mut Receiver) -> (HeaderMap, Bytes) {
    let Received { head, body, .. } = receiver.next().await;
    assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/events"));
    (head.headers, body)
}

/// A column of a tensor, with what the log's schema says of it.
fn noted(name: &str, data_type: &ArrowType, notes: &[(&str, &str)]) -> Field {
    let notes: HashMap<String, String> =
        notes.iter().map(|(key, value)| (format!("headgate.{key}"), (*value).to_owned())).collect();
    Field::new(name, data_type.clone(), true).with_metadata(notes)
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// The columns that every row has and that events are made from.
fn standard(rows: usize) -> Vec<(Field, ArrayRef)> {
    let time = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let times = |from: i64| {
        let values = (0..rows as i64).map(|row| from + row).collect::<Vec<_>>();
        Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC")) as ArrayRef
    };
    let ids: Vec<String> = (0..rows).map(|row| format!("prediction-{row}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let each = |text: &'static str| texts(&vec![text; rows]);
    let column = |name: &str, array: ArrayRef| (Field::new(name, array.data_type().clone(), true), array);
    let mut columns = vec![
        column("prediction_id", texts(&ids)),
        column("request_id", each("request-1")),
        column("model_name", each("digits")),
        column("model_version", Arc::new(UInt64Array::from(vec![3; rows]))),
        column("arm", each("candidate")),
        column("status", each("ok")),
        column("error", Arc::new(StringArray::from(vec![None::<&str>; rows]))),
    ];
    columns.push((Field::new("ts", time.clone(), false), times(1_700_000_000_000_000)));
    columns.push((Field::new("ts_received", time, false), times(1_699_999_999_000_000)));
    columns
}

fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// Rows of a model with one input and one output, each a number.
fn simple(rows: usize) -> RecordBatch {
    let values: ArrayRef = Arc::new(Float32Array::from_iter_values((0..rows).map(|row| row as f32 + 0.1)));
    let notes = |side| [("side", side), ("tensor", "x"), ("datatype", "FP32"), ("cut", "0"), ("row_shape", "[]")];
    let mut columns = standard(rows);
    columns.push((noted("in_x", &ArrowType::Float32, &notes("in")), values.clone()));
    columns.push((noted("out_x", &ArrowType::Float32, &notes("out")), values));
    batch(columns)
}

/// Waits until nothing waits any more, and gives what became of it.
async fn settled(events: &RowEvents) -> EventCounts {
    for _ in 0..6000 {
        let counts = events.load().counts();
        if counts.waiting == 0 {
            return counts;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("events wait for ever: {:?}", events.load().counts());
}

fn counts(waiting: u64, delivered: u64, given_up: u64, dropped: u64) -> EventCounts {
    EventCounts { waiting, delivered, given_up, dropped }
}
