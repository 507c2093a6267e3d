//! One connection, from its first byte to its last.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Serve;
use super::activity::{Activity, Verdict};
use super::config::{Protocols, ServerConfig};
use super::counted::Counted;
use super::io::Watched;
use crate::telemetry::metrics;

/// hyper refuses to work with a smaller buffer.
const MIN_BUFFER_BYTES: usize = 8 << 10;

/// What the connections of a listener share.
pub struct Connections<S> {
    service: S,
    builder: Builder<TokioExecutor>,
    config: Arc<ServerConfig>,
    drain: CancellationToken,
}

impl<S: Serve> Connections<S> {
    pub fn new(service: S, config: Arc<ServerConfig>, drain: CancellationToken) -> Self {
        Self { service, builder: builder(&config), config, drain }
    }

    /// Serves a connection until it ends, is cut, or has drained.
    pub fn run(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + use<S> {
        let (service, builder) = (self.service.clone(), self.builder.clone());
        let (config, drain) = (self.config.clone(), self.drain.clone());
        async move { run(stream, service, &builder, &config, &drain).await }
    }
}

async fn run<S: Serve>(
    stream: TcpStream,
    service: S,
    builder: &Builder<TokioExecutor>,
    config: &ServerConfig,
    drain: &CancellationToken,
) {
    // Answers are written whole, so waiting for more to fill a packet would only delay them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(listener = config.listener, %error, "the connection is gone already");
        return;
    }
    let activity = Activity::new(Instant::now());
    let service = Counted::new(service, activity.clone(), config.max_headers);
    let io = TokioIo::new(Watched::new(stream, activity.clone()));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut checks = tokio::time::interval(config.times.check_interval());
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closing = None;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(listener = config.listener, %error, "a connection ended with an error");
                }
                return;
            }
            () = drain.cancelled(), if closing.is_none() => {
                connection.as_mut().graceful_shutdown();
                closing = Some(Instant::now());
            }
            _ = checks.tick() => match activity.verdict(Instant::now(), &config.times, closing) {
                Verdict::Keep => {}
                Verdict::Close(limit) => {
                    metrics::count_cut_connection(config.listener, limit.name());
                    connection.as_mut().graceful_shutdown();
                    closing = Some(Instant::now());
                }
                Verdict::Cut(limit) => {
                    metrics::count_cut_connection(config.listener, limit.name());
                    return;
                }
                Verdict::Done => return,
            }
        }
    }
}

fn builder(config: &ServerConfig) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // hyper's own limit also runs while a connection waits for its next request, so it would cut those that are
        // merely idle; the connection's activity tells the two apart.
        .header_read_timeout(None)
        .max_headers(config.max_headers)
        .max_buf_size((config.max_header_bytes as usize).max(MIN_BUFFER_BYTES));
    let limits = &config.http2;
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_send_buf_size(limits.send_buffer_bytes)
        .max_header_list_size(config.max_header_bytes)
        .keep_alive_interval(limits.ping_interval)
        .keep_alive_timeout(limits.ping_timeout);
    match config.protocols {
        Protocols::Http1And2 => builder,
        Protocols::Http2 => builder.http2_only(),
    }
}
