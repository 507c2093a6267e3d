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
use super::upload_policy::{Decision, LocalFile, day_of, decide, is_whole, remote_name, stem};
use crate::outbound::RetryPolicy;
use crate::prediction_log::seal::file::replaced_by;
use crate::prediction_log::table::SEALED_EXTENSION;
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

/// One file's turn.
struct Attempt {
    destination: Arc<Destination>,
    local: LocalFiles,
    gateway: u16,
    name: String,
    /// What was uploaded under its name.
    row: Option<Uploaded>,
}

/// What became of an attempt.
enum Outcome {
    /// With the names of the files that it was merged from.
    Uploaded(LocalFile, Vec<String>),
    /// The objects are gone that it stands for.
    Cleared,
    /// The file is gone, or nothing is left to be done.
    Done,
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
                under_way.extend(self.attempt(&mut queue, name).map(Attempt::run));
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
                Decision::Upload | Decision::Clear => queue.add(file.name.clone(), Instant::now()),
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

    /// What is next for a file; nothing for one whose rows went in another, and not yet for one that was merged from what is
    /// under way: its object would come after it was deleted.
    fn attempt(&self, queue: &mut Queue, name: String) -> Option<Attempt> {
        if self.ledger.is_replaced(&name) {
            queue.done(&name);
            return None;
        }
        let row = self.ledger.get(&name).cloned();
        let replaces = row.as_ref().map_or(&[][..], |row| &row.replaces);
        if queue.under_way().any(|other| replaces.iter().any(|replaced| replaced == stem(other))) {
            queue.failed(&name, &self.policy, (Instant::now(), fastrand::u32(..)));
            return None;
        }
        let (destination, local) = (self.destination.clone(), self.local.clone());
        Some(Attempt { destination, local, gateway: self.gateway, name, row })
    }

    fn settle(&mut self, queue: &mut Queue, name: String, outcome: Outcome) {
        // Without its row the next process would do it again, and so does this one.
        let noted = match outcome {
            Outcome::Uploaded(file, replaces) => {
                let LocalFile { name, bytes, modified_ms } = file;
                let uploaded_ms = (self.now)();
                let row = Uploaded { name, bytes, modified_ms, uploaded_ms, replaces, is_cleared: false };
                self.ledger
                    .add(row)
                    .map(|()| metrics::count_upload("uploaded", bytes))
                    .map_err(|error| error.to_string())
            }
            Outcome::Cleared => self.ledger.clear(&name).map_err(|error| error.to_string()),
            Outcome::Done => return queue.done(&name),
            Outcome::Failed(cause) => Err(cause),
        };
        match noted {
            Ok(()) => {
                tracing::debug!(file = name, "uploaded");
                queue.again(&name, Instant::now());
            }
            Err(cause) => {
                let wait = queue.failed(&name, &self.policy, (Instant::now(), fastrand::u32(..)));
                metrics::count_upload("failed", 0);
                tracing::warn!(file = name, cause, retry_in_s = wait.as_secs_f64(), "a file was not uploaded");
            }
        }
    }
}

impl Attempt {
    /// Does once what is to be done.
    async fn run(self) -> (String, Outcome) {
        let outcome = match self.local.look_at(&self.name) {
            Ok(None) => Outcome::Done,
            // Whether it is old enough to go is asked when all files are looked at.
            Ok(Some(file)) => match decide(&file, self.row.as_ref(), None, 0) {
                Decision::Upload => self.upload().await,
                Decision::Clear => self.clear().await,
                Decision::Keep | Decision::Delete => Outcome::Done,
            },
            Err(error) => Outcome::Failed(error.to_string()),
        };
        (self.name, outcome)
    }

    /// A reading that finds no whole file is a failure like any other: the file is looked at again.
    async fn upload(&self) -> Outcome {
        let (file, bytes) = match self.local.read(&self.name) {
            Ok(None) => return Outcome::Done,
            Ok(Some((_, bytes))) if !is_whole(&bytes) => {
                return Outcome::Failed("it is not a whole Parquet file".to_owned());
            }
            Ok(Some(read)) => read,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let put = self.destination.put(&remote_name(&self.name, self.gateway), bytes.clone()).await;
        match put {
            // What can't be read stands for nothing but itself.
            Ok(()) => Outcome::Uploaded(file, replaced_by(bytes).unwrap_or_default()),
            Err(cause) => Outcome::Failed(cause),
        }
    }

    async fn clear(&self) -> Outcome {
        let replaces = self.row.iter().flat_map(|row| &row.replaces);
        let object = |stem: &String| remote_name(&format!("{stem}.{SEALED_EXTENSION}"), self.gateway);
        let objects = replaces.map(object).collect();
        match self.destination.delete_below(day_of(&self.name), &objects).await {
            Ok(()) => Outcome::Cleared,
            Err(cause) => Outcome::Failed(format!("what it was merged from can't be deleted there: {cause}")),
        }
    }
}
