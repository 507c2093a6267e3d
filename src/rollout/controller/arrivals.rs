//! Versions whose model says `on_new_version: rollout`: their arrival starts the model's own rollout.

use serde_json::json;

use super::Controller;
use crate::audit::{AUTOMATIC, Entry};
use crate::error::Error;
use crate::rollout::view::StartRequest;

/// A version that has arrived.
struct Arrival {
    model: String,
    version: u64,
    digest: String,
    /// The files and the spec that it is tried with: others are tried again.
    attempt: String,
}

impl Controller {
    pub(super) async fn start_arrivals(&mut self) {
        for Arrival { model, version, digest, attempt } in self.arrivals() {
            if self.was_tried(&model, version, &digest) {
                self.note_passed_over(&model, version, &attempt);
                continue;
            }
            let reason = format!("version {version} has arrived");
            let request = StartRequest { route: model.clone(), to: Some(version), spec: None, reason };
            match self.begin(&request, AUTOMATIC) {
                Ok(active) => {
                    self.note_passed_over(&model, version, &attempt);
                    self.active.insert(model, active);
                }
                // Nothing is wrong with the version or the settings: the next change is another chance.
                Err(Error::Internal(cause) | Error::Unavailable(cause)) => {
                    tracing::error!(model, version, cause, "a new version's rollout can't be started now");
                }
                Err(cause) => {
                    tracing::error!(model, version, %cause, "a new version's rollout can't be started");
                    self.audit(Entry {
                        reason: request.reason.clone(),
                        evidence: json!({"to": version, "outcome": "refused", "error": cause.to_string()}),
                        ..Entry::now(AUTOMATIC, "rollout.start", &model)
                    });
                    self.note_passed_over(&model, version, &attempt);
                }
            }
        }
    }

    /// Ready versions above the one that answers, the newest of each model that has no rollout under way.
    fn arrivals(&self) -> Vec<Arrival> {
        let serving = self.parts.plane.serving.load();
        let arrival = |(name, entry): (&String, &std::sync::Arc<crate::routing::ModelEntry>)| {
            if !entry.rollout.on_new_version || self.active.contains_key(name) {
                return None;
            }
            let answers = entry.default?;
            let (&version, backend) = entry.backends.iter().next_back().filter(|(version, _)| **version > answers)?;
            let is_quarantined = entry.statuses.get(&version).is_some_and(|status| status.quarantined);
            let digest = backend.servable.digest.clone();
            let spec = entry.rollout.spec.as_ref().map(|spec| spec.to_string()).unwrap_or_default();
            let attempt = format!("{digest} {spec}");
            let is_known = self.passed_over.contains(&(name.clone(), version, attempt.clone()));
            (!is_quarantined && !is_known).then(|| Arrival { model: name.clone(), version, digest, attempt })
        };
        serving.models.iter().filter_map(arrival).collect()
    }
}
