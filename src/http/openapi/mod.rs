//! `/v2/openapi.json`: OpenAPI 3.1, made from the signatures of what is loaded.

mod feedback;
mod general;
mod models;
mod schemas;

use http::Response;
use serde_json::json;

use super::reply::{self, Body};
use crate::data_plane::DataPlane;

/// The document for what is served now.
pub fn document(plane: &DataPlane) -> Response<Body> {
    let mut paths = general::paths();
    paths.extend(models::paths(&plane.serving.load()));
    paths.extend([feedback::path()]);
    let mut schemas = schemas::all();
    for (name, schema) in feedback::schemas() {
        schemas[name] = schema;
    }
    reply::json(&json!({
        "openapi": "3.1.0",
        "info": {
            "title": plane.server_name,
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Open Inference Protocol (V2), KServe V1 and TensorFlow Serving REST over the loaded models, and feedback.",
        },
        "paths": paths,
        "components": { "schemas": schemas },
    }))
}
