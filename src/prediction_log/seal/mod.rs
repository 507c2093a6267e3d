//! From a segment to a Parquet file, on a thread of its own, so that rows go on being written meanwhile.
//!
//! [`segment`] does it for one segment, [`file`] is how a Parquet file gets to its place; here is the thread, with the
//! segments that wait for it. They lie on the disk in any case: what can't be sealed now, for want of room or because the
//! process ends, is sealed later or at the next start.

pub mod file;
pub mod segment;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use self::segment::{Origin, SealError, Sealed, seal};
use super::stream::Wal;

/// Segments that may wait for the thread; further ones wait on the disk for the next start.
pub const MAX_WAITING: usize = 16_384;
/// Wait after a first failure; it doubles with each one that follows.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// How nice the thread is: sealing is the only work that can wait, and compresses for hundreds of milliseconds. Runs of models
/// go before it.
const NICE: i32 = 10;

/// What is done on the thread when no segment waits, such as deleting old files.
pub type Chore = Box<dyn FnOnce() + Send>;
/// Chores that may wait; one more is not taken.
const MAX_CHORES: usize = 4;

/// A handle to the thread that seals segments of both tables. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sealer {
    shared: Arc<Shared>,
}

/// What the thread did and has before it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealStats {
    pub waiting: usize,
    pub sealed_files: u64,
    pub sealed_rows: u64,
    /// Bytes of batches that were not whole, in segments that a process or a machine left when it died.
    pub torn_bytes: u64,
    /// Segments that could not be read and now have the ending `damaged`.
    pub set_aside: u64,
    pub failures: u64,
    pub last_error: Option<String>,
}

struct Shared {
    wal: Arc<Wal>,
    state: Mutex<State>,
    changed: Condvar,
    told: OnceLock<Told>,
}

/// Who wants to know of each sealed file. Must not block.
type Told = Box<dyn Fn(&Path) + Send + Sync>;

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    chores: VecDeque<Chore>,
    is_busy: bool,
    is_ending: bool,
    stats: SealStats,
}

#[derive(Debug, Clone)]
struct Job {
    segment: PathBuf,
    failures: u32,
    not_before: Instant,
}

enum Work {
    Seal(Job),
    Chore(Chore),
    End,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").field("wal", &self.wal).finish_non_exhaustive()
    }
}

impl Sealer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system's, when the thread can't be started.
    pub fn start(wal: Arc<Wal>) -> io::Result<Self> {
        let shared = Arc::new(Shared { wal, state: Mutex::default(), changed: Condvar::new(), told: OnceLock::new() });
        let theirs = shared.clone();
        thread::Builder::new().name("log-sealer".to_owned()).spawn(move || {
            // Of this thread alone, and where it is allowed.
            let _ = rustix::process::setpriority_process(None, NICE);
            theirs.run();
        })?;
        Ok(Self { shared })
    }

    /// Has somebody told of each file that is sealed from now on; for one caller. `told` must not block.
    pub fn tell(&self, told: impl Fn(&Path) + Send + Sync + 'static) {
        let _ = self.shared.told.set(Box::new(told));
    }

    /// Hands a closed segment over. Never waits for the disk; what can't be sealed now stays there and is tried again.
    pub fn seal(&self, segment: PathBuf) {
        let mut state = self.shared.state();
        if state.waiting.len() >= MAX_WAITING {
            state.stats.last_error =
                Some(format!("{MAX_WAITING} segments wait to be sealed, more wait for the next start"));
            return;
        }
        state.waiting.push_back(Job { segment, failures: 0, not_before: Instant::now() });
        self.shared.changed.notify_all();
    }

    /// Has something done when no segment can be sealed. Says whether it was taken.
    pub fn chore(&self, chore: Chore) -> bool {
        let mut state = self.shared.state();
        let is_taken = state.chores.len() < MAX_CHORES && !state.is_ending;
        if is_taken {
            state.chores.push_back(chore);
            self.shared.changed.notify_all();
        }
        is_taken
    }

    pub fn stats(&self) -> SealStats {
        let state = self.shared.state();
        SealStats { waiting: state.waiting.len() + usize::from(state.is_busy), ..state.stats.clone() }
    }

    /// Waits until every segment was tried at least once more and none that can be sealed waits, at most until `deadline`.
    /// Says whether all are sealed.
    pub fn settle(&self, deadline: Instant) -> bool {
        let mut state = self.shared.state();
        // Those that failed get another try now.
        for job in &mut state.waiting {
            job.not_before = Instant::now();
        }
        self.shared.changed.notify_all();
        loop {
            let now = Instant::now();
            let is_open = state.is_busy || state.waiting.iter().any(|job| job.not_before <= now);
            let Some(left) = deadline.checked_duration_since(now).filter(|left| is_open && !left.is_zero()) else {
                return state.waiting.is_empty() && !state.is_busy;
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// As [`Sealer::settle`], and ends the thread. What is not sealed then is sealed at the next start.
    pub fn finish(&self, deadline: Instant) -> bool {
        let is_done = self.settle(deadline);
        self.end();
        is_done
    }

    /// Ends the thread after what it is at.
    pub fn end(&self) {
        self.shared.state().is_ending = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            match self.next() {
                Work::Seal(job) => {
                    let outcome = seal(&self.wal.data_dir, &self.wal.disk, &job.segment);
                    self.settled(job, outcome);
                }
                Work::Chore(chore) => {
                    chore();
                    self.state().is_busy = false;
                    self.changed.notify_all();
                }
                Work::End => return,
            }
        }
    }

    /// Waits for something to do.
    fn next(&self) -> Work {
        let mut state = self.state();
        loop {
            if state.is_ending {
                return Work::End;
            }
            let now = Instant::now();
            if let Some(at) = state.waiting.iter().position(|job| job.not_before <= now)
                && let Some(job) = state.waiting.remove(at)
            {
                state.is_busy = true;
                return Work::Seal(job);
            }
            if let Some(chore) = state.chores.pop_front() {
                state.is_busy = true;
                return Work::Chore(chore);
            }
            let next = state.waiting.iter().map(|job| job.not_before.saturating_duration_since(now)).min();
            let wait = next.unwrap_or(LONGEST_RETRY);
            state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn settled(&self, job: Job, outcome: Result<Sealed, SealError>) {
        let is_damaged = outcome.as_ref().err().is_some_and(SealError::is_damage);
        let damaged = is_damaged.then(|| set_aside(&self.wal, &job.segment));
        if let (Ok(Sealed { file: Some(file), .. }), Some(told)) = (&outcome, self.told.get()) {
            told(file);
        }
        let mut state = self.state();
        state.is_busy = false;
        match outcome {
            Ok(sealed) => {
                state.stats.sealed_files += u64::from(sealed.rows > 0);
                state.stats.sealed_rows += sealed.rows;
                state.stats.torn_bytes += sealed.torn_bytes;
            }
            Err(fault) => {
                let error = fault.to_string();
                tracing::warn!(segment = %job.segment.display(), error, "a segment of the log was not sealed");
                state.stats.last_error = Some(error);
                state.stats.failures += 1;
                let is_newer = matches!(fault, SealError::Newer { .. });
                match damaged {
                    Some(Ok(())) => state.stats.set_aside += 1,
                    // A segment that is gone needs no other try.
                    _ if !job.segment.exists() || is_newer => {}
                    _ => {
                        let failures = job.failures + 1;
                        let not_before = Instant::now() + retry_after(failures);
                        state.waiting.push_back(Job { failures, not_before, ..job });
                    }
                }
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Wait after so many failures in a row.
fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_RETRY)
}

/// Gives a segment that nobody can read a name that nobody looks for. It is not deleted.
fn set_aside(wal: &Wal, segment: &Path) -> io::Result<()> {
    let name = segment.file_name().unwrap_or_default().to_string_lossy();
    wal.disk.rename(segment, &segment.with_file_name(format!("{name}.{DAMAGED_EXTENSION}")))
}

/// Ending of a segment that could not be read.
pub const DAMAGED_EXTENSION: &str = "damaged";
