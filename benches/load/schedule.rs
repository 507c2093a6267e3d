//! When requests are meant to be sent: times that no answer can delay.

use std::time::Duration;

/// How requests are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// The same gap between any two.
    Even,
    /// Gaps as independent clients make them: exponentially distributed.
    Poisson,
}

/// Intended times as offsets from the start, without an end.
pub struct Schedule<R> {
    arrivals: Arrivals,
    per_s: f64,
    /// Uniform in [0, 1).
    random: R,
    sent: u64,
    last_s: f64,
}

impl<R: FnMut() -> f64> Schedule<R> {
    /// `per_s` requests a second on average.
    pub fn new(arrivals: Arrivals, per_s: f64, random: R) -> Self {
        assert!(per_s > 0.0, "{per_s} requests a second never come");
        Self { arrivals, per_s, random, sent: 0, last_s: 0.0 }
    }
}

impl<R: FnMut() -> f64> Iterator for Schedule<R> {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        match self.arrivals {
            // From the count, so that rounding never adds up.
            Arrivals::Even => self.last_s = self.sent as f64 / self.per_s,
            // The inverse of the exponential distribution function at a uniform number.
            Arrivals::Poisson => self.last_s += -(1.0 - (self.random)()).ln() / self.per_s,
        }
        self.sent += 1;
        Some(Duration::from_secs_f64(self.last_s))
    }
}
