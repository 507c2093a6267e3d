//! Both engines: with the library of ONNX Runtime every model of the zoo is served, on the engine that can run it, and
//! answers as recorded.

use std::path::{Path, PathBuf};
use std::process::Command;

use headgate::npz::Example;
use serde_json::Value;

use crate::support::client::Http;
use crate::support::eventually;
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::python::python;
use crate::support::repository::{self, TempDir};
use crate::support::server::Server;
use crate::support::zoo;

/// The folder of the library in an environment of Python, as a user would have it; `None` where such tests are left out.
fn library() -> Option<PathBuf> {
    let python = python("engines", "both engines")?;
    let lib = python.parent()?.parent()?.join("lib");
    let entries = std::fs::read_dir(lib).unwrap().flatten();
    let package = entries.map(|entry| entry.path().join("site-packages/onnxruntime/capi")).find(|path| path.is_dir());
    Some(package.expect("the package is installed"))
}

fn loaded(server: &Server, model: &str) -> Value {
    server.model(model)["versions"][0]["loaded"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_model_is_served_and_answers_as_recorded() {
    let Some(library) = library() else { return };
    let repository = TempDir::new();
    let names = zoo::names();
    for name in &names {
        repository.add(name, name, 1);
    }
    let server = Server::start(repository.path(), &["--onnxruntime-library", library.to_str().unwrap()]);
    let wires = Wires::connect(&server).await;
    let mut faults = vec![];
    for name in &names {
        let (state, reason) = server.state(name, 1);
        if state != "ready" {
            faults.push(format!("{name}: {state}: {reason}"));
            continue;
        }
        for tag in zoo::tags(name) {
            let Example { inputs, outputs } = zoo::case(name, &tag);
            let inputs: Vec<_> = inputs.into_iter().collect();
            let encoding = Encoding::Raw;
            if !encoding.takes(&inputs) {
                continue;
            }
            match wires.infer(encoding, &Call { model: name, version: "", inputs: &inputs }).await {
                Err(refusal) => faults.push(format!("{name} {tag}: {refusal}")),
                Ok(reply) => faults.extend(outputs.iter().filter_map(|(output, expected)| {
                    let got = reply.outputs.get(output);
                    let difference = got.map_or(Some("no such output".to_owned()), |got| {
                        zoo::difference(got, expected, zoo::tolerance(name))
                    });
                    difference.map(|difference| format!("{name} {tag}, output {output}: {difference}"))
                })),
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn the_choice_is_shown_with_both_times_and_outlives_the_process() {
    let Some(library) = library() else { return };
    let (repository, data) = (TempDir::new(), TempDir::new());
    repository.add("digits_cnn_v2", "digits", 1);
    let flags = ["--onnxruntime-library", library.to_str().unwrap(), "--data-dir", data.path().to_str().unwrap()];
    let choice = |server: &Server| {
        let notes = loaded(server, "digits")["notes"].as_array().cloned().unwrap_or_default();
        notes.iter().filter_map(Value::as_str).find(|note| note.contains("tract/onnxruntime: 1: ")).map(str::to_owned)
    };
    let unknown = || "no times in its notes".to_owned();
    let measured = {
        let server = Server::start(repository.path(), &flags);
        let measured = eventually("the engines are measured", async || choice(&server).ok_or_else(unknown)).await;
        // They are kept once batch sizes are measured on the engine that was chosen.
        let is_kept = || {
            let mut files = std::fs::read_dir(data.path().join("engine-cache")).unwrap().flatten();
            files.any(|file| file.file_name().to_string_lossy().ends_with(".json"))
        };
        eventually("the times are kept", async || is_kept().then_some(()).ok_or_else(|| "no file".to_owned())).await;
        measured
    };
    let again = Server::start(repository.path(), &flags);
    let kept = eventually("the kept times are taken", async || choice(&again).ok_or_else(unknown)).await;
    assert_eq!(kept, measured, "a restart does not measure again");
    let metadata = Http::new(again.http).get("/v2/models/digits").await.json();
    assert_eq!(format!("runs on {}", metadata["parameters"]["engine"].as_str().unwrap()), kept);
}

#[test]
fn a_pinned_model_stays_where_it_is_pinned_to() {
    let Some(library) = library() else { return };
    let repository = TempDir::new();
    for engine in ["tract", "onnxruntime"] {
        repository.add("iris_logreg", engine, 1);
        std::fs::write(repository.path().join(engine).join("model.yaml"), format!("engine: {engine}\n")).unwrap();
    }
    let server = Server::start(repository.path(), &["--onnxruntime-library", library.to_str().unwrap()]);
    for engine in ["tract", "onnxruntime"] {
        assert_eq!(loaded(&server, engine)["engine"], engine);
    }
    drop(server);
    let without = Server::start(repository.path(), &["--onnxruntime-library", "none"]);
    assert_eq!(without.state("tract", 1).0, "ready");
    let (state, reason) = without.state("onnxruntime", 1);
    assert!(state == "failed" && reason.contains("engine: onnxruntime"), "{state}: {reason}");
}

#[test]
fn inspect_tells_what_each_engine_says() {
    let Some(library) = library() else { return };
    let inspect = |model: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_headgate"))
            .args(["inspect", "--json", "--seconds", "0", "--onnxruntime-library"])
            .arg(&library)
            .arg(repository::zoo().join(model).join("model.onnx"))
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let runs = |report: &Value| -> Vec<(String, bool)> {
        let engines = report["engines"].as_array().unwrap().iter();
        engines.map(|engine| (engine["engine"].as_str().unwrap().to_owned(), engine["runs"] == true)).collect()
    };
    let report = inspect("digits_cnn_v2");
    assert_eq!(runs(&report), [("tract".to_owned(), true), ("onnxruntime".to_owned(), true)]);
    assert!(report["notes"].to_string().contains("tract/onnxruntime: 1: "), "{report:#}");
}

#[test]
fn a_library_that_is_not_there_or_is_none_is_told_and_tract_serves() {
    let (repository, folder) = (TempDir::new(), TempDir::new());
    repository.add("iris_logreg", "iris", 1);
    let text = folder.path().join("libonnxruntime.so");
    std::fs::write(&text, b"no library").unwrap();
    for (library, cause) in [(Path::new("/no/such/libonnxruntime.so"), "is not there"), (&text, "can't be used")] {
        let library = library.to_str().unwrap();
        let server = Server::start(repository.path(), &["--onnxruntime-library", library]);
        assert_eq!(loaded(&server, "iris")["engine"], "tract");
        let log = server.log();
        let told: Vec<&str> = log.lines().filter(|line| line.contains(library)).collect();
        assert!(told.len() == 1 && told[0].contains(cause), "one line says why:\n{log}");
    }
}
