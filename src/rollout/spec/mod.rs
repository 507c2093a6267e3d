//! What a rollout is to do: the document an operator writes, with every default filled in.
//!
//! docs/rollout-spec.md is its reference. [`read`] takes YAML or JSON, [`RolloutSpec::to_value`] prints what it took,
//! and what is printed can be read again.

mod analysis;
mod arms;
mod checks;
mod read;
mod write;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use self::read::{read, read_text};
use crate::routing::{Assignment, ForceRule, Unit};
use crate::yaml::SettingsError;

/// A rollout as it was asked for. Made by [`read`], which has checked it.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSpec {
    /// Absent: the name that the rollout is started on.
    pub route: Option<String>,
    /// Absent: the version that answers when the rollout starts.
    pub stable: Option<u64>,
    /// May come with the start call instead.
    pub candidate: Option<u64>,
    /// Of the candidate's files, as the registry writes it.
    pub candidate_digest: Option<String>,
    /// Free text.
    pub reason: String,
    /// Free text.
    pub ticket: String,
    pub assignment: AssignmentSpec,
    pub validate: Validate,
    /// `None`: no shadow phase.
    pub shadow: Option<ShadowPhase>,
    /// At least one; the weights rise.
    pub steps: Vec<Step>,
    pub analysis: Analysis,
    pub guards: Vec<Guard>,
    pub on_inconclusive: OnInconclusive,
    pub promote: Promote,
}

/// Who is sent to which arm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentSpec {
    /// The first that a request has decides; the last is [`Unit::Request`].
    pub units: Vec<Unit>,
    /// `None`: the rollout's id.
    pub salt: Option<String>,
    /// In order; the rules for `headgate-arm` come after the operator's own.
    pub force: Vec<ForceRule>,
}

/// What the candidate must show before it gets any traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validate {
    pub signature: SignatureRule,
    /// Inferences on the candidate whose outputs are looked at.
    pub warm_up: u32,
    /// Whether a person must approve the start.
    pub approval: bool,
}

/// What the candidate's inputs and outputs must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRule {
    /// The stable version's.
    Same,
    Any,
}

/// Copies of requests, before the candidate answers anyone.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowPhase {
    /// Of the requests, 0.01 to 100.
    pub percent: f64,
    /// Comparisons before the first step.
    pub min_samples: u64,
    pub max_duration: Duration,
    pub compare: Compare,
}

/// When an answer counts as another one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compare {
    /// An element differs where `|candidate - stable| > atol + rtol * |stable|`.
    pub atol: f64,
    pub rtol: f64,
    /// Share of the comparisons that may disagree, 0 to 1.
    pub max_disagree_rate: f64,
}

/// One share of the traffic, held for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The candidate's share in basis points, 1 to 10,000.
    pub weight_bp: u16,
    pub min_bake: Duration,
    pub max_bake: Duration,
    /// Requests that candidate and comparator each must have answered in this step; at least 1.
    pub min_samples: u64,
    pub require: Require,
    pub approval: Approval,
}

/// What the checks must say for a step to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// None has found harm.
    NoHarm,
    /// All have found safety.
    Safe,
}

/// Whether a person must let a step pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    pub required: bool,
    pub timeout: Duration,
    pub on_timeout: OnTimeout,
}

/// What happens when nobody approves in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnTimeout {
    Hold,
    RollBack,
}

/// How the checks decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Probability of any false alarm of a check in the whole rollout, in (0, 0.5].
    pub alpha: f64,
    /// Left out of the statistics after each change of the weights.
    pub warmup_exclude: Duration,
    /// Stable's answers before its p95 is frozen as the line for `slower_than_stable_p95`.
    pub p95_samples: u64,
    /// How much slower than stable's p95 an answer may be before it counts as slow.
    pub slack: Slack,
    /// Their shares sum to at most 1.
    pub checks: Vec<Check>,
}

/// A tolerance on a time: a share of it, and a time of its own on top.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slack {
    /// 0.25 is a quarter.
    pub ratio: f64,
    pub time: Duration,
}

impl Slack {
    /// The time that is still tolerated, in microseconds.
    pub fn over(&self, us: u64) -> u64 {
        let tolerated = us as f64 * (1.0 + self.ratio) + self.time.as_secs_f64() * 1e6;
        // Saturates.
        tolerated.round() as u64
    }
}

/// One comparison of the candidate's rate of bad events with another arm's.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Unique in the spec.
    pub name: String,
    pub event: Event,
    /// Of [`Event::Feedback`]: the feedback's name; `None`: the one that the model's quality goes by.
    pub feedback: Option<String>,
    /// Not used by [`Event::ShadowDisagreement`], nor are the ratios.
    pub against: Against,
    /// Harm: the candidate's rate is more than this times the comparator's.
    pub harm_ratio: f64,
    /// Safety: the candidate's rate is less than this times the comparator's.
    pub safe_ratio: f64,
    /// Safety too: the candidate's rate is below this, in (0, 1].
    pub abs_max: Option<f64>,
    /// Whether harm rolls back by itself; else it holds.
    pub critical: bool,
    /// Shown, and never acts.
    pub dry_run: bool,
    /// Of alpha.
    pub share: f64,
}

impl Check {
    /// The error level of this check: its share of the spec's alpha.
    pub fn alpha(&self, analysis: &Analysis) -> f64 {
        self.share * analysis.alpha
    }
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The model failed, or its answer came too late.
    Error,
    SlowerThanStableP95,
    /// An output was not finite, or out of its declared range.
    InvalidOutput,
    /// A copy's answer differs from the one that was given.
    ShadowDisagreement,
    /// What really happened shows that the answer was a bad one.
    Feedback,
}

impl Event {
    pub const ALL: [Self; 5] =
        [Self::Error, Self::SlowerThanStableP95, Self::InvalidOutput, Self::ShadowDisagreement, Self::Feedback];

    /// The word in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::SlowerThanStableP95 => "slower_than_stable_p95",
            Self::InvalidOutput => "invalid_output",
            Self::ShadowDisagreement => "shadow_disagreement",
            Self::Feedback => "feedback",
        }
    }
}

/// The comparator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// All traffic of the stable version, the control arm's included.
    Stable,
    /// The control arm alone; a check is silent where there is none.
    Control,
}

/// A limit on a metric, whatever the statistics say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    pub metric: Metric,
    /// In the metric's unit: ms, or a share from 0 to 1.
    pub max: f64,
}

/// What a guard looks at, over the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    StableP50Ms,
    StableP95Ms,
    StableP99Ms,
    StableErrorRate,
    CandidateP50Ms,
    CandidateP95Ms,
    CandidateP99Ms,
    CandidateErrorRate,
    QueueWaitP99Ms,
}

impl Metric {
    pub const ALL: [Self; 9] = [
        Self::StableP50Ms,
        Self::StableP95Ms,
        Self::StableP99Ms,
        Self::StableErrorRate,
        Self::CandidateP50Ms,
        Self::CandidateP95Ms,
        Self::CandidateP99Ms,
        Self::CandidateErrorRate,
        Self::QueueWaitP99Ms,
    ];

    /// The word in the spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::StableP50Ms => "stable.p50_ms",
            Self::StableP95Ms => "stable.p95_ms",
            Self::StableP99Ms => "stable.p99_ms",
            Self::StableErrorRate => "stable.error_rate",
            Self::CandidateP50Ms => "candidate.p50_ms",
            Self::CandidateP95Ms => "candidate.p95_ms",
            Self::CandidateP99Ms => "candidate.p99_ms",
            Self::CandidateErrorRate => "candidate.error_rate",
            Self::QueueWaitP99Ms => "gateway.queue_wait_p99_ms",
        }
    }

    /// Whether its unit is a share from 0 to 1; else it is ms.
    pub fn is_rate(self) -> bool {
        matches!(self, Self::StableErrorRate | Self::CandidateErrorRate)
    }
}

/// What happens to a step without a verdict at the end of its `max_bake`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInconclusive {
    Hold,
    RollBack,
    /// Waits for a person's approval.
    Approve,
}

/// After the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promote {
    /// Time during which the guards go on and the rollout can be undone at once.
    pub watch: Duration,
    /// Time from the promotion during which the previous version stays loaded; at least `watch`.
    pub keep_previous: Duration,
}

impl RolloutSpec {
    /// Fills in what the start call and the registry know: the route it is started on, the version it is started to,
    /// and the version that answers now.
    ///
    /// # Errors
    /// `BadValue` where the spec names another route or candidate than the call, where none names a candidate, and
    /// where candidate and stable are the same.
    pub fn resolved(self, route: &str, to: Option<u64>, answering: u64) -> Result<Self, SettingsError> {
        checks::resolved(self, route, to, answering)
    }

    /// The text that is hashed into the salt of the assignment.
    pub fn salt<'a>(&'a self, rollout_id: &'a str) -> &'a str {
        self.assignment.salt.as_deref().unwrap_or(rollout_id)
    }

    /// The settings of the router, with the salt that routing made of [`Self::salt`].
    pub fn assignment(&self, salt: u64) -> Assignment {
        Assignment { units: self.assignment.units.clone(), force: self.assignment.force.clone(), salt }
    }

    /// Requests that are copied in the shadow phase, in basis points; 0 without one.
    pub fn shadow_bp(&self) -> u16 {
        self.shadow.as_ref().map_or(0, |shadow| (shadow.percent * 100.0).round() as u16)
    }
}
