//! Between which values does the ratio of the candidate's rate to the comparator's lie?

use serde::{Deserialize, Serialize};

use super::numeric::{bits, crossing, log_sum_exp};

/// Different values of q that are kept apart. Events under further ones are left out: what is known before an event may
/// decide whether it counts, so the interval stays valid and is only wider.
const MAX_STRATA: usize = 256;
/// Ratios that the evidence is a mixture of: log-evenly from 1/100 to 100, with weights `1/(1 + ln²r)`.
const GRID: usize = 401;
const GRID_END: f64 = 100.0;
/// A bound farther out than this factor is none.
const FARTHEST: f64 = 1e6;

/// An interval for the rate ratio that is valid at every look.
///
/// It inverts an e-process: with `L(r)` the likelihood of which arm each event fell in (see [`super::RateRatio`]), the
/// ratio r0 is excluded once `Σ_j w_j·L(r_j) / L(r0) ≥ 1/alpha`. The true ratio is ever excluded with a probability of at
/// most `alpha` (Lindon and Malek, arXiv 2011.03567, section 3). `ln L` is concave in `ln r`, so what remains is an
/// interval; its ends are found to the precision of the numbers. Only counts are kept, by q, so nothing is rounded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RatioInterval {
    strata: Vec<Stratum>,
}

/// Events under one q.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stratum {
    #[serde(with = "bits")]
    q: f64,
    candidate: u64,
    comparator: u64,
}

/// A rate ratio and what it is known to lie between.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RatioBounds {
    /// The most likely value; None while only the candidate had events. It compares under equal q, so it is not misled
    /// when the base rate moves while the weights change, as a quotient of sums would be.
    pub estimate: Option<f64>,
    /// 0 until there is a bound.
    pub low: f64,
    /// None until there is a bound.
    pub high: Option<f64>,
}

impl RatioInterval {
    /// One event; as [`super::RateRatio::observe`].
    pub fn observe(&mut self, in_candidate: bool, q: f64) {
        self.observe_many(u64::from(in_candidate), u64::from(!in_candidate), q);
    }

    /// Several events under the same `q`.
    pub fn observe_many(&mut self, candidate: u64, comparator: u64, q: f64) {
        if !(q > 0.0 && q < 1.0) || (candidate, comparator) == (0, 0) {
            return;
        }
        if let Some(stratum) = self.strata.iter_mut().find(|stratum| stratum.q == q) {
            stratum.candidate += candidate;
            stratum.comparator += comparator;
        } else if self.strata.len() < MAX_STRATA {
            self.strata.push(Stratum { q, candidate, comparator });
        }
    }

    /// The interval that holds the true ratio at all times with probability `1 − alpha`; None before the first event.
    pub fn bounds(&self, alpha: f64) -> Option<RatioBounds> {
        let (candidate, comparator) = self.totals();
        if candidate + comparator == 0 {
            return None;
        }
        let end = FARTHEST.ln();
        let best = match (candidate, comparator) {
            (0, _) => -end,
            (_, 0) => end,
            _ => crossing(-end, end, |u| -self.slope(u)),
        };
        let least = self.log_mixture() + alpha.ln();
        let excluded = |u: f64| least - self.log_likelihood(u);
        let low = if excluded(-end) < 0.0 { 0.0 } else { crossing(best, -end, excluded).exp() };
        let high = (excluded(end) >= 0.0).then(|| crossing(best, end, excluded).exp());
        let estimate = match (candidate, comparator) {
            (0, _) => Some(0.0),
            (_, 0) => None,
            _ => Some(best.exp()),
        };
        Some(RatioBounds { estimate, low, high })
    }

    fn totals(&self) -> (u64, u64) {
        self.strata.iter().fold((0, 0), |sum, stratum| (sum.0 + stratum.candidate, sum.1 + stratum.comparator))
    }

    /// `ln L(exp u)`, up to a constant.
    fn log_likelihood(&self, u: f64) -> f64 {
        let of_one = |stratum: &Stratum| {
            let (candidate, comparator) = (stratum.candidate as f64, stratum.comparator as f64);
            candidate * u - (candidate + comparator) * (stratum.q * u.exp() + 1.0 - stratum.q).ln()
        };
        self.strata.iter().map(of_one).sum()
    }

    /// Its derivative, which falls.
    fn slope(&self, u: f64) -> f64 {
        let of_one = |stratum: &Stratum| {
            let odds = stratum.q * u.exp();
            let theta = odds / (odds + 1.0 - stratum.q);
            stratum.candidate as f64 - (stratum.candidate + stratum.comparator) as f64 * theta
        };
        self.strata.iter().map(of_one).sum()
    }

    /// The likelihood averaged over the grid, as a logarithm.
    fn log_mixture(&self) -> f64 {
        let place = |at: usize| GRID_END.ln() * (2.0 * at as f64 / (GRID - 1) as f64 - 1.0);
        let weight = |u: f64| 1.0 / (1.0 + u * u);
        let total: f64 = (0..GRID).map(|at| weight(place(at))).sum();
        let terms: Vec<f64> = (0..GRID).map(place).map(|u| self.log_likelihood(u) + (weight(u) / total).ln()).collect();
        log_sum_exp(&terms)
    }
}
