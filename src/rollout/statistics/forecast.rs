//! How far away a verdict of pass is.

use super::absolute::log_e_below;
use super::verdict::Check;

/// More requests than this are no forecast.
const FARTHEST: f64 = 1e15;

/// What was counted so far, in the arms that are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observed {
    pub candidate_requests: u64,
    pub candidate_events: u64,
    pub comparator_requests: u64,
    pub comparator_events: u64,
}

/// How many more requests the candidate needs until the check passes, if the observed rates and the split `q` (as of
/// [`super::RateRatio::observe`]) go on. 0 if it passes already, None if it never would.
///
/// An expectation, not a promise: the evidence is carried on as it would grow if every further request had exactly the
/// observed share of an event. Evidence that fluctuates gets there earlier, so this leans to the late side (for equal
/// arms and a safe ratio of 2 by a fifth of the mean). Of the ratio and the absolute maximum the nearer one counts.
pub fn forecast(check: &Check, q: f64, observed: &Observed) -> Option<u64> {
    let line = 1.0 / check.alpha;
    let by_ratio = check.safe.and_then(|safe| {
        if safe.log_e() >= line.ln() {
            return Some(0);
        }
        let candidate = q * rate(observed.candidate_events, observed.candidate_requests)?;
        let comparator = (1.0 - q) * rate(observed.comparator_events, observed.comparator_requests)?;
        let events = safe.events_until(line, candidate / (candidate + comparator), q)?;
        let requests = (events * q / (candidate + comparator)).ceil();
        (requests < FARTHEST).then_some(requests as u64)
    });
    let by_maximum = check.absolute.and_then(|absolute| {
        let counts = (absolute.requests() as f64, absolute.events() as f64);
        requests_until(line, absolute.max_rate(), counts)
    });
    by_ratio.into_iter().chain(by_maximum).min()
}

/// None without requests.
fn rate(events: u64, requests: u64) -> Option<f64> {
    (requests > 0).then(|| events as f64 / requests as f64)
}

/// How many more requests at the rate so far certify that it is below `max_rate`; `(requests, events)` so far.
pub(super) fn requests_until(line: f64, max_rate: f64, (requests, events): (f64, f64)) -> Option<u64> {
    let rate = if requests > 0.0 { events / requests } else { 0.0 };
    let enough = |more: u64| {
        let more = more as f64;
        log_e_below(max_rate, requests + more, events + more * rate) >= line.ln()
    };
    let mut above = 1u64;
    while !enough(above) {
        above *= 2;
        if above as f64 > FARTHEST {
            return None;
        }
    }
    // The evidence grows with every request from where it first did.
    let (mut low, mut high) = (0, above);
    while low < high {
        let middle = (low + high) / 2;
        if enough(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low)
}
