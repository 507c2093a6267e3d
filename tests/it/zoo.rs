//! Outputs are right: every model of the zoo, on the built-in engine alone and through every encoding, against what was
//! recorded for it. A model that no engine can run is not served, and says why.

use headgate::npz::Example;

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::onnx::image_decoder;
use crate::support::repository::{Manifest, TempDir};
use crate::support::server::Server;
use crate::support::zoo;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_model_answers_as_recorded() {
    let repository = TempDir::new();
    let names = zoo::names();
    for name in &names {
        repository.add(name, name, 1);
    }
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;

    let (mut answers, mut faults) = (0, vec![]);
    for name in &names {
        let (state, reason) = server.state(name, 1);
        if state != "ready" {
            faults.push(format!("{name}: {state}: {reason}"));
            continue;
        }
        for tag in zoo::tags(name) {
            answers += compare(&wires, name, &tag, &mut faults).await;
        }
    }
    println!("zoo: {answers} answers of {} models compared", names.len());
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    // Some of these models make the engine panic; not even that may break the log's form.
    for line in server.log().lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "not a line of the log: {line}");
    }
}

/// Runs one recorded case over every encoding that has a form for it, and says how many that are.
async fn compare(wires: &Wires, model: &str, tag: &str, faults: &mut Vec<String>) -> usize {
    let Example { inputs, outputs } = zoo::case(model, tag);
    let inputs: Vec<_> = inputs.into_iter().collect();
    let tolerance = zoo::tolerance(model);
    let mut compared = 0;
    for encoding in Encoding::ALL.into_iter().filter(|encoding| encoding.takes(&inputs)) {
        compared += 1;
        let reply = match wires.infer(encoding, &Call { model, version: "", inputs: &inputs }).await {
            Ok(reply) => reply,
            Err(refusal) => {
                faults.push(format!("{model} {tag} {encoding:?}: {refusal}"));
                continue;
            }
        };
        for (name, expected) in &outputs {
            let difference = match reply.outputs.get(name) {
                None => Some("no such output".to_owned()),
                Some(got) => zoo::difference(got, expected, tolerance),
            };
            if let Some(difference) = difference {
                faults.push(format!("{model} {tag} {encoding:?}, output {name}: {difference}"));
            }
        }
    }
    compared
}

/// Not served means not served: by no protocol, with the reason in both indexes, and with the server ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_not_served_is_told_to_clients() {
    let repository = TempDir::new();
    let (refused, word) = ("images", "ai.onnx.ImageDecoder");
    repository.add_files(refused, 1, &[("model.onnx".to_owned(), image_decoder())], Manifest::None);
    repository.add("iris_logreg", "iris", 1);
    let server = Server::start(repository.path(), &[]);
    let wires = Wires::connect(&server).await;

    let index = wires.http.post("/v2/repository/index", "").await.json();
    let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == refused).unwrap();
    assert_eq!((&entry["state"], &entry["version"]), (&"UNAVAILABLE".into(), &"1".into()));
    assert!(entry["reason"].as_str().unwrap().contains(word), "{entry}");
    let request = headgate::proto::inference::RepositoryIndexRequest::default();
    let models = wires.grpc.clone().repository_index(request).await.unwrap().into_inner().models;
    let entry = models.iter().find(|entry| entry.name == refused).unwrap();
    assert_eq!((entry.state.as_str(), entry.version.as_str()), ("UNAVAILABLE", "1"));
    assert!(entry.reason.contains(word), "{entry:?}");

    let inputs = zoo::inputs("iris_logreg", "b1");
    for encoding in [Encoding::Binary, Encoding::Raw] {
        let refusal = wires.infer(encoding, &Call { model: refused, version: "", inputs: &inputs }).await.unwrap_err();
        assert!(refusal.to_string().contains("has no available versions"), "{refusal}");
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
    assert!(wires.infer(Encoding::Json, &Call { model: "iris", version: "", inputs: &inputs }).await.is_ok());
}
