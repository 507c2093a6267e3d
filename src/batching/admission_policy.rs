//! Whether a request is taken in, or refused now because it would wait for nothing.
//!
//! A queue is bounded by requests, by bytes and by the wait that its newest request must expect. The wait is predicted
//! from measured run times, so it is a guess; where nothing is ahead of a request, no guess keeps it out.

use std::time::Duration;

use crate::error::ShedCause;
use crate::inference::Priority;

/// The bounds of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// Requests that may wait.
    pub max_requests: usize,
    /// Bytes of their inputs.
    pub max_bytes: usize,
    /// The longest wait that a request is taken in for.
    pub max_wait: Duration,
}

/// What is ahead of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ahead {
    /// Requests that wait, of every class.
    pub requests: usize,
    /// Bytes of their inputs.
    pub bytes: usize,
    /// Until the request would begin to run, in seconds: the rest of what runs, and what would run before it.
    pub wait_s: f64,
    /// A full batch's time, in seconds: a queue that could not hold one would keep the workers idle.
    pub turn_s: f64,
    /// Whether the request would begin at once.
    pub idle: bool,
}

/// What wants in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    pub priority: Priority,
    pub bytes: usize,
    /// How long its own run takes, in seconds.
    pub run_s: f64,
    /// Time left until its deadline.
    pub left: Option<Duration>,
}

/// The low class gets this part of every bound, so that under overload it is the first to be refused.
const LOW_SHARE: f64 = 0.5;

/// Takes the request in, or says why not.
///
/// # Errors
/// The bound that it would pass.
pub fn admit(ahead: &Ahead, limits: &QueueLimits, demand: &Demand) -> Result<(), ShedCause> {
    if ahead.idle {
        return Ok(());
    }
    let share = match demand.priority {
        Priority::High => 1.0,
        Priority::Low => LOW_SHARE,
    };
    // What no place helps comes first: nobody is to make room for a request that is refused all the same.
    let max_wait_s = (limits.max_wait.as_secs_f64() * share).max(ahead.turn_s);
    // What is predicted of a run that has begun may be far off, and nothing waits in vain behind one request.
    if ahead.requests > 0 && ahead.wait_s > max_wait_s {
        return Err(ShedCause::QueueWait { limit: Duration::from_secs_f64(max_wait_s) });
    }
    if let Some(left) = demand.left.filter(|left| ahead.wait_s + demand.run_s > left.as_secs_f64()) {
        return Err(ShedCause::Deadline { left });
    }
    if ahead.requests as f64 >= limits.max_requests as f64 * share {
        return Err(ShedCause::QueueSize);
    }
    // One request is never too large for an empty queue: the size of requests has its own limit.
    if ahead.requests > 0 && (ahead.bytes + demand.bytes) as f64 > limits.max_bytes as f64 * share {
        return Err(ShedCause::QueueBytes { waiting: ahead.bytes, limit: limits.max_bytes });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: QueueLimits = QueueLimits { max_requests: 10, max_bytes: 1000, max_wait: Duration::from_millis(100) };
    const MS: Duration = Duration::from_millis(1);

    fn ahead(requests: usize, bytes: usize, wait_ms: f64) -> Ahead {
        Ahead { requests, bytes, wait_s: wait_ms / 1e3, turn_s: 0.001, idle: false }
    }

    fn demand(priority: Priority, left: Option<Duration>) -> Demand {
        Demand { priority, bytes: 100, run_s: 0.004, left }
    }

    #[test]
    fn each_bound_refuses_by_its_name() {
        let high = |left| demand(Priority::High, left);
        let cases = [
            ("room", ahead(9, 100, 50.0), high(None), Ok(())),
            ("requests", ahead(10, 100, 50.0), high(None), Err("queue_size")),
            ("bytes", ahead(3, 901, 50.0), high(None), Err("queue_bytes")),
            ("bytes of the first", ahead(0, 0, 50.0), Demand { bytes: 5000, ..high(None) }, Ok(())),
            ("wait", ahead(3, 100, 101.0), high(None), Err("queue_wait")),
            ("wait of the first", ahead(0, 0, 5000.0), high(None), Ok(())),
            ("deadline", ahead(3, 100, 50.0), high(Some(53 * MS)), Err("deadline")),
            ("deadline that can be met", ahead(3, 100, 50.0), high(Some(55 * MS)), Ok(())),
        ];
        for (name, ahead, demand, expected) in cases {
            assert_eq!(admit(&ahead, &LIMITS, &demand).map_err(|cause| cause.label()), expected, "{name}");
        }
    }

    #[test]
    fn the_low_class_is_refused_at_half_of_every_bound() {
        for (requests, bytes, wait_ms) in [(5, 100, 10.0), (3, 401, 10.0), (3, 100, 51.0)] {
            let ahead = ahead(requests, bytes, wait_ms);
            assert!(admit(&ahead, &LIMITS, &demand(Priority::Low, None)).is_err(), "{ahead:?}");
            assert!(admit(&ahead, &LIMITS, &demand(Priority::High, None)).is_ok(), "{ahead:?}");
        }
    }

    #[test]
    fn a_guess_keeps_no_request_from_an_idle_worker() {
        let idle = Ahead { idle: true, wait_s: 0.0, ..ahead(0, 0, 0.0) };
        let hopeless = Demand { run_s: 60.0, ..demand(Priority::Low, Some(MS)) };
        assert_eq!(admit(&idle, &LIMITS, &hopeless), Ok(()));
    }

    #[test]
    fn a_model_slower_than_the_bound_may_still_hold_one_turn() {
        let slow = Ahead { turn_s: 2.0, ..ahead(1, 0, 1500.0) };
        assert_eq!(admit(&slow, &LIMITS, &demand(Priority::High, None)), Ok(()));
    }
}
