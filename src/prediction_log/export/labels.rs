//! What was told of predictions, by the prediction or the request that it is about.

use std::collections::{BTreeSet, HashMap};

use arrow::array::{Array, RecordBatch, StringArray, UInt32Array};
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

/// One piece of feedback that is a label.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    pub label: Label,
    pub weight: Option<f64>,
    /// When it happened, and when it arrived first; Unix times in µs.
    event_us: i64,
    received_us: i64,
    /// Decides between two that arrived at once.
    id: u128,
}

impl Told {
    pub fn is_text(&self) -> bool {
        matches!(self.label, Label::Text(_))
    }
}

/// What was told of one row.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'l> {
    /// The latest label.
    pub told: Option<&'l Told>,
    /// When it was seen first, as feedback says or as what was answered shows; Unix time in µs.
    pub seen_us: Option<i64>,
    /// When the last piece that counts arrived; Unix time in µs.
    pub received_us: i64,
}

impl<'l> Said<'l> {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            told: latest(self.told.into_iter().chain(other.told)),
            seen_us: self.seen_us.into_iter().chain(other.seen_us).min(),
            received_us: self.received_us.max(other.received_us),
        }
    }
}

/// Feedback that is a label or says that a prediction was shown, known at one moment.
#[derive(Debug, Default)]
pub struct Labels {
    by_prediction: HashMap<PredictionId, Pieces>,
    by_request: HashMap<(String, u32), Pieces>,
    /// Names of feedback of the model, for the text that says that there is none of another.
    pub names: BTreeSet<String>,
    has_label: bool,
    has_exposure: bool,
}

/// Feedback that names the same.
#[derive(Debug, Default)]
struct Pieces {
    told: Vec<Told>,
    /// When the earliest word that it was shown says that this was, and when that word arrived first; Unix times in µs.
    shown_us: Option<(i64, i64)>,
}

/// Names that are remembered.
const MAX_NAMES: usize = 20;

impl Labels {
    /// Reads the feedback of the model, and that of models that are not known: its prediction says whose it is.
    pub fn read(export: &Export) -> Result<Self, ExportError> {
        let mut scan = Scan { until_us: Some(export.as_of_us), ..export.table(Table::Feedback) };
        if export.negatives.is_some() {
            // No row is better than a false one.
            scan.left_out = None;
        }
        let mut labels = Self::default();
        let whole = |fault| match ExportError::from(fault) {
            ExportError::Damaged(fault) if export.negatives.is_some() => ExportError::DamagedFeedback(fault),
            fault => fault,
        };
        for batch in scan.batches().map_err(whole)? {
            labels.add(&batch.map_err(whole)?, export)?;
        }
        Ok(labels)
    }

    fn add(&mut self, batch: &RecordBatch, export: &Export) -> Result<(), ExportError> {
        let text = |column| text(batch, column);
        let time = |column| primitive::<TimestampMicrosecondType>(batch, column);
        let (names, ids) = (text("name")?, text("feedback_id")?);
        let texts = text("value_label")?;
        let numbers = primitive::<Float64Type>(batch, "value_number")?;
        let weights = primitive::<Float64Type>(batch, "weight")?;
        let (events, receipts) = (time("event_time")?, time("received_time")?);
        let subjects = Subjects::of(batch)?;
        for row in 0..batch.num_rows() {
            let name = names.value(row);
            if self.names.len() < MAX_NAMES && !self.names.contains(name) {
                self.names.insert(name.to_owned());
            }
            let is_exposure = export.exposure() == Some(name);
            if !is_exposure && name != export.label {
                continue;
            }
            let label = match (numbers.is_valid(row), texts.is_valid(row)) {
                (true, _) => Label::Number(numbers.value(row)),
                (false, true) => Label::Text(texts.value(row).to_owned()),
                (false, false) => continue,
            };
            let Some(pieces) = self.pieces(&subjects, row) else { continue };
            let (event_us, received_us) = (events.value(row), receipts.value(row));
            if is_exposure {
                pieces.shown_us = pieces.shown_us.into_iter().chain([(event_us, received_us)]).min();
                self.has_exposure = true;
            } else {
                let weight = weights.is_valid(row).then(|| weights.value(row));
                let id = u128::from_str_radix(ids.value(row), 16).unwrap_or_default();
                keep(&mut pieces.told, Told { label, weight, event_us, received_us, id });
                self.has_label = true;
            }
        }
        Ok(())
    }

    /// Where feedback on its subject is kept.
    fn pieces(&mut self, subjects: &Subjects<'_>, row: usize) -> Option<&mut Pieces> {
        let Subjects { predictions, requests, rows } = subjects;
        let prediction = predictions.is_valid(row).then(|| predictions.value(row).parse().ok()).flatten();
        if let Some(prediction) = prediction {
            return Some(self.by_prediction.entry(prediction).or_default());
        }
        let index = if rows.is_valid(row) { rows.value(row) } else { 0 };
        let request = requests.is_valid(row).then(|| requests.value(row).to_owned())?;
        Some(self.by_request.entry((request, index)).or_default())
    }

    /// What was told of a prediction by its id.
    pub fn on_prediction(&self, id: PredictionId) -> Said<'_> {
        self.by_prediction.get(&id).map(Pieces::said).unwrap_or_default()
    }

    /// What was told of it by its request and row.
    pub fn on_request(&self, request: &str, row: u32) -> Option<Said<'_>> {
        // Most requests are never named: no key is made for those.
        if self.by_request.is_empty() {
            return None;
        }
        self.by_request.get(&(request.to_owned(), row)).map(Pieces::said)
    }

    /// Rows that were given a label by either name.
    pub fn subjects(&self) -> u64 {
        let pieces = self.by_prediction.values().chain(self.by_request.values());
        pieces.filter(|pieces| !pieces.told.is_empty()).count() as u64
    }

    /// Name of the feedback that was asked for and that no prediction has.
    pub fn lacks<'e>(&self, export: &'e Export) -> Option<&'e str> {
        let label = (!self.has_label).then_some(export.label.as_str());
        label.or_else(|| export.exposure().filter(|_| !self.has_exposure))
    }
}

impl Pieces {
    fn said(&self) -> Said<'_> {
        let told = latest(self.told.iter());
        let shown_us = self.shown_us.map(|(event_us, _)| event_us);
        let arrived = told.map(|told| told.received_us).into_iter().chain(self.shown_us.map(|(_, arrived)| arrived));
        Said {
            told,
            // What was answered has been seen.
            seen_us: self.told.iter().map(|told| told.event_us).chain(shown_us).min(),
            received_us: arrived.max().unwrap_or(i64::MIN),
        }
    }
}

/// The columns that say what feedback is on.
struct Subjects<'b> {
    predictions: &'b StringArray,
    requests: &'b StringArray,
    rows: &'b UInt32Array,
}

impl<'b> Subjects<'b> {
    fn of(batch: &'b RecordBatch) -> Result<Self, ExportError> {
        Ok(Self {
            predictions: text(batch, "prediction_id")?,
            requests: text(batch, "request_id")?,
            rows: primitive::<UInt32Type>(batch, "row_index")?,
        })
    }
}

/// Keeps one of each id: a repetition is no revision, however late it comes.
fn keep(all: &mut Vec<Told>, told: Told) {
    match all.iter_mut().find(|known| known.id == told.id) {
        Some(known) => known.received_us = known.received_us.min(told.received_us),
        None => all.push(told),
    }
}

/// The one that arrived last; of two that arrived at once the ids decide.
fn latest<'l>(all: impl Iterator<Item = &'l Told>) -> Option<&'l Told> {
    all.max_by_key(|told| (told.received_us, told.id))
}
