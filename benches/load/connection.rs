//! A connection of any protocol, and what came of a request on it.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::answer::{Body, Checker};
use crate::grpc::{self, Grpc};
use crate::http1::Http1;
use crate::workload::Protocol;

const INFER_PATH: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Between two tries to connect again.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a server's error text that are kept.
const MAX_ERROR_BYTES: usize = 160;

/// A request's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Answered, and the answer is the one that is due.
    Answered,
    /// Turned away for load: 503 or 429, UNAVAILABLE.
    Refused,
    /// Anything else, with a text that equal errors share.
    Failed(String),
}

/// A request as bytes, and the check of its answers. The connections of a thread share it.
#[derive(Clone)]
pub struct Question {
    pub bytes: Bytes,
    pub checker: RefCell<Checker>,
}

enum Wire {
    Http(Http1),
    Grpc(Grpc),
}

/// A connection that is made again after a failure.
pub struct Connection {
    address: SocketAddr,
    protocol: Protocol,
    wire: Option<Wire>,
    /// The body of the last answer over gRPC.
    message: Bytes,
}

impl Connection {
    /// # Errors
    /// That the first connection can't be made.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self, String> {
        let wire = connect(address, protocol).await?;
        Ok(Self { address, protocol, wire: Some(wire), message: Bytes::new() })
    }

    /// One more stream of the same connection, where the protocol has streams.
    pub async fn sibling(&self) -> Result<Self, String> {
        match &self.wire {
            Some(Wire::Grpc(grpc)) => {
                let wire = Some(Wire::Grpc(grpc.clone()));
                Ok(Self { address: self.address, protocol: self.protocol, wire, message: Bytes::new() })
            }
            _ => Self::open(self.address, self.protocol).await,
        }
    }

    /// Asks, waits for the answer and checks it.
    pub async fn ask(&mut self, question: &Question) -> Outcome {
        match self.send(&question.bytes).await {
            Ok(Outcome::Answered) => match question.checker.borrow_mut().check(self.body()) {
                Ok(()) => Outcome::Answered,
                Err(reason) => Outcome::Failed(reason),
            },
            Ok(outcome) => outcome,
            Err(reason) => {
                self.wire = None;
                Outcome::Failed(reason)
            }
        }
    }

    /// The body of the last answer, over gRPC its message.
    pub fn body(&self) -> Body<'_> {
        match &self.wire {
            Some(Wire::Http(http)) => http.body(),
            _ => Body { bytes: &self.message, head: None },
        }
    }

    async fn send(&mut self, request: &Bytes) -> Result<Outcome, String> {
        if self.wire.is_none() {
            tokio::time::sleep(PAUSE).await;
            self.wire = Some(connect(self.address, self.protocol).await?);
        }
        match &mut self.wire {
            Some(Wire::Http(http)) => {
                let status = http.call(request).await.map_err(|error| error.to_string())?;
                Ok(match status {
                    200 => Outcome::Answered,
                    503 | 429 => Outcome::Refused,
                    _ => Outcome::Failed(format!("{status}: {}", beginning(http.body().bytes))),
                })
            }
            Some(Wire::Grpc(grpc)) => {
                let reply = grpc.call(request).await.map_err(|error| error.to_string())?;
                self.message = reply.message;
                Ok(match reply.status {
                    grpc::OK => Outcome::Answered,
                    grpc::UNAVAILABLE => Outcome::Refused,
                    status => Outcome::Failed(format!("grpc-status {status}: {}", beginning(reply.text.as_bytes()))),
                })
            }
            None => Err("not connected".to_owned()),
        }
    }
}

async fn connect(address: SocketAddr, protocol: Protocol) -> Result<Wire, String> {
    match protocol {
        Protocol::Json | Protocol::Binary => {
            let http = Http1::connect(address).await.map_err(|error| format!("can't connect: {error}"))?;
            Ok(Wire::Http(http))
        }
        Protocol::Grpc => Ok(Wire::Grpc(Grpc::connect(address, INFER_PATH).await?)),
    }
}

fn beginning(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(MAX_ERROR_BYTES)]).into_owned()
}
