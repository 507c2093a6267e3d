//! Is a rate below, or above, a fixed maximum?

use serde::{Deserialize, Serialize};

use super::numeric::{JEFFREYS, bits, crossing, e_value, log_beta_mixture, log_likelihood};

/// Evidence about a rate and a fixed maximum, from counts alone.
///
/// The evidence is a Beta(1/2, 1/2) mixture of the likelihood over the largest likelihood that the null hypothesis
/// allows, which is at the maximum, or at the observed rate where that one lies on the null's side:
/// `E = B(½+x, ½+n−x) / B(½,½) / [p^x (1−p)^(n−x)]` (H. Robbins, 1970; the composite null after L. Wasserman,
/// A. Ramdas and S. Balakrishnan, *Universal inference*, 2020). For requests with one rate `P(E ever ≥ 1/α) ≤ α`.
///
/// Without an event it certifies at α = 5 % that the rate is below 5, 2, 1, 0.5 or 0.1 % after 116, 320, 680, 1,438 or
/// 8,062 requests. (A test with a size fixed beforehand, the "rule of three", needs 59, 149, 299, 598 or 2,995; looking
/// at any time has its price.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbsoluteCertificate {
    #[serde(with = "bits")]
    max_rate: f64,
    requests: u64,
    events: u64,
}

impl AbsoluteCertificate {
    /// `max_rate` lies between 0 and 1, both excluded.
    pub fn new(max_rate: f64) -> Self {
        Self::of(max_rate, 0, 0)
    }

    /// With counts so far.
    pub fn of(max_rate: f64, requests: u64, events: u64) -> Self {
        let mut certificate = Self { max_rate, requests: 0, events: 0 };
        certificate.observe(requests, events);
        certificate
    }

    /// More requests, of which some had an event. More events than requests count as that many requests.
    pub fn observe(&mut self, requests: u64, events: u64) {
        self.requests += requests.max(events);
        self.events += events;
    }

    pub fn max_rate(&self) -> f64 {
        self.max_rate
    }

    pub fn requests(&self) -> u64 {
        self.requests
    }

    pub fn events(&self) -> u64 {
        self.events
    }

    /// Evidence that the rate is below the maximum: against p ≥ `max_rate`. The natural logarithm.
    pub fn log_e_below(&self) -> f64 {
        log_e_below(self.max_rate, self.requests as f64, self.events as f64)
    }

    /// The same, at most [`super::E_VALUE_MAX`].
    pub fn e_below(&self) -> f64 {
        e_value(self.log_e_below())
    }

    /// Evidence that the rate is above the maximum: against p ≤ `max_rate`. The natural logarithm.
    pub fn log_e_above(&self) -> f64 {
        let (requests, events) = (self.requests as f64, self.events as f64);
        if requests == 0.0 {
            return 0.0;
        }
        log_e_at(self.max_rate.min(events / requests), requests, events)
    }

    /// The same, at most [`super::E_VALUE_MAX`].
    pub fn e_above(&self) -> f64 {
        e_value(self.log_e_above())
    }

    /// The rates that are not excluded: they hold the true one at all times with probability `1 − alpha`.
    pub fn bounds(&self, alpha: f64) -> (f64, f64) {
        let (requests, events) = (self.requests as f64, self.events as f64);
        if requests == 0.0 {
            return (0.0, 1.0);
        }
        let excluded = |rate: f64| log_e_at(rate, requests, events) + alpha.ln();
        let seen = events / requests;
        let low = if self.events == 0 { 0.0 } else { crossing(seen, 0.0, excluded) };
        let high = if self.events == self.requests { 1.0 } else { crossing(seen, 1.0, excluded) };
        (low, high)
    }
}

/// Against p ≥ `max_rate`; the counts may be fractions, for a look ahead.
pub(super) fn log_e_below(max_rate: f64, requests: f64, events: f64) -> f64 {
    if requests == 0.0 {
        return 0.0;
    }
    log_e_at(max_rate.max(events / requests), requests, events)
}

/// Against one rate.
fn log_e_at(rate: f64, requests: f64, events: f64) -> f64 {
    let others = requests - events;
    log_beta_mixture(JEFFREYS, events, others) - log_likelihood(rate, events, others)
}

/// The requests without an event after which a rate is certified to be below `max_rate`; the honest size of a sample.
pub fn requests_without_event(max_rate: f64, alpha: f64) -> u64 {
    super::forecast::requests_until(1.0 / alpha, max_rate, (0.0, 0.0)).unwrap_or(u64::MAX)
}
