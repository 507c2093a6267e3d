//! Rollouts: what an operator may see of them, start, and do to them. The controller answers; whatever is asked of it
//! beyond reading is one log line here, done or refused.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::AdminState;
use super::api_error::ApiError;
use super::change::actor;
use super::json_body::{JsonBody, ReasonBody};
use crate::error::Result;
use crate::inference::printable;
use crate::rollout::view::{Action, Explanation, History, RolloutList, RolloutView, RouteHistory, StartRequest};

type Answer<T> = Result<Json<T>, ApiError>;

pub async fn list(State(state): State<AdminState>) -> Answer<RolloutList> {
    Ok(Json(state.rollouts.list().await?))
}

pub async fn show(State(state): State<AdminState>, path: Result<Path<String>, PathRejection>) -> Answer<RolloutView> {
    let Path(rollout) = path?;
    Ok(Json(state.rollouts.show(rollout).await?))
}

pub async fn history(State(state): State<AdminState>, path: Result<Path<String>, PathRejection>) -> Answer<History> {
    let Path(rollout) = path?;
    Ok(Json(state.rollouts.history(rollout).await?))
}

pub async fn start(
    State(state): State<AdminState>,
    headers: HeaderMap,
    JsonBody(request): JsonBody<StartRequest>,
) -> Answer<RolloutView> {
    if request.route.is_empty() {
        return Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "route: expected the name of a model or route, got nothing",
        ));
    }
    let actor = actor(&headers);
    let what = format!("start a rollout on {}", printable(&request.route));
    let outcome = state.rollouts.start(request, actor.clone()).await;
    logged(outcome, &what, &actor)
}

/// The handler's path names the action.
pub async fn act(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
    JsonBody(ReasonBody { reason }): JsonBody<ReasonBody>,
) -> Answer<RolloutView> {
    let Path((rollout, word)) = path?;
    let Some(action) = Action::ALL.into_iter().find(|action| action.name() == word) else {
        let words = Action::ALL.map(Action::name).join(", ");
        let text = format!("expected one of {words} behind a rollout, got '{}'", printable(&word));
        return Err(ApiError::new(StatusCode::NOT_FOUND, text));
    };
    let actor = actor(&headers);
    let what = format!("{word} rollout {}", printable(&rollout));
    if action == Action::Abort {
        // Accepted in every state that has traffic, so the traffic goes before the controller has its turn.
        let serving = state.plane.serving.load();
        let named = serving.splits().filter(|split| *split.rollout == *rollout || *split.route == *rollout);
        named.for_each(|split| split.dial.shut());
    }
    let outcome = state.rollouts.act(rollout, action, actor.clone(), reason).await;
    logged(outcome, &what, &actor)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    key: String,
}

pub async fn explain(
    State(state): State<AdminState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Explain>, QueryRejection>,
) -> Answer<Explanation> {
    let (Path(route), Query(Explain { key })) = (path?, query.map_err(|cause| bad_query("?key=user-42", &cause))?);
    Ok(Json(state.rollouts.explain(route, key).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    at_ms: Option<u64>,
}

pub async fn route_history(
    State(state): State<AdminState>,
    path: Result<Path<String>, PathRejection>,
    query: Result<Query<Moment>, QueryRejection>,
) -> Answer<RouteHistory> {
    let expected = "nothing or ?at_ms=1772366400000 (Unix time in ms)";
    let (Path(route), Query(Moment { at_ms })) = (path?, query.map_err(|cause| bad_query(expected, &cause))?);
    Ok(Json(state.rollouts.route_history(route, at_ms).await?))
}

fn bad_query(expected: &str, cause: &QueryRejection) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("expected {expected} behind the path: {}", cause.body_text()))
}

/// Logs what came of a change.
fn logged(outcome: Result<RolloutView>, what: &str, actor: &str) -> Answer<RolloutView> {
    match &outcome {
        Ok(view) => {
            let (rollout, rollout_state) = (&view.id, &view.state);
            tracing::info!(target: "headgate::admin", actor, rollout, rollout_state, "{what}: done");
        }
        Err(error) => tracing::warn!(target: "headgate::admin", actor, %error, "{what}: refused"),
    }
    Ok(Json(outcome?))
}
