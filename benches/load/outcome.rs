//! Counting what came of requests, with latencies and over time.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Longest latency that is told from longer ones.
const LONGEST: Duration = Duration::from_secs(120);
/// Texts of errors that are kept apart.
const MAX_ERROR_TEXTS: usize = 20;

/// What came of the requests of a run.
pub struct Tally {
    answered: Histogram<u64>,
    refused: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    /// Requests that were never sent, because too many waited already.
    pub overflow: u64,
    window: Option<Duration>,
    windows: Vec<Window>,
}

/// What came of the requests of one window of time.
#[derive(Default)]
struct Window {
    answered_us: Vec<u64>,
    refused: u64,
    failed: u64,
}

/// A request's end, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    Answered,
    Refused,
    Failed(&'a str),
}

impl Tally {
    /// `window` is the length of the windows that are reported one by one, if any.
    pub fn new(window: Option<Duration>) -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("sound bounds");
        Self {
            answered: histogram(),
            refused: histogram(),
            errors: BTreeMap::new(),
            overflow: 0,
            window,
            windows: vec![],
        }
    }

    /// Counts a request that was meant for `at` after the start and took `latency` from then.
    pub fn record(&mut self, at: Duration, latency: Duration, kind: Kind<'_>) {
        let latency_ns = latency.as_nanos() as u64;
        match kind {
            Kind::Answered => self.answered.saturating_record(latency_ns),
            Kind::Refused => self.refused.saturating_record(latency_ns),
            Kind::Failed(text) => {
                let known = self.errors.len() < MAX_ERROR_TEXTS || self.errors.contains_key(text);
                *self.errors.entry(if known { text } else { "other" }.to_owned()).or_default() += 1;
            }
        }
        let Some(window) = self.window else { return };
        let index = (at.as_nanos() / window.as_nanos()) as usize;
        if self.windows.len() <= index {
            self.windows.resize_with(index + 1, Window::default);
        }
        let window = &mut self.windows[index];
        match kind {
            Kind::Answered => window.answered_us.push(latency_ns / 1000),
            Kind::Refused => window.refused += 1,
            Kind::Failed(_) => window.failed += 1,
        }
    }

    /// Takes another thread's counts in. Windows are not taken over.
    pub fn add(&mut self, other: &Self) {
        self.answered.add(&other.answered).expect("the same bounds");
        self.refused.add(&other.refused).expect("the same bounds");
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
        self.overflow += other.overflow;
    }

    /// Requests that were answered, refused or failed.
    pub fn ended(&self) -> u64 {
        self.answered.len() + self.refused.len() + self.errors.values().sum::<u64>()
    }

    /// The result of a run that was measured for `seconds`.
    pub fn result(&self, seconds: f64) -> Value {
        let failed: u64 = self.errors.values().sum();
        let mut result = json!({
            "seconds": seconds,
            "requests": self.ended(),
            "ok": self.answered.len(),
            "refused": self.refused.len(),
            "failed": failed,
            "overflow": self.overflow,
            "rps": self.answered.len() as f64 / seconds,
            "latency_us": latencies(&self.answered),
            "refused_latency_us": latencies(&self.refused),
            "errors": self.errors,
        });
        if let Some(window) = self.window {
            result["window_ms"] = json!(window.as_millis() as u64);
            result["windows"] = self.windows.iter().map(Window::result).collect();
        }
        result
    }
}

impl Window {
    fn result(&self) -> Value {
        let mut sorted = self.answered_us.clone();
        sorted.sort_unstable();
        json!({
            "ok": sorted.len(),
            "refused": self.refused,
            "failed": self.failed,
            "p50_us": sorted.get(sorted.len() / 2),
            "max_us": sorted.last(),
        })
    }
}

fn latencies(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let us = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    json!({
        "p50": us(0.5), "p90": us(0.9), "p99": us(0.99), "p999": us(0.999),
        "max": histogram.max() as f64 / 1000.0, "mean": histogram.mean() / 1000.0,
    })
}
