//! A fixed number of worker threads on one queue.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::queue::{Answer, Job, JobError, Queue, Slot};
use crate::engine::{Model, RunError, RunOutput, Session};
use crate::error::Error;
use crate::inference::Deadline;
use crate::telemetry::stats::ServableStats;
use crate::tensor::Tensor;

/// Size of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    pub workers: usize,
    /// Requests that may wait.
    pub max_queue_size: usize,
}

/// The workers of one arm. They end when the pool is dropped and their queue is empty.
#[derive(Debug)]
pub struct Pool {
    queue: Arc<Queue>,
}

impl Pool {
    /// Starts the workers. `name` is the model's, for error texts and thread names.
    ///
    /// # Errors
    /// The operating system's, when a thread can't be started.
    pub fn start(
        name: &str,
        model: &Arc<dyn Model>,
        stats: &Arc<ServableStats>,
        config: PoolConfig,
    ) -> std::io::Result<Self> {
        let pool = Self { queue: Queue::new(name.to_owned(), config.max_queue_size) };
        for _ in 0..config.workers.max(1) {
            let worker = Worker { queue: pool.queue.clone(), session: model.clone().session(), stats: stats.clone() };
            thread::Builder::new().name(format!("run {name}")).spawn(move || worker.run())?;
        }
        Ok(pool)
    }

    /// Admits a request, or sheds it now.
    ///
    /// # Errors
    /// `Overloaded`.
    pub fn reserve(&self) -> Result<Slot, Error> {
        self.queue.reserve()
    }

    /// Requests that wait or were promised a place.
    pub fn depth(&self) -> usize {
        self.queue.depth()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.queue.close();
    }
}

struct Worker {
    queue: Arc<Queue>,
    session: Box<dyn Session>,
    stats: Arc<ServableStats>,
}

impl Worker {
    fn run(mut self) {
        while let Some(job) = self.queue.take() {
            let now = Instant::now();
            if job.is_abandoned() {
                continue;
            }
            if job.deadline.passed(now) {
                job.expire();
                continue;
            }
            let result = self.execute(&job);
            if let Ok(output) = &result {
                self.stats.record_execution(job.rows, &output.timing);
            }
            job.finish(result, now);
        }
    }

    fn execute(&mut self, job: &Job) -> Result<RunOutput, RunError> {
        let stop = || job.is_abandoned() || job.deadline.passed(Instant::now());
        // The engine catches its own panics; this is for one in our code around it, which must not cost a worker.
        catch_unwind(AssertUnwindSafe(|| self.session.run(&job.inputs, &stop)))
            .unwrap_or_else(|_| Err(RunError::Failed("the worker panicked around the run".to_owned())))
    }
}

/// Submits a request and turns what can go wrong into the request's error.
///
/// `failed` makes the error of a run that failed from the engine's words, which are for the log only.
///
/// # Errors
/// `DeadlineExceeded`, `Invalid` for inputs the engine can't take, `Unavailable` when the workers are gone, or what
/// `failed` makes.
pub async fn run(
    slot: Slot,
    inputs: Vec<Tensor>,
    rows: usize,
    deadline: Deadline,
    failed: impl FnOnce(String) -> Error,
) -> Result<Answer, Error> {
    match slot.submit(inputs, rows, deadline).await {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(JobError::Expired)) => Err(Error::DeadlineExceeded { stage: "while the request waited or ran" }),
        Some(Err(JobError::Run(RunError::Stopped))) => Err(Error::DeadlineExceeded { stage: "while the model ran" }),
        Some(Err(JobError::Run(RunError::BadInput(text)))) => Err(Error::Invalid(text)),
        Some(Err(JobError::Run(RunError::Failed(cause)))) => Err(failed(cause)),
        None => Err(Error::Unavailable("the model's workers have stopped".to_owned())),
    }
}
