//! What can be set about a listener.

use std::time::Duration;

/// Limits of one listener. The defaults are for clients that are not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The listener's name on metrics.
    pub listener: &'static str,
    pub protocols: Protocols,
    /// Connections open at one time; further ones are closed at once.
    pub max_connections: usize,
    /// Headers of one request.
    pub max_headers: usize,
    /// Bytes of one request's head. At least 8 KiB are allowed.
    pub max_header_bytes: u32,
    pub times: TimeLimits,
    pub http2: Http2Limits,
    /// How long a drain may take before what is left is cut.
    pub drain_timeout: Duration,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/1.1, and HTTP/2 for clients that begin with its preface.
    Http1And2,
    Http2,
}

/// Times after which a connection is cut. Each may be passed by a quarter of the shortest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLimits {
    /// From the first byte of a request's head to its end (HTTP/1), or to the end of HTTP/2's preface.
    pub header: Duration,
    /// A connection without a request in flight, from its start or the last answer on.
    pub idle: Duration,
    /// The peer takes none of the bytes that wait for it, or less than a piece of an answer (64 KiB).
    pub send: Duration,
    /// What a connection that was told to close may still take for it, once nothing is in flight.
    pub linger: Duration,
}

/// HTTP/2's own limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2Limits {
    pub max_concurrent_streams: u32,
    /// What a client may send on a stream before we have read it.
    pub stream_window_bytes: u32,
    /// The same for a connection.
    pub connection_window_bytes: u32,
    /// What a stream may have waiting to be sent.
    pub send_buffer_bytes: usize,
    /// Between pings, which find peers that have vanished.
    pub ping_interval: Duration,
    /// A ping unanswered for so long ends the connection.
    pub ping_timeout: Duration,
}

impl ServerConfig {
    /// The defaults of the HTTP listener.
    pub fn http() -> Self {
        Self {
            listener: "http",
            protocols: Protocols::Http1And2,
            max_connections: 8192,
            max_headers: 100,
            max_header_bytes: 32 << 10,
            times: TimeLimits::default(),
            http2: Http2Limits::default(),
            drain_timeout: Duration::from_secs(25),
        }
    }

    /// The defaults of the gRPC listener.
    pub fn grpc() -> Self {
        Self { listener: "grpc", protocols: Protocols::Http2, ..Self::http() }
    }
}

impl Default for TimeLimits {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            send: Duration::from_secs(30),
            linger: Duration::from_secs(1),
        }
    }
}

impl TimeLimits {
    /// How often a connection is looked at.
    pub(super) fn check_interval(&self) -> Duration {
        let shortest = self.header.min(self.idle).min(self.send).min(self.linger);
        (shortest / 4).max(Duration::from_millis(1))
    }
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 256,
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 1 << 20,
            send_buffer_bytes: 256 << 10,
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}
