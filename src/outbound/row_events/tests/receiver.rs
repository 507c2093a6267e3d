//! A receiver of events: quick, failing, or slow until it is told to answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// How events are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// Not until this is another answer.
    Never,
}

pub struct Receiver {
    pub url: String,
    pub answer: watch::Sender<Answer>,
    came: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
}

impl Receiver {
    /// Answers with the first statuses in turn, then as `answer` says.
    pub async fn start(first: &[u16], answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let first = Arc::new(Mutex::new(first.iter().rev().copied().collect::<Vec<_>>()));
        let answer = watch::Sender::new(answer);
        let (told, came) = mpsc::unbounded_channel();
        let answers = answer.subscribe();
        let serve = move |request: Request<Incoming>| {
            let (told, first, mut answers) = (told.clone(), first.clone(), answers.clone());
            async move {
                let (parts, body) = request.into_parts();
                assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/events"));
                let body = body.collect().await?.to_bytes();
                _ = told.send((parts.headers, body));
                let scripted = first.lock().unwrap().pop();
                let status = match scripted {
                    Some(status) => status,
                    None => match *answers.wait_for(|answer| *answer != Answer::Never).await.unwrap() {
                        Answer::Status(status) => status,
                        Answer::Never => unreachable!(),
                    },
                };
                let response = Response::builder().status(status).header("location", "/elsewhere");
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

    pub async fn next(&mut self) -> (HeaderMap, Bytes) {
        tokio::time::timeout(Duration::from_secs(60), self.came.recv()).await.expect("an event").unwrap()
    }

    /// Events that came and were not taken by `next`.
    pub fn others(&mut self) -> usize {
        std::iter::from_fn(|| self.came.try_recv().ok()).count()
    }
}
