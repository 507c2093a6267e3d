//! KServe V1, TensorFlow Serving REST and generate.

use serde_json::json;

use super::*;

fn client() -> Client {
    let text = FunctionModel::identity(&[("x", DataType::Bytes, 1)]);
    let wide = FunctionModel::identity(&[("p", DataType::Fp32, 1), ("q", DataType::Int64, 1)]);
    Client::of(&[("m", 3, identity(DataType::Fp32)), ("add", 1, add()), ("text", 1, text), ("wide", 1, wide)])
}

async fn predict(model: &str, body: &str) -> Value {
    client().post_json(&format!("/v1/models/{model}:predict"), body).await.ok().json()
}

#[tokio::test]
async fn rows_of_a_single_input() {
    let answer = client().post_json("/v1/models/m:predict", r#"{"instances":[[1,2],[3,4]]}"#).await.ok();
    assert_eq!(answer.body, r#"{"predictions":[[1.0,2.0],[3.0,4.0]]}"#);
    assert_eq!(answer.header("headgate-version"), Some("3"));
    assert_eq!(predict("m", r#"{"instances":[{"x":[1,2]}]}"#).await, json!({"predictions": [[1.0, 2.0]]}));
    let labelled = client().post_json("/V1/models/m/versions/3:PREDICT", r#"{"instances":[[1,2]]}"#).await;
    labelled.ok();
}

#[tokio::test]
async fn rows_of_several_inputs_and_outputs() {
    let body = r#"{"signature_name":"serving_default","instances":[{"a":1,"b":10},{"b":20,"a":2}]}"#;
    assert_eq!(
        predict("add", body).await,
        json!({"predictions": [{"sum": 11.0, "pair": [1.0, 10.0]}, {"sum": 22.0, "pair": [2.0, 20.0]}]})
    );
    // A trailing dimension of 1 may be left out.
    assert_eq!(
        predict("wide", r#"{"instances":[{"p":1.5,"q":7}]}"#).await,
        json!({"predictions": [{"p_out": [1.5], "q_out": [7]}]})
    );
}

#[tokio::test]
async fn columns() {
    let body = r#"{"inputs":{"a":[1,2],"b":[10,20]}}"#;
    assert_eq!(
        predict("add", body).await,
        json!({"outputs": {"sum": [11.0, 22.0], "pair": [[1.0, 10.0], [2.0, 20.0]]}})
    );
    assert_eq!(predict("m", r#"{"inputs":[[1,2]]}"#).await, json!({"outputs": [[1.0, 2.0]]}));
}

#[tokio::test]
async fn binary_values_are_base64() {
    let answer = predict("text", r#"{"instances":[{"b64":"/w=="},"é",{"x":{"b64":"YQ=="}}]}"#).await;
    assert_eq!(answer, json!({"predictions": [[{"b64": "/w=="}], ["é"], ["a"]]}));
}

#[tokio::test]
async fn non_finite_numbers_are_tokens() {
    let answer = client().post_json("/v1/models/m:predict", r#"{"instances":[[NaN,-Infinity]]}"#).await.ok();
    assert_eq!(answer.body, r#"{"predictions":[[NaN,-Infinity]]}"#);
}

#[tokio::test]
async fn mistakes() {
    let client = client();
    for (model, body, text) in [
        ("m", r#"{}"#, "expected 'instances' or 'inputs' in the request, got neither"),
        ("m", r#"{"instances":[],"inputs":[]}"#, "'instances' or 'inputs' is given twice"),
        ("m", r#"{"instances":[[1,2],[3]]}"#, "arrays at depth 1 differ in length, 2 and 1 elements"),
        ("m", r#"{"instances":[[1,2,3]]}"#, "Expected [-1,2], got [1,3]"),
        ("m", r#"{"instances":[{"y":[1,2]}]}"#, "unexpected inference input 'y' for model 'm'"),
        ("m", r#"{"instances":[{"x":[1,2],"x":[1,2]}]}"#, "input 'x' is given twice"),
        ("add", r#"{"instances":[{"a":1,"b":2},{"a":1}]}"#, "instance 1 has no value for input 'b'"),
        ("add", r#"{"instances":[1]}"#, "model 'add' has 2 inputs: expected an object"),
        ("add", r#"{"inputs":{"a":[1]}}"#, "expected 2 inputs but got 1 inputs for model 'add', missing: 'b'"),
        ("m", r#"{"signature_name":"other","instances":[]}"#, "Serving signature name: \"other\" not found"),
        ("m", r#"{"instances":[["a","b"]]}"#, "element 0 for FP32: expected a number, got a string"),
    ] {
        let got = client.post_json(&format!("/v1/models/{model}:predict"), body).await.error(400);
        assert!(got.contains(text), "{got}");
    }
    let text = client.post_json("/v1/models/none:predict", "{}").await.error(404);
    assert_eq!(text, "Servable not found for request: Latest(none)");
    let text = client.post_json("/v1/models/m/versions/9:predict", "{}").await.error(404);
    assert_eq!(text, "Servable not found for request: Specific(m, 9)");
    client.post_json("/v1/models/m/labels/none:predict", "{}").await.error(404);
    client.post_json("/v1/models/m:classify", "{}").await.error(501);
    client.post_json("/v1/models/m:explain", "{}").await.error(501);
}

#[tokio::test]
async fn status_serves_both_kinds_of_clients() {
    let client = client();
    assert_eq!(client.get("/v1/models").await.ok().json(), json!({"models": ["add", "m", "text", "wide"]}));
    let status = client.get("/v1/models/m").await.ok().json();
    assert_eq!((&status["name"], &status["ready"]), (&json!("m"), &json!(true)));
    let version = json!({
        "version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""},
    });
    assert_eq!(status["model_version_status"], json!([version]));
    client.get("/v1/models/m/versions/3").await.ok();
    client.get("/v1/models/m/versions/4").await.error(404);
    client.get("/v1/models/m/labels/none").await.error(404);
    client.get("/v1/models/none").await.error(404);
}

#[tokio::test]
async fn a_model_that_is_not_ready_says_so_with_503() {
    use crate::servable::{State, VersionStatus};
    let client = client();
    let status = VersionStatus { state: State::Loading, reason: String::new(), quarantined: false };
    let entry = crate::routing::ModelEntry { statuses: [(1, status)].into(), ..Default::default() };
    let mut serving = testing::serving(&[]);
    serving.models.insert("cold".into(), Arc::new(entry));
    client.plane().publish(serving);
    let answer = client.get("/v1/models/cold").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["ready"], false);
    assert_eq!(answer.json()["model_version_status"][0]["state"], "LOADING");
}

#[tokio::test]
async fn metadata_tells_the_signature() {
    let metadata = client().get("/v1/models/add/metadata").await.ok().json();
    assert_eq!(metadata["model_spec"], json!({"name": "add", "signature_name": "", "version": "1"}));
    let signature = &metadata["metadata"]["signature_def"]["signature_def"]["serving_default"];
    assert_eq!(
        signature["outputs"]["pair"],
        json!({
            "dtype": "DT_FLOAT",
            "tensor_shape": {
                "dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": false,
            },
            "name": "pair",
        })
    );
    assert_eq!(signature["method_name"], "tensorflow/serving/predict");
}

#[tokio::test]
async fn generate_is_the_easy_call() {
    let client = client();
    let answer = client.post_json("/v2/models/m/generate", r#"{"id":"7","x":[1,2],"temperature":0.5}"#).await.ok();
    assert_eq!(answer.json(), json!({"id": "7", "model_name": "m", "model_version": "3", "x_out": [1.0, 2.0]}));
    let answer = client.post_json("/v2/models/add/versions/1/generate", r#"{"a":1,"b":2}"#).await.ok().json();
    assert_eq!((&answer["sum"], &answer["pair"]), (&json!(3.0), &json!([1.0, 2.0])));
    let text = client.post_json("/v2/models/m/generate", r#"{"X":[1,2]}"#).await.error(400);
    assert!(text.starts_with("unexpected inference input 'X' for model 'm'"), "{text}");
    let text = client.post_json("/v2/models/m/generate", "{}").await.error(400);
    assert_eq!(text, "expected 1 inputs but got 0 inputs for model 'm', missing: 'x'");
    client.post_json("/v2/models/m/generate", r#"{"x":[1,2],"parameters":{"triton_x":1}}"#).await.error(400);
}

#[tokio::test]
async fn generate_stream_is_one_event() {
    let client = client();
    let headers = [("accept-encoding", "gzip")];
    let answer = client.post("/v2/models/m/generate_stream", &headers, r#"{"x":[1,2]}"#).await.ok();
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.body, "data: {\"model_name\":\"m\",\"model_version\":\"3\",\"x_out\":[1.0,2.0]}\n\n");
    let answer = client.post("/v2/models/m/generate_stream", &[], "{").await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.starts_with(b"data: {\"error\":") && answer.body.ends_with(b"}\n\n"));
}
