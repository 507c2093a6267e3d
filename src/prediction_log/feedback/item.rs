//! One piece of feedback.

use std::fmt;

use sha2::{Digest, Sha256};

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

/// What makes feedback the same: the first 128 bits of a SHA-256 over subject, name, value, event time and source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FeedbackId(u128);

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

impl Feedback {
    /// The same for items that say the same, whenever and however often they arrive. A subject counts as it was told: a
    /// prediction and the row of a request that it stands for differ.
    pub fn id(&self) -> FeedbackId {
        let mut hash = Sha256::new();
        // Each text behind its length, so that no two items flow into the same bytes.
        let mut text = |kind: u8, text: &str| {
            hash.update([kind]);
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text);
        };
        match &self.subject {
            Subject::Prediction(id) => text(b'p', id.text(&mut [0; 36])),
            Subject::Request { id, row } => {
                text(b'r', id);
                text(b'#', &row.to_string());
            }
        }
        text(b'n', &self.name);
        match &self.value {
            // Both zeros are one number.
            Value::Number(number) => text(b'v', &format!("{:016x}", (number + 0.0).to_bits())),
            Value::Label(label) => text(b'l', label),
        }
        text(b't', &self.event_us.to_string());
        match &self.source {
            Some(source) => text(b's', source),
            None => text(b'0', ""),
        }
        let digest = hash.finalize();
        FeedbackId(digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte)))
    }
}

impl fmt::Display for FeedbackId {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Feedback {
        Feedback {
            subject: Subject::Request { id: "a".to_owned(), row: 1 },
            name: "label".to_owned(),
            value: Value::Number(0.0),
            event_us: 1,
            received_us: 2,
            source: None,
            weight: None,
        }
    }

    #[test]
    fn an_id_holds_whatever_arrives_when() {
        let again = Feedback { received_us: 9, weight: Some(2.0), value: Value::Number(-0.0), ..item() };
        assert_eq!(again.id(), item().id());
        assert_eq!(item().id().to_string().len(), 32);
    }

    #[test]
    fn an_id_differs_with_each_part() {
        let row = |id: &str, row| Feedback { subject: Subject::Request { id: id.to_owned(), row }, ..item() };
        let items = [
            item(),
            row("a", 2),
            row("a#", 1),
            Feedback {
                subject: Subject::Prediction("019ca949-0a80-8001-8000-008000000001".parse().unwrap()),
                ..item()
            },
            Feedback { name: "click".to_owned(), ..item() },
            Feedback { value: Value::Number(1.0), ..item() },
            Feedback { value: Value::Label("0".to_owned()), ..item() },
            Feedback { value: Value::Label("0000000000000000".to_owned()), ..item() },
            Feedback { event_us: 2, ..item() },
            Feedback { source: Some(String::new()), ..item() },
            Feedback { source: Some("app".to_owned()), ..item() },
        ];
        let ids: std::collections::HashSet<FeedbackId> = items.iter().map(Feedback::id).collect();
        assert_eq!(ids.len(), items.len());
    }
}
