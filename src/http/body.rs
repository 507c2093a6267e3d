//! A request's body: collected under a limit of bytes, a budget and a limit of time.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};
use std::{io, iter};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;

use super::coding::{self, Coding};
use crate::budget::ByteLease;
use crate::data_plane::DataPlane;
use crate::error::{Error, Result};
use crate::inference::Deadline;

/// Coded bytes from which on coding moves to a thread where it may block.
pub const INLINE_CODING_BYTES: usize = 256 << 10;

/// Room taken at once on the word of a `Content-Length`; beyond it a body must really arrive.
const TRUSTED_BYTES: usize = 1 << 20;

/// How long a refused body may take to be thrown away.
const DISCARD_TIME: Duration = Duration::from_secs(2);

/// What a body's frames may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A whole body, and what it holds of the budget until it is dropped.
#[derive(Debug)]
pub struct Received {
    pub bytes: Bytes,
    pub lease: ByteLease,
}

/// Until when a body must be there.
#[derive(Debug, Clone, Copy)]
pub struct BodyDeadline {
    pub received: Instant,
    pub timeout: Duration,
    /// The request's own deadline.
    pub request: Deadline,
}

/// Collects and decodes a request's body.
///
/// What is refused is still read, within bounds, and thrown away: many clients send their whole body before they look
/// for an answer, and would see a broken connection in its place.
///
/// # Errors
/// `TooLarge`; `OutOfBudget`; `Unsupported` for an unknown coding; `Invalid` for chunks that are none; `BodyTimeout` or
/// `DeadlineExceeded`; `Cancelled` when the client went away.
pub async fn receive<B: http_body::Body<Error: Into<BoxError>>>(
    plane: &DataPlane,
    headers: &HeaderMap,
    body: B,
    until: BodyDeadline,
) -> Result<Received> {
    let mut body = pin!(body);
    let received = receive_within(plane, headers, body.as_mut(), until).await;
    let refused = matches!(received, Err(Error::TooLarge { .. } | Error::OutOfBudget { .. } | Error::Unsupported(_)));
    let bound = plane.max_body_bytes.saturating_mul(2);
    if refused && announced(headers).is_none_or(|length| length <= bound as u64) {
        // Whether all of it came or not, the answer goes out now.
        let _ = tokio::time::timeout(DISCARD_TIME, discard(body, bound)).await;
    }
    received
}

async fn receive_within<B: http_body::Body<Error: Into<BoxError>>>(
    plane: &DataPlane,
    headers: &HeaderMap,
    body: Pin<&mut B>,
    until: BodyDeadline,
) -> Result<Received> {
    let coding = coding::of_request(headers)?;
    let announced = announced(headers);
    let limit = plane.max_body_bytes;
    if let Some(got) = announced.filter(|&got| got > limit as u64) {
        return Err(too_large(got, limit));
    }
    let mut lease = plane.budget.lease();
    let collected = collect(body, announced.unwrap_or(0) as usize, limit, &mut lease);
    let own = Deadline::after(until.received, until.timeout);
    let both = own.min(until.request);
    let bytes = match both.instant() {
        None => collected.await?,
        Some(instant) => match tokio::time::timeout_at(instant.into(), collected).await {
            Ok(bytes) => bytes?,
            Err(_) if both == own => return Err(Error::BodyTimeout { seconds: until.timeout.as_secs_f64() }),
            Err(_) => return Err(Error::DeadlineExceeded { stage: "while the body arrived" }),
        },
    };
    decoded(coding, Received { bytes, lease }, limit).await
}

async fn discard<B: http_body::Body>(mut body: Pin<&mut B>, mut bound: usize) {
    while let Some(Ok(frame)) = body.frame().await {
        let length = frame.data_ref().map_or(0, Buf::remaining);
        if length > bound {
            return;
        }
        bound -= length;
    }
}

async fn collect<B: http_body::Body<Error: Into<BoxError>>>(
    mut body: Pin<&mut B>,
    announced: usize,
    limit: usize,
    lease: &mut ByteLease,
) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|fault| broken(fault.into().as_ref()))?;
        let Ok(mut data) = frame.into_data() else { continue };
        let length = data.remaining();
        let got = whole.len() + length;
        if got > limit {
            return Err(too_large(got as u64, limit));
        }
        lease.grow(length as u64)?;
        if whole.is_empty() && (body.is_end_stream() || length == announced) {
            // It came in one piece, which needs no copy.
            return Ok(data.copy_to_bytes(length));
        }
        if whole.is_empty() {
            whole.reserve(announced.min(TRUSTED_BYTES).max(length));
        }
        whole.extend_from_slice(&data.copy_to_bytes(length));
    }
    Ok(whole.freeze())
}

/// What is wrong with a body whose bytes end with an error. Where the connection still stands, the client can be told.
fn broken(fault: &(dyn std::error::Error + 'static)) -> Error {
    let causes = iter::successors(Some(fault), |cause| cause.source());
    let kind = causes.filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).next();
    match kind {
        Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => Error::invalid(
            "the request's body is no sound chunked encoding: expected each chunk's size, its bytes and a line's end",
        ),
        _ => Error::Cancelled,
    }
}

async fn decoded(coding: Coding, coded: Received, limit: usize) -> Result<Received> {
    let decode = move |Received { bytes, mut lease }: Received| {
        coding::decode(coding, &bytes, limit, &mut lease).map(|bytes| Received { bytes, lease })
    };
    if coding == Coding::Identity || coded.bytes.len() < INLINE_CODING_BYTES {
        return decode(coded);
    }
    tokio::task::spawn_blocking(move || decode(coded)).await.map_err(|_| Error::Cancelled)?
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(got: u64, limit: usize) -> Error {
    Error::TooLarge { got, limit: limit as u64, hint: "" }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;
    use crate::testing;

    fn until(timeout: Duration, request: Deadline) -> BodyDeadline {
        BodyDeadline { received: Instant::now(), timeout, request }
    }

    const LONG: Duration = Duration::from_secs(600);

    #[tokio::test]
    async fn pieces_become_one_body_that_holds_its_share_of_the_budget() {
        let plane = testing::data_plane(&[]);
        let pieces = ["ab", "", "cd"].map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece))));
        let body = StreamBody::new(tokio_stream::iter(pieces));
        let received = receive(&plane, &HeaderMap::new(), body, until(LONG, Deadline::NONE)).await.unwrap();
        assert_eq!(received.bytes, "abcd");
        assert_eq!(plane.budget.in_use(), 4);
        drop(received);
        assert_eq!(plane.budget.in_use(), 0);
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_by_its_header_and_by_its_bytes() {
        let plane = testing::data_plane(&[]);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, (plane.max_body_bytes as u64 * 2 + 1).into());
        let never = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let err = receive(&plane, &headers, never, until(LONG, Deadline::NONE)).await.unwrap_err();
        assert!(matches!(err, Error::TooLarge { .. }));
        let body = Full::new(Bytes::from(vec![0; plane.max_body_bytes + 1]));
        let err = receive(&plane, &HeaderMap::new(), body, until(LONG, Deadline::NONE)).await.unwrap_err();
        assert!(matches!(err, Error::TooLarge { .. }));
    }

    #[tokio::test]
    async fn a_refused_body_is_read_to_its_end_if_that_is_near() {
        let mut plane = testing::data_plane(&[]);
        std::sync::Arc::get_mut(&mut plane).unwrap().max_body_bytes = 10;
        for (count, left) in [(4, 0), (100, 95)] {
            let left_over = AtomicUsize::new(count);
            let pieces = std::iter::repeat_with(|| {
                left_over.fetch_sub(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"12345")))
            });
            let body = StreamBody::new(tokio_stream::iter(pieces.take(count)));
            let err = receive(&plane, &HeaderMap::new(), body, until(LONG, Deadline::NONE)).await.unwrap_err();
            assert!(matches!(err, Error::TooLarge { .. }));
            let unread = left_over.load(Ordering::Relaxed);
            assert!(unread <= left && unread + 5 > left, "{unread}");
        }
    }

    #[tokio::test]
    async fn a_body_that_ends_too_soon_is_told_from_one_whose_framing_is_broken() {
        let plane = testing::data_plane(&[]);
        for (kind, is_told) in [
            (io::ErrorKind::InvalidInput, true),
            (io::ErrorKind::InvalidData, true),
            (io::ErrorKind::UnexpectedEof, false),
            (io::ErrorKind::ConnectionReset, false),
        ] {
            let body = StreamBody::new(tokio_stream::once(Err::<Frame<Bytes>, _>(io::Error::from(kind))));
            let err = receive(&plane, &HeaderMap::new(), body, until(LONG, Deadline::NONE)).await.unwrap_err();
            assert_eq!(matches!(err, Error::Invalid(_)), is_told, "{kind}: {err}");
            assert_eq!(matches!(err, Error::Cancelled), !is_told, "{kind}: {err}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_is_cut_off_by_the_nearer_limit() {
        let plane = testing::data_plane(&[]);
        let never = || StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let short = Duration::from_millis(5);
        let err = receive(&plane, &HeaderMap::new(), never(), until(short, Deadline::NONE)).await.unwrap_err();
        assert!(matches!(err, Error::BodyTimeout { seconds: 0.005 }));
        let soon = Deadline::after(Instant::now(), short);
        let err = receive(&plane, &HeaderMap::new(), never(), until(LONG, soon)).await.unwrap_err();
        assert!(matches!(err, Error::DeadlineExceeded { .. }));
    }
}
