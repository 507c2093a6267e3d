//! Rows of the prediction log as events, for those who listen as they would to KServe's agent.
//!
//! The writer shows each batch that it has finished, sampled and redacted; as much of it as there is room for waits here,
//! and the rest is dropped and counted. Every event is tried a few times and then given up. What still waits when the process
//! ends is lost: the log on the disk is what keeps.

mod delivery;
mod encode;
mod tensors;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use arrow::array::RecordBatch;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::delivery::Delivery;
use self::encode::Common;
use super::{RetryPolicy, client};
use crate::prediction_log::{EventsConfig, RowsWitness, VersionLog};
use crate::telemetry::log_destinations as metrics;

/// Events of a row: its request and its response.
pub const EVENTS_A_ROW: usize = 2;
/// Bytes of the batches that wait. One that is larger by itself is taken when nothing else waits.
pub const MAX_WAITING_BYTES: usize = 64 << 20;
/// Batches that wait, however few rows they have.
const MAX_BATCHES: usize = 1024;

/// Time between two looks at the end of the process.
const FINISH_POLL: Duration = Duration::from_millis(10);

/// Where the writer leaves its rows.
#[derive(Debug)]
pub struct RowEvents {
    batches: mpsc::Sender<Waiting>,
    load: Arc<Load>,
    max_waiting: usize,
}

/// What waits, and what became of what does not any more.
#[derive(Debug, Default)]
pub struct Load {
    /// Events that are neither delivered nor given up.
    events: AtomicUsize,
    bytes: AtomicUsize,
    delivered: AtomicU64,
    given_up: AtomicU64,
    dropped: AtomicU64,
}

/// Events by what became of them since the process began. Nothing is counted twice, and with those that wait it is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventCounts {
    pub waiting: u64,
    pub delivered: u64,
    pub given_up: u64,
    pub dropped: u64,
}

/// Rows of a batch on their way. The batch is in memory as a whole while any of them is.
#[derive(Debug)]
struct Waiting {
    rows: RecordBatch,
    held: Held,
}

/// Bytes that are given back when it is dropped.
#[derive(Debug)]
struct Held {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Load {
    pub fn counts(&self) -> EventCounts {
        EventCounts {
            waiting: self.events.load(Relaxed) as u64,
            delivered: self.delivered.load(Relaxed),
            given_up: self.given_up.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }

    /// Waits until no event does, at most for `patience`; says whether none does. For the end of the process, once the
    /// writer has ended and before `stop`.
    pub async fn finish(&self, patience: Duration) -> bool {
        let emptied = async {
            while self.events.load(Relaxed) > 0 {
                tokio::time::sleep(FINISH_POLL).await;
            }
        };
        tokio::time::timeout(patience, emptied).await.is_ok()
    }

    /// One event less waits.
    fn ended(&self, delivered: bool) {
        let (counter, outcome) = if delivered { (&self.delivered, "delivered") } else { (&self.given_up, "given_up") };
        counter.fetch_add(1, Relaxed);
        let before = self.events.fetch_sub(1, Relaxed);
        metrics::count_events(outcome, 1);
        metrics::set_events_waiting(before - 1);
    }
}

impl RowEvents {
    /// Starts the thread that sends, until `stop`. `source` names this gateway in its events.
    ///
    /// # Errors
    /// What keeps the thread or TLS from working.
    pub fn start(config: &EventsConfig, source: String, stop: CancellationToken) -> io::Result<Self> {
        let policy = RetryPolicy {
            first: Duration::from_millis(500),
            most: Duration::from_secs(5),
            give_up_after: Duration::MAX,
        };
        Self::start_with(config, source, policy, stop)
    }

    /// The same at another pace.
    ///
    /// # Errors
    /// As [`RowEvents::start`].
    pub fn start_with(
        config: &EventsConfig,
        source: String,
        policy: RetryPolicy,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel(MAX_BATCHES);
        let load = Arc::new(Load::default());
        let delivery = Delivery {
            client: client::client(&config.url)?,
            url: config.url.to_string(),
            timeout: config.timeout,
            common: Common { source, namespace: config.namespace.clone(), mode: config.mode },
            policy,
            load: load.clone(),
            is_failing: AtomicBool::new(false),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = delivery.run(receiver) => {}
                    () = stop.cancelled() => {}
                }
            });
        };
        thread::Builder::new().name("row-events".to_owned()).spawn(run)?;
        Ok(Self { batches: sender, load, max_waiting: config.max_waiting })
    }

    /// What became of the events so far.
    pub fn load(&self) -> Arc<Load> {
        self.load.clone()
    }

    /// Takes as many of the first rows as there is room for.
    fn offer(&self, batch: &RecordBatch) {
        let rows = batch.num_rows();
        let bytes = batch.get_array_memory_size();
        let taken = match self.batches.try_reserve() {
            Err(_) => 0,
            Ok(place) => {
                // Only this thread adds, so what is found free stays free.
                let room = self.max_waiting.saturating_sub(self.load.events.load(Relaxed)) / EVENTS_A_ROW;
                let waiting_bytes = self.load.bytes.load(Relaxed);
                let fits = waiting_bytes == 0 || waiting_bytes + bytes <= MAX_WAITING_BYTES;
                let taken = if fits { rows.min(room) } else { 0 };
                if taken > 0 {
                    let events = self.load.events.fetch_add(taken * EVENTS_A_ROW, Relaxed) + taken * EVENTS_A_ROW;
                    self.load.bytes.fetch_add(bytes, Relaxed);
                    metrics::set_events_waiting(events);
                    place.send(Waiting { rows: batch.slice(0, taken), held: Held { load: self.load.clone(), bytes } });
                }
                taken
            }
        };
        let dropped = ((rows - taken) * EVENTS_A_ROW) as u64;
        if dropped > 0 {
            self.load.dropped.fetch_add(dropped, Relaxed);
            metrics::count_events("dropped", dropped);
        }
    }
}

impl RowsWitness for RowEvents {
    fn rows(&mut self, _version: &VersionLog, batch: &RecordBatch) {
        self.offer(batch);
    }
}
