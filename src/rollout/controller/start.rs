//! Starting a rollout: everything that can be refused at once is.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::active::Active;
use super::route_log::labelled;
use super::{Controller, logged, now_ms};
use crate::audit::Entry;
use crate::error::{Error, Result};
use crate::prediction_log::settings::Task;
use crate::registry::version_policy::STABLE;
use crate::rollout::handle::Reply;
use crate::rollout::journal::{RolloutRow, rollout_id};
use crate::rollout::spec::{self, Event, RolloutSpec};
use crate::rollout::state_machine::{Progress, State};
use crate::rollout::view::{RolloutView, StartRequest};
use crate::routing::{ModelEntry, Serving, split};

/// How long the answer to a start waits for the candidate to be validated.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// A route, resolved.
struct Target {
    model: String,
    label: String,
    stable: u64,
}

impl Controller {
    pub(super) async fn start(&mut self, request: StartRequest, actor: String, reply: Reply<RolloutView>) {
        match self.begin(&request, &actor) {
            Err(refusal) => {
                self.audit(Entry {
                    reason: request.reason.clone(),
                    evidence: json!({"to": request.to, "outcome": "refused", "error": refusal.to_string()}),
                    ..Entry::now(&actor, "rollout.start", &request.route)
                });
                // Whoever asked may be gone.
                let _ = reply.send(Err(refusal));
            }
            Ok(mut active) => {
                active.starting = Some((reply, Instant::now()));
                self.active.insert(active.row.route.clone(), active);
            }
        }
    }

    /// Checks a start and writes the rollout down.
    pub(super) fn begin(&mut self, request: &StartRequest, actor: &str) -> Result<Active> {
        let serving = self.parts.plane.serving.load_full();
        let target = self.target(&serving, &request.route)?;
        let entry = serving.model(&target.model)?;
        let spec = read_spec(request, entry)?.resolved(&request.route, request.to, target.stable);
        let spec = spec.map_err(|fault| Error::invalid(fault.to_string()))?;
        let (stable, candidate) = (spec.stable.unwrap_or(target.stable), spec.candidate.unwrap_or_default());
        check_versions(&target, entry, stable, candidate)?;
        check_feedback(&spec, entry, stable)?;
        if let Some(other) = self.active.get(&request.route) {
            return Err(Error::Conflict(format!(
                "rollout '{}' is under way on route '{}': promote or abort it first",
                other.row.id, request.route
            )));
        }
        let unwritten = |cause| Error::Internal(format!("the rollout can't be written down: {cause}"));
        let number = self.parts.journal.next_number(&request.route).map_err(unwritten)?;
        let id = rollout_id(&request.route, number);
        let reason = if request.reason.is_empty() { spec.reason.clone() } else { request.reason.clone() };
        let now = now_ms();
        let progress = Progress::new("asked for", now);
        let row = RolloutRow {
            salt: split::salt(spec.salt(&id), &request.route),
            id,
            route: request.route.clone(),
            model: target.model.clone(),
            stable,
            candidate,
            candidate_digest: String::new(),
            spec: spec.to_value(),
            progress: json!(progress),
            started_ms: now,
            ended_ms: None,
            requested_by: actor.to_owned(),
            reason: reason.clone(),
        };
        self.parts.journal.begin(&row).map_err(unwritten)?;
        self.audit(Entry {
            reason,
            after: json!({"rollout": row.id, "stable": stable, "candidate": candidate}),
            evidence: json!({"outcome": "done", "spec": row.spec}),
            ..Entry::now(actor, "rollout.start", &request.route)
        });
        Ok(Active::new(row, spec, progress, target.label))
    }

    fn target(&self, serving: &Serving, route: &str) -> Result<Target> {
        let named = self.parts.routes.get(route).filter(|_| !serving.models.contains_key(route));
        let (model, label) = match named {
            Some((model, label)) => (model.clone(), label.clone()),
            None => (route.to_owned(), STABLE.to_owned()),
        };
        let entry = serving.model(&model)?;
        let stable = labelled(entry, &label).ok_or_else(|| {
            Error::Conflict(format!(
                "no version answers route '{route}', so there is nothing to compare a candidate with"
            ))
        })?;
        Ok(Target { model, label, stable })
    }

    /// Tells whoever started a rollout how far it came, once that is worth telling.
    pub(super) fn answer_start(&self, active: &mut Active) {
        let state = active.progress.state;
        let is_early = matches!(state, State::Pending | State::Validating | State::Warming);
        let Some((_, since)) = &active.starting else { return };
        if is_early && since.elapsed() < START_PATIENCE {
            return;
        }
        let Some((reply, _)) = active.starting.take() else { return };
        let answer = match state {
            State::Rejected => {
                let (id, cause) = (&active.row.id, &active.progress.cause);
                Err(Error::Conflict(format!("rollout '{id}' is rejected: {cause}")))
            }
            _ => Ok(self.view(active)),
        };
        // Whoever asked may be gone.
        let _ = reply.send(answer);
    }

    /// Remembers that this version is not to be tried so again in this process.
    pub(super) fn note_passed_over(&mut self, model: &str, version: u64, attempt: &str) {
        self.passed_over.insert((model.to_owned(), version, attempt.to_owned()));
    }

    /// Whether this candidate had its rollout already.
    pub(super) fn was_tried(&self, model: &str, version: u64, digest: &str) -> bool {
        let tried = |row: &RolloutRow| row.model == model && row.candidate == version && row.candidate_digest == digest;
        let rows = logged("reading the rollouts", self.parts.journal.rollouts());
        rows.is_none_or(|rows| rows.iter().any(tried))
    }
}

/// The spec that was sent, else the model's own, else the defaults.
fn read_spec(request: &StartRequest, entry: &ModelEntry) -> Result<RolloutSpec> {
    let own = entry.rollout.spec.as_deref();
    let (document, whose) = match (&request.spec, own) {
        (Some(document), _) => (document, "spec"),
        (None, Some(own)) => (own, "rollout in model.yaml"),
        (None, None) => (&Value::Null, "spec"),
    };
    spec::read(document).map_err(|fault| Error::invalid(format!("{whose}: {fault}")))
}

fn check_versions(target: &Target, entry: &ModelEntry, stable: u64, candidate: u64) -> Result<()> {
    if stable != target.stable {
        return Err(Error::invalid(format!(
            "spec: stable: expected {}, the version that answers now, got {stable}",
            target.stable
        )));
    }
    let Some(status) = entry.statuses.get(&candidate) else {
        return Err(Error::UnknownVersion {
            model: target.model.clone(),
            version: candidate.to_string(),
            ready: entry.in_service().into_iter().collect(),
        });
    };
    if status.quarantined {
        return Err(Error::Conflict(format!(
            "version {candidate} of model '{}' is {} (headgate clear-quarantine lets it be tried again)",
            target.model, status.reason
        )));
    }
    Ok(())
}

/// Refuses a check on feedback that nothing could ever answer.
fn check_feedback(spec: &RolloutSpec, entry: &ModelEntry, stable: u64) -> Result<()> {
    let Some(at) = spec.analysis.checks.iter().position(|check| check.event == Event::Feedback) else { return Ok(()) };
    // One that is cold says nothing yet.
    let Some(backend) = entry.backends.get(&stable) else { return Ok(()) };
    let quality = backend.servable.log.as_ref().and_then(|log| log.quality.as_ref());
    let missing = match quality.map(|plan| &plan.settings) {
        None => "quality in the model's settings, and a prediction log (--data-dir)",
        Some(settings) if settings.task == Task::Regression && settings.tolerance.is_none() => {
            "quality.tolerance in the model's settings, beyond which an error is an event"
        }
        Some(_) => return Ok(()),
    };
    Err(Error::invalid(format!("spec: analysis.checks[{at}].event: feedback needs {missing}, got nothing")))
}
