//! The Open Inference Protocol's HTTP messages, as far as a prediction needs them.
//!
//! NumPy inputs go and all outputs come as binary tensors, which lose no digit and can hold NaN. Source: Open Inference
//! Protocol, "Inference Request JSON Object", and its binary tensor data extension.

use bytes::{Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use super::input::{Input, InputValue};
use crate::cli::client::Answer;
use crate::cli::failure::Failure;
use crate::error::nearest;
use crate::signature::{Batching, Signature, TensorSpec};
use crate::tensor::{DataType, Tensor, parse_shape};

/// Length of the JSON in front of binary tensors, in a request and in an answer.
const JSON_LENGTH_HEADER: &str = "inference-header-content-length";

/// A model's metadata: what its inputs are.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    name: String,
    inputs: Vec<MetadataInput>,
}

#[derive(Debug, Deserialize)]
struct MetadataInput {
    name: String,
    datatype: String,
}

/// A prediction.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    pub model_name: String,
    pub model_version: String,
    pub prediction_id: Option<String>,
    pub outputs: Vec<Output>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    pub name: String,
    pub tensor: Tensor,
}

impl Metadata {
    /// # Errors
    /// `Refused` when the answer is no model metadata.
    pub fn read(body: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(body).map_err(|cause| strange(&format!("no model metadata ({cause})")))
    }

    /// The inputs' names and datatypes as a signature; their shapes are not read.
    pub fn signature(&self) -> Signature {
        let spec = |input: &MetadataInput| {
            let dtype = DataType::from_name(&input.datatype).unwrap_or(DataType::Fp32);
            TensorSpec { name: input.name.clone(), dtype, dims: None, classes: vec![] }
        };
        let batching = Batching::Unproven(String::new());
        Signature { inputs: self.inputs.iter().map(spec).collect(), outputs: vec![], batching }
    }

    fn datatype(&self, input: &str) -> Result<&str, Failure> {
        if let Some(found) = self.inputs.iter().find(|known| known.name == input) {
            return Ok(&found.datatype);
        }
        let names: Vec<&str> = self.inputs.iter().map(|known| known.name.as_str()).collect();
        let hint = nearest(input, names.iter().copied()).map(|name| format!(", did you mean '{name}'?"));
        Err(Failure::Refused(format!(
            "model '{}' has no input '{input}'{} Its inputs: {}",
            self.name,
            hint.as_deref().unwrap_or("."),
            names.join(", ")
        )))
    }
}

/// The headers and body of an inference request for these outputs, all of them if none is named.
///
/// # Errors
/// `Refused` for an input that the model doesn't have.
pub fn encode(metadata: &Metadata, inputs: &[Input], outputs: &[String]) -> Result<(HeaderMap, Bytes), Failure> {
    let mut binary = BytesMut::new();
    let mut described = vec![];
    for Input { name, value } in inputs {
        let datatype = metadata.datatype(name)?;
        described.push(match value {
            InputValue::Json { shape, elements } => {
                json!({"name": name, "shape": shape, "datatype": datatype, "data": elements})
            }
            InputValue::Tensor(tensor) => {
                binary.extend_from_slice(tensor.data());
                let parameters = json!({"binary_data_size": tensor.data().len()});
                json!({
                    "name": name, "shape": tensor.shape(), "datatype": tensor.dtype().name(), "parameters": parameters
                })
            }
        });
    }
    let mut request = json!({"inputs": described});
    if outputs.is_empty() {
        request["parameters"] = json!({"binary_data_output": true});
    } else {
        let wanted = outputs.iter().map(|name| json!({"name": name, "parameters": {"binary_data": true}}));
        request["outputs"] = wanted.collect();
    }
    let text = request.to_string();
    let mut headers = HeaderMap::new();
    if binary.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Ok((headers, text.into()));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(JSON_LENGTH_HEADER, text.len().into());
    let mut body = BytesMut::from(text.as_bytes());
    body.unsplit(binary);
    Ok((headers, body.freeze()))
}

/// The prediction in an answer.
///
/// # Errors
/// `Refused` when the answer does not follow the protocol.
pub fn decode(answer: &Answer) -> Result<Reply, Failure> {
    #[derive(Deserialize)]
    struct Written {
        model_name: String,
        model_version: String,
        outputs: Vec<WrittenOutput>,
    }
    #[derive(Deserialize)]
    struct WrittenOutput {
        name: String,
        datatype: String,
        shape: Vec<i64>,
        #[serde(default)]
        parameters: Value,
    }
    let text = |name: &str| answer.headers.get(name).and_then(|value| value.to_str().ok());
    let json_bytes = match text(JSON_LENGTH_HEADER).map(str::parse::<usize>) {
        // Without the header the whole body is JSON; no output then has bytes.
        None => answer.body.len(),
        Some(Ok(length)) if length <= answer.body.len() => length,
        Some(_) => return Err(strange("a length of its JSON that can't be")),
    };
    let written: Written = serde_json::from_slice(&answer.body[..json_bytes])
        .map_err(|cause| strange(&format!("no inference response ({cause})")))?;
    let mut rest = answer.body.slice(json_bytes..);
    let mut outputs = vec![];
    for output in written.outputs {
        let size = output.parameters["binary_data_size"].as_u64().and_then(|size| usize::try_from(size).ok());
        let bytes = size.filter(|size| *size <= rest.len()).map(|size| rest.split_to(size));
        let bytes = bytes.ok_or_else(|| strange(&format!("output '{}' without its binary data", output.name)))?;
        let dtype = DataType::from_name(&output.datatype)
            .ok_or_else(|| strange(&format!("output '{}' of unknown datatype '{}'", output.name, output.datatype)))?;
        let tensor = parse_shape(&output.shape)
            .and_then(|shape| Tensor::from_raw(dtype, shape, bytes))
            .map_err(|cause| strange(&format!("output '{}': {cause}", output.name)))?;
        outputs.push(Output { name: output.name, tensor });
    }
    let prediction_id = text("headgate-prediction-id").map(str::to_owned);
    Ok(Reply { model_name: written.model_name, model_version: written.model_version, prediction_id, outputs })
}

fn strange(what: &str) -> Failure {
    Failure::Refused(format!("the server's answer does not follow the Open Inference Protocol: {what}"))
}
