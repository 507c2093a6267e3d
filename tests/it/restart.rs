//! Restarts change nothing: what served before `kill -9` serves after it, with the labels, the quarantine and the held
//! version that there were. Two processes never share a data directory.

use serde_json::json;

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::{Manifest, TempDir, model_files};
use crate::support::server::{Server, refused};
use crate::support::{scaled, zoo};

/// The version that answers a request for `model`, over HTTP and gRPC.
async fn answered_by(server: &Server, model: &str) -> u64 {
    let wires = Wires::connect(server).await;
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let call = Call { model, version: "", inputs: &inputs };
    let http = wires.infer(Encoding::Binary, &call).await.unwrap().version;
    let grpc = wires.infer(Encoding::Raw, &call).await.unwrap().version;
    assert_eq!(http, grpc);
    http
}

fn truncated(zoo_model: &str) -> Vec<(String, Vec<u8>)> {
    model_files(zoo_model).into_iter().map(|(name, bytes)| (name, bytes[..bytes.len() / 2].to_vec())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_label_and_a_failed_upload_survive() {
    let (repository, data) = (TempDir::new(), TempDir::new());
    let flags = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "10ms"];
    repository.write("digits/model.yaml", "labels: {stable: 2}");
    for version in [1, 2, 3] {
        repository.add("digits_cnn_v1", "digits", version);
    }
    let server = Server::start(repository.path(), &flags);
    assert_eq!(answered_by(&server, "digits").await, 2);
    let moved = server.admin_http().put_json("/admin/v1/models/digits/labels/stable", &json!({"version": 1})).await;
    assert_eq!(moved.status, 200, "{:?}", moved.body);
    let moved = server.admin_http().put_json("/admin/v1/models/digits/labels/next", &json!({"version": 3})).await;
    assert_eq!(moved.status, 200, "{:?}", moved.body);
    repository.add_files("digits", 4, &truncated("digits_cnn_v2"), Manifest::None);
    server.reaches("digits", 4, "failed").await;
    assert_eq!(answered_by(&server, "digits").await, 1);
    server.kill();

    let server = Server::start(repository.path(), &flags);
    assert_eq!(answered_by(&server, "digits").await, 1);
    assert_eq!(answered_by(&server, "digits@stable").await, 1);
    assert_eq!(answered_by(&server, "digits@next").await, 3);
    server.reaches("digits", 4, "failed").await;

    // Whoever writes the file last has the word again.
    repository.write("digits/model.yaml", "labels: {stable: 3}");
    server.answers("digits", 3).await;
    server.kill();
    let server = Server::start(repository.path(), &flags);
    assert_eq!(answered_by(&server, "digits@stable").await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_was_seen_to_serve_serves_again() {
    let kills = scaled("kills between swaps", 40) as u64;
    let (repository, data) = (TempDir::new(), TempDir::new());
    let flags = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "10ms"];
    repository.add_with_manifest("digits_cnn_v1", "digits", 1);
    let mut server = Server::start(repository.path(), &flags);
    for version in 2..kills + 2 {
        repository.add_with_manifest("digits_cnn_v1", "digits", version);
        server.answers("digits", version).await;
        server.kill();
        server = Server::start(repository.path(), &flags);
        assert_eq!(answered_by(&server, "digits").await, version);
    }
    // Killed while the next one is under way, either may serve, but one does, and in the end the newest.
    repository.add_with_manifest("digits_cnn_v2", "digits", kills + 2);
    server.kill();
    let server = Server::start(repository.path(), &flags);
    assert!((kills + 1..=kills + 2).contains(&answered_by(&server, "digits").await));
    server.answers("digits", kills + 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_version_is_held_across_a_restart() {
    let (repository, data) = (TempDir::new(), TempDir::new());
    let flags = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "10ms"];
    repository.write("digits/model.yaml", "on_new_version: hold");
    repository.add("digits_cnn_v1", "digits", 1);
    let server = Server::start(repository.path(), &flags);
    repository.add("digits_cnn_v2", "digits", 2);
    server.reaches("digits", 2, "ready").await;
    assert_eq!(answered_by(&server, "digits").await, 1);
    server.kill();
    let server = Server::start(repository.path(), &flags);
    server.reaches("digits", 2, "ready").await;
    assert_eq!(answered_by(&server, "digits").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantine_survives_until_it_is_cleared() {
    let (repository, data) = (TempDir::new(), TempDir::new());
    let flags = ["--data-dir", data.path().to_str().unwrap(), "--poll-interval", "10ms"];
    repository.add("digits_cnn_v1", "digits", 1);
    // Version 2 is v1 with an example recorded from v2.
    let mut files = model_files("digits_cnn_v1");
    let example = std::fs::read(zoo::zoo().join("digits_cnn_v2/case_b3.npz")).unwrap();
    files.push(("examples/case_b3.npz".to_owned(), example));
    repository.add_files("digits", 2, &files, Manifest::Right);
    let server = Server::start(repository.path(), &flags);
    let reason = server.reaches("digits", 2, "failed").await;
    assert!(reason.contains("quarantined") && reason.contains("probabilities"), "{reason}");
    assert_eq!(answered_by(&server, "digits").await, 1);
    server.kill();

    let server = Server::start(repository.path(), &flags);
    assert_eq!(server.reaches("digits", 2, "failed").await, reason);
    assert_eq!(answered_by(&server, "digits").await, 1);
    // With its example gone and the quarantine cleared it may serve.
    std::fs::remove_dir_all(repository.version("digits", 2).join("examples")).unwrap();
    repository.write("digits/2/manifest.json", crate::support::repository::manifest_of(&model_files("digits_cnn_v1")));
    let quarantine = http::Request::delete("/");
    let path = "/admin/v1/models/digits/versions/2/quarantine";
    let cleared = server.admin_http().send(quarantine, path, "").await.unwrap();
    assert_eq!(cleared.status, 200, "{:?}", cleared.body);
    server.answers("digits", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_data_directory_is_refused() {
    let (repository, data) = (TempDir::new(), TempDir::new());
    let flags = ["--data-dir", data.path().to_str().unwrap()];
    repository.add("iris_logreg", "iris", 1);
    let first = Server::start(repository.path(), &flags);
    let (status, text) = refused(repository.path(), &flags);
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains(data.path().to_str().unwrap()) && text.contains("process"), "{text}");
    assert!(Wires::connect(&first).await.http.get("/v2/health/ready").await.status == 200);
}
