//! A feedback log whose disk is a list, for tests of what is around it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use super::keeper::{Parts, Sink};
use super::rows::Row;
use super::{Batches, Credit, Credits, Feedback, FeedbackLog, Judge, RequestIndex, Subject, Value};
use crate::inference::PredictionId;

/// This gateway's part of an id.
pub const GATEWAY: u16 = 1;

/// The id of row `row` of a request of this gateway, answered by the stable arm and the version with this slot. Slot 1 is
/// version 10 of model `m`, slot 2 its version 20 and so on to 9; others were never given out.
pub fn prediction(slot: u32, row: u64) -> String {
    prediction_of(GATEWAY, slot, 0).row(row).to_string()
}

/// The id of a gateway's first row.
pub fn prediction_of(gateway: u16, slot: u32, arm: u8) -> PredictionId {
    PredictionId::new(UNIX_EPOCH + Duration::from_secs(1_772_366_400), gateway, slot, arm, 100)
}

/// The credits of those ids.
pub fn credits() -> Credits {
    let lookup = |slot: u32| (1..=9).contains(&slot).then(|| ("m".to_owned(), u64::from(slot) * 10));
    Credits::new(GATEWAY, Box::new(lookup))
}

/// What reached the list that stands for the disk, and the judge.
#[derive(Debug, Clone, Default)]
pub struct Kept(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rows: Vec<Row>,
    judged: Vec<(Feedback, Option<Credit>)>,
    refuses: bool,
    is_closed: bool,
    known_until_us: i64,
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Each item that was judged, with who is credited, in their order.
    pub fn rows(&self) -> Vec<String> {
        let text = |(item, credit): &(Feedback, Option<Credit>)| {
            let value = match &item.value {
                Value::Number(number) => number.to_string(),
                Value::Label(label) => label.clone(),
            };
            let credit = credit.as_ref().map_or("nobody".to_owned(), |credit| {
                format!("{} {} {}", credit.model, credit.version, credit.arm.name())
            });
            format!("{credit} {} {value}", item.name)
        };
        self.state().judged.iter().map(text).collect()
    }

    /// The items as they were judged.
    pub fn items(&self) -> Vec<Feedback> {
        self.state().judged.iter().map(|(item, _)| item.clone()).collect()
    }

    /// The rows as they were written.
    pub fn written(&self) -> Vec<Row> {
        self.state().rows.clone()
    }

    /// Whether the disk refuses what comes.
    pub fn refuse(&self, refuses: bool) {
        self.state().refuses = refuses;
    }

    /// The moment before which it has all that there is.
    pub fn known_until_us(&self) -> i64 {
        self.state().known_until_us
    }

    /// Whether all segments were ended at some time.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed
    }
}

impl Sink for Kept {
    fn append(&mut self, model: Option<&str>, rows: &[&Row], _now_us: i64) -> io::Result<()> {
        let mut state = self.state();
        if state.refuses {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(rows.iter().all(|row| row.credit.as_ref().map(|credit| credit.model.as_str()) == model));
        state.rows.extend(rows.iter().map(|row| (*row).clone()));
        Ok(())
    }

    fn tick(&mut self, _now_us: i64) {}

    fn known_until(&mut self, until_us: i64) {
        self.state().known_until_us = until_us;
    }

    fn close_all(&mut self) {
        self.state().is_closed = true;
    }
}

impl Judge for Kept {
    fn judge(&mut self, feedback: &Feedback, credit: Option<&Credit>) {
        let is_written = |row: &Row| row.feedback.received_us == feedback.received_us;
        let mut state = self.state();
        assert!(state.rows.iter().any(is_written), "it is judged once it is written");
        state.judged.push((feedback.clone(), credit.cloned()));
    }

    fn tick(&mut self, _now_us: i64) {}
}

/// The parts of a log that keeps everything in a list, and the list. One request is known, `seen`, of two rows.
pub fn parts() -> (Parts, Kept) {
    let kept = Kept::default();
    let requests = RequestIndex::new(100);
    requests.remember("seen", prediction_of(GATEWAY, 1, 0).row(1000), 2);
    let (sink, judge) = (Box::new(kept.clone()), Box::new(kept.clone()));
    let parts = Parts { credits: credits(), requests, batches: Batches::new(100), sink, judge };
    (parts, kept)
}

/// Such a log with its thread, which ends when the log is dropped.
pub fn feedback_log() -> (FeedbackLog, Kept) {
    let (parts, kept) = parts();
    let (log, _) = FeedbackLog::start(parts, CancellationToken::new()).expect("a test can start a thread");
    (log, kept)
}

/// An item about the request `request`, or the prediction of that id.
pub fn item(subject: Subject, value: f64, event_us: i64) -> Feedback {
    Feedback {
        subject,
        name: "label".to_owned(),
        value: Value::Number(value),
        event_us,
        received_us: event_us,
        source: None,
        weight: None,
    }
}
