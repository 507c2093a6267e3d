//! Real clients work: unmodified tritonclient and KServe clients, from a virtual environment of their own under target/.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::python::python;
use crate::support::server::{Server, models};

#[test]
fn real_clients_work() {
    run("label of the server", &["--label", "stable=1"], &[]);
}

#[test]
fn real_clients_load_and_unload() {
    run("explicit mode", &["--explicit"], &["--model-control-mode", "explicit"]);
}

fn run(what: &str, arguments: &[&str], flags: &[&str]) {
    let Some(python) = python("interop", &format!("real clients, {what}")) else { return };
    let server = Server::start(&models(), flags);
    if arguments.contains(&"--label") {
        label_stable(&server);
    }
    let output = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/run.py"))
        .args(["--http", &server.http.to_string(), "--grpc", &server.grpc.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn label_stable(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let path = "/admin/v1/models/digits/labels/stable";
    let moved = runtime.block_on(server.admin_http().put_json(path, &serde_json::json!({"version": 1})));
    assert_eq!(moved.status, 200, "{:?}", moved.body);
}
