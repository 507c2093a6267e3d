//! Trace and log settings.

use http::Response;
use serde_json::{Map, Value, json};

use super::reply::{self, Body};
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::printable;
use crate::telemetry::settings::{LogSettings, LogValue, TraceChange, TraceSettings};

/// The trace settings of a model that is known to exist, or the global ones.
pub fn trace(plane: &DataPlane, model: Option<&str>) -> Response<Body> {
    trace_answer(&plane.settings.trace(model))
}

/// # Errors
/// `UnknownModel`.
pub fn model_trace(plane: &DataPlane, model: &str) -> Result<Response<Body>> {
    plane.serving.load().answering(model)?;
    Ok(trace(plane, Some(model)))
}

/// Changes trace settings, all or none; `null` clears one.
///
/// # Errors
/// `UnknownModel`; `Invalid` or `Unsupported` for a setting that can't be so.
pub fn update_trace(plane: &DataPlane, model: Option<&str>, body: &[u8]) -> Result<Response<Body>> {
    if let Some(model) = model {
        plane.serving.load().answering(model)?;
    }
    let changes = object(body)?.into_iter().map(trace_change).collect::<Result<_>>()?;
    Ok(trace_answer(&plane.settings.update_trace(model, changes)?))
}

pub fn log(plane: &DataPlane) -> Response<Body> {
    log_answer(&plane.settings.log())
}

/// Changes log settings, all or none.
///
/// # Errors
/// `Invalid` or `Unsupported` for a setting that can't be so.
pub fn update_log(plane: &DataPlane, body: &[u8]) -> Result<Response<Body>> {
    let change = |(name, value): (String, Value)| {
        let value = match value {
            Value::Bool(on) => LogValue::Bool(on),
            Value::String(text) => LogValue::Text(text),
            Value::Number(number) if number.is_u64() => LogValue::Number(number.as_u64().unwrap_or_default()),
            _ => return Err(not_a_setting("log", &name)),
        };
        Ok((name, value))
    };
    let changes: Vec<(String, LogValue)> = object(body)?.into_iter().map(change).collect::<Result<_>>()?;
    Ok(log_answer(&plane.settings.update_log(&changes)?))
}

fn trace_change((name, value): (String, Value)) -> Result<TraceChange> {
    let text = |value: Value| match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let values = match value {
        Value::Null => return Ok((name, None)),
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => text(value).map(|value| vec![value]),
    };
    match values {
        Some(values) => Ok((name, Some(values))),
        None => Err(not_a_setting("trace", &name)),
    }
}

/// Every value as text, `trace_level` as a list of them.
fn trace_answer(settings: &TraceSettings) -> Response<Body> {
    let shown = |(name, values): (&String, &Vec<String>)| {
        let value = match name.as_str() {
            "trace_level" => json!(values),
            _ => json!(values.first().map(String::as_str).unwrap_or_default()),
        };
        (name.clone(), value)
    };
    reply::json(&settings.0.iter().map(shown).collect::<Map<_, _>>())
}

fn log_answer(settings: &LogSettings) -> Response<Body> {
    reply::json(&json!({
        "log_file": "",
        "log_info": settings.info,
        "log_warning": settings.warning,
        "log_error": settings.error,
        "log_verbose_level": settings.verbose_level,
        "log_format": settings.format,
    }))
}

fn object(body: &[u8]) -> Result<Map<String, Value>> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(body)
        .map_err(|error| Error::Invalid(format!("failed to parse the request JSON buffer: {error}")))
}

fn not_a_setting(kind: &str, name: &str) -> Error {
    Error::Invalid(format!("{kind} setting '{}' has a value of a kind that no {kind} setting has", printable(name)))
}
