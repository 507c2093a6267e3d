//! Requests and answers that their connection knows of.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http::{Request, Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::Service;

use super::Serve;
use super::activity::{Activity, InFlight};

/// Largest piece of an answer that is handed down at once. What is handed down is out of sight: it waits in hyper's
/// buffers for as long as the peer likes, so a large answer in one piece would escape every limit.
const MAX_CHUNK_BYTES: usize = 64 << 10;

/// A service whose requests count as in flight on their connection.
pub struct Counted<S> {
    inner: S,
    activity: Arc<Activity>,
    max_headers: usize,
}

impl<S> Counted<S> {
    pub fn new(inner: S, activity: Arc<Activity>, max_headers: usize) -> Self {
        Self { inner, activity, max_headers }
    }
}

impl<S: Serve> Service<Request<Incoming>> for Counted<S> {
    type Response = Response<CountedBody<S::Body>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let in_flight = self.activity.begin();
        // HTTP/1 counts headers as it parses them; HTTP/2 only counts their bytes.
        if request.headers().len() > self.max_headers {
            return Box::pin(async { Ok(too_many_headers(in_flight)) });
        }
        let answer = self.inner.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| CountedBody::new(Some(body), in_flight))) })
    }
}

fn too_many_headers<B>(in_flight: InFlight) -> Response<CountedBody<B>> {
    let mut response = Response::new(CountedBody::new(None, in_flight));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// An answer's body, in pieces of at most [`MAX_CHUNK_BYTES`].
pub struct CountedBody<B> {
    inner: Option<B>,
    /// What is left of a piece that was too large.
    rest: Bytes,
    in_flight: InFlight,
}

impl<B> CountedBody<B> {
    fn new(inner: Option<B>, mut in_flight: InFlight) -> Self {
        // The answer's head is the first thing that the peer has to take.
        in_flight.set_waiting(true, Instant::now());
        Self { inner, rest: Bytes::new(), in_flight }
    }

    fn next_piece(&mut self) -> Bytes {
        let length = self.rest.len().min(MAX_CHUNK_BYTES);
        self.rest.split_to(length)
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.in_flight.set_waiting(false, Instant::now());
        if self.rest.is_empty() {
            let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
            let frame = match Pin::new(inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.next_piece();
        self.in_flight.set_waiting(true, Instant::now());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
        let mut hint = SizeHint::new();
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(inner.lower() + rest);
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::activity::{Limit, Verdict};
    use crate::server::config::TimeLimits;
    use http_body_util::{BodyExt, Full};

    #[tokio::test]
    async fn a_large_answer_goes_down_in_pieces_and_stays_in_flight_until_the_last() {
        let start = Instant::now();
        let activity = Activity::new(start);
        let limits = TimeLimits::default();
        let verdict = |after| activity.verdict(start + after, &limits, None);
        let sent: Vec<u8> = (0..3 * MAX_CHUNK_BYTES + 5).map(|i| i as u8).collect();
        let mut body = CountedBody::new(Some(Full::<Bytes>::from(sent.clone())), activity.begin());
        let mut received = Vec::new();
        for expected in [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES, 5] {
            assert_eq!(body.size_hint().exact(), Some((sent.len() - received.len()) as u64));
            assert!(!body.is_end_stream());
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(piece.len(), expected);
            received.extend_from_slice(&piece);
            assert_eq!(verdict(2 * limits.send), Verdict::Cut(Limit::Send));
        }
        assert!(body.is_end_stream());
        assert_eq!(received, sent);
        drop(body);
        assert_eq!(verdict(limits.send), Verdict::Keep);
    }
}
