//! What a pool may do, and how its batches are cut: configuration and measurement as one set of rules.

use std::sync::Arc;
use std::time::Duration;

use super::admission_policy::QueueLimits;
use super::batch_policy::BatchRules;
use super::curve::{BatchCurve, MAX_MEASURED_ROWS};

/// What a pool may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Cores that it keeps when it is idle, and the most that it may hold at the same time.
    pub min_workers: u32,
    pub max_workers: u32,
    pub limits: QueueLimits,
    pub batching: BatchConfig,
    /// After this time of waiting a request is put behind all others; `None`: never.
    pub delay_after: Option<Duration>,
}

/// Batching as the operator wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchConfig {
    /// Most rows of a request, and so of a run.
    pub max_batch_size: Option<usize>,
    /// Preferred sizes and delay; `None` leaves the size to what was measured.
    pub dynamic: Option<(Vec<usize>, Duration)>,
}

/// How batches are cut: what was measured, and the rules that follow from it and the configuration.
pub struct Sizing {
    pub curve: Arc<BatchCurve>,
    pub rules: BatchRules,
}

impl Sizing {
    /// `proven`: whether the model has a batch axis.
    pub fn new(curve: Arc<BatchCurve>, config: &PoolConfig, proven: bool) -> Self {
        let max = config.batching.max_batch_size.unwrap_or(usize::MAX);
        let rules = match &config.batching.dynamic {
            _ if !proven => BatchRules::unbatched(),
            // Before it is measured, a client's own batch runs as it came.
            None if !curve.is_measured() => {
                BatchRules { whole: max.clamp(1, MAX_MEASURED_ROWS), ..BatchRules::unbatched() }
            }
            None => {
                let cap = curve.cap().min(max).max(1);
                BatchRules { cap, whole: cap, ..BatchRules::unbatched() }
            }
            Some((preferred, delay)) => {
                let largest = preferred.last().copied().unwrap_or(1);
                // A size that an operator names counts for more than what was measured.
                let cap = config.batching.max_batch_size.unwrap_or(curve.cap().max(largest)).max(1);
                let preferred = preferred.iter().copied().filter(|&size| size <= cap).collect();
                let whole = if curve.is_measured() { cap } else { max.clamp(cap, MAX_MEASURED_ROWS.max(cap)) };
                BatchRules { cap, whole, preferred, max_queue_delay: *delay }
            }
        };
        Self { curve, rules }
    }

    /// How many of so many waiting rows to run together.
    pub fn best_cut(&self, rows: usize) -> usize {
        if rows <= self.curve.cap() { self.curve.best_cut(rows) } else { rows }
    }

    /// What a run of so many rows took when it was measured.
    pub fn measured_s(&self, rows: usize) -> Option<f64> {
        self.curve.is_measured().then(|| self.curve.estimate_s(rows))
    }

    /// The size to run so many rows as: that number, or more to pad up to.
    pub fn run_rows(&self, rows: usize) -> usize {
        if rows <= self.curve.cap() { self.curve.run_rows(rows).max(rows) } else { rows }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batching::{Measured, Point};
    use crate::testing::pool_config;

    /// Rules from (max_batch_size, preferred sizes) and a measured cap, `None`: not measured.
    fn rules(max: Option<usize>, preferred: Option<&[usize]>, cap: Option<usize>, proven: bool) -> (usize, usize) {
        let point = |rows| Point { rows, unprepared_s: Some(0.001), prepared_s: None };
        let curve = match cap {
            None => BatchCurve::unmeasured(),
            Some(1) => BatchCurve::new(Measured { points: vec![point(1)], max_rows: 1 }),
            Some(cap) => BatchCurve::new(Measured { points: vec![point(1), point(cap)], max_rows: cap }),
        };
        let dynamic = preferred.map(|sizes| (sizes.to_vec(), Duration::ZERO));
        let config = PoolConfig { batching: BatchConfig { max_batch_size: max, dynamic }, ..pool_config() };
        let rules = Sizing::new(Arc::new(curve), &config, proven).rules;
        (rules.cap, rules.whole)
    }

    #[test]
    fn what_an_operator_says_counts_for_more_than_what_was_measured() {
        for (name, got, expected) in [
            ("no axis", rules(Some(8), Some(&[4]), Some(8), false), (1, 1)),
            ("measured", rules(None, None, Some(16), true), (16, 16)),
            ("measured, limited", rules(Some(4), None, Some(16), true), (4, 4)),
            ("not measured yet", rules(None, None, None, true), (1, MAX_MEASURED_ROWS)),
            ("not measured yet, limited", rules(Some(4), None, None, true), (1, 4)),
            ("not worth it", rules(Some(8), None, Some(1), true), (1, 1)),
            ("asked for all the same", rules(Some(8), Some(&[]), Some(1), true), (8, 8)),
            ("asked for, not measured yet", rules(None, Some(&[]), None, true), (1, MAX_MEASURED_ROWS)),
            ("a preferred size beyond what was measured", rules(None, Some(&[4, 32]), Some(16), true), (32, 32)),
        ] {
            assert_eq!(got, expected, "{name}");
        }
    }
}
