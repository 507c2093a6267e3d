//! Copies of requests for the version that is tried: on spare capacity only, compared with what the caller was given.
//!
//! The request's path hands a copy over and forgets it. One future, [`run`], takes the copies one by one; what does not
//! fit or finds no spare capacity is dropped and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::comparison::{compare, has_classes};
use super::{Arm, Backend, Observation, ShadowSample, Share, Split};
use crate::batching::{Answer, NoAnswer, Work};
use crate::budget::{ByteBudget, ByteLease};
use crate::engine::{RunError, RunTiming};
use crate::inference::{Deadline, Priority};
use crate::tensor::Tensor;

/// Copies that may wait.
pub const MAX_WAITING_COPIES: usize = 64;
/// Bytes that the tensors of waiting and running copies may hold.
pub const MAX_COPY_BYTES: u64 = 64 << 20;
/// Copies that run at one time.
const MAX_RUNNING: usize = 2;
/// A copy that has no answer by then never gets one.
const COPY_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the path hands copies over.
#[derive(Debug)]
pub struct Shadows {
    jobs: mpsc::Sender<ShadowJob>,
    budget: Arc<ByteBudget>,
}

/// A request that is to be copied, before it has an answer. Its tensors share their bytes with the request's.
#[derive(Debug)]
pub struct Copied {
    split: Arc<Split>,
    arm: Arm,
    key: Option<u64>,
    inputs: Vec<Tensor>,
    rows: usize,
}

/// A copy with what it is compared with.
#[derive(Debug)]
pub struct ShadowJob {
    copied: Copied,
    outputs: Vec<Tensor>,
    primary: RunTiming,
    _lease: ByteLease,
}

impl Copied {
    /// The copy of a checked request, if it is one of those that are copied.
    pub fn of(share: Option<&Share>, inputs: &[Tensor], rows: usize) -> Option<Self> {
        let share = share?;
        let assigned = share.copied()?;
        let (split, inputs) = (share.split.clone(), inputs.to_vec());
        Some(Self { split, arm: assigned.arm, key: assigned.key, inputs, rows })
    }
}

impl Shadows {
    /// Where copies are handed over, and the end at which [`run`] takes them.
    pub fn channel() -> (Self, mpsc::Receiver<ShadowJob>) {
        let (jobs, receiver) = mpsc::channel(MAX_WAITING_COPIES);
        (Self { jobs, budget: ByteBudget::new(MAX_COPY_BYTES) }, receiver)
    }

    /// Hands a copy over with the answer that the caller was given. Never waits; a copy that does not fit is dropped
    /// and counted.
    pub fn offer(&self, copied: Copied, answer: Answer) {
        let split = copied.split.clone();
        let bytes: usize = copied.inputs.iter().chain(&answer.tensors).map(|tensor| tensor.data().len()).sum();
        let mut lease = self.budget.lease();
        let fits = lease.grow(bytes as u64).is_ok();
        let job = ShadowJob { copied, outputs: answer.tensors, primary: answer.timing, _lease: lease };
        if !fits || self.jobs.try_send(job).is_err() {
            split.dial.drop_shadow();
        }
    }
}

/// Runs copies until nobody can hand any over.
pub async fn run(jobs: mpsc::Receiver<ShadowJob>) {
    ReceiverStream::new(jobs).for_each_concurrent(MAX_RUNNING, mirror).await;
}

/// Runs one copy and tells the dial what became of it.
async fn mirror(job: ShadowJob) {
    let Copied { split, arm, key, inputs, rows } = job.copied;
    if split.dial.shadow_bp() == 0 {
        // The share was taken away since; nobody misses this copy.
        return;
    }
    // Waiting requests are a sign that nothing is to spare.
    if split.backend(arm).pool.depth() > 0 {
        return split.dial.drop_shadow();
    }
    let sample = ShadowSample {
        key,
        failed: false,
        max_abs_difference: 0.0,
        max_rel_difference: 0.0,
        disagrees: false,
        same_class: None,
        primary_us: run_us(&job.primary),
        shadow_us: 0,
    };
    let failed = ShadowSample { failed: true, ..sample };
    let sample = match answer(&split.shadow, inputs, rows).await {
        Outcome::Nothing => return split.dial.drop_shadow(),
        Outcome::Failed => failed,
        Outcome::Answer(copy) => {
            let classes = has_classes(&split.shadow.servable, &copy.tensors);
            compare(&job.outputs, &copy.tensors, &classes, split.tolerance).map_or(failed, |found| ShadowSample {
                max_abs_difference: found.max_abs,
                max_rel_difference: found.max_rel,
                disagrees: found.disagrees,
                same_class: found.same_class,
                shadow_us: run_us(&copy.timing),
                ..sample
            })
        }
    };
    split.dial.observe(Observation::Mirrored(sample));
}

/// What became of a copy's run.
enum Outcome {
    Answer(Answer),
    /// The version could not run what the primary ran.
    Failed,
    /// There was no room or no time for it.
    Nothing,
}

async fn answer(backend: &Backend, inputs: Vec<Tensor>, rows: usize) -> Outcome {
    let servable = &backend.servable;
    let now = Instant::now();
    let (inputs, length) = servable.pad(inputs);
    let deadline = Deadline::after(now, COPY_TIMEOUT);
    let work = Work { inputs, rows, deadline, start_by: None, priority: Priority::Low };
    let Ok(ticket) = backend.pool.admit(work, now) else { return Outcome::Nothing };
    match ticket.outcome().await {
        Ok(mut answer) => match servable.cut(answer.tensors, length) {
            Ok(tensors) => {
                answer.tensors = tensors;
                Outcome::Answer(answer)
            }
            Err(_) => Outcome::Failed,
        },
        Err(NoAnswer::Run(RunError::Failed(cause))) => {
            tracing::debug!(servable = %servable.id, cause, "a copy could not be run");
            Outcome::Failed
        }
        Err(NoAnswer::Run(RunError::BadInput(_))) => Outcome::Failed,
        Err(NoAnswer::Run(RunError::Stopped) | NoAnswer::Expired | NoAnswer::Shed(_)) => Outcome::Nothing,
    }
}

/// Time in the model, in µs. Waiting is left out: a copy waits by design.
fn run_us(timing: &RunTiming) -> u32 {
    let total = timing.input + timing.infer + timing.output;
    u32::try_from(total.as_micros()).unwrap_or(u32::MAX)
}
