//! What one version counts: the protocol's statistics and the series of `/metrics` are two readings of it.
//!
//! The counters live in the version itself, so a series ends with its version: nothing is kept for versions that are
//! gone, and the request's path hashes no labels.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashmap::DashMap;

use super::histogram::Histogram;
use crate::engine::RunTiming;
use crate::error::{Kind, ShedCause};

/// A count and the time spent on what was counted.
#[derive(Debug, Default)]
pub struct TimedCount {
    count: AtomicU64,
    ns: AtomicU64,
}

impl TimedCount {
    pub fn add(&self, duration: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(duration.as_nanos() as u64, Ordering::Relaxed);
    }

    /// (count, nanoseconds).
    pub fn read(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.ns.load(Ordering::Relaxed))
    }
}

/// Executions of one batch size and their times in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BatchCount {
    pub count: u64,
    pub input_ns: u64,
    pub infer_ns: u64,
    pub output_ns: u64,
}

/// Batch sizes that are counted apart; executions of further sizes are only in the totals. Workers that meet a new size
/// at the same moment may pass it by their number.
pub const MAX_BATCH_SIZES: usize = 64;

/// What points in time are counted from.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The counters of one version.
#[derive(Debug, Default)]
pub struct ServableStats {
    /// Requests answered, with the time from the first byte to the encoded answer.
    pub success: TimedCount,
    /// Requests that failed after they reached this version.
    pub fail: TimedCount,
    /// Time from admission to a worker's hands, of requests answered.
    pub queue: TimedCount,
    pub compute_input: TimedCount,
    pub compute_infer: TimedCount,
    pub compute_output: TimedCount,
    /// Rows answered.
    pub inference_count: AtomicU64,
    /// Runs of the model.
    pub execution_count: AtomicU64,
    /// Requests admitted and not yet answered.
    pub pending: AtomicU64,
    pub stage_decode: Histogram,
    pub stage_queue: Histogram,
    pub stage_compute: Histogram,
    pub stage_encode: Histogram,
    pub waste: Waste,
    failures: [AtomicU64; Kind::ALL.len()],
    sheds: [AtomicU64; ShedCause::LABELS.len()],
    last_inference_ms: AtomicU64,
    /// On the monotonic clock, in µs from [`START`], plus one; 0 before the first request.
    last_used_us: AtomicU64,
    batches: DashMap<usize, BatchCount>,
}

/// Rows that were run for nobody.
#[derive(Debug, Default)]
pub struct Waste {
    /// Whose deadline had passed before their run began: none, if the queue does its work.
    pub expired_before_run: AtomicU64,
    /// Whose client left, or whose deadline passed, while they ran.
    pub left_during_run: AtomicU64,
}

impl ServableStats {
    /// One run of the model over `rows` rows, whether its requests succeed or not.
    pub fn record_execution(&self, rows: usize, timing: &RunTiming) {
        self.execution_count.fetch_add(1, Ordering::Relaxed);
        if self.batches.len() >= MAX_BATCH_SIZES && !self.batches.contains_key(&rows) {
            return;
        }
        let mut batch = self.batches.entry(rows).or_default();
        batch.count += 1;
        batch.input_ns += timing.input.as_nanos() as u64;
        batch.infer_ns += timing.infer.as_nanos() as u64;
        batch.output_ns += timing.output.as_nanos() as u64;
    }

    /// A request of `rows` rows was answered.
    pub fn record_success(&self, rows: usize, total: Duration, queue: Duration, timing: &RunTiming) {
        self.success.add(total);
        self.queue.add(queue);
        self.compute_input.add(timing.input);
        self.compute_infer.add(timing.infer);
        self.compute_output.add(timing.output);
        self.inference_count.fetch_add(rows as u64, Ordering::Relaxed);
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        self.last_inference_ms.store(now_ms, Ordering::Relaxed);
    }

    /// A request failed after it reached this version.
    pub fn record_failure(&self, kind: Kind, total: Duration) {
        self.fail.add(total);
        self.failures[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A request was shed.
    pub fn record_shed(&self, cause: ShedCause) {
        self.sheds[cause.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Requests shed, by the cause's label.
    pub fn sheds(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        ShedCause::LABELS.into_iter().zip(&self.sheds).map(|(label, count)| (label, count.load(Ordering::Relaxed)))
    }

    /// A request reached its end here at `now`, whatever became of it.
    pub fn used(&self, now: Instant) {
        let us = now.saturating_duration_since(*START).as_micros() as u64;
        self.last_used_us.store(us + 1, Ordering::Relaxed);
    }

    /// When a request last reached its end here, to the microsecond.
    pub fn last_used(&self) -> Option<Instant> {
        let us = self.last_used_us.load(Ordering::Relaxed).checked_sub(1)?;
        START.checked_add(Duration::from_micros(us))
    }

    /// Failures by kind, in the order of `Kind::ALL`.
    pub fn failures(&self) -> impl Iterator<Item = (Kind, u64)> + '_ {
        Kind::ALL.into_iter().zip(&self.failures).map(|(kind, count)| (kind, count.load(Ordering::Relaxed)))
    }

    /// Unix time in milliseconds of the last answer; 0 before the first.
    pub fn last_inference_ms(&self) -> u64 {
        self.last_inference_ms.load(Ordering::Relaxed)
    }

    /// Executions by batch size.
    pub fn batches(&self) -> BTreeMap<usize, BatchCount> {
        self.batches.iter().map(|batch| (*batch.key(), *batch.value())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_are_bounded_but_executions_all_count() {
        let stats = ServableStats::default();
        for rows in 0..MAX_BATCH_SIZES + 10 {
            stats.record_execution(rows, &RunTiming::default());
        }
        assert_eq!(stats.batches().len(), MAX_BATCH_SIZES);
        assert_eq!(stats.execution_count.load(Ordering::Relaxed), MAX_BATCH_SIZES as u64 + 10);
    }

    #[test]
    fn the_last_use_is_known_to_the_microsecond() {
        let stats = ServableStats::default();
        assert_eq!(stats.last_used(), None);
        let now = *START + Duration::from_nanos(2_500);
        stats.used(now);
        assert_eq!(stats.last_used(), Some(*START + Duration::from_micros(2)));
    }

    #[test]
    fn failures_are_told_apart_by_kind() {
        let stats = ServableStats::default();
        stats.record_failure(Kind::Overloaded, Duration::from_millis(1));
        let counted: Vec<_> = stats.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(Kind::Overloaded, 1)]);
    }
}
