//! Commands from their arguments to their output and exit status, against servers on real sockets.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::*;
use crate::admin::LogAdmin;
use crate::audit::{AuditLog, Entry};
use crate::error::Error;
use crate::registry::manager::{Command as Asked, ManagerHandle};
use crate::servable::{State, VersionStatus};
use crate::telemetry::recorder;
use crate::tensor::{DataType, Tensor};
use crate::testing::{self, FunctionModel};

/// (exit status, standard output, error text).
pub type Outcome = (u8, String, String);

pub fn headgate(args: &[&str]) -> Outcome {
    let mut out = vec![];
    let outcome = run([&["headgate"], args].concat().into_iter().map(OsString::from), &mut out);
    let (status, text) = match outcome {
        Ok(()) => (0, String::new()),
        Err(failure) => (failure.exit_status(), failure.to_string()),
    };
    (status, String::from_utf8(out).unwrap(), text)
}

/// Serves until the test process ends.
pub fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await })
    });
    address
}

/// An admin listener over `iris` (1 and 2 ready, 3 failed) and `broken`, whose manager answers every command with
/// `outcome` and writes down what was asked.
fn admin(outcome: Result<(), Error>) -> (String, Arc<Mutex<Vec<String>>>) {
    let model = || FunctionModel::identity(&[("x", DataType::Fp32, 4)]);
    let plane = testing::data_plane(&[("iris", 1, model()), ("iris", 2, model())]);
    let mut iris = (*plane.serving.load().models["iris"]).clone();
    iris.labels = [("stable".to_owned(), 1), ("next".to_owned(), 2)].into();
    let reason = "sha256 of model.onnx\ndiffers".to_owned();
    iris.statuses.insert(3, VersionStatus { state: State::Failed, reason, quarantined: true });
    let broken = crate::routing::ModelEntry { fault: "model.yaml: no".to_owned(), ..Default::default() };
    plane.publish(crate::routing::Serving {
        models: [("iris".to_owned(), iris.into()), ("broken".to_owned(), broken.into())].into(),
        ..Default::default()
    });
    let (manager, mut commands) = ManagerHandle::channel();
    let asked = Arc::new(Mutex::new(vec![]));
    let noted = asked.clone();
    std::thread::spawn(move || {
        while let Some(command) = commands.blocking_recv() {
            noted.lock().unwrap().push(format!("{command:?}").split(", reply").next().unwrap().to_owned());
            let (Asked::Load { reply, .. }
            | Asked::Unload { reply, .. }
            | Asked::SetLabel { reply, .. }
            | Asked::SetSplit { reply, .. }
            | Asked::ClearSplit { reply, .. }
            | Asked::Quarantine { reply, .. }
            | Asked::Warm { reply, .. }
            | Asked::ClearQuarantine { reply, .. }) = command;
            reply.send(outcome.clone()).unwrap();
        }
    });
    let audit = Arc::new(AuditLog::open(None).unwrap());
    let (rollouts, ..) = crate::rollout::RolloutHandle::channel();
    let address =
        serve(crate::admin::router(plane, manager, rollouts, recorder::install().unwrap(), (audit, LogAdmin::off())));
    (format!("http://{address}"), asked)
}

/// An address at which nothing listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn arguments_that_make_no_sense_are_usage() {
    for (args, status, text) in [
        (vec![], 2, "Usage: headgate"),
        (vec!["--help"], 0, "clear-quarantine"),
        (vec!["--version"], 0, env!("CARGO_PKG_VERSION")),
        (vec!["sevre"], 2, "tip: a similar subcommand exists: 'serve'"),
        (vec!["label", "iris", "stable"], 2, "<VERSION>"),
        (vec!["label", "iris", "stable", "2", "--remove"], 2, "cannot be used with"),
        (vec!["label", "iris", "stable", "two"], 2, "invalid value 'two'"),
        (vec!["predict", "iris"], 2, "--input"),
        (vec!["predict", "iris", "--input", "x"], 2, "expected NAME=@FILE or NAME=JSON"),
        (vec!["models", "--admin", "https://127.0.0.1:1"], 2, "--admin expects an address such as"),
        (vec!["inspect", "x.onnx", "--batch-sizes", "0"], 2, "0 is not in 1..=65536"),
        (vec!["inspect", "x.onnx", "--seconds", "-1"], 2, "unexpected argument"),
        (vec!["inspect", "x.onnx", "--seconds", "many"], 2, "expected seconds from 0 to 3600"),
        (vec!["inspect", "x.onnx", "--memory-limit-bytes", "1"], 2, "--probe"),
        (vec!["inspect", "no-such-file.onnx"], 3, "there is no file no-such-file.onnx"),
        (vec!["inspect", "Cargo.toml"], 1, "Cargo.toml: not a valid ONNX model"),
        (vec!["audit", "verify"], 2, "<FILE>"),
        (vec!["audit", "verify", "x", "--data-dir", "y"], 2, "cannot be used with"),
        (vec!["audit", "verify", "--data-dir", "no-such-dir"], 3, "there is no audit log no-such-dir/audit.jsonl"),
        (vec!["audit", "list", "--since", "soon"], 2, "how long ago, such as 2h"),
        (vec!["completions", "elvish-like"], 2, "possible values: bash"),
        (vec!["serve"], 2, "no model repository given"),
    ] {
        let (got, _, failure) = headgate(&args);
        assert_eq!(got, status, "{args:?}: {failure}");
        assert!(failure.contains(text), "{args:?}: {failure}");
    }
}

#[test]
fn models_is_a_table_for_people_and_json_for_programs() {
    let (admin, _) = admin(Ok(()));
    let (status, table, _) = headgate(&["models", "--admin", &admin]);
    assert_eq!(status, 0);
    assert_eq!(
        table,
        "MODEL   VERSION  STATE   MEMORY   DEFAULT  LABELS  REASON\n\
         broken  -        -                                 model.yaml: no\n\
         iris    1        ready   0.0 MiB           stable\n\
         iris    2        ready   0.0 MiB  yes      next\n\
         iris    3        failed                            sha256 of model.onnx differs\n"
    );
    let (_, json, _) = headgate(&["models", "--json", "--admin", &admin]);
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(list["models"][1]["versions"][2]["reason"], "sha256 of model.onnx\ndiffers");
    let (_, one, _) = headgate(&["models", "iris", "--json", "--admin", &admin]);
    assert_eq!(serde_json::from_str::<Value>(&one).unwrap()["labels"]["stable"], 1);
    let (status, _, failure) = headgate(&["models", "irsi", "--admin", &admin]);
    assert_eq!((status, failure.ends_with("did you mean 'iris'?")), (3, true), "{failure}");
}

#[test]
fn each_change_asks_the_manager_and_shows_the_model() {
    let (admin, asked) = admin(Ok(()));
    for (args, command) in [
        (vec!["load", "iris"], "Load { model: \"iris\""),
        (vec!["unload", "iris"], "Unload { model: \"iris\""),
        (vec!["load", "a/b c"], "Load { model: \"a/b c\""),
        (
            vec!["label", "iris", "stable", "2"],
            "SetLabel { model: \"iris\", label: \"stable\", version: Some(2), by_rollout: false",
        ),
        (
            vec!["label", "iris", "next", "--remove"],
            "SetLabel { model: \"iris\", label: \"next\", version: None, by_rollout: false",
        ),
        (vec!["clear-quarantine", "iris", "3"], "ClearQuarantine { model: \"iris\", version: 3"),
    ] {
        let (status, out, failure) = headgate(&[&args[..], &["--admin", &admin]].concat());
        assert_eq!((status, failure.as_str()), (0, ""), "{args:?}");
        assert!(out.starts_with("MODEL "), "{out}");
        assert_eq!(asked.lock().unwrap().last().unwrap(), command);
    }
}

#[test]
fn exit_statuses_tell_refused_not_found_and_unreachable_apart() {
    let unknown = Error::UnknownModel { model: "m".into(), nearest: None };
    for (outcome, expected) in
        [(unknown, 3), (Error::Internal("version 2 failed: no".into()), 1), (Error::Unavailable("full".into()), 1)]
    {
        let text = outcome.to_string();
        let (status, out, failure) = headgate(&["load", "iris", "--admin", &admin(Err(outcome)).0]);
        assert_eq!((status, out.as_str(), failure), (expected, "", text));
    }
    let nobody = nobody();
    for args in [vec!["models", "--admin", &nobody], vec!["predict", "m", "--input", "x=1", "--url", &nobody]] {
        let (status, _, failure) = headgate(&args);
        assert_eq!(status, 4);
        assert!(failure.contains("Connection refused") && failure.contains("headgate serve"), "{failure}");
    }
    let other = format!("http://{}", serve(Router::new().fallback(|| async { "<html>" })));
    let (status, _, failure) = headgate(&["models", "--admin", &other]);
    assert_eq!((status, failure), (1, format!("{other} is not the admin address of a headgate server")));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    assert_eq!(headgate(&["models", "--timeout", "10ms", "--admin", &silent]).0, 4);
}

#[test]
fn audit_lists_changes_from_a_server_and_verifies_a_file_without_one() {
    let (admin, _) = admin(Ok(()));
    assert_eq!(headgate(&["label", "iris", "stable", "2", "--admin", &admin]).0, 0);
    let (status, table, failure) = headgate(&["audit", "list", "--target", "iris", "--since", "1h", "--admin", &admin]);
    assert_eq!((status, failure.as_str()), (0, ""));
    let row = table.lines().nth(1).unwrap();
    for cell in ["1 ", "label.set  iris  ", "label stable, version 2, outcome done"] {
        assert!(row.contains(cell), "{table}");
    }
    let json = headgate(&["audit", "list", "--until", "1h", "--json", "--admin", &admin]).1;
    let list: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&list["entries"], &list["head"]["number"]), (&json!([]), &json!(1)));

    let dir = tempfile::tempdir().unwrap();
    let log = AuditLog::open(Some(dir.path())).unwrap();
    for target in ["a", "b"] {
        log.append(Entry::now("alice", "label.set", target)).unwrap();
    }
    let (directory, file) = (dir.path().to_str().unwrap(), dir.path().join("audit.jsonl"));
    let (status, text, _) = headgate(&["audit", "verify", "--data-dir", directory]);
    assert_eq!((status, text), (0, format!("2 sound entries; head 2 {}\n", log.head().hash)));
    let changed = std::fs::read_to_string(&file).unwrap().replacen("alice", "bob", 1);
    std::fs::write(&file, changed).unwrap();
    let (status, text, failure) = headgate(&["audit", "verify", file.to_str().unwrap(), "--json"]);
    assert!(
        status == 1 && failure.ends_with("line 1: it was changed: its hash is not that of its contents"),
        "{failure}"
    );
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["entries"], &report["first_fault"]["line"]), (&json!(0), &json!(1)));
}

#[test]
fn predict_sends_json_and_numpy_and_reads_binary() {
    let seen: Arc<Mutex<Option<(HeaderMap, Bytes)>>> = Arc::default();
    let noted = seen.clone();
    let infer = post(async move |headers: HeaderMap, body: Bytes| {
        *noted.lock().unwrap() = Some((headers, body));
        let header = json!({"model_name": "m@stable", "model_version": "2", "outputs": [
            {"name": "y", "datatype": "FP32", "shape": [2, 2], "parameters": {"binary_data_size": 16}},
            {"name": "s", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 6}},
        ]});
        let y = Tensor::from_elements(DataType::Fp32, vec![2, 2], &[0.1f32, f32::NAN, 2.0, -3.5]).unwrap();
        let s = Tensor::from_byte_elements(vec![1], &["ok"]).unwrap();
        let json = header.to_string();
        let body = [json.as_bytes(), y.data(), s.data()].concat();
        ([("inference-header-content-length", json.len().to_string()), ("headgate-prediction-id", "p-1".into())], body)
    });
    let metadata = json!({"name": "m@stable", "inputs": [
        {"name": "x", "datatype": "FP32", "shape": [-1, 2]}, {"name": "k", "datatype": "INT64", "shape": [-1]},
    ]});
    let router = Router::new()
        .route("/v2/models/m@stable/infer", infer)
        .route("/v2/models/m@stable", get(async move || metadata.to_string()));
    let url = format!("http://{}", serve(router));
    let file = std::env::temp_dir().join(format!("headgate-{}-{}.npy", std::process::id(), fastrand::u64(..)));
    std::fs::write(&file, npy("<f4", "(1, 2)", &[1f32.to_le_bytes(), 2f32.to_le_bytes()].concat())).unwrap();
    let x = format!("x=@{}", file.display());
    let args = ["predict", "m@stable", "--url", &url, "--input", &x, "--input", "k=[7]"];

    let (status, text, failure) = headgate(&args);
    assert_eq!((status, failure.as_str()), (0, ""));
    assert_eq!(text, "model m@stable, version 2\ny  FP32 [2,2]\n  0.1 NaN\n  2.0 -3.5\ns  BYTES [1]\n  \"ok\"\n");
    let (headers, body) = seen.lock().unwrap().take().unwrap();
    let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&body[..length]).unwrap(),
        json!({
            "inputs": [
                {"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
                {"name": "k", "shape": [1], "datatype": "INT64", "data": [7]},
            ],
            "parameters": {"binary_data_output": true},
        })
    );
    assert_eq!(&body[length..], [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat());

    let (_, json, _) = headgate(&[&args[..], &["--json", "--output", "y"]].concat());
    let printed: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(printed["outputs"][0]["data"], json!([0.1, "NaN", 2.0, -3.5]));
    assert_eq!((&printed["prediction_id"], &printed["model_version"]), (&json!("p-1"), &json!("2")));
    let (headers, body) = seen.lock().unwrap().take().unwrap();
    let length: usize = headers["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let request: Value = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(request["outputs"], json!([{"name": "y", "parameters": {"binary_data": true}}]));

    let (status, _, failure) = headgate(&["predict", "m@stable", "--url", &url, "--input", "kk=[1]"]);
    assert_eq!(status, 1);
    assert_eq!(failure, "model 'm@stable' has no input 'kk', did you mean 'k'? Its inputs: x, k");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn predict_passes_the_servers_words_on_and_refuses_nonsense() {
    let metadata = json!({"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1]}]}).to_string();
    for (status, body, expected, text) in [
        (400, "{\"error\": \"unexpected shape\"}", 1, "unexpected shape"),
        (404, "{\"error\": \"no version 7\"}", 3, "no version 7"),
        (500, "", 1, "answered 500 Internal Server Error"),
        (200, "hello", 1, "does not follow the Open Inference Protocol: no inference response"),
        (
            200,
            r#"{"model_name":"m","model_version":"7","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}"#,
            1,
            "output 'y' without its binary data",
        ),
    ] {
        let metadata = metadata.clone();
        let status = StatusCode::from_u16(status).unwrap();
        let router = Router::new()
            .route("/v2/models/m/versions/7", get(async move || metadata))
            .route("/v2/models/m/versions/7/infer", post(async move || (status, body)));
        let url = format!("http://{}", serve(router));
        let (got, _, failure) = headgate(&["predict", "m", "--version", "7", "--input", "x=[1]", "--url", &url]);
        assert_eq!(got, expected, "{failure}");
        assert!(failure.contains(text), "{failure}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (status, script, _) = headgate(&["completions", shell]);
        assert_eq!(status, 0);
        for command in command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    struct Closed(io::ErrorKind);
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (admin, _) = admin(Ok(()));
    for (args, json) in [(vec!["completions", "bash"], false), (vec!["models", "--admin", &admin, "--json"], true)] {
        for (kind, status) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            let args = [&["headgate"], &args[..]].concat().into_iter().map(OsString::from);
            assert_eq!(run(args, &mut Closed(kind)).unwrap_err().exit_status(), status, "json: {json}");
        }
    }
}

#[test]
fn the_commands_are_consistent() {
    command().debug_assert();
}

/// A version 1.0 array file.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), data].concat()
}
