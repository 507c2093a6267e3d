//! Reading the log's files back into the live join after a restart.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;

use super::plan::Plan;
use super::restore::{RestoreBounds, restored};
use super::tracker::Tracker;
use crate::prediction_log::feedback::items;
use crate::prediction_log::read::{ReadError, Scan};
use crate::prediction_log::table::Table;

impl Tracker {
    /// Takes in the newest predictions within `bounds` of `now_us`, Unix time in µs, and the feedback since the oldest of
    /// them, from a log's files. `plan_of` knows the versions that are served now; rows of others are passed over. Blocks
    /// for as long as reading takes. Gives how many predictions and pieces of feedback there were.
    ///
    /// # Errors
    /// `ReadError`; what was read before stays.
    pub fn restore_from(
        &self,
        data_dir: &Path,
        bounds: &RestoreBounds,
        now_us: i64,
        plan_of: impl Fn(&str, u64) -> Option<Arc<Plan>>,
    ) -> Result<(usize, usize), ReadError> {
        let since_us = oldest(data_dir, bounds, now_us)?;
        let scan = |table| Scan { since_us: Some(since_us), ..Scan::all(data_dir, table) };
        let (mut rows, mut told) = (0, 0);
        for batch in scan(Table::Predictions).batches()? {
            rows += self.restore(restored(&batch?, &plan_of).into_iter(), std::iter::empty()).0;
        }
        for batch in scan(Table::Feedback).batches()? {
            told += self.restore(std::iter::empty(), items(&batch?).into_iter()).1;
        }
        Ok((rows, told))
    }
}

/// Time of the oldest row that is within the bounds; Unix time in µs.
fn oldest(data_dir: &Path, bounds: &RestoreBounds, now_us: i64) -> Result<i64, ReadError> {
    let age_us = i64::try_from(bounds.max_age.as_micros()).unwrap_or(i64::MAX);
    let earliest = now_us.saturating_sub(age_us);
    let column = Table::Predictions.time_column();
    let columns = Some(vec![column.to_owned()]);
    let scan = Scan { since_us: Some(earliest), columns, ..Scan::all(data_dir, Table::Predictions) };
    // The newest times, the oldest of them on top.
    let mut newest = BinaryHeap::with_capacity(bounds.max_rows.min(1 << 16));
    for batch in scan.batches()? {
        for time in times(&batch?, column) {
            newest.push(Reverse(time));
            if newest.len() > bounds.max_rows {
                newest.pop();
            }
        }
    }
    let is_full = newest.len() == bounds.max_rows;
    Ok(newest.pop().filter(|_| is_full).map_or(earliest, |Reverse(time)| time.max(earliest)))
}

fn times(batch: &RecordBatch, column: &str) -> Vec<i64> {
    let times = batch.column_by_name(column).and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    times.map(|times| times.values().to_vec()).unwrap_or_default()
}
