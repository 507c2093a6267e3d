//! The last rows of a table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::TimestampMicrosecondType;

use super::error::ReadError;
use super::left_out::settled;
use super::listing::{Source, list};
use super::scan::Scan;
use super::typed::primitives;

/// The newest rows of a scan, at most so many, oldest first; each a batch of one row, for their schemas differ.
///
/// Files are read from the newest on. A file that can't have one of the rows is not opened, and of the others only the row
/// groups that may.
///
/// # Errors
/// As [`Scan::batches`].
pub fn newest(scan: &Scan, count: usize) -> Result<Vec<RecordBatch>, ReadError> {
    settled(scan.left_out.as_ref(), || once(scan, count))
}

fn once(scan: &Scan, count: usize) -> Result<Vec<RecordBatch>, ReadError> {
    let mut sources = list(scan)?;
    // Segments first: they have the newest rows.
    sources.sort_by_key(|source| match source {
        Source::Sealed { place, .. } => Reverse(place.period_us.map_or(i64::MIN, |(_, end)| end)),
        Source::Segment { .. } => Reverse(i64::MAX),
    });
    let mut newest = Newest { count, kept: BinaryHeap::new(), rows: vec![] };
    for source in sources {
        let mut scan = scan.clone();
        scan.since_us = match (scan.since_us, newest.oldest()) {
            (Some(since), Some(oldest)) => Some(since.max(oldest)),
            (since, oldest) => since.or(oldest),
        };
        if matches!(&source, Source::Sealed { place, .. } if place.is_beyond(&scan)) {
            continue;
        }
        let path = source.path().to_owned();
        for batch in source.batches(&scan)? {
            let added = newest.add(&batch?, scan.table.time_column());
            scan.tolerate(added.map_err(|cause| ReadError::broken(&path, cause)))?;
        }
    }
    Ok(newest.finish())
}

struct Newest {
    count: usize,
    /// (time, place in `rows`), the oldest on top.
    kept: BinaryHeap<Reverse<(i64, usize)>>,
    rows: Vec<Option<RecordBatch>>,
}

impl Newest {
    /// The time that a further row must reach.
    fn oldest(&self) -> Option<i64> {
        self.kept.peek().filter(|_| self.kept.len() >= self.count).map(|Reverse((time, _))| *time)
    }

    fn add(&mut self, batch: &RecordBatch, time_column: &str) -> Result<(), String> {
        let times = primitives::<TimestampMicrosecondType>(batch, time_column);
        let times = times.ok_or_else(|| format!("column '{time_column}' is missing or no timestamp"))?;
        // Of a batch that is sorted by time nearly every row is newer than those before it: only its last ones are taken.
        let mut rows: Vec<(i64, usize)> = (0..batch.num_rows()).map(|row| (times.value(row), row)).collect();
        rows.sort_unstable_by_key(|row| Reverse(*row));
        rows.truncate(self.count);
        for (time, row) in rows {
            if self.oldest().is_some_and(|oldest| time <= oldest) {
                break;
            }
            let index = UInt32Array::from(vec![u32::try_from(row).unwrap_or(u32::MAX)]);
            // A copy of the row alone, so that its batch can go.
            self.rows.push(Some(take_record_batch(batch, &index).map_err(|cause| cause.to_string())?));
            self.kept.push(Reverse((time, self.rows.len() - 1)));
            if self.kept.len() > self.count
                && let Some(Reverse((_, out))) = self.kept.pop()
            {
                self.rows[out] = None;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<RecordBatch> {
        let mut kept: Vec<(i64, usize)> = self.kept.into_iter().map(|Reverse(kept)| kept).collect();
        // Of one time, those that were written later were met earlier.
        kept.sort_unstable_by_key(|(time, row)| (*time, Reverse(*row)));
        kept.into_iter().filter_map(|(_, row)| self.rows[row].take()).collect()
    }
}
