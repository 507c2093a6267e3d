//! The segments of feedback: one for each model, and one for predictions that are not known.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::keeper::Sink;
use super::rows::{Row, batch, schema};
use crate::prediction_log::known::Known;
use crate::prediction_log::seal::Sealer;
use crate::prediction_log::stream::{Partition, Stream, Wal, unix_us};
use crate::prediction_log::table::Table;

/// Segments that may be open at one time; for one more the fullest is sealed.
pub const MAX_OPEN: usize = 256;

/// Writes rows through the write-ahead log that predictions use too.
#[derive(Debug)]
pub struct Segments {
    wal: Arc<Wal>,
    sealer: Sealer,
    known: Known,
    open: BTreeMap<Option<String>, Stream>,
}

impl Segments {
    pub fn new(wal: Arc<Wal>, sealer: Sealer) -> Self {
        let known = Known::begin(&wal.data_dir, Table::Feedback, unix_us(SystemTime::now()));
        Self { wal, sealer, known, open: BTreeMap::new() }
    }

    /// Ends a segment, and hands it over.
    fn close(&mut self, key: &Option<String>) {
        if let Some(stream) = self.open.remove(key) {
            self.sealer.seal(stream.close());
        }
    }

    fn close_if(&mut self, is_due: impl Fn(&Stream) -> bool) {
        let due: Vec<_> = self.open.iter().filter(|(_, stream)| is_due(stream)).map(|(key, _)| key.clone()).collect();
        due.iter().for_each(|key| self.close(key));
    }

    fn open(&mut self, key: &Option<String>, now: SystemTime) -> io::Result<&mut Stream> {
        if self.open.get(key).is_some_and(|stream| stream.seal_due(now)) {
            self.close(key);
        }
        if !self.open.contains_key(key) && self.open.len() >= MAX_OPEN {
            let fullest = self.open.iter().max_by_key(|(_, stream)| stream.bytes()).map(|(key, _)| key.clone());
            fullest.iter().for_each(|key| self.close(key));
        }
        match self.open.entry(key.clone()) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(free) => {
                let partition = Partition::feedback(key.as_deref());
                Ok(free.insert(Stream::open(&self.wal, &partition, &schema(), now)?))
            }
        }
    }
}

impl Sink for Segments {
    fn append(&mut self, model: Option<&str>, rows: &[&Row], now_us: i64) -> io::Result<()> {
        let batch = batch(&schema(), rows.iter().copied()).map_err(io::Error::other)?;
        self.open(&model.map(str::to_owned), moment(now_us))?.append(&batch)
    }

    fn tick(&mut self, now_us: i64) {
        let now = moment(now_us);
        self.close_if(|stream| stream.seal_due(now));
        let mut broken = vec![];
        for (key, stream) in self.open.iter_mut().filter(|(_, stream)| stream.sync_due(now)) {
            if let Err(cause) = stream.sync(now) {
                tracing::error!(%cause, "feedback can't be synced");
                broken.push(key.clone());
            }
        }
        // What the system could not write may be lost; sealing reads it once more.
        broken.iter().for_each(|key| self.close(key));
    }

    fn known_until(&mut self, until_us: i64) {
        self.known.tell(until_us);
    }

    fn close_all(&mut self) {
        self.close_if(|_| true);
    }
}

fn moment(now_us: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(now_us.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests;
