//! Whether a request runs on the I/O thread that brought it.
//!
//! Crossing to another thread and back costs more than a run of a few microseconds. Such a run may take place where the
//! request is, if nothing waits before it. What counts is the time that runs of the same size really took, and what was
//! measured when the version was loaded: runs on busy cores look longer than they are, and a model that was once thought
//! too slow for an I/O thread would never show otherwise. A run that takes much longer than promised ends the permission
//! for a while.

use std::time::Duration;

/// The longest expected run that may take place on an I/O thread. About what two crossings cost.
pub const MAX_INLINE_RUN: Duration = Duration::from_micros(50);
/// A run this long on an I/O thread is a promise broken: more than losing the core to another process explains.
pub const BROKEN_PROMISE: Duration = Duration::from_millis(10);
/// Runs that took up to this many times what was measured may have been held up by others; beyond it the measurement was of
/// another kind of input.
const MOST_DISTURBED: f64 = 4.0;
/// How long the permission stays withdrawn after a first broken promise; each further one doubles it.
pub const FIRST_PENALTY: Duration = Duration::from_secs(1);
/// The longest that it stays withdrawn.
pub const LONGEST_PENALTY: Duration = Duration::from_secs(60);

/// What is known when a request arrives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// The time that runs of its size took; `None` where too few were seen.
    pub known_run_s: Option<f64>,
    /// The time that was measured for as many rows; `None` where nothing was, or where sizes besides the rows vary.
    pub measured_run_s: Option<f64>,
    /// Requests that wait before it.
    pub waiting: usize,
    /// Runs under way, on any thread.
    pub running: u32,
    /// Cores that the pool may hold.
    pub workers: u32,
    /// Whether the permission is withdrawn.
    pub barred: bool,
}

/// Whether it may run where it is.
pub fn may_run_inline(arrival: &Arrival) -> bool {
    let is_short = expected_s(arrival).is_some_and(|run_s| run_s <= MAX_INLINE_RUN.as_secs_f64());
    is_short && arrival.waiting == 0 && arrival.running < arrival.workers.max(1) && !arrival.barred
}

fn expected_s(arrival: &Arrival) -> Option<f64> {
    match (arrival.known_run_s, arrival.measured_run_s) {
        (Some(known), Some(measured)) if known <= MOST_DISTURBED * measured => Some(known.min(measured)),
        (None, measured) => measured,
        (known, _) => known,
    }
}

/// For how long the permission is withdrawn after a run that took `ran`; `None` if it stays. `broken` counts the
/// promises broken before.
pub fn penalty(ran: Duration, broken: u32) -> Option<Duration> {
    let penalty = FIRST_PENALTY.saturating_mul(1 << broken.min(16)).min(LONGEST_PENALTY);
    (ran >= BROKEN_PROMISE).then_some(penalty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Arrival =
        Arrival { known_run_s: Some(5e-6), measured_run_s: None, waiting: 0, running: 0, workers: 2, barred: false };

    #[test]
    fn a_measurement_tells_short_runs_from_runs_that_were_held_up() {
        for (known_us, measured_us, expected) in [
            (None, Some(38.0), true),
            (None, Some(80.0), false),
            (Some(90.0), Some(38.0), true),
            (Some(90.0), None, false),
            // Made-up inputs say little of these.
            (Some(400.0), Some(38.0), false),
            (Some(20.0), Some(80.0), true),
        ] {
            let seconds = |us: Option<f64>| us.map(|us| us * 1e-6);
            let (known_run_s, measured_run_s) = (seconds(known_us), seconds(measured_us));
            let arrival = Arrival { known_run_s, measured_run_s, ..SHORT };
            assert_eq!(may_run_inline(&arrival), expected, "{known_us:?} {measured_us:?}");
        }
    }

    #[test]
    fn only_a_run_that_is_known_to_be_short_and_is_next_runs_inline() {
        assert!(may_run_inline(&SHORT));
        for not in [
            Arrival { known_run_s: None, ..SHORT },
            Arrival { known_run_s: Some(51e-6), ..SHORT },
            Arrival { waiting: 1, ..SHORT },
            Arrival { running: 2, ..SHORT },
            Arrival { barred: true, ..SHORT },
        ] {
            assert!(!may_run_inline(&not), "{not:?}");
        }
        assert!(may_run_inline(&Arrival { workers: 0, ..SHORT }), "a pool that gave up its workers may use one core");
    }

    #[test]
    fn a_promise_broken_again_costs_twice_as_much() {
        assert_eq!(penalty(Duration::from_micros(9_999), 5), None);
        assert_eq!(penalty(BROKEN_PROMISE, 0), Some(FIRST_PENALTY));
        assert_eq!(penalty(BROKEN_PROMISE, 1), Some(2 * FIRST_PENALTY));
        assert_eq!(penalty(BROKEN_PROMISE, u32::MAX), Some(LONGEST_PENALTY));
    }
}
