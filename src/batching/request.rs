//! One admitted request: what a worker needs of it, and where its answer is put together.

use std::hash::Hasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::rows::concat_rows;
use crate::engine::{RunError, RunOutput, RunTiming};
use crate::error::ShedCause;
use crate::inference::{Deadline, Priority};
use crate::signature::BatchAxes;
use crate::tensor::Tensor;

/// What is to be run, checked against the signature.
#[derive(Debug)]
pub struct Work {
    /// In the signature's order.
    pub inputs: Vec<Tensor>,
    /// Rows along the batch axis; 1 where none is proven.
    pub rows: usize,
    pub deadline: Deadline,
    /// When it is answered that it has waited too long, if no run of it has begun.
    pub start_by: Option<Instant>,
    pub priority: Priority,
}

impl Work {
    /// Whether its time to begin has passed.
    pub fn is_late(&self, now: Instant) -> bool {
        self.start_by.is_some_and(|start_by| now >= start_by)
    }

    /// When a run of this length must begin at the latest.
    pub fn must_start_by(&self, run: Duration) -> Option<Instant> {
        let deadline = self.deadline.instant().map(|instant| instant.checked_sub(run).unwrap_or(instant));
        [deadline, self.start_by].into_iter().flatten().min()
    }
}

/// What a run gives a request.
#[derive(Debug)]
pub struct Answer {
    /// In the signature's order.
    pub tensors: Vec<Tensor>,
    /// Of the runs that the request was part of, one after the other.
    pub timing: RunTiming,
    /// From admission to its first run.
    pub queue: Duration,
    /// Rows that were run together, those of other requests and of padding among them; the most of its runs.
    pub batch_size: usize,
}

impl Answer {
    /// That of a request of so many rows that did not wait and ran alone.
    pub fn at_once(output: RunOutput, rows: usize) -> Self {
        Self { tensors: output.tensors, timing: output.timing, queue: Duration::ZERO, batch_size: rows }
    }
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// The deadline passed.
    Expired,
    /// It had to leave the queue for others, or waited there for too long.
    Shed(ShedCause),
    Run(RunError),
}

/// How a request ends.
pub type Outcome = Result<Answer, NoAnswer>;

/// An admitted request, shared by its queue, its runs and whoever waits for it.
#[derive(Debug)]
pub struct Request {
    /// In the order of admission to its pool.
    pub number: u64,
    pub work: Work,
    /// Bytes of its inputs.
    pub bytes: usize,
    pub admitted: Instant,
    /// Equal for requests whose rows may share a run.
    shape_hash: u64,
    left: AtomicBool,
    progress: Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    /// Taken by the first outcome.
    reply: Option<oneshot::Sender<Outcome>>,
    /// Answers to parts of it, each with its first row.
    parts: Vec<(usize, Vec<Tensor>)>,
    rows_done: usize,
    timing: RunTiming,
    started: Option<Instant>,
    batch_size: usize,
}

impl Request {
    /// A request and the place where its outcome will arrive. `axes` are those of the signature.
    pub fn new(number: u64, work: Work, axes: Option<&BatchAxes>, now: Instant) -> (Self, oneshot::Receiver<Outcome>) {
        let (reply, outcome) = oneshot::channel();
        let progress = Progress {
            reply: Some(reply),
            parts: vec![],
            rows_done: 0,
            timing: RunTiming::default(),
            started: None,
            batch_size: 0,
        };
        let request = Self {
            number,
            bytes: bytes_of(&work.inputs),
            shape_hash: axes.map_or(number, |axes| shape_hash(&work.inputs, axes)),
            work,
            admitted: now,
            left: AtomicBool::new(false),
            progress: Mutex::new(progress),
        };
        (request, outcome)
    }

    /// Whether rows of both may lie in one run: all shapes agree but for the batch axis, and what all rows share is the
    /// same.
    pub fn shares_a_run_with(&self, other: &Self, axes: &BatchAxes) -> bool {
        let alike = |((a, b), axis): ((&Tensor, &Tensor), &Option<usize>)| match axis {
            None => a == b,
            Some(axis) => {
                let (a, b) = (a.shape(), b.shape());
                a.len() == b.len() && (0..a.len()).all(|at| at == *axis || a[at] == b[at])
            }
        };
        self.shape_hash == other.shape_hash
            && self.work.inputs.iter().zip(&other.work.inputs).zip(&axes.inputs).all(alike)
    }

    /// Says that nobody waits for it any more.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Whether a run of it would be for nobody: its client has left or its deadline has passed.
    pub fn is_void(&self, now: Instant) -> bool {
        self.has_left() || self.work.deadline.passed(now)
    }

    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Whether an outcome was given already, as by a part of it that failed.
    pub fn is_settled(&self) -> bool {
        self.progress().reply.is_none()
    }

    /// Takes the answer to `count` rows from `start` on; the last part sends the whole.
    pub fn answer_part(&self, start: usize, part: Part, axes: Option<&BatchAxes>) {
        let mut progress = self.progress();
        let Part { tensors, count, timing, started, batch_size } = part;
        progress.rows_done += count;
        progress.timing.input += timing.input;
        progress.timing.infer += timing.infer;
        progress.timing.output += timing.output;
        let started = *progress.started.get_or_insert(started);
        progress.batch_size = progress.batch_size.max(batch_size);
        progress.parts.push((start, tensors));
        if progress.rows_done < self.work.rows {
            return;
        }
        let Some(reply) = progress.reply.take() else { return };
        let (timing, batch_size) = (progress.timing, progress.batch_size);
        let parts = std::mem::take(&mut progress.parts);
        drop(progress);
        let answer = join(parts, axes).map_err(NoAnswer::Run);
        let queue = started.saturating_duration_since(self.admitted);
        // A client that left meanwhile doesn't need it.
        let _ = reply.send(answer.map(|tensors| Answer { tensors, timing, queue, batch_size }));
    }

    /// Ends it without an answer; its other parts count for nothing.
    pub fn fail(&self, why: NoAnswer) {
        let reply = {
            let mut progress = self.progress();
            progress.parts.clear();
            progress.reply.take()
        };
        if let Some(reply) = reply {
            let _ = reply.send(Err(why));
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        // Nothing panics while it is held.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to some rows of a request.
#[derive(Debug)]
pub struct Part {
    pub tensors: Vec<Tensor>,
    pub count: usize,
    pub timing: RunTiming,
    /// When their run began.
    pub started: Instant,
    /// Rows of the whole run.
    pub batch_size: usize,
}

/// Bytes that these tensors hold.
pub fn bytes_of(tensors: &[Tensor]) -> usize {
    tensors.iter().map(|tensor| tensor.data().len()).sum()
}

/// The parts' outputs as one, in the order of their rows. Outputs without rows are the first part's.
fn join(mut parts: Vec<(usize, Vec<Tensor>)>, axes: Option<&BatchAxes>) -> Result<Vec<Tensor>, RunError> {
    if parts.len() == 1 {
        return Ok(parts.remove(0).1);
    }
    parts.sort_unstable_by_key(|(start, _)| *start);
    let of_output = |output: usize| {
        let pieces: Vec<Tensor> = parts.iter().map(|(_, tensors)| tensors[output].clone()).collect();
        match axes.and_then(|axes| axes.outputs[output]) {
            None => Ok(pieces.into_iter().next().expect("a request has at least one part")),
            Some(axis) => concat_rows(&pieces, axis).ok_or_else(|| {
                RunError::Failed(format!("output {output} has another shape in some rows of the request"))
            }),
        }
    };
    (0..parts[0].1.len()).map(of_output).collect()
}

fn shape_hash(inputs: &[Tensor], axes: &BatchAxes) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for (input, axis) in inputs.iter().zip(&axes.inputs) {
        hasher.write_usize(input.shape().len());
        for (at, &size) in input.shape().iter().enumerate() {
            hasher.write_usize(if *axis == Some(at) { 0 } else { size });
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn axes() -> BatchAxes {
        BatchAxes { inputs: vec![Some(0), None], outputs: vec![Some(0), None] }
    }

    fn request(rows: usize, width: usize, shared: f32) -> (Request, oneshot::Receiver<Outcome>) {
        let shared = Tensor::from_elements(DataType::Fp32, vec![1], &[shared]).unwrap();
        let inputs = vec![Tensor::zeros(DataType::Fp32, vec![rows, width]), shared];
        let work = Work { inputs, rows, deadline: Deadline::NONE, priority: Priority::High, start_by: None };
        Request::new(1, work, Some(&axes()), Instant::now())
    }

    fn part(values: &[f32], shared: f32) -> Part {
        let fp32 = |values: &[f32]| Tensor::from_elements(DataType::Fp32, vec![values.len()], values).unwrap();
        Part {
            tensors: vec![fp32(values), fp32(&[shared])],
            count: values.len(),
            timing: RunTiming::default(),
            started: Instant::now(),
            batch_size: values.len(),
        }
    }

    #[test]
    fn rows_share_a_run_where_everything_but_their_number_agrees() {
        let (one, two) = (request(1, 4, 0.5).0, request(2, 4, 0.5).0);
        assert!(one.shares_a_run_with(&two, &axes()));
        assert!(!one.shares_a_run_with(&request(1, 5, 0.5).0, &axes()), "another width");
        assert!(!one.shares_a_run_with(&request(1, 4, 0.7).0, &axes()), "another value for what all rows share");
    }

    #[test]
    fn parts_come_together_in_the_order_of_their_rows() {
        let (request, mut outcome) = request(3, 4, 0.5);
        request.answer_part(1, part(&[1.0, 2.0], 7.0), Some(&axes()));
        assert!(outcome.try_recv().is_err());
        request.answer_part(0, part(&[0.0], 7.0), Some(&axes()));
        let answer = outcome.try_recv().unwrap().unwrap();
        assert_eq!(answer.tensors[0].elements::<f32>().collect::<Vec<_>>(), [0.0, 1.0, 2.0]);
        assert_eq!(answer.tensors[1].shape(), [1]);
    }

    #[test]
    fn a_part_that_fails_ends_the_whole_once() {
        let (request, mut outcome) = request(2, 4, 0.5);
        request.fail(NoAnswer::Run(RunError::Failed("first".into())));
        request.fail(NoAnswer::Expired);
        request.answer_part(0, part(&[0.0, 1.0], 7.0), Some(&axes()));
        assert!(request.is_settled());
        let failure = outcome.try_recv().unwrap().unwrap_err();
        assert!(matches!(failure, NoAnswer::Run(RunError::Failed(text)) if text == "first"));
    }
}
