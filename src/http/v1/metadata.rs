//! `GET /v1/models/<m>/metadata`: the signature as TensorFlow Serving tells it.

use http::Response;
use serde_json::{Map, Value, json};

use crate::data_plane::DataPlane;
use crate::error::Result;
use crate::http::reply::{self, Body};
use crate::inference::{Deadline, ModelRef};
use crate::signature::TensorSpec;
use crate::tensor::DataType;

/// The only signature that an ONNX model has.
pub const SIGNATURE_NAME: &str = "serving_default";

/// A cold version is loaded to know its signature.
///
/// # Errors
/// As routing.
pub async fn signature(plane: &DataPlane, model: &ModelRef, deadline: Deadline) -> Result<Response<Body>> {
    let backend = plane.route(model, deadline).await?;
    let signature = backend.servable.signature();
    let version = backend.servable.id.version.to_string();
    Ok(reply::json(&json!({
        "model_spec": { "name": model.asked, "signature_name": "", "version": version },
        "metadata": { "signature_def": { "signature_def": { SIGNATURE_NAME: {
            "inputs": tensors(&signature.inputs),
            "outputs": tensors(&signature.outputs),
            "method_name": "tensorflow/serving/predict",
        } } } },
    })))
}

fn tensors(specs: &[TensorSpec]) -> Map<String, Value> {
    specs.iter().map(|spec| (spec.name.clone(), tensor(spec))).collect()
}

fn tensor(spec: &TensorSpec) -> Value {
    let dims = spec.dims.as_deref().unwrap_or_default();
    let dims: Vec<Value> = dims.iter().map(|dim| json!({ "size": dim.wire().to_string(), "name": "" })).collect();
    json!({
        "dtype": type_name(spec.dtype),
        "tensor_shape": { "dim": dims, "unknown_rank": spec.dims.is_none() },
        "name": spec.name,
    })
}

/// TensorFlow's word for a datatype.
fn type_name(dtype: DataType) -> &'static str {
    match dtype {
        DataType::Bool => "DT_BOOL",
        DataType::Int8 => "DT_INT8",
        DataType::Int16 => "DT_INT16",
        DataType::Int32 => "DT_INT32",
        DataType::Int64 => "DT_INT64",
        DataType::Uint8 => "DT_UINT8",
        DataType::Uint16 => "DT_UINT16",
        DataType::Uint32 => "DT_UINT32",
        DataType::Uint64 => "DT_UINT64",
        DataType::Fp16 => "DT_HALF",
        DataType::Bf16 => "DT_BFLOAT16",
        DataType::Fp32 => "DT_FLOAT",
        DataType::Fp64 => "DT_DOUBLE",
        DataType::Bytes => "DT_STRING",
    }
}
