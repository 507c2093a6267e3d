//! What the server and its models say of themselves.

use crate::data_plane::{DataPlane, EXTENSIONS};
use crate::error::{Error, Result};
use crate::inference::{Deadline, ModelRef, VersionChoice};
use crate::proto::inference::model_metadata_response::TensorMetadata;
use crate::proto::inference::{ModelConfig, ModelMetadataResponse, ServerMetadataResponse};
use crate::served_config::{with_engine, with_measured_cap};
use crate::signature::TensorSpec;

/// Name, version and extensions of the server.
pub fn server(plane: &DataPlane) -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: plane.server_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// Whether a model answers, be it after a load.
///
/// # Errors
/// For what is not known: `UnknownModel`, `UnknownVersion`, `UnknownLabel`, `BadName`.
pub fn model_ready(plane: &DataPlane, name: &str, version: &str) -> Result<bool> {
    match plane.serving.load().route(&ModelRef::parse(name, version)?) {
        Ok(_) => Ok(true),
        Err(Error::NotReady { .. } | Error::NoVersions { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Names, datatypes and shapes of a model's tensors, and its versions in service (the one asked for, if one was). A cold
/// version is loaded to know them.
///
/// # Errors
/// As routing: the model is unknown or not ready.
pub async fn model(plane: &DataPlane, model: ModelRef, deadline: Deadline) -> Result<ModelMetadataResponse> {
    let backend = plane.route(&model, deadline).await?;
    let versions = match model.version {
        VersionChoice::Default => {
            plane.serving.load().answering(&model.name)?.in_service().iter().map(u64::to_string).collect()
        }
        VersionChoice::Number(_) | VersionChoice::Label(_) => vec![backend.servable.id.version.to_string()],
    };
    let signature = backend.servable.signature();
    let labels = backend.servable.limits.class_labels.iter().map(class_labels);
    Ok(ModelMetadataResponse {
        name: model.asked,
        versions,
        platform: format!("{}_onnx", backend.servable.model.engine()),
        inputs: signature.inputs.iter().map(tensor).collect(),
        outputs: signature.outputs.iter().map(tensor).collect(),
        properties: labels.chain([("engine".to_owned(), backend.servable.model.engine_choice())]).collect(),
    })
}

/// A model's configuration, under the name it was asked by. A cold version is loaded to know it.
///
/// # Errors
/// As routing.
pub async fn config(plane: &DataPlane, model: ModelRef, deadline: Deadline) -> Result<ModelConfig> {
    let backend = plane.route(&model, deadline).await?;
    let servable = &backend.servable;
    let config = with_measured_cap(&servable.config, servable.signature(), backend.pool.cap());
    let config = with_engine(config, servable.model.engine());
    Ok(ModelConfig { name: model.asked, ..config })
}

fn class_labels((output, labels): (&String, &Vec<String>)) -> (String, String) {
    (format!("class_labels.{output}"), serde_json::json!(labels).to_string())
}

fn tensor(spec: &TensorSpec) -> TensorMetadata {
    TensorMetadata { name: spec.name.clone(), datatype: spec.dtype.name().to_owned(), shape: spec.wire_shape() }
}
