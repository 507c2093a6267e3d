//! The document's schemas, and the parts that operations share.

use serde_json::{Value, json};

use crate::tensor::DataType;

/// Components that operations refer to.
pub fn all() -> Value {
    let types: Vec<&str> = DataType::ALL.iter().map(|dtype| dtype.name()).collect();
    let shape = json!({ "type": "array", "items": { "type": "integer", "minimum": -1 } });
    let tensor = json!({ "type": "object", "required": ["name", "datatype", "shape"], "properties": {
        "name": { "type": "string" },
        "datatype": { "enum": types },
        "shape": shape,
        "parameters": { "type": "object" },
    } });
    let mut output = tensor.clone();
    output["properties"]["data"] = json!({ "type": "array", "description": "Flat, row-major" });
    json!({
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string", "description": "What was expected and what came" } },
        },
        "ModelMetadata": { "type": "object", "required": ["name", "versions", "inputs", "outputs"], "properties": {
            "name": { "type": "string" },
            "versions": { "type": "array", "items": { "type": "string" } },
            "platform": { "type": "string" },
            "inputs": { "type": "array", "items": tensor },
            "outputs": { "type": "array", "items": tensor },
            "parameters": { "type": "object", "properties": {
                "engine": { "type": "string", "description": "Which engine runs which batch size, and the times of both" },
            } },
        } },
        "InferResponse": { "type": "object", "required": ["model_name", "model_version", "outputs"], "properties": {
            "id": { "type": "string" },
            "model_name": { "type": "string" },
            "model_version": { "type": "string" },
            "outputs": { "type": "array", "items": output },
        } },
    })
}

/// An operation that answers with `answer`, or with the error that every call may give.
pub fn operation(id: &str, summary: &str, answer: &Value) -> Value {
    json!({
        "operationId": id,
        "summary": summary,
        "responses": {
            "200": { "description": "Done", "content": { "application/json": { "schema": answer } } },
            "default": {
                "description": "The request failed",
                "content": { "application/json": { "schema": reference("Error") } },
            },
        },
    })
}

/// A JSON request body.
pub fn body(schema: &Value, example: Option<Value>) -> Value {
    let mut content = json!({ "schema": schema });
    if let Some(example) = example {
        content["example"] = example;
    }
    json!({ "required": true, "content": { "application/json": content } })
}

/// A reference to one of the components.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}
