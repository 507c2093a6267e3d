//! The bounded way from the requests to the writer: taken at once, or dropped and counted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::Entry;
use super::quality::{Bounds, Tracker};

/// How much may wait for the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Requests.
    pub max_entries: usize,
    /// Bytes of their tensors.
    pub max_bytes: usize,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { max_entries: 1 << 16, max_bytes: 256 << 20 }
    }
}

/// What became of one model's rows since the process began. A request that was not written for want of room counts all of
/// its rows.
#[derive(Debug, Default)]
pub struct RowCounts {
    pub written: AtomicU64,
    pub sampled_out: AtomicU64,
    /// There was no room in the ring.
    pub dropped_ring: AtomicU64,
    /// The disk did not take them, or has too little room left.
    pub dropped_disk: AtomicU64,
    /// Written without tensors that were too large.
    pub truncated: AtomicU64,
    /// Requests that were refused, expired or left by their client: these are counted and never written.
    pub refused: AtomicU64,
}

/// Where requests leave their entries. Shared by all of them.
#[derive(Debug)]
pub struct PredictionLog {
    /// `None`: there is no log.
    ring: Option<Ring>,
    quality: Arc<Tracker>,
    counts: Mutex<BTreeMap<String, Arc<RowCounts>>>,
}

#[derive(Debug)]
struct Ring {
    entries: SyncSender<Box<Entry>>,
    load: Arc<Load>,
    max_bytes: usize,
}

/// What waits in the ring, and the rows that did not come in.
#[derive(Debug, Default)]
struct Load {
    bytes: AtomicUsize,
    dropped_rows: AtomicU64,
}

/// What became of an entry that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    Taken,
    Dropped,
}

/// The writer's end of the ring.
#[derive(Debug)]
pub struct Entries {
    entries: Receiver<Box<Entry>>,
    load: Arc<Load>,
}

impl PredictionLog {
    /// A log that keeps nothing: there is no data directory.
    pub fn off() -> Self {
        Self { ring: None, quality: Tracker::new(Bounds::default()), counts: Mutex::default() }
    }

    /// A log, and the end from which its writer reads.
    pub fn new(config: RingConfig) -> (Self, Entries) {
        let (sender, receiver) = sync_channel(config.max_entries);
        let load = Arc::new(Load::default());
        let ring = Ring { entries: sender, load: load.clone(), max_bytes: config.max_bytes };
        (
            Self { ring: Some(ring), quality: Tracker::new(Bounds::default()), counts: Mutex::default() },
            Entries { entries: receiver, load },
        )
    }

    pub fn is_on(&self) -> bool {
        self.ring.is_some()
    }

    /// Bytes of tensors that wait for the writer; `None` without a log.
    pub fn waiting_bytes(&self) -> Option<usize> {
        self.ring.as_ref().map(|ring| ring.load.bytes.load(Relaxed))
    }

    /// How good the predictions that are written turn out to be. Its halves are for those who see predictions and feedback.
    pub fn quality(&self) -> &Arc<Tracker> {
        &self.quality
    }

    /// The counters of a model; one set for all of its versions, which outlives them. For models of the repository, never
    /// for a name that a client made up.
    pub fn counts_of(&self, model: &str) -> Arc<RowCounts> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.entry(model.to_owned()).or_default().clone()
    }

    /// The counters of every model.
    pub fn counts(&self) -> BTreeMap<String, Arc<RowCounts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands an entry to the writer. Never waits, and wakes nobody: the writer looks by itself.
    pub fn offer(&self, entry: Box<Entry>) -> Offered {
        let Some(ring) = &self.ring else { return Offered::Dropped };
        let (bytes, rows) = (entry.tensor_bytes(), entry.rows as u64);
        let counts = entry.version.counts.clone();
        let waiting = ring.load.bytes.fetch_add(bytes, Relaxed);
        // One that is larger than the bound by itself is taken when nothing else waits.
        let fits = waiting == 0 || waiting + bytes <= ring.max_bytes;
        if fits && ring.entries.try_send(entry).is_ok() {
            return Offered::Taken;
        }
        ring.load.bytes.fetch_sub(bytes, Relaxed);
        ring.load.dropped_rows.fetch_add(rows, Relaxed);
        counts.dropped_ring.fetch_add(rows, Relaxed);
        Offered::Dropped
    }
}

impl Entries {
    /// The next entry, if one waits.
    pub fn next(&self) -> Option<Box<Entry>> {
        let entry = self.entries.try_recv().ok()?;
        self.load.bytes.fetch_sub(entry.tensor_bytes(), Relaxed);
        Some(entry)
    }

    /// Rows that the ring had no room for, since the process began.
    pub fn dropped_rows(&self) -> u64 {
        self.load.dropped_rows.load(Relaxed)
    }
}
