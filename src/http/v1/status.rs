//! `GET /v1/models/<m>`: KServe reads `name` and `ready`, TensorFlow Serving's clients `model_version_status`.

use http::Response;
use serde_json::{Value, json};

use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::http::metadata::status_of_ready;
use crate::http::reply::{self, Body};
use crate::inference::{ModelRef, VersionChoice};
use crate::servable::{State, VersionStatus};

/// The states of the versions that a reference covers, newest first; 200 if it answers predictions, else 503 with the
/// same body.
///
/// # Errors
/// `UnknownModel`, `UnknownVersion`, `UnknownLabel`.
pub fn versions(plane: &DataPlane, model: &ModelRef) -> Result<Response<Body>> {
    let serving = plane.serving.load();
    let entry = serving.answering(&model.name)?;
    let routed = serving.route(model).map(|routed| routed.version());
    let wanted = match (&model.version, &routed) {
        (VersionChoice::Default, _) => None,
        (VersionChoice::Number(version), _) | (VersionChoice::Label(_), Ok(version)) => Some(*version),
        (VersionChoice::Label(label), Err(error)) => match entry.labels.get(label) {
            Some(version) => Some(*version),
            None => return Err(error.clone()),
        },
    };
    let statuses: Vec<Value> = entry
        .statuses
        .iter()
        .rev()
        .filter(|(version, _)| wanted.is_none_or(|wanted| wanted == **version))
        .map(|(version, status)| version_status(*version, status))
        .collect();
    match (wanted, &routed) {
        (Some(_), Err(error @ Error::UnknownVersion { .. })) if statuses.is_empty() => return Err(error.clone()),
        _ => {}
    }
    let ready = routed.is_ok();
    let body = json!({ "name": model.asked, "ready": ready, "model_version_status": statuses });
    Ok(reply::with_status(status_of_ready(ready), &body))
}

fn version_status(version: u64, status: &VersionStatus) -> Value {
    let code = if status.state == State::Failed { "INTERNAL" } else { "OK" };
    json!({
        "version": version.to_string(),
        "state": state_name(status.state),
        "status": { "error_code": code, "error_message": status.reason },
    })
}

/// TensorFlow Serving's word for a state.
fn state_name(state: State) -> &'static str {
    match state {
        State::Discovered => "START",
        State::Loading | State::Validating => "LOADING",
        State::Cold | State::Ready => "AVAILABLE",
        State::Draining => "UNLOADING",
        State::Unloaded | State::Failed => "END",
    }
}
