//! Rollouts as the admin API shows them. The command line reads the same types.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer of `/admin/v1/rollouts`: those under way first, then the last twenty that ended, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutList {
    pub rollouts: Vec<RolloutView>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutView {
    /// `<route>-<number>`.
    pub id: String,
    pub route: String,
    pub model: String,
    pub stable: u64,
    pub candidate: u64,
    /// A word of the state machine, such as `baking`.
    pub state: String,
    pub ended: bool,
    /// Held or waiting for a person: why. Empty otherwise.
    pub waiting_for: String,
    /// Of `steps`, counted from 0; null outside the steps.
    pub step: Option<usize>,
    pub steps: Vec<StepView>,
    /// Unix times in ms: of the start, of the present state, and of the end.
    pub started_ms: u64,
    pub since_ms: u64,
    pub ended_ms: Option<u64>,
    pub requested_by: String,
    pub reason: String,
    pub bake_elapsed_ms: u64,
    pub weights: WeightsView,
    pub arms: Vec<ArmView>,
    pub checks: Vec<CheckView>,
    pub guards: Vec<GuardView>,
    pub sample_ratio: SampleRatioView,
    /// Null where the spec has no shadow phase.
    pub shadow: Option<ShadowView>,
    pub last_transition: Option<TransitionView>,
    /// The whole spec with every default filled in.
    pub spec: Value,
}

/// One step of the spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    pub weight_bp: u16,
    pub min_bake_ms: u64,
    pub max_bake_ms: u64,
    pub min_samples: u64,
    /// `no_harm` or `safe`.
    pub require: String,
    pub approval: bool,
}

/// Basis points; the three split sum to 10,000, the shadow share is apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsView {
    pub stable: u16,
    pub candidate: u16,
    pub control: u16,
    pub shadow: u16,
}

/// What one arm has served in this rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmView {
    pub arm: String,
    pub version: u64,
    pub requests: u64,
    pub errors: u64,
    /// Answers that were not finite or out of range.
    pub invalid: u64,
    /// Of the last minute; null without requests in it.
    pub p50_ms: Option<f64>,
    pub p95_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// Median and p95 of the whole rollout; null before the first request.
    #[serde(default)]
    pub p50_so_far: Option<QuantileView>,
    #[serde(default)]
    pub p95_so_far: Option<QuantileView>,
}

/// A quantile of a latency, in ms, with the band in which it lies at all times with a probability of 95 %.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct QuantileView {
    pub estimate_ms: f64,
    /// Null while it is not bounded.
    pub low_ms: Option<f64>,
    pub high_ms: Option<f64>,
}

/// One check of the spec.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckView {
    pub name: String,
    /// What is counted, as the spec says it.
    pub event: String,
    pub critical: bool,
    pub dry_run: bool,
    /// `pass`, `fail` or `inconclusive`.
    pub verdict: String,
    pub candidate: CountView,
    pub comparator: CountView,
    /// The arm or arms compared with: `stable` or `control`.
    pub against: String,
    /// Rate in the candidate over rate in the comparator, with its time-uniform interval; null before there are events.
    pub ratio: Option<f64>,
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    pub harm_ratio: f64,
    pub safe_ratio: f64,
    /// Evidence for harm, capped at 1e300; at `line` the verdict is fail.
    pub e_harm: f64,
    pub line: f64,
    /// Evidence for safety; at `safe_line` the verdict is pass.
    pub e_safe: f64,
    pub safe_line: f64,
    /// What stands in the way of a verdict, or how it was reached.
    pub note: String,
    /// Candidate requests until a verdict of pass, if things go on as they are; null where nothing can be said.
    pub samples_to_verdict: Option<u64>,
    /// The same as time, at the rate of the last minute.
    pub seconds_to_verdict: Option<f64>,
}

/// Events among requests (or keys).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountView {
    pub requests: u64,
    pub events: u64,
}

/// One absolute limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GuardView {
    pub metric: String,
    pub max: f64,
    /// Null before there is enough to say.
    pub value: Option<f64>,
    pub breached: bool,
}

/// Whether the router's shares are what the weights say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SampleRatioView {
    pub candidate: u64,
    pub others: u64,
    pub expected_share: f64,
    pub e_value: f64,
    pub line: f64,
    pub mismatch: bool,
}

/// What the shadow has shown.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowView {
    pub percent: f64,
    pub compared: u64,
    pub disagreements: u64,
    /// Comparisons in which both gave the same class; null where the outputs have no classes.
    pub same_class: Option<u64>,
    pub max_abs_difference: f64,
    pub max_rel_difference: f64,
    /// Copies that were not run because there was no spare capacity, and copies that failed.
    pub dropped: u64,
    pub failed: u64,
    pub primary_p50_ms: Option<f64>,
    pub shadow_p50_ms: Option<f64>,
}

/// One row of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransitionView {
    pub number: u64,
    /// Unix time in ms.
    pub at_ms: u64,
    pub from: String,
    pub to: String,
    /// `headgate` for automatic decisions.
    pub actor: String,
    pub cause: String,
    /// From then on.
    pub weights: WeightsView,
    /// The figures that the decision rests on.
    pub evidence: Value,
}

/// The answer of `/admin/v1/rollouts/{id}/history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    pub id: String,
    pub transitions: Vec<TransitionView>,
}

/// The answer of `/admin/v1/routes/{route}/explain`: which arm meets a key, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub route: String,
    pub key: String,
    /// Null where no rollout splits the route.
    pub rollout: Option<String>,
    /// 0 to 9,999; null likewise.
    pub bucket: Option<u16>,
    pub weights: WeightsView,
    pub arm: String,
    pub version: Option<u64>,
    /// One sentence.
    pub because: String,
}

/// The answer of `/admin/v1/routes/{route}/history`: who served the route from when on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteHistory {
    pub route: String,
    /// Oldest first; with a time asked for, the one row in force then.
    pub served: Vec<RouteRow>,
}

/// From `at_ms` on, the route was served so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouteRow {
    pub at_ms: u64,
    pub stable: Option<u64>,
    /// Null where no rollout splits the route.
    pub candidate: Option<u64>,
    pub weights: WeightsView,
    pub rollout: Option<String>,
}

/// What `POST /admin/v1/rollouts` takes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartRequest {
    /// The model or route whose traffic is to be split.
    pub route: String,
    /// The candidate's version; may be in the spec instead.
    pub to: Option<u64>,
    /// The spec as YAML or JSON text; absent, the model's own from `model.yaml`, else the defaults.
    pub spec: Option<Value>,
    pub reason: String,
}

/// What an operator may ask of a rollout under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Stop the clock; weights stay, guards go on.
    Pause,
    /// Go on from a pause or a hold.
    Resume,
    /// Let a step that waits for a person pass.
    Approve,
    /// End the remaining steps now and make the candidate stable.
    Promote,
    /// Take the candidate's share away and end the rollout.
    Abort,
}

impl Action {
    pub const ALL: [Self; 5] = [Self::Pause, Self::Resume, Self::Approve, Self::Promote, Self::Abort];

    /// The word in paths and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Approve => "approve",
            Self::Promote => "promote",
            Self::Abort => "abort",
        }
    }
}
