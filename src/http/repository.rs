//! The model repository's index, loading and unloading.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reply::{self, Body};
use crate::control::LoadOverrides;
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::printable;
use crate::routing::ModelEntry;

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

#[derive(Default, Deserialize)]
struct ControlRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// Every model and version that was seen, or only what is in service.
///
/// # Errors
/// `Invalid` for a body that is not a JSON object.
pub fn index(plane: &DataPlane, body: &[u8]) -> Result<Response<Body>> {
    let request: IndexRequest = parse(body)?;
    let serving = plane.serving.load();
    let entries: Vec<Value> =
        serving.models.iter().flat_map(|(name, entry)| index_entries(name, entry, request.ready)).collect();
    Ok(reply::json(&entries))
}

fn index_entries(name: &str, entry: &ModelEntry, only_ready: bool) -> Vec<Value> {
    let versions = entry.statuses.iter().filter(|(_, status)| !only_ready || status.state.is_in_service());
    let mut entries: Vec<Value> = versions
        .map(|(version, status)| {
            json!({
                "name": name,
                "version": version.to_string(),
                "state": status.state.index_name(),
                "reason": status.reason,
            })
        })
        .collect();
    if only_ready {
        return entries;
    }
    if !entry.fault.is_empty() {
        entries.push(json!({ "name": name, "state": "UNAVAILABLE", "reason": entry.fault }));
    } else if entries.is_empty() {
        entries.push(json!({ "name": name }));
    }
    entries
}

/// Loads a model; the answer comes when its versions are ready or failed.
///
/// # Errors
/// `Invalid` for parameters that mean nothing here, else as `ModelControl::load`.
pub async fn load(plane: &DataPlane, model: String, body: &[u8]) -> Result<Response<Body>> {
    let overrides = overrides(parse::<ControlRequest>(body)?.parameters)?;
    plane.control.load(model.clone(), overrides).await?;
    Ok(reply::json(&json!({ "name": model, "load": true })))
}

/// Unloads a model.
///
/// # Errors
/// `Invalid` for parameters that mean nothing here, else as `ModelControl::unload`.
pub async fn unload(plane: &DataPlane, model: String, body: &[u8]) -> Result<Response<Body>> {
    for (key, value) in parse::<ControlRequest>(body)?.parameters {
        match (key.as_str(), value) {
            // No model depends on another here, so either value says the same.
            ("unload_dependents", Value::Bool(_)) => {}
            ("unload_dependents", _) => {
                return Err(Error::invalid("parameter 'unload_dependents' expects true or false"));
            }
            _ => return Err(unknown(&key, "unload_dependents")),
        }
    }
    plane.control.unload(model.clone()).await?;
    Ok(reply::json(&json!({ "name": model, "unload": true })))
}

fn overrides(parameters: Map<String, Value>) -> Result<LoadOverrides> {
    let mut config = None;
    let mut files = BTreeMap::new();
    for (key, value) in parameters {
        let Value::String(text) = value else {
            return Err(Error::Invalid(format!("parameter '{}' expects a string", printable(&key))));
        };
        if key == "config" {
            config = Some(text);
        } else if let Some(path) = key.strip_prefix("file:") {
            let content = STANDARD.decode(&text).map_err(|_| {
                Error::Invalid(format!("parameter '{}' expects a file's bytes in base64", printable(&key)))
            })?;
            files.insert(path.to_owned(), content.into());
        } else {
            return Err(unknown(&key, "config or file:<version>/<file>"));
        }
    }
    if config.is_none() && !files.is_empty() {
        return Err(Error::invalid("a 'file:' parameter expects 'config' beside it, got none"));
    }
    Ok(LoadOverrides { config, files })
}

fn unknown(key: &str, expected: &str) -> Error {
    Error::Invalid(format!("unknown parameter '{}', expected {expected}", printable(key)))
}

/// The error of calls that name one of several repositories.
pub fn no_named_repository() -> Error {
    Error::Unsupported("'repository_name' specification is not supported".to_owned())
}

/// The error of every shared-memory call.
pub fn no_shared_memory() -> Error {
    Error::Unsupported("shared memory is not supported by this server: send tensors in the request".to_owned())
}

/// An empty body is an empty request.
fn parse<T: Default + for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| Error::Invalid(format!("failed to parse the request JSON buffer: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loading(text: &str) -> Result<LoadOverrides, String> {
        let request: ControlRequest = parse(text.as_bytes()).map_err(|error| error.to_string())?;
        overrides(request.parameters).map_err(|error| error.to_string())
    }

    #[test]
    fn overrides_of_a_load_call() {
        assert_eq!(loading(""), Ok(LoadOverrides::default()));
        assert_eq!(loading("{}"), Ok(LoadOverrides::default()));
        let both = loading(r#"{"parameters":{"config":"{}","file:1/model.onnx":"AAE="}}"#).unwrap();
        assert_eq!(both.config.as_deref(), Some("{}"));
        assert_eq!(both.files["1/model.onnx"].as_ref(), [0, 1]);
        for bad in [
            r#"{"parameters":{"file:1/model.onnx":"AAE="}}"#,
            r#"{"parameters":{"config":"{}","file:1/model.onnx":"?"}}"#,
            r#"{"parameters":{"config":{}}}"#,
            r#"{"parameters":{"other":"x"}}"#,
            "[",
        ] {
            assert!(loading(bad).is_err(), "{bad}");
        }
    }
}
