//! The verdict of one check.

use serde::{Deserialize, Serialize};

use super::absolute::AbsoluteCertificate;
use super::numeric::e_value;
use super::rate_ratio::RateRatio;

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is safe, by evidence.
    Pass,
    /// The candidate is harmful, by evidence.
    Fail,
    /// Neither is known yet. It may stay so for ever.
    Inconclusive,
}

/// What can decide a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The rate ratio is above the harm ratio.
    HarmRatio,
    /// The candidate's rate is above its absolute maximum.
    AboveMaximum,
    /// The rate ratio is below the safe ratio.
    SafeRatio,
    /// The candidate's rate is below its absolute maximum.
    BelowMaximum,
}

/// The evidence of one check. What a check doesn't use is None.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The probability of a false rollback that the whole rollout may have.
    pub alpha: f64,
    /// This check's part of it; the parts of all checks sum to at most 1.
    pub share: f64,
    /// Made by [`RateRatio::harm`].
    pub harm: Option<&'a RateRatio>,
    /// Made by [`RateRatio::safe`].
    pub safe: Option<&'a RateRatio>,
    /// Of the candidate's requests.
    pub absolute: Option<&'a AbsoluteCertificate>,
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// What reached its line; empty while inconclusive.
    pub decided_by: Vec<Evidence>,
    /// The greatest evidence for harm, at most [`super::E_VALUE_MAX`]; 1 says nothing.
    pub e_harm: f64,
    /// At this evidence for harm the verdict is Fail.
    pub harm_line: f64,
    /// The greatest evidence for safety, likewise.
    pub e_safe: f64,
    /// At this evidence for safety the verdict is Pass, unless there is harm.
    pub safe_line: f64,
}

/// Fail if there is evidence for harm, else Pass if there is evidence for safety, else Inconclusive.
///
/// Harm is a ratio above the harm ratio; a check without a ratio finds it in a rate above the absolute maximum. Where
/// there is something to compare with, the maximum only certifies: a rate that both arms have is not the candidate's.
///
/// The line for harm is `1 / (alpha·share)`, so that a harmless candidate is failed by any check of the rollout with a probability of at most `alpha` (Bonferroni). The line
/// for safety is `1 / alpha` without the share: a harmful candidate passes all checks only if it passes the one that it
/// should fail, so no budget has to be split. Each way to pass is wrong with a probability of at most `alpha`.
pub fn judge(check: &Check) -> Judgement {
    // Where there is something to compare with, a rate that both arms have is not the candidate's fault.
    let above = check.absolute.filter(|_| check.harm.is_none());
    let harm = [
        (Evidence::HarmRatio, check.harm.map(RateRatio::log_e)),
        (Evidence::AboveMaximum, above.map(AbsoluteCertificate::log_e_above)),
    ];
    let safe = [
        (Evidence::SafeRatio, check.safe.map(RateRatio::log_e)),
        (Evidence::BelowMaximum, check.absolute.map(AbsoluteCertificate::log_e_below)),
    ];
    let harm_line = 1.0 / (check.alpha * check.share);
    let safe_line = 1.0 / check.alpha;
    let (failed_by, passed_by) = (reached(&harm, harm_line), reached(&safe, safe_line));
    let (verdict, decided_by) = match (failed_by.is_empty(), passed_by.is_empty()) {
        (false, _) => (Verdict::Fail, failed_by),
        (true, false) => (Verdict::Pass, passed_by),
        (true, true) => (Verdict::Inconclusive, vec![]),
    };
    Judgement { verdict, decided_by, e_harm: greatest(&harm), harm_line, e_safe: greatest(&safe), safe_line }
}

type LogEvidence = (Evidence, Option<f64>);

fn reached(evidence: &[LogEvidence], line: f64) -> Vec<Evidence> {
    let has = |log_e: &Option<f64>| log_e.is_some_and(|log_e| log_e >= line.ln());
    evidence.iter().filter(|(_, log_e)| has(log_e)).map(|(name, _)| *name).collect()
}

fn greatest(evidence: &[LogEvidence]) -> f64 {
    evidence.iter().filter_map(|(_, log_e)| *log_e).max_by(f64::total_cmp).map_or(1.0, e_value)
}

impl Verdict {
    /// `pass`, `fail` or `inconclusive`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Inconclusive => "inconclusive",
        }
    }
}

impl Evidence {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HarmRatio => "harm_ratio",
            Self::AboveMaximum => "above_maximum",
            Self::SafeRatio => "safe_ratio",
            Self::BelowMaximum => "below_maximum",
        }
    }
}
