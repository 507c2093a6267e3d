//! Outputs are right: every model of the zoo, through every encoding, against what was recorded for it. A model that
//! the engine can't run, or is known to compute wrongly, is not served, and says why.

use headgate::npz::Example;

use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::zoo;

/// The models that are not served, and what the reason must hold: the operators that are missing, the pattern that is
/// computed wrongly, or what else the engine can't take.
const NOT_SERVED: [(&str, &[&str]); 0] = [
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_model_answers_as_recorded_or_says_why_not() {
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
        match NOT_SERVED.iter().find(|(refused, _)| refused == name) {
            Some((_, words)) if state == "failed" && words.iter().all(|word| reason.contains(word)) => {}
            Some((_, words)) => faults.push(format!("{name}: expected failed for {words:?}, it is {state}: {reason}")),
            None if state != "ready" => faults.push(format!("{name}: {state}: {reason}")),
            None => {
                for tag in zoo::tags(name) {
                    answers += compare(&wires, name, &tag, &mut faults).await;
                }
            }
        }
    }
    println!(
        "zoo: {answers} answers of {} models compared, {} models refused by name",
        names.len() - NOT_SERVED.len(),
        NOT_SERVED.len()
    );
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
    let (refused, word) = ("bf16_cast", "BFLOAT16");
    repository.add(refused, refused, 1);
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

    let inputs = zoo::inputs(refused, &zoo::tags(refused)[0]);
    for encoding in [Encoding::Binary, Encoding::Raw] {
        let refusal = wires.infer(encoding, &Call { model: refused, version: "", inputs: &inputs }).await.unwrap_err();
        assert!(refusal.to_string().contains("has no available versions"), "{refusal}");
        assert!(refusal.to_string().contains(word), "{refusal}");
    }
    let inputs = zoo::inputs("iris_logreg", "b1");
    assert!(wires.infer(Encoding::Json, &Call { model: "iris", version: "", inputs: &inputs }).await.is_ok());
}
