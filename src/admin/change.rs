//! What an operator may change. Every change, done or refused, is one log line that says who asked, for what, and what
//! was and is served.

use std::future::Future;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};

use super::AdminState;
use super::api_error::ApiError;
use super::json_body::{JsonBody, LabelBody};
use super::view::ModelView;
use crate::error::{Error, Result, nearest};
use crate::inference::printable;
use crate::routing::{ModelEntry, Serving};

/// The header by which a caller says who is asking. It is believed: whoever reaches the listener is an operator.
pub const ACTOR_HEADER: &str = "headgate-actor";

type Answer = Result<Json<ModelView>, ApiError>;

pub async fn load(
    State(state): State<AdminState>,
    headers: HeaderMap,
    model: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(model) = model?;
    change(&state, &headers, &model, "load", state.manager.load(&model)).await
}

pub async fn unload(
    State(state): State<AdminState>,
    headers: HeaderMap,
    model: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(model) = model?;
    change(&state, &headers, &model, "unload", state.manager.unload(&model)).await
}

pub async fn set_label(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
    JsonBody(LabelBody { version }): JsonBody<LabelBody>,
) -> Answer {
    let Path((model, label)) = path?;
    let what = format!("label {} to version {version}", printable(&label));
    change(&state, &headers, &model, &what, state.manager.set_label(&model, &label, Some(version))).await
}

pub async fn remove_label(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer {
    let Path((model, label)) = path?;
    let what = format!("remove label {}", printable(&label));
    let remove = async {
        existing_label(&state.plane.serving.load(), &model, &label)?;
        state.manager.set_label(&model, &label, None).await
    };
    change(&state, &headers, &model, &what, remove).await
}

pub async fn clear_quarantine(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer {
    let Path((model, version)) = path?;
    let Ok(version) = version.parse() else {
        let text = format!("a version is a whole number, got '{}'", printable(&version));
        return Err(ApiError::new(StatusCode::BAD_REQUEST, text));
    };
    let what = format!("clear quarantine of version {version}");
    change(&state, &headers, &model, &what, state.manager.clear_quarantine(&model, version)).await
}

/// Carries a change out, logs it and shows the model as it is then.
async fn change(
    state: &AdminState,
    headers: &HeaderMap,
    model: &str,
    what: &str,
    carry_out: impl Future<Output = Result<()>>,
) -> Answer {
    let actor = actor(headers);
    let before = summary(&state.plane.serving.load(), model);
    let outcome = carry_out.await;
    let serving = state.plane.serving.load();
    let after = summary(&serving, model);
    let shown = printable(model);
    match &outcome {
        Ok(()) => tracing::info!(target: "headgate::admin", actor, model = shown, before, after, "{what}: done"),
        Err(error) => {
            tracing::warn!(target: "headgate::admin", actor, model = shown, before, after, %error, "{what}: refused");
        }
    }
    outcome?;
    let gone = ModelEntry::default();
    Ok(Json(ModelView::of(model, serving.models.get(model).map_or(&gone, |entry| entry))))
}

/// Who asks, as the header says.
pub fn actor(headers: &HeaderMap) -> String {
    headers.get(ACTOR_HEADER).and_then(|value| value.to_str().ok()).map_or("unknown".to_owned(), printable)
}

/// What a log line says of a model: `default 2, ready 1 2, cold none, labels stable=2`.
fn summary(serving: &Serving, model: &str) -> String {
    let Some(entry) = serving.models.get(model) else { return "not known".to_owned() };
    let default = entry.default.map_or("none".to_owned(), |version| version.to_string());
    let ready: Vec<String> = entry.backends.keys().map(u64::to_string).collect();
    let cold: Vec<String> = entry.cold.keys().map(u64::to_string).collect();
    let labels: Vec<String> = entry.labels.iter().map(|(label, version)| format!("{label}={version}")).collect();
    format!("default {default}, ready {}, cold {}, labels {}", or_none(&ready), or_none(&cold), or_none(&labels))
}

fn or_none(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(" ") }
}

fn existing_label(serving: &Serving, model: &str, label: &str) -> Result<()> {
    let labels = &serving.model(model)?.labels;
    if labels.contains_key(label) {
        return Ok(());
    }
    Err(Error::UnknownLabel {
        model: model.to_owned(),
        label: printable(label),
        nearest: nearest(label, labels.keys().map(String::as_str)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_is_served() {
        let mut entry = ModelEntry { default: Some(2), ..ModelEntry::default() };
        entry.labels.insert("stable".into(), 2);
        let serving = Serving { models: [("m".to_owned(), entry.into())].into() };
        assert_eq!(summary(&serving, "m"), "default 2, ready none, cold none, labels stable=2");
        assert_eq!(summary(&serving, "n"), "not known");
        assert_eq!(
            existing_label(&serving, "m", "stabel").unwrap_err().to_string(),
            "Request for unknown model: 'm' has no label 'stabel', did you mean 'stable'?"
        );
    }
}
