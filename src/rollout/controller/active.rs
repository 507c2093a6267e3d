//! One rollout under way: what is remembered of it, what is measured, and what the state machine is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::Result;
use crate::registry::manager::ManagerHandle;
use crate::rollout::evidence::Evidence;
use crate::rollout::handle::Reply;
use crate::rollout::journal::{RolloutRow, Step, TransitionRow};
use crate::rollout::spec::RolloutSpec;
use crate::rollout::state_machine::{ArmsReady, Effect, Facts, Progress, State};
use crate::rollout::view::{RolloutView, WeightsView};
use crate::routing::{Assignment, Dial, Observation, Serving, ShadowTolerance, Split, SplitPlan, Weights};
use crate::servable;

/// After an observation was lost, nothing advances for so long.
const LOST_DATA: Duration = Duration::from_secs(10);
/// Observations taken at a time, so that nothing else waits for long.
const MOST_AT_ONCE: usize = 1 << 16;

/// A rollout under way.
pub struct Active {
    pub row: RolloutRow,
    pub spec: RolloutSpec,
    pub progress: Progress,
    pub evidence: Evidence,
    pub dial: Arc<Dial>,
    observations: mpsc::Receiver<Observation>,
    pub assignment: Arc<Assignment>,
    /// The label of its route, which moves with a promotion.
    pub label: String,
    pub transitions: u64,
    pub last_transition: Option<TransitionRow>,
    /// Of the candidate: `None` while it is under way or was not begun.
    pub validation: Option<std::result::Result<(), String>>,
    pub validating: bool,
    /// Why the manager could not make the split.
    pub arms_failure: Option<String>,
    lost: Lost,
    ticked: Instant,
    pub checkpointed: Instant,
    /// When a transition last could not be written.
    pub unwritten: Option<Instant>,
    /// Steps that took traffic away and could not be written: they are written with the next.
    pub owed: Vec<Step>,
    /// Effects that the state could not take either: they are tried again once it has taken a step.
    pub undone: Vec<Effect>,
    /// When a label move was tried last.
    pub label_tried: Option<Instant>,
    /// Whoever started it, until it is validated.
    pub starting: Option<(Reply<RolloutView>, Instant)>,
    /// Whether the process before ended as it should.
    pub was_clean: bool,
}

#[derive(Default)]
struct Lost {
    seen: u64,
    last: Option<Instant>,
}

impl Active {
    /// `label`: of its route.
    pub fn new(row: RolloutRow, spec: RolloutSpec, progress: Progress, label: String) -> Self {
        let (dial, observations) = Dial::new();
        let now = Instant::now();
        Self {
            assignment: Arc::new(spec.assignment(row.salt)),
            evidence: Evidence::new(&spec),
            dial: Arc::new(dial),
            observations,
            label,
            transitions: 0,
            last_transition: None,
            validation: None,
            validating: false,
            arms_failure: None,
            lost: Lost::default(),
            ticked: now,
            checkpointed: now,
            label_tried: None,
            unwritten: None,
            owed: vec![],
            undone: vec![],
            starting: None,
            was_clean: true,
            row,
            spec,
            progress,
        }
    }

    /// What the manager is asked for.
    pub fn plan(&self) -> SplitPlan {
        let compare = self.spec.shadow.as_ref().map(|shadow| shadow.compare);
        SplitPlan {
            route: self.row.route.clone(),
            rollout: self.row.id.clone(),
            model: self.row.model.clone(),
            stable: self.row.stable,
            candidate: self.row.candidate,
            assignment: self.assignment.clone(),
            dial: self.dial.clone(),
            tolerance: compare.map_or(ShadowTolerance { atol: 0.0, rtol: 0.0 }, |compare| ShadowTolerance {
                atol: compare.atol,
                rtol: compare.rtol,
            }),
        }
    }

    /// Takes in what the data plane has observed, and lets the clocks go on.
    pub fn tick(&mut self, now_ms: u64) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.ticked);
        self.ticked = now;
        self.progress.tick(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        for _ in 0..MOST_AT_ONCE {
            let Ok(observation) = self.observations.try_recv() else { break };
            self.evidence.observe(&self.spec, &observation, now_ms);
        }
        self.evidence.tick(now_ms);
        let lost = self.dial.observations_dropped();
        if lost > self.lost.seen {
            self.lost = Lost { seen: lost, last: Some(now) };
        }
    }

    /// The split as requests see it.
    pub fn split(&self, serving: &Serving) -> Option<Arc<Split>> {
        let split = serving.routes.get(&self.row.route)?.split.as_ref()?;
        (*split.rollout == *self.row.id).then(|| split.clone())
    }

    /// What the state machine decides by.
    pub fn facts(&self, serving: &Serving, is_serving: bool) -> Facts {
        let candidate_bp = self.progress.state.candidate_bp(&self.spec);
        let lost_lately = self.lost.last.is_some_and(|last| last.elapsed() < LOST_DATA);
        Facts {
            arms: self.arms(serving, is_serving),
            validation: self.validation.clone(),
            published: self.is_published(serving),
            min_samples_reached: self.has_samples(candidate_bp),
            verdict: self.evidence.overall(&self.spec),
            guard_breach: self.evidence.guard_breach(&self.spec),
            breaker: self.dial.tripped().map(|trip| {
                format!("the request path ended a storm of bad answers by the candidate: {}", trip.cause.name())
            }),
            shadow: self.evidence.shadow_facts(&self.spec),
            data_missing: lost_lately || self.evidence.sample_ratio_view().mismatch,
        }
    }

    fn has_samples(&self, candidate_bp: u16) -> bool {
        let step = self.progress.state.step().and_then(|index| self.spec.steps.get(index));
        step.is_some_and(|step| self.evidence.has_samples(step.min_samples, candidate_bp))
    }

    fn arms(&self, serving: &Serving, is_serving: bool) -> ArmsReady {
        if let Some(split) = self.split(serving) {
            let (expected, found) = (&self.row.candidate_digest, &split.candidate.servable.digest);
            if !expected.is_empty() && expected != found {
                let version = self.row.candidate;
                return ArmsReady::Failed(format!(
                    "the files of version {version} are not those that were validated: expected {expected}, got {found}"
                ));
            }
            return ArmsReady::Ready;
        }
        if let Some(failure) = &self.arms_failure {
            return ArmsReady::Failed(failure.clone());
        }
        // Before everything was looked at and loaded, a version that isn't there may yet come.
        let gone = || {
            let entry = serving.models.get(&self.row.model);
            [self.row.stable, self.row.candidate].into_iter().find_map(|version| {
                match entry.and_then(|entry| entry.statuses.get(&version)) {
                    None => Some(format!("version {version} is not in the repository any more")),
                    Some(status) if status.state == servable::State::Failed => {
                        Some(format!("version {version} failed: {}", status.reason))
                    }
                    Some(_) => None,
                }
            })
        };
        match is_serving.then(gone).flatten() {
            Some(reason) => ArmsReady::Failed(reason),
            None => ArmsReady::NotYet,
        }
    }

    /// Whether what the state demands of the routes is in force.
    fn is_published(&self, serving: &Serving) -> bool {
        let demanded = Weights::of_candidate(self.progress.state.candidate_bp(&self.spec));
        let label_is = |version| {
            let entry = serving.models.get(&self.row.model);
            entry.is_some_and(|entry| entry.labels.get(&self.label) == Some(&version))
        };
        let label_done = match self.progress.state {
            State::Promoting => label_is(self.row.candidate),
            State::RollingBack { .. } if self.progress.label_moved => label_is(self.row.stable),
            _ => true,
        };
        self.dial.weights() == demanded && label_done
    }

    pub fn weights(&self) -> WeightsView {
        weights_view(self.dial.weights(), self.dial.shadow_bp())
    }

    /// What is written each second.
    pub fn checkpoint(&self) -> Value {
        json!({"evidence": self.evidence, "bake_elapsed_ms": self.progress.bake_elapsed_ms})
    }

    /// Takes over what an earlier process has measured.
    pub fn restore(&mut self, checkpoint: &Value) {
        let evidence = serde_json::from_value::<Evidence>(checkpoint["evidence"].clone());
        match evidence {
            Ok(evidence) if evidence.fits(&self.spec) => self.evidence = evidence,
            _ => tracing::error!(rollout = self.row.id, "the figures of the rollout can't be read, it counts anew"),
        }
        if let Some(bake) = checkpoint["bake_elapsed_ms"].as_u64() {
            self.progress.bake_elapsed_ms = self.progress.bake_elapsed_ms.max(bake);
        }
    }

    /// Ends the split. After a promotion the previous version stays loaded for a while.
    pub async fn release(&self, manager: &ManagerHandle) -> Result<()> {
        let promote = self.spec.promote;
        let keep = match self.progress.state {
            // Counted from the promotion, and a watch has passed since.
            State::Completed => promote.keep_previous.saturating_sub(promote.watch),
            _ => Duration::ZERO,
        };
        manager.clear_split(&self.row.route, keep).await
    }
}

pub fn weights_view(weights: Weights, shadow: u16) -> WeightsView {
    WeightsView { stable: weights.stable(), candidate: weights.candidate(), control: weights.control(), shadow }
}
