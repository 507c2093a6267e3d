//! Everything beside predictions: health, metadata, statistics, repository, settings, the OpenAPI document.

use std::sync::Mutex;

use futures_core::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::control::{LoadOverrides, ModelControl};
use crate::error::Error;
use crate::health::Phase;
use crate::servable::{State, VersionStatus};

fn two_versions() -> Client {
    Client::of(&[("m", 1, identity(DataType::Fp32)), ("m", 2, identity(DataType::Fp32)), ("add", 1, add())])
}

#[tokio::test]
async fn health_has_bodies_and_readiness_ends_with_draining() {
    let client = two_versions();
    assert_eq!(client.get("/v2/health/live").await.ok().json(), json!({"live": true}));
    assert_eq!(client.get("/v2/health/ready").await.ok().json(), json!({"ready": true}));
    assert_eq!(client.get("/").await.ok().json(), json!({"status": "alive"}));
    client.plane().health.advance(Phase::Draining);
    let answer = client.get("/v2/health/ready").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (503, json!({"ready": false})));
    assert_eq!(client.get("/v2/health/live").await.ok().json(), json!({"live": true}));
}

#[tokio::test]
async fn metadata_of_server_and_models() {
    let client = two_versions();
    let server = client.get("/v2").await.ok().json();
    assert_eq!(server["name"], "headgate");
    assert!(server["extensions"].as_array().unwrap().contains(&json!("statistics")));
    let model = client.get("/v2/models/m").await.ok().json();
    assert_eq!(model["versions"], json!(["1", "2"]));
    assert_eq!(model["platform"], "function_onnx");
    assert_eq!(model["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]));
    let one = client.get("/v2/models/m/versions/1").await.ok().json();
    assert_eq!(one["versions"], json!(["1"]));
    let config = client.get("/v2/models/m/config").await.ok().json();
    assert_eq!(config["name"], "m");
    assert_eq!(config["max_batch_size"], 1, "nothing was measured");
    client.get("/v2/models/none").await.error(404);
}

#[tokio::test]
async fn readiness_of_a_model() {
    let client = two_versions();
    assert_eq!(client.get("/v2/models/m/ready").await.ok().json(), json!({"name": "m", "ready": true}));
    assert_eq!(client.get("/v2/models/m/versions/2/ready").await.ok().json()["ready"], true);
    client.get("/v2/models/m/versions/9/ready").await.error(404);
    let mut serving = testing::serving(&[]);
    serving.models.insert("cold".into(), Arc::new(failed_version()));
    client.plane().publish(serving);
    let text = client.get("/v2/models/cold/versions/4/ready").await.error(400);
    assert!(text.starts_with("Model version not ready"), "{text}");
}

fn failed_version() -> crate::routing::ModelEntry {
    let status = VersionStatus { state: State::Failed, reason: "not a valid ONNX model".into(), quarantined: false };
    crate::routing::ModelEntry { statuses: [(4, status)].into(), ..Default::default() }
}

#[tokio::test]
async fn statistics_have_every_member_and_count_each_success() {
    let client = two_versions();
    let body = r#"{"inputs":[{"name":"x","shape":[3,2],"datatype":"FP32","data":[1,2,3,4,5,6]}]}"#;
    for _ in 0..2 {
        client.post_json("/v2/models/m/infer", body).await.ok();
    }
    let stats = client.get("/v2/models/m/versions/2/stats").await.ok().json()["model_stats"][0].clone();
    assert_eq!((&stats["name"], &stats["version"]), (&json!("m"), &json!("2")));
    assert_eq!((&stats["inference_count"], &stats["execution_count"]), (&json!(6), &json!(2)));
    let times = stats["inference_stats"].as_object().unwrap();
    let members =
        ["success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss"];
    for member in members {
        assert!(times[member]["count"].is_u64() && times[member]["ns"].is_u64(), "{member}");
    }
    assert_eq!((&times["success"]["count"], &times["queue"]["count"]), (&json!(2), &json!(2)));
    assert_eq!(stats["batch_stats"][0]["batch_size"], 3);
    assert_eq!(stats["batch_stats"][0]["compute_infer"]["count"], 2);
    assert_eq!((&stats["memory_usage"], &stats["response_stats"]), (&json!([]), &json!({})));
    let count = |answer: Answer| answer.ok().json()["model_stats"].as_array().unwrap().len();
    assert_eq!(count(client.get("/v2/models/m/stats").await), 2);
    assert_eq!(count(client.get("/v2/models/stats").await), 3);
    assert_eq!(client.get("/v2/models/none/stats").await.error(400), "requested model 'none' is not available");
}

#[tokio::test]
async fn the_repository_index_tells_states_and_reasons() {
    let client = two_versions();
    let mut serving = testing::serving(&[("m", 1, identity(DataType::Fp32))]);
    serving.models.insert("cold".into(), Arc::new(failed_version()));
    let fault = crate::routing::ModelEntry { fault: "model.yaml: unknown key".into(), ..Default::default() };
    serving.models.insert("odd".into(), Arc::new(fault));
    client.plane().publish(serving);
    let index = client.post_json("/v2/repository/index", "").await.ok().json();
    assert_eq!(
        index,
        json!([
            {"name": "cold", "version": "4", "state": "UNAVAILABLE", "reason": "not a valid ONNX model"},
            {"name": "m", "version": "1", "state": "READY", "reason": ""},
            {"name": "odd", "state": "UNAVAILABLE", "reason": "model.yaml: unknown key"},
        ])
    );
    let ready = client.post_json("/v2/repository/index", r#"{"ready":true}"#).await.ok().json();
    assert_eq!(ready.as_array().unwrap().len(), 1);
    client.post_json("/v2/repository/index", "{").await.error(400);
}

/// Remembers what was asked for.
#[derive(Default)]
struct Remembered(Mutex<Vec<String>>);

impl ModelControl for Remembered {
    fn load(&self, model: String, overrides: LoadOverrides) -> BoxFuture<'static, crate::error::Result<()>> {
        self.0.lock().unwrap().push(format!("load {model} {:?}", overrides.config));
        Box::pin(async move { if model == "bad" { Err(Error::Internal("failed to load".into())) } else { Ok(()) } })
    }

    fn unload(&self, model: String) -> BoxFuture<'static, crate::error::Result<()>> {
        self.0.lock().unwrap().push(format!("unload {model}"));
        Box::pin(async { Ok(()) })
    }

    fn warm(&self, model: String, version: u64) -> BoxFuture<'static, crate::error::Result<()>> {
        self.0.lock().unwrap().push(format!("warm {model} {version}"));
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn loading_and_unloading_go_to_the_control_plane() {
    let mut plane = testing::data_plane(&[]);
    let asked = Arc::new(Remembered::default());
    Arc::get_mut(&mut plane).unwrap().control = asked.clone();
    let client = Client::on(plane);
    client.post_json("/v2/repository/models/m/load", "{}").await.ok();
    client.post_json("/v2/repository/models/m/load", r#"{"parameters":{"config":"{}"}}"#).await.ok();
    client.post_json("/v2/repository/models/m/unload", r#"{"parameters":{"unload_dependents":false}}"#).await.ok();
    assert_eq!(client.post_json("/v2/repository/models/bad/load", "").await.error(500), "failed to load");
    client.post_json("/v2/repository/models/m/load", r#"{"parameters":{"what":"x"}}"#).await.error(400);
    client.post_json("/v2/repository/models/m/unload", r#"{"parameters":{"unload_dependents":1}}"#).await.error(400);
    let expected = ["load m None", "load m Some(\"{}\")", "unload m", "load bad None"];
    assert_eq!(*asked.0.lock().unwrap(), expected);
}

#[tokio::test]
async fn refusals_of_the_repository() {
    let client = two_versions();
    let answer = client.post_json("/v2/repository/models/m/load", "{}").await;
    assert_eq!(answer.error(503), "explicit model load / unload is not allowed if polling is enabled");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let text = client.post_json("/v2/repository/mine/models/m/load", "{}").await.error(501);
    assert_eq!(text, "'repository_name' specification is not supported");
    client.get("/v2/systemsharedmemory/status").await.error(501);
    client.post_json("/v2/cudasharedmemory/unregister", "").await.error(501);
}

#[tokio::test]
async fn trace_and_log_settings() {
    let client = two_versions();
    let trace = client.get("/v2/trace/setting").await.ok().json();
    assert_eq!((&trace["trace_rate"], &trace["trace_level"]), (&json!("1000"), &json!(["OFF"])));
    assert_eq!(trace["trace_mode"], "triton");
    let changed = client.post_json("/v2/models/m/trace/setting", r#"{"trace_rate":5,"trace_level":["TENSORS"]}"#).await;
    let changed = changed.ok().json();
    assert_eq!((&changed["trace_rate"], &changed["trace_level"]), (&json!("5"), &json!(["TENSORS"])));
    let cleared = client.post_json("/v2/models/m/trace/setting", r#"{"trace_rate":null}"#).await.ok().json();
    assert_eq!(cleared["trace_rate"], "1000");
    client.get("/v2/models/none/trace/setting").await.error(404);
    client.post_json("/v2/trace/setting", r#"{"trace_file":"trace.json"}"#).await.error(501);
    client.post_json("/v2/trace/setting", r#"{"trace_rate":{}}"#).await.error(400);

    let log = client.post_json("/v2/logging", r#"{"log_info":false,"log_verbose_level":2}"#).await.ok().json();
    assert_eq!((&log["log_info"], &log["log_verbose_level"]), (&json!(false), &json!(2)));
    assert_eq!(client.get("/v2/logging").await.ok().json(), log);
    client.post_json("/v2/logging", r#"{"log_file":"x"}"#).await.error(501);
    client.post_json("/v2/logging", r#"{"log_info":null}"#).await.error(400);
}

#[tokio::test]
async fn the_openapi_document_refers_to_what_it_holds() {
    let document = two_versions().get("/v2/openapi.json").await.ok().json();
    assert_eq!(document["openapi"], "3.1.0");
    let infer = &document["paths"]["/v2/models/add/infer"]["post"];
    let example = &infer["requestBody"]["content"]["application/json"]["example"];
    assert_eq!(example["inputs"][1], json!({"name": "b", "shape": [1], "datatype": "FP32", "data": [0.0]}));
    let mut ids = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in ["get", "post"] {
            let Some(operation) = item.get(method) else { continue };
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
            assert!(operation["responses"]["200"].is_object() && operation["responses"]["default"].is_object());
        }
        assert_eq!(path.contains('{'), item.get("parameters").is_some(), "{path}");
    }
    check_references(&document, &document);
}

fn check_references(value: &Value, document: &Value) {
    match value {
        Value::Object(members) => {
            if let Some(target) = members.get("$ref").and_then(Value::as_str) {
                assert!(document.pointer(&target[1..]).is_some(), "{target}");
            }
            members.values().for_each(|member| check_references(member, document));
        }
        Value::Array(members) => members.iter().for_each(|member| check_references(member, document)),
        _ => {}
    }
}

#[tokio::test]
async fn the_examples_of_the_openapi_document_work() {
    let client = two_versions();
    let document = client.get("/v2/openapi.json").await.ok().json();
    let mut tried = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        let example = &item["post"]["requestBody"]["content"]["application/json"]["example"];
        if example.is_object() {
            client.post_json(path, &example.to_string()).await.ok();
            tried += 1;
        }
    }
    assert_eq!(tried, 4, "infer and generate of two models");
}

#[tokio::test]
async fn what_is_no_prediction_goes_out_plain() {
    let client = two_versions();
    for path in ["/v2", "/v2/models/m", "/v2/models/m/config", "/v2/models/stats", "/v2/nothing"] {
        let request = Request::get(path).header("accept-encoding", "gzip, deflate").body(Full::default()).unwrap();
        let answer = client.send(request).await;
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        answer.json();
    }
}
