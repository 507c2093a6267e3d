//! Health, metadata and configuration. Each answer has a body, because some clients read it where others look at the
//! status alone.

use http::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::reply::{self, Body};
use crate::data_plane::{DataPlane, EXTENSIONS};
use crate::error::{Kind, Result};
use crate::inference::{Deadline, ModelRef, VersionChoice};
use crate::servable::ServingLimits;
use crate::served_config::{to_json, with_engine, with_measured_cap};
use crate::signature::TensorSpec;

/// Name, datatype and shape as the protocol writes them, -1 for a dimension that varies.
#[derive(Serialize)]
struct TensorMetadata<'a> {
    name: &'a str,
    datatype: &'static str,
    shape: Vec<i64>,
    /// As MLServer has them; left out where there is nothing to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<TensorParameters<'a>>,
}

#[derive(Serialize)]
struct TensorParameters<'a> {
    /// What the columns of an output stand for.
    class_labels: &'a [String],
}

impl<'a> TensorMetadata<'a> {
    fn new(spec: &'a TensorSpec, limits: &'a ServingLimits) -> Self {
        let labels = limits.class_labels.get(&spec.name);
        let parameters = labels.map(|class_labels| TensorParameters { class_labels });
        Self { name: &spec.name, datatype: spec.dtype.name(), shape: spec.wire_shape(), parameters }
    }
}

fn tensors<'a>(specs: &'a [TensorSpec], limits: &'a ServingLimits) -> Vec<TensorMetadata<'a>> {
    specs.iter().map(|spec| TensorMetadata::new(spec, limits)).collect()
}

pub fn alive() -> Response<Body> {
    reply::json(&json!({ "status": "alive" }))
}

pub fn live() -> Response<Body> {
    reply::json(&json!({ "live": true }))
}

/// 503 until the server is ready, and from the first signal to stop.
pub fn ready(plane: &DataPlane) -> Response<Body> {
    let ready = plane.health.is_ready();
    reply::with_status(status_of_ready(ready), &json!({ "ready": ready }))
}

/// 200 for something ready, else 503.
pub fn status_of_ready(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

pub fn server(plane: &DataPlane) -> Response<Body> {
    reply::json(&json!({
        "name": plane.server_name,
        "version": env!("CARGO_PKG_VERSION"),
        "extensions": EXTENSIONS,
    }))
}

/// Inputs and outputs of the version that answers, and the versions that the reference covers. A cold version is loaded
/// to know them.
///
/// # Errors
/// As routing: the model or version is unknown or not ready.
pub async fn model(plane: &DataPlane, model: &ModelRef, deadline: Deadline) -> Result<Response<Body>> {
    let servable = &plane.route(model, deadline).await?.servable;
    let versions: Vec<String> = match model.version {
        VersionChoice::Default => {
            plane.serving.load().answering(&model.name)?.in_service().iter().map(u64::to_string).collect()
        }
        _ => vec![servable.id.version.to_string()],
    };
    let signature = servable.signature();
    Ok(reply::json(&json!({
        "name": model.asked,
        "versions": versions,
        "platform": format!("{}_onnx", servable.model.engine()),
        "inputs": tensors(&signature.inputs, &servable.limits),
        "outputs": tensors(&signature.outputs, &servable.limits),
        // As MLServer has parameters of a model.
        "parameters": { "engine": servable.model.engine_choice() },
    })))
}

/// 200 when the version answers, be it after a load; 400 when it is known and does not, as existing clients expect.
///
/// # Errors
/// As routing, for what is unknown.
pub fn model_ready(plane: &DataPlane, model: &ModelRef) -> Result<Response<Body>> {
    match plane.serving.load().route(model) {
        Ok(_) => Ok(reply::json(&json!({ "name": model.asked, "ready": true }))),
        Err(error) if error.kind() == Kind::Unavailable => Ok(reply::with_status(
            StatusCode::BAD_REQUEST,
            &json!({ "name": model.asked, "ready": false, "error": format!("Model version not ready: {error}") }),
        )),
        Err(error) => Err(error),
    }
}

/// The model's configuration, with the name it was asked by. A cold version is loaded to know it.
///
/// # Errors
/// As routing.
pub async fn config(plane: &DataPlane, model: &ModelRef, deadline: Deadline) -> Result<Response<Body>> {
    let backend = plane.route(model, deadline).await?;
    let servable = &backend.servable;
    let config = with_measured_cap(&servable.config, servable.signature(), backend.pool.cap());
    let mut config = with_engine(config, servable.model.engine());
    config.name.clone_from(&model.asked);
    Ok(reply::of_json_text(StatusCode::OK, to_json(&config)))
}
