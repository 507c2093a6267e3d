//! Feedback as a wire brought it, and whether it is fit to be kept. Both wires come through here, so that they refuse the
//! same things in the same words.

use std::borrow::Cow;

use super::item::{Feedback, Subject, Value};
use crate::error::Error;
use crate::inference::{PredictionId, printable};
use crate::rfc3339;

/// Most items of a call, or of a batch of a stream.
pub const MAX_ITEMS: usize = 10_000;
/// The name of feedback that gives none.
pub const DEFAULT_NAME: &str = "label";
/// Longest name and source, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Longest name of a class, in bytes.
pub const MAX_LABEL_BYTES: usize = 1024;
/// Longest id of a request, in bytes.
pub const MAX_REQUEST_ID_BYTES: usize = 1024;
/// 2000-01-01T00:00:00Z. What is said to have happened before it has a wrong unit or no clock.
const EARLIEST_US: i64 = 946_684_800_000_000;
/// How far ahead of this machine's clock another's may be.
const MAX_AHEAD_US: i64 = 24 * 3600 * 1_000_000;

/// One item with everything that a wire may leave out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    pub prediction_id: Option<String>,
    pub request_id: Option<String>,
    pub row_index: Option<u64>,
    pub name: Option<String>,
    pub value: Option<ToldValue>,
    pub event_time: Option<ToldTime>,
    pub source: Option<String>,
    pub weight: Option<f64>,
}

/// A value before it is known to be sound.
#[derive(Debug, Clone, PartialEq)]
pub enum ToldValue {
    Number(f64),
    Text(String),
    Flag(bool),
}

/// When something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ToldTime {
    /// RFC 3339.
    Text(String),
    /// Unix time.
    Seconds(f64),
    /// Unix time.
    Micros(i64),
}

/// Why one item is not kept. The text is what its sender reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, got {got}")]
pub struct ItemFault {
    pub field: Cow<'static, str>,
    pub expected: Cow<'static, str>,
    /// What came, made fit for a message.
    pub got: String,
}

impl ItemFault {
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        expected: impl Into<Cow<'static, str>>,
        got: impl Into<String>,
    ) -> Self {
        Self { field: field.into(), expected: expected.into(), got: got.into() }
    }
}

/// Whether so many items may come at a time.
///
/// # Errors
/// `Invalid` for more than [`MAX_ITEMS`].
pub fn check_count(count: usize) -> Result<(), Error> {
    if count <= MAX_ITEMS {
        return Ok(());
    }
    Err(Error::Invalid(format!("expected at most {MAX_ITEMS} items of feedback at a time, got {count}")))
}

impl Told {
    /// The item, if everything in it is sound. `now_us` is Unix time in µs: when the item was received, and when it
    /// happened if it doesn't say.
    ///
    /// # Errors
    /// The first fault, in the order of the fields.
    pub fn check(self, now_us: i64) -> Result<Feedback, ItemFault> {
        Ok(Feedback {
            subject: subject(self.prediction_id, self.request_id, self.row_index)?,
            name: match self.name {
                None => DEFAULT_NAME.to_owned(),
                Some(name) => text("name", name, MAX_NAME_BYTES)?,
            },
            value: value(self.value)?,
            event_us: self.event_time.map_or(Ok(now_us), |time| event_us(time, now_us))?,
            received_us: now_us,
            source: self.source.map(|source| text("source", source, MAX_NAME_BYTES)).transpose()?,
            weight: self.weight.map(weight).transpose()?,
        })
    }
}

fn subject(prediction: Option<String>, request: Option<String>, row: Option<u64>) -> Result<Subject, ItemFault> {
    match (prediction, request) {
        (Some(_), Some(_)) => {
            Err(ItemFault::new("request_id", "either prediction_id or request_id", "both in one item"))
        }
        (None, None) => Err(ItemFault::new("prediction_id", "prediction_id or request_id", "neither")),
        (Some(id), None) => match row {
            None => prediction_id(&id).map(Subject::Prediction),
            // The id of a row names its row already.
            Some(row) => {
                Err(ItemFault::new("row_index", "it beside request_id only", format!("{row} beside prediction_id")))
            }
        },
        (None, Some(id)) => Ok(Subject::Request {
            id: text("request_id", id, MAX_REQUEST_ID_BYTES)?,
            row: row_index(row.unwrap_or(0))?,
        }),
    }
}

fn prediction_id(id: &str) -> Result<PredictionId, ItemFault> {
    let parsed = id.parse::<PredictionId>().ok().filter(|id| id.is_well_formed());
    parsed.ok_or_else(|| ItemFault::new("prediction_id", "the id of a prediction, a UUID of version 8", quoted(id)))
}

fn row_index(row: u64) -> Result<u32, ItemFault> {
    let row = u32::try_from(row).ok().filter(|row| u64::from(*row) < PredictionId::MAX_ROWS).ok_or(row);
    row.map_err(|row| {
        ItemFault::new("row_index", format!("a whole number below {}", PredictionId::MAX_ROWS), row.to_string())
    })
}

fn value(value: Option<ToldValue>) -> Result<Value, ItemFault> {
    match value {
        None => Err(ItemFault::new("value", "a number, a text or a boolean", "nothing")),
        Some(ToldValue::Flag(flag)) => Ok(Value::Number(f64::from(u8::from(flag)))),
        Some(ToldValue::Number(number)) if number.is_finite() => Ok(Value::Number(number)),
        Some(ToldValue::Number(number)) => Err(ItemFault::new("value", "a finite number", number.to_string())),
        Some(ToldValue::Text(label)) => text("value", label, MAX_LABEL_BYTES).map(Value::Label),
    }
}

fn event_us(time: ToldTime, now_us: i64) -> Result<i64, ItemFault> {
    let (us, got) = match time {
        ToldTime::Text(text) => match rfc3339::parse_us(&text) {
            Some(us) => (us, printable(&text)),
            None => {
                let expected = "a time as RFC 3339 writes it, such as 2026-03-01T12:00:00Z, or Unix seconds";
                return Err(ItemFault::new("event_time", expected, quoted(&text)));
            }
        },
        // Saturates; what is no number becomes 0, which is too early.
        ToldTime::Seconds(seconds) => ((seconds * 1e6) as i64, seconds.to_string()),
        ToldTime::Micros(us) => (us, format!("{} s after 1970", us as f64 / 1e6)),
    };
    if (EARLIEST_US..=now_us.saturating_add(MAX_AHEAD_US)).contains(&us) {
        return Ok(us);
    }
    Err(ItemFault::new("event_time", "a time from the year 2000 to a day from now, numbers being Unix seconds", got))
}

fn weight(weight: f64) -> Result<f64, ItemFault> {
    if weight.is_finite() && weight >= 0.0 {
        return Ok(weight);
    }
    Err(ItemFault::new("weight", "a finite number that is not negative", weight.to_string()))
}

fn text(field: &'static str, text: String, max_bytes: usize) -> Result<String, ItemFault> {
    if text.is_empty() || text.len() > max_bytes || text.chars().any(char::is_control) {
        let got = if text.len() > max_bytes { format!("{} bytes", text.len()) } else { quoted(&text) };
        let expected = format!("1 to {max_bytes} bytes of text without control characters");
        return Err(ItemFault::new(field, expected, got));
    }
    Ok(text)
}

fn quoted(text: &str) -> String {
    format!("'{}'", printable(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREDICTION: &str = "019ca949-0a80-8001-8000-008000000001";
    /// 2026-03-01T12:00:00Z.
    const NOW_US: i64 = 1_772_366_400_000_000;

    fn about_a_prediction() -> Told {
        Told { prediction_id: Some(PREDICTION.to_owned()), value: Some(ToldValue::Number(1.0)), ..Told::default() }
    }

    #[track_caller]
    fn fault(told: Told) -> String {
        told.check(NOW_US).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let feedback = about_a_prediction().check(NOW_US).unwrap();
        let expected = Feedback {
            subject: Subject::Prediction(PREDICTION.parse().unwrap()),
            name: "label".to_owned(),
            value: Value::Number(1.0),
            event_us: NOW_US,
            received_us: NOW_US,
            source: None,
            weight: None,
        };
        assert_eq!(feedback, expected);
        let told = Told { prediction_id: None, request_id: Some("r".to_owned()), ..about_a_prediction() };
        let row = told.check(NOW_US).unwrap().subject;
        assert_eq!(row, Subject::Request { id: "r".to_owned(), row: 0 });
    }

    #[test]
    fn values_and_times_come_in_several_forms() {
        let value = |value| Told { value: Some(value), ..about_a_prediction() }.check(NOW_US).unwrap().value;
        assert_eq!(value(ToldValue::Flag(true)), Value::Number(1.0));
        assert_eq!(value(ToldValue::Flag(false)), Value::Number(0.0));
        assert_eq!(value(ToldValue::Text("cat".to_owned())), Value::Label("cat".to_owned()));
        let time = |time| Told { event_time: Some(time), ..about_a_prediction() }.check(NOW_US).unwrap().event_us;
        assert_eq!(time(ToldTime::Text("2026-03-01T13:00:00+01:00".to_owned())), NOW_US);
        assert_eq!(time(ToldTime::Seconds(1_772_366_399.5)), NOW_US - 500_000);
        assert_eq!(time(ToldTime::Micros(NOW_US + MAX_AHEAD_US)), NOW_US + MAX_AHEAD_US);
        assert_eq!(time(ToldTime::Micros(EARLIEST_US)), EARLIEST_US);
    }

    #[test]
    fn each_fault_says_what_was_expected_and_what_came() {
        let id = |id: &str| fault(Told { prediction_id: Some(id.to_owned()), ..about_a_prediction() });
        let expected = "prediction_id: expected the id of a prediction, a UUID of version 8, got ";
        assert_eq!(id("x\n"), format!("{expected}'x\u{fffd}'"));
        let random = "0a8b3f5e-64d2-4cde-9f00-112233445566";
        assert_eq!(id(random), format!("{expected}'{random}'"), "a UUID of version 4");
        assert_eq!(fault(Told::default()), "prediction_id: expected prediction_id or request_id, got neither");
        let both = Told { request_id: Some("r".to_owned()), ..about_a_prediction() };
        assert_eq!(fault(both), "request_id: expected either prediction_id or request_id, got both in one item");
        let row = Told { row_index: Some(1), ..about_a_prediction() };
        assert_eq!(fault(row), "row_index: expected it beside request_id only, got 1 beside prediction_id");
        let of_request = |id: &str, row| Told {
            prediction_id: None,
            request_id: Some(id.to_owned()),
            row_index: Some(row),
            ..about_a_prediction()
        };
        assert_eq!(fault(of_request("r", 1 << 24)), "row_index: expected a whole number below 16777216, got 16777216");
        let text = "expected 1 to 1024 bytes of text without control characters, got";
        assert_eq!(fault(of_request("", 0)), format!("request_id: {text} ''"));
        assert_eq!(fault(of_request(&"r".repeat(1025), 0)), format!("request_id: {text} 1025 bytes"));
        let name = Told { name: Some("a\tb".to_owned()), ..about_a_prediction() };
        assert_eq!(fault(name), "name: expected 1 to 255 bytes of text without control characters, got 'a\u{fffd}b'");
        let source = Told { source: Some(String::new()), ..about_a_prediction() };
        assert_eq!(fault(source), "source: expected 1 to 255 bytes of text without control characters, got ''");
    }

    #[test]
    fn numbers_that_are_none_and_times_that_cannot_be_are_refused() {
        let value = |value| fault(Told { value, ..about_a_prediction() });
        assert_eq!(value(None), "value: expected a number, a text or a boolean, got nothing");
        assert_eq!(value(Some(ToldValue::Number(f64::NAN))), "value: expected a finite number, got NaN");
        assert_eq!(value(Some(ToldValue::Number(f64::NEG_INFINITY))), "value: expected a finite number, got -inf");
        let text = "value: expected 1 to 1024 bytes of text without control characters, got ''";
        assert_eq!(value(Some(ToldValue::Text(String::new()))), text);
        let time = |time| fault(Told { event_time: Some(time), ..about_a_prediction() });
        assert_eq!(
            time(ToldTime::Text("yesterday".to_owned())),
            "event_time: expected a time as RFC 3339 writes it, such as 2026-03-01T12:00:00Z, or Unix seconds, \
             got 'yesterday'"
        );
        let range = "event_time: expected a time from the year 2000 to a day from now, numbers being Unix seconds, got";
        assert_eq!(time(ToldTime::Seconds(1_772_366_400_000.0)), format!("{range} 1772366400000"));
        assert_eq!(time(ToldTime::Seconds(f64::NAN)), format!("{range} NaN"));
        assert_eq!(time(ToldTime::Text("1999-12-31T23:59:59Z".to_owned())), format!("{range} 1999-12-31T23:59:59Z"));
        assert_eq!(time(ToldTime::Micros(0)), format!("{range} 0 s after 1970"));
        let weight = |weight| fault(Told { weight: Some(weight), ..about_a_prediction() });
        assert_eq!(weight(-1.0), "weight: expected a finite number that is not negative, got -1");
        assert_eq!(weight(f64::INFINITY), "weight: expected a finite number that is not negative, got inf");
    }
}
