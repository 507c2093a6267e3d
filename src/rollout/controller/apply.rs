//! Putting a transition in force.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::active::{Active, weights_view};
use super::{Controller, logged, now_ms};
use crate::audit::{AUTOMATIC, Entry};
use crate::outbound::{Event as Told, ROLLOUT_TRANSITION};
use crate::registry::digest::Digest;
use crate::rollout::journal::{Step, TransitionRow};
use crate::rollout::state_machine::{Effect, State, Transition};
use crate::rollout::view::{RouteRow, WeightsView};
use crate::routing::Weights;
use crate::servable::ServableId;
use crate::telemetry::metrics::{self, RolloutCause, RolloutOutcome};

/// Time between two attempts to move a label.
const LABEL_RETRY: Duration = Duration::from_secs(1);
/// Steps of one rollout that may wait for the disk.
const MOST_OWED: usize = 16;
/// What the manager may take to answer.
const MANAGER_PATIENCE: Duration = Duration::from_secs(10);

impl Controller {
    /// Writes a transition and puts it in force; false where it could not be written and therefore did not happen.
    ///
    /// What takes traffic away happens first and is written after: it waits for no disk.
    pub(super) async fn apply(
        &mut self,
        active: &mut Active,
        transition: Transition,
        actor: &str,
        reason: &str,
    ) -> bool {
        let takes_away = transition.effects.contains(&Effect::Weights(0));
        let before = active.progress.clone();
        let weights_before = active.weights();
        if takes_away {
            active.dial.shut();
        }
        let row = self.row(active, &transition, actor);
        let mut remembered = active.row.clone();
        remembered.progress = json!(transition.to);
        remembered.ended_ms = transition.to.state.is_terminal().then_some(row.at_ms);
        let serves = self.serves(active, &transition, row.weights, row.at_ms);
        let told = Told {
            kind: ROLLOUT_TRANSITION,
            subject: active.row.id.clone(),
            at_ms: row.at_ms,
            data: json!({"rollout": active.row.id, "route": active.row.route, "model": active.row.model,
                "stable": active.row.stable, "candidate": active.row.candidate, "transition": row}),
        };
        let events = self.parts.webhooks.rows(&told);
        // Beyond it the last is replaced: whoever repeats an abort says nothing new.
        active.owed.truncate(MOST_OWED - 1);
        active.owed.push(Step { transition: row.clone(), served: serves.clone(), events });
        let written = self.parts.journal.commit_steps(&remembered, &active.owed);
        let is_written = logged("writing a rollout's transition", written).is_some();
        active.unwritten = (!is_written).then(Instant::now);
        if is_written {
            active.owed.clear();
        } else if !takes_away {
            active.owed.pop();
            return false;
        }
        if let Some(serves) = serves {
            self.log.note(&active.row.route, serves);
        }
        tracing::info!(rollout = active.row.id, from = row.from, to = row.to, actor, cause = row.cause, "rollout");
        let step_before = before.state.step();
        let mut after = json!({"state": row.to, "weights": row.weights});
        if transition.to.state.is_terminal() {
            // Before the effects, which may take it out of service.
            after["candidate"] = self.candidate(active);
        }
        active.row = remembered;
        active.progress = transition.to;
        active.transitions = row.number;
        let undone = if is_written { std::mem::take(&mut active.undone) } else { vec![] };
        for effect in undone.iter().chain(&transition.effects) {
            self.effect(active, effect).await;
        }
        if active.progress.state.step() != step_before {
            active.evidence.next_step(&active.spec, now_ms());
        }
        self.checkpoint(active);
        self.audit(Entry {
            reason: if reason.is_empty() { row.cause.clone() } else { reason.to_owned() },
            before: json!({"state": before.state.name(), "weights": weights_before}),
            after,
            evidence: row.evidence.clone(),
            ..Entry::now(actor, "rollout.transition", &active.row.id)
        });
        active.last_transition = Some(row);
        self.parts.webhooks.wake();
        true
    }

    /// What was tried, down to the data set that it was trained on.
    fn candidate(&self, active: &Active) -> Value {
        let serving = self.parts.plane.serving.load();
        let entry = serving.models.get(&active.row.model);
        let backend = entry.and_then(|entry| entry.backends.get(&active.row.candidate));
        let lineage = backend.map(|backend| backend.servable.lineage.clone());
        json!({"version": active.row.candidate, "digest": active.row.candidate_digest, "lineage": lineage})
    }

    fn row(&self, active: &Active, transition: &Transition, actor: &str) -> TransitionRow {
        let (mut weights, mut shadow) = (active.dial.weights(), active.dial.shadow_bp());
        for effect in &transition.effects {
            match effect {
                Effect::Weights(bp) => weights = Weights::of_candidate(*bp),
                Effect::Shadow(bp) => shadow = *bp,
                _ => {}
            }
        }
        let name = |progress: &crate::rollout::state_machine::Progress| match progress.state {
            State::Step { index, .. } => format!("step {} {}", index + 1, progress.state.name()),
            state => state.name().to_owned(),
        };
        TransitionRow {
            number: active.transitions + 1,
            at_ms: now_ms(),
            from: name(&active.progress),
            to: name(&transition.to),
            actor: actor.to_owned(),
            cause: transition.cause.clone(),
            weights: weights_view(weights, shadow),
            evidence: self.evidence(active),
        }
    }

    /// The figures of the moment.
    fn evidence(&self, active: &Active) -> Value {
        if !active.progress.state.has_traffic() {
            return Value::Null;
        }
        json!({
            "arms": active.evidence.arm_views((active.row.stable, active.row.candidate)),
            "checks": active.evidence.check_views(&active.spec),
            "guards": active.evidence.guard_views(&active.spec),
            "sample_ratio": active.evidence.sample_ratio_view(),
            "shadow": active.evidence.shadow_view(&active.spec, active.dial.shadows_dropped()),
        })
    }

    /// Who serves the route after the transition, where that changes.
    fn serves(&self, active: &Active, transition: &Transition, weights: WeightsView, at_ms: u64) -> Option<RouteRow> {
        let released = transition.effects.contains(&Effect::ReleaseArms);
        let stable = match transition.to.state {
            State::Completed => active.row.candidate,
            _ => active.row.stable,
        };
        let is_split = !released && weights.candidate > 0;
        let row = RouteRow {
            at_ms,
            stable: Some(stable),
            candidate: is_split.then_some(active.row.candidate),
            weights: if is_split { weights } else { weights_view(Weights::ALL_STABLE, 0) },
            rollout: is_split.then(|| active.row.id.clone()),
        };
        self.log.differs(&active.row.route, &row).then_some(row)
    }

    /// Puts effects in force that were in force before a restart.
    pub(super) async fn put_in_force(&mut self, active: &mut Active, effects: &[Effect]) {
        for effect in effects {
            self.effect(active, effect).await;
        }
    }

    async fn effect(&mut self, active: &mut Active, effect: &Effect) {
        let version = active.row.candidate;
        let manager = &self.parts.manager;
        match effect {
            Effect::Weights(bp) => active.dial.set_weights(Weights::of_candidate(*bp)),
            Effect::Shadow(bp) => active.dial.set_shadow_bp(*bp),
            Effect::PinArms => self.arm(active),
            Effect::ReleaseArms => {
                waited("giving the route back to its label", active.release(manager)).await;
            }
            Effect::MoveLabel => self.move_label(active, version).await,
            Effect::MoveLabelBack => {
                let stable = active.row.stable;
                self.move_label(active, stable).await;
            }
            Effect::Quarantine(reason) => {
                let id = ServableId { model: active.row.model.clone(), version };
                if let Some(label) = self.other_label(active) {
                    let (model, reason) = (&id.model, format!("label '{label}' names it"));
                    tracing::warn!(model, version, reason, "a candidate that was taken back is not quarantined");
                    self.audit(Entry { reason, ..Entry::now(AUTOMATIC, "quarantine.spared", model) });
                    return;
                }
                // Of a candidate that was never loaded there are no files to speak of.
                if let Ok(digest) = active.row.candidate_digest.parse::<Digest>()
                    && !waited("quarantining the candidate", manager.quarantine(id, digest, reason.clone())).await
                {
                    active.undone.push(effect.clone());
                }
            }
        }
    }

    /// A label, not the route's own, that names the candidate: what a label names goes on serving.
    fn other_label(&self, active: &Active) -> Option<String> {
        let serving = self.parts.plane.serving.load();
        let labels = &serving.models.get(&active.row.model)?.labels;
        let names = |(label, version): &(&String, &u64)| **version == active.row.candidate && **label != active.label;
        labels.iter().find(names).map(|(label, _)| label.clone())
    }

    async fn move_label(&self, active: &mut Active, version: u64) {
        active.label_tried = Some(Instant::now());
        let moving = self.parts.manager.move_label_of_rollout(&active.row.model, &active.label, Some(version));
        waited("moving the label", moving).await;
    }

    /// A label that could not be moved is moved later; the rollout waits for it.
    pub(super) async fn retry_label(&self, active: &mut Active) {
        let version = match active.progress.state {
            State::Promoting => active.row.candidate,
            State::RollingBack { .. } if active.progress.label_moved => active.row.stable,
            _ => return,
        };
        if active.label_tried.is_none_or(|tried| tried.elapsed() >= LABEL_RETRY) {
            self.move_label(active, version).await;
        }
    }

    /// Counts the end of a rollout.
    pub(super) fn ended(&mut self, active: Active) {
        let outcome = match active.progress.state {
            State::Completed => RolloutOutcome::Completed,
            State::Rejected => RolloutOutcome::Rejected,
            State::Aborted => RolloutOutcome::Aborted,
            _ => RolloutOutcome::RolledBack,
        };
        metrics::count_rollout_ended(outcome, cause(&active, outcome));
    }
}

/// The label of a cause, from what the rollout knows.
fn cause(active: &Active, outcome: RolloutOutcome) -> RolloutCause {
    let text = &active.progress.cause;
    match outcome {
        RolloutOutcome::Completed => RolloutCause::Evidence,
        RolloutOutcome::Aborted => RolloutCause::Operator,
        RolloutOutcome::Rejected if active.arms_failure.is_some() => RolloutCause::Failure,
        RolloutOutcome::Rejected => RolloutCause::Validation,
        _ if active.dial.tripped().is_some() => RolloutCause::Breaker,
        _ if !active.evidence.overall(&active.spec).harms.is_empty() => RolloutCause::Check,
        _ if text.contains("clean exit") => RolloutCause::UncleanExit,
        _ if text.starts_with("no verdict") => RolloutCause::Inconclusive,
        _ if text.contains("is allowed") => RolloutCause::Guard,
        _ => RolloutCause::Failure,
    }
}

/// Waits for the manager within reason; what fails is logged, and false.
async fn waited(doing: &str, asked: impl Future<Output = crate::error::Result<()>>) -> bool {
    match tokio::time::timeout(MANAGER_PATIENCE, asked).await {
        Ok(result) => logged(doing, result).is_some(),
        Err(_) => {
            tracing::error!(doing, "the model manager did not answer in time");
            false
        }
    }
}
