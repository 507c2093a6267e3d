//! Rows of many sorted files in the order of their times, without more than parts of them in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use crate::prediction_log::seal::file::times;
use crate::prediction_log::table::Table;

/// Rows of each open file that are in memory.
const READ_ROWS: usize = 2048;
/// Rows that are handed on together.
const WRITE_ROWS: usize = 8192;

/// A sorted file.
pub struct Part {
    pub path: PathBuf,
    /// Time of its first row in Unix µs, or any before. A file is opened when the merge gets there.
    pub first_us: i64,
}

/// An open file.
struct Cursor {
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    at: usize,
}

/// Hands on the rows of the files, which come sorted by their first times. Rows of the same time stay as the files are.
pub fn merged(parts: Vec<Part>, table: Table, write: &mut dyn FnMut(RecordBatch) -> io::Result<()>) -> io::Result<()> {
    let mut closed: VecDeque<Part> = parts.into();
    let mut open: Vec<Cursor> = vec![];
    let mut ready: Vec<RecordBatch> = vec![];
    loop {
        let earliest = open.iter().map(|cursor| cursor.time(table)).min();
        while let Some(part) = closed.pop_front_if(|part| earliest.is_none_or(|time| part.first_us <= time)) {
            open.extend(Cursor::open(&part)?);
            if earliest.is_none() {
                break;
            }
        }
        // The first of the earliest: those of the same time stay in the order of their files.
        let Some(at) = (0..open.len()).min_by_key(|&at| open[at].time(table)) else {
            if closed.is_empty() { break } else { continue }
        };
        let others = open.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, cursor)| cursor.time(table));
        let until = others.chain(closed.front().map(|part| part.first_us)).min();
        let (run, is_at_end) = open[at].run(table, until)?;
        ready.push(run);
        if is_at_end {
            open.remove(at);
        }
        if ready.iter().map(RecordBatch::num_rows).sum::<usize>() >= WRITE_ROWS {
            hand_on(&mut ready, write)?;
        }
    }
    hand_on(&mut ready, write)
}

fn hand_on(ready: &mut Vec<RecordBatch>, write: &mut dyn FnMut(RecordBatch) -> io::Result<()>) -> io::Result<()> {
    let Some(first) = ready.first() else { return Ok(()) };
    let batch = concat_batches(&first.schema(), ready.iter()).map_err(io::Error::other)?;
    ready.clear();
    write(batch)
}

impl Cursor {
    /// `None` for a file without rows.
    fn open(part: &Part) -> io::Result<Option<Self>> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(&part.path)?).map_err(io::Error::other)?;
        let mut reader = builder.with_batch_size(READ_ROWS).build().map_err(io::Error::other)?;
        let batch = next(&mut reader)?;
        Ok(batch.map(|batch| Self { reader, batch, at: 0 }))
    }

    /// Of the next row.
    fn time(&self, table: Table) -> i64 {
        times(&self.batch, table).map_or(i64::MIN, |times| times.value(self.at))
    }

    /// The next rows up to that time, at least one; and whether they were the last.
    fn run(&mut self, table: Table, until: Option<i64>) -> io::Result<(RecordBatch, bool)> {
        let left = self.batch.num_rows() - self.at;
        let count = match (times(&self.batch, table), until) {
            (Some(times), Some(until)) => {
                let left = times.values().get(self.at..).unwrap_or_default();
                left.iter().take_while(|&&time| time <= until).count().max(1)
            }
            _ => left,
        };
        let run = self.batch.slice(self.at, count);
        self.at += count;
        if self.at < self.batch.num_rows() {
            return Ok((run, false));
        }
        match next(&mut self.reader)? {
            Some(batch) => {
                self.batch = batch;
                self.at = 0;
                Ok((run, false))
            }
            None => Ok((run, true)),
        }
    }
}

/// The next batch that has rows.
fn next(reader: &mut ParquetRecordBatchReader) -> io::Result<Option<RecordBatch>> {
    for batch in reader {
        let batch = batch.map_err(io::Error::other)?;
        if batch.num_rows() > 0 {
            return Ok(Some(batch));
        }
    }
    Ok(None)
}
