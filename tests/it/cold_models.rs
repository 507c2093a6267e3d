//! Versions that are in service without being in memory: a thousand of them cost little, the first request loads one
//! and the others wait with it, and what is not used is let go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use headgate::proto::inference::{ModelMetadataRequest, ModelReadyRequest};

use crate::support::client::get_blocking;
use crate::support::eventually;
use crate::support::infer::{Call, Encoding, Refusal, Wires, grpc_request, http_body, infer_path};
use crate::support::repository::{Manifest, TempDir};
use crate::support::server::Server;
use crate::support::zoo;

const POLL: [&str; 2] = ["--poll-interval", "10ms"];
const READY_LOADS: &str = "headgate_model_loads_total{outcome=\"ready\"}";
const FAILED_LOADS: &str = "headgate_model_loads_total{outcome=\"failed\"}";
const COLD_STARTS: &str = "headgate_cold_starts_total{outcome=\"ready\"}";
const COLD_VERSIONS: &str = "headgate_versions{state=\"cold\"}";

/// Lazy models, each with these versions of a zoo model.
fn lazy(models: &[(&str, &str, u64)]) -> TempDir {
    let repository = TempDir::new();
    for (zoo_model, model, versions) in models {
        repository.write(&format!("{model}/model.yaml"), "load: lazy");
        for version in 1..=*versions {
            repository.add(zoo_model, model, version);
        }
    }
    repository
}

/// The version that answers.
async fn ask(wires: &Wires, model: &str, zoo_model: &str) -> Result<u64, Refusal> {
    let inputs = zoo::inputs(zoo_model, "b1");
    wires.infer(Encoding::Json, &Call { model, version: "", inputs: &inputs }).await.map(|reply| reply.version)
}

/// Asks for health and metrics all the while, each of which must be answered.
struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Prober {
    fn start(http: SocketAddr, admin: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(SeqCst) {
                for (address, path) in [(http, "/v2/health/live"), (http, "/v2/health/ready"), (admin, "/metrics")] {
                    let asked = Instant::now();
                    assert_eq!(get_blocking(address, path).0, 200, "{path}");
                    longest = longest.max(asked.elapsed());
                    count += 1;
                }
            }
            (count, longest)
        });
        Self { stop, thread }
    }

    /// How many were answered, and the longest wait.
    fn stop(self) -> (usize, Duration) {
        self.stop.store(true, SeqCst);
        self.thread.join().unwrap()
    }
}

/// A number of /proc/<pid>/status.
fn status_number(server: &Server, key: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_models_and_a_hundred_calls_to_one_of_them() {
    const MODELS: usize = 1000;
    const CALLS: usize = 100;
    let names: Vec<String> = (0..MODELS).map(|number| format!("m{number:04}")).collect();
    let few = lazy(&names[..10].iter().map(|name| ("iris_logreg", name.as_str(), 1)).collect::<Vec<_>>());
    let all = lazy(&names.iter().map(|name| ("iris_logreg", name.as_str(), 1)).collect::<Vec<_>>());
    let (few_kib, few_threads) = {
        let server = Server::start(few.path(), &[]);
        (server.rss_kib(), status_number(&server, "Threads:"))
    };
    let begun = Instant::now();
    let server = Server::start(all.path(), &[]);
    let ready = begun.elapsed();
    let (all_kib, threads) = (server.rss_kib(), status_number(&server, "Threads:"));
    assert_eq!(server.metric(COLD_VERSIONS), MODELS as f64);
    assert_eq!(threads, few_threads, "an idle model costs no thread");
    println!(
        "cold models: {MODELS} ready after {ready:?}; resident {few_kib} KiB with 10, {all_kib} KiB with {MODELS}: {} bytes each",
        all_kib.saturating_sub(few_kib) * 1024 / (MODELS as u64 - 10)
    );

    let prober = Prober::start(server.http, server.admin);
    let wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let expected = zoo::case("iris_logreg", "b1").outputs["label"].clone();
    let begun = Instant::now();
    let calls = (0..CALLS).map(|number| {
        let (wires, inputs, expected) = (wires.clone(), inputs.clone(), expected.clone());
        tokio::spawn(async move {
            let encoding = Encoding::ALL[number % Encoding::ALL.len()];
            let reply = wires.infer(encoding, &Call { model: "m0500", version: "", inputs: &inputs }).await;
            assert_eq!(reply.unwrap_or_else(|refusal| panic!("{refusal}")).outputs["label"], expected);
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let answered = begun.elapsed();
    let (probes, longest) = prober.stop();
    assert_eq!((server.metric(READY_LOADS), server.metric(COLD_STARTS)), (1.0, 1.0), "one load for all");
    assert_eq!(server.metric("headgate_cold_start_seconds_count"), 1.0);
    assert_eq!(server.metric(COLD_VERSIONS), MODELS as f64 - 1.0);
    assert!(server.metric("headgate_model_memory_bytes{model=\"m0500\",version=\"1\"}") > 0.0);
    println!(
        "cold models: {CALLS} calls answered after {answered:?}; {probes} probes answered, the longest in {longest:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cold_version_is_ready_to_those_who_ask_and_loaded_for_its_signature_alone() {
    let repository = lazy(&[("iris_logreg", "iris", 1)]);
    let server = Server::start(repository.path(), &POLL);
    let mut wires = Wires::connect(&server).await;
    assert_eq!(server.state("iris", 1), ("cold".into(), "cold: loaded at its first request".into()));
    let index = wires.http.post("/v2/repository/index", r#"{"ready":true}"#).await.json();
    assert_eq!((&index[0]["name"], &index[0]["state"]), (&json!("iris"), &json!("READY")));
    for path in ["/v2/models/iris/ready", "/v2/models/iris/versions/1/ready", "/v1/models/iris"] {
        assert_eq!(wires.http.get(path).await.status, 200, "{path}");
    }
    let ready = ModelReadyRequest { name: "iris".into(), version: String::new() };
    assert!(wires.grpc.model_ready(ready).await.unwrap().into_inner().ready);
    let statistics = wires.http.get("/v2/models/iris/stats").await.json();
    assert_eq!(statistics["model_stats"][0]["inference_count"], 0);
    assert_eq!(server.state("iris", 1).0, "cold", "none of this needs the model");

    let metadata = ModelMetadataRequest { name: "iris".into(), version: "1".into() };
    let metadata = wires.grpc.model_metadata(metadata).await.unwrap().into_inner();
    assert_eq!(metadata.inputs[0].name, "X");
    server.reaches("iris", 1, "ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_used_is_let_go_and_counts_on_when_it_is_back() {
    let repository = TempDir::new();
    repository.add("iris_logreg", "iris", 1);
    let server = Server::start(repository.path(), &[&POLL[..], &["--idle-unload", "200ms"]].concat());
    let wires = Wires::connect(&server).await;
    for calls in 1..=3 {
        assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(1));
        let reason = server.reaches("iris", 1, "cold").await;
        assert_eq!(reason, "cold: let go, loaded again at its next request");
        assert_eq!(server.model("iris")["versions"][0]["loaded"], json!(null));
        let statistics = wires.http.get("/v2/models/iris/stats").await.json();
        assert_eq!(statistics["model_stats"][0]["inference_count"], calls);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_used_makes_room() {
    let models = ["iris_logreg", "iris_gnb", "digits_cnn_v1"];
    let repository = lazy(&models.map(|model| (model, model, 1)));
    // One size a model, so that no plans come and go with what is measured.
    for model in models {
        repository.write(&format!("{model}/model.yaml"), "load: lazy\nmax_batch_size: 1\n");
    }
    let use_in_order = async |server: &Server| {
        let wires = Wires::connect(server).await;
        for model in ["iris_logreg", "iris_gnb", "iris_logreg", "digits_cnn_v1"] {
            assert_eq!(ask(&wires, model, model).await, Ok(1));
        }
    };
    let server = Server::start(repository.path(), &POLL);
    use_in_order(&server).await;
    let bytes = |model: &&str| server.model(model)["versions"][0]["loaded"]["memory_bytes"].as_u64().unwrap();
    let limit = (models.iter().map(bytes).sum::<u64>() - 1).to_string();

    let server = Server::start(repository.path(), &[&POLL[..], &["--max-model-memory-bytes", &limit]].concat());
    use_in_order(&server).await;
    server.reaches("iris_gnb", 1, "cold").await;
    assert_eq!(server.state("iris_logreg", 1).0, "ready");
    assert_eq!(server.state("digits_cnn_v1", 1).0, "ready");
    assert_eq!(server.metric("headgate_model_memory_limit_bytes").to_string(), limit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_holds_while_a_version_is_loaded() {
    let repository = lazy(&[("iris_logreg", "iris", 1)]);
    let server = Server::start(repository.path(), &POLL);
    let mut wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let call = Call { model: "iris", version: "", inputs: &inputs };
    // The first load of a file starts a process: it can't be done within a millisecond.
    let mut request = tonic::Request::new(grpc_request(&call, true));
    request.metadata_mut().insert("headgate-timeout-ms", "1".parse().unwrap());
    let late = wires.grpc.model_infer(request).await.unwrap_err();
    assert_eq!(
        (late.code(), late.message()),
        (tonic::Code::DeadlineExceeded, "Request timeout expired while the model was loaded")
    );
    server.reaches("iris", 1, "ready").await;

    repository.write("late/model.yaml", "load: lazy");
    repository.add("digits_cnn_v1", "late", 1);
    server.reaches("late", 1, "cold").await;
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let call = Call { model: "late", version: "", inputs: &inputs };
    let request = http::Request::post("/").header("headgate-timeout-ms", "1");
    let late = wires.http.send(request, &infer_path(&call), http_body(&call, false).0).await.unwrap();
    assert_eq!(late.status, 504);
    assert_eq!(late.error(), "Request timeout expired while the model was loaded");
    // The load went on for whoever comes next.
    server.reaches("late", 1, "ready").await;
    assert_eq!(server.metric(READY_LOADS), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_fails_at_the_first_call_is_told_and_not_repeated() {
    let repository = TempDir::new();
    repository.write("iris/model.yaml", "load: lazy");
    repository.add_files("iris", 1, &[("model.onnx".to_owned(), b"this is no model".to_vec())], Manifest::None);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let call = Call { model: "iris", version: "", inputs: &inputs };
    for encoding in Encoding::ALL {
        let text = match wires.infer(encoding, &call).await.unwrap_err() {
            Refusal::Http { status: 503, text } | Refusal::Grpc { code: tonic::Code::Unavailable, text } => text,
            other => panic!("{other}"),
        };
        assert!(text.contains("'iris' has no available versions: version 1 failed: not a valid ONNX model"), "{text}");
    }
    assert_eq!((server.metric(FAILED_LOADS), server.state("iris", 1).0), (1.0, "failed".to_owned()));
    assert_eq!(wires.http.get("/v2/models/iris/ready").await.status, 400);
    repository.add("iris_logreg", "iris", 2);
    server.reaches("iris", 2, "cold").await;
    assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lazy_model_is_swapped_without_a_failed_request() {
    let repository = lazy(&[("digits_cnn_v1", "digits", 1)]);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let (stop, asking) = (Arc::new(AtomicBool::new(false)), wires.clone());
    let stopped = stop.clone();
    let client = tokio::spawn(async move {
        let mut seen = vec![];
        while !stopped.load(SeqCst) {
            let version = ask(&asking, "digits", "digits_cnn_v1").await.unwrap_or_else(|refusal| panic!("{refusal}"));
            if seen.last() != Some(&version) {
                seen.push(version);
            }
        }
        seen
    });
    for version in 2..=4 {
        server.reaches("digits", version - 1, "ready").await;
        repository.add("digits_cnn_v1", "digits", version);
        server.answers("digits", version).await;
    }
    let seen_last = async || ask(&wires, "digits", "digits_cnn_v1").await.map_err(|refusal| refusal.to_string());
    assert_eq!(eventually("the last one answers", seen_last).await, 4);
    stop.store(true, SeqCst);
    let seen = client.await.unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_load_and_unload_a_lazy_model() {
    let repository = lazy(&[("iris_logreg", "iris", 1)]);
    let server = Server::start(repository.path(), &["--model-control-mode", "explicit", "--idle-unload", "200ms"]);
    let wires = Wires::connect(&server).await;
    assert!(ask(&wires, "iris", "iris_logreg").await.is_err(), "nobody asked for it to be loaded");
    for _ in 0..2 {
        let loaded = wires.http.post("/v2/repository/models/iris/load", "{}").await;
        assert_eq!(loaded.status, 200, "{:?}", loaded.body);
        // Loaded by name it is in memory, and goes cold as any other.
        server.reaches("iris", 1, "cold").await;
        assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(1));
        let unloaded = wires.http.post("/v2/repository/models/iris/unload", "{}").await;
        assert_eq!(unloaded.status, 200, "{:?}", unloaded.body);
        let Err(Refusal::Http { status: 503, .. }) = ask(&wires, "iris", "iris_logreg").await else {
            panic!("it was unloaded");
        };
        server.reaches("iris", 1, "unloaded").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_cold_and_keeps_what_was_decided() {
    let (repository, data) = (lazy(&[("iris_logreg", "iris", 2)]), TempDir::new());
    repository.write("iris/model.yaml", "load: lazy\nversion_policy: {all: {}}");
    let flags = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "10ms"];
    let server = Server::start(repository.path(), &flags);
    let wires = Wires::connect(&server).await;
    assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(2));
    let moved = server.admin_http().put_json("/admin/v1/models/iris/labels/stable", &json!({"version": 1})).await;
    assert_eq!(moved.status, 200, "{:?}", moved.body);
    assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(1));
    server.kill();

    let server = Server::start(repository.path(), &flags);
    let wires = Wires::connect(&server).await;
    assert_eq!((server.metric(READY_LOADS), server.metric(COLD_VERSIONS)), (0.0, 2.0));
    assert_eq!(ask(&wires, "iris@stable", "iris_logreg").await, Ok(1));
    assert_eq!(ask(&wires, "iris", "iris_logreg").await, Ok(1));
    assert_eq!((server.metric(READY_LOADS), server.metric(COLD_VERSIONS)), (1.0, 1.0));
}
