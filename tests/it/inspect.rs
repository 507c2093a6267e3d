//! `headgate inspect` as a process: what it says of real files, and how it behaves as the child that tries unknown ones.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use headgate::registry::probe_report::{CHILD_ENVIRONMENT, ProbeReport, RefusalKind};
use serde_json::{Value, json};

use crate::support::onnx::image_decoder;
use crate::support::repository::{self, TempDir};

fn zoo(model: &str) -> PathBuf {
    repository::zoo().join(model).join("model.onnx")
}

/// A model of an operator that no engine has.
fn lacking() -> (TempDir, PathBuf) {
    let folder = TempDir::new();
    folder.write("model.onnx", image_decoder());
    let file = folder.path().join("model.onnx");
    (folder, file)
}

fn inspect(args: &[&str], file: &Path) -> Output {
    let (name, value) = CHILD_ENVIRONMENT;
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command
        .env_clear()
        .env(name, value)
        .args(["inspect", "--onnxruntime-library", "none"])
        .args(args)
        .arg("--")
        .arg(file)
        .output()
        .unwrap()
}

fn probe(args: &[&str], file: &Path) -> Result<ProbeReport, Output> {
    let output = inspect(&[&["--probe", "--json"], args].concat(), file);
    match serde_json::from_slice(&output.stdout) {
        Ok(report) if output.status.success() => Ok(report),
        _ => Err(output),
    }
}

#[test]
fn a_files_signature_operators_and_latency() {
    let output = inspect(&["--json", "--seconds", "0.01", "--batch-sizes", "1,4"], &zoo("iris_logreg"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["inputs"], json!([{"name": "X", "datatype": "FP32", "shape": ["N", 4]}]));
    assert_eq!(report["engines"][0]["runs"], true);
    assert_eq!(report["batching"]["input_axes"], json!([0]));
    assert!(report["opsets"]["ai.onnx.ml"].as_i64().unwrap() >= 1);
    let operators = report["operators"].as_array().unwrap();
    assert!(operators.iter().any(|operator| operator["name"] == "LinearClassifier"), "{report:#}");
    for (latency, rows) in report["latency"].as_array().unwrap().iter().zip([1, 4]) {
        assert_eq!(latency["rows"], rows);
        assert!(latency["median_us"].as_f64().unwrap() > 0.0 && latency["runs"].as_u64().unwrap() >= 3);
    }

    let text = String::from_utf8(inspect(&["--seconds", "0"], &zoo("iris_logreg")).stdout).unwrap();
    for expected in ["tract can run it", "proven", "INPUT", "X ", "[N,4]", "ai.onnx.ml.LinearClassifier", "MEDIAN"] {
        assert!(text.contains(expected), "{expected} is missing in\n{text}");
    }
}

#[test]
fn a_file_that_cannot_be_served_is_described_and_exits_with_1() {
    let (_folder, file) = lacking();
    let output = inspect(&[], &file);
    assert_eq!(output.status.code(), Some(1));
    let (text, error) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(text.contains("tract can't run it: ") && text.contains("OPERATOR"), "{text}");
    assert!(error.starts_with("headgate: "), "{error}");
}

#[test]
fn a_probe_says_whether_and_why_not() {
    assert_eq!(probe(&[], &zoo("iris_logreg")), Ok(ProbeReport::Loaded));
    let limits = ["--memory-limit-bytes", "8589934592", "--cpu-limit-seconds", "60"];
    assert_eq!(probe(&limits, &zoo("digits_cnn_v1")), Ok(ProbeReport::Loaded));
    let (_folder, file) = lacking();
    for (file, expected) in [
        (file, RefusalKind::MissingOperators),
        (zoo("no-such-model"), RefusalKind::Unreadable),
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"), RefusalKind::Invalid),
    ] {
        match probe(&limits, &file) {
            Ok(ProbeReport::Refused { kind, error }) => assert_eq!(kind, expected, "{error}"),
            other => panic!("{}: {other:?}", file.display()),
        }
    }
}

#[test]
fn limits_bite() {
    // Where memory ends, the child ends, or reports that the engine could not go on.
    match probe(&["--memory-limit-bytes", "40000000"], &zoo("mobilenet_v3_small")) {
        Ok(ProbeReport::Refused { .. }) => {}
        Ok(ProbeReport::Loaded) => panic!("the model needs more memory than that"),
        Err(crashed) => assert!(!crashed.status.success() && crashed.stdout.is_empty(), "{crashed:?}"),
    }
    // The kernel looks at the clock at its next tick, long before this model is loaded.
    let killed = probe(&["--cpu-limit-seconds", "0"], &zoo("mobilenet_v3_small")).unwrap_err();
    assert!(!killed.status.success() && killed.stdout.is_empty(), "{killed:?}");
}
