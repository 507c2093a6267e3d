//! Rows of the feedback table as feedback again.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt32Type};

use super::item::{Feedback, Subject, Value};

/// The items of a batch with the columns of [`super::rows::schema`]; a row that can't be one is left out.
pub fn items(batch: &RecordBatch) -> Vec<Feedback> {
    (0..batch.num_rows()).filter_map(|row| item(batch, row)).collect()
}

fn item(batch: &RecordBatch, row: usize) -> Option<Feedback> {
    let column = |name: &str| batch.column_by_name(name).filter(|column| column.is_valid(row));
    let text = |name: &str| Some(column(name)?.as_string_opt::<i32>()?.value(row).to_owned());
    let number = |name: &str| Some(column(name)?.as_primitive_opt::<Float64Type>()?.value(row));
    let time_us = |name: &str| Some(column(name)?.as_primitive_opt::<TimestampMicrosecondType>()?.value(row));
    let subject = match text("prediction_id") {
        Some(id) => Subject::Prediction(id.parse().ok()?),
        None => {
            let of_request = column("row_index")?.as_primitive_opt::<UInt32Type>()?.value(row);
            Subject::Request { id: text("request_id")?, row: of_request }
        }
    };
    Some(Feedback {
        subject,
        name: text("name")?,
        value: number("value_number").map(Value::Number).or_else(|| text("value_label").map(Value::Label))?,
        event_us: time_us("event_time")?,
        received_us: time_us("received_time")?,
        source: text("source"),
        weight: number("weight"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction_log::feedback::rows::{Row, batch, schema};

    #[test]
    fn what_was_written_is_read_again() {
        let item = |subject, value| Feedback {
            subject,
            name: "label".to_owned(),
            value,
            event_us: 1,
            received_us: 2,
            source: Some("app".to_owned()),
            weight: None,
        };
        let id = "0198c0de-0000-8fff-8000-004000000001".parse().unwrap();
        let items_in = [
            item(Subject::Prediction(id), Value::Number(3.0)),
            item(Subject::Request { id: "r".to_owned(), row: 7 }, Value::Label("cat".to_owned())),
        ];
        let rows: Vec<Row> = items_in
            .iter()
            .map(|item| Row { id: item.id(), feedback: item.clone(), prediction: None, credit: None })
            .collect();
        let mut back = items(&batch(&schema(), &rows).unwrap());
        assert_eq!(back.len(), 2);
        assert_eq!(back.pop().unwrap(), items_in[1]);
        assert_eq!(back.pop().unwrap(), items_in[0]);
    }
}
