//! What a pool knows and counts.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use crate::batching::queue::Queue;
use crate::batching::service_times::ServiceTimes;

/// What changes under the pool's lock.
#[derive(Default)]
pub struct State {
    pub queue: Queue,
    pub times: ServiceTimes,
    /// When each run under way began, and how long it should take, in seconds.
    pub running: Vec<(Instant, f64)>,
    pub inline: u32,
    pub inline_barred_until: Option<Instant>,
    pub promises_broken: u32,
    pub admitted: u64,
    /// Bytes of a row, a moving average.
    pub row_bytes: f64,
    pub closed: bool,
}

/// Totals that whoever scales the pool takes differences of.
#[derive(Debug, Default)]
pub struct UseCounts {
    /// Requests that were taken out of the queue to be run, and the time that they had waited.
    pub taken: AtomicU64,
    pub waited_ns: AtomicU64,
    /// Requests that ran where they arrived, and the time that took.
    pub inline: AtomicU64,
    pub inline_ns: AtomicU64,
}
