//! Clients that misbehave: bytes on a socket, and gRPC calls whose frames are written by hand.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_stream::StreamExt;

use super::server::PATIENCE;

pub type Body = BoxBody<Bytes, std::convert::Infallible>;

pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Writes bytes to a fresh connection and reads what comes until the server closes it.
pub async fn say(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

/// Everything until the server closes the connection; panics when it never does.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    let reading = async {
        // A reset is a close, too.
        while let Ok(count @ 1..) = stream.read(&mut chunk).await {
            heard.extend_from_slice(&chunk[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes the connection");
    String::from_utf8_lossy(&heard).into_owned()
}

/// Writes `drop` again and again until the server closes the connection, and gives what it said.
pub async fn drip(address: SocketAddr, head: &str, drop: &str, pause: Duration) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let head = head.to_owned();
    let drop = drop.to_owned();
    let writing = tokio::spawn(async move {
        let mut result = writer.write_all(head.as_bytes()).await;
        while result.is_ok() {
            tokio::time::sleep(pause).await;
            result = writer.write_all(drop.as_bytes()).await;
        }
    });
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    let reading = async {
        while let Ok(count @ 1..) = reader.read(&mut chunk).await {
            heard.extend_from_slice(&chunk[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes the connection");
    writing.abort();
    String::from_utf8_lossy(&heard).into_owned()
}

/// What a gRPC call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub text: String,
    pub message: Bytes,
}

/// One HTTP/2 connection for gRPC calls written by hand. Its client never enforces a deadline of its own.
#[derive(Clone)]
pub struct RawGrpc {
    sender: SendRequest<Body>,
    address: SocketAddr,
}

impl RawGrpc {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (sender, connection) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender, address }
    }

    /// Makes a call and reads its answer to the end. An `Err` is a call that got no gRPC status.
    pub async fn call(&self, path: &str, metadata: &[(&str, &str)], body: Body) -> Result<Outcome, String> {
        let mut request = http::Request::post(format!("http://{}{path}", self.address))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in metadata {
            request = request.header(*name, *value);
        }
        let request = request.body(body).unwrap();
        let mut sender = self.sender.clone();
        let calling = async {
            sender.ready().await.map_err(|cause| format!("{cause:?}"))?;
            let (head, body) = sender.send_request(request).await.map_err(|cause| format!("{cause:?}"))?.into_parts();
            let body = body.collect().await.map_err(|cause| format!("{cause:?}"))?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let all = [head.headers, trailers];
            let field = |name: &str| all.iter().find_map(|map| map.get(name)).map(|value| value.to_str().unwrap());
            let code = field("grpc-status").ok_or_else(|| format!("no grpc-status, HTTP status {}", head.status))?;
            let text = percent_encoding::percent_decode_str(field("grpc-message").unwrap_or("")).decode_utf8_lossy();
            Ok(Outcome { code: code.parse().unwrap(), text: text.into_owned(), message: body.to_bytes() })
        };
        tokio::time::timeout(PATIENCE, calling).await.expect("the call ends")
    }
}

/// A message behind its five bytes: a flag and a length.
pub fn framed(message: &[u8], compressed: bool) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(compressed.into());
    frame.put_u32(message.len() as u32);
    frame.put_slice(message);
    frame.freeze()
}

pub fn body_of(message: &impl Message) -> Body {
    Full::new(framed(&message.encode_to_vec(), false)).boxed()
}

/// A body that sends these bytes and then stays open in silence.
pub fn stalled(bytes: Bytes) -> Body {
    let frames = tokio_stream::iter([Ok(Frame::data(bytes))]).chain(tokio_stream::pending());
    BodyExt::boxed(StreamBody::new(frames))
}
