//! Which version answers: policies, labels, hold, and who may load and unload.

use serde_json::{Value, json};

use headgate::proto::inference::{RepositoryModelLoadRequest, RepositoryModelUnloadRequest};

use crate::support::infer::{Call, Encoding, Refusal, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::zoo;

const POLL: [&str; 2] = ["--poll-interval", "10ms"];

/// Versions 1 to `count` of `digits`, odd ones digits_cnn_v1.
fn versions(repository: &TempDir, count: u64) {
    for version in 1..=count {
        repository.add(["digits_cnn_v2", "digits_cnn_v1"][(version % 2) as usize], "digits", version);
    }
}

/// The version that answers, or the error's text, the same over both protocols.
async fn ask(wires: &Wires, model: &str, version: &str) -> Result<u64, String> {
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let call = Call { model, version, inputs: &inputs };
    let http = wires.infer(Encoding::Json, &call).await.map(|reply| (reply.model, reply.version));
    let grpc = wires.infer(Encoding::Raw, &call).await.map(|reply| (reply.model, reply.version));
    match (http, grpc) {
        (Ok(http), Ok(grpc)) => {
            assert_eq!(http, grpc);
            assert_eq!(http.0, model, "the name that was asked for comes back");
            Ok(http.1)
        }
        (Err(Refusal::Http { text, .. }), Err(Refusal::Grpc { text: grpc_text, .. })) => {
            assert_eq!(text, grpc_text);
            Err(text)
        }
        disagree => panic!("{disagree:?}"),
    }
}

fn ready_versions(server: &Server) -> Vec<u64> {
    let digits = server.model("digits");
    let ready = digits["versions"].as_array().unwrap().iter().filter(|version| version["state"] == "ready");
    ready.map(|version| version["version"].as_u64().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_policies() {
    for (policy, ready) in [
        ("latest: {num_versions: 1}", vec![3]),
        ("latest: {num_versions: 2}", vec![2, 3]),
        ("all: {}", vec![1, 2, 3]),
        ("specific: {versions: [1, 2]}", vec![1, 2]),
    ] {
        let repository = TempDir::new();
        repository.write("digits/model.yaml", format!("version_policy: {{{policy}}}"));
        versions(&repository, 3);
        let server = Server::start(repository.path(), &POLL);
        let wires = Wires::connect(&server).await;
        assert_eq!(ready_versions(&server), ready, "{policy}");
        assert_eq!(ask(&wires, "digits", "").await, Ok(*ready.last().unwrap()), "{policy}");
        for version in 1..=3 {
            let answer = ask(&wires, "digits", &version.to_string()).await;
            match ready.contains(&version) {
                true => assert_eq!(answer, Ok(version), "{policy}"),
                false => {
                    assert!(answer.as_ref().unwrap_err().contains("is not at ready state"), "{policy}: {answer:?}")
                }
            }
        }
        assert!(ask(&wires, "digits", "9").await.unwrap_err().contains("version 9 is not found"));
        let metadata = wires.http.get("/v2/models/digits").await.json();
        let named: Vec<u64> =
            metadata["versions"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().parse().unwrap()).collect();
        assert_eq!(named, ready);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_is_followed() {
    let repository = TempDir::new();
    versions(&repository, 3);
    let server = Server::start(repository.path(), &POLL);
    assert_eq!(ready_versions(&server), [3]);
    repository.write("digits/model.yaml", "version_policy: {specific: {versions: [1]}}");
    server.answers("digits", 1).await;
    server.reaches("digits", 3, "unloaded").await;
    // A version that was let go goes on to be known, and comes back when it is wanted.
    repository.write("digits/model.yaml", "version_policy: {all: {}}");
    server.answers("digits", 3).await;
    server.reaches("digits", 2, "ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_name_versions_and_are_moved() {
    let repository = TempDir::new();
    repository.write("digits/model.yaml", "labels: {stable: 1, canary: 2}");
    versions(&repository, 3);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    // What a label names is loaded whatever the policy says, and the bare name goes to stable.
    assert_eq!(ready_versions(&server), [1, 2, 3]);
    for (model, version, answer) in
        [("digits", "", 1), ("digits@stable", "", 1), ("digits@canary", "", 2), ("digits", "3", 3)]
    {
        assert_eq!(ask(&wires, model, version).await, Ok(answer), "{model} {version}");
    }
    let unknown = ask(&wires, "digits@stabel", "").await.unwrap_err();
    assert!(unknown.contains("has no label 'stabel', did you mean 'stable'?"), "{unknown}");

    let path = "/admin/v1/models/digits/labels/stable";
    let moved = server.admin_http().put_json(path, &json!({"version": 2})).await;
    assert_eq!((moved.status, &moved.json()["labels"]), (200, &json!({"canary": 2, "stable": 2})));
    // Atomic: once the move is answered, every request goes there.
    assert_eq!(ask(&wires, "digits", "").await, Ok(2));
    assert_eq!(ask(&wires, "digits@stable", "").await, Ok(2));
    server.reaches("digits", 1, "unloaded").await;
    // To a version that isn't loaded: it is loaded first.
    let moved = server.admin_http().put_json(path, &json!({"version": 1})).await;
    assert_eq!((moved.status, ask(&wires, "digits", "").await), (200, Ok(1)));
    let missing = server.admin_http().put_json(path, &json!({"version": 9})).await;
    assert_eq!(missing.status, 404);
    assert!(missing.error().contains("version 9 is not found"), "{}", missing.error());
    assert_eq!(ask(&wires, "digits", "").await, Ok(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_by_tensorflow_servings_path() {
    let repository = TempDir::new();
    repository.write("iris/model.yaml", "version_policy: {all: {}}\nlabels: {stable: 1}");
    repository.add("iris_logreg", "iris", 1);
    repository.add("iris_gnb", "iris", 2);
    let server = Server::start(repository.path(), &POLL);
    let http = Wires::connect(&server).await.http;
    let body = json!({"instances": [[5.1, 3.5, 1.4, 0.2]]});
    let predict = async |path: &str| {
        let answer = http.post_json(path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
        (answer.header("headgate-version").to_owned(), answer.json()["predictions"].clone())
    };
    let stable = predict("/v1/models/iris/labels/stable:predict").await;
    assert_eq!(stable.0, "1");
    assert_eq!(predict("/v1/models/iris/versions/1:predict").await, stable);
    assert_eq!(predict("/v1/models/iris:predict").await, stable, "the bare name goes to stable");
    let second = predict("/v1/models/iris/versions/2:predict").await;
    assert!(second.0 == "2" && second.1 != stable.1);
    let unknown = http.post_json("/v1/models/iris/labels/canary:predict", &body).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.error().contains("canary"), "{}", unknown.error());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_held_until_an_operator_says_so() {
    for settings in ["on_new_version: hold", "labels: {stable: 1}"] {
        let repository = TempDir::new();
        repository.write("digits/model.yaml", settings);
        versions(&repository, 1);
        let server = Server::start(repository.path(), &POLL);
        let wires = Wires::connect(&server).await;
        repository.add("digits_cnn_v2", "digits", 2);
        server.reaches("digits", 2, "ready").await;
        assert_eq!(ask(&wires, "digits", "").await, Ok(1), "{settings}");
        assert_eq!(ask(&wires, "digits", "2").await, Ok(2), "{settings}");
        let path = "/admin/v1/models/digits/labels/stable";
        assert_eq!(server.admin_http().put_json(path, &json!({"version": 2})).await.status, 200);
        assert_eq!(ask(&wires, "digits", "").await, Ok(2), "{settings}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_said_outright_serves_the_newest() {
    let repository = TempDir::new();
    repository.write("digits/model.yaml", "on_new_version: serve\nlabels: {previous: 1}");
    versions(&repository, 1);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    repository.add("digits_cnn_v2", "digits", 2);
    server.answers("digits", 2).await;
    assert_eq!(ask(&wires, "digits", "").await, Ok(2));
    assert_eq!(ask(&wires, "digits@previous", "").await, Ok(1));
}

/// A model whose folder goes is taken out of service; one that comes is taken in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_come_and_go_with_their_folders() {
    let repository = TempDir::new();
    versions(&repository, 1);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    repository.add("digits_cnn_v2", "second", 1);
    server.answers("second", 1).await;
    assert_eq!(ask(&wires, "second", "").await, Ok(1));
    std::fs::rename(repository.path().join("second"), repository.path().join("second.tmp")).unwrap();
    crate::support::eventually("the model is gone", async || match server.model("second") {
        Value::Null => Ok(()),
        still => Err(still.to_string()),
    })
    .await;
    let gone = ask(&wires, "second", "").await.unwrap_err();
    assert!(gone.contains("Request for unknown model: 'second' is not found"), "{gone}");
    assert_eq!(ask(&wires, "digits", "").await, Ok(1));
}

async fn load_over_grpc(wires: &Wires, model: &str) -> Result<(), tonic::Status> {
    let request = RepositoryModelLoadRequest { model_name: model.to_owned(), ..Default::default() };
    wires.grpc.clone().repository_model_load(request).await.map(drop)
}

async fn unload_over_grpc(wires: &Wires, model: &str) -> Result<(), tonic::Status> {
    let request = RepositoryModelUnloadRequest { model_name: model.to_owned(), ..Default::default() };
    wires.grpc.clone().repository_model_unload(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explicit_mode_loads_what_it_is_told_to() {
    let repository = TempDir::new();
    versions(&repository, 1);
    let server = Server::start(repository.path(), &["--model-control-mode", "explicit"]);
    let wires = Wires::connect(&server).await;
    assert!(ask(&wires, "digits", "").await.is_err());
    let (load, unload) = ("/v2/repository/models/digits/load", "/v2/repository/models/digits/unload");
    // Answered means done.
    assert_eq!(wires.http.post(load, "").await.status, 200);
    assert_eq!(ask(&wires, "digits", "").await, Ok(1));
    repository.add("digits_cnn_v2", "digits", 2);
    assert_eq!(ask(&wires, "digits", "").await, Ok(1), "nobody has asked for it");
    load_over_grpc(&wires, "digits").await.unwrap();
    assert_eq!(ask(&wires, "digits", "").await, Ok(2));
    unload_over_grpc(&wires, "digits").await.unwrap();
    assert!(ask(&wires, "digits", "").await.is_err());
    assert_eq!(wires.http.post(load, "{}").await.status, 200);
    assert_eq!(wires.http.post(unload, r#"{"parameters":{"unload_dependents":false}}"#).await.status, 200);
    assert!(ask(&wires, "digits", "").await.is_err());

    let missing = wires.http.post("/v2/repository/models/missing/load", "").await;
    assert_eq!((missing.status, missing.error().starts_with("failed to load 'missing'")), (500, true));
    assert_eq!(load_over_grpc(&wires, "missing").await.unwrap_err().code(), tonic::Code::Internal);
    let unserved = wires.http.post("/v2/repository/models/missing/unload", "{}").await;
    assert_eq!((unserved.status, unserved.error().as_str()), (400, "Model to be unloaded has not been served"));

    // A load that fails leaves what serves.
    assert_eq!(wires.http.post(load, "").await.status, 200);
    repository.write("digits/3/model.onnx", "no model at all");
    let broken = wires.http.post(load, "").await;
    assert_eq!(broken.status, 500);
    assert!(broken.error().contains("failed to load 'digits'") && broken.error().contains('3'), "{}", broken.error());
    assert_eq!(ask(&wires, "digits", "").await, Ok(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_may_not_load_in_the_other_modes() {
    const TEXT: &str = "explicit model load / unload is not allowed if polling is enabled";
    for mode in ["poll", "none"] {
        let repository = TempDir::new();
        versions(&repository, 1);
        let server = Server::start(repository.path(), &["--model-control-mode", mode]);
        let wires = Wires::connect(&server).await;
        assert_eq!(ask(&wires, "digits", "").await, Ok(1), "{mode}");
        for call in ["load", "unload"] {
            let refused = wires.http.post(&format!("/v2/repository/models/digits/{call}"), "").await;
            assert_eq!((refused.status, refused.error().as_str()), (503, TEXT), "{mode} {call}");
        }
        for refused in [load_over_grpc(&wires, "digits").await, unload_over_grpc(&wires, "digits").await] {
            let status = refused.unwrap_err();
            assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, TEXT), "{mode}");
        }
        assert_eq!(ask(&wires, "digits", "").await, Ok(1), "{mode}");
        if mode == "none" {
            // Nothing is followed: an operator's load is the only way for a new version to be seen.
            repository.add("digits_cnn_v2", "digits", 2);
            assert_eq!(ask(&wires, "digits", "").await, Ok(1));
            assert_eq!(server.admin_http().post("/admin/v1/models/digits/load", "").await.status, 200);
            assert_eq!(ask(&wires, "digits", "").await, Ok(2));
        }
    }
}
