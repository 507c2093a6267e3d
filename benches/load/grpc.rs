//! A client of unary gRPC calls with prepared messages, on HTTP/2 itself: what a generated client adds would be paid by
//! the server's cores.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{HeaderMap, Method, Request};
use tokio::net::TcpStream;

/// Bytes that a server may send before they are taken, for a stream and a connection.
const WINDOW_BYTES: u32 = 4 << 20;
/// Not compressed, and the length.
const PREFIX_BYTES: usize = 5;

pub const OK: u32 = 0;
pub const UNAVAILABLE: u32 = 14;

/// A handle on a connection; clones share it.
#[derive(Clone)]
pub struct Grpc {
    send: SendRequest<Bytes>,
    request: Request<()>,
}

/// A call's status, and its message if that is OK.
pub struct Reply {
    pub status: u32,
    pub text: String,
    pub message: Bytes,
}

impl Grpc {
    /// Connects, and starts the connection's task on this thread's runtime.
    pub async fn connect(address: SocketAddr, path: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("can't connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let mut builder = client::Builder::new();
        builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES).enable_push(false);
        let (send, connection) = builder.handshake(stream).await.map_err(|error| error.to_string())?;
        // Its error reaches every call.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .map_err(|error| error.to_string())?;
        Ok(Self { send, request })
    }

    /// Sends one message and waits for the call's end.
    ///
    /// # Errors
    /// The connection's or the stream's; the connection may be of no more use.
    pub async fn call(&mut self, message: &Bytes) -> Result<Reply, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let (answer, mut stream) = send.send_request(self.request.clone(), false)?;
        stream.send_data(message.clone(), true)?;
        let (head, mut body) = answer.await?.into_parts();
        let mut data = Vec::with_capacity(1);
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            data.push(piece);
        }
        let trailers = body.trailers().await?;
        // A call without an answer has its status in the head.
        Ok(reply(trailers.as_ref().unwrap_or(&head.headers), data))
    }
}

fn reply(trailers: &HeaderMap, mut pieces: Vec<Bytes>) -> Reply {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut message = match pieces.len() {
        1 => pieces.remove(0),
        _ => pieces
            .iter()
            .fold(BytesMut::new(), |mut all, piece| {
                all.extend_from_slice(piece);
                all
            })
            .freeze(),
    };
    // A status that is missing is no success.
    let status = text("grpc-status").parse().unwrap_or(u32::MAX);
    message.advance(PREFIX_BYTES.min(message.len()));
    Reply { status, text: text("grpc-message").to_owned(), message }
}
