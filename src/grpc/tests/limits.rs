//! Calls that no well-behaved client makes, frame by frame.

use std::convert::Infallible;

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::*;
use crate::budget::ByteBudget;
use crate::grpc::codec::MAX_FIELDS;

type RawBody = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

/// A connection whose calls are made by hand.
struct Raw {
    send: SendRequest<RawBody>,
}

/// What goes into a call's request body; dropped, the body ends.
type Sender = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;

impl Raw {
    async fn connect(server: &Served) -> Self {
        let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
        let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self { send }
    }

    /// Begins a call; its answer, and where its body goes.
    fn call(&mut self, path: &str) -> (impl Future<Output = Response<Incoming>> + use<>, Sender) {
        let (sender, receiver) = mpsc::channel(1000);
        let request = Request::post(format!("http://x{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(ReceiverStream::new(receiver)))
            .unwrap();
        let answer = self.send.send_request(request);
        (async move { timeout(PATIENCE, answer).await.unwrap().unwrap() }, sender)
    }
}

async fn put(sender: &Sender, bytes: &[u8]) {
    sender.send(Ok(Frame::data(Bytes::copy_from_slice(bytes)))).await.unwrap();
}

/// The status at the end of an answer.
async fn status(answer: Response<Incoming>) -> Status {
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return status;
    }
    let collected = timeout(PATIENCE, answer.into_body().collect()).await.unwrap().unwrap();
    Status::from_header_map(collected.trailers().unwrap()).unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat()
}

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

async fn small_server(edit: impl FnOnce(&mut DataPlane), body_timeout: Duration) -> Served {
    let echo = FunctionModel::identity(&[("x", DataType::Fp32, 3)]);
    let mut plane = data_plane(&[("echo", 1, echo)]);
    edit(Arc::get_mut(&mut plane).unwrap());
    start(plane, GrpcConfig { body_timeout, ..GrpcConfig::default() }).await
}

#[tokio::test]
async fn a_hundred_claims_of_64_mib_promise_nothing_and_are_cut_off() {
    let server = small_server(|plane| plane.budget = ByteBudget::new(1 << 20), Duration::from_millis(500)).await;
    let mut raw_client = Raw::connect(&server).await;
    let mut calls = Vec::new();
    for i in 0..100 {
        let (answer, sender) = raw_client.call(if i % 2 == 0 { INFER } else { STREAM });
        put(&sender, &[0, 0x04, 0, 0, 0]).await;
        calls.push((tokio::spawn(async move { status(answer.await).await }), sender));
    }
    let mut good = server.client().await;
    for _ in 0..20 {
        assert!(server.plane.budget.in_use() <= 100 * 64 + 1000);
        good.model_infer(echo("", [1.0; 3])).await.unwrap();
    }
    for (answer, _sender) in calls {
        let status = answer.await.unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(status.message().starts_with("the request's body did not arrive within 0.5 s"), "{status:?}");
    }
    good.model_infer(echo("", [1.0; 3])).await.unwrap();
    assert_eq!(server.plane.budget.in_use(), 0);
}

#[tokio::test]
async fn bodies_over_the_budget_are_shed_with_a_word_about_when_to_retry() {
    let server = small_server(|plane| plane.budget = ByteBudget::new(100_000), Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    let (answer, sender) = raw_client.call(INFER);
    put(&sender, &[0, 0, 0x03, 0, 0]).await;
    for _ in 0..12 {
        put(&sender, &[0; 10_000]).await;
    }
    let status = status(answer.await).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().starts_with("Exceeds maximum bytes in flight: "), "{status:?}");
    assert!(!status.details().is_empty());
    server.client().await.model_infer(echo("", [1.0; 3])).await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_by_its_prefix() {
    let server = small_server(|plane| plane.max_body_bytes = 1000, Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    for path in [INFER, STREAM] {
        let (answer, sender) = raw_client.call(path);
        put(&sender, &framed(&[0; 1001])).await;
        let status = status(answer.await).await;
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "request of 1001 bytes exceeds the limit of 1000 bytes");
        assert!(status.details().is_empty());
    }
}

#[tokio::test]
async fn a_compressed_message_is_cut_at_its_decompressed_size() {
    let server = small_server(|plane| plane.max_body_bytes = 1 << 20, Duration::from_secs(30)).await;
    let gzip = tonic::codec::CompressionEncoding::Gzip;
    let bomb = ModelInferRequest { raw_input_contents: vec![vec![0; 8 << 20].into()], ..echo("", [0.0; 3]) };
    let status = server.client().await.send_compressed(gzip).model_infer(bomb).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("1048576 bytes"), "{status:?}");
}

#[tokio::test]
async fn a_large_request_and_its_answer_pass_whole() {
    let server = small_server(|_| (), Duration::from_secs(30)).await;
    let rows = 200_000;
    let values: Vec<f32> = (0..3 * rows).map(|i| i as f32).collect();
    let request = ModelInferRequest {
        inputs: vec![input("x", &[rows as i64, 3])],
        raw_input_contents: vec![raw(&values)],
        ..echo("", [0.0; 3])
    };
    let answer = server.client().await.model_infer(request).await.unwrap().into_inner();
    assert_eq!(answer.raw_output_contents, [raw(&values)]);
}

#[tokio::test]
async fn a_message_of_too_many_fields_is_refused_before_it_is_decoded() {
    let server = small_server(|_| (), Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    let (answer, sender) = raw_client.call(INFER);
    // `inputs`, empty
    put(&sender, &framed(&[0x2a, 0].repeat(MAX_FIELDS + 1))).await;
    drop(sender);
    let status = status(answer.await).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("more than 16384 inputs"), "{status:?}");
}

#[tokio::test]
async fn what_is_no_message_is_refused_and_the_connection_goes_on() {
    let server = small_server(|_| (), Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    for (body, code) in [
        (framed(&[0xff; 20]), Code::InvalidArgument),
        (vec![0, 0, 0, 0, 9, 1], Code::InvalidArgument),
        (vec![7, 0, 0, 0, 0], Code::Internal),
    ] {
        let (answer, sender) = raw_client.call(INFER);
        put(&sender, &body).await;
        drop(sender);
        assert_eq!(status(answer.await).await.code(), code, "{body:?}");
    }
    let (answer, sender) = raw_client.call(INFER);
    put(&sender, &framed(&echo("", [1.0; 3]).encode_to_vec())).await;
    drop(sender);
    assert_eq!(status(answer.await).await.code(), Code::Ok);
}

#[tokio::test]
async fn paths_that_are_not_served_are_unimplemented() {
    let server = small_server(|_| (), Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    for path in
        ["/", "/x", "/inference.GRPCInferenceService", "/other.Service/Call", "/inference.GRPCInferenceService/No"]
    {
        let (answer, sender) = raw_client.call(path);
        drop(sender);
        assert_eq!(status(answer.await).await.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let server = small_server(|_| (), Duration::from_secs(30)).await;
    let mut raw_client = Raw::connect(&server).await;
    let (_, receiver) = mpsc::channel(1);
    let request = Request::post(format!("http://x{INFER}"))
        .header("content-type", "application/json")
        .body(StreamBody::new(ReceiverStream::new(receiver)))
        .unwrap();
    let answer = timeout(PATIENCE, raw_client.send.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.status(), 415);
}
