//! Limits hold: whoever is too slow, too large or too clever is cut off by a limit of its own, while a good client's
//! requests go on.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use headgate::tensor::{DataType, Tensor};

use crate::support::infer::{Call, Encoding, Wires, grpc_request, http_body};
use crate::support::raw::{INFER, RawGrpc, body_of, drip, framed, read_to_end, say, stalled};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{scaled, zoo};

const BODY_LIMIT: usize = 1 << 20;
const SMALL: [&str; 10] = [
    "--header-timeout",
    "500ms",
    "--body-timeout",
    "500ms",
    "--idle-timeout",
    "500ms",
    "--max-body-bytes",
    "1048576",
    "--send-timeout",
    "500ms",
];
const PAUSE: Duration = Duration::from_millis(50);

/// A server, and a good client that asks all the while over both protocols, on connections that it keeps.
struct Watched {
    _repository: TempDir,
    server: Server,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    client: tokio::task::JoinHandle<()>,
}

impl Watched {
    async fn start(flags: &[&str]) -> Self {
        let repository = TempDir::new();
        repository.add("iris_logreg", "iris", 1);
        repository.add("multi_io_addsub", "addsub", 1);
        let server = Server::start(repository.path(), flags);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let wires = Wires::connect(&server).await;
        let client = tokio::spawn({
            let (stop, answered) = (stop.clone(), answered.clone());
            async move {
                let inputs = zoo::inputs("iris_logreg", "b1");
                let expected = zoo::case("iris_logreg", "b1").outputs;
                while !stop.load(SeqCst) {
                    for encoding in Encoding::ALL {
                        let call = Call { model: "iris", version: "", inputs: &inputs };
                        let reply = wires.infer(encoding, &call).await.unwrap_or_else(|refusal| panic!("{refusal}"));
                        assert_eq!(reply.outputs["label"], expected["label"]);
                        answered.fetch_add(1, SeqCst);
                    }
                }
            }
        });
        Self { _repository: repository, server, stop, answered, client }
    }

    /// The good client was never refused, and was answered while the others misbehaved.
    async fn went_on(self, what: &str) {
        let before = self.answered.load(SeqCst);
        let more = crate::support::eventually("the good client goes on", async || match self.answered.load(SeqCst) {
            now if now > before => Ok(now),
            _ => Err("no answers".to_owned()),
        })
        .await;
        self.stop.store(true, SeqCst);
        self.client.await.unwrap();
        assert!(before > 0, "{what}: the good client was not answered meanwhile");
        println!("limits: {what}, {more} good answers meanwhile");
    }
}

/// Runs many of the same, so many at once that they hinder each other, and so few that the system's queue of connections
/// to be accepted holds them: a connection that overflows it looks open to a client that says nothing.
async fn all<F: Future<Output = ()> + Send + 'static>(count: usize, each: impl Fn() -> F) {
    const AT_ONCE: usize = 100;
    for start in (0..count).step_by(AT_ONCE) {
        let running: Vec<_> = (start..count.min(start + AT_ONCE)).map(|_| tokio::spawn(each())).collect();
        for one in running {
            one.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_and_silent_connections_are_cut_off() {
    let count = scaled("slow connections of each kind", 1000);
    let watched = Watched::start(&SMALL).await;
    let (http, grpc) = (watched.server.http, watched.server.grpc);
    // A header that comes byte by byte.
    all(count, || async move {
        let heard = drip(http, "GET /v2 HTTP/1.1\r\nhost: a\r\nx: ", "y", PAUSE).await;
        assert!(heard.is_empty() || heard.starts_with("HTTP/1.1 408"), "{heard}");
    })
    .await;
    // A body that comes byte by byte. The answer may be lost to a byte that crosses it: the close becomes a reset.
    let told = Arc::new(AtomicU64::new(0));
    let slow_body = {
        let told = told.clone();
        move || {
            let told = told.clone();
            async move {
                let head = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n";
                let heard = drip(http, head, "[", PAUSE).await;
                if !heard.is_empty() {
                    assert!(heard.starts_with("HTTP/1.1 408"), "{heard}");
                    assert!(heard.contains("\"error\":\"the request's body did not arrive within 0.5 s\""), "{heard}");
                    told.fetch_add(1, SeqCst);
                }
            }
        }
    };
    all(count, slow_body).await;
    assert!(told.load(SeqCst) > 0, "no slow body was told why it was cut off");
    // Silence.
    for address in [http, grpc] {
        all(count, || async move {
            let heard = read_to_end(&mut TcpStream::connect(address).await.unwrap()).await;
            assert!(!heard.contains("HTTP/1.1 200"), "{heard}");
        })
        .await;
    }
    // A connection that falls silent after an answer.
    all(count, || async move {
        let heard = say(http, b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(heard.starts_with("HTTP/1.1 200"), "{heard}");
    })
    .await;
    assert!(watched.server.metric(r#"headgate_connections_cut_total{listener="http",limit="header"}"#) >= count as f64);
    watched.went_on(&format!("{count} slow headers, slow bodies and silent connections")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_headers_are_refused() {
    let watched = Watched::start(&SMALL).await;
    let headers: String = (0..10_000).map(|number| format!("x-{number}: y\r\n")).collect();
    let heard = say(watched.server.http, format!("GET /v2 HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).await;
    assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
    // Few, but long.
    let long = format!("GET /v2 HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let heard = say(watched.server.http, long.as_bytes()).await;
    assert!(heard.starts_with("HTTP/1.1 431"), "{heard}");
    let inputs = zoo::inputs("iris_logreg", "b1");
    let request = grpc_request(&Call { model: "iris", version: "", inputs: &inputs }, true);
    let names: Vec<String> = (0..10_000).map(|number| format!("x-{number}")).collect();
    let metadata: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "y")).collect();
    let raw = RawGrpc::connect(watched.server.grpc).await;
    let outcome = raw.call(INFER, &metadata, body_of(&request)).await;
    assert!(outcome.as_ref().is_err() || outcome.as_ref().is_ok_and(|outcome| outcome.code != 0), "{outcome:?}");
    watched.went_on("10,000 headers").await;
}

/// A claim alone costs nothing: neither memory nor other clients' share of the budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_prefix_that_claims_64_mib_costs_nothing() {
    let streams = scaled("streams that claim 64 MiB", 2000);
    let watched = Watched::start(&["--body-timeout", "2s"]).await;
    let before_kib = watched.server.rss_kib();
    let mut calls = vec![];
    for connection in 0..streams.div_ceil(100) {
        let raw = RawGrpc::connect(watched.server.grpc).await;
        for _ in 0..(streams - connection * 100).min(100) {
            let raw = raw.clone();
            let claim = Bytes::from_static(&[0, 0x04, 0, 0, 0, b'x']);
            calls.push(tokio::spawn(async move { raw.call(INFER, &[], stalled(claim)).await }));
        }
    }
    let mut grown_kib = 0;
    for call in calls {
        grown_kib = grown_kib.max(watched.server.rss_kib().saturating_sub(before_kib));
        let outcome = call.await.unwrap().expect("a gRPC status");
        assert_eq!(outcome.code, 4, "{outcome:?}");
        assert!(outcome.text.contains("did not arrive within 2 s"), "{outcome:?}");
    }
    assert!(grown_kib < 64 * 1024, "{streams} claims of 64 MiB grew the server by {grown_kib} KiB");
    watched.went_on(&format!("{streams} claims of 64 MiB, {grown_kib} KiB of memory")).await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bombs_and_oversize_bodies_are_refused() {
    let watched = Watched::start(&SMALL).await;
    let wires = Wires::connect(&watched.server).await;
    let before_kib = watched.server.rss_kib();
    let bomb = gzip(&vec![b' '; 512 << 20]);
    assert!(bomb.len() < BODY_LIMIT);
    let request = || http::Request::post("/").header("content-encoding", "gzip");
    let answer = wires.http.send(request(), "/v2/models/iris/infer", bomb.clone()).await.unwrap();
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("exceeds the limit of 1048576 bytes"), "{}", answer.error());
    let raw = RawGrpc::connect(watched.server.grpc).await;
    let body = Full::new(framed(&bomb, true)).boxed();
    let outcome = raw.call(INFER, &[("grpc-encoding", "gzip")], body).await.unwrap();
    assert_eq!(outcome.code, 8, "{outcome:?}");
    let grown_kib = watched.server.rss_kib().saturating_sub(before_kib);
    assert!(grown_kib < 64 * 1024, "two bombs of 512 MiB grew the server by {grown_kib} KiB");

    // Announced, and not announced; and over gRPC.
    let answer = wires.http.post("/v2/models/iris/infer", vec![b' '; BODY_LIMIT + 1]).await;
    assert_eq!((answer.status, answer.header("retry-after")), (413, ""));
    let chunk = format!("{:x}\r\n{}\r\n", BODY_LIMIT / 2, " ".repeat(BODY_LIMIT / 2));
    let head = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let heard = say(watched.server.http, [head, &chunk, &chunk, &chunk, "0\r\n\r\n"].concat().as_bytes()).await;
    assert!(heard.starts_with("HTTP/1.1 413"), "{heard}");
    let inputs = [("X".to_owned(), Tensor::zeros(DataType::Fp32, vec![BODY_LIMIT / 16, 4]))];
    let refusal = wires.infer(Encoding::Raw, &Call { model: "iris", version: "", inputs: &inputs }).await.unwrap_err();
    let text = refusal.to_string();
    assert!(text.starts_with("ResourceExhausted") && text.contains("limit of 1048576 bytes"), "{text}");
    // A little under the limit is no matter.
    let inputs = [("X".to_owned(), Tensor::zeros(DataType::Fp32, vec![BODY_LIMIT / 16 - 100, 4]))];
    for encoding in [Encoding::Binary, Encoding::Raw] {
        wires.infer(encoding, &Call { model: "iris", version: "", inputs: &inputs }).await.unwrap();
    }
    watched.went_on("2 bombs and 3 oversize bodies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn chunks_that_are_none_are_the_clients_fault() {
    let repository = TempDir::new();
    repository.add("iris_logreg", "iris", 1);
    let server = Server::start(repository.path(), &[]);
    let head = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}junk\r\n0\r\n\r\n"] {
        let heard = say(server.http, [head, chunks].concat().as_bytes()).await;
        assert!(heard.starts_with("HTTP/1.1 400") && heard.contains("chunked encoding"), "{heard}");
    }
}

/// Bodies in flight share one budget: who finds it spent is told to come back, and finds it free again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bodies_in_flight_share_a_budget() {
    let flags = ["--max-body-bytes", "1048576", "--max-bytes-in-flight", "4194304", "--body-timeout", "3s"];
    let watched = Watched::start(&flags).await;
    let http = watched.server.http;
    let held: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let length = BODY_LIMIT - 1000;
                let head =
                    format!("POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
                say(http, [head.as_bytes(), &vec![b' '; length - 1]].concat().as_slice()).await
            })
        })
        .collect();
    let (mut shed, mut timed_out) = (0, 0);
    for one in held {
        let heard = one.await.unwrap();
        match &heard[..12.min(heard.len())] {
            "HTTP/1.1 503" => {
                assert!(
                    heard.contains("retry-after: 1") && heard.contains("Exceeds maximum bytes in flight"),
                    "{heard}"
                );
                shed += 1;
            }
            "HTTP/1.1 408" => timed_out += 1,
            _ => panic!("{heard}"),
        }
    }
    let counted = watched.server.metric("headgate_sheds_total{reason=\"bytes_in_flight\"}");
    assert!(shed > 0 && counted >= f64::from(shed), "{counted} are counted of {shed}");
    println!(
        "limits: of 8 bodies of 1 MiB in a budget of 4 MiB {shed} were shed, {timed_out} held it to their timeout"
    );
    assert!((1..=4).contains(&timed_out), "{timed_out}");
    assert_eq!(watched.server.metric("headgate_request_bytes_in_flight_limit"), 4_194_304.0);
    watched.stop.store(true, SeqCst);
    let _ = watched.client.await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let wires = Wires::connect(&watched.server).await;
    wires.infer(Encoding::Json, &Call { model: "iris", version: "", inputs: &inputs }).await.unwrap();
    assert_eq!(watched.server.metric("headgate_request_bytes_in_flight"), 0.0);
}

/// One wrong request: the same fault over both protocols, as an HTTP status with `{"error": …}` and as a gRPC status.
struct Wrong {
    model: &'static str,
    version: &'static str,
    inputs: Vec<(String, Tensor)>,
    http: u16,
    grpc: tonic::Code,
    text: &'static str,
}

fn wrong(model: &'static str, version: &'static str, inputs: Vec<(String, Tensor)>, text: &'static str) -> Wrong {
    Wrong { model, version, inputs, http: 400, grpc: tonic::Code::InvalidArgument, text }
}

fn fp32(shape: &[usize]) -> Tensor {
    Tensor::zeros(DataType::Fp32, shape.to_vec())
}

fn wrong_requests() -> Vec<Wrong> {
    let x = |tensor| vec![("X".to_owned(), tensor)];
    let not_found = |model, version, text| Wrong {
        http: 404,
        grpc: tonic::Code::NotFound,
        ..wrong(model, version, x(fp32(&[1, 4])), text)
    };
    let both = |a: Tensor, b: Tensor| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    vec![
        not_found("irsi", "", "Request for unknown model: 'irsi' is not found, did you mean 'iris'?"),
        not_found("zebra", "", "Request for unknown model: 'zebra' is not found"),
        not_found("iris", "7", "Request for unknown model: 'iris' version 7 is not found, ready versions: 1"),
        not_found("iris@stable", "", "Request for unknown model: 'iris' has no label 'stable'"),
        wrong(
            "iris",
            "",
            x(Tensor::zeros(DataType::Int32, vec![1, 4])),
            "inference input 'X' data-type is 'INT32', but model 'iris' expects 'FP32'",
        ),
        wrong(
            "iris",
            "",
            x(fp32(&[1, 5])),
            "unexpected shape for input 'X' for model 'iris'. Expected [-1,4], got [1,5]",
        ),
        wrong("iris", "", x(fp32(&[4])), "unexpected shape for input 'X' for model 'iris'. Expected [-1,4], got [4]"),
        wrong("iris", "", vec![], "expected 1 inputs but got 0 inputs for model 'iris', missing: 'X'"),
        wrong(
            "iris",
            "",
            vec![("x".to_owned(), fp32(&[1, 4]))],
            "unexpected inference input 'x' for model 'iris', did you mean 'X'?",
        ),
        wrong("addsub", "", both(fp32(&[1, 16]), fp32(&[2, 16])), "unexpected shape for input 'b' for model 'addsub'"),
        wrong(
            "addsub",
            "",
            vec![("a".to_owned(), fp32(&[1, 16]))],
            "expected 2 inputs but got 1 inputs for model 'addsub', missing: 'b'",
        ),
        wrong(
            "addsub",
            "",
            [both(fp32(&[1, 16]), fp32(&[1, 16])), both(fp32(&[1, 16]), fp32(&[1, 16]))].concat(),
            "'a' is given twice",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wrong_requests_are_told_what_was_expected() {
    let watched = Watched::start(&[]).await;
    let wires = Wires::connect(&watched.server).await;
    let wrong = wrong_requests();
    for Wrong { model, version, inputs, http, grpc, text } in &wrong {
        let call = Call { model, version, inputs };
        for encoding in Encoding::ALL {
            use crate::support::infer::Refusal::{Grpc, Http};
            match wires.infer(encoding, &call).await.unwrap_err() {
                Http { status, text: got } => assert!(status == *http && got.contains(text), "{status}: {got}"),
                Grpc { code, text: got } => assert!(code == *grpc && got.contains(text), "{code:?}: {got}"),
                other => panic!("{other}"),
            }
        }
    }
    watched.went_on(&format!("{} wrong requests over four encodings", wrong.len())).await;
}

/// Names that could become paths: refused as names, whatever the protocol and however they are written.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_that_could_be_paths_are_refused() {
    let watched = Watched::start(&[]).await;
    let wires = Wires::connect(&watched.server).await;
    for name in ["%2e%2e", "..%2f..%2fetc%2fpasswd", "a%2fb", "a%5cb", "a%00b", ".hidden", "%ff"] {
        for (method, path) in [
            ("GET", format!("/v2/models/{name}")),
            ("POST", format!("/v2/models/{name}/infer")),
            ("GET", format!("/v1/models/{name}")),
            ("POST", format!("/v2/repository/models/{name}/load")),
        ] {
            let request = http::Request::builder().method(method);
            let answer = wires.http.send(request, &path, "{}").await.unwrap();
            assert_eq!(answer.status, 400, "{path}");
            assert!(answer.error().contains("is not a model name"), "{path}: {}", answer.error());
        }
    }
    for path in ["/v2/models/../../etc/passwd", "/../etc/passwd", "/v2/models/a/b/c", "//"] {
        let heard = say(watched.server.http, format!("GET {path} HTTP/1.0\r\nhost: a\r\n\r\n").as_bytes()).await;
        assert!(heard.starts_with("HTTP/1.0 404") || heard.starts_with("HTTP/1.1 404"), "{path}: {heard}");
    }
    let inputs = zoo::inputs("iris_logreg", "b1");
    for name in ["..", "../../etc/passwd", "a/b", "a\\b", "a\0b", ".hidden", ""] {
        let request = grpc_request(&Call { model: name, version: "", inputs: &inputs }, true);
        let refusal = wires.grpc_infer(request).await.unwrap_err().to_string();
        assert!(
            refusal.starts_with("InvalidArgument: ") && refusal.contains("is not a model name"),
            "{name}: {refusal}"
        );
    }
    watched.went_on("names that could be paths").await;
}

/// Faults that only HTTP can have: its JSON, its header of length, its content encodings.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn malformed_http_bodies_are_told_what_was_expected() {
    let watched = Watched::start(&[]).await;
    let wires = Wires::connect(&watched.server).await;
    let input = |data: &str| format!(r#"{{"inputs":[{{"name":"X","shape":[1,4],"datatype":"FP32","data":{data}}}]}}"#);
    let deep = "[".repeat(100_000);
    for (body, word) in [
        (String::new(), ""),
        ("{".to_owned(), ""),
        (input("[1,2,3,4]") + "x", ""),
        ("{}".to_owned(), "expected 'inputs'"),
        (input("[1,2,3]"), "expected 4"),
        (input("[1,2,3,4,5]"), ""),
        (input(r#"[1,2,3,"four"]"#), ""),
        (input(&deep), "arrays in one another"),
        (format!(r#"{{"inputs":[],"x":{deep}"#), ""),
        (input("[1,2,3,4]").replace("FP32", "FP31"), "FP31"),
        (input("[1,2,3,4]").replace("[1,4]", "[-1,4]"), "negative"),
        (input("[1,2,3,4]").replace("[1,4]", "[9223372036854775807,4]"), "more elements than"),
        (input("[1,2,3,300]").replace("FP32", "UINT8"), "300"),
        (input("[1,2,3,4.5]").replace("FP32", "INT64"), "4.5"),
        (input("[1,2,3,4]").replace(r#""inputs""#, r#""parameters":{"triton_x":1},"inputs""#), "triton_"),
        (input("[1,2,3,4]").replace(r#""inputs""#, r#""outputs":[{"name":"z"}],"inputs""#), "output 'z'"),
    ] {
        let answer = wires.http.post("/v2/models/iris/infer", body.clone()).await;
        let shown = &body[..body.len().min(120)];
        assert_eq!(answer.status, 400, "{shown}: {:?}", answer.body);
        let error = answer.error();
        assert!(error.contains(word) && error.len() < 1000, "{shown}: {error}");
    }
    header_lengths(&wires).await;
    for encoding in ["br", "zstd", "gzip, gzip", "nonsense"] {
        let request = http::Request::post("/").header("content-encoding", encoding);
        let answer = wires.http.send(request, "/v2/models/iris/infer", input("[1,2,3,4]")).await.unwrap();
        assert_eq!(answer.status, 501, "{encoding}");
        assert!(answer.header("accept-encoding").contains("gzip"), "{encoding}: {:?}", answer.headers);
        assert!(!answer.error().is_empty());
    }
    let request = http::Request::post("/").header("content-encoding", "gzip");
    let answer = wires.http.send(request, "/v2/models/iris/infer", "this is no gzip").await.unwrap();
    assert_eq!(answer.status, 400, "{:?}", answer.body);
    // A body that ends before it should.
    let head = "POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 500\r\n\r\n{";
    let stream = std::net::TcpStream::connect(watched.server.http).unwrap();
    (&stream).write_all(head.as_bytes()).unwrap();
    drop(stream);
    for (method, path, status) in [
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/models/iris/infer", 405),
        ("POST", "/v2/health/live", 405),
        ("DELETE", "/v2/models/iris", 405),
        ("GET", "/metrics", 404),
    ] {
        let answer = wires.http.send(http::Request::builder().method(method), path, "").await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.error(), if status == 404 { "Not Found" } else { "Method Not Allowed" });
    }
    watched.went_on("malformed bodies").await;
}

async fn header_lengths(wires: &Wires) {
    let inputs = zoo::inputs("iris_logreg", "b1");
    let (head, length, tensors) = http_body(&Call { model: "iris", version: "", inputs: &inputs }, true);
    let length = length.unwrap();
    let whole = [head.as_bytes(), &tensors].concat();
    let total = whole.len();
    let ask = async |header: String, body: Vec<u8>| {
        let request = http::Request::post("/").header("Inference-Header-Content-Length", header);
        wires.http.send(request, "/v2/models/iris/infer", body).await.unwrap()
    };
    assert_eq!(ask(length.to_string(), whole.clone()).await.status, 200);
    for header in [(total + 1).to_string(), "99999999999999999999".to_owned(), "-1".to_owned(), "ten".to_owned()] {
        let answer = ask(header.clone(), whole.clone()).await;
        let text = format!("inference header size should be in range (0, {total}), got: {header}");
        assert_eq!((answer.status, answer.error()), (400, text));
    }
    let short = ask(length.to_string(), whole[..total - 2].to_vec()).await;
    assert_eq!(
        (short.status, short.error().as_str()),
        (400, "unexpected size for input 'X', expecting 2 additional bytes")
    );
    let long = ask(length.to_string(), [&whole[..], b"xy"].concat()).await;
    assert_eq!(long.status, 400);
    assert!(long.error().starts_with("unexpected additional input data for model"), "{}", long.error());
    let early = ask((length - 1).to_string(), whole).await;
    assert_eq!(early.status, 400);
}

/// Faults that only gRPC can have: its frames and the two places for tensors.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn malformed_grpc_messages_are_told_what_was_expected() {
    let watched = Watched::start(&[]).await;
    let wires = Wires::connect(&watched.server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    let call = Call { model: "iris", version: "", inputs: &inputs };
    let refused = async |request, word: &str| {
        let text = wires.grpc_infer(request).await.unwrap_err().to_string();
        assert!(text.starts_with("InvalidArgument: ") && text.contains(word), "{word}: {text}");
    };
    let raw = grpc_request(&call, true);
    let typed = grpc_request(&call, false);
    let mut mixed = raw.clone();
    mixed.inputs[0].contents = typed.inputs[0].contents.clone();
    refused(mixed, "raw_input_contents").await;
    let mut too_many = raw.clone();
    too_many.raw_input_contents.push(Bytes::new());
    refused(too_many, "raw_input_contents").await;
    let mut short = raw.clone();
    short.raw_input_contents[0] = short.raw_input_contents[0].slice(1..);
    refused(short, "expected 16 bytes for shape [1,4] of FP32, got 15").await;
    let mut few = typed.clone();
    few.inputs[0].contents.as_mut().unwrap().fp32_contents.pop();
    refused(few, "expected 4 elements for shape [1,4], got 3").await;
    let mut foreign = typed.clone();
    let contents = foreign.inputs[0].contents.as_mut().unwrap();
    contents.fp32_contents.clear();
    contents.int_contents = vec![1, 2, 3, 4];
    refused(foreign, "'X'").await;
    let mut negative = raw.clone();
    negative.inputs[0].shape = vec![-1, 4];
    refused(negative, "negative").await;
    let mut huge = raw.clone();
    huge.inputs[0].shape = vec![i64::MAX, 4];
    refused(huge, "more elements than").await;
    let mut datatype = raw.clone();
    datatype.inputs[0].datatype = "FP31".to_owned();
    refused(datatype, "FP31").await;

    let client = RawGrpc::connect(watched.server.grpc).await;
    let bytes = raw.encode_to_vec();
    let garbage = Full::new(framed(&[0xff; 100], false)).boxed();
    let flagged = Full::new(framed(&bytes, true)).boxed();
    let cut_off = Full::new(framed(&bytes, false).slice(..20)).boxed();
    for (what, metadata, body) in [
        ("no protobuf", None, garbage),
        ("compressed without an encoding", None, flagged),
        ("a frame cut off", None, cut_off),
        ("an unknown encoding", Some(("grpc-encoding", "br")), Full::new(framed(&bytes, true)).boxed()),
    ] {
        let metadata: Vec<_> = metadata.into_iter().collect();
        let outcome = client.call(INFER, &metadata, body).await.unwrap();
        assert!([3, 12, 13].contains(&outcome.code), "{what}: {outcome:?}");
        assert!(!outcome.text.is_empty(), "{what}: {outcome:?}");
    }
    let unknown = client.call("/inference.GRPCInferenceService/Nothing", &[], body_of(&raw)).await.unwrap();
    assert_eq!(unknown.code, 12, "{unknown:?}");
    watched.went_on("malformed messages").await;
}

/// More connections than the limit: the ones beyond are closed at once, and those that are open go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_are_bounded() {
    const ASK: &[u8] = b"GET /v2/health/ready HTTP/1.1\r\nhost: a\r\n\r\n";
    let repository = TempDir::new();
    repository.add("iris_logreg", "iris", 1);
    let server = Server::start(repository.path(), &["--max-connections", "10"]);
    let mut good = TcpStream::connect(server.http).await.unwrap();
    assert_eq!(exchange(&mut good, ASK).await, "HTTP/1.1 200");
    let mut held = vec![];
    for _ in 0..30 {
        held.push(TcpStream::connect(server.http).await.unwrap());
    }
    // The last ones are over the limit: closed without a word.
    for stream in held.iter_mut().skip(15) {
        assert_eq!(read_to_end(stream).await, "");
    }
    assert!(server.metric(r#"headgate_connections_refused_total{listener="http"}"#) >= 15.0);
    assert_eq!(exchange(&mut good, ASK).await, "HTTP/1.1 200");
    // Once they are gone there is room again.
    drop(held);
    crate::support::eventually("a new connection is served", async || {
        match crate::support::client::get_blocking(server.http, "/v2/health/ready").0 {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
}

/// Writes a request and reads the first line of its answer.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = stream.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..length]).chars().take("HTTP/1.1 200".len()).collect()
}
