//! ACCEPT: sockets, connections and their limits, for both protocols.
//!
//! [`serve`] is the accept loop. Each connection runs as one task ([`connection`]) that drives hyper and watches what
//! hyper doesn't: a head that never ends, a connection without requests, a peer that doesn't read ([`activity`]).
//! Nothing here knows what a request means.
//!
//! Shutting down is two steps: [`announce`], which turns readiness off and goes on accepting for a moment, and the drain
//! that the cancelled token starts in every [`serve`].

mod activity;
mod config;
mod connection;
mod counted;
mod io;
#[cfg(test)]
mod tests;

pub use config::{Http2Limits, Protocols, ServerConfig, TimeLimits};

use std::io::{Error, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::Service;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::health::{Health, Phase};
use crate::telemetry::metrics;
use connection::Connections;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a listener can serve: hyper's service, one clone of it a connection.
pub trait Serve:
    Service<Request<Incoming>, Response = Response<Self::Body>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static;
}

impl<S, B> Serve for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Body = B;
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that had to be cut, because they were not done at the deadline.
    pub cut: usize,
}

/// The first step of shutting down: readiness goes off at once, while new requests are still accepted for `pre_drain`,
/// so that load balancers can turn away first. Then `drain` is cancelled.
pub async fn announce(health: &Health, pre_drain: Duration, drain: &CancellationToken) {
    health.advance(Phase::Draining);
    tokio::time::sleep(pre_drain).await;
    drain.cancel();
}

/// Accepts connections until `drain` is cancelled; then closes the listener, tells every connection to finish, and
/// waits for them, at most `config.drain_timeout`.
///
/// Errors of the listener are waited out: none ends the server.
pub async fn serve<S: Serve>(
    listener: TcpListener,
    service: S,
    config: ServerConfig,
    drain: CancellationToken,
) -> Drained {
    let config = Arc::new(config);
    let connections = Connections::new(service, config.clone(), drain.clone());
    let mut open = JoinSet::new();
    let mut backoff = Backoff::default();
    loop {
        metrics::set_connections(config.listener, open.len());
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    backoff = Backoff::default();
                    admit(&connections, &config, &mut open, stream);
                }
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    let delay = backoff.next();
                    tracing::warn!(listener = config.listener, %error, ?delay, "can't accept a connection");
                    let _ = tokio::time::timeout(delay, drain.cancelled()).await;
                }
            },
            Some(ended) = open.join_next() => report_panic(ended),
            () = drain.cancelled() => break,
        }
    }
    drop(listener);
    finish(&config, open).await
}

/// Starts a connection, or closes it at once where the limit is reached: left waiting in the backlog it would look
/// like a server that hangs.
fn admit<S: Serve>(connections: &Connections<S>, config: &ServerConfig, open: &mut JoinSet<()>, stream: TcpStream) {
    while let Some(ended) = open.try_join_next() {
        report_panic(ended);
    }
    if open.len() >= config.max_connections {
        metrics::count_refused_connection(config.listener);
        return;
    }
    open.spawn(connections.run(stream));
}

async fn finish(config: &ServerConfig, mut open: JoinSet<()>) -> Drained {
    let all = async {
        while let Some(ended) = open.join_next().await {
            report_panic(ended);
            metrics::set_connections(config.listener, open.len());
        }
    };
    let _ = tokio::time::timeout(config.drain_timeout, all).await;
    let cut = open.len();
    for _ in 0..cut {
        metrics::count_cut_connection(config.listener, "drain");
    }
    open.shutdown().await;
    metrics::set_connections(config.listener, 0);
    Drained { cut }
}

fn report_panic(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("a connection's task panicked; the others go on");
    }
}

/// Whether an accept error is that of the connection about to be accepted, and the next one may be tried at once.
fn concerns_one_connection(error: &Error) -> bool {
    use ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Waits between attempts while the system has no file descriptors or memory to give.
struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(Duration::from_millis(10))
    }
}

impl Backoff {
    const LONGEST: Duration = Duration::from_secs(1);

    fn next(&mut self) -> Duration {
        let delay = self.0;
        self.0 = (delay * 2).min(Self::LONGEST);
        delay
    }
}
