//! ONNX's own tests of single operators, through the engine as the server uses it: which share of them the built-in
//! engine passes, by domain, is what docs/engines.md says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use headgate::engine::Engine;
use headgate::engine::closeness::is_close;
use headgate::engine::panics::quiet_caught_panics;
use headgate::engine::tract::TractEngine;
use headgate::npz::{Example, read_example};
use serde_json::Value;

use crate::support::python::python;
use crate::support::repository::TempDir;

/// How far a float may be from what the test expects, relative to the tensor's largest magnitude; ONNX's own tests allow
/// as much of each element.
const TOLERANCE: f64 = 1e-3;
/// Least share of the tests that ONNX Runtime passes, by domain.
const LEAST: [(&str, f64); 2] = [("ai.onnx", 0.99), ("ai.onnx.ml", 1.0)];

#[derive(Default)]
struct Count {
    tests: usize,
    onnxruntime: usize,
    tract: usize,
    both: usize,
}

#[test]
fn the_share_of_onnx_node_tests_is_what_the_manual_says() {
    let Some(python) = python("nodes", "ONNX's node tests") else { return };
    let folder = TempDir::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nodes/make.py");
    let made = Command::new(python).arg(script).arg(folder.path()).status().unwrap();
    assert!(made.success(), "the tests could not be made");
    quiet_caught_panics();
    let (mut counts, mut wrong) = (BTreeMap::<String, Count>::new(), vec![]);
    for line in fs::read_to_string(folder.path().join("tests.jsonl")).unwrap().lines() {
        let test: Value = serde_json::from_str(line).unwrap();
        let name = test["name"].as_str().unwrap();
        let count = counts.entry(test["domain"].as_str().unwrap().to_owned()).or_default();
        let agrees = test["onnxruntime"] == "agrees";
        let result = run(&folder.path().join(name));
        count.tests += 1;
        count.onnxruntime += usize::from(agrees);
        count.tract += usize::from(result == Outcome::Agrees);
        count.both += usize::from(agrees && result == Outcome::Agrees);
        match result {
            Outcome::Differs(difference) if agrees => wrong.push(format!("{name}: {difference}")),
            Outcome::Refused(cause) if agrees => println!("refused: {name}: {cause}"),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "wrong answers, which a refusal would be better than:\n{}", wrong.join("\n"));
    for (domain, least) in LEAST {
        let count = &counts[domain];
        let share = count.both as f64 / count.onnxruntime as f64;
        assert!(share >= least, "{domain}: {share:.3} of the tests that ONNX Runtime passes, expected {least}");
    }
    let table = table(&counts);
    println!("{table}");
    let manual = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/engines.md")).unwrap();
    assert!(manual.contains(&table), "docs/engines.md has another table than this:\n{table}");
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Agrees,
    Differs(String),
    Refused(String),
}

fn run(folder: &Path) -> Outcome {
    let model = match TractEngine::new().load(&folder.join("model.onnx")) {
        Ok(model) => model,
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let Example { inputs, outputs } = read_example(&folder.join("example.npz")).unwrap();
    let signature = model.signature().clone();
    let inputs: Option<Vec<_>> = signature.inputs.iter().map(|spec| inputs.get(&spec.name).cloned()).collect();
    let Some(inputs) = inputs else { return Outcome::Refused("an input that may be left out".into()) };
    let got = match model.session().run(&inputs, &|| false) {
        Ok(got) => got.tensors,
        Err(error) => return Outcome::Refused(format!("when run: {error}")),
    };
    for (spec, got) in signature.outputs.iter().zip(&got) {
        match outputs.get(&spec.name) {
            Some(expected) if is_close(got, expected, TOLERANCE) => {}
            expected => return Outcome::Differs(format!("{}: {got:?} instead of {expected:?}", spec.name)),
        }
    }
    Outcome::Agrees
}

fn table(counts: &BTreeMap<String, Count>) -> String {
    let mut table = String::from(
        "| Domain | Tests | ONNX Runtime passes | Built-in engine passes | of those that ONNX Runtime passes |\n|---|---|---|---|---|\n",
    );
    for (domain, Count { tests, onnxruntime, tract, both }) in counts {
        let share = if *onnxruntime == 0 {
            "–".to_owned()
        } else {
            format!("{:.1} %", 100.0 * *both as f64 / *onnxruntime as f64)
        };
        table += &format!("| {domain} | {tests} | {onnxruntime} | {tract} | {both} ({share}) |\n");
    }
    table
}
