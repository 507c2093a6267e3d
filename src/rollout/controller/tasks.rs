//! What takes long and therefore runs beside the controller: loading the arms, and trying the candidate out.

use super::active::Active;
use super::{Controller, validation};
use crate::error::Result;
use crate::health::Phase;
use crate::rollout::state_machine::State;

/// What a task reports when it has ended, with the rollout's id.
pub enum Event {
    Armed(String, Result<()>),
    Validated(String, std::result::Result<(), String>),
}

impl Controller {
    pub(super) fn event(&mut self, event: Event) {
        let is_ending = self.parts.plane.health.phase() == Phase::Draining;
        let (Event::Armed(id, _) | Event::Validated(id, _)) = &event;
        let Some(active) = self.active.values_mut().find(|active| active.row.id == *id) else { return };
        match event {
            Event::Armed(_, Ok(())) => {}
            // The manager ends with the process, and answers nobody any more.
            Event::Armed(_, Err(_)) if is_ending => {}
            Event::Armed(_, Err(cause)) => active.arms_failure = Some(cause.to_string()),
            Event::Validated(_, result) => active.validation = Some(result),
        }
    }

    /// Has the manager load both versions and give each arm a queue.
    pub(super) fn arm(&self, active: &Active) {
        let (plan, id) = (active.plan(), active.row.id.clone());
        let serving = self.parts.plane.serving.load();
        // Without a label the newest version would answer once the rollout is over, whatever became of it. At the start of
        // the process the labels are not read yet, and a rollout that is restored has its own.
        let entry = serving.models.get(&plan.model).filter(|_| self.is_serving());
        let label = entry.filter(|entry| !entry.labels.contains_key(&active.label)).map(|_| active.label.clone());
        let (manager, events) = (self.parts.manager.clone(), self.events.clone());
        tokio::spawn(async move {
            let labelled = match label {
                Some(label) => manager.move_label_of_rollout(&plan.model, &label, Some(plan.stable)).await,
                None => Ok(()),
            };
            let armed = match labelled {
                Ok(()) => manager.set_split(plan).await,
                Err(cause) => Err(cause),
            };
            // The controller may have ended.
            let _ = events.send(Event::Armed(id, armed)).await;
        });
    }

    /// Begins to validate, once there is something to validate.
    pub(super) fn validate(&self, active: &mut Active) {
        if active.validating || active.validation.is_some() || active.progress.state != State::Validating {
            return;
        }
        let Some(split) = active.split(&self.parts.plane.serving.load()) else { return };
        active.validating = true;
        let found = &split.candidate.servable.digest;
        if let Some(expected) = active.spec.candidate_digest.as_ref().filter(|expected| *expected != found) {
            // The fault is the spec's, so the files are not held against.
            active.validation = Some(Err(format!("candidate_digest: expected {expected}, the files have {found}")));
            return;
        }
        // The files that were tried are the ones that the rollout is about.
        active.row.candidate_digest.clone_from(&split.candidate.servable.digest);
        let (spec, id, events) = (active.spec.clone(), active.row.id.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let result = validation::validate(&spec, &split);
            // The controller may have ended.
            let _ = events.blocking_send(Event::Validated(id, result));
        });
    }
}
