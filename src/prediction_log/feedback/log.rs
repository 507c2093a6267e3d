//! The door of the feedback log, and the thread behind it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::item::Feedback;
use super::keeper::{Call, Counts, Keeper, Parts};
use super::told::ItemFault;
use crate::error::{Error, Result};
use crate::prediction_log::stream::unix_us;
use crate::telemetry::metrics;

/// Calls that may wait for the thread.
pub const MAX_WAITING_CALLS: usize = 1024;
/// Items that may wait for the thread.
pub const MAX_WAITING_ITEMS: usize = 1 << 17;
/// Items from which on a round is written without looking for more.
const ROUND_ITEMS: usize = 4096;
/// How long the thread sleeps while nothing comes, so often it ticks, and so soon it sees that it is to stop.
const TICK: Duration = Duration::from_millis(200);
/// How long it sleeps while a call waits for a request that may still come.
const EARLY_TICK: Duration = Duration::from_millis(10);

/// Where both wires bring feedback. Shared by all calls.
pub struct FeedbackLog {
    /// `None`: there is no log.
    door: Option<Door>,
}

struct Door {
    calls: SyncSender<Call>,
    waiting_items: Arc<AtomicUsize>,
}

/// What became of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Items that were kept, repeats among them.
    pub accepted: u64,
    /// Those of them whose prediction is not known here.
    pub unknown: u64,
    /// Items that were not kept: their place in the call, and why.
    pub errors: Vec<(usize, ItemFault)>,
}

impl fmt::Debug for FeedbackLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FeedbackLog").field("is_on", &self.door.is_some()).finish()
    }
}

impl FeedbackLog {
    /// A log that refuses everything: there is no data directory.
    pub fn off() -> Self {
        Self { door: None }
    }

    /// Starts the thread. It ends once `stop` is cancelled, when what had come is written, answered and sealed.
    ///
    /// # Errors
    /// The system's, if it has no thread to give.
    pub fn start(parts: Parts, stop: CancellationToken) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel(MAX_WAITING_CALLS);
        let waiting_items = Arc::new(AtomicUsize::new(0));
        let inbox = Inbox { calls: receiver, waiting_items: waiting_items.clone() };
        let run = move || inbox.run(Keeper::new(parts), &stop);
        let thread = std::thread::Builder::new().name("feedback".to_owned()).spawn(run)?;
        Ok((Self { door: Some(Door { calls: sender, waiting_items }) }, thread))
    }

    pub fn is_on(&self) -> bool {
        self.door.is_some()
    }

    /// Keeps what is sound of a call's items: it is in the log's segments when this returns.
    ///
    /// # Errors
    /// `Unsupported` without a log; `Unavailable` if too much waits already or the disk refuses. Then items may have been
    /// kept, and the call can be repeated as it was.
    pub async fn take(&self, items: Vec<Result<Feedback, ItemFault>>) -> Result<Taken> {
        let Some(door) = &self.door else { return Err(off()) };
        let (mut sound, mut errors) = (vec![], vec![]);
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Ok(feedback) => sound.push(feedback),
                Err(fault) => errors.push((index, fault)),
            }
        }
        metrics::count_feedback("refused", errors.len() as u64);
        let Counts { accepted, unknown } = if sound.is_empty() { Counts::default() } else { door.take(sound).await? };
        Ok(Taken { accepted, unknown, errors })
    }
}

impl Door {
    async fn take(&self, items: Vec<Feedback>) -> Result<Counts> {
        let count = items.len();
        let waiting = self.waiting_items.fetch_add(count, Relaxed);
        let (answer, answered) = oneshot::channel();
        let fits = waiting == 0 || waiting + count <= MAX_WAITING_ITEMS;
        if !fits || self.calls.try_send(Call { items, answer }).is_err() {
            self.waiting_items.fetch_sub(count, Relaxed);
            metrics::count_feedback("refused", count as u64);
            return Err(full(waiting));
        }
        answered.await.unwrap_or_else(|_| Err(Error::Unavailable("the feedback log has stopped".to_owned())))
    }
}

fn off() -> Error {
    Error::Unsupported("this server keeps no feedback: it runs without a data directory (--data-dir)".to_owned())
}

fn full(waiting: usize) -> Error {
    Error::Unavailable(format!("the feedback log is full: {waiting} of {MAX_WAITING_ITEMS} items wait to be written"))
}

/// The thread's end of the door.
struct Inbox {
    calls: Receiver<Call>,
    waiting_items: Arc<AtomicUsize>,
}

impl Inbox {
    fn run(self, mut keeper: Keeper, stop: &CancellationToken) {
        let mut last_tick_us = 0;
        loop {
            let is_last = stop.is_cancelled();
            let sleep = match (is_last, keeper.has_early()) {
                (true, _) => Duration::ZERO,
                (false, true) => EARLY_TICK,
                (false, false) => TICK,
            };
            let (calls, is_closed) = self.next(sleep);
            let is_idle = calls.is_empty();
            let now_us = unix_us(SystemTime::now());
            keeper.take(calls, now_us);
            if (now_us - last_tick_us).unsigned_abs() >= TICK.as_micros() as u64 {
                last_tick_us = now_us;
                keeper.tick(now_us);
            }
            if is_closed || (is_last && is_idle) {
                return keeper.finish(now_us);
            }
        }
    }

    /// What has come within this time, and whether nothing can come any more.
    fn next(&self, sleep: Duration) -> (Vec<Call>, bool) {
        let first = match self.calls.recv_timeout(sleep) {
            Ok(call) => call,
            Err(closed) => return (vec![], closed == RecvTimeoutError::Disconnected),
        };
        let mut count = first.items.len();
        let mut calls = vec![first];
        while count < ROUND_ITEMS
            && let Ok(call) = self.calls.try_recv()
        {
            count += call.items.len();
            calls.push(call);
        }
        self.waiting_items.fetch_sub(count, Relaxed);
        (calls, false)
    }
}

#[cfg(test)]
mod tests;
