//! What people ask for.

use serde_json::json;

use super::Controller;
use crate::audit::Entry;
use crate::error::{Error, Result, nearest};
use crate::inference::printable;
use crate::rollout::handle::Command;
use crate::rollout::state_machine::{self, Transition};
use crate::rollout::view::{Action, History, RolloutView, RouteHistory};

/// Who asks, and why.
struct Asked {
    action: Action,
    actor: String,
    reason: String,
}

impl Controller {
    pub(super) async fn command(&mut self, command: Command) {
        // Whoever asked may be gone.
        match command {
            Command::Start { request, actor, reply } => self.start(request, actor, reply).await,
            Command::Act { rollout, action, actor, reason, reply } => {
                let _ = reply.send(self.act(&rollout, Asked { action, actor, reason }).await);
            }
            Command::List { reply } => _ = reply.send(self.list()),
            Command::Show { rollout, reply } => _ = reply.send(self.show(&rollout)),
            Command::History { rollout, reply } => _ = reply.send(self.history(&rollout)),
            Command::RouteHistory { route, at_ms, reply } => _ = reply.send(self.route_history(&route, at_ms)),
            Command::Explain { route, key, reply } => _ = reply.send(self.explain(&route, &key)),
        }
    }

    async fn act(&mut self, asked_for: &str, asked: Asked) -> Result<RolloutView> {
        let route = self.active.iter().find(|(route, active)| *route == asked_for || active.row.id == asked_for);
        let Some(route) = route.map(|(route, _)| route.clone()) else {
            // One that has ended is known, and can't be steered any more.
            let view = self.show(asked_for)?;
            return Err(Error::Conflict(format!("rollout '{}' has ended: it is {}", view.id, view.state)));
        };
        let Some(mut active) = self.active.remove(&route) else { return Err(self.unknown(asked_for)) };
        active.tick(super::now_ms());
        let Asked { action, actor, reason } = asked;
        let transition = state_machine::command(&active.spec, &active.progress, action, &actor, super::now_ms());
        let result = match transition {
            Err(refusal) => {
                let refusal = Error::Conflict(format!("rollout '{}': {refusal}", active.row.id));
                self.audit(Entry {
                    reason: reason.clone(),
                    evidence: json!({"outcome": "refused", "error": refusal.to_string()}),
                    ..Entry::now(&actor, &format!("rollout.{}", action.name()), &active.row.id)
                });
                Err(refusal)
            }
            Ok(transition) => match self.apply(&mut active, because(transition, &reason), &actor, &reason).await {
                true if active.unwritten.is_some() => Err(Error::Internal(
                    "the candidate's share is taken away, but the data directory can't be written".to_owned(),
                )),
                true => Ok(()),
                false => Err(Error::Internal("the transition can't be written down".to_owned())),
            },
        };
        let view = result.map(|()| self.view(&active));
        self.active.insert(route, active);
        view
    }

    fn history(&self, asked_for: &str) -> Result<History> {
        let row = self.row_of(asked_for)?;
        let transitions = self.parts.journal.transitions(&row.id).map_err(unreadable)?;
        Ok(History { id: row.id, transitions })
    }

    fn route_history(&self, route: &str, at_ms: Option<u64>) -> Result<RouteHistory> {
        let served = self.parts.journal.route_history(route, at_ms).map_err(unreadable)?;
        let serving = self.parts.plane.serving.load();
        if served.is_empty() && !self.parts.routes.contains_key(route) {
            serving.model(route)?;
        }
        Ok(RouteHistory { route: route.to_owned(), served })
    }

    /// The row of an id, or the latest of a route.
    pub(super) fn row_of(&self, asked_for: &str) -> Result<crate::rollout::journal::RolloutRow> {
        let active = self.active.values().find(|active| active.row.id == asked_for || active.row.route == asked_for);
        if let Some(active) = active {
            return Ok(active.row.clone());
        }
        let journal = &self.parts.journal;
        let row = match journal.rollout(asked_for).map_err(unreadable)? {
            Some(row) => Some(row),
            None => journal.latest_of_route(asked_for).map_err(unreadable)?,
        };
        row.ok_or_else(|| self.unknown(asked_for))
    }

    fn unknown(&self, asked_for: &str) -> Error {
        let rows = self.parts.journal.rollouts().unwrap_or_default();
        let known = rows.iter().flat_map(|row| [row.id.as_str(), row.route.as_str()]);
        Error::UnknownRollout { rollout: printable(asked_for), nearest: nearest(asked_for, known) }
    }
}

/// With what the person gave as the reason.
fn because(mut transition: Transition, reason: &str) -> Transition {
    if !reason.is_empty() {
        transition.cause = format!("{}: {reason}", transition.cause);
    }
    transition
}

pub(super) fn unreadable(cause: crate::store::StoreError) -> Error {
    tracing::error!(%cause, "the journal of rollouts can't be read");
    Error::Internal("the journal of rollouts can't be read; the server's log has the cause".to_owned())
}
