//! What may serve: a version proves itself before it answers anyone. One that fails says why, leaves the old version and
//! every other model untouched, and the server ready.

use serde_json::json;

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::onnx::ones_matrix;
use crate::support::repository::{Manifest, TempDir, model_files};
use crate::support::server::Server;
use crate::support::zoo;

const POLL: [&str; 2] = ["--poll-interval", "10ms"];

async fn answers(wires: &Wires, model: &str) -> u64 {
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    wires.infer(Encoding::Raw, &Call { model, version: "", inputs: &inputs }).await.unwrap().version
}

/// A server that serves `digits` and `other`, both from version 1 on.
async fn start(flags: &[&str]) -> (TempDir, Server, Wires) {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    repository.add("digits_cnn_v2", "other", 1);
    let server = Server::start(repository.path(), &[&POLL, flags].concat());
    let wires = Wires::connect(&server).await;
    (repository, server, wires)
}

/// After a version failed: what served serves, the server is ready, and index and log have the reason.
async fn nothing_else_changed(server: &Server, wires: &Wires, version: u64, reason: &str) {
    assert_eq!((answers(wires, "digits").await, answers(wires, "other").await), (1, 1));
    assert_eq!(wires.http.get("/v2/health/ready").await.status, 200);
    let index = wires.http.post("/v2/repository/index", "").await.json();
    let is_it = |entry: &&serde_json::Value| {
        entry["name"] == "digits" && entry["version"].as_str() == Some(version.to_string().as_str())
    };
    let entry = index.as_array().unwrap().iter().find(is_it).unwrap();
    assert_eq!(entry["state"], "UNAVAILABLE");
    assert_eq!(entry["reason"].as_str().unwrap(), reason);
    server.logs(&["digits", "failed", &format!("\"version\":{version}")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_versions_fail_alone() {
    let (repository, server, wires) = start(&[]).await;
    let model = &model_files("digits_cnn_v2")[0].1;
    // A flipped byte in the middle of the weights is no fault that anything but a manifest could see.
    let cases: [(u64, Vec<u8>); 4] = [
        (2, vec![]),
        (3, b"no model at all".to_vec()),
        (4, model[..model.len() - 1000].to_vec()),
        (5, vec![0xff; 100_000]),
    ];
    for (version, bytes) in cases {
        repository.add_files("digits", version, &[("model.onnx".to_owned(), bytes)], Manifest::None);
        let reason = server.reaches("digits", version, "failed").await;
        assert!(!reason.is_empty());
        nothing_else_changed(&server, &wires, version, &reason).await;
    }
    println!("validation: 4 broken files, each failed alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_examples_are_held() {
    let (repository, server, wires) = start(&[]).await;
    let example = |model: &str| std::fs::read(zoo::zoo().join(model).join("case_b3.npz")).unwrap();
    let with_example = |model: &str, name: &str, content: Vec<u8>| {
        let mut files = model_files(model);
        files.push((format!("examples/{name}"), content));
        files
    };
    // What v1 answered is not what v2 answers.
    repository.add_files(
        "digits",
        2,
        &with_example("digits_cnn_v2", "a.npz", example("digits_cnn_v1")),
        Manifest::None,
    );
    let reason = server.reaches("digits", 2, "failed").await;
    for word in ["a.npz", "'probabilities'", "row 0", "expected", "received", "quarantined"] {
        assert!(reason.contains(word), "'{word}' is missing: {reason}");
    }
    nothing_else_changed(&server, &wires, 2, &reason).await;
    let digits = server.model("digits");
    assert_eq!(digits["versions"][1]["quarantined"], json!(true), "{digits}");
    // An operator who knows better than the example still can't load it as it is.
    let clear = http::Request::delete("/");
    let path = "/admin/v1/models/digits/versions/2/quarantine";
    assert_eq!(server.admin_http().send(clear, path, "").await.unwrap().status, 200);
    assert!(server.reaches("digits", 2, "failed").await.contains("row 0"));
    // The same as JSON, in the form of a request and its answer.
    let json = json!({
        "inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}],
        "outputs": [{"name": "label", "datatype": "INT64", "shape": [1], "data": [2]}],
    });
    repository.add_files("iris", 1, &with_example("iris_logreg", "b.json", json.to_string().into()), Manifest::None);
    let reason = server.reaches("iris", 1, "failed").await;
    for word in ["b.json", "'label'", "row 0", "expected 2, received 0"] {
        assert!(reason.contains(word), "'{word}' is missing: {reason}");
    }
    // Right examples let a version pass.
    repository.add_files(
        "digits",
        3,
        &with_example("digits_cnn_v2", "a.npz", example("digits_cnn_v2")),
        Manifest::None,
    );
    server.answers("digits", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_takes_too_long_to_load_is_given_up() {
    let (repository, server, wires) = start(&["--load-timeout", "3s"]).await;
    // Minutes of multiplication from a file of a few kilobytes.
    let slow = vec![("model.onnx".to_owned(), ones_matrix(4096, 400))];
    repository.add_files("digits", 2, &slow, Manifest::None);
    let reason = server.reaches("digits", 2, "failed").await;
    assert!(reason.contains("longer than 3 s") || reason.contains("signal"), "{reason}");
    nothing_else_changed(&server, &wires, 2, &reason).await;
    no_child_is_left(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_takes_too_much_memory_is_refused_before_it_does() {
    let (repository, server, wires) = start(&["--load-memory-limit-bytes", "2147483648"]).await;
    let before_kib = server.rss_kib();
    // A matrix of 16 GiB.
    let huge = vec![("model.onnx".to_owned(), ones_matrix(65_536, 0))];
    repository.add_files("digits", 2, &huge, Manifest::None);
    let reason = server.reaches("digits", 2, "failed").await;
    for word in ["a tensor of more than 268435456 bytes", "[65536, 65536]"] {
        assert!(reason.contains(word), "'{word}' is missing: {reason}");
    }
    nothing_else_changed(&server, &wires, 2, &reason).await;
    no_child_is_left(&server).await;
    let grown_kib = server.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 200 * 1024, "the server itself grew by {grown_kib} KiB");
}

/// The same graphs within the limits do serve, so that the two tests above fail for the right reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_graph_in_small_is_served() {
    let (repository, server, wires) = start(&[]).await;
    repository.add_files("ones", 1, &[("model.onnx".to_owned(), ones_matrix(4, 2))], Manifest::None);
    server.answers("ones", 1).await;
    let body = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [0.0, 0.5]}]});
    let answer = wires.http.post_json("/v2/models/ones/infer", &body).await.json();
    assert_eq!(answer["outputs"][0]["data"], json!([16.0, 16.5]));
}

async fn no_child_is_left(server: &Server) {
    crate::support::eventually("no child is left", async || {
        let pid = server.pid();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        if children.trim().is_empty() { Ok(()) } else { Err(children) }
    })
    .await;
}
