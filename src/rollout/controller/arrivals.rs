//! Versions whose model says `on_new_version: rollout`: their arrival starts the model's own rollout.

use super::Controller;
use crate::audit::AUTOMATIC;
use crate::rollout::view::StartRequest;

/// A version that has arrived.
struct Arrival {
    model: String,
    version: u64,
    digest: String,
}

impl Controller {
    pub(super) async fn start_arrivals(&mut self) {
        for Arrival { model, version, digest } in self.arrivals() {
            if self.was_tried(&model, version, &digest) {
                self.note_passed_over(&model, version, &digest);
                continue;
            }
            let reason = format!("version {version} has arrived");
            let request = StartRequest { route: model.clone(), to: Some(version), spec: None, reason };
            match self.begin(&request, AUTOMATIC) {
                Ok(active) => _ = self.active.insert(model, active),
                Err(cause) => {
                    tracing::error!(model, version, %cause, "a new version's rollout can't be started");
                    self.note_passed_over(&model, version, &digest);
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
            let is_known = self.passed_over.contains(&(name.clone(), version, digest.clone()));
            (!is_quarantined && !is_known).then(|| Arrival { model: name.clone(), version, digest })
        };
        serving.models.iter().filter_map(arrival).collect()
    }
}
