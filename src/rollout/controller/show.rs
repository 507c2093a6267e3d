//! Rollouts as operators see them.

use std::sync::Arc;

use super::Controller;
use super::active::{Active, weights_view};
use super::commands::unreadable;
use super::route_log::labelled;
use crate::error::Result;
use crate::rollout::journal::RolloutRow;
use crate::rollout::spec::{Require, Step};
use crate::rollout::state_machine::{Progress, State};
use crate::rollout::view::{Explanation, RolloutList, RolloutView, StepView};
use crate::routing::{Arm, BASIS_POINTS, Unit, Weights, split};
use crate::telemetry::exposition::{CheckReading, RolloutReading};

/// Ended rollouts that a list shows; each of the others is shown by its id.
const MOST_ENDED_SHOWN: usize = 20;

impl Controller {
    pub(super) fn list(&self) -> Result<RolloutList> {
        let mut rollouts: Vec<RolloutView> = self.active.values().map(|active| self.view(active)).collect();
        let mut ended: Vec<RolloutRow> = self.parts.journal.rollouts().map_err(unreadable)?;
        ended.retain(|row| row.ended_ms.is_some());
        ended.sort_by_key(|row| std::cmp::Reverse(row.ended_ms));
        // Each is read from the state, while the guards of what is under way wait.
        rollouts.extend(ended.into_iter().take(MOST_ENDED_SHOWN).filter_map(|row| self.ended_view(row)));
        Ok(RolloutList { rollouts })
    }

    pub(super) fn show(&self, asked_for: &str) -> Result<RolloutView> {
        let row = self.row_of(asked_for)?;
        if let Some(active) = self.active.get(&row.route).filter(|active| active.row.id == row.id) {
            return Ok(self.view(active));
        }
        let id = row.id.clone();
        self.ended_view(row).ok_or_else(|| {
            crate::error::Error::Internal(format!("what is written of rollout '{id}' can't be read by this version"))
        })
    }

    /// One that has ended, as its last figures show it.
    fn ended_view(&self, row: RolloutRow) -> Option<RolloutView> {
        let spec = crate::rollout::spec::read(&row.spec).ok()?;
        let progress: Progress = serde_json::from_value(row.progress.clone()).ok()?;
        let mut rollout = Active::new(row, spec, progress, String::new());
        let journal = &self.parts.journal;
        if let Ok(Some(figures)) = journal.checkpoint_of(&rollout.row.id) {
            rollout.restore(&figures);
        }
        rollout.last_transition = journal.transitions(&rollout.row.id).ok()?.into_iter().next_back();
        Some(self.view(&rollout))
    }

    pub(super) fn view(&self, active: &Active) -> RolloutView {
        let Active { row, spec, progress, evidence, .. } = active;
        RolloutView {
            id: row.id.clone(),
            route: row.route.clone(),
            model: row.model.clone(),
            stable: row.stable,
            candidate: row.candidate,
            state: shown_state(progress).to_owned(),
            ended: progress.state.is_terminal(),
            waiting_for: progress.waiting_for(),
            step: progress.state.step(),
            steps: spec.steps.iter().map(step_view).collect(),
            started_ms: row.started_ms,
            since_ms: progress.since_ms,
            ended_ms: row.ended_ms,
            requested_by: row.requested_by.clone(),
            reason: row.reason.clone(),
            bake_elapsed_ms: progress.bake_elapsed_ms,
            weights: match progress.state {
                State::Completed => weights_view(Weights::of_candidate(BASIS_POINTS), 0),
                _ => active.weights(),
            },
            arms: evidence.arm_views((row.stable, row.candidate)),
            checks: evidence.check_views(spec),
            guards: evidence.guard_views(spec),
            sample_ratio: evidence.sample_ratio_view(),
            shadow: evidence.shadow_view(spec, active.dial.shadows_dropped()),
            last_transition: active.last_transition.clone(),
            spec: row.spec.clone(),
        }
    }

    /// Which arm meets a key.
    pub(super) fn explain(&self, route: &str, key: &str) -> Result<Explanation> {
        let serving = self.parts.plane.serving.load();
        let active = self.active.get(route);
        let Some(active) = active.filter(|active| active.split(&serving).is_some()) else {
            let version = match self.parts.routes.get(route).filter(|_| !serving.models.contains_key(route)) {
                Some((model, label)) => labelled(serving.model(model)?, label),
                None => serving.model(route)?.default,
            };
            return Ok(Explanation {
                route: route.to_owned(),
                key: key.to_owned(),
                rollout: None,
                bucket: None,
                weights: weights_view(Weights::ALL_STABLE, 0),
                arm: Arm::Stable.name().to_owned(),
                version,
                because: "no rollout splits the route: everything goes to the version that answers it".to_owned(),
            });
        };
        let weights = active.dial.weights();
        let bucket = split::bucket(active.assignment.salt, key.as_bytes());
        let arm = split::arm_of(bucket, weights);
        let version = if arm == Arm::Candidate { active.row.candidate } else { active.row.stable };
        Ok(Explanation {
            route: route.to_owned(),
            key: key.to_owned(),
            rollout: Some(active.row.id.clone()),
            bucket: Some(bucket),
            weights: active.weights(),
            arm: arm.name().to_owned(),
            version: Some(version),
            because: because(&active.assignment.units, bucket, arm, weights),
        })
    }

    /// What `/metrics` says.
    pub(super) fn publish_readings(&self) {
        let reading = |active: &Active| RolloutReading {
            route: active.row.route.clone(),
            state: shown_state(&active.progress),
            weights: {
                let weights = active.weights();
                vec![
                    ("stable", weights.stable),
                    ("candidate", weights.candidate),
                    ("control", weights.control),
                    ("shadow", weights.shadow),
                ]
            },
            checks: active.evidence.check_views(&active.spec).into_iter().map(check_reading).collect(),
            observations_dropped: active.dial.observations_dropped(),
            shadow_requests: active
                .evidence
                .shadow_view(&active.spec, active.dial.shadows_dropped())
                .map(|shadow| {
                    vec![("compared", shadow.compared), ("failed", shadow.failed), ("dropped", shadow.dropped)]
                })
                .unwrap_or_default(),
        };
        self.parts.readings.store(Arc::new(self.active.values().map(reading).collect()));
    }
}

fn check_reading(check: crate::rollout::view::CheckView) -> CheckReading {
    let verdict = match check.verdict.as_str() {
        "pass" => 1,
        "fail" => -1,
        _ => 0,
    };
    CheckReading { name: check.name, e_harm: check.e_harm, e_safe: check.e_safe, verdict }
}

/// A hold and a pause are shown in place of the state that they stop.
fn shown_state(progress: &Progress) -> &'static str {
    match (progress.paused, &progress.held) {
        _ if progress.state.is_terminal() => progress.state.name(),
        (true, _) => "paused",
        (false, Some(_)) => "held",
        (false, None) => progress.state.name(),
    }
}

fn step_view(step: &Step) -> StepView {
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    StepView {
        weight_bp: step.weight_bp,
        min_bake_ms: ms(step.min_bake),
        max_bake_ms: ms(step.max_bake),
        min_samples: step.min_samples,
        require: match step.require {
            Require::NoHarm => "no_harm".to_owned(),
            Require::Safe => "safe".to_owned(),
        },
        approval: step.approval.required,
    }
}

fn because(units: &[Unit], bucket: u16, arm: Arm, weights: Weights) -> String {
    let unit = |unit: &Unit| match unit {
        Unit::Header(name) => format!("header '{name}'"),
        Unit::Param(name) => format!("parameter '{name}'"),
        Unit::Request => "each request at random".to_owned(),
    };
    let units: Vec<String> = units.iter().map(unit).collect();
    let range = match arm {
        Arm::Candidate => format!("below {}, the candidate's", weights.candidate()),
        Arm::Control => format!("from {} on, the control's", 10_000 - weights.control()),
        _ => "between the candidate's and the control's".to_owned(),
    };
    format!("bucket {bucket} of 10,000 is {range}; keys come from {}", units.join(", else "))
}
