//! It starts fast, counts exactly what it did, and answers nothing too late.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use headgate::proto::inference::{InferParameter, ModelStatisticsRequest, infer_parameter::ParameterChoice};
use headgate::tensor::{DataType, Tensor};

use crate::support::infer::{Call, Encoding, Refusal, Wires, grpc_request, http_body};
use crate::support::raw::{INFER, RawGrpc, body_of};
use crate::support::repository::TempDir;
use crate::support::server::{Server, models};
use crate::support::{eventually, zoo};

#[test]
fn the_shipped_models_are_ready_within_ten_seconds() {
    let started = Instant::now();
    let server = Server::start(&models(), &[]);
    let took = started.elapsed();
    println!("startup: ready after {took:?}; the aim is 1 s, the limit of this test 10 s");
    assert!(took < Duration::from_secs(10), "{took:?}");
    for model in ["addsub", "codelang", "digits", "iris", "wine"] {
        assert!(server.model(model)["default_version"].is_u64(), "{}", server.model(model));
    }
}

#[test]
fn a_prediction_log_without_a_place_is_said_at_the_start() {
    let folder = TempDir::new();
    folder.write("headgate.yaml", "prediction_log: {retain: 30d}\n");
    let path = folder.path().join("headgate.yaml");
    let server = Server::start(&models(), &["--config", path.to_str().unwrap()]);
    let log = server.log();
    assert!(log.contains("neither predictions nor feedback are logged") && log.contains("--data-dir"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_and_metrics_count_what_was_done() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    repository.add("gather_may_fail", "gather", 1);
    repository.write("digits/model.yaml", IN_ONE_RUN);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;
    let (mut requests, mut rows) = (0u64, 0u64);
    for (tag, size) in [("b1", 1), ("b3", 3), ("b8", 8), ("b3", 3)] {
        let inputs = zoo::inputs("digits_cnn_v1", tag);
        for encoding in Encoding::ALL {
            wires.infer(encoding, &Call { model: "digits", version: "", inputs: &inputs }).await.unwrap();
            requests += 1;
            rows += size;
        }
    }
    // Three that don't fit the model, over each protocol, and one that fails while it runs.
    let wrong = zoo::inputs("iris_logreg", "b1");
    for encoding in [Encoding::Json, Encoding::Json, Encoding::Raw] {
        wires.infer(encoding, &Call { model: "digits", version: "", inputs: &wrong }).await.unwrap_err();
    }
    let beyond = [("ix".to_owned(), Tensor::from_elements(DataType::Int64, vec![1], &[99i64]).unwrap())];
    wires.infer(Encoding::Json, &Call { model: "gather", version: "1", inputs: &beyond }).await.unwrap_err();

    let stats = wires.http.get("/v2/models/digits/versions/1/stats").await.json();
    let digits = &stats["model_stats"][0];
    assert_eq!((&digits["name"], &digits["version"]), (&json!("digits"), &json!("1")));
    assert_eq!((&digits["inference_count"], &digits["execution_count"]), (&json!(rows), &json!(requests)));
    for (member, count) in [
        ("success", requests),
        ("queue", requests),
        ("compute_input", requests),
        ("compute_infer", requests),
        ("compute_output", requests),
        ("fail", 3),
        ("cache_hit", 0),
        ("cache_miss", 0),
    ] {
        assert_eq!(digits["inference_stats"][member]["count"], json!(count), "{member}: {digits}");
    }
    let batches = digits["batch_stats"].as_array().unwrap();
    let batch =
        |batch: &Value| (batch["batch_size"].as_u64().unwrap(), batch["compute_infer"]["count"].as_u64().unwrap());
    assert_eq!(batches.iter().map(batch).collect::<Vec<_>>(), [(1, 4), (3, 8), (8, 4)]);

    let request = ModelStatisticsRequest { name: "digits".to_owned(), version: String::new() };
    let typed = wires.grpc.clone().model_statistics(request).await.unwrap().into_inner().model_stats;
    let inference = typed[0].inference_stats.as_ref().unwrap();
    assert_eq!((typed.len(), typed[0].inference_count, typed[0].execution_count), (1, rows, requests));
    assert_eq!(inference.success.as_ref().unwrap().count, requests);
    assert_eq!(inference.fail.as_ref().unwrap().count, 3);

    for (series, value) in [
        (r#"nv_inference_request_success{model="digits",version="1"}"#, requests),
        (r#"nv_inference_count{model="digits",version="1"}"#, rows),
        (r#"nv_inference_exec_count{model="digits",version="1"}"#, requests),
        (r#"nv_inference_pending_request_count{model="digits",version="1"}"#, 0),
        (r#"headgate_request_failures_total{model="digits",version="1",reason="invalid_argument"}"#, 3),
        (r#"headgate_request_stage_seconds_count{model="digits",version="1",stage="decode"}"#, requests + 3),
        (r#"headgate_request_stage_seconds_count{model="digits",version="1",stage="compute"}"#, requests),
        (r#"headgate_request_stage_seconds_count{model="digits",version="1",stage="encode"}"#, requests),
        (r#"headgate_requests_total{protocol="http",outcome="ok"}"#, requests / 2),
        (r#"headgate_requests_total{protocol="grpc",outcome="ok"}"#, requests / 2),
        (r#"headgate_requests_total{protocol="http",outcome="invalid_argument"}"#, 2),
        (r#"headgate_requests_total{protocol="grpc",outcome="invalid_argument"}"#, 1),
        (r#"nv_inference_request_failure{model="gather",version="1",reason="OTHER"}"#, 1),
    ] {
        assert_eq!(server.metric(series), value as f64, "{series}");
    }
}

/// Each request is one run, whatever was measured.
const IN_ONE_RUN: &str = "max_batch_size: 256\ndynamic_batching: {}\n";

/// Requests that a busy worker would answer too late: each is told so, and none of them costs compute.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_whose_deadline_passes_is_told_and_dropped() {
    let repository = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    repository.write("slow/model.yaml", IN_ONE_RUN);
    let server = Server::start(repository.path(), &["--workers", "1"]);
    let wires = Wires::connect(&server).await;
    let rows = 256;
    let inputs = [("x".to_owned(), Tensor::zeros(DataType::Fp32, vec![rows, 1024]))];
    let call = Call { model: "slow", version: "", inputs: &inputs };
    let mut busy = vec![];
    for _ in 0..2 {
        let (wires, inputs) = (wires.clone(), inputs.clone());
        busy.push(tokio::spawn(async move {
            wires.infer(Encoding::Binary, &Call { model: "slow", version: "", inputs: &inputs }).await
        }));
    }
    eventually("two requests are at work", async || {
        let pending = server.metric(r#"nv_inference_pending_request_count{model="slow",version="1"}"#);
        if pending >= 1.0 { Ok(()) } else { Err(format!("{pending}")) }
    })
    .await;

    let one = [("x".to_owned(), Tensor::zeros(DataType::Fp32, vec![1, 1024]))];
    let small = Call { inputs: &one, ..call };
    let is_late = |text: &str| assert!(text.starts_with("Request timeout expired"), "{text}");
    // By a header.
    let (body, ..) = http_body(&small, false);
    let header = http::Request::post("/").header("headgate-timeout-ms", "1");
    let answer = wires.http.send(header, "/v2/models/slow/infer", body.clone()).await.unwrap();
    assert_eq!(answer.status, 504);
    is_late(&answer.error());
    // By the protocol's own parameter, in microseconds, over HTTP and gRPC.
    let body = body.replacen(r#""parameters":{"#, r#""parameters":{"timeout":1000,"#, 1);
    let answer = wires.http.post("/v2/models/slow/infer", body).await;
    assert_eq!(answer.status, 504);
    is_late(&answer.error());
    let mut request = grpc_request(&small, true);
    let timeout = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(1000)) };
    request.parameters.insert("timeout".to_owned(), timeout);
    let refusal = wires.grpc_infer(request.clone()).await.unwrap_err();
    let Refusal::Grpc { code: tonic::Code::DeadlineExceeded, text } = refusal else { panic!("{refusal}") };
    is_late(&text);
    // By gRPC's deadline, and by our own metadata.
    request.parameters.clear();
    let raw = RawGrpc::connect(server.grpc).await;
    for metadata in [("grpc-timeout", "1m"), ("headgate-timeout-ms", "1")] {
        let outcome = raw.call(INFER, &[metadata], body_of(&request)).await.unwrap();
        assert_eq!(outcome.code, 4, "{metadata:?}: {outcome:?}");
        is_late(&outcome.text);
    }
    for request in busy {
        request.await.unwrap().unwrap();
    }
    let stats = wires.http.get("/v2/models/slow/stats").await.json();
    let slow = &stats["model_stats"][0];
    assert_eq!((&slow["execution_count"], &slow["inference_count"]), (&json!(2), &json!(2 * rows)), "{slow}");
    assert_eq!(slow["inference_stats"]["fail"]["count"], json!(5), "{slow}");
}

/// A client that leaves costs no compute either.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_whose_client_has_left_is_dropped() {
    let repository = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    repository.write("slow/model.yaml", IN_ONE_RUN);
    let server = Server::start(repository.path(), &["--workers", "1"]);
    let wires = Wires::connect(&server).await;
    let inputs = [("x".to_owned(), Tensor::zeros(DataType::Fp32, vec![256, 1024]))];
    let ask = |wires: Wires, encoding| {
        let inputs = inputs.clone();
        async move { wires.infer(encoding, &Call { model: "slow", version: "", inputs: &inputs }).await }
    };
    let first = tokio::spawn(ask(wires.clone(), Encoding::Binary));
    let series = r#"nv_inference_pending_request_count{model="slow",version="1"}"#;
    let pending = async |count: f64| {
        eventually("pending requests", async || match server.metric(series) {
            now if now == count => Ok(()),
            now => Err(format!("{now} instead of {count}")),
        })
        .await;
    };
    pending(1.0).await;
    let mut left = vec![];
    for encoding in [Encoding::Binary, Encoding::Raw] {
        left.push(tokio::spawn(ask(Wires::connect(&server).await, encoding)));
    }
    pending(3.0).await;
    for request in left {
        request.abort();
    }
    first.await.unwrap().unwrap();
    pending(0.0).await;
    let stats = wires.http.get("/v2/models/slow/stats").await.json();
    assert_eq!(stats["model_stats"][0]["execution_count"], json!(1), "{stats}");
    assert_eq!(server.metric(r#"headgate_request_failures_total{model="slow",version="1",reason="cancelled"}"#), 2.0);
}
