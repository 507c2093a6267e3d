//! The bounded queue between the request's path and the workers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::{RunError, RunOutput, RunTiming};
use crate::error::Error;
use crate::inference::Deadline;
use crate::tensor::Tensor;

/// Requests waiting for a worker. Places are promised by [`Queue::reserve`] before a request is put in.
#[derive(Debug)]
pub struct Queue {
    model: String,
    limit: usize,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Places promised to slots that have not submitted yet.
    reserved: usize,
    submitted: u64,
    closed: bool,
}

/// One request on its way to a worker.
#[derive(Debug)]
pub struct Job {
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub deadline: Deadline,
    pub enqueued: Instant,
    number: u64,
    reply: oneshot::Sender<Result<Answer, JobError>>,
}

/// What a worker gives back for a request.
#[derive(Debug)]
pub struct Answer {
    /// In the signature's order.
    pub tensors: Vec<Tensor>,
    pub timing: RunTiming,
    /// From admission to the worker's hands.
    pub queue: Duration,
}

/// Why a worker gave no answer.
#[derive(Debug)]
pub enum JobError {
    /// The deadline had passed before the model ran.
    Expired,
    Run(RunError),
}

impl Queue {
    /// A queue for at most `limit` requests of `model` (its name is for error texts).
    pub fn new(model: String, limit: usize) -> Arc<Self> {
        Arc::new(Self { model, limit, state: Mutex::default(), arrived: Condvar::new() })
    }

    /// Promises a place, or refuses at once.
    ///
    /// # Errors
    /// `Overloaded` when every place is taken or promised.
    pub fn reserve(self: &Arc<Self>) -> Result<Slot, Error> {
        let mut state = self.lock();
        let depth = state.waiting.len() + state.reserved;
        if depth >= self.limit {
            let retry_after = Duration::from_secs(1);
            return Err(Error::Overloaded { model: self.model.clone(), depth, limit: self.limit, retry_after });
        }
        state.reserved += 1;
        Ok(Slot { queue: self.clone() })
    }

    /// Blocks until there is a job; `None` once the queue is closed and empty.
    pub fn take(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.waiting.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Lets the workers go once everything that waits is done.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    /// Requests waiting or promised a place.
    pub fn depth(&self) -> usize {
        let state = self.lock();
        state.waiting.len() + state.reserved
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so a poisoned state is still a whole one.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A promised place in a queue: admission as a value. Dropped unused, the place is free again.
#[derive(Debug)]
pub struct Slot {
    queue: Arc<Queue>,
}

impl Slot {
    /// Puts the request in and waits for its answer, at most until its deadline.
    ///
    /// When this future is dropped the request is dropped too, before it costs compute if it still waits.
    ///
    /// # Errors
    /// `None` when the workers are gone; `JobError` as the worker says, `Expired` also at the deadline itself.
    pub async fn submit(
        self,
        inputs: Vec<Tensor>,
        rows: usize,
        deadline: Deadline,
    ) -> Option<Result<Answer, JobError>> {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut state = self.queue.lock();
            state.submitted += 1;
            let number = state.submitted;
            state.waiting.push_back(Job { inputs, rows, deadline, enqueued: Instant::now(), number, reply });
            number
        };
        self.queue.arrived.notify_one();
        let mut withdrawal = Withdrawal { queue: self.queue.clone(), number, due: true };
        drop(self);
        let answer = match deadline.instant() {
            None => answer.await,
            Some(instant) => match tokio::time::timeout_at(instant.into(), answer).await {
                Ok(answer) => answer,
                Err(_) => return Some(Err(JobError::Expired)),
            },
        };
        withdrawal.due = false;
        answer.ok()
    }
}

/// Takes a request that nobody waits for any more out of the queue at once, so that it holds neither memory nor a place.
struct Withdrawal {
    queue: Arc<Queue>,
    number: u64,
    due: bool,
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        if self.due {
            let withdrawn = {
                let mut state = self.queue.lock();
                let position = state.waiting.iter().position(|job| job.number == self.number);
                position.and_then(|position| state.waiting.remove(position))
            };
            // Its tensors are freed outside the lock.
            drop(withdrawn);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.queue.lock().reserved -= 1;
    }
}

impl Job {
    /// Whether the client has left, so that nobody would read the answer.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    /// Answers with the run's result.
    pub fn finish(self, result: Result<RunOutput, RunError>, started: Instant) {
        let queue = started.saturating_duration_since(self.enqueued);
        let answer = result
            .map(|output| Answer { tensors: output.tensors, timing: output.timing, queue })
            .map_err(JobError::Run);
        // A client that left meanwhile doesn't need it.
        let _ = self.reply.send(answer);
    }

    /// Answers that the deadline passed before the model ran.
    pub fn expire(self) {
        let _ = self.reply.send(Err(JobError::Expired));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_dropped_slot_frees_its_place() {
        let queue = Queue::new("m".into(), 2);
        let first = queue.reserve().unwrap();
        let _second = queue.reserve().unwrap();
        assert!(matches!(queue.reserve(), Err(Error::Overloaded { depth: 2, limit: 2, .. })));
        drop(first);
        assert!(queue.reserve().is_ok());
    }

    #[tokio::test]
    async fn a_submitted_request_moves_from_promised_to_waiting() {
        let queue = Queue::new("m".into(), 1);
        let slot = queue.reserve().unwrap();
        let submitted = tokio::spawn(slot.submit(vec![], 1, Deadline::NONE));
        let job = tokio::task::spawn_blocking({
            let queue = queue.clone();
            move || queue.take()
        });
        let job = job.await.unwrap().unwrap();
        assert_eq!(queue.depth(), 0);
        job.finish(Err(RunError::Stopped), Instant::now());
        assert!(matches!(submitted.await.unwrap(), Some(Err(JobError::Run(RunError::Stopped)))));
    }

    #[tokio::test]
    async fn a_client_that_leaves_takes_its_request_out_of_the_queue() {
        let queue = Queue::new("m".into(), 1);
        let slot = queue.reserve().unwrap();
        let submitted = tokio::spawn(slot.submit(vec![], 1, Deadline::NONE));
        while queue.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        submitted.abort();
        assert!(submitted.await.unwrap_err().is_cancelled());
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn a_client_that_leaves_abandons_a_request_that_a_worker_has() {
        let queue = Queue::new("m".into(), 1);
        let slot = queue.reserve().unwrap();
        let submitted = tokio::spawn(slot.submit(vec![], 1, Deadline::NONE));
        while queue.lock().waiting.is_empty() {
            tokio::task::yield_now().await;
        }
        let job = queue.take().unwrap();
        submitted.abort();
        assert!(submitted.await.unwrap_err().is_cancelled());
        assert!(job.is_abandoned());
    }

    #[tokio::test]
    async fn a_request_whose_deadline_passes_leaves_the_queue_by_itself() {
        let queue = Queue::new("m".into(), 1);
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(10));
        let answer = queue.reserve().unwrap().submit(vec![], 1, deadline).await;
        assert!(matches!(answer, Some(Err(JobError::Expired))));
        assert_eq!(queue.depth(), 0);
    }

    #[test]
    fn a_closed_queue_is_emptied_before_its_workers_go() {
        let queue = Queue::new("m".into(), 1);
        queue.lock().waiting.push_back(Job {
            inputs: vec![],
            rows: 1,
            deadline: Deadline::NONE,
            enqueued: Instant::now(),
            number: 0,
            reply: oneshot::channel().0,
        });
        queue.close();
        assert!(queue.take().is_some());
        assert!(queue.take().is_none());
    }
}
