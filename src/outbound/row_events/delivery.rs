//! Events on their way to the receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use futures_util::stream::{self, Stream, StreamExt as _};
use reqwest::Client;
use tokio::sync::mpsc;

use super::encode::{Common, Encoded, Part, Rows};
use super::{Held, Load, Waiting};
use crate::outbound::{RetryPolicy, client};
use crate::telemetry::log_destinations as metrics;

/// Events under way at a time.
const MAX_CONCURRENT: usize = 16;
/// Times that an event is sent before it is given up.
pub const MAX_ATTEMPTS: u32 = 4;

/// What delivery works with.
pub struct Delivery {
    pub client: Client,
    pub url: String,
    /// Of one attempt as a whole.
    pub timeout: Duration,
    pub common: Common,
    pub policy: RetryPolicy,
    pub load: Arc<Load>,
    /// Whether the last attempt failed; a receiver that fails is logged once.
    pub is_failing: AtomicBool,
}

/// One event, encoded when its turn comes.
struct Event {
    batch: Arc<(Rows, Held)>,
    row: usize,
    part: Part,
}

impl Delivery {
    /// Sends what comes, in any order, for ever.
    pub async fn run(self, batches: mpsc::Receiver<Waiting>) {
        let events = stream::unfold(batches, async |mut batches| Some((batches.recv().await?, batches)));
        events.flat_map(events_of).for_each_concurrent(MAX_CONCURRENT, |event| self.deliver(event)).await;
    }

    async fn deliver(&self, Event { batch, row, part }: Event) {
        let encoded = batch.0.encode(row, part, &self.common);
        let mut delivered = false;
        for failures in 1..=MAX_ATTEMPTS {
            let Err(cause) = self.attempt(&encoded).await else {
                self.is_failing.store(false, Relaxed);
                delivered = true;
                break;
            };
            metrics::count_events("failed", 1);
            if !self.is_failing.swap(true, Relaxed) {
                tracing::warn!(cause, "the receiver of logged rows does not take their events");
            }
            if failures < MAX_ATTEMPTS {
                let wait = self.policy.wait(failures, Duration::ZERO, fastrand::u32(..)).unwrap_or_default();
                tokio::time::sleep(wait).await;
            }
        }
        self.load.ended(delivered);
    }

    async fn attempt(&self, event: &Encoded) -> Result<(), String> {
        let mut request = self.client.post(&self.url).timeout(self.timeout).body(event.body.clone());
        for (name, value) in &event.headers {
            request = request.header(name, value);
        }
        client::taken(request.send().await).await
    }
}

/// Both events of every row. The batch goes when the last of them has ended.
fn events_of(Waiting { rows, held }: Waiting) -> impl Stream<Item = Event> {
    let batch = Arc::new((Rows::new(rows), held));
    let parts = |row| [(row, Part::Request), (row, Part::Response)];
    let all = (0..batch.0.len()).flat_map(parts);
    stream::iter(all.map(move |(row, part)| Event { batch: batch.clone(), row, part }))
}
