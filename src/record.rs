//! RECORD: every outcome is counted once, here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::batching::Answer;
use crate::data_plane::DataPlane;
use crate::error::{Error, Kind};
use crate::inference::RequestContext;
use crate::routing::{Lane, Observation, Sample, Share, validity};
use crate::servable::Servable;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics;

/// One request's record. Closing it counts the outcome; dropped unclosed, the client has left, which counts too.
pub struct Record<'a> {
    pub plane: &'a DataPlane,
    pub context: &'a RequestContext,
    servable: Option<Arc<Servable>>,
    /// On a split route, and once it has an arm.
    share: Option<Share>,
    invalid: bool,
    rows: usize,
    answer: Option<AnswerTimes>,
    closed: bool,
}

#[derive(Clone, Copy)]
struct AnswerTimes {
    queue: Duration,
    timing: crate::engine::RunTiming,
}

impl<'a> Record<'a> {
    pub fn open(plane: &'a DataPlane, context: &'a RequestContext) -> Self {
        Self { plane, context, servable: None, share: None, invalid: false, rows: 1, answer: None, closed: false }
    }

    /// Where the request was sent; the version's counters take the outcome, and the arm's statistics on a split route.
    /// May be told again with another lane.
    pub fn routed(&mut self, lane: &Lane) {
        let servable = &lane.backend.servable;
        servable.stats.pending.fetch_add(1, Ordering::Relaxed);
        if let Some(before) = self.servable.replace(servable.clone()) {
            before.stats.pending.fetch_sub(1, Ordering::Relaxed);
        }
        self.share = lane.share.clone().filter(|share| share.assigned.is_some());
    }

    pub fn checked(&mut self, rows: usize) {
        self.rows = rows;
    }

    pub fn decoded(&self, started: Instant) {
        if let Some(servable) = &self.servable {
            servable.stats.stage_decode.record(started.elapsed());
        }
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

    pub fn encoded(&self, started: Instant) {
        if let Some(servable) = &self.servable {
            servable.stats.stage_encode.record(started.elapsed());
        }
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
        self.plane.access_log.write(&AccessLine {
            context: self.context,
            version: self.servable.as_ref().map(|servable| servable.id.version),
            rows: self.rows,
            total,
            error,
        });
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
