//! The commands as processes against a server as a process.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::server::{Server, models};

fn headgate(server: &Server, args: &[&str]) -> Output {
    let address = match args[0] {
        "predict" => format!("--url=http://{}", server.http),
        _ => format!("--admin=http://{}", server.admin),
    };
    Command::new(env!("CARGO_BIN_EXE_headgate")).args(args).arg(address).output().unwrap()
}

fn json_of(server: &Server, args: &[&str]) -> Value {
    let output = headgate(server, &[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_operator_lists_predicts_labels_unloads_and_loads() {
    let server = Server::start(&models(), &[]);
    let list = json_of(&server, &["models"]);
    let digits = list["models"].as_array().unwrap().iter().find(|model| model["name"] == "digits").unwrap();
    assert_eq!((&digits["default_version"], &digits["versions"][0]["state"]), (&json!(2), &json!("ready")));

    let rows = "X=[[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 5.6, 2.4]]";
    let prediction = json_of(&server, &["predict", "iris", "--input", rows, "--output", "label"]);
    assert_eq!(prediction["outputs"], json!([{"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 2]}]));

    assert_eq!(json_of(&server, &["label", "digits", "stable", "1"])["default_version"], 1);
    assert_eq!(headgate(&server, &["label", "digits", "stable", "7"]).status.code(), Some(3));
    assert_eq!(json_of(&server, &["label", "digits", "stable", "--remove"])["default_version"], 2);

    assert_eq!(json_of(&server, &["unload", "iris"])["default_version"], Value::Null);
    let refused = headgate(&server, &["predict", "iris", "--input", rows]);
    assert_eq!(refused.status.code(), Some(1), "{}", String::from_utf8_lossy(&refused.stderr));
    assert_eq!(json_of(&server, &["load", "iris"])["default_version"], 1);
    assert_eq!(headgate(&server, &["load", "iirs"]).status.code(), Some(3));
}
