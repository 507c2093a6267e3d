//! Runs that end when nobody waits for them any more.
//!
//! The library ends a run between two operators once another thread has told it to. Who waits for a run is asked on the
//! worker's thread, so a run that may take long has a thread of its own, and the worker asks meanwhile. A short run is not worth
//! that: it takes place on the worker's thread, and ends by itself.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use ort::session::RunOptions;

use super::convert::failed;
use crate::engine::RunError;

/// Runs that took so long are given a thread, which takes some 50 µs.
const LONG_RUN: Duration = Duration::from_millis(10);
/// How often `stop` is asked.
const POLL: Duration = Duration::from_millis(1);

/// What the last run took, by the octave of its inputs' bytes, in microseconds; 0 before there was one.
pub struct LastRuns([AtomicU32; usize::BITS as usize]);

impl Default for LastRuns {
    fn default() -> Self {
        Self([const { AtomicU32::new(0) }; usize::BITS as usize])
    }
}

impl LastRuns {
    pub fn record(&self, bytes: usize, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.of(bytes).store(micros.max(1), Relaxed);
    }

    /// Whether a run may take long: the last of its size did, or there was none.
    pub fn may_be_long(&self, bytes: usize) -> bool {
        let micros = self.of(bytes).load(Relaxed);
        micros == 0 || Duration::from_micros(micros.into()) >= LONG_RUN
    }

    fn of(&self, bytes: usize) -> &AtomicU32 {
        &self.0[bytes.max(1).ilog2() as usize]
    }
}

/// Does `run` on a thread of its own, and tells the library to end it once `stop` says so.
///
/// # Errors
/// `Stopped`, and those of `run`. A panic of `run` goes on here.
pub fn stoppable<T: Send>(
    stop: &dyn Fn() -> bool,
    run: impl FnOnce(&RunOptions) -> Result<T, RunError> + Send,
) -> Result<T, RunError> {
    let options = RunOptions::new().map_err(failed)?;
    let (worker, ended) = (thread::current(), AtomicBool::new(false));
    let (mut is_stopped, options, ended) = (false, &options, &ended);
    let ran = thread::scope(|scope| {
        let running = scope.spawn(move || {
            let _ended = TellWhenDone { worker, ended };
            run(options)
        });
        while !ended.load(SeqCst) {
            if !is_stopped && stop() {
                is_stopped = true;
                // Where it can't be told, the run goes on to its end.
                options.terminate().unwrap_or_default();
            }
            thread::park_timeout(POLL);
        }
        running.join().unwrap_or_else(|panic| resume_unwind(panic))
    });
    match ran {
        Err(_) if is_stopped => Err(RunError::Stopped),
        ran => ran,
    }
}

/// Wakes the worker, whatever became of the run.
struct TellWhenDone<'a> {
    worker: thread::Thread,
    ended: &'a AtomicBool,
}

impl Drop for TellWhenDone<'_> {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        self.worker.unpark();
    }
}
