//! The door of the feedback log, and the thread behind it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
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
    messages: SyncSender<Message>,
    waiting_items: Arc<AtomicUsize>,
}

enum Message {
    Take(Call),
    /// End all segments, then tell.
    Close(oneshot::Sender<()>),
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
        let inbox = Inbox { messages: receiver, waiting_items: waiting_items.clone() };
        let run = move || inbox.run(Keeper::new(parts), &stop);
        let thread = std::thread::Builder::new().name("feedback".to_owned()).spawn(run)?;
        Ok((Self { door: Some(Door { messages: sender, waiting_items }) }, thread))
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

    /// Ends all open segments, so that what has come so far is sealed without waiting for their size or age. The sealing
    /// itself goes on when this returns.
    ///
    /// # Errors
    /// `Unsupported` without a log, `Unavailable` if too much waits.
    pub async fn close_segments(&self) -> Result<()> {
        let Some(door) = &self.door else { return Err(off()) };
        let (done, told) = oneshot::channel();
        door.send(Message::Close(done))?;
        told.await.map_err(|_| stopped())
    }
}

impl Door {
    async fn take(&self, items: Vec<Feedback>) -> Result<Counts> {
        let count = items.len();
        let waiting = self.waiting_items.fetch_add(count, Relaxed);
        let (answer, answered) = oneshot::channel();
        let fits = waiting == 0 || waiting + count <= MAX_WAITING_ITEMS;
        let sent = if fits { self.send(Message::Take(Call { items, answer })) } else { Err(full(waiting)) };
        if let Err(error) = sent {
            self.waiting_items.fetch_sub(count, Relaxed);
            metrics::count_feedback("refused", count as u64);
            return Err(error);
        }
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    fn send(&self, message: Message) -> Result<()> {
        self.messages.try_send(message).map_err(|cause| match cause {
            TrySendError::Full(_) => full(self.waiting_items.load(Relaxed)),
            TrySendError::Disconnected(_) => stopped(),
        })
    }
}

fn off() -> Error {
    Error::Unsupported("this server keeps no feedback: it runs without a data directory (--data-dir)".to_owned())
}

fn stopped() -> Error {
    Error::Unavailable("the feedback log has stopped".to_owned())
}

fn full(waiting: usize) -> Error {
    Error::Unavailable(format!("the feedback log is full: {waiting} of {MAX_WAITING_ITEMS} items wait to be written"))
}

/// The thread's end of the door.
struct Inbox {
    messages: Receiver<Message>,
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
            let Came { calls, closings, is_closed } = self.next(sleep);
            let is_idle = calls.is_empty();
            let now_us = unix_us(SystemTime::now());
            keeper.take(calls, now_us);
            if !closings.is_empty() {
                keeper.close_all(now_us);
            }
            // Whoever left doesn't want to know.
            closings.into_iter().for_each(|done| _ = done.send(()));
            if (now_us - last_tick_us).unsigned_abs() >= TICK.as_micros() as u64 {
                last_tick_us = now_us;
                keeper.tick(now_us);
            }
            if is_closed || (is_last && is_idle) {
                return keeper.close_all(now_us);
            }
        }
    }

    /// What has come within this time.
    fn next(&self, sleep: Duration) -> Came {
        let mut came = Came::default();
        let mut message = match self.messages.recv_timeout(sleep) {
            Ok(first) => Some(first),
            Err(cause) => {
                came.is_closed = cause == RecvTimeoutError::Disconnected;
                None
            }
        };
        let mut count = 0;
        while let Some(next) = message {
            match next {
                Message::Take(call) => {
                    count += call.items.len();
                    came.calls.push(call);
                }
                Message::Close(done) => came.closings.push(done),
            }
            message = if count < ROUND_ITEMS { self.messages.try_recv().ok() } else { None };
        }
        self.waiting_items.fetch_sub(count, Relaxed);
        came
    }
}

#[derive(Default)]
struct Came {
    calls: Vec<Call>,
    closings: Vec<oneshot::Sender<()>>,
    /// Nothing more can come.
    is_closed: bool,
}

#[cfg(test)]
mod tests;
