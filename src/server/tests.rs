//! Connections over real sockets: each limit cuts off whom it is for, and a good client goes on.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const SHORT: Duration = Duration::from_millis(200);
/// Ten times what is expected, and more for a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

type TestBody = BoxBody<Bytes, Infallible>;

struct Server {
    address: SocketAddr,
    drain: CancellationToken,
    task: JoinHandle<Drained>,
    /// Lets requests for `/wait` finish.
    release: Arc<Notify>,
    /// Says that such a request has arrived.
    arrived: mpsc::UnboundedReceiver<()>,
    /// Says that the answer of a request for `/flood` was dropped.
    dropped: mpsc::UnboundedReceiver<()>,
}

async fn start(config: ServerConfig) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (drain, release) = (CancellationToken::new(), Arc::new(Notify::new()));
    let (arrive, arrived) = mpsc::unbounded_channel();
    let (drop_sender, dropped) = mpsc::unbounded_channel();
    let service = service_fn({
        let release = release.clone();
        move |request: Request<Incoming>| {
            let (release, arrive, dropped) = (release.clone(), arrive.clone(), drop_sender.clone());
            async move {
                let body = match request.uri().path() {
                    "/wait" => {
                        arrive.send(()).unwrap();
                        release.notified().await;
                        Full::from("done").boxed()
                    }
                    "/flood" => Flood(dropped).boxed(),
                    _ => Full::from("ok").boxed(),
                };
                Ok::<Response<TestBody>, Infallible>(Response::new(body))
            }
        }
    });
    let task = tokio::spawn(serve(listener, service, config, drain.clone()));
    Server { address, drain, task, release, arrived, dropped }
}

/// An answer without end.
struct Flood(mpsc::UnboundedSender<()>);

impl Body for Flood {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 64 << 10])))))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn config() -> ServerConfig {
    ServerConfig { listener: "test", ..ServerConfig::http() }
}

fn with_times(edit: impl FnOnce(&mut TimeLimits)) -> ServerConfig {
    let mut config = config();
    edit(&mut config.times);
    config
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// Sends bytes, and reads until `end` has come.
async fn exchange(stream: &mut TcpStream, send: &[u8], end: &str) -> String {
    stream.write_all(send).await.unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(end) {
        let read = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

/// Reads until the peer closes; a reset is a close too.
async fn read_to_close(stream: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    timeout(PATIENCE, async { while matches!(stream.read_buf(&mut read).await, Ok(1..)) {} })
        .await
        .expect("the connection is closed");
    read
}

async fn is_served(address: SocketAddr) {
    let mut stream = connect(address).await;
    let answer = exchange(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_head_is_cut_while_others_are_served() {
    let server = start(with_times(|times| times.header = SHORT)).await;
    let mut slow = connect(server.address).await;
    slow.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
    is_served(server.address).await;
    assert_eq!(read_to_close(&mut slow).await, b"");
    is_served(server.address).await;
}

#[tokio::test]
async fn a_connection_between_two_requests_is_idle_and_no_slow_head() {
    let server = start(with_times(|times| times.header = Duration::from_millis(50))).await;
    let mut stream = connect(server.address).await;
    for _ in 0..2 {
        exchange(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "ok").await;
        tokio::time::sleep(SHORT).await;
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = start(with_times(|times| (times.idle, times.linger) = (SHORT, SHORT))).await;
    let mut silent = connect(server.address).await;
    assert_eq!(read_to_close(&mut silent).await, b"");
}

#[tokio::test]
async fn http2_without_a_whole_request_is_closed() {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // HEADERS on stream 1 without END_HEADERS
    let headers = [0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82];
    let preface = &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..];
    let config = with_times(|times| (times.header, times.idle, times.linger) = (SHORT, SHORT, SHORT));
    for protocols in [Protocols::Http1And2, Protocols::Http2] {
        let server = start(ServerConfig { protocols, ..config.clone() }).await;
        for sent in [preface[..10].to_vec(), preface.to_vec(), [preface, &settings, &headers].concat()] {
            let mut stream = connect(server.address).await;
            stream.write_all(&sent).await.unwrap();
            read_to_close(&mut stream).await;
        }
    }
}

#[tokio::test]
async fn heads_that_are_too_long_are_answered_with_431() {
    let server = start(config()).await;
    let many: String = (0..10_000).map(|i| format!("h{i}: v\r\n")).collect();
    let long = format!("h: {}\r\n", "v".repeat(40_000));
    for headers in [many, long] {
        let mut stream = connect(server.address).await;
        let head = format!("GET / HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
        // The server may answer and close before it has read all of it.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = read_to_close(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    }
    is_served(server.address).await;
}

#[tokio::test]
async fn http2_refuses_too_many_headers_too() {
    let server = start(config()).await;
    let io = TokioIo::new(connect(server.address).await);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for headers in [101, 10_000] {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = "http://x/".parse().unwrap();
        for i in 0..headers {
            let name: http::HeaderName = format!("h{i}").parse().unwrap();
            request.headers_mut().insert(name, "v".parse().unwrap());
        }
        match timeout(PATIENCE, send.send_request(request)).await.unwrap() {
            Ok(answer) => assert_eq!(answer.status(), 431),
            Err(error) => assert!(headers > 101, "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_cut() {
    let mut server = start(with_times(|times| times.send = SHORT)).await;
    let mut stream = connect(server.address).await;
    stream.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    timeout(PATIENCE, server.dropped.recv()).await.expect("the answer is given up");
    is_served(server.address).await;
}

#[tokio::test]
async fn a_peer_that_opens_no_window_is_cut() {
    let mut server = start(with_times(|times| times.send = SHORT)).await;
    let io = TokioIo::new(connect(server.address).await);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("http://x/flood").body(Empty::<Bytes>::new()).unwrap();
    // Held and not read, so that its window is never opened again; the connection itself stays lively.
    let _unread = timeout(PATIENCE, send.send_request(request)).await.unwrap().unwrap();
    timeout(PATIENCE, server.dropped.recv()).await.expect("the answer is given up");
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let server = start(ServerConfig { max_connections: 2, ..config() }).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(server.address).await;
        exchange(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "ok").await;
        open.push(stream);
    }
    assert_eq!(read_to_close(&mut connect(server.address).await).await, b"");
    exchange(&mut open[1], b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "ok").await;
    drop(open.pop());
    let freed = async {
        loop {
            let mut stream = connect(server.address).await;
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            if read_to_close(&mut stream).await.starts_with(b"HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(PATIENCE, freed).await.expect("a place is free again");
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_nothing_else() {
    let mut server = start(with_times(|times| times.linger = SHORT)).await;
    let mut idle = connect(server.address).await;
    exchange(&mut idle, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", "ok").await;
    let mut half = connect(server.address).await;
    half.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut busy = connect(server.address).await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.arrived.recv().await.unwrap();

    server.drain.cancel();
    assert_eq!(read_to_close(&mut idle).await, b"");
    assert_eq!(read_to_close(&mut half).await, b"");
    assert!(TcpStream::connect(server.address).await.is_err());
    server.release.notify_one();
    let answer = read_to_close(&mut busy).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("done"), "{answer:?}");
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn http2_requests_in_flight_finish_too() {
    let mut server = start(config()).await;
    let io = TokioIo::new(connect(server.address).await);
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = || Request::get("http://x/wait").body(Empty::<Bytes>::new()).unwrap();
    let answer = tokio::spawn(send.send_request(request()));
    server.arrived.recv().await.unwrap();
    server.drain.cancel();
    server.release.notify_one();
    let answer = timeout(PATIENCE, answer).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "done");
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap(), Drained { cut: 0 });
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let mut server = start(ServerConfig { drain_timeout: SHORT, ..config() }).await;
    let mut busy = connect(server.address).await;
    busy.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    server.arrived.recv().await.unwrap();
    server.drain.cancel();
    assert_eq!(timeout(PATIENCE, server.task).await.unwrap().unwrap(), Drained { cut: 1 });
}

#[tokio::test]
async fn readiness_goes_off_before_the_drain_begins() {
    let (health, drain) = (Health::default(), CancellationToken::new());
    health.advance(Phase::Ready);
    let announced = announce(&health, SHORT, &drain);
    tokio::pin!(announced);
    assert!(timeout(Duration::ZERO, &mut announced).await.is_err());
    assert!(!health.is_ready() && !drain.is_cancelled());
    announced.await;
    assert!(drain.is_cancelled());
}

#[test]
fn want_of_resources_is_waited_out_and_one_bad_connection_is_not() {
    assert!(concerns_one_connection(&Error::from(ErrorKind::ConnectionAborted)));
    // EMFILE, ENFILE, ENOBUFS, ENOMEM
    for code in [24, 23, 105, 12] {
        assert!(!concerns_one_connection(&Error::from_raw_os_error(code)));
    }
    let mut backoff = Backoff::default();
    let delays: Vec<u128> = (0..9).map(|_| backoff.next().as_millis()).collect();
    assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
}
