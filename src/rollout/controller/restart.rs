//! What an earlier process left.

use std::collections::BTreeMap;

use super::active::Active;
use super::{Controller, now_ms};
use crate::audit::AUTOMATIC;
use crate::registry::version_policy::STABLE;
use crate::rollout::journal::{Journal, RolloutRow};
use crate::rollout::spec;
use crate::rollout::state_machine::{Progress, Transition, after_restart, restore as effects_of};
use crate::routing::{SplitPlan, Weights};
use crate::store::StoreError;

/// The rollouts that were under way.
pub struct Restored {
    pub(super) active: BTreeMap<String, Active>,
}

impl Restored {
    /// What the model manager must hold from its first look on.
    pub fn plans(&self) -> Vec<SplitPlan> {
        self.active.values().map(Active::plan).collect()
    }
}

/// Reads the rollouts under way, and notes that a process runs. To be called before the model manager starts, so that
/// no version goes that a rollout names. `routes`: further names, with model and label.
///
/// # Errors
/// Those of the store.
pub fn restore(journal: &Journal, routes: &BTreeMap<String, (String, String)>) -> Result<Restored, StoreError> {
    let was_clean = journal.mark_running()?;
    let mut active = BTreeMap::new();
    for row in journal.rollouts()?.into_iter().filter(|row| row.ended_ms.is_none()) {
        let label = routes.get(&row.route).map_or_else(|| STABLE.to_owned(), |(_, label)| label.clone());
        match revive(row, label) {
            Ok(mut rollout) => {
                if let Some(figures) = journal.checkpoint_of(&rollout.row.id)? {
                    rollout.restore(&figures);
                }
                let transitions = journal.transitions(&rollout.row.id)?;
                rollout.transitions = transitions.last().map_or(0, |last| last.number);
                rollout.last_transition = transitions.into_iter().next_back();
                rollout.was_clean = was_clean;
                active.insert(rollout.row.route.clone(), rollout);
            }
            Err((id, cause)) => {
                tracing::error!(rollout = id, cause, "a rollout that was under way can't be read and is left alone");
            }
        }
    }
    Ok(Restored { active })
}

fn revive(row: RolloutRow, label: String) -> Result<Active, (String, String)> {
    let fault = |cause: String| (row.id.clone(), cause);
    let spec = spec::read(&row.spec).map_err(|cause| fault(cause.to_string()))?;
    let progress: Progress = serde_json::from_value(row.progress.clone()).map_err(|cause| fault(cause.to_string()))?;
    let rollout = Active::new(row, spec, progress, label);
    // The same shares as before, from the first request on; a rollout that is to be rolled back is so before any.
    let state = rollout.progress.state;
    rollout.dial.set_weights(Weights::of_candidate(state.candidate_bp(&rollout.spec)));
    rollout.dial.set_shadow_bp(state.shadow_bp(&rollout.spec));
    Ok(rollout)
}

impl Controller {
    /// Lets every rollout go on that an earlier process left, or holds it where that process was torn away.
    pub(super) async fn resume_all(&mut self) {
        let routes: Vec<String> = self.active.keys().cloned().collect();
        for route in routes {
            let Some(mut active) = self.active.remove(&route) else { continue };
            let progress = active.progress.clone();
            let now = now_ms();
            let told = after_restart(&progress, active.was_clean, now);
            let effects = effects_of(&active.spec, &progress);
            match told {
                Some(transition) => {
                    let transition = Transition { effects: [effects, transition.effects].concat(), ..transition };
                    self.apply(&mut active, transition, AUTOMATIC, "").await;
                }
                None => self.put_in_force(&mut active, &effects).await,
            }
            self.active.insert(route, active);
        }
    }
}
