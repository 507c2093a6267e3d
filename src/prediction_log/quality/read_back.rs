//! Reads what an earlier process has logged, on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType, UInt32Type};
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::restore::{RestoreBounds, restored};
use super::tracker::Tracker;
use crate::prediction_log::feedback::{Feedback, Subject, Value};
use crate::prediction_log::read::{ReadError, Scan};
use crate::prediction_log::table::Table;

/// Time between two looks whether the versions are there.
const LOOK: Duration = Duration::from_millis(200);
/// When a prediction was answered.
const TIME: &str = "ts";
/// Rows are counted by whole seconds to find where the newest begin.
const SECOND_US: i64 = 1_000_000;

/// The plan of a model's version; `None` for one that is not served, or has none.
pub type PlanOf = Box<dyn Fn(&str, u64) -> Option<Arc<Plan>> + Send>;

/// What is asked of whoever knows the versions.
pub struct Versions {
    /// Whether those that are served at the start are there, so that their plans are known.
    pub are_there: Box<dyn Fn() -> bool + Send>,
    pub plan_of: PlanOf,
}

/// Starts the thread. It waits until the versions are there, reads once and ends. `now_us`: the start of this process,
/// Unix time in µs; what is younger is known from itself.
///
/// # Errors
/// The operating system's, when a thread can't be started.
pub fn start(
    tracker: Arc<Tracker>,
    data_dir: PathBuf,
    now_us: i64,
    versions: Versions,
    stop: CancellationToken,
) -> io::Result<()> {
    let work = move || {
        while !(versions.are_there)() {
            if stop.is_cancelled() {
                return;
            }
            std::thread::sleep(LOOK);
        }
        match tracker.restore_from(&data_dir, &RestoreBounds::default(), now_us, &versions.plan_of) {
            Ok((0, 0)) => {}
            Ok((predictions, feedback)) => {
                tracing::info!(predictions, feedback, "realised quality goes on from the prediction log");
            }
            Err(cause) => tracing::error!(%cause, "the prediction log can't be read: realised quality begins anew"),
        }
    };
    std::thread::Builder::new().name("quality".to_owned()).spawn(work).map(|_| ())
}

impl Tracker {
    /// Takes in the newest rows of the log before `now_us`, Unix time in µs, and the feedback that came since the oldest
    /// of them, as [`Tracker::restore`] does. Versions without a plan are left out. Blocks until the files are read.
    /// Gives how many predictions and pieces of feedback there were.
    ///
    /// # Errors
    /// `ReadError` where the log can't be listed. A file that can't be read is reported and passed over.
    pub fn restore_from(
        &self,
        data_dir: &Path,
        bounds: &RestoreBounds,
        now_us: i64,
        plan_of: impl Fn(&str, u64) -> Option<Arc<Plan>>,
    ) -> Result<(usize, usize), ReadError> {
        let age_us = i64::try_from(bounds.max_age.as_micros()).unwrap_or(i64::MAX);
        let oldest_us = now_us.saturating_sub(age_us);
        let scan =
            |table, since_us| Scan { since_us: Some(since_us), until_us: Some(now_us), ..Scan::all(data_dir, table) };
        let times = Some(vec![TIME.to_owned()]);
        let times = Scan { columns: times, ..scan(Table::Predictions, oldest_us) };
        let since_us = newest(&times, bounds.max_rows, oldest_us)?;
        let (mut rows, mut told) = (0, 0);
        for batch in scan(Table::Predictions, since_us).batches()?.filter_map(readable) {
            rows += self.restore(restored(&batch, &plan_of).into_iter(), std::iter::empty()).0;
        }
        for batch in scan(Table::Feedback, since_us).batches()?.filter_map(readable) {
            told += self.restore(std::iter::empty(), feedback(&batch).into_iter()).1;
        }
        Ok((rows, told))
    }
}

/// One file that is damaged is no reason to know nothing of the others.
fn readable(batch: Result<RecordBatch, ReadError>) -> Option<RecordBatch> {
    batch.inspect_err(|cause| tracing::error!(%cause, "part of the prediction log can't be read back")).ok()
}

/// From when on there are at most so many rows.
fn newest(scan: &Scan, max_rows: usize, oldest_us: i64) -> Result<i64, ReadError> {
    let mut by_second: BTreeMap<i64, usize> = BTreeMap::new();
    for batch in scan.batches()?.filter_map(readable) {
        let times = batch.column_by_name(TIME).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        for time in times.into_iter().flatten().flatten() {
            *by_second.entry(time.div_euclid(SECOND_US)).or_default() += 1;
        }
    }
    let mut rows = 0;
    for (second, count) in by_second.into_iter().rev() {
        rows += count;
        if rows > max_rows {
            return Ok((second + 1) * SECOND_US);
        }
    }
    Ok(oldest_us)
}

/// The rows of a batch of feedback; one that can't be read is left out.
pub fn feedback(batch: &RecordBatch) -> Vec<Feedback> {
    let time = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<TimestampMicrosecondType>();
    let (ids, requests, labels) =
        (texts(batch, "prediction_id"), texts(batch, "request_id"), texts(batch, "value_label"));
    let rows = batch.column_by_name("row_index").and_then(|column| column.as_primitive_opt::<UInt32Type>());
    let numbers = batch.column_by_name("value_number").and_then(|column| column.as_primitive_opt::<Float64Type>());
    let weights = batch.column_by_name("weight").and_then(|column| column.as_primitive_opt::<Float64Type>());
    let (Some(names), Some(events), Some(receipts)) = (texts(batch, "name"), time("event_time"), time("received_time"))
    else {
        return vec![];
    };
    let row = |row: usize| {
        let text = |column: Option<&StringArray>| {
            column.filter(|texts| texts.is_valid(row)).map(|texts| texts.value(row).to_owned())
        };
        let number = numbers.filter(|numbers| numbers.is_valid(row)).map(|numbers| Value::Number(numbers.value(row)));
        let subject = match text(ids) {
            Some(id) => Subject::Prediction(id.parse().ok()?),
            None => {
                let at = rows.filter(|rows| rows.is_valid(row)).map_or(0, |rows| rows.value(row));
                Subject::Request { id: text(requests)?, row: at }
            }
        };
        Some(Feedback {
            subject,
            name: names.value(row).to_owned(),
            value: number.or_else(|| text(labels).map(Value::Label))?,
            event_us: events.value(row),
            received_us: receipts.value(row),
            source: None,
            weight: weights.filter(|weights| weights.is_valid(row)).map(|weights| weights.value(row)),
        })
    };
    (0..batch.num_rows()).filter_map(row).collect()
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Option<&'a StringArray> {
    batch.column_by_name(name)?.as_string_opt::<i32>()
}
