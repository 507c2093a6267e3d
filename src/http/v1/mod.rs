//! KServe V1 and TensorFlow Serving's REST API: one set of paths, one answer that serves the clients of both.

mod metadata;
mod request;
mod response;
mod status;

use http::Response;
use serde_json::json;

use super::body::Received;
use super::call::Call;
use super::predict::predict;
use super::reply::{self, Body};
use super::route::V1Call;
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::{ModelRef, VersionChoice, printable};

/// Names of the models.
pub fn models(plane: &DataPlane) -> Response<Body> {
    let serving = plane.serving.load();
    reply::json(&json!({ "models": serving.models.keys().collect::<Vec<_>>() }))
}

/// What GET asks for of a model.
pub async fn get(call: &Call<'_>, model: &ModelRef, verb: V1Call) -> Response<Body> {
    let answer = match (verb, call.deadline()) {
        (_, Err(error)) => Err(error),
        (V1Call::Metadata, Ok(deadline)) => metadata::signature(call.plane, model, deadline).await,
        _ => status::versions(call.plane, model),
    };
    answer.unwrap_or_else(|error| error_answer(&error, model))
}

/// What POST asks for of a model.
pub async fn post(call: &Call<'_>, model: ModelRef, verb: V1Call, body: Result<Received>) -> Response<Body> {
    let answer = match verb {
        V1Call::Predict => {
            let decode = |body: &mut Received, servable: &crate::servable::Servable| {
                request::decode(body, servable.signature(), &servable.id.model)
            };
            predict(call, model.clone(), body, decode, |response, form| response::encode(&response, *form)).await
        }
        V1Call::Classify | V1Call::Regress => Err(Error::Unsupported(
            "classify and regress need TensorFlow's signatures, which ONNX models lack: use predict".to_owned(),
        )),
        V1Call::Explain => Err(Error::Unsupported("explanations are not supported: use predict".to_owned())),
        V1Call::Status | V1Call::Metadata => Ok(get(call, &model, verb).await),
    };
    answer.unwrap_or_else(|error| error_answer(&error, &model))
}

/// An error in TensorFlow Serving's words where its clients know them.
fn error_answer(error: &Error, model: &ModelRef) -> Response<Body> {
    let name = printable(&model.asked);
    let text = match (error, &model.version) {
        (Error::UnknownModel { .. } | Error::UnknownVersion { .. }, VersionChoice::Number(version)) => {
            format!("Servable not found for request: Specific({name}, {version})")
        }
        (Error::UnknownModel { .. }, _) => format!("Servable not found for request: Latest({name})"),
        _ => return reply::error(error),
    };
    reply::error_text(reply::status_of(error), &text)
}
