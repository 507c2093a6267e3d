//! One version's rows between the ring and the sealer.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use arrow::array::RecordBatch;
use tokio::sync::oneshot;

use crate::prediction_log::columns::{RowContext, RowsBuilder, VersionLog};
use crate::prediction_log::entry::{Entry, NotSynced, RowsWitness, Synced};
use crate::prediction_log::settings::Durability;
use crate::prediction_log::stream::{Partition, Stream, Wal};
use crate::prediction_log::table::{META_RULES, Table};

/// Most rows of a batch: some 300 KB, so that making one sweeps no cache that the requests work in.
pub const MAX_BATCH_ROWS: usize = 1024;
/// Bytes of rows after which a batch is written.
pub const MAX_BATCH_BYTES: usize = 8 << 20;

/// A version whose rows are being collected.
pub struct OpenVersion {
    version: Arc<VersionLog>,
    partition: Partition,
    rows: RowsBuilder,
    stream: Option<Stream>,
    /// Callers that wait until the rows before them are on the disk.
    waiting: Vec<oneshot::Sender<Synced>>,
    /// The turn in which it got its last row.
    pub last_used: u64,
}

/// Bad news on the way to the disk: the segments that were ended, and what went wrong.
#[derive(Debug, Default)]
pub struct Outcome {
    pub closed: Vec<PathBuf>,
    pub error: Option<io::Error>,
    /// Rows that were not written.
    pub dropped: u64,
}

impl Outcome {
    /// Takes another's news into its own.
    pub fn add(&mut self, other: Self) {
        self.closed.extend(other.closed);
        self.error = other.error.or_else(|| self.error.take());
        self.dropped += other.dropped;
    }
}

impl OpenVersion {
    pub fn new(version: Arc<VersionLog>) -> Self {
        let partition = Partition {
            table: Table::Predictions,
            model: Some(version.model.clone()),
            version: Some(version.version),
            digest: Some(version.digest.clone()),
            rules: version.schema.metadata().get(META_RULES).cloned(),
            retain: version.settings.retain,
        };
        let rows = RowsBuilder::new(version.clone());
        Self { version, partition, rows, stream: None, waiting: vec![], last_used: 0 }
    }

    /// Has somebody told when all rows that are collected until the next [`OpenVersion::sync`] are on the disk.
    pub fn wait(&mut self, synced: oneshot::Sender<Synced>) {
        self.waiting.push(synced);
    }

    /// Adds some of an entry's rows, and gives how many took a number.
    pub fn push(&mut self, entry: &Entry, rows: Range<usize>, context: &RowContext<'_>) -> u64 {
        let pushed = self.rows.push_rows(entry, rows, context);
        let counts = &self.version.counts;
        counts.sampled_out.fetch_add(pushed.sampled_out as u64, Relaxed);
        counts.truncated.fetch_add(pushed.truncated as u64, Relaxed);
        pushed.written as u64
    }

    pub fn is_full(&self) -> bool {
        self.rows.rows() >= MAX_BATCH_ROWS || self.rows.bytes() >= MAX_BATCH_BYTES
    }

    pub fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether neither rows nor a segment are there.
    pub fn is_empty(&self) -> bool {
        self.rows.rows() == 0 && self.stream.is_none()
    }

    pub fn has_segment(&self) -> bool {
        self.stream.is_some()
    }

    /// Bytes of rows that are only in memory.
    pub fn bytes(&self) -> usize {
        if self.rows.rows() == 0 { 0 } else { self.rows.bytes() }
    }

    /// Writes the collected rows to the segment and shows them to the witnesses; rows that the disk does not take are
    /// dropped and counted.
    pub fn flush(&mut self, wal: &Wal, witnesses: &mut [Box<dyn RowsWitness>], now: SystemTime) -> Outcome {
        let mut outcome = Outcome::default();
        if self.stream.as_ref().is_some_and(|stream| stream.seal_due(now)) {
            outcome.add(self.close(now));
        }
        if self.rows.rows() == 0 {
            return outcome;
        }
        let batch = self.rows.finish();
        let mut start = 0;
        while start < batch.num_rows() {
            let part = batch.slice(start, MAX_BATCH_ROWS.min(batch.num_rows() - start));
            start += part.num_rows();
            let rows = part.num_rows() as u64;
            match self.append(wal, &part, now) {
                Ok(()) => {
                    self.version.counts.written.fetch_add(rows, Relaxed);
                    witnesses.iter_mut().for_each(|witness| witness.rows(&self.version, &part));
                }
                Err(cause) => {
                    self.version.counts.dropped_disk.fetch_add(rows, Relaxed);
                    outcome.dropped += rows;
                    // Whoever waits hears at once that it was in vain.
                    self.tell(&Err(NotSynced::Disk(cause.to_string())));
                    outcome.error = Some(cause);
                }
            }
        }
        outcome
    }

    fn append(&mut self, wal: &Wal, batch: &RecordBatch, now: SystemTime) -> io::Result<()> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(Stream::open(wal, &self.partition, &self.version.schema, now)?),
        };
        stream.append(batch)
    }

    /// Makes the segment durable, if somebody waits for that or `is_due` and the model wants it, and tells those who wait.
    /// After [`OpenVersion::flush`], so that their rows are in it.
    pub fn sync(&mut self, now: SystemTime, is_due: bool) -> Outcome {
        let is_wanted = is_due && self.version.settings.durability != Durability::None;
        let Some(stream) = &mut self.stream else {
            // Nothing of theirs was to be written.
            self.tell(&Ok(()));
            return Outcome::default();
        };
        if !is_wanted && self.waiting.is_empty() {
            return Outcome::default();
        }
        match stream.sync(now) {
            Ok(()) => {
                self.tell(&Ok(()));
                Outcome::default()
            }
            // What of it is on the disk nobody knows: what can be read is sealed, and the next rows get another segment.
            Err(cause) => {
                self.tell(&Err(NotSynced::Disk(cause.to_string())));
                let closed = self.stream.take().map(Stream::close).into_iter().collect();
                Outcome { closed, error: Some(cause), dropped: 0 }
            }
        }
    }

    fn tell(&mut self, synced: &Synced) {
        for waiting in self.waiting.drain(..) {
            // Whoever left doesn't want to know.
            let _ = waiting.send(synced.clone());
        }
    }

    /// Ends the segment, if there is one. Rows that are only collected go into the next, and who waits for them goes on
    /// waiting.
    pub fn close(&mut self, now: SystemTime) -> Outcome {
        let Some(mut stream) = self.stream.take() else { return Outcome::default() };
        let error = stream.sync(now).err();
        Outcome { closed: vec![stream.close()], error, dropped: 0 }
    }

    /// Whether the segment is full, old or of an earlier hour.
    pub fn seal_due(&self, now: SystemTime) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.seal_due(now))
    }
}
