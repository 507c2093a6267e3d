//! Does the router split as the weights say?

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::numeric::{bits, e_value, log_sum_exp};

/// Alternatives on each side.
const ALTERNATIVES: usize = 12;
/// Their odds differ from the expected odds by factors from here ...
const NEAREST: f64 = 1.02;
/// ... to here, log-evenly.
const FARTHEST: f64 = 8.0;

/// The check for a sample ratio mismatch: evidence that requests (or keys) do not reach the candidate with the share
/// that the weights give it. A mismatch means that the arms are not comparable, so no verdict can be trusted.
///
/// The evidence is the same mixture of likelihood ratios as in [`super::RateRatio`], two-sided and on plain assignments:
/// under an alternative with factor r the share θ becomes `θ·r / (θ·r + 1 − θ)`, for 12 factors from 1.02 to 8 and their
/// inverses (after Lindon and Malek, arXiv 2011.03567, which has this use as its first example). The expected share may
/// change at any time. A router that gives 5.6 % instead of 10 % is exposed after 650 requests in the median at a level
/// of 0.001, mostly within 1,000; shares whose odds are wrong by less than 1 % are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct SampleRatio {
    candidate: u64,
    others: u64,
    /// The sum of the expected shares.
    expected: f64,
    logs: [f64; 2 * ALTERNATIVES],
}

/// As it stands in a checkpoint.
#[derive(Serialize, Deserialize)]
struct Saved {
    candidate: u64,
    others: u64,
    #[serde(with = "bits")]
    expected: f64,
    logs: [u64; 2 * ALTERNATIVES],
}

impl Default for SampleRatio {
    fn default() -> Self {
        Self { candidate: 0, others: 0, expected: 0.0, logs: [0.0; 2 * ALTERNATIVES] }
    }
}

impl SampleRatio {
    /// At this evidence there is a mismatch: it is seen by mistake with a probability of at most 0.001, a level that is
    /// customary for this check, because it stops everything else.
    pub const LINE: f64 = 1_000.0;

    /// A request that was assigned by the weights (not forced), and the candidate's share among all at that moment. With
    /// a share of 0 or 1 nothing can be said, and it is left out.
    pub fn observe(&mut self, in_candidate: bool, theta: f64) {
        self.observe_many(u64::from(in_candidate), u64::from(!in_candidate), theta);
    }

    /// Several requests under the same share.
    pub fn observe_many(&mut self, candidate: u64, others: u64, theta: f64) {
        if !(theta > 0.0 && theta < 1.0) {
            return;
        }
        self.candidate += candidate;
        self.others += others;
        self.expected += theta * (candidate + others) as f64;
        for (log, (step, excess)) in self.logs.iter_mut().zip(*FACTORS) {
            let in_others = -(theta * excess).ln_1p();
            *log += candidate as f64 * (step + in_others) + others as f64 * in_others;
        }
    }

    pub fn candidate(&self) -> u64 {
        self.candidate
    }

    pub fn others(&self) -> u64 {
        self.others
    }

    /// The share that the candidate should have had of the requests so far; None before the first.
    pub fn expected_share(&self) -> Option<f64> {
        let requests = self.candidate + self.others;
        (requests > 0).then(|| self.expected / requests as f64)
    }

    /// Whether the evidence has reached [`SampleRatio::LINE`].
    pub fn is_mismatch(&self) -> bool {
        self.log_e() >= Self::LINE.ln()
    }

    /// The natural logarithm of the evidence; 0 at the start.
    pub fn log_e(&self) -> f64 {
        log_sum_exp(&self.logs) - (self.logs.len() as f64).ln()
    }

    /// The evidence, at most [`super::E_VALUE_MAX`].
    pub fn e_value(&self) -> f64 {
        e_value(self.log_e())
    }
}

/// Of every alternative's factor its logarithm, and by how much it exceeds 1.
static FACTORS: LazyLock<[(f64, f64); 2 * ALTERNATIVES]> = LazyLock::new(|| {
    let width = (FARTHEST / NEAREST).ln() / (ALTERNATIVES - 1) as f64;
    std::array::from_fn(|at| {
        let sign = if at < ALTERNATIVES { 1.0 } else { -1.0 };
        let step = sign * (NEAREST.ln() + width * (at % ALTERNATIVES) as f64);
        (step, step.exp_m1())
    })
});

impl From<Saved> for SampleRatio {
    fn from(saved: Saved) -> Self {
        let Saved { candidate, others, expected, logs } = saved;
        Self { candidate, others, expected, logs: logs.map(f64::from_bits) }
    }
}

impl From<SampleRatio> for Saved {
    fn from(state: SampleRatio) -> Self {
        let SampleRatio { candidate, others, expected, logs } = state;
        Self { candidate, others, expected, logs: logs.map(f64::to_bits) }
    }
}
