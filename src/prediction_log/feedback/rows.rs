//! Feedback as rows of its table.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, Float64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder, UInt32Builder, UInt64Builder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::item::{Credit, Feedback, FeedbackId, Subject, Value};
use crate::inference::PredictionId;

/// One item with what is known of it when it is written.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub id: FeedbackId,
    /// As it was told.
    pub feedback: Feedback,
    /// The prediction that it is about: the one that it names, or the one that its request and row stand for.
    pub prediction: Option<PredictionId>,
    pub credit: Option<Credit>,
}

/// The columns of the table, in their order.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fields = vec![
            Field::new("feedback_id", DataType::Utf8, false),
            Field::new("prediction_id", DataType::Utf8, true),
            Field::new("request_id", DataType::Utf8, true),
            Field::new("row_index", DataType::UInt32, true),
            Field::new("name", DataType::Utf8, false),
            Field::new("value_number", DataType::Float64, true),
            Field::new("value_label", DataType::Utf8, true),
            Field::new("event_time", time(), false),
            Field::new("received_time", time(), false),
            Field::new("source", DataType::Utf8, true),
            Field::new("weight", DataType::Float64, true),
            Field::new("model_name", DataType::Utf8, true),
            Field::new("model_version", DataType::UInt64, true),
            Field::new("arm", DataType::Utf8, true),
        ];
        Arc::new(Schema::new(fields))
    });
    SCHEMA.clone()
}

/// The rows as one batch under `schema`, which has the columns of [`schema`] and may have metadata of its own.
///
/// # Errors
/// `ArrowError` for a schema with other columns.
pub fn batch<'a>(schema: &SchemaRef, rows: impl IntoIterator<Item = &'a Row>) -> Result<RecordBatch, ArrowError> {
    let mut columns = Columns::default();
    rows.into_iter().for_each(|row| columns.push(row));
    RecordBatch::try_new(schema.clone(), columns.finish())
}

#[derive(Default)]
struct Columns {
    feedback_id: StringBuilder,
    prediction_id: StringBuilder,
    request_id: StringBuilder,
    row_index: UInt32Builder,
    name: StringBuilder,
    value_number: Float64Builder,
    value_label: StringBuilder,
    event_time: TimestampMicrosecondBuilder,
    received_time: TimestampMicrosecondBuilder,
    source: StringBuilder,
    weight: Float64Builder,
    model_name: StringBuilder,
    model_version: UInt64Builder,
    arm: StringBuilder,
}

impl Columns {
    fn push(&mut self, row: &Row) {
        let Row { id, feedback, prediction, credit } = row;
        self.feedback_id.append_value(id.to_string());
        self.prediction_id.append_option(prediction.map(|id| id.to_string()));
        let request = match &feedback.subject {
            Subject::Request { id, row } => Some((id, *row)),
            Subject::Prediction(_) => None,
        };
        self.request_id.append_option(request.map(|(id, _)| id));
        self.row_index.append_option(request.map(|(_, row)| row));
        self.name.append_value(&feedback.name);
        let (number, label) = match &feedback.value {
            Value::Number(number) => (Some(*number), None),
            Value::Label(label) => (None, Some(label)),
        };
        self.value_number.append_option(number);
        self.value_label.append_option(label);
        self.event_time.append_value(feedback.event_us);
        self.received_time.append_value(feedback.received_us);
        self.source.append_option(feedback.source.as_ref());
        self.weight.append_option(feedback.weight);
        self.model_name.append_option(credit.as_ref().map(|credit| &credit.model));
        self.model_version.append_option(credit.as_ref().map(|credit| credit.version));
        self.arm.append_option(credit.as_ref().map(|credit| credit.arm.name()));
    }

    /// In the order of [`schema`].
    fn finish(mut self) -> Vec<ArrayRef> {
        vec![
            Arc::new(self.feedback_id.finish()),
            Arc::new(self.prediction_id.finish()),
            Arc::new(self.request_id.finish()),
            Arc::new(self.row_index.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.value_number.finish()),
            Arc::new(self.value_label.finish()),
            Arc::new(self.event_time.finish().with_timezone("UTC")),
            Arc::new(self.received_time.finish().with_timezone("UTC")),
            Arc::new(self.source.finish()),
            Arc::new(self.weight.finish()),
            Arc::new(self.model_name.finish()),
            Arc::new(self.model_version.finish()),
            Arc::new(self.arm.finish()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt64Type};

    use super::*;
    use crate::routing::Arm;

    #[test]
    fn each_item_is_a_row_with_what_is_known_of_it() {
        let prediction: PredictionId = "019ca949-0a80-8001-8000-008000000001".parse().unwrap();
        let credited = Feedback {
            subject: Subject::Request { id: "r".to_owned(), row: 3 },
            name: "click".to_owned(),
            value: Value::Number(0.5),
            event_us: 1,
            received_us: 2,
            source: Some("app".to_owned()),
            weight: Some(4.0),
        };
        let unknown = Feedback {
            subject: Subject::Prediction(prediction),
            value: Value::Label("cat".to_owned()),
            ..credited.clone()
        };
        let credit = Credit { model: "m".to_owned(), version: 7, arm: Arm::Candidate };
        let rows = [
            Row { id: credited.id(), feedback: credited, prediction: Some(prediction), credit: Some(credit) },
            Row { id: unknown.id(), feedback: unknown, prediction: Some(prediction), credit: None },
        ];
        let batch = batch(&schema(), &rows).unwrap();
        let text = |name: &str, row: usize| {
            let column = batch.column_by_name(name).unwrap().as_string::<i32>();
            (!column.is_null(row)).then(|| column.value(row).to_owned())
        };
        assert_eq!(text("feedback_id", 0), Some(rows[0].id.to_string()));
        assert_eq!(text("prediction_id", 0), Some(prediction.to_string()));
        assert_eq!((text("request_id", 0), text("request_id", 1)), (Some("r".to_owned()), None));
        assert_eq!((text("value_label", 0), text("value_label", 1)), (None, Some("cat".to_owned())));
        assert_eq!((text("model_name", 0), text("model_name", 1)), (Some("m".to_owned()), None));
        assert_eq!((text("arm", 0), text("arm", 1)), (Some("candidate".to_owned()), None));
        let received = batch.column_by_name("received_time").unwrap().as_primitive::<TimestampMicrosecondType>();
        assert_eq!(received.value(1), 2);
        let weight = batch.column_by_name("weight").unwrap().as_primitive::<Float64Type>();
        assert_eq!(weight.value(0), 4.0);
        let version = batch.column_by_name("model_version").unwrap().as_primitive::<UInt64Type>();
        assert!((version.value(0), version.is_null(1)) == (7, true));
    }
}
