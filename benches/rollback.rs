//! How fast a rollback takes hold where ten times the load arrives that can be served.
//!
//! `cargo bench --bench rollback` starts a server with a rollout at 50 %, overloads it from this process, and then either
//! aborts the rollout or lets the candidate answer NaN until its breaker trips. What counts is the last request that the
//! candidate answered: how long after the cause it was sent. Every run has a server of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const RUNS: usize = 10;
/// Times the measured peak.
const OVERLOAD: f64 = 10.0;
/// Images in a request: they make the model slow.
const ROWS: usize = 16;
/// More than the arms' queues hold together, so that the rest is refused and asks again.
const CONNECTIONS: usize = 256;
const QUEUE: usize = 32;
/// Under overload before the cause, and after it.
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Bad answers that trip the breaker.
const STORM: usize = 16;

fn main() {
    let (mut aborts, mut replies, mut storms, mut from_first) = (vec![], vec![], vec![], vec![]);
    for _ in 0..RUNS {
        let (sent, reply, load) = abort();
        aborts.push(sent);
        replies.push(reply);
        println!("{load}");
        let (after_storm, after_first, load) = storm();
        storms.push(after_storm);
        from_first.push(after_first);
        println!("{load}");
    }
    println!("last request that the candidate answered, sent after:");
    report("the abort command was sent", aborts);
    report("the 16th NaN answer had come", storms);
    report("the first NaN answer had come", from_first);
    report("(and the abort's own answer took)", replies);
}

/// Minimum, median and maximum of milliseconds.
fn report(what: &str, mut times_ms: Vec<f64>) {
    times_ms.sort_by(f64::total_cmp);
    let (min, median, max) = (times_ms[0], times_ms[times_ms.len() / 2], times_ms[times_ms.len() - 1]);
    println!("{what}: min {min:.1} ms, median {median:.1} ms, max {max:.1} ms over {} runs", times_ms.len());
}

/// After the abort, in ms: when the last request was sent that the candidate answered, and when the abort was answered.
fn abort() -> (f64, f64, String) {
    let (server, load, rollout) = overloaded();
    let asked = Instant::now();
    let (status, _) = server.admin("POST", &format!("/admin/v1/rollouts/{rollout}/abort"), "{}");
    let reply = since(asked, Instant::now());
    assert_eq!(status, 200, "the abort");
    thread::sleep(AFTER);
    let (asks, summary) = load.end("abort");
    let last = last_to_candidate(&asks);
    assert!(asks.iter().filter(|ask| ask.done > asked && ask.is_answer()).count() > 50, "{summary}");
    let took = since(asked, last).max(0.0);
    (took, reply, format!("{summary}, {took:.1} ms after the command, whose answer took {reply:.1} ms"))
}

/// After the answer that trips the breaker, and after the first bad one, in ms: when the last request was sent that the
/// candidate answered.
fn storm() -> (f64, f64, String) {
    let (_server, load, _) = overloaded();
    load.knobs.is_bright.store(true, Ordering::Release);
    thread::sleep(AFTER + BEFORE);
    let (asks, summary) = load.end("storm");
    let mut bad: Vec<Instant> = asks.iter().filter(|ask| ask.is_nan).map(|ask| ask.done).collect();
    bad.sort();
    assert!(bad.len() >= STORM, "{} NaN answers: {summary}", bad.len());
    let last = last_to_candidate(&asks);
    let (from_storm, from_first) = (since(bad[STORM - 1], last).max(0.0), since(bad[0], last).max(0.0));
    let summary = format!("{summary}, {} NaN answers, {from_storm:.1} ms after the 16th", bad.len());
    (from_storm, from_first, summary)
}

fn last_to_candidate(asks: &[Ask]) -> Instant {
    asks.iter().filter(|ask| ask.by_candidate).map(|ask| ask.sent).max().expect("the candidate answered before")
}

/// Milliseconds, negative where the end came first.
fn since(start: Instant, end: Instant) -> f64 {
    let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
    if end >= start { ms(end - start) } else { -ms(start - end) }
}

/// A server whose rollout is at 50 %, under ten times its peak for a while, and the rollout's id.
fn overloaded() -> (Server, Load, String) {
    let server = Server::start();
    let closed = Load::start(server.http, 8, None);
    thread::sleep(Duration::from_millis(1500));
    let (asks, _) = closed.end("");
    let peak = asks.iter().filter(|ask| ask.is_answer()).count() as f64 / 1.5;
    let spec = json!({
        "steps": [{"weight_bp": 5000, "min_bake": "1h", "max_bake": "2h", "require": "no_harm"}],
        // The breaker alone decides.
        "analysis": {"checks": [{"event": "error", "dry_run": true}]},
    });
    let start = json!({"route": "digits", "to": 2, "spec": spec, "reason": "bench"}).to_string();
    let (status, view) = server.admin("POST", "/admin/v1/rollouts", &start);
    assert_eq!(status, 200, "{view}");
    let rollout = view["id"].as_str().expect("a rollout has an id").to_owned();
    let began = Instant::now();
    while server.admin("GET", &format!("/admin/v1/rollouts/{rollout}"), "").1["state"] != "baking" {
        assert!(began.elapsed() < PATIENCE, "the first step is not reached");
        thread::sleep(Duration::from_millis(10));
    }
    let load = Load::start(server.http, CONNECTIONS, Some(peak));
    thread::sleep(BEFORE);
    (server, load, rollout)
}

// ---- the server ----

struct Server {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// The digits twice, the second with NaN for bright images; ready.
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo");
        let home = folder.path().join("models/digits");
        for (version, file) in [("1", "digits_cnn_v2"), ("2", "digits_cnn_v6_nan_on_bright")] {
            std::fs::create_dir_all(home.join(version)).expect("a folder");
            let from = zoo.join(file).join("model.onnx");
            std::fs::copy(from, home.join(version).join("model.onnx")).expect("the zoo has it");
        }
        let queue = format!("dynamic_batching: {{default_queue_policy: {{max_queue_size: {QUEUE}}}}}");
        let settings = format!("version_policy: {{all: {{}}}}\nlabels: {{stable: 1}}\n{queue}\n");
        std::fs::write(home.join("model.yaml"), settings).expect("a file");
        let (http, admin) = (free_address(), free_address());
        let child = Command::new(env!("CARGO_BIN_EXE_headgate"))
            .arg("serve")
            .arg(folder.path().join("models"))
            .args(["--http-address", &http.to_string(), "--grpc-address", "127.0.0.1:0"])
            .args(["--admin-address", &admin.to_string(), "--log-level", "error", "--data-dir"])
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let server = Self { child, http, admin, _folder: folder };
        let started = Instant::now();
        while exchange(http, "GET", "/v2/health/ready", "").is_none_or(|(status, _)| status != 200) {
            assert!(started.elapsed() < PATIENCE, "not ready in time");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = exchange(self.admin, method, path, body).expect("the admin port answers");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> SocketAddr {
    // Free a moment ago; nothing else on this machine asks for it meanwhile.
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has free ports")
}

/// One request on a connection of its own; `None` where nobody answers.
fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
    let typed = format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{typed}{body}").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

// ---- the load ----

/// What became of one request.
struct Ask {
    sent: Instant,
    done: Instant,
    status: u16,
    by_candidate: bool,
    is_nan: bool,
}

impl Ask {
    fn is_answer(&self) -> bool {
        self.status == 200
    }
}

#[derive(Default)]
struct Knobs {
    is_bright: AtomicBool,
    is_over: AtomicBool,
}

struct Load {
    knobs: Arc<Knobs>,
    began: Instant,
    peak: f64,
    thread: JoinHandle<Vec<Ask>>,
}

impl Load {
    /// With a peak, requests come at ten times its rate; without one, as fast as they are answered.
    fn start(address: SocketAddr, connections: usize, peak: Option<f64>) -> Self {
        let knobs = Arc::new(Knobs::default());
        let period = peak.map(|peak| Duration::from_secs_f64(connections as f64 / (OVERLOAD * peak)));
        let shared = knobs.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let local = tokio::task::LocalSet::new();
            let tasks: Vec<_> = (0..connections)
                .map(|number| {
                    let offset = period.unwrap_or_default().mul_f64(number as f64 / connections as f64);
                    local.spawn_local(connection(address, shared.clone(), offset, period))
                })
                .collect();
            local.block_on(&runtime, async {
                let mut asks = vec![];
                for task in tasks {
                    asks.extend(task.await.expect("a connection does not panic"));
                }
                asks
            })
        });
        Self { knobs, began: Instant::now(), peak: peak.unwrap_or_default(), thread }
    }

    /// All requests, and a line about them.
    fn end(self, what: &str) -> (Vec<Ask>, String) {
        self.knobs.is_over.store(true, Ordering::Release);
        let seconds = self.began.elapsed().as_secs_f64();
        let asks = self.thread.join().expect("the load ends");
        let rate = |which: &dyn Fn(&Ask) -> bool| asks.iter().filter(|ask| which(ask)).count() as f64 / seconds;
        let (all, answered) = (rate(&|_| true), rate(&Ask::is_answer));
        let (refused, candidate) = (rate(&|ask| ask.status == 503), rate(&|ask| ask.by_candidate));
        let summary = format!(
            "{what}: peak {:.0}/s, offered {all:.0}/s, answered {answered:.0}/s ({candidate:.0}/s by the candidate), refused {refused:.0}/s",
            self.peak
        );
        (asks, summary)
    }
}

/// Asks at its times until it is over.
async fn connection(address: SocketAddr, knobs: Arc<Knobs>, offset: Duration, period: Option<Duration>) -> Vec<Ask> {
    let (dim, bright) = (request(0.1), request(1.0));
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the server accepts");
    stream.set_nodelay(true).expect("an option of every socket");
    let (mut asks, mut buffer) = (vec![], vec![]);
    let mut due = Instant::now() + offset;
    while !knobs.is_over.load(Ordering::Acquire) {
        if let Some(period) = period {
            tokio::time::sleep_until(due.into()).await;
            // What is late is not made up for.
            due = (due + period).max(Instant::now());
        }
        let bytes = if knobs.is_bright.load(Ordering::Acquire) { &bright } else { &dim };
        let sent = Instant::now();
        stream.write_all(bytes).await.expect("the connection stays");
        asks.push(answer(&mut stream, &mut buffer, sent).await);
    }
    asks
}

fn request(value: f32) -> Vec<u8> {
    let data = vec![value.to_string(); ROWS * 64].join(",");
    let input = format!(r#"{{"name":"image","shape":[{ROWS},1,8,8],"datatype":"FP32","data":[{data}]}}"#);
    let body = format!(r#"{{"inputs":[{input}],"parameters":{{"binary_data_output":true}}}}"#);
    let head = format!("POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}", body.len());
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// Reads one answer to its end.
async fn answer(stream: &mut tokio::net::TcpStream, buffer: &mut Vec<u8>, sent: Instant) -> Ask {
    buffer.clear();
    loop {
        assert!(stream.read_buf(buffer).await.expect("the connection stays") > 0, "the server hung up");
        let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).expect("a head is text");
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let length: usize = header("content-length:").expect("every answer has one").parse().expect("a number");
        if buffer.len() < end + 4 + length {
            continue;
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let last = buffer.last_chunk::<4>().map(|bytes| f32::from_le_bytes(*bytes));
        let is_nan = status == 200 && last.is_some_and(f32::is_nan);
        let by_candidate = header("headgate-arm:") == Some("candidate");
        return Ask { sent, done: Instant::now(), status, by_candidate, is_nan };
    }
}
