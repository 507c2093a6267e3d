//! Paths of each loaded model, with schemas and examples from its signature.

use std::collections::HashSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::schemas::{body, operation, reference};
use crate::routing::{Backend, Serving};
use crate::signature::{Dim, Signature, TensorSpec};
use crate::tensor::DataType;

/// Models that get paths of their own; a document of more helps nobody. The rest is under `/v2/models/{model}`.
const MAX_MODELS: usize = 500;
/// Elements of an example tensor; a larger one would drown the document, so its input has no example.
const MAX_EXAMPLE_ELEMENTS: usize = 1024;

/// What a path segment holds unescaped (RFC 3986, `unreserved`).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Metadata, infer and generate of each model, by the version that answers now.
pub fn paths(serving: &Serving) -> Map<String, Value> {
    let mut paths = Map::new();
    let mut ids = Ids::default();
    let defaults = serving.models.iter().filter_map(|(name, entry)| Some((name, entry.backends.get(&entry.default?)?)));
    for (name, backend) in defaults.take(MAX_MODELS) {
        let segment = utf8_percent_encode(name, SEGMENT).to_string();
        let id = ids.of(name);
        paths.insert(format!("/v2/models/{segment}"), metadata_path(name, &id, backend));
        paths.insert(format!("/v2/models/{segment}/infer"), infer_path(name, &id, backend.servable.signature()));
        paths.insert(format!("/v2/models/{segment}/generate"), generate_path(name, &id, backend.servable.signature()));
    }
    paths
}

/// Operation ids must be unique, and readable as names in generated clients.
#[derive(Default)]
struct Ids(HashSet<String>);

impl Ids {
    fn of(&mut self, model: &str) -> String {
        let plain: String = model.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let mut id = plain.clone();
        let mut number = 2;
        while !self.0.insert(id.clone()) {
            id = format!("{plain}_{number}");
            number += 1;
        }
        id
    }
}

fn metadata_path(name: &str, id: &str, backend: &Backend) -> Value {
    let version = backend.servable.id.version;
    json!({ "get": operation(
        &format!("metadata_{id}"),
        &format!("Metadata of {name}; version {version} answers now"),
        &reference("ModelMetadata"),
    ) })
}

fn infer_path(name: &str, id: &str, signature: &Signature) -> Value {
    let mut post = operation(&format!("infer_{id}"), &format!("Infer with {name}"), &reference("InferResponse"));
    post["requestBody"] = body(&infer_schema(signature), infer_example(signature));
    json!({ "post": post })
}

fn infer_schema(signature: &Signature) -> Value {
    let tensors: Vec<Value> = signature.inputs.iter().map(tensor_schema).collect();
    let names: Vec<&str> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
    let wanted = json!({ "type": "object", "required": ["name"], "properties": {
        "name": if names.is_empty() { json!({ "type": "string" }) } else { json!({ "enum": names }) },
        "parameters": { "type": "object" },
    } });
    let count = tensors.len();
    let items = if tensors.is_empty() { json!({}) } else { json!({ "anyOf": tensors }) };
    json!({
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": { "type": "string" },
            "parameters": { "type": "object" },
            "inputs": { "type": "array", "items": items, "minItems": count, "maxItems": count },
            "outputs": { "type": "array", "items": wanted },
        },
    })
}

fn tensor_schema(spec: &TensorSpec) -> Value {
    json!({
        "type": "object",
        "required": ["name", "shape", "datatype"],
        "properties": {
            "name": { "const": spec.name },
            "datatype": { "const": spec.dtype.name() },
            "shape": shape_schema(spec),
            "data": { "description": "Flat, or nested as the shape; row-major" },
            "parameters": { "type": "object" },
        },
    })
}

fn shape_schema(spec: &TensorSpec) -> Value {
    let Some(dims) = &spec.dims else {
        return json!({ "type": "array", "items": { "type": "integer", "minimum": 0 } });
    };
    let each = |dim: &Dim| match dim {
        Dim::Fixed(size) => json!({ "const": size }),
        Dim::Named(name) => json!({ "type": "integer", "minimum": 0, "title": name }),
        Dim::Unknown => json!({ "type": "integer", "minimum": 0 }),
    };
    let prefix: Vec<Value> = dims.iter().map(each).collect();
    let mut schema = json!({ "type": "array", "minItems": dims.len(), "maxItems": dims.len() });
    // JSON Schema asks for at least one member.
    if !prefix.is_empty() {
        schema["prefixItems"] = json!(prefix);
    }
    schema
}

/// One row of zeros for each input; nothing where a tensor would be too large to show.
fn infer_example(signature: &Signature) -> Option<Value> {
    let input = |spec: &TensorSpec| {
        let shape = example_shape(spec)?;
        let data = vec![example_element(spec.dtype); shape.iter().product()];
        Some(json!({ "name": spec.name, "shape": shape, "datatype": spec.dtype.name(), "data": data }))
    };
    let inputs: Option<Vec<Value>> = signature.inputs.iter().map(input).collect();
    Some(json!({ "inputs": inputs? }))
}

fn generate_path(name: &str, id: &str, signature: &Signature) -> Value {
    let mut post =
        operation(&format!("generate_{id}"), &format!("The easy call of {name}"), &json!({ "type": "object" }));
    let inputs: Map<String, Value> =
        signature.inputs.iter().map(|spec| (spec.name.clone(), json!({ "title": spec.dtype.name() }))).collect();
    let names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
    let schema = json!({ "type": "object", "properties": inputs, "required": names });
    let example: Option<Map<String, Value>> = signature
        .inputs
        .iter()
        .map(|spec| Some((spec.name.clone(), nested_example(&example_shape(spec)?, spec.dtype))))
        .collect();
    post["requestBody"] = body(&schema, example.map(Value::Object));
    json!({ "post": post })
}

/// The smallest shape a tensor may have with something in it, unless that is too large for an example.
fn example_shape(spec: &TensorSpec) -> Option<Vec<usize>> {
    let dims = spec.dims.as_deref().unwrap_or(&[Dim::Unknown]);
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
    let shape: Vec<usize> = dims.iter().map(size).collect();
    let count = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
    (count <= MAX_EXAMPLE_ELEMENTS).then_some(shape)
}

fn nested_example(shape: &[usize], dtype: DataType) -> Value {
    match shape.split_first() {
        None => example_element(dtype),
        Some((&length, inner)) => Value::Array(vec![nested_example(inner, dtype); length.min(MAX_EXAMPLE_ELEMENTS)]),
    }
}

fn example_element(dtype: DataType) -> Value {
    match dtype {
        DataType::Bool => json!(false),
        DataType::Bytes => json!("text"),
        DataType::Fp16 | DataType::Bf16 | DataType::Fp32 | DataType::Fp64 => json!(0.0),
        _ => json!(0),
    }
}
