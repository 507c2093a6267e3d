//! The admin API over real sockets, with a manager that answers from a script.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;
use crate::error::Error;
use crate::registry::manager::Command;
use crate::rollout::{Command as Asked, Readings};
use crate::telemetry::exposition::RolloutReading;
use crate::telemetry::recorder;
use crate::tensor::DataType;
use crate::testing::{self, FunctionModel};

struct Server {
    address: std::net::SocketAddr,
    commands: mpsc::Receiver<Command>,
    plane: Arc<DataPlane>,
    rollouts: mpsc::Receiver<Asked>,
    readings: Readings,
}

impl Server {
    /// Serves models `iris` (versions 1 and 2) and `digits` (version 7).
    async fn start() -> Self {
        Self::serve_with(Arc::new(AuditLog::open(None).unwrap())).await
    }

    async fn serve_with(audit: Arc<AuditLog>) -> Self {
        Self::serve(|plane, manager, rollouts| {
            router(plane, manager, rollouts, recorder::install().unwrap(), (audit, LogAdmin::off()))
        })
        .await
    }

    async fn serve(make: impl FnOnce(Arc<DataPlane>, ManagerHandle, RolloutHandle) -> Router) -> Self {
        let model = || FunctionModel::identity(&[("x", DataType::Fp32, 4)]);
        let plane = testing::data_plane(&[("iris", 1, model()), ("iris", 2, model()), ("digits", 7, model())]);
        let (manager, commands) = ManagerHandle::channel();
        let (handle, rollouts, readings) = RolloutHandle::channel();
        let service = TowerToHyperService::new(make(plane.clone(), manager, handle));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, commands, plane, rollouts, readings }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
        let response = self.send(self.request(method, path, body)).await;
        (response.status(), serde_json::from_slice(response.body()).unwrap())
    }

    fn request(&self, method: &str, path: &str, body: &str) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(Full::from(body.to_owned()))
            .unwrap()
    }

    async fn metrics(&self) -> String {
        let response = self.send(self.request("GET", "/metrics", "")).await;
        assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        String::from_utf8(response.into_body().to_vec()).unwrap()
    }
}

/// Answers the next command with `outcome`, and gives the command's form without its reply.
async fn answer(commands: &mut mpsc::Receiver<Command>, outcome: Result<(), Error>) -> String {
    let (form, reply) = match commands.recv().await.unwrap() {
        Command::Load { model, reply } => (format!("load {model}"), reply),
        Command::Unload { model, reply } => (format!("unload {model}"), reply),
        Command::SetLabel { model, label, version, reply, .. } => (format!("label {model} {label} {version:?}"), reply),
        Command::ClearQuarantine { model, version, reply } => (format!("clear {model} {version}"), reply),
        Command::Warm { model, version, reply } => (format!("warm {model} {version}"), reply),
        Command::SetSplit { .. } | Command::ClearSplit { .. } | Command::Quarantine { .. } => {
            panic!("only rollouts ask for this")
        }
    };
    reply.send(outcome).unwrap();
    form
}

#[tokio::test]
async fn models_show_states_labels_and_signatures() {
    let server = Server::start().await;
    let (status, list) = server.call("GET", "/admin/v1/models", "").await;
    assert_eq!(status, 200);
    let names: Vec<&str> = list["models"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["digits", "iris"]);
    let (_, iris) = server.call("GET", "/admin/v1/models/iris", "").await;
    assert_eq!((&iris["default_version"], iris["versions"].as_array().unwrap().len()), (&json!(2), 2));
    let loaded = &iris["versions"][0]["loaded"];
    assert_eq!(loaded["inputs"], json!([{"name": "x", "datatype": "FP32", "shape": ["N", 4]}]));
    assert_eq!(loaded["batching"]["input_axes"], json!([0]));
    assert_eq!((&loaded["engine"], &loaded["queue_depth"]), (&json!("function"), &json!(0)));
}

#[tokio::test]
async fn each_change_reaches_the_manager_and_answers_with_the_model() {
    let mut server = Server::start().await;
    let mut iris = (*server.plane.serving.load().models["iris"]).clone();
    iris.labels.insert("stable".to_owned(), 1);
    server
        .plane
        .publish(crate::routing::Serving { models: [("iris".to_owned(), iris.into())].into(), ..Default::default() });
    for (method, path, body, expected) in [
        ("POST", "/admin/v1/models/iris/load", "", "load iris"),
        ("POST", "/admin/v1/models/iris/unload", "", "unload iris"),
        ("PUT", "/admin/v1/models/iris/labels/next", "{\"version\": 2}", "label iris next Some(2)"),
        ("DELETE", "/admin/v1/models/iris/labels/stable", "", "label iris stable None"),
        ("DELETE", "/admin/v1/models/iris/versions/2/quarantine", "", "clear iris 2"),
        ("POST", "/admin/v1/models/a%20b/load", "", "load a b"),
    ] {
        let mut commands = std::mem::replace(&mut server.commands, mpsc::channel(1).1);
        let (form, (status, model)) = tokio::join!(answer(&mut commands, Ok(())), server.call(method, path, body));
        server.commands = commands;
        assert_eq!((form.as_str(), status.as_u16()), (expected, 200), "{method} {path}");
        assert!(model["name"].is_string());
    }
}

#[tokio::test]
async fn a_managers_refusal_has_the_status_of_its_kind() {
    let mut server = Server::start().await;
    for (error, expected) in [
        (Error::UnknownModel { model: "iris".into(), nearest: None }, 404),
        (Error::invalid("no"), 400),
        (Error::Internal("version 2 failed".into()), 500),
        (Error::Unavailable("stopping".into()), 503),
    ] {
        let text = error.to_string();
        let mut commands = std::mem::replace(&mut server.commands, mpsc::channel(1).1);
        let path = "/admin/v1/models/iris/load";
        let (_, response) =
            tokio::join!(answer(&mut commands, Err(error)), server.send(server.request("POST", path, "")));
        server.commands = commands;
        assert_eq!(response.status().as_u16(), expected);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers().contains_key("retry-after"), expected == 503);
        assert_eq!(serde_json::from_slice::<Value>(response.body()).unwrap(), json!({"error": text}));
    }
}

#[tokio::test]
async fn each_change_done_or_refused_is_in_the_audit_log_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::serve_with(Arc::new(AuditLog::open(Some(dir.path())).unwrap())).await;
    let path = "/admin/v1/models/iris/labels/stable";
    for outcome in [Ok(()), Err(Error::invalid("no"))] {
        let mut commands = std::mem::replace(&mut server.commands, mpsc::channel(1).1);
        let mut request = server.request("PUT", path, "{\"version\": 2}");
        request.headers_mut().insert(ACTOR_HEADER, "alice".parse().unwrap());
        tokio::join!(answer(&mut commands, outcome), server.send(request));
        server.commands = commands;
    }
    let (status, list) = server.call("GET", "/admin/v1/audit?target=iris&since_ms=1&until_ms=&limit=5", "").await;
    assert_eq!(status, 200);
    let served = json!({"default": 2, "ready": [1, 2], "cold": [], "labels": {}});
    for (at, evidence) in [
        json!({"label": "stable", "version": 2, "outcome": "done"}),
        json!({"label": "stable", "version": 2, "outcome": "refused", "error": "no"}),
    ]
    .into_iter()
    .enumerate()
    {
        let entry = &list["entries"][at];
        assert_eq!([&entry["actor"], &entry["action"], &entry["target"]], ["alice", "label.set", "iris"]);
        assert_eq!((&entry["before"], &entry["after"], &entry["evidence"]), (&served, &served, &evidence));
        assert_eq!(entry["number"], at + 1);
    }
    let report = crate::audit::verify(&dir.path().join(crate::audit::AUDIT_FILE)).unwrap();
    assert_eq!((report.entries, report.first_fault), (2, None));
    assert_eq!(list["head"], json!({"number": 2, "hash": report.head.hash}));
    let (_, none) = server.call("GET", "/admin/v1/audit?target=digits", "").await;
    assert_eq!(none["entries"], json!([]));
}

/// The manager has the command when the caller goes, and answers only then.
#[tokio::test]
async fn a_change_whose_caller_leaves_is_in_the_audit_log() {
    let audit = Arc::new(AuditLog::open(None).unwrap());
    let mut server = Server::serve_with(audit.clone()).await;
    let mut commands = std::mem::replace(&mut server.commands, mpsc::channel(1).1);
    let command = tokio::select! {
        command = commands.recv() => command.unwrap(),
        _ = server.call("POST", "/admin/v1/models/iris/load", "") => unreachable!("nobody has answered"),
    };
    let Command::Load { reply, .. } = command else { panic!("{command:?}") };
    reply.send(Ok(())).unwrap();
    while audit.head().number == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_as_json() {
    let server = Server::start().await;
    let label = "/admin/v1/models/iris/labels/stable";
    let large = format!("{{\"version\": 1{}}}", " ".repeat(MAX_BODY_BYTES));
    for (method, path, body, status, text) in [
        ("GET", "/admin/v1/models/iirs", "", 404, "did you mean 'iris'?"),
        ("GET", "/admin/v1/audit?limit=many", "", 400, "limit expects a whole number, got 'many'"),
        ("GET", "/admin/v1/audit?traget=m", "", 400, "unknown field `traget`"),
        ("GET", "/admin/v1/modles", "", 404, "there is nothing at '/admin/v1/modles'"),
        ("GET", "/admin/v1/models/iris/load", "", 405, "GET is not possible at"),
        ("GET", "/admin/v1/models/%ff", "", 400, "not UTF-8"),
        ("PUT", label, "{\"version\": \"two\"}", 400, "expected a body such as {\"version\": 3}"),
        ("PUT", label, "{\"versoin\": 2}", 400, "unknown field `versoin`"),
        ("PUT", label, "", 400, "expected a body such as"),
        ("PUT", label, &large, 413, "the body exceeds the limit of 16384 bytes"),
        ("DELETE", label, "", 404, "has no label 'stable'"),
        ("DELETE", "/admin/v1/models/iris/versions/x/quarantine", "", 400, "a version is a whole number, got 'x'"),
    ] {
        let (got, answer) = server.call(method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path}: {answer}");
        assert!(answer["error"].as_str().unwrap().contains(text), "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn a_browser_cannot_be_used_against_it() {
    let server = Server::start().await;
    let mut rebound = server.request("GET", "/admin/v1/models", "");
    rebound.headers_mut().insert("host", "evil.example".parse().unwrap());
    assert_eq!(server.send(rebound).await.status(), 403);
    let mut foreign = server.request("POST", "/admin/v1/models/iris/unload", "");
    foreign.headers_mut().insert("origin", "http://evil.example".parse().unwrap());
    assert_eq!(server.send(foreign).await.status(), 403);
    let mut form = server.request("PUT", "/admin/v1/models/iris/labels/stable", "{\"version\": 1}");
    form.headers_mut().insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(server.send(form).await.status(), 415);
}

#[tokio::test]
async fn openapi_has_every_route_and_every_method_and_no_more() {
    let server = Server::start().await;
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let mut served = BTreeMap::new();
    for (path, _) in routes() {
        // The router names what is possible in the answer to what isn't.
        let response = server.send(server.request("TRACE", &path.replace(['{', '}'], ""), "")).await;
        assert_eq!(response.status(), 405, "{path}");
        let allowed = response.headers()["allow"].to_str().unwrap().to_ascii_lowercase();
        served.insert(path, allowed.split(',').filter(|m| *m != "head").map(str::to_owned).collect::<BTreeSet<_>>());
    }
    let methods = |item: &Value| {
        item.as_object().unwrap().keys().filter(|key| *key != "parameters").cloned().collect::<BTreeSet<_>>()
    };
    let documented: BTreeMap<&str, _> =
        document["paths"].as_object().unwrap().iter().map(|(path, item)| (path.as_str(), methods(item))).collect();
    assert_eq!(served, documented);
}

#[tokio::test]
async fn openapi_has_every_field_of_what_is_shown() {
    let server = Server::start().await;
    let document: Value = serde_json::from_str(openapi::DOCUMENT).unwrap();
    let (_, model) = server.call("GET", "/admin/v1/models/iris", "").await;
    let version = &model["versions"][0];
    let loaded = &version["loaded"];
    let audit = AuditLog::open(None).unwrap();
    audit.append(crate::audit::Entry::now("a", "b", "c")).unwrap();
    let entries = audit.query(&crate::audit::Filter::default(), 1).unwrap();
    let list = serde_json::to_value(view::AuditList { entries, head: audit.head() }).unwrap();
    for (schema, value) in [
        ("AuditList", &list),
        ("AuditEntry", &list["entries"][0]),
        ("AuditHead", &list["head"]),
        ("Model", &model),
        ("Version", version),
        ("Loaded", loaded),
        ("Tensor", &loaded["inputs"][0]),
        ("Batching", &loaded["batching"]),
    ] {
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&document["components"]["schemas"][schema]["properties"]), keys(value), "{schema}");
    }
}

#[tokio::test]
async fn metrics_are_well_formed_text_with_both_sources() {
    let server = Server::start().await;
    crate::telemetry::metrics::count_request(crate::inference::Protocol::Http, None);
    let weights = vec![("candidate", 100)];
    let reading = RolloutReading { route: "iris".into(), state: "baking", weights, ..RolloutReading::default() };
    server.readings.store(Arc::new(vec![reading]));
    let samples = check_text_format(&server.metrics().await);
    for expected in [
        "headgate_requests_total{protocol=\"http\",outcome=\"ok\"}",
        "headgate_versions{state=\"ready\"}",
        "headgate_versions{state=\"failed\"}",
        "headgate_request_bytes_in_flight",
        "headgate_rollout_weight_ratio{route=\"iris\",arm=\"candidate\"}",
        "headgate_rollout_state{route=\"iris\",state=\"baking\"}",
        "nv_inference_count{model=\"iris\",version=\"2\"}",
        "headgate_request_stage_seconds_bucket{model=\"digits\",version=\"7\",stage=\"queue\",le=\"+Inf\"}",
    ] {
        assert!(samples.contains(expected), "{expected} is missing in {samples:#?}");
    }
    server.readings.store(Arc::default());
    assert!(!server.metrics().await.contains("headgate_rollout_state"), "a rollout's series ends with its reading");
}

#[tokio::test]
async fn the_metrics_listener_answers_metrics_only_and_to_any_host() {
    let server =
        Server::serve(|plane, _, rollouts| metrics_router(plane, rollouts, recorder::install().unwrap())).await;
    let mut remote = server.request("GET", "/metrics/", "");
    remote.headers_mut().insert("host", "prometheus.example".parse().unwrap());
    assert_eq!(server.send(remote).await.status(), 200);
    assert_eq!(server.call("GET", "/admin/v1/models", "").await.0, 404);
    assert_eq!(server.call("POST", "/metrics", "").await.0, 405);
}

mod log;
mod rollouts;

/// Checks a text of format 0.0.4 and gives its series. Each family is announced once and stands together, names and
/// labels are valid, values are numbers, and no series occurs twice.
fn check_text_format(text: &str) -> BTreeSet<String> {
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut series = BTreeSet::new();
    assert!(text.ends_with('\n'));
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            (family, kind) = rest.split_once(' ').map(|(n, k)| (n.to_owned(), k.to_owned())).unwrap();
            assert!(families.insert(family.clone()), "{family} is announced twice");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind.as_str()), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name_and_labels, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = name_and_labels.split_once('{').map_or((name_and_labels, ""), |(n, l)| (n, l));
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.iter().any(|suffix| name == format!("{family}{suffix}")), "{line} stands under {family}");
        assert!(is_name(name) && (labels.is_empty() || labels.ends_with('}')), "{line}");
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap();
            assert!(is_name(label) && !value.contains('\n'), "{line}");
        }
        assert!(series.insert(name_and_labels.to_owned()), "{name_and_labels} occurs twice");
    }
    series
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))
}
