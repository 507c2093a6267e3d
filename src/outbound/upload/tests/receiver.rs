//! A server that takes objects as S3, GCS and Azure do, as far as one PUT goes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The path, decoded, and the bytes of what was put.
pub type Put = (String, Vec<u8>);

pub struct Receiver {
    pub url: String,
    put: mpsc::UnboundedReceiver<Put>,
}

/// An address where nobody listens yet.
pub fn free_address() -> (SocketAddr, String) {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    (address, format!("http://{address}"))
}

impl Receiver {
    /// Answers with the statuses in turn, then with 200.
    pub async fn start(statuses: &[u16]) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), statuses).await
    }

    pub async fn start_at(address: SocketAddr, statuses: &[u16]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let statuses = Arc::new(Mutex::new(statuses.iter().rev().copied().collect::<Vec<_>>()));
        let (told, put) = mpsc::unbounded_channel();
        let answer = move |request: Request<Incoming>| {
            let (told, statuses) = (told.clone(), statuses.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                assert_eq!(parts.method, "PUT");
                let path = percent_decode_str(parts.uri.path()).decode_utf8().unwrap().into_owned();
                let status = statuses.lock().unwrap().pop().unwrap_or(200);
                _ = told.send((path, body.to_vec()));
                let response = Response::builder().status(status).header("etag", "\"e\"");
                Ok::<_, hyper::Error>(response.body(Full::new(Bytes::new())).unwrap())
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(answer.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, put }
    }

    pub async fn next(&mut self) -> Put {
        tokio::time::timeout(Duration::from_secs(60), self.put.recv()).await.expect("an upload").unwrap()
    }

    /// Whether everything that came was taken by `next`.
    pub fn nothing_more(&mut self) -> bool {
        self.put.try_recv().is_err()
    }
}
