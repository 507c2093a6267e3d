//! RECORD: every outcome is counted once, here, and handed to the prediction log.

mod log_part;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use self::log_part::{Ending, LogPart};

use crate::batching::Answer;
use crate::data_plane::DataPlane;
use crate::error::{Error, Kind, Result};
use crate::inference::{Attributes, InferRequest, PredictionId, RequestContext};
use crate::prediction_log::{Offered, Outcome, Synced};
use crate::routing::{Arm, Lane, Observation, Sample, Share, validity};
use crate::servable::{CheckedRequest, Servable};
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics;
use crate::tensor::Tensor;

/// One request's record. Closing it counts the outcome; dropped unclosed, the client has left, which counts too.
pub struct Record<'a> {
    pub plane: &'a DataPlane,
    pub context: &'a RequestContext,
    servable: Option<Arc<Servable>>,
    arm: Arm,
    /// On a split route, and once it has an arm.
    share: Option<Share>,
    invalid: bool,
    rows: usize,
    sample_hash: u64,
    answer: Option<AnswerTimes>,
    prediction: Option<PredictionId>,
    /// Where there is a log: from decoded to closed, or to when it was handed over before that.
    log_part: Option<LogPart>,
    closed: bool,
}

/// Longest that a caller without a deadline waits for its rows to be on the disk.
const MAX_SYNC_WAIT: Duration = Duration::from_secs(10);

#[derive(Clone, Copy)]
struct AnswerTimes {
    queue: Duration,
    timing: crate::engine::RunTiming,
}

impl<'a> Record<'a> {
    pub fn open(plane: &'a DataPlane, context: &'a RequestContext) -> Self {
        Self {
            plane,
            context,
            servable: None,
            arm: Arm::Stable,
            share: None,
            invalid: false,
            rows: 1,
            sample_hash: 0,
            answer: None,
            prediction: None,
            log_part: None,
            closed: false,
        }
    }

    /// Where the request was sent; the version's counters take the outcome, and the arm's statistics on a split route.
    /// May be told again with another lane.
    pub fn routed(&mut self, lane: &Lane) {
        let servable = &lane.backend.servable;
        servable.stats.pending.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.servable.replace(servable.clone()) {
            before.stats.pending.fetch_sub(1, Ordering::Relaxed);
        }
        self.arm = lane.backend.arm;
        self.share = lane.share.clone().filter(|share| share.assigned.is_some());
    }

    pub fn decoded(&mut self, started: Instant, caller: &dyn Attributes, request: &InferRequest) {
        let Some(servable) = &self.servable else { return };
        servable.stats.stage_decode.record(started.elapsed());
        self.sample_hash = match &servable.log {
            Some(_) => log_part::sample_hash(self.context, caller, &request.parameters),
            None => 0,
        };
    }

    pub fn checked(&mut self, client_id: &str, checked: &CheckedRequest) {
        self.rows = checked.rows;
        let version = self.servable.as_ref().and_then(|servable| servable.log.clone());
        let (client_id, inputs) = (|| client_id.to_owned(), || checked.inputs.clone());
        self.log_part = version.map(|version| LogPart::new(version, client_id(), self.sample_hash, inputs()));
    }

    pub fn answered(&mut self, answer: &Answer) {
        let (queue, timing) = (answer.queue, answer.timing);
        if let Some(servable) = &self.servable {
            servable.stats.stage_queue.record(queue);
            servable.stats.stage_compute.record(timing.input + timing.infer + timing.output);
            let is_counted = self.share.as_ref().is_some_and(|share| share.counted().is_some());
            self.invalid = is_counted && !validity::is_valid(servable, &answer.tensors);
        }
        self.answer = Some(AnswerTimes { queue, timing });
    }

    /// The id of the first row; the same however often it is asked for.
    pub fn prediction_id(&mut self) -> PredictionId {
        let slot = self.servable.as_ref().map_or(0, |servable| servable.slot);
        let (gateway, arm) = (self.plane.gateway_id, self.arm.number());
        *self
            .prediction
            .get_or_insert_with(|| PredictionId::new(SystemTime::now(), gateway, slot, arm, fastrand::u64(..)))
    }

    pub fn encoded(&self, started: Instant) {
        if let Some(servable) = &self.servable {
            servable.stats.stage_encode.record(started.elapsed());
        }
    }

    /// Takes all the model's outputs, once nothing else needs them.
    pub fn keep(&mut self, outputs: impl FnOnce() -> Vec<Tensor>, batch_size: usize) {
        if let Some(part) = &mut self.log_part {
            (part.outputs, part.batch_size) = (outputs(), batch_size);
        }
    }

    /// Where the model's settings ask for it, waits until the rows of an answer are on the disk.
    ///
    /// # Errors
    /// `Unavailable` when they are not, or not within the request's deadline: then the client gets no answer either.
    pub async fn synced<R>(&mut self, outcome: Result<R>) -> Result<R> {
        if outcome.is_err() || !self.log_part.as_ref().is_some_and(LogPart::is_required) {
            return outcome;
        }
        let (sender, synced) = oneshot::channel();
        let offered = self.log(Outcome::Answered, self.context.received.elapsed(), Some(sender));
        let own = self.context.deadline.instant().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = own.map_or(MAX_SYNC_WAIT, |own| own.min(MAX_SYNC_WAIT));
        let cause = match offered {
            Offered::Dropped => "too much waits to be written".to_owned(),
            Offered::Taken => match tokio::time::timeout(wait, synced).await {
                Ok(Ok(Ok(()))) => return outcome,
                Ok(Ok(Err(cause))) => cause.to_string(),
                Ok(Err(_)) => "the log has ended".to_owned(),
                Err(_) => format!("it took longer than {} ms", wait.as_millis()),
            },
        };
        Err(Error::Unavailable(format!(
            "the prediction could not be written to the prediction log, which this model's settings require: {cause}"
        )))
    }

    fn log(&mut self, outcome: Outcome, total: Duration, synced: Option<oneshot::Sender<Synced>>) -> Offered {
        let id = self.prediction_id();
        let Some(part) = self.log_part.take() else { return Offered::Dropped };
        let (queue, timing) = self.answer.map(|times| (times.queue, times.timing)).unwrap_or_default();
        let compute = timing.input + timing.infer + timing.output;
        let (context, arm, share, rows) = (self.context, self.arm, self.share.as_ref(), self.rows);
        let ending = Ending { context, id, arm, share, outcome, rows, total, queue, compute, synced };
        self.plane.log.offer(part.entry(ending))
    }

    /// Counts the outcome.
    pub fn close(mut self, error: Option<&Error>) {
        self.finish(error);
    }

    fn finish(&mut self, error: Option<&Error>) {
        self.closed = true;
        let now = Instant::now();
        let total = now.saturating_duration_since(self.context.received);
        let kind = error.map(Error::kind);
        metrics::count_request(self.context.protocol, kind);
        if let Some(servable) = &self.servable {
            servable.stats.used(now);
            servable.stats.pending.fetch_sub(1, Ordering::Relaxed);
            match (kind, self.answer) {
                (None, Some(times)) => servable.stats.record_success(self.rows, total, times.queue, &times.timing),
                (kind, _) => servable.stats.record_failure(kind.unwrap_or(Kind::Internal), total),
            }
        }
        self.observe(error, total);
        self.write_down(error, total);
        self.plane.access_log.write(&AccessLine {
            context: self.context,
            version: self.servable.as_ref().map(|servable| servable.id.version),
            rows: self.rows,
            total,
            error,
        });
    }

    /// Hands an answer, or a failure of the model, to the log; anything else is counted there.
    fn write_down(&mut self, error: Option<&Error>, total: Duration) {
        let outcome = error.map_or(Some(Outcome::Answered), log_part::failure);
        match outcome {
            Some(outcome) if self.log_part.is_some() => _ = self.log(outcome, total, None),
            // Handed over before, or never known to be sound.
            _ if error.is_none() => {}
            _ => {
                let log = self.servable.as_ref().and_then(|servable| servable.log.as_ref());
                log.inspect(|log| _ = log.counts.refused.fetch_add(1, Ordering::Relaxed));
            }
        }
    }

    /// Tells the statistics of a split route what became of a request; what a client did wrong or left is no sample.
    fn observe(&self, error: Option<&Error>, total: Duration) {
        let Some(share) = &self.share else { return };
        let Some(assigned) = share.counted() else { return };
        let is_error = match error.map(Error::kind) {
            None => false,
            Some(Kind::Internal | Kind::Overloaded | Kind::DeadlineExceeded | Kind::Unavailable) => true,
            Some(_) => return,
        };
        let failed = matches!(error, Some(Error::RunFailed { .. }));
        let dial = &share.split.dial;
        // A refusal is no answer of the model: under overload most are, and they would hide a storm.
        let has_run = self.answer.is_some() || failed;
        if let Some(trip) = has_run.then(|| dial.note(assigned.arm, self.invalid, failed)).flatten() {
            let (route, rollout, cause) = (&*share.split.route, &*share.split.rollout, trip.cause.name());
            tracing::error!(route, rollout, cause, "a storm of bad answers: the candidate gets no more requests");
        }
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        dial.observe(Observation::Served(Sample {
            arm: assigned.arm,
            weights: share.weights,
            key: assigned.key,
            error: is_error,
            invalid: self.invalid,
            latency_us: us(total),
            queue_us: us(self.answer.map_or(Duration::ZERO, |times| times.queue)),
        }));
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(Some(&Error::Cancelled));
        }
    }
}

#[cfg(test)]
mod tests;
