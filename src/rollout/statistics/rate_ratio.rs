//! Does the candidate have more (or fewer) events than a given multiple of the comparator's?

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::numeric::{bits, crossing, e_value, log_sum_exp};

/// Alternatives that the evidence is a mixture of, with equal weights.
const ALTERNATIVES: usize = 12;
/// The alternatives lie between these multiples of the null ratio, evenly on the log scale.
const NEAREST: f64 = 1.1;
const FARTHEST: f64 = 10.0;
/// Null ratios that can be computed with; nobody means one outside.
const NULL_RATIOS: RangeInclusive<f64> = 1e-9..=1e9;

/// The rate-ratio e-process: a conditional test on which arm each event fell in.
///
/// Let q be the candidate's part of the traffic of both arms. If events hit the candidate at r times the comparator's
/// rate, an event falls in the candidate with probability `θ(r) = q·r / (q·r + 1 − q)`, whatever the base rate is and
/// however it changes over the day. Against a null ratio r0 the evidence is
///
/// `E = 1/12 · Σ_j Π_events [θ(r_j)/θ(r0)]^x · [(1−θ(r_j))/(1−θ(r0))]^(1−x)`, x = 1 for an event in the candidate,
///
/// after M. Lindon and A. Malek, *Anytime-valid inference for multinomial count data* (NeurIPS 2022, arXiv
/// 2011.03567). [`RateRatio::harm`] has its alternatives above r0, and `P(E ever ≥ 1/α) ≤ α` for every true ratio of at
/// most r0; [`RateRatio::safe`] has them below, and the same holds for every true ratio of at least r0. q may change at
/// any time, as long as it is known before the event.
///
/// The 12 alternatives lie log-evenly from 1.1 to 10 times r0 (or r0/1.1 to r0/10). That grid needs at α = 1 % and
/// q = 0.1, r0 = 1 and a base rate of 1 %, in the median, about 5,700 candidate requests to see a ratio of 1.5, 1,500
/// for 2, 430 for 3, 145 for 5 and 47 for 10. A true ratio closer to r0 than about 5 % lies nearer to the null than to
/// the nearest alternative, and is never found.
///
/// It supposes that events hit the arms one by one. Where requests are assigned by key, count at most one event for
/// each key and step ([`super::KeyedEvents`]), or bursts of one key are taken for evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct RateRatio {
    null: f64,
    side: Side,
    /// `ln(r_j / r0)`, and r_j.
    steps: [f64; ALTERNATIVES],
    alternatives: [f64; ALTERNATIVES],
    /// The logarithm of each product.
    logs: [f64; ALTERNATIVES],
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Side {
    Harm,
    Safe,
}

/// As it stands in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Saved {
    #[serde(with = "bits")]
    null: f64,
    side: Side,
    logs: [u64; ALTERNATIVES],
}

impl RateRatio {
    /// Gathers evidence that the ratio is above `harm_ratio`, from 1e-9 to 1e9; outside nothing counts.
    pub fn harm(harm_ratio: f64) -> Self {
        Self::new(harm_ratio, Side::Harm)
    }

    /// Gathers evidence that the ratio is below `safe_ratio`, likewise.
    pub fn safe(safe_ratio: f64) -> Self {
        Self::new(safe_ratio, Side::Safe)
    }

    fn new(null: f64, side: Side) -> Self {
        let sign = if side == Side::Harm { 1.0 } else { -1.0 };
        let width = (FARTHEST / NEAREST).ln() / (ALTERNATIVES - 1) as f64;
        let steps: [f64; ALTERNATIVES] = std::array::from_fn(|at| sign * (NEAREST.ln() + width * at as f64));
        let alternatives = steps.map(|step| null * step.exp());
        Self { null, side, steps, alternatives, logs: [0.0; ALTERNATIVES] }
    }

    /// The ratio that the evidence speaks against.
    pub fn null_ratio(&self) -> f64 {
        self.null
    }

    /// One event. `q` is weight of the candidate / (weight of the candidate + weight of the comparator), as it was when
    /// the event's request was assigned; at 0 or 1 the event says nothing and is left out.
    pub fn observe(&mut self, in_candidate: bool, q: f64) {
        self.observe_many(u64::from(in_candidate), u64::from(!in_candidate), q);
    }

    /// Several events under the same `q`, in whatever order they came.
    pub fn observe_many(&mut self, candidate: u64, comparator: u64, q: f64) {
        if !(q > 0.0 && q < 1.0 && NULL_RATIOS.contains(&self.null)) {
            return;
        }
        for at in 0..ALTERNATIVES {
            let (in_candidate, in_comparator) = self.log_factors(at, q);
            self.logs[at] += candidate as f64 * in_candidate + comparator as f64 * in_comparator;
        }
    }

    /// The natural logarithm of the evidence; 0 at the start.
    pub fn log_e(&self) -> f64 {
        log_sum_exp(&self.logs) - (ALTERNATIVES as f64).ln()
    }

    /// The evidence, at most [`super::E_VALUE_MAX`].
    pub fn e_value(&self) -> f64 {
        e_value(self.log_e())
    }

    /// How many more events it takes until the evidence reaches `line`, if events fall in the candidate with probability
    /// `theta` and every product grows as is expected then, by `θ·ln(θ_j/θ_0) + (1−θ)·ln((1−θ_j)/(1−θ_0))` an event. None
    /// if it never does.
    pub(super) fn events_until(&self, line: f64, theta: f64, q: f64) -> Option<f64> {
        let growths: [f64; ALTERNATIVES] = std::array::from_fn(|at| {
            let (in_candidate, in_comparator) = self.log_factors(at, q);
            theta * in_candidate + (1.0 - theta) * in_comparator
        });
        let missing = |events: f64| {
            let logs: [f64; ALTERNATIVES] = std::array::from_fn(|at| self.logs[at] + events * growths[at]);
            line.ln() + (ALTERNATIVES as f64).ln() - log_sum_exp(&logs)
        };
        if missing(0.0) <= 0.0 {
            return Some(0.0);
        }
        // One product alone gets there by then; before, the sum is convex and crosses the line once.
        let alone = self.logs.iter().zip(growths).filter(|(_, growth)| *growth > 0.0);
        let alone = alone.map(|(log, growth)| (line.ln() + (ALTERNATIVES as f64).ln() - log) / growth);
        let latest = alone.min_by(f64::total_cmp)?;
        Some(crossing(0.0, latest, |events| -missing(events)))
    }

    /// What one event multiplies a product by, as logarithms: in the candidate, and in the comparator.
    fn log_factors(&self, at: usize, q: f64) -> (f64, f64) {
        let in_comparator = ((q * self.null + 1.0 - q) / (q * self.alternatives[at] + 1.0 - q)).ln();
        (self.steps[at] + in_comparator, in_comparator)
    }
}

impl From<Saved> for RateRatio {
    fn from(saved: Saved) -> Self {
        Self { logs: saved.logs.map(f64::from_bits), ..Self::new(saved.null, saved.side) }
    }
}

impl From<RateRatio> for Saved {
    fn from(state: RateRatio) -> Self {
        Self { null: state.null, side: state.side, logs: state.logs.map(f64::to_bits) }
    }
}
