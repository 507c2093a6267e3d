//! The files of a repository: settings with faults in them, files that change, links, and paths that lead elsewhere.

use std::fs;
use std::os::unix::fs::symlink;

use headgate::proto::inference::ModelMetadataRequest;
use serde_json::{Value, json};

use crate::support::client::{self, Http};
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::{Manifest, TempDir, model_files};
use crate::support::server::Server;
use crate::support::{eventually, zoo};

const POLL: [&str; 2] = ["--poll-interval", "10ms"];

async fn answers(server: &Server, model: &str) -> u64 {
    let wires = Wires::connect(server).await;
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    wires.infer(Encoding::Raw, &Call { model, version: "", inputs: &inputs }).await.unwrap().version
}

async fn fault_of(server: &Server, model: &str, word: &str) -> String {
    eventually(&format!("{model} has a fault with '{word}'"), async || {
        let view = server.model(model);
        let fault = view["fault"].as_str().unwrap_or_default();
        if fault.contains(word) { Ok(fault.to_owned()) } else { Err(view.to_string()) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    let server = Server::start(repository.path(), &POLL);
    repository.write("digits/model.yaml", "max_batchsize: 4");
    let fault = fault_of(&server, "digits", "max_batchsize").await;
    assert!(fault.contains("unknown key 'max_batchsize', did you mean 'max_batch_size'?"), "{fault}");
    server.logs(&["digits", "max_batchsize", "did you mean"]).await;
    assert_eq!(answers(&server, "digits").await, 1, "the last good settings stay");
    repository.write("digits/model.yaml", "max_batch_size: 4");
    eventually("the fault is mended", async || match server.model("digits") {
        view if view["fault"] == "" && view["versions"][0]["loaded"]["max_batch_size"] == 4 => Ok(()),
        view => Err(view.to_string()),
    })
    .await;
    let inputs = zoo::inputs("digits_cnn_v1", "b8");
    let wires = Wires::connect(&server).await;
    let refusal =
        wires.infer(Encoding::Raw, &Call { model: "digits", version: "", inputs: &inputs }).await.unwrap_err();
    assert!(refusal.to_string().contains("inference request batch-size must be <= 4 for 'digits'"), "{refusal}");
}

/// From the start, too: a model whose settings can't be read is not served by guesswork.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_with_faulty_settings_is_not_loaded_at_start() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    repository.add("digits_cnn_v1", "other", 1);
    repository.write("digits/model.yaml", "version_polcy: {all: {}}");
    let server = Server::start(repository.path(), &POLL);
    assert_eq!(answers(&server, "other").await, 1);
    fault_of(&server, "digits", "did you mean 'version_policy'?").await;
    let model = server.model("digits");
    assert!(model["default_version"].is_null());
    let reason = model["versions"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("nothing is loaded until the model's settings can be read"), "{reason}");
    let wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let refusal =
        wires.infer(Encoding::Json, &Call { model: "digits", version: "", inputs: &inputs }).await.unwrap_err();
    assert!(refusal.to_string().contains("version_polcy"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_pbtxt_is_honoured_or_reported_by_name() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    repository.add("digits_cnn_v2", "digits", 2);
    repository.write("digits/labels.txt", "zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n");
    repository.write(
        "digits/config.pbtxt",
        r#"name: "digits" platform: "onnxruntime_onnx" max_batch_size: 8
           version_policy { all { } }
           output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" } ]
           optimization { priority: PRIORITY_MAX }
           model_warmup [ { name: "w" batch_size: 1 } ]"#,
    );
    let server = Server::start(repository.path(), &POLL);
    for field in ["optimization", "model_warmup"] {
        server.logs(&["digits", field, "not acted on"]).await;
    }
    let wires = Wires::connect(&server).await;
    let config = wires.http.get("/v2/models/digits/config").await.json();
    assert_eq!((&config["max_batch_size"], &config["input"][0]["dims"]), (&8.into(), &serde_json::json!([1, 8, 8])));
    server.reaches("digits", 1, "ready").await;
    let body = r#"{"inputs":[{"name":"image","shape":[1,1,8,8],"datatype":"FP32","data":DATA}],
        "outputs":[{"name":"probabilities","parameters":{"classification":1}}]}"#;
    let data = serde_json::json!(zoo::inputs("digits_cnn_v1", "b1")[0].1.elements::<f32>().collect::<Vec<_>>());
    let answer = wires.http.post("/v2/models/digits/infer", body.replace("DATA", &data.to_string())).await.json();
    let class = answer["outputs"][0]["data"][0].as_str().unwrap().to_owned();
    let [value, index, name]: [&str; 3] = class.split(':').collect::<Vec<_>>().try_into().unwrap();
    let names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    assert_eq!((value.len(), names[index.parse::<usize>().unwrap()]), (8, name), "{class}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_change_under_a_loaded_version_are_an_alarm() {
    let repository = TempDir::new();
    repository.add("digits_cnn_v1", "digits", 1);
    let server = Server::start(repository.path(), &POLL);
    let wires = Wires::connect(&server).await;
    let inputs = zoo::inputs("digits_cnn_v1", "b1");
    let call = Call { model: "digits", version: "", inputs: &inputs };
    let before = wires.infer(Encoding::Raw, &call).await.unwrap();
    fs::write(repository.version("digits", 1).join("model.onnx"), &model_files("digits_cnn_v2")[0].1).unwrap();
    let reason = eventually("the index says so", async || {
        let (state, reason) = server.state("digits", 1);
        if state == "ready" && reason.contains("model.onnx") { Ok(reason) } else { Err(format!("{state}: {reason}")) }
    })
    .await;
    assert!(reason.contains("changed after it was loaded"), "{reason}");
    server.logs(&["digits", "model.onnx", "changed"]).await;
    assert_eq!(wires.infer(Encoding::Raw, &call).await.unwrap(), before, "what was loaded goes on serving");
    // Nor does it stop when its folder goes.
    repository.remove_version("digits", 1);
    eventually("the index says so", async || match server.state("digits", 1) {
        (state, reason) if state == "ready" && reason.contains("folder is gone") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(wires.infer(Encoding::Raw, &call).await.unwrap(), before);
}

/// Kubernetes mounts a volume as links through `..data`, and swaps that one link for an update.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_inside_the_root_work_as_kubernetes_makes_them() {
    let repository = TempDir::new();
    let file = |generation: &str, version: u64| format!("..{generation}/digits/{version}/model.onnx");
    repository.write(&file("2024_a", 1), &model_files("digits_cnn_v1")[0].1);
    symlink("..2024_a", repository.path().join("..data")).unwrap();
    symlink("..data/digits", repository.path().join("digits")).unwrap();
    let server = Server::start(repository.path(), &POLL);
    assert_eq!(answers(&server, "digits").await, 1);
    // The next generation, published by one rename of the link.
    repository.write(&file("2024_b", 1), &model_files("digits_cnn_v1")[0].1);
    repository.write(&file("2024_b", 2), &model_files("digits_cnn_v2")[0].1);
    symlink("..2024_b", repository.path().join("..data_tmp")).unwrap();
    fs::rename(repository.path().join("..data_tmp"), repository.path().join("..data")).unwrap();
    server.answers("digits", 2).await;
    fs::remove_dir_all(repository.path().join("..2024_a")).unwrap();
    assert_eq!(answers(&server, "digits").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_out_of_the_root_are_refused() {
    let (repository, outside) = (TempDir::new(), TempDir::new());
    outside.add("digits_cnn_v1", "secret", 1);
    repository.add("digits_cnn_v1", "digits", 1);
    // A whole model, a version, a file, and a settings file.
    symlink(outside.path().join("secret"), repository.path().join("linked")).unwrap();
    symlink(outside.path().join("secret/1"), repository.version("digits", 2)).unwrap();
    fs::create_dir_all(repository.version("digits", 3)).unwrap();
    symlink(outside.path().join("secret/1/model.onnx"), repository.version("digits", 3).join("model.onnx")).unwrap();
    let server = Server::start(repository.path(), &POLL);
    let reason = server.reaches("digits", 3, "failed").await;
    assert!(reason.contains("'model.onnx' is a symbolic link that leads out of the model repository"), "{reason}");
    assert!(fault_of(&server, "digits", "'2'").await.contains("symbolic link"));
    assert_eq!(answers(&server, "digits").await, 1);
    assert!(server.model("linked").is_null());
    server.logs(&["linked", "symbolic link"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn external_data_stays_in_the_versions_folder() {
    let repository = TempDir::new();
    repository.add("digits_cnn_extdata", "digits", 1);
    let server = Server::start(repository.path(), &POLL);
    assert_eq!(answers(&server, "digits").await, 1);
    // The same model with its weights in the repository's root, named by a path of the same length.
    let [(name, mut model), (_, weights)]: [_; 2] = model_files("digits_cnn_extdata").try_into().unwrap();
    let (inside, outside) = (b"model.onnx.data", b"../../model.dat");
    let mut moved = 0;
    for at in 0..model.len() - inside.len() {
        if &model[at..at + inside.len()] == inside {
            model[at..at + inside.len()].copy_from_slice(outside);
            moved += 1;
        }
    }
    assert!(moved > 0);
    repository.write("model.dat", weights);
    repository.add_files("digits", 2, &[(name, model)], Manifest::None);
    let reason = server.reaches("digits", 2, "failed").await;
    assert!(reason.contains("external data") || reason.contains("outside"), "{reason}");
    assert!(!reason.contains(repository.path().to_str().unwrap()), "a path: {reason}");
    assert_eq!(answers(&server, "digits").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_classes_that_a_model_names_are_told_unless_the_settings_name_others() {
    let repository = TempDir::new();
    repository.add("iris_logreg_zipmap", "plain", 1);
    repository.add("iris_logreg_zipmap", "named", 1);
    repository.write("named/model.yaml", "class_labels: {output_probability: [setosa, versicolor, virginica]}");
    let server = Server::start(repository.path(), &[]);
    let (http, mut grpc) = (Http::new(server.http), client::grpc(server.grpc).await);
    for (model, expected) in
        [("plain", json!(["0", "1", "2"])), ("named", json!(["setosa", "versicolor", "virginica"]))]
    {
        let told = http.get(&format!("/v2/models/{model}")).await.json();
        assert_eq!(told["outputs"][1]["parameters"]["class_labels"], expected, "{told}");
        assert!(told["outputs"][0].get("parameters").is_none(), "{told}");
        let request = ModelMetadataRequest { name: model.into(), version: String::new() };
        let metadata = grpc.model_metadata(request).await.unwrap().into_inner();
        let text = &metadata.properties["class_labels.output_probability"];
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected);
        assert_eq!((&told["parameters"]["engine"], metadata.properties["engine"].as_str()), (&json!("tract"), "tract"));
    }
    let scores = json!([{ "name": "output_probability", "parameters": { "classification": 1 } }]);
    let inputs = json!([{ "name": "X", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2] }]);
    let answer = http.post_json("/v2/models/plain/infer", &json!({ "inputs": inputs, "outputs": scores })).await.json();
    let top = answer["outputs"][0]["data"][0].as_str().unwrap_or_default();
    assert!(top.ends_with(":0:0"), "{answer}");
}
