//! The thread that turns entries into rows on the disk, and the way to tell it something.
//!
//! It looks into the ring by itself, so that no request has to wake it. [`core`] is what it does in one turn, [`version`]
//! is one version's rows between the ring and the sealer.

mod core;
mod version;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use self::core::Core;
pub use self::core::WriterStats;
use super::entry::{RowsWitness, Witness};
use super::retention::Retention;
use super::ring::Entries;
use super::seal::{SealStats, Sealer};
use super::stream::Wal;

/// Time between two looks into the ring while nothing comes. It fills in no such time: 65536 entries in 5 ms are 13 million
/// a second.
const IDLE_POLL: Duration = Duration::from_millis(5);
/// The same while something comes: what the requests allocated goes back to them while it is still in their caches.
const BUSY_POLL: Duration = Duration::from_millis(1);
/// How nice the thread is: as nice as a run of a model. Those who read requests and send answers go before it.
const NICE: i32 = 5;
/// Commands that may wait.
const MAX_COMMANDS: usize = 16;

/// What a writer writes with.
pub struct WriterParts {
    pub wal: Arc<Wal>,
    pub sealer: Sealer,
    pub retention: Arc<Retention>,
    /// See every entry before its rows are written.
    pub witnesses: Vec<Box<dyn Witness>>,
    /// See the rows that were written.
    pub rows_witnesses: Vec<Box<dyn RowsWitness>>,
    /// Number of the gateway, as in its prediction ids.
    pub gateway: u16,
    /// Of redaction.
    pub hmac_key: Vec<u8>,
    /// As in [`LogConfig`](super::config::LogConfig).
    pub disk_share: f64,
    /// As in [`LogConfig`](super::config::LogConfig).
    pub max_open_segments: usize,
}

/// A handle to the writer. Cheap to clone; when the last is gone, the writer stops by itself.
#[derive(Debug, Clone)]
pub struct WriterHandle {
    commands: SyncSender<Command>,
    stats: Arc<Mutex<WriterStats>>,
    sealer: Sealer,
}

#[derive(Debug)]
enum Command {
    /// End all segments.
    Seal { done: SyncSender<()> },
    /// Take what is in the ring, write it, end all segments, and end.
    Stop { deadline: Instant, done: SyncSender<()> },
}

/// Starts the thread.
///
/// # Errors
/// The operating system's, when the thread can't be started.
pub fn start(parts: WriterParts, entries: Entries) -> io::Result<WriterHandle> {
    let (commands, received) = sync_channel(MAX_COMMANDS);
    let sealer = parts.sealer.clone();
    let mut core = Core::new(parts, entries, SystemTime::now());
    let stats = core.stats();
    thread::Builder::new().name("log-writer".to_owned()).spawn(move || {
        // Of this thread alone, and where it is allowed.
        let _ = rustix::process::setpriority_process(None, NICE);
        run(&mut core, &received);
    })?;
    Ok(WriterHandle { commands, stats, sealer })
}

/// Time that a writer whose handles are gone has for what is in the ring.
const LAST_DRAIN: Duration = Duration::from_secs(5);

fn run(core: &mut Core, commands: &Receiver<Command>) {
    let mut wait = Duration::ZERO;
    loop {
        match commands.recv_timeout(wait) {
            Ok(Command::Seal { done }) => {
                let now = SystemTime::now();
                while core.turn(now) {}
                core.close_all(now);
                let _ = done.try_send(());
            }
            Ok(Command::Stop { deadline, done }) => {
                core.drain(SystemTime::now, deadline);
                let _ = done.try_send(());
                return;
            }
            Err(RecvTimeoutError::Disconnected) => return core.drain(SystemTime::now, Instant::now() + LAST_DRAIN),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let has_taken = core.turn(SystemTime::now());
        wait = match has_taken {
            _ if core.is_behind() => Duration::ZERO,
            true => BUSY_POLL,
            false => IDLE_POLL,
        };
    }
}

impl WriterHandle {
    /// Ends all open segments and waits until they are sealed, at most for so long. Says whether they are; what is not is
    /// sealed later. Blocks.
    pub fn seal_now(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, answer) = sync_channel(1);
        self.commands.try_send(Command::Seal { done }).is_ok()
            && answer.recv_timeout(timeout).is_ok()
            && self.sealer.settle(deadline)
    }

    /// Writes what is in the ring, ends and seals all segments and ends the thread, at most within so long. Says whether
    /// all is sealed; what is not is sealed at the next start. Entries that are offered later are dropped and counted.
    /// Blocks.
    pub fn stop(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let (done, answer) = sync_channel(1);
        let is_asked = self.commands.try_send(Command::Stop { deadline, done }).is_ok();
        is_asked && answer.recv_timeout(timeout).is_ok() && self.sealer.settle(deadline)
    }

    pub fn stats(&self) -> WriterStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn seal_stats(&self) -> SealStats {
        self.sealer.stats()
    }
}
