//! RECORD: every outcome is counted once, here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::batching::Answer;
use crate::data_plane::DataPlane;
use crate::error::{Error, Kind};
use crate::inference::RequestContext;
use crate::servable::Servable;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics;

/// One request's record. Closing it counts the outcome; dropped unclosed, the client has left, which counts too.
pub struct Record<'a> {
    plane: &'a DataPlane,
    context: &'a RequestContext,
    servable: Option<Arc<Servable>>,
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
        Self { plane, context, servable: None, rows: 1, answer: None, closed: false }
    }

    /// The version that the request was routed to; its counters take the outcome.
    pub fn routed(&mut self, servable: &Arc<Servable>) {
        servable.stats.pending.fetch_add(1, Ordering::Relaxed);
        self.servable = Some(servable.clone());
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
        self.plane.access_log.write(&AccessLine {
            context: self.context,
            version: self.servable.as_ref().map(|servable| servable.id.version),
            rows: self.rows,
            total,
            error,
        });
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(Some(&Error::Cancelled));
        }
    }
}
