//! What was told of predictions, by the prediction or the request that it is about.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt32Type};

use super::columns::{primitive, text};
use super::{Export, ExportError};
use crate::inference::PredictionId;
use crate::prediction_log::read::Scan;
use crate::prediction_log::table::Table;

/// The truth of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Label {
    Number(f64),
    Text(String),
}

/// The latest feedback on one row.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub label: Label,
    pub weight: Option<f64>,
    /// When it arrived first; Unix time in µs.
    pub received_us: i64,
    /// Decides between two that arrived at once.
    id: u128,
}

impl Told {
    pub fn is_text(&self) -> bool {
        matches!(self.label, Label::Text(_))
    }
}

/// Feedback of one name, known at one moment.
#[derive(Debug, Default)]
pub struct Labels {
    by_prediction: HashMap<PredictionId, Vec<Told>>,
    by_request: HashMap<(String, u32), Vec<Told>>,
    /// Names of other feedback of the model, for the text that says there is none of this one.
    pub others: BTreeSet<String>,
}

/// Names that are remembered.
const MAX_OTHERS: usize = 20;

impl Labels {
    /// Reads the feedback of the model, and that of models that are not known: its prediction says whose it is.
    pub fn read(export: &Export) -> Result<Self, ExportError> {
        let scan = Scan { until_us: Some(export.as_of_us), ..export.table(Table::Feedback) };
        let mut labels = Self::default();
        for batch in scan.batches()? {
            labels.add(&batch?, &export.label)?;
        }
        Ok(labels)
    }

    fn add(&mut self, batch: &RecordBatch, wanted: &str) -> Result<(), ExportError> {
        let text = |column| text(batch, column);
        let (names, ids) = (text("name")?, text("feedback_id")?);
        let (predictions, requests) = (text("prediction_id")?, text("request_id")?);
        let texts = text("value_label")?;
        let numbers = primitive::<Float64Type>(batch, "value_number")?;
        let weights = primitive::<Float64Type>(batch, "weight")?;
        let times = primitive::<TimestampMicrosecondType>(batch, "received_time")?;
        let rows = primitive::<UInt32Type>(batch, "row_index")?;
        for row in 0..batch.num_rows() {
            if names.value(row) != wanted {
                if self.others.len() < MAX_OTHERS {
                    self.others.insert(names.value(row).to_owned());
                }
                continue;
            }
            let label = match (numbers.is_valid(row), texts.is_valid(row)) {
                (true, _) => Label::Number(numbers.value(row)),
                (false, true) => Label::Text(texts.value(row).to_owned()),
                (false, false) => continue,
            };
            let weight = weights.is_valid(row).then(|| weights.value(row));
            let id = u128::from_str_radix(ids.value(row), 16).unwrap_or_default();
            let told = Told { label, weight, received_us: times.value(row), id };
            let prediction = predictions.is_valid(row).then(|| predictions.value(row).parse().ok()).flatten();
            if let Some(prediction) = prediction {
                keep(self.by_prediction.entry(prediction).or_default(), told);
            } else if requests.is_valid(row) {
                let index = if rows.is_valid(row) { rows.value(row) } else { 0 };
                keep(self.by_request.entry((requests.value(row).to_owned(), index)).or_default(), told);
            }
        }
        Ok(())
    }

    /// The latest feedback on a prediction, told by its id or by its request and row; and whether it is by its id.
    pub fn of(&self, id: PredictionId, request: &str, row: u32) -> Option<(&Told, bool)> {
        let by_id = self.by_prediction.get(&id).and_then(|told| latest(told)).map(|told| (told, true));
        // Most requests are never named: no key is made for those.
        let by_request = || self.by_request.get(&(request.to_owned(), row)).and_then(|told| latest(told));
        let by_request = if self.by_request.is_empty() { None } else { by_request() }.map(|told| (told, false));
        match (by_id, by_request) {
            (Some(a), Some(b)) => Some(if order(b.0) > order(a.0) { b } else { a }),
            (found, other) => found.or(other),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_prediction.is_empty() && self.by_request.is_empty()
    }
}

/// Keeps one of each id: a repetition is no revision, however late it comes.
fn keep(all: &mut Vec<Told>, told: Told) {
    match all.iter_mut().find(|known| known.id == told.id) {
        Some(known) => known.received_us = known.received_us.min(told.received_us),
        None => all.push(told),
    }
}

fn latest(all: &[Told]) -> Option<&Told> {
    all.iter().max_by_key(|told| order(told))
}

fn order(told: &Told) -> (i64, u128) {
    (told.received_us, told.id)
}
