//! Answers: a status, headers, and a body made of shared pieces, so that an output tensor goes out without a copy.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use serde::Serialize;

use crate::error::Error;

/// Clients compare this text whole: no charset behind it.
pub const JSON: &str = "application/json";

/// The body of an answer: pieces that are sent one after the other.
#[derive(Debug, Default)]
pub struct Body {
    pieces: VecDeque<Bytes>,
}

impl Body {
    /// Bytes still to be sent.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(whole: T) -> Self {
        [whole.into()].into_iter().collect()
    }
}

impl FromIterator<Bytes> for Body {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self { pieces: pieces.into_iter().filter(Buf::has_remaining).collect() }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.pieces.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

/// 200 with a small JSON body.
pub fn json(value: &impl Serialize) -> Response<Body> {
    with_status(StatusCode::OK, value)
}

/// A small JSON body under any status.
pub fn with_status(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    // Maps with text keys, numbers and texts: what we answer always has a JSON form.
    let text = serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec());
    of_json_text(status, text)
}

/// A JSON text that is written already.
pub fn of_json_text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// The answer to a request that failed: `{"error": "<text>"}`, with `Retry-After` where a retry helps.
pub fn error(error: &Error) -> Response<Body> {
    let mut response = error_text(status_of(error), &error.to_string());
    if let Some(wait) = error.retry_after() {
        // Whole seconds, rounded up: a client that comes too early is refused again.
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// The status of a request that failed.
pub fn status_of(error: &Error) -> StatusCode {
    StatusCode::from_u16(error.kind().http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error that no handler saw, such as an unknown path.
pub fn error_text(status: StatusCode, text: &str) -> Response<Body> {
    with_status(status, &serde_json::json!({ "error": text }))
}

/// 405, with the methods the path does answer.
pub fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = error_text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Adds a header whose value is printable ASCII; any other value is left out.
pub fn add_header(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Overload;

    #[test]
    fn an_error_is_json_and_says_when_to_come_back() {
        let full = Error::Overloaded(Box::new(Overload::example(Duration::from_millis(1500))));
        let response = error(&full);
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["retry-after"], "2");
        let text = response.body().pieces().next().unwrap();
        assert!(text.starts_with(b"{\"error\":\"Exceeds maximum queue size"));
        assert!(!error(&Error::invalid("x")).headers().contains_key("retry-after"));
    }

    #[test]
    fn a_body_knows_its_size_and_sends_no_empty_piece() {
        let body: Body = [Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")].into_iter().collect();
        assert_eq!((body.len(), body.pieces().count()), (3, 2));
    }
}
