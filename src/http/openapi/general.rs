//! Paths that are there whatever is loaded.

use serde_json::{Map, Value, json};

use super::schemas::{body, operation};

/// Where the name of a model stands in a path.
const MODEL: &str = "{model}";

/// Health, metadata, statistics, repository, settings and the V1 API.
pub fn paths() -> Map<String, Value> {
    let table = reading().into_iter().map(|(path, id, summary)| (path, json!({ "get": call(id, summary) })));
    let table =
        table.chain(writing().into_iter().map(|(path, id, summary)| (path, json!({ "post": posted(id, summary) }))));
    let mut paths: Map<String, Value> = table.map(|(path, item)| (path.to_owned(), with_model(path, item))).collect();
    for (path, id, summary) in
        [("/v2/trace/setting", "trace_settings", "Trace settings"), ("/v2/logging", "log_settings", "Log settings")]
    {
        let (get, post) = (call(&format!("get_{id}"), summary), posted(&format!("update_{id}"), summary));
        paths.insert(path.to_owned(), json!({ "get": get, "post": post }));
    }
    paths
}

/// (path, operation id, summary) of what GET answers.
fn reading() -> [(&'static str, &'static str, &'static str); 9] {
    [
        ("/v2", "server_metadata", "Name, version and extensions of the server"),
        ("/v2/health/live", "server_live", "Whether the server lives"),
        ("/v2/health/ready", "server_ready", "Whether the server is ready; 503 if not"),
        ("/v2/models/stats", "all_statistics", "Statistics of every ready version"),
        ("/v2/models/{model}/ready", "model_ready", "Whether the model answers"),
        ("/v2/models/{model}/config", "model_config", "The model's configuration"),
        ("/v2/models/{model}/stats", "model_statistics", "The model's statistics"),
        ("/v1/models", "v1_models", "Names of the models"),
        ("/v1/models/{model}", "v1_status", "Versions of a model and their states"),
    ]
}

/// The same of what POST answers.
fn writing() -> [(&'static str, &'static str, &'static str); 4] {
    [
        ("/v2/repository/index", "repository_index", "Every model and version with its state"),
        ("/v2/repository/models/{model}/load", "load_model", "Load a model, or look at its files again"),
        ("/v2/repository/models/{model}/unload", "unload_model", "Unload a model"),
        ("/v1/models/{model}:predict", "v1_predict", "Predict by rows (instances) or by columns (inputs)"),
    ]
}

fn call(id: &str, summary: &str) -> Value {
    // An index is an array, all else an object.
    operation(id, summary, &json!({ "type": ["object", "array"] }))
}

fn posted(id: &str, summary: &str) -> Value {
    let mut operation = call(id, summary);
    operation["requestBody"] = body(&json!({ "type": "object" }), None);
    // These calls take no body for an empty one.
    operation["requestBody"]["required"] = json!(false);
    operation
}

fn with_model(path: &str, mut item: Value) -> Value {
    if path.contains(MODEL) {
        let model = json!({ "name": "model", "in": "path", "required": true, "schema": { "type": "string" } });
        item["parameters"] = json!([model]);
    }
    item
}
