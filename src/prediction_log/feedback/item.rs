//! One piece of feedback.

use crate::inference::PredictionId;
use crate::routing::Arm;

/// What happened after a prediction, as it was told.
#[derive(Debug, Clone, PartialEq)]
pub struct Feedback {
    pub subject: Subject,
    /// What it says, such as `label` or `click`.
    pub name: String,
    pub value: Value,
    /// When it happened; Unix time in µs.
    pub event_us: i64,
    /// When it arrived here; Unix time in µs. For the same subject and name the latest counts.
    pub received_us: i64,
    pub source: Option<String>,
    pub weight: Option<f64>,
}

/// The row that feedback is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Prediction(PredictionId),
    /// A row of a request, by the request's id.
    Request {
        id: String,
        row: u32,
    },
}

/// A number, or the name of a class.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Number(f64),
    Label(String),
}

/// Who answered a prediction, as its id says; nothing has to be looked up but the version's slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    pub model: String,
    pub version: u64,
    pub arm: Arm,
}
