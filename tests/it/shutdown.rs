//! Shutting down loses nothing: SIGTERM turns readiness off at once, what was accepted is answered, the exit status is
//! 0, and neither idle nor half-sent connections hold it up. A second signal ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use headgate::tensor::{DataType, Tensor};

use crate::support::client::get_blocking;
use crate::support::infer::{Call, Encoding, Wires};
use crate::support::repository::TempDir;
use crate::support::server::Server;
use crate::support::{eventually, zoo};

/// Limits so long that nothing but the drain itself ends a connection.
const ENDLESS: [&str; 8] =
    ["--drain-timeout", "600s", "--header-timeout", "600s", "--idle-timeout", "600s", "--body-timeout", "600s"];

fn serve_slow(flags: &[&str]) -> (TempDir, Server) {
    let repository = TempDir::new();
    repository.add("slow_matmul24", "slow", 1);
    repository.add("iris_logreg", "iris", 1);
    let flags = [&["--workers", "1"], flags].concat();
    let server = Server::start(repository.path(), &flags);
    (repository, server)
}

fn slow_inputs(rows: usize) -> Vec<(String, Tensor)> {
    vec![("x".to_owned(), Tensor::zeros(DataType::Fp32, vec![rows, 1024]))]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_in_flight_is_answered() {
    let (_repository, mut server) = serve_slow(&ENDLESS);
    let mut waiting = vec![];
    for number in 0..12 {
        let wires = Wires::connect(&server).await;
        waiting.push(tokio::spawn(async move {
            let encoding = if number % 2 == 0 { Encoding::Binary } else { Encoding::Raw };
            let inputs = slow_inputs(16);
            wires.infer(encoding, &Call { model: "slow", version: "", inputs: &inputs }).await
        }));
    }
    eventually("twelve requests are admitted", async || {
        // Some may be answered already.
        let answered = server.metric(r#"nv_inference_request_success{model="slow",version="1"}"#);
        let pending = server.metric(r#"nv_inference_pending_request_count{model="slow",version="1"}"#);
        if pending + answered >= 12.0 { Ok(()) } else { Err(format!("{pending} pending, {answered} answered")) }
    })
    .await;
    let pending = server.metric(r#"nv_inference_pending_request_count{model="slow",version="1"}"#);
    server.signal("TERM");
    for request in waiting {
        let reply = request.await.unwrap();
        assert!(reply.is_ok(), "{}", reply.unwrap_err());
    }
    assert_eq!(server.ends().await.code(), Some(0));
    println!("shutdown: 12 requests in flight answered, {pending} of them not yet at the signal");
    assert!(pending > 0.0, "every request was answered before the signal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readiness_goes_off_first_and_accepting_goes_on_for_a_moment() {
    const PRE_DRAIN: Duration = Duration::from_secs(2);
    let (_repository, mut server) = serve_slow(&[&ENDLESS[..], &["--pre-drain", "2s"]].concat());
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let mut load = vec![];
    for number in 0..4 {
        let (wires, stop, answered) = (Wires::connect(&server).await, stop.clone(), answered.clone());
        load.push(tokio::spawn(async move {
            let inputs = zoo::inputs("iris_logreg", "b1");
            let encoding = Encoding::ALL[number];
            while !stop.load(SeqCst) {
                let result = wires.infer(encoding, &Call { model: "iris", version: "", inputs: &inputs }).await;
                // What is under way when accepting ends may find the door shut.
                assert!(result.is_ok() || stop.load(SeqCst), "{}", result.unwrap_err());
                answered.fetch_add(1, SeqCst);
            }
        }));
    }
    server.signal("TERM");
    let signalled = Instant::now();
    let (status, body) = eventually("readiness is off", async || match get_blocking(server.http, "/v2/health/ready") {
        (503, body) => Ok((503, body)),
        other => Err(format!("{other:?}")),
    })
    .await;
    let ready: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &ready["ready"]), (503, &false.into()));
    assert_eq!(get_blocking(server.http, "/v2/health/live").0, 200);
    let before = answered.load(SeqCst);
    // New connections and old ones are served alike for most of the moment.
    while signalled.elapsed() < PRE_DRAIN / 2 {
        assert_eq!(get_blocking(server.http, "/v2/models/iris/ready").0, 200);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let during = answered.load(SeqCst) - before;
    stop.store(true, SeqCst);
    for client in load {
        client.await.unwrap();
    }
    println!("shutdown: {during} requests answered while readiness was off");
    assert!(during > 0);
    assert_eq!(server.ends().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_half_sent_connections_do_not_hold_it_up() {
    let (_repository, mut server) = serve_slow(&ENDLESS);
    let mut open = vec![];
    for address in [server.http, server.grpc] {
        // Silent from the start.
        open.push(TcpStream::connect(address).await.unwrap());
        // A head that never ends.
        let mut half = TcpStream::connect(address).await.unwrap();
        half.write_all(b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ncontent-le").await.unwrap();
        open.push(half);
    }
    // Kept alive after an answer.
    let mut idle = TcpStream::connect(server.http).await.unwrap();
    idle.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 1024]).await.unwrap() > 0);
    open.push(idle);
    let grpc = Wires::connect(&server).await;
    let inputs = zoo::inputs("iris_logreg", "b1");
    assert!(grpc.infer(Encoding::Raw, &Call { model: "iris", version: "", inputs: &inputs }).await.is_ok());
    server.signal("TERM");
    // The drain alone would wait for ten minutes.
    assert_eq!(server.ends().await.code(), Some(0));
    drop((open, grpc));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let (_repository, mut server) = serve_slow(&ENDLESS);
    // A request whose body doesn't come is in flight for as long as the limits allow: ten minutes.
    let mut half = TcpStream::connect(server.http).await.unwrap();
    half.write_all(b"POST /v2/models/iris/infer HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n{").await.unwrap();
    // An answer on another connection shows that the server has had time to read it.
    assert_eq!(get_blocking(server.http, "/v2/health/live").0, 200);
    server.signal("TERM");
    eventually("the listener closes", async || match get_blocking(server.http, "/v2/health/live").0 {
        0 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(server.is_running(), "it did not wait for the request in flight");
    server.signal("TERM");
    let status = server.ends().await;
    assert!(!status.success(), "{status}");
}
