//! Who gets what is sent: quick, failing, or slow until it is told to answer.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// Not until this is another answer.
    Never,
}

/// What came, and what it was answered with, if that was clear at once.
#[derive(Debug)]
pub struct Received {
    pub head: Parts,
    pub body: Bytes,
    pub status: Option<u16>,
}

pub struct Receiver {
    pub url: String,
    pub answer: watch::Sender<Answer>,
    came: mpsc::UnboundedReceiver<Received>,
}

/// An address where nobody listens yet.
pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Receiver {
    /// Answers with the first statuses in turn, then as `answer` says. Its URL has this path.
    pub async fn start(path: &str, first: &[u16], answer: Answer) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), path, first, answer).await
    }

    pub async fn start_at(address: SocketAddr, path: &str, first: &[u16], answer: Answer) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let first = Arc::new(Mutex::new(first.iter().rev().copied().collect::<Vec<_>>()));
        let answer = watch::Sender::new(answer);
        let (told, came) = mpsc::unbounded_channel();
        let answers = answer.subscribe();
        let serve = move |request: Request<Incoming>| {
            let (told, first, mut answers) = (told.clone(), first.clone(), answers.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let scripted = first.lock().unwrap().pop().map_or(*answers.borrow(), Answer::Status);
                let status = if let Answer::Status(status) = scripted { Some(status) } else { None };
                _ = told.send(Received { head, body, status });
                let status = match status {
                    Some(status) => status,
                    None => match *answers.wait_for(|answer| *answer != Answer::Never).await.unwrap() {
                        Answer::Status(status) => status,
                        Answer::Never => unreachable!(),
                    },
                };
                // A redirect leads nowhere, and stores tell what they took by its tag.
                let response =
                    Response::builder().status(status).header("location", "/elsewhere").header("etag", "\"e\"");
                Ok::<_, hyper::Error>(response.body(Full::new(Bytes::new())).unwrap())
            }
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service_fn(serve.clone());
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { url, answer, came }
    }

    pub async fn next(&mut self) -> Received {
        tokio::time::timeout(Duration::from_secs(60), self.came.recv()).await.expect("a request").unwrap()
    }

    /// How much came that was not taken by `next`.
    pub fn others(&mut self) -> usize {
        std::iter::from_fn(|| self.came.try_recv().ok()).count()
    }
}
