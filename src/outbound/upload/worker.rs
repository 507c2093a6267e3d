//! The loop that takes sealed files to their destination.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::destination::Destination;
use super::ledger::{Ledger, Uploaded};
use super::local::LocalFiles;
use super::queue::Queue;
use super::upload_policy::{Decision, LocalFile, decide, is_whole, remote_name};
use crate::outbound::RetryPolicy;
use crate::telemetry::log_destinations as metrics;

/// Files under way at a time; each is in memory as a whole.
const MAX_CONCURRENT: usize = 2;
/// Time between two looks at all folders. What was told of does not wait for it.
const SCAN_INTERVAL: Duration = Duration::from_secs(30);

/// What uploading works with.
pub struct Worker {
    pub destination: Arc<Destination>,
    pub local: LocalFiles,
    pub ledger: Ledger,
    pub gateway: u16,
    pub retain_local: Option<Duration>,
    pub policy: RetryPolicy,
    /// Unix time in ms.
    pub now: fn() -> u64,
    /// Files that were sealed just now.
    pub sealed: mpsc::Receiver<PathBuf>,
    /// Who wants to know when nothing waits any more.
    pub finish: mpsc::Receiver<oneshot::Sender<()>>,
}

/// What became of an attempt.
enum Outcome {
    Uploaded(LocalFile),
    Gone,
    Failed(String),
}

impl Worker {
    /// Uploads for ever.
    pub async fn run(mut self) {
        let (mut queue, mut under_way) = (Queue::default(), FuturesUnordered::new());
        let mut finishing: Vec<oneshot::Sender<()>> = vec![];
        let mut next_scan = Instant::now();
        loop {
            if next_scan <= Instant::now() {
                self.scan(&mut queue);
                next_scan = Instant::now() + SCAN_INTERVAL;
            }
            while under_way.len() < MAX_CONCURRENT
                && let Some(name) = queue.take(Instant::now())
            {
                under_way.push(attempt(self.destination.clone(), self.local.clone(), self.gateway, name));
            }
            metrics::set_uploads_waiting(queue.len());
            if queue.len() == 0 {
                finishing.drain(..).for_each(|told| _ = told.send(()));
            }
            // With all hands full only an upload that ends makes room.
            let next = if under_way.len() < MAX_CONCURRENT { queue.next_due() } else { None };
            tokio::select! {
                Some((name, outcome)) = under_way.next(), if !under_way.is_empty() => {
                    self.settle(&mut queue, name, outcome);
                }
                Some(path) = self.sealed.recv() => {
                    if let Some(name) = self.local.name_of(&path) {
                        queue.add(name, Instant::now());
                    }
                }
                Some(told) = self.finish.recv() => {
                    next_scan = Instant::now();
                    finishing.push(told);
                }
                () = sleep_until(next.map_or(next_scan, |next| next.min(next_scan))) => {}
            }
        }
    }

    /// Looks at every sealed file: queues what was not uploaded, deletes what was and is old.
    fn scan(&mut self, queue: &mut Queue) {
        let files = match self.local.list() {
            Ok(files) => files,
            Err(error) => return tracing::error!(%error, "the folders of the prediction log can't be read"),
        };
        let now_ms = (self.now)();
        let mut here: HashSet<&str> = HashSet::new();
        for file in &files {
            match decide(file, self.ledger.get(&file.name), self.retain_local, now_ms) {
                Decision::Upload => queue.add(file.name.clone(), Instant::now()),
                Decision::Keep => {}
                Decision::Delete => match self.local.delete(&file.name) {
                    Ok(()) => continue,
                    Err(error) => tracing::error!(file = file.name, %error, "an uploaded file can't be deleted"),
                },
            }
            here.insert(&file.name);
        }
        if let Err(error) = self.ledger.keep_only(&here) {
            tracing::error!(%error, "the state can't be cleaned of files that are gone");
        }
    }

    fn settle(&mut self, queue: &mut Queue, name: String, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Uploaded(file) => {
                let LocalFile { name, bytes, modified_ms } = file;
                let row = Uploaded { name, bytes, modified_ms, uploaded_ms: (self.now)() };
                // Without its row the next process would upload it again, and so does this one.
                self.ledger.add(row).map(|()| Some(bytes)).map_err(|error| error.to_string())
            }
            Outcome::Gone => Ok(None),
            Outcome::Failed(cause) => Err(cause),
        };
        match outcome {
            Ok(bytes) => {
                queue.done(&name);
                if let Some(bytes) = bytes {
                    metrics::count_upload("uploaded", bytes);
                    tracing::debug!(file = name, bytes, "uploaded");
                }
            }
            Err(cause) => {
                let wait = queue.failed(&name, &self.policy, (Instant::now(), fastrand::u32(..)));
                metrics::count_upload("failed", 0);
                tracing::warn!(file = name, cause, retry_in_s = wait.as_secs_f64(), "a file was not uploaded");
            }
        }
    }
}

/// Uploads one file once. A reading that finds no whole file is a failure like any other: the file is looked at again.
async fn attempt(destination: Arc<Destination>, local: LocalFiles, gateway: u16, name: String) -> (String, Outcome) {
    let outcome = match local.read(&name) {
        Ok(None) => Outcome::Gone,
        Ok(Some((_, bytes))) if !is_whole(&bytes) => Outcome::Failed("it is not a whole Parquet file".to_owned()),
        Ok(Some((file, bytes))) => match destination.put(&remote_name(&name, gateway), bytes).await {
            Ok(()) => Outcome::Uploaded(file),
            Err(cause) => Outcome::Failed(cause),
        },
        Err(error) => Outcome::Failed(error.to_string()),
    };
    (name, outcome)
}
