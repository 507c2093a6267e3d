//! What an operator may change. Every change, done or refused, is one line of the process's log and one entry of the
//! audit log, which say who asked, for what, and what was and is served. The entry is on the disk before the answer.

use std::future::Future;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::api_error::ApiError;
use super::json_body::{JsonBody, LabelBody};
use super::view::ModelView;
use super::{AdminState, audit};
use crate::audit::Entry;
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
    let change = Change::new("model.load", &model, "load", json!({}));
    let manager = state.manager.clone();
    carry_out(state, &headers, change, async move { manager.load(&model).await }).await
}

pub async fn unload(
    State(state): State<AdminState>,
    headers: HeaderMap,
    model: Result<Path<String>, PathRejection>,
) -> Answer {
    let Path(model) = model?;
    let change = Change::new("model.unload", &model, "unload", json!({}));
    let manager = state.manager.clone();
    carry_out(state, &headers, change, async move { manager.unload(&model).await }).await
}

pub async fn set_label(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
    JsonBody(LabelBody { version }): JsonBody<LabelBody>,
) -> Answer {
    let Path((model, label)) = path?;
    let what = format!("label {} to version {version}", printable(&label));
    let change = Change::new("label.set", &model, &what, json!({"label": label, "version": version}));
    let manager = state.manager.clone();
    carry_out(state, &headers, change, async move { manager.set_label(&model, &label, Some(version)).await }).await
}

pub async fn remove_label(
    State(state): State<AdminState>,
    headers: HeaderMap,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Answer {
    let Path((model, label)) = path?;
    let what = format!("remove label {}", printable(&label));
    let change = Change::new("label.remove", &model, &what, json!({"label": label}));
    let (manager, plane) = (state.manager.clone(), state.plane.clone());
    let remove = async move {
        existing_label(&plane.serving.load(), &model, &label)?;
        manager.set_label(&model, &label, None).await
    };
    carry_out(state, &headers, change, remove).await
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
    let change = Change::new("quarantine.clear", &model, &what, json!({"version": version}));
    let manager = state.manager.clone();
    carry_out(state, &headers, change, async move { manager.clear_quarantine(&model, version).await }).await
}

/// What is asked for.
struct Change {
    /// As the audit log names it.
    action: &'static str,
    model: String,
    /// As the process's log names it.
    what: String,
    /// The rest of what was asked, by name.
    asked: Value,
}

impl Change {
    fn new(action: &'static str, model: &str, what: &str, asked: Value) -> Self {
        Self { action, model: model.to_owned(), what: what.to_owned(), asked }
    }
}

/// Carries a change out, logs it and shows the model as it is then. A caller that leaves stops neither the change nor
/// what is written of it.
async fn carry_out(
    state: AdminState,
    headers: &HeaderMap,
    change: Change,
    work: impl Future<Output = Result<()>> + Send + 'static,
) -> Answer {
    let actor = actor(headers);
    let finished = tokio::spawn(async move {
        let before = state.plane.serving.load_full();
        let outcome = work.await;
        let after = state.plane.serving.load_full();
        log(&actor, &change, (&before, &after), &outcome);
        let recorded = audit::record(&state.audit, entry(&actor, &change, (&before, &after), &outcome)).await;
        // A refusal is told as what it is, even where it could not be written.
        outcome.and(recorded)?;
        let gone = ModelEntry::default();
        Ok(Json(ModelView::of(&change.model, after.models.get(&change.model).map_or(&gone, |entry| entry))))
    });
    finished.await.unwrap_or_else(|_| Err(Error::Internal("the change failed within the server".to_owned()).into()))
}

/// Who asks, as far as the caller says.
pub(super) fn actor(headers: &HeaderMap) -> String {
    headers.get(ACTOR_HEADER).and_then(|value| value.to_str().ok()).map_or("unknown".to_owned(), printable)
}

fn log(actor: &str, change: &Change, (before, after): (&Serving, &Serving), outcome: &Result<()>) {
    let Change { model, what, .. } = change;
    let (before, after, model) = (summary(before, model), summary(after, model), printable(model));
    match outcome {
        Ok(()) => tracing::info!(target: "headgate::admin", actor, model, before, after, "{what}: done"),
        Err(error) => {
            tracing::warn!(target: "headgate::admin", actor, model, before, after, %error, "{what}: refused");
        }
    }
}

fn entry(actor: &str, change: &Change, (before, after): (&Serving, &Serving), outcome: &Result<()>) -> Entry {
    let mut evidence = change.asked.clone();
    match outcome {
        Ok(()) => evidence["outcome"] = json!("done"),
        Err(error) => {
            evidence["outcome"] = json!("refused");
            evidence["error"] = json!(error.to_string());
        }
    }
    Entry {
        before: served(before, &change.model),
        after: served(after, &change.model),
        evidence,
        ..Entry::now(actor, change.action, &change.model)
    }
}

/// What an audit entry says of a model; null for one that is not known.
fn served(serving: &Serving, model: &str) -> Value {
    let Some(entry) = serving.models.get(model) else { return Value::Null };
    json!({
        "default": entry.default,
        "ready": entry.backends.keys().collect::<Vec<_>>(),
        "cold": entry.cold.keys().collect::<Vec<_>>(),
        "labels": entry.labels,
    })
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
        let serving = Serving { models: [("m".to_owned(), entry.into())].into(), ..Serving::default() };
        assert_eq!(summary(&serving, "m"), "default 2, ready none, cold none, labels stable=2");
        assert_eq!(summary(&serving, "n"), "not known");
        assert_eq!(
            existing_label(&serving, "m", "stabel").unwrap_err().to_string(),
            "Request for unknown model: 'm' has no label 'stabel', did you mean 'stable'?"
        );
    }
}
